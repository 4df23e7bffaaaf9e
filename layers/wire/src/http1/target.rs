//! What a request is for (RFC 9112 §3.2).
//!
//! Invariant: CONNECT has an authority and nothing else has one; of an absolute target the authority is the
//! only host there is.

use http::Method;
use http::uri::PathAndQuery;
use swiftproxy_core::target::Target;

use super::{HeadError, parse_authority};

/// A request's target in one of its four forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestTarget {
    /// CONNECT's: a tunnel to it. The port is never 0.
    Authority(Target),
    /// To be forwarded by `http`, the only scheme there is here; the port is 80 where none was given.
    Absolute {
        /// The origin's host and port.
        authority: Target,
        /// What to ask the origin for: begins with `/`, or is `*` for an OPTIONS of the whole origin.
        path_and_query: PathAndQuery,
    },
    /// For this server itself: begins with `/`.
    Origin(PathAndQuery),
    /// For this server as a whole (OPTIONS only).
    Asterisk,
}

impl RequestTarget {
    /// Reads the target of a request of `method`.
    pub(super) fn parse(method: &Method, text: &[u8]) -> Result<Self, HeadError> {
        if *method == Method::CONNECT {
            return parse_authority(text, None).map(Self::Authority);
        }
        if text == b"*" {
            return match *method == Method::OPTIONS {
                true => Ok(Self::Asterisk),
                false => Err(HeadError::Bad("* is a target of OPTIONS only")),
            };
        }
        if text.first() == Some(&b'/') {
            return path(text).map(Self::Origin);
        }
        let scheme_end = text.windows(3).position(|three| three == b"://");
        let (scheme, rest) = scheme_end
            .and_then(|end| Some((text.get(..end)?, text.get(end + 3..)?)))
            .ok_or(HeadError::Bad("a request target in no known form"))?;
        if !scheme.eq_ignore_ascii_case(b"http") {
            let well_formed = scheme.first().is_some_and(u8::is_ascii_alphabetic)
                && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
            return Err(match well_formed {
                true => HeadError::Scheme,
                false => HeadError::Bad("a request target in no known form"),
            });
        }
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (host, after) = rest.split_at_checked(end).unwrap_or((rest, b""));
        let authority = parse_authority(host, Some(80))?;
        let path_and_query = match after.first() {
            // RFC 9112 §3.2.4: the last proxy before the origin says `*`.
            None if *method == Method::OPTIONS => PathAndQuery::from_static("*"),
            None => PathAndQuery::from_static("/"),
            Some(b'?') => path(&[b"/", after].concat())?,
            Some(_) => path(after)?,
        };
        Ok(Self::Absolute { authority, path_and_query })
    }
}

/// A path with or without a query. Bytes beyond ASCII are no URI, but scripts send them, and they frame nothing.
fn path(text: &[u8]) -> Result<PathAndQuery, HeadError> {
    if text.contains(&b'#') {
        return Err(HeadError::Bad("a fragment in the request's target"));
    }
    PathAndQuery::try_from(text).map_err(|_| HeadError::Bad("a path that is none"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn get(text: &str) -> Result<RequestTarget, HeadError> {
        RequestTarget::parse(&Method::GET, text.as_bytes())
    }

    fn absolute(host: &str, port: u16, path: &'static str) -> Result<RequestTarget, HeadError> {
        let authority = Target::from_domain(host, port).expect("domain");
        Ok(RequestTarget::Absolute { authority, path_and_query: PathAndQuery::from_static(path) })
    }

    #[test]
    fn the_four_forms() {
        let connect = RequestTarget::parse(&Method::CONNECT, b"example.com:443");
        let target = Target::from_domain("example.com", 443).expect("domain");
        assert_eq!(connect, Ok(RequestTarget::Authority(target)));
        assert_eq!(get("http://example.com/a?b=c"), absolute("example.com", 80, "/a?b=c"));
        assert_eq!(get("HTTP://example.com:8080"), absolute("example.com", 8080, "/"));
        assert_eq!(get("http://example.com?q"), absolute("example.com", 80, "/?q"));
        let v6 = RequestTarget::Absolute {
            authority: "[2001:db8::1]:81".parse().expect("authority"),
            path_and_query: PathAndQuery::from_static("/"),
        };
        assert_eq!(get("http://[2001:db8::1]:81/"), Ok(v6));
        assert_eq!(get("/x"), Ok(RequestTarget::Origin(PathAndQuery::from_static("/x"))));
        assert_eq!(RequestTarget::parse(&Method::OPTIONS, b"*"), Ok(RequestTarget::Asterisk));
        let whole = RequestTarget::parse(&Method::OPTIONS, b"http://example.com");
        assert_eq!(whole, absolute("example.com", 80, "*"));
    }

    #[test]
    fn no_other_form() {
        for text in ["", "*", "example.com:80", "x", "http:/x", "http://", "http:///x", "://h/", "1://h/"] {
            assert!(matches!(get(text), Err(HeadError::Bad(_))), "{text}");
        }
        for text in [
            "http://u@h/",
            "http://u:p@h/",
            "http://h/#f",
            "/#f",
            "http://h#f",
            "/a b",
            "/a\x7fb",
            "/a\tb",
            "/a?\x01",
        ] {
            assert!(matches!(get(text), Err(HeadError::Bad(_))), "{text}");
        }
        assert_eq!(get("https://h/"), Err(HeadError::Scheme));
        assert_eq!(get("ftp://h/"), Err(HeadError::Scheme));
        for text in ["example.com", "/x", "http://h/", "*", "h:80/", "u@h:80", "h:0"] {
            assert!(RequestTarget::parse(&Method::CONNECT, text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_as_scripts_send_them() {
        for text in ["/é", "/a|b", "/[x]\"z\"?{y}", "/%zz", "//double", "/a?b?c"] {
            assert!(get(text).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>, text in "(http://)?[a-z@:/?#\\[\\]*%.]{0,30}") {
            for method in [Method::GET, Method::CONNECT, Method::OPTIONS] {
                let _ = RequestTarget::parse(&method, &bytes);
                let _ = RequestTarget::parse(&method, text.as_bytes());
            }
        }
    }
}
