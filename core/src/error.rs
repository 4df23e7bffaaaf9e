//! Two families: [`BuildError`] when a configuration is loaded, [`Refusal`] when a session is turned away.
//!
//! Invariant: a [`Refusal`]'s label is stable; replies, logs and metrics all carry the same word.

use std::fmt;

/// Why a session was not opened. One word for replies, logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// No credentials where some are needed.
    AuthRequired,
    /// Credentials that are not right.
    AuthFailed,
    /// The account exists and may not be used.
    AccountDisabled,
    /// The account's time is over.
    AccountExpired,
    /// The account's quota is used up.
    QuotaExceeded,
    /// A rule says no to this target.
    Denied,
    /// A rule says no to the address the target resolved to.
    DeniedAddress,
    /// A cap on sessions is reached.
    TooManyConnections,
    /// The target's name does not resolve.
    DnsFailed,
    /// No route to the target's network.
    UnreachableNet,
    /// The target's host does not answer.
    UnreachableHost,
    /// The target's host refused the port.
    Refused,
    /// The target did not answer in time.
    Timeout,
    /// A command that is not served (BIND, UDP ASSOCIATE …).
    UnsupportedCommand,
    /// An address type that is not served.
    UnsupportedAddress,
    /// The client's request cannot be read.
    Malformed,
    /// The client did not finish its request in time.
    HandshakeTimeout,
    /// The target is one of our own listeners.
    Loop,
    /// The node is shutting down.
    Draining,
    /// The tunnel to the remote is not up.
    TunnelDown,
    /// The remote does not take the local role's own login.
    TunnelLogin,
    /// A fault of our own.
    Internal,
}

/// Every refusal with its label.
const LABELS: &[(Refusal, &str, &str)] = &[
    (Refusal::AuthRequired, "auth_required", "a user name and a password are needed"),
    (Refusal::AuthFailed, "auth_failed", "wrong user name or password"),
    (Refusal::AccountDisabled, "account_disabled", "the account is disabled"),
    (Refusal::AccountExpired, "account_expired", "the account has expired"),
    (Refusal::QuotaExceeded, "quota_exceeded", "the account's quota is used up"),
    (Refusal::Denied, "denied", "a rule denies this target"),
    (Refusal::DeniedAddress, "denied_address", "a rule denies this target's address"),
    (Refusal::TooManyConnections, "too_many_connections", "too many connections"),
    (Refusal::DnsFailed, "dns_failed", "the target's name does not resolve"),
    (Refusal::UnreachableNet, "unreachable_net", "no route to the target's network"),
    (Refusal::UnreachableHost, "unreachable_host", "the target's host cannot be reached"),
    (Refusal::Refused, "refused", "the target refused the connection"),
    (Refusal::Timeout, "timeout", "the target did not answer in time"),
    (Refusal::UnsupportedCommand, "unsupported_command", "this command is not supported"),
    (Refusal::UnsupportedAddress, "unsupported_address", "this kind of address is not supported"),
    (Refusal::Malformed, "malformed", "the request cannot be read"),
    (Refusal::HandshakeTimeout, "handshake_timeout", "the request took too long"),
    (Refusal::Loop, "loop", "the target is this proxy itself"),
    (Refusal::Draining, "draining", "the proxy is shutting down"),
    (Refusal::TunnelDown, "tunnel_down", "the tunnel to the remote is down"),
    (Refusal::TunnelLogin, "tunnel_login", "the remote does not accept this proxy's own login"),
    (Refusal::Internal, "internal", "a fault inside the proxy"),
];

impl Refusal {
    /// The stable word for it.
    pub fn label(self) -> &'static str {
        self.row().1
    }

    /// The refusal of that label.
    pub fn from_label(label: &str) -> Option<Self> {
        LABELS.iter().find(|row| row.1 == label).map(|row| row.0)
    }

    /// Every refusal there is.
    pub fn all() -> impl Iterator<Item = Self> {
        LABELS.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        LABELS.iter().find(|row| row.0 == self).unwrap_or(&LABELS[LABELS.len() - 1])
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().2)
    }
}

impl std::error::Error for Refusal {}

/// A layer, a relay or a listener that cannot be built from its table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}; {remedy}")]
pub struct BuildError {
    /// The key's path, such as `layers.ratelimit.down`.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl BuildError {
    /// An error at `key`: what is wrong, and what to write instead.
    pub fn new(key: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_round_trip() {
        for refusal in Refusal::all() {
            assert_eq!(Refusal::from_label(refusal.label()), Some(refusal));
        }
        assert_eq!(Refusal::all().count(), LABELS.len());
    }
}
