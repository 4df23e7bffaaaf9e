//! Basic credentials (RFC 7617), as `Proxy-Authorization` carries them.
//!
//! Invariant: what parses is a name without colon and a password, both UTF-8 and free of control characters
//! (RFC 7617 §2); an error carries nothing of what was sent.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::PROXY_AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::secret::Secret;

/// What a proxy of ours asks with, in `Proxy-Authenticate`.
pub const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"SwiftProxy\", charset=\"UTF-8\"");

/// Standard alphabet; padding as it comes, for some clients leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a header value holds no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BasicError {
    /// A scheme other than Basic.
    #[error("not the Basic scheme")]
    Scheme,
    /// Not base64, or no colon in it.
    #[error("not Basic credentials")]
    Malformed,
    /// Not UTF-8, which the challenge asked for.
    #[error("credentials that are not UTF-8")]
    NotUtf8,
    /// A control character in name or password.
    #[error("a control character in name or password")]
    Control,
}

impl From<BasicError> for Refusal {
    /// Another scheme is answered by the challenge; the others are a login that is not right.
    fn from(error: BasicError) -> Self {
        match error {
            BasicError::Scheme => Self::AuthRequired,
            BasicError::Malformed | BasicError::NotUtf8 | BasicError::Control => Self::AuthFailed,
        }
    }
}

/// Reads the value of a `Proxy-Authorization` header. The name ends at the first colon.
pub fn parse(value: &[u8]) -> Result<Credentials, BasicError> {
    let value = value.trim_ascii();
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at_checked(end).ok_or(BasicError::Scheme)?;
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Err(BasicError::Scheme);
    }
    let bytes = BASE64.decode(rest.trim_ascii()).map_err(|_| BasicError::Malformed)?;
    let text = String::from_utf8(bytes).map_err(|_| BasicError::NotUtf8)?;
    // From here on the text is in the keeping of a type that wipes it.
    let text = Secret::new(text);
    if text.expose().chars().any(char::is_control) {
        return Err(BasicError::Control);
    }
    let (name, password) = text.expose().split_once(':').ok_or(BasicError::Malformed)?;
    Ok(Credentials { name: name.into(), password: Secret::new(password.to_owned()) })
}

/// The credentials of a request to a proxy: none without `Proxy-Authorization`; two of those are none that count.
pub fn from_headers(headers: &HeaderMap) -> Result<Option<Credentials>, BasicError> {
    let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse(value.as_bytes()).map(Some),
        (Some(_), Some(_)) => Err(BasicError::Malformed),
    }
}

/// The header value that says `credentials`, marked sensitive. A colon in the name would move into the
/// password, so a name has none.
pub fn encode(credentials: &Credentials) -> HeaderValue {
    let pair = format!("{}:{}", credentials.name, credentials.password.expose());
    let value = format!("Basic {}", BASE64.encode(&pair));
    drop(Secret::new(pair));
    // Base64 is visible ASCII, so there is no such error; an empty value would be a failed login, not a panic.
    let mut value = HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Result<(String, String), BasicError> {
        parse(value.as_bytes()).map(|read| (read.name.to_string(), read.password.expose().to_owned()))
    }

    fn pair(name: &str, password: &str) -> Result<(String, String), BasicError> {
        Ok((name.to_owned(), password.to_owned()))
    }

    #[test]
    fn as_in_the_rfc() {
        assert_eq!(read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), pair("Aladdin", "open sesame"));
        assert_eq!(read("Basic dGVzdDoxMjPCow=="), pair("test", "123\u{a3}"));
    }

    #[test]
    fn as_odd_clients_write_it() {
        assert_eq!(read("bAsIc   QWxhZGRpbjpvcGVuIHNlc2FtZQ "), pair("Aladdin", "open sesame"));
        assert_eq!(read("Basic YTpiOmM="), pair("a", "b:c"));
        assert_eq!(read("Basic Og=="), pair("", ""));
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(read("Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), Err(BasicError::Scheme));
        assert_eq!(read(""), Err(BasicError::Scheme));
        assert_eq!(read("Basic"), Err(BasicError::Malformed));
        assert_eq!(read("Basic QWxh!"), Err(BasicError::Malformed));
        assert_eq!(read("Basic QWxhZGRpbg=="), Err(BasicError::Malformed), "no colon");
        assert_eq!(read("Basic /zo="), Err(BasicError::NotUtf8));
        assert_eq!(read("Basic YQo6Yg=="), Err(BasicError::Control), "a line feed in the name");
    }

    #[test]
    fn one_field_or_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(from_headers(&headers), Ok(None));
        headers.append(PROXY_AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
        let found = from_headers(&headers).expect("credentials").expect("some");
        assert_eq!((&*found.name, found.password.expose()), ("a", "b"));
        headers.append(PROXY_AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
        assert_eq!(from_headers(&headers), Err(BasicError::Malformed));
    }

    proptest! {
        #[test]
        fn round_trip(name in "[^:\\pC]{0,40}", password in "\\PC{0,40}") {
            let value = encode(&Credentials {
                name: name.as_str().into(),
                password: Secret::new(password.clone()),
            });
            prop_assert!(value.is_sensitive());
            let found = parse(value.as_bytes()).expect("credentials");
            prop_assert_eq!((&*found.name, found.password.expose()), (name.as_str(), password.as_str()));
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&[b"Basic ", &bytes[..]].concat());
        }
    }
}
