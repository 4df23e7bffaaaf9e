//! The head of a response, and the whole of those that are a proxy's own.
//!
//! Invariant: a response that is written has one framing, chosen by [`Framing`]; what the fields said of it before
//! is left out.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use swiftproxy_core::error::Refusal;

use super::head::{Extent, Scan, encode_field, fields};
use super::request::read_version;
use super::{BodyLength, HeadError, Persistence, body};
use crate::refusal;

/// The answer to a CONNECT whose target is connected: no framing, for what follows is the tunnel (RFC 9110 §9.3.6).
pub const CONNECT_ESTABLISHED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// The answer that lets a client send the body it holds back (RFC 9110 §10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How the body behind a response's head is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none: 1xx, 204, 304, 2xx to CONNECT.
    None,
    /// So many bytes; also the answer to HEAD, of which none follow.
    Length(u64),
    /// In chunks. Not for clients of HTTP/1.0.
    Chunked,
    /// Until the connection closes.
    UntilClose,
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status, 100 to 999.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields as they came, framing and hop-by-hop fields included.
    pub headers: HeaderMap,
    /// How long the body behind the head is.
    pub body: BodyLength,
}

/// Reads the head of the response to a request of `method`; `None` is "more bytes are needed", the number is the
/// head's length.
pub fn parse_response(method: &Method, bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, HeadError> {
    let Some(extent) = Scan::default().advance(bytes)? else { return Ok(None) };
    Ok(Some((head(method, extent)?, extent.length)))
}

fn head(method: &Method, extent: Extent<'_>) -> Result<ResponseHead, HeadError> {
    let bad = HeadError::Bad("the status line is not version and status");
    let mut parts = extent.start_line.splitn(3, |byte| *byte == b' ');
    let version = read_version(parts.next().ok_or(bad)?)?;
    let status = StatusCode::from_bytes(parts.next().ok_or(bad)?).map_err(|_| bad)?;
    let headers = fields(extent.fields)?;
    let body = body::of_response(method, status, version, &headers)?;
    Ok(ResponseHead { status, version, headers, body })
}

/// Appends a response's head. `Content-Length`, `Transfer-Encoding` and `Connection` are written from `framing`
/// and `persistence`; a `Connection` among `headers` is kept where the connection is (it may say `upgrade`).
pub fn encode_response(
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    persistence: Persistence,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let close = persistence == Persistence::Close || framing == Framing::UntilClose;
    for (name, value) in headers {
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING || (*name == CONNECTION && close) {
            continue;
        }
        encode_field(name, value.as_bytes(), out);
    }
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(n) => encode_field(&CONTENT_LENGTH, n.to_string().as_bytes(), out),
        Framing::Chunked => encode_field(&TRANSFER_ENCODING, b"chunked", out),
    }
    if close && !status.is_informational() {
        encode_field(&CONNECTION, b"close", out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the whole answer to a request of `method` that is refused: status and fields by the table of
/// [`refusal`], a sentence for a person as text/plain.
pub fn encode_refusal(refusal: Refusal, method: &Method, persistence: Persistence, out: &mut Vec<u8>) {
    let text = refusal::text(refusal);
    encode_text(refusal::status(refusal), &refusal::headers(refusal), &text, method, persistence, out);
}

/// Appends the whole answer to a head that cannot be read. The connection closes after it.
pub fn encode_head_error(error: HeadError, out: &mut Vec<u8>) {
    let text = format!("SwiftProxy: {error}.\n");
    let headers = refusal::headers(Refusal::Malformed);
    encode_text(error.status(), &headers, &text, &Method::GET, Persistence::Close, out);
}

fn encode_text(
    status: StatusCode,
    headers: &HeaderMap,
    text: &str,
    method: &Method,
    persistence: Persistence,
    out: &mut Vec<u8>,
) {
    encode_response(status, headers, Framing::Length(text.len() as u64), persistence, out);
    if *method != Method::HEAD {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::proxy_status;

    fn text(of: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        of(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_407_that_browsers_ask_and_retry_on() {
        let answer = text(|out| {
            encode_refusal(Refusal::AuthFailed, &Method::CONNECT, Persistence::KeepAlive, out);
        });
        let expected = "HTTP/1.1 407 Proxy Authentication Required\r\n\
            proxy-status: swiftproxy; details=\"auth_failed\"\r\n\
            proxy-authenticate: Basic realm=\"SwiftProxy\", charset=\"UTF-8\"\r\n\
            content-type: text/plain; charset=utf-8\r\n\
            content-length: 44\r\n\r\n\
            SwiftProxy: wrong user name or password.\n";
        let lengthless = |text: &str| {
            text.lines().filter(|line| !line.starts_with("content-length")).collect::<Vec<_>>().join("|")
        };
        assert_eq!(lengthless(&answer), lengthless(expected));
    }

    #[test]
    fn every_refusal_is_heard_as_itself() {
        for refusal in Refusal::all() {
            for persistence in [Persistence::Close, Persistence::KeepAlive] {
                let answer = text(|out| encode_refusal(refusal, &Method::GET, persistence, out));
                let (head, n) =
                    parse_response(&Method::GET, answer.as_bytes()).expect("well formed").expect("whole");
                assert_eq!(head.status, refusal::status(refusal));
                assert_eq!(proxy_status::from_headers(&head.headers), Some(refusal));
                assert_eq!(head.body, BodyLength::Length((answer.len() - n) as u64));
                assert_eq!(crate::http1::persistence(head.version, &head.headers), persistence);
                let bare = text(|out| encode_refusal(refusal, &Method::HEAD, persistence, out));
                assert_eq!(bare, answer[..n]);
            }
        }
    }

    #[test]
    fn one_framing_and_no_other() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        let of = |status: u16, framing, persistence| {
            let status = StatusCode::from_u16(status).expect("one");
            text(|out| encode_response(status, &headers, framing, persistence, out))
        };
        assert_eq!(
            of(200, Framing::Chunked, Persistence::KeepAlive),
            "HTTP/1.1 200 OK\r\nconnection: upgrade\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert_eq!(
            of(599, Framing::UntilClose, Persistence::KeepAlive),
            "HTTP/1.1 599 \r\nconnection: close\r\n\r\n"
        );
        assert_eq!(
            of(101, Framing::None, Persistence::KeepAlive),
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n"
        );
        headers.clear();
        let hints = |out: &mut Vec<u8>| {
            encode_response(StatusCode::EARLY_HINTS, &headers, Framing::None, Persistence::Close, out);
        };
        assert_eq!(text(hints), "HTTP/1.1 103 Early Hints\r\n\r\n", "the answer proper says it");
        let status = StatusCode::NO_CONTENT;
        let said = text(|out| encode_response(status, &headers, Framing::None, Persistence::KeepAlive, out));
        assert_eq!(said, "HTTP/1.1 204 No Content\r\n\r\n");
    }

    #[test]
    fn what_is_no_response() {
        for line in [
            "HTTP/1.1",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 abc",
            "ICY 200 OK",
            "HTTP/2.0 200",
            "HTTP/1.1 200 O\rK",
        ] {
            let bytes = format!("{line}\r\n\r\n");
            assert!(parse_response(&Method::GET, bytes.as_bytes()).is_err(), "{line}");
        }
        let (head, n) =
            parse_response(&Method::CONNECT, CONNECT_ESTABLISHED).expect("well formed").expect("whole");
        assert_eq!(
            (head.status, head.body, n),
            (StatusCode::OK, BodyLength::None, CONNECT_ESTABLISHED.len())
        );
        for short in 0..n {
            assert_eq!(parse_response(&Method::CONNECT, &CONNECT_ESTABLISHED[..short]), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn round_trip(status in 200u16..=999, length: u64, value in "[!-~]{0,20}") {
            prop_assume!(!matches!(status, 204 | 304));
            let mut headers = HeaderMap::new();
            headers.insert("x-one", HeaderValue::try_from(value.as_str()).expect("value"));
            let status = StatusCode::from_u16(status).expect("one");
            let mut bytes = Vec::new();
            encode_response(status, &headers, Framing::Length(length), Persistence::KeepAlive, &mut bytes);
            let (head, n) = parse_response(&Method::GET, &bytes).expect("well formed").expect("whole");
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            prop_assert_eq!((head.status, head.body, n), (status, BodyLength::Length(length), bytes.len()));
            prop_assert_eq!(head.headers, headers);
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = parse_response(&Method::GET, &bytes);
            let _ = parse_response(&Method::GET, &[b"HTTP/1.1 200 OK\r\n", &bytes[..], b"\r\n\r\n"].concat());
        }
    }
}
