//! Clients that people use, each in the ways in which it can be told of a proxy: through the pair, straight at the
//! remote as an HTTPS proxy, and at a listener with logins and no tunnel.
//!
//! Invariant: a transfer that went past the proxy is a failure, and so is a client that is not installed.

mod browsers;
mod cgi;
mod curl;
mod java;
mod node;
mod packages;
mod python;
mod shell;
mod site;
mod wget;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Pair, Proxy, until};
use site::{Site, pattern};

/// An account's name and password with what a URL, a Basic login and a command line find hard.
const LOGIN: (&str, &str) = ("bob", "p@ss:w/rd%");
/// The same as a URL's user information.
const LOGIN_IN_URL: &str = "bob:p%40ss%3Aw%2Frd%25";

/// Everything that a client can be pointed at.
struct World {
    site: Site,
    pair: Pair,
    /// SOCKS5, SOCKS4 and HTTP with logins, dialling directly.
    lan: Proxy,
}

impl World {
    fn start() -> Self {
        let lan = format!(
            r#"
[api]
bind = "127.0.0.1:0"

[listeners.lan]
bind = "127.0.0.1:0"
stack = ["detect", "auth", "acl", "ratelimit", "stats"]
relay = "direct"

[layers.acl]
allow = ["127.0.0.0/8", "::1/128"]

[users.bob]
password = "{}"

[users."søren"]
password = "smørrebrød"
"#,
            LOGIN.1
        );
        let remote = format!("\n[users.bob]\npassword = \"{}\"\n", LOGIN.1);
        Self { site: Site::start(), pair: Pair::start(&["alice"], &remote), lan: Proxy::start(&lan) }
    }

    /// The pair's local role, which asks for no login.
    fn local(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.pair.addr())
    }

    /// The listener with logins.
    fn lan(&self, scheme: &str) -> String {
        format!("{scheme}://{LOGIN_IN_URL}@{}", self.lan.addr("lan"))
    }

    /// The remote as an HTTPS proxy.
    fn remote(&self) -> String {
        format!("https://{LOGIN_IN_URL}@{}", self.pair.remote.addr("tunnel"))
    }

    /// The certificate of the remote.
    fn remote_certificate(&self) -> PathBuf {
        self.pair.remote.folder.path().join("cert.pem")
    }

    /// The certificates of remote and site in one file, as most clients want to be told of them.
    fn certificates(&self) -> PathBuf {
        let file = self.pair.remote.folder.path().join("both.pem");
        let read = |file: PathBuf| std::fs::read_to_string(file).expect("readable");
        std::fs::write(&file, read(self.remote_certificate()) + &read(self.site.certificate()))
            .expect("writable");
        file
    }

    /// Fails unless `run` makes `proxy` carry at least `bytes` to the client.
    fn carried<T>(&self, proxy: &Proxy, bytes: u64, run: impl FnOnce() -> T) -> T {
        let down = || proxy.stats()["total"]["down"].as_u64().expect("a number");
        let before = down();
        let result = run();
        until("the proxy has carried it", || (down() - before >= bytes).then_some(()));
        result
    }
}

/// What a client that ran to its end left.
struct Run {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Run {
    /// Its output, if it succeeded.
    fn ok(self) -> Vec<u8> {
        assert_eq!(self.code, 0, "{}{}", String::from_utf8_lossy(&self.out), self.err);
        self.out
    }

    /// The same as text.
    fn text(self) -> String {
        String::from_utf8(self.ok()).expect("UTF-8")
    }
}

/// Where the helper scripts are, and what `install` put beside them.
fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// A client's command line: it knows no configuration and no environment of the person who runs the tests, and it
/// is ended after two minutes.
fn client(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120"]).arg(self::program(program)).stdin(Stdio::null());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", std::env::temp_dir())
        .env("LANG", "C.UTF-8");
    command
}

/// Where a program is.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| missing(name))
}

fn missing(what: &str) -> ! {
    panic!(
        "{what} is not installed: run tests/clients/install as root, which brings every client of these tests"
    )
}

/// Runs a client to its end.
fn run(command: &mut Command) -> Run {
    let output = command.output().expect("it starts");
    Run {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
