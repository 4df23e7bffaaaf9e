//! A whole connection of a client to the front, over loopback, with stub layers inside: whatever the client and the
//! target say, the connection ends with them, success is said of nothing that was refused, and what is forwarded
//! has one reading.
//!
//! The input: flags, the size of the client's pieces, how much of the rest the client says (two bytes), the rest of
//! which the target says.
#![no_main]

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Method;
use libfuzzer_sys::fuzz_target;
use swiftproxy_core::BoxFuture;
use swiftproxy_core::account::{Account, AccountRate, AccountSpec, Accounts};
use swiftproxy_core::connection::Connection;
use swiftproxy_core::credentials::{Authenticator, Credentials};
use swiftproxy_core::endpoint::{AsStream, Endpoint};
use swiftproxy_core::error::Refusal;
use swiftproxy_core::listener::Listener;
use swiftproxy_core::node::Node;
use swiftproxy_core::opened::{Engine, Opened};
use swiftproxy_core::registry::{Build, LayerConfig};
use swiftproxy_core::session::Session;
use swiftproxy_core::stack::{Front, Stack};
use swiftproxy_detect::{Config, Protocol};
use swiftproxy_fuzz::loopback::{Loopback, quiet, talk};
use swiftproxy_wire::http1::{BodyLength, ChunkedDecoder, Step, parse_request, parse_response};
use swiftproxy_wire::{socks4, socks5};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tower::Layer;

/// What one target was told.
#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    over: bool,
    waits: Option<Waker>,
}

/// A target that says what it has to say, then ends; of forwarded HTTP not before it was asked.
struct Script {
    says: Vec<u8>,
    said: usize,
    asked_first: bool,
    heard: Arc<Mutex<Heard>>,
}

impl Endpoint for Script {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut heard = self.heard.lock().expect("lock");
        if self.asked_first && heard.bytes.is_empty() && !heard.over {
            heard.waits = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        let n = (self.says.len() - self.said).min(into.len());
        into[..n].copy_from_slice(&self.says[self.said..self.said + n]);
        self.said += n;
        Poll::Ready(Ok(n))
    }

    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut heard = self.heard.lock().expect("lock");
        heard.bytes.extend_from_slice(bytes);
        if let Some(waker) = heard.waits.take() {
            waker.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut heard = self.heard.lock().expect("lock");
        heard.over = true;
        if let Some(waker) = heard.waits.take() {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self) {}
}

/// The plainest engine there is.
struct Pump;

impl Engine for Pump {
    fn run(&self, session: Session, client: Box<dyn Endpoint>, target: Box<dyn Endpoint>) -> BoxFuture<()> {
        Box::pin(async move {
            let _session = session;
            let (client_in, client_out) = tokio::io::split(AsStream(client));
            let (target_in, target_out) = tokio::io::split(AsStream(target));
            tokio::join!(pump(client_in, target_out), pump(target_in, client_out));
        })
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut into: impl AsyncWrite + Unpin) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if into.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    let _ = into.shutdown().await;
}

/// Knows `alice` with the password `b`.
struct Passwords(Arc<Account>);

impl Authenticator for Passwords {
    fn wants_password(&self, _: SocketAddr) -> bool {
        true
    }

    fn known(&self, _: SocketAddr, _: Option<&Credentials>) -> Option<Arc<Account>> {
        None
    }

    fn verify(&self, _: SocketAddr, sent: Option<Credentials>) -> BoxFuture<Result<Arc<Account>, Refusal>> {
        let right = sent.as_ref().map(|sent| &*sent.name == "alice" && sent.password.expose() == "b");
        let account = self.0.clone();
        Box::pin(async move {
            match right {
                None => Err(Refusal::AuthRequired),
                Some(false) => Err(Refusal::AuthFailed),
                Some(true) => Ok(account),
            }
        })
    }
}

fn alice() -> Arc<Account> {
    let accounts = Accounts::default();
    accounts.set_file(vec![AccountSpec {
        row: None,
        name: "alice".to_owned(),
        password: None,
        enabled: true,
        up: AccountRate::Unlimited,
        down: AccountRate::Unlimited,
        weight: 1,
    }]);
    accounts.get("alice").expect("just added")
}

/// What the stub layers go by in one run.
#[derive(Default)]
struct Play {
    refuses: bool,
    says: Vec<u8>,
    targets: Vec<(&'static str, Arc<Mutex<Heard>>)>,
}

struct World {
    runtime: Runtime,
    loopback: Loopback,
    listener: Arc<Listener>,
    /// Without a login, and with one.
    fronts: [Front; 2],
    play: Arc<Mutex<Play>>,
}

impl World {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let loopback = Loopback::new(&runtime);
        let node = Node::new("fuzz");
        let listener = Listener::new(&node, "fuzz");
        let play = Arc::new(Mutex::new(Play::default()));
        let front = |login: bool| {
            use Protocol::{Classic, Http, Socks4, Socks5, Tunnel};
            let protocols = Some(vec![Socks5, Socks4, Http, Tunnel, Classic]);
            let config = Config { protocols, ..Config::default() };
            let bind = loopback.addr();
            let mut build = Build::new(&node, &listener, bind, "layers.detect", std::path::Path::new("/"));
            build.authenticator = login.then(|| Arc::new(Passwords(alice())) as Arc<dyn Authenticator>);
            let layer = config.build(&mut build).expect("built");
            build.commit();
            Front::new(layer.layer(stub(play.clone(), login)))
        };
        let fronts = [front(false), front(true)];
        Self { runtime, loopback, listener, fronts, play }
    }

    /// One connection: what the client was told, after everything ended.
    async fn connection(&self, login: bool, says: &[u8], piece: usize) -> Vec<u8> {
        let (client, stream, peer) = self.loopback.pair().await;
        let serving = self.fronts[usize::from(login)].serve(Connection {
            stream,
            client: peer,
            listener: self.listener.clone(),
        });
        let both = async { tokio::join!(serving, talk(client, says, piece)).1 };
        let told = tokio::time::timeout(Duration::from_secs(5), both).await;
        quiet().await;
        told.expect("it ends when the client has")
    }
}

fn stub(play: Arc<Mutex<Play>>, login: bool) -> Stack {
    Stack::new(tower::service_fn(move |mut session: Session| {
        let play = play.clone();
        async move {
            if login && session.account().is_none() {
                let (client, sent) = (session.client(), session.credentials.take());
                session.set_account(Passwords(alice()).verify(client, sent).await?);
            }
            let protocol = session.live().protocol;
            let heard = Arc::new(Mutex::new(Heard::default()));
            let says = {
                let mut play = play.lock().expect("lock");
                if play.refuses {
                    return Err(Refusal::Refused);
                }
                play.targets.push((protocol, heard.clone()));
                play.says.clone()
            };
            let target = Script { says, said: 0, asked_first: protocol == "http", heard };
            let bound = "192.0.2.77:4711".parse().ok();
            Ok(Opened::new(session, bound, Box::new(target), Arc::new(Pump)))
        }
    }))
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// Nothing that was refused was called a success.
fn no_success(says: &[u8], told: &[u8]) {
    match says.first() {
        Some(5) => {
            let Ok(Some((_, n))) = socks5::MethodReply::parse(told) else { return };
            let login =
                |told| Ok::<_, ()>(socks5::LoginReply::parse(told).ok().flatten().map_or(0, |(_, n)| n));
            let n = n + login(&told[n..]).unwrap_or_default();
            if let Ok(Some((reply, _))) = socks5::Reply::parse(&told[n..]) {
                assert_ne!(reply.code, socks5::ReplyCode::SUCCEEDED);
            }
        }
        Some(4) => {
            if let Ok(Some((reply, _))) = socks4::Reply::parse(told) {
                assert_ne!(reply.code, socks4::Reply::GRANTED);
            }
        }
        Some(b'{') => assert!(told.is_empty(), "{}", told.escape_ascii()),
        // A client that begins with the preface of HTTP/2 is answered in frames.
        Some(byte) if byte.is_ascii_alphabetic() && !says.starts_with(b"PRI ") && !told.is_empty() => {
            let first = parse_response(&Method::GET, told).expect("HTTP").expect("a whole head").0;
            let status = first.status;
            assert!(status.is_client_error() || status.is_server_error() || status == 100, "{status}");
        }
        _ => {}
    }
}

/// What follows a body at the front of `bytes`; none where the body is not over.
fn behind(body: BodyLength, mut bytes: &[u8]) -> Option<&[u8]> {
    match body {
        BodyLength::None => Some(bytes),
        BodyLength::Length(n) => bytes.get(usize::try_from(n).ok()?..),
        BodyLength::UntilClose => None,
        BodyLength::Chunked => {
            let mut decoder = ChunkedDecoder::new();
            loop {
                let (step, n) = decoder.step(bytes).expect("chunks of ours");
                bytes = &bytes[n..];
                match step {
                    Step::Data(_) => {}
                    Step::End(_) => return Some(bytes),
                    Step::More => return None,
                }
            }
        }
    }
}

/// What an origin was told are requests, one after the other, each with one reading and nothing of this hop's.
fn forwarded(mut heard: &[u8]) {
    while !heard.is_empty() {
        let all = heard.escape_ascii().to_string();
        let Some((head, n)) = parse_request(heard).expect(&all) else { return };
        for name in ["proxy-authorization", "proxy-connection", "keep-alive"] {
            assert!(!head.headers.contains_key(name), "{name}: {all}");
        }
        // Its own options are the forwarder's to name; others' were for this hop.
        for value in head.headers.get_all("connection") {
            let mut options = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            let own = |option: &[u8]| [&b"te"[..], b"upgrade", b"close", b"keep-alive"].contains(&option);
            assert!(options.all(|option| own(&option.to_ascii_lowercase())), "{all}");
        }
        // Of another protocol after an upgrade nothing is known here.
        match behind(head.body, &heard[n..]) {
            Some(rest) if !head.headers.contains_key("upgrade") => heard = rest,
            _ => return,
        }
    }
}

/// What an HTTP client was told are answers to what it asked, one each, and nothing else; whatever the target said.
fn answered(mut says: &[u8], mut told: &[u8]) {
    let all = told.escape_ascii().to_string();
    while !told.is_empty() {
        // Of something that is no request there is one answer, the last.
        let (method, rest) = match parse_request(says) {
            Ok(Some((head, n))) => {
                let rest = match head.body {
                    // A client's chunks may be wrong; then there is no next request.
                    BodyLength::Chunked => None,
                    body => behind(body, &says[n..]),
                };
                let known = head.body != BodyLength::Chunked;
                (head.method, if known { Some(rest.unwrap_or_default()) } else { None })
            }
            _ => (Method::GET, Some(&b""[..])),
        };
        let last = says.is_empty();
        let Some((head, n)) = parse_response(&method, told).expect(&all) else { return };
        assert!(!last, "an answer to nothing: {all}");
        told = &told[n..];
        let tunnel = method == Method::CONNECT && head.status.is_success();
        if head.status == 101 || tunnel {
            return;
        }
        if head.status.is_informational() {
            continue;
        }
        let (Some(rest), Some(left)) = (rest, behind(head.body, told)) else { return };
        (says, told) = (rest, left);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [flags, piece, high, low, rest @ ..] = bytes else { return };
    let (refuses, login) = (flags & 1 != 0, flags & 2 != 0);
    let n = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (says, target_says) = rest.split_at(n);
    WORLD.with_borrow(|world| {
        *world.play.lock().expect("lock") = Play { refuses, says: target_says.to_vec(), targets: Vec::new() };
        let piece = usize::from(*piece).max(1);
        let told = world.runtime.block_on(world.connection(login, says, piece));
        if says.first().is_some_and(u8::is_ascii_alphabetic) && !says.starts_with(b"PRI ") {
            answered(says, &told);
        }
        let targets = std::mem::take(&mut world.play.lock().expect("lock").targets);
        if refuses {
            assert!(targets.is_empty());
            no_success(says, &told);
        }
        for (protocol, heard) in targets {
            if protocol == "http" {
                forwarded(&heard.lock().expect("lock").bytes);
            }
        }
    });
});
