//! systemd's readiness protocol (sd_notify(3)): one datagram, when `NOTIFY_SOCKET` names a socket.

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
