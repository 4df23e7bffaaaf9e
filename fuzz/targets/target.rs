//! `host:port` and hosts, as configuration, API and codecs hand them to core.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swiftproxy_core::target::{Host, Target};

fuzz_target!(|text: &str| {
    if let Ok(target) = text.parse::<Target>() {
        let printed = target.to_string();
        assert_eq!(printed.parse::<Target>().as_ref(), Ok(&target), "{printed}");
        check(&target.host);
    }
    if let Ok(host) = text.parse::<Host>() {
        check(&host);
        let target = Target::new(host, 1);
        assert_eq!(target.to_string().parse::<Target>().as_ref(), Ok(&target), "{target}");
    }
});

fn check(host: &Host) {
    let printed = host.to_string();
    assert_eq!(printed.parse::<Host>().as_ref(), Ok(host), "{printed}");
    if let Host::Domain(name) = host {
        assert!((1..=255).contains(&name.len()));
        assert!(
            !name.contains(|c: char| c.is_control() || c.is_whitespace() || ":/@[]".contains(c)),
            "{name}"
        );
    }
}
