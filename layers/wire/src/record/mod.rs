//! TLS 1.3's record layer (RFC 8446 §5), driven by us: rustls shakes hands and derives every key, ring's AEAD seals
//! and opens, many records at a time and in place.
//!
//! Invariant: no key of ours but from rustls; keys change before their limit and when the peer says so; what does not
//! decrypt ends the connection with the alert that belongs to it.

mod channel;
mod fault;
mod handshake;
mod hello;
mod inbox;
mod key;
mod open;
pub(crate) mod pool;
mod seal;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

pub use channel::Channel;
pub(crate) use fault::CLOSE_NOTIFY;
pub use fault::Fault;
pub use handshake::{Accepted, NotAccepted, accept, connect};
pub use inbox::Inbox;
pub(crate) use inbox::Next;
pub(crate) use key::{HEADER, MAX_PLAIN, TRAILER};
pub use seal::Seal;
pub use stream::Stream;
