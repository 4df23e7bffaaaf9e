//! The line in which flows wait for a limit that is dry: parties in turn, by weight; within a party first come,
//! first served.
//!
//! Invariant: at most one place of a line has the turn, and a place that is dropped hands it on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Who shares: an account's number, or 0 for flows without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Party {
    /// Equal for all flows that share one turn.
    pub key: u64,
    /// How many bytes it gets in a round, as a multiple of the others'; at least 1.
    pub weight: u32,
}

/// A fair line. Empty and untouched while its limit is not dry.
#[derive(Debug, Default)]
pub struct Line {
    waiting: AtomicUsize,
    rounds: Mutex<Rounds>,
}

#[derive(Debug, Default)]
struct Rounds {
    next: u64,
    parties: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    party: Party,
    /// Bytes it may still take before the next party's turn.
    credit: i64,
    flows: VecDeque<(u64, Option<Waker>)>,
}

impl Line {
    /// Whether some flow waits; a newcomer must then wait too.
    pub fn is_busy(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Takes a place at the end of the party's own queue.
    pub fn enter(self: &Arc<Self>, party: Party) -> Place {
        let mut rounds = self.lock();
        let id = rounds.next;
        rounds.next += 1;
        match rounds.parties.iter_mut().find(|waiting| waiting.party.key == party.key) {
            Some(waiting) => waiting.flows.push_back((id, None)),
            None => {
                rounds.parties.push_back(Waiting { party, credit: 0, flows: VecDeque::from([(id, None)]) })
            }
        }
        self.waiting.fetch_add(1, SeqCst);
        Place { line: self.clone(), party, id, took: 0, quantum: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A flow's place in a [`Line`]; dropping it leaves the line.
#[derive(Debug)]
pub struct Place {
    line: Arc<Line>,
    party: Party,
    id: u64,
    took: u64,
    quantum: u64,
}

impl Place {
    /// Ready when it is this flow's turn; otherwise the task is woken when it comes.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut rounds = self.line.lock();
        let first = rounds.parties.front().and_then(|waiting| waiting.flows.front());
        if first.is_some_and(|(id, _)| *id == self.id) {
            return Poll::Ready(());
        }
        let mine = rounds.parties.iter_mut().find(|waiting| waiting.party.key == self.party.key);
        if let Some((_, waker)) = mine.and_then(|w| w.flows.iter_mut().find(|(id, _)| *id == self.id)) {
            match waker {
                Some(known) if known.will_wake(cx.waker()) => {}
                _ => *waker = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }

    /// Leaves with `took` bytes; a party keeps the turn for `quantum` bytes times its weight.
    pub fn leave(mut self, took: u64, quantum: u64) {
        (self.took, self.quantum) = (took, quantum);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut rounds = self.line.lock();
        let Some(at) = rounds.parties.iter().position(|waiting| waiting.party.key == self.party.key) else {
            return;
        };
        let waiting = &mut rounds.parties[at];
        waiting.flows.retain(|(id, _)| *id != self.id);
        waiting.credit -= self.took as i64;
        let over = waiting.credit <= 0 && self.took > 0;
        if waiting.flows.is_empty() {
            rounds.parties.remove(at);
        } else if over && let Some(mut waiting) = rounds.parties.remove(at) {
            waiting.credit += (self.quantum * u64::from(self.party.weight.max(1))) as i64;
            rounds.parties.push_back(waiting);
        }
        self.line.waiting.fetch_sub(1, SeqCst);
        let next = rounds.parties.front_mut().and_then(|w| w.flows.front_mut()).and_then(|(_, w)| w.take());
        drop(rounds);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(key: u64, weight: u32) -> Party {
        Party { key, weight }
    }

    fn has_turn(place: &Place) -> bool {
        place.poll_turn(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn within_a_party_first_come_first_served() {
        let line = Arc::new(Line::default());
        let first = line.enter(party(1, 1));
        let second = line.enter(party(1, 1));
        assert!(has_turn(&first) && !has_turn(&second) && line.is_busy());
        first.leave(10, 10);
        assert!(has_turn(&second));
        drop(second);
        assert!(!line.is_busy());
    }

    /// Fifty flows buy nobody more (DESIGN §5): the shares follow the weights, not the flows.
    #[test]
    fn parties_share_by_weight() {
        let line = Arc::new(Line::default());
        let enter = |key: u64| (key, line.enter(party(key, key as u32)));
        let mut places: Vec<_> = (0..10).map(|_| enter(1)).chain((0..3).map(|_| enter(2))).collect();
        let mut shares = [0_u64; 3];
        for _ in 0..3000 {
            let at = places.iter().position(|(_, place)| has_turn(place)).expect("someone has the turn");
            let (key, place) = places.remove(at);
            shares[key as usize] += 100;
            let again = enter(key);
            place.leave(100, 100);
            places.push(again);
        }
        let ratio = shares[2] as f64 / shares[1] as f64;
        assert!((1.95..2.05).contains(&ratio), "{shares:?}");
    }

    #[test]
    fn a_dropped_place_hands_the_turn_on() {
        let line = Arc::new(Line::default());
        let first = line.enter(party(1, 1));
        let second = line.enter(party(2, 1));
        drop(first);
        assert!(has_turn(&second));
    }
}
