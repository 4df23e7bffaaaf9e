//! May they go there: targets are allowed or denied by name, address and port.
//!
//! Invariant: what is judged last is the address that is dialled, so neither a name that resolves elsewhere the second
//! time nor an odd spelling of an address gets past.

use std::sync::Arc;
use std::task::{Context, Poll};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use swiftproxy_core::BoxFuture;
use swiftproxy_core::error::{BuildError, Refusal};
use swiftproxy_core::opened::Opened;
use swiftproxy_core::registry::{Build, LayerConfig};
use swiftproxy_core::session::Session;
use swiftproxy_core::stack::Stack;
use tower::{Layer, Service};

mod name;
mod ports;
mod private;
mod rule;
mod verdict;

pub use rule::{Rule, RuleError};

use verdict::{Early, Rules};

/// What happens to a target that no entry speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// It is let through.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

/// May they go there: allows and denies targets by name, address and port.
///
/// An entry is what it is about, and ports after a colon (all ports without them):
///
/// | entry | is about |
/// |---|---|
/// | `"10.0.0.0/8"`, `"192.0.2.7"`, `"2001:db8::/32"` | addresses |
/// | `"private"` | addresses that are no other host on the public internet (below) |
/// | `"example.org"` | that name |
/// | `".example.org"` | that name and all names below it |
/// | `"*"` | everything |
/// | `"example.org:443"`, `"*:25"` (or `":25"`), `"*:6881-6889"`, `"10.0.0.0/8:22"`, `"[2001:db8::1]:443"` | the same, on those ports |
///
/// The order of entries does not matter. In each of these steps `allow` beats `deny`:
///
/// 1. the name, where the client asked for one, by the entries about names;
/// 2. the address that is dialled, by the entries about addresses (an address that the client asked for itself, in
///    whatever spelling, is judged at once; a name's address when it has been resolved);
/// 3. where neither step let it through by an entry of `allow`: the `"*"` entries, then `default`.
///
/// A denial in one step is not lifted by an `allow` in another, but for step 3: so an entry about a name never opens a private
/// address (allow the address too, such as `allow = ["127.0.0.1:8080"]`), and `allow = ["*:443"]` does not either.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AclConfig {
    /// What is let through although `deny` or `default` speak against it. Empty by default.
    pub allow: Vec<Rule>,
    /// What is refused. `["private"]` by default; `[]` denies nothing. The set `private` holds loopback, RFC 1918, link-local, unique
    /// local and carrier-NAT addresses, cloud metadata, unspecified, multicast, broadcast, reserved and documentation
    /// addresses, and every IPv4-mapped, NAT64, 6to4 or ISATAP address that stands for one of them.
    pub deny: Vec<Rule>,
    /// What happens to a target that no entry speaks of: `"allow"` (the default) or `"deny"`.
    pub default: Fallback,
}

impl Default for AclConfig {
    fn default() -> Self {
        Self { allow: Vec::new(), deny: vec![Rule::private()], default: Fallback::Allow }
    }
}

impl LayerConfig for AclConfig {
    const KIND: &'static str = "acl";
    const SUMMARY: &'static str = "May they go there: allows and denies targets by name, address and port.";
    type Layer = AclLayer;

    fn build(self, build: &mut Build<'_>) -> Result<AclLayer, BuildError> {
        let denies_some = !self.deny.is_empty();
        let denies_private = self.default == Fallback::Deny || self.deny.contains(&Rule::private());
        let rules = Arc::new(Rules::new(self.allow, self.deny, self.default == Fallback::Allow));
        build.recheck(rules.clone());
        if denies_some && !denies_private {
            let key = build.key.clone();
            build.on_commit(move || {
                tracing::warn!(
                    "{key}.deny does not hold \"private\": this machine and its networks can be reached; add it, and \
                     what may be reached to allow"
                );
            });
        }
        Ok(AclLayer { rules })
    }
}

/// Puts [`Acl`] over what is inside.
#[derive(Clone)]
pub struct AclLayer {
    rules: Arc<Rules>,
}

impl Layer<Stack> for AclLayer {
    type Service = Acl;

    fn layer(&self, inner: Stack) -> Acl {
        Acl { rules: self.rules.clone(), inner }
    }
}

/// Judges a session's target now, and its address when it is dialled.
#[derive(Clone)]
pub struct Acl {
    rules: Arc<Rules>,
    inner: Stack,
}

impl Service<Session> for Acl {
    type Response = Opened;
    type Error = Refusal;
    type Future = BoxFuture<Result<Opened, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut session: Session) -> Self::Future {
        let early = match self.rules.early(session.target()) {
            Ok(early) => early,
            Err(refusal) => return Box::pin(std::future::ready(Err(refusal))),
        };
        session.judge_addresses(self.rules.clone());
        let opening = self.inner.call(session);
        match early {
            Early::Pass => opening,
            Early::IfAddressAllowed => Box::pin(async move {
                let opened = opening.await?;
                // A relay that leaves resolving to a remote has asked nobody about the address.
                match opened.session().live().dialled() {
                    Some(_) => Ok(opened),
                    None => Err(Refusal::Denied),
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests;
