//! How much moves on a connection as of late, and how much of it is sent at once.
//!
//! Invariant: what comes next waits behind no more than the socket takes in [`AHEAD`], where it is the link that holds us
//! up; where it is not, batches are as large as they may be.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::out::{FRAME, SLOTS};

/// Bytes are counted this long for a rate, which says something for so long.
const PULSE: Duration = Duration::from_millis(500);
const FRESH: Duration = Duration::from_millis(1500);

/// What is sealed for a slow link, and what the kernel holds back for it, goes out in this time each.
const AHEAD: Duration = Duration::from_micros(500);

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
        let (batch, unsent) = if full { fitting(rate) } else { (WHOLE, UNSENT_MOST) };
        self.batch.store(batch, Relaxed);
        (self.unsent.swap(unsent.into(), Relaxed) != u64::from(unsent)).then_some(unsent)
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

/// Bytes of one batch, and unsent ones, for a link that takes so many a second.
fn fitting(rate: u64) -> (usize, u32) {
    let ahead = u128::from(rate) * AHEAD.as_micros() / 1_000_000;
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
        assert_eq!(fitting(0), (LEAST, UNSENT_LEAST));
        assert_eq!(fitting(12_500_000), (6250, UNSENT_LEAST));
        assert_eq!(fitting(1_000_000_000), (WHOLE, UNSENT_MOST));
        assert_eq!(fitting(u64::MAX), (WHOLE, UNSENT_MOST));
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
