//! A local role of ours, over our own engine.

use swiftproxy_core::endpoint::{AsStream, Endpoint};
use swiftproxy_wire::lean::{self, Client, Code, Ending};
use swiftproxy_wire::record;

use super::*;
use crate::testing::Certificate;

type Answer = std::io::Result<(Response<()>, lean::End)>;

const WATCH: lean::Watch = lean::Watch {
    quiet: Duration::from_secs(60),
    busy: Duration::from_secs(60),
    doubt: Duration::from_secs(20),
    patience: Duration::from_secs(20),
};

async fn local(proxy: &Proxy) -> (Client, JoinHandle<Ending>) {
    let channel = Channel::clear(proxy.connect().await, Vec::new());
    let (client, driver) = lean::connect(channel, WATCH, true).await.unwrap();
    (client, tokio::spawn(driver))
}

async fn request(client: &Client, request: Request<()>, end: bool) -> Answer {
    client.open(&request, end).unwrap().await
}

async fn read(end: lean::End) -> Vec<u8> {
    let mut all = Vec::new();
    AsStream(end).read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test]
async fn a_stream_is_a_session() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _driver) = local(&proxy).await;
    for target in ["example.org:443", "192.0.2.1:80", "[2001:db8::1]:80"] {
        let (response, end) = request(&client, connect(target, None), false).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[PROXY_STATUS], format!("swiftproxy; bound=\"{BOUND}\""));
        let mut stream = AsStream(end);
        stream.write_all(b"data").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"hello data");
        until(|| proxy.node.sessions.count() == 0).await;
        let seen = proxy.seen().pop().unwrap();
        assert_eq!((seen.protocol, seen.target.as_str()), ("h2", target));
    }
}

#[tokio::test]
async fn over_tls_and_only_where_it_is_on() {
    let certificate = Certificate::new();
    for on in [true, false] {
        let table = certificate.table();
        let table = if on { table } else { table.replacen('{', r#"{"lean": false, "#, 1) };
        let proxy = Proxy::start(&table, None).await;
        let name = swiftproxy_wire::tls::server_name("localhost").unwrap();
        let channel = record::connect(proxy.connect().await, certificate.client(), name).await.unwrap();
        match lean::connect(channel, WATCH, true).await {
            Ok((client, driver)) => {
                assert!(on);
                tokio::spawn(driver);
                let (_, mut end) = request(&client, connect("a.example:1", None), false).await.unwrap();
                poll_fn(|cx| end.poll_finish(cx)).await.unwrap();
                assert_eq!(read(end).await, b"hello ");
            }
            Err(ending) => assert_eq!((ending, on), (Ending::Unknown, false)),
        }
    }
}

#[tokio::test]
async fn refusals_and_the_account() {
    let proxy = Proxy::start(CONFIG, Some(Passwords::default())).await;
    let (client, _driver) = local(&proxy).await;
    let open = login("alice", "open sesame");
    for refusal in [Refusal::Denied, Refusal::DnsFailed, Refusal::Timeout] {
        let target = format!("{}.refused:443", refusal.label());
        let asked = connect(&target, Some(open.clone()));
        let (response, end) = request(&client, asked, false).await.unwrap();
        assert_eq!(response.status(), refusal::status(refusal), "{refusal:?}");
        assert_eq!(proxy_status::from_headers(response.headers()), Some(refusal));
        assert_eq!(read(end).await, refusal::text(refusal).as_bytes());
    }
    let (response, _) = request(&client, connect("a.example:1", None), false).await.unwrap();
    assert_eq!(response.status(), 407);
    assert!(response.headers().contains_key(PROXY_AUTHENTICATE));
    let mut asked = account(Method::GET);
    asked.headers_mut().insert(PROXY_AUTHORIZATION, open);
    let (response, end) = request(&client, asked, true).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()[CACHE_CONTROL]),
        (200, &HeaderValue::from_static("no-store"))
    );
    let view: AccountView = serde_json::from_slice(&read(end).await).unwrap();
    assert_eq!((view.name.as_str(), view.rate_up), ("alice", Some(1000)));
    let (response, _) =
        request(&client, Request::get("http://a.example/").body(()).unwrap(), true).await.unwrap();
    assert_eq!(response.status(), refusal::status(Refusal::UnsupportedCommand));
}

#[tokio::test]
async fn a_reset_ends_the_dial_and_so_does_the_connections_end() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _driver) = local(&proxy).await;
    let opening = client.open(&connect("hang:1", None), false).unwrap();
    until(|| proxy.seen().len() == 1).await;
    drop(opening);
    until(|| proxy.given_up.load(SeqCst) == 1 && proxy.node.sessions.count() == 0).await;
    let _opening = client.open(&connect("hang:1", None), false).unwrap();
    until(|| proxy.seen().len() == 2).await;
    client.cut();
    until(|| proxy.given_up.load(SeqCst) == 2 && proxy.served.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn who_has_not_shown_that_it_may_be_here_has_few_streams_and_little_time() {
    let passwords = Passwords::slow(Duration::from_secs(4));
    let config = r#"{"protocols": ["tunnel"], "handshake_timeout": "1500ms"}"#;
    let proxy = Proxy::start(config, Some(passwords)).await;
    let (client, driver) = local(&proxy).await;
    let asked: Vec<_> = (0..UNPROVEN_STREAMS + 12)
        .map(|_| client.open(&connect("a.example:1", Some(login("alice", "wrong"))), true).unwrap())
        .collect();
    let (mut refused, mut answered) = (0, 0);
    for opening in asked {
        match opening.await {
            Ok((response, _)) => {
                assert_eq!(response.status(), 407);
                answered += 1;
            }
            Err(error) => {
                let reset = error.get_ref().and_then(|inner| inner.downcast_ref::<lean::Reset>());
                assert_eq!(reset.map(|reset| reset.0), Some(Code::REFUSED_STREAM), "{error:?}");
                refused += 1;
            }
        }
    }
    assert_eq!((answered, refused), (UNPROVEN_STREAMS, 12));
    // Nothing is under way at its next deadline: it is asked to go.
    assert_eq!(driver.await.unwrap(), Ending::Closed);
    until(|| proxy.served.load(SeqCst) == 1).await;
    assert_eq!(proxy.refusals(Refusal::HandshakeTimeout), 1);
}

#[tokio::test]
async fn a_node_that_drains_says_so_and_lets_streams_end() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, driver) = local(&proxy).await;
    let (_, end) = request(&client, connect("a.example:1", None), false).await.unwrap();
    proxy.node.drain();
    until(|| !client.is_open()).await;
    let mut stream = AsStream(end);
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"hello bye");
    assert_eq!(driver.await.unwrap(), Ending::Closed);
    until(|| proxy.served.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn one_that_breaks_rules_is_counted() {
    let proxy = Proxy::start(CONFIG, None).await;
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend_from_slice(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0xf5, 0xe1, 0, 0, 0, 1]);
    // DATA on a stream that nobody opened.
    hello.extend_from_slice(&[0, 0, 1, 0, 0, 0, 0, 0, 9, 0]);
    let got = proxy.talk(&hello, 5, false).await;
    assert!(got.windows(4).any(|four| four == b"\0\0\0\x01"), "a goaway: {got:?}");
    until(|| proxy.served.load(SeqCst) == 1).await;
    assert_eq!(proxy.refusals(Refusal::Malformed), 1);
}
