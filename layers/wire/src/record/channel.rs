//! A connection whose records are ours, between its handshake and what then speaks over it.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::fault::Fault;
use super::inbox::{Inbox, Next};
use super::seal::Seal;
use super::stream::Stream;

/// A stream with a key for either direction, or none.
pub struct Channel<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) inbox: Inbox,
    pub(crate) seal: Seal,
    /// What was received and opened already; it comes before anything of `inbox`.
    pub(crate) early: Vec<u8>,
    pub(super) alpn: Option<Vec<u8>>,
}

impl Channel<()> {
    /// The same over `stream`.
    pub(super) fn with<S>(self, stream: S) -> Channel<S> {
        let Self { inbox, seal, early, alpn, .. } = self;
        Channel { stream, inbox, seal, early, alpn }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// No encryption; `received` was read from `stream` before.
    pub fn clear(stream: S, received: Vec<u8>) -> Self {
        Self { stream, inbox: Inbox::new(None, Vec::new()), seal: Seal::clear(), early: received, alpn: None }
    }

    /// The stream below.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The protocol that was agreed on by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// What was received and not taken yet.
    pub(crate) fn early(&self) -> &[u8] {
        &self.early
    }

    /// Receives some more into [`early`](Self::early).
    ///
    /// # Errors
    /// The stream's, the peer's faults, and [`io::ErrorKind::UnexpectedEof`] at its end.
    pub(crate) async fn receive(&mut self) -> io::Result<()> {
        let fault = loop {
            match self.inbox.next() {
                Ok(Next::Data(data)) => {
                    self.early.extend_from_slice(&self.inbox.bytes()[data]);
                    return Ok(());
                }
                Ok(Next::Closed) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Next::Short) => {}
                Err(fault) => break fault,
            }
            let Self { inbox, stream, .. } = self;
            if std::future::poll_fn(|cx| inbox.poll_fill(cx, stream)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        if let Fault::Peer { alert, .. } = fault {
            let mut out = Vec::new();
            self.seal.alert(alert, &mut out);
            // It is told if it can be.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut self.stream, &out).await;
        }
        Err(fault.into())
    }

    /// The channel as a stream, which gives what was received again.
    pub fn into_stream(self) -> Stream<S> {
        Stream::new(self)
    }
}
