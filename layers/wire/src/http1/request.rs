//! The head of a request.
//!
//! Invariant: a head that parses has one meaning: its body's length is settled, and `Host` is the target's own
//! where the target names one (RFC 9112 §3.2.2).

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Version};

use super::head::{Extent, Scan, encode_fields, fields};
use super::{BodyLength, HeadError, RequestTarget, authority, body};

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
            _ => authority::print(host),
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
        Some(host) => authority::parse(host.as_bytes(), Some(80)).map(drop),
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
