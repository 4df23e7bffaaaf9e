//! From a remote's name to a link: TCP, TLS, HTTP/2.
//!
//! Invariant: every way it can fail has a sentence that a person can act on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use swiftproxy_core::tunnel::TunnelError;
use swiftproxy_wire::tls::{ALPN_H2, Distrust, Trust, client_config, server_name};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::link::Link;
use super::remote::Remote;

/// How long one address has before the next is tried beside it (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// How long sent bytes may stay unacknowledged; the far end always reads, so a closed window is no excuse.
#[cfg(any(target_os = "linux", target_os = "android"))]
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// What TLS needs to know of whom to trust, read from disk off the async threads; none is clear text.
///
/// # Errors
/// The platform's trust store cannot be used.
pub(super) async fn trust(remote: &Remote) -> Result<Option<Arc<ClientConfig>>, TunnelError> {
    let Some(trust) = remote.trust.clone() else { return Ok(None) };
    let pinned = matches!(trust, Trust::Pins(_));
    let config = match tokio::task::spawn_blocking(move || client_config(&trust)).await {
        Ok(Ok(config)) => return Ok(Some(config)),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let remedy = if pinned { "" } else { " Give the remote's public key as the pin instead." };
    Err(TunnelError::new(
        "certificate",
        format!("This system's trusted certificates cannot be used: {config}.{remedy}"),
    ))
}

/// A link to the remote.
///
/// # Errors
/// `unreachable`, `certificate`, `protocol`.
pub(super) async fn dial(
    remote: &Remote,
    tls: Option<&Arc<ClientConfig>>,
    changed: watch::Sender<()>,
) -> Result<Arc<Link>, TunnelError> {
    let stream = connect(remote).await?;
    let at = &remote.authority;
    let shaken = match tls {
        None => Link::start(stream, changed).await,
        Some(config) => {
            let name = server_name(&remote.target.host.to_string()).map_err(|_| {
                TunnelError::new("bad_request", format!("{at} is not a name that a certificate has."))
            })?;
            let stream = TlsConnector::from(config.clone())
                .connect(name, stream)
                .await
                .map_err(|error| untrusted(at, &error))?;
            if stream.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
                return Err(no_http2(at));
            }
            Link::start(stream, changed).await
        }
    };
    shaken.map_err(|_| no_http2(at))
}

fn no_http2(at: &str) -> TunnelError {
    TunnelError::new("protocol", format!("{at} answers, but does not speak HTTP/2 as a remote does."))
}

async fn connect(remote: &Remote) -> Result<TcpStream, TunnelError> {
    let at = &remote.authority;
    let unreachable = |why: &str| TunnelError::new("unreachable", format!("Cannot reach {at}: {why}."));
    let found: Vec<SocketAddr> = match remote.target.addr() {
        Some(addr) => vec![addr],
        None => tokio::net::lookup_host((remote.target.host.to_string(), remote.target.port))
            .await
            .map_err(|_| unreachable("its name does not resolve"))?
            .collect(),
    };
    if found.is_empty() {
        return Err(unreachable("its name has no address"));
    }
    let addrs: Vec<SocketAddr> = found.into_iter().filter(|addr| remote.may_dial(*addr)).collect();
    if addrs.is_empty() {
        return Err(TunnelError::new(
            "bad_request",
            format!("{at} is not this machine, and the link is not encrypted."),
        ));
    }
    let stream = race(interleave(addrs)).await.map_err(|error| unreachable(&reason(&error)))?;
    prepare(&stream);
    Ok(stream)
}

/// The families in turn, beginning with the one the resolver put first (RFC 8305 §4).
fn interleave(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|addr| addr.is_ipv6() == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    loop {
        match (one.next(), other.next()) {
            (None, None) => return turns,
            pair => turns.extend([pair.0, pair.1].into_iter().flatten()),
        }
    }
}

/// The first that connects; the first one's error where none does.
async fn race(addrs: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let (mut addrs, mut attempts) = (addrs.into_iter().peekable(), JoinSet::new());
    let mut failed = None;
    loop {
        if let Some(addr) = addrs.next() {
            attempts.spawn(TcpStream::connect(addr));
        }
        let more = addrs.peek().is_some();
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = tokio::time::sleep(STAGGER), if more => continue,
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => {
                failed.get_or_insert(error);
            }
            Some(Err(_)) => {}
            None => return Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())),
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens on that port".to_owned(),
        io::ErrorKind::NetworkUnreachable => "there is no network that leads there".to_owned(),
        io::ErrorKind::HostUnreachable => "there is no way to its host".to_owned(),
        io::ErrorKind::TimedOut => "it does not answer".to_owned(),
        _ => error.to_string(),
    }
}

/// A link's socket: small writes at once, and a far end that vanished is noticed. What fails here fails on use.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}

/// A handshake that failed, in a sentence.
fn untrusted(at: &str, error: &io::Error) -> TunnelError {
    if let Some(distrust) = Distrust::of(error) {
        let key = distrust.presented.as_deref().unwrap_or("unreadable");
        let advice = match distrust.why {
            None => format!("If its key was changed on purpose, pin this one: {key}"),
            Some(_) => format!("If this is its key, give it as the pin: {key}"),
        };
        return TunnelError::new("certificate", format!("Cannot trust {at}: {distrust}. {advice}"));
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => {
            TunnelError::new("protocol", format!("{at} answers, but does not speak TLS."))
        }
        Some(
            rustls::Error::NoApplicationProtocol
            | rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol),
        ) => no_http2(at),
        Some(rustls::Error::InvalidCertificate(_)) => {
            TunnelError::new("certificate", format!("Cannot trust {at}: {error}."))
        }
        Some(error) => TunnelError::new("protocol", format!("TLS with {at} failed: {error}.")),
        None => TunnelError::new("unreachable", format!("{at} broke the connection off ({error}).")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (a, b, c) = (addr("[::1]:1"), addr("[::2]:1"), addr("127.0.0.1:1"));
        assert_eq!(interleave(vec![a, b, c]), [a, c, b]);
        assert_eq!(interleave(vec![c, a, b]), [c, a, b]);
    }

    #[tokio::test]
    async fn the_next_address_is_tried() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let dead = {
            let gone = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
            gone.local_addr().unwrap()
        };
        assert_eq!(race(vec![dead, good]).await.unwrap().peer_addr().unwrap(), good);
        assert_eq!(race(vec![dead]).await.expect_err("nobody").kind(), io::ErrorKind::ConnectionRefused);
    }
}
