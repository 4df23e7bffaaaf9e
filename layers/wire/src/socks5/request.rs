//! What the client asks for (RFC 1928 §4).
//!
//! Invariant: a command that is not served is refused only once the whole request is in, so that no unread
//! byte turns the close after the reply into a reset that overtakes it.

use swiftproxy_core::error::Refusal;
use swiftproxy_core::target::Target;

use crate::parse::{Malformed, Parsed, Reader, Unencodable, need};

use super::{VERSION, address};

/// A command of RFC 1928.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// A stream to the target.
    Connect,
    /// Wait for a connection from the target.
    Bind,
    /// Relay datagrams; the target is where the client will send from, all zero where it cannot say.
    UdpAssociate,
}

/// Why a request, or a reply, is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a message of SOCKS5.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A command that RFC 1928 does not know.
    #[error("unknown command {0:#04x}")]
    Command(u8),
    /// An address type that RFC 1928 does not know.
    #[error("unknown address type {0:#04x}")]
    Address(u8),
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Malformed(_) => Self::Malformed,
            RequestError::Command(_) => Self::UnsupportedCommand,
            RequestError::Address(_) => Self::UnsupportedAddress,
        }
    }
}

/// A client's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// With whom.
    pub target: Target,
}

impl Request {
    /// Reads a request. The reserved byte may hold anything, as old clients leave it.
    pub fn parse(bytes: &[u8]) -> Parsed<Self, RequestError> {
        let mut reader = Reader::new(bytes);
        if need!(reader.u8()) != VERSION {
            return Err(Malformed("not SOCKS version 5").into());
        }
        let command = need!(reader.u8());
        need!(reader.u8());
        let target = need!(address::read(&mut reader)?);
        let command = match command {
            1 => Command::Connect,
            2 => Command::Bind,
            3 => Command::UdpAssociate,
            other => return Err(RequestError::Command(other)),
        };
        Ok(Some((Self { command, target }, reader.at())))
    }

    /// Appends the request to `out`; on an error `out` is not to be sent.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let command = match self.command {
            Command::Connect => 1,
            Command::Bind => 2,
            Command::UdpAssociate => 3,
        };
        out.extend_from_slice(&[VERSION, command, 0]);
        address::encode(&self.target, out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use swiftproxy_core::target::Host;

    use super::*;
    use crate::parse::tests::assert_message;
    use crate::socks5::address::tests::targets;

    fn with_domain(name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![5, 1, 0, 3, u8::try_from(name.len()).expect("short")];
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&[0, 80]);
        bytes
    }

    #[test]
    fn what_is_not_served_is_told_apart() {
        let address = [0, 1, 127, 0, 0, 1, 0, 80];
        let unknown = [&[5, 9][..], &address].concat();
        assert_eq!(Request::parse(&unknown), Err(RequestError::Command(9)));
        assert_eq!(Request::parse(&unknown[..9]), Ok(None), "not before the request is whole");
        assert_eq!(Request::parse(&[5, 1, 0, 2]), Err(RequestError::Address(2)));
        assert_eq!(Refusal::from(RequestError::Command(9)), Refusal::UnsupportedCommand);
        assert_eq!(Refusal::from(RequestError::Address(2)), Refusal::UnsupportedAddress);
        assert!(matches!(Request::parse(&[4]), Err(RequestError::Malformed(_))));
    }

    #[test]
    fn a_domain_that_is_an_address_becomes_one() {
        let bytes = with_domain(b"192.0.2.1");
        let (request, _) = Request::parse(&bytes).expect("read").expect("whole");
        assert_eq!(request.target.host, Host::Ip([192, 0, 2, 1].into()));
    }

    #[test]
    fn domains_that_are_none() {
        for name in [&b""[..], b"a\0b", b"\xff\xfe", b"a b", b"a\r\nb"] {
            assert!(
                matches!(Request::parse(&with_domain(name)), Err(RequestError::Malformed(_))),
                "{name:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn round_trip(target in targets(), command in 0..3) {
            let command = [Command::Connect, Command::Bind, Command::UdpAssociate][command as usize];
            let request = Request { command, target };
            let mut bytes = Vec::new();
            request.encode(&mut bytes).expect("fits");
            assert_message(&bytes, &mut Vec::new(), &request, Request::parse);
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>, domain in proptest::collection::vec(any::<u8>(), 0..=255)) {
            let _ = Request::parse(&bytes);
            let _ = Request::parse(&with_domain(&domain));
        }
    }
}
