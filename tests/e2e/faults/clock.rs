//! The clock of the machine is set, forwards and back, under a node that works. Only that node sees it (libfaketime).

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::support::proxy::{connected, swiftproxy};
use crate::support::traffic::{Bulk, Flow, rates};
use crate::support::{Pair, Proxy, until};

use super::{counted, lines, sql, stored};

const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// Sets the clock so many seconds off.
fn set(clock: &Path, off: i64) {
    let beside = clock.with_extension("tmp");
    std::fs::write(&beside, format!("{off:+}\n")).unwrap();
    std::fs::rename(beside, clock).unwrap();
}

#[test]
fn a_clock_that_jumps_moves_no_limit_and_loses_no_byte() {
    let bulk = Bulk::start();
    let pair = Pair::start(&["alice --down 8Mbit/s"], "");
    let (database, bound) = (pair.database(), pair.remote.addr("tunnel"));
    let Pair { remote, local, .. } = pair;
    let (folder, file) = (remote.folder.clone(), remote.file().to_owned());
    remote.kill();
    let clock = folder.path().join("clock");
    set(&clock, 0);
    let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists()).expect("faketime is installed");
    let mut command = swiftproxy();
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
    let remote =
        Proxy::spawn_as(command, &folder, file, &["--set", &format!("listeners.tunnel.bind={bound}")]);
    connected(&local);
    let flow = Flow::down(local.addr("local"), bulk.source);
    let time = || remote.stats()["time"].as_f64().unwrap();
    let started = time();
    let hours = || sql(&database, "SELECT count(DISTINCT hour) FROM usage").parse::<u32>().unwrap();
    until("something is stored", || (stored(&database) > 0).then_some(()));
    let first = sql(&database, "SELECT min(hour) FROM usage");
    // Half a day on, back over the start by a day, and to the end of 32 bits.
    for (off, wanted) in [(43_200, 2), (-86_400, 2), (2_147_483_648 - started as i64, 3)] {
        set(&clock, off);
        until("the node sees it", || ((time() - started - off as f64).abs() < 60.0).then_some(()));
        let rate = rates(std::slice::from_ref(&flow.received), Duration::from_secs(2))[0];
        assert!((0.8e6..1.25e6).contains(&rate), "{rate} B/s with the clock {off} s off");
        let so_far = counted(&remote, "alice");
        until("it is stored", || (stored(&database) >= so_far).then_some(()));
        // An hour that was left is not entered again.
        assert_eq!(hours(), wanted, "{off}: {}", sql(&database, "SELECT * FROM usage"));
        assert_eq!(sql(&database, "SELECT min(hour) FROM usage"), first);
        assert!(!flow.has_ended());
    }
    assert_eq!(lines(&remote, "WARN") + lines(&remote, "ERROR"), 0, "{}", remote.log());
    let received = flow.received.load(Relaxed);
    drop(flow);
    until("the session has ended", || (remote.stats()["sessions"]["open"] == 0).then_some(()));
    let counted = counted(&remote, "alice");
    remote.signal("TERM");
    remote.wait();
    assert_eq!(stored(&database), counted);
    assert!(counted >= received, "{counted}, {received}");
}
