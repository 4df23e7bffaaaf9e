//! Ten minutes of mixed traffic, reloads and changed rows, after which memory and descriptors are what they were:
//! `cargo test --release -p swiftproxy --test soak -- --nocapture`. `SOAK_SECONDS` shortens it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test says by a panic what it missed")]

#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::traffic::{Bulk, Flow, socks5};
use crate::support::wait::pause;
use crate::support::{Origin, Pair, Proxy, curl};

/// May be added after the warm-up without being growth: allocators keep what they had at their busiest moment.
const SLACK: u64 = 8 << 20;

/// Bytes resident and descriptors open.
type Figure = (u64, usize);

fn figure(node: &Proxy) -> Figure {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let resident = line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024;
    (resident, std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count())
}

#[test]
fn soak() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let (time, start) = (Duration::from_secs(seconds), Instant::now());
    let (origin, bulk) = (Origin::start(), Bulk::start());
    let pair = Arc::new(Pair::start(&["alice --down 80Mbit/s --up 40Mbit/s"], ""));
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let addr = pair.addr();
    let mut clients = Vec::new();
    // Whole requests by both protocols, half-closed echoes, and downloads that break off.
    for kind in 0..6 {
        let (over, served) = (over.clone(), served.clone());
        let (url, target, source) = (origin.url("/bytes/100000"), origin.addr, bulk.source);
        clients.push(std::thread::spawn(move || {
            while !over.load(Relaxed) {
                match kind {
                    0 | 1 => {
                        let scheme = if kind == 0 { "socks5h" } else { "http" };
                        let proxy = format!("{scheme}://{addr}");
                        assert_eq!(curl(&["--proxy", &proxy, &url]).ok().len(), 100_000);
                    }
                    2..=4 => {
                        let mut stream = socks5(addr, target);
                        let request = b"GET /bytes/5000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                        stream.write_all(request).unwrap();
                        let mut all = Vec::new();
                        stream.read_to_end(&mut all).unwrap();
                        assert!(all.len() > 5000);
                    }
                    _ => {
                        let flow = Flow::down(addr, source);
                        pause(Duration::from_millis(300));
                        assert!(!flow.has_ended());
                    }
                }
                served.fetch_add(1, Relaxed);
            }
        }));
    }
    let flows = [Flow::down(addr, bulk.source), Flow::up(addr, bulk.sink)];
    let mut figures = Vec::new();
    let mut edit = 0;
    while start.elapsed() < time {
        pause(Duration::from_secs(2));
        edit += 1;
        let shutdown = format!("shutdown_timeout = \"{}s\"", 5 + edit % 5);
        pair.remote.edit(|text| {
            let lines =
                text.lines().map(|line| if line.starts_with("shutdown_timeout") { &shutdown } else { line });
            lines.collect::<Vec<_>>().join("\n") + "\n"
        });
        pair.local.edit(|text| text + if edit % 2 == 0 { "# again\n" } else { "# and again\n" });
        let sql = format!("UPDATE users SET rate_down = {}", 10_000_000 + edit % 3 * 1_000_000);
        let mut shell = Command::new("sqlite3");
        let done = shell.args(["-cmd", ".timeout 5000"]).arg(pair.database()).arg(sql).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        figures.push([figure(&pair.remote), figure(&pair.local)]);
        if edit % 15 == 0 {
            let [(remote, fds), (local, local_fds)] = figures[figures.len() - 1];
            println!(
                "{:>4} s: {} served; remote {} KiB, {fds} fds; local {} KiB, {local_fds} fds",
                start.elapsed().as_secs(),
                served.load(Relaxed),
                remote >> 10,
                local >> 10
            );
        }
    }
    over.store(true, Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(flows.iter().all(|flow| !flow.has_ended()), "through all reloads");
    // The first third warms up; what came later is compared by the highest of each third.
    let third = figures.len() / 3;
    assert!(third > 0, "at least half a minute is needed");
    let most = |part: &[[Figure; 2]]| {
        [0, 1].map(|node| {
            let of = || part.iter().map(move |figures| figures[node]);
            (of().map(|figure| figure.0).max().unwrap(), of().map(|figure| figure.1).max().unwrap())
        })
    };
    let (then, now) = (most(&figures[third..2 * third]), most(&figures[2 * third..]));
    println!("{} served, {edit} reloads; second third {then:?}, last third {now:?}", served.load(Relaxed));
    for (then, now) in then.into_iter().zip(now) {
        assert!(now.0 < then.0 + SLACK, "memory grows: {then:?}, {now:?}");
        assert!(now.1 < then.1 + 32, "descriptors grow: {then:?}, {now:?}");
    }
}
