//! File systems that are full or read-only. Both need a mount of their own, which takes root, so they are run apart
//! (`cargo test --workspace -- --ignored`); the store's tests meet the same errors by SQLite's own means.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::proxy::{PASSWORD, command_with, connected, local_toml, remote_toml};
use crate::support::traffic::{Bulk, Flow};
use crate::support::{Origin, Pair, Proxy, until};

use super::{counted, for_a_while, lines, moves, serves, stored};

/// A small file system of its own.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let option = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(at).output().unwrap();
        assert!(mounted.status.success(), "mounting takes root: {mounted:?}");
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, for a node that failed a test may still be in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A remote of the pair's kind whose store lies on a disk.
fn on(disk: &Path, pair: &Pair) -> (Proxy, Proxy) {
    let database = disk.join("swiftproxy.db");
    let store = format!("sqlite://{}", database.display());
    let (ok, _, error) = command_with(
        &["user", "add", "alice", "--down", "8Mbit/s", "--password-stdin", "--store", &store],
        PASSWORD,
    );
    assert!(ok, "{error}");
    let toml = remote_toml().replace("sqlite://swiftproxy.db", &store);
    let remote = Proxy::start_in(&pair.remote.folder, "disk.toml", &toml);
    let toml = local_toml(remote.addr("tunnel"), &pair.pin, "alice");
    let local = Proxy::start_in(&pair.remote.folder, "disk-local.toml", &toml);
    connected(&local);
    (remote, local)
}

#[test]
#[ignore = "root: mounts a file system"]
fn a_full_disk_stops_nobody_and_is_caught_up_with() {
    let (origin, bulk) = (Origin::start(), Bulk::start());
    let pair = Pair::start(&["alice"], "");
    let at = pair.remote.folder.path().join("disk");
    let disk = Disk::mount(&at, "1m");
    let (remote, local) = on(&at, &pair);
    let database = at.join("swiftproxy.db");
    let flow = Flow::down(local.addr("local"), bulk.source);
    until("something is stored", || (stored(&database) > 0).then_some(()));
    // Until not a byte goes in any more.
    let ballast = at.join("ballast");
    let full = std::fs::write(&ballast, vec![1; 2 << 20]);
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let error = until("the store is down", || {
        let store = remote.stats()["store"].clone();
        (store["state"] == "down").then(|| store["error"].as_str().unwrap().to_owned())
    });
    assert!(error.contains("no room left"), "{error}");
    moves(&flow.received);
    serves(local.addr("local"), &origin.url("/bytes/10"));
    for_a_while(2500);
    // Closing the store's connection gives its log's room back, which does for a write or two.
    assert!(lines(&remote, "known accounts go on") <= 3, "{}", remote.log());
    assert!(!flow.has_ended());
    std::fs::remove_file(ballast).unwrap();
    until("the store is up", || (remote.stats()["store"]["state"] == "ok").then_some(()));
    let counted = counted(&remote, "alice");
    until("it has caught up", || (stored(&database) >= counted).then_some(()));
    drop((remote, local, flow, disk));
}

#[test]
#[ignore = "root: mounts a file system"]
fn a_disk_that_became_read_only_stops_nobody_and_is_caught_up_with() {
    let (origin, bulk) = (Origin::start(), Bulk::start());
    let pair = Pair::start(&["alice"], "");
    let at = pair.remote.folder.path().join("disk");
    let disk = Disk::mount(&at, "4m");
    let (remote, local) = on(&at, &pair);
    let database = at.join("swiftproxy.db");
    let flow = Flow::down(local.addr("local"), bulk.source);
    until("something is stored", || (stored(&database) > 0).then_some(()));
    // A file system that is written to cannot be turned over; a read-only one is laid over it, with the same files.
    let beside = pair.remote.folder.path().join("beside");
    let under = Disk::mount(&beside, "4m");
    std::fs::copy(&database, beside.join("swiftproxy.db")).unwrap();
    let run = |args: &[&str]| assert!(Command::new("mount").args(args).status().unwrap().success());
    run(&["--bind", beside.to_str().unwrap(), at.to_str().unwrap()]);
    run(&["-o", "remount,bind,ro", at.to_str().unwrap()]);
    let over = Disk(at.clone());
    let error = until("the store is down", || {
        let store = remote.stats()["store"].clone();
        (store["state"] == "down").then(|| store["error"].as_str().unwrap().to_owned())
    });
    assert!(error.contains("is read-only") || error.contains("may read and write it"), "{error}");
    moves(&flow.received);
    serves(local.addr("local"), &origin.url("/bytes/10"));
    assert_eq!(lines(&remote, "known accounts go on"), 1, "{}", remote.log());
    drop(over);
    until("the store is up", || (remote.stats()["store"]["state"] == "ok").then_some(()));
    let counted = counted(&remote, "alice");
    until("it has caught up", || (stored(&database) >= counted).then_some(()));
    assert!(!flow.has_ended());
    drop((remote, local, flow, under, disk));
}
