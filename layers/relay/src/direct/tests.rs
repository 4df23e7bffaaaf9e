//! The relay against listeners, closed ports and rules on loopback.

use std::path::Path;

use swiftproxy_core::listener::Listener;
use swiftproxy_core::node::Node;
use swiftproxy_core::session::AddressRule;
use swiftproxy_core::target::Target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::*;

struct Rig {
    node: Arc<Node>,
    listener: Arc<Listener>,
}

impl Rig {
    fn new() -> Self {
        let node = Node::new("test");
        let listener = Listener::new(&node, "test");
        Self { node, listener }
    }

    fn build(&self, config: Config) -> Result<Direct, BuildError> {
        let bind = "127.0.0.1:0".parse().unwrap();
        config.build(&mut Build::new(&self.node, &self.listener, bind, "relays.direct", Path::new(".")))
    }

    fn session(&self, target: &str) -> Session {
        let target: Target = target.parse().unwrap();
        Session::admit(&self.listener, "127.0.0.1:1".parse().unwrap(), "socks5", target).unwrap()
    }

    async fn dial(&self, config: Config, target: &str) -> Result<Opened, Refusal> {
        self.build(config).unwrap().call(self.session(target)).await
    }
}

/// A port on which nobody listens.
fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

struct Deny(fn(SocketAddr) -> bool);

impl AddressRule for Deny {
    fn check(&self, _: &Target, addr: SocketAddr) -> Result<(), Refusal> {
        if (self.0)(addr) { Err(Refusal::DeniedAddress) } else { Ok(()) }
    }
}

#[tokio::test]
async fn it_connects_says_from_where_and_pipes() {
    let rig = Rig::new();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr().unwrap();
    for target in [addr.to_string(), format!("localhost:{}", addr.port())] {
        let opened = rig.dial(Config::default(), &target).await.unwrap();
        let (mut far, peer) = server.accept().await.unwrap();
        assert_eq!(opened.bound(), Some(peer));
        assert_eq!(opened.session().live().dialled(), Some(addr));
        let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(near.local_addr().unwrap()).await.unwrap();
        let task = tokio::spawn(opened.run(Box::new(Tcp::new(near.accept().await.unwrap().0))));
        client.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        drop((far, client));
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_closed_port_refuses_by_address_and_by_name() {
    let (_kept, port) = closed_port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let refused = Rig::new().dial(Config::default(), &format!("{host}:{port}")).await;
        assert_eq!(refused.err(), Some(Refusal::Refused), "{host}");
    }
    assert_eq!(Rig::new().dial(Config::default(), "127.0.0.1:0").await.err(), Some(Refusal::Refused));
    assert_eq!(Rig::new().dial(Config::default(), "localhost:0").await.err(), Some(Refusal::Refused));
}

#[tokio::test]
async fn a_name_that_is_none_does_not_resolve() {
    let refused = Rig::new().dial(Config::default(), "no-such-name.invalid:80").await;
    assert_eq!(refused.err(), Some(Refusal::DnsFailed));
}

#[tokio::test]
async fn denied_addresses_are_not_dialled() {
    let rig = Rig::new();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let mut session = rig.session(&format!("{host}:{port}"));
        session.judge_addresses(Arc::new(Deny(|addr| addr.ip().to_canonical().is_loopback())));
        let refused = rig.build(Config::default()).unwrap().call(session).await;
        assert_eq!(refused.err(), Some(Refusal::DeniedAddress), "{host}");
    }
    rig.node.set_own(vec![server.local_addr().unwrap()]);
    let refused = rig.dial(Config::default(), &format!("localhost:{port}")).await;
    assert_eq!(refused.err(), Some(Refusal::Loop));
    let accepted = tokio::time::timeout(Duration::from_millis(50), server.accept()).await;
    assert!(accepted.is_err(), "it was dialled");
}

#[tokio::test]
async fn it_dials_from_the_address_it_is_told() {
    let rig = Rig::new();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = server.local_addr().unwrap().to_string();
    let config = Config { bind: Some("127.0.0.2".parse().unwrap()), ..Config::default() };
    let opened = rig.dial(config, &target).await.unwrap();
    assert_eq!(opened.bound().unwrap().ip(), "127.0.0.2".parse::<IpAddr>().unwrap());
    let config = Config { bind: Some("::1".parse().unwrap()), ..Config::default() };
    assert_eq!(rig.dial(config, &target).await.err(), Some(Refusal::UnreachableNet));
}

/// A listener whose queue is full, so that nobody's SYN is answered.
async fn silent() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let listener = socket.listen(1).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(addr)).await {
        queued.push(stream.unwrap());
    }
    (listener, queued, addr)
}

#[tokio::test]
async fn a_target_that_does_not_answer_is_given_up_in_time() {
    let (_listener, _queued, addr) = silent().await;
    let rig = Rig::new();
    let config = Config { connect_timeout: Span::millis(100), ..Config::default() };
    assert_eq!(rig.dial(config, &addr.to_string()).await.err(), Some(Refusal::Timeout));
    // And at once where the account is disabled meanwhile.
    let session = rig.session(&addr.to_string());
    let live = session.live().clone();
    let dialling = tokio::spawn(rig.build(Config::default()).unwrap().call(session));
    tokio::task::yield_now().await;
    live.cancel.fire(Reason::Disabled);
    let refused = tokio::time::timeout(Duration::from_secs(1), dialling).await.unwrap().unwrap();
    assert_eq!(refused.err(), Some(Refusal::AccountDisabled));
}

#[tokio::test]
async fn the_next_address_is_tried_soon_and_the_first_to_connect_wins() {
    let (_listener, _queued, silent) = silent().await;
    let (_kept, closed) = closed_port();
    let closed: SocketAddr = ([127, 0, 0, 1], closed).into();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = server.local_addr().unwrap();
    let start = Instant::now();
    let (addr, _) = eyeballs::race(&[closed, silent, good], None).await.unwrap();
    assert_eq!(addr, good);
    let took = start.elapsed();
    assert!((240..1000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(eyeballs::race(&[closed, closed], None).await.err(), Some(Refusal::Refused));
}

#[tokio::test]
async fn an_idle_session_ends_where_that_is_asked_for() {
    let rig = Rig::new();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = server.local_addr().unwrap().to_string();
    let config = Config { idle_timeout: Some(Span::secs(5)), ..Config::default() };
    let opened = rig.dial(config, &target).await.unwrap();
    let now = Instant::now();
    rig.node.sessions.sweep(now);
    rig.node.sessions.sweep(now + Duration::from_secs(6));
    assert_eq!(opened.session().live().cancel.reason(), Some(Reason::Idle));
}

/// What the kernel has a timer for on the connection from one address to another; 2 is keepalive (proc_net_tcp in the
/// kernel's documentation).
#[cfg(target_os = "linux")]
fn timer(from: SocketAddr, to: SocketAddr) -> Option<u8> {
    let ends = [from, to].map(|end| match end {
        SocketAddr::V4(end) => format!("{:08X}:{:04X}", u32::from_ne_bytes(end.ip().octets()), end.port()),
        SocketAddr::V6(end) => panic!("{end}"),
    });
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut ours = fields.filter(|fields| fields.get(1..3).is_some_and(|found| found == ends));
    ours.find_map(|fields| fields[5].split(':').next()?.parse().ok())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_session_that_lasts_has_keepalive_and_no_other() {
    let rig = Rig::new();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr().unwrap();
    let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(near.local_addr().unwrap()).await.unwrap();
    let mut client = Some(near.accept().await.unwrap().0);
    for piped in [true, false] {
        let start = Instant::now();
        let opened = rig.dial(Config::default(), &addr.to_string()).await.unwrap();
        let from = opened.bound().unwrap();
        let running = match client.take_if(|_| piped) {
            Some(client) => tokio::spawn(opened.run(Box::new(Tcp::new(client)))),
            None => tokio::spawn(async move { drop(opened.into_stream().read(&mut [0]).await) }),
        };
        tokio::task::yield_now().await;
        rig.node.sessions.sweep(start + Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert_ne!(timer(from, addr), Some(2), "piped: {piped}");
        rig.node.sessions.sweep(Instant::now() + Duration::from_secs(6));
        let kept = async {
            while timer(from, addr) != Some(2) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), kept).await.expect("keepalive");
        running.abort();
    }
}

#[test]
fn tables_that_cannot_be() {
    let rig = Rig::new();
    let short = Span::millis(10);
    for (key, config) in [
        ("connect_timeout", Config { connect_timeout: Span::millis(0), ..Config::default() }),
        ("keepalive", Config { keepalive: short, ..Config::default() }),
        ("idle_timeout", Config { idle_timeout: Some(short), ..Config::default() }),
    ] {
        assert_eq!(rig.build(config).err().map(|error| error.key), Some(format!("relays.direct.{key}")));
    }
}
