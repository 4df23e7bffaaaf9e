//! `GET /.well-known/swiftproxy/account`: what an account's owner may know of it, and a way to log in before the
//! first session.
//!
//! Invariant: nobody hears of an account but who logged in as it, and nothing on the way keeps the answer.

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use swiftproxy_core::account::Account;
use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::meter::Direction;
use swiftproxy_core::tunnel::AccountView;
use swiftproxy_wire::{basic, refusal};

use crate::context::Context;

/// Where it is.
pub(crate) const PATH: &str = "/.well-known/swiftproxy/account";

/// Answers a request for it. Credentials come as `Proxy-Authorization`, or as `Authorization` from a client that
/// knows no other.
pub(crate) async fn answer(ctx: &Context, method: &Method, headers: &HeaderMap) -> Response<Bytes> {
    if *method != Method::GET {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let Some(authenticator) = &ctx.authenticator else {
        let mut response = Response::new(Bytes::from_static(b"SwiftProxy: there are no accounts here.\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let credentials = match credentials(ctx, headers) {
        Ok(credentials) => credentials,
        Err(refusal) => return refuse(ctx, refusal),
    };
    let account = match authenticator.known(ctx.client, credentials.as_ref()) {
        Some(account) => account,
        None => match authenticator.verify(ctx.client, credentials).await {
            Ok(account) => account,
            Err(refusal) => return refuse(ctx, refusal),
        },
    };
    ctx.prove();
    match serde_json::to_vec(&view(&account)) {
        Ok(body) => whole(Response::new(Bytes::from(body)), "application/json"),
        Err(_) => refuse(ctx, Refusal::Internal),
    }
}

fn credentials(ctx: &Context, headers: &HeaderMap) -> Result<Option<Credentials>, Refusal> {
    match (ctx.credentials(headers)?, headers.get(AUTHORIZATION)) {
        (None, Some(value)) => basic::parse(value.as_bytes()).map(Some).map_err(Refusal::from),
        (credentials, _) => Ok(credentials),
    }
}

fn view(account: &Account) -> AccountView {
    AccountView {
        name: account.name().to_owned(),
        rate_up: account.effective_rate(Direction::Up),
        rate_down: account.effective_rate(Direction::Down),
        up: account.usage.total(Direction::Up),
        down: account.usage.total(Direction::Down),
        messages: Vec::new(),
    }
}

fn refuse(ctx: &Context, refusal: Refusal) -> Response<Bytes> {
    whole(refusal::response(ctx.count(refusal)), "text/plain; charset=utf-8")
}

fn whole(mut response: Response<Bytes>, kind: &'static str) -> Response<Bytes> {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
