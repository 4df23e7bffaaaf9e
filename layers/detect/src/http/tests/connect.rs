//! CONNECT: tunnels, challenges, refusals.

use super::*;

#[tokio::test]
async fn a_tunnel_with_bytes_sent_ahead() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    client.say(&format!("CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\nearly", origin.addr)).await;
    let mut target = origin.accept().await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 200 connection established\r\n"), "{head}");
    let bound = target.0.peer_addr().expect("peer");
    assert_eq!(field(&head, "proxy-status"), Some(format!("swiftproxy; bound=\"{bound}\"").as_str()));
    assert_eq!(target.body(5).await, "early");
    target.say("hello").await;
    assert_eq!(client.body(5).await, "hello");
    client.say("last").await;
    client.end().await;
    assert_eq!(target.rest().await, "last");
    target.say("word").await;
    drop(target);
    assert_eq!(client.rest().await, "word");
}

#[tokio::test]
async fn a_head_at_every_split() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let words = format!("CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\nx", origin.addr);
    for at in 1..words.len() {
        let mut client = proxy.client().await;
        client.0.set_nodelay(true).expect("a socket");
        client.say(&words[..at]).await;
        tokio::task::yield_now().await;
        client.say(&words[at..]).await;
        let mut target = origin.accept().await;
        assert!(client.head().await.contains(" 200 "));
        assert_eq!(target.body(1).await, "x");
    }
}

#[tokio::test]
async fn refusals_in_http_and_then_the_end() {
    let proxy = Proxy::open().await;
    for refusal in Refusal::all() {
        let label = refusal.label();
        let status = swiftproxy_wire::refusal::status(refusal).as_u16();
        if status == 407 {
            // Goes on; see below.
            continue;
        }
        let answer = proxy.ask(&format!("CONNECT {label}.refused:443 HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(&format!("details=\"{label}\"")), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        assert!(answer.ends_with(&swiftproxy_wire::refusal::text(refusal)), "{answer}");
    }
}

/// As Chromium and Firefox do it: ask, be challenged, ask again on the same connection.
#[tokio::test]
async fn a_challenge_and_a_second_try() {
    let (proxy, origin) = (Proxy::with_passwords().await, Origin::new().await);
    let mut client = proxy.client().await;
    let connect = format!("CONNECT {} HTTP/1.1\r\nHost: x\r\nProxy-Connection: keep-alive\r\n", origin.addr);
    for wrong in ["", "Proxy-Authorization: Basic YWxpY2U6d3Jvbmc=\r\n", "Proxy-Authorization: Bearer x\r\n"]
    {
        client.say(&format!("{connect}{wrong}\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with("http/1.1 407 "), "{head}");
        assert_eq!(field(&head, "proxy-authenticate"), Some("basic realm=\"swiftproxy\", charset=\"utf-8\""));
        assert_eq!(field(&head, "connection"), None);
        client.body(field(&head, "content-length").expect("length").parse().expect("a number")).await;
    }
    client.say(&format!("{connect}{ALICE}\r\n")).await;
    assert!(client.head().await.starts_with("http/1.1 200 "));
    origin.accept().await.say("x").await;
    assert_eq!(client.body(1).await, "x");
}

/// What was sent ahead of an answer was for the target; it must not be read as a request.
#[tokio::test]
async fn bytes_behind_a_refused_connect_are_no_request() {
    let (proxy, origin) = (Proxy::with_passwords().await, Origin::new().await);
    let hidden = format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n{ALICE}\r\n", origin.addr);
    for target in ["denied.refused:1", "x.test:1"] {
        let answer = proxy.ask(&format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n{hidden}")).await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert!(origin.is_alone().await);
}

#[tokio::test]
async fn no_target_without_a_port_and_no_body() {
    let proxy = Proxy::open().await;
    for (target, fields) in [
        ("h", ""),
        ("h:0", ""),
        ("u@h:1", ""),
        ("http://h:1/", ""),
        ("[::1", ""),
        ("h:1", "Content-Length: 1\r\n"),
        ("h:1", "Transfer-Encoding: chunked\r\n"),
    ] {
        let answer = proxy.ask(&format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target} {fields}: {answer}");
    }
    assert_eq!(proxy.opened(), 0);
}

#[tokio::test]
async fn an_address_in_brackets() {
    let proxy = Proxy::open().await;
    let Ok(socket) = TcpListener::bind("[::1]:0").await else { return };
    let port = socket.local_addr().expect("bound").port();
    let mut client = proxy.client().await;
    client.say(&format!("CONNECT [::1]:{port} HTTP/1.1\r\nHost: [::1]:{port}\r\n\r\n")).await;
    let head = client.head().await;
    assert!(head.contains(" 200 ") && head.contains("bound=\"[::1]:"), "{head}");
}
