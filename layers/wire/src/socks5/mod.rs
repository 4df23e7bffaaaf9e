//! SOCKS5: RFC 1928 and its user name and password sub-negotiation, RFC 1929.
//!
//! Invariant: each message both parses and encodes, so one codec serves servers and clients. A request whose
//! command or address is not served is told apart from one that cannot be read, for each has a reply of its own.

mod address;
mod greeting;
mod login;
mod reply;
mod request;

#[cfg(test)]
pub(crate) use address::tests;
pub use greeting::{Greeting, Method, MethodReply};
pub use login::{Login, LoginReply};
pub use reply::{Reply, ReplyCode};
pub use request::{Command, Request, RequestError};

/// The version byte that begins greeting, method reply, request and reply.
pub const VERSION: u8 = 5;
