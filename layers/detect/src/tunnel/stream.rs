//! One stream of a tunnel: what it asks for, and how it is answered.
//!
//! Invariant: a CONNECT is answered with 200 once its target is connected (RFC 9113 §8.5), and a refusal with the
//! status and fields it has in HTTP/1.1 too.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use http::{HeaderValue, Method, Request, Response};
use swiftproxy_core::BoxFuture;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::opened::Opened;
use swiftproxy_wire::h2::{H2End, Queue};
use swiftproxy_wire::http1::parse_authority;
use swiftproxy_wire::proxy_status::{NAME, PROXY_STATUS};
use swiftproxy_wire::refusal;

use super::{account, forward};
use crate::context::Context;
use crate::layer::Next;

/// Serves one stream up to what is to be piped, or to its end.
pub(super) fn talk(
    ctx: Arc<Context>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    queue: Queue,
) -> BoxFuture<Next> {
    if *request.method() == Method::CONNECT {
        return Box::pin(connect(ctx, request, respond, queue));
    }
    if request.uri().path() == account::PATH {
        return Box::pin(about_account(ctx, request, respond));
    }
    Box::pin(async move {
        forward::serve(&ctx, request, respond, &queue).await;
        None
    })
}

async fn connect(
    ctx: Arc<Context>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    queue: Queue,
) -> Next {
    let opened = tokio::select! {
        biased;
        opened = open(&ctx, &request) => opened,
        // The client gave up, or is gone.
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return None,
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            answer(respond, refusal::response(refusal));
            return None;
        }
    };
    let send = respond.send_response(connected(&opened), false).ok()?;
    Some((opened, Box::new(H2End::new(send, request.into_body(), queue))))
}

/// What a client hears of a target that is connected.
pub(super) fn connected(opened: &Opened) -> Response<()> {
    let mut response = Response::new(());
    if let Some(bound) = opened.bound()
        && let Ok(status) = HeaderValue::try_from(format!("{NAME}; bound=\"{bound}\""))
    {
        response.headers_mut().insert(PROXY_STATUS, status);
    }
    response
}

/// Opens the session that a CONNECT asks for.
///
/// # Errors
/// Why not; it is counted already.
pub(super) async fn open<B>(ctx: &Context, request: &Request<B>) -> Result<Opened, Refusal> {
    if request.extensions().get::<Protocol>().is_some() {
        return Err(ctx.count(Refusal::UnsupportedCommand));
    }
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let target = parse_authority(authority.as_bytes(), None).map_err(|_| ctx.count(Refusal::Malformed))?;
    let credentials = ctx.credentials(request.headers()).map_err(|refusal| ctx.count(refusal))?;
    ctx.open("h2", target, credentials, None).await
}

async fn about_account(
    ctx: Arc<Context>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Next {
    let response = tokio::select! {
        biased;
        response = account::answer(&ctx, request.method(), request.headers()) => response,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return None,
    };
    answer(respond, response);
    None
}

/// Sends an answer that is in memory as a whole.
pub(super) fn answer(mut respond: SendResponse<Bytes>, response: Response<Bytes>) {
    let (head, body) = response.into_parts();
    let whole = body.is_empty();
    // What fails here is a client that is gone.
    if let Ok(mut send) = respond.send_response(Response::from_parts(head, ()), whole)
        && !whole
    {
        let _ = send.send_data(body, true);
    }
}
