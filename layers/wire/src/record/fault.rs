//! What is wrong with what a peer sent, and what it is told of that.

use std::io;

/// An alert's number (RFC 8446 §6).
pub(crate) type Alert = u8;

pub(crate) const CLOSE_NOTIFY: Alert = 0;
pub(crate) const UNEXPECTED_MESSAGE: Alert = 10;
pub(crate) const BAD_RECORD_MAC: Alert = 20;
pub(crate) const RECORD_OVERFLOW: Alert = 22;
pub(crate) const ILLEGAL_PARAMETER: Alert = 47;
pub(crate) const DECODE_ERROR: Alert = 50;
pub(crate) const INTERNAL_ERROR: Alert = 80;
pub(crate) const USER_CANCELED: Alert = 90;

/// Why a connection's records cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The peer broke a rule; it is sent this alert.
    #[error("{what} (TLS alert {alert})")]
    Peer {
        /// The alert's number (RFC 8446 §6).
        alert: u8,
        /// What it did.
        what: &'static str,
    },
    /// The peer sent an alert of its own; nothing is answered.
    #[error("the peer sent TLS alert {0}")]
    Told(u8),
}

impl Fault {
    pub(super) fn peer(alert: Alert, what: &'static str) -> Self {
        Self::Peer { alert, what }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}
