//! Lean against lean.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn bulk_both_ways_at_once() {
    for tls in LAYERS {
        let mut pair = Pair::new(tls).await;
        let (near, far) = pair.stream().await;
        let (up, down) = (pattern(20_000_000, 1), pattern(30_000_000, 7));
        let (mut near_read, mut near_write) = tokio::io::split(stream_of(near));
        let (mut far_read, mut far_write) = tokio::io::split(stream_of(far));
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let (a, b, c, d) = tokio::join!(
            async {
                near_write.write_all(&up).await?;
                near_write.shutdown().await
            },
            async {
                far_write.write_all(&down).await?;
                far_write.shutdown().await
            },
            far_read.read_to_end(&mut got_up),
            near_read.read_to_end(&mut got_down),
        );
        a.unwrap();
        b.unwrap();
        c.unwrap();
        d.unwrap();
        assert!(got_up == up && got_down == down);
        assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
    }
}

#[tokio::test]
async fn what_many_streams_say_in_one_turn_goes_out_by_one_call() {
    for tls in LAYERS {
        let mut pair = Pair::new(tls).await;
        let mut streams = Vec::new();
        for _ in 0..50 {
            streams.push(pair.stream().await);
        }
        let shared = streams[0].0.shared().clone();
        let sends = || shared.out.lock().unwrap().sends;
        let before = sends();
        for (near, _) in &mut streams {
            assert_eq!(poll_fn(|cx| near.poll_write(cx, b"ping")).await.unwrap(), 4);
        }
        for (_, far) in &mut streams {
            let mut heard = [0; 8];
            assert_eq!(poll_fn(|cx| far.poll_read(cx, &mut heard)).await.unwrap(), 4);
        }
        assert_eq!(sends() - before, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_at_once() {
    for tls in LAYERS {
        let mut pair = Pair::new(tls).await;
        let mut tasks = Vec::new();
        for seed in 0..100 {
            let (mut near, mut far) = pair.stream().await;
            let n = 1000 + seed * 4001;
            tasks.push(tokio::spawn(async move {
                send(&mut near, &pattern(n, seed)).await.unwrap();
                assert!(receive(&mut near).await.unwrap() == pattern(n, seed), "{seed}");
            }));
            tasks.push(tokio::spawn(async move {
                let got = receive(&mut far).await.unwrap();
                send(&mut far, &got).await.unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
    }
}

#[tokio::test]
async fn straight_from_a_socket() {
    for tls in LAYERS {
        let mut pair = Pair::new(tls).await;
        let (mut near, mut far) = pair.stream().await;
        let (source, mut origin) = sockets().await;
        let sent = pattern(10_000_000, 3);
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            origin.write_all(&sent).await.unwrap();
            origin.shutdown().await.unwrap();
        });
        let mut source = swiftproxy_core::endpoint::Tcp::with_early(source, b"early".to_vec());
        let reader = tokio::spawn(async move { receive(&mut far).await.unwrap() });
        // Lent bytes come first, by the ordinary way.
        let n = poll_fn(|cx| near.poll_write(cx, source.lent())).await.unwrap();
        source.consume(n);
        loop {
            let drawn = poll_fn(|cx| near.poll_write_from(cx, &mut source, 1 << 20).unwrap());
            if drawn.await.unwrap() == 0 {
                break;
            }
        }
        poll_fn(|cx| near.poll_finish(cx)).await.unwrap();
        writer.await.unwrap();
        let got = reader.await.unwrap();
        assert!(got[..5] == *b"early" && got[5..] == expected);
    }
}

#[tokio::test]
async fn each_way_ends_on_its_own() {
    for tls in LAYERS {
        let mut pair = Pair::new(tls).await;
        let (mut near, mut far) = pair.stream().await;
        send(&mut near, b"question").await.unwrap();
        assert_eq!(receive(&mut far).await.unwrap(), b"question");
        let error = poll_fn(|cx| near.poll_write(cx, b"x")).await.expect_err("finished");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        poll_fn(|cx| far.poll_write(cx, b"ans")).await.unwrap();
        send(&mut far, b"wer").await.unwrap();
        // Nothing is cut by the drop, for all was said.
        drop(far);
        assert_eq!(receive(&mut near).await.unwrap(), b"answer");
        assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
    }
}

#[tokio::test]
async fn resets_are_heard_by_readers_and_writers() {
    for tls in LAYERS {
        let mut pair = Pair::new(tls).await;
        let (mut near, far) = pair.stream().await;
        near.reset();
        let mut far = far;
        drop(near);
        let error = poll_fn(|cx| far.poll_readable(cx)).await.expect_err("reset");
        assert_eq!(code(&error), Some(Code::CONNECT_ERROR));
        let error = poll_fn(|cx| far.poll_write(cx, b"x")).await.expect_err("reset");
        assert_eq!(code(&error), Some(Code::CONNECT_ERROR));
        // One that is dropped was cut.
        let (near, mut far) = pair.stream().await;
        let waiting = tokio::spawn(async move { receive(&mut far).await.expect_err("cut") });
        tokio::task::yield_now().await;
        drop(near);
        assert_eq!(code(&waiting.await.unwrap()), Some(Code::CANCEL));
        // A writer that waits for window hears of it too.
        let (mut near, far) = pair.stream().await;
        stuff(&mut near).await;
        let waiting = tokio::spawn(async move { poll_fn(|cx| near.poll_writable(cx)).await });
        tokio::task::yield_now().await;
        drop(far);
        assert_eq!(code(&waiting.await.unwrap().expect_err("cut")), Some(Code::CANCEL));
        assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
    }
}

#[tokio::test]
async fn requests_that_are_answered_otherwise() {
    let mut pair = Pair::new(true).await;
    let opening = pair.client.open(&request("a.example:1"), false).unwrap();
    let (_, responder) = pair.server.accept().await.unwrap();
    let refused = Response::builder().status(502).header("proxy-status", "x; error=y").body(()).unwrap();
    let mut far = responder.respond(&refused, false).unwrap();
    let (response, mut body) = opening.await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["proxy-status"], "x; error=y");
    send(&mut far, b"why").await.unwrap();
    assert_eq!(receive(&mut body).await.unwrap(), b"why");
    drop(body);
    // Without a body.
    let opening = pair.client.open(&Request::get("https://a.example/x").body(()).unwrap(), true).unwrap();
    let (asked, responder) = pair.server.accept().await.unwrap();
    assert_eq!(asked.uri(), "https://a.example/x");
    responder.respond(&refused, true).unwrap();
    let (_, mut near) = opening.await.unwrap();
    assert_eq!(receive(&mut near).await.unwrap(), b"");
    // Not at all.
    let opening = pair.client.open(&request("a.example:1"), false).unwrap();
    let (_, responder) = pair.server.accept().await.unwrap();
    responder.refuse(Code::REFUSED_STREAM);
    assert_eq!(code(&opening.await.expect_err("refused")), Some(Code::REFUSED_STREAM));
    let opening = pair.client.open(&request("a.example:1"), false).unwrap();
    let (_, responder) = pair.server.accept().await.unwrap();
    drop(responder);
    assert_eq!(code(&opening.await.expect_err("dropped")), Some(Code::CANCEL));
    // Given up by the client.
    let opening = pair.client.open(&request("a.example:1"), false).unwrap();
    let (_, mut responder) = pair.server.accept().await.unwrap();
    drop(opening);
    assert_eq!(code(&responder.gone().await), Some(Code::CANCEL));
    assert!(responder.respond(&refused, true).is_err());
    drop(near);
    drop(far);
    assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
    assert_eq!(shared(&pair).unanswered.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn keys_change_under_way() {
    let (mut near, mut far) = channels(true).await;
    near.seal.set_limit(20);
    far.seal.set_limit(33);
    let mut pair = Pair::over((near, far)).await;
    let (mut near, mut far) = pair.stream().await;
    let sent = pattern(8_000_000, 5);
    let (a, b) = tokio::join!(send(&mut near, &sent), receive(&mut far));
    a.unwrap();
    assert!(b.unwrap() == sent);
    let (a, b) = tokio::join!(send(&mut far, &sent), receive(&mut near));
    a.unwrap();
    assert!(b.unwrap() == sent);
}

#[tokio::test]
async fn a_server_that_drains_lets_streams_end() {
    let mut pair = Pair::new(true).await;
    let (mut near, mut far) = pair.stream().await;
    pair.server.drain();
    while pair.client.is_open() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(pair.client.open(&request("a.example:1"), false), Err(OpenError::Closing)));
    assert!(matches!(pair.client.ready().await, Err(OpenError::Closing)));
    send(&mut near, b"bye").await.unwrap();
    assert_eq!(receive(&mut far).await.unwrap(), b"bye");
    send(&mut far, b"bye").await.unwrap();
    assert_eq!(receive(&mut near).await.unwrap(), b"bye");
    assert_eq!(pair.near.await.unwrap(), Ending::Closed);
    assert_eq!(pair.far.await.unwrap(), Ending::Closed);
    assert!(pair.server.accept().await.is_none());
}

#[tokio::test]
async fn a_client_that_is_dropped_ends_the_connection_with_its_last_stream() {
    let mut pair = Pair::new(true).await;
    let (mut near, mut far) = pair.stream().await;
    drop(pair.client);
    send(&mut near, b"still").await.unwrap();
    assert_eq!(receive(&mut far).await.unwrap(), b"still");
    send(&mut far, b"here").await.unwrap();
    assert_eq!(receive(&mut near).await.unwrap(), b"here");
    assert_eq!(pair.near.await.unwrap(), Ending::Closed);
    assert_eq!(pair.far.await.unwrap(), Ending::Closed);
}

#[tokio::test]
async fn a_connection_that_is_cut_ends_its_streams() {
    for tls in LAYERS {
        let mut pair = Pair::new(tls).await;
        let (mut near, mut far) = pair.stream().await;
        let opening = pair.client.open(&request("a.example:1"), false).unwrap();
        pair.client.cut();
        assert_eq!(pair.near.await.unwrap(), Ending::Cut);
        let error = receive(&mut near).await.expect_err("cut");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let error = poll_fn(|cx| near.poll_write(cx, b"x")).await.expect_err("cut");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(opening.await.expect_err("cut").kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(receive(&mut far).await.expect_err("cut").kind(), io::ErrorKind::ConnectionAborted);
        let ending = pair.far.await.unwrap();
        assert!(matches!(ending, Ending::Io(..)), "{ending:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_it_is_told_from_one_that_does() {
    let (near, far) = channels(true).await;
    let server = tokio::spawn(async move {
        let mut server = crate::h2::server_builder().handshake::<_, bytes::Bytes>(far.into_stream()).await?;
        while let Some(Ok(_)) = server.accept().await {}
        Ok::<_, h2::Error>(())
    });
    assert_eq!(connect(near, WATCH, true).await.err(), Some(Ending::Unknown));
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stranger_is_handed_on_with_all_it_said() {
    let (near, mut far) = channels(true).await;
    let client = tokio::spawn(async move {
        let (client, connection) =
            crate::h2::client_builder().handshake::<_, bytes::Bytes>(near.into_stream()).await.unwrap();
        tokio::spawn(connection);
        let (response, _send) =
            client.ready().await.unwrap().send_request(request("b.example:2"), false).unwrap();
        response.await.unwrap().status()
    });
    assert!(!knows(&mut far).await.unwrap());
    let mut server =
        crate::h2::server_builder().handshake::<_, bytes::Bytes>(far.into_stream()).await.unwrap();
    let (asked, mut respond) = server.accept().await.unwrap().unwrap();
    assert_eq!(asked.uri(), "b.example:2");
    respond.send_response(Response::new(()), true).unwrap();
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    assert_eq!(client.await.unwrap(), 200);
}

#[tokio::test]
async fn a_peer_that_went_silent_is_noticed() {
    let (near, mut far) = channels(false).await;
    let silent = tokio::spawn(async move {
        assert!(knows(&mut far).await.unwrap());
        let mut settings = Vec::new();
        frame::Settings { lean: Some(1), ..frame::Settings::default() }.put(&mut settings, false);
        far.stream.write_all(&settings).await.unwrap();
        std::future::pending::<()>().await;
        drop(far);
    });
    let [quiet, busy, doubt, patience] = [60_000, 50, 30, 100].map(Duration::from_millis);
    let (client, driver) = connect(near, Watch { quiet, busy, doubt, patience }, true).await.unwrap();
    let opening = client.open(&request("a.example:1"), false).unwrap();
    let driver = tokio::spawn(driver);
    while client.peer().is_calm() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(client.peer().take_alarm() && !driver.is_finished(), "in doubt before it is given up");
    assert_eq!(driver.await.unwrap(), Ending::Silent);
    assert_eq!(opening.await.expect_err("silent").kind(), io::ErrorKind::ConnectionAborted);
    silent.abort();
}

#[tokio::test]
async fn the_round_trip_is_measured() {
    let pair = Pair::new(true).await;
    while pair.client.round_trip().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(pair.client.round_trip().unwrap() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_peer_in_doubt_that_answers_is_believed_again() {
    let pair = Pair::new(true).await;
    for _ in 0..3 {
        pair.client.doubt(Duration::from_secs(10));
        assert!(!pair.client.peer().is_calm());
        while !pair.client.peer().is_calm() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(pair.client.is_open() && !pair.client.peer().take_alarm());
}

#[tokio::test]
async fn a_peer_in_doubt_is_given_up_as_soon_as_the_doubter_says() {
    let (near, mut far) = channels(false).await;
    let silent = tokio::spawn(async move {
        assert!(knows(&mut far).await.unwrap());
        let mut settings = Vec::new();
        frame::Settings { lean: Some(1), ..frame::Settings::default() }.put(&mut settings, false);
        far.stream.write_all(&settings).await.unwrap();
        std::future::pending::<()>().await;
        drop(far);
    });
    let (client, driver) = connect(near, WATCH, true).await.unwrap();
    let driver = tokio::spawn(driver);
    let start = tokio::time::Instant::now();
    client.doubt(Duration::from_millis(50));
    assert_eq!(driver.await.unwrap(), Ending::Silent);
    assert!(start.elapsed() < WATCH.patience / 2, "{:?}", start.elapsed());
    silent.abort();
}
