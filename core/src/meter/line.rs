//! The line in which flows wait for a limit that is low: parties in turn, by weight; within a party first come,
//! first served, but for those whose turn gave them less than it was worth: they go on with it.
//!
//! Invariant: at most one place of a line has the turn, and a place that is dropped hands it on.
//!
//! Turns go by start-time fair queueing: a party's tag is what it took so far, over its weight, and the smallest
//! tag is next. It needs no list of rounds, and a party of one flow, which is out of the line while it moves
//! what it took, is remembered meanwhile.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use super::shared::{AtomicU64, AtomicUsize, Mutex, MutexGuard};

/// Parts of a byte in a tag, so that weights divide it.
const SCALE: u64 = 256;
/// How many quanta a party that was away may be behind the others, and catch up.
const CATCH_UP: u64 = 8;
/// Parties that are remembered without being looked through.
const FEW: usize = 64;

/// Who shares: an account's number, or 0 for flows without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Party {
    /// Equal for all flows that share one turn.
    pub key: u64,
    /// How many bytes it gets as a multiple of the others'; at least 1.
    pub weight: u32,
}

/// A fair line. Empty and untouched while its limit is not low.
#[derive(Debug, Default)]
pub struct Line {
    waiting: AtomicUsize,
    /// The place whose turn it is; 0 is nobody's.
    turn: AtomicU64,
    rounds: Mutex<Rounds>,
}

#[derive(Debug, Default)]
struct Rounds {
    last_place: u64,
    /// The tag of the last party that took.
    now: u64,
    parties: HashMap<u64, Queue>,
    /// Those with flows in line, by tag.
    order: BTreeSet<(u64, u64)>,
    forget_at: usize,
}

#[derive(Debug, Default)]
struct Queue {
    tag: u64,
    weight: u64,
    /// Flows that go on with a turn they have begun.
    resumed: VecDeque<Waiter>,
    flows: VecDeque<Waiter>,
}

/// A place, and whom to wake when it has the turn.
type Waiter = (u64, Option<Waker>);

impl Queue {
    fn is_empty(&self) -> bool {
        self.resumed.is_empty() && self.flows.is_empty()
    }

    fn first(&mut self) -> Option<&mut Waiter> {
        self.resumed.front_mut().or_else(|| self.flows.front_mut())
    }

    fn find(&mut self, place: u64) -> Option<&mut Waiter> {
        self.resumed.iter_mut().chain(&mut self.flows).find(|waiter| waiter.0 == place)
    }

    fn remove(&mut self, place: u64) {
        for line in [&mut self.resumed, &mut self.flows] {
            if line.front().is_some_and(|waiter| waiter.0 == place) {
                line.pop_front();
            } else {
                line.retain(|waiter| waiter.0 != place);
            }
        }
    }
}

impl Line {
    /// Whether some flow waits; a newcomer must then wait too.
    pub fn is_busy(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Takes a place at the end of the party's own queue; `quantum` is what a turn is worth at present.
    pub fn enter(self: &Arc<Self>, party: Party, quantum: usize) -> Place {
        self.take_place(party, quantum, false)
    }

    /// Takes a place ahead of the party's other flows, for one that has used only part of its turn.
    pub fn resume(self: &Arc<Self>, party: Party, quantum: usize) -> Place {
        self.take_place(party, quantum, true)
    }

    fn take_place(self: &Arc<Self>, party: Party, quantum: usize, resumed: bool) -> Place {
        let mut rounds = self.lock();
        let rounds_now = rounds.now;
        let oldest = rounds_now.saturating_sub(CATCH_UP * SCALE * quantum as u64);
        rounds.last_place += 1;
        let place = rounds.last_place;
        rounds.forget(oldest);
        let queue =
            rounds.parties.entry(party.key).or_insert_with(|| Queue { tag: rounds_now, ..Queue::default() });
        queue.weight = party.weight.max(1).into();
        let first = queue.is_empty();
        if first {
            queue.tag = queue.tag.max(oldest);
        }
        let line = if resumed { &mut queue.resumed } else { &mut queue.flows };
        line.push_back((place, None));
        let tag = queue.tag;
        if first {
            rounds.order.insert((tag, party.key));
        }
        self.waiting.fetch_add(1, SeqCst);
        self.hand_on(rounds);
        Place { line: self.clone(), key: party.key, place, took: 0 }
    }

    /// Takes `n` of the bytes off a party's account that it took by turn and did not use.
    pub fn refund(&self, party: Party, n: u64) {
        let mut rounds = self.lock();
        rounds.charge(party.key, |tag, weight| tag.saturating_sub(n.saturating_mul(SCALE) / weight));
        self.hand_on(rounds);
    }

    fn lock(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the turn to whom it belongs, and wakes them.
    fn hand_on(&self, mut rounds: MutexGuard<'_, Rounds>) {
        let key = rounds.order.first().map(|(_, key)| *key);
        let next = key.and_then(|key| rounds.parties.get_mut(&key)).and_then(Queue::first);
        let Some((place, waker)) = next else {
            self.turn.store(0, SeqCst);
            return;
        };
        if self.turn.swap(*place, SeqCst) != *place {
            let waker = waker.take();
            drop(rounds);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Rounds {
    /// Changes a party's tag, and its place in the order with it.
    fn charge(&mut self, key: u64, change: impl FnOnce(u64, u64) -> u64) {
        let Some(queue) = self.parties.get_mut(&key) else { return };
        let tag = change(queue.tag, queue.weight);
        let old = std::mem::replace(&mut queue.tag, tag);
        if self.order.remove(&(old, key)) {
            self.order.insert((tag, key));
        }
    }

    /// Drops the parties that have been away for longer than they could catch up, now and then.
    fn forget(&mut self, oldest: u64) {
        if self.parties.len() >= self.forget_at.max(FEW) {
            self.parties.retain(|_, queue| !queue.is_empty() || queue.tag > oldest);
            self.forget_at = self.parties.len() * 2;
        }
    }
}

/// A flow's place in a [`Line`]; dropping it leaves the line.
#[derive(Debug)]
pub struct Place {
    line: Arc<Line>,
    key: u64,
    place: u64,
    took: u64,
}

impl Place {
    /// Ready when it is this flow's turn; otherwise the task is woken when it comes.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.line.turn.load(SeqCst) == self.place {
            return Poll::Ready(());
        }
        let mut rounds = self.line.lock();
        if self.line.turn.load(SeqCst) == self.place {
            return Poll::Ready(());
        }
        let mine = rounds.parties.get_mut(&self.key);
        let mine = mine.and_then(|queue| queue.find(self.place));
        if let Some((_, waker)) = mine {
            match waker {
                Some(known) => known.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }

    /// Leaves with `took` bytes, which are put on the party's account.
    pub fn leave(mut self, took: u64) {
        self.took = took;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut rounds = self.line.lock();
        let rounds_ref = &mut *rounds;
        let Some(queue) = rounds_ref.parties.get_mut(&self.key) else { return };
        queue.remove(self.place);
        let (tag, empty) = (queue.tag, queue.is_empty());
        if empty {
            rounds_ref.order.remove(&(tag, self.key));
        }
        if self.took > 0 {
            rounds_ref.now = rounds_ref.now.max(tag);
            let took = self.took.saturating_mul(SCALE);
            rounds_ref.charge(self.key, |tag, weight| tag.saturating_add(took / weight));
        }
        self.line.waiting.fetch_sub(1, SeqCst);
        self.line.hand_on(rounds);
    }
}

#[cfg(all(test, not(swiftproxy_loom)))]
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
        let first = line.enter(party(1, 1), 10);
        let second = line.enter(party(1, 1), 10);
        assert!(has_turn(&first) && !has_turn(&second) && line.is_busy());
        first.leave(10);
        assert!(has_turn(&second));
        drop(second);
        assert!(!line.is_busy());
    }

    #[test]
    fn a_turn_that_was_cut_short_goes_on_before_others_begin() {
        let line = Arc::new(Line::default());
        let (first, second) = (line.enter(party(1, 1), 10), line.enter(party(1, 1), 10));
        first.leave(3);
        let (last, again) = (line.enter(party(1, 1), 10), line.resume(party(1, 1), 10));
        assert!(has_turn(&again) && !has_turn(&second) && !has_turn(&last));
        again.leave(7);
        assert!(has_turn(&second) && !has_turn(&last));
    }

    /// Has flows take 100 bytes a turn; each is away for `away` turns of others after its own.
    fn shares(flows: &[Party], away: usize) -> HashMap<u64, u64> {
        let line = Arc::new(Line::default());
        let mut places: Vec<_> =
            flows.iter().map(|party| (*party, Some(line.enter(*party, 100)), 0)).collect();
        let mut shares = HashMap::new();
        for _ in 0..6000 {
            for (party, place, gone) in &mut places {
                if place.is_none() {
                    *gone += 1;
                    if *gone > away {
                        *place = Some(line.enter(*party, 100));
                    }
                }
            }
            let mut waiting = places.iter_mut().filter(|(_, place, _)| place.is_some());
            let next = waiting.find(|(_, place, _)| place.as_ref().is_some_and(has_turn));
            let (party, place, gone) = next.expect("someone has the turn");
            if let Some(place) = place.take() {
                place.leave(100);
            }
            *gone = 0;
            *shares.entry(party.key).or_default() += 100;
        }
        shares
    }

    /// Fifty flows buy nobody more: the shares follow the weights, not the flows.
    #[test]
    fn parties_share_by_weight() {
        let flows: Vec<_> = (0..50).map(|_| party(1, 1)).chain([party(2, 2)]).collect();
        let shares = shares(&flows, 0);
        let ratio = shares[&2] as f64 / shares[&1] as f64;
        assert!((1.98..2.02).contains(&ratio), "{shares:?}");
    }

    #[test]
    fn a_party_of_one_flow_keeps_its_share_while_it_is_away() {
        let flows: Vec<_> = (0..50).map(|_| party(1, 1)).chain([party(2, 1)]).collect();
        let shares = shares(&flows, 1);
        let ratio = shares[&2] as f64 / shares[&1] as f64;
        assert!((0.98..1.02).contains(&ratio), "{shares:?}");
    }

    #[test]
    fn who_was_away_for_long_gets_no_more_than_a_little_ahead() {
        let line = Arc::new(Line::default());
        drop(line.enter(party(2, 1), 100));
        for _ in 0..1000 {
            line.enter(party(1, 1), 100).leave(100);
        }
        let mut turns = 0;
        loop {
            let other = line.enter(party(1, 1), 100);
            let mine = line.enter(party(2, 1), 100);
            if !has_turn(&mine) {
                drop(other);
                break;
            }
            drop(other);
            mine.leave(100);
            turns += 1;
        }
        assert!((1..=CATCH_UP + 2).contains(&turns), "{turns}");
    }

    #[test]
    fn what_was_not_used_is_not_on_the_account() {
        let line = Arc::new(Line::default());
        line.enter(party(1, 1), 100).leave(100);
        line.refund(party(1, 1), 100);
        line.enter(party(2, 1), 100).leave(50);
        let (second, first) = (line.enter(party(2, 1), 100), line.enter(party(1, 1), 100));
        assert!(has_turn(&first) && !has_turn(&second));
    }

    #[test]
    fn a_dropped_place_hands_the_turn_on() {
        let line = Arc::new(Line::default());
        let first = line.enter(party(1, 1), 10);
        let second = line.enter(party(2, 1), 10);
        drop(first);
        assert!(has_turn(&second));
    }

    #[test]
    fn parties_that_are_gone_are_forgotten() {
        let line = Arc::new(Line::default());
        for key in 0..10_000 {
            line.enter(party(key, 1), 10).leave(10);
        }
        // Each was only a quantum behind, so move on first.
        for _ in 0..1_000 {
            line.enter(party(1, 1), 10).leave(10);
        }
        for key in 20_000..40_000 {
            line.enter(party(key, 1), 10).leave(0);
        }
        assert!(line.lock().parties.len() < 25_000);
    }
}
