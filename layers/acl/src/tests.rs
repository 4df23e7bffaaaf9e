//! The layer as a whole, over an inner service that tells on it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};

use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::listener::{Listener, Recheck};
use swiftproxy_core::node::Node;
use swiftproxy_core::opened::Engine;
use swiftproxy_core::target::Target;

use super::*;

fn config(json: &str) -> AclConfig {
    serde_json::from_str(json).unwrap_or_else(|error| unreachable!("{json}: {error}"))
}

fn rules(json: &str) -> Rules {
    let config = config(json);
    Rules::new(config.allow, config.deny, config.default == Fallback::Allow)
}

fn session(target: &str) -> Session {
    let node = Node::new("test");
    let listener = Listener::new(&node, "test");
    let (host, port) = target.rsplit_once(':').unwrap();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let target = Target::from_domain(host, port.parse().unwrap()).unwrap();
    Session::admit(&listener, "127.0.0.1:9".parse().unwrap(), "socks5", target).unwrap()
}

/// What the rules say of a target that resolves to `addr` (or of a literal).
fn judge(rules: &Rules, target: &str, addr: Option<&str>) -> Result<(), Refusal> {
    let session = session(target);
    let early = rules.early(session.target())?;
    if let Some(addr) = addr {
        let port = session.target().port;
        return rules.address(session.target(), SocketAddr::new(addr.parse().unwrap(), port));
    }
    if early == Early::Pass { Ok(()) } else { Err(Refusal::Denied) }
}

#[test]
fn private_targets_are_denied_by_default_in_every_spelling() {
    let rules = rules("{}");
    for target in [
        "127.0.0.1:80",
        "127.1:80",
        "2130706433:80",
        "0x7f000001:80",
        "0177.0.0.1:80",
        "127.0.0.1.:80",
        "0:80",
        "0.0.0.0:80",
        "::1:80",
        "[::]:80",
        "[::ffff:127.0.0.1]:80",
        "[::ffff:7f00:1]:80",
        "[64:ff9b::127.0.0.1]:80",
        "[64:ff9b:1::10.0.0.1]:80",
        "[2002:7f00:1::]:80",
        "10.0.0.1:80",
        "192.168.0.1:80",
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        "100.64.0.1:80",
        "[fe80::1]:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "3232235777:80",
        "１２７.0.0.1:80",
    ] {
        assert_eq!(judge(&rules, target, None), Err(Refusal::DeniedAddress), "{target}");
    }
    for target in ["1.1.1.1:80", "[2606:4700::1111]:443", "example.org:443", "134744072:53"] {
        assert_eq!(judge(&rules, target, None), Ok(()), "{target}");
    }
    // A name is judged by where it leads, each of its addresses on its own.
    for addr in ["127.0.0.1", "::ffff:10.0.0.1", "fe80::1", "64:ff9b::a00:1"] {
        assert_eq!(judge(&rules, "rebind.example:80", Some(addr)), Err(Refusal::DeniedAddress), "{addr}");
    }
    assert_eq!(judge(&rules, "rebind.example:80", Some("1.1.1.1")), Ok(()));
}

#[test]
fn what_each_step_lets_through() {
    const OPEN: &str = r#"{"allow": ["127.0.0.1:8080"]}"#;
    const NONE: &str = r#"{"deny": []}"#;
    const MAIL: &str =
        r#"{"allow": ["mail.example:25", "192.0.2.25:25"], "deny": ["private", "*:25", "*:6881-6889"]}"#;
    const NAMES: &str =
        r#"{"allow": ["good.ads.example", "intranet.example"], "deny": ["private", ".ads.example"]}"#;
    const LIST: &str = r#"{"allow": [".example.org:443", "203.0.113.0/24:22", "*:853"], "deny": ["private"], "default": "deny"}"#;
    const STAR: &str = r#"{"allow": ["*:443"], "deny": ["private", "1.2.3.4"]}"#;
    let denied = Err(Refusal::Denied);
    let address = Err(Refusal::DeniedAddress);
    for (json, target, addr, verdict) in [
        (OPEN, "127.0.0.1:8080", None, Ok(())),
        (OPEN, "127.1:8080", None, Ok(())),
        (OPEN, "[::ffff:127.0.0.1]:8080", None, Ok(())),
        (OPEN, "localhost:8080", Some("127.0.0.1"), Ok(())),
        (OPEN, "localhost:8080", Some("::1"), address),
        (OPEN, "127.0.0.1:8081", None, address),
        (OPEN, "[64:ff9b::127.0.0.1]:8080", None, address),
        (NONE, "127.0.0.1:1", None, Ok(())),
        (MAIL, "example.org:25", None, denied),
        (MAIL, "1.1.1.1:25", None, denied),
        (MAIL, "MAIL.example.:25", Some("1.1.1.1"), Ok(())),
        (MAIL, "mail.example:25", Some("10.0.0.1"), address),
        (MAIL, "192.0.2.25:25", None, Ok(())),
        (MAIL, "other.example:25", Some("192.0.2.25"), Ok(())),
        (MAIL, "other.example:25", Some("1.1.1.1"), denied),
        (MAIL, "1.1.1.1:6889", None, denied),
        (MAIL, "1.1.1.1:6890", None, Ok(())),
        (NAMES, "ads.example:443", Some("1.1.1.1"), denied),
        (NAMES, "x.ADS.example.:443", None, denied),
        (NAMES, "badads.example:443", None, Ok(())),
        (NAMES, "good.ads.example:443", Some("1.1.1.1"), Ok(())),
        (NAMES, "x.good.ads.example:443", None, denied),
        (NAMES, "intranet.example:443", Some("10.0.0.1"), address),
        (LIST, "www.example.org:443", Some("1.1.1.1"), Ok(())),
        (LIST, "example.org:443", Some("1.1.1.1"), Ok(())),
        (LIST, "example.org:80", None, denied),
        (LIST, "example.com:443", None, denied),
        (LIST, "1.1.1.1:443", None, denied),
        (LIST, "1.1.1.1:853", None, Ok(())),
        (LIST, "10.0.0.1:853", None, address),
        (LIST, "203.0.113.9:22", None, Ok(())),
        (LIST, "host.example:22", Some("203.0.113.9"), Ok(())),
        (LIST, "host.example:22", Some("1.1.1.1"), denied),
        (LIST, "host.example:22", None, denied),
        (STAR, "10.0.0.1:443", None, address),
        (STAR, "[64:ff9b::1.2.3.4]:443", None, address),
        (STAR, "1.2.3.5:443", None, Ok(())),
    ] {
        assert_eq!(judge(&rules(json), target, addr), verdict, "{json} {target} {addr:?}");
    }
}

fn build(json: &str) -> (AclLayer, Arc<Node>) {
    let node = Node::new("test");
    let listener = Listener::new(&node, "test");
    let bind = "127.0.0.1:0".parse().unwrap();
    let mut build = Build::new(&node, &listener, bind, "layers.acl", Path::new("."));
    let layer = config(json).build(&mut build).unwrap();
    build.commit();
    (layer, node)
}

#[tokio::test]
async fn a_denied_session_never_reaches_the_relay() {
    let sealed = Stack::new(tower::service_fn(|session: Session| async move {
        let target = session.target().clone();
        let reached = true;
        assert!(!reached, "{target} got through");
        Err::<Opened, _>(Refusal::Internal)
    }));
    let (layer, _node) = build(r#"{"deny": ["private", ".ads.example", "*:25"]}"#);
    for (target, word) in [
        ("127.1:80", Refusal::DeniedAddress),
        ("x.ads.example:80", Refusal::Denied),
        ("example.org:25", Refusal::Denied),
    ] {
        let refusal = layer.layer(sealed.clone()).call(session(target)).await.err();
        assert_eq!(refusal, Some(word), "{target}");
    }
}

/// A relay that resolves every name to `addr` and asks about it, as one that dials does; with none it is a tunnel.
fn relay(addr: Option<SocketAddr>) -> Stack {
    Stack::new(tower::service_fn(move |session: Session| async move {
        if let Some(addr) = addr {
            session.check_address(addr)?;
            session.live().set_dialled(addr);
        }
        Ok(Opened::new(session, None, Box::new(Nowhere), Arc::new(Nowhere)))
    }))
}

struct Nowhere;

impl Endpoint for Nowhere {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }
    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn reset(&mut self) {}
}

impl Engine for Nowhere {
    fn run(&self, _: Session, _: Box<dyn Endpoint>, _: Box<dyn Endpoint>) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}

async fn outcome(json: &str, target: &str, addr: Option<&str>) -> Result<(), Refusal> {
    let (layer, _node) = build(json);
    let addr = addr.map(|addr| addr.parse().unwrap());
    layer.layer(relay(addr)).call(session(target)).await.map(drop)
}

#[tokio::test]
async fn the_address_that_is_dialled_is_judged() {
    assert_eq!(outcome("{}", "a.example:80", Some("1.1.1.1:80")).await, Ok(()));
    assert_eq!(
        outcome("{}", "a.example:80", Some("[::ffff:10.0.0.1]:80")).await,
        Err(Refusal::DeniedAddress)
    );
}

#[tokio::test]
async fn what_only_an_address_may_open_stays_shut_where_nobody_knows_the_address() {
    const INSIDE: &str = r#"{"allow": ["10.0.0.0/8"], "default": "deny"}"#;
    assert_eq!(outcome(INSIDE, "a.example:80", Some("10.0.0.1:80")).await, Ok(()));
    assert_eq!(outcome(INSIDE, "a.example:80", Some("1.1.1.1:80")).await, Err(Refusal::Denied));
    assert_eq!(outcome(INSIDE, "a.example:80", None).await, Err(Refusal::Denied));
    assert_eq!(outcome("{}", "a.example:80", None).await, Ok(()));
}

#[test]
fn open_sessions_are_judged_anew() {
    let dialled = session("a.example:80");
    dialled.live().set_dialled("1.1.1.1:80".parse().unwrap());
    let tunnelled = session("b.example:80");
    for (json, first, second) in [
        ("{}", Ok(()), Ok(())),
        (r#"{"deny": ["1.1.1.0/24"]}"#, Err(Refusal::DeniedAddress), Ok(())),
        (r#"{"deny": ["b.example"]}"#, Ok(()), Err(Refusal::Denied)),
        (r#"{"deny": ["*:80"]}"#, Err(Refusal::Denied), Err(Refusal::Denied)),
        (r#"{"deny": ["*:80"], "allow": ["1.1.1.1"]}"#, Ok(()), Err(Refusal::Denied)),
    ] {
        let rules = rules(json);
        assert_eq!(Recheck::check(&rules, dialled.live()), first, "{json}");
        assert_eq!(Recheck::check(&rules, tunnelled.live()), second, "{json}");
    }
}

#[test]
fn a_wrong_entry_is_named() {
    let error =
        serde_json::from_str::<AclConfig>(r#"{"deny": ["private", "10.0.0.1/8"]}"#).unwrap_err().to_string();
    assert!(error.contains("\"10.0.0.1/8\"") && error.contains("write \"10.0.0.0/8\""), "{error}");
    assert!(serde_json::from_str::<AclConfig>(r#"{"denied": []}"#).is_err());
}
