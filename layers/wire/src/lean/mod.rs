//! A lean HTTP/2 engine (RFC 9113) for tunnels between two of our own: DATA frames that fill TLS records, read from a
//! session's source to where they are sealed, and opened where they were received.
//!
//! Invariant: it speaks nothing but RFC 9113 and is strict; whatever a peer sends, what is held for it is bounded by
//! the streams' windows, and an idle stream holds next to nothing.

mod budget;
mod client;
mod driver;
mod end;
mod frame;
mod head;
mod hpack;
mod inward;
mod out;
mod pace;
mod server;
mod shared;
mod start;
mod stream;
#[cfg(test)]
mod tests;
mod turns;

pub use budget::Budget;
pub use client::{Client, OpenError, Opening};
pub use driver::{Driver, Watch};
pub use end::End;
pub use frame::Code;
pub use server::{Arrival, Responder, Server};
pub use shared::Ending;
pub use start::{connect, knows, serve};
pub use stream::Reset;

/// Streams that a peer may have open at once on one connection.
pub const MAX_STREAMS: u32 = 10_000;

/// Bytes that a whole connection may have in flight to us. They go back on receipt.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Bytes of a stream's window at first, where there are few streams and where there are many.
const INITIAL_MOST: u32 = 64 << 10;
const INITIAL_LEAST: u32 = 8 << 10;

/// Bytes of the initial windows of all streams that share a [`Budget`].
const INITIAL_BUDGET: u32 = 16 << 20;

/// The initial window that fits so many streams; in powers of two, so that it seldom changes.
fn initial_window(streams: usize) -> u32 {
    let streams = u32::try_from(streams.max(1)).unwrap_or(u32::MAX);
    let streams = streams.checked_next_power_of_two().unwrap_or(u32::MAX);
    (INITIAL_BUDGET / streams).clamp(INITIAL_LEAST, INITIAL_MOST)
}
