//! TLS: its handshake under the client's deadline, then HTTP/2 or HTTP/1.1 by ALPN (RFC 7301).
//!
//! Invariant: what was read to tell the protocol is fed to TLS, so the stream below is the bare socket.

use std::sync::Arc;

use rustls::ServerConfig;
use swiftproxy_core::error::BuildError;
use swiftproxy_core::registry::Build;

use crate::config::TlsFiles;

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
