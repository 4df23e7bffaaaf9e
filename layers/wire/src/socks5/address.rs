//! Address type, address and port, as requests and replies carry them (RFC 1928 §5).
//!
//! Invariant: a domain is at most 255 bytes, by its length byte; an address type that is not known is told
//! apart from a message that cannot be read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swiftproxy_core::target::{Host, Target};

use crate::parse::{Reader, Unencodable, domain, need};

use super::RequestError;

const V4: u8 = 1;
const DOMAIN: u8 = 3;
const V6: u8 = 4;

/// Reads an address; of an unknown type neither end nor length is known, so it is refused at once.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Target>, RequestError> {
    let host = match need!(reader.u8()) {
        V4 => Host::Ip(IpAddr::V4(Ipv4Addr::from(need!(reader.array::<4>())))),
        V6 => Host::Ip(IpAddr::V6(Ipv6Addr::from(need!(reader.array::<16>())))),
        DOMAIN => {
            let name = need!(reader.counted());
            let port = need!(reader.u16());
            return domain(name, port).map(Some).map_err(RequestError::from);
        }
        other => return Err(RequestError::Address(other)),
    };
    Ok(Some(Target::new(host, need!(reader.u16()))))
}

/// Appends an address.
pub(super) fn encode(target: &Target, out: &mut Vec<u8>) -> Result<(), Unencodable> {
    match &target.host {
        Host::Ip(IpAddr::V4(address)) => {
            out.push(V4);
            out.extend_from_slice(&address.octets());
        }
        Host::Ip(IpAddr::V6(address)) => {
            out.push(V6);
            out.extend_from_slice(&address.octets());
        }
        Host::Domain(name) => {
            let n = u8::try_from(name.len()).map_err(|_| Unencodable("a domain of more than 255 bytes"))?;
            out.extend_from_slice(&[DOMAIN, n]);
            out.extend_from_slice(name.as_bytes());
        }
    }
    out.extend_from_slice(&target.port.to_be_bytes());
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any target that SOCKS5 can carry.
    pub(crate) fn targets() -> impl Strategy<Value = Target> {
        let host = prop_oneof![
            any::<[u8; 4]>().prop_map(|octets| Host::Ip(IpAddr::from(octets))),
            any::<[u8; 16]>().prop_map(|octets| Host::Ip(IpAddr::from(octets))),
            "[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9]{0,20}){0,3}".prop_map(|name| Host::Domain(name.into())),
        ];
        (host, any::<u16>()).prop_map(|(host, port)| Target::new(host, port))
    }
}
