//! Peers that stall, flood, or talk nonsense.

use futures_util::StreamExt;
use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::*;

#[tokio::test]
async fn a_head_that_does_not_come_and_one_that_does_not_end() {
    let running = start_with(&table(None), Bounds { head: Duration::from_millis(100), ..quick() });
    for bytes in ["", "GET /v1/stats HT", "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nX: "] {
        let answer = tokio::time::timeout(Duration::from_secs(5), raw(running.addr, bytes)).await;
        assert!(answer.is_ok_and(|answer| answer.status != 200), "{bytes}");
    }
    // An idle connection after a request ends as well.
    let answer = raw(running.addr, "GET /v1/config HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let long = format!("GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(raw(running.addr, &long).await.status, 431);
}

#[tokio::test]
async fn connections_beyond_the_cap() {
    let running = start_with(&table(None), Bounds { connections: 2, ..quick() });
    let first = websocket(running.addr, "/v1/stats", &[]).await.unwrap();
    let _second = websocket(running.addr, "/", &[]).await.unwrap();
    let answer = raw(running.addr, "").await;
    assert_eq!((answer.status, answer.label().as_str()), (503, "too_many_connections"), "{answer:?}");
    let length: usize = answer.header("content-length").unwrap().parse().unwrap();
    assert_eq!(answer.body.len(), length);
    drop(first);
    for _ in 0..100 {
        if ask(running.addr, "GET /v1/config", &[], "").await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the slot did not come back");
}

#[tokio::test]
async fn an_address_takes_no_more_than_its_share() {
    let running = start_with(&table(None), Bounds { connections: 10, share: 2, ..quick() });
    let _held = [
        websocket(running.addr, "/v1/stats", &[]).await.unwrap(),
        websocket(running.addr, "/v1/stats", &[]).await.unwrap(),
    ];
    let answer = raw(running.addr, "").await;
    assert_eq!((answer.status, answer.label().as_str()), (503, "too_many_connections"), "{answer:?}");
    assert_eq!(running.api.slots.available_permits(), 8, "nothing of it stays taken");
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_let_go_of() {
    let running = start_with(&table(None), Bounds { ping: Duration::from_millis(50), ..quick() });
    let mut client = websocket(running.addr, "/v1/stats", &[]).await.unwrap();
    // Read the raw socket, so that nobody answers.
    let mut bytes = Vec::new();
    client.get_mut().read_to_end(&mut bytes).await.unwrap();
    // One that answers stays.
    let mut client = websocket(running.addr, "/v1/stats", &[]).await.unwrap();
    let mut texts = 0;
    while texts < 2 {
        texts += usize::from(client.next().await.unwrap().unwrap().is_text());
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_let_go_of() {
    let running = start_with(&table(None), Bounds { write: Duration::from_millis(200), ..quick() });
    // Long enough ticks to fill a socket's buffers.
    running.node.accounts.set_file((0..20_000).map(|n| spec(&format!("account-{n}"))).collect());
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(running.addr).await.unwrap();
    let request = "GET /v1/stats?stream=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if running.api.slots.available_permits() == Bounds::default().connections as usize {
            return;
        }
    }
    panic!("it is still served");
}

#[tokio::test]
async fn shutting_down_ends_streams_and_waits_for_them() {
    let node = Node::new("test");
    let api = Api::bind(node, &table(None)).unwrap();
    let addr = api.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn({
        let api = api.clone();
        async move { api.run(async { drop(stopped.await) }).await }
    });
    let mut client = websocket(addr, "/v1/stats", &[]).await.unwrap();
    assert!(client.next().await.unwrap().unwrap().is_text());
    let lines = tokio::spawn(raw(addr, "GET /v1/stats?stream=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(stop);
    let mut last = None;
    while let Some(Ok(message)) = client.next().await {
        last = Some(message);
    }
    assert!(last.is_some_and(|message| message.is_close()));
    assert!(lines.await.unwrap().body.ends_with("0\r\n\r\n"), "the last chunk came");
    task.await.unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
    assert_eq!(api.local_addr(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_hurt_it(bytes in proptest::collection::vec(any::<u8>(), 0..300), shape in 0..4_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let running = start_with(&table(None), Bounds { head: Duration::from_millis(30), ..quick() });
            let mut stream = TcpStream::connect(running.addr).await.unwrap();
            let heads = [
                "",
                "GET /v1/",
                "GET /v1/stats HTTP/1.1\r\nHost: ",
                "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            ];
            stream.write_all(heads[shape].as_bytes()).await.unwrap();
            let _ = stream.write_all(&bytes).await;
            let mut some = [0; 64];
            let _ = stream.read(&mut some).await;
            drop(stream);
            let answer = ask(running.addr, "GET /v1/config", &[], "").await;
            assert_eq!(answer.status, 200);
        });
    }
}
