//! Bodies in every framing, and answers that have none.

use super::*;

async fn pair(proxy: &Proxy, origin: &Origin, request: &str) -> (Peer, Peer, String) {
    let mut client = proxy.client().await;
    client.say(&request.replace("ORIGIN", &origin.addr.to_string())).await;
    let mut target = origin.accept().await;
    let head = target.head().await;
    (client, target, head)
}

const GET: &str = "GET http://ORIGIN/ HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn requests_with_a_length() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let post = "POST http://ORIGIN/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello";
    let (mut client, mut target, head) = pair(&proxy, &origin, post).await;
    assert_eq!(field(&head, "content-length"), Some("10"));
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert_eq!(target.body(5).await, "hello", "passed on before it is whole");
    client.say("worldGET http://").await;
    assert_eq!(target.body(5).await, "world");
    target.say(OK).await;
    client.up_to("hi").await;
    client.say(&format!("{}/next HTTP/1.1\r\nHost: x\r\n\r\n", origin.addr)).await;
    assert!(target.head().await.starts_with("get /next "));
}

#[tokio::test]
async fn requests_in_chunks_with_trailers() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    for method in ["POST", "GET"] {
        let ask = format!(
            "{method} http://ORIGIN/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\
             Trailer: X-Sum, Proxy-Authorization, X-Hop\r\n\r\n"
        );
        let (mut client, mut target, head) = pair(&proxy, &origin, &ask).await;
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
        assert!(!head.contains("content-length"), "{head}");
        client.say("5;ext=1\r\nhello\r\n").await;
        assert_eq!(target.up_to("hello\r\n").await, "5\r\nhello\r\n", "passed on before it is whole");
        client.say("6\r\n world\r\n0\r\nX-Sum: 11\r\nProxy-Authorization: Basic eDp5\r\n\r\n").await;
        assert_eq!(target.up_to("\r\n\r\n").await.to_lowercase(), "6\r\n world\r\n0\r\nx-sum: 11\r\n\r\n");
        target.say(OK).await;
        client.up_to("hi").await;
    }
}

/// A body of many tiny chunks is not a piece, a write and a wake-up each.
#[tokio::test]
async fn tiny_chunks_go_together() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let ask = "POST http://ORIGIN/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let tiny = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(1000));
    let (mut client, mut target, _) = pair(&proxy, &origin, &format!("{ask}{tiny}")).await;
    let body = target.up_to("0\r\n\r\n").await;
    assert_eq!(body.matches('x').count(), 1000);
    assert!(body.len() < 2000, "{} bytes", body.len());
    target.say(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{tiny}")).await;
    assert_eq!(client.up_to("0\r\n\r\n").await.matches("1\r\nx\r\n").count(), 1000);
}

#[tokio::test]
async fn responses_in_chunks_with_trailers() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let (mut client, mut target, _) = pair(&proxy, &origin, GET).await;
    target.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(field(&head, "trailer"), Some("x-sum"));
    target.say("5\r\nhello\r\n").await;
    assert_eq!(client.up_to("hello\r\n").await, "5\r\nhello\r\n", "passed on before it is whole");
    target.say("0\r\nX-Sum: 5\r\nContent-Length: 7\r\n\r\n").await;
    assert_eq!(client.up_to("\r\n\r\n").await, "0\r\nx-sum: 5\r\n\r\n");
    client.say(&GET.replace("ORIGIN", &origin.addr.to_string())).await;
    target.head().await;
}

#[tokio::test]
async fn responses_until_the_end() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let (mut client, mut target, _) = pair(&proxy, &origin, GET).await;
    target.say("HTTP/1.0 200 OK\r\n\r\nhello").await;
    assert_eq!(field(&client.head().await, "transfer-encoding"), Some("chunked"));
    target.say(" world").await;
    drop(target);
    let body = client.up_to("0\r\n\r\n").await;
    assert!(body.ends_with(" world\r\n0\r\n\r\n"), "{body}");
    // The client's connection outlives the origin's.
    client.say(&GET.replace("ORIGIN", &origin.addr.to_string())).await;
    origin.accept().await.head().await;
}

#[tokio::test]
async fn answers_without_a_body() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let head_request = "HEAD http://ORIGIN/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let cases = [
        (head_request, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", Some("1000")),
        (head_request, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (head_request, "HTTP/1.1 404 Not Found\r\n\r\n", None),
        (GET, "HTTP/1.1 204 No Content\r\n\r\n", None),
        (GET, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None),
        (GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: x\r\n\r\n", Some("1000")),
        (GET, "HTTP/1.1 304 Not Modified\r\n\r\n", None),
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ];
    for (request, answer, length) in cases {
        let (mut client, mut target, _) = pair(&proxy, &origin, request).await;
        target.say(answer).await;
        let head = client.head().await;
        assert_eq!(field(&head, "content-length"), length, "{answer} became {head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
        // The next answer follows at once.
        client.say(&GET.replace("ORIGIN", &origin.addr.to_string())).await;
        target.head().await;
        target.say(OK).await;
        assert!(client.head().await.starts_with("http/1.1 200 "), "behind {answer}");
    }
}

#[tokio::test]
async fn a_refusal_without_a_body() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let head_request = "HEAD http://ORIGIN/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut client, target, _) = pair(&proxy, &origin, head_request).await;
    drop(target);
    let head = client.rest().await;
    assert!(head.starts_with("HTTP/1.1 502 ") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn a_body_that_is_held_back() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let post = "POST http://ORIGIN/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let (mut client, mut target, head) = pair(&proxy, &origin, post).await;
    assert_eq!(field(&head, "expect"), Some("100-continue"));
    assert!(client.is_quiet().await, "it is the origin's word");
    target.say("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await, "http/1.1 100 continue\r\n\r\n");
    client.say("hello").await;
    assert_eq!(target.body(5).await, "hello");
    target.say(OK).await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 200 ") && !head.contains("close"), "{head}");

    let (mut client, mut target, _) = pair(&proxy, &origin, post).await;
    target.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 417 ") && head.contains("connection: close"), "{head}");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn interim_responses_are_passed_on() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let (mut client, mut target, _) = pair(&proxy, &origin, GET).await;
    target.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X\r\nX: 1\r\n\r\n").await;
    assert_eq!(client.head().await, "http/1.1 103 early hints\r\nlink: </a>\r\n\r\n");
    target.say(&format!("HTTP/1.1 102 Processing\r\n\r\n{OK}")).await;
    assert_eq!(client.head().await, "http/1.1 102 processing\r\n\r\n");
    assert!(client.head().await.starts_with("http/1.1 200 "));
}

/// An answer that comes before the request was read, and the rest of the request behind it.
#[tokio::test]
async fn an_early_answer_ends_the_connection_in_order() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let post = "POST http://ORIGIN/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhello";
    let (mut client, mut target, _) = pair(&proxy, &origin, post).await;
    target.say("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno").await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 413 ") && head.contains("connection: close"), "{head}");
    client.say(&"x".repeat(10000)).await;
    assert_eq!(client.rest().await, "no");
}

#[tokio::test]
async fn both_ways_at_once() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let post = "POST http://ORIGIN/ HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n";
    let (client, target, _) = pair(&proxy, &origin, post).await;
    let (mut client_in, mut client_out) = client.0.into_split();
    let (mut target_in, mut target_out) = target.0.into_split();
    let bytes = vec![b'x'; 8_000_000];
    let echo = async {
        target_out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n").await.expect("head");
        let mut buffer = vec![0; 65536];
        let mut left = 8_000_000;
        while left > 0 {
            let n = target_in.read(&mut buffer).await.expect("read");
            target_out.write_all(&buffer[..n]).await.expect("written");
            left -= n;
        }
    };
    let hear = async {
        let mut all = Vec::new();
        client_in.read_to_end(&mut all).await.expect("read");
        all
    };
    let say = async { client_out.write_all(&bytes).await.expect("written") };
    let ((), (), all) = within(async { tokio::join!(echo, say, hear) }).await;
    assert!(all.ends_with(&bytes));
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_ended() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX",
    ] {
        let (mut client, mut target, _) = pair(&proxy, &origin, GET).await;
        target.say(answer).await;
        drop(target);
        let heard = client.rest().await;
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n") && !heard.contains("\r\n0\r\n"), "{heard}");
    }
}

#[tokio::test]
async fn origins_that_do_not_speak_http() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    for (answer, error) in [
        ("", "connection_terminated"),
        ("HTTP/1.1 200", "connection_terminated"),
        ("SSH-2.0-x\r\n", "http_protocol_error"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "http_protocol_error"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nx", "http_protocol_error"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: a\r\n b\r\n\r\nx", "http_protocol_error"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: a\rb\r\n\r\nx", "http_protocol_error"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: a\0b\r\n\r\nx", "http_protocol_error"),
        ("HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx", "http_protocol_error"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "http_protocol_error"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", "http_protocol_error"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nx",
            "http_protocol_error",
        ),
    ] {
        let (mut client, mut target, _) = pair(&proxy, &origin, GET).await;
        target.say(answer).await;
        drop(target);
        let heard = client.rest().await;
        assert!(heard.starts_with("HTTP/1.1 502 ") && heard.contains(error), "{answer:?}: {heard}");
    }
}

/// One framing, whatever the origin said twice.
#[tokio::test]
async fn an_answer_framed_twice_is_framed_once() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let (mut client, mut target, _) = pair(&proxy, &origin, GET).await;
    target
        .say(
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    let (mut client, mut target, _) = pair(&proxy, &origin, GET).await;
    target.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(client.head().await.matches("content-length: 2\r\n").count(), 1);
}
