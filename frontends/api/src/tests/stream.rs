//! Figures: once, as lines, as a WebSocket.

use futures_util::{SinkExt, StreamExt};
use swiftproxy_core::meter::Direction;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_tungstenite::tungstenite::Message;

use super::*;

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

async fn next_text(client: &mut Client) -> String {
    loop {
        match client.next().await.unwrap().unwrap() {
            Message::Text(text) => return text.as_str().to_owned(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn once() {
    let running = start(None);
    add_account(&running.node, "alice");
    add_account(&running.node, "bob");
    let answer = ask(running.addr, "GET /v1/stats", &[], "").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.json()["name"], "test");
    // What was counted this very moment shows.
    tokio::time::sleep(Duration::from_millis(110)).await;
    running.node.bytes.count(Direction::Down, 77);
    let answer = ask(running.addr, "GET /v1/stats?account=bob", &[], "").await.json();
    assert_eq!(answer["total"]["down"], 77);
    let names: Vec<_> = answer["accounts"].as_array().unwrap().iter().map(|a| a["name"].clone()).collect();
    assert_eq!(names, ["bob"]);
    let answer = ask(running.addr, "GET /v1/stats?account=nobody", &[], "").await.json();
    assert_eq!(answer["accounts"], serde_json::json!([]));
    for bad in ["GET /v1/stats?stream=x", "GET /v1/stats?account=%ff%fe&stream=x"] {
        assert_eq!(ask(running.addr, bad, &[], "").await.label(), "bad_request", "{bad}");
    }
}

#[tokio::test]
async fn as_lines() {
    let running = start(None);
    let stream = TcpStream::connect(running.addr).await.unwrap();
    let mut stream = BufReader::new(stream);
    let request = format!("GET /v1/stats?stream=1 HTTP/1.1\r\nHost: {}\r\n\r\n", running.addr);
    let begun = tokio::time::Instant::now();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut objects = Vec::new();
    let mut head = String::new();
    while objects.len() < 3 {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).await.unwrap(), 0);
        if line.starts_with('{') {
            if objects.is_empty() {
                assert!(begun.elapsed() < Duration::from_millis(500), "the first at once");
                running.node.bytes.count(Direction::Up, 1000);
            }
            objects.push(parse(&line));
        } else {
            head += &line.to_ascii_lowercase();
        }
    }
    assert!(head.contains("content-type: application/x-ndjson"), "{head}");
    assert_eq!(objects[0]["total"]["up"], 0);
    assert_eq!(objects[2]["total"]["up"], 1000);
    // In whichever second it fell.
    assert!(objects.iter().any(|object| object["rate"]["up"].as_u64() > Some(100)));
    assert!(objects[2]["time"].as_f64() > objects[1]["time"].as_f64());
}

#[tokio::test]
async fn as_a_websocket() {
    let running = start(None);
    add_account(&running.node, "alice");
    add_account(&running.node, "bob");
    let mut all = websocket(running.addr, "/v1/stats", &[]).await.unwrap();
    let mut alice = websocket(running.addr, "/v1/stats?account=alice", &[]).await.unwrap();
    assert_eq!(parse(&next_text(&mut all).await)["accounts"].as_array().unwrap().len(), 2);
    assert_eq!(parse(&next_text(&mut alice).await)["accounts"].as_array().unwrap().len(), 1);
    running.node.bytes.count(Direction::Up, 1000);
    // A tick may have been under way already.
    while parse(&next_text(&mut all).await)["total"]["up"] != 1000 {}
    // Whatever it says, the feed goes on; a ping is answered.
    all.send(Message::text("hello")).await.unwrap();
    all.send(Message::Ping("x".into())).await.unwrap();
    let (mut pong, mut texts) = (false, 0);
    while !pong || texts == 0 {
        match all.next().await.unwrap().unwrap() {
            Message::Pong(payload) => pong = payload == "x",
            Message::Text(_) => texts += 1,
            other => panic!("{other:?}"),
        }
    }
    // A close is answered.
    alice.close(None).await.unwrap();
    while let Some(message) = alice.next().await {
        message.unwrap();
    }
}

#[tokio::test]
async fn handshakes_that_are_none() {
    let running = start(None);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (headers, status) in [
        (vec!["Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 8", key], 426),
        (vec!["Upgrade: websocket", "Connection: upgrade", key], 426),
        (vec!["Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13"], 400),
        (
            vec![
                "Upgrade: websocket",
                "Connection: upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: x",
            ],
            400,
        ),
    ] {
        let answer = ask(running.addr, "GET /v1/stats", &headers, "").await;
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
    }
    // Without `Connection: upgrade` it is a plain read.
    assert_eq!(ask(running.addr, "GET /v1/stats", &["Upgrade: websocket"], "").await.status, 200);
}
