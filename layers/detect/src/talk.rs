//! Which protocol it is, by the first byte.
//!
//! Invariant: a byte that begins no protocol of the listener's is not answered in somebody else's words; the
//! connection is closed at once.

use ::http::Method;
use std::pin::pin;
use swiftproxy_core::endpoint::{Endpoint, Tcp};
use swiftproxy_core::error::Refusal;
use swiftproxy_wire::http1::{Persistence, encode_refusal};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::Protocol;
use crate::context::Context;
use crate::deadline::Deadline;
use crate::inbox::{Fault, Inbox};
use crate::layer::Next;
use crate::{classic, http, socks4, socks5, tls, tunnel};

/// How a client begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    Socks5,
    Socks4,
    Classic,
    /// A TLS handshake record (RFC 8446 §5.1).
    Tls,
    /// A method.
    Http,
    /// The preface of HTTP/2 (RFC 9113 §3.4).
    Http2,
}

/// Tells the protocol, or needs more bytes.
fn opening(bytes: &[u8]) -> Result<Option<(Opening, usize)>, Refusal> {
    // `PRI` is no method of HTTP/1 (RFC 9113 §11.6), but `PRIX` might be.
    const PREFACE: &[u8] = b"PRI ";
    Ok(Some(match bytes {
        [5, ..] => Opening::Socks5,
        [4, ..] => Opening::Socks4,
        [0x16, ..] => Opening::Tls,
        [b'{', ..] => Opening::Classic,
        bytes if bytes.starts_with(PREFACE) => Opening::Http2,
        bytes if PREFACE.starts_with(bytes) => return Ok(None),
        [first, ..] if first.is_ascii_alphabetic() => Opening::Http,
        _ => return Err(Refusal::Malformed),
    })
    // Nothing is taken off: each protocol reads its first byte too.
    .map(|opening| (opening, 0)))
}

/// Serves one connection up to what is to be piped, or to its end.
pub(crate) async fn talk(ctx: Context, stream: TcpStream, deadline: Instant) -> Next {
    let mut inbox = Inbox::new(stream);
    let opening = match Deadline(deadline).hold(pin!(inbox.message(opening))).await {
        Ok(opening) => opening,
        Err(Fault::Refused(refusal)) => {
            ctx.count(refusal);
            return None;
        }
        Err(Fault::Gone) => return None,
    };
    let speaks = |protocol| ctx.settings.speaks(protocol);
    match opening {
        Opening::Socks5 if speaks(Protocol::Socks5) => socks5::serve(&ctx, inbox, deadline).await,
        Opening::Socks4 if speaks(Protocol::Socks4) => socks4::serve(&ctx, inbox, deadline).await,
        Opening::Classic if speaks(Protocol::Classic) => classic::serve(&ctx, inbox, deadline).await,
        // Boxed, so that the others' handshakes are not as large as theirs.
        Opening::Http if speaks(Protocol::Http) => {
            let (stream, early) = inbox.into_parts();
            let end = |stream, early| Box::new(Tcp::with_early(stream, early)) as Box<dyn Endpoint>;
            Box::pin(http::serve(stream, early, &ctx, deadline, end)).await
        }
        Opening::Tls if speaks(Protocol::Tunnel) => match ctx.settings.tls.clone() {
            Some(config) => Box::pin(tls::serve(ctx, inbox, config, deadline)).await,
            None => none(&ctx),
        },
        Opening::Http2 if speaks(Protocol::Tunnel) && ctx.settings.tls.is_none() => {
            Box::pin(tunnel::serve_clear(ctx, inbox, deadline)).await;
            None
        }
        Opening::Http => {
            ctx.count(Refusal::UnsupportedCommand);
            let mut words = Vec::new();
            encode_refusal(Refusal::UnsupportedCommand, &Method::GET, Persistence::Close, &mut words);
            inbox.part(&words).await;
            None
        }
        _ => none(&ctx),
    }
}

/// Closes on a client whose protocol is switched off.
fn none(ctx: &Context) -> Next {
    ctx.count(Refusal::UnsupportedCommand);
    None
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::testing::{Proxy, until};

    #[test]
    fn openings() {
        let one = |bytes: &[u8]| opening(bytes).map(|told| told.map(|(opening, _)| opening));
        assert_eq!(one(b"\x05"), Ok(Some(Opening::Socks5)));
        assert_eq!(one(b"\x04"), Ok(Some(Opening::Socks4)));
        assert_eq!(one(b"\x16"), Ok(Some(Opening::Tls)));
        assert_eq!(one(b"{"), Ok(Some(Opening::Classic)));
        for method in [&b"G"[..], b"c", b"PO", b"PRIX", b"PU"] {
            assert_eq!(one(method), Ok(Some(Opening::Http)), "{method:?}");
        }
        for short in [&b"P"[..], b"PR", b"PRI"] {
            assert_eq!(one(short), Ok(None), "{short:?}");
        }
        assert_eq!(one(b"PRI * HTTP/2.0"), Ok(Some(Opening::Http2)));
        for byte in (0..=255u8).filter(|byte| !byte.is_ascii_alphabetic() && !b"\x04\x05\x16{".contains(byte))
        {
            assert_eq!(one(&[byte]), Err(Refusal::Malformed), "{byte}");
        }
    }

    #[tokio::test]
    async fn a_wrong_first_byte_is_closed_at_once() {
        let proxy = Proxy::start("{}", None).await;
        assert_eq!(proxy.talk(b"\0", 1, false).await, b"");
        assert_eq!(proxy.refusals(Refusal::Malformed), 1);
    }

    #[tokio::test]
    async fn what_is_switched_off_is_turned_away() {
        let proxy = Proxy::start(r#"{"protocols": ["socks5"]}"#, None).await;
        for opening in [&b"\x04\x01"[..], b"\x16\x03\x01", b"{\"dst\"", b"PRI * HTTP/2.0\r\n"] {
            assert_eq!(proxy.talk(opening, 1, false).await, b"", "{opening:?}");
        }
        let http = proxy.talk(b"GET http://a.example/ HTTP/1.1\r\n", 99, false).await;
        assert!(http.starts_with(b"HTTP/1.1 501 "), "{}", http.escape_ascii());
        assert_eq!(proxy.refusals(Refusal::UnsupportedCommand), 5);
        let only = Proxy::start(r#"{"protocols": ["socks4"]}"#, None).await;
        assert_eq!(only.talk(b"\x05\x01\0", 1, false).await, b"");
    }

    #[tokio::test]
    async fn handshakes_in_flight_are_capped() {
        let proxy = Proxy::start(r#"{"max_handshakes_per_address": 2}"#, None).await;
        let (first, mut second) = (proxy.connect().await, proxy.connect().await);
        until(|| proxy.refusals(Refusal::TooManyConnections) == 0).await;
        let mut third = proxy.connect().await;
        let mut got = Vec::new();
        let _ = third.read_to_end(&mut got).await;
        until(|| proxy.refusals(Refusal::TooManyConnections) == 1).await;
        // A session that is open is no handshake any more.
        let piped = b"\x04\x01\x00\x50\xc0\x00\x02\x01\0";
        tokio::io::AsyncWriteExt::write_all(&mut second, piped).await.unwrap();
        second.read_exact(&mut [0; 14]).await.unwrap();
        assert_eq!(proxy.talk(piped, 99, true).await.len(), 14);
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_closed_at_the_deadline() {
        let proxy = Proxy::start("{}", None).await;
        let start = Instant::now();
        assert_eq!(proxy.talk(b"PR", 2, false).await, b"");
        assert!(start.elapsed() >= Duration::from_secs(10));
        until(|| proxy.served.load(SeqCst) == 1).await;
        assert_eq!(proxy.refusals(Refusal::HandshakeTimeout), 1);
    }
}
