//! Who a browser says it asks (`Host`), and on behalf of which page (`Origin`).
//!
//! Invariant: what is not understood is not allowed.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::Settings;

/// A page's origin (RFC 6454 §6): scheme, host, port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: Host,
    port: Option<u16>,
}

/// A host as it is written in an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    /// In lower case.
    Name(String),
}

impl Origin {
    /// Parses `scheme://host[:port]`; default ports of http and https are left out.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(plain) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = authority_of(authority)?;
        let port = port.filter(|port| !matches!((scheme.as_str(), port), ("http", 80) | ("https", 443)));
        Some(Self { scheme, host, port })
    }

    /// Whether the page came from a web server of this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let here = match &self.host {
            Host::V4(ip) => ip.is_loopback(),
            Host::V6(ip) => ip.to_canonical().is_loopback(),
            Host::Name(name) => name == "localhost",
        };
        here && matches!(self.scheme.as_str(), "http" | "https")
    }
}

/// Whether a request for that authority is for us: an address, `localhost`, or a name that is listed. Other names
/// may have been pointed at us by a page's owner (DNS rebinding).
pub(crate) fn is_ours(authority: &str, settings: &Settings) -> bool {
    match authority_of(authority) {
        Some((Host::V4(_) | Host::V6(_), _)) => true,
        Some((Host::Name(name), _)) => name == "localhost" || settings.knows_host(&name),
        None => false,
    }
}

/// Parses `host[:port]`.
fn authority_of(text: &str) -> Option<(Host, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']')?;
        let port = if rest.is_empty() { None } else { Some(port_of(rest.strip_prefix(':')?)?) };
        return Some((Host::V6(ip.parse().ok()?), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port_of(port)?)),
        None => (text, None),
    };
    match host.parse() {
        Ok(ip) => Some((Host::V4(ip), port)),
        Err(_) if is_name(host) => Some((Host::Name(host.to_ascii_lowercase()), port)),
        Err(_) => None,
    }
}

fn port_of(text: &str) -> Option<u16> {
    let digits = text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Whether that is a host's name and nothing else.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::ApiConfig;

    fn settings() -> Settings {
        Settings::new(&ApiConfig {
            allow_origins: vec!["https://panel.example.com".into(), "http://lan.example:8080".into()],
            hosts: vec!["Proxy.example.com".into()],
            ..ApiConfig::default()
        })
    }

    #[test]
    fn hosts() {
        let settings = settings();
        for ours in [
            "127.0.0.1",
            "127.0.0.1:9000",
            "192.0.2.7:9000",
            "[::1]",
            "[::1]:9000",
            "localhost",
            "LocalHost:9000",
            "proxy.example.com",
            "PROXY.example.com:9000",
        ] {
            assert!(is_ours(ours, &settings), "{ours}");
        }
        for other in [
            "",
            "evil.example",
            "evil.example:9000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:",
            "localhost:x",
            "localhost:99999",
            "localhost:000080",
            "localhost:+80",
            "user@127.0.0.1",
            "[::1",
            "[::1]9000",
            "[evil]",
            "::1",
            "127.0.0.1 evil",
        ] {
            // An empty port is legal in a URI, and no browser sends it.
            assert!(!is_ours(other, &settings), "{other}");
        }
    }

    #[test]
    fn origins() {
        let settings = settings();
        for allowed in [
            "http://localhost",
            "http://localhost:5173",
            "https://127.0.0.1:9000",
            "http://[::1]:9000",
            "https://panel.example.com",
            "https://panel.example.com:443",
            "HTTPS://Panel.example.com",
            "http://lan.example:8080",
        ] {
            assert!(settings.allows_origin(allowed), "{allowed}");
        }
        for other in [
            "null",
            "",
            "https://evil.example",
            "http://panel.example.com",
            "https://panel.example.com:444",
            "https://panel.example.com.evil.example",
            "http://lan.example",
            "http://192.0.2.1",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://localhost@evil.example",
            "file://",
            "file://localhost",
            "http://localhost/",
            "http://localhost http://evil.example",
        ] {
            assert!(!settings.allows_origin(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_is_taken_for_ours(text in "\\PC{0,40}") {
            let settings = Settings::default();
            let _ = settings.allows_origin(&text);
            if is_ours(&text, &settings) {
                let host = text.rsplit_once(':').filter(|_| !text.ends_with(']')).map_or(&*text, |(host, _)| host);
                let ip = host.trim_matches(|c| c == '[' || c == ']').parse::<std::net::IpAddr>();
                prop_assert!(ip.is_ok() || host.eq_ignore_ascii_case("localhost"), "{}", text);
            }
        }
    }
}
