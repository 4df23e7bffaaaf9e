//! The line that the first SwiftProxy's local program sends its remote, and the line it gets back.
//!
//! Invariant: a request is one line of JSON of at most [`MAX_LINE`] bytes; what follows its `\r\n` is the
//! stream's. There is no line for a refusal: the connection is closed without a word.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::secret::Secret;
use swiftproxy_core::target::{Host, Target};

use crate::parse::{Malformed, Parsed, domain};

/// The most bytes a line may have, its `\r\n` included.
pub const MAX_LINE: usize = 4096;

/// What an old local program asks for.
#[derive(Debug)]
pub struct Request {
    /// With whom.
    pub target: Target,
    /// Who asks; sent in clear.
    pub credentials: Credentials,
}

/// The line's JSON. The port is a number where the client spoke SOCKS5, a string where it sent CONNECT.
#[derive(Deserialize)]
struct Line {
    dst: String,
    dport: Port,
    user: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u16),
    Text(String),
}

#[derive(Serialize)]
struct LineRef<'a> {
    dst: &'a str,
    dport: u16,
    user: &'a str,
    password: &'a str,
}

impl Request {
    /// Reads a request; keys it does not know are passed over, a key that comes twice is refused.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        if bytes.first().is_some_and(|byte| *byte != b'{') {
            return Err(Malformed("not a line of JSON"));
        }
        let Some((line, n)) = line(bytes)? else { return Ok(None) };
        let line: Line = serde_json::from_slice(line).map_err(|_| Malformed("not the JSON of a request"))?;
        let password = Secret::new(line.password);
        let port = match line.dport {
            Port::Number(port) => port,
            Port::Text(text) => digits(&text).ok_or(Malformed("not a port"))?,
        };
        let target = domain(line.dst.as_bytes(), port)?;
        Ok(Some((Self { target, credentials: Credentials { name: line.user.into(), password } }, n)))
    }

    /// Appends the line to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let address;
        let dst = match &self.target.host {
            Host::Domain(name) => &**name,
            Host::Ip(ip) => {
                address = ip.to_string();
                &address
            }
        };
        let line = LineRef {
            dst,
            dport: self.target.port,
            user: &self.credentials.name,
            password: self.credentials.password.expose(),
        };
        // Strings and a number into memory: nothing in it can fail.
        let written = serde_json::to_writer(&mut *out, &line);
        debug_assert!(written.is_ok());
        out.extend_from_slice(b"\r\n");
    }
}

/// The remote's answer once the target is connected: `bindHost bindPort`, IPv6 without brackets.
pub fn reply(bound: SocketAddr) -> String {
    format!("{} {}\r\n", bound.ip().to_canonical(), bound.port())
}

/// Reads the answer.
pub fn parse_reply(bytes: &[u8]) -> Parsed<SocketAddr> {
    let bad = Malformed("not an address and a port");
    let Some((line, n)) = line(bytes)? else { return Ok(None) };
    let line = std::str::from_utf8(line).map_err(|_| bad)?;
    let (host, port) = line.split_once(' ').ok_or(bad)?;
    let (host, port): (IpAddr, u16) = (host.parse().map_err(|_| bad)?, digits(port).ok_or(bad)?);
    Ok(Some((SocketAddr::new(host.to_canonical(), port), n)))
}

/// A port in digits alone; `parse` would take a sign.
fn digits(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A line without its end, and its length with it.
fn line(bytes: &[u8]) -> Parsed<&[u8]> {
    let seen = bytes.get(..MAX_LINE).unwrap_or(bytes);
    match seen.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = seen.get(..end).and_then(|line| line.strip_suffix(b"\r"));
            Ok(Some((line.ok_or(Malformed("a line that does not end in CR LF"))?, end + 1)))
        }
        None if bytes.len() >= MAX_LINE => Err(Malformed("a line of more than 4096 bytes")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::tests::assert_message;
    use crate::socks5::tests::targets;

    fn read(bytes: &[u8]) -> Result<Option<(Target, String, String, usize)>, Malformed> {
        let found = Request::parse(bytes)?;
        Ok(found.map(|(found, n)| {
            let Credentials { name, password } = found.credentials;
            (found.target, name.into(), password.expose().to_owned(), n)
        }))
    }

    #[test]
    fn as_the_old_program_writes_it() {
        let target = Target::from_domain("example.com", 443).expect("domain");
        for port in ["443", "\"443\""] {
            let line = format!(
                "{{\"dst\": \"example.com\", \"dport\": {port}, \"user\": \"u\\u00e9\", \"password\": \"p\"}}\r\n"
            );
            let n = line.len();
            let expected = Ok(Some((target.clone(), "ué".to_owned(), "p".to_owned(), n)));
            assert_eq!(read(&[line.as_bytes(), b"early"].concat()), expected);
            for short in 0..n {
                assert_eq!(read(&line.as_bytes()[..short]), Ok(None));
            }
        }
    }

    #[test]
    fn what_is_refused() {
        let cases: [&[u8]; 9] = [
            b"G",
            b"{}\r\n",
            b"{\n",
            b"{\"dst\":\"a\",\"dport\":65536,\"user\":\"u\",\"password\":\"p\"}\r\n",
            b"{\"dst\":\"a\",\"dport\":\"+80\",\"user\":\"u\",\"password\":\"p\"}\r\n",
            b"{\"dst\":\"a\",\"dport\":\"\",\"user\":\"u\",\"password\":\"p\"}\r\n",
            b"{\"dst\":\"\",\"dport\":80,\"user\":\"u\",\"password\":\"p\"}\r\n",
            b"{\"dst\":\"a\",\"dst\":\"b\",\"dport\":80,\"user\":\"u\",\"password\":\"p\"}\r\n",
            &[b'{'; MAX_LINE],
        ];
        for bytes in cases {
            assert!(read(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        assert_eq!(read(&[b'{'; MAX_LINE - 1]), Ok(None));
    }

    #[test]
    fn the_answer() {
        assert_eq!(reply("192.0.2.1:80".parse().expect("address")), "192.0.2.1 80\r\n");
        assert_eq!(reply("[2001:db8::1]:80".parse().expect("address")), "2001:db8::1 80\r\n");
        for bytes in [&b"nonsense\r\n"[..], b"192.0.2.1 +80\r\n", b"192.0.2.1 \r\n", b"192.0.2.1 80 \r\n"] {
            assert!(parse_reply(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        let mapped = parse_reply(b"::ffff:192.0.2.1 80\r\n").expect("read").expect("whole");
        assert_eq!(mapped.0, "192.0.2.1:80".parse().expect("address"));
    }

    proptest! {
        #[test]
        fn round_trip(target in targets(), user in "\\PC{0,20}", password: String) {
            let password = password.chars().take(200).collect::<String>();
            let credentials = Credentials { name: user.as_str().into(), password: Secret::new(password.clone()) };
            let mut bytes = Vec::new();
            Request { target: target.clone(), credentials }.encode(&mut bytes);
            let n = bytes.len();
            let found = read(&bytes).expect("a request").expect("a whole one");
            prop_assert_eq!(found, (target, user, password, n));
        }

        #[test]
        fn answers_round_trip(ip: std::net::IpAddr, port: u16) {
            let bound = SocketAddr::new(ip.to_canonical(), port);
            assert_message(reply(bound).as_bytes(), &mut Vec::new(), &bound, parse_reply);
        }

        #[test]
        fn any_bytes(mut bytes: Vec<u8>) {
            let _ = Request::parse(&bytes);
            let _ = parse_reply(&bytes);
            bytes.splice(0..0, *b"{\"");
            bytes.extend_from_slice(b"\"}\r\n");
            let _ = Request::parse(&bytes);
        }
    }
}
