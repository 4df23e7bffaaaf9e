//! Pipes: taken late, given back empty, never with somebody else's bytes.

use super::*;

async fn pump(running: &mut Running, seed: u64, n: usize) {
    let bytes = pattern(seed, n);
    let mut got = vec![0; n];
    let (written, read) = tokio::join!(running.target.write_all(&bytes), running.client.read_exact(&mut got));
    written.and(read).unwrap();
    assert!(got == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_transfers_pay_for_no_pipe_and_bulk_gets_one() {
    let engine = Engine::new(Some(BULK));
    let mut running = Running::start(&engine, session(), &[]).await;
    for n in 0..100 {
        pump(&mut running, n, 10_000).await;
    }
    assert_eq!(engine.shared.pool.counts(), (0, 0));
    for n in 0..4 {
        pump(&mut running, n, 32 << 20).await;
    }
    assert_eq!(engine.shared.pool.counts().0, 1);
    // Idle again, it owns none.
    until("the pipe is back", || engine.shared.pool.counts() == (1, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_must_not_is_not_spliced() {
    let engine = Engine::new(Some(0));
    let mut session = session();
    session.require_copy("a test wants to see the bytes");
    let mut running = Running::start(&engine, session, &[]).await;
    pump(&mut running, 1, 32 << 20).await;
    assert_eq!(engine.shared.pool.counts(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_with_bytes_in_it_is_never_used_again() {
    let engine = Engine::new(Some(0));
    for round in 0..20 {
        // Cut while its pipe is full.
        let Running { client, mut target, live, task } = Running::start(&engine, session(), &[]).await;
        let download = tokio::spawn(async move {
            let bytes = vec![0xEE; 1 << 16];
            while target.write_all(&bytes).await.is_ok() {}
        });
        let mut last = 0;
        until("it is stalled", || {
            let now = live.bytes.total(Down);
            now > 0 && std::mem::replace(&mut last, now) == now
        })
        .await;
        live.cancel.fire(Reason::Kicked);
        task.await.unwrap();
        drop(client);
        download.await.unwrap();
        // The next one's bytes are its own.
        let mut running = Running::start(&engine, session(), &[]).await;
        pump(&mut running, round, 1 << 20).await;
    }
    assert!(engine.shared.pool.counts().0 <= 2, "{:?}", engine.shared.pool.counts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_pipe_it_copies() {
    let engine = Engine::new(Some(0));
    let mut taken = Vec::new();
    while let Some(pipe) = engine.shared.pool.take() {
        taken.push(pipe);
    }
    assert!(!taken.is_empty());
    let mut running = Running::start(&engine, session(), &[]).await;
    pump(&mut running, 1, 8 << 20).await;
    drop(taken);
    assert_eq!(engine.shared.pool.counts(), (0, 0));
    pump(&mut running, 2, 8 << 20).await;
    assert_eq!(engine.shared.pool.counts().0, 1);
}
