//! WebSockets (RFC 6455): the handshake, and a feed of text messages.
//!
//! Invariant: a peer that neither reads nor answers pings is let go of; nothing is queued for it but one message.

use std::future::Future;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use swiftproxy_stats::Tick;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::error::ApiError;
use crate::feed::Feed;
use crate::serve::Shared;

pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Nothing longer than a secret is expected of a peer.
const MAX_MESSAGE: usize = 4096;

/// Whether the request asks for a WebSocket.
pub(crate) fn is_upgrade(parts: &Parts) -> bool {
    parts.method == Method::GET
        && has(&parts.headers, &UPGRADE, "websocket")
        && has(&parts.headers, &CONNECTION, "upgrade")
}

fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// Answers the handshake, and has `serve` served once it is through.
pub(crate) fn upgrade<F>(
    parts: &mut Parts,
    serve: impl FnOnce(Socket) -> F + Send + 'static,
) -> Result<Response, ApiError>
where
    F: Future<Output = ()> + Send,
{
    let version = parts.headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    if version != Some(b"13") {
        return Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "bad_request", "WebSocket version 13 only"));
    }
    let key = parts.headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let (Some(key), Version::HTTP_11) = (key, parts.version) else {
        return Err(ApiError::bad_request("that is no WebSocket handshake (RFC 6455 §4.2.1)"));
    };
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| ApiError::bad_request("that is no WebSocket key"))?;
    let upgraded = parts
        .extensions
        .remove::<OnUpgrade>()
        .ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded"))?;
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let config = WebSocketConfig::default()
            .read_buffer_size(MAX_MESSAGE)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let io = TokioIo::new(upgraded);
        serve(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await).await;
    });
    let headers = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// Sends what `render` makes of each tick, until either side ends.
pub(crate) async fn serve(
    mut socket: Socket,
    shared: Arc<Shared>,
    mut feed: Feed,
    render: impl Fn(&Tick) -> Bytes,
) {
    let mut ping = tokio::time::interval_at(Instant::now() + shared.bounds.ping, shared.bounds.ping);
    // Pings that were sent since the peer was last heard.
    let mut unanswered = 0;
    loop {
        let message = tokio::select! {
            tick = feed.next() => match tick.map(|tick| Utf8Bytes::try_from(render(&tick))) {
                Some(Ok(text)) => Message::Text(text),
                Some(Err(_)) | None => return close(socket, &shared, CloseCode::Away, "").await,
            },
            heard = socket.next() => match heard {
                Some(Ok(_)) => {
                    unanswered = 0;
                    continue;
                }
                Some(Err(_)) | None => return,
            },
            _ = ping.tick() => {
                unanswered += 1;
                if unanswered > 2 {
                    return;
                }
                Message::Ping(Bytes::new())
            }
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Says why, and waits a moment for the peer's own close, so that ours is not lost with the connection.
pub(crate) async fn close(mut socket: Socket, shared: &Shared, code: CloseCode, why: &'static str) {
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(why) };
    let _ = timeout(shared.bounds.grace, async {
        if socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    })
    .await;
}
