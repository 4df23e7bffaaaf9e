//! What a network, a disk or an operator does to a node while it works: bytes are counted on both sides of it.

mod certificate;
mod clock;
mod config;
mod crash;
mod descriptors;
mod disk;
mod interface;
mod link;
mod store;
mod stranger;
mod targets;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::support::wait::pause;
use crate::support::{Pair, Proxy, curl, until};

/// One statement on a database.
pub(crate) fn sql(database: &Path, sql: &str) -> String {
    let output =
        Command::new("sqlite3").arg("-cmd").arg(".timeout 5000").arg(database).arg(sql).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Bytes down that a store holds of everybody.
pub(crate) fn stored(database: &Path) -> u64 {
    sql(database, "SELECT coalesce(sum(down), 0) FROM usage").parse().unwrap()
}

/// Bytes down that a node has counted of an account.
pub(crate) fn counted(node: &Proxy, account: &str) -> u64 {
    let stats = node.stats();
    let accounts = stats["accounts"].as_array().unwrap();
    accounts.iter().find(|known| known["name"] == account).unwrap()["down"].as_u64().unwrap()
}

/// Changes the interfaces of a namespace of one's own.
pub(crate) fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().unwrap().success());
}

/// Both nodes have counted what their clients received of one account's downloads, and the store has what was counted.
pub(crate) fn is_counted(pair: &Pair, received: u64) {
    let so_far = counted(&pair.remote, "alice");
    let by_local = pair.local.stats()["total"]["down"].as_u64().unwrap();
    assert!(so_far >= received && by_local >= received, "{received}, {so_far}, {by_local}");
    until("it is stored", || (stored(&pair.database()) >= so_far).then_some(()));
}

/// Waits until a flow moves.
pub(crate) fn moves(received: &AtomicU64) {
    let before = received.load(Relaxed);
    until("bytes arrive", || (received.load(Relaxed) > before).then_some(()));
}

/// How many lines of a node's log say something.
pub(crate) fn lines(node: &Proxy, words: &str) -> usize {
    node.log().lines().filter(|line| line.contains(words)).count()
}

/// A port that nobody listens on, for a node that is to start later.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A short request through a proxy without a login arrives.
pub(crate) fn serves(proxy: SocketAddr, url: &str) {
    let proxy = format!("socks5h://{proxy}");
    assert_eq!(curl(&["--proxy", &proxy, url]).ok().len(), 10);
}

/// A path for TCP that can fall silent without a word: what it carries then is carried no more, and nobody is told.
pub(crate) struct Wire {
    pub(crate) addr: SocketAddr,
    silent: Arc<AtomicBool>,
    /// Those of earlier times stay dead.
    time: Arc<AtomicUsize>,
}

impl Wire {
    pub(crate) fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire =
            Self { addr: listener.local_addr().unwrap(), silent: Arc::default(), time: Arc::default() };
        let (silent, time) = (wire.silent.clone(), wire.time.clone());
        std::thread::spawn(move || {
            let mut dead = Vec::new();
            for near in listener.incoming().map_while(Result::ok) {
                if silent.load(Relaxed) {
                    dead.push(near);
                    continue;
                }
                let Ok(far) = TcpStream::connect(far) else { continue };
                let born = time.load(Relaxed);
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to, time) = (from.try_clone().unwrap(), to.try_clone().unwrap(), time.clone());
                    std::thread::spawn(move || carry(from, to, || time.load(Relaxed) == born));
                }
            }
        });
        wire
    }

    pub(crate) fn falls_silent(&self) {
        self.silent.store(true, Relaxed);
        self.time.fetch_add(1, Relaxed);
    }

    pub(crate) fn is_back(&self) {
        self.silent.store(false, Relaxed);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, lives: impl Fn() -> bool) {
    from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let got = from.read(&mut buffer);
        if !lives() {
            // Held open, for a closed socket would say something.
            std::thread::park_timeout(Duration::from_secs(120));
            return;
        }
        match got {
            Ok(0) => return drop(to.shutdown(Shutdown::Write)),
            Ok(n) => {
                if to.write_all(&buffer[..n]).is_err() {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return drop(to.shutdown(Shutdown::Both)),
        }
    }
}

/// What one download came to.
pub(crate) struct Download {
    pub(crate) received: Arc<AtomicU64>,
    end: std::thread::JoinHandle<std::io::Result<()>>,
}

impl Download {
    pub(crate) fn of(mut stream: TcpStream) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let count = received.clone();
        let end = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    n => drop(count.fetch_add(n as u64, Relaxed)),
                }
            }
        });
        Self { received, end }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_finished()
    }

    /// How it ended, and what had arrived.
    pub(crate) fn end(self, within: Duration) -> (std::io::Result<()>, u64) {
        crate::support::wait::until_within(within, "the download ends", || {
            self.end.is_finished().then_some(())
        });
        (self.end.join().unwrap(), self.received.load(Relaxed))
    }
}

/// A target that sends without end and counts what its socket took.
pub(crate) struct Source {
    pub(crate) addr: SocketAddr,
    pub(crate) sent: Arc<AtomicU64>,
}

impl Source {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = Self { addr: listener.local_addr().unwrap(), sent: Arc::default() };
        let sent = source.sent.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let sent = sent.clone();
                std::thread::spawn(move || {
                    while let Ok(n) = stream.write(&[7; 16 << 10]) {
                        sent.fetch_add(n as u64, Relaxed);
                    }
                });
            }
        });
        source
    }
}

/// Lets some time pass in which something must not happen.
pub(crate) fn for_a_while(millis: u64) {
    pause(Duration::from_millis(millis));
}
