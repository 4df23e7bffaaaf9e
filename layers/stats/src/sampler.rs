//! Once a second: totals read, rates made of the difference, and told to whoever listens.
//!
//! Invariants: a rate is bytes over the time that really passed; a tick is made into JSON at most once, and not at
//! all while nobody reads it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use swiftproxy_core::meter::{Direction, Tap};
use swiftproxy_core::node::Node;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::snapshot::{
    AccountFigures, ListenerFigures, Pair, SessionFigures, Snapshot, reload_state, store_state, unix_time,
};

const PERIOD: Duration = Duration::from_secs(1);
/// Whoever asks between ticks gets figures of that moment, as long as making them takes one part in so many of the time.
const SHARE: u32 = 10;

/// One second's figures, shared by all who read them.
#[derive(Debug)]
pub struct Tick {
    /// The figures.
    pub snapshot: Snapshot,
    line: OnceLock<Bytes>,
}

impl Tick {
    fn new(snapshot: Snapshot) -> Arc<Self> {
        Arc::new(Self { snapshot, line: OnceLock::new() })
    }

    /// The figures as JSON on one line, its end included.
    pub fn line(&self) -> Bytes {
        self.line.get_or_init(|| to_line(&self.snapshot)).clone()
    }

    /// The same with no account but that one.
    pub fn line_of(&self, account: &str) -> Bytes {
        to_line(&self.snapshot.only(account))
    }
}

fn to_line(snapshot: &Snapshot) -> Bytes {
    // Strings, numbers and maps by strings: nothing in it can fail.
    let mut line = serde_json::to_vec(snapshot).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// Makes figures of a node's counters.
pub struct Sampler {
    node: Arc<Node>,
    ticks: watch::Sender<Arc<Tick>>,
    past: Mutex<Past>,
}

/// The totals that rates start from.
struct Past {
    /// At the tick before the last, so that one who asks just after a tick gets a rate over at least a second.
    before: Totals,
    last: Totals,
    fresh: Arc<Tick>,
    /// Until when they are good enough.
    until: Instant,
}

/// Every counter at one moment.
#[derive(Clone)]
struct Totals {
    at: Instant,
    node: Pair,
    listeners: HashMap<String, Pair>,
    /// By the account's key, which is never used again.
    accounts: HashMap<u64, Pair>,
}

impl Sampler {
    /// A sampler with its first figures made; [`Sampler::run`] makes the others.
    pub fn new(node: Arc<Node>) -> Arc<Self> {
        let totals = Totals {
            at: Instant::now(),
            node: Pair::default(),
            listeners: HashMap::new(),
            accounts: HashMap::new(),
        };
        let (totals, snapshot) = sample(&node, &totals);
        let tick = Tick::new(snapshot);
        let past = Past { before: totals.clone(), until: totals.at, last: totals, fresh: tick.clone() };
        Arc::new(Self { node, ticks: watch::Sender::new(tick), past: Mutex::new(past) })
    }

    /// Makes figures once a second, for as long as it is polled.
    pub async fn run(&self) {
        let mut interval = tokio::time::interval_at(Instant::now() + PERIOD, PERIOD);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.tick();
        }
    }

    /// Tells of each tick; the last one is there at once, and a slow reader skips.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Tick>> {
        self.ticks.subscribe()
    }

    /// The figures of this moment, or nearly; rates over the last one to two seconds.
    pub fn now(&self) -> Arc<Tick> {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() >= past.until {
            let (totals, snapshot) = sample(&self.node, &past.before);
            past.fresh = Tick::new(snapshot);
            past.until = Instant::now() + totals.at.elapsed() * SHARE;
        }
        past.fresh.clone()
    }

    fn tick(&self) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let (totals, snapshot) = sample(&self.node, &past.last);
        let tick = Tick::new(snapshot);
        past.fresh = tick.clone();
        past.until = Instant::now();
        past.before = std::mem::replace(&mut past.last, totals);
        drop(past);
        self.ticks.send_replace(tick);
    }
}

/// The totals of this moment, and what they make since `past`.
fn sample(node: &Node, past: &Totals) -> (Totals, Snapshot) {
    let at = Instant::now();
    let secs = at.saturating_duration_since(past.at).as_secs_f64();
    let mut open: HashMap<u64, usize> = HashMap::new();
    node.sessions.each(|live| {
        if let Some(account) = live.account() {
            *open.entry(account.key()).or_default() += 1;
        }
    });
    let mut totals =
        Totals { at, node: read(&node.bytes), listeners: HashMap::new(), accounts: HashMap::new() };
    let rate = |now: Pair, was: Option<&Pair>| {
        let was = was.copied().unwrap_or_default();
        Pair { up: per_second(now.up, was.up, secs), down: per_second(now.down, was.down, secs) }
    };
    let mut listeners = Vec::new();
    for listener in node.listeners() {
        let total = read(&listener.bytes);
        let rate = rate(total, past.listeners.get(listener.name()));
        totals.listeners.insert(listener.name().to_owned(), total);
        listeners.push(ListenerFigures {
            name: listener.name().to_owned(),
            up: total.up,
            down: total.down,
            rate_up: rate.up,
            rate_down: rate.down,
            sessions: listener.slots().taken(),
        });
    }
    let mut accounts = Vec::new();
    for account in node.accounts.all() {
        let total = read(&account.usage);
        let rate = rate(total, past.accounts.get(&account.key()));
        totals.accounts.insert(account.key(), total);
        accounts.push(AccountFigures {
            name: account.name().to_owned(),
            up: total.up,
            down: total.down,
            rate_up: rate.up,
            rate_down: rate.down,
            limit_up: account.effective_rate(Direction::Up),
            limit_down: account.effective_rate(Direction::Down),
            sessions: open.get(&account.key()).copied().unwrap_or(0),
            enabled: account.barred().is_none(),
        });
    }
    accounts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let tunnels = node.tunnels();
    let snapshot = Snapshot {
        time: unix_time(SystemTime::now()),
        pid: std::process::id(),
        name: node.name().to_owned(),
        role: node.role(),
        version: env!("CARGO_PKG_VERSION"),
        uptime: node.uptime().as_millis() as f64 / 1000.0,
        sessions: SessionFigures { open: node.sessions.count(), total: node.sessions.opened() },
        total: totals.node,
        rate: rate(totals.node, Some(&past.node)),
        listeners,
        accounts,
        refusals: node
            .refusals()
            .filter(|(_, count)| *count > 0)
            .map(|(refusal, count)| (refusal.label(), count))
            .collect(),
        tunnel: tunnels.first().map(|(_, tunnel)| tunnel.status()),
        store: store_state(&node.health),
        config: reload_state(&node.health),
    };
    (totals, snapshot)
}

fn read(tap: &Tap) -> Pair {
    Pair { up: tap.total(Direction::Up), down: tap.total(Direction::Down) }
}

/// A first sample has no past, and a moment too short makes no rate.
fn per_second(now: u64, was: u64, secs: f64) -> u64 {
    if secs < 0.001 { 0 } else { (now.saturating_sub(was) as f64 / secs).round() as u64 }
}
