//! Those who come from the first SwiftProxy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::support::proxy::{command, folder};
use crate::support::{Origin, Proxy};

#[test]
fn accounts_are_taken_over_once() {
    let folder = folder();
    let old = folder.path().join("user.db");
    let sql = "CREATE TABLE user(name varchar(50) not null, password varchar(50) not null, dataRate int);
        INSERT INTO user VALUES ('u1', 'p1', 300000), ('u2', 'p2', NULL), ('u3', 'p3', 0), ('a:b', 'x', 1), ('u1', 'y', 2);";
    assert!(Command::new("sqlite3").arg(&old).arg(sql).status().unwrap().success());
    let store = format!("sqlite://{}/new.db", folder.path().display());
    let import = || command(&["user", "import", old.to_str().unwrap(), "--store", &store]);
    let (ok, said, error) = import();
    assert!(ok, "{error}");
    assert!(said.starts_with("added 3, already there 0, skipped 2\n"), "{said}");
    assert!(said.contains("a:b") && said.contains("u1"), "{said}");
    let (_, said, _) = import();
    assert!(said.starts_with("added 0, already there 3"), "{said}");
    let (_, users, _) = command(&["user", "list", "--json", "--store", &store]);
    let users: serde_json::Value = serde_json::from_str(&users).unwrap();
    assert_eq!(users[0]["rate_up"], 300_000);
    assert_eq!(users[0]["rate_down"], 300_000);
    assert_eq!(users[1]["rate_down"], "default");
    assert!(!std::fs::read(folder.path().join("new.db")).unwrap().windows(2).any(|w| w == b"p1"));
}

#[test]
fn old_local_programs_keep_working() {
    let origin = Origin::start();
    let proxy = Proxy::start(
        r#"
[listeners.old]
bind = "127.0.0.1:0"
stack = ["detect", "auth", "acl", "stats"]
relay = "direct"

[layers.detect]
protocols = ["classic"]

[layers.acl]
allow = ["127.0.0.0/8"]

[users.alice]
password = "secret"
"#,
    );
    let line = |password: &str, port: &str| {
        format!(
            "{{\"dst\": \"127.0.0.1\", \"dport\": {port}, \"user\": \"alice\", \"password\": \"{password}\"}}\r\n"
        )
    };
    let port = origin.addr.port();
    for port in [port.to_string(), format!("\"{port}\"")] {
        let mut stream = BufReader::new(TcpStream::connect(proxy.addr("old")).unwrap());
        // The request may come right behind the line.
        let request = line("secret", &port) + "GET /bytes/5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_line(&mut reply).unwrap();
        assert!(reply.starts_with("127.0.0.1 ") && reply.ends_with("\r\n"), "{reply:?}");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let shown = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(&[0; 5]), "{shown:?}");
    }
    let mut stream = TcpStream::connect(proxy.addr("old")).unwrap();
    stream.write_all(line("wrong", &port.to_string()).as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty(), "any failure is a close without a word");
}

#[test]
fn clear_text_beyond_loopback_wants_a_word() {
    let folder = folder();
    let file = folder.path().join("old.toml");
    let toml = "[listeners.old]\nbind = \"0.0.0.0:0\"\nstack = [\"detect\", \"auth\"]\nrelay = \"direct\"\n\
                [layers.detect]\nprotocols = [\"classic\"]\n";
    std::fs::write(&file, toml).unwrap();
    let check = || command(&["check", "-c", file.to_str().unwrap()]);
    let (ok, _, error) = check();
    assert!(!ok && error.contains("insecure"), "{error}");
    std::fs::write(&file, toml.to_owned() + "insecure = true\n").unwrap();
    let (ok, _, error) = check();
    assert!(ok, "{error}");
}
