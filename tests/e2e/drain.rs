//! Stopping in stages.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::proxy::connected;
use crate::support::traffic::{Bulk, Flow};
use crate::support::{Origin, Pair, Proxy, curl, until};

#[test]
fn sigterm_lets_a_download_end_and_loses_no_byte() {
    let origin = Origin::start();
    let pair = Pair::start(&["alice --down 40Mbit/s"], "");
    let proxy = format!("socks5h://{}", pair.addr());
    let url = origin.url("/bytes/10000000");
    let download = std::thread::spawn({
        let args = [proxy.clone(), url];
        move || curl(&["--proxy", &args[0], &args[1]])
    });
    until("it runs", || (pair.remote.stats()["accounts"][0]["down"].as_u64()? > 1_000_000).then_some(()));
    pair.remote.signal("TERM");
    pair.remote.logged("stopping");
    assert_eq!(download.join().unwrap().ok().len(), 10_000_000, "it was let end");
    let database = pair.database();
    let Pair { remote, local, .. } = pair;
    let (status, log) = remote.wait();
    assert!(status.success(), "{log}");
    let output = std::process::Command::new("sqlite3")
        .arg(database)
        .arg("SELECT sum(down) - 10000000 FROM usage")
        .output()
        .unwrap();
    let heads: i64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    // What the client received: the body and the response's head.
    assert!((1..1000).contains(&heads), "{heads} bytes besides the body");
    drop(local);
}

#[test]
fn a_session_that_goes_on_is_cut_at_the_deadline_or_by_a_second_signal() {
    let bulk = Bulk::start();
    for second in [false, true] {
        let pair = Pair::start(&["alice --down 8Mbit/s"], "");
        if !second {
            pair.remote
                .edit(|text| text.replace("shutdown_timeout = \"5s\"", "shutdown_timeout = \"500ms\""));
            pair.remote.logged("reloaded");
        }
        let flow = Flow::down(pair.addr(), bulk.source);
        until("it runs", || (flow.received.load(Relaxed) > 0).then_some(()));
        let start = Instant::now();
        pair.remote.signal("TERM");
        pair.remote.logged("stopping");
        if second {
            pair.remote.signal("TERM");
        }
        let (received, _folder) = (flow.received.clone(), pair.remote.folder.clone());
        let usage = {
            let database = pair.database();
            let Pair { remote, local, .. } = pair;
            let (status, log) = remote.wait();
            assert!(status.success() && log.contains("were cut"), "{log}");
            drop(local);
            database
        };
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        until("the client notices", || flow.has_ended().then_some(()));
        let output =
            std::process::Command::new("sqlite3").arg(usage).arg("SELECT sum(down) FROM usage").output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        let stored: u64 = said.trim().parse().unwrap_or_else(|_| panic!("nothing is stored: {said}"));
        assert!(stored >= received.load(Relaxed), "counted is at least what arrived");
    }
}

#[test]
fn a_remote_that_is_replaced_under_load_loses_no_session() {
    let origin = Origin::start();
    for pair in Pair::by_each_engine("", "connections = 4\nwait = \"20s\"\n") {
        let bound = pair.remote.addr("tunnel");
        let Pair { mut remote, local, .. } = pair;
        let (folder, file) = (remote.folder.clone(), remote.file().to_owned());
        let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
        let (entry, port) = (local.addr("local"), origin.addr.port().to_be_bytes());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !over.load(Relaxed) {
                        let mut stream = TcpStream::connect(entry).unwrap();
                        let hello = [&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1][..], &port].concat();
                        stream.write_all(&hello).unwrap();
                        let mut reply = [0; 12];
                        stream.read_exact(&mut reply).unwrap();
                        assert_eq!(reply[..4], [5, 0, 5, 0], "{}", local.stats()["refusals"]);
                        let request = b"GET /bytes/10 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                        stream.write_all(request).unwrap();
                        let mut answer = Vec::new();
                        stream.read_to_end(&mut answer).unwrap();
                        assert!(answer.ends_with(&[0; 10]), "{}", answer.escape_ascii());
                        served.fetch_add(1, Relaxed);
                    }
                });
            }
            for _ in 0..5 {
                let so_far = served.load(Relaxed);
                until("sessions come and go", || (served.load(Relaxed) > so_far + 100).then_some(()));
                remote.signal("TERM");
                remote.logged("stopping");
                until("it listens no more", || TcpStream::connect(bound).is_err().then_some(()));
                let next =
                    Proxy::run(&folder, file.clone(), &["--set", &format!("listeners.tunnel.bind={bound}")]);
                let (status, log) = std::mem::replace(&mut remote, next).wait();
                assert!(status.success() && !log.contains("were cut"), "{log}");
                connected(&local);
            }
            over.store(true, Relaxed);
        });
    }
}
