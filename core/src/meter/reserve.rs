//! How a flow comes by a grant: at once while no limit is low, by a place in line otherwise.
//!
//! Invariant: a flow waits limit by limit, in their order, and takes from all of them in one go; so one that waits
//! for its own account never holds up a line that others share. A turn is worth a quantum, however many reads it takes
//! to use it: sources that give little at a time have no smaller share.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Direction, Grant, Meter, Place};

/// The longest sleep at a stretch: a rate that was changed meanwhile binds this soon.
const STRETCH: Duration = Duration::from_millis(50);
/// The shortest: tokio's timers count in these.
const TICK: Duration = Duration::from_millis(1);

/// What one direction of a flow keeps while it waits: nothing until it first has to.
#[derive(Default)]
pub struct Wait(Option<Box<Waiting>>);

impl Wait {
    /// Leaves the lines. A flow that turns to something else before it got its grant calls this, or those behind
    /// it would wait for it.
    pub fn give_up(&mut self) {
        if let Some(waiting) = &mut self.0 {
            waiting.leave(0);
        }
    }

    fn is_in_line(&self) -> bool {
        self.0.as_ref().is_some_and(|waiting| waiting.places.iter().any(Option::is_some))
    }
}

struct Waiting {
    /// One for each of the meter's limits.
    places: Vec<Option<Place>>,
    sleep: Pin<Box<Sleep>>,
    asleep: bool,
    /// What the flow is charged when it has used its latest turn.
    turn_ends: u64,
}

impl Meter {
    /// Waits for leave to read at most `want` bytes, at least one.
    pub async fn reserve(&self, direction: Direction, want: usize) -> Grant<'_> {
        let mut wait = Wait::default();
        std::future::poll_fn(|cx| self.poll_reserve(cx, direction, want, &mut wait)).await
    }

    /// The same by polling; `wait` belongs to this flow and direction alone.
    pub fn poll_reserve<'a>(
        &'a self,
        cx: &mut Context<'_>,
        direction: Direction,
        want: usize,
        wait: &mut Wait,
    ) -> Poll<Grant<'a>> {
        let grant = |left, limited| Grant { meter: self, direction, left, limited, by_turn: limited };
        if self.limits.iter().all(|limit| limit.line(direction).is_none()) {
            wait.give_up();
            return Poll::Ready(grant(want, false));
        }
        let now = Instant::now();
        if !wait.is_in_line()
            && let Some(grant) = self.grant_freely(now, direction, want)
        {
            return Poll::Ready(grant);
        }
        let waiting = wait.0.get_or_insert_with(|| Waiting::new(self.limits.len()));
        let n = ready!(waiting.poll(self, cx, now, direction, want));
        waiting.leave(n);
        Poll::Ready(grant(n, true))
    }

    /// A grant for which nobody has to wait.
    pub(super) fn grant_freely(&self, now: Instant, direction: Direction, want: usize) -> Option<Grant<'_>> {
        let left = self.take_freely(now, direction, want)?;
        Some(Grant { meter: self, direction, left, limited: true, by_turn: false })
    }

    /// Takes the least that every limit has to spare; nothing at all where one is low or waited for.
    fn take_freely(&self, now: Instant, direction: Direction, want: usize) -> Option<usize> {
        let take = |at: usize, least: usize| match self.limits[at].line(direction) {
            None => Some(least),
            Some(line) if line.is_busy() => None,
            Some(_) => self.limits[at].take_freely(now, direction, least),
        };
        self.take_least(direction, want, |at, least| take(at, least).ok_or(())).ok()
    }

    /// Takes the least that every limit grants; nothing at all when one refuses.
    pub(super) fn take_by_turn(
        &self,
        now: Instant,
        direction: Direction,
        want: usize,
    ) -> Result<usize, (usize, Instant)> {
        self.take_least(direction, want, |at, least| match self.limits[at].line(direction) {
            None => Ok(least),
            Some(_) => self.limits[at].take(now, direction, least).map_err(|when| (at, when)),
        })
    }

    fn take_least<E>(
        &self,
        direction: Direction,
        want: usize,
        take: impl Fn(usize, usize) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let mut least = want;
        for at in 0..self.limits.len() {
            let taken = take(at, least);
            let back = least - *taken.as_ref().unwrap_or(&0);
            if back > 0 {
                for earlier in &self.limits[..at] {
                    earlier.give_back(direction, back);
                }
            }
            least = taken?;
        }
        Ok(least)
    }
}

impl Waiting {
    fn new(limits: usize) -> Box<Self> {
        Box::new(Self {
            places: std::iter::repeat_with(|| None).take(limits).collect(),
            sleep: Box::pin(sleep_until(Instant::now())),
            asleep: false,
            turn_ends: 0,
        })
    }

    fn poll(
        &mut self,
        meter: &Meter,
        cx: &mut Context<'_>,
        mut now: Instant,
        direction: Direction,
        want: usize,
    ) -> Poll<usize> {
        loop {
            if self.asleep {
                ready!(self.sleep.as_mut().poll(cx));
                self.asleep = false;
                now = Instant::now();
            }
            let charged = meter.charged(direction);
            let left = usize::try_from(self.turn_ends.saturating_sub(charged)).unwrap_or(usize::MAX);
            let taken = match ready!(self.poll_turns(meter, cx, now, direction, (want, left))) {
                Ok(share) => meter.take_by_turn(now, direction, want.min(share)).inspect(|_| {
                    if left == 0 {
                        self.turn_ends = charged.saturating_add(share as u64);
                    }
                }),
                Err(dry) => Err(dry),
            };
            match taken {
                Ok(n) => return Poll::Ready(n),
                Err((at, when)) => self.rest(at, now, when),
            }
        }
    }

    /// Ready with the flow's share when it has every limit's turn, or with the first of them that is dry and the
    /// moment when it is not. `left` of a turn that it has begun goes on; 0 begins another.
    fn poll_turns(
        &mut self,
        meter: &Meter,
        cx: &mut Context<'_>,
        now: Instant,
        direction: Direction,
        (want, left): (usize, usize),
    ) -> Poll<Result<usize, (usize, Instant)>> {
        let mut share = if left > 0 { left } else { usize::MAX };
        let party = meter.party();
        let weight = party.weight.max(1) as usize;
        let last = meter.limits.len().saturating_sub(1);
        for (at, (limit, place)) in meter.limits.iter().zip(&mut self.places).enumerate() {
            let Some(line) = limit.line(direction) else {
                *place = None;
                continue;
            };
            let quantum = limit.quantum(direction).max(1);
            share = share.min(quantum.saturating_mul(weight));
            let enter = || if left > 0 { line.resume(party, quantum) } else { line.enter(party, quantum) };
            ready!(place.get_or_insert_with(enter).poll_turn(cx));
            // Dry: wait here, not in the lines behind it. The last one is asked when the bytes are taken.
            if at < last
                && let Err(when) = limit.check(now, direction, share.min(want))
            {
                return Poll::Ready(Err((at, when)));
            }
        }
        Poll::Ready(Ok(share))
    }

    /// Sleeps until `when`, without the turns of the limits behind `at`.
    fn rest(&mut self, at: usize, now: Instant, when: Instant) {
        for place in self.places.iter_mut().skip(at + 1) {
            *place = None;
        }
        self.sleep.as_mut().reset(when.clamp(now + TICK, now + STRETCH));
        self.asleep = true;
    }

    fn leave(&mut self, took: usize) {
        self.asleep = false;
        for place in &mut self.places {
            if let Some(place) = place.take() {
                place.leave(took as u64);
            }
        }
    }
}
