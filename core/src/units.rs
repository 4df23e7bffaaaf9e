//! Quantities as an admin writes them: rates, sizes and lengths of time.
//!
//! Invariant: a value that exists is a legal one, and what it prints parses to the same value.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a quantity; says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

/// A rate in bytes per second, at least 1; or none, which prints as `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate(Option<u64>);

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self(None);

    /// The highest rate, in bytes per second: what an SQL integer holds.
    pub const MAX: u64 = i64::MAX.unsigned_abs();

    /// So many bytes per second; 0 means unlimited, more than [`Rate::MAX`] means that.
    pub fn bytes_per_second(rate: u64) -> Self {
        Self((rate > 0).then_some(rate.min(Self::MAX)))
    }

    /// Bytes per second; none is unlimited.
    pub fn get(self) -> Option<u64> {
        self.0
    }
}

const RATE_HELP: &str = "write a rate such as \"10Mbit/s\", \"1.5MiB/s\", \"300000B/s\" or \"unlimited\"";
const SIZE_HELP: &str = "write a size such as \"20GiB\", \"500MB\" or \"1024B\"";
const TIME_HELP: &str = "write a time such as \"500ms\", \"10s\", \"5min\", \"1h\" or \"7d\"";

/// Unit, with how many bits or bytes (in thousandths of the base) it stands for.
const PREFIXES: &[(&str, u128)] = &[
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
];

fn prefix(text: &str) -> Option<u128> {
    let text = if text == "K" { "k" } else { text };
    PREFIXES.iter().find(|(name, _)| *name == text).map(|(_, factor)| *factor)
}

/// Splits `1.5MiB` into 1.5 as (15, 10) and `MiB`; at most nine decimals.
fn number(text: &str) -> Option<(u128, u128, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let digits = digits.replace('_', "");
    let (whole, part) = digits.split_once('.').unwrap_or((&digits, ""));
    if whole.is_empty() || whole.len() > 20 || part.len() > 9 || (digits.contains('.') && part.is_empty()) {
        return None;
    }
    let scale = 10_u128.pow(part.len() as u32);
    let value = whole.parse::<u128>().ok()? * scale + if part.is_empty() { 0 } else { part.parse().ok()? };
    Some((value, scale, unit.trim()))
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError(format!("\"{text}\" is not a rate; {RATE_HELP}"));
        if text.trim() == "unlimited" {
            return Ok(Self(None));
        }
        let (value, scale, unit) = number(text).ok_or_else(wrong)?;
        let unit = unit.strip_suffix("/s").or_else(|| unit.strip_suffix("ps")).ok_or_else(wrong)?;
        let (name, bits) = match unit.strip_suffix("bit").or_else(|| unit.strip_suffix('b')) {
            Some(name) => (name, 8),
            None => (unit.strip_suffix('B').ok_or_else(wrong)?, 1),
        };
        let rate = value.checked_mul(prefix(name).ok_or_else(wrong)?).ok_or_else(wrong)? / (scale * bits);
        match u64::try_from(rate) {
            Ok(0) => Err(UnitError(format!("\"{text}\" is less than one byte per second; {RATE_HELP}"))),
            Ok(rate) if rate <= Self::MAX => Ok(Self(Some(rate))),
            _ => Err(UnitError(format!("\"{text}\" is more than can be counted; {RATE_HELP}"))),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rate) = self.0 else { return f.write_str("unlimited") };
        let (bits, bytes) = (u128::from(rate) * 8, u128::from(rate));
        let kbit = if bits < 1_000_000 { bits } else { 0 };
        for (value, unit, factor) in [
            (bits, "Gbit/s", 1_000_000_000),
            (bits, "Mbit/s", 1_000_000),
            (kbit, "kbit/s", 1_000),
            (bytes, "GiB/s", 1 << 30),
            (bytes, "MiB/s", 1 << 20),
            (bytes, "KiB/s", 1 << 10),
        ] {
            // At most three decimals, and only where they are exact.
            if value >= factor && (value * 1000).is_multiple_of(factor) {
                return decimals(f, value, factor, unit);
            }
        }
        write!(f, "{rate}B/s")
    }
}

/// `value / factor` with the decimals it has (three at most, exact), and its unit.
fn decimals(f: &mut fmt::Formatter<'_>, value: u128, factor: u128, unit: &str) -> fmt::Result {
    let thousandths = value * 1000 / factor;
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    f.write_str(text.trim_end_matches('0').trim_end_matches('.'))?;
    f.write_str(unit)
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError(format!("\"{text}\" is not a size; {SIZE_HELP}"));
        let (value, scale, unit) = number(text).ok_or_else(wrong)?;
        let factor = prefix(unit.strip_suffix('B').ok_or_else(wrong)?).ok_or_else(wrong)?;
        let bytes = value.checked_mul(factor).ok_or_else(wrong)? / scale;
        u64::try_from(bytes).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = u128::from(self.0);
        for (unit, factor) in [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if bytes >= factor && (bytes * 1000).is_multiple_of(factor) {
                return decimals(f, bytes, factor, unit);
            }
        }
        write!(f, "{bytes}B")
    }
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

const TIMES: &[(&str, u128)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError(format!("\"{text}\" is not a time; {TIME_HELP}"));
        let (value, scale, unit) = number(text).ok_or_else(wrong)?;
        let factor = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let millis = value.checked_mul(factor).ok_or_else(wrong)? / scale;
        // A century is as good as for ever, and keeps sums of times in range.
        if millis > 100 * 365 * 86_400_000 {
            return Err(wrong());
        }
        Ok(Self(Duration::from_millis(millis as u64)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, factor) in TIMES {
            if *unit != "m" && millis >= *factor && millis.is_multiple_of(*factor) {
                return write!(f, "{}{unit}", millis / factor);
            }
        }
        write!(f, "{millis}ms")
    }
}

macro_rules! as_text {
    ($type:ty, $name:literal, $examples:tt) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "a text with a unit, such as {:?}", $examples[0])
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "examples": $examples })
            }
        }
    };
}

as_text!(Rate, "Rate", ["10Mbit/s", "1.5MiB/s", "unlimited"]);
as_text!(Bytes, "Bytes", ["20GiB", "500MB"]);
as_text!(Span, "Span", ["10s", "500ms", "5min"]);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates() {
        for (text, rate) in [
            ("10Mbit/s", 1_250_000),
            ("1.5MiB/s", 1_572_864),
            ("8 kbit/s", 1_000),
            ("300000B/s", 300_000),
            ("1Gbps", 125_000_000),
            ("100MB/s", 100_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Rate::bytes_per_second(rate)), "{text}");
        }
        assert_eq!("unlimited".parse(), Ok(Rate::UNLIMITED));
        for text in
            ["", "10", "10Mbit", "-1Mbit/s", "0B/s", "1bit/s", "ten", "1.MB/s", "1e9B/s", "9999999999TiB/s"]
        {
            let error = text.parse::<Rate>().expect_err(text);
            assert!(error.to_string().contains("10Mbit/s"), "{error}");
        }
    }

    #[test]
    fn times_and_sizes() {
        assert_eq!("10s".parse(), Ok(Span::secs(10)));
        assert_eq!("1.5h".parse(), Ok(Span::secs(5400)));
        assert_eq!("5m".parse(), Ok(Span::secs(300)));
        assert_eq!("20GiB".parse(), Ok(Bytes(20 << 30)));
        assert!("5".parse::<Span>().is_err() && "5".parse::<Bytes>().is_err());
    }

    #[test]
    fn rates_are_printed_as_people_write_them() {
        for text in [
            "10Mbit/s",
            "2.4Mbit/s",
            "1.5MiB/s",
            "1001KiB/s",
            "1Gbit/s",
            "512kbit/s",
            "1234567B/s",
            "unlimited",
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_highest_rate() {
        let most = Rate::bytes_per_second(u64::MAX);
        assert_eq!(most.get(), Some(Rate::MAX));
        assert_eq!(most.to_string().parse(), Ok(most));
        assert!(format!("{}B/s", Rate::MAX + 1).parse::<Rate>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(n: u64, millis in 0..1_000_000_000_000_u64) {
            let rate = Rate::bytes_per_second(n);
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            prop_assert_eq!(Bytes(n).to_string().parse(), Ok(Bytes(n)));
            prop_assert_eq!(Span::millis(millis).to_string().parse(), Ok(Span::millis(millis)));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = (text.parse::<Rate>(), text.parse::<Bytes>(), text.parse::<Span>());
        }
    }
}
