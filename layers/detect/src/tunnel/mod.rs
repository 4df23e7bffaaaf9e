//! The tunnel's side of the listener: an HTTP/2 connection, each of whose streams is a session of its own
//! (RFC 9113 §8.5), a forwarded request, or a question about the account.
//!
//! Invariant: what a client can make us hold is bounded whatever it sends: streams, windows and header lists by
//! the builder's limits, streams of one who has not shown that it may be here by [`UNPROVEN_STREAMS`], and a
//! connection that carries nothing by time.

pub(crate) mod account;
mod forward;
mod lean;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::Connection;
use http::header::USER_AGENT;
use swiftproxy_core::error::Refusal;
use swiftproxy_wire::h2::{Queue, Windows, server_builder};
use swiftproxy_wire::heard::{Heard, Listening};
use swiftproxy_wire::path::Path;
use swiftproxy_wire::record::Channel;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use crate::context::Context;
use crate::inbox::Inbox;
use crate::layer::Serving;
use crate::replay::Replay;
use watch::{Verdict, Watch};

/// How long a connection may carry nothing before it is asked whether somebody is still there.
const IDLE: Duration = Duration::from_secs(300);

/// How long nothing may be heard on one with streams before it is asked.
const BUSY: Duration = Duration::from_secs(30);

/// How long the answer to that may take, and the end of a connection that was asked to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The same for one that has not shown that it may be here.
const STRANGERS: Duration = Duration::from_secs(1);

/// Streams at a time of a client that has not shown yet that it may be here.
const UNPROVEN_STREAMS: usize = 128;

/// Serves a connection in clear text, of which the preface was read in part.
pub(crate) async fn serve_clear(ctx: Context, inbox: Inbox, deadline: Instant) {
    let (stream, early) = inbox.into_parts();
    if ctx.settings.lean {
        serve_channel(ctx, Channel::clear(stream, early), deadline).await;
    } else {
        let path = Path::of(&stream);
        serve(ctx, Replay::new(stream, early), path, deadline).await;
    }
}

/// Serves a connection whose records are ours: by our own engine where the client offers that, or like any other.
pub(crate) async fn serve_channel(ctx: Context, mut channel: Channel, deadline: Instant) {
    match timeout_at(deadline, swiftproxy_wire::lean::knows(&mut channel)).await {
        Ok(Ok(true)) => lean::serve(ctx, channel, deadline).await,
        Ok(Ok(false)) => {
            let path = Path::of(channel.stream());
            serve(ctx, channel.into_stream(), path, deadline).await;
        }
        Ok(Err(error)) => {
            // A socket that broke is nobody's refusal.
            if error.kind() == std::io::ErrorKind::InvalidData {
                ctx.count(Refusal::Malformed);
            }
        }
        Err(_) => {
            ctx.count(Refusal::HandshakeTimeout);
        }
    }
}

/// Serves a connection to its end; `path` is the one that `stream` goes.
pub(crate) async fn serve<S>(ctx: Context, stream: S, path: Option<Path>, deadline: Instant)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let heard = Heard::now();
    let handshake = server_builder()
        .initial_window_size(Windows::START)
        .handshake::<_, Bytes>(Listening::new(stream, heard.clone()));
    match timeout_at(deadline, handshake).await {
        Ok(Ok(connection)) => run(Arc::new(ctx), connection, (heard, path), deadline).await,
        Ok(Err(error)) => {
            // A socket that broke is nobody's refusal.
            if !error.is_io() {
                ctx.count(Refusal::Malformed);
            }
        }
        Err(_) => {
            ctx.count(Refusal::HandshakeTimeout);
        }
    }
}

/// Firefox and its kin, who say `Gecko/` and a date; others say that they are `like Gecko`.
fn is_gecko(agent: &[u8]) -> bool {
    agent.windows(6).any(|at| at == b"Gecko/")
}

async fn run<S>(
    ctx: Arc<Context>,
    mut connection: Connection<S, Bytes>,
    below: (Heard, Option<Path>),
    deadline: Instant,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut windows = Windows::SERVER;
    let queue = Queue::default();
    // Each stream holds a clone of it for as long as it is open.
    let streams = Arc::new(());
    let mut watch = Watch::new(connection.ping_pong(), below, deadline);
    let mut draining = pin!(ctx.listener.node().draining());
    let mut drained = false;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = connection.accept() => accepted,
            () = &mut draining, if !drained => {
                drained = true;
                connection.graceful_shutdown();
                continue;
            }
            () = watch.changed() => {
                match watch.judge(&ctx, Arc::strong_count(&streams) - 1) {
                    Verdict::Stays => {}
                    Verdict::Ends => connection.graceful_shutdown(),
                    Verdict::Gone => return,
                }
                continue;
            }
        };
        let (request, mut respond) = match accepted {
            Some(Ok(accepted)) => accepted,
            // h2 has said why, where there is somebody to hear it.
            Some(Err(error)) => {
                if error.is_library() {
                    ctx.count(Refusal::Malformed);
                    tracing::debug!(client = %ctx.client, %error, "http/2");
                }
                return;
            }
            None => return,
        };
        watch.busy();
        if ctx.listener.node().is_draining() {
            // It was under way when the client was told; RFC 9113 §8.7: it can be sent again, elsewhere.
            respond.send_reset(Reason::REFUSED_STREAM);
            ctx.count(Refusal::Draining);
            continue;
        }
        let open = Arc::strong_count(&streams);
        if open > UNPROVEN_STREAMS && !ctx.is_proven() {
            // RFC 9113 §8.7: it can be sent again, for nobody looked at it.
            respond.send_reset(Reason::REFUSED_STREAM);
            ctx.count(Refusal::TooManyConnections);
            continue;
        }
        if request.headers().get(USER_AGENT).is_some_and(|agent| is_gecko(agent.as_bytes())) {
            windows.stay();
        }
        windows.fit_server(&mut connection, open);
        let (held, talk) = (streams.clone(), stream::talk(ctx.clone(), request, respond, queue.clone()));
        tokio::spawn(async move {
            let Ok(()) = Serving::new(talk).await;
            drop(held);
        });
    }
}
