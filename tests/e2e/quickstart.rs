//! The first command of the README, and the lines it prints.

use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::proxy::{folder, request};
use crate::support::{curl, swiftproxy, until};

struct Quickstart {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Quickstart {
    fn start(data: &std::path::Path, ports: &[u16; 5], more: &[&str]) -> Self {
        let mut command = swiftproxy();
        command.arg("quickstart").arg("--data").arg(data).args(more);
        let flags = ["--port", "--remote-port", "--stats-port", "--remote-stats-port", "--origin-port"];
        for (flag, port) in flags.iter().zip(ports) {
            command.arg(flag).arg(port.to_string());
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said: Arc<Mutex<String>> = Arc::default();
        let pipes: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for mut pipe in pipes {
            let said = said.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                    said.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
                }
            });
        }
        Self { child, said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn ready(&self) -> String {
        until("quickstart is ready", || self.said().contains("Stop with Ctrl-C").then(|| self.said()))
    }

    fn stop(mut self) -> String {
        let kill = std::process::Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
        let status = until("it stops", || self.child.try_wait().unwrap());
        assert!(status.success(), "{}", self.said());
        self.said()
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Five ports that were free a moment ago.
fn free() -> [u16; 5] {
    let listeners = [(); 5].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[test]
fn what_it_prints_works_and_is_reused() {
    let folder = folder();
    let data = folder.path().join("data");
    let ports = free();
    let run = Quickstart::start(&data, &ports, &[]);
    let said = run.ready();
    let mut ran = 0;
    for line in said.lines().map(str::trim).filter(|line| line.starts_with("curl -o /dev/null")) {
        // 30 MB take five seconds at demo's rate; less shows as much.
        let line = line.replace("/bytes/30MB", "/bytes/300kB").replace("-o /dev/null ", "");
        let args: Vec<_> = line.split(' ').skip(1).collect();
        assert_eq!(curl(&args).ok().len(), 300_000, "{line}");
        ran += 1;
    }
    assert_eq!(ran, 3, "{said}");
    let api = std::net::SocketAddr::from(([127, 0, 0, 1], ports[3]));
    let (status, body) = request(api, "GET", "/v1/stats", &[], "");
    assert_eq!(status, 200, "{body}");
    let stats: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(stats["accounts"][0]["name"], "demo");
    assert_eq!(stats["accounts"][0]["limit_down"], 6_250_000);
    assert_eq!(stats["accounts"][0]["limit_up"], 2_500_000);
    // Another private address is denied.
    let proxy = format!("socks5h://127.0.0.1:{}", ports[0]);
    assert_eq!(curl(&["--proxy", &proxy, &format!("http://127.0.0.1:{}/", ports[2])]).code, 97);
    let said = run.stop();
    assert!(!said.contains("WARN"), "nothing is lost by stopping: {said}");

    let password = std::fs::read_to_string(data.join("password")).unwrap();
    let run = Quickstart::start(&data, &ports, &[]);
    assert!(run.ready().contains(password.trim()), "the same password");
    run.stop();
    let run = Quickstart::start(&data, &ports, &["--fresh", "--allow-private"]);
    let said = run.ready();
    assert!(!said.contains(password.trim()) && said.contains("Private addresses: open"), "{said}");
    run.stop();
}

#[test]
fn a_taken_port_is_named_with_its_flag() {
    let folder = folder();
    let ports = free();
    let taken = std::net::TcpListener::bind(("127.0.0.1", ports[1])).unwrap();
    let mut run = Quickstart::start(&folder.path().join("data"), &ports, &[]);
    let status = until("it gives up", || run.child.try_wait().unwrap());
    assert!(!status.success());
    until("it says why", || {
        let said = run.said();
        (said.contains(&format!("port {}", ports[1])) && said.contains("--remote-port")).then_some(())
    });
    drop(taken);
}
