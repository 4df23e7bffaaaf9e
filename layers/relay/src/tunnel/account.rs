//! Asking the remote who we are: `GET /.well-known/swiftproxy/account` inside the link.
//!
//! Invariant: a remote that does not know the question is a foreign proxy, not an error; a login that it
//! rejects is one.

use std::future::poll_fn;
use std::io;

use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{Request, StatusCode};
use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::tunnel::{AccountView, TunnelError};
use swiftproxy_wire::proxy_status;

use super::link::Place;
use super::remote::Remote;

/// Where the account's owner asks.
const PATH: &str = "/.well-known/swiftproxy/account";

/// Longer answers are none of ours.
const MOST: usize = 64 * 1024;

/// Asks; none where the remote does not know such a question.
///
/// # Errors
/// `auth_failed`, `account_disabled`, `account_expired`, `quota_exceeded`, `unavailable`, `protocol`.
pub(super) async fn ask(place: &Place, remote: &Remote) -> Result<Option<AccountView>, TunnelError> {
    let at = &remote.authority;
    let broke = || TunnelError::new("protocol", format!("{at} broke the connection off before it answered."));
    let scheme = if remote.trust.is_some() { "https" } else { "http" };
    let mut request = Request::get(format!("{scheme}://{at}{PATH}"))
        .body(())
        .map_err(|_| TunnelError::new("bad_request", format!("{at} cannot be asked.")))?;
    if let Some(value) = remote.authorization() {
        // A proxy of ours reads the first; an ordinary server, which is what it is here, the second.
        request.headers_mut().insert(PROXY_AUTHORIZATION, value.clone());
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let sent = place.request(request, true).await.map_err(|_| broke())?;
    let Some(asked) = sent else {
        return Err(TunnelError::new("unreachable", format!("The connection to {at} has just ended.")));
    };
    let (head, body) = asked.answer().await.map_err(|_| broke())?.into_parts();
    match head.status {
        StatusCode::OK => {
            let body = read(body).await.map_err(|_| broke())?;
            Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
        }
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Err(match &remote.credentials {
                None => TunnelError::new("auth_required", format!("{at} wants a user name and a password.")),
                Some(_) => wrong_password(),
            })
        }
        _ => match proxy_status::from_headers(&head.headers).and_then(|refusal| of_login(refusal, at)) {
            Some(error) => Err(error),
            None => Ok(None),
        },
    }
}

/// What the remote has against a login, in a sentence.
pub(super) fn of_login(refusal: Refusal, at: &str) -> Option<TunnelError> {
    let (label, message) = match refusal {
        Refusal::AuthFailed | Refusal::AuthRequired => return Some(wrong_password()),
        Refusal::AccountDisabled => ("account_disabled", "This account is disabled.".to_owned()),
        Refusal::AccountExpired => ("account_expired", "This account has expired.".to_owned()),
        Refusal::QuotaExceeded => ("quota_exceeded", "This account's quota is used up.".to_owned()),
        Refusal::Draining => ("unavailable", format!("{at} is shutting down.")),
        Refusal::TooManyConnections => ("unavailable", format!("{at} has too many connections.")),
        _ => return None,
    };
    Some(TunnelError::new(label, message))
}

fn wrong_password() -> TunnelError {
    TunnelError::new("auth_failed", "The user name or the password is wrong.")
}

/// A whole body; none where it is too long.
async fn read(mut body: Box<dyn Endpoint>) -> io::Result<Option<Vec<u8>>> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 4096]);
    loop {
        let n = poll_fn(|cx| body.poll_read(cx, &mut buffer)).await?;
        let Some(more @ [_, ..]) = buffer.get(..n) else { return Ok(Some(all)) };
        if all.len() + n > MOST {
            return Ok(None);
        }
        all.extend_from_slice(more);
    }
}
