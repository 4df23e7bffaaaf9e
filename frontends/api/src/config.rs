//! `[api]`: where it listens, and who may ask.
//!
//! Invariant: [`Settings`] come out of a table that was found right, and hold no secret, only its hash.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use swiftproxy_core::error::BuildError;
use swiftproxy_core::secret::Secret;

use crate::origin::{Origin, is_name, is_ours};

/// The HTTP API and the stats socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Address and port to listen on, such as "127.0.0.1:9000". Without it there is no API.
    #[schemars(example = "127.0.0.1:9000")]
    pub bind: Option<SocketAddr>,
    /// Who sends it as `Authorization: Bearer …` may read and change. Without it nobody may change anything; beyond
    /// loopback it is required.
    pub secret: Option<Secret>,
    /// Whether programs on this machine need the secret for reading too.
    pub guard_reading: bool,
    /// Web pages of other machines that may ask, such as "https://panel.example.com". Pages of this machine may.
    pub allow_origins: Vec<String>,
    /// Names by which this machine is asked, besides `localhost` and addresses, such as "proxy.example.com".
    pub hosts: Vec<String>,
}

impl ApiConfig {
    /// Everything that is wrong with it.
    pub fn check(&self) -> Vec<BuildError> {
        let mut errors = Vec::new();
        match (&self.bind, &self.secret) {
            (Some(bind), None) if !bind.ip().to_canonical().is_loopback() => errors.push(BuildError::new(
                "api.secret",
                format!("it is not set, and {bind} is open to other machines"),
                format!("set a long random secret, or bind = \"127.0.0.1:{}\"", bind.port()),
            )),
            (_, None) if self.guard_reading => errors.push(BuildError::new(
                "api.guard_reading",
                "there is no secret to guard it with",
                "set api.secret to a long random text, or remove guard_reading",
            )),
            (_, Some(secret)) if !is_secret(secret) => errors.push(BuildError::new(
                "api.secret",
                "it cannot be sent in a header",
                "write letters, digits and signs without spaces, at least one",
            )),
            _ => {}
        }
        for origin in &self.allow_origins {
            if Origin::parse(origin).is_none() {
                errors.push(BuildError::new(
                    "api.allow_origins",
                    format!("{origin:?} is not an origin"),
                    "write scheme, host and port only, such as \"https://panel.example.com\"",
                ));
            }
        }
        for host in &self.hosts {
            if !is_name(host) {
                errors.push(BuildError::new(
                    "api.hosts",
                    format!("{host:?} is not a host's name"),
                    "write a name without a port, such as \"proxy.example.com\"",
                ));
            }
        }
        errors
    }
}

fn is_secret(secret: &Secret) -> bool {
    let text = secret.expose();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl ApiConfig {
    /// Whether a request whose `Host` is that is meant for this API, and none for another that was pointed here.
    pub fn hears(&self, host: &str) -> bool {
        is_ours(host, &Settings::new(self))
    }

    /// Whether a page of that origin may ask.
    pub fn allows_origin(&self, origin: &str) -> bool {
        Settings::new(self).allows_origin(origin)
    }
}

/// What of the table every request is judged by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    secret: Option<[u8; 32]>,
    guard_reading: bool,
    origins: Vec<Origin>,
    hosts: Vec<String>,
}

impl Settings {
    pub(crate) fn new(config: &ApiConfig) -> Self {
        Self {
            secret: config.secret.as_ref().map(|secret| hash(secret.expose())),
            guard_reading: config.guard_reading,
            origins: config.allow_origins.iter().filter_map(|text| Origin::parse(text)).collect(),
            hosts: config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }

    pub(crate) fn has_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether reading needs no secret for who came in by an address that only this machine reaches.
    pub(crate) fn reads_openly(&self, loopback: bool) -> bool {
        loopback && !self.guard_reading
    }

    /// Whether both ask for the same secret.
    pub(crate) fn same_secret(&self, other: &Self) -> bool {
        self.secret == other.secret && self.guard_reading == other.guard_reading
    }

    /// Whether `text` is the secret; takes as long whichever byte is wrong.
    pub(crate) fn is_secret(&self, text: &str) -> bool {
        self.secret.is_some_and(|secret| secret.ct_eq(&hash(text)).into())
    }

    /// Whether a page of that origin may ask.
    pub(crate) fn allows_origin(&self, text: &str) -> bool {
        Origin::parse(text).is_some_and(|origin| origin.is_loopback() || self.origins.contains(&origin))
    }

    /// Whether that name is one of ours.
    pub(crate) fn knows_host(&self, name: &str) -> bool {
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(bind: &str, secret: Option<&str>, origins: &[&str], hosts: &[&str]) -> Vec<String> {
        let config = ApiConfig {
            bind: Some(bind.parse().unwrap()),
            secret: secret.map(Secret::new),
            guard_reading: false,
            allow_origins: origins.iter().map(|text| (*text).to_owned()).collect(),
            hosts: hosts.iter().map(|text| (*text).to_owned()).collect(),
        };
        config.check().into_iter().map(|error| error.key).collect()
    }

    #[test]
    fn what_is_refused_at_load() {
        for bind in ["127.0.0.1:9000", "127.8.8.8:1", "[::1]:9000", "[::ffff:127.0.0.1]:9000"] {
            assert!(errors(bind, None, &[], &[]).is_empty(), "{bind}");
        }
        for bind in ["0.0.0.0:9000", "[::]:9000", "192.0.2.1:9000", "[::ffff:192.0.2.1]:9000"] {
            assert_eq!(errors(bind, None, &[], &[]), ["api.secret"], "{bind}");
            assert!(errors(bind, Some("s3cret"), &[], &[]).is_empty(), "{bind}");
        }
        for secret in ["", " ", "a b", "a\n", "é"] {
            assert_eq!(errors("127.0.0.1:1", Some(secret), &[], &[]), ["api.secret"], "{secret:?}");
        }
        for origin in ["*", "null", "", "example.com", "https://", "https://a.example/path", "https://a b"] {
            assert_eq!(errors("127.0.0.1:1", None, &[origin], &[]), ["api.allow_origins"], "{origin}");
        }
        assert!(
            errors("127.0.0.1:1", None, &["https://a.example", "tauri://localhost"], &["a.b"]).is_empty()
        );
        assert_eq!(errors("127.0.0.1:1", None, &[], &["a.b:80", ""]), ["api.hosts", "api.hosts"]);
    }

    #[test]
    fn a_secret_is_known_by_its_hash() {
        let config = ApiConfig { secret: Some(Secret::new("s3cret")), ..ApiConfig::default() };
        let settings = Settings::new(&config);
        assert!(settings.is_secret("s3cret"));
        assert!(!settings.is_secret("s3cre") && !settings.is_secret("") && !settings.is_secret("S3cret"));
        assert!(!Settings::default().is_secret(""));
        assert!(!format!("{config:?}{settings:?}").contains("s3cret"));
    }
}
