//! Requests and responses as header blocks (RFC 9113 §8.3), CONNECT foremost (§8.5).
//!
//! Invariant: a block that breaks a rule of the standard is malformed as a whole; what is sent keeps them.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, StatusCode};

use super::hpack::{self, Wrong};

/// Bytes of names and values of one block.
pub(super) const MAX_FIELDS: usize = 16 * 1024;

/// Why a block is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A connection error.
    Coding,
    /// A stream error (RFC 9113 §8.1.1).
    Message,
}

#[derive(Default)]
struct Fields {
    method: Option<Vec<u8>>,
    scheme: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    status: Option<Vec<u8>>,
    headers: HeaderMap,
    wrong: bool,
}

impl Fields {
    fn read(block: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        match hpack::decode(block, MAX_FIELDS, |name, value| fields.take(name, value)) {
            Ok(()) if fields.wrong => Err(Malformed::Message),
            Ok(()) => Ok(fields),
            Err(Wrong::Coding) => Err(Malformed::Coding),
            Err(Wrong::TooLarge) => Err(Malformed::Message),
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) {
        self.wrong |= self.add(name, value).is_none();
    }

    fn add(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if let [b':', pseudo @ ..] = name {
            let place = match pseudo {
                b"method" => &mut self.method,
                b"scheme" => &mut self.scheme,
                b"authority" => &mut self.authority,
                b"path" => &mut self.path,
                b"status" => &mut self.status,
                _ => return None,
            };
            // Pseudo-fields come first, each once.
            if place.is_some() || !self.headers.is_empty() {
                return None;
            }
            *place = Some(value.to_vec());
            return Some(());
        }
        if name.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        match name {
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
                return None;
            }
            b"te" if value != b"trailers" => return None,
            _ => {}
        }
        if value.first().or(value.last()).is_some_and(|byte| matches!(byte, b' ' | b'\t'))
            || value.last().is_some_and(|byte| matches!(byte, b' ' | b'\t'))
        {
            return None;
        }
        let name = HeaderName::from_bytes(name).ok()?;
        let mut value = HeaderValue::from_bytes(value).ok()?;
        value.set_sensitive(name == PROXY_AUTHORIZATION || name == AUTHORIZATION);
        self.headers.try_append(name, value).ok()?;
        Some(())
    }
}

/// Reads a request's block.
pub(super) fn request(block: &[u8]) -> Result<Request<()>, Malformed> {
    let fields = Fields::read(block)?;
    build_request(fields).ok_or(Malformed::Message)
}

fn build_request(fields: Fields) -> Option<Request<()>> {
    if fields.status.is_some() {
        return None;
    }
    let method = Method::from_bytes(&fields.method?).ok()?;
    let authority = match fields.authority {
        Some(authority) => Some(Authority::try_from(&authority[..]).ok()?),
        None => None,
    };
    let uri = if method == Method::CONNECT {
        if fields.scheme.is_some() || fields.path.is_some() {
            return None;
        }
        Uri::from(authority?)
    } else {
        let scheme = Scheme::try_from(&fields.scheme?[..]).ok()?;
        let path = fields.path.filter(|path| !path.is_empty())?;
        let path = PathAndQuery::try_from(&path[..]).ok()?;
        Uri::builder().scheme(scheme).authority(authority?).path_and_query(path).build().ok()?
    };
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = fields.headers;
    Some(request)
}

/// Reads a response's block.
pub(super) fn response(block: &[u8]) -> Result<Response<()>, Malformed> {
    let fields = Fields::read(block)?;
    build_response(fields).ok_or(Malformed::Message)
}

fn build_response(fields: Fields) -> Option<Response<()>> {
    if fields.method.is_some()
        || fields.scheme.is_some()
        || fields.authority.is_some()
        || fields.path.is_some()
    {
        return None;
    }
    let status = StatusCode::from_bytes(&fields.status?).ok()?;
    // RFC 9113 §8.6: there is no switching of protocols.
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return None;
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = http::Version::HTTP_2;
    *response.headers_mut() = fields.headers;
    Some(response)
}

/// Prints a request; none where HTTP/2 has no form for it.
pub(super) fn put_request(request: &Request<()>, out: &mut Vec<u8>) -> Option<()> {
    let uri = request.uri();
    let authority = uri.authority()?.as_str().as_bytes();
    hpack::encode(out, ":method", request.method().as_str().as_bytes(), false);
    if request.method() != Method::CONNECT {
        hpack::encode(out, ":scheme", uri.scheme_str()?.as_bytes(), false);
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        hpack::encode(out, ":path", path.as_bytes(), false);
    }
    hpack::encode(out, ":authority", authority, false);
    put_headers(request.headers(), out);
    Some(())
}

/// Prints a response.
pub(super) fn put_response(response: &Response<()>, out: &mut Vec<u8>) {
    hpack::encode(out, ":status", response.status().as_str().as_bytes(), false);
    put_headers(response.headers(), out);
}

fn put_headers(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        let secret = value.is_sensitive() || name == PROXY_AUTHORIZATION || name == AUTHORIZATION;
        hpack::encode(out, name.as_str(), value.as_bytes(), secret);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in fields {
            hpack::encode(&mut out, name, value.as_bytes(), false);
        }
        out
    }

    #[test]
    fn requests_come_back() {
        for uri in ["a.example:443", "[::1]:1"] {
            let mut sent = Request::connect(uri).body(()).unwrap();
            sent.headers_mut().insert(PROXY_AUTHORIZATION, HeaderValue::from_static("Basic eA=="));
            let mut out = Vec::new();
            put_request(&sent, &mut out).unwrap();
            let got = request(&out).unwrap();
            assert_eq!((got.method(), got.uri(), got.headers()), (sent.method(), sent.uri(), sent.headers()));
        }
        let sent = Request::get("https://a.example/.well-known/x?y").body(()).unwrap();
        let mut out = Vec::new();
        put_request(&sent, &mut out).unwrap();
        assert_eq!(request(&out).unwrap().uri(), sent.uri());
    }

    #[test]
    fn responses_come_back() {
        for status in [100, 200, 204, 407, 502, 599] {
            let sent = Response::builder().status(status).header("proxy-status", "x").body(()).unwrap();
            let mut out = Vec::new();
            put_response(&sent, &mut out);
            let got = response(&out).unwrap();
            assert_eq!((got.status(), got.headers()), (sent.status(), sent.headers()));
        }
    }

    #[test]
    fn malformed_ones() {
        let connect = (":method", "CONNECT");
        let bad: &[&[(&str, &str)]] = &[
            &[],
            &[connect],
            &[(":authority", "a:1")],
            &[connect, (":authority", "a:1"), (":path", "/")],
            &[connect, (":authority", "a:1"), (":scheme", "http")],
            &[connect, connect, (":authority", "a:1")],
            &[connect, (":authority", "a b")],
            &[connect, (":authority", "a:1"), (":status", "200")],
            &[connect, (":authority", "a:1"), (":extra", "x")],
            &[connect, ("x", "y"), (":authority", "a:1")],
            &[connect, (":authority", "a:1"), ("X", "y")],
            &[connect, (":authority", "a:1"), ("connection", "x")],
            &[connect, (":authority", "a:1"), ("transfer-encoding", "chunked")],
            &[connect, (":authority", "a:1"), ("te", "gzip")],
            &[connect, (":authority", "a:1"), ("x", " y")],
            &[connect, (":authority", "a:1"), ("x", "y\n")],
            &[connect, (":authority", "a:1"), ("x y", "z")],
            &[(":method", "GET"), (":scheme", "http"), (":authority", "a")],
            &[(":method", "GET"), (":path", "/"), (":authority", "a")],
            &[(":method", "GET"), (":path", ""), (":scheme", "http"), (":authority", "a")],
        ];
        for fields in bad {
            assert_eq!(request(&block(fields)).err(), Some(Malformed::Message), "{fields:?}");
        }
        for fields in [&[][..], &[(":status", "20")], &[(":status", "101")], &[(":status", "200"), connect]] {
            assert_eq!(response(&block(fields)).err(), Some(Malformed::Message), "{fields:?}");
        }
        assert_eq!(request(&[0xff]).err(), Some(Malformed::Coding));
        let many: Vec<_> = (0..600).map(|_| ("a", "0123456789")).collect();
        assert_eq!(request(&block(&many)).err(), Some(Malformed::Message), "too many fields");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = request(&bytes);
            let _ = response(&bytes);
        }
    }
}
