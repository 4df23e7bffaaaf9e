//! Attempts that are under way: joined by whoever brings the same credential from the same address, in turn for
//! one name from one address.
//!
//! Invariant: their number is bounded; when there are too many, the address that has the most of them pays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swiftproxy_core::account::Account;
use swiftproxy_core::error::Refusal;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::origin::Origin;
use crate::print::Print;

/// The account, or why there is none.
pub(crate) type Outcome = Result<Arc<Account>, Refusal>;

/// How many may be under way.
const MOST: usize = 8192;

/// Where, which credential, for which name (as its keyed hash).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) origin: Origin,
    pub(crate) print: Print,
    pub(crate) name: u64,
}

impl std::fmt::Debug for Print {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Print")
    }
}

/// Lets one attempt at a name from an address go at a time.
type Gate = Arc<tokio::sync::Mutex<()>>;

struct Flight {
    id: u64,
    outcome: watch::Sender<Option<Outcome>>,
    task: Option<AbortHandle>,
}

#[derive(Default)]
struct Inner {
    last: u64,
    flights: HashMap<Attempt, Flight>,
    gates: HashMap<(Origin, u64), (Gate, usize)>,
    by_origin: HashMap<Origin, Vec<Attempt>>,
}

impl Inner {
    fn remove(&mut self, attempt: &Attempt) -> Option<Flight> {
        let flight = self.flights.remove(attempt)?;
        let gate = (attempt.origin, attempt.name);
        if let Some((_, users)) = self.gates.get_mut(&gate) {
            *users -= 1;
            if *users == 0 {
                self.gates.remove(&gate);
            }
        }
        if let Some(of) = self.by_origin.get_mut(&attempt.origin) {
            of.retain(|other| other != attempt);
            if of.is_empty() {
                self.by_origin.remove(&attempt.origin);
            }
        }
        Some(flight)
    }

    /// Makes room for one more of `origin`'s; none if it is the one who has the most.
    fn make_room(&mut self, origin: Origin) -> bool {
        if self.flights.len() < MOST {
            return true;
        }
        let own = self.by_origin.get(&origin).map_or(0, Vec::len);
        let fullest = self.by_origin.values().max_by_key(|of| of.len());
        let Some(newest) = fullest.filter(|of| of.len() > own + 1).and_then(|of| of.last().copied()) else {
            return false;
        };
        if let Some(task) = self.remove(&newest).and_then(|flight| flight.task) {
            task.abort();
        }
        true
    }
}

/// All attempts under way.
#[derive(Default)]
pub(crate) struct Flights {
    inner: Mutex<Inner>,
}

/// What an attempt's task is given.
pub(crate) struct Seat {
    id: u64,
    /// To be held from before the password is looked at until the answer is given.
    pub(crate) gate: Gate,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flights {
    /// Waits for that attempt's outcome; `start` spawns it where it is not under way yet.
    pub(crate) async fn join(&self, attempt: Attempt, start: impl FnOnce(Seat) -> AbortHandle) -> Outcome {
        let Some(mut outcome) = self.board(attempt, start) else { return Err(Refusal::TooManyConnections) };
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(Refusal::Internal)),
            Err(_) => Err(Refusal::TooManyConnections),
        }
    }

    fn board(
        &self,
        attempt: Attempt,
        start: impl FnOnce(Seat) -> AbortHandle,
    ) -> Option<watch::Receiver<Option<Outcome>>> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if let Some(flight) = inner.flights.get(&attempt) {
            return Some(flight.outcome.subscribe());
        }
        if !inner.make_room(attempt.origin) {
            return None;
        }
        inner.last += 1;
        let id = inner.last;
        let (outcome, wait) = watch::channel(None);
        let (gate, users) = inner.gates.entry((attempt.origin, attempt.name)).or_default();
        *users += 1;
        let seat = Seat { id, gate: gate.clone(), outcome: outcome.clone() };
        inner.by_origin.entry(attempt.origin).or_default().push(attempt);
        let task = Some(start(seat));
        inner.flights.insert(attempt, Flight { id, outcome, task });
        Some(wait)
    }

    /// Ends an attempt that nobody waits for any more; whether it was one.
    pub(crate) fn abandon(&self, attempt: &Attempt, seat: &Seat) -> bool {
        let mut inner = self.lock();
        let alone = inner
            .flights
            .get(attempt)
            .is_some_and(|flight| flight.id == seat.id && flight.outcome.receiver_count() == 0);
        if alone {
            inner.remove(attempt);
        }
        alone
    }

    /// Tells all who wait.
    pub(crate) fn land(&self, attempt: &Attempt, seat: &Seat, outcome: Outcome) {
        let mut inner = self.lock();
        if inner.flights.get(attempt).is_some_and(|flight| flight.id == seat.id) {
            inner.remove(attempt);
        }
        drop(inner);
        seat.outcome.send_replace(Some(outcome));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn attempt(last: u8, n: u32) -> Attempt {
        let mut print = [0; 32];
        print[..4].copy_from_slice(&n.to_le_bytes());
        Attempt { origin: IpAddr::from([192, 0, 2, last]).into(), print: Print(print), name: n.into() }
    }

    fn never(seat: Seat) -> AbortHandle {
        tokio::spawn(async move {
            let _seat = seat;
            std::future::pending::<()>().await;
        })
        .abort_handle()
    }

    #[tokio::test]
    async fn the_same_attempt_is_joined_and_everyone_is_told() {
        let flights = Arc::new(Flights::default());
        let mut seats = Vec::new();
        let first = flights.board(attempt(1, 1), |seat| {
            seats.push(seat);
            tokio::spawn(async {}).abort_handle()
        });
        let second = flights.board(attempt(1, 1), |_| unreachable!("it is under way"));
        let seat = seats.pop().unwrap();
        assert!(!flights.abandon(&attempt(1, 1), &seat), "two wait");
        flights.land(&attempt(1, 1), &seat, Err(Refusal::AuthFailed));
        for mut wait in [first.unwrap(), second.unwrap()] {
            assert_eq!(
                wait.wait_for(Option::is_some).await.unwrap().clone().unwrap().err(),
                Some(Refusal::AuthFailed)
            );
        }
        let inner = flights.lock();
        assert!(inner.flights.is_empty() && inner.gates.is_empty() && inner.by_origin.is_empty());
    }

    #[tokio::test]
    async fn when_it_is_full_the_address_that_fills_it_pays() {
        let flights = Flights::default();
        let guesses: Vec<_> = (0..MOST as u32).map(|n| flights.board(attempt(1, n), never)).collect();
        assert!(guesses.iter().all(Option::is_some));
        assert!(flights.board(attempt(1, u32::MAX), never).is_none(), "the guesser gets no more");
        assert!(flights.board(attempt(2, 1), never).is_some(), "another address does");
        assert_eq!(flights.lock().flights.len(), MOST);
        let mut pushed = guesses.into_iter().next_back().flatten().unwrap();
        assert!(pushed.wait_for(Option::is_some).await.is_err());
    }
}
