//! Upgrades to another protocol.

use super::*;

const ASK: &str = "GET http://ORIGIN/chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

async fn switched(proxy: &Proxy) -> (Peer, Peer) {
    let origin = Origin::new().await;
    let mut client = proxy.client().await;
    client.say(&ASK.replace("ORIGIN", &origin.addr.to_string())).await;
    let mut target = origin.accept().await;
    let head = target.head().await;
    assert_eq!((field(&head, "upgrade"), field(&head, "connection")), (Some("websocket"), Some("upgrade")));
    assert_eq!(field(&head, "sec-websocket-version"), Some("13"));
    target.say(&format!("{SWITCH}first")).await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    assert_eq!((field(&head, "upgrade"), field(&head, "connection")), (Some("websocket"), Some("upgrade")));
    assert_eq!(client.body(5).await, "first", "what came with the head");
    (client, target)
}

#[tokio::test]
async fn a_websocket_both_ways() {
    let proxy = Proxy::open().await;
    let (mut client, mut target) = switched(&proxy).await;
    for n in 0..10 {
        client.say(&format!("ping{n}")).await;
        assert_eq!(target.body(5).await, format!("ping{n}"));
        target.say(&format!("pong{n}")).await;
        assert_eq!(client.body(5).await, format!("pong{n}"));
    }
    let live = proxy.node.sessions.all().pop().expect("one session");
    let down = live.bytes.total(swiftproxy_core::meter::Direction::Down);
    assert_eq!(down as usize, SWITCH.len() + "first".len() + 50, "counted to the byte");
    client.end().await;
    assert_eq!(target.rest().await, "");
    target.say("last").await;
    drop(target);
    assert_eq!(client.rest().await, "last");
    within(proxy.node.sessions.emptied()).await;
}

#[tokio::test]
async fn a_kick_ends_it() {
    let proxy = Proxy::open().await;
    let (mut client, mut target) = switched(&proxy).await;
    let live = proxy.node.sessions.all().pop().expect("one session");
    live.cancel.fire(swiftproxy_core::cancel::Reason::Kicked);
    assert_eq!(client.rest().await, "");
    assert_eq!(target.rest().await, "");
    within(proxy.node.sessions.emptied()).await;
    assert_eq!(live.outcome(), Some("kicked"));
}

#[tokio::test]
async fn a_kick_reaches_one_who_does_not_read() {
    let proxy = Proxy::open().await;
    let (mut client, mut target) = switched(&proxy).await;
    let piece = vec![b'x'; 1 << 20];
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(300), target.0.write(&piece)).await {
        written.expect("written");
    }
    proxy.node.sessions.each(|live| live.cancel.fire(swiftproxy_core::cancel::Reason::Disabled));
    within(proxy.node.sessions.emptied()).await;
    proxy.served(1).await;
    client.rest().await;
}

#[tokio::test]
async fn an_upgrade_that_is_declined() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    client.say(&ASK.replace("ORIGIN", &origin.addr.to_string())).await;
    let mut target = origin.accept().await;
    target.head().await;
    target
        .say("HTTP/1.1 426 No\r\nConnection: upgrade\r\nUpgrade: other\r\nContent-Length: 2\r\n\r\nno")
        .await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 426 ") && head.contains("upgrade: other"), "{head}");
    client.body(2).await;
    client.say(&format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.addr)).await;
    assert!(!target.head().await.contains("upgrade"));
}

/// HTTP/2 behind our back is not asked for.
#[tokio::test]
async fn no_upgrade_to_http_2() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    client
        .say(&format!(
            "GET http://{}/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
            origin.addr
        ))
        .await;
    let head = origin.accept().await.head().await;
    assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{head}");
}
