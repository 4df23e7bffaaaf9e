//! TLS: its handshake under the client's deadline, then HTTP/2 or HTTP/1.1 by ALPN (RFC 7301).
//!
//! Invariant: what was read to tell the protocol is fed to TLS, so the stream below is the bare socket.

use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::error::{BuildError, Refusal};
use swiftproxy_core::registry::Build;
use swiftproxy_wire::path::Path;
use swiftproxy_wire::record::{self, Accepted, NotAccepted};
use swiftproxy_wire::tls::{ALPN_H2, TlsEnd};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::TlsFiles;
use crate::context::Context;
use crate::inbox::Inbox;
use crate::layer::Next;
use crate::linger::linger;
use crate::{http, tunnel};

/// What the listener shows, read anew at each load.
pub(crate) fn server_config(
    files: &TlsFiles,
    build: &mut Build<'_>,
) -> Result<Arc<ServerConfig>, BuildError> {
    let cert = build.file(&files.cert);
    let key = build.file(&files.key);
    swiftproxy_wire::tls::server_config(&cert, &key).map_err(|error| {
        let at = if error.is_key(&key) { "tls.key" } else { "tls.cert" };
        build.error(at, error.to_string(), "name PEM files: the certificate chain, and its private key")
    })
}

/// Serves one client up to what is to be piped, or to its end.
pub(crate) async fn serve(ctx: Context, inbox: Inbox, config: Arc<ServerConfig>, deadline: Instant) -> Next {
    let (mut stream, mut early) = inbox.into_parts();
    if ctx.settings.lean {
        // HTTP/2 over TLS 1.3 may turn out to be a local role of ours; then its records are ours to handle.
        let accepting = record::accept(stream, early, config.clone(), ALPN_H2);
        match timeout_at(deadline, Box::pin(accepting)).await {
            Ok(Ok(Accepted::Channel(channel))) => {
                Box::pin(tunnel::serve_channel(ctx, channel, deadline)).await;
                return None;
            }
            Ok(Ok(Accepted::Other(other, received))) => (stream, early) = (other, received),
            Ok(Err(NotAccepted { stream, .. })) => {
                ctx.count(Refusal::Malformed);
                linger(stream).await;
                return None;
            }
            Err(_) => {
                ctx.count(Refusal::HandshakeTimeout);
                return None;
            }
        }
    }
    let stream = match timeout_at(deadline, accept(stream, &early, config)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(left)) => {
            ctx.count(Refusal::Malformed);
            if let Some(stream) = left {
                linger(stream).await;
            }
            return None;
        }
        Err(_) => {
            ctx.count(Refusal::HandshakeTimeout);
            return None;
        }
    };
    drop(early);
    if stream.get_ref().1.alpn_protocol() == Some(ALPN_H2) {
        let path = Path::of(stream.get_ref().0);
        Box::pin(tunnel::serve(ctx, stream, path, deadline)).await;
        return None;
    }
    let end = |stream, early| Box::new(TlsEnd::new(stream, early)) as Box<dyn Endpoint>;
    Box::pin(http::serve(stream, Vec::new(), &ctx, deadline, end)).await
}

/// Shakes hands with a client whose first bytes were read already.
///
/// # Errors
/// The socket, where last words may still be on their way to the client.
async fn accept(
    stream: TcpStream,
    early: &[u8],
    config: Arc<ServerConfig>,
) -> Result<TlsStream<TcpStream>, Option<TcpStream>> {
    let mut alert = None;
    let mut accept = TlsAcceptor::from(config).accept_with(stream, |tls| alert = feed(tls, early).err());
    match alert {
        None => accept.into_fallible().await.map_err(|(_, stream)| Some(stream)),
        Some(alert) => {
            if let Some(stream) = accept.get_mut()
                && stream.write_all(&alert).await.is_ok()
            {
                linger(stream).await;
            }
            Err(None)
        }
    }
}

/// Lets TLS have the early bytes.
///
/// # Errors
/// What to tell the client of them.
fn feed(tls: &mut ServerConnection, mut early: &[u8]) -> Result<(), Vec<u8>> {
    while !early.is_empty() {
        // The slice is cut as it is read; where nothing is taken any more, the rest would be lost.
        let taken = tls.read_tls(&mut early);
        let read = matches!(taken, Ok(1..));
        if !read || tls.process_new_packets().is_err() {
            let mut alert = Vec::new();
            while tls.wants_write() && tls.write_tls(&mut alert).is_ok() {}
            return Err(alert);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
