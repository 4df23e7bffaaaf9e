//! SOCKS4 and SOCKS4a: request and reply.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use swiftproxy_core::target::Host;
use swiftproxy_fuzz::{message, read_back};
use swiftproxy_wire::socks4::{Reply, Request};

fuzz_target!(|bytes: &[u8]| {
    if let Some(request) = message(bytes, Request::parse) {
        let mut out = Vec::new();
        match request.encode(&mut out) {
            Ok(()) => read_back(&out, &request, Request::parse),
            Err(error) => {
                // A name that was an address literal: of IPv6, or 0.0.0.x, which say something else in SOCKS4.
                let Host::Ip(ip) = request.target.host else { panic!("{error}: {request:?}") };
                let odd = |ip: Ipv4Addr| matches!(ip.octets(), [0, 0, 0, 1..=255]);
                assert!(
                    matches!(ip, IpAddr::V6(_)) || matches!(ip, IpAddr::V4(ip) if odd(ip)),
                    "{request:?}"
                );
            }
        }
    }
    if let Some(reply) = message(bytes, Reply::parse) {
        read_back(&reply.encode(), &reply, Reply::parse);
    }
});
