//! One entry of a list: a host, a network or a set, and ports.
//!
//! Invariant: an entry that cannot be what its author meant is refused, with the text to write instead.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::name;
use crate::ports::Ports;

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `*`
    Any,
    /// `private`
    Private,
    /// An address or a network.
    Net(IpNet),
    /// `example.org`: that name.
    Name(Box<str>),
    /// `.example.org`: that name and every name below it.
    Suffix(Box<str>),
}

/// An entry of `allow` or `deny`, such as `"10.0.0.0/8"`, `".example.org:443"` or `"*:25"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub(crate) subject: Subject,
    pub(crate) ports: Ports,
}

/// Why a text is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{entry}\": {problem}; write {instead}")]
pub struct RuleError {
    entry: String,
    problem: Cow<'static, str>,
    instead: String,
}

impl Rule {
    /// The set `private` on all ports.
    pub(crate) fn private() -> Self {
        Self { subject: Subject::Private, ports: Ports::ALL }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let error = |problem: &'static str, instead: String| RuleError {
            entry: text.to_owned(),
            problem: problem.into(),
            instead,
        };
        let ports_of = |ports: &str, host: &str| {
            ports
                .parse::<Ports>()
                .map_err(|problem| error(problem, format!("\"{host}:443\" or \"{host}:1000-2000\"")))
        };
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split('/').next().unwrap_or(rest);
            return Err(error("an entry is no URL", format!("\"{host}\"")));
        }
        if let Some(rest) = text.strip_prefix('[') {
            let example = || "\"[2001:db8::1]:443\" or \"[2001:db8::/32]:443\"".to_owned();
            let (inside, after) =
                rest.split_once(']').ok_or_else(|| error("the bracket is not closed", example()))?;
            let subject = network(text, inside)?
                .filter(|net| inside.contains(':') || net.addr().is_ipv6())
                .map(Subject::Net)
                .ok_or_else(|| error("only an IPv6 address or network stands in brackets", example()))?;
            let ports = match after {
                "" => Ports::ALL,
                _ => {
                    let ports = after
                        .strip_prefix(':')
                        .ok_or_else(|| error("after the bracket comes a colon and a port", example()))?;
                    ports_of(ports, &format!("[{inside}]"))?
                }
            };
            return Ok(Self { subject, ports });
        }
        // Two colons without brackets: IPv6, and no port.
        let (host, ports) = match text.split_once(':') {
            Some((host, ports)) if !ports.contains(':') => {
                (host, ports_of(ports, if host.is_empty() { "*" } else { host })?)
            }
            _ => (text, Ports::ALL),
        };
        let subject = match host {
            "" | "*" if !text.is_empty() => Subject::Any,
            "private" => Subject::Private,
            host => match network(text, host)? {
                Some(net) => Subject::Net(net),
                None => domain(text, host)?,
            },
        };
        Ok(Self { subject, ports })
    }
}

/// The network, where `host` is written as one or as an address.
fn network(text: &str, host: &str) -> Result<Option<IpNet>, RuleError> {
    let error = |problem: &'static str, instead: String| RuleError {
        entry: text.to_owned(),
        problem: problem.into(),
        instead,
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Some(ip.to_canonical().into()));
    }
    let Some((address, _)) = host.split_once('/') else { return Ok(None) };
    let Ok(net) = host.parse::<IpNet>() else {
        let problem = if address.parse::<IpAddr>().is_ok() {
            "the prefix length is out of range"
        } else {
            "it is not a network"
        };
        return Err(error(problem, "\"10.0.0.0/8\" or \"2001:db8::/32\"".into()));
    };
    if net.trunc() != net {
        return Err(error(
            "it has bits beyond its prefix",
            format!("\"{}\" or \"{}\"", net.trunc(), net.addr()),
        ));
    }
    match (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
        (IpAddr::V4(ip), Some(length)) if net.addr().is_ipv6() => IpNet::new(ip.into(), length)
            .map(Some)
            .map_err(|_| error("the prefix length is out of range", "\"10.0.0.0/8\"".into())),
        _ => Ok(Some(net)),
    }
}

fn domain(text: &str, host: &str) -> Result<Subject, RuleError> {
    let error = |problem: &'static str, instead: String| RuleError {
        entry: text.to_owned(),
        problem: problem.into(),
        instead,
    };
    let example = || {
        "a name (\"example.org\"), a name and all below it (\".example.org\"), an address, a network \
         (\"10.0.0.0/8\"), \"private\", or \"*\"; ports follow a colon (\"*:25\")"
            .to_owned()
    };
    if let Some(rest) = host.strip_prefix("*.") {
        return Err(error("a star stands alone", format!("\".{rest}\"")));
    }
    if let Some(ip) = name::number(host) {
        return Err(error("an address is written in four decimal parts", format!("\"{ip}\"")));
    }
    let bare = host.strip_prefix('.').unwrap_or(host);
    let name = name::normal(bare);
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(legal);
    if name.len() > 253 || !name.split('.').all(label) {
        if host.parse::<Ipv6Addr>().is_err() && host.contains(':') {
            return Err(error(
                "it is not an address",
                "\"[2001:db8::1]:443\", with brackets before a port".into(),
            ));
        }
        return Err(error("it is no host", example()));
    }
    if &*name == "private" && bare.len() == host.len() {
        return Err(error(
            "the set is written in small letters, and no host has its name",
            "\"private\"".into(),
        ));
    }
    let name = name.into_owned().into_boxed_str();
    Ok(if bare.len() < host.len() { Subject::Suffix(name) } else { Subject::Name(name) })
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.ports == Ports::ALL;
        match &self.subject {
            Subject::Any => f.write_str("*")?,
            Subject::Private => f.write_str("private")?,
            Subject::Net(net) if net.addr().is_ipv6() && !all => write!(f, "[{net}]")?,
            Subject::Net(net) => net.fmt(f)?,
            Subject::Name(name) => f.write_str(name)?,
            Subject::Suffix(name) => write!(f, ".{name}")?,
        }
        if all { Ok(()) } else { write!(f, ":{}", self.ports) }
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Rule {
    fn schema_name() -> Cow<'static, str> {
        "Rule".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "examples": ["private", "10.0.0.0/8", ".example.org", "example.org:443", "*:6881-6889", "[2001:db8::1]:22"],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries() {
        for (text, shown) in [
            ("*", "*"),
            ("*:25", "*:25"),
            (":25", "*:25"),
            ("*:6881-6889", "*:6881-6889"),
            ("private", "private"),
            ("private:80", "private:80"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("127.0.0.1:8080", "127.0.0.1/32:8080"),
            ("10.0.0.0/8:22-23", "10.0.0.0/8:22-23"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("[::1]", "::1/128"),
            ("[::1]:443", "[::1/128]:443"),
            ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1/32:80"),
            ("Example.ORG.", "example.org"),
            (".Example.org:443", ".example.org:443"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(text.parse::<Rule>().map(|rule| rule.to_string()).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_to_write() {
        for (text, told) in [
            ("", "it is no host; write a name"),
            ("10.0.0.1/8", "write \"10.0.0.0/8\" or \"10.0.0.1\""),
            ("10.0.0.0/33", "out of range"),
            ("ten/8", "it is not a network"),
            ("Private", "write \"private\""),
            ("private.:80", "write \"private\""),
            ("*.example.org", "write \".example.org\""),
            ("example.org:", "write \"example.org:443\""),
            ("example.org:70000", "not a number from 0 to 65535"),
            ("example.org:20-10", "ends before it starts"),
            ("example.org:+1", "not a number"),
            ("2130706433", "write \"127.0.0.1\""),
            ("0x7f.1:80", "write \"127.0.0.1\""),
            ("[::1", "not closed"),
            ("[::1]443", "a colon and a port"),
            ("[10.0.0.1]:80", "only an IPv6"),
            ("::1:zz", "with brackets before a port"),
            ("exa mple.org", "it is no host"),
            ("http://example.org/a", "write \"example.org\""),
            ("..example.org", "it is no host"),
            ("fe80::1%eth0", "it is not an address"),
        ] {
            let error = text.parse::<Rule>().expect_err(text).to_string();
            assert!(error.contains(told) && error.contains(&format!("\"{text}\"")), "{text}: {error}");
        }
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let subject = prop_oneof![
            Just("*".to_owned()),
            Just("private".to_owned()),
            "\\.?[a-z][a-z0-9-]{0,9}(\\.[a-z][a-z0-9]{1,5}){0,3}",
            (any::<u32>(), 0u8..=32)
                .prop_map(|(ip, n)| IpNet::new(IpAddr::V4(ip.into()), n).unwrap().trunc().to_string()),
            (any::<u128>(), 0u8..=128)
                .prop_map(|(ip, n)| format!("[{}]", IpNet::new(IpAddr::V6(ip.into()), n).unwrap().trunc())),
        ];
        (subject, any::<Option<(u16, u16)>>()).prop_filter_map("no entry", |(subject, ports)| {
            let ports = ports.map_or_else(String::new, |(a, b)| format!(":{}-{}", a.min(b), a.max(b)));
            format!("{subject}{ports}").parse().ok()
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(rule in any_rule()) {
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", near in r"[\[\]0-9a-f:./*x -]{0,30}") {
            for text in [text, near] {
                if let Ok(rule) = text.parse::<Rule>() {
                    prop_assert_eq!(rule.to_string().parse(), Ok(rule));
                }
            }
        }
    }
}
