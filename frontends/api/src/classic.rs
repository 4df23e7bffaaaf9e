//! `/`: what the first SwiftProxy's window reads.
//!
//! Invariant: nothing is sent before the first message was the secret; where reading needs none, the word `secret`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use swiftproxy_stats::Tick;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::error::ApiError;
use crate::feed::Feed;
use crate::serve::{Shared, Via};
use crate::socket::{self, Socket};

pub(crate) async fn window(
    State(shared): State<Arc<Shared>>,
    Extension(via): Extension<Via>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    if !socket::is_upgrade(&parts) {
        return Err(ApiError::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade_required",
            "this path is a WebSocket; figures as JSON are at /v1/stats",
        ));
    }
    socket::upgrade(&mut parts, move |socket| serve(socket, shared, via))
}

async fn serve(mut socket: Socket, shared: Arc<Shared>, via: Via) {
    let first = tokio::time::timeout(shared.bounds.first_message, first_text(&mut socket)).await;
    let Ok(first) = first else {
        return socket::close(socket, &shared, CloseCode::Policy, "no secret came").await;
    };
    let Some(first) = first else { return };
    let settings = shared.settings.borrow().clone();
    let right = match settings.reads_openly(via.loopback) {
        true => first == "secret" || settings.is_secret(&first),
        false => settings.is_secret(&first),
    };
    if !right {
        shared.failures.slow_down(&shared, via).await;
        return socket::close(socket, &shared, CloseCode::Policy, "wrong secret").await;
    }
    let feed = Feed::new(&shared, settings);
    socket::serve(socket, shared, feed, up_down).await;
}

/// The first message, empty where it is no text; none where the peer is gone.
async fn first_text(socket: &mut Socket) -> Option<String> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(text.as_str().to_owned()),
            Message::Binary(_) => return Some(String::new()),
            Message::Close(_) => return None,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// Bytes in the last second, both ways.
fn up_down(tick: &Tick) -> Bytes {
    let rate = tick.snapshot.rate;
    format!("{} {}", rate.up, rate.down).into()
}
