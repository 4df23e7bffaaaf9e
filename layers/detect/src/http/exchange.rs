//! One forwarded request and its response, both ways at once.
//!
//! Invariant: neither way waits for the other, so an origin may answer before it has read everything and a client
//! may read late; whoever leaves ends both. Where the request was not read whole, nothing follows it on the
//! connection.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::header::EXPECT;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use swiftproxy_core::error::Refusal;
use swiftproxy_core::target::Target;
use swiftproxy_wire::http1::{
    BodyLength, Framing, Persistence, RequestHead, encode_response, expects_continue, strip_hop_by_hop,
    upgrade,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::client::{Progress, Reader, Writer};
use super::forward::{self, Ask, Body, Origin};
use super::upload::{Upload, UploadFault};
use super::{Turn, answer};
use crate::context::Context;

/// How many interim responses wait for the client; an origin that sends more of them at once loses those.
const HINTS: usize = 8;

/// The most of a refused request's body that is read so that the connection can go on.
const MOST_DISCARDED: usize = 64 << 10;

/// How long that may take.
const DISCARDING: Duration = Duration::from_secs(5);

/// An interim response (1xx).
type Hint = (StatusCode, HeaderMap);

/// Forwards one request, and its response.
pub(super) async fn serve<S: AsyncRead + AsyncWrite>(
    reader: &mut Reader<S>,
    writer: &mut Writer<S>,
    origin: &mut Option<Origin>,
    ctx: &Context,
    head: RequestHead,
    target: Target,
    path: PathAndQuery,
) -> Turn {
    let keep = answer::persistence_of(&head, ctx);
    let mut upload = Upload::new(head.body);
    let short = match head.body {
        BodyLength::Length(n) => n <= MOST_DISCARDED as u64,
        BodyLength::Chunked => false,
        BodyLength::None | BodyLength::UntilClose => true,
    };
    // One who holds the body back may leave it out once it is refused.
    let discardable = short && !expects_continue(head.version, &head.headers);
    let (method, version) = (head.method.clone(), head.version);
    let (pieces, body) = upload.body();
    let (hints, ask) = ask(ctx, head, target, path, Body::new(body));
    let progress = Progress::default();
    progress.uploaded.store(upload.is_done(), Relaxed);

    let down = async {
        let mut hints = hints;
        let response = match ask {
            Ok(ask) => {
                // Its room is given back before the response passes.
                let mut response = Box::pin(forward::relay(ctx, origin, ask));
                loop {
                    tokio::select! {
                        biased;
                        Some(hint) = hints.recv() => {
                            if say_hint(writer, version, hint, &progress).await.is_err() {
                                return Turn::Gone;
                            }
                        }
                        response = &mut response => break response,
                    }
                }
            }
            Err(refusal) => Err(ctx.count(refusal)),
        };
        while let Ok(hint) = hints.try_recv() {
            if say_hint(writer, version, hint, &progress).await.is_err() {
                return Turn::Gone;
            }
        }
        let uploaded = progress.uploaded.load(Relaxed);
        match response {
            Err(refusal) => {
                let keep = if uploaded || discardable { keep } else { Persistence::Close };
                progress.writes.fetch_add(1, Relaxed);
                super::refuse(writer, refusal, &method, keep).await
            }
            Ok(mut response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let switched = hyper::upgrade::on(&mut response);
                let mut out = Vec::with_capacity(512);
                let (status, fields) = (response.status(), response.headers());
                encode_response(status, fields, Framing::None, Persistence::KeepAlive, &mut out);
                match writer.say(&out).await {
                    Ok(()) => Turn::Switched(switched),
                    Err(_) => Turn::Gone,
                }
            }
            Ok(response) => {
                let keep = if uploaded && origin.is_some() { keep } else { Persistence::Close };
                let write = answer::write(writer, &method, version, keep, response, &progress);
                match origin {
                    None => write.await,
                    Some(origin) => tokio::select! {
                        biased;
                        turn = write => turn,
                        () = origin.cut() => Turn::Gone,
                    },
                }
            }
        }
    };
    let up = async {
        upload.run(reader, pieces).await?;
        progress.uploaded.store(upload.is_done(), Relaxed);
        reader.gone(&progress).await;
        Result::<(), _>::Err(UploadFault::Gone)
    };
    let end = tokio::select! {
        biased;
        turn = down => Ok(turn),
        fault = up => Err(fault.err().unwrap_or(UploadFault::Gone)),
    };
    match end {
        Ok(Turn::Next) if !upload.is_done() => {
            let whole = timeout(DISCARDING, upload.discard(reader, MOST_DISCARDED)).await;
            if whole.unwrap_or(false) { Turn::Next } else { Turn::Close }
        }
        Ok(turn) => turn,
        Err(UploadFault::Malformed) if progress.writes.load(Relaxed) == 0 => {
            *origin = None;
            super::refuse(writer, ctx.count(Refusal::Malformed), &method, Persistence::Close).await
        }
        Err(_) => Turn::Gone,
    }
}

/// The request as the origin gets it, and where its interim responses come out.
fn ask(
    ctx: &Context,
    head: RequestHead,
    target: Target,
    path: PathAndQuery,
    body: Body,
) -> (mpsc::Receiver<Hint>, Result<Ask, Refusal>) {
    let (sender, hints) = mpsc::channel(HINTS);
    let RequestHead { method, version, mut headers, body: length, .. } = head;
    let credentials = ctx.credentials(&headers);
    let bodiless = matches!(length, BodyLength::None | BodyLength::Length(0));
    let upgrade = upgrade(&headers).filter(|_| bodiless && version >= Version::HTTP_11).cloned();
    if version < Version::HTTP_11 {
        // RFC 9110 §10.1.1: of HTTP/1.0 an expectation means nothing.
        headers.remove(EXPECT);
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers;
    hyper::ext::on_informational(&mut request, move |hint| {
        let _ = sender.try_send((hint.status(), hint.headers().clone()));
    });
    (hints, credentials.map(|credentials| Ask { target, credentials, upgrade, request }))
}

/// Passes an interim response on; a client of HTTP/1.0 gets none (RFC 9110 §15.2).
async fn say_hint<S: AsyncRead + AsyncWrite>(
    writer: &mut Writer<S>,
    version: Version,
    (status, mut headers): Hint,
    progress: &Progress,
) -> std::io::Result<()> {
    if version < Version::HTTP_11 {
        return Ok(());
    }
    strip_hop_by_hop(&mut headers);
    let mut out = Vec::with_capacity(256);
    encode_response(status, &headers, Framing::None, Persistence::KeepAlive, &mut out);
    progress.writes.fetch_add(1, Relaxed);
    writer.say(&out).await
}

/// The methods whose requests may be sent twice (RFC 9110 §9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}
