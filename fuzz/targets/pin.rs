//! Pins of a remote's public key, and certificates they are held against.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swiftproxy_wire::tls::{Pins, pin_of};

fuzz_target!(|bytes: &[u8]| {
    let certificate = bytes.to_vec().into();
    if let Ok(pin) = pin_of(&certificate) {
        let pins = pin.parse::<Pins>().expect("what was printed");
        assert!(pins.hold(&certificate));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(pins) = text.parse::<Pins>() {
        let printed = pins.to_string();
        assert_eq!(printed.parse::<Pins>().as_ref(), Ok(&pins), "{printed}");
    }
});
