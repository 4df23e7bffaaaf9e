//! The tables that are core's own.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::account::{AccountRate, AccountSpec, Password};
use crate::secret::Secret;
use crate::units::{Rate, Span};

/// The process as a whole.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Its name in stats and in the usage table of a shared store; default: `swiftproxy`. Read at start.
    #[schemars(example = "exit-1")]
    pub name: Option<String>,
    /// The most sessions of all listeners together; default: no cap.
    #[schemars(example = 50_000)]
    pub max_sessions: Option<usize>,
    /// How long open sessions may go on after SIGTERM or SIGINT before they are cut.
    pub shutdown_timeout: Span,
    /// Whether each session leaves one line in the log when it ends: who, where to, bytes, how long, why it ended.
    pub access_log: bool,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { name: None, max_sessions: None, shutdown_timeout: Span::secs(10), access_log: false }
    }
}

/// An address that is accepted on, with its stack.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// IP address and port, such as `127.0.0.1:8888` or `[::]:8889`; port 0 takes a free one.
    #[schemars(example = "127.0.0.1:8888")]
    pub bind: SocketAddr,
    /// The layers' names, outermost first; `detect` comes first.
    #[schemars(example = ["detect", "auth", "acl", "ratelimit", "stats"])]
    pub stack: Vec<String>,
    /// The relay's name: `direct`, `tunnel`, or a table of `[relays]`.
    #[schemars(example = &"direct")]
    pub relay: String,
    /// The most sessions at a time; default: no cap.
    #[serde(default)]
    #[schemars(example = 20_000)]
    pub max_sessions: Option<usize>,
}

/// An account that is declared by the file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The password in clear text; give this or `password_hash`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The password's argon2id hash in PHC form, as `swiftproxy user hash` prints it.
    #[serde(default)]
    pub password_hash: Option<Secret>,
    /// Client to target, such as `10Mbit/s` or `unlimited`; default: the rate of the `ratelimit` layer.
    #[serde(default)]
    pub up: Option<Rate>,
    /// Target to client, likewise.
    #[serde(default)]
    pub down: Option<Rate>,
    /// Whether it may be used.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Its share where accounts share a cap, as a multiple of the others'.
    #[serde(default = "one")]
    pub weight: u32,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

impl UserConfig {
    /// What it says of the account `name`; otherwise the key, the problem and the remedy.
    pub(super) fn spec(self, name: &str) -> Result<AccountSpec, (&'static str, String, String)> {
        if let Err(why) = crate::account::check_name(name) {
            return Err(("", why.to_owned(), "choose another name".to_owned()));
        }
        let password = match (self.password, self.password_hash) {
            (Some(_), Some(_)) => {
                return Err((
                    "password_hash",
                    "there is a password as well".into(),
                    "keep one of password and password_hash".into(),
                ));
            }
            (Some(clear), None) => Some(Password::Clear(clear)),
            (None, Some(hash)) if !hash.expose().starts_with("$argon2id$") => {
                return Err((
                    "password_hash",
                    "it is not an argon2id hash".into(),
                    "write a text that starts with $argon2id$, or use password".into(),
                ));
            }
            (None, hash) => hash.map(Password::Hash),
        };
        if self.weight == 0 {
            return Err(("weight", "0 is no share".into(), "write a number from 1".into()));
        }
        let rate = |rate: Option<Rate>| match rate.map(Rate::get) {
            None => AccountRate::Default,
            Some(None) => AccountRate::Unlimited,
            Some(Some(rate)) => AccountRate::Limited(rate),
        };
        Ok(AccountSpec {
            row: None,
            name: name.to_owned(),
            password,
            enabled: self.enabled,
            up: rate(self.up),
            down: rate(self.down),
            weight: self.weight,
        })
    }
}
