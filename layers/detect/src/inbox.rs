//! A client's socket in its handshake, with the bytes that were read and not used yet.
//!
//! Invariant: whatever was read beyond a message stays, and goes to the session as early data.

use std::future::Future;
use std::io;

use swiftproxy_core::endpoint::Tcp;
use swiftproxy_core::error::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use crate::linger::linger;

/// Room for a first read: a whole SOCKS request, or a usual head. Longer messages get more, up to what their
/// parsers refuse.
const FIRST: usize = 512;

/// Why a handshake came to no request.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The client's socket failed, or ended within a message: nobody is there to be told.
    Gone,
    /// What the client sent is refused.
    Refused(Refusal),
}

impl From<io::Error> for Fault {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// The socket and what came of it.
pub(crate) struct Inbox {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Inbox {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    /// Waits for more bytes than there are.
    ///
    /// # Errors
    /// [`Fault::Gone`] also at the end of the stream.
    pub(crate) async fn more(&mut self) -> Result<(), Fault> {
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.reserve_exact(self.bytes.len().max(FIRST));
        }
        match self.stream.read_buf(&mut self.bytes).await? {
            0 => Err(Fault::Gone),
            _ => Ok(()),
        }
    }

    /// Waits for one message, reading no more than needed to have it whole, and takes it off.
    pub(crate) async fn message<T, E: Into<Refusal>>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<T, Fault> {
        loop {
            // An empty buffer would only be asked for more.
            if !self.bytes.is_empty()
                && let Some((message, n)) =
                    parse(&self.bytes).map_err(|error| Fault::Refused(error.into()))?
            {
                self.bytes.drain(..n.min(self.bytes.len()));
                return Ok(message);
            }
            self.more().await?;
        }
    }

    /// Says something short to the client.
    pub(crate) async fn say(&mut self, words: &[u8]) -> Result<(), Fault> {
        Ok(self.stream.write_all(words).await?)
    }

    /// Says the last words, and sees to it that they arrive.
    pub(crate) async fn part(&mut self, words: &[u8]) {
        if self.stream.write_all(words).await.is_ok() {
            linger(&mut self.stream).await;
        }
    }

    /// Waits for `work`, unless the client resets the connection meanwhile. Its end alone is not taken for that:
    /// a client may have sent all it has to say.
    pub(crate) async fn unless_reset<T>(&self, work: impl Future<Output = T>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            _ = self.stream.ready(Interest::ERROR) => Err(Fault::Gone),
        }
    }

    /// The client's end of a relay; what was read ahead comes first.
    pub(crate) fn into_end(self) -> Tcp {
        let (stream, early) = self.into_parts();
        Tcp::with_early(stream, early)
    }

    /// The socket, and what was read ahead.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        // An empty buffer is not kept for as long as a session may last.
        (self.stream, if self.bytes.is_empty() { Vec::new() } else { self.bytes })
    }
}
