//! Where a client wants to go.
//!
//! Invariant: a domain that is an address literal is an [`Host::Ip`]; a domain has 1 to 255 bytes and no white
//! space, control or delimiter character, so it can stand in a request line, a log line or a reply.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// As the client wrote it.
    Domain(Box<str>),
    /// IPv4 or IPv6.
    Ip(IpAddr),
}

/// A host and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port; 0 is refused by whoever dials.
    pub port: u16,
}

/// Why something is no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Empty, over 255 bytes, or with characters that no host has.
    #[error("the host is not a name or an address")]
    Host,
    /// Missing, or not 0 to 65535.
    #[error("the port is not a number from 0 to 65535")]
    Port,
}

impl Target {
    /// That host and port.
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// A name, or an address literal (without brackets), and a port.
    ///
    /// # Errors
    /// [`TargetError::Host`].
    pub fn from_domain(host: &str, port: u16) -> Result<Self, TargetError> {
        Ok(Self { host: host.parse()?, port })
    }

    /// The address, where it is one.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Domain(_) => None,
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Self { host: Host::Ip(addr.ip()), port: addr.port() }
    }
}

impl FromStr for Host {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        let legal = |c: char| !c.is_control() && !c.is_whitespace() && !"[]:/?#@\\<>\"^`{|}%".contains(c);
        if text.is_empty() || text.len() > 255 || !text.chars().all(legal) {
            return Err(TargetError::Host);
        }
        Ok(Self::Domain(text.into()))
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// `host:port`, `1.2.3.4:port` or `[v6]:port` (RFC 3986 §3.2, without user information).
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (host, port) = text.rsplit_once(':').ok_or(TargetError::Port)?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = if digits {
            port.parse().map_err(|_| TargetError::Port)?
        } else {
            return Err(TargetError::Port);
        };
        if let Some(v6) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let ip = v6.parse::<Ipv6Addr>().map_err(|_| TargetError::Host)?;
            return Ok(Self { host: Host::Ip(ip.into()), port });
        }
        Self::from_domain(host, port).and_then(|target| match target.host {
            Host::Ip(IpAddr::V6(_)) => Err(TargetError::Host),
            _ => Ok(target),
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn authorities() {
        for (text, shown) in [
            ("example.org:443", "example.org:443"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:8080", "[::1]:8080"),
            ("[0:0::1]:0", "[::1]:0"),
            ("bücher.example:1", "bücher.example:1"),
        ] {
            assert_eq!(text.parse::<Target>().map(|t| t.to_string()).as_deref(), Ok(shown));
        }
        for text in
            ["", ":80", "a", "a:", "a:+1", "a:65536", "::1:80", "[::1]", "[::1%eth0]:80", "a b:80", "u@a:80"]
        {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_literal_is_an_address() {
        assert_eq!(Target::from_domain("::1", 1).unwrap().addr(), Some("[::1]:1".parse().unwrap()));
        assert_eq!(Target::from_domain("10.0.0.1", 1).unwrap().addr(), Some("10.0.0.1:1".parse().unwrap()));
        assert!(Target::from_domain(&"a".repeat(256), 1).is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in any::<String>(), port: u16) {
            if let Ok(target) = Target::from_domain(&text, port) {
                prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target));
            }
            let _ = text.parse::<Target>();
        }
    }
}
