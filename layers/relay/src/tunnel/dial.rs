//! From a remote's name to a link: TCP, TLS, HTTP/2.
//!
//! Invariant: every way it can fail has a sentence that a person can act on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use swiftproxy_core::error::Refusal;
use swiftproxy_core::tunnel::TunnelError;
use swiftproxy_wire::lean;
use swiftproxy_wire::record::{self, Channel};
use swiftproxy_wire::socket::expect_reader;
use swiftproxy_wire::tls::{ALPN_H2, Distrust, Trust, client_config, server_name};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::link::Link;
use super::remote::Remote;
use super::silence::WATCH;
use crate::direct::eyeballs::{interleave, race};

/// A link that is silent for so long is asked by the kernel too whether its peer is there, and how often again.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(15));

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

/// A link to the remote. Where there is `foreign`, the lean engine is offered first unless that says that the remote
/// does not know it; one that turns out not to is dialled again at once, and remembered there.
///
/// # Errors
/// `unreachable`, `certificate`, `protocol`.
pub(super) async fn dial(
    remote: &Remote,
    tls: Option<&Arc<ClientConfig>>,
    foreign: Option<&AtomicBool>,
    changed: watch::Sender<()>,
) -> Result<Arc<Link>, TunnelError> {
    if let Some(foreign) = foreign
        && !foreign.load(Relaxed)
    {
        match dial_lean(remote, tls, changed.clone()).await? {
            Some(link) => return Ok(link),
            None => foreign.store(true, Relaxed),
        }
    }
    dial_h2(remote, tls, changed).await
}

/// A link of the lean engine; none where the remote does not know it.
async fn dial_lean(
    remote: &Remote,
    tls: Option<&Arc<ClientConfig>>,
    changed: watch::Sender<()>,
) -> Result<Option<Arc<Link>>, TunnelError> {
    let stream = connect(remote).await?;
    let at = &remote.authority;
    let channel = match tls {
        None => Channel::clear(stream, Vec::new()),
        Some(config) => match record::connect(stream, config.clone(), name(remote)?).await {
            Ok(channel) if channel.alpn() == Some(ALPN_H2) => channel,
            Ok(_) => return Err(no_http2(at)),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(None),
            Err(error) => return Err(untrusted(at, &error)),
        },
    };
    match lean::connect(channel, WATCH, true).await {
        Ok((client, driver)) => Ok(Some(Link::start_lean(client, driver, changed))),
        Err(lean::Ending::Unknown) => Ok(None),
        // Whatever is wrong shows again, in the words of the other engine, if it is not the engine's.
        Err(lean::Ending::Fault(..) | lean::Ending::Peer(_)) => Ok(None),
        Err(_) => Err(no_http2(at)),
    }
}

fn name(remote: &Remote) -> Result<ServerName<'static>, TunnelError> {
    server_name(&remote.target.host.to_string()).map_err(|_| {
        let at = &remote.authority;
        TunnelError::new("bad_request", format!("{at} is not a name that a certificate has."))
    })
}

async fn dial_h2(
    remote: &Remote,
    tls: Option<&Arc<ClientConfig>>,
    changed: watch::Sender<()>,
) -> Result<Arc<Link>, TunnelError> {
    let stream = connect(remote).await?;
    let at = &remote.authority;
    let shaken = match tls {
        None => Link::start(stream, changed).await,
        Some(config) => {
            let stream = TlsConnector::from(config.clone())
                .connect(name(remote)?, stream)
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
    let addrs = interleave(found.into_iter().filter(|addr| remote.may_dial(*addr)));
    if addrs.is_empty() {
        return Err(TunnelError::new(
            "bad_request",
            format!("{at} is not this machine, and the link is not encrypted."),
        ));
    }
    let (_, stream) = race(&addrs, None).await.map_err(|refusal| unreachable(reason(refusal)))?;
    expect_reader(&stream);
    // The link asks its peer itself; this is for what TLS and its preface wait for.
    let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
    Ok(stream)
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Refused => "nobody listens on that port",
        Refusal::Timeout => "it does not answer",
        Refusal::UnreachableNet => "there is no network that leads there",
        Refusal::UnreachableHost => "there is no way to its host",
        _ => "the system does not say why",
    }
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
