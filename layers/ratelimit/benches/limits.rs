//! What a grant costs: a bucket, and a meter of no, one and four limits, none of which binds.

#![allow(clippy::unwrap_used, reason = "what fails stops the measurement")]

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use swiftproxy_core::meter::{Direction, Meter, Reach, Wait};
use swiftproxy_ratelimit::bucket::{Bucket, Pace};
use swiftproxy_ratelimit::limit::{Buckets, OfCap};
use tokio::time::Instant;

const CHUNK: usize = 64 << 10;
/// Far more than anybody can ask for.
const PLENTY: u64 = 1 << 50;
const BURST: Duration = Duration::from_millis(100);

fn bucket(c: &mut Criterion) {
    let mut group = c.benchmark_group("bucket");
    let bucket = Bucket::new(Instant::now());
    let pace = Pace::new(PLENTY, BURST);
    group.bench_function("take", |b| {
        b.iter(|| bucket.take(Instant::now(), black_box(pace), black_box(CHUNK)));
    });
    group.bench_function("take and give half back", |b| {
        b.iter(|| {
            let taken = bucket.take(Instant::now(), black_box(pace), black_box(CHUNK));
            bucket.give_back(pace, CHUNK / 2);
            taken
        });
    });
    let empty = Bucket::new(Instant::now());
    let slow = Pace::new(1, BURST);
    while empty.take(Instant::now(), slow, CHUNK).is_ok() {}
    group.bench_function("refuse", |b| {
        b.iter(|| empty.take(Instant::now(), black_box(slow), black_box(CHUNK)));
    });
    group.finish();
}

fn meter(limits: usize) -> Meter {
    let mut meter = Meter::default();
    for at in 0..limits {
        let cap = OfCap::new([Reach::Account, Reach::Listener, Reach::Node][at.min(2)]);
        cap.set(Some(PLENTY), Some(PLENTY), BURST);
        meter.limit(Arc::new(Buckets::new(cap)));
    }
    meter
}

fn reserve(c: &mut Criterion) {
    let mut group = c.benchmark_group("meter");
    for limits in [0, 1, 4] {
        let meter = meter(limits);
        let mut wait = Wait::default();
        group.bench_function(format!("reserve, spend and count, {limits} limits"), |b| {
            let mut cx = Context::from_waker(Waker::noop());
            b.iter(|| {
                let grant = meter.poll_reserve(&mut cx, Direction::Down, black_box(CHUNK), &mut wait);
                let Poll::Ready(grant) = grant else { panic!("there is plenty") };
                let n = grant.bytes();
                grant.spend(n);
                meter.count(Direction::Down, n);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bucket, reserve);
criterion_main!(benches);
