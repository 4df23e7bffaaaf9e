//! Hashing off the async threads: as many at once as there are processors, in turn by client address.
//!
//! Invariant: one run per credential, however many wait for it and from wherever; an address with a thousand
//! attempts waiting delays another's first one by a single run.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::Block;
use swiftproxy_core::account::Password;
use swiftproxy_core::secret::Secret;
use tokio::sync::oneshot;

use crate::origin::Origin;
use crate::phc::Hash;
use crate::print::Print;

/// What is compared with what.
pub(crate) struct Work {
    pub(crate) print: Print,
    /// The row that `hash` is of, so that a changed row is another run; none for the dummy.
    pub(crate) row: Option<Arc<Password>>,
    pub(crate) hash: Hash,
    pub(crate) password: Secret,
}

type Key = (Print, usize);

/// Twice as many as may wait; beyond, what was given up is swept out.
const MOST_JOBS: usize = 16_384;

impl Work {
    /// The row's address is its own as long as the work holds the row.
    fn key(&self) -> Key {
        (self.print, self.row.as_ref().map_or(0, |row| Arc::as_ptr(row) as usize))
    }
}

struct Job {
    /// Taken by the worker that runs it.
    work: Option<Work>,
    /// Kept here too, so that the key stays the row's.
    _row: Option<Arc<Password>>,
    origins: HashSet<Origin>,
    waiting: Vec<oneshot::Sender<bool>>,
}

#[derive(Default)]
struct Lines {
    jobs: HashMap<Key, Job>,
    lanes: HashMap<Origin, VecDeque<Key>>,
    /// The addresses that have something in their lane, in turn.
    turns: VecDeque<Origin>,
    workers: usize,
    #[cfg(test)]
    runs: usize,
}

impl Lines {
    fn sweep(&mut self) {
        self.jobs
            .retain(|_, job| job.work.is_none() || job.waiting.iter().any(|waiting| !waiting.is_closed()));
        for lane in self.lanes.values_mut() {
            lane.retain(|key| self.jobs.contains_key(key));
        }
        self.lanes.retain(|_, lane| !lane.is_empty());
        self.turns.retain(|origin| self.lanes.contains_key(origin));
    }

    fn next(&mut self) -> Option<(Key, Work)> {
        loop {
            let origin = self.turns.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&origin) else { continue };
            let key = lane.pop_front();
            if lane.is_empty() {
                self.lanes.remove(&origin);
            } else {
                self.turns.push_back(origin);
            }
            let Some((key, job)) = key.and_then(|key| Some((key, self.jobs.get_mut(&key)?))) else {
                continue;
            };
            job.waiting.retain(|waiting| !waiting.is_closed());
            if job.work.is_some() && job.waiting.is_empty() {
                self.jobs.remove(&key);
                continue;
            }
            if let Some(work) = job.work.take() {
                return Some((key, work));
            }
        }
    }
}

/// Everything that waits for a hash.
pub(crate) struct Queue {
    lines: Mutex<Lines>,
    most_workers: usize,
}

impl Default for Queue {
    fn default() -> Self {
        let most_workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { lines: Mutex::default(), most_workers }
    }
}

impl Queue {
    /// Whether the password is the hash's; `None` where the worker died of it. Whoever lets go of the future
    /// gives up its place.
    pub(crate) async fn verify(self: &Arc<Self>, origin: Origin, work: Work) -> Option<bool> {
        let answer = self.submit(origin, work);
        answer.await.ok()
    }

    fn submit(self: &Arc<Self>, origin: Origin, work: Work) -> oneshot::Receiver<bool> {
        let (tell, answer) = oneshot::channel();
        let mut lines = self.lock();
        let lines = &mut *lines;
        if lines.jobs.len() >= MOST_JOBS {
            lines.sweep();
        }
        let key = work.key();
        let job = lines.jobs.entry(key).or_insert_with(|| Job {
            _row: work.row.clone(),
            work: Some(work),
            origins: HashSet::new(),
            waiting: Vec::new(),
        });
        if job.waiting.len() >= 64 && job.waiting.len().is_power_of_two() {
            job.waiting.retain(|waiting| !waiting.is_closed());
        }
        job.waiting.push(tell);
        if job.work.is_some() && job.origins.insert(origin) {
            let lane = lines.lanes.entry(origin).or_default();
            if lane.is_empty() {
                lines.turns.push_back(origin);
            }
            lane.push_back(key);
        }
        if lines.workers < self.most_workers && !lines.turns.is_empty() {
            lines.workers += 1;
            let worker = Worker { queue: self.clone(), left: false };
            tokio::task::spawn_blocking(move || worker.run());
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the threads that hash; it lives as long as something waits.
struct Worker {
    queue: Arc<Queue>,
    left: bool,
}

impl Worker {
    fn run(mut self) {
        let queue = self.queue.clone();
        let mut memory: Vec<Block> = Vec::new();
        loop {
            let mut lines = queue.lock();
            let Some((key, work)) = lines.next() else {
                // Under the same lock, or a job that comes now would count on this worker.
                lines.workers -= 1;
                self.left = true;
                return;
            };
            drop(lines);
            let running = Running { queue: &queue, key, done: false };
            let right = work.hash.verify(&work.password, &mut memory);
            running.finish(right);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.left {
            self.queue.lock().workers -= 1;
        }
    }
}

/// A job on its way; those who wait are told, or let go if its run dies.
struct Running<'a> {
    queue: &'a Queue,
    key: Key,
    done: bool,
}

impl Running<'_> {
    fn finish(mut self, right: bool) {
        self.done = true;
        let mut lines = self.queue.lock();
        #[cfg(test)]
        {
            lines.runs += 1;
        }
        let job = lines.jobs.remove(&self.key);
        drop(lines);
        for waiting in job.into_iter().flat_map(|job| job.waiting) {
            let _ = waiting.send(right);
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.queue.lock().jobs.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn work(n: u8, password: &str) -> Work {
        const PHC: &str =
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let mut print = [0; 32];
        print[0] = n;
        let hash = Hash::parse(PHC).unwrap();
        Work { print: Print(print), row: None, hash, password: Secret::new(password) }
    }

    fn origin(last: u8) -> Origin {
        IpAddr::from([192, 0, 2, last]).into()
    }

    /// A queue whose only worker never comes, so that the order can be looked at.
    fn still() -> Arc<Queue> {
        Arc::new(Queue { lines: Mutex::default(), most_workers: 0 })
    }

    fn order(queue: &Queue) -> Vec<u8> {
        let mut lines = queue.lock();
        std::iter::from_fn(|| lines.next()).map(|(key, _)| key.0.0[0]).collect()
    }

    #[test]
    fn addresses_take_turns() {
        let queue = still();
        let guesses: Vec<_> = (0..5).map(|n| queue.submit(origin(1), work(n, "x"))).collect();
        let others: Vec<_> = (2..4).map(|n| queue.submit(origin(n), work(100 + n, "x"))).collect();
        assert_eq!(order(&queue), [0, 102, 103, 1, 2, 3, 4]);
        drop((guesses, others));
    }

    #[test]
    fn who_gave_up_is_passed_over() {
        let queue = still();
        let first = queue.submit(origin(1), work(1, "x"));
        let second = queue.submit(origin(1), work(2, "x"));
        drop(first);
        assert_eq!(order(&queue), [2]);
        drop(second);
        assert_eq!(queue.lock().jobs.len(), 1, "the one that runs");
    }

    #[test]
    fn a_credential_waits_in_every_lane_it_came_by_and_runs_once() {
        let queue = still();
        let mut held: Vec<_> = (0..4).map(|n| queue.submit(origin(1), work(n, "x"))).collect();
        held.push(queue.submit(origin(1), work(9, "x")));
        held.push(queue.submit(origin(2), work(9, "x")));
        assert_eq!(order(&queue), [0, 9, 1, 2, 3]);
    }

    #[test]
    fn what_was_given_up_is_swept_out() {
        let queue = still();
        let held = queue.submit(origin(1), work(1, "x"));
        drop(queue.submit(origin(2), work(2, "x")));
        queue.lock().sweep();
        let lines = queue.lock();
        assert_eq!((lines.jobs.len(), lines.lanes.len(), lines.turns.len()), (1, 1, 1));
        drop((lines, held));
    }

    #[tokio::test]
    async fn a_thousand_who_wait_for_one_credential_cost_one_run() {
        let queue = still();
        let mut waiting = Vec::new();
        for n in 0..1000u16 {
            waiting.push(queue.submit(origin(n as u8), work(1, "password")));
        }
        let run = Arc::new(Queue { lines: Mutex::new(std::mem::take(&mut *queue.lock())), most_workers: 4 });
        assert_eq!(run.verify(origin(1), work(2, "wrong")).await, Some(false));
        for answer in waiting {
            assert_eq!(answer.await, Ok(true));
        }
        assert_eq!(run.lock().runs, 2);
        assert!(run.lock().jobs.is_empty());
    }
}
