//! Sessions over the lean engine, and remotes that do not know it.

use std::io::ErrorKind;
use std::time::Duration;

use http::Request;
use swiftproxy_core::cancel::Reason;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::meter::Direction;
use swiftproxy_core::tunnel::TunnelState;
use swiftproxy_wire::lean;
use swiftproxy_wire::record::Channel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::super::Config;
use super::super::link::Link;
use super::super::silence::WATCH;
use super::remote::{Account, TestRemote};
use super::{Local, config};

#[tokio::test]
async fn a_session_and_its_half_close() {
    let remote = TestRemote::start_lean().await;
    let local = Local::new(config(&remote));
    let opened = local.open("reverse.example:80").await.unwrap();
    assert_eq!(opened.bound(), Some("192.0.2.7:4711".parse().unwrap()));
    let live = opened.session().live().clone();
    let mut stream = opened.into_stream();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    stream.write_all(&sent).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    got.reverse();
    assert!(got == sent);
    assert_eq!(live.bytes.total(Direction::Up), 3_000_000);
    assert_eq!(live.bytes.total(Direction::Down), 3_000_000);
    let status = local.connected().await;
    assert!(status.verified);
    assert_eq!(status.account.unwrap().rate_down, Some(1000));
}

#[tokio::test]
async fn refusals_and_resets_are_passed_on() {
    let remote = TestRemote::start_lean().await;
    let local = Local::new(config(&remote));
    for refusal in
        [Refusal::Denied, Refusal::DnsFailed, Refusal::Refused, Refusal::Timeout, Refusal::Malformed]
    {
        let target = format!("{}.refuse:80", refusal.label());
        assert_eq!(local.open(&target).await.err(), Some(refusal), "{target}");
    }
    assert_eq!(local.open("405.status:80").await.err(), Some(Refusal::UnsupportedCommand));
    let mut stream = local.open("reset.example:80").await.unwrap().into_stream();
    stream.write_all(b"a").await.unwrap();
    let error = stream.read(&mut [0; 8]).await.expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let session = local.session("never.example:80");
    let live = session.live().clone();
    let mut relay = local.relay.clone();
    let opening = tokio::spawn(async move { tower::Service::call(&mut relay, session).await.err() });
    tokio::task::yield_now().await;
    live.cancel.fire(Reason::Kicked);
    assert_eq!(opening.await.unwrap(), Some(Refusal::Denied));
}

#[tokio::test]
async fn a_login_that_is_rejected_is_told() {
    let remote = TestRemote::start_lean().await;
    remote.set_account(Account::Refused(Refusal::AccountDisabled));
    let local = Local::new(config(&remote));
    let status = local.until(|status| status.error.is_some()).await;
    assert_eq!(status.error.unwrap().label, "account_disabled");
    assert_eq!(local.open("echo.example:80").await.err(), Some(Refusal::AccountDisabled));
}

#[tokio::test]
async fn a_remote_that_was_killed_ends_its_sessions_and_is_found_again() {
    let mut remote = TestRemote::start_lean().await;
    let local = Local::new(config(&remote));
    let mut stream = local.open("echo.example:80").await.unwrap().into_stream();
    stream.write_all(b"a").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    remote.kill().await;
    assert!(stream.read(&mut [0; 8]).await.is_err());
    remote.serve().await;
    local.until(|status| status.state == TunnelState::Connected).await;
    while local.open("echo.example:80").await.is_err() {}
}

#[tokio::test]
async fn a_remote_that_does_not_know_it_is_dialled_once_more_and_remembered() {
    let remote = TestRemote::start().await;
    let local = Local::new(Config { connections: 3, ..config(&remote) });
    let mut stream = local.open("echo.example:80").await.unwrap().into_stream();
    stream.write_all(b"a").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    while remote.came() < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(remote.came(), 4, "three links, and one that found out");
}

#[tokio::test]
async fn where_it_is_off_it_is_not_offered() {
    let remote = TestRemote::start().await;
    let local = Local::new(Config { lean: false, connections: 1, ..config(&remote) });
    assert!(local.open("echo.example:80").await.is_ok());
    assert_eq!(remote.came(), 1);
}

#[tokio::test]
async fn a_link_whose_remote_stops_is_seen_to_stop_though_sessions_go_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let mut far = Channel::clear(far.unwrap().0, Vec::new());
    let server = async {
        assert!(lean::knows(&mut far).await.unwrap());
        let (server, driver) = lean::serve(far, WATCH, &lean::Budget::default());
        tokio::spawn(driver);
        server
    };
    let near = Channel::clear(near.unwrap(), Vec::new());
    let (client, mut server) = tokio::join!(lean::connect(near, WATCH, true), server);
    let (client, driver) = client.unwrap();
    let changed = watch::Sender::new(());
    let mut seen = changed.subscribe();
    let link = Link::start_lean(client, driver, changed);
    let place = link.place();
    let request = Request::connect("a.example:1").body(()).unwrap();
    let (_asked, accepted) = tokio::join!(place.request(request, false), server.accept());
    assert!(accepted.is_some() && link.is_open());
    server.drain();
    let told = async {
        while link.is_open() {
            seen.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("it is told");
    assert_eq!(link.streams(), 1);
}
