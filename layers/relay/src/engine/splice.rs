//! The splice engine: bulk between two plain TCP sockets goes through a pipe, inside the kernel (splice(2)).
//!
//! Invariant: a pipe is filled only when it is empty, so EAGAIN on filling means that the socket is empty (a pipe
//! whose slots are taken by small segments says the same), and on draining that the sink is full.

use std::io;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use swiftproxy_core::endpoint::Endpoint;
use tokio::io::Interest;

use super::flow::{Broken, Flow, Step, Way};
use super::pool::Pipe;

/// How much is asked for at a time. A pipe holds more than its pages' worth where segments are large.
const SIZE: usize = 1024 * 1024;
/// Less than this at a time is no bulk.
const SMALL: usize = 16 * 1024;
/// After so many small ones in a row copying is cheaper again.
const SMALL_ONES: u32 = 16;

/// A flow that is spliced. It owns a pipe while there are bytes to move.
pub(super) struct Spliced {
    pipe: Option<Pipe>,
    small: u32,
}

impl Flow {
    /// Goes over to splicing, if both ends are plain sockets and there is a pipe.
    pub(super) fn try_to_splice(
        &mut self,
        way: &Way<'_>,
        source: &mut dyn Endpoint,
        sink: &mut dyn Endpoint,
    ) {
        // What the sink has not taken must go first.
        if !self.rest.is_empty() || source.tcp().is_none() || sink.tcp().is_none() {
            return;
        }
        // Where there is none, it is asked again after as many large reads as before.
        self.large = 0;
        self.spliced = way.shared.pool.take().map(|pipe| Spliced { pipe: Some(pipe), small: 0 });
    }

    pub(super) fn poll_spliced(
        &mut self,
        cx: &mut Context<'_>,
        way: &Way<'_>,
        source: &mut dyn Endpoint,
        sink: &mut dyn Endpoint,
    ) -> Poll<Result<Step, Broken>> {
        if let Some(end) = ready!(self.poll_drain(cx, way, sink)) {
            return Poll::Ready(end);
        }
        let grant = match self.poll_ends(cx, source, sink) {
            Poll::Ready(Ok(())) => way.meter.poll_reserve(cx, self.direction, SIZE, &mut self.wait).map(Ok),
            not_yet => not_yet.map(|ends| Err(ends.err())),
        };
        if grant.is_pending() {
            self.park(way);
        }
        let grant = match ready!(grant) {
            Ok(grant) => grant,
            Err(Some(broken)) => return Poll::Ready(Err(broken)),
            Err(None) => return Poll::Ready(Ok(Step::Moved(0))),
        };
        let Some(spliced) = &mut self.spliced else { return Poll::Ready(Ok(Step::Moved(0))) };
        if spliced.pipe.is_none() {
            spliced.pipe = way.shared.pool.take();
        }
        let (Some(pipe), Some(socket)) = (&mut spliced.pipe, source.tcp()) else {
            return Poll::Ready(Ok(self.copy_again(way)));
        };
        let filled = socket.try_io(Interest::READABLE, || Ok(pipe.fill(&*socket, grant.bytes())?));
        let n = match filled {
            Ok(n) => n,
            // The socket is no longer said to be readable; the next step waits for it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Poll::Ready(Ok(Step::Moved(0)));
            }
            // Sockets or kernels that cannot splice say so before they move anything.
            Err(error) if is_unable(&error) => return Poll::Ready(Ok(self.copy_again(way))),
            Err(error) => return Poll::Ready(Err(Broken::Source(error))),
        };
        grant.spend(n);
        if n == 0 {
            self.copy_again(way);
            return Poll::Ready(Ok(Step::Ended));
        }
        spliced.small = if n < SMALL { spliced.small + 1 } else { 0 };
        let tired = spliced.small >= SMALL_ONES;
        match self.poll_drain(cx, way, sink) {
            Poll::Ready(Some(end)) => return Poll::Ready(end),
            Poll::Ready(None) if tired => drop(self.copy_again(way)),
            _ => {}
        }
        Poll::Ready(Ok(Step::Moved(n)))
    }

    /// Moves what the pipe holds on to the sink; ready when it is empty, or when the sink takes no more of it ever.
    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        way: &Way<'_>,
        sink: &mut dyn Endpoint,
    ) -> Poll<Option<Result<Step, Broken>>> {
        let pipe = self.spliced.as_mut().and_then(|spliced| spliced.pipe.as_mut());
        let Some(pipe) = pipe else { return Poll::Ready(None) };
        while pipe.held() > 0 {
            match ready!(poll_drain_some(cx, pipe, sink)) {
                Ok(n) => way.meter.count(self.direction, n),
                Err(error) => return Poll::Ready(Some(Self::sink_failed(error))),
            }
        }
        Poll::Ready(None)
    }

    /// Gives the pipe back while there is nothing to move.
    fn park(&mut self, way: &Way<'_>) {
        if let Some(pipe) = self.spliced.as_mut().and_then(|spliced| spliced.pipe.take()) {
            way.shared.pool.give_back(pipe);
        }
    }

    fn copy_again(&mut self, way: &Way<'_>) -> Step {
        self.park(way);
        self.spliced = None;
        self.large = 0;
        Step::Moved(0)
    }
}

/// Ready when the sink took something of what the pipe holds.
fn poll_drain_some(
    cx: &mut Context<'_>,
    pipe: &mut Pipe,
    sink: &mut dyn Endpoint,
) -> Poll<io::Result<usize>> {
    let Some(socket) = sink.tcp() else {
        return Poll::Ready(Err(io::Error::other("the sink is no longer a plain socket")));
    };
    loop {
        ready!(socket.poll_write_ready(cx))?;
        match socket.try_io(Interest::WRITABLE, || Ok(pipe.drain(&*socket)?)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            drained => return Poll::Ready(drained),
        }
    }
}

fn is_unable(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]
        .iter()
        .any(|no| error.raw_os_error() == Some(no.raw_os_error()))
}
