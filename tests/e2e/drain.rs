//! Stopping in stages.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::traffic::{Bulk, Flow};
use crate::support::{Origin, Pair, curl, until};

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
        until("it runs", || (flow.received.load(std::sync::atomic::Ordering::Relaxed) > 0).then_some(()));
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
        assert!(
            stored >= received.load(std::sync::atomic::Ordering::Relaxed),
            "counted is at least what arrived"
        );
    }
}
