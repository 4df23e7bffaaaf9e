//! How large a stream's window is, by how many share the connection.
//!
//! Invariant: the windows of all streams together stay about a connection's budget, and none falls below
//! [`LEAST`].

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};

/// The smallest window of a stream, in bytes.
pub(super) const LEAST: u32 = 16 * 1024;

/// The policy of one side.
#[derive(Debug)]
pub struct Windows {
    /// Bytes of a stream that has company only of few.
    pub(super) most: u32,
    /// Bytes of all streams of a connection.
    budget: u32,
    now: u32,
}

impl Windows {
    /// A server's first window, in bytes: what a peer assumes that was told of none (RFC 9113 §6.9.2).
    pub const START: u32 = 65_535;
    /// For a server that starts with [`START`](Self::START): what a client uploads waits here for its account's turn,
    /// so not much of it.
    pub const SERVER: Self = Self { most: 1 << 20, budget: 64 << 20, now: Self::START };
    /// For a client: a whole round trip of a fast, far link.
    pub const CLIENT: Self = Self { most: 4 << 20, budget: 128 << 20, now: 4 << 20 };

    /// Never grows from now on, for a peer whose open streams would not follow: Firefox adds a change of
    /// SETTINGS_INITIAL_WINDOW_SIZE to its requests and not to its tunnels (RFC 9113 §6.9.2 wants it for all), and would
    /// wait in each for an update that is not due.
    pub fn stay(&mut self) {
        self.most = self.now.min(Self::START);
    }

    /// The window that is right for so many streams, where it is not the one in force. Steps are powers of two,
    /// so that a change is rare.
    fn next(&self, streams: usize) -> Option<u32> {
        let streams = u32::try_from(streams.max(1)).unwrap_or(u32::MAX).checked_next_power_of_two()?;
        let right = (self.budget / streams).clamp(LEAST, self.most);
        // Growing waits for half as many again to have gone, or one stream that comes and goes would toggle it.
        let wrong = right < self.now
            || right / 4 >= self.now
            || (right == self.most && right > self.now && streams == 1);
        wrong.then_some(right)
    }

    /// Fits a server connection's windows to its streams. Call it when a stream came or went; the connection must
    /// be polled afterwards.
    pub fn fit_server<T, B>(&mut self, connection: &mut h2::server::Connection<T, B>, streams: usize)
    where
        T: AsyncRead + AsyncWrite + Unpin,
        B: Buf,
    {
        // Refused while the last change is not acknowledged: the next stream tries again.
        if let Some(size) = self.next(streams)
            && connection.set_initial_window_size(size).is_ok()
        {
            self.now = size;
        }
    }

    /// Fits a client connection's windows to its streams, likewise.
    pub fn fit_client<T, B>(&mut self, connection: &mut h2::client::Connection<T, B>, streams: usize)
    where
        T: AsyncRead + AsyncWrite + Unpin,
        B: Buf,
    {
        if let Some(size) = self.next(streams)
            && connection.set_initial_window_size(size).is_ok()
        {
            self.now = size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_streams_share_the_budget() {
        let mut windows = Windows::SERVER;
        let mut now = |streams| {
            if let Some(size) = windows.next(streams) {
                windows.now = size;
            }
            windows.now
        };
        assert_eq!(now(1), 1 << 20);
        assert_eq!(now(64), 1 << 20);
        assert_eq!(now(65), 1 << 19);
        assert_eq!(now(64), 1 << 19, "one that comes and goes changes nothing");
        assert_eq!(now(1000), 64 << 10);
        assert_eq!(now(10_000), LEAST);
        assert_eq!(now(usize::MAX >> 1), LEAST);
        assert_eq!(now(60), 1 << 20);
    }

    #[test]
    fn what_stays_does_not_grow() {
        let mut windows = Windows::SERVER;
        windows.stay();
        for streams in [1, 2, 3, 100, 1000] {
            assert_eq!(windows.next(streams), None, "{streams}");
        }
        assert_eq!(windows.next(10_000), Some(LEAST), "the sum is bounded all the same");
    }
}
