//! What the tests of every protocol share: a front over stub layers, real sockets on loopback, and a login.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swiftproxy_core::BoxFuture;
use swiftproxy_core::account::{Account, AccountRate, AccountSpec, Accounts};
use swiftproxy_core::connection::Connection;
use swiftproxy_core::credentials::{Authenticator, Credentials};
use swiftproxy_core::endpoint::{AsStream, Endpoint, Tcp};
use swiftproxy_core::error::Refusal;
use swiftproxy_core::listener::Listener;
use swiftproxy_core::node::Node;
use swiftproxy_core::opened::{Engine, Opened};
use swiftproxy_core::registry::{Build, LayerConfig};
use swiftproxy_core::session::Session;
use swiftproxy_core::stack::{Front, Stack};
use swiftproxy_core::target::Host;
use swiftproxy_wire::tls::{Trust, client_config, pin_of, server_name};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Layer;

use crate::config::Config;

/// Knows `alice` with the password `open sesame`, and `dora`, who is disabled, with `shut`.
#[derive(Default)]
pub(crate) struct Passwords {
    accounts: Accounts,
    verified: AtomicUsize,
    /// How long a first verification takes.
    takes: Duration,
}

impl Passwords {
    /// The same, but a first verification takes a while.
    pub(crate) fn slow(takes: Duration) -> Self {
        Self { takes, ..Self::default() }
    }

    fn account(&self) -> Arc<Account> {
        let spec = AccountSpec {
            row: None,
            name: "alice".to_owned(),
            password: None,
            enabled: true,
            up: AccountRate::Limited(1000),
            down: AccountRate::Unlimited,
            weight: 1,
        };
        if self.accounts.is_empty() {
            self.accounts.set_file(vec![spec]);
        }
        self.accounts.get("alice").expect("just added")
    }
}

/// By reference, so that a test keeps hold of it.
pub(crate) struct Shared(pub(crate) Arc<Passwords>);

impl Authenticator for Shared {
    fn wants_password(&self, _: SocketAddr) -> bool {
        true
    }

    fn known(&self, _: SocketAddr, credentials: Option<&Credentials>) -> Option<Arc<Account>> {
        let credentials = credentials?;
        let right = &*credentials.name == "alice" && credentials.password.expose() == "open sesame";
        (right && self.0.verified.load(SeqCst) > 0).then(|| self.0.account())
    }

    fn verify(
        &self,
        _: SocketAddr,
        credentials: Option<Credentials>,
    ) -> BoxFuture<Result<Arc<Account>, Refusal>> {
        let passwords = self.0.clone();
        Box::pin(async move {
            if !passwords.takes.is_zero() {
                tokio::time::sleep(passwords.takes).await;
            }
            let credentials = credentials.ok_or(Refusal::AuthRequired)?;
            match (&*credentials.name, credentials.password.expose()) {
                ("alice", "open sesame") => {
                    passwords.verified.fetch_add(1, SeqCst);
                    Ok(passwords.account())
                }
                ("dora", "shut") => Err(Refusal::AccountDisabled),
                _ => Err(Refusal::AuthFailed),
            }
        })
    }
}

/// What came down the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) protocol: &'static str,
    pub(crate) target: String,
    pub(crate) account: Option<String>,
    pub(crate) credentials: Option<String>,
}

/// A front with its listener, over stub layers: a target `LABEL.refused` is refused with that label, `hang` is
/// never connected, an address on loopback is itself, and anything else is an echo.
pub(crate) struct Proxy {
    pub(crate) node: Arc<Node>,
    pub(crate) addr: SocketAddr,
    /// What serves its connections.
    pub(crate) front: crate::layer::Front,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    /// Dials that were given up.
    pub(crate) given_up: Arc<AtomicUsize>,
    /// Connections that were served to their ends.
    pub(crate) served: Arc<AtomicUsize>,
}

pub(crate) const BOUND: &str = "192.0.2.77:4711";

impl Proxy {
    pub(crate) async fn start(table: &str, passwords: Option<Passwords>) -> Self {
        let config: Config = serde_json::from_str(table).expect("a table");
        let node = Node::new("test");
        let listener = Listener::new(&node, "front");
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = socket.local_addr().expect("bound");
        let passwords = passwords.map(Arc::new);
        let mut build = Build::new(&node, &listener, addr, "layers.detect", std::path::Path::new("/"));
        build.authenticator =
            passwords.clone().map(|passwords| Arc::new(Shared(passwords)) as Arc<dyn Authenticator>);
        let layer = config.build(&mut build).expect("built");
        build.commit();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let given_up = Arc::new(AtomicUsize::new(0));
        let stack = stub(seen.clone(), given_up.clone(), passwords, echo().await);
        let inner = layer.layer(stack);
        let front = Front::new(inner.clone());
        let served = Arc::new(AtomicUsize::new(0));
        tokio::spawn({
            let (listener, served) = (listener.clone(), served.clone());
            async move {
                while let Ok((stream, client)) = socket.accept().await {
                    let serving = front.serve(Connection { stream, client, listener: listener.clone() });
                    let served = served.clone();
                    tokio::spawn(async move {
                        serving.await;
                        served.fetch_add(1, SeqCst);
                    });
                }
            }
        });
        Self { node, addr, front: inner, seen, given_up, served }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).await.expect("connected");
        stream.set_nodelay(true).expect("a socket");
        stream
    }

    /// Sends `bytes`, `step` at a time, and reads to the end; our own half is ended first where `end` says so.
    pub(crate) async fn talk(&self, bytes: &[u8], step: usize, end: bool) -> Vec<u8> {
        let mut stream = self.connect().await;
        for piece in bytes.chunks(step.max(1)) {
            // What was refused already takes no more.
            if stream.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if end {
            let _ = stream.shutdown().await;
        }
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        all
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("lock").clone()
    }

    pub(crate) fn refusals(&self, refusal: Refusal) -> u64 {
        self.node.refusals().find(|(known, _)| *known == refusal).expect("known").1
    }
}

/// A certificate for `localhost` in files of a directory that is gone with it.
pub(crate) struct Certificate {
    dir: tempfile::TempDir,
    pin: String,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).expect("written");
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).expect("written");
        Self { pin: pin_of(made.cert.der()).expect("a pin"), dir }
    }

    /// The layer's table that shows it.
    pub(crate) fn table(&self) -> String {
        let path = |name| self.dir.path().join(name);
        serde_json::json!({ "tls": { "cert": path("cert.pem"), "key": path("key.pem") } }).to_string()
    }

    /// A client's configuration that trusts it, for HTTP/2.
    pub(crate) fn client(&self) -> Arc<rustls::ClientConfig> {
        client_config(&Trust::Pins(self.pin.parse().expect("a pin"))).expect("a configuration")
    }

    /// A client's handshake over `stream`, offering those protocols.
    pub(crate) async fn connect<S>(&self, stream: S, alpn: &[&[u8]]) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = rustls::ClientConfig::clone(&self.client());
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = server_name("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

/// Waits, by yielding, until something is so.
pub(crate) async fn until(mut so: impl FnMut() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(5), async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    patience.await.expect("it never came to that");
}

fn stub(
    seen: Arc<Mutex<Vec<Seen>>>,
    given_up: Arc<AtomicUsize>,
    passwords: Option<Arc<Passwords>>,
    echo: SocketAddr,
) -> Stack {
    struct Dial(Arc<AtomicUsize>, bool);
    impl Drop for Dial {
        fn drop(&mut self) {
            if !self.1 {
                self.0.fetch_add(1, SeqCst);
            }
        }
    }
    Stack::new(tower::service_fn(move |mut session: Session| {
        let (seen, given_up, passwords) = (seen.clone(), given_up.clone(), passwords.clone());
        async move {
            let credentials = session.credentials.take();
            seen.lock().expect("lock").push(Seen {
                protocol: session.live().protocol,
                target: session.target().to_string(),
                account: session.account().map(|account| account.name().to_owned()),
                credentials: credentials
                    .as_ref()
                    .map(|sent| format!("{}:{}", sent.name, sent.password.expose())),
            });
            if let (None, Some(passwords)) = (session.account(), passwords) {
                let client = session.client();
                session.set_account(Shared(passwords).verify(client, credentials).await?);
            }
            if let Host::Domain(name) = &session.target().host {
                if let Some(label) = name.strip_suffix(".refused") {
                    return Err(Refusal::from_label(label).expect("a label"));
                }
                if &**name == "hang" {
                    let _dial = Dial(given_up, false);
                    std::future::pending::<()>().await;
                }
            }
            let own = session.target().addr().filter(|addr| addr.ip().is_loopback() && addr.port() != 0);
            let target = TcpStream::connect(own.unwrap_or(echo)).await.map_err(|_| Refusal::Refused)?;
            let bound = BOUND.parse().ok();
            Ok(Opened::new(session, bound, Box::new(Tcp::new(target)), Arc::new(Pump)))
        }
    }))
}

/// The plainest engine there is.
struct Pump;

impl Engine for Pump {
    fn run(&self, session: Session, client: Box<dyn Endpoint>, target: Box<dyn Endpoint>) -> BoxFuture<()> {
        Box::pin(async move {
            let _session = session;
            let (client_in, client_out) = tokio::io::split(AsStream(client));
            let (target_in, target_out) = tokio::io::split(AsStream(target));
            tokio::join!(pump(client_in, target_out), pump(target_in, client_out));
        })
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut into: impl AsyncWrite + Unpin) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if into.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    let _ = into.shutdown().await;
}

/// A target that greets with `hello ` and says everything back.
async fn echo() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                let (from, mut into) = stream.split();
                if into.write_all(b"hello ").await.is_ok() {
                    pump(from, into).await;
                }
            });
        }
    });
    addr
}
