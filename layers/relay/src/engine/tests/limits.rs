//! Limits bite, whatever moves the bytes.

use std::sync::Mutex;

use swiftproxy_core::meter::{Limit, Line, Reach};
use tokio::time::Instant;

use super::*;

over_engines!(no_more_moves_than_is_granted, a_flow_that_waits_for_its_source_holds_up_nobody);

/// Bytes that a test hands out.
struct Purse {
    left: Mutex<usize>,
    line: Arc<Line>,
}

impl Purse {
    fn new(left: usize) -> Arc<Self> {
        Arc::new(Self { left: left.into(), line: Arc::default() })
    }
}

impl Limit for Purse {
    fn reach(&self) -> Reach {
        Reach::Account
    }
    fn line(&self, _: Direction) -> Option<&Arc<Line>> {
        Some(&self.line)
    }
    fn take_freely(&self, _: Instant, _: Direction, _: usize) -> Option<usize> {
        None
    }
    fn take(&self, now: Instant, direction: Direction, want: usize) -> Result<usize, Instant> {
        self.check(now, direction, want)?;
        let mut left = self.left.lock().unwrap();
        let n = want.min(*left);
        *left -= n;
        Ok(n)
    }
    fn check(&self, now: Instant, _: Direction, _: usize) -> Result<(), Instant> {
        if *self.left.lock().unwrap() == 0 { Err(now + Duration::from_millis(1)) } else { Ok(()) }
    }
    fn give_back(&self, _: Direction, n: usize) {
        *self.left.lock().unwrap() += n;
    }
    fn quantum(&self, _: Direction) -> usize {
        200_000
    }
}

async fn no_more_moves_than_is_granted(engine: Engine) {
    for direction in Direction::BOTH {
        let purse = Purse::new(3_000_000);
        let mut session = session();
        session.meter.limit(purse.clone());
        let mut running = Running::start(&engine, session, &[]).await;
        let bytes = pattern(20, 8_000_000);
        let (from, to) = running.ends(direction);
        let mut got = vec![0; 8_000_000];
        let (granted, rest) = got.split_at_mut(3_000_000);
        let read = async {
            to.read_exact(granted).await.unwrap();
            let early = tokio::time::timeout(Duration::from_millis(100), to.read(&mut [0; 1])).await;
            assert!(early.is_err(), "more than was granted");
            purse.give_back(direction, 5_000_000);
            to.read_exact(rest).await.unwrap();
        };
        let (written, ()) = tokio::join!(from.write_all(&bytes), read);
        written.unwrap();
        assert!(got == bytes);
        until("what is not used goes back", || *purse.left.lock().unwrap() == 0).await;
    }
}

/// "A flow that waits holds no grant": nor a turn.
async fn a_flow_that_waits_for_its_source_holds_up_nobody(engine: Engine) {
    let purse = Purse::new(2_000_001);
    let mut all = Vec::new();
    for _ in 0..2 {
        let mut session = session();
        session.meter.limit(purse.clone());
        all.push(Running::start(&engine, session, &[]).await);
    }
    let mut second = all.pop().unwrap();
    let mut first = all.pop().unwrap();
    // One goes dry in the midst of bulk, the other goes on.
    let mut got = vec![0; 1_000_000];
    let bytes = pattern(21, 1_000_000);
    let (written, read) = tokio::join!(first.target.write_all(&bytes), first.client.read_exact(&mut got));
    written.and(read).unwrap();
    let (written, read) = tokio::join!(second.target.write_all(&bytes), second.client.read_exact(&mut got));
    written.and(read).unwrap();
    assert!(got == bytes);
    until("both stand aside", || !purse.line.is_busy()).await;
    // And one that waits in line and is cut leaves it.
    first.target.write_all(b"xy").await.unwrap();
    until("it waits", || purse.line.is_busy()).await;
    first.live.cancel.fire(Reason::Kicked);
    until("it left", || !purse.line.is_busy()).await;
}
