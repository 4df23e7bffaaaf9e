//! The threads that serve connections, each with a scheduler, timers and a poll of its own, so that what belongs to a
//! connection stays on one core and wakes nobody on another.
//!
//! Invariant: what is spawned on a worker runs there to its end; where there are no workers, it runs where it is
//! spawned.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Sockets are looked at after so many tasks: bulk takes long turns, and short ones should not wait for many of them.
const EVENT_INTERVAL: u32 = 12;

/// The same for what other threads wake.
const REMOTE_INTERVAL: u32 = 4;

/// As many more than another has are no reason to move a connection, where each has at least that many: the kernel spreads
/// them by a hash, and they even out.
const CHANCE: usize = 16;

thread_local! {
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Threads that serve connections; none is the runtime of whoever spawns.
#[derive(Default)]
pub struct Workers {
    workers: Vec<Worker>,
    stop: watch::Sender<()>,
    /// Disconnected once the last thread has ended.
    ended: Mutex<Option<mpsc::Receiver<()>>>,
}

struct Worker {
    handle: Handle,
    connections: AtomicUsize,
}

impl Workers {
    /// One thread for each core that this process may use.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start() -> io::Result<Arc<Self>> {
        Self::of(thread::available_parallelism().map_or(1, usize::from))
    }

    /// So many threads.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn of(count: usize) -> io::Result<Arc<Self>> {
        let (stop, (ended, all_ended)) = (watch::Sender::new(()), mpsc::channel());
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .event_interval(EVENT_INTERVAL)
                .global_queue_interval(REMOTE_INTERVAL)
                .build()?;
            workers.push(Worker { handle: runtime.handle().clone(), connections: AtomicUsize::new(0) });
            let (mut stopped, ended) = (stop.subscribe(), ended.clone());
            thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                HERE.set(Some(index));
                // Sent, or nobody is left to send it.
                let _ = runtime.block_on(stopped.changed());
                runtime.shutdown_timeout(Duration::ZERO);
                drop(ended);
            })?;
        }
        Ok(Arc::new(Self { workers, stop, ended: Mutex::new(Some(all_ended)) }))
    }

    /// Drops what still runs on them, and waits for that no longer than `most`.
    pub fn stop(&self, most: Duration) {
        self.stop.send_replace(());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            // Nothing is ever sent.
            let _ = ended.recv_timeout(most);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// Which of them the caller runs on; none outside of them.
    pub fn here() -> Option<usize> {
        HERE.get()
    }

    /// Calls `make` so that the sockets and timers it makes belong to a worker.
    pub fn within<T>(&self, worker: usize, make: impl FnOnce() -> T) -> T {
        let _entered = self.workers.get(worker).map(|worker| worker.handle.enter());
        make()
    }

    /// Runs `future` on a worker.
    pub fn spawn<F>(&self, worker: usize, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        match self.workers.get(worker) {
            Some(worker) => worker.handle.spawn(future),
            None => tokio::spawn(future),
        }
    }

    /// The same, waiting for it; it ends when the wait is given up.
    pub fn run<F>(&self, worker: usize, future: F) -> Run<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        Run(self.spawn(worker, future))
    }

    /// A place for a new connection: here, unless that leaves another worker with much fewer.
    pub fn place(self: &Arc<Self>) -> Place {
        let counts = || self.workers.iter().map(|worker| worker.connections.load(Relaxed));
        let (fewest, least) = counts().enumerate().min_by_key(|(_, n)| *n).unwrap_or_default();
        let more = if least < CHANCE { least / 2 } else { CHANCE.max(least / 2) };
        let fair = |here: &usize| counts().nth(*here).is_some_and(|n| n <= least + more);
        let worker = match Self::here().filter(fair) {
            Some(here) => here,
            None => fewest,
        };
        if let Some(worker) = self.workers.get(worker) {
            worker.connections.fetch_add(1, Relaxed);
        }
        Place { workers: self.clone(), worker }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// A connection's place on a worker; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    workers: Arc<Workers>,
    worker: usize,
}

impl Place {
    /// Which worker.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Whether the caller runs there, or nobody runs anywhere else.
    pub fn is_here(&self) -> bool {
        self.workers.workers.is_empty() || Workers::here() == Some(self.worker)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(worker) = self.workers.workers.get(self.worker) {
            worker.connections.fetch_sub(1, Relaxed);
        }
    }
}

/// Waits for what runs on a worker.
#[derive(Debug)]
pub struct Run<T>(JoinHandle<T>);

impl<T> Future for Run<T> {
    /// None where it panicked, or its worker has stopped.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

impl<T> Drop for Run<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_runs_where_it_was_put() {
        let workers = Workers::of(3).unwrap();
        for worker in [2, 0, 1] {
            assert_eq!(workers.run(worker, async { Workers::here() }).await, Some(Some(worker)));
        }
        assert_eq!(Workers::here(), None);
        workers.stop(Duration::from_secs(5));
        assert_eq!(workers.run(0, async { Workers::here() }).await, None, "it has stopped");
    }

    #[tokio::test]
    async fn without_workers_it_runs_right_here() {
        let workers = Arc::new(Workers::default());
        let place = workers.place();
        assert!(place.is_here());
        assert_eq!(workers.run(place.worker(), async { Workers::here() }).await, Some(None));
    }

    #[tokio::test]
    async fn connections_spread_and_stay_where_they_came_while_that_is_fair() {
        let workers = Workers::of(2).unwrap();
        let placed = |n: usize| {
            let workers = workers.clone();
            async move { (0..n).map(|_| workers.place()).collect::<Vec<_>>() }
        };
        let few = workers.run(1, placed(2)).await.unwrap();
        assert_eq!(few.iter().map(Place::worker).collect::<Vec<_>>(), [1, 0]);
        drop(few);
        let many = workers.run(1, placed(90)).await.unwrap();
        let here = many.iter().filter(|place| place.worker() == 1).count();
        assert!((45..=55).contains(&here), "{here}");
        drop(many);
        // By chance, of this few.
        let some = workers.run(1, placed(50)).await.unwrap();
        let here = some.iter().filter(|place| place.worker() == 1).count();
        assert!((33..=34).contains(&here), "{here}");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_ends() {
        let workers = Workers::of(1).unwrap();
        let (held, released) = tokio::sync::oneshot::channel::<()>();
        let mut run = Box::pin(workers.run(0, async move {
            let _held = held;
            std::future::pending::<()>().await;
        }));
        assert!(std::future::poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_pending())).await);
        drop(run);
        assert!(released.await.is_err());
    }

    #[tokio::test]
    async fn stopping_drops_what_runs() {
        let workers = Workers::of(2).unwrap();
        let (held, released) = tokio::sync::oneshot::channel::<()>();
        workers.spawn(1, async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        workers.stop(Duration::from_secs(5));
        assert!(released.await.is_err());
    }
}
