mod abuse;
mod lean;
mod vanished;

use std::future::poll_fn;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context as Task, Poll};

use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::header::{ALLOW, CACHE_CONTROL, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, Response};
use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::secret::Secret;
use swiftproxy_core::tunnel::AccountView;
use swiftproxy_wire::proxy_status::PROXY_STATUS;
use swiftproxy_wire::{basic, proxy_status, refusal};
use tokio::io::DuplexStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{BOUND, Passwords, Proxy, until};

const CONFIG: &str = r#"{"protocols": ["tunnel"]}"#;

type Client = SendRequest<Bytes>;

async fn client(proxy: &Proxy) -> (Client, JoinHandle<Result<(), h2::Error>>) {
    let (client, connection) = h2::client::handshake(proxy.connect().await).await.unwrap();
    (client, tokio::spawn(connection))
}

/// A connection in memory, for tests in which time is paused: it runs ahead of sockets.
async fn in_memory(proxy: &Proxy) -> (Client, h2::client::Connection<DuplexStream>) {
    over(proxy, 1 << 20).await
}

async fn over(proxy: &Proxy, pipe: usize) -> (Client, h2::client::Connection<DuplexStream>) {
    let (near, far) = tokio::io::duplex(pipe);
    let ctx = proxy.front.context(proxy.addr).unwrap();
    let (served, deadline) = (proxy.served.clone(), Instant::now() + ctx.settings.handshake_timeout);
    tokio::spawn(async move {
        serve(ctx, near, None, deadline).await;
        served.fetch_add(1, SeqCst);
    });
    h2::client::handshake(far).await.unwrap()
}

fn login(name: &str, password: &str) -> HeaderValue {
    basic::encode(&Credentials { name: name.into(), password: Secret::new(password) })
}

fn connect(target: &str, login: Option<HeaderValue>) -> Request<()> {
    let mut request = Request::connect(target).body(()).unwrap();
    request.headers_mut().extend(login.map(|login| (PROXY_AUTHORIZATION, login)));
    request
}

async fn ask(
    client: &Client,
    request: Request<()>,
    end: bool,
) -> Result<(Response<RecvStream>, SendStream<Bytes>), h2::Error> {
    let (response, send) = client.clone().ready().await?.send_request(request, end)?;
    Ok((response.await?, send))
}

async fn body(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}

#[tokio::test]
async fn a_stream_is_a_session() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _connection) = client(&proxy).await;
    for target in ["example.org:443", "192.0.2.1:80", "[2001:db8::1]:80"] {
        let (response, mut send) =
            client.clone().ready().await.unwrap().send_request(connect(target, None), false).unwrap();
        send.send_data(Bytes::from_static(b"early data"), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[PROXY_STATUS], format!("swiftproxy; bound=\"{BOUND}\""));
        assert_eq!(proxy.node.sessions.count(), 1);
        send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(body(response.into_body()).await.unwrap(), b"hello early data");
        until(|| proxy.node.sessions.count() == 0).await;
        let seen = proxy.seen().pop().unwrap();
        assert_eq!((seen.protocol, seen.target.as_str()), ("h2", target));
    }
}

#[tokio::test]
async fn every_refusal_in_its_status_and_field() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _connection) = client(&proxy).await;
    for refusal in Refusal::all() {
        let target = format!("{}.refused:443", refusal.label());
        let (response, _send) = ask(&client, connect(&target, None), false).await.unwrap();
        assert_eq!(response.status(), refusal::status(refusal), "{refusal:?}");
        assert_eq!(proxy_status::from_headers(response.headers()), Some(refusal));
        assert_eq!(response.headers().contains_key(PROXY_AUTHENTICATE), response.status() == 407);
        assert_eq!(body(response.into_body()).await.unwrap(), refusal::text(refusal).as_bytes());
    }
}

#[tokio::test]
async fn a_target_that_is_none_is_400() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _connection) = client(&proxy).await;
    for target in ["example.org", "example.org:0", "example.org:99999", "u@example.org:1", "[::1]"] {
        let (response, _) = ask(&client, connect(target, None), false).await.unwrap();
        assert_eq!(response.status(), 400, "{target}");
    }
    assert_eq!(proxy.refusals(Refusal::Malformed), 5);
    assert!(proxy.seen().is_empty());
}

#[tokio::test]
async fn who_it_is_comes_with_each_stream() {
    let proxy = Proxy::start(CONFIG, Some(Passwords::default())).await;
    let (client, _connection) = client(&proxy).await;
    let status = async |login| {
        let (response, _) = ask(&client, connect("a.example:1", login), false).await.unwrap();
        let asked = response.headers().get(PROXY_AUTHENTICATE).cloned();
        (response.status().as_u16(), asked)
    };
    let challenge = Some(basic::CHALLENGE);
    assert_eq!(status(None).await, (407, challenge.clone()));
    assert_eq!(status(Some(login("alice", "wrong"))).await, (407, challenge.clone()));
    assert_eq!(status(Some(HeaderValue::from_static("Bearer x"))).await, (407, challenge));
    assert_eq!(status(Some(login("dora", "shut"))).await, (403, None));
    assert_eq!(status(Some(login("alice", "open sesame"))).await, (200, None));
    assert_eq!(status(Some(login("alice", "open sesame"))).await, (200, None));
    let seen = proxy.seen();
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[3].credentials.as_deref(), Some("alice:open sesame"));
    assert_eq!((seen[4].account.as_deref(), &seen[4].credentials), (Some("alice"), &None), "known by now");
}

#[tokio::test]
async fn a_reset_ends_the_dial() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, connection) = client(&proxy).await;
    let hang = connect("hang:1", None);
    let (_response, mut send) = client.clone().ready().await.unwrap().send_request(hang, false).unwrap();
    until(|| proxy.seen().len() == 1).await;
    send.send_reset(Reason::CANCEL);
    until(|| proxy.given_up.load(SeqCst) == 1 && proxy.node.sessions.count() == 0).await;
    let hang = connect("hang:1", None);
    let _sent = client.clone().ready().await.unwrap().send_request(hang, false).unwrap();
    until(|| proxy.seen().len() == 2).await;
    connection.abort();
    until(|| proxy.given_up.load(SeqCst) == 2 && proxy.served.load(SeqCst) == 1).await;
}

fn account(method: Method) -> Request<()> {
    let uri = format!("https://remote.example{}", account::PATH);
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

#[tokio::test]
async fn an_owner_hears_of_the_account() {
    let proxy = Proxy::start(CONFIG, Some(Passwords::default())).await;
    let (client, _connection) = client(&proxy).await;
    for (name, header) in [("alice", PROXY_AUTHORIZATION), ("alice", http::header::AUTHORIZATION)] {
        let mut request = account(Method::GET);
        request.headers_mut().insert(header, login(name, "open sesame"));
        let (response, _) = ask(&client, request, true).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let view: AccountView = serde_json::from_slice(&body(response.into_body()).await.unwrap()).unwrap();
        assert_eq!((view.name.as_str(), view.rate_up, view.rate_down), ("alice", Some(1000), None));
    }
    let cases = [
        (None, Refusal::AuthRequired),
        (Some(login("alice", "wrong")), Refusal::AuthFailed),
        (Some(login("dora", "shut")), Refusal::AccountDisabled),
    ];
    for (login, refusal) in cases {
        let mut request = account(Method::GET);
        request.headers_mut().extend(login.map(|login| (PROXY_AUTHORIZATION, login)));
        let (response, _) = ask(&client, request, true).await.unwrap();
        assert_eq!(response.status(), refusal::status(refusal));
        assert_eq!(proxy_status::from_headers(response.headers()), Some(refusal));
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    }
    let (response, _) = ask(&client, account(Method::POST), true).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()[ALLOW]),
        (405, &HeaderValue::from_static("GET"))
    );
    assert!(proxy.seen().is_empty(), "it is no session");
}

#[tokio::test]
async fn where_nobody_logs_in_there_is_no_account() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _connection) = client(&proxy).await;
    let (response, _) = ask(&client, account(Method::GET), true).await.unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test(start_paused = true)]
async fn who_has_not_shown_that_it_may_be_here_has_few_streams_and_little_time() {
    let passwords = Passwords::slow(Duration::from_secs(15));
    let proxy = Proxy::start(CONFIG, Some(passwords)).await;
    let (client, connection) = in_memory(&proxy).await;
    let connection = tokio::spawn(connection);
    let mut asked = Vec::new();
    for _ in 0..UNPROVEN_STREAMS + 12 {
        let request = connect("a.example:1", Some(login("alice", "wrong")));
        asked.push(client.clone().ready().await.unwrap().send_request(request, true).unwrap());
    }
    let (mut refused, mut answered) = (0, 0);
    for (response, _) in asked {
        match response.await {
            Ok(response) => {
                assert_eq!(response.status(), 407);
                answered += 1;
            }
            Err(error) => {
                assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
                refused += 1;
            }
        }
    }
    assert_eq!((answered, refused), (UNPROVEN_STREAMS, 12));
    // Nothing is under way at its next deadline: it is asked to go.
    let start = Instant::now();
    connection.await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(12));
    assert_eq!(proxy.refusals(Refusal::HandshakeTimeout), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_carries_nothing_stays_as_long_as_somebody_is_there() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, connection) = in_memory(&proxy).await;
    let connection = tokio::spawn(connection);
    let (response, mut send) = ask(&client, connect("a.example:1", None), false).await.unwrap();
    // With a stream on it, however quiet, it is left alone.
    tokio::time::sleep(4 * IDLE).await;
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(body(response.into_body()).await.unwrap(), b"hello ");
    tokio::time::sleep(10 * IDLE).await;
    assert!(!connection.is_finished() && proxy.served.load(SeqCst) == 0);
    // A client that reads nothing answers nothing.
    let (mut second, mut driver) = in_memory(&proxy).await;
    let (response, _) = second.send_request(connect("refused.refused:1", None), true).unwrap();
    tokio::select! {
        response = response => assert_eq!(response.unwrap().status(), 502),
        _ = &mut driver => panic!("still needed"),
    }
    let start = Instant::now();
    while proxy.served.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(start.elapsed() > IDLE && start.elapsed() < 4 * IDLE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_node_that_drains_says_so_and_lets_streams_end() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, connection) = client(&proxy).await;
    let (response, mut send) = ask(&client, connect("a.example:1", None), false).await.unwrap();
    proxy.node.drain();
    until(|| {
        let mut client = client.clone();
        let mut task = Task::from_waker(std::task::Waker::noop());
        matches!(client.poll_ready(&mut task), Poll::Ready(Err(_)))
    })
    .await;
    send.send_data(Bytes::from_static(b"bye"), true).unwrap();
    assert_eq!(body(response.into_body()).await.unwrap(), b"hello bye");
    connection.await.unwrap().unwrap();
    until(|| proxy.served.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn what_is_no_http2_is_closed() {
    let proxy = Proxy::start(CONFIG, None).await;
    let got = proxy.talk(b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n", 3, false).await;
    assert!(!got.windows(4).any(|four| four == b"HTTP"));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // DATA on a stream that nobody opened.
    proxy
        .talk(
            &[&preface[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0, 0, 1, 0, 0, 0, 0, 0, 9, 0]].concat(),
            1,
            false,
        )
        .await;
    until(|| proxy.served.load(SeqCst) == 2).await;
    assert_eq!(proxy.refusals(Refusal::Malformed), 2);
}

/// An origin that answers each connection's one request with `answer`, and what it was asked.
async fn origin(answer: &'static [u8]) -> (std::net::SocketAddr, JoinHandle<String>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let mut asked = Vec::new();
        let mut buffer = [0; 1024];
        // A chunked body ends so, and so does a head without one.
        while !asked.ends_with(b"\r\n\r\n") || (asked.starts_with(b"POST") && !asked.ends_with(b"0\r\n\r\n"))
        {
            let n = stream.read(&mut buffer).await.unwrap();
            asked.extend_from_slice(&buffer[..n]);
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    (addr, asked)
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap()
}

#[tokio::test]
async fn an_ordinary_request_is_forwarded() {
    let proxy = Proxy::start(CONFIG, Some(Passwords::default())).await;
    let (client, _connection) = client(&proxy).await;
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\nConnection: X\r\n\r\n5\r\nworld\r\n0\r\n\r\n";
    let (addr, asked) = origin(answer).await;
    let mut request = get(&format!("http://{addr}/path?query"));
    request.headers_mut().insert(PROXY_AUTHORIZATION, login("alice", "open sesame"));
    let (response, _) = ask(&client, request, true).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("x") && !response.headers().contains_key("transfer-encoding"));
    assert_eq!(body(response.into_body()).await.unwrap(), b"world");
    let asked = asked.await.unwrap().to_lowercase();
    assert!(asked.starts_with("get /path?query http/1.1\r\n"), "{asked}");
    assert!(
        asked.contains(&format!("host: {addr}\r\n")) && asked.contains("cookie: a=1; b=2\r\n"),
        "{asked}"
    );
    assert!(!asked.contains("proxy-auth"), "{asked}");
    assert_eq!(proxy.seen()[0].protocol, "http");
    let (response, _) = ask(&client, get("http://127.0.0.1:1/"), true).await.unwrap();
    assert_eq!(response.status(), 407);
}

#[tokio::test]
async fn a_body_goes_up_and_an_interim_response_comes_down() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _connection) = client(&proxy).await;
    let (addr, asked) =
        origin(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n").await;
    let request = Request::post(format!("http://{addr}/")).body(()).unwrap();
    let (mut response, mut send) =
        client.clone().ready().await.unwrap().send_request(request, false).unwrap();
    send.send_data(Bytes::from_static(b"half "), false).unwrap();
    send.send_data(Bytes::from_static(b"and half"), true).unwrap();
    let hint = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!((hint.status().as_u16(), &hint.headers()["link"]), (103, &HeaderValue::from_static("<x>")));
    let response = response.await.unwrap();
    assert_eq!(response.status(), 204);
    assert!(response.body().is_end_stream());
    let asked = asked.await.unwrap();
    assert!(asked.contains("half ") && asked.contains("and half"), "{asked}");
}

#[tokio::test]
async fn a_response_that_breaks_off_is_reset() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _connection) = client(&proxy).await;
    let (addr, _asked) = origin(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    let (response, _) = ask(&client, get(&format!("http://{addr}/")), true).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(body(response.into_body()).await.is_err());
    until(|| proxy.node.sessions.count() == 0).await;
}

#[tokio::test]
async fn a_kick_reaches_a_client_that_does_not_read() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _connection) = client(&proxy).await;
    let endless = [&b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n"[..], &[b'x'; 4_000_000]].concat();
    let (addr, asked) = origin(endless.leak()).await;
    let (response, _) = ask(&client, get(&format!("http://{addr}/")), true).await.unwrap();
    let moved = || {
        let mut moved = 0;
        proxy.node.sessions.each(|live| moved = live.bytes.total(swiftproxy_core::meter::Direction::Down));
        moved
    };
    // Until the window of 64 KiB is full.
    until(|| moved() > 1 << 16).await;
    proxy.node.sessions.each(|live| live.cancel.fire(swiftproxy_core::cancel::Reason::Kicked));
    until(|| proxy.node.sessions.count() == 0).await;
    assert!(body(response.into_body()).await.is_err());
    asked.abort();
}

#[tokio::test]
async fn what_only_an_origin_can_answer_is_501() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _connection) = client(&proxy).await;
    let (response, _) = ask(&client, get("https://example.org/"), true).await.unwrap();
    assert_eq!(response.status(), 501);
}

#[tokio::test]
async fn a_refusal_in_answer_to_head_has_no_body() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _connection) = client(&proxy).await;
    let (closes, _asked) = origin(b"").await;
    for uri in
        ["http://denied.refused/".to_owned(), "https://example.org/".to_owned(), format!("http://{closes}/")]
    {
        let request = Request::head(&uri).body(()).unwrap();
        let (response, _) = ask(&client, request, true).await.unwrap();
        assert!(response.status().as_u16() >= 400, "{uri}");
        assert!(response.body().is_end_stream(), "{uri}");
    }
}
