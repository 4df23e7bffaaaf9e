//! The talk with a SOCKS4 or SOCKS4a client.
//!
//! Invariant: every refusal is 0x5B, and where a password is needed so is every request: a user id proves nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;

use swiftproxy_core::error::Refusal;
use swiftproxy_wire::socks4::{Command, Reply, Request, RequestError};
use tokio::time::Instant;

use crate::context::Context;
use crate::deadline::Deadline;
use crate::inbox::{Fault, Inbox};
use crate::layer::Next;

/// Serves one client up to what is to be piped.
pub(crate) async fn serve(ctx: &Context, mut inbox: Inbox, deadline: Instant) -> Next {
    let read = |bytes: &[u8]| -> Result<_, RequestError> {
        Ok(Request::parse(bytes)?.map(|(request, n)| ((request.command, request.target), n)))
    };
    let barred =
        ctx.authenticator.as_ref().is_some_and(|authenticator| authenticator.wants_password(ctx.client));
    let read = Deadline(deadline).hold(pin!(inbox.message(read))).await;
    let opened = match read {
        Ok(_) if barred => Err(ctx.count(Refusal::AuthRequired)),
        Ok((Command::Connect, target)) => {
            inbox.unless_reset(pin!(ctx.open("socks4", target, None, None))).await.ok()?
        }
        Ok((Command::Bind, _)) => Err(ctx.count(Refusal::UnsupportedCommand)),
        Err(Fault::Gone) => return None,
        Err(Fault::Refused(Refusal::HandshakeTimeout)) => {
            ctx.count(Refusal::HandshakeTimeout);
            return None;
        }
        Err(Fault::Refused(refusal)) => Err(ctx.count(refusal)),
    };
    match opened {
        Ok(opened) => {
            let bound = opened.bound().unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
            inbox.say(&Reply::opened(bound).encode()).await.ok()?;
            Some((opened, Box::new(inbox.into_end())))
        }
        Err(_) => {
            inbox.part(&Reply::refused().encode()).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Passwords, Proxy};

    use super::*;

    const REQUEST: &[u8] = b"\x04\x01\x01\xbb\x00\x00\x00\x01me\0example.org\0";
    const OPENED: &[u8] = &[0, 0x5A, 0x12, 0x67, 192, 0, 2, 77];
    const REFUSED: &[u8] = &[0, 0x5B, 0, 0, 0, 0, 0, 0];

    #[tokio::test]
    async fn split_at_every_byte_and_all_in_one_segment() {
        let proxy = Proxy::start("{}", None).await;
        let all = [REQUEST, b"early data"].concat();
        for step in [1, 2, 5, all.len()] {
            assert_eq!(proxy.talk(&all, step, true).await, [OPENED, b"hello early data"].concat());
        }
        let four = b"\x04\x01\x00\x50\xc0\x00\x02\x01\0";
        assert_eq!(proxy.talk(four, 1, true).await, [OPENED, b"hello "].concat());
        let targets: Vec<_> = proxy.seen().into_iter().map(|seen| seen.target).collect();
        assert_eq!(targets[3..], ["example.org:443", "192.0.2.1:80"]);
        assert!(proxy.seen().iter().all(|seen| seen.protocol == "socks4" && seen.credentials.is_none()));
    }

    #[tokio::test]
    async fn every_refusal_is_the_one_code() {
        let proxy = Proxy::start("{}", None).await;
        for refusal in Refusal::all() {
            let all = format!("\x04\x01\x01\x01\x00\x00\x00\x01\0{}.refused\0", refusal.label())
                + &"x".repeat(9999);
            assert_eq!(proxy.talk(all.as_bytes(), all.len(), false).await, REFUSED, "{refusal:?}");
        }
        assert_eq!(proxy.talk(b"\x04\x02\x00\x50\x7f\x00\x00\x01\0", 1, false).await, REFUSED, "BIND");
        assert_eq!(proxy.talk(b"\x04\x09\x00\x50\x7f\x00\x00\x01\0", 1, false).await, REFUSED);
        assert_eq!(proxy.talk(b"\x04\x01\x00\x50\x00\x00\x00\x01\0\0", 1, false).await, REFUSED, "no name");
        assert_eq!((proxy.refusals(Refusal::UnsupportedCommand), proxy.refusals(Refusal::Malformed)), (2, 1));
        let endless = [b"\x04\x01\x00\x50\x7f\x00\x00\x01".to_vec(), vec![b'a'; 9999]].concat();
        assert_eq!(proxy.talk(&endless, 9999, false).await, REFUSED);
    }

    #[tokio::test]
    async fn where_a_password_is_needed_nobody_comes_in() {
        let proxy = Proxy::start("{}", Some(Passwords::default())).await;
        assert_eq!(proxy.talk(REQUEST, 1, false).await, REFUSED);
        assert_eq!(proxy.refusals(Refusal::AuthRequired), 1);
        assert!(proxy.seen().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_a_close() {
        let proxy = Proxy::start("{}", None).await;
        assert_eq!(proxy.talk(&REQUEST[..9], 9, false).await, b"");
        assert_eq!(proxy.refusals(Refusal::HandshakeTimeout), 1);
    }
}
