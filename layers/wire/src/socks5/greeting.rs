//! The methods a client offers, and the one the server picks (RFC 1928 §3).
//!
//! Invariant: the order of the offer says nothing; unknown methods are passed over.

use crate::parse::{Malformed, Parsed, Reader, Unencodable, need};

use super::VERSION;

/// A way to authenticate; any byte can be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(pub u8);

impl Method {
    /// No authentication.
    pub const NONE: Self = Self(0x00);
    /// User name and password, RFC 1929.
    pub const PASSWORD: Self = Self(0x02);
    /// The server's answer when nothing that was offered will do; the client must close.
    pub const NOT_ACCEPTABLE: Self = Self(0xFF);
}

/// The client's first message. Methods: 0 to 255 bytes, borrowed from the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting<'a> {
    /// The methods offered, one byte each, in the client's order.
    pub methods: &'a [u8],
}

impl<'a> Greeting<'a> {
    /// Reads a greeting. An empty offer is one: nothing in it is acceptable.
    pub fn parse(bytes: &'a [u8]) -> Parsed<Self> {
        let mut reader = Reader::new(bytes);
        if need!(reader.u8()) != VERSION {
            return Err(Malformed("not SOCKS version 5"));
        }
        let methods = need!(reader.counted());
        Ok(Some((Self { methods }, reader.at())))
    }

    /// Whether `method` is among those offered. 0xFF means "none" and is no offer.
    pub fn offers(&self, method: Method) -> bool {
        method != Method::NOT_ACCEPTABLE && self.methods.contains(&method.0)
    }

    /// Appends the greeting to `out`; more than 255 methods have no room.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let n = u8::try_from(self.methods.len()).map_err(|_| Unencodable("more than 255 methods"))?;
        out.extend_from_slice(&[VERSION, n]);
        out.extend_from_slice(self.methods);
        Ok(())
    }
}

/// The server's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodReply(pub Method);

impl MethodReply {
    /// Reads the server's choice.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let mut reader = Reader::new(bytes);
        if need!(reader.u8()) != VERSION {
            return Err(Malformed("not SOCKS version 5"));
        }
        Ok(Some((Self(Method(need!(reader.u8()))), reader.at())))
    }

    /// The two bytes of it.
    pub fn encode(self) -> [u8; 2] {
        [VERSION, self.0.0]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::tests::assert_message;

    #[test]
    fn methods_in_any_order_with_unknown_ones() {
        let (greeting, _) = Greeting::parse(&[5, 4, 0x80, 2, 7, 0]).expect("read").expect("whole");
        assert!(greeting.offers(Method::PASSWORD) && greeting.offers(Method::NONE));
        assert!(!greeting.offers(Method(1)));
        let (empty, _) = Greeting::parse(&[5, 0]).expect("read").expect("whole");
        assert!(!empty.offers(Method::NONE));
        let (odd, _) = Greeting::parse(&[5, 1, 0xFF]).expect("read").expect("whole");
        assert!(!odd.offers(Method::NOT_ACCEPTABLE));
    }

    #[test]
    fn another_version_is_refused_at_its_first_byte() {
        assert!(Greeting::parse(&[4]).is_err());
        assert!(MethodReply::parse(&[1]).is_err());
    }

    proptest! {
        #[test]
        fn round_trip(methods in proptest::collection::vec(any::<u8>(), 0..=255), method: u8) {
            let (mut bytes, mut longer) = (Vec::new(), Vec::new());
            Greeting { methods: &methods }.encode(&mut bytes).expect("fits");
            assert_message(&bytes, &mut longer, &Greeting { methods: &methods }, Greeting::parse);
            let reply = MethodReply(Method(method));
            assert_message(&reply.encode(), &mut Vec::new(), &reply, MethodReply::parse);
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = Greeting::parse(&bytes);
            let _ = MethodReply::parse(&bytes);
        }
    }
}
