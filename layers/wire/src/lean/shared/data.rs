//! Sending data: one stream at a time, sparse ones first, the others in turn.

use super::*;

impl Shared {
    pub(in crate::lean) fn is_held_up(&self) -> bool {
        self.stuck.load(SeqCst) || self.window.load(SeqCst) <= 0
    }

    /// Calls whoever is next in line.
    pub(in crate::lean) fn call(&self) {
        if self.waiting.load(SeqCst) == 0 {
            return;
        }
        let mut turns = lock(&self.turns);
        let next = turns.call();
        self.waiting.store(turns.len(), SeqCst);
        drop(turns);
        if let Some(waker) = next {
            waker.wake();
        }
    }

    /// The same, unless whoever it is would only have to wait again.
    pub(in crate::lean) fn call_if_free(&self) {
        if !self.is_held_up() {
            self.call();
        }
    }

    pub(in crate::lean) fn wait_for_turn(&self, cx: &Context<'_>, stream: &Arc<Stream>) {
        let mut turns = lock(&self.turns);
        let mut state = stream.lock();
        state.await_writing(cx);
        if !state.queued {
            state.queued = true;
            let again = std::mem::take(&mut state.called);
            turns.enter(stream, (state.sparse, again));
        }
        drop(state);
        self.waiting.store(turns.len(), SeqCst);
        drop(turns);
        // It may have become free meanwhile, with nobody there to be called.
        if !self.is_held_up() {
            self.call();
        }
    }

    /// Ready when a stream may send something.
    pub(in crate::lean) fn poll_room(
        &self,
        cx: &mut Context<'_>,
        stream: &Arc<Stream>,
    ) -> Poll<io::Result<()>> {
        let mut state = stream.lock();
        if let Some(broken) = state.broken {
            return Poll::Ready(Err(self.broken(broken)));
        }
        if state.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.window <= 0 {
            state.await_writing(cx);
            return Poll::Pending;
        }
        let called = state.called;
        drop(state);
        let had_turn = || !called && self.last.load(Relaxed) == stream.id;
        if self.is_held_up() || (self.waiting.load(SeqCst) > 0 && had_turn()) {
            self.wait_for_turn(cx, stream);
            return Poll::Pending;
        }
        self.call();
        Poll::Ready(Ok(()))
    }

    /// Sends at most `most` bytes that `read` gives; 0 where it has come to its end.
    pub(in crate::lean) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        stream: &Arc<Stream>,
        most: usize,
        read: impl FnOnce(&mut Context<'_>, &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<usize, DrawError>> {
        ready!(self.poll_room(cx, stream)).map_err(DrawError::Sink)?;
        let mut out = lock(&self.out);
        if self.stuck.load(SeqCst) {
            drop(out);
            self.wait_for_turn(cx, stream);
            return Poll::Pending;
        }
        let failed = |error: io::Error| {
            self.lose(&error);
            Poll::Ready(Err(DrawError::Sink(error)))
        };
        // Settings are acknowledged before data makes use of them.
        match self.seal_control(&mut out) {
            Ok(true) => {}
            Ok(false) => {
                let _ = self.send(out);
                self.wait_for_turn(cx, stream);
                return Poll::Pending;
            }
            Err(error) => {
                drop(out);
                return failed(error);
            }
        }
        let max_frame = self.max_frame.load(Relaxed);
        let slow = self.slow.load(Relaxed);
        let whole = self.pace.batch(slow || self.waiting.load(SeqCst) > 0);
        let room = self.reserve(stream, most.min(whole));
        if room == 0 {
            let _ = self.send(out);
            return match self.poll_room(cx, stream) {
                // The window came back in between.
                Poll::Ready(Ok(())) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                other => other.map_ok(|()| 0).map_err(DrawError::Sink),
            };
        }
        let filled = out.fill(cx, (stream.id, max_frame, room), read);
        let n = match &filled {
            Poll::Ready(Ok(n)) => *n,
            _ => 0,
        };
        self.give_back(stream, room, n);
        if n > 0 {
            self.pace.moved(n);
            self.last.store(if n == room { stream.id } else { 0 }, Relaxed);
            if slow {
                // Taken back by the socket, if it is still so.
                self.slow.store(false, Relaxed);
            }
        }
        let sent = self.send(out);
        match filled {
            Poll::Ready(Ok(n)) => match sent {
                Ok(()) => Poll::Ready(Ok(n)),
                Err(ending) => Poll::Ready(Err(DrawError::Sink(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    ending,
                )))),
            },
            Poll::Ready(Err(Failed::Source(error))) => Poll::Ready(Err(DrawError::Source(error))),
            Poll::Ready(Err(Failed::Sink(error))) => failed(error),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Takes at most `want` bytes of both windows.
    pub(in crate::lean) fn reserve(&self, stream: &Stream, want: usize) -> usize {
        let mut state = stream.lock();
        let free = state.window.min(self.window.load(SeqCst)).max(0);
        let n = want.min(usize::try_from(free).unwrap_or(0));
        state.window -= n as i64;
        self.window.fetch_sub(n as i64, SeqCst);
        n
    }

    pub(in crate::lean) fn give_back(&self, stream: &Stream, reserved: usize, used: usize) {
        let mut state = stream.lock();
        let back = (reserved - used) as i64;
        state.window += back;
        if used > 0 {
            state.called = false;
        }
        state.sparse = used < reserved;
        drop(state);
        self.window.fetch_add(back, SeqCst);
    }
}
