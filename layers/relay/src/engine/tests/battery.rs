//! What every engine must do.

use super::*;

over_engines!(
    bulk_both_ways_at_once,
    small_segments,
    early_bytes_come_first,
    one_way_ends_and_the_other_goes_on,
    the_client_resets,
    the_target_resets,
    a_client_that_went_away_ends_a_download,
    a_target_that_answered_and_closed_is_heard_out,
    who_never_reads_holds_little,
    a_kick_ends_it_midway,
    a_dropped_session_is_cut,
    counted_is_what_the_sink_took_while_it_runs,
    an_exchange_of_messages,
);

async fn bulk_both_ways_at_once(engine: Engine) {
    const SIZE: usize = 128 << 20;
    let Running { client, target, live, task } = Running::start(&engine, session(), &[]).await;
    let ((client_read, client_write), (target_read, target_write)) =
        (client.into_split(), target.into_split());
    // Lengths that no buffer's is a multiple or part of.
    let (up, down) = (pattern(1, 1_000_003), pattern(2, 999_983));
    let (up_too, down_too) = (up.clone(), down.clone());
    let all = [
        tokio::spawn(async move { send(client_write, &up, SIZE).await }),
        tokio::spawn(async move { send(target_write, &down, SIZE).await }),
        tokio::spawn(async move { receive(target_read, &up_too, SIZE).await }),
        tokio::spawn(async move { receive(client_read, &down_too, SIZE).await }),
    ];
    for task in all {
        task.await.unwrap();
    }
    tokio::time::timeout(LONG, task).await.unwrap().unwrap();
    assert_eq!(live.outcome(), Some("done"));
    for direction in Direction::BOTH {
        assert_eq!(live.bytes.total(direction), SIZE as u64);
    }
    assert_eq!(engine.shared.held.load(Relaxed), 0);
}

async fn small_segments(engine: Engine) {
    let mut running = Running::start(&engine, session(), &[]).await;
    for direction in Direction::BOTH {
        let bytes = pattern(3, 200_000);
        let (from, to) = running.ends(direction);
        let (mut sent, mut got) = (0, vec![0; bytes.len()]);
        let write = async {
            for (n, chunk) in bytes.chunks(37).enumerate() {
                from.write_all(chunk).await.unwrap();
                sent += chunk.len();
                if n % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let read = to.read_exact(&mut got);
        tokio::join!(write, async { read.await.unwrap() });
        assert!(got == bytes);
    }
    drop((running.client, running.target));
    tokio::time::timeout(LONG, running.task).await.unwrap().unwrap();
    assert_eq!(running.live.bytes.total(Up), 200_000);
}

async fn early_bytes_come_first(engine: Engine) {
    let early = pattern(4, 100_000);
    let mut running = Running::start(&engine, session(), &early).await;
    running.client.write_all(b"then this").await.unwrap();
    let mut got = vec![0; early.len() + 9];
    running.target.read_exact(&mut got).await.unwrap();
    assert!(got.starts_with(&early) && got.ends_with(b"then this"));
    assert_eq!(running.counted(Up), got.len() as u64);
}

async fn one_way_ends_and_the_other_goes_on(engine: Engine) {
    for direction in Direction::BOTH {
        let mut running = Running::start(&engine, session(), &[]).await;
        let (first, other) = running.ends(direction);
        first.write_all(b"last words").await.unwrap();
        first.shutdown().await.unwrap();
        let mut heard = Vec::new();
        other.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
        let answer = pattern(5, 3 << 20);
        let mut got = vec![0; answer.len()];
        let (written, read) = tokio::join!(other.write_all(&answer), first.read_exact(&mut got));
        written.and(read).unwrap();
        assert!(got == answer && !running.task.is_finished());
        let (first, other) = running.ends(direction);
        other.shutdown().await.unwrap();
        assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(running.end().await, "done");
    }
}

/// Fails with a reset at once, or after what was under way.
async fn hears_of_a_reset(stream: &mut TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    let error = tokio::time::timeout(LONG, async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => panic!("a clean end instead of a reset"),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    });
    assert_eq!(error.await.unwrap().kind(), std::io::ErrorKind::ConnectionReset);
}

async fn the_client_resets(engine: Engine) {
    let mut running = Running::start(&engine, session(), &[]).await;
    running.client.write_all(&pattern(6, 10_000)).await.unwrap();
    running.target.read_exact(&mut [0; 10_000]).await.unwrap();
    reset(&running.client);
    let Running { client, mut target, live, task } = running;
    drop(client);
    hears_of_a_reset(&mut target).await;
    task.await.unwrap();
    assert_eq!(live.outcome(), Some("client_reset"));
}

async fn the_target_resets(engine: Engine) {
    let running = Running::start(&engine, session(), &[]).await;
    // In the midst of a download that nobody reads.
    let Running { mut client, mut target, live, task } = running;
    let bytes = pattern(7, 1 << 20);
    let _ = tokio::time::timeout(Duration::from_millis(50), target.write_all(&bytes)).await;
    reset(&target);
    drop(target);
    hears_of_a_reset(&mut client).await;
    task.await.unwrap();
    assert_eq!(live.outcome(), Some("target_reset"));
}

async fn a_client_that_went_away_ends_a_download(engine: Engine) {
    let Running { mut client, mut target, live, task } = Running::start(&engine, session(), &[]).await;
    let bytes = pattern(8, 1 << 20);
    let download = tokio::spawn(async move { while target.write_all(&bytes).await.is_ok() {} });
    client.read_exact(&mut vec![0; 5 << 20]).await.unwrap();
    drop(client);
    tokio::time::timeout(LONG, download).await.expect("the target hears of it").unwrap();
    tokio::time::timeout(LONG, task).await.unwrap().unwrap();
    assert!(matches!(live.outcome(), Some("client_closed" | "client_reset")), "{:?}", live.outcome());
}

/// As a server does that refuses an upload.
async fn a_target_that_answered_and_closed_is_heard_out(engine: Engine) {
    let Running { client, mut target, live, task } = Running::start(&engine, session(), &[]).await;
    let (mut client_read, mut client_write) = client.into_split();
    let answer = pattern(9, 100_000);
    target.write_all(&answer).await.unwrap();
    drop(target);
    let upload = tokio::spawn(async move {
        let bytes = pattern(10, 1 << 16);
        while client_write.write_all(&bytes).await.is_ok() {}
    });
    let mut got = vec![0; answer.len()];
    client_read.read_exact(&mut got).await.unwrap();
    assert!(got == answer);
    tokio::time::timeout(LONG, upload).await.expect("the client hears of it").unwrap();
    tokio::time::timeout(LONG, task).await.unwrap().unwrap();
    assert!(matches!(live.outcome(), Some("target_closed" | "target_reset")), "{:?}", live.outcome());
}

async fn who_never_reads_holds_little(engine: Engine) {
    let mut all = Vec::new();
    for _ in 0..100 {
        let Running { client, mut target, live, task } = Running::start_narrow(&engine, session()).await;
        let download = tokio::spawn(async move {
            let bytes = pattern(11, 1 << 16);
            while target.write_all(&bytes).await.is_ok() {}
        });
        all.push((client, live, task, download));
    }
    let mut last = 0;
    until("all of them are stalled", || {
        let sum: u64 = all.iter().map(|(_, live, ..)| live.bytes.total(Down)).sum();
        sum > 0 && std::mem::replace(&mut last, sum) == sum
    })
    .await;
    let held = engine.shared.held.load(Relaxed);
    assert!(held <= MUCH + 100 * 32 * 1024 + scratch::SIZE, "{held} bytes held");
    for (_, live, ..) in &all {
        live.cancel.fire(Reason::Kicked);
    }
    for (client, _, task, download) in all {
        task.await.unwrap();
        drop(client);
        download.await.unwrap();
    }
    assert_eq!(engine.shared.held.load(Relaxed), 0);
}

async fn a_kick_ends_it_midway(engine: Engine) {
    let Running { mut client, mut target, live, task } = Running::start(&engine, session(), &[]).await;
    let bytes = pattern(12, 1 << 20);
    let download = tokio::spawn(async move { while target.write_all(&bytes).await.is_ok() {} });
    client.read_exact(&mut vec![0; 5 << 20]).await.unwrap();
    live.cancel.fire(Reason::Disabled);
    tokio::time::timeout(Duration::from_secs(1), task).await.expect("at once").unwrap();
    assert_eq!(live.outcome(), Some("account_disabled"));
    hears_of_a_reset(&mut client).await;
    download.await.unwrap();
}

async fn a_dropped_session_is_cut(engine: Engine) {
    let Running { mut client, mut target, task, .. } = Running::start(&engine, session(), &[]).await;
    client.write_all(b"x").await.unwrap();
    target.read_exact(&mut [0; 1]).await.unwrap();
    task.abort();
    hears_of_a_reset(&mut client).await;
    hears_of_a_reset(&mut target).await;
}

/// "Counters move while a transfer runs", and are what the sink took.
async fn counted_is_what_the_sink_took_while_it_runs(engine: Engine) {
    for direction in Direction::BOTH {
        let mut running = Running::start(&engine, session(), &[]).await;
        let mut total = 0;
        for round in 1..40 {
            // Each round larger than the one before, so that all ways of moving bytes are met.
            let bytes = pattern(round, round as usize * 20_011);
            let mut got = vec![0; bytes.len()];
            let (from, to) = running.ends(direction);
            let (written, read) = tokio::join!(from.write_all(&bytes), to.read_exact(&mut got));
            written.and(read).unwrap();
            assert!(got == bytes);
            total += bytes.len() as u64;
            // The kernel may show the reader a byte before its write returns to who counts it.
            until("all is counted", || running.counted(direction) == total).await;
        }
    }
}

async fn an_exchange_of_messages(engine: Engine) {
    let mut running = Running::start(&engine, session(), &[]).await;
    for n in 1..2000_usize {
        let message = pattern(n as u64, n % 300 + 1);
        let mut got = vec![0; message.len()];
        running.client.write_all(&message).await.unwrap();
        running.target.read_exact(&mut got).await.unwrap();
        running.target.write_all(&got).await.unwrap();
        got.fill(0);
        running.client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, message);
    }
    assert_eq!(running.counted(Up), running.counted(Down));
}
