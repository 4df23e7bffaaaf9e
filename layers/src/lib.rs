//! The catalogue: every layer and relay, one line each.

use swiftproxy_core::registry::Registry;

/// Every layer and relay there is.
pub fn registry() -> Registry {
    Registry::default()
        .front::<swiftproxy_detect::Config>()
        .layer::<swiftproxy_auth::AuthConfig>()
        .layer::<swiftproxy_acl::AclConfig>()
        .layer::<swiftproxy_ratelimit::Config>()
        .layer::<swiftproxy_stats::Config>()
        .relay::<swiftproxy_relay::direct::Config>()
        .relay::<swiftproxy_relay::tunnel::Config>()
}
