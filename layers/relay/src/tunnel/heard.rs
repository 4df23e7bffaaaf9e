//! When something was last heard from the far end of a link.
//!
//! Invariant: only what proves that the far end lives counts: bytes that were read, and room in a send buffer
//! that was full.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A moment that is moved on, shared by a link's stream and its watch.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    start: Instant,
    millis: Arc<AtomicU64>,
}

impl Heard {
    /// Heard from now.
    pub(super) fn now() -> Self {
        Self { start: Instant::now(), millis: Arc::default() }
    }

    /// When it was.
    pub(super) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.millis.load(Relaxed))
    }

    fn note(&self) {
        self.millis.store(self.start.elapsed().as_millis() as u64, Relaxed);
    }
}

/// A stream that notes when its far end was heard.
#[derive(Debug)]
pub(super) struct Listening<S> {
    stream: S,
    heard: Heard,
    full: bool,
}

impl<S> Listening<S> {
    /// `stream`, noting into `heard`.
    pub(super) fn new(stream: S, heard: Heard) -> Self {
        Self { stream, heard, full: false }
    }

    fn wrote(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if outcome.is_pending() {
            self.full = true;
        } else if std::mem::take(&mut self.full) {
            self.heard.note();
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        self.heard.note();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
