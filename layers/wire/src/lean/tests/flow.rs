//! Windows.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::lean::stream::Growth;

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_its_window_and_no_other_up() {
    for tls in LAYERS {
        let mut pair = Pair::new(tls).await;
        let mut stuck = Vec::new();
        for _ in 0..20 {
            let (mut near, far) = pair.stream().await;
            let sent = stuff(&mut near).await;
            assert_eq!(sent, INITIAL_MOST as usize);
            stuck.push((near, far, sent));
        }
        let (mut near, mut far) = pair.stream().await;
        let bytes = pattern(30_000_000, 9);
        let (sent, got) = tokio::join!(send(&mut near, &bytes), receive(&mut far));
        sent.unwrap();
        assert!(got.unwrap() == bytes);
        // And each goes on when it is read.
        for (mut near, mut far, sent) in stuck {
            let rest = pattern(300_000, 2);
            let (done, got) = tokio::join!(send(&mut near, &rest), receive(&mut far));
            done.unwrap();
            assert_eq!(got.unwrap().len(), sent + rest.len());
        }
    }
}

#[tokio::test]
async fn windows_grow_with_what_drains() {
    let mut pair = Pair::new(true).await;
    let (mut near, mut far) = pair.stream().await;
    let bytes = pattern(60_000_000, 9);
    let (sent, got) = tokio::join!(send(&mut near, &bytes), receive(&mut far));
    sent.unwrap();
    assert!(got.unwrap() == bytes);
    let (mut near, _far) = pair.stream().await;
    assert_eq!(stuff(&mut near).await, INITIAL_MOST as usize, "each for itself");
}

#[tokio::test]
async fn while_much_waits_to_be_read_only_windows_grow_whose_readers_leave_nothing() {
    for much in [false, true] {
        let mut pair = Pair::new(true).await;
        let (_near, far) = pair.stream().await;
        let waits = pair.budget.enter();
        waits.wait(if much { 10 << 20 } else { 0 });
        assert!(far.shared().grow(Growth { bytes: 1, dry: true }));
        assert_eq!(far.shared().grow(Growth { bytes: 1, dry: false }), !much);
    }
}

#[tokio::test]
async fn many_streams_have_small_windows() {
    assert_eq!(initial_window(1), INITIAL_MOST);
    assert_eq!(initial_window(256), INITIAL_MOST);
    assert_eq!(initial_window(4000), 8 << 10);
    assert_eq!(initial_window(usize::MAX), INITIAL_LEAST);
    let mut pair = Pair::new(true).await;
    let mut ends = Vec::new();
    for _ in 0..1500 {
        ends.push(pair.stream().await);
    }
    // The server has announced smaller ones; those that are open have them too.
    let (near, _) = ends.first_mut().unwrap();
    assert_eq!(stuff(near).await, 8 << 10);
    let (near, _) = ends.last_mut().unwrap();
    assert_eq!(stuff(near).await, 8 << 10);
    for (near, far) in &mut ends {
        poll_fn(|cx| far.poll_write(cx, b"x")).await.unwrap();
        let mut one = [0; 4];
        assert_eq!(poll_fn(|cx| near.poll_read(cx, &mut one)).await.unwrap(), 1);
    }
}

/// Bytes too few for credit were sent before; the smaller window leaves less than none.
#[tokio::test]
async fn a_window_that_shrinks_below_what_was_sent_neither_stalls_nor_resets() {
    for (read_before, more) in [(true, 20_000), (false, 0)] {
        let mut pair = Pair::new(true).await;
        let (mut near, mut far) = pair.stream().await;
        let mut buffer = vec![0; 30_000];
        let first = pattern(buffer.len(), 1);
        assert_eq!(poll_fn(|cx| near.poll_write(cx, &first)).await.unwrap(), first.len());
        let mut read = 0;
        while read_before && read < first.len() {
            read += poll_fn(|cx| far.poll_read(cx, &mut buffer)).await.unwrap();
        }
        let _crowd: Vec<_> = (0..5000).map(|_| pair.budget.enter()).collect();
        // It hears something, and announces.
        let _other = pair.stream().await;
        while far.shared().own_initial.load(Relaxed) != INITIAL_LEAST {
            tokio::task::yield_now().await;
        }
        let rest = pattern(more, 2);
        if !read_before {
            // The end comes while the window is below zero.
            send(&mut near, &rest).await.unwrap();
            let is_over = |end: &End| {
                let state = end.stream().lock();
                state.ended || state.broken.is_some()
            };
            while !is_over(&far) {
                tokio::task::yield_now().await;
            }
        }
        let both = async { tokio::join!(send(&mut near, &rest), receive(&mut far)) };
        let (sent, got) = tokio::time::timeout(Duration::from_secs(10), both).await.expect("it goes on");
        sent.unwrap();
        assert_eq!(got.unwrap().len(), first.len() - read + more);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_streams_share_and_a_sparse_one_does_not_wait() {
    let mut pair = Pair::new(true).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (mut near, mut far) = pair.stream().await;
        tasks.push(tokio::spawn(async move {
            let chunk = vec![1; 256 * 1024];
            while poll_fn(|cx| far.poll_write(cx, &chunk)).await.is_ok() {}
        }));
        tasks.push(tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while poll_fn(|cx| near.poll_read(cx, &mut buffer)).await.is_ok_and(|n| n > 0) {}
        }));
    }
    let (mut near, mut far) = pair.stream().await;
    let echo = tokio::spawn(async move {
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = poll_fn(|cx| far.poll_read(cx, &mut buffer)).await {
            poll_fn(|cx| far.poll_write(cx, &buffer[..n])).await.unwrap();
        }
    });
    for _ in 0..200 {
        let trip = async {
            poll_fn(|cx| near.poll_write(cx, b"ping")).await.unwrap();
            let mut buffer = [0; 64];
            poll_fn(|cx| near.poll_read(cx, &mut buffer)).await.unwrap()
        };
        assert_eq!(tokio::time::timeout(Duration::from_secs(2), trip).await.expect("in time"), 4);
    }
    for task in &tasks {
        task.abort();
    }
    drop(near);
    echo.await.unwrap();
}

#[tokio::test]
async fn more_streams_than_may_be_wait() {
    let mut pair = Pair::new(false).await;
    let mut open = Vec::new();
    for _ in 0..MAX_STREAMS {
        open.push(pair.client.open(&request("a.example:1"), false).unwrap());
    }
    assert!(matches!(pair.client.open(&request("a.example:1"), false), Err(OpenError::Full)));
    let waiting = tokio::time::timeout(Duration::from_millis(10), pair.client.ready());
    assert!(waiting.await.is_err());
    drop(open.pop());
    pair.client.ready().await.unwrap();
    let (_, responder) = pair.server.accept().await.unwrap();
    responder.respond(&Response::new(()), true).unwrap();
}
