//! How a flow comes by a grant: at once while no limit is dry, by a place in line otherwise.
//!
//! Invariant: a flow waits limit by limit, in their order, and takes from all of them in one go; so one that waits
//! for its own account never holds up a line that others share.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Direction, Grant, Meter, Place};

/// The longest sleep at a stretch: a rate that was changed meanwhile binds this soon.
const STRETCH: Duration = Duration::from_millis(50);

/// What one direction of a flow keeps while it waits: nothing until it first has to.
#[derive(Default)]
pub struct Wait(Option<Box<Waiting>>);

struct Waiting {
    places: Vec<Option<Place>>,
    sleep: Pin<Box<Sleep>>,
    asleep: bool,
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
        let grant = |left| Grant { meter: self, direction, left };
        if self.limits.iter().all(|limit| limit.line(direction).is_none()) {
            if let Some(waiting) = &mut wait.0 {
                waiting.leave(self, direction, 0);
            }
            return Poll::Ready(grant(want));
        }
        let waits = wait.0.as_ref().is_some_and(|waiting| waiting.places.iter().any(Option::is_some));
        if !waits && let Ok(n) = self.take_all(Instant::now(), direction, want, true) {
            return Poll::Ready(grant(n));
        }
        let waiting = wait.0.get_or_insert_with(|| Waiting::new(self.limits.len()));
        let n = ready!(waiting.poll(self, cx, direction, want));
        waiting.leave(self, direction, n);
        Poll::Ready(grant(n))
    }

    /// Takes the least that every limit grants; nothing at all when one refuses.
    fn take_all(
        &self,
        now: Instant,
        direction: Direction,
        want: usize,
        newcomer: bool,
    ) -> Result<usize, (usize, Instant)> {
        let mut least = want;
        for (at, limit) in self.limits.iter().enumerate() {
            let Some(line) = limit.line(direction) else { continue };
            let taken = if newcomer && line.is_busy() { Err(now) } else { limit.take(now, direction, least) };
            let back = match taken {
                Ok(n) => least - n,
                Err(_) => least,
            };
            if back > 0 {
                for earlier in &self.limits[..at] {
                    earlier.give_back(direction, back);
                }
            }
            least = taken.map_err(|when| (at, when))?;
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
        })
    }

    fn poll(
        &mut self,
        meter: &Meter,
        cx: &mut Context<'_>,
        direction: Direction,
        want: usize,
    ) -> Poll<usize> {
        loop {
            if self.asleep {
                ready!(self.sleep.as_mut().poll(cx));
                self.asleep = false;
            }
            let now = Instant::now();
            let mut share = want;
            for (at, limit) in meter.limits.iter().enumerate() {
                let Some(line) = limit.line(direction) else {
                    self.places[at] = None;
                    continue;
                };
                share = share.min(limit.quantum(direction).max(1));
                ready!(self.places[at].get_or_insert_with(|| line.enter(meter.party)).poll_turn(cx));
                // Dry: wait here, before the lines behind it.
                match limit.take(now, direction, share) {
                    Ok(n) => limit.give_back(direction, n),
                    Err(when) => {
                        self.rest(at, now, when);
                        break;
                    }
                }
            }
            if self.asleep {
                continue;
            }
            match meter.take_all(now, direction, share, false) {
                Ok(n) => return Poll::Ready(n),
                Err((at, when)) => self.rest(at, now, when),
            }
        }
    }

    /// Sleeps until `when`, without the turns of the limits behind `at`.
    fn rest(&mut self, at: usize, now: Instant, when: Instant) {
        for place in &mut self.places[at + 1..] {
            *place = None;
        }
        self.sleep.as_mut().reset(when.clamp(now + Duration::from_millis(1), now + STRETCH));
        self.asleep = true;
    }

    fn leave(&mut self, meter: &Meter, direction: Direction, took: usize) {
        self.asleep = false;
        for (place, limit) in self.places.iter_mut().zip(&meter.limits) {
            if let Some(place) = place.take() {
                place.leave(took as u64, limit.quantum(direction) as u64);
            }
        }
    }
}
