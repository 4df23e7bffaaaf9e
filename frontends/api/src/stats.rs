//! `/v1/stats`: once, as lines, or as a WebSocket.
//!
//! Invariant: what all subscribers read alike is serialised once a tick.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use swiftproxy_stats::Tick;

use crate::config::Settings;
use crate::error::ApiError;
use crate::feed::Feed;
use crate::routes::is_on;
use crate::serve::Shared;
use crate::socket;

#[derive(Deserialize)]
pub(crate) struct Asked {
    stream: Option<String>,
    account: Option<String>,
}

pub(crate) async fn stats(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Asked>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Query(asked) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let (mut parts, _) = request.into_parts();
    let let_in = let_in(&parts)?;
    if socket::is_upgrade(&parts) {
        let feed = Feed::new(&shared, let_in);
        return socket::upgrade(&mut parts, async move |socket| {
            socket::serve(socket, shared, feed, |tick| line(tick, asked.account.as_deref())).await;
        });
    }
    let (body, kind) = if is_on(asked.stream.as_deref())? {
        (lines(Feed::new(&shared, let_in), asked.account), "application/x-ndjson")
    } else {
        (Body::from(line(&shared.sampler.now(), asked.account.as_deref())), "application/json")
    };
    Ok(([(CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response())
}

fn let_in(parts: &Parts) -> Result<Arc<Settings>, ApiError> {
    parts.extensions.get::<Arc<Settings>>().cloned().ok_or_else(ApiError::secret_required)
}

fn line(tick: &Tick, account: Option<&str>) -> Bytes {
    account.map_or_else(|| tick.line(), |account| tick.line_of(account))
}

/// A line a tick; hyper asks for the next once the socket took the last.
fn lines(feed: Feed, account: Option<String>) -> Body {
    Body::from_stream(futures_util::stream::unfold((feed, account), |(mut feed, account)| async {
        let tick = feed.next().await?;
        let line = line(&tick, account.as_deref());
        Some((Ok::<_, Infallible>(line), (feed, account)))
    }))
}
