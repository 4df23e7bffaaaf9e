//! A small origin on loopback, so that the printed lines work on a machine without internet.
//!
//! Invariant: what one request may ask for is bounded, and nothing is kept of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use swiftproxy_core::units;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// The most that `/bytes/N` sends.
const MOST: u64 = 100 << 30;
/// The most that `/echo` takes.
const MOST_ECHO: usize = 16 << 20;
const CONNECTIONS: usize = 256;
const CHUNK: usize = 64 << 10;

/// Binds it.
pub(crate) async fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await
}

/// Serves until it is aborted.
pub(crate) async fn serve(listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(async move {
            let service = hyper::service::service_fn(answer);
            // What fails here is a client that left.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

type Answer = Response<Either<Full<Bytes>, Pattern>>;

async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let answer = match (request.method(), path.split_once("/bytes/")) {
        (&Method::GET | &Method::HEAD, Some(("", size))) => match size_of(size) {
            Some(size) => sized(StatusCode::OK, Either::Right(Pattern { left: size })),
            None => text(
                StatusCode::BAD_REQUEST,
                "ask for /bytes/N with N a number of bytes, or a size such as 10MB (at most 100GiB)\n",
            ),
        },
        _ if path == "/echo" => echo(request).await,
        (&Method::GET | &Method::HEAD, _) if path == "/" => {
            text(StatusCode::OK, "SwiftProxy's demo origin: GET /bytes/10MB, POST /echo\n")
        }
        _ => text(StatusCode::NOT_FOUND, "there is only /bytes/N and /echo\n"),
    };
    Ok(answer)
}

fn size_of(text: &str) -> Option<u64> {
    let size = text.parse().or_else(|_| text.parse::<units::Bytes>().map(|size| size.0)).ok()?;
    (size <= MOST).then_some(size)
}

async fn echo(request: Request<Incoming>) -> Answer {
    match Limited::new(request.into_body(), MOST_ECHO).collect().await {
        Ok(body) => sized(StatusCode::OK, Either::Left(Full::new(body.to_bytes()))),
        Err(_) => text(StatusCode::PAYLOAD_TOO_LARGE, "/echo takes 16 MiB\n"),
    }
}

fn text(status: StatusCode, words: &'static str) -> Answer {
    sized(status, Either::Left(Full::new(Bytes::from_static(words.as_bytes()))))
}

fn sized(status: StatusCode, body: Either<Full<Bytes>, Pattern>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let kind = header::HeaderValue::from_static(match answer.body() {
        Either::Right(_) => "application/octet-stream",
        Either::Left(_) => "text/plain; charset=utf-8",
    });
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// So many bytes of nothing.
struct Pattern {
    left: u64,
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static ZEROS: [u8; CHUNK] = [0; CHUNK];
        let n = self.left.min(CHUNK as u64);
        self.left -= n;
        let chunk = ZEROS.get(..n as usize).filter(|chunk| !chunk.is_empty());
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(Bytes::from_static(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size_of("10"), Some(10));
        assert_eq!(size_of("10MB"), Some(10_000_000));
        assert_eq!(size_of("1.5MiB"), Some(3 << 19));
        assert_eq!(size_of("ten"), None);
        assert_eq!(size_of("200GiB"), None);
    }
}
