//! The figures of one moment, as the API shows them.
//!
//! Invariant: names are stable; a key without a suffix is a count of bytes or sessions since the process started,
//! `rate_*` is bytes per second over the last second, `limit_*` is bytes per second with null for unlimited. *Up*
//! is client to target. Times are Unix seconds with milliseconds as decimals.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;
use swiftproxy_core::status::{Health, Reload, StoreHealth};
use swiftproxy_core::tunnel::TunnelStatus;

/// Everything the stats socket says of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// When it was made, in Unix seconds.
    pub time: f64,
    /// The process's number.
    pub pid: u32,
    /// The node's name.
    pub name: String,
    /// `local` where a tunnel leads on from here, `remote` elsewhere.
    pub role: &'static str,
    /// The program's version.
    pub version: &'static str,
    /// Seconds since it started.
    pub uptime: f64,
    /// Sessions of all listeners.
    pub sessions: SessionFigures,
    /// Bytes since it started.
    pub total: Pair,
    /// Bytes per second.
    pub rate: Pair,
    /// Its listeners, by name.
    pub listeners: Vec<ListenerFigures>,
    /// The accounts it knows, by name; empty on a local role.
    pub accounts: Vec<AccountFigures>,
    /// Sessions turned away since it started, by the refusal's label; those that happened.
    pub refusals: BTreeMap<&'static str, u64>,
    /// The tunnel, on a local role.
    pub tunnel: Option<TunnelStatus>,
    /// How the store is.
    pub store: StoreState,
    /// How the last reload went.
    pub config: ConfigState,
}

/// How many sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SessionFigures {
    /// Open at this moment.
    pub open: usize,
    /// Admitted since the process started.
    pub total: u64,
}

/// A figure for each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Pair {
    /// Client to target.
    pub up: u64,
    /// Target to client.
    pub down: u64,
}

/// One listener's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenerFigures {
    /// Its name in the configuration.
    pub name: String,
    /// Bytes, client to target.
    pub up: u64,
    /// Bytes, target to client.
    pub down: u64,
    /// Bytes per second, client to target.
    pub rate_up: u64,
    /// Bytes per second, target to client.
    pub rate_down: u64,
    /// Sessions open at this moment.
    pub sessions: usize,
}

/// One account's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountFigures {
    /// Its name.
    pub name: String,
    /// Bytes, client to target.
    pub up: u64,
    /// Bytes, target to client.
    pub down: u64,
    /// Bytes per second, client to target.
    pub rate_up: u64,
    /// Bytes per second, target to client.
    pub rate_down: u64,
    /// What it is held to, in bytes per second, client to target; null is unlimited.
    pub limit_up: Option<u64>,
    /// What it is held to, in bytes per second, target to client; null is unlimited.
    pub limit_down: Option<u64>,
    /// Sessions open at this moment.
    pub sessions: usize,
    /// Whether it may be used.
    pub enabled: bool,
}

/// How the store is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoreState {
    /// `ok`, `down`, or `none` where none is configured.
    pub state: &'static str,
    /// Since when it is down, in Unix seconds.
    pub since: Option<f64>,
    /// Why it is down.
    pub error: Option<String>,
}

/// How the last reload went; all empty where there was none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigState {
    /// `reloaded`, `unchanged` or `rejected`.
    pub outcome: Option<&'static str>,
    /// When it was, in Unix seconds.
    pub time: Option<f64>,
    /// Why it was rejected.
    pub errors: Vec<String>,
}

impl Snapshot {
    /// The same with no account but that one.
    pub fn only(&self, account: &str) -> Self {
        let accounts = match self.accounts.binary_search_by(|known| known.name.as_str().cmp(account)) {
            Ok(at) => self.accounts.get(at).cloned().into_iter().collect(),
            Err(_) => Vec::new(),
        };
        Self {
            time: self.time,
            pid: self.pid,
            name: self.name.clone(),
            role: self.role,
            version: self.version,
            uptime: self.uptime,
            sessions: self.sessions,
            total: self.total,
            rate: self.rate,
            listeners: self.listeners.clone(),
            accounts,
            refusals: self.refusals.clone(),
            tunnel: self.tunnel.clone(),
            store: self.store.clone(),
            config: self.config.clone(),
        }
    }
}

/// How the last reload went.
pub fn reload_state(health: &Health) -> ConfigState {
    let Some((when, reload)) = health.reload() else {
        return ConfigState { outcome: None, time: None, errors: Vec::new() };
    };
    let (outcome, errors) = match reload {
        Reload::Reloaded => ("reloaded", Vec::new()),
        Reload::Unchanged => ("unchanged", Vec::new()),
        Reload::Rejected(errors) => ("rejected", errors),
    };
    ConfigState { outcome: Some(outcome), time: Some(unix_time(when)), errors }
}

pub(crate) fn store_state(health: &Health) -> StoreState {
    match health.store() {
        StoreHealth::None => StoreState { state: "none", since: None, error: None },
        StoreHealth::Ok => StoreState { state: "ok", since: None, error: None },
        StoreHealth::Down(since, error) => {
            StoreState { state: "down", since: Some(unix_time(since)), error: Some(error) }
        }
    }
}

/// Unix seconds, to the millisecond.
pub fn unix_time(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64 / 1000.0)
}
