//! The real program, an origin, and clients, for the end-to-end tests.
//!
//! Invariant: everything is on loopback and on ephemeral ports, and ends with the test that started it.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "two test binaries share it, each uses its part"
)]

pub mod clients;
pub mod namespace;
pub mod origin;
pub mod proxy;
pub mod traffic;
pub mod wait;

pub use clients::{Curl, curl};
pub use origin::Origin;
pub use proxy::{Pair, Proxy, swiftproxy};
pub use wait::until;
