//! How much moves on a connection as of late, and how much of it is sent at once.
//!
//! Invariant: what comes next waits behind no more than the socket takes in [`AHEAD`] or [`LEAST`], where it is the link
//! that holds us up and we come in time; where it is not, batches are as large as they may be.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::out::{FRAME, SLOTS};

/// Bytes are counted this long for a rate, which says something for so long.
const PULSE: Duration = Duration::from_millis(500);
const FRESH: Duration = Duration::from_millis(1500);

/// What is sealed for a slow link, and what the kernel holds back for it, goes out in this time each, in microseconds;
/// at most in that much, where we are too busy to come in time with more.
const AHEAD: u64 = 500;
const LATE: u64 = 16_000;

/// Bytes of one batch, and of one while others wait or the socket is full now and then: little enough that whoever comes
/// next does not wait long. A slow link's are no less than a record's overhead is worth.
const WHOLE: usize = SLOTS * FRAME;
const FEW: usize = 4 * FRAME;
const LEAST: usize = 4 * 1024;

/// Bytes that may wait in the kernel and are not sent yet: what comes next does not wait behind more.
const UNSENT_LEAST: u32 = 8 * 1024;
pub(super) const UNSENT_MOST: u32 = 128 * 1024;

/// What moves, and since when it is counted.
pub(super) struct Pace {
    start: Instant,
    /// Bytes of data either way, ever.
    moved: AtomicU64,
    /// Until when bytes were counted last, in milliseconds from the start, how many there had been, and how many that
    /// was per second. Written by the driver alone.
    since: AtomicU64,
    before: AtomicU64,
    rate: AtomicU64,
    /// The socket was full since then.
    full: AtomicBool,
    /// Bytes of one batch.
    batch: AtomicUsize,
    unsent: AtomicU64,
    /// The most that the link took a second, as of late, and the time that what is ahead may take.
    best: AtomicU64,
    ahead: AtomicU64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            moved: AtomicU64::new(0),
            since: AtomicU64::new(0),
            before: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            full: AtomicBool::new(false),
            batch: AtomicUsize::new(WHOLE),
            unsent: AtomicU64::new(UNSENT_MOST.into()),
            best: AtomicU64::new(0),
            ahead: AtomicU64::new(AHEAD),
        }
    }

    /// Takes note of data.
    pub(super) fn moved(&self, n: usize) {
        self.moved.fetch_add(n as u64, Relaxed);
    }

    /// The socket did not take all.
    pub(super) fn held_up(&self) {
        self.full.store(true, Relaxed);
    }

    /// Bytes per second, while that says something.
    pub(super) fn rate(&self) -> u64 {
        let age = self.age();
        if age < FRESH { self.rate.load(Relaxed) } else { 0 }
    }

    /// Bytes that may be sealed at once; `crowded` where others wait, or the socket is full now and then.
    pub(super) fn batch(&self, crowded: bool) -> usize {
        self.batch.load(Relaxed).min(if crowded { FEW } else { WHOLE })
    }

    fn age(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.since.load(Relaxed)))
    }

    /// Of the driver, whenever something is heard. What the kernel may hold back, where that has changed.
    pub(super) fn pulse(&self) -> Option<u32> {
        let age = self.age();
        if age < PULSE {
            return None;
        }
        let moved = self.moved.load(Relaxed);
        let counted = moved - self.before.swap(moved, Relaxed);
        let rate = u64::try_from(u128::from(counted) * 1000 / age.as_millis().max(1)).unwrap_or(u64::MAX);
        self.rate.store(rate, Relaxed);
        self.since.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
        let full = self.full.swap(false, Relaxed);
        // A rate that rests took part in says nothing of the link.
        let (batch, unsent) = if full && age < 2 * PULSE { self.fit(rate) } else { (WHOLE, UNSENT_MOST) };
        self.batch.store(batch, Relaxed);
        (self.unsent.swap(unsent.into(), Relaxed) != u64::from(unsent)).then_some(unsent)
    }
}

impl Pace {
    /// What fits a link that took so many bytes a second, as much as it could.
    fn fit(&self, rate: u64) -> (usize, u32) {
        let best = rate.max(self.best.load(Relaxed) / 16 * 15);
        self.best.store(best, Relaxed);
        let ahead = self.ahead.load(Relaxed);
        // Where it takes notably less than it did, it may be us who come too late with more.
        let ahead = if rate < best / 4 * 3 { (2 * ahead).min(LATE) } else { (ahead / 4 * 3).max(AHEAD) };
        self.ahead.store(ahead, Relaxed);
        fitting(best, ahead)
    }
}

/// Has the kernel take no more while so many bytes are not sent, where it knows of such a thing.
pub(super) fn hold_back(stream: &TcpStream, bytes: u32) {
    // What fails here costs delay, nothing else.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (stream, bytes);
}

/// Bytes of one batch, and unsent ones, for a link that takes so many a second, to go out in so many microseconds.
fn fitting(rate: u64, ahead: u64) -> (usize, u32) {
    let ahead = u128::from(rate) * u128::from(ahead) / 1_000_000;
    let batch = usize::try_from(ahead).unwrap_or(WHOLE).clamp(LEAST, WHOLE);
    let unsent = u32::try_from(ahead).unwrap_or(UNSENT_MOST).clamp(UNSENT_LEAST, UNSENT_MOST);
    // In powers of two, so that it seldom changes.
    (batch, unsent.next_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_link_has_little_ahead_of_what_comes_next() {
        assert_eq!(fitting(0, AHEAD), (LEAST, UNSENT_LEAST));
        assert_eq!(fitting(12_500_000, AHEAD), (6250, UNSENT_LEAST));
        assert_eq!(fitting(1_000_000_000, AHEAD), (WHOLE, UNSENT_MOST));
        assert_eq!(fitting(u64::MAX, AHEAD), (WHOLE, UNSENT_MOST));
    }

    #[tokio::test(start_paused = true)]
    async fn batches_follow_the_rate_only_where_the_link_holds_up() {
        let pace = Pace::new();
        let cases = [(true, 6250, Some(UNSENT_LEAST)), (true, 6250, None), (false, WHOLE, Some(UNSENT_MOST))];
        for (full, batch, changed) in cases {
            pace.moved(6_250_000);
            if full {
                pace.held_up();
            }
            assert_eq!(pace.pulse(), None, "too soon");
            tokio::time::advance(PULSE).await;
            assert_eq!(pace.pulse(), changed);
            assert_eq!(pace.rate(), 12_500_000);
            assert_eq!((pace.batch(false), pace.batch(true)), (batch, batch.min(FEW)));
        }
    }

    /// Has so many bytes go out in half a second by a link that holds up; what may be sealed at once then.
    async fn after(pace: &Pace, bytes: usize) -> usize {
        pace.moved(bytes);
        pace.held_up();
        tokio::time::advance(PULSE).await;
        pace.pulse();
        pace.batch(false)
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_too_late_has_more_ahead() {
        let pace = Pace::new();
        let steady = after(&pace, 20_000_000).await;
        assert_eq!(after(&pace, 20_000_000).await, steady);
        let mut late = 0;
        for _ in 0..5 {
            late = after(&pace, 4_000_000).await;
        }
        assert!(late > 3 * steady, "{late}");
        for _ in 0..40 {
            late = after(&pace, 4_000_000).await;
        }
        assert!(late < steady, "it is the link that is slower now: {late}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_says_nothing_of_the_link() {
        let pace = Pace::new();
        pace.moved(6_250_000);
        pace.held_up();
        tokio::time::advance(2 * PULSE).await;
        pace.pulse();
        assert_eq!(pace.batch(false), WHOLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_soon_forgotten() {
        let pace = Pace::new();
        pace.moved(50_000_000);
        tokio::time::advance(PULSE).await;
        pace.pulse();
        assert!(pace.rate() > 0);
        tokio::time::advance(FRESH).await;
        assert_eq!(pace.rate(), 0);
    }
}
