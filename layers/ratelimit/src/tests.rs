//! The layer with a stub below it, and its figures under a paused clock.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;

use swiftproxy_core::account::{Account, AccountRate, AccountSpec};
use swiftproxy_core::credentials::{Authenticator, Credentials};
use swiftproxy_core::listener::Listener;
use swiftproxy_core::meter::Direction::{self, Down, Up};
use swiftproxy_core::node::Node;
use tokio::time::{Instant, sleep, sleep_until};
use tower::Layer as _;

use super::*;

const MBIT: u64 = 125_000;

fn spec(name: &str, down: u64, weight: u32) -> AccountSpec {
    AccountSpec {
        row: None,
        name: name.into(),
        password: None,
        enabled: true,
        up: AccountRate::Default,
        down: if down == 0 { AccountRate::Default } else { AccountRate::Limited(down) },
        weight,
    }
}

struct Rig {
    node: Arc<Node>,
    listener: Arc<Listener>,
    layers: Vec<Layer>,
    start: Instant,
    moved: Arc<Mutex<Vec<(usize, Duration, u64)>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Rig {
    fn new() -> Self {
        let node = Node::new("test");
        let listener = Listener::new(&node, "a");
        let start = Instant::now();
        Self { node, listener, layers: Vec::new(), start, moved: Arc::default(), tasks: Vec::new() }
    }

    fn with(mut self, config: Config) -> Self {
        self.layers.push(self.build("layers.ratelimit", config).unwrap());
        self
    }

    fn build(&self, key: &str, config: Config) -> Result<Layer, BuildError> {
        let bind = "127.0.0.1:0".parse().unwrap();
        let mut build = Build::new(&self.node, &self.listener, bind, key, Path::new("."));
        let layer = config.build(&mut build)?;
        build.commit();
        Ok(layer)
    }

    fn set(&self, specs: &[AccountSpec]) {
        self.node.accounts.set_file(specs.to_vec());
    }

    fn account(&self, name: &str) -> Arc<Account> {
        self.node.accounts.get(name).unwrap()
    }

    /// A session that went through the layers.
    async fn session(&self, account: Option<&str>) -> Session {
        let target = "example.com:80".parse().unwrap();
        let client = "127.0.0.1:1".parse().unwrap();
        let mut session = Session::admit(&self.listener, client, "socks5", target).unwrap();
        if let Some(account) = account {
            session.set_account(self.account(account));
        }
        let kept = Arc::new(Mutex::new(None));
        let keep = kept.clone();
        let mut stack = Stack::new(tower::service_fn(move |session| {
            *keep.lock().unwrap() = Some(session);
            std::future::ready(Err(Refusal::Internal))
        }));
        for layer in &self.layers {
            stack = Stack::new(layer.layer(stack));
        }
        assert!(stack.call(session).await.is_err());
        kept.lock().unwrap().take().unwrap()
    }

    /// Starts flows that want all they can get, but each at most 64 KiB a millisecond where that is `slow`.
    async fn flows(&mut self, account: Option<&str>, flows: usize, direction: Direction, slow: bool) {
        for _ in 0..flows {
            let session = self.session(account).await;
            let (flow, start, moved) = (self.tasks.len(), self.start, self.moved.clone());
            self.tasks.push(tokio::spawn(async move {
                loop {
                    let grant = session.meter.reserve(direction, 64 * 1024).await;
                    let n = grant.bytes();
                    grant.spend(n);
                    moved.lock().unwrap().push((flow, start.elapsed(), n as u64));
                    if slow {
                        sleep(Duration::from_millis(1)).await;
                    } else {
                        tokio::task::yield_now().await;
                    }
                }
            }));
        }
    }

    async fn until(&self, secs: f64) {
        sleep_until(self.start + Duration::from_secs_f64(secs)).await;
    }

    /// Bytes of the flows in that time.
    fn bytes(&self, flows: std::ops::Range<usize>, from: f64, to: f64) -> u64 {
        let (from, to) = (Duration::from_secs_f64(from), Duration::from_secs_f64(to));
        let moved = self.moved.lock().unwrap();
        let mine = moved.iter().filter(|(flow, at, _)| flows.contains(flow) && (from..to).contains(at));
        mine.map(|(_, _, n)| n).sum()
    }

    /// How much the flows' bytes in windows of that length vary: standard deviation over mean.
    fn variation(&self, from: f64, windows: usize, length: f64) -> f64 {
        let all: Vec<f64> = (0..windows)
            .map(|at| from + at as f64 * length)
            .map(|from| self.bytes(0..self.tasks.len(), from, from + length) as f64)
            .collect();
        let mean = all.iter().sum::<f64>() / windows as f64;
        (all.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / windows as f64).sqrt() / mean
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[track_caller]
fn near(is: u64, should: f64, tolerance: f64) {
    let ratio = is as f64 / should;
    assert!((ratio - 1.0).abs() <= tolerance, "{is} is {ratio:.4} of {should}");
}

#[tokio::test(start_paused = true)]
async fn the_mean_is_the_rate_evenly_and_fairly_whatever_the_flows() {
    for rate in [8_000, MBIT, 8 * MBIT, 100 * MBIT, 1000 * MBIT] {
        for flows in [1, 4, 16] {
            for direction in Direction::BOTH {
                let mut rig = Rig::new().with(Config {
                    up: Rate::bytes_per_second(rate),
                    down: Rate::bytes_per_second(rate),
                    ..Config::default()
                });
                rig.set(&[spec("alice", 0, 1)]);
                rig.flows(Some("alice"), flows, direction, false).await;
                // A slow flow's turn comes seldom: one quantum of 64 kbit/s is 64 ms.
                let secs = if rate < 8 * MBIT { 40.0 } else { 5.0 };
                rig.until(1.0 + secs + 0.1).await;
                near(rig.bytes(0..flows, 1.0, 1.0 + secs), rate as f64 * secs, 0.01);
                for flow in 0..flows {
                    let share = rate as f64 * secs / flows as f64;
                    near(rig.bytes(flow..flow + 1, 1.0, 1.0 + secs), share, 0.04);
                }
                let length = if rate < 8 * MBIT { 1.0 } else { 0.1 };
                let variation = rig.variation(1.0, (secs / length) as usize, length);
                assert!(variation < 0.1, "{rate} B/s, {flows} flows: {variation:.3}");
            }
        }
    }
}

/// "Burst is small: no one-second burst at connect."
#[tokio::test(start_paused = true)]
async fn a_new_flow_gets_no_more_than_one_burst_ahead() {
    let mut rig = Rig::new().with(Config::default());
    rig.set(&[spec("alice", 8 * MBIT, 1)]);
    rig.flows(Some("alice"), 4, Down, false).await;
    rig.until(1.0).await;
    near(rig.bytes(0..4, 0.0, 1.0), 8.0 * MBIT as f64 * 1.1, 0.01);
}

/// "Changing a rate changes the bucket in place: open flows, sleeping ones included, follow within 100 ms."
#[tokio::test(start_paused = true)]
async fn sleeping_flows_follow_a_changed_rate_within_100_ms() {
    let mut rig = Rig::new().with(Config::default());
    // A quantum takes a minute and more: all of them sleep.
    rig.set(&[spec("alice", 8, 1)]);
    rig.flows(Some("alice"), 4, Down, true).await;
    rig.until(2.0).await;
    rig.set(&[spec("alice", 80 * MBIT, 1)]);
    rig.until(2.2).await;
    near(rig.bytes(0..4, 2.1, 2.2), 8.0 * MBIT as f64, 0.1);
    // To no limit at all, and back.
    rig.set(&[AccountSpec { down: AccountRate::Unlimited, ..spec("alice", 0, 1) }]);
    rig.until(3.0).await;
    near(rig.bytes(0..4, 2.3, 3.0), 4.0 * 700.0 * 65536.0, 0.02);
    rig.set(&[spec("alice", 8 * MBIT, 1)]);
    rig.until(5.0).await;
    near(rig.bytes(0..4, 3.2, 5.0), 1.8 * 8.0 * MBIT as f64, 0.02);
}

/// "One account, one pair of buckets, whatever the number of connections, listeners": and no other's.
#[tokio::test(start_paused = true)]
async fn accounts_do_not_disturb_each_other() {
    let mut rig = Rig::new().with(Config::default());
    rig.set(&[spec("alice", 8 * MBIT, 1), spec("bob", 16 * MBIT, 1)]);
    rig.flows(Some("alice"), 16, Down, false).await;
    rig.flows(Some("bob"), 1, Down, false).await;
    rig.flows(Some("bob"), 1, Up, true).await;
    rig.flows(None, 1, Down, true).await;
    rig.until(6.0).await;
    near(rig.bytes(0..16, 1.0, 6.0), 5.0 * 8.0 * MBIT as f64, 0.01);
    near(rig.bytes(16..17, 1.0, 6.0), 5.0 * 16.0 * MBIT as f64, 0.01);
    // Neither bob's other direction nor a session without an account is limited.
    for flow in [17, 18] {
        near(rig.bytes(flow..flow + 1, 1.0, 6.0), 5000.0 * 65536.0, 0.01);
    }
}

fn cap(per: Per, mbit: u64) -> Config {
    Config { per, down: Rate::bytes_per_second(mbit * MBIT), ..Config::default() }
}

/// "Fifty flows buy nobody more"; what one leaves unused the others get.
#[tokio::test(start_paused = true)]
async fn a_cap_is_shared_by_accounts_and_their_weights() {
    for mbit in [20, 200] {
        let mut rig = Rig::new().with(cap(Per::Node, mbit));
        rig.set(&[spec("alice", 0, 1), spec("bob", 0, 1), spec("carol", 0, 2)]);
        rig.flows(Some("alice"), 50, Down, false).await;
        rig.flows(Some("bob"), 1, Down, false).await;
        let whole = (mbit * MBIT) as f64;
        rig.until(6.0).await;
        near(rig.bytes(0..50, 1.0, 6.0), whole * 2.5, 0.05);
        near(rig.bytes(50..51, 1.0, 6.0), whole * 2.5, 0.05);
        rig.flows(Some("carol"), 1, Down, false).await;
        rig.until(12.0).await;
        near(rig.bytes(0..50, 7.0, 12.0), whole * 1.25, 0.05);
        near(rig.bytes(50..51, 7.0, 12.0), whole * 1.25, 0.05);
        near(rig.bytes(51..52, 7.0, 12.0), whole * 2.5, 0.05);
        // Bob and carol stop: alice has it all within a second.
        rig.tasks[50].abort();
        rig.tasks[51].abort();
        rig.until(15.0).await;
        near(rig.bytes(0..50, 13.0, 15.0), whole * 2.0, 0.02);
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_weight_binds_on_open_sessions() {
    let mut rig = Rig::new().with(cap(Per::Node, 20));
    rig.set(&[spec("alice", 0, 1), spec("bob", 0, 1)]);
    rig.flows(Some("alice"), 1, Down, false).await;
    rig.flows(Some("bob"), 4, Down, false).await;
    rig.until(4.0).await;
    near(rig.bytes(0..1, 1.0, 4.0), 3.0 * 10.0 * MBIT as f64, 0.05);
    rig.set(&[spec("alice", 0, 3), spec("bob", 0, 1)]);
    rig.until(9.0).await;
    near(rig.bytes(0..1, 5.0, 9.0), 4.0 * 15.0 * MBIT as f64, 0.05);
    near(rig.bytes(1..5, 5.0, 9.0), 4.0 * 5.0 * MBIT as f64, 0.05);
}

#[tokio::test(start_paused = true)]
async fn an_accounts_rate_binds_under_a_cap_and_leaves_the_rest_to_others() {
    // The wide one first in the list: the meter asks the narrow one first all the same.
    let mut rig = Rig::new().with(Config::default());
    rig.layers.push(rig.build("layers.cap", cap(Per::Listener, 20)).unwrap());
    rig.set(&[spec("alice", 4 * MBIT, 1), spec("bob", 0, 1)]);
    rig.flows(Some("alice"), 4, Down, false).await;
    rig.flows(Some("bob"), 4, Down, false).await;
    rig.until(6.0).await;
    near(rig.bytes(0..4, 1.0, 6.0), 5.0 * 4.0 * MBIT as f64, 0.02);
    near(rig.bytes(4..8, 1.0, 6.0), 5.0 * 16.0 * MBIT as f64, 0.02);
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_a_cap_in_place() {
    let mut rig = Rig::new().with(cap(Per::Listener, 8));
    rig.flows(None, 2, Down, true).await;
    rig.until(2.0).await;
    rig.build("layers.ratelimit", cap(Per::Listener, 16)).unwrap();
    rig.until(4.0).await;
    near(rig.bytes(0..2, 1.0, 2.0), 8.0 * MBIT as f64, 0.02);
    near(rig.bytes(0..2, 2.1, 4.0), 1.9 * 16.0 * MBIT as f64, 0.02);
    rig.build("layers.ratelimit", Config { per: Per::Listener, ..Config::default() }).unwrap();
    rig.until(5.0).await;
    near(rig.bytes(0..2, 4.1, 5.0), 2.0 * 900.0 * 65536.0, 0.02);
}

#[tokio::test(start_paused = true)]
async fn many_accounts_at_a_low_rate() {
    let mut rig = Rig::new().with(Config::default());
    let specs: Vec<_> = (0..200).map(|n| spec(&format!("user{n}"), MBIT, 1)).collect();
    rig.set(&specs);
    for spec in &specs {
        rig.flows(Some(&spec.name), 4, Down, false).await;
    }
    rig.until(6.0).await;
    for account in 0..200 {
        near(rig.bytes(account * 4..account * 4 + 4, 1.0, 6.0), 5.0 * MBIT as f64, 0.01);
    }
}

#[tokio::test]
async fn nothing_changes_before_commit_and_bad_tables_are_refused() {
    struct Nobody;
    impl Authenticator for Nobody {
        fn wants_password(&self, _: SocketAddr) -> bool {
            true
        }
        fn known(&self, _: SocketAddr, _: Option<&Credentials>) -> Option<Arc<Account>> {
            None
        }
        fn verify(
            &self,
            _: SocketAddr,
            _: Option<Credentials>,
        ) -> swiftproxy_core::BoxFuture<Result<Arc<Account>, Refusal>> {
            Box::pin(std::future::ready(Err(Refusal::AuthFailed)))
        }
    }
    let rig = Rig::new();
    rig.set(&[spec("alice", 0, 1)]);
    let bind = "127.0.0.1:0".parse().unwrap();
    let mut build = Build::new(&rig.node, &rig.listener, bind, "layers.ratelimit", Path::new("."));
    Config { down: Rate::bytes_per_second(5), ..Config::default() }.build(&mut build).unwrap();
    assert_eq!(rig.account("alice").effective_rate(Down), None);
    build.commit();
    assert_eq!(rig.account("alice").effective_rate(Down), Some(5));

    let wrong = Config { burst: Span::millis(1), ..Config::default() };
    assert_eq!(rig.build("layers.x", wrong).unwrap_err().key, "layers.x.burst");
    build.authenticator = Some(Arc::new(Nobody));
    assert_eq!(Config::default().build(&mut build).unwrap_err().key, "layers.ratelimit.per");
    assert!(cap(Per::Node, 1).build(&mut build).is_ok());
}
