//! SOCKS4 and SOCKS4a (the specifications by Ying-Da Lee).
//!
//! Invariant: user id and domain are looked for within 255 bytes each, so a request without a NUL ends in a
//! refusal, not in a buffer that grows.

use std::net::{Ipv4Addr, SocketAddr};

use swiftproxy_core::error::Refusal;
use swiftproxy_core::target::{Host, Target};

use crate::parse::{Malformed, Parsed, Reader, Unencodable, domain, need};

/// The version byte that begins a request.
pub const VERSION: u8 = 4;

/// The most bytes a user id or a domain may have.
pub const MAX_TEXT: usize = 255;

/// A command of SOCKS4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// A stream to the target.
    Connect,
    /// Wait for a connection from the target.
    Bind,
}

/// Why a request is not one. The reply is 0x5B in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a message of SOCKS4.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A command that SOCKS4 does not know.
    #[error("unknown command {0:#04x}")]
    Command(u8),
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Malformed(_) => Self::Malformed,
            RequestError::Command(_) => Self::UnsupportedCommand,
        }
    }
}

/// A client's request. The user id is borrowed from the input; it proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// What to do.
    pub command: Command,
    /// With whom: an IPv4 address, or by SOCKS4a a domain.
    pub target: Target,
    /// Who the client says it is, 0 to 255 bytes without a NUL.
    pub user: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a request; an address 0.0.0.x, x not 0, says that a domain follows (SOCKS4a).
    pub fn parse(bytes: &'a [u8]) -> Parsed<Self, RequestError> {
        let mut reader = Reader::new(bytes);
        if need!(reader.u8()) != VERSION {
            return Err(Malformed("not SOCKS version 4").into());
        }
        let command = need!(reader.u8());
        let port = need!(reader.u16());
        let address = need!(reader.array::<4>());
        let too_long = |()| Malformed("a user id or domain of more than 255 bytes");
        let user = need!(reader.until_nul(MAX_TEXT).map_err(too_long)?);
        let target = match address {
            [0, 0, 0, 1..=255] => {
                let name = need!(reader.until_nul(MAX_TEXT).map_err(too_long)?);
                domain(name, port)?
            }
            octets => Target::new(Host::Ip(octets.into()), port),
        };
        let command = match command {
            1 => Command::Connect,
            2 => Command::Bind,
            other => return Err(RequestError::Command(other)),
        };
        Ok(Some((Self { command, target, user }, reader.at())))
    }

    /// Appends the request to `out`, as SOCKS4a where the target is a domain; an IPv6 address has no room.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let (address, domain) = match &self.target.host {
            Host::Ip(std::net::IpAddr::V4(address)) => (address.octets(), None),
            Host::Ip(std::net::IpAddr::V6(_)) => return Err(Unencodable("SOCKS4 carries no IPv6 address")),
            Host::Domain(name) => ([0, 0, 0, 1], Some(name.as_bytes())),
        };
        let bad = |text: &[u8]| text.len() > MAX_TEXT || text.contains(&0);
        if bad(self.user)
            || domain.is_some_and(bad)
            || (domain.is_none() && matches!(address, [0, 0, 0, 1..=255]))
        {
            return Err(Unencodable("SOCKS4 texts are 255 bytes without a NUL, and 0.0.0.x is no address"));
        }
        let command = match self.command {
            Command::Connect => 1,
            Command::Bind => 2,
        };
        out.extend_from_slice(&[VERSION, command]);
        out.extend_from_slice(&self.target.port.to_be_bytes());
        out.extend_from_slice(&address);
        out.extend_from_slice(self.user);
        out.push(0);
        if let Some(domain) = domain {
            out.extend_from_slice(domain);
            out.push(0);
        }
        Ok(())
    }
}

/// The server's answer: granted, or not for whatever reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// 0x5A is yes; a server of ours says 0x5B to everything else.
    pub code: u8,
    /// The address the server dialled from, all zero where it is none of IPv4 or the answer is no.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

impl Reply {
    /// The code of a request granted.
    pub const GRANTED: u8 = 0x5A;
    /// The code of a request rejected or failed.
    pub const REJECTED: u8 = 0x5B;

    /// Success, with the address the target was dialled from; one of IPv6 has no room and is left out.
    pub fn opened(bound: SocketAddr) -> Self {
        let (address, port) = match bound.ip().to_canonical() {
            std::net::IpAddr::V4(address) => (address, bound.port()),
            std::net::IpAddr::V6(_) => (Ipv4Addr::UNSPECIFIED, 0),
        };
        Self { code: Self::GRANTED, address, port }
    }

    /// Every refusal's answer.
    pub fn refused() -> Self {
        Self { code: Self::REJECTED, address: Ipv4Addr::UNSPECIFIED, port: 0 }
    }

    /// Reads a reply; its first byte is 0, not the version.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let mut reader = Reader::new(bytes);
        if need!(reader.u8()) != 0 {
            return Err(Malformed("not a SOCKS4 reply"));
        }
        let code = need!(reader.u8());
        let port = need!(reader.u16());
        let address = Ipv4Addr::from(need!(reader.array::<4>()));
        Ok(Some((Self { code, address, port }, reader.at())))
    }

    /// The eight bytes of it.
    pub fn encode(self) -> [u8; 8] {
        let [a, b, c, d] = self.address.octets();
        let [high, low] = self.port.to_be_bytes();
        [0, self.code, high, low, a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::tests::assert_message;
    use crate::socks5::tests::targets;

    #[test]
    fn a_domain_follows_an_impossible_address() {
        let bytes = b"\x04\x01\x00\x50\x00\x00\x00\x07me\0example.com\0";
        let (request, n) = Request::parse(bytes).expect("read").expect("whole");
        assert_eq!((request.user, n), (&b"me"[..], bytes.len()));
        assert_eq!(request.target, Target::from_domain("example.com", 80).expect("domain"));
    }

    #[test]
    fn no_nul_is_no_endless_wait() {
        let mut bytes = b"\x04\x01\x00\x50\x7f\x00\x00\x01".to_vec();
        bytes.extend_from_slice(&[b'a'; 255]);
        assert_eq!(Request::parse(&bytes), Ok(None));
        bytes.push(b'a');
        assert!(matches!(Request::parse(&bytes), Err(RequestError::Malformed(_))));
    }

    #[test]
    fn unknown_commands_and_empty_domains() {
        assert_eq!(Request::parse(b"\x04\x09\x00\x50\x7f\x00\x00\x01\0"), Err(RequestError::Command(9)));
        assert!(Request::parse(b"\x04\x01\x00\x50\x00\x00\x00\x01\0\0").is_err());
        assert!(Request::parse(b"\x05").is_err());
    }

    #[test]
    fn replies() {
        let opened = Reply::opened("192.0.2.1:258".parse().expect("address"));
        assert_eq!(opened.encode(), [0, 0x5A, 1, 2, 192, 0, 2, 1]);
        let v6 = Reply::opened("[2001:db8::1]:258".parse().expect("address"));
        assert_eq!(v6.encode(), [0, 0x5A, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Reply::refused().encode(), [0, 0x5B, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn round_trip(target in targets(), user in proptest::collection::vec(1u8.., 0..=255), bind: bool) {
            let command = if bind { Command::Bind } else { Command::Connect };
            let request = Request { command, target, user: &user };
            let (mut bytes, mut longer) = (Vec::new(), Vec::new());
            if request.encode(&mut bytes).is_ok() {
                assert_message(&bytes, &mut longer, &request, Request::parse);
            }
        }

        #[test]
        fn replies_round_trip(code: u8, address: [u8; 4], port: u16) {
            let reply = Reply { code, address: address.into(), port };
            assert_message(&reply.encode(), &mut Vec::new(), &reply, Reply::parse);
        }

        #[test]
        fn any_bytes(mut bytes: Vec<u8>) {
            let _ = Request::parse(&bytes);
            let _ = Reply::parse(&bytes);
            bytes.splice(0..0, [4, 1, 0, 80, 0, 0, 0, 1]);
            let _ = Request::parse(&bytes);
        }
    }
}
