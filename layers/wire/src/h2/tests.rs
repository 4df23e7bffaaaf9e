//! Streams between a client and a server over a pipe in memory.

use std::future::poll_fn;
use std::io::ErrorKind;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Method, Request, Response};
use swiftproxy_core::endpoint::{AsStream, Endpoint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

type Half = (h2::SendStream<Bytes>, h2::RecvStream);

/// A connected stream, the client's half and the server's; both connections are driven until dropped.
async fn halves() -> (Half, Half) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut connection = server_builder().handshake::<_, Bytes>(far).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let send = respond.send_response(Response::new(()), false).unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        (send, request.into_body())
    });
    let (client, connection) = client_builder().handshake::<_, Bytes>(near).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(Method::CONNECT).uri("a.example:1").body(()).unwrap();
    let (response, send) = client.ready().await.unwrap().send_request(request, false).unwrap();
    let server = server.await.unwrap();
    ((send, response.await.unwrap().into_body()), server)
}

async fn pair() -> (H2End, H2End) {
    let ((send, recv), (back, forth)) = halves().await;
    (H2End::new(send, recv, Queue::default()), H2End::new(back, forth, Queue::default()))
}

/// Fills `end` until it takes no more; how many bytes that was.
async fn fill(end: &mut H2End) -> usize {
    let (mut sent, chunk) = (0, vec![5; 64 * 1024]);
    let mut quiet = 0;
    // The peer's task runs in between, so a window that is going to open has opened by then.
    while quiet < 100 {
        let polled = poll_fn(|cx| std::task::Poll::Ready(end.poll_write(cx, &chunk))).await;
        match polled {
            std::task::Poll::Ready(n) => {
                quiet = 0;
                sent += n.unwrap();
            }
            std::task::Poll::Pending => quiet += 1,
        }
        tokio::task::yield_now().await;
    }
    sent
}

#[tokio::test]
async fn bytes_both_ways_and_each_way_ends_on_its_own() {
    let (client, server) = pair().await;
    let (mut client, mut server) = (AsStream(client), AsStream(server));
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"question");
    // Far more than a window, after the other way has ended.
    let sent: Vec<u8> = (0..6_000_000_u32).map(|n| n as u8).collect();
    let mut got = Vec::new();
    tokio::join!(
        async {
            server.write_all(&sent).await.unwrap();
            server.shutdown().await.unwrap();
        },
        async { client.read_to_end(&mut got).await.unwrap() },
    );
    assert!(got == sent);
    let error = server.write_all(b"x").await.expect_err("finished");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_was_received_is_lent() {
    let (mut client, mut server) = pair().await;
    poll_fn(|cx| client.poll_write(cx, b"abcdef")).await.unwrap();
    assert!(server.lent().is_empty());
    poll_fn(|cx| server.poll_readable(cx)).await.unwrap();
    assert_eq!(server.lent(), b"abcdef");
    server.consume(4);
    assert_eq!(server.lent(), b"ef");
    let mut rest = [0; 8];
    assert_eq!(poll_fn(|cx| server.poll_read(cx, &mut rest)).await.unwrap(), 2);
    poll_fn(|cx| client.poll_finish(cx)).await.unwrap();
    poll_fn(|cx| client.poll_finish(cx)).await.unwrap();
    poll_fn(|cx| server.poll_readable(cx)).await.unwrap();
    assert_eq!(poll_fn(|cx| server.poll_read(cx, &mut rest)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_stream_nobody_reads_holds_a_window_and_goes_on_when_read() {
    let (mut client, server) = pair().await;
    let most = Windows::SERVER.most as usize + MAX_SEND_BUFFER;
    let sent = fill(&mut client).await;
    assert!((Windows::SERVER.most as usize..=most).contains(&sent), "{sent}");
    let mut server = AsStream(server);
    let mut got = vec![0; sent];
    server.read_exact(&mut got).await.unwrap();
    assert!(fill(&mut client).await >= Windows::SERVER.most as usize);
}

#[tokio::test]
async fn a_reset_is_a_reset_connection_with_connect_error() {
    let (mut client, mut server) = pair().await;
    client.reset();
    let error = poll_fn(|cx| server.poll_readable(cx)).await.expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let reason = error.get_ref().unwrap().downcast_ref::<h2::Error>().unwrap().reason();
    assert_eq!(reason, Some(Reason::CONNECT_ERROR));
    let error = poll_fn(|cx| server.poll_writable(cx)).await.expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let error = poll_fn(|cx| server.poll_write(cx, b"x")).await.expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_writer_that_waits_for_window_hears_of_a_reset() {
    let (mut client, server) = pair().await;
    fill(&mut client).await;
    let waiting = tokio::spawn(async move { poll_fn(|cx| client.poll_writable(cx)).await });
    tokio::task::yield_now().await;
    drop(server);
    assert_eq!(waiting.await.unwrap().expect_err("cut").kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stream_that_is_dropped_was_cut() {
    let (client, mut server) = pair().await;
    drop(client);
    let error = poll_fn(|cx| server.poll_readable(cx)).await.expect_err("cut");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_server_that_has_said_all_wants_no_more() {
    let (mut client, mut server) = pair().await;
    poll_fn(|cx| server.poll_write(cx, b"all")).await.unwrap();
    poll_fn(|cx| server.poll_finish(cx)).await.unwrap();
    drop(server);
    poll_fn(|cx| client.poll_readable(cx)).await.unwrap();
    assert_eq!(client.lent(), b"all");
    client.consume(3);
    poll_fn(|cx| client.poll_readable(cx)).await.unwrap();
    assert_eq!(poll_fn(|cx| client.poll_read(cx, &mut [0; 8])).await.unwrap(), 0);
    // The reset comes after the end of the stream, in its own frame.
    let error = loop {
        if let Err(error) = poll_fn(|cx| client.poll_write(cx, b"x")).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_was_sent_before_the_end_arrives_though_the_stream_is_dropped() {
    let (mut client, mut server) = pair().await;
    poll_fn(|cx| server.poll_finish(cx)).await.unwrap();
    poll_fn(|cx| client.poll_readable(cx)).await.unwrap();
    poll_fn(|cx| client.poll_write(cx, b"last words")).await.unwrap();
    poll_fn(|cx| client.poll_finish(cx)).await.unwrap();
    drop(client);
    let mut got = Vec::new();
    AsStream(server).read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last words");
}

#[tokio::test]
async fn trailers_are_an_error() {
    let ((mut send, _recv), (back, forth)) = halves().await;
    let mut server = H2End::new(back, forth, Queue::default());
    send.send_trailers(HeaderMap::new()).unwrap();
    let error = poll_fn(|cx| server.poll_readable(cx)).await.expect_err("trailers");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let reset = poll_fn(|cx| send.poll_reset(cx)).await.unwrap();
    assert_eq!(reset, Reason::PROTOCOL_ERROR);
}

#[tokio::test]
async fn a_link_that_goes_ends_its_streams() {
    let (near, far) = tokio::io::duplex(1024);
    let server = tokio::spawn(async move {
        let mut connection = server_builder().handshake::<_, Bytes>(far).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let send = respond.send_response(Response::new(()), false).unwrap();
        (connection, send)
    });
    let (client, connection) = client_builder().handshake::<_, Bytes>(near).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(Method::CONNECT).uri("a.example:1").body(()).unwrap();
    let (response, send) = client.ready().await.unwrap().send_request(request, false).unwrap();
    let (mut connection, _send) = server.await.unwrap();
    let recv = tokio::select! {
        response = response => response.unwrap().into_body(),
        _ = poll_fn(|cx| connection.poll_closed(cx)) => panic!("still needed"),
    };
    let mut end = H2End::new(send, recv, Queue::default());
    drop(connection);
    let error = poll_fn(|cx| end.poll_readable(cx)).await.expect_err("gone");
    assert!(matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset), "{error:?}");
}
