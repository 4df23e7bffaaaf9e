//! The line and the taking, in every order in which two or three threads can come (loom).

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};

use loom::future::block_on;
use loom::sync::atomic::AtomicUsize;
use loom::thread;
use tokio::time::Instant;

use super::{Direction, Limit, Line, Meter, Party, Reach};

fn party(key: u64) -> Party {
    Party { key, weight: 1 }
}

/// Tries all orders, with at most so many switches that no thread asked for.
fn check(switches: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(model);
}

/// Waits for its turn and leaves.
fn pass(line: &Arc<Line>, key: u64) {
    let place = line.enter(party(key), 10);
    block_on(std::future::poll_fn(|cx| place.poll_turn(cx)));
    place.leave(10);
}

/// A wake-up that is lost leaves a thread that waits for ever, which the checker tells.
#[test]
fn everybody_gets_the_turn() {
    // Of one party, of two, and of two of which the later one may overtake.
    for keys in [[1, 1], [1, 2], [2, 1]] {
        check(4, move || {
            let line = Arc::new(Line::default());
            let threads = keys.map(|key| {
                let line = line.clone();
                thread::spawn(move || pass(&line, key))
            });
            for thread in threads {
                thread.join().unwrap();
            }
            assert!(!line.is_busy());
        });
    }
}

/// Whoever goes away while it waits, or at the moment the turn comes to it, hands it on.
#[test]
fn who_gives_up_holds_up_nobody() {
    check(3, || {
        let line = Arc::new(Line::default());
        let first = line.enter(party(1), 10);
        let quitter = line.enter(party(2), 10);
        let quits = thread::spawn(move || {
            let _ = quitter.poll_turn(&mut Context::from_waker(Waker::noop()));
            drop(quitter);
        });
        let stays = thread::spawn({
            let line = line.clone();
            move || pass(&line, 3)
        });
        first.leave(10);
        line.refund(party(1), 5);
        quits.join().unwrap();
        stays.join().unwrap();
        assert!(!line.is_busy());
    });
}

/// Somebody who waits is told of the turn, whichever of its looks the turn falls between.
#[test]
fn a_waker_that_changes_is_the_one_that_is_woken() {
    check(4, || {
        let line = Arc::new(Line::default());
        let first = line.enter(party(1), 10);
        let second = line.enter(party(1), 10);
        let leaves = thread::spawn(move || first.leave(10));
        // One look with a waker of nobody's, as by a `select!` that was moved to another task.
        if second.poll_turn(&mut Context::from_waker(Waker::noop())) == Poll::Pending {
            block_on(std::future::poll_fn(|cx| second.poll_turn(cx)));
        }
        leaves.join().unwrap();
    });
}

/// So many bytes, and no more come.
struct Bytes {
    left: AtomicUsize,
    line: Arc<Line>,
    least: usize,
}

impl Bytes {
    fn new(left: usize, least: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(left), line: Arc::default(), least })
    }
}

impl Limit for Bytes {
    fn reach(&self) -> Reach {
        Reach::Account
    }

    fn line(&self, _: Direction) -> Option<&Arc<Line>> {
        Some(&self.line)
    }

    fn take_freely(&self, now: Instant, direction: Direction, want: usize) -> Option<usize> {
        self.take(now, direction, want).ok()
    }

    fn take(&self, now: Instant, _: Direction, want: usize) -> Result<usize, Instant> {
        let taken = self.left.fetch_update(SeqCst, SeqCst, |left| {
            let n = left.min(want);
            (n >= self.least.min(want)).then_some(left - n)
        });
        taken.map(|left| left.min(want)).map_err(|_| now)
    }

    fn check(&self, _: Instant, _: Direction, _: usize) -> Result<(), Instant> {
        Ok(())
    }

    fn give_back(&self, _: Direction, n: usize) {
        self.left.fetch_add(n, SeqCst);
    }

    fn quantum(&self, _: Direction) -> usize {
        self.least
    }
}

#[test]
fn nothing_stays_taken_from_one_where_another_refuses() {
    check(4, || {
        let (wide, narrow) = (Bytes::new(20, 1), Bytes::new(9, 5));
        let flows = [4, 9].map(|want| {
            let mut meter = Meter::default();
            meter.limit(wide.clone());
            meter.limit(narrow.clone());
            thread::spawn(move || meter.take_by_turn(Instant::now(), Direction::Down, want).unwrap_or(0))
        });
        let taken: usize = flows.map(|flow| flow.join().unwrap()).iter().sum();
        assert_eq!(wide.left.load(SeqCst), 20 - taken);
        assert_eq!(narrow.left.load(SeqCst), 9 - taken);
    });
}

#[test]
fn a_grant_that_is_dropped_gives_back_exactly_what_was_not_spent() {
    check(4, || {
        let limit = Bytes::new(20, 1);
        let flows = [(12, 5), (12, 0)].map(|(want, spends)| {
            let mut meter = Meter::default();
            meter.limit(limit.clone());
            thread::spawn(move || {
                let polled = meter.grant_freely(Instant::now(), Direction::Down, want);
                polled.map_or(0, |grant| {
                    let spent = grant.bytes().min(spends);
                    grant.spend(spent);
                    spent
                })
            })
        });
        let spent: usize = flows.map(|flow| flow.join().unwrap()).iter().sum();
        assert_eq!(limit.left.load(SeqCst), 20 - spent);
    });
}
