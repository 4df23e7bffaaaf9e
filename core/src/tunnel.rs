//! The tunnel as a GUI sees it: log in, log out, how is it.
//!
//! Invariant: a status never holds a password, and an error is a sentence that a person can act on.

use std::time::SystemTime;

use serde::Serialize;

use crate::BoxFuture;
use crate::secret::Secret;

/// What a person types to log in.
#[derive(Debug, Clone)]
pub struct Login {
    /// `host:port` of the remote.
    pub server: String,
    /// The account's name.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// The remote's public key, `sha256//…`, where its certificate is self-signed.
    pub pin: Option<String>,
    /// Whether the link is encrypted.
    pub tls: bool,
    /// Whether a password may go out in clear text beyond loopback.
    pub insecure: bool,
}

/// Where a tunnel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelState {
    /// Nobody is logged in.
    Disconnected,
    /// Under way, or waiting for the next attempt.
    Connecting,
    /// Logged in.
    Connected,
}

/// Why a tunnel is not connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct TunnelError {
    /// A stable word: `auth_failed`, `account_disabled`, `account_expired`, `unreachable`, `certificate`, `timeout`,
    /// `bad_request`, `protocol` …
    pub label: &'static str,
    /// A sentence for a person.
    pub message: String,
}

impl TunnelError {
    /// That label and sentence.
    pub fn new(label: &'static str, message: impl Into<String>) -> Self {
        Self { label, message: message.into() }
    }
}

/// How a tunnel is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TunnelStatus {
    /// Where it is.
    pub state: TunnelState,
    /// `host:port` of the remote, once one was named.
    pub server: Option<String>,
    /// Who is logged in.
    pub username: Option<String>,
    /// Whether the remote confirmed the login; a foreign proxy cannot before the first session.
    pub verified: bool,
    /// Since when it is in this state, in Unix seconds.
    pub since: u64,
    /// Round trip of the last answered question, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Why it is not connected, if so.
    pub error: Option<TunnelError>,
    /// What the remote says of the account (its `/.well-known/swiftproxy/account`), as it came.
    pub account: Option<AccountView>,
}

impl TunnelStatus {
    /// Nobody logged in yet.
    pub fn disconnected() -> Self {
        Self {
            state: TunnelState::Disconnected,
            server: None,
            username: None,
            verified: false,
            since: unix_now(),
            rtt_ms: None,
            error: None,
            account: None,
        }
    }
}

/// Now, in Unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An account as its owner sees it: the body of `GET /.well-known/swiftproxy/account`.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct AccountView {
    /// Its name.
    pub name: String,
    /// Bytes per second, client to target; none is unlimited.
    pub rate_up: Option<u64>,
    /// Bytes per second, target to client; none is unlimited.
    pub rate_down: Option<u64>,
    /// Bytes since the remote started, client to target.
    pub up: u64,
    /// Bytes since the remote started, target to client.
    pub down: u64,
    /// Sentences for its owner.
    #[serde(default)]
    pub messages: Vec<String>,
}

/// A tunnel that can be told to log in and out.
pub trait Tunnel: Send + Sync {
    /// How it is now.
    fn status(&self) -> TunnelStatus;

    /// Logs in, and stays logged in until told otherwise. Answers when the remote has.
    fn connect(&self, login: Login) -> BoxFuture<Result<TunnelStatus, TunnelError>>;

    /// Logs out; open sessions through it end.
    fn disconnect(&self) -> BoxFuture<()>;
}
