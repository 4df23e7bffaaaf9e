//! What a client's first message offers, told before anything is done with it (RFC 8446 §4.1.2).
//!
//! Invariant: it decides who shakes hands, never what is agreed; whatever looks odd goes to rustls's buffered side,
//! whose refusal is the right one.

use super::key::{HEADER, MAX_CIPHER};

const SUPPORTED_VERSIONS: u16 = 43;
const ALPN: u16 = 16;
const TLS13: [u8; 2] = [3, 4];

/// Bytes of a first message, all its records together.
const MAX_HELLO: usize = 16 * 1024;

/// Whether `received` begins with a ClientHello that offers TLS 1.3 and `protocol` in its ALPN; none while it is
/// not complete.
pub(super) fn offers(received: &[u8], protocol: &[u8]) -> Option<bool> {
    let mut message = Vec::new();
    let mut records = received;
    loop {
        if let Some(length) = wanted(&message) {
            if message.len() >= length {
                return Some(judge(&message[4..length], protocol).unwrap_or(false));
            }
            if length > MAX_HELLO {
                return Some(false);
            }
        }
        let Some((header, rest)) = records.split_first_chunk::<HEADER>() else {
            return if records.first().is_none_or(|&kind| kind == 22) { None } else { Some(false) };
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != 22 || length == 0 || length > MAX_CIPHER {
            return Some(false);
        }
        let (fragment, rest) = rest.split_at_checked(length)?;
        message.extend_from_slice(fragment);
        if message[0] != 1 {
            return Some(false);
        }
        records = rest;
    }
}

fn wanted(message: &[u8]) -> Option<usize> {
    let [_, a, b, c, ..] = *message else { return None };
    Some(4 + u32::from_be_bytes([0, a, b, c]) as usize)
}

fn judge(body: &[u8], protocol: &[u8]) -> Option<bool> {
    let rest = body.get(2 + 32..)?;
    let (_session, rest) = prefixed(rest, 1)?;
    let (_suites, rest) = prefixed(rest, 2)?;
    let (_compression, rest) = prefixed(rest, 1)?;
    let (mut extensions, _) = prefixed(rest, 2)?;
    let (mut version, mut name) = (false, false);
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
        let (data, rest) = prefixed(rest, 2)?;
        extensions = rest;
        match u16::from_be_bytes(*kind) {
            SUPPORTED_VERSIONS => {
                version = prefixed(data, 1)?.0.chunks_exact(2).any(|offered| offered == TLS13);
            }
            ALPN => {
                let mut names = prefixed(data, 2)?.0;
                while !names.is_empty() {
                    let (offered, rest) = prefixed(names, 1)?;
                    name |= offered == protocol;
                    names = rest;
                }
            }
            _ => {}
        }
    }
    Some(version && name)
}

/// A vector behind its length of `bytes` bytes, and what follows it.
fn prefixed(from: &[u8], bytes: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = from.split_at_checked(bytes)?;
    let length = length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConfig, ClientConnection, version};

    use super::*;
    use crate::tls::{Trust, client_config, provider, server_name};

    fn hello(alpn: &[&[u8]], versions: &[&'static rustls::SupportedProtocolVersion]) -> Vec<u8> {
        let pin = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        client_config(&Trust::Pins(pin.parse().unwrap())).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut client = ClientConnection::new(Arc::new(config), server_name("a.example").unwrap()).unwrap();
        let mut out = Vec::new();
        client.write_tls(&mut out).unwrap();
        out
    }

    #[test]
    fn offers_are_told() {
        let both = &[&version::TLS13, &version::TLS12];
        let full = hello(&[b"http/1.1", b"h2"], both);
        assert_eq!(offers(&full, b"h2"), Some(true));
        assert_eq!(offers(&hello(&[b"http/1.1"], both), b"h2"), Some(false));
        assert_eq!(offers(&hello(&[], both), b"h2"), Some(false));
        assert_eq!(offers(&hello(&[b"h2"], &[&version::TLS12]), b"h2"), Some(false));
        for end in 0..full.len() {
            assert_eq!(offers(&full[..end], b"h2"), None, "{end}");
        }
        // The same in records of a few bytes.
        let mut pieces = Vec::new();
        for piece in full[HEADER..].chunks(7) {
            pieces.extend_from_slice(&[22, 3, 1, 0, piece.len() as u8]);
            pieces.extend_from_slice(piece);
        }
        assert_eq!(offers(&pieces, b"h2"), Some(true));
        assert_eq!(offers(b"GET / HTTP/1.1\r\n", b"h2"), Some(false));
        assert_eq!(offers(&[22, 3, 1, 0, 4, 2, 0, 0, 0], b"h2"), Some(false));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>, flip in 0_usize..200, to: u8) {
            let _ = offers(&bytes, b"h2");
            let mut full = hello(&[b"h2"], &[&version::TLS13]);
            full[flip] = to;
            let _ = offers(&full, b"h2");
        }
    }
}
