//! Happy Eyeballs (RFC 8305): several addresses of one name, each started a little after the one before, and the
//! first that connects is taken.
//!
//! Invariant: the attempts that lost are closed when the race ends.

use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use swiftproxy_core::error::Refusal;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::attempt::{self, Attempt};

/// The Connection Attempt Delay (RFC 8305 §5).
const DELAY: Duration = Duration::from_millis(250);
/// How many of a name's addresses are tried.
const MOST: usize = 16;

/// Families in turn, beginning with the resolver's first (RFC 8305 §4); each address once.
pub(crate) fn interleave(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (mut firsts, mut others) = (Vec::new(), Vec::new());
    for addr in found {
        let same = firsts.first().is_none_or(|first: &SocketAddr| first.is_ipv4() == addr.is_ipv4());
        let family = if same { &mut firsts } else { &mut others };
        if !family.contains(&addr) {
            family.push(addr);
        }
    }
    let mut turns = Vec::with_capacity(firsts.len() + others.len());
    let (mut firsts, mut others) = (firsts.into_iter(), others.into_iter());
    loop {
        let before = turns.len();
        turns.extend(firsts.next());
        turns.extend(others.next());
        if turns.len() == before {
            turns.truncate(MOST);
            return turns;
        }
    }
}

/// The first connection that is made to any of them, from the address `bind` if one is given.
pub(crate) async fn race(
    addrs: &[SocketAddr],
    bind: Option<IpAddr>,
) -> Result<(SocketAddr, TcpStream), Refusal> {
    let mut next = addrs.iter().copied().peekable();
    let mut running: Vec<(SocketAddr, Attempt)> = Vec::new();
    let mut failure = None;
    let mut delay = std::pin::pin!(sleep_until(Instant::now()));
    std::future::poll_fn(|cx| {
        loop {
            let mut failed = false;
            let mut won = None;
            running.retain_mut(|(addr, attempt)| {
                if won.is_some() {
                    return true;
                }
                match attempt.poll(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Ok(stream)) => won = Some((*addr, stream)),
                    Poll::Ready(Err(refusal)) => {
                        failed = true;
                        failure = Some(more_telling(failure, refusal));
                    }
                }
                false
            });
            if let Some(won) = won {
                return Poll::Ready(Ok(won));
            }
            if next.peek().is_none() {
                return match running.is_empty() {
                    true => Poll::Ready(Err(failure.unwrap_or(Refusal::DnsFailed))),
                    false => Poll::Pending,
                };
            }
            // The next one starts when its time has come, or at once when another failed.
            if !failed && !running.is_empty() && delay.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let Some(addr) = next.next() else { continue };
            match attempt::start(addr, bind) {
                Ok(attempt) => running.push((addr, attempt)),
                Err(refusal) => failure = Some(more_telling(failure, refusal)),
            }
            delay.as_mut().reset(Instant::now() + DELAY);
        }
    })
    .await
}

/// Of two failures the one that was nearer to the target.
fn more_telling(known: Option<Refusal>, new: Refusal) -> Refusal {
    let rank = |refusal| match refusal {
        Refusal::Refused => 4,
        Refusal::Timeout => 3,
        Refusal::UnreachableHost => 2,
        Refusal::UnreachableNet => 1,
        _ => 0,
    };
    known.filter(|known| rank(*known) >= rank(new)).unwrap_or(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let found = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "[2001:db8::1]:1", "192.0.2.2:1"];
        let turns = interleave(found.into_iter().map(addr));
        let should = ["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "192.0.2.2:1"];
        assert_eq!(turns, should.map(addr));
        assert!(interleave(std::iter::empty()).is_empty());
    }

    #[test]
    fn the_failure_nearest_to_the_target_is_told() {
        assert_eq!(more_telling(Some(Refusal::Refused), Refusal::UnreachableNet), Refusal::Refused);
        assert_eq!(more_telling(Some(Refusal::UnreachableNet), Refusal::Refused), Refusal::Refused);
        assert_eq!(more_telling(None, Refusal::Timeout), Refusal::Timeout);
    }
}
