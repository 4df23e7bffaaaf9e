//! Logging in and out as a GUI does, and what the configuration may say.

use std::path::Path;

use swiftproxy_core::error::Refusal;
use swiftproxy_core::listener::Listener;
use swiftproxy_core::node::Node;
use swiftproxy_core::registry::{Build, RelayConfig};
use swiftproxy_core::secret::Secret;
use swiftproxy_core::tunnel::{Login, Tunnel as _, TunnelState};

use super::super::Config;
use super::remote::{Account, TestRemote};
use super::{Local, config, login};

/// The label and the sentence of a login that fails.
async fn error(local: &Local, login: Login) -> (&'static str, String) {
    let error = local.relay.hub.connect(login).await.expect_err("no login");
    assert_eq!(local.status().state, TunnelState::Disconnected);
    assert_eq!(local.status().error.as_ref(), Some(&error));
    (error.label, error.message)
}

#[tokio::test]
async fn a_gui_logs_in_and_out() {
    let remote = TestRemote::start().await;
    let local = Local::new(Config::default());
    assert_eq!(local.status().state, TunnelState::Disconnected);
    let status = local.relay.hub.connect(login(&remote)).await.unwrap();
    assert_eq!(status.state, TunnelState::Connected);
    assert!(status.verified);
    assert_eq!(status.username.as_deref(), Some("alice"));
    assert_eq!(status.server, Some(remote.addr.to_string()));
    assert_eq!(status.account.unwrap().rate_down, Some(1000));
    assert!(local.open("echo.example:80").await.is_ok());
    local.until(|status| status.rtt_ms.is_some()).await;
    local.relay.hub.disconnect().await;
    assert_eq!(local.status().state, TunnelState::Disconnected);
    assert!(local.relay.hub.connect(login(&remote)).await.is_ok());
}

#[tokio::test]
async fn what_a_person_hears() {
    let mut remote = TestRemote::start().await;
    let local = Local::new(Config::default());
    let wrong = Login { password: Secret::new("guess"), ..login(&remote) };
    let (label, message) = error(&local, wrong).await;
    assert_eq!((label, message.as_str()), ("auth_failed", "The user name or the password is wrong."));
    remote.set_account(Account::Refused(Refusal::AccountDisabled));
    assert_eq!(error(&local, login(&remote)).await.0, "account_disabled");
    remote.set_account(Account::Refused(Refusal::AccountExpired));
    assert_eq!(error(&local, login(&remote)).await.0, "account_expired");
    remote.set_account(Account::Asked);
    let other = TestRemote::asleep().await;
    let (label, message) = error(&local, Login { pin: Some(other.pin), ..login(&remote) }).await;
    assert_eq!(label, "certificate");
    assert!(message.contains(&remote.pin), "{message}");
    let (label, message) = error(&local, Login { pin: None, ..login(&remote) }).await;
    assert_eq!(label, "certificate");
    assert!(message.contains(&remote.pin) || message.contains("cannot be used"), "{message}");
    let (label, message) = error(&local, Login { pin: None, tls: false, ..login(&remote) }).await;
    assert_eq!(label, "protocol", "{message}");
    let nowhere = Login { server: "nowhere".to_owned(), ..login(&remote) };
    let refused = local.relay.hub.connect(nowhere).await.expect_err("no server");
    assert_eq!(refused.label, "bad_request");
    let (label, message) =
        error(&local, Login { server: "none.invalid:1".to_owned(), ..login(&remote) }).await;
    assert_eq!(label, "unreachable");
    assert!(message.contains("does not resolve"), "{message}");
    remote.kill().await;
    let (label, message) = error(&local, login(&remote)).await;
    assert_eq!(label, "unreachable");
    assert!(message.contains("nobody listens"), "{message}");
}

#[tokio::test]
async fn a_login_that_fails_leaves_the_one_that_holds() {
    let remote = TestRemote::start().await;
    let local = Local::new(config(&remote));
    local.connected().await;
    let wrong = Login { password: Secret::new("guess"), ..login(&remote) };
    assert!(local.relay.hub.connect(wrong).await.is_err());
    assert_eq!(local.status().state, TunnelState::Connected);
    assert!(local.open("echo.example:80").await.is_ok());
}

#[tokio::test]
async fn a_foreign_proxy_is_not_verified() {
    let remote = TestRemote::start().await;
    remote.set_account(Account::Foreign);
    let local = Local::new(Config::default());
    let status = local.relay.hub.connect(login(&remote)).await.unwrap();
    assert_eq!(status.state, TunnelState::Connected);
    assert!(!status.verified && status.account.is_none());
    assert!(local.open("echo.example:80").await.is_ok());
}

#[tokio::test]
async fn a_login_that_is_rejected_later_is_no_fault_of_the_application() {
    let remote = TestRemote::start().await;
    let local = Local::new(config(&remote));
    local.connected().await;
    remote.set_password("another");
    assert_eq!(local.open("echo.example:80").await.err(), Some(Refusal::TunnelLogin));
    let status = local.status();
    assert_eq!(status.error.unwrap().label, "auth_failed");
    // The next one hears it at once.
    assert_eq!(local.open("echo.example:80").await.err(), Some(Refusal::TunnelLogin));
    let mut local = local;
    local.reload(Config { password: Some(Secret::new("another")), ..config(&remote) });
    assert!(local.open("echo.example:80").await.is_ok());
}

#[tokio::test]
async fn an_account_that_is_disabled_later_shows_and_comes_back() {
    let remote = TestRemote::start().await;
    let local = Local::new(config(&remote));
    local.connected().await;
    let uplink = local.relay.hub.uplink().unwrap();
    remote.set_account(Account::Refused(Refusal::AccountDisabled));
    uplink.refresh().await;
    let status = local.status();
    assert_eq!(status.error.unwrap().message, "This account is disabled.");
    assert!(!status.verified);
    assert_eq!(local.open("echo.example:80").await.err(), Some(Refusal::AccountDisabled));
    remote.set_account(Account::Asked);
    uplink.refresh().await;
    assert_eq!(local.status().state, TunnelState::Connected);
    assert!(local.open("echo.example:80").await.is_ok());
}

#[tokio::test]
async fn a_wrong_password_in_the_configuration_is_told_and_not_repeated() {
    let remote = TestRemote::start().await;
    let local = Local::new(Config { password: Some(Secret::new("guess")), ..config(&remote) });
    let status = local.until(|status| status.error.is_some()).await;
    assert_eq!(status.state, TunnelState::Connecting);
    assert_eq!(status.error.unwrap().label, "auth_failed");
    assert_eq!(local.open("echo.example:80").await.err(), Some(Refusal::TunnelLogin));
    // Once to be asked for the lean engine, once to log in.
    assert_eq!(remote.came(), 2);
}

#[tokio::test]
async fn what_the_configuration_may_say() {
    let remote = TestRemote::asleep().await;
    let node = Node::new("test");
    let listener = Listener::new(&node, "test");
    let key = |config: Config| {
        let bind = "127.0.0.1:0".parse().unwrap();
        let mut build = Build::new(&node, &listener, bind, "relays.out", Path::new("/"));
        config.build(&mut build).err().map(|error| error.key)
    };
    let good = || config(&remote);
    assert_eq!(key(good()), None);
    assert_eq!(key(Config::default()), None);
    assert_eq!(key(Config { server: None, ..good() }).as_deref(), Some("relays.out.server"));
    assert_eq!(key(Config { server: Some("x".into()), ..good() }).as_deref(), Some("relays.out.server"));
    assert_eq!(key(Config { password: None, ..good() }).as_deref(), Some("relays.out.password"));
    assert_eq!(key(Config { username: None, ..good() }).as_deref(), Some("relays.out.username"));
    assert_eq!(key(Config { pin: Some("x".into()), ..good() }).as_deref(), Some("relays.out.pin"));
    assert_eq!(key(Config { connections: 0, ..good() }).as_deref(), Some("relays.out.connections"));
    let clear = Config { server: Some("192.0.2.1:1".into()), pin: None, tls: false, ..good() };
    assert_eq!(key(clear.clone()).as_deref(), Some("relays.out.tls"));
    assert_eq!(key(Config { insecure: true, ..clear }), None);
}
