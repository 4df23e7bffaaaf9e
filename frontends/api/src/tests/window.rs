//! What the first SwiftProxy's window reads on `/`.

use futures_util::{SinkExt, StreamExt};
use swiftproxy_core::meter::Direction;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;

/// The first text it gets, or the code it is closed by.
async fn after(client: &mut Client) -> Result<String, CloseCode> {
    loop {
        match client.next().await.unwrap().unwrap() {
            Message::Text(text) => return Ok(text.as_str().to_owned()),
            Message::Close(frame) => return Err(frame.unwrap().code),
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_secret_first_and_then_two_numbers() {
    for (configured, first, ok) in [
        (None, "secret", true),
        (None, "Secret", false),
        (None, "", false),
        (None, "s3cret", false),
        (Some("s3cret"), "s3cret", true),
        (Some("s3cret"), "secret", false),
        (Some("s3cret"), "", false),
    ] {
        let running = start(configured);
        let mut client = websocket(running.addr, "/", &[]).await.unwrap();
        client.send(Message::text(first)).await.unwrap();
        let outcome = after(&mut client).await;
        if ok {
            assert_eq!(outcome, Ok("0 0".into()), "{configured:?} {first}");
        } else {
            assert_eq!(outcome, Err(CloseCode::Policy), "{configured:?} {first}");
            assert!(client.next().await.is_none_or(|end| end.is_err()));
        }
    }
}

#[tokio::test]
async fn the_numbers_are_the_last_seconds_bytes() {
    let running = start(None);
    let mut client = websocket(running.addr, "/", &[]).await.unwrap();
    client.send(Message::text("secret")).await.unwrap();
    assert_eq!(after(&mut client).await, Ok("0 0".into()));
    running.node.bytes.count(Direction::Up, 1_000_000);
    running.node.bytes.count(Direction::Down, 2_000_000);
    // A tick may have been under way already.
    let mut text = after(&mut client).await.unwrap();
    while text == "0 0" {
        text = after(&mut client).await.unwrap();
    }
    let (up, down) = text.split_once(' ').unwrap();
    let (up, down): (f64, f64) = (up.parse().unwrap(), down.parse().unwrap());
    // Over the time that passed, which on a busy machine is more than a second.
    assert!((0.1e6..1.1e6).contains(&up) && (down / up - 2.0).abs() < 0.01, "{text}");
}

#[tokio::test]
async fn silence_and_bytes_are_no_secret() {
    let bounds = Bounds { first_message: Duration::from_millis(100), ..quick() };
    let running = start_with(&table(None), bounds);
    let mut client = websocket(running.addr, "/", &[]).await.unwrap();
    assert_eq!(after(&mut client).await, Err(CloseCode::Policy));
    let mut client = websocket(running.addr, "/", &[]).await.unwrap();
    client.send(Message::binary("secret")).await.unwrap();
    assert_eq!(after(&mut client).await, Err(CloseCode::Policy));
    // Pings do not put the deadline off.
    let mut client = websocket(running.addr, "/", &[]).await.unwrap();
    client.send(Message::Ping("x".into())).await.unwrap();
    assert_eq!(after(&mut client).await, Err(CloseCode::Policy));
}

#[tokio::test]
async fn without_an_upgrade_it_says_what_it_is() {
    let running = start(None);
    let answer = ask(running.addr, "GET /", &[], "").await;
    assert_eq!((answer.status, answer.label().as_str()), (426, "upgrade_required"));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
}
