//! The first SwiftProxy's line and its answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swiftproxy_core::target::Target;
use swiftproxy_fuzz::{message, read_back};
use swiftproxy_wire::classic::{self, MAX_LINE, Request};
use swiftproxy_wire::parse::{Malformed, Parsed};

/// A request as something that can be compared.
type Plain = (Target, String, String);

fn parse(bytes: &[u8]) -> Parsed<Plain, Malformed> {
    let plain = |request: Request| {
        let password = request.credentials.password.expose().to_owned();
        (request.target, request.credentials.name.to_string(), password)
    };
    Ok(Request::parse(bytes)?.map(|(request, n)| (plain(request), n)))
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(plain) = message(bytes, parse) {
        let (request, n) = Request::parse(bytes).expect("a request").expect("a whole one");
        assert!(n <= MAX_LINE);
        let mut out = Vec::new();
        request.encode(&mut out);
        // Escapes may be longer than what they stand for.
        if out.len() <= MAX_LINE {
            read_back(&out, &plain, parse);
        }
    }
    if let Some(bound) = message(bytes, classic::parse_reply) {
        read_back(classic::reply(bound).as_bytes(), &bound, classic::parse_reply);
    }
});
