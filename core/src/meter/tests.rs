//! The meter over limits that are as simple as can be.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Context;
use std::time::Duration;

use super::*;

/// A heap of bytes that somebody fills; it is asked again each millisecond.
struct Heap {
    reach: Reach,
    left: AtomicUsize,
    line: Option<Arc<Line>>,
}

impl Heap {
    fn new(reach: Reach, left: usize) -> Arc<Self> {
        Arc::new(Self { reach, left: left.into(), line: Some(Arc::default()) })
    }

    fn left(&self) -> usize {
        self.left.load(SeqCst)
    }
}

impl Limit for Heap {
    fn reach(&self) -> Reach {
        self.reach
    }
    fn line(&self, _: Direction) -> Option<&Arc<Line>> {
        self.line.as_ref()
    }
    fn take_freely(&self, _: Instant, _: Direction, _: usize) -> Option<usize> {
        None
    }
    fn take(&self, now: Instant, direction: Direction, want: usize) -> Result<usize, Instant> {
        self.check(now, direction, want)?;
        let took = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(want.min(left)));
        match took.map_or(0, |left| want.min(left)) {
            0 => Err(now + Duration::from_millis(1)),
            n => Ok(n),
        }
    }
    fn check(&self, now: Instant, _: Direction, _: usize) -> Result<(), Instant> {
        if self.left() == 0 { Err(now + Duration::from_millis(1)) } else { Ok(()) }
    }
    fn give_back(&self, _: Direction, n: usize) {
        self.left.fetch_add(n, SeqCst);
    }
    fn quantum(&self, _: Direction) -> usize {
        100
    }
}

fn meter(key: u64, limits: &[&Arc<Heap>]) -> Meter {
    let mut meter = Meter::default();
    meter.set_payer(Payer { key, weight: Arc::new(AtomicU32::new(1)) });
    for limit in limits {
        meter.limit((*limit).clone());
    }
    meter
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_all_that_is_wanted_is_granted() {
    let meter = Meter::default();
    let grant = meter.reserve(Direction::Up, 1 << 20).await;
    assert_eq!(grant.bytes(), 1 << 20);
    grant.spend(5);
    assert_eq!((meter.charged(Direction::Up), meter.charged(Direction::Down)), (5, 0));
}

/// "A grant not spent goes back, whatever the await it is dropped at."
#[tokio::test(start_paused = true)]
async fn what_is_not_spent_goes_back() {
    let heap = Heap::new(Reach::Account, 90);
    let meter = meter(1, &[&heap]);
    meter.reserve(Direction::Up, 60).await.spend(10);
    assert_eq!(heap.left(), 80);
    drop(meter.reserve(Direction::Up, 60).await);
    assert_eq!(heap.left(), 80);
}

/// "The least grant wins; nothing is taken from one bucket when another refuses."
#[tokio::test(start_paused = true)]
async fn the_least_grant_wins_and_one_refusal_takes_nothing() {
    let (narrow, wide) = (Heap::new(Reach::Account, 50), Heap::new(Reach::Node, 20));
    let meter = meter(1, &[&wide, &narrow]);
    meter.reserve(Direction::Down, 80).await.spend(20);
    assert_eq!((narrow.left(), wide.left()), (30, 0));
    let late = tokio::time::timeout(Duration::from_secs(1), meter.reserve(Direction::Down, 80)).await;
    assert!(late.is_err());
    assert_eq!((narrow.left(), wide.left()), (30, 0));
    assert!(!narrow.line.as_ref().unwrap().is_busy() && !wide.line.as_ref().unwrap().is_busy());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_own_account_holds_nobody_up_in_a_shared_line() {
    let (poor, rich) = (Heap::new(Reach::Account, 0), Heap::new(Reach::Account, 1000));
    let node = Heap::new(Reach::Node, 1000);
    let (first, second) = (meter(1, &[&node, &poor]), meter(2, &[&node, &rich]));
    let mut wait = Wait::default();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(first.poll_reserve(&mut cx, Direction::Up, 10, &mut wait).is_pending());
    let grant = tokio::time::timeout(Duration::from_millis(1), second.reserve(Direction::Up, 10)).await;
    assert_eq!(grant.ok().map(|grant| grant.bytes()), Some(10));
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_holds_nobody_up() {
    let heap = Heap::new(Reach::Account, 0);
    let (first, second) = (meter(1, &[&heap]), meter(1, &[&heap]));
    let (mut wait, mut other) = (Wait::default(), Wait::default());
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(first.poll_reserve(&mut cx, Direction::Up, 10, &mut wait).is_pending());
    assert!(second.poll_reserve(&mut cx, Direction::Up, 10, &mut other).is_pending());
    heap.give_back(Direction::Up, 10);
    assert!(second.poll_reserve(&mut cx, Direction::Up, 10, &mut other).is_pending());
    wait.give_up();
    assert!(second.poll_reserve(&mut cx, Direction::Up, 10, &mut other).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_limit_added_twice_counts_once() {
    let heap = Heap::new(Reach::Account, 100);
    let meter = meter(1, &[&heap, &heap]);
    meter.reserve(Direction::Up, 60).await.spend(60);
    assert_eq!(heap.left(), 40);
}

#[tokio::test(start_paused = true)]
async fn an_accounts_flows_get_their_bytes_in_turn() {
    let heap = Heap::new(Reach::Account, 0);
    let got = Arc::new(Mutex::new(HashMap::<usize, usize>::new()));
    let flows: Vec<_> = (0..16)
        .map(|flow| {
            let (meter, got) = (meter(1, &[&heap]), got.clone());
            tokio::spawn(async move {
                loop {
                    let grant = meter.reserve(Direction::Down, 4096).await;
                    let n = grant.bytes();
                    grant.spend(n);
                    *got.lock().unwrap().entry(flow).or_default() += n;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for _ in 0..1600 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        heap.give_back(Direction::Down, 100);
    }
    let got = got.lock().unwrap();
    let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
    assert!(got.len() == 16 && most - least <= 100, "{got:?}");
    flows.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A source in small pieces (frames of a tunnel) is not worth less than one that fills every grant.
#[tokio::test(start_paused = true)]
async fn a_flow_that_reads_in_pieces_has_the_same_share() {
    let heap = Heap::new(Reach::Account, 0);
    let got = Arc::new(Mutex::new(HashMap::<usize, usize>::new()));
    let flows: Vec<_> = (0..4)
        .map(|flow| {
            let (meter, got) = (meter(1, &[&heap]), got.clone());
            tokio::spawn(async move {
                let mut wait = Wait::default();
                for turn in 0.. {
                    let grant = poll_fn(|cx| meter.poll_reserve(cx, Direction::Down, 4096, &mut wait)).await;
                    // One has every other grant only half filled, another never more than 7 bytes.
                    let n = grant.bytes().min([4096, [4096, 50][turn % 2], 7, 4096][flow]);
                    grant.spend(n);
                    *got.lock().unwrap().entry(flow).or_default() += n;
                }
            })
        })
        .collect();
    for _ in 0..4000 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        heap.give_back(Direction::Down, 100);
    }
    let got = got.lock().unwrap();
    let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
    assert!(got.len() == 4 && most - least <= 200, "{got:?}");
    flows.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Flows that come, wait, give up and spend less than they got, on several threads: nobody is forgotten in a line,
/// and no byte is made or lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_forgotten_and_nothing_is_lost_under_a_crowd() {
    let (narrow, wide) =
        ([Heap::new(Reach::Account, 0), Heap::new(Reach::Account, 0)], Heap::new(Reach::Node, 0));
    let spent = Arc::new(AtomicUsize::new(0));
    let flows: Vec<_> = (0..64_usize)
        .map(|flow| {
            let meter = meter(flow as u64 % 2 + 1, &[&wide, &narrow[flow % 2]]);
            let spent = spent.clone();
            tokio::spawn(async move {
                for turn in 0..50 {
                    if (turn + flow) % 7 == 0 {
                        let patience = Duration::from_micros(((turn * flow) % 3000) as u64);
                        let _ = tokio::time::timeout(patience, meter.reserve(Direction::Up, 70)).await;
                    }
                    let grant = meter.reserve(Direction::Up, 70).await;
                    let n = grant.bytes() - grant.bytes() / 3;
                    grant.spend(n);
                    spent.fetch_add(n, SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let supplied = Arc::new(AtomicUsize::new(0));
    let supply = tokio::spawn({
        let (narrow, wide, supplied) = (narrow.clone(), wide.clone(), supplied.clone());
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                narrow.iter().for_each(|heap| heap.give_back(Direction::Up, 1000));
                wide.give_back(Direction::Up, 2000);
                supplied.fetch_add(2000, SeqCst);
            }
        }
    });
    for flow in flows {
        tokio::time::timeout(Duration::from_secs(30), flow).await.expect("nobody hangs").unwrap();
    }
    supply.abort();
    let _ = supply.await;
    let spent = spent.load(SeqCst);
    assert_eq!(spent + wide.left(), supplied.load(SeqCst));
    assert_eq!(spent + narrow.iter().map(|heap| heap.left()).sum::<usize>(), supplied.load(SeqCst));
    assert!(!wide.line.as_ref().unwrap().is_busy());
}
