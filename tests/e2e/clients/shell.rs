//! ssh by `ProxyCommand`, ncat as a client of its own, and nghttp2's `nghttp` and `h2load` straight at the remote.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use super::{LOGIN, Run, World, client, pattern, run};
use crate::support::until;

/// A ssh server on loopback with keys of its own; killed when dropped.
struct Sshd {
    child: Child,
    port: u16,
    /// Who runs the tests, and whom it lets in.
    person: String,
    folder: tempfile::TempDir,
}

impl Sshd {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        for name in ["host", "person"] {
            run(client("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file(name))).ok();
        }
        std::fs::copy(file("person.pub"), file("authorized")).unwrap();
        std::fs::set_permissions(file("authorized"), PermissionsExt::from_mode(0o600)).unwrap();
        // sshd cannot say which port it was given.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            file("host").display(),
            file("authorized").display()
        );
        std::fs::write(file("config"), config).unwrap();
        // Where root's drops its rights; Debian's service makes it.
        let _ = std::fs::create_dir_all("/run/sshd");
        // It must be called by its whole path, for it starts itself anew for each connection.
        let Run { out, .. } = run(client("which").arg("sshd").env("PATH", "/usr/sbin:/usr/bin"));
        let sshd = String::from_utf8(out).unwrap();
        if sshd.is_empty() {
            super::missing("sshd");
        }
        let mut command = Command::new(sshd.trim());
        command.arg("-D").arg("-e").arg("-f").arg(file("config"));
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("sshd listens", || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        let person = run(client("id").arg("-un")).text();
        Self { child, port, person, folder }
    }

    /// Runs a command there.
    fn run(&self, proxy: &str, command: &str) -> Run {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let mut ssh = client("ssh");
        ssh.args(["-F", "none", "-p", &self.port.to_string(), "-i", &file("person")]);
        for option in [
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            format!("UserKnownHostsFile={}", file("known")),
            format!("ProxyCommand={proxy}"),
        ] {
            ssh.args(["-o", &option]);
        }
        run(ssh.args(["-l", self.person.trim(), "127.0.0.1", command]))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn ssh_by_ncat_as_its_proxy_command() {
    let world = World::start();
    let sshd = Sshd::start();
    let (local, lan) = (world.pair.addr(), world.lan.addr("lan"));
    let login = format!("--proxy-auth '{}:{}'", LOGIN.0, LOGIN.1.replace('%', "%%"));
    for kind in ["socks4", "socks5", "http"] {
        let ways = [
            (&world.pair.remote, format!("ncat --proxy {local} --proxy-type {kind} %h %p")),
            (&world.lan, format!("ncat --proxy {lan} --proxy-type {kind} {login} %h %p")),
        ];
        for (node, proxy) in ways {
            if kind == "socks4" && std::ptr::eq(node, &world.lan) {
                assert_ne!(sshd.run(&proxy, "true").code, 0, "SOCKS4 can carry no password");
                continue;
            }
            let said = || sshd.run(&proxy, "head -c 400000 /dev/zero | tr '\\0' x; exit 0").text();
            assert_eq!(world.carried(node, 400_000, said), "x".repeat(400_000), "{proxy}");
        }
    }
    let wrong = format!("ncat --proxy {lan} --proxy-type http --proxy-auth bob:no %h %p");
    assert_ne!(sshd.run(&wrong, "true").code, 0);
}

/// A server that speaks first, and a client that ends its half while the other half still has all to say.
#[test]
fn ncat_hears_a_server_that_speaks_first_and_ends_its_half() {
    let world = World::start();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for mut stream in server.incoming().map_while(Result::ok) {
            stream.write_all(b"220 hello\n").unwrap();
            let mut heard = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut heard).unwrap();
            stream.write_all(&heard).unwrap();
        }
    });
    let sent = [b"a line\n".to_vec(), pattern(200_000)].concat();
    let file = world.site.files().join("sent");
    std::fs::write(&file, &sent).unwrap();
    for kind in ["socks4", "socks5", "http"] {
        let mut ncat = client("ncat");
        ncat.args(["--proxy", &world.pair.addr().to_string(), "--proxy-type", kind, "127.0.0.1", &port]);
        ncat.stdin(std::fs::File::open(&file).unwrap());
        let heard = world.carried(&world.pair.remote, 200_017, || run(&mut ncat).ok());
        assert!(heard == [&b"220 hello\n"[..], &sent].concat(), "{kind}: {} bytes", heard.len());
    }
}

/// The login as a field. Neither tool knows of proxies: both take the remote for a server.
fn basic() -> String {
    let script = "printf %s \"$1\" | base64 --wrap=0";
    let encoded = run(client("sh").args(["-c", script, "sh"]).arg(format!("{}:{}", LOGIN.0, LOGIN.1))).text();
    format!("proxy-authorization: Basic {encoded}")
}

#[test]
fn nghttp_asks_the_remote_for_what_is_its_own() {
    let world = World::start();
    let remote = world.pair.remote.addr("tunnel");
    let account = format!("https://{remote}/.well-known/swiftproxy/account");
    let ask = |more: &[&str]| {
        run(client("nghttp").args(["--no-verify-peer", "--verbose"]).args(more).arg(&account))
    };
    let said = ask(&[]).text();
    assert!(said.contains(":status: 407") && said.contains("proxy-authenticate: Basic"), "{said}");
    let said = ask(&["--header", &basic()]).text();
    assert!(said.contains(":status: 200") && said.contains("\"bob\""), "{said}");
}

/// Ordinary requests with `:scheme http` are what an HTTP/2 client sends a proxy for a plain origin.
#[test]
fn h2load_keeps_to_a_hundred_streams_on_each_of_four_connections() {
    let world = World::start();
    let remote = world.pair.remote.addr("tunnel");
    let mut h2load = client("h2load");
    h2load.args(["--requests=4000", "--clients=4", "--threads=1", "--max-concurrent-streams=100"]);
    h2load.args(["--header", &basic(), "--header"]);
    h2load.arg(format!(":authority: {}", world.site.plain)).args(["--header", ":scheme: http"]);
    h2load.arg(format!("https://{remote}/bytes/3000"));
    let said = world.carried(&world.pair.remote, 12_000_000, || run(&mut h2load).text());
    assert!(said.contains("4000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    assert!(said.contains("status codes: 4000 2xx"), "{said}");
}
