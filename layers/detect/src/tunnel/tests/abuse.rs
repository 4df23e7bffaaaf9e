//! What a hostile client sends, frame by frame (RFC 9113 §10.5): each ends in a bound.

use tokio::io::{DuplexStream, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 4;

const ENHANCE_YOUR_CALM: u8 = 0xb;
const FLOW_CONTROL_ERROR: u8 = 3;

/// What the connection holds in either direction: a flood that is answered without bound would never fill it.
const PIPE: usize = 64 << 10;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field as HPACK says it without its tables (RFC 7541 §6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [&[0][..], &text(name), &text(value)].concat()
}

fn connect_fields(target: &str) -> Vec<u8> {
    [field(":method", "CONNECT"), field(":authority", target)].concat()
}

/// A connection of which only the preface and empty settings were sent.
async fn raw(proxy: &Proxy) -> (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>) {
    let (near, far) = tokio::io::duplex(PIPE);
    let ctx = proxy.front.context(proxy.addr).unwrap();
    let (served, deadline) = (proxy.served.clone(), Instant::now() + ctx.settings.handshake_timeout);
    tokio::spawn(async move {
        serve(ctx, near, None, deadline).await;
        served.fetch_add(1, SeqCst);
    });
    let (from, mut into) = tokio::io::split(far);
    into.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    into.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    (from, into)
}

/// Sends `flood` piece by piece while reading, and tells the code of the GOAWAY that ends it.
async fn ended_by(proxy: &Proxy, flood: impl Iterator<Item = Vec<u8>>) -> u8 {
    let (mut from, mut into) = raw(proxy).await;
    let write = async {
        for piece in flood {
            if into.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(write, from.read_to_end(&mut got));
    read.unwrap();
    until(|| proxy.served.load(SeqCst) == 1 && proxy.node.sessions.count() == 0).await;
    // The last GOAWAY's code; debug data may follow it.
    let mut frames = &got[..];
    let mut code = 0;
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        let (payload, rest) = rest.split_at(u32::from_be_bytes([0, *a, *b, *c]) as usize);
        if *kind == 7 {
            code = payload[7];
        }
        frames = rest;
    }
    code
}

#[tokio::test]
async fn rapid_reset() {
    let proxy = Proxy::start(CONFIG, None).await;
    let flood = (0..).map(|n| {
        let id = n * 2 + 1;
        let open = frame(HEADERS, END_HEADERS, id, &connect_fields("hang:1"));
        [open, frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    });
    // Many in one segment, as the attack has it.
    let mut flood = flood.take(100_000);
    let flood = std::iter::from_fn(move || {
        let some: Vec<u8> = flood.by_ref().take(1000).flatten().collect();
        (!some.is_empty()).then_some(some)
    });
    assert_eq!(ended_by(&proxy, flood).await, ENHANCE_YOUR_CALM);
    assert!(proxy.seen().len() < 50_000);
}

#[tokio::test]
async fn continuation_without_end() {
    let proxy = Proxy::start(CONFIG, None).await;
    let first = frame(HEADERS, 0, 1, &connect_fields("a.example:1"));
    let rest = std::iter::repeat_with(|| frame(CONTINUATION, 0, 1, &field("x", "y"))).take(100_000);
    assert_eq!(ended_by(&proxy, std::iter::once(first).chain(rest)).await, ENHANCE_YOUR_CALM);
    assert!(proxy.seen().is_empty());
}

#[tokio::test]
async fn empty_data() {
    let proxy = Proxy::start(CONFIG, None).await;
    let first = frame(HEADERS, END_HEADERS, 1, &connect_fields("hang:1"));
    let rest = std::iter::repeat_with(|| frame(DATA, 0, 1, &[])).take(100_000);
    assert_eq!(ended_by(&proxy, std::iter::once(first).chain(rest)).await, ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn a_window_that_overflows() {
    let proxy = Proxy::start(CONFIG, None).await;
    let flood = std::iter::repeat_with(|| frame(WINDOW_UPDATE, 0, 0, &i32::MAX.to_be_bytes())).take(2);
    assert_eq!(ended_by(&proxy, flood).await, FLOW_CONTROL_ERROR);
}

#[tokio::test]
async fn a_header_list_that_is_too_long() {
    let proxy = Proxy::start(CONFIG, None).await;
    let (client, _connection) = client(&proxy).await;
    let bomb = |fields: usize| {
        let mut bomb = connect("a.example:1", None);
        for n in 0..fields {
            let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
            bomb.headers_mut().insert(name, HeaderValue::try_from("y".repeat(1000)).unwrap());
        }
        bomb
    };
    let (response, _) = ask(&client, bomb(20), false).await.unwrap();
    assert_eq!(response.status(), 431);
    let (response, _) = ask(&client, connect("a.example:1", None), false).await.unwrap();
    assert_eq!(response.status(), 200, "the others go on");
    // One that is far too long is not even read to its end, and no list after it could be.
    let error = ask(&client, bomb(200), false).await.expect_err("a bomb");
    assert!(matches!(error.reason(), Some(Reason::COMPRESSION_ERROR | Reason::ENHANCE_YOUR_CALM)), "{error}");
    assert_eq!(proxy.seen().len(), 1);
}

/// A flood whose answers nobody reads must not be read on and on.
async fn stalls(flood: Vec<u8>) {
    let proxy = Proxy::start(CONFIG, None).await;
    let (_from, mut into) = raw(&proxy).await;
    let flood = flood.repeat(1000);
    let mut sent = 0;
    // Either it is no longer read, or the connection is closed.
    while let Ok(Ok(())) = timeout(Duration::from_millis(500), into.write_all(&flood)).await {
        sent += flood.len();
        assert!(sent < 32 * PIPE, "{sent} bytes, and still read");
    }
}

#[tokio::test]
async fn pings_whose_answers_nobody_reads() {
    stalls(frame(PING, 0, 0, &[0; 8])).await;
}

#[tokio::test]
async fn settings_whose_answers_nobody_reads() {
    stalls(frame(SETTINGS, 0, 0, &[])).await;
}
