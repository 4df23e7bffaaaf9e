//! An HTTP/1.1 proxy's talk with its client: CONNECT, and forwarding of `http://` (RFC 9110, RFC 9112).
//!
//! Invariant: a request is read by one strict reader, and what that reader refuses reaches no origin and ends the
//! connection. What was said to this proxy (credentials, connection options) ends here, and a client that waits
//! holds neither a buffer nor the room of an exchange.
//!
//! No `Via` is added (RFC 9110 §7.6.3 would have one): it tells every origin that there is a proxy. Loops are
//! noticed by address instead.

mod answer;
mod client;
mod exchange;
pub(crate) mod forward;
#[cfg(test)]
mod tests;
mod upgrade;
mod upload;

use std::time::Duration;

use http::Method;
use hyper::upgrade::OnUpgrade;
use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::opened::Opened;
use swiftproxy_core::target::Target;
use swiftproxy_wire::http1::{
    BodyLength, Persistence, RequestHead, RequestTarget, encode_head_error, encode_refusal,
};
use swiftproxy_wire::proxy_status;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use self::client::{HeadFault, Progress, Reader, Writer};
use self::forward::Origin;
use crate::context::Context;
use crate::layer::Next;
use crate::linger::linger;
use crate::tunnel::account;

/// How long a client that may be here can leave its connection unused between two requests.
const IDLE: Duration = Duration::from_secs(60);

/// What follows a request.
enum Turn {
    /// Another one.
    Next,
    /// The end; what was written last must arrive.
    Close,
    /// The end: nobody is there, or the answer broke off and must be seen to.
    Gone,
    /// A tunnel to that target.
    Tunnel(Box<Opened>),
    /// Another protocol with that origin.
    Switched(OnUpgrade),
}

/// Serves a client's requests, the first of which must have come by `deadline`; `early` was read already. Answers
/// what is to be piped once a CONNECT succeeded: the client was told, and `end` makes its endpoint of the stream
/// and the bytes read ahead.
pub(crate) async fn serve<S>(
    stream: S,
    early: Vec<u8>,
    ctx: &Context,
    mut deadline: Instant,
    end: impl FnOnce(S, Vec<u8>) -> Box<dyn Endpoint> + Send,
) -> Next
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut reader, mut writer) = client::split(stream, early);
    let mut origin = None;
    let last = loop {
        match Box::pin(turn(&mut reader, &mut writer, &mut origin, ctx, deadline)).await {
            Turn::Next => {}
            last => break last,
        }
        if let Some(last) = idle(&mut reader, ctx).await {
            break last;
        }
        deadline = Instant::now() + ctx.settings.handshake_timeout;
    };
    let (stream, early) = reader.join(writer);
    match last {
        Turn::Tunnel(opened) => return Some((*opened, end(stream, early))),
        // The origin's task hands its connection over, so it is not ended before.
        Turn::Switched(switched) => Box::pin(upgrade::pipe(stream, early, switched)).await,
        Turn::Close => {
            drop(origin);
            linger(stream).await;
        }
        Turn::Next | Turn::Gone => {}
    }
    None
}

/// Waits for the first byte of another request; answers how it ends if none comes.
async fn idle<S: AsyncRead + AsyncWrite>(reader: &mut Reader<S>, ctx: &Context) -> Option<Turn> {
    if reader.holds_bytes() {
        return None;
    }
    let patience = if ctx.is_proven() { IDLE } else { ctx.settings.handshake_timeout };
    tokio::select! {
        biased;
        more = timeout(patience, reader.more()) => match more {
            Ok(Ok(n)) if n > 0 => None,
            Ok(_) => Some(Turn::Gone),
            Err(_) => Some(Turn::Close),
        },
        () = ctx.listener.node().draining() => Some(Turn::Close),
    }
}

/// Serves one request.
async fn turn<S: AsyncRead + AsyncWrite>(
    reader: &mut Reader<S>,
    writer: &mut Writer<S>,
    origin: &mut Option<Origin>,
    ctx: &Context,
    deadline: Instant,
) -> Turn {
    let mut head = match reader.head(deadline).await {
        Ok(head) => head,
        Err(HeadFault::Gone) => return Turn::Gone,
        Err(HeadFault::Late) => {
            let late = ctx.count(Refusal::HandshakeTimeout);
            return refuse(writer, late, &Method::GET, Persistence::Close).await;
        }
        Err(HeadFault::Refused(error)) => {
            ctx.count(Refusal::Malformed);
            let mut out = Vec::new();
            encode_head_error(error, &mut out);
            return said(writer.say(&out).await, Persistence::Close);
        }
    };
    match std::mem::replace(&mut head.target, RequestTarget::Asterisk) {
        RequestTarget::Authority(target) => connect(reader, writer, ctx, &head, target).await,
        RequestTarget::Absolute { authority, path_and_query } => {
            // On its own, for a tunnel that is being dialled needs no room for it.
            Box::pin(exchange::serve(reader, writer, origin, ctx, head, authority, path_and_query)).await
        }
        RequestTarget::Origin(path) if path.path() == account::PATH => {
            let answer = Box::pin(account::answer(ctx, &head.method, &head.headers)).await;
            // A body that nobody asked for is not read.
            let keep = match head.body {
                BodyLength::None | BodyLength::Length(0) => answer::persistence_of(&head, ctx),
                _ => Persistence::Close,
            };
            said(writer.say(&answer::encode_whole(answer, &head.method, keep)).await, keep)
        }
        RequestTarget::Origin(_) | RequestTarget::Asterisk => {
            ctx.count(Refusal::Malformed);
            let answer = answer::encode_whole(answer::not_a_server(), &head.method, Persistence::Close);
            said(writer.say(&answer).await, Persistence::Close)
        }
    }
}

/// Opens a tunnel (RFC 9110 §9.3.6).
async fn connect<S: AsyncRead + AsyncWrite>(
    reader: &mut Reader<S>,
    writer: &mut Writer<S>,
    ctx: &Context,
    head: &RequestHead,
    target: Target,
) -> Turn {
    let progress = Progress::default();
    let opened = match ctx.credentials(&head.headers) {
        Ok(credentials) => tokio::select! {
            biased;
            opened = ctx.open("connect", target, credentials, None) => opened,
            () = reader.gone(&progress) => return Turn::Gone,
        },
        Err(refusal) => Err(ctx.count(refusal)),
    };
    match opened {
        Ok(opened) => {
            let mut out = b"HTTP/1.1 200 Connection established\r\n".to_vec();
            if let Some(bound) = opened.bound() {
                out.extend_from_slice(b"proxy-status: ");
                out.extend_from_slice(proxy_status::bound_value(bound).as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"\r\n");
            match writer.say(&out).await {
                Ok(()) => Turn::Tunnel(Box::new(opened)),
                Err(_) => Turn::Gone,
            }
        }
        Err(refusal) => {
            // Bytes that a client sends ahead of our yes are for its target, and someone else may have chosen
            // them: they must never be read as its next request. Only a challenge is worth going on for.
            let challenge = matches!(refusal, Refusal::AuthRequired | Refusal::AuthFailed);
            let keep = match challenge && !reader.holds_bytes() {
                true => answer::persistence_of(head, ctx),
                false => Persistence::Close,
            };
            refuse(writer, refusal, &head.method, keep).await
        }
    }
}

/// Writes a refusal.
async fn refuse<S: AsyncRead + AsyncWrite>(
    writer: &mut Writer<S>,
    refusal: Refusal,
    method: &Method,
    keep: Persistence,
) -> Turn {
    let mut out = Vec::new();
    encode_refusal(refusal, method, keep, &mut out);
    said(writer.say(&out).await, keep)
}

/// What follows an answer that was written whole.
fn said(written: std::io::Result<()>, keep: Persistence) -> Turn {
    match (written, keep) {
        (Err(_), _) => Turn::Gone,
        (Ok(()), Persistence::Close) => Turn::Close,
        (Ok(()), Persistence::KeepAlive) => Turn::Next,
    }
}
