//! HTTP/2 by the `h2` crate, tuned for tunnels: builders for both sides, and a stream as an endpoint.
//!
//! Invariant: whatever a peer sends, what is held for it is bounded: by a stream's window, by the connection's,
//! by the streams there may be, by the size of a header list.

mod end;
mod queue;
#[cfg(test)]
mod tests;
mod window;

use std::io;
use std::time::Duration;

pub use end::H2End;
pub use queue::{Held, Queue};
pub use window::Windows;

/// Streams that a peer may have open at once on one connection.
pub const MAX_STREAMS: u32 = 10_000;

/// Bytes of names and values of one header list (RFC 9113 §6.5.2).
pub const MAX_HEADER_LIST: u32 = 16 * 1024;

/// Bytes of one DATA frame that we take.
pub const MAX_FRAME: u32 = 256 * 1024;

/// Bytes that one stream may have accepted and not yet sent.
pub const MAX_SEND_BUFFER: usize = 256 * 1024;

/// Bytes that a whole connection may have in flight to us: enough for every stream's smallest window, so that
/// streams which nobody reads never block the others.
pub const CONNECTION_WINDOW: u32 = MAX_STREAMS * window::LEAST;

/// Streams that a peer may reset before they were looked at (rapid reset, CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 100;

/// Streams of ours that may be remembered after a reset, and for how long.
const MAX_RESETS: usize = 1000;
const RESET_MEMORY: Duration = Duration::from_secs(5);

/// The server's side.
pub fn server_builder() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(Windows::SERVER.most)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_concurrent_reset_streams(MAX_RESETS)
        .reset_stream_duration(RESET_MEMORY)
        .max_send_buffer_size(MAX_SEND_BUFFER);
    builder
}

/// The client's side.
pub fn client_builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(Windows::CLIENT.most)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(0)
        .enable_push(false)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_concurrent_reset_streams(MAX_RESETS)
        .reset_stream_duration(RESET_MEMORY)
        .max_send_buffer_size(MAX_SEND_BUFFER);
    builder
}

/// An HTTP/2 error as the I/O error that a socket would have given: a reset stream is a reset connection.
pub fn io_error(error: h2::Error) -> io::Error {
    if error.is_reset() || error.is_go_away() {
        return io::Error::new(io::ErrorKind::ConnectionReset, error);
    }
    if error.is_io() {
        // The link below is gone, whatever it died of.
        let cause = error.get_io().map_or_else(|| error.to_string(), ToString::to_string);
        return io::Error::new(io::ErrorKind::ConnectionAborted, cause);
    }
    io::Error::other(error)
}
