//! Token arithmetic: a bucket as one moment in time (GCRA).
//!
//! Invariant: what was taken never exceeds the rate times the time passed, plus one burst. The burst is a
//! length of time, so a changed rate binds at once: the bucket is never further in debt than one burst.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[cfg(swiftproxy_loom)]
use loom::sync::atomic::AtomicU64;
#[cfg(not(swiftproxy_loom))]
use std::sync::atomic::AtomicU64;

use tokio::time::Instant;

const NANOS: u128 = 1_000_000_000;
/// What a burst holds at least, so that very low rates still move whole segments.
const LEAST_BURST: u64 = 1024;
/// The most that a flow takes at a time while others wait.
const LARGEST_QUANTUM: u64 = 64 * 1024;
/// The least, unless the rate's burst is smaller still.
const SMALLEST_QUANTUM: u64 = 512;
/// Below this, a quantum may take longer than 8 ms of the rate, so that slow flows wake less often.
const SMALL_QUANTUM: u64 = 4096;

/// A rate and its burst, as they are at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    rate: u64,
    /// In nanoseconds of the rate.
    burst: u64,
}

impl Pace {
    /// `rate` bytes per second (at least 1), with what it gives in `burst` at once.
    pub fn new(rate: u64, burst: Duration) -> Self {
        let rate = rate.max(1);
        Self { rate, burst: nanos(burst).max(time_of(LEAST_BURST, rate)) }
    }

    /// How many bytes a flow takes at a time while others wait: 8 ms of the rate, 32 ms of a low one, within
    /// bounds.
    pub fn quantum(self) -> u64 {
        let low = (self.rate / 31).min(SMALL_QUANTUM);
        let most = bytes_in(self.burst, self.rate) / 2;
        (self.rate / 125).max(low).clamp(SMALLEST_QUANTUM, LARGEST_QUANTUM).min(most.max(1))
    }
}

/// A continuous token bucket; full at first.
#[derive(Debug)]
pub struct Bucket {
    start: Instant,
    /// When the bucket will be full again, in nanoseconds since `start`.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(start: Instant) -> Self {
        Self { start, full_at: AtomicU64::new(0) }
    }

    /// Takes at most `want` bytes, and no less than a quantum or all that is wanted.
    ///
    /// # Errors
    /// The moment at which that much will be there; nothing was taken.
    pub fn take(&self, now: Instant, pace: Pace, want: usize) -> Result<usize, Instant> {
        self.take_above(now, pace, want, 0).map_err(|wait| now + Duration::from_nanos(wait))
    }

    /// The same while half a burst stays behind; none where it would not.
    pub fn take_freely(&self, now: Instant, pace: Pace, want: usize) -> Option<usize> {
        self.take_above(now, pace, want, pace.burst / 2).ok()
    }

    /// What [`take`](Self::take) would say.
    ///
    /// # Errors
    /// The same.
    pub fn check(&self, now: Instant, pace: Pace, want: usize) -> Result<(), Instant> {
        let since = self.since_start(now);
        let (_, full_at) = self.load(since, pace);
        let there = pace.burst - (full_at - since);
        match missing(there, pace, want) {
            0 => Ok(()),
            wait => Err(now + Duration::from_nanos(wait)),
        }
    }

    /// Gives `n` bytes back that were taken at that pace.
    pub fn give_back(&self, pace: Pace, n: usize) {
        let less = (n as u128 * NANOS / u128::from(pace.rate)) as u64;
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| Some(full_at.saturating_sub(less)));
    }

    /// Takes while `floor` nanoseconds of the rate stay in the bucket; or says how long until it could.
    fn take_above(&self, now: Instant, pace: Pace, want: usize, floor: u64) -> Result<usize, u64> {
        let now = self.since_start(now);
        loop {
            let (raw, full_at) = self.load(now, pace);
            let there = (pace.burst - (full_at - now)).saturating_sub(floor);
            match missing(there, pace, want) {
                0 => {}
                wait => return Err(wait),
            }
            let n = bytes_in(there, pace.rate).min(want as u64);
            let next = full_at + time_of(n, pace.rate);
            if self.full_at.compare_exchange_weak(raw, next, Relaxed, Relaxed).is_ok() {
                return Ok(n as usize);
            }
        }
    }

    /// When it will be full: as it was left, and as it counts, from `now` to a burst later. A debt of more than
    /// that, which a lower rate left, is forgiven for good.
    fn load(&self, now: u64, pace: Pace) -> (u64, u64) {
        let latest = now + pace.burst;
        let mut raw = self.full_at.load(Relaxed);
        while raw > latest {
            match self.full_at.compare_exchange_weak(raw, latest, Relaxed, Relaxed) {
                Ok(_) => raw = latest,
                Err(seen) => raw = seen,
            }
        }
        (raw, raw.max(now))
    }

    fn since_start(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.start))
    }
}

/// How many nanoseconds too early it is to take a quantum, or all of `want`.
fn missing(there: u64, pace: Pace, want: usize) -> u64 {
    let least = pace.quantum().min(want as u64).max(1);
    if bytes_in(there, pace.rate) >= least {
        0
    } else {
        time_of(least, pace.rate).saturating_sub(there).max(1)
    }
}

fn bytes_in(nanos: u64, rate: u64) -> u64 {
    (u128::from(nanos) * u128::from(rate) / NANOS) as u64
}

fn time_of(bytes: u64, rate: u64) -> u64 {
    (u128::from(bytes) * NANOS).div_ceil(u128::from(rate)).min(u128::from(u64::MAX / 4)) as u64
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

#[cfg(all(test, swiftproxy_loom))]
#[path = "model.rs"]
mod model;

#[cfg(all(test, not(swiftproxy_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BURST: Duration = Duration::from_millis(100);

    fn pace(rate: u64) -> Pace {
        Pace::new(rate, BURST)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let bucket = Bucket::new(start);
        assert_eq!(bucket.take(start, pace(1_000_000), 1 << 20), Ok(100_000));
        let when = bucket.take(start, pace(1_000_000), 1 << 20).expect_err("empty");
        assert_eq!(when - start, Duration::from_millis(8));
        assert_eq!(bucket.take(when, pace(1_000_000), 1 << 20), Ok(8_000));
    }

    #[test]
    fn freely_only_while_half_stays() {
        let start = Instant::now();
        let bucket = Bucket::new(start);
        assert_eq!(bucket.take_freely(start, pace(1_000_000), 1 << 20), Some(50_000));
        assert_eq!(bucket.take_freely(start, pace(1_000_000), 1), None);
        assert_eq!(bucket.check(start, pace(1_000_000), 1 << 20), Ok(()));
        assert_eq!(bucket.take(start, pace(1_000_000), 1 << 20), Ok(50_000));
    }

    #[test]
    fn what_comes_back_can_be_taken_again() {
        let start = Instant::now();
        let bucket = Bucket::new(start);
        assert_eq!(bucket.take(start, pace(1_000_000), 60_000), Ok(60_000));
        bucket.give_back(pace(1_000_000), 50_000);
        assert_eq!(bucket.take(start, pace(1_000_000), 1 << 20), Ok(90_000));
    }

    #[test]
    fn a_changed_rate_binds_at_once() {
        let start = Instant::now();
        let bucket = Bucket::new(start);
        assert_eq!(bucket.take(start, pace(1), 4096), Ok(1024));
        let when = bucket.take(start, pace(1_000_000_000), 1 << 20).expect_err("in debt");
        assert!(when - start <= BURST, "{:?}", when - start);
        assert!(bucket.take(when, pace(1_000_000_000), 1 << 20).is_ok());
    }

    proptest! {
        /// DESIGN §5: never more than the rate and one burst; a grant not spent goes back.
        #[test]
        fn never_more_than_rate_and_burst(
            rate in 1_u64..10_000_000_000,
            steps in prop::collection::vec(
                (0_u64..50_000_000, 1_usize..1 << 20, 0_usize..1 << 20, any::<bool>()),
                1..200,
            ),
        ) {
            let start = Instant::now();
            let bucket = Bucket::new(start);
            let (mut now, mut spent) = (start, 0_u128);
            for (pause, want, unspent, freely) in steps {
                now += Duration::from_nanos(pause);
                let took = if freely {
                    bucket.take_freely(now, pace(rate), want)
                } else {
                    let word = bucket.check(now, pace(rate), want);
                    let took = bucket.take(now, pace(rate), want);
                    prop_assert_eq!(word, took.map(|_| ()));
                    took.ok()
                };
                if let Some(n) = took {
                    prop_assert!(n >= 1 && n <= want);
                    let back = unspent.min(n);
                    bucket.give_back(pace(rate), back);
                    spent += (n - back) as u128;
                }
            }
            let burst = (u128::from(rate) / 10).max(u128::from(LEAST_BURST)) + 1;
            let allowed = (now - start).as_nanos() * u128::from(rate) / NANOS + burst;
            prop_assert!(spent <= allowed, "{spent} > {allowed}");
        }

        #[test]
        fn it_says_when_to_come_back_and_keeps_its_word(rate in 1_u64..10_000_000_000, want in 1_usize..1 << 20) {
            let start = Instant::now();
            let bucket = Bucket::new(start);
            while bucket.take(start, pace(rate), 1 << 30).is_ok() {}
            let when = bucket.take(start, pace(rate), want).expect_err("empty");
            prop_assert!(bucket.take(when, pace(rate), want).is_ok());
        }
    }
}
