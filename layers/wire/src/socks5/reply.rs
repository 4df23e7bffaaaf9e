//! What came of the request (RFC 1928 §6).
//!
//! Invariant: every refusal has a code; there is one table, [`ReplyCode::from`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use swiftproxy_core::error::Refusal;
use swiftproxy_core::target::{Host, Target};

use crate::parse::{Malformed, Parsed, Reader, Unencodable, need};

use super::{RequestError, VERSION, address};

/// The code of a reply; any byte can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplyCode(pub u8);

impl ReplyCode {
    /// It is open.
    pub const SUCCEEDED: Self = Self(0x00);
    /// General failure.
    pub const FAILURE: Self = Self(0x01);
    /// Not allowed by the ruleset.
    pub const NOT_ALLOWED: Self = Self(0x02);
    /// Network unreachable.
    pub const NETWORK_UNREACHABLE: Self = Self(0x03);
    /// Host unreachable.
    pub const HOST_UNREACHABLE: Self = Self(0x04);
    /// Connection refused.
    pub const REFUSED: Self = Self(0x05);
    /// TTL expired, which is what a target that does not answer in time gets.
    pub const TTL_EXPIRED: Self = Self(0x06);
    /// Command not supported.
    pub const UNSUPPORTED_COMMAND: Self = Self(0x07);
    /// Address type not supported.
    pub const UNSUPPORTED_ADDRESS: Self = Self(0x08);
}

impl From<Refusal> for ReplyCode {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // Of a login that fails after the method is settled, or is missing altogether.
            Refusal::AuthRequired | Refusal::AuthFailed => Self::NOT_ALLOWED,
            Refusal::AccountDisabled | Refusal::AccountExpired | Refusal::QuotaExceeded => Self::NOT_ALLOWED,
            Refusal::Denied | Refusal::DeniedAddress | Refusal::Loop => Self::NOT_ALLOWED,
            Refusal::UnreachableNet => Self::NETWORK_UNREACHABLE,
            Refusal::DnsFailed | Refusal::UnreachableHost => Self::HOST_UNREACHABLE,
            Refusal::Refused => Self::REFUSED,
            Refusal::Timeout => Self::TTL_EXPIRED,
            Refusal::UnsupportedCommand => Self::UNSUPPORTED_COMMAND,
            Refusal::UnsupportedAddress => Self::UNSUPPORTED_ADDRESS,
            _ => Self::FAILURE,
        }
    }
}

/// The server's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Whether it is open, and if not why.
    pub code: ReplyCode,
    /// The address the server dialled from; all zero in a refusal.
    pub bound: Target,
}

impl Reply {
    /// Success, with the address the target was dialled from. An IPv4 address in IPv6 clothes is undressed.
    pub fn opened(bound: SocketAddr) -> Self {
        let bound = Target::new(Host::Ip(bound.ip().to_canonical()), bound.port());
        Self { code: ReplyCode::SUCCEEDED, bound }
    }

    /// The refusal's code, with an all zero address.
    pub fn refused(refusal: Refusal) -> Self {
        let bound = Target::new(Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), 0);
        Self { code: refusal.into(), bound }
    }

    /// Reads a reply.
    pub fn parse(bytes: &[u8]) -> Parsed<Self, RequestError> {
        let mut reader = Reader::new(bytes);
        if need!(reader.u8()) != VERSION {
            return Err(Malformed("not SOCKS version 5").into());
        }
        let code = ReplyCode(need!(reader.u8()));
        need!(reader.u8());
        let bound = need!(address::read(&mut reader)?);
        Ok(Some((Self { code, bound }, reader.at())))
    }

    /// Appends the reply to `out`; on an error `out` is not to be sent.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        out.extend_from_slice(&[VERSION, self.code.0, 0]);
        address::encode(&self.bound, out)
    }

    /// [`Reply::opened`] as bytes.
    pub fn opened_bytes(bound: SocketAddr) -> Vec<u8> {
        Self::opened(bound).to_bytes()
    }

    /// [`Reply::refused`] as bytes.
    pub fn refused_bytes(refusal: Refusal) -> Vec<u8> {
        Self::refused(refusal).to_bytes()
    }

    /// For replies that hold an address, which always fits.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(22);
        let fits = self.encode(&mut out);
        debug_assert!(fits.is_ok());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::tests::assert_message;
    use crate::socks5::address::tests::targets;

    #[test]
    fn every_refusal_has_the_code_of_the_table() {
        let expected = |refusal: Refusal| match refusal.label() {
            "account_disabled" | "account_expired" | "quota_exceeded" => 2,
            "auth_required" | "auth_failed" | "denied" | "denied_address" | "loop" => 2,
            "unreachable_net" => 3,
            "dns_failed" | "unreachable_host" => 4,
            "refused" => 5,
            "timeout" => 6,
            "unsupported_command" => 7,
            "unsupported_address" => 8,
            _ => 1,
        };
        for refusal in Refusal::all() {
            assert_eq!(Reply::refused_bytes(refusal), [5, expected(refusal), 0, 1, 0, 0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn the_bound_address_keeps_its_type() {
        let v4 = Reply::opened_bytes("192.0.2.1:258".parse().expect("address"));
        assert_eq!(v4, [5, 0, 0, 1, 192, 0, 2, 1, 1, 2]);
        assert_eq!(v4, Reply::opened_bytes("[::ffff:192.0.2.1]:258".parse().expect("address")));
        let v6 = Reply::opened_bytes("[2001:db8::1]:1".parse().expect("address"));
        assert_eq!((v6.len(), v6[3]), (22, 4));
    }

    proptest! {
        #[test]
        fn round_trip(bound in targets(), code: u8) {
            let reply = Reply { code: ReplyCode(code), bound };
            let mut bytes = Vec::new();
            reply.encode(&mut bytes).expect("fits");
            assert_message(&bytes, &mut Vec::new(), &reply, Reply::parse);
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = Reply::parse(&bytes);
        }
    }
}
