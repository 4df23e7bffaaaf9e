//! The process has no descriptor left.

use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::support::traffic::{Bulk, Flow};
use crate::support::wait::pause;
use crate::support::{Origin, Pair, Proxy, curl, until};

use super::{is_counted, moves, serves};

/// How many descriptors a process has open.
fn open(node: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count()
}

fn limit(node: &Proxy, files: usize) {
    let limit = format!("--nofile={files}:20000");
    let status = Command::new("prlimit").arg(format!("--pid={}", node.pid())).arg(limit).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_lack_of_descriptors_harms_no_session_and_floods_no_log() {
    let (origin, bulk) = (Origin::start(), Bulk::start());
    let pair = Pair::start(&["alice --down 8Mbit/s"], "");
    let flow = Flow::down(pair.addr(), bulk.source);
    moves(&flow.received);
    for (node, listener) in [(&pair.remote, "tunnel"), (&pair.local, "local")] {
        let before = open(node);
        let said = node.log().lines().count();
        limit(node, before + 8);
        let crowd: Vec<_> = (0..100).map(|_| TcpStream::connect(node.addr(listener)).unwrap()).collect();
        node.logged("cannot accept");
        pause(Duration::from_secs(2));
        moves(&flow.received);
        assert!(!flow.has_ended());
        let more = node.log().lines().count() - said;
        assert!(more < 10, "{more} lines:\n{}", node.log());
        drop(crowd);
        until("it takes connections again", || {
            let proxy = format!("socks5h://{}", pair.addr());
            (curl(&["--proxy", &proxy, "--max-time", "5", &origin.url("/bytes/10")]).code == 0).then_some(())
        });
        until("it gives its descriptors back", || (open(node) <= before + 8).then_some(()));
        limit(node, 20_000);
        serves(pair.addr(), &origin.url("/bytes/10"));
    }
    // None is left for dialling: a refusal, not a hang.
    limit(&pair.remote, 3);
    let proxy = format!("http://{}", pair.addr());
    let said = curl(&["--proxy", &proxy, "-v", "-p", &origin.url("/bytes/10")]).said;
    assert!(said.contains("HTTP/1.1 5"), "{said}");
    moves(&flow.received);
    limit(&pair.remote, 20_000);
    serves(pair.addr(), &origin.url("/bytes/10"));
    assert!(!flow.has_ended());
    is_counted(&pair, flow.received.load(Relaxed));
}
