//! What `[layers.detect]` says.
//!
//! Invariant: what leaves here is safe to run: passwords and tunnels cross no network in clear text unless
//! `insecure` says so, and nobody beyond this machine is served without a login.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use swiftproxy_core::error::BuildError;
use swiftproxy_core::registry::{Build, LayerConfig};
use swiftproxy_core::units::Span;

use crate::gate::{Gate, PER_ADDRESS};
use crate::layer::Detect;

/// A protocol that clients speak to a listener; told apart by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// SOCKS5 (RFC 1928), with user names and passwords (RFC 1929).
    Socks5,
    /// SOCKS4 and SOCKS4a; refused where a password is needed, which it cannot carry.
    Socks4,
    /// An HTTP/1.1 proxy in clear text: CONNECT, and forwarding of `http://`.
    Http,
    /// An HTTPS proxy: HTTP/2 and HTTP/1.1 over TLS. Without `tls`, HTTP/2 with prior knowledge in clear text.
    Tunnel,
    /// The line that the first SwiftProxy's local program sends, in clear text.
    Classic,
}

/// Certificate and key, as PEM files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain, the server's own first. Relative to this configuration file; read again when it
    /// changes.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Which protocols a listener speaks, and the bounds on those who have not said yet what they want.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What clients may speak, all on one port. Without this key: `socks5`, `socks4`, `http`, and `tunnel` where
    /// `tls` is set.
    pub protocols: Option<Vec<Protocol>>,
    /// The certificate that `tunnel` shows.
    #[schemars(extend("examples" = [{ "cert": "cert.pem", "key": "key.pem" }]))]
    pub tls: Option<TlsFiles>,
    /// Whether our own HTTP/2 engine serves those clients of `tunnel` that offer it, which is less work.
    pub lean: bool,
    /// How long a client may take to say what it wants, its login included.
    pub handshake_timeout: Span,
    /// Allows `classic`, and `tunnel` without `tls`, beyond loopback. Passwords can then be read on the way.
    pub insecure: bool,
    /// How many clients at a time may be about to say what they want.
    pub max_handshakes: usize,
    /// How many of those may come from one address (IPv6: one /64). Without this key 256, and clients on this
    /// machine are not counted.
    pub max_handshakes_per_address: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            protocols: None,
            tls: None,
            lean: true,
            handshake_timeout: Span::secs(10),
            insecure: false,
            max_handshakes: 4096,
            max_handshakes_per_address: None,
        }
    }
}

/// What the layer runs by.
pub(crate) struct Settings {
    protocols: u8,
    /// For reading what a client wants; the dial has a time of its own.
    pub(crate) handshake_timeout: Duration,
    /// Whether the lean engine is used.
    pub(crate) lean: bool,
    /// Certificate and key, where there is TLS.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Who is let in to say what it wants.
    pub(crate) gate: Arc<Gate>,
}

impl Settings {
    pub(crate) fn speaks(&self, protocol: Protocol) -> bool {
        self.protocols & bit(protocol) != 0
    }
}

fn bit(protocol: Protocol) -> u8 {
    1 << protocol as u8
}

impl Config {
    fn protocols(&self) -> Vec<Protocol> {
        use Protocol::{Http, Socks4, Socks5, Tunnel};
        let default = || {
            let tunnel = self.tls.as_ref().map(|_| Tunnel);
            [Socks5, Socks4, Http].into_iter().chain(tunnel).collect()
        };
        self.protocols.clone().unwrap_or_else(default)
    }

    fn check(&self, build: &Build<'_>, protocols: &[Protocol]) -> Result<(), BuildError> {
        let speaks = |protocol| protocols.contains(&protocol);
        if protocols.is_empty() {
            let remedy = "name some, or leave the key out for socks5, socks4 and http";
            return Err(build.error("protocols", "no protocol is left to speak", remedy));
        }
        if self.tls.is_some() && !speaks(Protocol::Tunnel) {
            let remedy = "add \"tunnel\" to `protocols`, or leave out `tls`";
            return Err(build.error("tls", "nothing here speaks TLS", remedy));
        }
        for (key, zero) in [
            ("handshake_timeout", self.handshake_timeout.0.is_zero()),
            ("max_handshakes", self.max_handshakes == 0),
            ("max_handshakes_per_address", self.max_handshakes_per_address == Some(0)),
        ] {
            if zero {
                return Err(build.error(key, "nobody would get in with 0", "write a larger one"));
            }
        }
        if build.bind.ip().is_loopback() {
            return Ok(());
        }
        if !self.insecure {
            if speaks(Protocol::Classic) {
                let problem =
                    format!("\"classic\" sends passwords in clear text, and {} is not loopback", build.bind);
                let remedy = "leave it out, bind 127.0.0.1, or accept that with `insecure = true`";
                return Err(build.error("protocols", problem, remedy));
            }
            if speaks(Protocol::Tunnel) && self.tls.is_none() {
                let problem = format!(
                    "a \"tunnel\" without TLS sends passwords in clear text, and {} is not loopback",
                    build.bind
                );
                let remedy = "write `tls = { cert = \"…\", key = \"…\" }`, bind 127.0.0.1, or accept that with \
                              `insecure = true`";
                return Err(build.error("tls", problem, remedy));
            }
        }
        if build.authenticator.is_none() {
            let problem = format!("anybody who reaches {} could use this proxy", build.bind);
            let remedy = "put \"auth\" after \"detect\", or bind 127.0.0.1";
            return Err(BuildError::new(
                format!("listeners.{}.stack", build.listener.name()),
                problem,
                remedy,
            ));
        }
        Ok(())
    }
}

impl LayerConfig for Config {
    const KIND: &'static str = "detect";
    const SUMMARY: &'static str = "Tells by the first byte which protocol a client speaks, and talks with it in that protocol's own words.";
    type Layer = Detect;

    fn build(self, build: &mut Build<'_>) -> Result<Detect, BuildError> {
        let protocols = self.protocols();
        self.check(build, &protocols)?;
        let tls = self.tls.as_ref().map(|files| crate::tls::server_config(files, build)).transpose()?;
        let gate = build.listener_state(Gate::default);
        let per_address = self.max_handshakes_per_address;
        build.on_commit({
            let gate = gate.clone();
            move || gate.set(self.max_handshakes, per_address.unwrap_or(PER_ADDRESS), per_address.is_some())
        });
        warn_of_clear_passwords(build, &protocols);
        let settings = Settings {
            protocols: protocols.into_iter().map(bit).fold(0, |all, bit| all | bit),
            lean: self.lean,
            handshake_timeout: self.handshake_timeout.0,
            tls,
            gate,
        };
        Ok(Detect::new(build.listener.clone(), build.authenticator.clone(), Arc::new(settings)))
    }
}

/// Whether it was said already that passwords cross a network in clear text; once a process is enough.
#[derive(Default)]
struct Warned(AtomicBool);

fn warn_of_clear_passwords(build: &mut Build<'_>, protocols: &[Protocol]) {
    // An address of documentation (RFC 5737) stands for somebody on another machine.
    let stranger = ([192, 0, 2, 1], 1).into();
    let passwords = build.authenticator.as_ref().is_some_and(|auth| auth.wants_password(stranger));
    let plain = protocols.iter().any(|protocol| matches!(protocol, Protocol::Socks5 | Protocol::Http));
    if !passwords || !plain || build.bind.ip().is_loopback() {
        return;
    }
    let warned = build.listener_state(Warned::default);
    let (listener, bind) = (build.listener.clone(), build.bind);
    build.on_commit(move || {
        if !warned.0.swap(true, Relaxed) {
            tracing::warn!(
                listener = listener.name(),
                %bind,
                "socks5 and http clients send their passwords in clear text; protocols = [\"tunnel\"] with TLS \
                 does not"
            );
        }
    });
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use swiftproxy_core::listener::Listener;
    use swiftproxy_core::node::Node;

    use super::*;
    use crate::testing::Shared;

    /// Builds from JSON, as the tables of TOML come.
    fn build(table: &str, bind: &str, auth: bool) -> Result<(), BuildError> {
        let config: Config = serde_json::from_str(table).expect("a table");
        let node = Node::new("test");
        let listener = Listener::new(&node, "front");
        let bind = bind.parse().expect("address");
        let mut build = Build::new(&node, &listener, bind, "layers.detect", Path::new("/nonexistent"));
        if auth {
            build.authenticator = Some(Arc::new(Shared(Arc::default())));
        }
        config.build(&mut build).map(|_| build.commit())
    }

    fn key(table: &str, bind: &str, auth: bool) -> String {
        build(table, bind, auth).expect_err("refused").key
    }

    const LOOPBACK: &str = "127.0.0.1:0";
    const WIDE: &str = "0.0.0.0:0";

    #[test]
    fn what_is_safe_is_built() {
        assert_eq!(build("{}", LOOPBACK, false), Ok(()));
        assert_eq!(build("{}", WIDE, true), Ok(()));
        assert_eq!(build("{}", "[::1]:0", false), Ok(()));
        assert_eq!(build(r#"{"protocols": ["classic", "tunnel"]}"#, LOOPBACK, false), Ok(()));
        assert_eq!(build(r#"{"protocols": ["classic", "tunnel"], "insecure": true}"#, WIDE, true), Ok(()));
    }

    #[test]
    fn what_is_not_is_refused_by_its_key() {
        assert_eq!(key("{}", WIDE, false), "listeners.front.stack");
        assert_eq!(key("{}", "[::]:0", false), "listeners.front.stack");
        assert_eq!(key(r#"{"insecure": true}"#, WIDE, false), "listeners.front.stack");
        assert_eq!(key(r#"{"protocols": ["classic"]}"#, WIDE, true), "layers.detect.protocols");
        assert_eq!(key(r#"{"protocols": ["tunnel"]}"#, WIDE, true), "layers.detect.tls");
        assert_eq!(key(r#"{"protocols": []}"#, LOOPBACK, false), "layers.detect.protocols");
        assert_eq!(key(r#"{"max_handshakes": 0}"#, LOOPBACK, false), "layers.detect.max_handshakes");
        assert_eq!(key(r#"{"handshake_timeout": "0s"}"#, LOOPBACK, false), "layers.detect.handshake_timeout");
        let tls = r#"{"tls": {"cert": "cert.pem", "key": "key.pem"}}"#;
        let error = build(tls, LOOPBACK, false).expect_err("no such file");
        assert_eq!(error.key, "layers.detect.tls.cert");
        assert!(error.problem.contains("/nonexistent/cert.pem"), "{error}");
        let without = r#"{"protocols": ["http"], "tls": {"cert": "cert.pem", "key": "key.pem"}}"#;
        assert_eq!(key(without, LOOPBACK, false), "layers.detect.tls");
    }

    #[test]
    fn unknown_words_are_refused() {
        let unknown = serde_json::from_str::<Config>(r#"{"protocols": ["gopher"]}"#).expect_err("unknown");
        assert!(unknown.to_string().contains("socks5"), "{unknown}");
        assert!(serde_json::from_str::<Config>(r#"{"protocol": ["http"]}"#).is_err());
    }

    #[test]
    fn tls_brings_the_tunnel_along() {
        let with = |tls| Config { tls, ..Config::default() }.protocols();
        assert!(!with(None).contains(&Protocol::Tunnel));
        let files = TlsFiles { cert: "a".into(), key: "b".into() };
        assert!(with(Some(files)).contains(&Protocol::Tunnel));
    }
}
