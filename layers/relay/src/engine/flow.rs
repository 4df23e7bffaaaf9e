//! One way of a session: from its source to its sink, by whatever means suit it at the moment.
//!
//! Invariant: the end of the source is told to the sink after the last byte, and only then.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::meter::{Direction, Meter, Wait};

use super::Shared;

/// What a flow moves in one poll before others get their turn.
const BUDGET: usize = 512 * 1024;
/// What a step counts as at least, for a system call costs as much as moving this.
const LEAST_COST: usize = 8 * 1024;

/// What a flow moves by.
pub(super) struct Way<'a> {
    pub(super) meter: &'a Meter,
    pub(super) shared: &'a Shared,
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nothing is spliced there"))]
    pub(super) splice_after: Option<u32>,
    /// Whether the sink's own bytes have ended, and it is dropped once this way has too.
    pub(super) last: bool,
}

/// Which end failed.
#[derive(Debug)]
pub(super) enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

/// What one step of a flow came to.
pub(super) enum Step {
    Moved(usize),
    /// The source has ended, and the sink took all there was.
    Ended,
    /// The sink wants nothing more, though its own bytes may still come: it had ended its side when it said so.
    Shut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Moving,
    Ending,
    Ended,
    Shut,
}

pub(super) struct Flow {
    pub(super) direction: Direction,
    stage: Stage,
    pub(super) wait: Wait,
    /// What the sink has not taken yet, from `taken` on.
    pub(super) rest: Vec<u8>,
    pub(super) taken: usize,
    /// How much is read at a time.
    pub(super) size: usize,
    /// Large reads in a row.
    #[cfg(target_os = "linux")]
    pub(super) large: u32,
    #[cfg(target_os = "linux")]
    pub(super) spliced: Option<super::splice::Spliced>,
}

impl Flow {
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            stage: Stage::Moving,
            wait: Wait::default(),
            rest: Vec::new(),
            taken: 0,
            size: super::copy::FIRST_SIZE,
            #[cfg(target_os = "linux")]
            large: 0,
            #[cfg(target_os = "linux")]
            spliced: None,
        }
    }

    /// Whether it ended because the sink wanted no more.
    pub(super) fn is_shut(&self) -> bool {
        self.stage == Stage::Shut
    }

    /// Whether its source ended in good order, and its sink knows.
    pub(super) fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Bytes in memory that the sink has not taken.
    pub(super) fn held(&self) -> usize {
        self.rest.len()
    }

    /// Ready when all is over that way.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        way: &Way<'_>,
        source: &mut dyn Endpoint,
        sink: &mut dyn Endpoint,
    ) -> Poll<Result<(), Broken>> {
        let mut budget = BUDGET;
        loop {
            match self.stage {
                Stage::Moving => match ready!(self.poll_step(cx, way, source, sink))? {
                    Step::Moved(n) => budget = budget.saturating_sub(n.max(LEAST_COST)),
                    Step::Ended => self.stage = Stage::Ending,
                    Step::Shut => self.stage = Stage::Shut,
                },
                // What fails here is a sink that is gone; reading from it says how.
                Stage::Ending if way.last && sink.finishes_by_drop() => self.stage = Stage::Ended,
                Stage::Ending => {
                    let _ = ready!(sink.poll_finish(cx));
                    self.stage = Stage::Ended;
                }
                Stage::Ended | Stage::Shut => {
                    self.let_go(way.shared);
                    self.rest = Vec::new();
                    return Poll::Ready(Ok(()));
                }
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        way: &Way<'_>,
        source: &mut dyn Endpoint,
        sink: &mut dyn Endpoint,
    ) -> Poll<Result<Step, Broken>> {
        #[cfg(target_os = "linux")]
        if self.spliced.is_some() {
            return self.poll_spliced(cx, way, source, sink);
        }
        self.poll_copied(cx, way, source, sink)
    }

    /// Ready when the source has something and the sink takes something. Else the flow stands in no line: a turn
    /// that nobody takes would hold up others.
    pub(super) fn poll_ends(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Endpoint,
        sink: &mut dyn Endpoint,
    ) -> Poll<Result<(), Broken>> {
        let ready = match source.poll_readable(cx) {
            Poll::Ready(Ok(())) => sink.poll_writable(cx).map_err(Broken::Sink),
            not_yet => not_yet.map_err(Broken::Source),
        };
        if ready.is_pending() {
            self.wait.give_up();
            // A flow at rest owns no buffer; one that runs uses its own again.
            self.rest = Vec::new();
        }
        ready
    }

    /// A failure of the sink, or its wish for no more: EPIPE means that it had ended its own side in good order
    /// before it turned bytes away (Linux says ECONNRESET where it had not).
    pub(super) fn sink_failed(error: io::Error) -> Result<Step, Broken> {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(Step::Shut),
            _ => Err(Broken::Sink(error)),
        }
    }

    /// Keeps what the sink did not take. Nothing else is kept at the time.
    pub(super) fn keep(&mut self, rest: &[u8], shared: &Shared) {
        shared.held.fetch_add(rest.len(), Relaxed);
        self.rest.extend_from_slice(rest);
    }

    /// Keeps nothing any more.
    pub(super) fn let_go(&mut self, shared: &Shared) {
        if !self.rest.is_empty() {
            shared.held.fetch_sub(self.rest.len(), Relaxed);
            self.rest.clear();
            self.taken = 0;
        }
    }
}
