//! What a refusal is in HTTP, of either version: status, fields and a sentence for a person.
//!
//! Invariant: one table, [`status`]; whoever answers in HTTP takes status, fields and text from here.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, PROXY_AUTHENTICATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use swiftproxy_core::error::Refusal;

use crate::{basic, proxy_status};

/// The status a refusal is told as.
pub fn status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::AuthRequired | Refusal::AuthFailed => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        Refusal::AccountDisabled | Refusal::AccountExpired | Refusal::QuotaExceeded => StatusCode::FORBIDDEN,
        Refusal::Denied | Refusal::DeniedAddress => StatusCode::FORBIDDEN,
        Refusal::TooManyConnections => StatusCode::TOO_MANY_REQUESTS,
        Refusal::DnsFailed | Refusal::UnreachableNet | Refusal::UnreachableHost => StatusCode::BAD_GATEWAY,
        Refusal::Refused | Refusal::Loop | Refusal::TunnelLogin => StatusCode::BAD_GATEWAY,
        Refusal::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Refusal::UnsupportedCommand => StatusCode::NOT_IMPLEMENTED,
        Refusal::UnsupportedAddress | Refusal::Malformed => StatusCode::BAD_REQUEST,
        Refusal::HandshakeTimeout => StatusCode::REQUEST_TIMEOUT,
        Refusal::Draining | Refusal::TunnelDown => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The fields a refusal comes with: `Proxy-Status`, with 407 the challenge, with 503 when to come back.
pub fn headers(refusal: Refusal) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(proxy_status::PROXY_STATUS, proxy_status::value(refusal));
    match status(refusal) {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            headers.insert(PROXY_AUTHENTICATE, basic::CHALLENGE);
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        _ => {}
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers
}

/// The sentence for a person, with a line feed behind it. Nothing the client sent is in it.
pub fn text(refusal: Refusal) -> String {
    format!("SwiftProxy: {refusal}.\n")
}

/// The whole answer, for whoever speaks HTTP through a library.
pub fn response(refusal: Refusal) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text(refusal)));
    *response.status_mut() = status(refusal);
    *response.headers_mut() = headers(refusal);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_the_status_of_the_table() {
        let expected = |refusal: Refusal| match refusal.label() {
            "auth_required" | "auth_failed" => 407,
            "account_disabled" | "account_expired" | "quota_exceeded" | "denied" | "denied_address" => 403,
            "too_many_connections" => 429,
            "dns_failed" | "unreachable_net" | "unreachable_host" | "refused" | "loop" | "tunnel_login" => {
                502
            }
            "timeout" => 504,
            "unsupported_command" => 501,
            "unsupported_address" | "malformed" => 400,
            "handshake_timeout" => 408,
            "draining" | "tunnel_down" => 503,
            _ => 500,
        };
        for refusal in Refusal::all() {
            let answer = response(refusal);
            assert_eq!(answer.status(), expected(refusal), "{refusal:?}");
            assert_eq!(answer.headers().contains_key(PROXY_AUTHENTICATE), answer.status() == 407);
            assert_eq!(proxy_status::from_headers(answer.headers()), Some(refusal));
        }
    }
}
