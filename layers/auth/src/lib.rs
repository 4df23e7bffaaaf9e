//! Who is it: a session gets its account here, by name and password or by where its client is.
//!
//! Invariant: no session passes without an account that exists and may be used.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use swiftproxy_core::credentials::Authenticator;
use swiftproxy_core::error::BuildError;
use swiftproxy_core::registry::{Build, LayerConfig};

mod addresses;
mod cache;
mod failures;
mod flights;
mod origin;
mod password;
mod phc;
mod print;
mod queue;
mod service;

pub use phc::{HashError, check_hash, hash_password};
pub use service::{Auth, AuthLayer};

/// How a client says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By name and password, in the protocol's own login (SOCKS5) or in `Proxy-Authorization` (HTTP).
    #[default]
    Password,
    /// By its address: `addresses` says which network is which account.
    Address,
}

/// Who is it: gives every session its account.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// `"password"` (the default) asks for a name and a password and checks them against the accounts of `[users]`
    /// and of the store. Wrong passwords are answered more and more slowly, by address and by name, up to four
    /// seconds; a right password is never held back by what others tried. `"address"` takes the account from the
    /// client's address and asks for nothing.
    pub method: Method,
    /// With `method = "address"`: client network or address = account name. The longest network that holds a client
    /// decides; a client in none of them is refused. Example: `"192.168.1.0/24" = "alice"`.
    pub addresses: BTreeMap<String, String>,
}

impl LayerConfig for AuthConfig {
    const KIND: &'static str = "auth";
    const SUMMARY: &'static str =
        "Who is it: gives every session its account, by password or by client address.";
    type Layer = AuthLayer;

    fn build(self, build: &mut Build<'_>) -> Result<AuthLayer, BuildError> {
        let authenticator: Arc<dyn Authenticator> = match self.method {
            Method::Password => self.build_password(build)?,
            Method::Address => self.build_address(build)?,
        };
        build.authenticator = Some(authenticator.clone());
        Ok(AuthLayer { authenticator })
    }
}

impl AuthConfig {
    fn build_password(self, build: &mut Build<'_>) -> Result<Arc<dyn Authenticator>, BuildError> {
        if !self.addresses.is_empty() {
            return Err(build.error(
                "addresses",
                "it says who is who by address, and the method is \"password\"",
                "set method = \"address\", or remove addresses",
            ));
        }
        // Made before it is asked for, for it can fail; the one of the first time stays.
        let fresh = password::State::new(build.node.accounts.clone())?;
        Ok(Arc::new(password::Passwords::new(build.state(|| fresh))))
    }

    fn build_address(self, build: &mut Build<'_>) -> Result<Arc<dyn Authenticator>, BuildError> {
        if self.addresses.is_empty() {
            return Err(build.error(
                "addresses",
                "the method is \"address\" and no network has an account, so nobody could connect",
                "add lines such as \"192.168.1.0/24\" = \"alice\" under it",
            ));
        }
        let mut networks = addresses::Networks::default();
        for (text, account) in &self.addresses {
            let key = format!("addresses.\"{text}\"");
            let net = addresses::parse_network(text)
                .map_err(|(problem, remedy)| build.error(&key, problem, remedy))?;
            if account.is_empty() {
                return Err(build.error(&key, "no account is named", "write the name of an account"));
            }
            if !networks.add(net, account) {
                return Err(build.error(&key, "another entry is the same network", "keep one of the two"));
            }
        }
        let addresses = Arc::new(addresses::Addresses::new(build.node.accounts.clone(), networks));
        let (warn, key) = (addresses.clone(), build.key.clone());
        build.on_commit(move || {
            for name in warn.unknown() {
                tracing::warn!(
                    "{key}.addresses: there is no account {name:?} (yet); its clients are refused"
                );
            }
        });
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests;
