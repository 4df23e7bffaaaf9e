//! What a strict reader refuses.

use super::*;

/// What another reader might frame or route differently reaches nobody, and nothing follows it.
#[tokio::test]
async fn what_smugglers_send() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let long = "x".repeat(17 << 10);
    let (line, big) = (format!("http://ORIGIN/{long}"), format!("X: {}\r\n", "x".repeat(65 << 10)));
    let many = "X: y\r\n".repeat(129);
    let post = |fields: &str| format!("POST http://ORIGIN/ HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let cases: Vec<(u16, String)> = vec![
        (400, post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        (400, post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
        (400, post("Content-Length: 5\r\nContent-Length: 5\r\n")),
        (400, post("Content-Length: 5\r\nContent-Length: 6\r\n")),
        (400, post("Content-Length: 5, 5\r\n")),
        (400, post("Content-Length: +5\r\n")),
        (400, post("Content-Length: 0x5\r\n")),
        (400, post("Content-Length: \r\n")),
        (400, post("Content-Length : 5\r\n")),
        (400, post("Content-Length: 5\r\n folded\r\n")),
        (400, post("X: a\r\n\tb\r\n")),
        (400, post("X: a\rb\r\n")),
        (400, post("X: a\nContent-Length: 5\r\n")),
        (400, post("X: a\0b\r\n")),
        (400, post("X\0: a\r\n")),
        (400, post("no colon\r\n")),
        (400, post(": no name\r\n")),
        (400, post("Transfer-Encoding: chunked, chunked\r\n")),
        (400, post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")),
        (501, post("Transfer-Encoding: xchunked\r\n")),
        (501, post("Transfer-Encoding: gzip, chunked\r\n")),
        (501, post("Transfer-Encoding: \"chunked\", chunked\r\n")),
        (400, "POST http://ORIGIN/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into()),
        (400, "GET http://ORIGIN/ HTTP/1.1\r\n\r\n".into()),
        (400, "GET http://ORIGIN/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into()),
        (400, "GET http://ORIGIN/ HTTP/1.1\nHost: a\n\n".into()),
        (400, "GET  http://ORIGIN/ HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "GET http://ORIGIN/ HTTP/1.1 \r\nHost: a\r\n\r\n".into()),
        (400, "GET http://ORIGIN/ x HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "GET http://ORIGIN/\r\nHost: a\r\n\r\n".into()),
        (400, "GET http://u:p@ORIGIN/ HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "GET http://h:0/ HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "GET http://h:99999/ HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "GET http://ORIGIN/#f HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (505, "GET http://ORIGIN/ HTTP/2.0\r\nHost: a\r\n\r\n".into()),
        (414, format!("GET {line} HTTP/1.1\r\nHost: a\r\n\r\n")),
        (431, format!("GET http://ORIGIN/ HTTP/1.1\r\nHost: a\r\n{big}\r\n")),
        (431, format!("GET http://ORIGIN/ HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
    ];
    let next = "GET http://ORIGIN/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for (status, words) in cases {
        let words = format!("{words}{next}").replace("ORIGIN", &origin.addr.to_string());
        let answer = proxy.ask(&words).await;
        let shown = words.get(..200).unwrap_or(&words);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer:?}");
        assert_eq!(answer.matches("content-length:").count(), 1, "{shown:?}: {answer:?}");
        assert!(answer.contains("connection: close\r\n"), "{shown:?}: {answer:?}");
    }
    assert_eq!(proxy.opened(), 0);
    assert!(origin.is_alone().await);
}

/// A body that is not framed as its head says ends the request at the origin too.
#[tokio::test]
async fn chunks_that_are_none() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    for chunk in
        ["5\nhello\r\n", "-1\r\n", "0x5\r\n", "5 \r\n", "2\r\nhello\r\n", "\r\n", "fffffffffffffffff\r\n"]
    {
        let mut client = proxy.client().await;
        let post =
            format!("POST http://{}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", origin.addr);
        client.say(&post).await;
        let mut target = origin.accept().await;
        target.head().await;
        client.say(chunk).await;
        let answer = client.rest().await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("connection: close"),
            "{chunk:?}: {answer}"
        );
        let heard = target.rest().await;
        assert!(!heard.contains("0\r\n\r\n"), "{chunk:?}: {heard:?}");
    }
}

/// A `Connection` that names what frames or routes the message.
#[tokio::test]
async fn connection_unframes_nothing() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    client
        .say(&format!(
            "POST http://{}/ HTTP/1.1\r\nHost: x\r\nConnection: Content-Length, Host\r\nContent-Length: 5\r\n\r\nhello",
            origin.addr
        ))
        .await;
    let mut target = origin.accept().await;
    let head = target.head().await;
    assert_eq!(field(&head, "content-length"), Some("5"));
    assert_eq!(field(&head, "host"), Some(origin.addr.to_string().as_str()));
    assert_eq!(target.body(5).await, "hello");
}
