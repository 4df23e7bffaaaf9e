//! One session through the tunnel: CONNECT (RFC 9113 §8.5), and the remote's answer in our own words.
//!
//! Invariant: a session that was not answered holds nothing once it is dropped; a request is sent again only
//! where the remote cannot have acted on it, or its link has died.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::PROXY_AUTHORIZATION;
use http::uri::{Authority, Uri};
use http::{Method, Request, Response, StatusCode};
use swiftproxy_core::cancel;
use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::opened::{Engine, Opened};
use swiftproxy_core::session::Session;
use swiftproxy_core::target::Target;
use swiftproxy_wire::proxy_status;
use tokio::time::{Instant, timeout, timeout_at};

use super::account;
use super::hub::Hub;
use super::link::{Fault, Place};
use super::uplink::{Choice, Uplink};

/// How many links are tried for one session, and more where there are more: all may end at once.
const TRIES: usize = 3;

/// Opens a session.
///
/// # Errors
/// The remote's refusal, or the tunnel's.
pub(super) async fn open(
    hub: Arc<Hub>,
    mut session: Session,
    engine: Arc<dyn Engine>,
) -> Result<Opened, Refusal> {
    if let Some(addr) = session.target().addr() {
        session.check_address(SocketAddr::new(addr.ip().to_canonical(), addr.port()))?;
    }
    let request = request(session.target())?;
    let live = session.live().clone();
    let opening = timeout(hub.settings().open_timeout, exchange(&hub, &request));
    let (place, end, bound) = tokio::select! {
        outcome = opening => outcome.map_err(|_| Refusal::Timeout)??,
        reason = live.cancel.fired() => return Err(cancelled(reason)),
    };
    if let Some(after) = hub.settings().idle_timeout {
        live.end_when_idle(after);
    }
    session.hold(place);
    Ok(Opened::new(session, bound, end, engine))
}

/// A CONNECT request without credentials; a name that no authority can hold resolves nowhere, and nobody listens on
/// port 0, which has no form in HTTP (RFC 9110 §9.3.6).
fn request(target: &Target) -> Result<Request<()>, Refusal> {
    if target.port == 0 {
        return Err(Refusal::Refused);
    }
    let authority = target.to_string();
    let authority = Authority::try_from(authority).map_err(|_| Refusal::DnsFailed)?;
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::from(authority);
    Ok(request)
}

async fn exchange(
    hub: &Hub,
    request: &Request<()>,
) -> Result<(Place, Box<dyn Endpoint>, Option<SocketAddr>), Refusal> {
    for _ in 0..TRIES.max(hub.settings().connections + 1) {
        let (uplink, place) = place(hub).await?;
        match ask(&uplink, &place, request.clone()).await {
            Ok((end, bound)) => return Ok((place, end, bound)),
            Err(Failure::Refused(refusal)) => return Err(refusal),
            Err(Failure::Link) => place.broke(),
            Err(Failure::Stops) => place.retire(),
            // One of ours turns nobody away but when it stops, and its word of that may be under way; others may have
            // enough at the moment.
            Err(Failure::Again) if uplink.is_verified() => place.retire(),
            Err(Failure::Again) => {}
        }
    }
    Err(Refusal::TunnelDown)
}

/// A place on a link, waiting for one as long as the settings say. Who cannot wait any more takes a link that is in
/// doubt, where there is one.
async fn place(hub: &Hub) -> Result<(Arc<Uplink>, Place), Refusal> {
    let deadline = Instant::now() + hub.settings().wait;
    let mut changes = hub.changes();
    let mut waiting = None;
    loop {
        changes.borrow_and_update();
        let uplink = hub.uplink().ok_or(Refusal::TunnelDown)?;
        if let Some(place) = uplink.place(Choice::Calm)? {
            return Ok((uplink, place));
        }
        if waiting.is_none() {
            waiting = hub.wait();
        }
        let waited = match &waiting {
            Some(_) => timeout_at(deadline, changes.changed()).await.is_ok_and(|told| told.is_ok()),
            None => false,
        };
        if !waited {
            let place = uplink.place(Choice::NotSilent)?.ok_or(Refusal::TunnelDown)?;
            return Ok((uplink, place));
        }
    }
}

enum Failure {
    /// The remote's answer.
    Refused(Refusal),
    /// The link is of no use any more.
    Link,
    /// The remote stops. Whoever takes its place may be there already.
    Stops,
    /// It did not look at the request, or the link was retired before.
    Again,
}

async fn ask(
    uplink: &Uplink,
    place: &Place,
    mut request: Request<()>,
) -> Result<(Box<dyn Endpoint>, Option<SocketAddr>), Failure> {
    if let Some(value) = uplink.remote.authorization() {
        request.headers_mut().insert(PROXY_AUTHORIZATION, value);
    }
    let sent = place.request(request, false).await.map_err(failure)?;
    let response = sent.ok_or(Failure::Again)?.answer().await.map_err(failure)?;
    if !response.status().is_success() {
        let refusal = refused(uplink, &response);
        if refusal == Refusal::Draining {
            return Err(Failure::Stops);
        }
        return Err(Failure::Refused(refusal));
    }
    let bound = proxy_status::bound(response.headers());
    Ok((response.into_body(), bound))
}

fn failure(fault: Fault) -> Failure {
    match fault {
        Fault::Unseen => Failure::Again,
        Fault::Stops => Failure::Stops,
        Fault::Connect => Failure::Refused(Refusal::UnreachableHost),
        Fault::Reset => Failure::Refused(Refusal::Internal),
        Fault::Link => Failure::Link,
    }
}

/// A refusal as the application hears it. What the remote has against our own login is noted on the uplink.
fn refused<T>(uplink: &Uplink, response: &Response<T>) -> Refusal {
    let told = proxy_status::from_headers(response.headers());
    let refusal = match (response.status(), told) {
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED, _) => Refusal::AuthFailed,
        (_, Some(refusal)) => refusal,
        (status, None) => by_status(status),
    };
    let of_login = matches!(
        refusal,
        Refusal::AuthRequired
            | Refusal::AuthFailed
            | Refusal::AccountDisabled
            | Refusal::AccountExpired
            | Refusal::QuotaExceeded
    );
    if of_login && let Some(error) = account::of_login(refusal, &uplink.remote.authority) {
        uplink.failed(error);
    }
    match refusal {
        Refusal::AuthRequired | Refusal::AuthFailed => Refusal::TunnelLogin,
        refusal => refusal,
    }
}

/// What a foreign proxy's status means, where it says no more.
fn by_status(status: StatusCode) -> Refusal {
    match status {
        StatusCode::BAD_REQUEST => Refusal::Malformed,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Refusal::UnsupportedCommand,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Refusal::Timeout,
        StatusCode::TOO_MANY_REQUESTS => Refusal::TooManyConnections,
        StatusCode::BAD_GATEWAY | StatusCode::NOT_FOUND => Refusal::UnreachableHost,
        StatusCode::SERVICE_UNAVAILABLE => Refusal::TunnelDown,
        status if status.is_client_error() => Refusal::Denied,
        _ => Refusal::Internal,
    }
}

fn cancelled(reason: cancel::Reason) -> Refusal {
    match reason {
        cancel::Reason::Disabled | cancel::Reason::Removed => Refusal::AccountDisabled,
        cancel::Reason::Shutdown => Refusal::Draining,
        cancel::Reason::Kicked | cancel::Reason::Denied => Refusal::Denied,
        cancel::Reason::Idle => Refusal::Timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_as_authorities() {
        let uri = |text: &str| request(&text.parse().unwrap()).map(|request| request.uri().to_string());
        assert_eq!(uri("a_b.example:443").as_deref(), Ok("a_b.example:443"));
        assert_eq!(uri("[::1]:1").as_deref(), Ok("[::1]:1"));
        assert_eq!(uri("b\u{fc}cher.example:1"), Err(Refusal::DnsFailed));
        assert_eq!(uri("192.0.2.1:0"), Err(Refusal::Refused));
    }
}
