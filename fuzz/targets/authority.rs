//! Host and port as CONNECT, an absolute target and `Host` write them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swiftproxy_wire::http1::{parse_authority, print_authority};

fuzz_target!(|bytes: &[u8]| {
    let strict = parse_authority(bytes, None);
    let lenient = parse_authority(bytes, Some(80));
    if let Ok(target) = &strict {
        assert_eq!(lenient.as_ref(), Ok(target), "a default port changes nothing that has one");
        let text = target.to_string();
        assert_eq!(parse_authority(text.as_bytes(), None).as_ref(), Ok(target), "{text}");
        assert_eq!(text.parse().as_ref(), Ok(target), "core reads {text} the same");
    }
    if let Ok(target) = &lenient {
        assert_ne!(target.port, 0);
        let text = print_authority(target);
        assert_eq!(parse_authority(text.as_bytes(), Some(80)).as_ref(), Ok(target), "{text}");
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b"@/?#\\%".contains(&byte)), "{text}");
    }
});
