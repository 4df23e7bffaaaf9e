//! `Proxy-Status` (RFC 9209): one field or two, from whatever stands between us and the target.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use swiftproxy_wire::proxy_status::{PROXY_STATUS, bound, bound_value, from_headers, parse, value};

fuzz_target!(|bytes: &[u8]| {
    let alone = parse(bytes);
    if let Some(refusal) = alone {
        assert_eq!(parse(value(refusal).as_bytes()), Some(refusal), "what was printed");
    }
    let Ok(field) = HeaderValue::from_bytes(bytes) else { return };
    let mut headers = HeaderMap::new();
    headers.append(PROXY_STATUS, field);
    assert_eq!(from_headers(&headers), alone);
    if let Some(address) = bound(&headers) {
        let printed = HeaderMap::from_iter([(PROXY_STATUS, bound_value(address))]);
        assert_eq!(bound(&printed), Some(address), "what was printed");
    }
    if let Some(refusal) = alone {
        // What a proxy of ours says is heard, whatever stood in the field before.
        headers.append(PROXY_STATUS, value(refusal));
        assert!(from_headers(&headers).is_some());
    }
});
