//! One bucket, in every order in which two threads can come (loom). At a megabyte per second a byte is a whole number of
//! nanoseconds, so that sums must be exact.

use std::sync::Arc;

use loom::thread;

use super::*;

const BURST: Duration = Duration::from_millis(100);

fn pace(rate: u64) -> Pace {
    Pace::new(rate, BURST)
}

#[test]
fn two_who_take_share_what_is_there_to_the_byte() {
    loom::model(|| {
        let start = Instant::now();
        let bucket = Arc::new(Bucket::new(start));
        let other = thread::spawn({
            let bucket = bucket.clone();
            move || bucket.take(start, pace(1_000_000), 60_000).unwrap_or(0)
        });
        let taken = bucket.take(start, pace(1_000_000), 60_000).unwrap_or(0) + other.join().unwrap();
        let left = bucket.take(start, pace(1_000_000), 1 << 20).unwrap_or(0);
        assert_eq!(taken + left, 100_000);
    });
}

#[test]
fn what_is_given_back_while_another_takes_is_neither_lost_nor_doubled() {
    loom::model(|| {
        let start = Instant::now();
        let bucket = Arc::new(Bucket::new(start));
        let mine = bucket.take(start, pace(1_000_000), 70_000).unwrap();
        let other = thread::spawn({
            let bucket = bucket.clone();
            move || bucket.take(start, pace(1_000_000), 80_000).unwrap_or(0)
        });
        bucket.give_back(pace(1_000_000), 50_000);
        let kept = mine - 50_000 + other.join().unwrap();
        let left = bucket.take(start, pace(1_000_000), 1 << 20).unwrap_or(0);
        assert_eq!(kept + left, 100_000);
    });
}

/// A debt that a lower rate left is forgiven once, and never more than that.
#[test]
fn a_debt_is_forgiven_once_whoever_comes_first() {
    loom::model(|| {
        let start = Instant::now();
        let bucket = Arc::new(Bucket::new(start));
        // A second's debt of a rate at which a burst is a second long.
        bucket.take(start, pace(1024), 4096).unwrap();
        let fast = pace(1_000_000);
        let later = start + BURST;
        let other = thread::spawn({
            let bucket = bucket.clone();
            move || bucket.take(later, fast, 60_000).unwrap_or(0)
        });
        let taken = bucket.take(later, fast, 60_000).unwrap_or(0) + other.join().unwrap();
        let left = bucket.take(later, fast, 1 << 20).unwrap_or(0);
        assert_eq!(taken + left, 0, "in debt until a burst later");
        assert_eq!(bucket.take(later + BURST, fast, 1 << 20), Ok(100_000));
    });
}
