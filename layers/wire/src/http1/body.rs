//! How long a body is (RFC 9112 §6).
//!
//! Invariant: one field says it, once, in its one plain spelling; anything else is refused, for the next reader
//! might take it otherwise.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};

use super::HeadError;
use super::head::tokens;

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none, and nothing says so.
    None,
    /// So many bytes, as `Content-Length` says; may be 0.
    Length(u64),
    /// Until the last chunk.
    Chunked,
    /// Until the connection's end; of responses only.
    UntilClose,
}

/// The body of a request (RFC 9112 §6.3).
pub(super) fn of_request(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Result<BodyLength, HeadError> {
    let length = declared(version, headers)?.unwrap_or(BodyLength::None);
    if *method == Method::CONNECT && !matches!(length, BodyLength::None | BodyLength::Length(0)) {
        // Its bytes would be the tunnel's to one reader and a body to another (RFC 9110 §9.3.6).
        return Err(HeadError::Bad("CONNECT with a body"));
    }
    Ok(length)
}

/// The body of the response to a request of `method`.
pub(super) fn of_response(
    method: &Method,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
) -> Result<BodyLength, HeadError> {
    let bodiless = *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || (*method == Method::CONNECT && status.is_success());
    if bodiless {
        return Ok(BodyLength::None);
    }
    Ok(declared(version, headers)?.unwrap_or(BodyLength::UntilClose))
}

/// What the fields say.
fn declared(version: Version, headers: &HeaderMap) -> Result<Option<BodyLength>, HeadError> {
    if headers.contains_key(TRANSFER_ENCODING) {
        if headers.contains_key(CONTENT_LENGTH) {
            return Err(HeadError::Bad("both Content-Length and Transfer-Encoding"));
        }
        if version < Version::HTTP_11 {
            return Err(HeadError::Bad("Transfer-Encoding in HTTP/1.0"));
        }
        return chunked(headers).map(|()| Some(BodyLength::Chunked));
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(HeadError::Bad("more than one Content-Length"));
    }
    decimal(length.as_bytes())
        .map(|n| Some(BodyLength::Length(n)))
        .ok_or(HeadError::Bad("a Content-Length that is not a number"))
}

/// Accepts `chunked`, alone.
fn chunked(headers: &HeaderMap) -> Result<(), HeadError> {
    let mut codings = tokens(headers, &TRANSFER_ENCODING);
    match codings.next() {
        None | Some(b"") => Err(HeadError::Bad("an empty transfer coding")),
        Some(coding) if !coding.eq_ignore_ascii_case(b"chunked") => Err(HeadError::TransferCoding),
        Some(_) if codings.next().is_some() => {
            Err(HeadError::Bad("chunked is not the last and only transfer coding"))
        }
        Some(_) => Ok(()),
    }
}

/// Digits and nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn post(fields: &[(&'static str, &'static str)]) -> Result<BodyLength, HeadError> {
        of_request(&Method::POST, Version::HTTP_11, &headers(fields))
    }

    #[test]
    fn one_plain_length() {
        assert_eq!(post(&[]), Ok(BodyLength::None));
        assert_eq!(post(&[("content-length", "0")]), Ok(BodyLength::Length(0)));
        assert_eq!(post(&[("content-length", "18446744073709551615")]), Ok(BodyLength::Length(u64::MAX)));
        assert_eq!(post(&[("transfer-encoding", "Chunked")]), Ok(BodyLength::Chunked));
    }

    #[test]
    fn what_smugglers_use() {
        for value in
            ["", "5, 5", "5,5", "+5", "-5", "0x5", "5 5", "5.0", "5a", "18446744073709551616", "\u{665}"]
        {
            let Ok(value) = HeaderValue::from_str(value).or(HeaderValue::from_bytes(value.as_bytes())) else {
                continue;
            };
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, value.clone());
            let read = of_request(&Method::POST, Version::HTTP_11, &headers);
            assert!(matches!(read, Err(HeadError::Bad(_))), "{value:?}");
        }
        let bad: [&[(&str, &str)]; 9] = [
            &[("content-length", "5"), ("content-length", "5")],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked, gzip")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "identity")],
            &[("transfer-encoding", "")],
            &[("transfer-encoding", ", chunked")],
            &[("transfer-encoding", "chunked,")],
        ];
        for fields in bad {
            assert!(matches!(post(fields), Err(HeadError::Bad(_))), "{fields:?}");
        }
        for value in ["gzip, chunked", "identity", "xchunked", "chunked;q=1", "\"chunked\"", "chun ked"] {
            assert_eq!(post(&[("transfer-encoding", value)]), Err(HeadError::TransferCoding), "{value}");
        }
    }

    #[test]
    fn no_coding_before_http_1_1() {
        let headers = headers(&[("transfer-encoding", "chunked")]);
        assert!(of_request(&Method::POST, Version::HTTP_10, &headers).is_err());
    }

    #[test]
    fn a_tunnel_has_no_body() {
        let of =
            |value| of_request(&Method::CONNECT, Version::HTTP_11, &headers(&[("content-length", value)]));
        assert_eq!(of("0"), Ok(BodyLength::Length(0)));
        assert!(of("1").is_err());
    }

    #[test]
    fn responses() {
        let length = headers(&[("content-length", "5")]);
        let of = |method, status: u16, headers: &HeaderMap| {
            of_response(&method, StatusCode::from_u16(status).expect("one"), Version::HTTP_11, headers)
        };
        assert_eq!(of(Method::GET, 200, &length), Ok(BodyLength::Length(5)));
        assert_eq!(of(Method::GET, 200, &HeaderMap::new()), Ok(BodyLength::UntilClose));
        assert_eq!(of(Method::HEAD, 200, &length), Ok(BodyLength::None));
        assert_eq!(of(Method::GET, 204, &length), Ok(BodyLength::None));
        assert_eq!(of(Method::GET, 304, &length), Ok(BodyLength::None));
        assert_eq!(of(Method::GET, 103, &length), Ok(BodyLength::None));
        assert_eq!(of(Method::CONNECT, 200, &length), Ok(BodyLength::None));
        assert_eq!(of(Method::CONNECT, 502, &length), Ok(BodyLength::Length(5)));
    }
}
