//! Links that go silent, on a paused clock and over pipes in memory.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use swiftproxy_wire::h2::server_builder;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::link::{Asked, Link};

/// A link to a server that answers pings, and the server's task.
async fn link() -> (std::sync::Arc<Link>, watch::Receiver<()>, tokio::task::JoinHandle<()>) {
    let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut connection = server_builder().handshake::<_, Bytes>(far).await.unwrap();
        let mut held = Vec::new();
        while let Some(Ok(accepted)) = connection.accept().await {
            held.push(accepted);
        }
    });
    let changed = watch::Sender::new(());
    let seen = changed.subscribe();
    (Link::start(near, changed).await.unwrap(), seen, server)
}

/// A link to somebody who reads everything and says nothing.
async fn mute() -> (std::sync::Arc<Link>, watch::Receiver<()>) {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut sink = vec![0; 4096];
        while tokio::io::AsyncReadExt::read(&mut far, &mut sink).await.is_ok() {}
    });
    let changed = watch::Sender::new(());
    let seen = changed.subscribe();
    (Link::start(near, changed).await.unwrap(), seen)
}

#[tokio::test(start_paused = true)]
async fn a_quiet_link_that_answers_lives() {
    let (link, _seen, _server) = link().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(link.is_open());
    assert!(link.rtt().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_link_that_never_answers_is_closed_within_a_bound() {
    let start = Instant::now();
    let (link, mut seen) = mute().await;
    while link.is_open() {
        seen.changed().await.unwrap();
    }
    assert!(start.elapsed() <= Duration::from_secs(26), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_link_that_does_not_answer_soon_is_in_doubt_before_it_is_closed() {
    let start = Instant::now();
    let (link, mut seen) = mute().await;
    link.ask();
    seen.changed().await.unwrap();
    assert!(link.is_open() && link.is_silent() && !link.is_calm());
    assert!(link.take_alarm() && !link.take_alarm(), "told once");
    assert!(start.elapsed() <= Duration::from_secs(4), "{:?}", start.elapsed());
    seen.changed().await.unwrap();
    assert!(!link.is_open() && link.broke());
    assert!(start.elapsed() >= Duration::from_secs(9), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_link_in_doubt_is_closed_within_what_it_is_given() {
    let (link, mut seen) = mute().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    link.doubt(Duration::from_secs(2));
    assert!(!link.is_calm() && !link.is_silent());
    while link.is_open() {
        seen.changed().await.unwrap();
    }
    assert!(start.elapsed() <= Duration::from_millis(2100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_link_in_doubt_that_answers_is_believed_again() {
    let (link, mut seen, _server) = link().await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        link.doubt(Duration::from_secs(3));
        assert!(!link.is_calm());
        seen.changed().await.unwrap();
        assert!(link.is_calm() && !link.take_alarm());
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(link.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_answer_asks_sooner_and_ends_with_the_link() {
    let (link, _seen) = mute().await;
    let place = link.place();
    assert_eq!(link.streams(), 1);
    let start = Instant::now();
    let request = Request::connect("a.example:1").body(()).unwrap();
    let asked = place.request(request, false).await.unwrap().unwrap();
    assert!(asked.answer().await.is_err());
    assert!(start.elapsed() <= Duration::from_secs(14), "{:?}", start.elapsed());
    drop(place);
    assert_eq!(link.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_retired_link_ends_with_its_last_stream() {
    let (link, _seen, server) = link().await;
    let place = link.place();
    let request = Request::connect("a.example:1").body(()).unwrap();
    let Asked::H2(_unanswered, response, send, _queue) =
        place.request(request, false).await.unwrap().unwrap()
    else {
        panic!("it was started so");
    };
    link.retire();
    assert!(!link.is_open());
    let again = Request::connect("a.example:1").body(()).unwrap();
    assert!(link.place().request(again, false).await.unwrap().is_none());
    assert!(!server.is_finished());
    drop((response, send));
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_shuts_down_gets_no_new_stream() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut connection = server_builder().handshake::<_, Bytes>(far).await.unwrap();
        connection.graceful_shutdown();
        while let Some(Ok(_)) = connection.accept().await {}
    });
    let changed = watch::Sender::new(());
    let mut seen = changed.subscribe();
    let start = Instant::now();
    let link = Link::start(near, changed).await.unwrap();
    seen.changed().await.unwrap();
    assert!(!link.is_open());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    server.await.unwrap();
}
