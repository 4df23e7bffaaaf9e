//! The head of a request.
//!
//! Invariant: a head that parses has one meaning: its body's length is settled, and `Host` is the target's own
//! where the target names one (RFC 9112 §3.2.2).

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Version};

use super::head::{Extent, Scan, encode_fields, fields};
use super::{BodyLength, HeadError, RequestTarget, body, parse_authority, print_authority};

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// What to do; any token.
    pub method: Method,
    /// With what.
    pub target: RequestTarget,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields as they came, in their order by name; but `Host` is rewritten from an absolute target. Framing
    /// and hop-by-hop fields are among them.
    pub headers: HeaderMap,
    /// How long the body behind the head is.
    pub body: BodyLength,
}

/// Reads one head that arrives in pieces; each byte is looked at once.
#[derive(Debug, Default, Clone)]
pub struct HeadReader(Scan);

impl HeadReader {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on: `bytes` begin where the head begins, or would, and hold all that came since. `None` is "more
    /// bytes are needed"; the number is the head's length. A reader that returned a head is spent.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, HeadError> {
        let Some(extent) = self.0.advance(bytes)? else { return Ok(None) };
        Ok(Some((head(extent)?, extent.length)))
    }
}

/// Reads a head from bytes that hold all of it, or not yet.
pub fn parse_request(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, HeadError> {
    HeadReader::new().read(bytes)
}

fn head(extent: Extent<'_>) -> Result<RequestHead, HeadError> {
    let (method, target, version) = request_line(extent.start_line)?;
    let mut headers = fields(extent.fields)?;
    let body = body::of_request(&method, version, &headers)?;
    check_host(version, &headers)?;
    if let RequestTarget::Absolute { authority: host, .. } | RequestTarget::Authority(host) = &target {
        let host = HeaderValue::try_from(match target {
            RequestTarget::Authority(_) => host.to_string(),
            _ => print_authority(host),
        });
        headers.insert(HOST, host.map_err(|_| HeadError::Bad("not a host"))?);
    }
    Ok(RequestHead { method, target, version, headers, body })
}

/// Method, target and version with one space between (RFC 9112 §3).
fn request_line(line: &[u8]) -> Result<(Method, RequestTarget, Version), HeadError> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::Bad("the request line is not method, target and version"));
    };
    let version = read_version(version)?;
    let method = Method::from_bytes(method).map_err(|_| HeadError::Bad("a method that is no token"))?;
    let target = RequestTarget::parse(&method, target)?;
    Ok((method, target, version))
}

/// `HTTP/1.0` and `HTTP/1.1`; another number is an error of its own.
pub(super) fn read_version(text: &[u8]) -> Result<Version, HeadError> {
    match text {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(HeadError::Version),
        _ => Err(HeadError::Bad("not a version of HTTP")),
    }
}

/// One `Host` in HTTP/1.1, at most one before; empty, or a host with or without a port (RFC 9112 §3.2).
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), HeadError> {
    let mut hosts = headers.get_all(HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(HeadError::Bad("more than one Host"));
    }
    match first {
        None if version >= Version::HTTP_11 => Err(HeadError::Bad("no Host")),
        None => Ok(()),
        Some(host) if host.is_empty() => Ok(()),
        Some(host) => parse_authority(host.as_bytes(), Some(80)).map(drop),
    }
}

/// Appends a request's head as it stands; `target` is written as given (`host:port`, `/path`, `http://…`).
pub fn encode_request(method: &Method, target: &str, headers: &HeaderMap, out: &mut Vec<u8>) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    encode_fields(headers, out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::uri::PathAndQuery;
    use proptest::prelude::*;

    use super::*;
    use crate::http1::{MAX_FIELDS, MAX_HEADERS, MAX_REQUEST_LINE};
    use crate::socks5::tests::targets;

    /// The status that these bytes are refused with; 200 for a head, 100 for a part of one.
    fn status(bytes: &[u8]) -> StatusCode {
        match parse_request(bytes) {
            Ok(Some(_)) => StatusCode::OK,
            Ok(None) => StatusCode::CONTINUE,
            Err(error) => error.status(),
        }
    }

    fn head(text: &str) -> RequestHead {
        let (head, n) = parse_request(text.as_bytes()).expect("well formed").expect("whole");
        assert_eq!(n, text.len());
        head
    }

    #[test]
    fn a_request_to_forward() {
        let head = head(
            "POST http://example.com:81/a?b HTTP/1.1\r\nHost: other\r\nContent-Length: 3\r\nX: 1 \r\n\r\n",
        );
        assert_eq!((head.method, head.version), (Method::POST, Version::HTTP_11));
        assert_eq!(head.body, BodyLength::Length(3));
        assert_eq!(head.headers[HOST], "example.com:81", "the absolute target wins");
        assert_eq!(head.headers["x"], "1");
    }

    #[test]
    fn a_tunnel_to_open() {
        let head = head("\r\nCONNECT [::1]:443 HTTP/1.0\r\nProxy-Authorization: Basic eDp5\r\n\r\n");
        let target: swiftproxy_core::target::Target = "[::1]:443".parse().expect("authority");
        assert_eq!(head.target, RequestTarget::Authority(target));
        assert_eq!(head.headers[HOST], "[::1]:443");
        assert!(head.headers["proxy-authorization"].is_sensitive());
    }

    #[test]
    fn split_at_every_byte_and_followed_by_a_body() {
        let bytes = b"\r\nGET /x HTTP/1.1\r\nHost: h\r\nA: b\r\nA: c\r\n\r\nGET / HTTP";
        let n = bytes.len() - 10;
        let whole = parse_request(bytes).expect("well formed").expect("whole");
        assert_eq!(whole.1, n);
        let mut reader = HeadReader::new();
        for short in 0..n {
            assert_eq!(reader.read(&bytes[..short]), Ok(None), "{short}");
            assert_eq!(parse_request(&bytes[..short]), Ok(None), "{short}");
        }
        assert_eq!(reader.read(bytes), Ok(Some(whole)));
    }

    #[test]
    fn what_smugglers_use() {
        let lines = [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length : 5",
            "Content-Length\t: 5",
            " Content-Length: 5",
            "X: a\r\n b",
            "X: a\r\n\tb",
            "X: a\nY: b",
            "X: a\rY: b",
            "X: a\0b",
            "X\0: a",
            "X: a\x0bb",
            "X: a\x7fb",
            ": a",
            "X a",
            "X",
            "Host: b",
            "Transfer-Encoding: \x0bchunked",
            "Transfer-Encoding: chunked, gzip",
            "Transfer_Encoding\u{a0}: chunked",
        ];
        for line in lines {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
            assert_eq!(status(text.as_bytes()), StatusCode::BAD_REQUEST, "{line:?}");
        }
        let unknown = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        assert_eq!(status(unknown), StatusCode::NOT_IMPLEMENTED);
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(status(old), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn request_lines() {
        let cases = [
            ("GET / HTTP/1.1", 200),
            ("GET / HTTP/1.0", 200),
            ("get / HTTP/1.1", 200),
            ("GET / HTTP/1.2", 505),
            ("GET / HTTP/2.0", 505),
            ("PRI * HTTP/2.0", 505),
            ("GET /", 400),
            ("GET  / HTTP/1.1", 400),
            ("GET /  HTTP/1.1", 400),
            ("GET\t/\tHTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            (" GET / HTTP/1.1", 400),
            ("GET / http/1.1", 400),
            ("GET / HTTP/1.10", 400),
            ("G@T / HTTP/1.1", 400),
            ("GET /a\nb HTTP/1.1", 400),
            ("GET /a\0b HTTP/1.1", 400),
            ("GET https://a/ HTTP/1.1", 501),
            ("CONNECT a HTTP/1.1", 400),
        ];
        for (line, expected) in cases {
            assert_eq!(status(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn hosts() {
        let cases = [
            ("", 400),
            ("Host:\r\n", 200),
            ("Host: a:80\r\n", 200),
            ("Host: a b\r\n", 400),
            ("Host: a, b\r\n", 400),
            ("Host: u@a\r\n", 400),
            ("Host: a:x\r\n", 400),
            ("Host: http://a\r\n", 400),
        ];
        for (line, expected) in cases {
            assert_eq!(status(format!("GET / HTTP/1.1\r\n{line}\r\n").as_bytes()), expected, "{line:?}");
        }
        assert_eq!(status(b"GET / HTTP/1.0\r\n\r\n"), 200);
    }

    #[test]
    fn bounds() {
        let line = |path: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(path));
        let room = MAX_REQUEST_LINE - "GET / HTTP/1.1\r\n".len();
        assert_eq!(status(line(room).as_bytes()), 200);
        assert_eq!(status(line(room + 1).as_bytes()), 414);
        assert_eq!(status(&[b'A'; MAX_REQUEST_LINE]), 100);
        assert_eq!(status(&[b'A'; MAX_REQUEST_LINE + 1]), 414, "before it ends");

        let start = "GET / HTTP/1.1\r\n";
        let section = |n: usize| format!("{start}Host: a\r\nX: {}\r\n\r\n", "a".repeat(n));
        let room = MAX_HEADERS - "Host: a\r\nX: \r\n\r\n".len();
        assert_eq!(status(section(room).as_bytes()), 200);
        assert_eq!(status(section(room + 1).as_bytes()), 431);
        assert_eq!(status(&section(MAX_HEADERS + 9).as_bytes()[..start.len() + MAX_HEADERS + 1]), 431);

        let many = |n: usize| format!("{start}Host: a\r\n{}\r\n", "X: a\r\n".repeat(n));
        assert_eq!(status(many(MAX_FIELDS - 1).as_bytes()), 200);
        assert_eq!(status(many(MAX_FIELDS).as_bytes()), 431);

        assert_eq!(status("\r\n".repeat(4).as_bytes()), 100);
        assert_eq!(status("\r\n".repeat(5).as_bytes()), 400);
    }

    #[test]
    fn every_error_says_what_is_wrong() {
        let mut out = Vec::new();
        crate::http1::encode_head_error(HeadError::LineTooLong, &mut out);
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("HTTP/1.1 414 URI Too Long\r\n"), "{text}");
        assert!(text.contains("connection: close\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nSwiftProxy: the request line is longer than 16 KiB.\n"), "{text}");
    }

    proptest! {
        #[test]
        fn round_trip(
            target in targets(),
            path in "/[a-z0-9/]{0,20}(\\?[a-z=&]{0,10})?",
            fields in proptest::collection::vec(("x-[a-z]{1,10}", "[!-~]{0,20}"), 0..10),
            length: u64,
        ) {
            prop_assume!(target.port != 0);
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                let name = http::HeaderName::try_from(name.as_str()).expect("name");
                headers.append(name, HeaderValue::try_from(value.as_str()).expect("value"));
            }
            headers.insert(HOST, HeaderValue::try_from(print_authority(&target)).expect("host"));
            headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
            let mut bytes = Vec::new();
            encode_request(&Method::POST, &format!("http://{target}{path}"), &headers, &mut bytes);
            let (head, n) = parse_request(&bytes).expect("well formed").expect("whole");
            prop_assert_eq!(n, bytes.len());
            let path_and_query = PathAndQuery::try_from(path.as_str()).expect("path");
            prop_assert_eq!(head.target, RequestTarget::Absolute { authority: target, path_and_query });
            prop_assert_eq!((head.body, head.headers), (BodyLength::Length(length), headers));
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>, text in "(GET|CONNECT) [a-z:/]{0,9} HTTP/1.[01]\r?\n([a-zA-Z\\-]{1,9}:? ?[ -~\t]{0,9}\r?\n){0,4}\r\n") {
            let _ = parse_request(&bytes);
            let _ = parse_request(text.as_bytes());
        }

        #[test]
        fn pieces_read_as_the_whole_does(
            text in "(GET|CONNECT) [a-z:/]{0,9} HTTP/1.[01]\r\n(Host: a\r\n)?([a-z]{1,3}: [a-z]{0,9}(\r\n|\n| ?\r)){0,3}\r\n",
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut reader = HeadReader::new();
            let early = cuts.iter().map(|cut| reader.read(&bytes[..*cut])).find(|read| *read != Ok(None));
            let last = early.unwrap_or_else(|| reader.read(bytes));
            prop_assert_eq!(last, parse_request(bytes));
        }
    }
}
