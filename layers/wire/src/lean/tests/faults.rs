//! Against peers that break the rules, frame by frame.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEAD, HEADERS, Head, PADDED, PING, PREFACE,
    PRIORITIZED, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, Settings, WINDOW_UPDATE, put,
};
use super::*;

/// A connection to a lean server, in the hand of somebody who may say anything.
struct Rogue {
    socket: TcpStream,
    server: Server,
    driver: JoinHandle<Ending>,
}

impl Rogue {
    async fn client() -> Self {
        let (mut socket, far) = sockets().await;
        let mut hello = PREFACE.to_vec();
        Settings { lean: Some(1), ..Settings::default() }.put(&mut hello, true);
        socket.write_all(&hello).await.unwrap();
        let mut far = Channel::clear(far, Vec::new());
        assert!(knows(&mut far).await.unwrap());
        let (server, driver) = serve(far, WATCH, &Budget::default());
        let mut rogue = Self { socket, server, driver: tokio::spawn(driver) };
        // Settings, window, ping, acknowledgement.
        for _ in 0..4 {
            rogue.frame().await.unwrap();
        }
        let mut ack = Vec::new();
        put(&mut ack, SETTINGS, 1, 0, &[]);
        rogue.say(&ack).await;
        rogue
    }

    async fn say(&mut self, bytes: &[u8]) {
        // The server may have had enough.
        let _ = self.socket.write_all(bytes).await;
    }

    async fn frame(&mut self) -> Option<(Head, Vec<u8>)> {
        let mut head = [0; HEAD];
        self.socket.read_exact(&mut head).await.ok()?;
        let head = Head::parse(&head);
        let mut payload = vec![0; head.length];
        self.socket.read_exact(&mut payload).await.ok()?;
        Some((head, payload))
    }

    /// The next frame of a kind.
    async fn next(&mut self, kind: u8) -> Option<(Head, Vec<u8>)> {
        loop {
            let frame = self.frame().await?;
            if frame.0.kind == kind {
                return Some(frame);
            }
        }
    }

    /// The code by which the connection ends.
    async fn ends(mut self) -> Code {
        let goaway = self.next(GOAWAY).await;
        let ending = self.driver.await.unwrap();
        let Ending::Fault(code, what) = ending else { panic!("{ending:?}") };
        let (_, payload) = goaway.unwrap_or_else(|| panic!("not told: {what}"));
        assert_eq!(payload[4..8], code.0.to_be_bytes());
        code
    }

    /// The code by which a stream ends, and that the connection does not.
    async fn resets(&mut self, stream: u32) -> Code {
        let (head, payload) = self.next(RST_STREAM).await.expect("a reset");
        assert_eq!(head.stream, stream);
        self.say(&one(PING, 0, 0, &[7; 8])).await;
        assert_eq!(self.next(PING).await.expect("alive").1, [7; 8]);
        Code(frame::number(&payload).unwrap())
    }
}

fn one(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, kind, flags, stream, payload);
    out
}

fn block(target: &str) -> Vec<u8> {
    let mut out = Vec::new();
    head::put_request(&request(target), &mut out).unwrap();
    out
}

fn open(stream: u32) -> Vec<u8> {
    one(HEADERS, END_HEADERS, stream, &block("a.example:1"))
}

#[tokio::test]
async fn frames_that_end_the_connection() {
    let opened = open(1);
    let after = |frame: Vec<u8>| [opened.clone(), frame].concat();
    let mut padded = vec![200];
    padded.extend_from_slice(&block("a.example:1"));
    let big =
        |kind: u8| [&Head { length: 1 << 20, kind, flags: 0, stream: 1 }.print()[..], &[0; 10]].concat();
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("data of no stream", one(DATA, 0, 0, b"x"), Code::PROTOCOL_ERROR),
        ("data of an idle stream", one(DATA, 0, 1, b"x"), Code::PROTOCOL_ERROR),
        ("data of a server's stream", one(DATA, 0, 2, b"x"), Code::PROTOCOL_ERROR),
        ("data with padding only", after(one(DATA, PADDED, 1, b"")), Code::FRAME_SIZE_ERROR),
        ("data with too much padding", after(one(DATA, PADDED, 1, &[5, 0, 0, 0, 0])), Code::PROTOCOL_ERROR),
        ("data that is too long", after(big(DATA)), Code::FRAME_SIZE_ERROR),
        ("headers of no stream", one(HEADERS, END_HEADERS, 0, &block("a:1")), Code::PROTOCOL_ERROR),
        ("headers of an even stream", open(2), Code::PROTOCOL_ERROR),
        ("headers of an older stream", [open(5), open(3)].concat(), Code::STREAM_CLOSED),
        ("headers that do not decode", one(HEADERS, END_HEADERS, 1, &[0xff; 8]), Code::COMPRESSION_ERROR),
        ("headers of a dynamic table", one(HEADERS, END_HEADERS, 1, &[0xbe]), Code::COMPRESSION_ERROR),
        (
            "headers with too much padding",
            one(HEADERS, END_HEADERS | PADDED, 1, &padded),
            Code::PROTOCOL_ERROR,
        ),
        (
            "headers with half a priority",
            one(HEADERS, END_HEADERS | PRIORITIZED, 1, &[0; 3]),
            Code::FRAME_SIZE_ERROR,
        ),
        ("headers that are too long", big(HEADERS), Code::FRAME_SIZE_ERROR),
        (
            "a frame inside a block",
            [one(HEADERS, 0, 1, &block("a:1")), one(PING, 0, 0, &[0; 8])].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "another block inside a block",
            [one(HEADERS, 0, 1, &block("a:1")), one(CONTINUATION, END_HEADERS, 3, b"")].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "an unknown frame inside a block",
            [one(HEADERS, 0, 1, &block("a:1")), one(99, 0, 1, b"")].concat(),
            Code::PROTOCOL_ERROR,
        ),
        ("a continuation of nothing", one(CONTINUATION, END_HEADERS, 1, b""), Code::PROTOCOL_ERROR),
        (
            "continuations without end",
            [one(HEADERS, 0, 1, b""), one(CONTINUATION, 0, 1, b"").repeat(100)].concat(),
            Code::ENHANCE_YOUR_CALM,
        ),
        (
            "a block without end",
            [one(HEADERS, 0, 1, b""), one(CONTINUATION, 0, 1, &[0; 16384]).repeat(3)].concat(),
            Code::ENHANCE_YOUR_CALM,
        ),
        ("a priority of no stream", one(PRIORITY, 0, 0, &[0; 5]), Code::PROTOCOL_ERROR),
        ("a reset of no stream", one(RST_STREAM, 0, 0, &[0; 4]), Code::PROTOCOL_ERROR),
        ("a reset of an idle stream", one(RST_STREAM, 0, 1, &[0; 4]), Code::PROTOCOL_ERROR),
        ("a reset of three bytes", after(one(RST_STREAM, 0, 1, &[0; 3])), Code::FRAME_SIZE_ERROR),
        ("settings of a stream", one(SETTINGS, 0, 1, &[]), Code::PROTOCOL_ERROR),
        ("settings of five bytes", one(SETTINGS, 0, 0, &[0; 5]), Code::FRAME_SIZE_ERROR),
        ("a push that is enabled twice", one(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]), Code::PROTOCOL_ERROR),
        ("a window that is too large", one(SETTINGS, 0, 0, &[0, 4, 0xff, 0, 0, 0]), Code::FLOW_CONTROL_ERROR),
        ("a frame size that is too small", one(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]), Code::PROTOCOL_ERROR),
        ("an acknowledgement with a payload", one(SETTINGS, 1, 0, &[0; 6]), Code::FRAME_SIZE_ERROR),
        ("an acknowledgement of nothing", one(SETTINGS, 1, 0, &[]), Code::PROTOCOL_ERROR),
        ("a push", after(one(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])), Code::PROTOCOL_ERROR),
        ("a ping of a stream", one(PING, 0, 1, &[0; 8]), Code::PROTOCOL_ERROR),
        ("a ping of seven bytes", one(PING, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR),
        ("a goaway of a stream", one(GOAWAY, 0, 1, &[0; 8]), Code::PROTOCOL_ERROR),
        ("a goaway of seven bytes", one(GOAWAY, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR),
        ("a window update of nothing", one(WINDOW_UPDATE, 0, 0, &[0; 4]), Code::PROTOCOL_ERROR),
        ("a window update of three bytes", one(WINDOW_UPDATE, 0, 0, &[0; 3]), Code::FRAME_SIZE_ERROR),
        ("a window update of an idle stream", one(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), Code::PROTOCOL_ERROR),
        (
            "a window beyond its bound",
            one(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            Code::FLOW_CONTROL_ERROR,
        ),
        (
            "streams' windows beyond their bound",
            after(
                [
                    one(WINDOW_UPDATE, 0, 1, &[0x7f, 0, 0, 0]),
                    one(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
                ]
                .concat(),
            ),
            Code::FLOW_CONTROL_ERROR,
        ),
        (
            "more than the connection's window",
            after(one(DATA, 0, 1, &[0; 16384]).repeat(0x1000)),
            Code::FLOW_CONTROL_ERROR,
        ),
    ];
    for (what, bytes, code) in cases {
        // A stream's own window comes first.
        if what == "more than the connection's window" {
            continue;
        }
        let mut rogue = Rogue::client().await;
        rogue.say(&bytes).await;
        let ends = tokio::time::timeout(Duration::from_secs(5), rogue.ends()).await;
        assert_eq!(ends.unwrap_or_else(|_| panic!("{what}: it goes on")), code, "{what}");
    }
}

#[tokio::test]
async fn frames_that_end_their_stream_only() {
    let ended = one(HEADERS, END_HEADERS | END_STREAM, 1, &block("a.example:1"));
    let mut malformed = Vec::new();
    hpack::encode(&mut malformed, ":method", b"CONNECT", false);
    let mut bomb = Vec::new();
    for _ in 0..500 {
        hpack::encode(&mut bomb, "a", b"0123456789", false);
    }
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("a request without a target", one(HEADERS, END_HEADERS, 1, &malformed), Code::PROTOCOL_ERROR),
        ("a header bomb", one(HEADERS, END_HEADERS, 1, &bomb), Code::PROTOCOL_ERROR),
        ("trailers", [open(1), open(1)].concat(), Code::PROTOCOL_ERROR),
        ("data behind the end", [ended.clone(), one(DATA, 0, 1, b"x")].concat(), Code::STREAM_CLOSED),
        ("headers behind the end", [ended.clone(), open(1)].concat(), Code::STREAM_CLOSED),
        (
            "more than its window",
            [open(1), one(DATA, 0, 1, &[0; 16384]).repeat(5)].concat(),
            Code::FLOW_CONTROL_ERROR,
        ),
        (
            "a window update of nothing",
            [open(1), one(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a window beyond its bound",
            [open(1), one(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])].concat(),
            Code::FLOW_CONTROL_ERROR,
        ),
        (
            "a priority of four bytes",
            [open(1), one(PRIORITY, 0, 1, &[0; 4])].concat(),
            Code::FRAME_SIZE_ERROR,
        ),
    ];
    for (what, bytes, code) in cases {
        let mut rogue = Rogue::client().await;
        rogue.say(&bytes).await;
        let resets = tokio::time::timeout(Duration::from_secs(5), rogue.resets(1)).await;
        assert_eq!(resets.unwrap_or_else(|_| panic!("{what}: it goes on")), code, "{what}");
        assert_eq!(rogue.server.streams(), 0, "{what}");
    }
}

#[tokio::test]
async fn frames_that_change_nothing() {
    let mut rogue = Rogue::client().await;
    let harmless = [
        one(99, 0xff, 0, b"unknown"),
        one(99, 0xff, 77, b"unknown"),
        one(PRIORITY, 0, 9, &[0; 5]),
        open(1),
        one(DATA, PADDED, 1, &[3, b'a', b'b', 0, 0, 0]),
        one(DATA, PADDED, 1, &[0]),
        one(DATA, 0, 1, b""),
        one(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        // What was on its way when the stream was reset.
        one(DATA, 0, 1, b"late"),
        one(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]),
        one(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        // A block in pieces, and with priority and padding.
        one(
            HEADERS,
            PADDED | PRIORITIZED,
            3,
            &[&[2, 0, 0, 0, 0, 0][..], &block("b.example:2")[..3], &[0; 2]].concat(),
        ),
        one(CONTINUATION, 0, 3, b""),
        one(CONTINUATION, END_HEADERS, 3, &block("b.example:2")[3..]),
    ];
    // Byte by byte, too.
    for byte in harmless.concat() {
        rogue.say(&[byte]).await;
    }
    assert_eq!(rogue.server.accept().await.unwrap().0.uri(), "a.example:1");
    let (asked, responder) = rogue.server.accept().await.unwrap();
    assert_eq!(asked.uri(), "b.example:2");
    let mut end = responder.respond(&Response::new(()), false).unwrap();
    rogue.say(&one(DATA, PADDED | END_STREAM, 3, &[2, b'h', b'i', 0, 0])).await;
    assert_eq!(receive(&mut end).await.unwrap(), b"hi");
    rogue.say(&one(PING, 0, 0, &[7; 8])).await;
    while rogue.next(PING).await.unwrap().1 != [7; 8] {}
}

#[tokio::test]
async fn something_before_the_settings() {
    for frame in [one(PING, 0, 0, &[0; 8]), one(SETTINGS, 1, 0, &[])] {
        let (mut socket, far) = sockets().await;
        socket.write_all(&[&PREFACE[..], &frame].concat()).await.unwrap();
        let mut far = Channel::clear(far, Vec::new());
        assert!(!knows(&mut far).await.unwrap());
        let (_server, driver) = serve(far, WATCH, &Budget::default());
        assert!(matches!(driver.await, Ending::Fault(Code::PROTOCOL_ERROR, _)));
    }
}

/// What is answered is not read, or it would be a mere exchange.
#[tokio::test]
async fn floods_end_in_a_bound() {
    let opened_and_reset: Vec<u8> = (0..3000)
        .flat_map(|n| [open(2 * n + 1), one(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())
        .collect();
    let floods: Vec<(&str, Vec<u8>)> = vec![
        ("pings", one(PING, 0, 0, &[0; 8]).repeat(5000)),
        ("settings", one(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]).repeat(5000)),
        ("empty data", [open(1), one(DATA, 0, 1, b"").repeat(5000)].concat()),
        ("window updates", one(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(5000)),
        ("priorities", one(PRIORITY, 0, 1, &[0; 5]).repeat(5000)),
        ("unknown frames", one(99, 0, 0, b"").repeat(5000)),
        ("late frames", [open(1), one(RST_STREAM, 0, 1, &[0; 4]).repeat(5000)].concat()),
        ("rapid resets", opened_and_reset),
        (
            "malformed requests",
            (0..5000).flat_map(|n| one(HEADERS, END_HEADERS, 2 * n + 1, &[0x82])).collect(),
        ),
    ];
    for (what, bytes) in floods {
        let mut rogue = Rogue::client().await;
        let (mut read, mut write) = rogue.socket.split();
        let reading = async {
            let mut sink = vec![0; 64 * 1024];
            while read.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        };
        let _ = tokio::join!(write.write_all(&bytes), reading);
        let ending = tokio::time::timeout(Duration::from_secs(5), rogue.driver).await;
        let ending = ending.unwrap_or_else(|_| panic!("{what}: it goes on")).unwrap();
        assert!(matches!(ending, Ending::Fault(Code::ENHANCE_YOUR_CALM, _)), "{what}: {ending:?}");
    }
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused() {
    let mut rogue = Rogue::client().await;
    for n in 0..MAX_STREAMS {
        rogue.say(&open(2 * n + 1)).await;
    }
    let last = 2 * MAX_STREAMS + 1;
    rogue.say(&open(last)).await;
    assert_eq!(rogue.resets(last).await, Code::REFUSED_STREAM);
    assert_eq!(rogue.server.streams(), MAX_STREAMS as usize);
}

/// A lean client whose server may say anything.
async fn rogue_server(frames: &[u8]) -> (Client, JoinHandle<Ending>, TcpStream, Opening) {
    let (near, mut socket) = sockets().await;
    let mut hello = Vec::new();
    Settings { lean: Some(1), ..Settings::default() }.put(&mut hello, false);
    put(&mut hello, SETTINGS, 1, 0, &[]);
    socket.write_all(&hello).await.unwrap();
    let (client, driver) = connect(Channel::clear(near, Vec::new()), WATCH, true).await.unwrap();
    let driver = tokio::spawn(driver);
    let opening = client.open(&request("a.example:1"), false).unwrap();
    socket.write_all(frames).await.unwrap();
    (client, driver, socket, opening)
}

#[tokio::test]
async fn servers_that_break_rules() {
    let mut ok = Vec::new();
    head::put_response(&Response::new(()), &mut ok);
    let answer = one(HEADERS, END_HEADERS, 1, &ok);
    let mut switching = Vec::new();
    hpack::encode(&mut switching, ":status", b"101", false);
    let streams: Vec<(&str, Vec<u8>, Code)> = vec![
        ("data before the answer", one(DATA, 0, 1, b"x"), Code::PROTOCOL_ERROR),
        ("an answer without a status", one(HEADERS, END_HEADERS, 1, &[0x82]), Code::PROTOCOL_ERROR),
        ("101", one(HEADERS, END_HEADERS, 1, &switching), Code::PROTOCOL_ERROR),
        ("refused", one(RST_STREAM, 0, 1, &[0, 0, 0, 7]), Code::REFUSED_STREAM),
        ("not seen", one(GOAWAY, 0, 0, &[0; 8]), Code::REFUSED_STREAM),
    ];
    for (what, bytes, expected) in streams {
        let (_client, _driver, _socket, opening) = rogue_server(&bytes).await;
        assert_eq!(code(&opening.await.expect_err(what)), Some(expected), "{what}");
    }
    let connections: Vec<(&str, Vec<u8>)> = vec![
        ("an answer to nothing", one(HEADERS, END_HEADERS, 3, &ok)),
        ("a push", one(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("a stream of the server's", one(HEADERS, END_HEADERS, 2, &ok)),
        ("data of no stream", one(DATA, 0, 0, b"x")),
    ];
    for (what, bytes) in connections {
        let (_client, driver, _socket, opening) = rogue_server(&bytes).await;
        assert!(matches!(driver.await.unwrap(), Ending::Fault(Code::PROTOCOL_ERROR, _)), "{what}");
        assert_eq!(opening.await.expect_err(what).kind(), io::ErrorKind::ConnectionAborted);
    }
    let mut hint = Vec::new();
    hpack::encode(&mut hint, ":status", b"103", false);
    let hinted = [one(HEADERS, END_HEADERS, 1, &hint), answer.clone(), answer].concat();
    let (_client, _driver, _socket, opening) = rogue_server(&hinted).await;
    let (response, mut end) = opening.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(code(&receive(&mut end).await.expect_err("trailers")), Some(Code::PROTOCOL_ERROR));
    // An error of the server's own, and a connection that just ends.
    let (_client, driver, _socket, opening) =
        rogue_server(&one(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 2])).await;
    assert_eq!(driver.await.unwrap(), Ending::Peer(Code::INTERNAL_ERROR));
    assert_eq!(opening.await.expect_err("ended").kind(), io::ErrorKind::ConnectionAborted);
    let (_client, driver, socket, opening) = rogue_server(b"").await;
    drop(socket);
    assert!(matches!(driver.await.unwrap(), Ending::Io(..)));
    assert_eq!(opening.await.expect_err("ended").kind(), io::ErrorKind::ConnectionAborted);
}

mod any_bytes {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn never_panic(frames in prop::collection::vec((0_u8..11, any::<u8>(), 0_u32..6, prop::collection::vec(any::<u8>(), 0..40)), 0..20), cut in 1_usize..50) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut rogue = Rogue::client().await;
                let mut bytes = open(1);
                for (kind, flags, stream, payload) in &frames {
                    put(&mut bytes, *kind, *flags, *stream, payload);
                }
                for piece in bytes.chunks(cut) {
                    rogue.say(piece).await;
                }
                drop(rogue.socket);
                rogue.driver.await.unwrap();
            });
        }
    }
}
