//! The layer as a whole, over an inner service that tells on it; and what the other tests share.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use swiftproxy_core::account::{AccountRate, AccountSpec, Password};
use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::listener::Listener;
use swiftproxy_core::node::Node;
use swiftproxy_core::opened::Opened;
use swiftproxy_core::secret::Secret;
use swiftproxy_core::session::Session;
use swiftproxy_core::stack::Stack;
use tower::{Layer, Service};

use super::*;

pub(crate) fn clear(name: &str, password: &str) -> AccountSpec {
    AccountSpec {
        row: None,
        name: name.into(),
        password: Some(Password::Clear(Secret::new(password))),
        enabled: true,
        up: AccountRate::Default,
        down: AccountRate::Default,
        weight: 1,
    }
}

pub(crate) fn disabled(name: &str, password: &str) -> AccountSpec {
    AccountSpec { enabled: false, ..clear(name, password) }
}

pub(crate) fn hashed(name: &str, password: &str) -> AccountSpec {
    let hash = hash_password(&Secret::new(password)).unwrap();
    AccountSpec { password: Some(Password::hash(hash)), ..clear(name, password) }
}

pub(crate) fn credentials(name: &str, password: &str) -> Credentials {
    Credentials { name: name.into(), password: Secret::new(password) }
}

struct Bench {
    node: Arc<Node>,
    listener: Arc<Listener>,
    bind: SocketAddr,
}

impl Bench {
    fn new(specs: Vec<AccountSpec>) -> Self {
        let node = Node::new("test");
        node.accounts.set_file(specs);
        let listener = Listener::new(&node, "test");
        Self { node, listener, bind: "127.0.0.1:0".parse().unwrap() }
    }

    fn build(
        &self,
        toml: &[(&str, &str)],
        method: Method,
    ) -> Result<(AuthLayer, Arc<dyn Authenticator>), BuildError> {
        let mut build = Build::new(&self.node, &self.listener, self.bind, "layers.auth", Path::new("."));
        let addresses = toml.iter().map(|(net, name)| ((*net).to_owned(), (*name).to_owned())).collect();
        let layer = AuthConfig { method, addresses }.build(&mut build)?;
        build.commit();
        Ok((layer, build.authenticator.take().expect("published")))
    }

    fn session(&self) -> Session {
        let client = "10.0.0.1:5".parse().unwrap();
        Session::admit(&self.listener, client, "connect", "example.org:443".parse().unwrap()).unwrap()
    }
}

/// A relay that must not be reached.
fn sealed() -> Stack {
    Stack::new(tower::service_fn(|_: Session| async {
        let reached = true;
        assert!(!reached, "a session without an account got through");
        Err::<Opened, _>(Refusal::Internal)
    }))
}

/// A relay that counts sessions and refuses each with a word of its own.
fn counting(reached: &Arc<AtomicUsize>) -> Stack {
    let reached = reached.clone();
    Stack::new(tower::service_fn(move |session: Session| {
        assert!(session.account().is_some() && session.credentials.is_none());
        reached.fetch_add(1, Relaxed);
        async { Err::<Opened, _>(Refusal::TunnelDown) }
    }))
}

async fn refusal(layer: &AuthLayer, inner: Stack, session: Session) -> Refusal {
    layer.layer(inner).call(session).await.err().expect("the stubs refuse")
}

#[tokio::test]
async fn without_a_right_password_nothing_inside_is_reached() {
    let bench = Bench::new(vec![clear("alice", "a"), disabled("bob", "b")]);
    let (layer, _) = bench.build(&[], Method::Password).unwrap();
    assert_eq!(refusal(&layer, sealed(), bench.session()).await, Refusal::AuthRequired);
    for (name, password, word) in [
        ("alice", "x", Refusal::AuthFailed),
        ("carol", "a", Refusal::AuthFailed),
        ("bob", "b", Refusal::AccountDisabled),
        ("bob", "b", Refusal::AccountDisabled),
    ] {
        let mut session = bench.session();
        session.credentials = Some(credentials(name, password));
        assert_eq!(refusal(&layer, sealed(), session).await, word, "{name}");
    }
}

#[tokio::test]
async fn with_one_the_session_goes_on_in_the_accounts_name() {
    let bench = Bench::new(vec![clear("alice", "a")]);
    let (layer, authenticator) = bench.build(&[], Method::Password).unwrap();
    let reached = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let mut session = bench.session();
        session.credentials = Some(credentials("alice", "a"));
        assert_eq!(refusal(&layer, counting(&reached), session).await, Refusal::TunnelDown);
    }
    let mut session = bench.session();
    let alice = authenticator.verify(session.client(), Some(credentials("alice", "a"))).await.unwrap();
    session.set_account(alice);
    assert_eq!(refusal(&layer, counting(&reached), session).await, Refusal::TunnelDown);
    assert_eq!(reached.load(Relaxed), 3);
    let mut session = bench.session();
    session.set_account(bench.node.accounts.get("alice").unwrap());
    bench.node.accounts.set_file(vec![disabled("alice", "a")]);
    assert_eq!(refusal(&layer, sealed(), session).await, Refusal::AccountDisabled);
}

#[tokio::test]
async fn what_was_verified_outlives_a_reload() {
    let bench = Bench::new(vec![clear("alice", "a")]);
    let client = "10.0.0.1:5".parse().unwrap();
    let (_, first) = bench.build(&[], Method::Password).unwrap();
    first.verify(client, Some(credentials("alice", "a"))).await.unwrap();
    let (_, second) = bench.build(&[], Method::Password).unwrap();
    assert!(second.known(client, Some(&credentials("alice", "a"))).is_some());
    assert!(second.wants_password(client));
}

#[tokio::test]
async fn by_address() {
    let bench = Bench::new(vec![clear("alice", "a")]);
    let reached = Arc::new(AtomicUsize::new(0));
    let (layer, authenticator) = bench.build(&[("10.0.0.0/8", "alice")], Method::Address).unwrap();
    assert!(!authenticator.wants_password("10.0.0.1:5".parse().unwrap()));
    assert_eq!(refusal(&layer, counting(&reached), bench.session()).await, Refusal::TunnelDown);
    let (layer, _) = bench.build(&[("10.0.0.0/8", "carol")], Method::Address).unwrap();
    assert_eq!(refusal(&layer, sealed(), bench.session()).await, Refusal::AccountDisabled);
    let (layer, _) = bench.build(&[("10.9.0.0/16", "alice")], Method::Address).unwrap();
    assert_eq!(refusal(&layer, sealed(), bench.session()).await, Refusal::Denied);
}

#[test]
fn errors_name_the_entry_and_what_to_write() {
    let bench = Bench::new(Vec::new());
    for (addresses, method, text) in [
        (&[("10.0.0.0/8", "a")][..], Method::Password, "layers.auth.addresses: "),
        (&[], Method::Address, "\"192.168.1.0/24\" = \"alice\""),
        (&[("10.0.0.1/8", "a")], Method::Address, "layers.auth.addresses.\"10.0.0.1/8\": "),
        (&[("10.0.0.1/8", "a")], Method::Address, "write \"10.0.0.0/8\""),
        (&[("10.0.0.1", "a"), ("10.0.0.1/32", "b")], Method::Address, "the same network"),
        (&[("10.0.0.1", "")], Method::Address, "the name of an account"),
    ] {
        let error = bench.build(addresses, method).err().expect(text).to_string();
        assert!(error.contains(text), "{error}");
    }
}
