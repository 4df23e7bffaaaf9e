//! Who leaves, breaks off, is ended, or never reads.

use swiftproxy_core::cancel::Reason;
use swiftproxy_core::meter::Direction;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn get(origin: &Origin) -> String {
    format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.addr)
}

/// Makes the drop a reset.
fn abort(peer: Peer) {
    peer.0.set_zero_linger().expect("a socket");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let post = format!("POST http://{}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhello", origin.addr);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for (request, answer) in [(get(&origin), ""), (post, ""), (get(&origin), chunked)] {
        let mut client = proxy.client().await;
        client.say(&request).await;
        let mut target = origin.accept().await;
        target.head().await;
        target.say(answer).await;
        if !answer.is_empty() {
            client.up_to("hello").await;
        }
        abort(client);
        target.rest().await;
        within(proxy.node.sessions.emptied()).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_dial() {
    let proxy = Proxy::open().await;
    for line in ["CONNECT hang.test:1", "GET http://hang.test/", "POST http://hang.test/"] {
        let mut client = proxy.client().await;
        client.say(&format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        while proxy.node.sessions.count() == 0 {
            tokio::task::yield_now().await;
        }
        abort(client);
        within(proxy.node.sessions.emptied()).await;
    }
}

#[tokio::test]
async fn a_client_that_ends_its_half_still_hears_the_answer() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    client.say(&get(&origin)).await;
    client.end().await;
    let mut target = origin.accept().await;
    target.head().await;
    assert!(target.is_quiet().await);
    target.say(OK).await;
    assert!(client.rest().await.ends_with("\r\n\r\nhi"));
    within(proxy.node.sessions.emptied()).await;
}

/// What is gone for good looks as if it had ended its half; it is not waited for for ever, but an answer that
/// moves is heard out.
#[tokio::test(start_paused = true)]
async fn an_answer_that_stands_still_is_not_waited_for() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    for pieces in [0, 5] {
        let mut client = proxy.client().await;
        client.say(&get(&origin)).await;
        client.end().await;
        let mut target = origin.accept().await;
        target.head().await;
        target.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n").await;
        client.head().await;
        for _ in 0..pieces {
            tokio::time::sleep(Duration::from_secs(20)).await;
            target.say("x").await;
            assert_eq!(client.body(1).await, "x");
        }
        let since = tokio::time::Instant::now();
        proxy.node.sessions.emptied().await;
        assert!(since.elapsed() >= Duration::from_secs(29), "{:?}", since.elapsed());
        assert!(since.elapsed() <= Duration::from_secs(61), "{:?}", since.elapsed());
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_no_end() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    for framing in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let mut client = proxy.client().await;
        client.say(&format!("POST http://{}/ HTTP/1.1\r\nHost: x\r\n{framing}", origin.addr)).await;
        let mut target = origin.accept().await;
        target.head().await;
        target.up_to("hello").await;
        client.end().await;
        let rest = target.rest().await;
        assert!(!rest.contains("0\r\n"), "{rest:?}");
        assert_eq!(client.rest().await, "");
    }
}

/// RFC 9112 §9.3.1: a request that may be repeated is, where the kept connection was dead.
#[tokio::test]
async fn a_kept_connection_that_died() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    client.say(&get(&origin)).await;
    let mut target = origin.accept().await;
    target.head().await;
    target.say(OK).await;
    client.up_to("hi").await;
    client.say(&get(&origin)).await;
    target.head().await;
    drop(target);
    let mut target = origin.accept().await;
    target.head().await;
    target.say(OK).await;
    client.up_to("hi").await;
    // Once is enough.
    client.say(&get(&origin)).await;
    target.head().await;
    drop(target);
    let mut target = origin.accept().await;
    target.head().await;
    drop(target);
    assert!(client.head().await.starts_with("http/1.1 502 "));
    // What may not be repeated is not.
    let mut client = proxy.client().await;
    client.say(&get(&origin)).await;
    let mut target = origin.accept().await;
    target.head().await;
    target.say(OK).await;
    client.up_to("hi").await;
    client.say(&get(&origin).replace("GET", "POST")).await;
    target.head().await;
    drop(target);
    assert!(client.head().await.starts_with("http/1.1 502 "));
    assert!(origin.is_alone().await);
}

#[tokio::test]
async fn an_origin_that_closes_is_opened_again() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    for _ in 0..3 {
        let post = format!("POST http://{}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", origin.addr);
        client.say(&post).await;
        let mut target = origin.accept().await;
        target.head().await;
        target.body(2).await;
        target.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").await;
        let head = client.head().await;
        assert!(!head.contains("connection"), "the origin's close is not ours: {head}");
        client.body(2).await;
        within(proxy.node.sessions.emptied()).await;
    }
}

#[tokio::test]
async fn a_kick_ends_the_connection() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    client.say(&get(&origin)).await;
    let mut target = origin.accept().await;
    target.head().await;
    target.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello").await;
    client.up_to("hello").await;
    proxy.node.sessions.each(|live| live.cancel.fire(Reason::Kicked));
    assert_eq!(client.rest().await, "");
    target.rest().await;

    let mut client = proxy.client().await;
    client.say(&get(&origin)).await;
    let mut target = origin.accept().await;
    target.head().await;
    proxy.node.sessions.each(|live| live.cancel.fire(Reason::Disabled));
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 403 ") && head.contains("account_disabled"), "{head}");
    within(proxy.node.sessions.emptied()).await;
}

/// A client that does not read holds its origin up, and no memory of ours.
#[tokio::test]
async fn one_who_never_reads() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    client.say(&get(&origin)).await;
    let mut target = origin.accept().await;
    target.head().await;
    target.say("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
    let piece = vec![b'x'; 1 << 20];
    let mut written = 0;
    while let Ok(n) = tokio::time::timeout(Duration::from_millis(300), target.0.write(&piece)).await {
        written += n.expect("written");
        assert!(written < 40 << 20, "nobody holds it up");
    }
    let live = proxy.node.sessions.all().pop().expect("one session");
    assert!(live.bytes.total(Direction::Down) < 20 << 20);
    live.cancel.fire(Reason::Kicked);
    within(proxy.node.sessions.emptied()).await;
    assert_eq!(live.outcome(), Some("kicked"));
    proxy.served(1).await;
}

#[tokio::test]
async fn a_draining_node_keeps_no_connection() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut idle = proxy.client().await;
    idle.say(&get(&origin)).await;
    let mut target = origin.accept().await;
    target.head().await;
    target.say(OK).await;
    idle.up_to("hi").await;
    let mut busy = proxy.client().await;
    busy.say(&get(&origin)).await;
    let mut other = origin.accept().await;
    other.head().await;
    proxy.node.drain();
    assert_eq!(idle.rest().await, "", "closed while idle");
    other.say(OK).await;
    assert!(busy.rest().await.ends_with("hi"), "closed behind its answer");
    within(proxy.node.sessions.emptied()).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_must_be_whole_in_time() {
    let proxy = Proxy::open().await;
    let mut client = proxy.client().await;
    client.say("GET http://x.te").await;
    let answer = client.0.read_u8().await;
    assert_eq!(answer.ok(), Some(b'H'));
    assert!(client.rest().await.starts_with("TTP/1.1 408 "));
}
