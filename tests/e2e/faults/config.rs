//! The file is edited again and again; addresses that are taken.

use std::net::TcpListener;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::proxy::{certificate, folder, remote_toml};
use crate::support::traffic::{Bulk, Flow};
use crate::support::wait::pause;
use crate::support::{Origin, Pair, Proxy, until};

use super::{counted, is_counted, lines, moves, serves};

#[test]
fn a_hundred_edits_in_ten_seconds_drop_no_session_and_the_last_one_holds() {
    const EDITS: u32 = 100;
    let (origin, bulk) = (Origin::start(), Bulk::start());
    let user = "\n[users.bob]\npassword = \"correct horse\"\ndown = \"8Mbit/s\"\n";
    let pair = Pair::start(&["alice --down 8Mbit/s"], user);
    let bob = pair.another("bob");
    let flows = [Flow::down(pair.addr(), bulk.source), Flow::down(bob.addr("local"), bulk.source)];
    let text = std::fs::read_to_string(pair.remote.file()).unwrap();
    let start = Instant::now();
    for edit in 1..=EDITS {
        let rate = format!("down = \"{}Mbit/s\"", 8 + edit % 7);
        let valid = text.replace("down = \"8Mbit/s\"", &rate);
        // The last one is valid.
        let broken = ["[listeners.tunnel", "[layers.nobody]\nkind = \"none\"\n", "[node]\nname = 1\n"];
        let next = if edit % 2 == 0 { valid } else { valid + broken[edit as usize / 2 % broken.len()] };
        pair.remote.edit(|_| next);
        pause((start + edit * Duration::from_millis(80)).saturating_duration_since(Instant::now()));
    }
    let last = u64::from(8 + EDITS % 7) * 125_000;
    until("the last state is what the file says", || {
        let stats = pair.remote.stats();
        let accounts = stats["accounts"].as_array().unwrap();
        let bob = accounts.iter().find(|account| account["name"] == "bob").unwrap();
        (bob["limit_down"] == last && stats["config"]["outcome"] == "reloaded").then_some(())
    });
    for flow in &flows {
        assert!(!flow.has_ended());
        moves(&flow.received);
    }
    for proxy in [pair.addr(), bob.addr("local")] {
        serves(proxy, &origin.url("/bytes/10"));
    }
    assert!(lines(&pair.remote, "rejected") > 0 && lines(&pair.remote, "configuration reloaded") > 0);
    assert_eq!(lines(&pair.remote, "listening on"), 2 - 1, "no listener was closed");
    is_counted(&pair, flows[0].received.load(Relaxed));
    assert!(counted(&pair.remote, "bob") >= flows[1].received.load(Relaxed));
}

#[test]
fn a_port_that_is_taken_at_start_ends_the_start_with_a_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let folder = folder();
    certificate(folder.path());
    let file = folder.path().join("remote.toml");
    std::fs::write(&file, remote_toml().replace("sqlite://swiftproxy.db", "sqlite://new.db")).unwrap();
    for key in ["listeners.tunnel.bind", "api.bind"] {
        let node = Proxy::spawn(&folder, file.clone(), &["--set", &format!("{key}={addr}")]);
        let (status, log) = node.wait();
        assert!(!status.success());
        assert!(log.contains(&format!("cannot listen on {addr}")) && log.contains(key), "{log}");
        assert!(log.contains("choose another"), "what to do about it: {log}");
    }
}

#[test]
fn a_port_that_is_taken_at_reload_leaves_the_old_listener_as_it_was() {
    let (origin, bulk) = (Origin::start(), Bulk::start());
    let pair = Pair::start(&["alice --down 8Mbit/s"], "");
    let flow = Flow::down(pair.addr(), bulk.source);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let bind = "[listeners.local]\nbind = ";
    pair.local.edit(|text| text.replace(&format!("{bind}\"127.0.0.1:0\""), &format!("{bind}\"{addr}\"")));
    let line = pair.local.logged("rejected");
    assert!(line.contains("listeners.local.bind") && line.contains(&addr.to_string()), "{line}");
    assert_eq!(pair.local.stats()["config"]["outcome"], "rejected");
    serves(pair.addr(), &origin.url("/bytes/10"));
    moves(&flow.received);
    // Free again, and said again.
    drop(taken);
    pair.local.edit(|text| text + "\n# again\n");
    pair.local.logged(&format!("listening on {addr}"));
    serves(addr, &origin.url("/bytes/10"));
    moves(&flow.received);
    assert!(!flow.has_ended(), "what came in by the old address goes on");
    is_counted(&pair, flow.received.load(Relaxed));
}
