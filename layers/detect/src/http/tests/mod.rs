//! Real sockets on loopback: a client that says bytes, origins that are played by hand, and the proxy between.

mod bodies;
mod connect;
mod curl;
mod forward;
mod lifetime;
mod refused;
mod switch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use swiftproxy_core::BoxFuture;
use swiftproxy_core::account::Account;
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
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::Layer;

use crate::config::Config;

/// `alice` and `open sesame`.
const ALICE: &str = "Proxy-Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU=\r\n";

/// Wants a password; the stub stack knows it.
struct Doorman;

impl Authenticator for Doorman {
    fn wants_password(&self, _: SocketAddr) -> bool {
        true
    }

    fn known(&self, _: SocketAddr, _: Option<&Credentials>) -> Option<Arc<Account>> {
        None
    }

    fn verify(&self, _: SocketAddr, _: Option<Credentials>) -> BoxFuture<Result<Arc<Account>, Refusal>> {
        Box::pin(std::future::ready(Err(Refusal::AuthFailed)))
    }
}

/// The proxy, over a stub stack: `LABEL.refused` is refused with that label, `hang.test` is never
/// connected, any other name is this machine, an address is itself.
struct Proxy {
    node: Arc<Node>,
    addr: SocketAddr,
    opened: Arc<AtomicUsize>,
    /// Connections that were served to their ends.
    served: Arc<AtomicUsize>,
}

impl Proxy {
    async fn open() -> Self {
        Self::start(false).await
    }

    async fn with_passwords() -> Self {
        Self::start(true).await
    }

    async fn start(passwords: bool) -> Self {
        let node = Node::new("test");
        let listener = Listener::new(&node, "front");
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = socket.local_addr().expect("bound");
        let mut build = Build::new(&node, &listener, addr, "layers.detect", std::path::Path::new("/"));
        build.authenticator = passwords.then(|| Arc::new(Doorman) as Arc<dyn Authenticator>);
        let layer = Config::default().build(&mut build).expect("built");
        build.commit();
        let opened = Arc::new(AtomicUsize::new(0));
        let stack = Stack::new(tower::service_fn({
            let opened = opened.clone();
            move |session| dial(session, passwords, opened.clone())
        }));
        let front = Front::new(layer.layer(stack));
        let served = Arc::new(AtomicUsize::new(0));
        tokio::spawn({
            let served = served.clone();
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
        Self { node, addr, opened, served }
    }

    async fn client(&self) -> Peer {
        Peer(TcpStream::connect(self.addr).await.expect("connected"))
    }

    /// A client that says `words` and hears all of the answer.
    async fn ask(&self, words: &str) -> String {
        let mut client = self.client().await;
        client.say(words).await;
        client.rest().await
    }

    /// Waits until so many connections were served to their ends.
    async fn served(&self, n: usize) {
        let served = async {
            while self.served.load(SeqCst) < n {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(served).await;
    }

    fn opened(&self) -> usize {
        self.opened.load(SeqCst)
    }
}

async fn dial(mut session: Session, passwords: bool, opened: Arc<AtomicUsize>) -> Result<Opened, Refusal> {
    let sent = session.credentials.take();
    match sent.as_ref().map(|sent| (&*sent.name, sent.password.expose())) {
        _ if !passwords => {}
        Some(("alice", "open sesame")) => {}
        Some(_) => return Err(Refusal::AuthFailed),
        None => return Err(Refusal::AuthRequired),
    }
    let addr = match &session.target().host {
        Host::Ip(ip) => SocketAddr::new(*ip, session.target().port),
        Host::Domain(name) => match name.strip_suffix(".refused") {
            Some(label) => return Err(Refusal::from_label(label).expect("a label")),
            None if &**name == "hang.test" => std::future::pending().await,
            None => ([127, 0, 0, 1], session.target().port).into(),
        },
    };
    let stream = TcpStream::connect(addr).await.map_err(|_| Refusal::Refused)?;
    opened.fetch_add(1, SeqCst);
    let bound = stream.local_addr().ok();
    Ok(Opened::new(session, bound, Box::new(Tcp::new(stream)), Arc::new(Pump)))
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

/// One end of a connection, played by hand; every wait is bounded.
struct Peer(TcpStream);

impl Peer {
    async fn say(&mut self, words: &str) {
        within(self.0.write_all(words.as_bytes())).await.expect("written");
    }

    /// Up to the empty line, in lower case.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match within(self.0.read_u8()).await {
                Ok(byte) => head.push(byte),
                Err(_) => panic!("a head that broke off: {:?}", String::from_utf8_lossy(&head)),
            }
        }
        String::from_utf8(head).expect("text").to_lowercase()
    }

    /// So many bytes.
    async fn body(&mut self, n: usize) -> String {
        let mut body = vec![0; n];
        within(self.0.read_exact(&mut body)).await.expect("a whole body");
        String::from_utf8(body).expect("text")
    }

    /// Up to and with those bytes.
    async fn up_to(&mut self, end: &str) -> String {
        let mut all = Vec::new();
        while !all.ends_with(end.as_bytes()) {
            all.push(within(self.0.read_u8()).await.expect("more"));
        }
        String::from_utf8(all).expect("text")
    }

    /// All that comes until the other end closes, or resets.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = within(self.0.read_to_end(&mut rest)).await;
        String::from_utf8_lossy(&rest).into_owned()
    }

    async fn end(&mut self) {
        self.0.shutdown().await.expect("ended");
    }

    /// Whether nothing comes for a little while.
    async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(100), self.0.read_u8()).await.is_err()
    }
}

/// An origin of its own.
struct Origin {
    socket: TcpListener,
    addr: SocketAddr,
}

impl Origin {
    async fn new() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = socket.local_addr().expect("bound");
        Self { socket, addr }
    }

    async fn accept(&self) -> Peer {
        Peer(within(self.socket.accept()).await.expect("accepted").0)
    }

    /// Whether nobody comes for a little while.
    async fn is_alone(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(100), self.socket.accept()).await.is_err()
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what).await.expect("in time")
}

/// The value of a field of a head in lower case.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
