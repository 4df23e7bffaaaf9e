//! What every codec here shares: bytes in, a value and its length out.
//!
//! Invariant: a codec reads nothing beyond the message it returns, so that what follows (early data, a
//! pipelined request) stays with the caller; and it refuses as soon as the bytes at hand can no longer
//! become a message, so that a peer that speaks something else is not waited for.

use swiftproxy_core::error::Refusal;
use swiftproxy_core::target::Target;

/// `None` is "more bytes are needed"; the number is how many bytes the value took.
pub type Parsed<T, E = Malformed> = Result<Option<(T, usize)>, E>;

/// Bytes that are no message of the protocol; the text names the fault and carries nothing the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A value that the protocol has no room for; the text says which and how much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot be encoded: {0}")]
pub struct Unencodable(pub &'static str);

/// Takes pieces off the front of a message; `None` where it ends too early.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes taken so far.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(array)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// A piece whose length stands before it in one byte.
    pub(crate) fn counted(&mut self) -> Option<&'a [u8]> {
        let n = self.u8()?;
        self.take(usize::from(n))
    }

    /// A piece ended by a NUL, which is taken and not returned; `Err` where none comes within `most` bytes.
    pub(crate) fn until_nul(&mut self, most: usize) -> Result<Option<&'a [u8]>, ()> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.iter().take(most + 1).position(|&byte| byte == 0) {
            Some(n) => {
                let piece = self.take(n);
                self.at += 1;
                Ok(piece)
            }
            None if rest.len() > most => Err(()),
            None => Ok(None),
        }
    }
}

/// A target from a name as SOCKS carries it: bytes. An address literal becomes an address, so that no rule
/// about addresses is dodged by spelling.
pub(crate) fn domain(name: &[u8], port: u16) -> Result<Target, Malformed> {
    let name = std::str::from_utf8(name).map_err(|_| Malformed("a domain that is not text"))?;
    Target::from_domain(name, port).map_err(|_| Malformed("not a domain"))
}

/// Unwraps a piece, or asks the caller for more bytes.
macro_rules! need {
    ($piece:expr) => {
        match $piece {
            Some(piece) => piece,
            None => return Ok(None),
        }
    };
}
pub(crate) use need;

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Debug;

    use super::*;

    /// `bytes` is one message that parses to `value`: whole, split at every byte, and with more behind it.
    pub(crate) fn assert_message<'a, T: Debug + PartialEq, E: Debug + PartialEq>(
        bytes: &'a [u8],
        longer: &'a mut Vec<u8>,
        value: &T,
        parse: impl Fn(&'a [u8]) -> Parsed<T, E>,
    ) {
        for n in 0..bytes.len() {
            assert_eq!(parse(&bytes[..n]), Ok(None), "{n} of {} bytes", bytes.len());
        }
        *longer = bytes.to_vec();
        longer.extend_from_slice(b"\x05\0early");
        let (found, n) = parse(longer).expect("a message").expect("a whole one");
        assert_eq!((&found, n), (value, bytes.len()));
        let (found, n) = parse(bytes).expect("a message").expect("a whole one");
        assert_eq!((&found, n), (value, bytes.len()));
    }

    #[test]
    fn a_nul_is_looked_for_within_its_bound() {
        assert_eq!(Reader::new(b"abc").until_nul(3), Ok(None));
        assert_eq!(Reader::new(b"abc").until_nul(2), Err(()));
        assert_eq!(Reader::new(b"ab\0c").until_nul(2), Ok(Some(&b"ab"[..])));
        assert_eq!(Reader::new(b"abc\0").until_nul(2), Err(()));
    }
}
