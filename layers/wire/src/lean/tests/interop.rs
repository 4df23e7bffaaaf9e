//! Against the `h2` crate.

use bytes::Bytes;
use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::h2::{H2End, client_builder, server_builder};

/// A lean client's stream and the `h2` crate's end of it.
async fn to_h2(tls: bool) -> (Client, End, H2End) {
    let (near, far) = channels(tls).await;
    let server = tokio::spawn(async move {
        let mut server = server_builder().handshake::<_, Bytes>(far.into_stream()).await.unwrap();
        let (asked, mut respond) = server.accept().await.unwrap().unwrap();
        assert_eq!(
            (asked.method(), asked.uri()),
            (&http::Method::CONNECT, &"a.example:443".parse().unwrap())
        );
        assert_eq!(asked.headers()["proxy-authorization"], "Basic eA==");
        let send = respond.send_response(Response::new(()), false).unwrap();
        tokio::spawn(async move { while server.accept().await.is_some() {} });
        H2End::new(send, asked.into_body(), crate::h2::Queue::default())
    });
    let (client, driver) = connect(near, WATCH, false).await.unwrap();
    tokio::spawn(driver);
    let mut asked = request("a.example:443");
    asked.headers_mut().insert("proxy-authorization", "Basic eA==".parse().unwrap());
    let (response, end) = client.open(&asked, false).unwrap().await.unwrap();
    assert_eq!(response.status(), 200);
    (client, end, server.await.unwrap())
}

/// The `h2` crate's client end of a stream, and the lean server's.
async fn from_h2(tls: bool) -> (Server, H2End, End) {
    let (near, mut far) = channels(tls).await;
    let client = tokio::spawn(async move {
        let (client, mut connection) =
            client_builder().handshake::<_, Bytes>(near.into_stream()).await.unwrap();
        // Settings are there once a ping is answered; an encoder with a table of its own must have heard of ours.
        let mut ping = connection.ping_pong().unwrap();
        tokio::spawn(connection);
        ping.ping(h2::Ping::opaque()).await.unwrap();
        let asked =
            Request::connect("a.example:443").header("proxy-authorization", "Basic eA==").body(()).unwrap();
        let (response, send) = client.ready().await.unwrap().send_request(asked, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["proxy-status"], "swiftproxy");
        H2End::new(send, response.into_body(), crate::h2::Queue::default())
    });
    assert!(!knows(&mut far).await.unwrap());
    let (mut server, driver) = serve(far, WATCH, &Budget::default());
    tokio::spawn(driver);
    let (asked, responder) = server.accept().await.unwrap();
    assert_eq!(asked.uri(), "a.example:443");
    assert_eq!(asked.headers()["proxy-authorization"], "Basic eA==");
    let answer = Response::builder().header("proxy-status", "swiftproxy").body(()).unwrap();
    let end = responder.respond(&answer, false).unwrap();
    (server, client.await.unwrap(), end)
}

async fn exchange(near: impl Endpoint + Unpin, far: impl Endpoint + Unpin) {
    let (up, down) = (pattern(9_000_000, 1), pattern(11_000_000, 7));
    let (mut near_read, mut near_write) = tokio::io::split(AsStream(near));
    let (mut far_read, mut far_write) = tokio::io::split(AsStream(far));
    let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
    let (a, b, c, d) = tokio::join!(
        async {
            near_write.write_all(&up).await?;
            near_write.shutdown().await
        },
        async {
            far_write.write_all(&down).await?;
            far_write.shutdown().await
        },
        far_read.read_to_end(&mut got_up),
        near_read.read_to_end(&mut got_down),
    );
    a.unwrap();
    b.unwrap();
    c.unwrap();
    d.unwrap();
    assert!(got_up == up && got_down == down);
}

#[tokio::test]
async fn bulk_both_ways() {
    for tls in LAYERS {
        let (_client, near, far) = to_h2(tls).await;
        exchange(near, far).await;
        let (_server, near, far) = from_h2(tls).await;
        exchange(near, far).await;
    }
}

#[tokio::test]
async fn resets_both_ways() {
    let reason = |error: io::Error| error.get_ref().unwrap().downcast_ref::<h2::Error>().unwrap().reason();
    for tls in LAYERS {
        let (_client, mut near, mut far) = to_h2(tls).await;
        near.reset();
        drop(near);
        let error = poll_fn(|cx| far.poll_readable(cx)).await.expect_err("reset");
        assert_eq!(reason(error), Some(Reason::CONNECT_ERROR));
        let (_server, mut near, mut far) = from_h2(tls).await;
        near.reset();
        let error = poll_fn(|cx| far.poll_readable(cx)).await.expect_err("reset");
        assert_eq!(code(&error), Some(Code::CONNECT_ERROR));
        let (_server, mut near, far) = from_h2(tls).await;
        drop(far);
        let error = poll_fn(|cx| near.poll_readable(cx)).await.expect_err("cut");
        assert_eq!(reason(error), Some(Reason::CANCEL));
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads() {
    let (client, mut near, mut far) = to_h2(true).await;
    let sent = stuff(&mut near).await;
    assert!(sent >= 1 << 20, "{sent}");
    let got = tokio::spawn(async move { receive(&mut far).await.unwrap().len() });
    send(&mut near, b"end").await.unwrap();
    assert_eq!(got.await.unwrap(), sent + 3);
    drop(client);
}

#[tokio::test]
async fn a_server_that_drains() {
    let (server, near, far) = from_h2(true).await;
    server.drain();
    exchange(near, far).await;
}
