//! One battery over all engines: real sockets on loopback, a session between two of them.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use swiftproxy_core::cancel::Reason;
use swiftproxy_core::endpoint::Tcp;
use swiftproxy_core::listener::Listener;
use swiftproxy_core::live::Live;
use swiftproxy_core::meter::Direction::{self, Down, Up};
use swiftproxy_core::opened::Engine as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

mod battery;
mod lent;
mod limits;
#[cfg(target_os = "linux")]
mod pipes;

/// Long enough for anything that is not stuck.
const LONG: Duration = Duration::from_secs(30);

/// A connection over loopback, both ends.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap().0);
    ours.set_nodelay(true).unwrap();
    theirs.set_nodelay(true).unwrap();
    (ours, theirs)
}

fn session() -> Session {
    let node = Node::new("test");
    let listener = Listener::new(&node, "test");
    let target = "example.com:80".parse().unwrap();
    Session::admit(&listener, "127.0.0.1:1".parse().unwrap(), "socks5", target).unwrap()
}

/// A session that runs: what its client and its target hold, and what is known of it.
struct Running {
    client: TcpStream,
    target: TcpStream,
    live: Arc<Live>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(engine: &Engine, session: Session, early: &[u8]) -> Self {
        let ((client, near), (far, target)) = tokio::join!(pair(), pair());
        Self::between(engine, session, early, (client, near), (far, target))
    }

    /// One whose client's connection holds little.
    async fn start_narrow(engine: &Engine, session: Session) -> Self {
        let ((client, near), (far, target)) = tokio::join!(pair(), pair());
        socket2::SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
        socket2::SockRef::from(&near).set_send_buffer_size(4096).unwrap();
        Self::between(engine, session, &[], (client, near), (far, target))
    }

    fn between(
        engine: &Engine,
        session: Session,
        early: &[u8],
        (client, near): (TcpStream, TcpStream),
        (far, target): (TcpStream, TcpStream),
    ) -> Self {
        let live = session.live().clone();
        let near = Box::new(Tcp::with_early(near, early.to_vec()));
        let task = tokio::spawn(engine.run(session, near, Box::new(Tcp::new(far))));
        Self { client, target, live, task }
    }

    fn counted(&self, direction: Direction) -> u64 {
        self.live.bytes.total(direction)
    }

    /// Waits for its end, and says how it ended.
    async fn end(self) -> &'static str {
        tokio::time::timeout(LONG, self.task).await.expect("it ends").unwrap();
        self.live.outcome().expect("an outcome")
    }

    /// The end that bytes of that way come from, and the one they go to.
    fn ends(&mut self, direction: Direction) -> (&mut TcpStream, &mut TcpStream) {
        match direction {
            Up => (&mut self.client, &mut self.target),
            Down => (&mut self.target, &mut self.client),
        }
    }
}

/// `n` bytes that no mistake in order, place or number leaves the same.
fn pattern(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(n + 8);
    while bytes.len() < n {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(n);
    bytes
}

/// Sends `n` bytes, the pattern over and over, and says that nothing follows.
async fn send(mut half: tokio::net::tcp::OwnedWriteHalf, pattern: &[u8], n: usize) {
    let mut sent = 0;
    while sent < n {
        let chunk = &pattern[..pattern.len().min(n - sent)];
        half.write_all(chunk).await.unwrap();
        sent += chunk.len();
    }
    half.shutdown().await.unwrap();
}

/// Receives to the end, and sees to it that it is `n` bytes of the pattern over and over.
async fn receive(mut half: tokio::net::tcp::OwnedReadHalf, pattern: &[u8], n: usize) {
    let mut buffer = vec![0; 1 << 16];
    let mut got = 0;
    loop {
        let read = half.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        let mut heard = &buffer[..read];
        while !heard.is_empty() {
            let at = got % pattern.len();
            let (now, later) = heard.split_at(heard.len().min(pattern.len() - at));
            assert!(now == &pattern[at..at + now.len()], "byte {got} and on are not what was sent");
            got += now.len();
            heard = later;
        }
    }
    assert_eq!(got, n);
}

/// Waits until `is` holds.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("not in time: {what}");
}

fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// What the copy engine, the splice engine from the first bytes on, and the one that is shipped each do.
macro_rules! over_engines {
    ($($test:ident),* $(,)?) => {
        mod copy {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(crate::engine::Engine::new(None)).await; })*
        }
        #[cfg(target_os = "linux")]
        mod splice {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(crate::engine::Engine::new(Some(0))).await; })*
        }
        #[cfg(target_os = "linux")]
        mod both {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(crate::engine::Engine::new(Some(crate::engine::BULK))).await; })*
        }
    };
}
use over_engines;
