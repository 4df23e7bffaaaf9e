//! A response on its way to the client.
//!
//! Invariant: a body that broke off at the origin is never ended as if it were whole. One piece of a body is held
//! at a time, until the client has taken it.

use std::sync::atomic::Ordering::Relaxed;

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use swiftproxy_core::error::Refusal;
use swiftproxy_wire::http1::{
    Framing, Persistence, RequestHead, encode_chunk_head, encode_last_chunk, encode_response, persistence,
    strip_hop_by_hop,
};
use swiftproxy_wire::refusal;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Turn;
use super::client::{Progress, Writer};
use super::forward::Body;
use crate::context::Context;

/// A piece of a body up to this long is copied beside others rather than written alone.
const SMALL: usize = 1 << 10;

/// How much is gathered before it is written, whatever comes next.
const MOST_GATHERED: usize = 16 << 10;

/// What becomes of the connection as far as client and node have a say.
pub(super) fn persistence_of(head: &RequestHead, ctx: &Context) -> Persistence {
    match ctx.listener.node().is_draining() {
        true => Persistence::Close,
        false => persistence(head.version, &head.headers),
    }
}

/// What someone hears who takes this proxy for a web server.
pub(super) fn not_a_server() -> Response<Bytes> {
    let text = "SwiftProxy: this is an HTTP proxy and not a web server: name it as the proxy in your client's \
                settings.\n";
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    *response.headers_mut() = refusal::headers(Refusal::Malformed);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An answer of our own, whole.
pub(super) fn encode_whole(answer: Response<Bytes>, method: &Method, keep: Persistence) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let length = Framing::Length(answer.body().len() as u64);
    encode_response(answer.status(), answer.headers(), length, keep, &mut out);
    if *method != Method::HEAD {
        out.extend_from_slice(answer.body());
    }
    out
}

/// How the body of the answer to a request of `method` is delimited for a client of `version` (RFC 9112 §6).
fn framing(method: &Method, version: Version, response: &Response<Body>) -> Framing {
    let status = response.status();
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return Framing::None;
    }
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        // The length that a GET would have had, if the origin says it.
        let said = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        return said.and_then(|length| length.parse().ok()).map_or(Framing::None, Framing::Length);
    }
    match response.body().size_hint().exact() {
        Some(length) => Framing::Length(length),
        None if version >= Version::HTTP_11 => Framing::Chunked,
        None => Framing::UntilClose,
    }
}

/// Writes a response from its head to its end.
pub(super) async fn write<S: AsyncRead + AsyncWrite>(
    writer: &mut Writer<S>,
    method: &Method,
    version: Version,
    keep: Persistence,
    response: Response<Body>,
    progress: &Progress,
) -> Turn {
    let framing = framing(method, version, &response);
    let keep = if framing == Framing::UntilClose { Persistence::Close } else { keep };
    let (head, mut body) = response.into_parts();
    let mut line = Vec::with_capacity(1024);
    encode_response(head.status, &head.headers, framing, keep, &mut line);
    let chunked = framing == Framing::Chunked;
    // A refusal of ours has a text, which the answer to HEAD leaves out like any other body.
    let bodiless = *method == Method::HEAD || framing == Framing::None;
    let mut trailers = HeaderMap::new();
    // Often the body's first piece is a turn of the origin's task away; head and piece then go out as one.
    let mut patient = !body.is_end_stream();
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            // Nothing there yet: what was gathered does not wait for it.
            () = std::future::ready(()), if !line.is_empty() => {
                if std::mem::take(&mut patient) {
                    tokio::task::yield_now().await;
                    continue;
                }
                progress.writes.fetch_add(1, Relaxed);
                if writer.say(&line).await.is_err() {
                    return Turn::Gone;
                }
                line.clear();
                continue;
            }
        };
        let data = match frame.map(|frame| frame.map(|frame| frame.into_data())) {
            None => break,
            Some(Err(_)) => {
                let _ = writer.say(&line).await;
                return Turn::Gone;
            }
            Some(Ok(Err(other))) => {
                trailers = other.into_trailers().unwrap_or_default();
                continue;
            }
            Some(Ok(Ok(data))) if data.is_empty() || bodiless => continue,
            Some(Ok(Ok(data))) => data,
        };
        let end: &[u8] = if chunked { b"\r\n" } else { b"" };
        if chunked {
            encode_chunk_head(data.len(), &mut line);
        }
        if data.len() <= SMALL && line.len() < MOST_GATHERED {
            line.extend_from_slice(&data);
            line.extend_from_slice(end);
            continue;
        }
        progress.writes.fetch_add(1, Relaxed);
        if writer.say_all(line.as_slice().chain(data).chain(end)).await.is_err() {
            return Turn::Gone;
        }
        line.clear();
    }
    if chunked {
        strip_hop_by_hop(&mut trailers);
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, HOST] {
            trailers.remove(name);
        }
        encode_last_chunk(&trailers, &mut line);
    }
    let written = if line.is_empty() { Ok(()) } else { writer.say(&line).await };
    super::said(written, keep)
}
