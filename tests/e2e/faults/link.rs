//! The link between local and remote, and a remote that is not there.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::proxy::{
    PASSWORD, certificate, command_with, connected, folder, local_toml, remote_toml,
};
use crate::support::traffic::socks5;
use crate::support::wait::until_within;
use crate::support::{Origin, Pair, Proxy, curl, until};

use super::{Download, Source, Wire, counted, for_a_while, free_port, moves, serves};

#[test]
#[ignore = "slow: silence is noticed after 25 s"]
fn a_link_that_falls_silent_ends_its_downloads_and_another_is_made() {
    let (origin, source) = (Origin::start(), Source::start());
    let pair = Pair::start(&["alice --down 8Mbit/s"], "");
    let wire = Wire::to(pair.remote.addr("tunnel"));
    let local = Proxy::start_in(&pair.remote.folder, "wire.toml", &local_toml(wire.addr, &pair.pin, "alice"));
    connected(&local);
    let download = Download::of(socks5(local.addr("local"), source.addr));
    moves(&download.received);
    wire.falls_silent();
    let start = Instant::now();
    let (end, received) = download.end(Duration::from_secs(45));
    assert!(start.elapsed() > Duration::from_secs(5), "it was silent, not cut");
    assert!(end.is_err(), "half a download is no whole one: {end:?}");
    until("the status says so", || (local.stats()["tunnel"]["state"] == "connecting").then_some(()));
    let counted = counted(&pair.remote, "alice");
    assert!(received <= counted && counted <= source.sent.load(Relaxed), "{received}, {counted}");
    // Who asks meanwhile hears of it, as SOCKS says it, and does not wait for long.
    let (proxy, asked) = (format!("socks5h://{}", local.addr("local")), Instant::now());
    let refused = curl(&["--proxy", &proxy, &origin.url("/bytes/10")]);
    assert_eq!(refused.code, 97, "{}", refused.said);
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
    wire.is_back();
    until_within(Duration::from_secs(40), "it is back", || {
        (local.stats()["tunnel"]["state"] == "connected").then_some(())
    });
    serves(local.addr("local"), &origin.url("/bytes/10"));
}

#[test]
#[ignore = "slow: silence is noticed after 13 s"]
fn links_that_fall_silent_together_cost_no_session_more_than_the_first_ones_wait() {
    let origin = Origin::start();
    // Somebody asks every second, so that each link meets its own silence; or only one does at first, and what that
    // one meets is to keep the others from meeting it too.
    let every: Vec<u64> = (0..15).collect();
    let late: Vec<u64> = [0].into_iter().chain(7..15).collect();
    std::thread::scope(|scope| {
        for (lean, times) in [(true, &every), (true, &late), (false, &every), (false, &late)] {
            let url = origin.url("/bytes/10");
            scope.spawn(move || silent_together(lean, times, &url));
        }
    });
}

/// Clients ask at those seconds after all links that there are fell silent.
fn silent_together(lean: bool, times: &[u64], url: &str) {
    let pair = Pair::start(&["alice"], "");
    let wire = Wire::to(pair.remote.addr("tunnel"));
    let toml = local_toml(wire.addr, &pair.pin, "alice") + &format!("connections = 3\nlean = {lean}\n");
    let local = Proxy::start_in(&pair.remote.folder, "wire.toml", &toml);
    connected(&local);
    for_a_while(500);
    // Those that there are stay silent; a new one works at once, as after a change of networks.
    wire.falls_silent();
    wire.is_back();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for &at in times {
            let proxy = format!("socks5h://{}", local.addr("local"));
            scope.spawn(move || {
                for_a_while(at * 1000);
                let asked = start.elapsed();
                curl(&["--proxy", &proxy, url]).ok();
                let served = start.elapsed();
                let said = format!("lean {lean}: asked after {asked:?}, served after {served:?}");
                assert!(served < Duration::from_secs(18), "{said}");
                let late = asked > Duration::from_millis(if times.len() < 15 { 6500 } else { 8000 });
                assert!(!late || served - asked < Duration::from_secs(3), "{said}");
            });
        }
    });
    assert_eq!(local.stats()["tunnel"]["state"], "connected");
}

#[test]
#[ignore = "slow: silence is noticed after 50 s"]
fn a_local_role_that_vanished_holds_no_session_of_the_remotes() {
    let source = Source::start();
    let pair = Pair::start(&["alice --down 80Mbit/s"], "");
    let wire = Wire::to(pair.remote.addr("tunnel"));
    let local = Proxy::start_in(&pair.remote.folder, "wire.toml", &local_toml(wire.addr, &pair.pin, "alice"));
    connected(&local);
    let download = Download::of(socks5(local.addr("local"), source.addr));
    moves(&download.received);
    assert_eq!(pair.remote.stats()["sessions"]["open"], 1);
    wire.falls_silent();
    let start = Instant::now();
    until_within(Duration::from_secs(70), "the session ends", || {
        (pair.remote.stats()["sessions"]["open"] == 0).then_some(())
    });
    assert!(start.elapsed() > Duration::from_secs(20), "it was silent, not cut: {:?}", start.elapsed());
}

#[test]
fn a_local_role_may_be_there_first() {
    let origin = Origin::start();
    let folder = folder();
    let pin = certificate(folder.path());
    let store = format!("sqlite://{}/swiftproxy.db", folder.path().display());
    assert!(command_with(&["user", "add", "alice", "--password-stdin", "--store", &store], PASSWORD).0);
    let server = free_port();
    let local = Proxy::start_in(&folder, "local.toml", &local_toml(server, &pin, "alice"));
    let error = until("the status says so", || {
        let error = local.stats()["tunnel"]["error"].clone();
        (!error.is_null()).then_some(error)
    });
    assert_eq!(error["label"], "unreachable", "{error}");
    let file = folder.path().join("remote.toml");
    std::fs::write(&file, remote_toml()).unwrap();
    let remote = Proxy::run(&folder, file, &["--set", &format!("listeners.tunnel.bind={server}")]);
    connected(&local);
    serves(local.addr("local"), &origin.url("/bytes/10"));
    assert_eq!(local.log().matches("Cannot reach").count(), 1, "it is said once:\n{}", local.log());
    drop(remote);
}

#[test]
fn sessions_that_wait_for_a_remote_are_served_by_the_next_one() {
    let origin = Origin::start();
    let pair = Pair::start(&["alice"], "");
    let bound = pair.remote.addr("tunnel");
    pair.local.edit(|text| text + "wait = \"30s\"\n");
    pair.local.logged("configuration reloaded");
    let Pair { remote, local, .. } = pair;
    let (folder, file) = (remote.folder.clone(), remote.file().to_owned());
    remote.kill();
    until("the status says so", || (local.stats()["tunnel"]["state"] == "connecting").then_some(()));
    let proxy = format!("socks5h://{}", local.addr("local"));
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let args = [proxy.clone(), origin.url("/bytes/1000")];
            std::thread::spawn(move || curl(&["--proxy", &args[0], &args[1]]))
        })
        .collect();
    until("all wait", || (local.stats()["sessions"]["open"] == 50).then_some(()));
    let again = Proxy::run(&folder, file, &["--set", &format!("listeners.tunnel.bind={bound}")]);
    for client in clients {
        assert_eq!(client.join().unwrap().ok().len(), 1000);
    }
    until("each is counted", || (counted(&again, "alice") >= 50 * 1000).then_some(()));
    until("none is left over", || (local.stats()["sessions"]["open"] == 0).then_some(()));
}
