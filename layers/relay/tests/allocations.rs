//! A running transfer allocates nothing for what passes, and a session that idles holds no buffer: over one hop, copied
//! and spliced, and through the lean tunnel, encrypted and not. Allocations are counted by thread, and everything
//! runs on one.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what it missed")]

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use http::{Request, Response};
use swiftproxy_core::endpoint::{Endpoint, Tcp};
use swiftproxy_core::listener::Listener;
use swiftproxy_core::node::Node;
use swiftproxy_core::opened;
use swiftproxy_core::session::Session;
use swiftproxy_relay::engine::Engine;
use swiftproxy_wire::lean::{self, Client, Server, Watch};
use swiftproxy_wire::record::{self, Accepted, Channel};
use swiftproxy_wire::tls::{Trust, client_config, pin_of, server_config, server_name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// What is transferred to warm up, and while allocations are counted: a thousand chunks and more.
const MUCH: usize = 64 << 20;
/// What each of many sessions transfers before it idles.
const LITTLE: usize = 1 << 20;
const SESSIONS: usize = 100;
/// What passes for one allocation, at the least: a partial write's remainder, the credit for a window. A chunk or
/// frame is 16 KiB.
const FOR_ONE: usize = 50 * (16 << 10);
/// What a session may keep when it idles after use, above what it held before: less than half of any buffer. The pools
/// that all sessions share may have grown by two or three meanwhile, which is in it.
const KEPT: i64 = 7 << 10;

const WATCH: Watch = Watch {
    quiet: Duration::from_secs(600),
    busy: Duration::from_secs(600),
    doubt: Duration::from_secs(600),
    patience: Duration::from_secs(600),
};

/// How a session's bytes travel.
#[derive(Debug, Clone, Copy)]
enum Way {
    Copied,
    Spliced,
    Clear,
    Encrypted,
}

const WAYS: [Way; 4] = [Way::Copied, Way::Spliced, Way::Clear, Way::Encrypted];

/// A node's engine, and a tunnel between two roles that share it.
struct House {
    runtime: Runtime,
    listener: Arc<Listener>,
    engine: Arc<dyn opened::Engine>,
    tunnel: Option<(Client, Server)>,
}

/// What a client and its target hold of a session.
struct Ends {
    client: TcpStream,
    target: TcpStream,
}

impl House {
    fn new(way: Way) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let node = Node::new("test");
        let engine = Engine::of(&node, matches!(way, Way::Spliced));
        let listener = Listener::new(&node, "test");
        let tunnel = match way {
            Way::Copied | Way::Spliced => None,
            Way::Clear => Some(runtime.block_on(tunnel(false))),
            Way::Encrypted => Some(runtime.block_on(tunnel(true))),
        };
        Self { runtime, listener, engine, tunnel }
    }

    /// Opens a session whose ends are plain sockets.
    fn open(&mut self) -> Ends {
        let Self { runtime, listener, engine, tunnel } = self;
        runtime.block_on(async {
            let ((client, near), (far, target)) = tokio::join!(sockets(), sockets());
            let run = |client: Box<dyn Endpoint>, target: Box<dyn Endpoint>| {
                let name = "example.com:80".parse().unwrap();
                let from = "127.0.0.1:1".parse().unwrap();
                let session = Session::admit(listener, from, "socks5", name).unwrap();
                tokio::spawn(engine.run(session, client, target));
            };
            let (near, far) = (Box::new(Tcp::new(near)), Box::new(Tcp::new(far)));
            match tunnel {
                None => run(near, far),
                Some((client, server)) => {
                    let asked = Request::connect("example.com:80").body(()).unwrap();
                    let opening = client.open(&asked, false).unwrap();
                    let (_, responder) = server.accept().await.unwrap();
                    run(Box::new(responder.respond(&Response::new(()), false).unwrap()), far);
                    let (_, end) = opening.await.unwrap();
                    run(near, Box::new(end));
                }
            }
            Ends { client, target }
        })
    }

    /// Moves so many bytes each way, one way after the other.
    fn transfer(&self, ends: &mut Ends, n: usize, buffer: &mut [u8]) {
        self.runtime.block_on(async {
            carry(&mut ends.target, &mut ends.client, n, buffer).await;
            carry(&mut ends.client, &mut ends.target, n, buffer).await;
        });
    }
}

async fn carry(from: &mut TcpStream, to: &mut TcpStream, n: usize, buffer: &mut [u8]) {
    static CHUNK: [u8; 64 << 10] = [7; 64 << 10];
    let send = async {
        for _ in 0..n / CHUNK.len() {
            from.write_all(&CHUNK).await.unwrap();
        }
    };
    let receive = async {
        let mut left = n;
        while left > 0 {
            let most = buffer.len().min(left);
            match to.read(&mut buffer[..most]).await.unwrap() {
                0 => panic!("{left} bytes are missing"),
                got => left -= got,
            }
        }
    };
    tokio::join!(send, receive);
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (ours.unwrap(), theirs.unwrap().0)
}

async fn tunnel(tls: bool) -> (Client, Server) {
    let (near, far) = sockets().await;
    let (near, mut far) = match tls {
        false => (Channel::clear(near, Vec::new()), Channel::clear(far, Vec::new())),
        true => shake(near, far).await,
    };
    let serve = async {
        assert!(lean::knows(&mut far).await.unwrap());
        let (server, driver) = lean::serve(far, WATCH, &lean::Budget::default());
        tokio::spawn(driver);
        server
    };
    let (client, server) = tokio::join!(lean::connect(near, WATCH, true), serve);
    let (client, driver) = client.unwrap();
    tokio::spawn(driver);
    (client, server)
}

async fn shake(near: TcpStream, far: TcpStream) -> (Channel, Channel) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let trust = Trust::Pins(pin_of(made.cert.der()).unwrap().parse().unwrap());
    let (client, server) = (client_config(&trust).unwrap(), server_config(&cert, &key).unwrap());
    let name = server_name("localhost").unwrap();
    let (near, far) =
        tokio::join!(record::connect(near, client, name), record::accept(far, Vec::new(), server, b"h2"));
    let Accepted::Channel(far) = far.unwrap() else { panic!("TLS 1.3 and h2 were offered") };
    (near.unwrap(), far)
}

#[test]
fn a_running_transfer_allocates_nothing_for_what_passes() {
    for way in WAYS {
        let mut house = House::new(way);
        let mut ends = house.open();
        let mut buffer = vec![0; 256 << 10];
        house.transfer(&mut ends, MUCH, &mut buffer);
        let found = measure(|| house.transfer(&mut ends, MUCH, &mut buffer));
        let passed = 2 * MUCH;
        assert!(found.count_total as usize <= passed / FOR_ONE, "{way:?}: {found:?}");
        assert!(found.bytes_total as usize <= passed / 8, "{way:?}: {found:?}");
    }
}

#[test]
fn an_idle_session_holds_no_buffer() {
    for way in WAYS {
        let mut house = House::new(way);
        let mut buffer = vec![0; 256 << 10];
        // The worker's own buffers.
        for _ in 0..SESSIONS {
            let mut ends = house.open();
            house.transfer(&mut ends, LITTLE, &mut buffer);
        }
        let mut sessions: Vec<Ends> = Vec::with_capacity(SESSIONS);
        let opened = measure(|| (0..SESSIONS).for_each(|_| sessions.push(house.open())));
        let used = measure(|| {
            for ends in &mut sessions {
                house.transfer(ends, LITTLE, &mut buffer);
            }
        });
        let each = |bytes| bytes / SESSIONS as i64;
        let (opened, used) = (each(opened.bytes_current), each(used.bytes_current));
        assert!(used <= KEPT, "{way:?}: {opened} bytes each when opened, {used} more when used");
    }
}
