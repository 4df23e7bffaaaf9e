//! The origin that real clients visit: plain, TLS and IPv6, files, ranges, uploads, trailers and a WebSocket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// `/bytes/N` (with ranges), `/echo`, `/headers`, `/status/N`, `/chunked/N` (with a trailer), `/ws` (an echo),
/// `/count` (how many requests this connection has brought), below `/files/` what is in the folder,
/// and below `/git/` its repositories by git's smart protocol.
pub(super) struct Site {
    /// HTTP on IPv4.
    pub(super) plain: SocketAddr,
    /// HTTPS on IPv4, for `localhost`, `127.0.0.1` and `::1`.
    pub(super) tls: SocketAddr,
    /// HTTP on IPv6.
    pub(super) six: SocketAddr,
    /// Connections taken so far on all ports.
    connections: Arc<AtomicU64>,
    folder: TempDir,
    _runtime: Runtime,
}

impl Site {
    /// Starts one.
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files = folder.path().join("files");
        std::fs::create_dir(&files).expect("writable");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let connections = Arc::new(AtomicU64::new(0));
        let acceptor = acceptor(folder.path());
        let listen = |bind: &'static str, tls: Option<TlsAcceptor>| {
            let (files, connections) = (files.clone(), connections.clone());
            runtime.block_on(async move {
                let listener = TcpListener::bind(bind).await.expect("a port");
                let addr = listener.local_addr().expect("bound");
                tokio::spawn(accept(listener, tls, files.into(), connections));
                addr
            })
        };
        Self {
            plain: listen("127.0.0.1:0", None),
            tls: listen("127.0.0.1:0", Some(acceptor)),
            six: listen("[::1]:0", None),
            connections,
            folder,
            _runtime: runtime,
        }
    }

    /// A URL on it.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.plain)
    }

    /// A URL on its TLS port.
    pub(super) fn https(&self, path: &str) -> String {
        format!("https://{}{path}", self.tls)
    }

    /// A URL with an IPv6 literal.
    pub(super) fn six(&self, path: &str) -> String {
        format!("http://{}{path}", self.six)
    }

    /// Connections taken so far.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// What is served below `/files/`.
    pub(super) fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// Its certificate, as clients take it to trust it.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.path().join("site.pem")
    }
}

/// Body of `/bytes/N`: each chunk's bytes are its number's, so that a mix-up shows.
pub(super) fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at >> 16) as u8).collect()
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let names = ["localhost".into(), "127.0.0.1".into(), "::1".into()];
    let mut params = rcgen::CertificateParams::new(names.to_vec()).expect("names");
    // A name of its own, or OpenSSL takes the remote's certificate for it.
    params.distinguished_name.push(rcgen::DnType::CommonName, "the site");
    let key = rcgen::KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate");
    std::fs::write(folder.join("site.pem"), cert.pem()).expect("writable");
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a configuration");
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    files: Arc<Path>,
    connections: Arc<AtomicU64>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Relaxed);
        let (tls, files) = (tls.clone(), files.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, files).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, files).await;
                    }
                }
            }
        });
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, files: Arc<Path>) {
    let requests = AtomicU64::new(0);
    let service = hyper::service::service_fn(|request| {
        let count = requests.fetch_add(1, Relaxed) + 1;
        answer(request, files.clone(), count)
    });
    let http = hyper::server::conn::http1::Builder::new();
    // Clients that leave are part of the tests.
    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

type Body = BoxBody<Bytes, hyper::Error>;

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

async fn answer(
    request: Request<Incoming>,
    files: Arc<Path>,
    count: u64,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let number = |prefix: &str| path.strip_prefix(prefix)?.parse::<u64>().ok();
    if let Some(size) = number("/bytes/") {
        return Ok(ranged(request.headers(), size));
    }
    if let Some(size) = number("/chunked/") {
        let trailer = HeaderMap::from_iter([("x-sum".parse().expect("a name"), HeaderValue::from(size))]);
        let frames = chunks(0, size).chain(stream::iter([Ok(Frame::trailers(trailer))]));
        let response = Response::builder().header("trailer", "x-sum");
        return Ok(response.body(BodyExt::boxed(StreamBody::new(frames))).expect("valid"));
    }
    if let Some(status) = number("/status/") {
        let status = StatusCode::from_u16(status as u16).unwrap_or(StatusCode::BAD_REQUEST);
        return Ok(Response::builder().status(status).body(full("")).expect("valid"));
    }
    Ok(match path.as_str() {
        // The whole body first, or a client that waits for 100 (Continue) would get its answer before it.
        "/echo" => match request.into_body().collect().await {
            Ok(body) => Response::new(full(body.to_bytes())),
            Err(_) => Response::builder().status(400).body(full("the body was cut off\n")).expect("valid"),
        },
        "/count" => Response::new(full(format!("{count}\n"))),
        "/ws" => upgrade(request),
        "/headers" => {
            let lines = request.headers().iter();
            let lines = lines.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap_or("?")));
            Response::new(full(lines.collect::<String>()))
        }
        _ if path.starts_with("/git/") => {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await else { return Ok(Response::new(full(""))) };
            let (response, body) = super::cgi::git(&files, &head, &body.to_bytes());
            response.body(full(body)).expect("valid")
        }
        _ if path.starts_with("/files/") => file(&files, &path, request.method()),
        _ => Response::new(full(format!("{} {}\n", request.method(), request.uri()))),
    })
}

/// One range of the form `bytes=A-B` or `bytes=A-` (RFC 9110 §14.2), or all.
fn ranged(headers: &HeaderMap, size: u64) -> Response<Body> {
    let range = headers.get("range").and_then(|range| {
        let (from, to) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse::<u64>().ok()?, to.parse::<u64>().map_or(size, |to| (to + 1).min(size))))
    });
    let (from, to) = range.unwrap_or((0, size));
    let mut response =
        Response::builder().header("content-length", to - from).header("accept-ranges", "bytes");
    if range.is_some() {
        response = response.status(206).header("content-range", format!("bytes {from}-{}/{size}", to - 1));
    }
    response.body(BodyExt::boxed(StreamBody::new(chunks(from, to)))).expect("valid")
}

fn chunks(from: u64, to: u64) -> impl stream::Stream<Item = Result<Frame<Bytes>, hyper::Error>> + Send {
    stream::unfold(from, move |at| async move {
        let n = (65_536 - at % 65_536).min(to.saturating_sub(at));
        let frame = Frame::data(Bytes::from(vec![(at >> 16) as u8; n as usize]));
        (n > 0).then_some((Ok(frame), at + n))
    })
}

/// Everything below the folder, of a length known beforehand.
fn file(files: &Path, path: &str, method: &Method) -> Response<Body> {
    let name = path.trim_start_matches("/files/");
    let name = if name.ends_with('/') { format!("{name}index.html") } else { name.to_owned() };
    let body = (!name.contains("..")).then(|| std::fs::read(files.join(&name))).and_then(Result::ok);
    match body {
        Some(body) if method == Method::GET || method == Method::HEAD => {
            let html = name.ends_with(".html");
            let kind = if html { "text/html; charset=utf-8" } else { "application/octet-stream" };
            Response::builder().header("content-type", kind).body(full(body)).expect("valid")
        }
        _ => Response::builder().status(404).body(full("no such file\n")).expect("valid"),
    }
}

/// A WebSocket that sends back what it is sent (RFC 6455).
fn upgrade(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get("sec-websocket-key").cloned() else {
        return Response::builder().status(426).body(full("")).expect("valid");
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let response =
        Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
    response.header("sec-websocket-accept", derive_accept_key(key.as_bytes())).body(full("")).expect("valid")
}
