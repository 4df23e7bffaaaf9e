//! An origin server, over HTTP and HTTPS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// `GET /bytes/N` sends N bytes, `POST /echo` sends the body back, `GET /headers` lists the request's headers.
pub struct Origin {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where it listens for TLS, with a certificate of its own.
    pub tls: SocketAddr,
    _runtime: Runtime,
}

impl Origin {
    /// Starts one.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (addr, tls) = runtime.block_on(async {
            let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let tls = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let addrs = (plain.local_addr().expect("bound"), tls.local_addr().expect("bound"));
            tokio::spawn(accept(plain, None));
            tokio::spawn(accept(tls, Some(acceptor())));
            addrs
        });
        Self { addr, tls, _runtime: runtime }
    }

    /// A URL on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// A URL on its TLS port.
    pub fn https(&self, path: &str) -> String {
        format!("https://{}{path}", self.tls)
    }
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a configuration");
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        let tls = tls.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(answer);
            let http = hyper::server::conn::http1::Builder::new();
            // Clients that leave are part of the tests.
            let _ = match tls {
                None => http.serve_connection(TokioIo::new(stream), service).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => http.serve_connection(TokioIo::new(stream), service).await,
                    Err(_) => return,
                },
            };
        });
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let full = |text: String| Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    let size = path.strip_prefix("/bytes/").and_then(|size| size.parse::<u64>().ok());
    let body = match size {
        Some(size) => bytes(size),
        _ if path == "/echo" => request.into_body().boxed(),
        _ if path == "/headers" => {
            let lines = request.headers().iter();
            full(lines.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap_or("?"))).collect())
        }
        _ => full(format!("{} {}\n", request.method(), request.uri())),
    };
    let mut response = Response::new(body);
    if let Some(size) = size {
        response.headers_mut().insert(hyper::header::CONTENT_LENGTH, size.into());
    }
    Ok(response)
}

/// `size` bytes: each chunk's bytes are its number's, so a mix-up shows.
fn bytes(size: u64) -> Body {
    const CHUNK: u64 = 64 << 10;
    let chunks = (0..size.div_ceil(CHUNK)).map(move |at| {
        let n = CHUNK.min(size - at * CHUNK);
        Ok::<_, hyper::Error>(Frame::data(Bytes::from(vec![at as u8; n as usize])))
    });
    BodyExt::boxed(StreamBody::new(stream::iter(chunks)))
}
