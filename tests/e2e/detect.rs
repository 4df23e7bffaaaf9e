//! Every protocol that applications speak, through the pair.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Origin, Pair, curl};

/// Body of `/bytes/N` as the origin makes it.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at >> 16) as u8).collect()
}

#[test]
fn curl_in_every_mode_through_the_pair() {
    let origin = Origin::start();
    let pair = Pair::start(&["alice"], "");
    let proxy = pair.addr();
    let body = pattern(300_000);
    for scheme in ["socks5", "socks5h", "socks4", "socks4a", "http"] {
        let proxy = format!("{scheme}://{proxy}");
        let url = origin.url("/bytes/300000");
        assert!(curl(&["--proxy", &proxy, &url]).ok() == body, "{scheme}");
        // HTTPS makes curl send CONNECT to an HTTP proxy.
        let url = origin.https("/bytes/300000");
        assert!(curl(&["--proxy", &proxy, "--insecure", &url]).ok() == body, "{scheme}, TLS");
        let url = origin.url("/echo");
        assert_eq!(curl(&["--proxy", &proxy, "--data", "hello", &url]).ok(), b"hello", "{scheme}, upload");
    }
}

#[test]
fn names_are_resolved_by_the_remote() {
    let origin = Origin::start();
    let pair = Pair::start(&["alice"], "");
    let url = format!("http://localhost:{}/bytes/10", origin.addr.port());
    for scheme in ["socks5h", "socks4a", "http"] {
        let proxy = format!("{scheme}://{}", pair.addr());
        assert_eq!(curl(&["--proxy", &proxy, &url]).ok().len(), 10, "{scheme}");
    }
}

#[test]
fn straight_at_the_remote_as_an_https_proxy() {
    let origin = Origin::start();
    let pair = Pair::start(&["alice"], "");
    let proxy = format!("https://{}", pair.remote.addr("tunnel"));
    let args = ["--proxy", &proxy, "--proxy-insecure", "--proxy-user", "alice:correct horse"];
    let run = |more: &[&str]| curl(&[&args[..], more].concat());
    assert_eq!(run(&[&origin.url("/bytes/1000")]).ok().len(), 1000, "forwarded");
    assert_eq!(run(&["--insecure", &origin.https("/bytes/1000")]).ok().len(), 1000, "CONNECT");
    assert_eq!(run(&["--proxy-pinnedpubkey", &pair.pin, &origin.url("/bytes/10")]).ok().len(), 10, "pinned");
    let wrong =
        curl(&["--proxy", &proxy, "--proxy-insecure", "--proxy-user", "alice:no", "-v", &origin.url("/")]);
    assert!(wrong.said.contains("407"), "{}", wrong.said);
}

/// Refusals in the client's own words, through the tunnel as well.
#[test]
fn a_refused_target_is_told_as_each_protocol_tells_it() {
    let pair = Pair::start(&["alice"], "");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/");
    let http = curl(&["--proxy", &format!("http://{}", pair.addr()), "-i", &url]);
    let said = String::from_utf8(http.ok()).unwrap();
    assert!(said.starts_with("HTTP/1.1 502"), "{said}");
    assert!(said.to_lowercase().contains("proxy-status: swiftproxy; error=connection_refused"), "{said}");

    let socks = curl(&["--proxy", &format!("socks5h://{}", pair.addr()), "-v", &url]);
    assert_eq!(socks.code, 97, "{}", socks.said);
    assert!(socks.said.contains("(5)"), "curl names the reply's code 0x05: {}", socks.said);

    let mut socks4 = TcpStream::connect(pair.addr()).unwrap();
    let std::net::SocketAddr::V4(v4) = closed else { panic!("IPv4") };
    socks4.write_all(&[&[4, 1], &v4.port().to_be_bytes()[..], &v4.ip().octets(), &[0]].concat()).unwrap();
    let mut reply = [0; 8];
    socks4.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..2], [0, 0x5B]);
}

#[test]
fn commands_that_are_not_served_are_told_so() {
    let pair = Pair::start(&["alice"], "");
    for command in [2, 3] {
        let mut stream = TcpStream::connect(pair.addr()).unwrap();
        stream.write_all(&[5, 1, 0, 5, command, 0, 1, 127, 0, 0, 1, 0, 80]).unwrap();
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [5, 0, 5, 7], "command {command}");
    }
}
