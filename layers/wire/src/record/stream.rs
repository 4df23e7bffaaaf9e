//! A channel as one of tokio's streams, for code that speaks to those.
//!
//! Invariant: the end of the stream is the peer's close_notify (RFC 8446 §6.1); a connection that just closes was
//! cut, and is an error.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::channel::Channel;
use super::fault::{CLOSE_NOTIFY, Fault};
use super::inbox::{Inbox, Next};
use super::key::MAX_PLAIN;
use super::seal::Seal;

/// Sealed bytes that may wait to be sent before a write has to.
const MAX_QUEUED: usize = 128 * 1024;

/// A connection whose records are ours.
pub struct Stream<S> {
    stream: S,
    inbox: Inbox,
    seal: Seal,
    early: Vec<u8>,
    given: usize,
    /// Opened data in `inbox` that was not taken yet.
    open: Range<usize>,
    ended: bool,
    encrypted: bool,
    queued: Vec<u8>,
    sent: usize,
    finished: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub(super) fn new(channel: Channel<S>) -> Self {
        let Channel { stream, inbox, seal, early, .. } = channel;
        let encrypted = seal.behind() > 0;
        Self {
            stream,
            inbox,
            seal,
            early,
            given: 0,
            open: 0..0,
            ended: false,
            encrypted,
            queued: Vec::new(),
            sent: 0,
            finished: false,
        }
    }

    /// The stream below.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    #[cfg(test)]
    pub(super) fn set_limit(&mut self, records: u64) {
        self.seal.set_limit(records);
    }

    /// Has the peer change its key.
    #[cfg(test)]
    pub(super) fn ask_update(&mut self) {
        self.seal.ask_update(&mut self.queued);
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.open.is_empty() && !self.ended {
            match self.inbox.next() {
                Ok(Next::Data(data)) => self.open = data,
                Ok(Next::Closed) => self.ended = true,
                Ok(Next::Short) => {
                    let n = ready!(self.inbox.poll_fill(cx, &mut self.stream))?;
                    if n == 0 {
                        if self.encrypted {
                            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                        }
                        self.ended = true;
                    }
                }
                Err(fault) => {
                    if let Fault::Peer { alert, .. } = fault {
                        self.seal.alert(alert, &mut self.queued);
                        let _ = self.poll_send(cx);
                    }
                    return Poll::Ready(Err(fault.into()));
                }
            }
            if self.inbox.take_update_asked() {
                self.update();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn update(&mut self) {
        let mut room = [0; Seal::UPDATE];
        if let Some(n) = self.seal.update(&mut room) {
            self.queued.extend_from_slice(&room[..n]);
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.queued.len() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.queued[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        self.queued = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Seals some of `slices`, in records as full as can be; how much of them.
    fn queue(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (before, behind) = (self.seal.before(), self.seal.behind());
        let mut slices = slices.iter().map(|slice| &slice[..]);
        let (mut rest, mut queued): (&[u8], _) = (&[], 0);
        while queued < MAX_QUEUED {
            if self.seal.is_spent() {
                self.update();
            }
            let at = self.queued.len();
            self.queued.resize(at + before, 0);
            let mut plain = 0;
            while plain < MAX_PLAIN {
                if rest.is_empty() {
                    let Some(next) = slices.next() else { break };
                    rest = next;
                }
                let (now, later) = rest.split_at(rest.len().min(MAX_PLAIN - plain));
                self.queued.extend_from_slice(now);
                (rest, plain) = (later, plain + now.len());
            }
            if plain == 0 {
                self.queued.truncate(at);
                break;
            }
            self.queued.resize(at + before + plain + behind, 0);
            if self.seal.seal(&mut self.queued[at..], plain).is_none() {
                return Err(io::Error::other("the key to send with is spent"));
            }
            queued += plain;
        }
        Ok(queued)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given < this.early.len() {
            let rest = &this.early[this.given..];
            let n = rest.len().min(into.remaining());
            into.put_slice(&rest[..n]);
            this.given += n;
            if this.given == this.early.len() {
                (this.early, this.given) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_open(cx))?;
        // As many records as are there already, and fit.
        loop {
            let n = this.open.len().min(into.remaining());
            into.put_slice(&this.inbox.bytes()[this.open.start..this.open.start + n]);
            this.open.start += n;
            if !this.open.is_empty() || into.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match this.inbox.next() {
                Ok(Next::Data(data)) => this.open = data,
                // Told by the next read.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.queued.len() - this.sent >= MAX_QUEUED {
            ready!(this.poll_send(cx))?;
        }
        let n = this.queue(slices)?;
        if let Poll::Ready(Err(error)) = this.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.finished {
            this.finished = true;
            this.seal.alert(CLOSE_NOTIFY, &mut this.queued);
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
