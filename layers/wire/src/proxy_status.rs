//! The `Proxy-Status` field (RFC 9209): how a proxy says why, and how the next one hears it.
//!
//! Invariant: a refusal that was printed is read back as itself, by its label in `details`; of a proxy that is
//! not ours the registered `error` token is understood.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use swiftproxy_core::error::Refusal;

/// The field's name.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// How this proxy calls itself in the field.
pub const NAME: &str = "swiftproxy";

/// The registered error (RFC 9209 §2.3) that a refusal is told as; none where the registry has no word for it.
pub fn error_token(refusal: Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::AccountDisabled | Refusal::AccountExpired | Refusal::QuotaExceeded => "http_request_denied",
        Refusal::Denied | Refusal::TooManyConnections => "http_request_denied",
        Refusal::DeniedAddress => "destination_ip_prohibited",
        Refusal::DnsFailed => "dns_error",
        Refusal::UnreachableNet | Refusal::UnreachableHost => "destination_ip_unroutable",
        Refusal::Refused => "connection_refused",
        Refusal::Timeout => "connection_timeout",
        Refusal::Loop => "proxy_loop_detected",
        Refusal::TunnelDown => "destination_unavailable",
        Refusal::TunnelLogin => "proxy_configuration_error",
        Refusal::Internal => "proxy_internal_error",
        _ => return None,
    })
}

/// What a registered error of somebody else's proxy means to us.
fn refusal_of_token(token: &str) -> Option<Refusal> {
    Some(match token {
        "dns_timeout" | "dns_error" | "destination_not_found" => Refusal::DnsFailed,
        "destination_unavailable" | "connection_terminated" => Refusal::UnreachableHost,
        "destination_ip_prohibited" => Refusal::DeniedAddress,
        "destination_ip_unroutable" => Refusal::UnreachableHost,
        "connection_refused" => Refusal::Refused,
        "connection_timeout" | "connection_read_timeout" | "connection_write_timeout" => Refusal::Timeout,
        "http_response_timeout" => Refusal::Timeout,
        "connection_limit_reached" => Refusal::TooManyConnections,
        "http_request_error" => Refusal::Malformed,
        "http_request_denied" => Refusal::Denied,
        "proxy_internal_response" | "proxy_internal_error" | "proxy_configuration_error" => Refusal::Internal,
        "proxy_loop_detected" => Refusal::Loop,
        _ => return None,
    })
}

/// The field's value for a refusal: `swiftproxy; error=connection_refused; details="refused"`.
pub fn value(refusal: Refusal) -> HeaderValue {
    let label = refusal.label();
    let text = match error_token(refusal) {
        Some(error) => format!("{NAME}; error={error}; details=\"{label}\""),
        None => format!("{NAME}; details=\"{label}\""),
    };
    // Labels and tokens are words of ours, so there is no such error.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(NAME))
}

/// The refusal that the fields of a response tell, if any does: a label of ours first, then the error of the
/// member nearest to the target, which is the first (RFC 9209 §2).
pub fn from_headers(headers: &HeaderMap) -> Option<Refusal> {
    let values = || headers.get_all(PROXY_STATUS).iter().map(HeaderValue::as_bytes);
    values().find_map(by_label).or_else(|| values().find_map(by_token))
}

/// The field's value on a success: where the target was dialled from, `swiftproxy; bound="192.0.2.1:5678"`.
pub fn bound_value(bound: SocketAddr) -> HeaderValue {
    // An address is visible ASCII, so there is no such error.
    HeaderValue::from_str(&format!("{NAME}; bound=\"{bound}\"")).unwrap_or(HeaderValue::from_static(NAME))
}

/// Where the target was dialled from, if the fields of a response tell.
pub fn bound(headers: &HeaderMap) -> Option<SocketAddr> {
    headers.get_all(PROXY_STATUS).iter().find_map(|value| {
        Parameters(value.as_bytes()).find_map(|(key, text)| {
            let text = (key == b"bound").then_some(text)?;
            std::str::from_utf8(text).ok()?.parse().ok()
        })
    })
}

/// The refusal that one value of the field tells, if it does.
pub fn parse(value: &[u8]) -> Option<Refusal> {
    by_label(value).or_else(|| by_token(value))
}

fn by_label(value: &[u8]) -> Option<Refusal> {
    Parameters(value).find_map(|(key, text)| (key == b"details").then(|| refusal_of_label(text)).flatten())
}

fn by_token(value: &[u8]) -> Option<Refusal> {
    Parameters(value).find_map(|(key, text)| {
        let text = (key == b"error").then_some(text)?;
        refusal_of_token(std::str::from_utf8(text).ok()?)
    })
}

fn refusal_of_label(text: &[u8]) -> Option<Refusal> {
    Refusal::from_label(std::str::from_utf8(text).ok()?)
}

/// The parameters of every member of a structured field's list (RFC 9651 §3.1), in order. A string loses its
/// quotes and keeps its backslashes: no word that is looked for has any. What is not well formed is passed over.
struct Parameters<'a>(&'a [u8]);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (piece, in_member) = self.piece()?;
            let Some(equals) = piece.iter().position(|byte| *byte == b'=') else { continue };
            if !in_member {
                // A member's own name, such as a quoted one with `=` in it.
                continue;
            }
            let (key, text) = piece.split_at_checked(equals)?;
            let text = text.get(1..).unwrap_or_default();
            let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
            return Some((key.trim_ascii(), text));
        }
    }
}

impl<'a> Parameters<'a> {
    /// What lies up to the next `;` or `,` outside a string, and whether it came after a `;`.
    fn piece(&mut self) -> Option<(&'a [u8], bool)> {
        let (in_member, bytes) = match self.0.first()? {
            b';' => (true, self.0.get(1..)?),
            b',' => (false, self.0.get(1..)?),
            _ => (false, self.0),
        };
        let (mut quoted, mut escaped) = (false, false);
        let end = bytes.iter().position(|byte| match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' if quoted => {
                escaped = true;
                false
            }
            b'"' => {
                quoted = !quoted;
                false
            }
            b';' | b',' => !quoted,
            _ => false,
        });
        let (piece, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len()))?;
        self.0 = rest;
        Some((piece.trim_ascii(), in_member))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_refusal_is_read_back_as_itself() {
        for refusal in Refusal::all() {
            assert_eq!(parse(value(refusal).as_bytes()), Some(refusal), "{refusal:?}");
        }
        assert_eq!(value(Refusal::Refused), "swiftproxy; error=connection_refused; details=\"refused\"");
        assert_eq!(error_token(Refusal::TunnelLogin), Some("proxy_configuration_error"));
        assert_eq!(value(Refusal::Draining), "swiftproxy; details=\"draining\"");
    }

    #[test]
    fn tokens_of_ours_mean_something_to_a_stranger() {
        for refusal in Refusal::all() {
            if let Some(token) = error_token(refusal) {
                assert!(refusal_of_token(token).is_some(), "{token}");
            }
        }
    }

    #[test]
    fn of_strangers_the_error_counts() {
        let cases: [(&str, Option<Refusal>); 9] = [
            ("example;error=dns_timeout", Some(Refusal::DnsFailed)),
            ("a.example;next-hop=\"x;error=loop,\"; error=connection_timeout", Some(Refusal::Timeout)),
            ("a, b;error=connection_refused ,c;error=dns_error", Some(Refusal::Refused)),
            ("a;error=dns_error, swiftproxy; details=\"denied\"", Some(Refusal::Denied)),
            ("\"q;error=dns_error\"; error=proxy_loop_detected", Some(Refusal::Loop)),
            ("\"q\\\";error=dns_error;x\"", None),
            ("a; error=something_new", None),
            ("swiftproxy; details=\"none of ours\"", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_label_wins_over_an_earlier_line() {
        let mut headers = HeaderMap::new();
        headers.append(PROXY_STATUS, HeaderValue::from_static("cdn; error=connection_terminated"));
        headers.append(PROXY_STATUS, value(Refusal::QuotaExceeded));
        assert_eq!(from_headers(&headers), Some(Refusal::QuotaExceeded));
        assert_eq!(from_headers(&HeaderMap::new()), None);
    }

    #[test]
    fn bound_addresses() {
        for (text, expected) in [
            ("a, swiftproxy;bound=\"[2001:db8::1]:1\";x=1", Some("[2001:db8::1]:1")),
            ("a; bound=\"nowhere\", b; bound=\"192.0.2.1:5678\"", Some("192.0.2.1:5678")),
            ("swiftproxy; details=\"; bound=\\\"192.0.2.1:1\\\"\"", None),
            ("swiftproxy; bound=\"192.0.2.1:5678", None),
            ("swiftproxy", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(PROXY_STATUS, HeaderValue::from_str(text).expect("text"));
            assert_eq!(bound(&headers), expected.map(|addr| addr.parse().expect("an address")), "{text}");
        }
        assert_eq!(bound(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn bound_round_trip(addr: SocketAddr) {
            let mut headers = HeaderMap::new();
            headers.insert(PROXY_STATUS, bound_value(addr));
            // A scope is not told: it says nothing on another machine.
            if !matches!(addr, SocketAddr::V6(v6) if v6.scope_id() != 0) {
                prop_assert_eq!(bound(&headers).map(|found| found.to_string()), Some(addr.to_string()));
            }
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>, text in "[a-z;,=\"\\\\ ]{0,60}") {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
            let mut headers = HeaderMap::new();
            headers.extend(HeaderValue::from_bytes(&bytes).ok().map(|value| (PROXY_STATUS, value)));
            let _ = bound(&headers);
        }

        #[test]
        fn found_among_other_members(before in "[a-z]{1,8}", n in 0..21usize) {
            let refusal = Refusal::all().nth(n).expect("one of them");
            let text = format!("{before}; received-status=502, {}", value(refusal).to_str().expect("text"));
            prop_assert_eq!(parse(text.as_bytes()), Some(refusal));
        }
    }
}
