//! Host and port, as CONNECT, an absolute target and `Host` write them (RFC 3986 §3.2, RFC 9110 §4.2).
//!
//! Invariant: what is accepted has one reading: no user information, no percent signs, no zone, digits for a
//! port, brackets around IPv6 and around nothing else.

use std::net::{IpAddr, Ipv6Addr};

use swiftproxy_core::target::{Host, Target};

use super::HeadError;

/// Reads `host:port`, or `host` and `host:` where there is a port to take instead. Port 0 is none.
pub fn parse_authority(text: &[u8], default_port: Option<u16>) -> Result<Target, HeadError> {
    let text = std::str::from_utf8(text).map_err(|_| HeadError::Bad("a host that is not text"))?;
    if text.contains('@') {
        return Err(HeadError::Bad("user information before the host"));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) =
                rest.split_once(']').ok_or(HeadError::Bad("a bracket without its other"))?;
            let address: Ipv6Addr = address.parse().map_err(|_| HeadError::Bad("not an IPv6 address"))?;
            (Err(address), port)
        }
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            if host.is_empty() || !host.bytes().all(is_host_byte) {
                return Err(HeadError::Bad("not a host"));
            }
            (Ok(host), port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if !port.is_empty() => return Err(HeadError::Bad("not a host")),
        None | Some("") => default_port.ok_or(HeadError::Bad("no port"))?,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| HeadError::Bad("not a port"))?
        }
        Some(_) => return Err(HeadError::Bad("not a port")),
    };
    if port == 0 {
        return Err(HeadError::Bad("not a port"));
    }
    match host {
        Ok(name) => Target::from_domain(name, port).map_err(|_| HeadError::Bad("not a host")),
        Err(address) => Ok(Target::new(Host::Ip(IpAddr::V6(address)), port)),
    }
}

/// Prints a host for the `Host` field: without the port that http has anyway (RFC 9110 §7.2).
pub fn print_authority(target: &Target) -> String {
    match (&target.host, target.port) {
        (Host::Domain(name), 80) => name.to_string(),
        (Host::Domain(name), port) => format!("{name}:{port}"),
        (Host::Ip(IpAddr::V6(address)), 80) => format!("[{address}]"),
        (Host::Ip(IpAddr::V6(address)), port) => format!("[{address}]:{port}"),
        (Host::Ip(address), 80) => address.to_string(),
        (Host::Ip(address), port) => format!("{address}:{port}"),
    }
}

/// Unreserved and sub-delimiters of RFC 3986 §2; no percent-encoding.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::socks5::tests::targets;

    #[test]
    fn one_reading_or_none() {
        let read =
            |text: &str| parse_authority(text.as_bytes(), Some(80)).map(|target| print_authority(&target));
        assert_eq!(read("example.com"), Ok("example.com".to_owned()));
        assert_eq!(read("example.com:"), Ok("example.com".to_owned()));
        assert_eq!(read("example.com:443"), Ok("example.com:443".to_owned()));
        assert_eq!(read("192.0.2.1"), Ok("192.0.2.1".to_owned()));
        assert_eq!(read("[2001:db8::1]:8080"), Ok("[2001:db8::1]:8080".to_owned()));
        for text in [
            "",
            ":80",
            "u@h",
            "u:p@h:80",
            "h:+80",
            "h:65536",
            "h:0",
            "h:8 0",
            "h:80:80",
            "::1",
            "[::1",
            "[::1]80",
            "[::1%eth0]",
            "[v1.x]",
            "[example.com]",
            "h/",
            "h\\x",
            "h%2e",
            "a b",
            "h?x",
            "h#x",
            "[]",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read("u:p@h"), Err(HeadError::Bad("user information before the host")));
        assert!(parse_authority(b"example.com", None).is_err());
        assert!(parse_authority(b"example.com:", None).is_err());
    }

    proptest! {
        #[test]
        fn round_trip(target in targets()) {
            prop_assume!(target.port != 0);
            prop_assert_eq!(parse_authority(print_authority(&target).as_bytes(), Some(80)), Ok(target.clone()));
            prop_assert_eq!(parse_authority(target.to_string().as_bytes(), None), Ok(target));
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>, text: String) {
            let _ = parse_authority(&bytes, Some(80));
            let _ = parse_authority(text.as_bytes(), None);
        }
    }
}
