//! Names to addresses, by the system's resolver, off the async threads, and kept for a moment: the system does not say
//! for how long an answer holds.
//!
//! Invariant: a name server that does not answer keeps so many threads and no more, whatever is asked of it; a name is
//! asked for once at a time, whoever gives up waiting, and a failure is not kept.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swiftproxy_core::error::Refusal;
use tokio::sync::{Semaphore, SetOnce};
use tokio::time::Instant;

/// How many names are looked up at a time.
const MOST: usize = 128;

/// How long an answer is kept: a page's many connections ask once, and a change shows soon.
const KEPT: Duration = Duration::from_secs(5);

/// How many answers are kept.
const MOST_KEPT: usize = 4096;

type Found = Result<Arc<[IpAddr]>, Refusal>;
/// What was found, and when; set once.
type Answer = Arc<SetOnce<(Instant, Found)>>;
type LookUp = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// A node's lookups.
pub(super) struct Resolver {
    permits: Arc<Semaphore>,
    look_up: Arc<LookUp>,
    answers: Mutex<HashMap<String, Answer>>,
}

/// Whether an answer is awaited, or good and recent.
fn holds(answer: &Answer, now: Instant) -> bool {
    match answer.get() {
        None => true,
        Some((since, found)) => found.is_ok() && now.duration_since(*since) < KEPT,
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::by(|name| Ok((name, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect()))
    }
}

impl Resolver {
    fn by(look_up: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MOST)),
            look_up: Arc::new(look_up),
            answers: Mutex::default(),
        }
    }

    /// A name's addresses as the system orders them, IPv4-mapped ones as IPv4.
    pub(super) async fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
        let answer = self.answer(name);
        let (_, found) = answer.wait().await;
        Ok(found.clone()?.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
    }

    /// The answer that holds, or a new one that is on its way.
    fn answer(&self, name: &str) -> Answer {
        let now = Instant::now();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.get(name).filter(|answer| holds(answer, now)) {
            return answer.clone();
        }
        if answers.len() >= MOST_KEPT {
            answers.retain(|_, answer| holds(answer, now));
            if answers.len() >= MOST_KEPT {
                // What somebody waits for stays: there is no more of it than there are sessions.
                answers.retain(|_, answer| answer.get().is_none());
            }
        }
        let answer = Answer::default();
        answers.insert(name.to_owned(), answer.clone());
        drop(answers);
        let ask = Self::ask(self.permits.clone(), self.look_up.clone(), name.to_owned());
        let found = answer.clone();
        // A task of its own: whoever asked may be gone before the system answers, and others wait for it too.
        tokio::spawn(async move {
            let answer = ask.await;
            // Nobody else sets it.
            let _ = found.set((Instant::now(), answer));
        });
        answer
    }

    async fn ask(permits: Arc<Semaphore>, look_up: Arc<LookUp>, name: String) -> Found {
        let permit = permits.acquire_owned().await.map_err(|_| Refusal::Internal)?;
        let lookup = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let found = look_up(&name).map_err(|_| Refusal::DnsFailed)?;
            Ok(found.iter().map(IpAddr::to_canonical).collect())
        });
        lookup.await.unwrap_or(Err(Refusal::Internal))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Poll;

    use super::*;

    /// A resolver that counts what it is asked, and knows no name with a dot.
    fn counted() -> (Resolver, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let resolver = Resolver::by({
            let asked = asked.clone();
            move |name| {
                asked.fetch_add(1, Relaxed);
                match name.contains('.') {
                    true => Err(io::ErrorKind::NotFound.into()),
                    false => Ok(vec!["::ffff:192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]),
                }
            }
        });
        (resolver, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_a_moment() {
        let (resolver, asked) = counted();
        let expected: Vec<SocketAddr> =
            vec!["192.0.2.1:80".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap()];
        let all = futures_util::future::join_all((0..50).map(|_| resolver.resolve("a", 80))).await;
        assert!(all.iter().all(|found| found.as_ref() == Ok(&expected)));
        assert_eq!(resolver.resolve("a", 443).await.unwrap()[0].port(), 443);
        assert_eq!(asked.load(Relaxed), 1, "asked together, and again");
        tokio::time::advance(KEPT).await;
        resolver.resolve("a", 80).await.unwrap();
        assert_eq!(asked.load(Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_not_kept() {
        let (resolver, asked) = counted();
        for _ in 0..2 {
            assert_eq!(resolver.resolve("no.name", 80).await, Err(Refusal::DnsFailed));
        }
        assert_eq!(asked.load(Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_costs_no_second_question() {
        let (resolver, asked) = counted();
        let mut given_up = Box::pin(resolver.resolve("a", 80));
        assert!(std::future::poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx).is_pending())).await);
        drop(given_up);
        resolver.resolve("a", 80).await.unwrap();
        assert_eq!(asked.load(Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded() {
        let (resolver, _) = counted();
        for n in 0..2 * MOST_KEPT + 10 {
            resolver.resolve(&n.to_string(), 80).await.unwrap();
        }
        assert!(resolver.answers.lock().unwrap().len() <= MOST_KEPT);
    }
}
