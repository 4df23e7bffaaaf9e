//! What runs, who is here, and ending it.
//!
//! Invariant: a list has a bound, whatever is asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use swiftproxy_core::cancel::Reason;
use swiftproxy_core::live::Live;
use swiftproxy_core::meter::Direction;
use swiftproxy_stats::{ConfigState, reload_state, unix_time};

use crate::error::ApiError;
use crate::serve::Shared;

/// Sessions in an answer where no other number is asked for.
const DEFAULT_LIMIT: usize = 1_000;
const MAX_LIMIT: usize = 10_000;

/// What a node runs.
#[derive(Serialize)]
pub(crate) struct Running {
    listeners: Vec<RunningListener>,
    /// How the last reload went.
    reload: ConfigState,
}

#[derive(Serialize)]
struct RunningListener {
    name: String,
    stack: Vec<String>,
    relay: Option<String>,
}

pub(crate) async fn config(State(shared): State<Arc<Shared>>) -> Json<Running> {
    let listeners = shared.node.listeners().into_iter().map(|listener| {
        let mut stack = listener.current().map_or_else(Vec::new, |current| current.names.clone());
        let relay = stack.pop();
        RunningListener { name: listener.name().to_owned(), stack, relay }
    });
    Json(Running { listeners: listeners.collect(), reload: reload_state(&shared.node.health) })
}

#[derive(Deserialize)]
pub(crate) struct Which {
    account: Option<String>,
    limit: Option<usize>,
}

/// Open sessions, the newest first.
#[derive(Serialize)]
pub(crate) struct OpenSessions {
    /// How many there are, listed or not.
    total: usize,
    sessions: Vec<OpenSession>,
}

/// One open session; times in Unix seconds, bytes since it began.
#[derive(Serialize)]
struct OpenSession {
    id: u64,
    client: String,
    listener: String,
    protocol: &'static str,
    target: String,
    dialled: Option<String>,
    account: Option<String>,
    started: f64,
    age: f64,
    up: u64,
    down: u64,
}

impl OpenSession {
    fn of(live: &Live) -> Self {
        Self {
            id: live.id,
            client: live.client.to_string(),
            listener: live.listener.name().to_owned(),
            protocol: live.protocol,
            target: live.target.to_string(),
            dialled: live.dialled().map(|addr| addr.to_string()),
            account: live.account().map(|account| account.name().to_owned()),
            started: unix_time(live.started),
            age: live.age().as_millis() as f64 / 1000.0,
            up: live.bytes.total(Direction::Up),
            down: live.bytes.total(Direction::Down),
        }
    }
}

pub(crate) async fn sessions(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Which>, QueryRejection>,
) -> Result<Json<OpenSessions>, ApiError> {
    let Query(which) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let mut open = shared.node.sessions.all();
    if let Some(name) = &which.account {
        open.retain(|live| live.account().is_some_and(|account| account.name() == name));
    }
    open.sort_unstable_by_key(|live| std::cmp::Reverse(live.id));
    let total = open.len();
    open.truncate(which.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT));
    Ok(Json(OpenSessions { total, sessions: open.iter().map(|live| OpenSession::of(live)).collect() }))
}

/// How many sessions were told to end.
#[derive(Serialize)]
pub(crate) struct Ended {
    ended: usize,
}

pub(crate) async fn end_session(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<u64>, PathRejection>,
) -> Result<Json<Ended>, ApiError> {
    let gone = || ApiError::not_found("there is no such session");
    let Path(id) = id.map_err(|_| gone())?;
    shared.node.sessions.get(id).ok_or_else(gone)?.cancel.fire(Reason::Kicked);
    Ok(Json(Ended { ended: 1 }))
}

pub(crate) async fn kick(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Ended>, ApiError> {
    let unknown = || ApiError::not_found("there is no such user");
    let Path(name) = name.map_err(|_| unknown())?;
    let account = shared.node.accounts.get(&name).ok_or_else(unknown)?;
    let mut ended = 0;
    shared.node.sessions.each(|live| {
        if live.account().is_some_and(|of| of.key() == account.key()) {
            live.cancel.fire(Reason::Kicked);
            ended += 1;
        }
    });
    tracing::info!(account = name, ended, "sessions ended by the API");
    Ok(Json(Ended { ended }))
}
