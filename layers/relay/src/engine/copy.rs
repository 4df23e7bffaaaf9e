//! The copy engine: reads into the worker's scratch buffer, writes at once what can be written, and keeps only
//! what is left over.
//!
//! Invariant: nothing is read while something is left over.

use std::io;
use std::task::{Context, Poll, ready};

use swiftproxy_core::endpoint::{DrawError, Endpoint};

use super::flow::{Broken, Flow, Step, Way};
use super::scratch;

/// How much a flow reads at first.
pub(super) const FIRST_SIZE: usize = 32 * 1024;
/// How much a flow reads at least whose sink takes little.
const LEAST_SIZE: usize = 16 * 1024;
/// From here on a read is a large one.
#[cfg(target_os = "linux")]
const LARGE: usize = 64 * 1024;

impl Flow {
    pub(super) fn poll_copied(
        &mut self,
        cx: &mut Context<'_>,
        way: &Way<'_>,
        source: &mut dyn Endpoint,
        sink: &mut dyn Endpoint,
    ) -> Poll<Result<Step, Broken>> {
        if !self.rest.is_empty()
            && let Err(error) = ready!(self.poll_rest(cx, way, sink))
        {
            return Poll::Ready(Self::sink_failed(error));
        }
        ready!(self.poll_ends(cx, source, sink))?;
        let want = if way.shared.is_short() { LEAST_SIZE } else { self.size };
        let grant = ready!(way.meter.poll_reserve(cx, self.direction, want, &mut self.wait));

        // What is in memory already needs no copy.
        let lent = source.lent();
        if !lent.is_empty() {
            let (room, offered) = (grant.bytes(), lent.len().min(grant.bytes()));
            let taken = ready!(sink.poll_write(cx, &lent[..offered]));
            let n = match taken {
                Ok(0) => return Poll::Ready(Err(Broken::Sink(io::ErrorKind::WriteZero.into()))),
                Ok(taken) => taken.min(offered),
                Err(error) => return Poll::Ready(Self::sink_failed(error)),
            };
            grant.spend(n);
            way.meter.count(self.direction, n);
            source.consume(n);
            self.learn(room, offered, n);
            return Poll::Ready(Ok(Step::Moved(n)));
        }

        // Nor does what the sink reads to where it sends from.
        if let Some(drawn) = sink.poll_write_from(cx, source, grant.bytes()) {
            let n = match ready!(drawn) {
                Ok(0) => return Poll::Ready(Ok(Step::Ended)),
                Ok(n) => n,
                Err(DrawError::Source(error)) => return Poll::Ready(Err(Broken::Source(error))),
                Err(DrawError::Sink(error)) => return Poll::Ready(Self::sink_failed(error)),
            };
            let room = grant.bytes();
            grant.spend(n);
            way.meter.count(self.direction, n);
            self.learn(room, n, n);
            return Poll::Ready(Ok(Step::Moved(n)));
        }

        scratch::with(|scratch| {
            let room = grant.bytes().min(scratch.len());
            let n = match ready!(source.poll_read(cx, &mut scratch[..room])) {
                Ok(0) => return Poll::Ready(Ok(Step::Ended)),
                Ok(n) => n.min(room),
                Err(error) => return Poll::Ready(Err(Broken::Source(error))),
            };
            grant.spend(n);
            let mut written = 0;
            while written < n {
                match sink.poll_write(cx, &scratch[written..n]) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(Broken::Sink(io::ErrorKind::WriteZero.into())));
                    }
                    Poll::Ready(Ok(taken)) => {
                        written += taken;
                        way.meter.count(self.direction, taken);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Self::sink_failed(error)),
                    Poll::Pending => {
                        self.keep(&scratch[written..n], way.shared);
                        break;
                    }
                }
            }
            self.learn(room, n, written);
            #[cfg(target_os = "linux")]
            if way.splice_after.is_some_and(|after| self.large >= after) {
                self.try_to_splice(way, source, sink);
            }
            Poll::Ready(Ok(Step::Moved(n)))
        })
    }

    /// Writes what is left over; ready when all of it was taken.
    fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        way: &Way<'_>,
        sink: &mut dyn Endpoint,
    ) -> Poll<io::Result<()>> {
        while let Some(left) = self.rest.get(self.taken..).filter(|left| !left.is_empty()) {
            let n = match ready!(sink.poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => n.min(left.len()),
            };
            self.taken += n;
            way.meter.count(self.direction, n);
        }
        self.let_go(way.shared);
        Poll::Ready(Ok(()))
    }

    /// Reads more at a time while the source has it and the sink takes it, and little where the sink does not.
    fn learn(&mut self, room: usize, read: usize, written: usize) {
        if written < read {
            self.size = written.clamp(LEAST_SIZE, self.size.max(LEAST_SIZE));
        } else if read == room && room == self.size {
            self.size = (self.size * 2).min(scratch::SIZE);
        }
        #[cfg(target_os = "linux")]
        {
            self.large = if read >= LARGE { self.large + 1 } else { 0 };
        }
    }
}
