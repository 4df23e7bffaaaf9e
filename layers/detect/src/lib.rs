//! Which protocol a client speaks, and the talk with it: SOCKS5, SOCKS4a, HTTP, the tunnel, and the first
//! SwiftProxy's own.
//!
//! Invariant: a client hears of success once its target is connected, and of a refusal in its own protocol's words.

mod classic;
mod config;
mod context;
mod deadline;
mod gate;
mod http;
mod inbox;
mod layer;
mod linger;
mod replay;
mod socks4;
mod socks5;
mod talk;
#[cfg(test)]
mod testing;
mod tls;
mod tunnel;

pub use config::{Config, Protocol, TlsFiles};
pub use layer::{Detect, Front, Serving};
