//! Notices connections that carry nothing, and clients that have vanished.
//!
//! Invariant: a client that vanished holds its sessions no longer than [`BUSY`] and twice [`PATIENCE`]; one that is
//! there and does not read, such as a paused download, is left alone. Which of the two it is where our socket is full,
//! TCP knows.

use std::future::poll_fn;
use std::task::Poll;

use h2::{Ping, PingPong};
use swiftproxy_core::error::Refusal;
use swiftproxy_wire::heard::Heard;
use swiftproxy_wire::path::Path;
use tokio::time::{Instant, sleep_until};

use super::{BUSY, IDLE, PATIENCE, STRANGERS};
use crate::context::Context;

/// What becomes of a connection.
pub(super) enum Verdict {
    Stays,
    /// It is asked to end.
    Ends,
    /// It is closed.
    Gone,
}

/// The watch over one connection.
pub(super) struct Watch {
    pings: Option<PingPong>,
    heard: Heard,
    path: Option<Path>,
    at: Instant,
    state: State,
    /// When it was asked whether somebody is there, while the answer is awaited.
    asked: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was accepted since the last look.
    Quiet,
    /// Something was, or somebody answered.
    Busy,
    /// It was asked to end.
    Ending,
}

impl Watch {
    /// Of a connection that is judged at `first`.
    pub(super) fn new(pings: Option<PingPong>, (heard, path): (Heard, Option<Path>), first: Instant) -> Self {
        Self { pings, heard, path, at: first, state: State::Busy, asked: None }
    }

    /// Waits until it is worth judging again.
    pub(super) async fn changed(&mut self) {
        let (asked, pings) = (self.asked.is_some(), &mut self.pings);
        let pong = poll_fn(|cx| match pings {
            // An error is the connection's to tell, which is polled first.
            Some(pings) if asked => pings.poll_pong(cx).map(drop),
            _ => Poll::Pending,
        });
        tokio::select! {
            () = pong => {
                self.asked = None;
                self.busy();
            }
            () = sleep_until(self.at) => {}
        }
    }

    /// Something was accepted.
    pub(super) fn busy(&mut self) {
        if self.state == State::Quiet {
            self.state = State::Busy;
        }
    }

    /// What becomes of the connection that carries so many streams.
    pub(super) fn judge(&mut self, ctx: &Context, streams: usize) -> Verdict {
        let now = Instant::now();
        let (state, at, verdict) = match self.state {
            State::Ending if streams == 0 => return Verdict::Gone,
            State::Ending => (State::Ending, now + PATIENCE, Verdict::Stays),
            _ if !ctx.is_proven() && streams == 0 => {
                ctx.count(Refusal::HandshakeTimeout);
                (State::Ending, now + STRANGERS, Verdict::Ends)
            }
            _ if !ctx.is_proven() => (State::Busy, now + ctx.settings.handshake_timeout, Verdict::Stays),
            _ if self.asked.is_some() => return self.await_answer(now, streams),
            _ if streams > 0 && now < self.heard.last() + BUSY => {
                (State::Busy, self.heard.last() + BUSY, Verdict::Stays)
            }
            State::Busy if streams == 0 => (State::Quiet, now + IDLE, Verdict::Stays),
            state => match self.pings.as_mut().map(|pings| pings.send_ping(Ping::opaque())) {
                Some(Ok(())) => {
                    self.asked = Some(now);
                    (state, now + PATIENCE, Verdict::Stays)
                }
                _ => (State::Ending, now + PATIENCE, Verdict::Ends),
            },
        };
        self.state = state;
        self.at = at;
        verdict
    }

    /// It was asked and did not answer yet.
    fn await_answer(&mut self, now: Instant, streams: usize) -> Verdict {
        let (heard, asked) = (self.heard.last(), self.asked.unwrap_or(now));
        let bound = if heard > asked { heard + BUSY + PATIENCE } else { asked + PATIENCE };
        if now < bound {
            self.at = bound;
        } else if streams > 0 && self.heard.is_full() && !self.path.is_some_and(|path| path.is_unanswered()) {
            self.at = now + PATIENCE;
        } else {
            return Verdict::Gone;
        }
        Verdict::Stays
    }
}
