//! How long the answer to a wrong password is held back: by the address it came from, and by the name it was for.
//!
//! Invariant: a right password is never looked up here, so nobody can be locked out by another's guesses.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::origin::Origin;

/// The answer to the first failure is not held back, the sixth and all later ones are for four seconds.
const STEPS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// One failure is forgotten each time this has passed.
const FORGET: Duration = Duration::from_secs(20);
/// A name is missed by many people's slips; only what goes beyond that looks like guessing.
const NAME_FREE: u32 = 10;
/// How many addresses and names are remembered.
const MOST: usize = 65_536;

/// What failures are counted by. A name is its keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Origin(Origin),
    Name(u64),
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    since: Instant,
}

impl Count {
    /// What is left of it at `now`.
    fn at(self, now: Instant) -> u32 {
        let forgotten = now.saturating_duration_since(self.since).as_secs() / FORGET.as_secs();
        self.failures.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

/// Failures of late.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    counts: Mutex<HashMap<Who, Count>>,
}

impl Failures {
    /// Counts a failure; how long its answer is to be held back.
    pub(crate) fn count(&self, origin: Origin, name: u64, now: Instant) -> Duration {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let by_origin = add(&mut counts, Who::Origin(origin), 0, now);
        let by_name = add(&mut counts, Who::Name(name), NAME_FREE, now);
        by_origin.max(by_name)
    }
}

fn add(counts: &mut HashMap<Who, Count>, who: Who, free: u32, now: Instant) -> Duration {
    if counts.len() >= MOST && !counts.contains_key(&who) {
        counts.retain(|_, count| count.at(now) > 0);
        if counts.len() >= MOST {
            // Whoever fills this up has many addresses; the least suspicious half makes room.
            counts.retain(|_, count| count.at(now) > 1);
        }
        if counts.len() >= MOST {
            counts.clear();
        }
    }
    let count = counts.entry(who).or_insert(Count { failures: 0, since: now });
    let before = count.at(now);
    let most = free + STEPS.len() as u32;
    *count = Count { failures: (before + 1).min(most), since: now };
    let step = before.saturating_sub(free) as usize;
    STEPS.get(step.min(STEPS.len() - 1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[tokio::test(start_paused = true)]
    async fn delays_grow_and_are_forgotten() {
        let failures = Failures::default();
        let (a, b) = (origin("192.0.2.1"), origin("192.0.2.2"));
        let delays: Vec<_> = (0..8).map(|n| failures.count(a, n, Instant::now()).as_millis()).collect();
        assert_eq!(delays, [0, 250, 500, 1000, 2000, 4000, 4000, 4000]);
        assert_eq!(failures.count(b, 99, Instant::now()), Duration::ZERO, "another address");
        tokio::time::advance(FORGET * 6).await;
        assert_eq!(failures.count(a, 1, Instant::now()), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_that_guess_at_one_name_are_slowed_down() {
        let failures = Failures::default();
        let delays: Vec<_> = (0..20)
            .map(|n| failures.count(origin(&format!("192.0.2.{n}")), 1, Instant::now()).as_millis())
            .collect();
        assert!(delays[..=10].iter().all(|delay| *delay == 0), "{delays:?}");
        assert_eq!(delays[11..], [250, 500, 1000, 2000, 4000, 4000, 4000, 4000, 4000]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded() {
        let failures = Failures::default();
        for n in 0..MOST as u32 + 10 {
            failures.count(IpAddr::V4(n.into()).into(), n.into(), Instant::now());
        }
        assert!(failures.counts.lock().unwrap().len() <= MOST);
    }
}
