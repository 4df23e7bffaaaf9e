//! Names as they are compared.
//!
//! Invariant: two spellings of one name (case, trailing dots, Unicode or punycode) compare equal, and a number that
//! a resolver takes for an address is never compared as a name.

use std::borrow::Cow;
use std::net::Ipv4Addr;

/// The one spelling of a name: lower case, ASCII where there is one, without a dot at the end.
pub(crate) fn normal(name: &str) -> Cow<'_, str> {
    let bare = name.trim_end_matches('.');
    if bare.is_ascii() {
        return if bare.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(bare.to_ascii_lowercase())
        } else {
            Cow::Borrowed(bare)
        };
    }
    match idna::domain_to_ascii(bare) {
        Ok(ascii) => Cow::Owned(ascii.trim_end_matches('.').to_owned()),
        Err(_) => Cow::Owned(bare.to_lowercase()),
    }
}

/// The address that resolvers read in a name of numbers, as inet_aton(3) does: one to four parts, each decimal, octal
/// (`0…`) or hexadecimal (`0x…`), the last one filling what is left.
pub(crate) fn number(name: &str) -> Option<Ipv4Addr> {
    let bare = normal(name);
    let parts: Vec<u32> = bare.split('.').map(part).collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 32 - 8 * leading.len() as u32;
    if u64::from(*last) >= 1 << room {
        return None;
    }
    let high = leading.iter().fold(0u64, |high, part| high << 8 | u64::from(*part));
    u32::try_from(high << room | u64::from(*last)).ok().map(Ipv4Addr::from_bits)
}

fn part(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some("") => return Some(0),
        Some(digits) => (digits, 16),
        None => match text.strip_prefix('0') {
            Some(digits) if !digits.is_empty() => (digits, 8),
            _ => (text, 10),
        },
    };
    // from_str_radix takes a sign, an address does not.
    let legal = digits.bytes().all(|b| b.is_ascii_hexdigit());
    legal.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_a_name() {
        for text in
            ["example.org", "EXAMPLE.org", "Example.Org.", "example.org..", "ｅxample.org", "example。org"]
        {
            assert_eq!(normal(text), "example.org", "{text}");
        }
        assert_eq!(normal("BÜCHER.example."), "xn--bcher-kva.example");
    }

    #[test]
    fn numbers_that_are_addresses() {
        for text in [
            "2130706433",
            "0x7f000001",
            "017700000001",
            "127.1",
            "127.0.1",
            "0x7f.1",
            "0177.0.0.01",
            "127.0.0.1.",
            "0X7F.0x0.0.0x1",
            "１２７.0.0.1",
        ] {
            assert_eq!(number(text), Some(Ipv4Addr::LOCALHOST), "{text}");
        }
        assert_eq!(number("0"), Some(Ipv4Addr::UNSPECIFIED));
        for text in [
            "",
            ".",
            "4294967296",
            "256.1",
            "127.16777216",
            "1.2.3.4.5",
            "1..2",
            "+1",
            "0x+1",
            "08",
            "a.1",
            "example.1x",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn normal_is_normal_already(text in "\\PC{0,40}") {
            let once = normal(&text).into_owned();
            prop_assert_eq!(&normal(&once), &once);
            let _ = number(&text);
        }

        #[test]
        fn every_spelling_of_every_address(ip: u32) {
            let ip = Ipv4Addr::from_bits(ip);
            let [a, b, c, d] = ip.octets();
            for text in [
                format!("{}", ip.to_bits()),
                format!("{:#x}", ip.to_bits()),
                format!("0{:o}", ip.to_bits()),
                format!("{a}.{}", ip.to_bits() & 0xff_ffff),
                format!("{a:#x}.{b:#X}.{}", ip.to_bits() & 0xffff),
                format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}."),
            ] {
                prop_assert_eq!(number(&text), Some(ip), "{}", text);
            }
        }
    }
}
