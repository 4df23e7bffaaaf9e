//! A remote and the login there, read once.
//!
//! Invariant: a remote that exists can be asked: its name fits a certificate, its pin is one, and its password
//! crosses no network in clear text unless `insecure` says so.

use std::net::SocketAddr;

use http::HeaderValue;
use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::target::{Host, Target};
use swiftproxy_core::tunnel::{Login, TunnelError};
use swiftproxy_wire::basic;
use swiftproxy_wire::tls::{Trust, server_name};

/// Whom a tunnel leads to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    /// Where it is.
    pub(super) target: Target,
    /// The same as text, for URIs and sentences.
    pub(super) authority: String,
    /// Who logs in; none sends nothing.
    pub(super) credentials: Option<Credentials>,
    /// What vouches for it; none is clear text.
    pub(super) trust: Option<Trust>,
    insecure: bool,
}

/// What is wrong with a login, at which key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) key: &'static str,
    pub(super) problem: String,
    pub(super) remedy: &'static str,
}

impl From<Wrong> for TunnelError {
    fn from(wrong: Wrong) -> Self {
        let mut problem = wrong.problem;
        if let Some(first) = problem.get(..1).map(str::to_uppercase) {
            problem.replace_range(..1, &first);
        }
        Self::new("bad_request", format!("{problem}: {}.", wrong.remedy))
    }
}

fn wrong(key: &'static str, problem: impl Into<String>, remedy: &'static str) -> Wrong {
    Wrong { key, problem: problem.into(), remedy }
}

impl Remote {
    /// Reads a login.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub(super) fn new(login: &Login) -> Result<Self, Wrong> {
        let server = login.server.trim();
        let no_server = || wrong("server", format!("\"{server}\" is not a server"), "write HOST:PORT");
        let target: Target = server.parse().map_err(|_| no_server())?;
        if target.port == 0 || server_name(&target.host.to_string()).is_err() {
            return Err(no_server());
        }
        let trust = match (login.tls, &login.pin) {
            (false, None) => None,
            (false, Some(_)) => {
                let problem = "a pin is for an encrypted link, and this one is not";
                return Err(wrong("pin", problem, "leave out the pin or tls = false"));
            }
            (true, None) => Some(Trust::Platform),
            (true, Some(pin)) => {
                let remedy = "write sha256// and the base64 of the public key's hash";
                Some(Trust::Pins(
                    pin.parse().map_err(|_| wrong("pin", format!("\"{pin}\" is not a pin"), remedy))?,
                ))
            }
        };
        let remote = Self {
            authority: target.to_string(),
            credentials: credentials(login)?,
            trust,
            insecure: login.insecure,
            target,
        };
        let near = match &remote.target.host {
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
            Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        };
        if remote.trust.is_none() && !near && !remote.insecure {
            let problem = format!("{} would get the password in clear text", remote.authority);
            return Err(wrong("tls", problem, "encrypt the link (`tls`), or accept that (`insecure`)"));
        }
        Ok(remote)
    }

    /// Whether what was resolved may be dialled: a clear link stays on this machine, whatever a name says.
    pub(super) fn may_dial(&self, addr: SocketAddr) -> bool {
        self.trust.is_some() || self.insecure || addr.ip().to_canonical().is_loopback()
    }

    /// The login as HTTP carries it.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.credentials.as_ref().map(basic::encode)
    }
}

fn credentials(login: &Login) -> Result<Option<Credentials>, Wrong> {
    let (name, password) = (&login.username, login.password.expose());
    if name.is_empty() && password.is_empty() {
        return Ok(None);
    }
    if name.is_empty() || name.len() > 255 || name.contains(|c: char| c == ':' || c.is_control()) {
        let remedy = "a user name has 1 to 255 bytes, and no colon or control character in it";
        return Err(wrong("username", "that is not a user name", remedy));
    }
    if password.contains(char::is_control) {
        return Err(wrong("password", "that is not a password", "it has no control character in it"));
    }
    Ok(Some(Credentials { name: name.as_str().into(), password: login.password.clone() }))
}

#[cfg(test)]
mod tests {
    use swiftproxy_core::secret::Secret;

    use super::*;

    fn login(server: &str) -> Login {
        Login {
            server: server.to_owned(),
            username: "alice".to_owned(),
            password: Secret::new("secret"),
            pin: None,
            tls: true,
            insecure: false,
        }
    }

    fn key(login: &Login) -> Option<&'static str> {
        Remote::new(login).err().map(|wrong| wrong.key)
    }

    #[test]
    fn servers() {
        for good in ["a.example:1", " a.example:443 ", "192.0.2.1:443", "[2001:db8::1]:443", "localhost:8889"]
        {
            assert_eq!(key(&login(good)), None, "{good}");
        }
        for bad in ["", "a.example", "a.example:0", "https://a.example:1", "b\u{fc}cher.example:1", "a b:1"] {
            assert_eq!(key(&login(bad)), Some("server"), "{bad}");
        }
    }

    #[test]
    fn clear_text_stays_on_this_machine() {
        let clear = |server: &str| Login { tls: false, ..login(server) };
        for near in ["127.0.0.1:1", "[::1]:1", "localhost:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(key(&clear(near)), None, "{near}");
        }
        assert_eq!(key(&clear("192.0.2.1:1")), Some("tls"));
        assert_eq!(key(&clear("localhost.example:1")), Some("tls"));
        let accepted = Login { insecure: true, ..clear("192.0.2.1:1") };
        assert_eq!(key(&accepted), None);
        assert!(Remote::new(&accepted).unwrap().may_dial("192.0.2.1:1".parse().unwrap()));
        let name = Remote::new(&clear("localhost:1")).unwrap();
        assert!(name.may_dial("[::1]:1".parse().unwrap()) && !name.may_dial("192.0.2.1:1".parse().unwrap()));
        assert_eq!(key(&Login { pin: Some("sha256//".into()), ..clear("[::1]:1") }), Some("pin"));
    }

    #[test]
    fn logins() {
        assert_eq!(key(&Login { pin: Some("sha256//AA".into()), ..login("a:1") }), Some("pin"));
        assert_eq!(key(&Login { username: "a:b".into(), ..login("a:1") }), Some("username"));
        assert_eq!(key(&Login { username: String::new(), ..login("a:1") }), Some("username"));
        assert_eq!(key(&Login { password: Secret::new("a\nb"), ..login("a:1") }), Some("password"));
        let nobody = Login { username: String::new(), password: Secret::default(), ..login("a:1") };
        assert_eq!(Remote::new(&nobody).unwrap().authorization(), None);
        let error = TunnelError::from(Remote::new(&login("nowhere")).expect_err("no port"));
        assert_eq!(error.label, "bad_request");
        assert_eq!(error.message, "\"nowhere\" is not a server: write HOST:PORT.");
    }
}
