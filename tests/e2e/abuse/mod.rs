//! Hostile clients, while the process's memory and descriptors and a well-behaved client's latency are watched.

mod doors;
pub(crate) mod floods;
mod handshakes;
mod names;
pub(crate) mod readers;
mod returning;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Origin, Pair, Proxy, curl, until};

/// A plain listener beside the tunnel's, with logins, bounded tightly enough for a test.
const PLAIN: &str = r#"
[listeners.plain]
bind = "127.0.0.1:0"
stack = ["open", "auth", "acl", "ratelimit", "stats"]
relay = "direct"

[layers.open]
kind = "detect"
protocols = ["socks5", "socks4", "http", "classic"]
handshake_timeout = "2s"
max_handshakes_per_address = 50
"#;

/// A pair whose remote has a plain listener too.
fn pair() -> Pair {
    let pair = Pair::start(&["alice"], PLAIN);
    pair.remote.edit(|text| {
        text.replace(
            "tls = { cert",
            "handshake_timeout = \"2s\"\nmax_handshakes_per_address = 50\ntls = { cert",
        )
    });
    pair.remote.logged("configuration reloaded");
    pair
}

pub(crate) fn resident(node: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

pub(crate) fn descriptors(node: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count()
}

/// Lets `attack` run on a pair, while somebody else goes on using it. Memory may grow by `memory` bytes; descriptors
/// return; nobody waits for long.
fn watched<T>(pair: &Pair, memory: u64, attack: impl FnOnce() -> T) -> T {
    let origin = Origin::start();
    let proxy = format!("socks5h://{}", pair.addr());
    let get = {
        let url = origin.url("/bytes/10");
        move || {
            let start = Instant::now();
            assert_eq!(curl(&["--proxy", &proxy, &url]).ok().len(), 10);
            start.elapsed()
        }
    };
    get();
    let (resident_before, descriptors_before) = (resident(&pair.remote), descriptors(&pair.remote));
    let over = Arc::new(AtomicBool::new(false));
    let client = std::thread::spawn({
        let over = over.clone();
        move || {
            let mut longest = get();
            while !over.load(Relaxed) {
                longest = longest.max(get());
            }
            longest
        }
    });
    let outcome = attack();
    let grown = resident(&pair.remote).saturating_sub(resident_before);
    over.store(true, Relaxed);
    let longest = client.join().unwrap();
    assert!(grown < memory, "{} KiB more", grown >> 10);
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    until("descriptors return", || (descriptors(&pair.remote) <= descriptors_before + 4).then_some(()));
    eprintln!("{} KiB more, longest wait {longest:?}", grown >> 10);
    outcome
}
