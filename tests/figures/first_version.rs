//! What the first version's own test document asks for.

use std::time::Duration;

use crate::alone;
use crate::support::traffic::{Bulk, Flow, rates, time_until};
use crate::support::wait::pause;
use crate::support::{Origin, Pair, curl};

#[test]
fn three_accounts_at_once_each_at_its_rate_in_full_duplex() {
    let _alone = alone();
    let bulk = Bulk::start();
    let origin = Origin::start();
    let users = [("alice", 1e6), ("bob", 2e6), ("carol", 3e6)];
    let pair = Pair::start(
        &[
            "alice --up 8Mbit/s --down 8Mbit/s",
            "bob --up 16Mbit/s --down 16Mbit/s",
            "carol --up 24Mbit/s --down 24Mbit/s",
        ],
        "",
    );
    let others = [pair.another("bob"), pair.another("carol")];
    let proxies = [pair.addr(), others[0].addr("local"), others[1].addr("local")];
    // HTTPS by CONNECT and through SOCKS5, before the flows take all there is.
    for proxy in proxies {
        for scheme in ["http", "socks5h"] {
            let proxy = format!("{scheme}://{proxy}");
            assert_eq!(
                curl(&["--proxy", &proxy, "--insecure", &origin.https("/bytes/1000")]).ok().len(),
                1000
            );
        }
    }
    let down: Vec<_> = proxies.iter().map(|proxy| Flow::down(*proxy, bulk.source)).collect();
    let up: Vec<_> = proxies
        .iter()
        .enumerate()
        .map(|(at, proxy)| {
            let flow = Flow::up(*proxy, bulk.sink);
            crate::support::until("the sink has it", || (bulk.taken().len() > at).then_some(()));
            flow
        })
        .collect();
    pause(Duration::from_secs(1));
    let mut counters: Vec<_> = down.iter().map(|flow| flow.received.clone()).collect();
    counters.extend(bulk.taken());
    let rates = rates(&counters, Duration::from_secs(4));
    for (way, rates) in [("down", &rates[..3]), ("up", &rates[3..])] {
        for ((name, rate), is) in users.iter().zip(rates) {
            assert!((is / rate - 1.0).abs() < 0.03, "{name} {way}: {is:.0} B/s of {rate:.0}");
        }
    }
    drop(up);
}

#[test]
fn a_download_keeps_to_300000_bytes_a_second_written_by_sql() {
    let _alone = alone();
    let bulk = Bulk::start();
    let pair = Pair::start(&["user1 --down 80Mbit/s", "alice"], "");
    let local = pair.another("user1");
    let flow = Flow::down(local.addr("local"), bulk.source);
    time_until(&flow.received, 1e7, Duration::from_secs(10));
    let sql = "UPDATE users SET rate_down = 300000 WHERE name = 'user1'";
    let done = std::process::Command::new("sqlite3").arg(pair.database()).arg(sql).output().expect("sqlite3");
    assert!(done.status.success(), "{done:?}");
    let time = time_until(&flow.received, 3e5, Duration::from_secs(4));
    assert!(time < Duration::from_secs(2), "{time:?}");
    let rate = rates(std::slice::from_ref(&flow.received), Duration::from_secs(4))[0];
    assert!((0.97..=1.03).contains(&(rate / 3e5)), "{rate:.0} B/s");
}
