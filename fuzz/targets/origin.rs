//! `Host` and `Origin` of a request to the API: whoever is let in is an address, this machine or listed, and nobody
//! else's page.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use swiftproxy_api::ApiConfig;

const NAME: &str = "proxy.example.com";
const PAGE: &str = "https://panel.example.com";

/// The host of `host[:port]`, as plainly as can be.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let config =
        ApiConfig { hosts: vec![NAME.into()], allow_origins: vec![PAGE.into()], ..ApiConfig::default() };
    if config.hears(text) {
        let host = host_of(text);
        let address = host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok();
        let named = ["localhost", NAME].iter().any(|name| host.eq_ignore_ascii_case(name));
        assert!(address || named, "{text:?} is heard");
        // What a browser would never take for another host.
        assert!(!text.contains(['@', '/', '?', '#', '\\', ' ', '%']), "{text:?} is heard");
    }
    if config.allows_origin(text) {
        let (scheme, authority) = text.split_once("://").expect("an origin");
        let host = host_of(authority);
        let here = host.eq_ignore_ascii_case("localhost")
            || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
            || host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        let listed = text.to_ascii_lowercase();
        let listed = listed.strip_prefix(PAGE).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse() == Ok(443_u16))
        });
        assert!(here || listed, "{text:?} may ask");
        assert!(["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)), "{text:?} may ask");
    }
});
