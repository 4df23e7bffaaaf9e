//! `/v1/tunnel`: a GUI's login.
//!
//! Invariant: a login that was begun is carried to its end, whoever stops waiting for it.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use http_body_util::LengthLimitError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use swiftproxy_core::secret::Secret;
use swiftproxy_core::tunnel::{Login, Tunnel, TunnelStatus};
use tokio::time::timeout;

use crate::error::ApiError;
use crate::serve::Shared;

/// How long a request's body may be, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What a GUI sends to log in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connect {
    server: String,
    username: String,
    password: Secret,
    #[serde(default)]
    pin: Option<String>,
    #[serde(default = "yes")]
    tls: bool,
    #[serde(default)]
    insecure: bool,
}

fn yes() -> bool {
    true
}

pub(crate) async fn status(State(shared): State<Arc<Shared>>) -> Result<Json<TunnelStatus>, ApiError> {
    Ok(Json(tunnel(&shared)?.status()))
}

pub(crate) async fn connect(
    State(shared): State<Arc<Shared>>,
    body: Body,
) -> Result<Json<TunnelStatus>, ApiError> {
    let tunnel = tunnel(&shared)?;
    let asked: Connect = read(&shared, body).await?;
    for (key, text) in [("server", &asked.server), ("username", &asked.username)] {
        if text.trim().is_empty() {
            return Err(ApiError::bad_request(format!("`{key}` is empty")));
        }
    }
    let login = Login {
        server: asked.server,
        username: asked.username,
        password: asked.password,
        pin: asked.pin.filter(|pin| !pin.is_empty()),
        tls: asked.tls,
        insecure: asked.insecure,
    };
    let connecting = tokio::spawn(async move { tunnel.connect(login).await });
    match timeout(shared.bounds.connect, connecting).await {
        Ok(Ok(outcome)) => Ok(Json(outcome?)),
        Ok(Err(_)) => {
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "a fault inside the proxy"))
        }
        Err(_) => Err(ApiError::timeout("the remote did not answer in time; the login goes on")),
    }
}

pub(crate) async fn disconnect(State(shared): State<Arc<Shared>>) -> Result<Json<TunnelStatus>, ApiError> {
    let tunnel = tunnel(&shared)?;
    timeout(shared.bounds.connect, tunnel.disconnect())
        .await
        .map_err(|_| ApiError::timeout("the tunnel did not close in time"))?;
    Ok(Json(tunnel.status()))
}

fn tunnel(shared: &Shared) -> Result<Arc<dyn Tunnel>, ApiError> {
    let first = shared.node.tunnels().into_iter().next();
    first.map(|(_, tunnel)| tunnel).ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "no_tunnel", "no listener here leads through a tunnel")
    })
}

/// A body as JSON, whatever type it claims to be: `curl -d` claims a form's.
async fn read<T: DeserializeOwned>(shared: &Shared, body: Body) -> Result<T, ApiError> {
    let late = || ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took too long");
    let read = timeout(shared.bounds.body, axum::body::to_bytes(body, MAX_BODY)).await.map_err(|_| late())?;
    let bytes: Bytes = read.map_err(|error| {
        match std::error::Error::source(&error).is_some_and(|source| source.is::<LengthLimitError>()) {
            true => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is over 64 KiB"),
            false => ApiError::bad_request("the body cannot be read"),
        }
    })?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(format!("the body: {error}")))
}
