//! Who may ask what, before any handler sees the request.
//!
//! Invariant: whatever is not a plain read needs the secret, and there is no way to it where none is set.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, http::request::Parts};
use serde::Deserialize;
use tokio::time::Instant;

use crate::config::Settings;
use crate::error::ApiError;
use crate::origin::is_ours;
use crate::serve::{Shared, Via};
use crate::socket::is_upgrade;

/// Judges a request, and puts on the answer what browsers want to read.
pub(crate) async fn guard(
    State(shared): State<Arc<Shared>>,
    Extension(via): Extension<Via>,
    request: Request,
    next: Next,
) -> Response {
    let settings = shared.settings.borrow().clone();
    let (mut parts, body) = request.into_parts();
    let origin = match page(&parts, &settings) {
        Ok(origin) => origin.cloned(),
        Err(error) => return finish(error.into_response(), None),
    };
    let answer = if origin.is_some() && is_preflight(&parts) {
        preflight(&parts.headers)
    } else {
        match judge(&parts, &settings, via) {
            Verdict::Go => {
                parts.extensions.insert(settings);
                next.run(Request::from_parts(parts, body)).await
            }
            Verdict::No(error) => error.into_response(),
            Verdict::Wrong => {
                shared.failures.slow_down(&shared, via).await;
                ApiError::secret_wrong().into_response()
            }
        }
    };
    finish(answer, origin)
}

/// Whether the request is meant for us, and the page it comes from, if one that may ask.
fn page<'a>(parts: &'a Parts, settings: &Settings) -> Result<Option<&'a HeaderValue>, ApiError> {
    let misdirected = || {
        ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "host_denied",
            "ask by an address or `localhost`, or list that name as `hosts` under [api]",
        )
    };
    let host = only(&parts.headers, &HOST)?.ok_or_else(|| ApiError::bad_request("send one `Host`"))?;
    if !host.to_str().is_ok_and(|host| is_ours(host, settings))
        || !parts.uri.authority().is_none_or(|authority| is_ours(authority.as_str(), settings))
    {
        return Err(misdirected());
    }
    let Some(origin) = only(&parts.headers, &ORIGIN)? else { return Ok(None) };
    if origin.to_str().is_ok_and(|origin| settings.allows_origin(origin)) {
        return Ok(Some(origin));
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "origin_denied",
        "list that page's origin as `allow_origins` under [api] to let it ask",
    ))
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(ApiError::bad_request(format!("send `{name}` once"))),
    }
}

enum Verdict {
    Go,
    No(ApiError),
    /// A guess at the secret.
    Wrong,
}

fn judge(parts: &Parts, settings: &Settings, via: Via) -> Verdict {
    let read = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if parts.method == Method::GET && parts.uri.path() == "/" && is_upgrade(parts) {
        // The first version's window sends its secret as its first message.
        return Verdict::Go;
    }
    let open = read && settings.reads_openly(via.loopback);
    if !settings.has_secret() {
        return if open { Verdict::Go } else { Verdict::No(ApiError::no_secret()) };
    }
    match presented(parts) {
        None if open => Verdict::Go,
        None => Verdict::No(ApiError::secret_required()),
        Some(text) if settings.is_secret(&text) => Verdict::Go,
        Some(_) => Verdict::Wrong,
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
}

/// The secret as it was sent: in the header, or, because a browser's WebSocket sends none, in the query.
fn presented(parts: &Parts) -> Option<String> {
    if let Some(value) = parts.headers.get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        return Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" }.to_owned());
    }
    if is_upgrade(parts) { Query::<Token>::try_from_uri(&parts.uri).ok()?.0.token } else { None }
}

fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(asked: &HeaderMap) -> Response {
    let mut answer = StatusCode::NO_CONTENT.into_response();
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, DELETE"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    // Chromium asks this of a page that reaches from the internet into a private network.
    if asked.contains_key("access-control-request-private-network") {
        let name = HeaderName::from_static("access-control-allow-private-network");
        headers.insert(name, HeaderValue::from_static("true"));
    }
    answer
}

fn finish(mut answer: Response, origin: Option<HeaderValue>) -> Response {
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    answer
}

/// Wrong secrets: answered late, and told without flooding the log.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<(u64, Option<Instant>)>);

const QUIET: Duration = Duration::from_secs(1);

impl Failures {
    /// Logs a wrong secret and waits its answer's delay.
    pub(crate) async fn slow_down(&self, shared: &Shared, via: Via) {
        if let Some(times) = self.count(Instant::now()) {
            tracing::warn!(client = %via.peer, times, "wrong secret for the API");
        }
        tokio::time::sleep(shared.bounds.penalty).await;
    }

    /// How many there were since the last line, where it is time for another.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        if state.1.is_some_and(|told| now.saturating_duration_since(told) < QUIET) {
            return None;
        }
        state.1 = Some(now);
        Some(std::mem::take(&mut state.0))
    }
}
