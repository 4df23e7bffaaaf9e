//! What systemd and its like say to a service, and hear from it: sockets that were opened before it was started
//! (sd_listen_fds(3)), and one datagram when it serves, where `NOTIFY_SOCKET` names a socket (sd_notify(3)).

use anyhow::Context;
use swiftproxy_core::sockets::Handed;

/// The sockets that `LISTEN_FDS` speaks of. To be called once, for they are owned from then on.
///
/// # Errors
/// One of them has no IP address.
pub(crate) fn sockets() -> anyhow::Result<Vec<Handed>> {
    let mut sockets = Vec::new();
    for (name, fd) in sd_listen_fds::get().context("LISTEN_PID, LISTEN_FDS")? {
        let named = name.as_deref().map(|name| format!(", {name}")).unwrap_or_default();
        let handed = Handed::new(name, fd.into());
        sockets.push(
            handed.with_context(|| format!("what was handed over (LISTEN_FDS{named}) is no TCP socket"))?,
        );
    }
    Ok(sockets)
}

/// The node serves.
pub(crate) fn ready() {
    send("READY=1");
}

/// The node is on its way out.
pub(crate) fn stopping() {
    send("STOPPING=1");
}

#[cfg(target_os = "linux")]
fn send(word: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let told = UnixDatagram::unbound().and_then(|socket| match path.strip_prefix('@') {
        Some(name) => socket.send_to_addr(word.as_bytes(), &SocketAddr::from_abstract_name(name)?),
        None => socket.send_to(word.as_bytes(), &path),
    });
    if let Err(error) = told {
        tracing::warn!("cannot tell systemd {word} on {path}: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn send(_: &str) {}
