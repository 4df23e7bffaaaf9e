//! Doors that stay shut: our own addresses, private targets, guessed passwords, forged log lines.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::proxy::command;
use crate::support::{Origin, curl};

use super::pair;

/// The answer's head to a request by HTTP, from an address of this machine.
fn ask(from: [u8; 4], proxy: SocketAddr, target: &str, login: &str) -> String {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&proxy.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head =
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {login}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

const ALICE: &str = "YWxpY2U6Y29ycmVjdCBob3JzZQ==";
const WRONG: &str = "YWxpY2U6d3Jvbmc=";

/// One address of this machine as resolvers and clients know to spell it.
const SPELLINGS: [&str; 16] = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "127.000.000.001",
    "0.0.0.0",
    "0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "localhost",
    "localhost.",
];

#[test]
fn our_own_listeners_and_api_are_no_targets_in_any_spelling() {
    let pair = pair();
    let plain = pair.remote.addr("plain");
    for own in [pair.remote.api().port(), plain.port(), pair.remote.addr("tunnel").port()] {
        for host in SPELLINGS {
            let said = ask([127, 0, 0, 1], plain, &format!("{host}:{own}"), ALICE);
            assert!(said.starts_with("HTTP/1.1 4") || said.starts_with("HTTP/1.1 5"), "{host}:{own}: {said}");
        }
    }
    assert!(pair.remote.stats()["refusals"]["loop"].as_u64() > Some(0));
}

#[test]
fn private_targets_are_refused_where_nothing_allows_them() {
    let pair = pair();
    pair.remote.edit(|text| text.replace("allow = [\"127.0.0.0/8\", \"::1/128\"]", ""));
    crate::support::until("reloaded", || {
        (super::super::faults::lines(&pair.remote, "configuration reloaded") > 1).then_some(())
    });
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    target.set_nonblocking(true).unwrap();
    let port = target.local_addr().unwrap().port();
    for host in SPELLINGS.into_iter().chain([
        "10.0.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fe80::1%25lo]",
        "[64:ff9b::7f00:1]",
    ]) {
        let said = ask([127, 0, 0, 1], pair.remote.addr("plain"), &format!("{host}:{port}"), ALICE);
        assert!(said.starts_with("HTTP/1.1 4") || said.starts_with("HTTP/1.1 5"), "{host}: {said}");
        assert!(target.accept().is_err(), "{host} got there");
    }
}

#[test]
fn nobody_is_served_beyond_this_machine_without_a_login() {
    let folder = crate::support::proxy::folder();
    let file = folder.path().join("open.toml");
    let toml = "[listeners.open]\nbind = \"0.0.0.0:0\"\nstack = [\"detect\"]\nrelay = \"direct\"\n";
    std::fs::write(&file, toml).unwrap();
    let (ok, _, error) = command(&["check", "-c", file.to_str().unwrap()]);
    assert!(!ok && error.contains("anybody who reaches"), "{error}");
}

#[test]
fn a_guesser_is_slowed_down_and_the_user_is_not_locked_out() {
    let (pair, origin) = (pair(), Origin::start());
    let (plain, target) = (pair.remote.addr("plain"), origin.addr.to_string());
    let start = Instant::now();
    for _ in 0..5 {
        let said = ask([127, 0, 0, 3], plain, &target, WRONG);
        assert!(said.starts_with("HTTP/1.1 407"), "{said}");
    }
    assert!(start.elapsed() > Duration::from_millis(3500), "{:?}", start.elapsed());
    // Others go on guessing at the same time.
    let guessers: Vec<_> = (10..30)
        .map(|n| {
            let target = target.clone();
            std::thread::spawn(move || ask([127, 0, 0, n], plain, &target, WRONG))
        })
        .collect();
    let start = Instant::now();
    for from in [[127, 0, 0, 1], [127, 0, 0, 3]] {
        let said = ask(from, plain, &target, ALICE);
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for guesser in guessers {
        assert!(guesser.join().unwrap().starts_with("HTTP/1.1 407"));
    }
}

#[test]
fn control_characters_forge_no_line_of_the_log() {
    let (pair, origin) = (pair(), Origin::start());
    pair.remote.edit(|text| text.replace("[node]", "[log]\nlevel = \"trace\"\n[node]\naccess_log = true"));
    let plain = pair.remote.addr("plain");
    crate::support::until("reloaded", || {
        (super::super::faults::lines(&pair.remote, "configuration reloaded") > 1).then_some(())
    });
    let evil = "x\n2026-01-01T00:00:00Z  WARN FORGED\r\u{1b}[2J";
    // A name and a password (RFC 1929).
    let mut stream = TcpStream::connect(plain).unwrap();
    let name = [&[5, 1, 2, 1, evil.len() as u8], evil.as_bytes(), &[1, b'p']].concat();
    stream.write_all(&name).unwrap();
    let mut end = Vec::new();
    let _ = stream.read_to_end(&mut end);
    // A target's name, of one who may ask, and headers.
    let mut stream = TcpStream::connect(plain).unwrap();
    let login = [&[5, 1, 2, 1, 5][..], b"alice", &[13], b"correct horse"].concat();
    let target = [&[5, 1, 0, 3, evil.len() as u8], evil.as_bytes(), &[0, 80]].concat();
    stream.write_all(&[login, target].concat()).unwrap();
    let mut end = Vec::new();
    let _ = stream.read_to_end(&mut end);
    let _ = ask([127, 0, 0, 1], plain, &format!("{}:80", evil.replace(['\r', '\n'], "%0a")), ALICE);
    let proxy = format!("http://{plain}");
    let header = "X-Forge: a\u{1b}[2Jb";
    let _ = curl(&["--proxy", &proxy, "--proxy-user", "alice:correct horse", "-H", header, &origin.url("/")]);
    // Control characters in a header are refused; one request more shows that lines are written.
    let user = ["--proxy", &proxy, "--proxy-user", "alice:correct horse"];
    curl(&[&user[..], &[&origin.url("/")]].concat()).ok();
    pair.remote.logged(&format!("{}", origin.addr));
    let log = pair.remote.log();
    let forged = |line: &str| line.starts_with("2026-01-01") || line.contains('\u{1b}');
    assert!(!log.lines().any(forged), "{log}");
}
