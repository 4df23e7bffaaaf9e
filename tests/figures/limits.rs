//! An account is held to its rate, whatever its flows do, and follows a change while they run.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::alone;
use crate::support::proxy::command;
use crate::support::traffic::{Bulk, Flow, rates, time_until};
use crate::support::wait::pause;
use crate::support::{Pair, until};

/// 8 Mbit/s.
const RATE: f64 = 1e6;
/// What is measured, after the first second.
const WINDOW: Duration = Duration::from_secs(5);

fn counters(flows: &[Flow]) -> Vec<Arc<AtomicU64>> {
    flows.iter().map(|flow| flow.received.clone()).collect()
}

fn assert_rate(what: &str, rates: &[f64], rate: f64, within: f64) {
    let sum: f64 = rates.iter().sum();
    assert!((sum / rate - 1.0).abs() <= within, "{what}: {sum:.0} B/s of {rate:.0}");
    let mean = sum / rates.len() as f64;
    for one in rates {
        assert!((one / mean - 1.0).abs() <= 0.1, "{what}: a flow has {one:.0} B/s, the mean is {mean:.0}");
    }
}

#[test]
fn an_account_is_held_to_its_rate_with_1_4_and_16_flows() {
    let _alone = alone();
    let bulk = Bulk::start();
    for n in [1, 4, 16] {
        // What an upload left in buffers still counts, so each number of flows has an account of its own.
        let pair = Pair::start(&["alice --up 8Mbit/s --down 8Mbit/s"], "");
        // Bytes arrive in steps of up to a window; each flow's share is many of them.
        let window = WINDOW.max(Duration::from_secs(n as u64));
        let flows: Vec<_> = (0..n).map(|_| Flow::down(pair.addr(), bulk.source)).collect();
        pause(Duration::from_secs(1));
        assert_rate(&format!("{n} down"), &rates(&counters(&flows), window), RATE, 0.03);
        drop(flows);
        let before = bulk.taken().len();
        let _flows: Vec<_> = (0..n).map(|_| Flow::up(pair.addr(), bulk.sink)).collect();
        let taken =
            until("the sink has them all", || bulk.taken().get(before..before + n).map(<[_]>::to_vec));
        pause(Duration::from_secs(1));
        assert_rate(&format!("{n} up"), &rates(&taken, window), RATE, 0.03);
    }
}

#[test]
fn two_accounts_do_not_disturb_each_other() {
    let _alone = alone();
    let bulk = Bulk::start();
    let pair = Pair::start(&["alice --down 4Mbit/s", "bob --down 16Mbit/s"], "");
    let bob = pair.another("bob");
    let flows = [
        Flow::down(pair.addr(), bulk.source),
        Flow::down(bob.addr("local"), bulk.source),
        Flow::down(bob.addr("local"), bulk.source),
    ];
    pause(Duration::from_secs(1));
    let rates = rates(&counters(&flows), WINDOW);
    assert_rate("alice", &rates[..1], 5e5, 0.03);
    assert_rate("bob", &rates[1..], 2e6, 0.03);
}

#[test]
fn a_running_download_follows_the_file_within_a_second_and_the_store_within_two() {
    let _alone = alone();
    let bulk = Bulk::start();
    let pair = Pair::start(&["alice --down 40Mbit/s"], "");
    let flow = Flow::down(pair.addr(), bulk.source);
    time_until(&flow.received, 5e6, Duration::from_secs(10));

    let (ok, said, error) = command(&["user", "set", "alice", "--down", "8Mbit/s", "--store", &pair.store()]);
    assert!(ok, "{error}");
    assert_eq!(said, "alice: up default, down 8Mbit/s\n");
    let time = time_until(&flow.received, RATE, Duration::from_secs(4));
    assert!(time < Duration::from_secs(2), "the store: {time:?}");

    pair.remote.edit(|text| text + "\n[users.alice]\npassword = \"correct horse\"\ndown = \"24Mbit/s\"\n");
    let time = time_until(&flow.received, 3e6, Duration::from_secs(4));
    assert!(time < Duration::from_secs(1), "the file: {time:?}");

    pair.remote.edit(|text| text.replace("24Mbit/s", "unlimited"));
    let time = until_fast(&flow);
    assert!(time < Duration::from_secs(1), "limited to unlimited: {time:?}");

    pair.remote.edit(|text| text.replace("unlimited", "8Mbit/s"));
    let time = time_until(&flow.received, RATE, Duration::from_secs(4));
    assert!(time < Duration::from_secs(1), "unlimited to limited: {time:?}");
    assert!(!flow.has_ended());
}

/// How long it takes until a flow moves 30 MB/s.
fn until_fast(flow: &Flow) -> Duration {
    let start = tokio::time::Instant::now();
    while rates(std::slice::from_ref(&flow.received), Duration::from_millis(50))[0] < 3e7 {
        assert!(start.elapsed() < Duration::from_secs(4), "still limited");
    }
    start.elapsed()
}
