//! A running `swiftproxy`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::clients::bring;
use super::wait::{until, until_within};

/// A command of the program under test.
pub fn swiftproxy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swiftproxy"));
    command.stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// Runs a command of the program to its end: whether it succeeded, standard output, standard error.
pub fn command(args: &[&str]) -> (bool, String, String) {
    command_with(args, "")
}

/// The same with something on standard input.
pub fn command_with(args: &[&str], input: &str) -> (bool, String, String) {
    let mut child = swiftproxy()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A program that reads nothing may be gone already.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// A node of its own, with its folder. Killed when dropped.
pub struct Proxy {
    pub folder: Arc<TempDir>,
    file: PathBuf,
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Writes `toml` into a new folder and runs it.
    pub fn start(toml: &str) -> Self {
        Self::start_in(&folder(), "swiftproxy.toml", toml)
    }

    /// The same in a folder that may hold more.
    pub fn start_in(folder: &Arc<TempDir>, file: &str, toml: &str) -> Self {
        let path = folder.path().join(file);
        std::fs::write(&path, toml).expect("the folder can be written");
        Self::run(folder, path, &[])
    }

    /// Runs a file that is there already.
    pub fn run(folder: &Arc<TempDir>, file: PathBuf, more: &[&str]) -> Self {
        let proxy = Self::spawn(folder, file, more);
        until("the node listens", || proxy.log().contains("listening on").then_some(()));
        proxy
    }

    /// The same, without waiting for anything.
    pub fn spawn(folder: &Arc<TempDir>, file: PathBuf, more: &[&str]) -> Self {
        Self::spawn_as(swiftproxy(), folder, file, more)
    }

    /// The same in surroundings that were prepared.
    pub fn spawn_as(mut command: Command, folder: &Arc<TempDir>, file: PathBuf, more: &[&str]) -> Self {
        command.arg("run").arg("-c").arg(&file).args(more);
        Self::spawn_by(command, folder, file)
    }

    /// Runs `file` with a socket that is open already under that name, as systemd does.
    pub fn activated(folder: &Arc<TempDir>, file: PathBuf, name: &str, socket: TcpListener) -> Self {
        let mut command = Command::new("sh");
        let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" run -c \"$1\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_swiftproxy")]).arg(&file);
        command.env("LISTEN_FDNAMES", name).env_remove("RUST_LOG").stdin(OwnedFd::from(socket));
        Self::spawn_by(command, folder, file)
    }

    fn spawn_by(mut command: Command, folder: &Arc<TempDir>, file: PathBuf) -> Self {
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        let reader = std::thread::spawn({
            let log = log.clone();
            move || {
                for line in lines.lines().map_while(Result::ok) {
                    let mut log = log.lock().expect("no panic holds it");
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });
        Self { folder: folder.clone(), file, child, log, reader: Some(reader) }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic holds it").clone()
    }

    /// Waits for a line of the log.
    pub fn logged(&self, words: &str) -> String {
        until(&format!("the log says {words:?}; it says:\n{}", self.log()), || {
            self.log().lines().find(|line| line.contains(words)).map(str::to_owned)
        })
    }

    /// Where a listener listens.
    pub fn addr(&self, listener: &str) -> SocketAddr {
        let name = format!("listener=\"{listener}\"");
        until(&format!("{listener} listens"), || {
            let log = self.log();
            let mut lines = log.lines().filter(|line| line.contains("listening on") && line.contains(&name));
            address(lines.next_back()?.split("listening on ").nth(1)?)
        })
    }

    /// Where its API listens.
    pub fn api(&self) -> SocketAddr {
        until("the API listens", || {
            let log = self.log();
            address(log.lines().find_map(|line| line.split("API on http://").nth(1))?)
        })
    }

    /// `GET /v1/stats`.
    pub fn stats(&self) -> Value {
        get_json(self.api(), "/v1/stats")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its configuration file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Writes the configuration anew, as an editor does: beside it, then in its place.
    pub fn edit(&self, edit: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(&self.file).expect("readable");
        let beside = self.file.with_extension("tmp");
        std::fs::write(&beside, edit(text)).expect("writable");
        std::fs::rename(&beside, &self.file).expect("renamed");
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for its end, and for all that it logged.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status =
            until_within(Duration::from_secs(30), "the node ends", || self.child.try_wait().expect("waits"));
        self.reader.take().expect("nobody took it").join().expect("no panic");
        (status, self.log())
    }

    /// Kills it and waits.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waits");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.file.display(), self.log());
        }
    }
}

/// A new folder.
pub fn folder() -> Arc<TempDir> {
    bring();
    Arc::new(tempfile::tempdir().expect("a folder"))
}

fn address(text: &str) -> Option<SocketAddr> {
    let end = text.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c))).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// A JSON answer of an API.
pub fn get_json(api: SocketAddr, path: &str) -> Value {
    let (status, body) = request(api, "GET", path, &[], "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

/// One HTTP exchange with an API.
pub fn request(
    api: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(api).expect("the API accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all((head + body).as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    let answer = String::from_utf8(answer).expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// A self-signed certificate in a folder: `cert.pem`, `key.pem`; returns its pin.
pub fn certificate(folder: &Path) -> String {
    let made =
        rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]).expect("a certificate");
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("writable");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("writable");
    swiftproxy_wire::tls::pin_of(made.cert.der()).expect("a pin")
}

/// A remote with a store and a local role that is logged in to it as alice.
pub struct Pair {
    pub remote: Proxy,
    pub local: Proxy,
    pub pin: String,
}

/// Alice's password in every test.
pub const PASSWORD: &str = "correct horse";

impl Pair {
    /// With `users` as lines of `user add` arguments, such as `alice --down 8Mbit/s`, and more TOML for the remote.
    pub fn start(users: &[&str], remote: &str) -> Self {
        let folder = folder();
        let pin = certificate(folder.path());
        let store = format!("sqlite://{}/swiftproxy.db", folder.path().display());
        for user in users {
            let mut args = vec!["user", "add"];
            args.extend(user.split(' '));
            args.extend(["--password-stdin", "--store", &store]);
            let (ok, _, error) = command_with(&args, PASSWORD);
            assert!(ok, "{error}");
        }
        let toml = remote_toml() + remote;
        let remote = Proxy::start_in(&folder, "remote.toml", &toml);
        let local = Self::local(&folder, "local.toml", remote.addr("tunnel"), &pin, "alice");
        Self { remote, local, pin }
    }

    /// Two pairs: over our own engine, and with a local role that speaks to its remote as any HTTP/2 client does.
    pub fn by_each_engine(remote: &str, local: &str) -> [Self; 2] {
        [true, false].map(|lean| {
            let mut pair = Self::start(&["alice"], remote);
            let toml = local_toml(pair.remote.addr("tunnel"), &pair.pin, "alice");
            let more = format!("lean = {lean}\n{local}");
            pair.local = Proxy::start_in(&pair.remote.folder, "local.toml", &(toml + &more));
            connected(&pair.local);
            pair
        })
    }

    /// One more local role of this pair's remote.
    pub fn another(&self, user: &str) -> Proxy {
        let file = format!("local-{user}.toml");
        Self::local(&self.remote.folder, &file, self.remote.addr("tunnel"), &self.pin, user)
    }

    fn local(folder: &Arc<TempDir>, file: &str, server: SocketAddr, pin: &str, user: &str) -> Proxy {
        let toml = local_toml(server, pin, user);
        let local = Proxy::start_in(folder, file, &toml);
        connected(&local);
        local
    }

    /// Where applications connect.
    pub fn addr(&self) -> SocketAddr {
        self.local.addr("local")
    }

    /// The store's URL.
    pub fn store(&self) -> String {
        format!("sqlite://{}", self.database().display())
    }

    /// The store's file.
    pub fn database(&self) -> PathBuf {
        self.remote.folder.path().join("swiftproxy.db")
    }
}

/// Waits until a local role is logged in.
pub fn connected(local: &Proxy) {
    until("the local role is logged in", || (local.stats()["tunnel"]["state"] == "connected").then_some(()));
}

/// A remote's configuration; loopback is allowed, for that is where the tests' origins are.
pub fn remote_toml() -> String {
    r#"
[node]
name = "remote"
shutdown_timeout = "5s"

[store]
url = "sqlite://swiftproxy.db"

[api]
bind = "127.0.0.1:0"
secret = "s3cret"

[listeners.tunnel]
bind = "127.0.0.1:0"
stack = ["detect", "auth", "acl", "ratelimit", "stats"]
relay = "direct"

[layers.detect]
protocols = ["tunnel"]
tls = { cert = "cert.pem", key = "key.pem" }

[layers.acl]
allow = ["127.0.0.0/8", "::1/128"]
"#
    .to_owned()
}

/// A local role's configuration.
pub fn local_toml(server: SocketAddr, pin: &str, user: &str) -> String {
    format!(
        r#"
[node]
name = "local"
shutdown_timeout = "1s"

[api]
bind = "127.0.0.1:0"
secret = "s3cret"

[listeners.local]
bind = "127.0.0.1:0"
stack = ["detect", "stats"]
relay = "tunnel"

[relays.tunnel]
server = "{server}"
username = "{user}"
password = "{PASSWORD}"
pin = "{pin}"
"#
    )
}
