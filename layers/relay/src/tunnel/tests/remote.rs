//! A remote in miniature: TLS, HTTP/2, Basic credentials, an account, and targets by name.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::PROXY_AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use swiftproxy_core::endpoint::{AsStream, Endpoint};
use swiftproxy_core::error::Refusal;
use swiftproxy_wire::h2::{H2End, Queue, server_builder};
use swiftproxy_wire::lean::{self, Responder};
use swiftproxy_wire::record::{self, Accepted};
use swiftproxy_wire::tls::{ALPN_H2, pin_of, server_config};
use swiftproxy_wire::{basic, proxy_status, refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What the remote answers with to any question for the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// Name and password are looked at.
    Asked,
    /// That refusal.
    Refused(Refusal),
    /// As a proxy that has never heard of it.
    Foreign,
}

pub(super) struct TestRemote {
    pub(super) addr: SocketAddr,
    pub(super) pin: String,
    /// How many connections came.
    pub(super) came: Arc<AtomicUsize>,
    shared: Arc<Shared>,
    tls: TlsAcceptor,
    lean: bool,
    serving: Option<tokio::task::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    account: Mutex<Account>,
    password: Mutex<String>,
    /// How many more CONNECT requests are refused as by one that shuts down.
    stopping: AtomicUsize,
}

impl TestRemote {
    pub(super) async fn start() -> Self {
        let mut remote = Self::prepare("127.0.0.1:0".parse().unwrap()).await;
        remote.serve().await;
        remote
    }

    /// One that knows the lean engine.
    pub(super) async fn start_lean() -> Self {
        let mut remote = Self::prepare("127.0.0.1:0".parse().unwrap()).await;
        remote.lean = true;
        remote.serve().await;
        remote
    }

    /// A remote that does not listen yet, at a port of its own.
    pub(super) async fn asleep() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self::prepare(addr).await
    }

    async fn prepare(addr: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let shared = Shared {
            account: Mutex::new(Account::Asked),
            password: Mutex::new("secret".to_owned()),
            stopping: AtomicUsize::new(0),
        };
        Self {
            addr,
            pin: pin_of(made.cert.der()).unwrap(),
            came: Arc::default(),
            shared: Arc::new(shared),
            tls: TlsAcceptor::from(server_config(&cert, &key).unwrap()),
            lean: false,
            serving: None,
        }
    }

    pub(super) fn set_account(&self, account: Account) {
        *self.shared.account.lock().unwrap() = account;
    }

    pub(super) fn set_password(&self, password: &str) {
        *self.shared.password.lock().unwrap() = password.to_owned();
    }

    /// Answers the next CONNECT requests as a remote that shuts down.
    pub(super) fn refuse_next(&self, n: usize) {
        self.shared.stopping.store(n, Relaxed);
    }

    pub(super) fn came(&self) -> usize {
        self.came.load(Relaxed)
    }

    /// Listens at its port, again if need be.
    pub(super) async fn serve(&mut self) {
        let listener = TcpListener::bind(self.addr).await.unwrap();
        self.addr = listener.local_addr().unwrap();
        let (tls, came, shared) = (self.tls.clone(), self.came.clone(), self.shared.clone());
        let lean = self.lean;
        self.serving = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                came.fetch_add(1, Relaxed);
                if lean {
                    connections.spawn(serve_lean(tls.clone(), stream, shared.clone()));
                } else {
                    connections.spawn(serve(tls.clone(), stream, shared.clone()));
                }
            }
        }));
    }

    /// Ends at once, with all its connections.
    pub(super) async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }
}

async fn serve(tls: TlsAcceptor, stream: TcpStream, shared: Arc<Shared>) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let Ok(mut connection) = server_builder().handshake::<_, Bytes>(stream).await else { return };
    let mut streams = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        streams.spawn(answer(Request::from_parts(head, ()), Respond::H2(respond, body), shared.clone()));
    }
}

async fn serve_lean(tls: TlsAcceptor, stream: TcpStream, shared: Arc<Shared>) {
    let accepted = record::accept(stream, Vec::new(), tls.config().clone(), ALPN_H2).await;
    let Ok(Accepted::Channel(mut channel)) = accepted else { return };
    if !lean::knows(&mut channel).await.is_ok_and(|knows| knows) {
        return;
    }
    let (mut server, driver) = lean::serve(channel, super::super::silence::WATCH, &lean::Budget::default());
    let mut streams = JoinSet::new();
    streams.spawn(async move {
        driver.await;
    });
    while let Some((request, respond)) = server.accept().await {
        streams.spawn(answer(request, Respond::Lean(respond), shared.clone()));
    }
}

/// Who answers a request, by either engine.
enum Respond {
    H2(SendResponse<Bytes>, RecvStream),
    Lean(Responder),
}

impl Respond {
    fn with(self, response: Response<()>, end: bool) -> Box<dyn Endpoint> {
        match self {
            Self::H2(mut respond, body) => {
                let send = respond.send_response(response, end).unwrap();
                Box::new(H2End::new(send, body, Queue::default()))
            }
            Self::Lean(respond) => Box::new(respond.respond(&response, end).unwrap()),
        }
    }
}

fn refuse(respond: Respond, refusal: Refusal) {
    let mut response = Response::new(());
    *response.status_mut() = refusal::status(refusal);
    *response.headers_mut() = refusal::headers(refusal);
    respond.with(response, true);
}

fn knows(headers: &HeaderMap, shared: &Shared) -> bool {
    let sent = headers.get(PROXY_AUTHORIZATION).and_then(|value| basic::parse(value.as_bytes()).ok());
    sent.is_some_and(|sent| {
        &*sent.name == "alice" && sent.password.expose() == *shared.password.lock().unwrap()
    })
}

async fn answer(request: Request<()>, respond: Respond, shared: Arc<Shared>) {
    let account = *shared.account.lock().unwrap();
    match account {
        Account::Refused(refusal) => return refuse(respond, refusal),
        Account::Asked | Account::Foreign if !knows(request.headers(), &shared) => {
            return refuse(respond, Refusal::AuthFailed);
        }
        Account::Asked | Account::Foreign => {}
    }
    if request.method() == Method::CONNECT {
        let stopping = shared.stopping.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if stopping.is_ok() {
            return refuse(respond, Refusal::Draining);
        }
        let authority = request.uri().authority().unwrap().to_string();
        return connect(&authority, respond).await;
    }
    if account == Account::Foreign {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NOT_FOUND;
        respond.with(response, true);
        return;
    }
    assert_eq!(request.uri().path(), "/.well-known/swiftproxy/account");
    assert!(request.headers().contains_key("authorization"));
    let view = r#"{"name":"alice","rate_up":null,"rate_down":1000,"up":1,"down":2}"#;
    let mut stream = AsStream(respond.with(Response::new(()), false));
    let _ = stream.write_all(view.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Targets by name: `LABEL.refuse` refuses so, `CODE.status` answers that status alone, the others connect.
async fn connect(authority: &str, respond: Respond) {
    let (host, _) = authority.rsplit_once(':').unwrap();
    if let Some(refusal) = host.strip_suffix(".refuse").and_then(Refusal::from_label) {
        return refuse(respond, refusal);
    }
    let mut response = Response::new(());
    if let Some(code) = host.strip_suffix(".status") {
        *response.status_mut() = code.parse().unwrap();
        respond.with(response, true);
        return;
    }
    if host == "never.example" {
        return std::future::pending().await;
    }
    let bound = "swiftproxy; bound=\"192.0.2.7:4711\"".parse().unwrap();
    response.headers_mut().insert(proxy_status::PROXY_STATUS, bound);
    let mut end = respond.with(response, false);
    if host == "reset.example" {
        let _ = std::future::poll_fn(|cx| end.poll_readable(cx)).await;
        end.reset();
        return;
    }
    let mut stream = AsStream(end);
    if host == "reverse.example" {
        // Answers only once all was said.
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).await.is_ok() {
            all.reverse();
            let _ = stream.write_all(&all).await;
            let _ = stream.shutdown().await;
        }
        return;
    }
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        if stream.write_all(&chunk[..n]).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}
