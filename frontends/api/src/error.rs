//! Answers that say no.
//!
//! Invariant: each is JSON, `{"error": label, "message": sentence}`; labels are stable.

use axum::Json;
use axum::http::header::{ALLOW, CONNECTION, SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use swiftproxy_core::tunnel::TunnelError;

/// Why a request is not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    label: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, label: &'static str, message: impl Into<String>) -> Self {
        Self { status, label, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take that method")
    }

    pub(crate) fn secret_required() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "secret_required",
            "send `Authorization: Bearer` and the API's secret",
        )
    }

    pub(crate) fn secret_wrong() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "secret_wrong", "that is not the API's secret")
    }

    pub(crate) fn no_secret() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "no_secret",
            "set `secret` under [api] in the configuration, and send it, to be allowed this",
        )
    }

    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }
}

impl From<TunnelError> for ApiError {
    fn from(error: TunnelError) -> Self {
        let status = match error.label {
            "auth_failed" | "auth_required" => StatusCode::UNAUTHORIZED,
            "account_disabled" | "account_expired" | "quota_exceeded" => StatusCode::FORBIDDEN,
            "bad_request" => StatusCode::BAD_REQUEST,
            "timeout" => StatusCode::GATEWAY_TIMEOUT,
            // `unreachable`, `certificate`, `protocol`, and what a tunnel may say later.
            _ => StatusCode::BAD_GATEWAY,
        };
        Self::new(status, error.label, error.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.label, "message": self.message }));
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::UPGRADE_REQUIRED => {
                headers.insert(axum::http::header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            // A method that no path takes; where a path is known, its own list stands here already.
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.entry(ALLOW).or_insert(HeaderValue::from_static("GET, HEAD, POST, DELETE"));
            }
            _ => {}
        }
        if self.label == "secret_wrong" {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
