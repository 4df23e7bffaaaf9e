//! Token arithmetic: a bucket as one moment in time (GCRA).
//!
//! Invariant: what was taken never exceeds the rate times the time passed, plus one burst. The burst is a
//! length of time, so a changed rate binds at once: the bucket is never further in debt than one burst.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

const NANOS: u128 = 1_000_000_000;
/// What a burst holds at least, so that very low rates still move whole segments.
const LEAST_BURST: u64 = 1024;
/// The most that a flow takes at a time while others wait.
const LARGEST_QUANTUM: u64 = 64 * 1024;
/// The least, unless the rate's burst is smaller still.
const SMALLEST_QUANTUM: u64 = 512;

/// A continuous token bucket; full at first.
#[derive(Debug)]
pub struct Bucket {
    start: Instant,
    burst: Duration,
    /// When the bucket will be full again, in nanoseconds since `start` plus one burst.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full bucket that holds what the rate gives in `burst`.
    pub fn new(start: Instant, burst: Duration) -> Self {
        Self { start, burst, full_at: AtomicU64::new(0) }
    }

    /// Takes at most `want` bytes at `rate` bytes per second; at least a quantum, or all that is wanted.
    ///
    /// # Errors
    /// The moment at which that much will be there; nothing was taken.
    pub fn take(&self, now: Instant, rate: u64, want: usize) -> Result<usize, Instant> {
        let rate = rate.max(1);
        let burst = self.burst_nanos(rate);
        let now = nanos(now.saturating_duration_since(self.start));
        let mut full_at = self.full_at.load(Relaxed);
        loop {
            let from = full_at.clamp(now, now + burst);
            let there = (u128::from(now + burst - from) * u128::from(rate) / NANOS) as u64;
            let least = quantum(rate, self.burst).min(want as u64).max(1);
            if there < least {
                let wait = time_of(least, rate).saturating_sub(now + burst - from);
                return Err(self.start + Duration::from_nanos(now + wait.max(1)));
            }
            let n = there.min(want as u64);
            let next = from + time_of(n, rate);
            match self.full_at.compare_exchange_weak(full_at, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(n as usize),
                Err(seen) => full_at = seen,
            }
        }
    }

    /// Gives `n` bytes back that were taken at `rate`.
    pub fn give_back(&self, rate: u64, n: usize) {
        let less = (n as u128 * NANOS / u128::from(rate.max(1))) as u64;
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| Some(full_at.saturating_sub(less)));
    }

    fn burst_nanos(&self, rate: u64) -> u64 {
        nanos(self.burst).max(time_of(LEAST_BURST, rate))
    }
}

/// How many bytes a flow takes at a time while others wait: 8 ms of the rate, within bounds.
pub fn quantum(rate: u64, burst: Duration) -> u64 {
    let burst = (u128::from(rate) * burst.as_nanos() / NANOS) as u64;
    (rate / 125).clamp(SMALLEST_QUANTUM, LARGEST_QUANTUM).min(burst.max(LEAST_BURST) / 2)
}

fn time_of(bytes: u64, rate: u64) -> u64 {
    (u128::from(bytes) * NANOS).div_ceil(u128::from(rate.max(1))).min(u128::from(u64::MAX / 4)) as u64
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BURST: Duration = Duration::from_millis(100);

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let bucket = Bucket::new(start, BURST);
        assert_eq!(bucket.take(start, 1_000_000, 1 << 20), Ok(100_000));
        let when = bucket.take(start, 1_000_000, 1 << 20).expect_err("empty");
        assert_eq!(when - start, Duration::from_millis(8));
        assert_eq!(bucket.take(when, 1_000_000, 1 << 20), Ok(8_000));
    }

    #[test]
    fn what_comes_back_can_be_taken_again() {
        let start = Instant::now();
        let bucket = Bucket::new(start, BURST);
        assert_eq!(bucket.take(start, 1_000_000, 60_000), Ok(60_000));
        bucket.give_back(1_000_000, 50_000);
        assert_eq!(bucket.take(start, 1_000_000, 1 << 20), Ok(90_000));
    }

    #[test]
    fn a_changed_rate_binds_at_once() {
        let start = Instant::now();
        let bucket = Bucket::new(start, BURST);
        assert_eq!(bucket.take(start, 1, 4096), Ok(1024));
        let when = bucket.take(start, 1_000_000_000, 1 << 20).expect_err("in debt");
        assert!(when - start <= BURST, "{:?}", when - start);
    }

    proptest! {
        /// DESIGN §5: never more than the rate and one burst; a grant not spent goes back.
        #[test]
        fn never_more_than_rate_and_burst(
            rate in 1_u64..10_000_000_000,
            steps in prop::collection::vec((0_u64..50_000_000, 1_usize..1 << 20, 0_usize..1 << 20), 1..200),
        ) {
            let start = Instant::now();
            let bucket = Bucket::new(start, BURST);
            let (mut now, mut spent) = (start, 0_u128);
            for (pause, want, unspent) in steps {
                now += Duration::from_nanos(pause);
                if let Ok(n) = bucket.take(now, rate, want) {
                    prop_assert!(n >= 1 && n <= want);
                    let back = unspent.min(n);
                    bucket.give_back(rate, back);
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
            let bucket = Bucket::new(start, BURST);
            while bucket.take(start, rate, 1 << 30).is_ok() {}
            let when = bucket.take(start, rate, want).expect_err("empty");
            prop_assert!(bucket.take(when, rate, want).is_ok());
        }
    }
}
