//! When something was last heard from the far end of a connection, and how much moves on it.
//!
//! Invariant: only what proves that the far end lives counts as heard: bytes that were read, and room in a send
//! buffer that was full.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long bytes are counted for a rate, in milliseconds, and how long that rate says something.
const WINDOW: u64 = 500;
const FRESH: u64 = 3 * WINDOW;

/// A connection on which so many bytes per second move is busy with bulk.
pub const BULK: u64 = 1 << 20;

/// A moment that is moved on, and a rate. Written by the task that drives the link alone.
#[derive(Debug, Clone)]
pub struct Heard {
    start: Instant,
    shared: Arc<Shared>,
}

/// Times are milliseconds from the start.
#[derive(Debug, Default)]
struct Shared {
    last: AtomicU64,
    since: AtomicU64,
    bytes: AtomicU64,
    rate: AtomicU64,
    full: AtomicBool,
    unsent: AtomicBool,
}

impl Heard {
    /// Heard from now.
    pub fn now() -> Self {
        Self { start: Instant::now(), shared: Arc::default() }
    }

    /// When it was.
    pub fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.shared.last.load(Relaxed))
    }

    /// Whether much moves at the moment, either way.
    pub fn is_bulk(&self) -> bool {
        let age = self.now_millis().saturating_sub(self.shared.since.load(Relaxed));
        age < FRESH && self.shared.rate.load(Relaxed) >= BULK
    }

    /// Whether what was sent is not taken at the moment: the far end's system has it all to read yet, or has gone.
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Relaxed) || self.shared.unsent.load(Relaxed)
    }

    fn now_millis(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn note(&self) {
        self.shared.last.store(self.now_millis(), Relaxed);
    }

    fn moved(&self, n: usize) {
        let (now, shared) = (self.now_millis(), &*self.shared);
        let bytes = shared.bytes.load(Relaxed) + n as u64;
        let age = now.saturating_sub(shared.since.load(Relaxed));
        if age < WINDOW {
            shared.bytes.store(bytes, Relaxed);
            return;
        }
        shared.rate.store(bytes.saturating_mul(1000) / age, Relaxed);
        shared.since.store(now, Relaxed);
        shared.bytes.store(0, Relaxed);
    }
}

/// A stream that notes when its far end was heard.
#[derive(Debug)]
pub struct Listening<S> {
    stream: S,
    heard: Heard,
}

impl<S> Listening<S> {
    /// `stream`, noting into `heard`.
    pub fn new(stream: S, heard: Heard) -> Self {
        Self { stream, heard }
    }

    /// Room where there was none is the far end's doing.
    fn waited<T>(&self, flag: &AtomicBool, outcome: &Poll<io::Result<T>>) {
        let waits = outcome.is_pending();
        if flag.load(Relaxed) != waits {
            flag.store(waits, Relaxed);
            if matches!(outcome, Poll::Ready(Ok(_))) {
                self.heard.note();
            }
        }
    }

    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.waited(&self.heard.shared.full, &outcome);
        if let Poll::Ready(Ok(n)) = outcome {
            self.heard.moved(n);
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
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        self.heard.note();
        self.heard.moved(into.filled().len() - before);
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
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        // What encrypts takes more than the socket does, and shows only here that it waits.
        self.waited(&self.heard.shared.unsent, &outcome);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bulk_is_known_while_it_lasts() {
        let heard = Heard::now();
        let step = |n: usize| {
            let heard = heard.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                heard.moved(n);
                heard.is_bulk()
            }
        };
        for _ in 0..20 {
            assert!(!step(10_000).await, "a little is no bulk");
        }
        for _ in 0..10 {
            step(1 << 20).await;
        }
        assert!(heard.is_bulk());
        tokio::time::sleep(Duration::from_millis(FRESH)).await;
        assert!(!heard.is_bulk(), "it has stopped");
    }

    /// Takes a few bytes at once, as TLS does, and sends them on as far as the pipe takes them.
    struct Queueing(tokio::io::DuplexStream, Vec<u8>);

    impl AsyncWrite for Queueing {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let Self(stream, queued) = &mut *self;
            while !queued.is_empty() {
                let n = ready!(Pin::new(&mut *stream).poll_write(cx, queued))?;
                queued.drain(..n);
            }
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_socket_is_seen_behind_what_queues() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (near, mut far) = tokio::io::duplex(100);
        let heard = Heard::now();
        let mut stream = Listening::new(Queueing(near, Vec::new()), heard.clone());
        stream.write_all(&[0; 150]).await.expect("queued");
        let start = heard.last();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let flushed = tokio::spawn(async move { stream.flush().await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(heard.is_full() && heard.last() == start);
        far.read_exact(&mut [0; 150]).await.expect("all of it");
        flushed.await.expect("no panic").expect("flushed");
        assert!(!heard.is_full() && heard.last() > start, "room is a sign of life");
    }
}
