//! The origin's side of forwarding: one connection to one origin, kept for the requests that follow.
//!
//! Invariant: an origin's connection belongs to one client connection, one target and one set of credentials; it
//! ends with its owner. Nothing hop-by-hop crosses in either direction, and a message whose framing hyper would
//! read differently from what it says is not passed on.

use std::error::Error;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, MAX_FORWARDS, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::live::Live;
use swiftproxy_core::target::Target;
use swiftproxy_wire::http1::{parse_authority, print_authority, strip_hop_by_hop, upgrade};
use swiftproxy_wire::proxy_status::{self, PROXY_STATUS};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::exchange::is_idempotent;
use crate::context::{Context, refusal_of};

/// Whatever goes wrong with a body.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A message's body, of either direction.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The most bytes of a response's head, and of what waits on its way to an origin.
const BUFFER: usize = 64 << 10;

/// The most fields of a response's head.
const MOST_FIELDS: usize = 256;

/// A request for an origin.
pub(super) struct Ask {
    pub(super) target: Target,
    pub(super) credentials: Option<Credentials>,
    /// What the client would change to.
    pub(super) upgrade: Option<HeaderValue>,
    /// Its URI is what the origin is asked for; its fields are as they came, with the origin's `Host`.
    pub(super) request: Request<Body>,
}

/// A connection to an origin.
pub(crate) struct Origin {
    target: Target,
    credentials: Option<Credentials>,
    sender: SendRequest<Body>,
    live: Arc<Live>,
    /// Whether the connection may be on its way to another protocol.
    switching: Arc<AtomicBool>,
    /// Told when the session was ended from outside.
    cut: oneshot::Receiver<()>,
    /// The task that moves the connection's bytes.
    driver: JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.live.set_outcome("done");
        self.driver.abort();
    }
}

impl Origin {
    async fn open(ctx: &Context, target: Target, credentials: Option<Credentials>) -> Result<Self, Refusal> {
        let opened = ctx.open("http", target.clone(), credentials.clone(), None).await?;
        let live = opened.session().live().clone();
        let (sender, connection) = Builder::new()
            .max_buf_size(BUFFER)
            .max_headers(MOST_FIELDS)
            .title_case_headers(true)
            .handshake(TokioIo::new(opened.into_stream()))
            .await
            .map_err(|_| Refusal::Internal)?;
        let switching = Arc::new(AtomicBool::new(false));
        let (told, cut) = oneshot::channel();
        let driver = tokio::spawn({
            let (live, switching) = (live.clone(), switching.clone());
            async move {
                let mut connection = std::pin::pin!(connection.with_upgrades());
                // Looked at here as well, for hyper asks the connection nothing while a client does not read.
                let end = poll_fn(|cx| match live.cancel.poll(cx) {
                    Poll::Ready(reason) => Poll::Ready(Err(reason.label())),
                    Poll::Pending => connection.as_mut().poll(cx).map_err(|_| "failed"),
                });
                match end.await {
                    Ok(()) if switching.load(Relaxed) => {}
                    Ok(()) => live.set_outcome("done"),
                    Err(label) => live.set_outcome(label),
                }
                if live.cancel.reason().is_some() {
                    let _ = told.send(());
                }
            }
        });
        Ok(Self { target, credentials, sender, live, switching, cut, driver })
    }

    /// Waits until the session is ended from outside.
    pub(crate) async fn cut(&mut self) {
        // A task that ended otherwise tells nothing.
        if self.cut.is_terminated() || (&mut self.cut).await.is_err() {
            pending().await
        }
    }
}

/// Forwards a request with an absolute URI, such as an HTTP/2 client sends to a proxy, over `origin` where that is
/// the right one and still there. The request's `Proxy-Authorization` says who asks. Interim responses go to what
/// [`hyper::ext::on_informational`] hung on the request.
///
/// # Errors
/// Why no origin was asked. One that was asked and failed is a response of 502.
pub(crate) async fn exchange(
    ctx: &Context,
    origin: &mut Option<Origin>,
    mut request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    if request.uri().scheme_str() != Some("http") {
        return Err(ctx.count(Refusal::UnsupportedCommand));
    }
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let target =
        parse_authority(authority.as_bytes(), Some(80)).map_err(|_| ctx.count(Refusal::Malformed))?;
    let host = HeaderValue::try_from(print_authority(&target)).map_err(|_| Refusal::Malformed)?;
    let credentials = ctx.credentials(request.headers()).map_err(|refusal| ctx.count(refusal))?;
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    request.headers_mut().insert(HOST, host);
    relay(ctx, origin, Ask { target, credentials, upgrade: None, request }).await
}

/// Forwards a request.
///
/// # Errors
/// As of [`exchange`].
pub(super) async fn relay(
    ctx: &Context,
    origin: &mut Option<Origin>,
    mut ask: Ask,
) -> Result<Response<Body>, Refusal> {
    if let Some(answer) = last_hop(&mut ask.request) {
        return Ok(answer);
    }
    prepare(&mut ask)?;
    let Ask { target, credentials, upgrade, mut request } = ask;
    let asked = upgrade.is_some();
    let kept = origin.take().filter(|kept| kept.target == target && kept.credentials == credentials);
    if let Some(mut kept) = kept
        && kept.live.cancel.reason().is_none()
        && kept.sender.ready().await.is_ok()
    {
        let spare = spare(&request);
        kept.switching.store(asked, Relaxed);
        match kept.sender.try_send_request(request).await {
            Ok(response) => return Ok(finish(origin, kept, response, asked)),
            Err(mut failed) => match (kept.live.cancel.reason(), failed.take_message().or(spare)) {
                (Some(reason), _) => return Err(ctx.count(refusal_of(reason))),
                // It was dead before it could have heard of the request, or asking twice is harmless.
                (None, Some(again)) => request = again,
                (None, None) => return Ok(fault(failed.error())),
            },
        }
    }
    let mut fresh = Origin::open(ctx, target, credentials).await?;
    fresh.switching.store(asked, Relaxed);
    match fresh.sender.send_request(request).await {
        Ok(response) => Ok(finish(origin, fresh, response, asked)),
        Err(error) => match fresh.live.cancel.reason() {
            Some(reason) => Err(ctx.count(refusal_of(reason))),
            None => Ok(fault(&error)),
        },
    }
}

/// What `Max-Forwards` asks of us (RFC 9110 §7.6.2).
fn last_hop(request: &mut Request<Body>) -> Option<Response<Body>> {
    if *request.method() != Method::OPTIONS && *request.method() != Method::TRACE {
        return None;
    }
    let left: u64 = request.headers().get(MAX_FORWARDS)?.to_str().ok()?.parse().ok()?;
    if let Some(left) = left.checked_sub(1) {
        request.headers_mut().insert(MAX_FORWARDS, left.into());
        return None;
    }
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    if *request.method() == Method::TRACE {
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    }
    let allowed = HeaderValue::from_static("CONNECT, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    answer.headers_mut().insert(ALLOW, allowed);
    Some(answer)
}

/// Makes a request of this hop one of the next.
fn prepare(ask: &mut Ask) -> Result<(), Refusal> {
    let request = &mut ask.request;
    *request.version_mut() = Version::HTTP_11;
    let bodiless = request.body().is_end_stream();
    let headers = request.headers_mut();
    let trailers = headers.get_all(TE).iter().any(|te| {
        te.as_bytes()
            .split(|byte| *byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    strip_hop_by_hop(headers);
    if bodiless && headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
        return Err(Refusal::Malformed);
    }
    if !bodiless && !headers.contains_key(CONTENT_LENGTH) {
        // Said here, for hyper takes a GET of unknown length for one without a body.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    // An upgrade to HTTP/2 would carry requests that nobody here reads.
    ask.upgrade.take_if(|protocols| mentions_h2c(protocols));
    if let Some(protocols) = &ask.upgrade {
        headers.insert(UPGRADE, protocols.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("TE"));
    }
    Ok(())
}

fn mentions_h2c(protocols: &HeaderValue) -> bool {
    protocols
        .as_bytes()
        .split(|byte| *byte == b',')
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// The same request again, where asking twice does nothing more than asking once.
fn spare(request: &Request<Body>) -> Option<Request<Body>> {
    if !is_idempotent(request.method()) || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    *again.extensions_mut() = request.extensions().clone();
    Some(again)
}

/// Makes a response of the origin's hop one of ours, and keeps the origin.
fn finish(
    origin: &mut Option<Origin>,
    from: Origin,
    response: Response<Incoming>,
    asked: bool,
) -> Response<Body> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switches && !asked {
        return own("http_protocol_error", "the origin changed the protocol unasked");
    }
    if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        // A client would take it for ours, and ask a person for this proxy's password again.
        return own("http_protocol_error", "the origin answered as if it were the proxy");
    }
    // Another coding than chunked would be lost with the field that tells of it (RFC 9112 §7).
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if coding.is_some_and(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        return own("http_protocol_error", "the origin used a transfer coding that is not supported");
    }
    let chunked = coding.is_some();
    from.switching.store(switches, Relaxed);
    *origin = Some(from);
    let (mut head, body) = response.into_parts();
    let protocols = match head.status {
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED => upgrade(&head.headers).cloned(),
        _ => None,
    };
    strip_hop_by_hop(&mut head.headers);
    if let Some(protocols) = protocols {
        head.headers.insert(UPGRADE, protocols);
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    one_length(&mut head.headers, chunked, body.size_hint().exact());
    if !switches && !head.headers.contains_key(DATE) {
        date(&mut head.headers);
    }
    Response::from_parts(head, body.map_err(Into::into).boxed_unsync())
}

/// Says when a response came, of which its origin does not (RFC 9110 §6.6.1).
fn date(headers: &mut HeaderMap) {
    if let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
        headers.insert(DATE, now);
    }
}

/// Leaves one plain `Content-Length`, or none.
fn one_length(headers: &mut HeaderMap, chunked: bool, exact: Option<u64>) {
    let Some(said) = headers.get(CONTENT_LENGTH) else { return };
    let plain = said.to_str().ok().and_then(|length| length.trim().parse::<u64>().ok());
    match (chunked, plain.or(exact.filter(|n| *n > 0))) {
        (false, Some(length)) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        _ => drop(headers.remove(CONTENT_LENGTH)),
    }
}

/// What the client hears of an origin that failed after it was connected.
fn fault(error: &hyper::Error) -> Response<Body> {
    match error.is_parse() || error.is_parse_too_large() {
        true => own("http_protocol_error", "the origin's answer is not HTTP"),
        false => own("connection_terminated", "the origin closed the connection before it answered"),
    }
}

/// A response of our own: 502, with the registered error (RFC 9209 §2.3).
fn own(error: &'static str, text: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("SwiftProxy: {text}.\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    let headers = response.headers_mut();
    let status = HeaderValue::try_from(format!("{}; error={error}", proxy_status::NAME));
    headers.insert(PROXY_STATUS, status.unwrap_or_else(|_| HeaderValue::from_static(proxy_status::NAME)));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_length_or_none() {
        let of = |said: &'static str, chunked, exact| {
            let mut headers = HeaderMap::new();
            headers.append(CONTENT_LENGTH, HeaderValue::from_static(said));
            headers.append(CONTENT_LENGTH, HeaderValue::from_static(said));
            one_length(&mut headers, chunked, exact);
            let left: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
            assert!(left.len() < 2);
            left.first().map(|length| length.to_str().expect("text").to_owned())
        };
        assert_eq!(of("5", false, Some(5)).as_deref(), Some("5"));
        assert_eq!(of("5, 5", false, Some(5)).as_deref(), Some("5"));
        assert_eq!(of("1000", false, Some(0)).as_deref(), Some("1000"), "of HEAD");
        assert_eq!(of("5", true, None), None);
        assert_eq!(of("x", false, None), None);
    }
}
