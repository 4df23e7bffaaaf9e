//! Forwarding: fields, origins, logins.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn a_get_and_what_stays_at_this_hop() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    let port = origin.addr.port();
    client
        .say(&format!(
            "GET http://a.test:{port}/path?q=1 HTTP/1.1\r\nHost: other.test\r\nConnection: keep-alive, X-Mine\r\n\
             X-Mine: secret\r\nX-Kept: yes\r\nProxy-Connection: keep-alive\r\n{ALICE}Authorization: Basic eDp5\r\n\
             Keep-Alive: timeout=5\r\nTE: trailers, deflate\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n"
        ))
        .await;
    let mut target = origin.accept().await;
    let head = target.head().await;
    assert!(head.starts_with("get /path?q=1 http/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "host"), Some(format!("a.test:{port}").as_str()), "absolute wins");
    for gone in ["x-mine", "proxy-", "keep-alive", "via", "deflate"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    for kept in ["x-kept: yes", "authorization: basic edp5", "te: trailers", "cookie: a=b", "cookie: c=d"] {
        assert!(head.contains(kept), "{kept} not in {head}");
    }
    target
        .say(
            "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\
             Proxy-Authenticate: Basic realm=\"x\"\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nhi",
        )
        .await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 200 ") && head.contains("x-end: 2"), "{head}");
    assert!(head.contains("set-cookie: a=1") && head.contains("set-cookie: b=2"), "{head}");
    for gone in ["x-hop", "proxy-authenticate", "keep-alive", "via"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    assert!(field(&head, "date").is_some_and(|date| date.ends_with(" gmt")), "{head}");
    assert_eq!(client.body(2).await, "hi");
    // The origin's own word stands.
    client.say(&format!("GET http://a.test:{port}/ HTTP/1.1\r\nHost: x\r\n{ALICE}\r\n")).await;
    target.head().await;
    target.say("HTTP/1.1 204 No\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n").await;
    assert_eq!(field(&client.head().await, "date"), Some("sun, 06 nov 1994 08:49:37 gmt"));
}

#[tokio::test]
async fn one_connection_over_several_origins() {
    let proxy = Proxy::open().await;
    let origins = [Origin::new().await, Origin::new().await];
    let mut client = proxy.client().await;
    let get = |origin: &Origin| format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.addr);
    let [a, b] = &origins;
    client.say(&get(a)).await;
    let mut at_a = a.accept().await;
    for _ in 0..3 {
        assert!(at_a.head().await.starts_with("get / "));
        at_a.say(OK).await;
        client.head().await;
        assert_eq!(client.body(2).await, "hi");
        client.say(&get(a)).await;
    }
    at_a.head().await;
    at_a.say(OK).await;
    client.up_to("hi").await;
    assert_eq!(proxy.opened(), 1, "kept for the same origin");
    client.say(&get(b)).await;
    let mut at_b = b.accept().await;
    at_b.head().await;
    assert_eq!(at_a.rest().await, "", "one origin at a time");
    at_b.say(OK).await;
    client.up_to("hi").await;
    client.say(&get(a)).await;
    let mut at_a = a.accept().await;
    at_a.head().await;
    at_a.say(OK).await;
    client.up_to("hi").await;
    assert_eq!(proxy.node.sessions.count(), 1);
}

#[tokio::test]
async fn requests_that_were_sent_at_once_are_answered_in_order() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    let words: String = (0..20)
        .map(|n| match n % 2 {
            0 => format!("GET http://{}/{n} HTTP/1.1\r\nHost: x\r\n\r\n", origin.addr),
            _ => {
                format!("POST http://{}/{n} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", origin.addr)
            }
        })
        .collect();
    client.say(&words).await;
    let mut target = origin.accept().await;
    for n in 0..20 {
        let head = target.head().await;
        assert!(head.contains(&format!(" /{n} ")), "{head}");
        if n % 2 == 1 {
            assert_eq!(target.body(3).await, "abc");
        }
        target.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{n:03}")).await;
    }
    for n in 0..20 {
        client.head().await;
        assert_eq!(client.body(3).await, format!("{n:03}"));
    }
}

#[tokio::test]
async fn every_request_needs_the_password() {
    let (proxy, origin) = (Proxy::with_passwords().await, Origin::new().await);
    let mut client = proxy.client().await;
    let get = format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n", origin.addr);
    client.say(&format!("{get}{ALICE}\r\n")).await;
    let mut target = origin.accept().await;
    assert!(!target.head().await.contains("proxy-authorization"));
    target.say(OK).await;
    client.up_to("hi").await;
    for wrong in ["", "Proxy-Authorization: Basic YWxpY2U6d3Jvbmc=\r\n"] {
        client.say(&format!("{get}{wrong}\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with("http/1.1 407 ") && !head.contains("connection: close"), "{head}");
        client.body(field(&head, "content-length").expect("length").parse().expect("a number")).await;
    }
    client.say(&format!("{get}{ALICE}\r\n")).await;
    let mut target = origin.accept().await;
    target.head().await;
    target.say(OK).await;
    client.up_to("hi").await;
}

#[tokio::test]
async fn a_challenge_to_a_request_with_a_body() {
    let (proxy, origin) = (Proxy::with_passwords().await, Origin::new().await);
    let post = format!("POST http://{}/ HTTP/1.1\r\nHost: x\r\n", origin.addr);
    let mut client = proxy.client().await;
    client.say(&format!("{post}Content-Length: 5\r\n\r\nhello")).await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 407 ") && !head.contains("connection: close"), "{head}");
    client.body(field(&head, "content-length").expect("length").parse().expect("a number")).await;
    client.say(&format!("{post}{ALICE}Content-Length: 5\r\n\r\nhello")).await;
    let mut target = origin.accept().await;
    target.head().await;
    assert_eq!(target.body(5).await, "hello");
    target.say(OK).await;
    client.up_to("hi").await;
    // A body that is not wanted any more is not waited for.
    for body in ["Content-Length: 10000000\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"] {
        let answer = proxy.ask(&format!("{post}{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 407 ") && answer.contains("connection: close"), "{answer}");
    }
    let held = proxy.ask(&format!("{post}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")).await;
    assert!(held.starts_with("HTTP/1.1 407 ") && held.contains("connection: close"), "{held}");
}

#[tokio::test]
async fn refusals_leave_the_connection_open() {
    let proxy = Proxy::open().await;
    let mut client = proxy.client().await;
    for refusal in Refusal::all() {
        client.say(&format!("GET http://{}.refused/ HTTP/1.1\r\nHost: x\r\n\r\n", refusal.label())).await;
        let head = client.head().await;
        let status = swiftproxy_wire::refusal::status(refusal).as_u16();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
        assert!(head.contains(refusal.label()) && !head.contains("connection: close"), "{head}");
        client.body(field(&head, "content-length").expect("length").parse().expect("a number")).await;
    }
}

#[tokio::test]
async fn clients_of_http_1_0() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    client
        .say(&format!(
            "GET http://{}/ HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n",
            origin.addr
        ))
        .await;
    let mut target = origin.accept().await;
    let head = target.head().await;
    assert!(head.starts_with("get / http/1.1\r\n") && !head.contains("expect"), "{head}");
    assert_eq!(field(&head, "host"), Some(origin.addr.to_string().as_str()));
    target.say("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").await;
    target.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhi"), "{answer}");
    assert!(answer.contains("connection: close") && !answer.contains("chunked"), "{answer}");
}

#[tokio::test]
async fn options_of_a_whole_origin_and_max_forwards() {
    let (proxy, origin) = (Proxy::open().await, Origin::new().await);
    let mut client = proxy.client().await;
    client
        .say(&format!("OPTIONS http://{} HTTP/1.1\r\nHost: x\r\nMax-Forwards: 1\r\n\r\n", origin.addr))
        .await;
    let mut target = origin.accept().await;
    let head = target.head().await;
    assert!(head.starts_with("options * http/1.1\r\n") && head.contains("max-forwards: 0"), "{head}");
    target.say(OK).await;
    client.up_to("hi").await;
    client
        .say(&format!("OPTIONS http://{} HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n", origin.addr))
        .await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 200 ") && head.contains("allow: "), "{head}");
    assert!(target.is_quiet().await);
}

#[tokio::test]
async fn one_who_takes_the_proxy_for_a_server() {
    let proxy = Proxy::open().await;
    for line in ["GET / HTTP/1.1", "OPTIONS * HTTP/1.1", "POST /x HTTP/1.1"] {
        let answer = proxy.ask(&format!("{line}\r\nHost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this is an HTTP proxy"), "{answer}");
    }
    let answer = proxy.ask("GET https://example.com/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 501 ") && answer.contains("CONNECT"), "{answer}");
}
