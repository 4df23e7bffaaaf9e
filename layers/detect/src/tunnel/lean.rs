//! The tunnel's side of the listener for local roles of ours, by our own HTTP/2 engine: CONNECT, and questions about
//! the account.
//!
//! Invariant: a stream is answered as it is over any HTTP/2, and the same bounds hold.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use swiftproxy_core::BoxFuture;
use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::error::Refusal;
use swiftproxy_wire::lean::{Budget, Code, Ending, Responder, Watch, serve as start};
use swiftproxy_wire::record::Channel;
use swiftproxy_wire::refusal;
use tokio::time::{Instant, sleep_until};

use super::stream::{connected, open};
use super::{BUSY, IDLE, PATIENCE, STRANGERS, UNPROVEN_STREAMS, account};
use crate::context::Context;
use crate::layer::{Next, Serving};

/// How the engine notices that a local role has gone.
const WATCH: Watch = Watch { quiet: IDLE, busy: BUSY, doubt: PATIENCE, patience: PATIENCE };

/// Serves a connection to its end.
pub(super) async fn serve(ctx: Context, channel: Channel, deadline: Instant) {
    let ctx = Arc::new(ctx);
    // Uploads wait in their windows for their accounts' turns, all of the node's together.
    let budget = ctx.listener.node().state("lean", Budget::default);
    let (mut server, driver) = start(channel, WATCH, &budget);
    let (mut driver, mut draining) = (pin!(driver), pin!(ctx.listener.node().draining()));
    let (mut drained, mut judge) = (false, Some(deadline));
    loop {
        let accepted = tokio::select! {
            biased;
            ending = &mut driver => {
                if let Ending::Fault(..) = ending {
                    ctx.count(Refusal::Malformed);
                }
                tracing::debug!(client = %ctx.client, %ending, "a local role's connection has ended");
                return;
            }
            accepted = server.accept() => accepted,
            () = &mut draining, if !drained => {
                drained = true;
                server.drain();
                continue;
            }
            () = sleep_until(judge.unwrap_or(deadline)), if judge.is_some() => {
                judge = if ctx.is_proven() {
                    None
                } else if server.streams() > 0 {
                    Some(Instant::now() + ctx.settings.handshake_timeout)
                } else if drained {
                    return;
                } else {
                    // Whoever has not shown that it may be here has little time.
                    ctx.count(Refusal::HandshakeTimeout);
                    drained = true;
                    server.drain();
                    Some(Instant::now() + STRANGERS)
                };
                continue;
            }
        };
        let Some((request, responder)) = accepted else { continue };
        if ctx.listener.node().is_draining() {
            // As it is for those of which the client learns that they came too late.
            responder.refuse(Code::REFUSED_STREAM);
            ctx.count(Refusal::Draining);
            continue;
        }
        if server.streams() > UNPROVEN_STREAMS && !ctx.is_proven() {
            // RFC 9113 §8.7: it can be sent again, for nobody looked at it.
            responder.refuse(Code::REFUSED_STREAM);
            ctx.count(Refusal::TooManyConnections);
            continue;
        }
        let talk = talk(ctx.clone(), request, responder);
        tokio::spawn(async move {
            let Ok(()) = Serving::new(talk).await;
        });
    }
}

/// Serves one stream up to what is to be piped, or to its end.
fn talk(ctx: Arc<Context>, request: Request<()>, responder: Responder) -> BoxFuture<Next> {
    if *request.method() == Method::CONNECT {
        return Box::pin(connect(ctx, request, responder));
    }
    Box::pin(async move {
        other(ctx, request, responder).await;
        None
    })
}

async fn connect(ctx: Arc<Context>, request: Request<()>, mut responder: Responder) -> Next {
    let opened = tokio::select! {
        biased;
        opened = open(&ctx, &request) => opened,
        // The client gave up, or is gone.
        _ = responder.gone() => return None,
    };
    match opened {
        Ok(opened) => {
            let end = responder.respond(&connected(&opened), false).ok()?;
            Some((opened, Box::new(end)))
        }
        Err(refusal) => {
            answer(responder, refusal::response(refusal)).await;
            None
        }
    }
}

/// A local role asks for its account here, and for nothing else.
async fn other(ctx: Arc<Context>, request: Request<()>, mut responder: Responder) {
    let response = async {
        if request.uri().path() == account::PATH {
            account::answer(&ctx, request.method(), request.headers()).await
        } else {
            refusal::response(ctx.count(Refusal::UnsupportedCommand))
        }
    };
    let response = tokio::select! {
        biased;
        response = response => response,
        _ = responder.gone() => return,
    };
    answer(responder, response).await;
}

/// Sends an answer that is in memory as a whole.
async fn answer(responder: Responder, response: Response<Bytes>) {
    let (head, mut body) = response.into_parts();
    // What fails here is a client that is gone.
    let Ok(mut end) = responder.respond(&Response::from_parts(head, ()), body.is_empty()) else { return };
    while !body.is_empty() {
        match poll_fn(|cx| end.poll_write(cx, &body)).await {
            Ok(n) => drop(body.split_to(n)),
            Err(_) => return,
        }
    }
    let _ = poll_fn(|cx| end.poll_finish(cx)).await;
}
