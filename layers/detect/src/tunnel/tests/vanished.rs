//! Clients that vanish with streams open, and such as only look so, on a paused clock.

use super::*;

/// A client over a pipe of so many bytes with one stream open, and the driver of its connection.
async fn with_a_stream(
    proxy: &Proxy,
    pipe: usize,
    target: &str,
) -> (RecvStream, SendStream<Bytes>, h2::client::Connection<DuplexStream>, Client) {
    let (mut client, mut driver) = over(proxy, pipe).await;
    let (response, send) = client.send_request(connect(target, None), false).unwrap();
    let response = tokio::select! {
        response = response => response.unwrap(),
        _ = &mut driver => panic!("still needed"),
    };
    assert_eq!(response.status(), 200);
    assert_eq!(proxy.node.sessions.count(), 1);
    (response.into_body(), send, driver, client)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanished_holds_no_session() {
    let proxy = Proxy::start(CONFIG, None).await;
    let start = Instant::now();
    let _vanished = with_a_stream(&proxy, 1 << 20, "a.example:1").await;
    while proxy.served.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(start.elapsed() < 3 * BUSY, "nobody notices");
    }
    assert!(start.elapsed() >= BUSY, "{:?}", start.elapsed());
    until(|| proxy.node.sessions.count() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_client_that_answers_keeps_its_session() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (body, mut send, driver, _client) = with_a_stream(&proxy, 1 << 20, "a.example:1").await;
    let driver = tokio::spawn(driver);
    tokio::time::sleep(100 * BUSY).await;
    send.send_data(Bytes::from_static(b"there"), true).unwrap();
    assert_eq!(super::body(body).await.unwrap(), b"hello there");
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_left_alone() {
    let proxy = Proxy::start(CONFIG, None).await;
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = target.local_addr().unwrap();
    let source = tokio::spawn(async move {
        let (mut stream, _) = target.accept().await.unwrap();
        stream.write_all(&[7; 60_000]).await.unwrap();
        stream
    });
    let _paused = with_a_stream(&proxy, 1024, &addr.to_string()).await;
    let _target = source.await.unwrap();
    tokio::time::sleep(100 * BUSY).await;
    assert_eq!((proxy.node.sessions.count(), proxy.served.load(SeqCst)), (1, 0));
}
