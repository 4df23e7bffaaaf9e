//! The layer with a stub below it, and the sampler under a paused clock.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use swiftproxy_core::BoxFuture;
use swiftproxy_core::account::{Account, AccountRate, AccountSpec};
use swiftproxy_core::credentials::{Authenticator, Credentials};
use swiftproxy_core::listener::Listener;
use swiftproxy_core::meter::{Direction, Tap};
use swiftproxy_core::node::Node;
use swiftproxy_core::status::{Reload, StoreHealth};
use tower::Layer as _;

use super::*;

fn add_account(node: &Node, name: &str) -> Arc<Account> {
    node.accounts.set_file(vec![AccountSpec {
        row: None,
        name: name.into(),
        password: None,
        enabled: true,
        up: AccountRate::Default,
        down: AccountRate::Limited(1000),
        weight: 1,
    }]);
    node.accounts.get(name).unwrap()
}

fn admit(listener: &Arc<Listener>) -> Session {
    let target = "example.com:80".parse().unwrap();
    Session::admit(listener, "127.0.0.1:1".parse().unwrap(), "socks5", target).unwrap()
}

fn both(tap: &Tap) -> (u64, u64) {
    (tap.total(Direction::Up), tap.total(Direction::Down))
}

/// A stack below the layer that keeps the sessions it gets.
fn keeping() -> (Stack, Arc<Mutex<Vec<Session>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let stack = Stack::new(tower::service_fn({
        let kept = kept.clone();
        move |session| {
            kept.lock().unwrap().push(session);
            std::future::ready(Err(Refusal::Internal))
        }
    }));
    (stack, kept)
}

fn build(node: &Arc<Node>, listener: &Arc<Listener>) -> Layer {
    let mut build =
        Build::new(node, listener, "127.0.0.1:0".parse().unwrap(), "layers.stats", Path::new("."));
    Config::default().build(&mut build).unwrap()
}

#[tokio::test]
async fn each_counter_is_told_once_even_where_two_layers_count() {
    let node = Node::new("test");
    let listener = Listener::new(&node, "a");
    let alice = add_account(&node, "alice");
    let (inner, kept) = keeping();
    let layer = build(&node, &listener);
    let mut stack = layer.layer(Stack::new(layer.layer(inner)));
    let mut session = admit(&listener);
    session.set_account(alice.clone());
    assert!(stack.call(session).await.is_err());
    let session = kept.lock().unwrap().pop().unwrap();
    session.meter.count(Direction::Up, 3);
    session.meter.count(Direction::Down, 5);
    for tap in [&node.bytes, &listener.bytes, &alice.usage, &session.live().bytes] {
        assert_eq!(both(tap), (3, 5));
    }
    assert_eq!(alice.sessions.load(Relaxed), 1);
}

#[tokio::test]
async fn a_session_nobody_pays_for_is_counted_all_the_same() {
    let node = Node::new("test");
    let listener = Listener::new(&node, "a");
    let (inner, kept) = keeping();
    assert!(build(&node, &listener).layer(inner).call(admit(&listener)).await.is_err());
    kept.lock().unwrap().pop().unwrap().meter.count(Direction::Down, 7);
    assert_eq!((both(&node.bytes), both(&listener.bytes)), ((0, 7), (0, 7)));
}

#[test]
fn before_auth_it_is_refused() {
    struct Nobody;
    impl Authenticator for Nobody {
        fn wants_password(&self, _: std::net::SocketAddr) -> bool {
            true
        }
        fn known(&self, _: std::net::SocketAddr, _: Option<&Credentials>) -> Option<Arc<Account>> {
            None
        }
        fn verify(
            &self,
            _: std::net::SocketAddr,
            _: Option<Credentials>,
        ) -> BoxFuture<Result<Arc<Account>, Refusal>> {
            Box::pin(std::future::ready(Err(Refusal::AuthFailed)))
        }
    }
    let node = Node::new("test");
    let listener = Listener::new(&node, "a");
    let mut build =
        Build::new(&node, &listener, "127.0.0.1:0".parse().unwrap(), "layers.stats", Path::new("."));
    build.authenticator = Some(Arc::new(Nobody));
    let error = Config::default().build(&mut build).unwrap_err();
    assert_eq!(error.key, "layers.stats");
    assert!(error.remedy.contains("listeners.a.stack"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn rates_are_over_the_time_that_passed() {
    let node = Node::new("test");
    let listener = Listener::new(&node, "a");
    node.set_listeners(vec![listener.clone()]);
    let alice = add_account(&node, "alice");
    let mut session = admit(&listener);
    session.set_account(alice.clone());
    // What was counted before the first sample is in its totals and in no rate.
    node.bytes.count(Direction::Up, 1_000_000);
    let sampler = Sampler::new(node.clone());
    let mut ticks = sampler.subscribe();
    let running = tokio::spawn({
        let sampler = sampler.clone();
        async move { sampler.run().await }
    });
    let first = ticks.borrow_and_update().snapshot.clone();
    assert_eq!((first.total.up, first.rate.up), (1_000_000, 0));

    node.bytes.count(Direction::Down, 500);
    listener.bytes.count(Direction::Down, 400);
    alice.usage.count(Direction::Up, 300);
    ticks.changed().await.unwrap();
    let tick = ticks.borrow_and_update().clone();
    assert_eq!(tick.snapshot.rate, Pair { up: 0, down: 500 });
    assert_eq!(tick.snapshot.listeners[0].rate_down, 400);
    assert_eq!(tick.snapshot.listeners[0].sessions, 1);
    let figures = &tick.snapshot.accounts[0];
    assert_eq!((figures.rate_up, figures.sessions, figures.limit_up), (300, 1, None));
    assert_eq!(figures.limit_down, Some(1000));

    // Between ticks: totals of the moment, a rate over more than the half second since the tick.
    tokio::time::sleep(Duration::from_millis(500)).await;
    node.bytes.count(Direction::Down, 1000);
    let now = sampler.now();
    assert_eq!((now.snapshot.total.down, now.snapshot.rate.down), (1500, 1000));

    ticks.changed().await.unwrap();
    ticks.changed().await.unwrap();
    assert_eq!(ticks.borrow_and_update().snapshot.rate, Pair::default());
    running.abort();
}

#[tokio::test]
async fn what_it_says_is_stable() {
    let node = Node::new("test");
    add_account(&node, "alice");
    node.count_refusal(Refusal::Denied);
    node.health.set_reload(Reload::Rejected(vec!["a.toml: no".into()]));
    node.health.set_store(StoreHealth::Down(std::time::SystemTime::UNIX_EPOCH, "locked".into()));
    let tick = Sampler::new(node).now();
    let value: serde_json::Value = serde_json::from_slice(&tick.line()).unwrap();
    for key in ["time", "uptime", "version"] {
        assert!(!value[key].is_null(), "{key}");
    }
    assert_eq!(value["pid"], std::process::id());
    assert_eq!((&value["name"], &value["role"]), (&"test".into(), &"remote".into()));
    assert_eq!(value["refusals"], serde_json::json!({ "denied": 1 }));
    assert_eq!(value["store"], serde_json::json!({ "state": "down", "since": 0.0, "error": "locked" }));
    assert_eq!(value["config"]["outcome"], "rejected");
    assert_eq!(value["config"]["errors"][0], "a.toml: no");
    assert_eq!(value["tunnel"], serde_json::Value::Null);
    assert_eq!(
        value["accounts"][0],
        serde_json::json!({
            "name": "alice", "up": 0, "down": 0, "rate_up": 0, "rate_down": 0,
            "limit_up": null, "limit_down": 1000, "sessions": 0, "enabled": true,
        })
    );
    let other: serde_json::Value = serde_json::from_slice(&tick.line_of("bob")).unwrap();
    assert_eq!(other["accounts"], serde_json::json!([]));
    assert_eq!(tick.line_of("alice"), tick.line());
}
