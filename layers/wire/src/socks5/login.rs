//! User name and password (RFC 1929).
//!
//! Invariant: names and passwords are bytes, 0 to 255 of them, whatever they hold; whether they are an
//! account's is not decided here.

use std::fmt;

use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::secret::Secret;

use crate::parse::{Malformed, Parsed, Reader, Unencodable, need};

/// The version of the sub-negotiation, which is not SOCKS's.
const VERSION: u8 = 1;

/// What the client says of itself, borrowed from the input. Its `Debug` keeps the password to itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    /// The user's name, 0 to 255 bytes.
    pub name: &'a [u8],
    /// The password, 0 to 255 bytes.
    pub password: &'a [u8],
}

impl<'a> Login<'a> {
    /// Reads name and password.
    pub fn parse(bytes: &'a [u8]) -> Parsed<Self> {
        let mut reader = Reader::new(bytes);
        if need!(reader.u8()) != VERSION {
            return Err(Malformed("not version 1 of the password sub-negotiation"));
        }
        let name = need!(reader.counted());
        let password = need!(reader.counted());
        Ok(Some((Self { name, password }, reader.at())))
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let too_long = |_| Unencodable("a name or password of more than 255 bytes");
        let name = u8::try_from(self.name.len()).map_err(too_long)?;
        let password = u8::try_from(self.password.len()).map_err(too_long)?;
        out.extend_from_slice(&[VERSION, name]);
        out.extend_from_slice(self.name);
        out.push(password);
        out.extend_from_slice(self.password);
        Ok(())
    }

    /// The same as text; none where name or password is not UTF-8, which no account's is.
    pub fn credentials(&self) -> Option<Credentials> {
        let name = std::str::from_utf8(self.name).ok()?;
        let password = std::str::from_utf8(self.password).ok()?;
        Some(Credentials { name: name.into(), password: Secret::new(password.to_owned()) })
    }
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name.escape_ascii().to_string()).finish_non_exhaustive()
    }
}

/// The server's answer; any status but 0 is a no, and the server closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginReply(pub u8);

impl LoginReply {
    /// Come in.
    pub const SUCCESS: Self = Self(0);
    /// Wrong name or password.
    pub const FAILURE: Self = Self(1);

    /// Reads the server's answer.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let mut reader = Reader::new(bytes);
        if need!(reader.u8()) != VERSION {
            return Err(Malformed("not version 1 of the password sub-negotiation"));
        }
        Ok(Some((Self(need!(reader.u8())), reader.at())))
    }

    /// The two bytes of it.
    pub fn encode(self) -> [u8; 2] {
        [VERSION, self.0]
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::parse::tests::assert_message;

    #[test]
    fn a_login_tells_no_password() {
        let login = Login { name: b"al\nice", password: b"open sesame" };
        assert_eq!(format!("{login:?}"), r#"Login { name: "al\\nice", .. }"#);
    }

    #[test]
    fn text_or_nothing() {
        let credentials = Login { name: "zoë".as_bytes(), password: b"a:b" }.credentials().expect("text");
        assert_eq!((&*credentials.name, credentials.password.expose()), ("zoë", "a:b"));
        assert!(Login { name: b"zo\xeb", password: b"" }.credentials().is_none());
    }

    #[test]
    fn version_5_is_not_taken_for_1() {
        assert!(Login::parse(&[5]).is_err());
        assert!(LoginReply::parse(&[5]).is_err());
    }

    #[test]
    fn no_room_for_256_bytes() {
        let mut out = Vec::new();
        assert!(Login { name: &[b'a'; 256], password: b"" }.encode(&mut out).is_err());
        assert!(Login { name: b"", password: &[b'a'; 256] }.encode(&mut out).is_err());
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn round_trip(name in vec(any::<u8>(), 0..=255), password in vec(any::<u8>(), 0..=255), status: u8) {
            let login = Login { name: &name, password: &password };
            let (mut bytes, mut longer) = (Vec::new(), Vec::new());
            login.encode(&mut bytes).expect("fits");
            assert_message(&bytes, &mut longer, &login, Login::parse);
            let reply = LoginReply(status);
            assert_message(&reply.encode(), &mut Vec::new(), &reply, LoginReply::parse);
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = Login::parse(&bytes).map(|read| read.and_then(|(login, _)| login.credentials()));
            let _ = LoginReply::parse(&bytes);
        }
    }
}
