//! Rates, sizes and times as an admin writes them; the first eight bytes are a number to be printed as well.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use swiftproxy_core::units::{Bytes, Rate, Span};

/// What is printed is read as the same.
fn round_trip<T: FromStr<Err: Debug + PartialEq> + Display + Debug + PartialEq>(value: &T) {
    let printed = value.to_string();
    assert_eq!(printed.parse::<T>().as_ref(), Ok(value), "{printed}");
}

fn read<T: FromStr<Err: Debug + PartialEq + Display> + Display + Debug + PartialEq>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            round_trip(&value);
            Some(value)
        }
        Err(error) => {
            assert!(error.to_string().contains("write a "), "it says what to write: {error}");
            None
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((number, _)) = bytes.split_first_chunk() {
        let number = u64::from_be_bytes(*number);
        round_trip(&Rate::bytes_per_second(number));
        round_trip(&Bytes(number));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(rate) = read::<Rate>(text) {
        assert_ne!(rate.get(), Some(0));
    }
    read::<Bytes>(text);
    read::<Span>(text);
});
