//! Which path is whose.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::access::guard;
use crate::error::ApiError;
use crate::serve::Shared;
use crate::{admin, classic, stats, tunnel};

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(classic::window))
        .route("/v1/stats", get(stats::stats))
        .route("/v1/config", get(admin::config))
        .route("/v1/sessions", get(admin::sessions))
        .route("/v1/sessions/{id}", delete(admin::end_session))
        .route("/v1/users/{name}/kick", post(admin::kick))
        .route("/v1/tunnel", get(tunnel::status))
        .route("/v1/tunnel/connect", post(tunnel::connect))
        .route("/v1/tunnel/disconnect", post(tunnel::disconnect))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .fallback(async || ApiError::not_found("there is no such path"))
        .layer(from_fn_with_state(shared.clone(), guard))
        .layer(from_fn(known_methods))
        .with_state(shared)
}

/// Whatever else a request line may say (CONNECT to somewhere, TRACE) is not for us.
async fn known_methods(request: Request, next: Next) -> Response {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS];
    if known.contains(request.method()) {
        return next.run(request).await;
    }
    ApiError::method_not_allowed().into_response()
}

/// The first word of a query's value that switches something on.
pub(crate) fn is_on(value: Option<&str>) -> Result<bool, ApiError> {
    match value {
        None | Some("0" | "false") => Ok(false),
        Some("" | "1" | "true") => Ok(true),
        Some(_) => Err(ApiError::new(StatusCode::BAD_REQUEST, "bad_request", "write `stream=1`")),
    }
}
