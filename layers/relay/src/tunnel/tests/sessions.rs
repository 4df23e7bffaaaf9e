//! Sessions through the tunnel.

use std::io::ErrorKind;
use std::time::Duration;

use swiftproxy_core::cancel::Reason;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::meter::Direction;
use swiftproxy_core::tunnel::{Tunnel as _, TunnelState};
use swiftproxy_core::units::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Config;
use super::remote::TestRemote;
use super::{Local, config};

#[tokio::test]
async fn a_session_and_its_half_close() {
    let remote = TestRemote::start().await;
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
}

#[tokio::test]
async fn the_application_hears_what_the_remote_met() {
    let remote = TestRemote::start().await;
    let local = Local::new(config(&remote));
    for refusal in [
        Refusal::Denied,
        Refusal::DeniedAddress,
        Refusal::DnsFailed,
        Refusal::UnreachableNet,
        Refusal::UnreachableHost,
        Refusal::Refused,
        Refusal::Timeout,
        Refusal::TooManyConnections,
        Refusal::Loop,
        Refusal::Malformed,
        Refusal::UnsupportedAddress,
        Refusal::Internal,
    ] {
        let target = format!("{}.refuse:80", refusal.label());
        assert_eq!(local.open(&target).await.err(), Some(refusal), "{target}");
    }
    for (code, refusal) in [
        (400, Refusal::Malformed),
        (403, Refusal::Denied),
        (404, Refusal::UnreachableHost),
        (405, Refusal::UnsupportedCommand),
        (418, Refusal::Denied),
        (429, Refusal::TooManyConnections),
        (500, Refusal::Internal),
        (502, Refusal::UnreachableHost),
        (503, Refusal::TunnelDown),
        (504, Refusal::Timeout),
        (302, Refusal::Internal),
    ] {
        assert_eq!(local.open(&format!("{code}.status:80")).await.err(), Some(refusal), "{code}");
    }
}

#[tokio::test]
async fn a_remote_that_stops_is_asked_no_more_and_the_session_goes_elsewhere() {
    let remote = TestRemote::start().await;
    for connections in [1, 2, 8] {
        let local = Local::new(Config { connections, ..config(&remote) });
        local.connected().await;
        // Each of the links that there are hears of it only by its answer.
        remote.refuse_next(connections);
        let came = remote.came();
        assert!(local.open("echo.example:80").await.is_ok(), "{connections}");
        assert!(remote.came() > came, "{connections}: over a new link");
    }
    let local = Local::new(config(&remote));
    local.connected().await;
    remote.refuse_next(usize::MAX);
    assert_eq!(local.open("echo.example:80").await.err(), Some(Refusal::TunnelDown), "not for ever");
}

#[tokio::test]
async fn a_reset_target_is_a_reset_connection() {
    let remote = TestRemote::start().await;
    let local = Local::new(config(&remote));
    let mut stream = local.open("reset.example:80").await.unwrap().into_stream();
    stream.write_all(b"a").await.unwrap();
    let error = stream.read_u8().await.expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn sessions_wait_while_the_tunnel_comes_up() {
    let mut remote = TestRemote::asleep().await;
    let local = Local::new(config(&remote));
    local.until(|status| status.error.is_some()).await;
    let (opened, ()) = tokio::join!(local.open("echo.example:80"), remote.serve());
    assert!(opened.is_ok());
    assert_eq!(local.connected().await.error, None);
}

#[tokio::test]
async fn waiting_has_bounds() {
    let remote = TestRemote::asleep().await;
    let quick = Config { wait: Span::millis(10), ..config(&remote) };
    let mut local = Local::new(quick.clone());
    assert_eq!(local.open("echo.example:80").await.err(), Some(Refusal::TunnelDown));
    // Nobody may wait, however long that would be.
    local.reload(Config { max_waiting: 0, wait: Span::secs(3600), ..config(&remote) });
    assert_eq!(local.open("echo.example:80").await.err(), Some(Refusal::TunnelDown));
    // Nobody is logged in.
    let local = Local::new(Config { wait: Span::secs(3600), ..Config::default() });
    assert_eq!(local.open("echo.example:80").await.err(), Some(Refusal::TunnelDown));
}

#[tokio::test]
async fn a_target_that_is_never_connected_and_a_session_that_is_ended() {
    let remote = TestRemote::start().await;
    let mut local = Local::new(Config { open_timeout: Span::millis(50), ..config(&remote) });
    local.connected().await;
    assert_eq!(local.open("never.example:80").await.err(), Some(Refusal::Timeout));
    local.reload(config(&remote));
    let session = local.session("never.example:80");
    session.live().cancel.fire(Reason::Kicked);
    let refused = tower::Service::call(&mut local.relay.clone(), session).await;
    assert_eq!(refused.err(), Some(Refusal::Denied));
    assert_eq!(local.node.sessions.count(), 0);
}

#[tokio::test]
async fn a_killed_remote_ends_sessions_and_is_found_again() {
    let mut remote = TestRemote::start().await;
    let local = Local::new(config(&remote));
    let mut stream = local.open("echo.example:80").await.unwrap().into_stream();
    stream.write_all(b"a").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    remote.kill().await;
    assert!(stream.read_u8().await.is_err());
    let status = local.until(|status| status.state == TunnelState::Connecting).await;
    assert!(status.error.is_some_and(|error| error.label == "unreachable"));
    remote.serve().await;
    let mut stream = local.open("echo.example:80").await.unwrap().into_stream();
    stream.write_all(b"b").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'b');
    assert!(local.connected().await.verified);
}

#[tokio::test]
async fn logging_out_ends_sessions() {
    let remote = TestRemote::start().await;
    let local = Local::new(config(&remote));
    let mut stream = local.open("echo.example:80").await.unwrap().into_stream();
    local.relay.hub.disconnect().await;
    assert!(stream.read_u8().await.is_err());
    assert_eq!(local.status().state, TunnelState::Disconnected);
    assert_eq!(local.open("echo.example:80").await.err(), Some(Refusal::TunnelDown));
}

#[tokio::test]
async fn a_reload_disturbs_nobody() {
    let (remote, other) = (TestRemote::start().await, TestRemote::start().await);
    let mut local = Local::new(Config { connections: 1, ..config(&remote) });
    let mut stream = local.open("echo.example:80").await.unwrap().into_stream();
    let same = Config { connections: 1, open_timeout: Span::secs(30), ..config(&remote) };
    local.reload(same);
    let came = remote.came();
    local.open("echo.example:80").await.unwrap();
    assert_eq!(remote.came(), came, "what did not change does not reconnect");
    // Another remote: new sessions go there, the open one goes on.
    local.reload(config(&other));
    local.open("echo.example:80").await.unwrap();
    assert!(other.came() > 0);
    stream.write_all(b"a").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    // A logout over the API ends that one too, and a reload of the same does not undo the logout.
    local.relay.hub.disconnect().await;
    assert!(stream.read_u8().await.is_err());
    local.reload(config(&other));
    assert_eq!(local.status().state, TunnelState::Disconnected);
}

#[tokio::test]
async fn the_last_relay_takes_the_tunnel_down() {
    let remote = TestRemote::start().await;
    let local = Local::new(config(&remote));
    let mut stream = local.open("echo.example:80").await.unwrap().into_stream();
    let hub = local.relay.hub.clone();
    drop(local.relay);
    assert_eq!(hub.status().state, TunnelState::Disconnected);
    stream.write_all(b"a").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
}

#[tokio::test]
async fn a_stream_that_nobody_reads_leaves_the_others_alone() {
    let remote = TestRemote::start().await;
    let local = Local::new(Config { connections: 1, ..config(&remote) });
    let mut stalled = local.open("echo.example:80").await.unwrap().into_stream();
    // Echoes until both windows are full.
    let fill = async {
        let chunk = vec![0; 64 * 1024];
        let mut sent = 0;
        while let Ok(n) = tokio::time::timeout(Duration::from_millis(300), stalled.write(&chunk)).await {
            sent += n.unwrap();
        }
        sent
    };
    let held = fill.await;
    assert!(held < 16 << 20, "{held} bytes are held for a stream that nobody reads");
    let mut other = local.open("echo.example:80").await.unwrap().into_stream();
    other.write_all(b"a").await.unwrap();
    assert_eq!(other.read_u8().await.unwrap(), b'a');
}
