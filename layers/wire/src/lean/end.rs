//! One stream as an endpoint.
//!
//! Invariant: credit goes back only for bytes that were consumed; what is dropped before either side has ended is
//! reset, and the peer never takes that for the end.

use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use swiftproxy_core::endpoint::{DrawError, Endpoint};

use super::frame::{self, Code, DATA, END_STREAM};
use super::shared::Shared;
use super::stream::{Broken, Stream};
use crate::record::pool;

/// A stream of a connection.
pub struct End {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
    held: Vec<u8>,
    taken: usize,
    abort: Option<Code>,
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").field("stream", &self.stream.id).finish_non_exhaustive()
    }
}

impl End {
    pub(super) fn new(shared: Arc<Shared>, stream: Arc<Stream>) -> Self {
        Self { shared, stream, held: Vec::new(), taken: 0, abort: None }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// What the drop tells the peer, where there is something to tell.
    pub(super) fn reset_with(&mut self, code: Code) {
        self.abort = Some(code);
    }

    /// Ready when the stream was reset, or its connection has ended.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut state = self.stream.lock();
        match state.broken {
            Some(broken) => {
                drop(state);
                Poll::Ready(self.shared.broken(broken))
            }
            None => {
                state.await_reading(cx);
                Poll::Pending
            }
        }
    }

    fn rest(&self) -> &[u8] {
        self.held.get(self.taken..).unwrap_or_default()
    }

    /// Tells the peer that `n` bytes have gone on.
    fn release(&self, n: usize) {
        let round_trip = self.shared.round_trip().unwrap_or(Duration::ZERO);
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let mut state = self.stream.lock();
        let credit = state.consume(n, round_trip, |more| self.shared.grow(more));
        // Whenever the peer hears of it; of one that sends no more it is each time, for nothing comes to set it right.
        if credit.is_some() || state.sends_no_more() {
            self.stream.counted.wait(state.unread());
        }
        drop(state);
        if let Some(credit) = credit {
            self.shared.credit(self.stream.id, credit);
            self.shared.kick();
        }
    }
}

impl Endpoint for End {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.held.len() {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.stream.lock();
        if !state.queue.is_empty() {
            self.held = state.take_queue(std::mem::take(&mut self.held));
            self.taken = 0;
            return Poll::Ready(Ok(()));
        }
        if state.ended {
            return Poll::Ready(Ok(()));
        }
        if let Some(broken) = state.broken {
            drop(state);
            return Poll::Ready(Err(self.shared.broken(broken)));
        }
        state.run_dry(cx);
        self.stream.counted.wait(0);
        // It is empty; what comes next finds one in the pool.
        let spare = std::mem::take(&mut state.queue);
        drop(state);
        for buffer in [spare, std::mem::take(&mut self.held)] {
            if buffer.capacity() > 0 {
                pool::give_vec(buffer);
            }
        }
        Poll::Pending
    }

    fn lent(&self) -> &[u8] {
        self.rest()
    }

    fn consume(&mut self, n: usize) {
        let n = n.min(self.rest().len());
        self.taken += n;
        if self.taken == self.held.len() {
            self.held.clear();
            self.taken = 0;
        }
        if n > 0 {
            self.release(n);
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_readable(cx))?;
        let n = self.rest().len().min(into.len());
        into[..n].copy_from_slice(&self.rest()[..n]);
        self.consume(n);
        Poll::Ready(Ok(n))
    }

    fn poll_read_vectored(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_readable(cx))?;
        let n = fill(into, self.rest());
        self.consume(n);
        Poll::Ready(Ok(n))
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.poll_room(cx, &self.stream)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let read = |_: &mut Context<'_>, into: &mut [IoSliceMut<'_>]| Poll::Ready(Ok(fill(into, bytes)));
        self.shared.poll_send(cx, &self.stream, bytes.len(), read).map_err(|error| match error {
            DrawError::Source(error) | DrawError::Sink(error) => error,
        })
    }

    fn poll_write_from(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Endpoint,
        most: usize,
    ) -> Option<Poll<Result<usize, DrawError>>> {
        Some(self.shared.poll_send(cx, &self.stream, most, |cx, into| source.poll_read_vectored(cx, into)))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.stream.lock();
        if state.finished {
            return Poll::Ready(Ok(()));
        }
        if let Some(broken) = state.broken {
            drop(state);
            return Poll::Ready(Err(self.shared.broken(broken)));
        }
        state.finished = true;
        let closed = state.is_closed();
        drop(state);
        self.shared.control(|out| frame::put(out, DATA, END_STREAM, self.stream.id, &[]));
        self.shared.kick();
        if closed {
            self.shared.forget(self.stream.id);
        }
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self) {
        self.abort = Some(Code::CONNECT_ERROR);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.stream.lock();
        let (open, waiting, called) = (!state.is_closed(), state.queued, state.called);
        if open {
            state.broken = Some(Broken::Fault(Code::CANCEL));
        }
        if self.shared.role == super::shared::Role::Client && !state.answered {
            self.shared.unanswered.fetch_sub(1, Relaxed);
        }
        state.let_go();
        drop(state);
        pool::give_vec(std::mem::take(&mut self.held));
        if open {
            self.shared.queue_reset(self.stream.id, self.abort.unwrap_or(Code::CANCEL));
            self.shared.kick();
        }
        self.shared.forget(self.stream.id);
        if waiting || called {
            // Its turn is the next one's.
            self.shared.call();
        }
    }
}

/// Copies into each slice before the next; how much.
fn fill(into: &mut [IoSliceMut<'_>], mut bytes: &[u8]) -> usize {
    let mut filled = 0;
    for slice in into {
        let n = slice.len().min(bytes.len());
        slice[..n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        filled += n;
    }
    filled
}
