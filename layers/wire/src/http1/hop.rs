//! What ends at each hop: fields, persistence, upgrades (RFC 9110 §7.6.1, RFC 9112 §9.3).
//!
//! Invariant: nothing that was said to this proxy reaches the next one, credentials least of all; nothing that
//! was said through it is lost because a `Connection` names it.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::head::tokens;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// RFC 9110 §11.7.3.
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// Whether a connection outlives the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It is closed after this one.
    Close,
    /// It goes on, as HTTP/1.1 does unasked.
    KeepAlive,
}

/// What becomes of a client's connection after a request. A proxy keeps none with a client of HTTP/1.0, whatever
/// it asks for (RFC 9112 §9.3), and `Proxy-Connection` means nothing.
pub fn persistence(version: Version, headers: &HeaderMap) -> Persistence {
    if version < Version::HTTP_11 || names(headers, b"close") {
        Persistence::Close
    } else {
        Persistence::KeepAlive
    }
}

/// The protocols that the sender would change to: `Upgrade`, if `Connection` names it too.
pub fn upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(UPGRADE).filter(|_| names(headers, b"upgrade"))
}

/// Whether the client holds its body back until it is told to go on (RFC 9110 §10.1.1); never in HTTP/1.0.
pub fn expects_continue(version: Version, headers: &HeaderMap) -> bool {
    version >= Version::HTTP_11
        && headers.get_all(EXPECT).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Takes off what is for this hop only: `Connection` and all it names, and the fields that are known to be.
/// `Host` and `Content-Length` stay, whoever names them, or a client could unframe its request at the next hop.
/// `Trailer` stays, for trailers are passed on.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            tokens(headers, &CONNECTION).filter_map(|token| HeaderName::from_bytes(token).ok()).collect();
        for name in named.iter().filter(|name| **name != HOST && **name != CONTENT_LENGTH) {
            headers.remove(name);
        }
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHENTICATION_INFO,
        PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
}

/// Whether `Connection` names the option.
fn names(headers: &HeaderMap, option: &[u8]) -> bool {
    tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_is_for_this_hop_goes() {
        let mut all = headers(&[
            ("connection", "X-One, keep-alive"),
            ("connection", "x-two,,host, Content-Length, not a name"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-two", "two"),
            ("host", "h"),
            ("content-length", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "nextnonce=1"),
            ("proxy-authorization", "Basic eDp5"),
            ("authorization", "Basic eDp5"),
        ]);
        strip_hop_by_hop(&mut all);
        let mut left: Vec<&str> = all.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length", "host", "trailer"]);
    }

    #[test]
    fn connections_go_on_or_do_not() {
        let of = |version, value| persistence(version, &headers(&[("connection", value)]));
        assert_eq!(persistence(Version::HTTP_11, &HeaderMap::new()), Persistence::KeepAlive);
        assert_eq!(persistence(Version::HTTP_10, &HeaderMap::new()), Persistence::Close);
        assert_eq!(of(Version::HTTP_11, "x, Close"), Persistence::Close);
        assert_eq!(of(Version::HTTP_11, "x, closed"), Persistence::KeepAlive);
        assert_eq!(of(Version::HTTP_10, "keep-alive"), Persistence::Close);
    }

    #[test]
    fn upgrades_are_meant() {
        let both = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade(&both), Some(&HeaderValue::from_static("websocket")));
        assert_eq!(upgrade(&headers(&[("upgrade", "websocket")])), None);
        let expects = headers(&[("expect", "100-Continue")]);
        assert!(expects_continue(Version::HTTP_11, &expects));
        assert!(!expects_continue(Version::HTTP_10, &expects));
    }
}
