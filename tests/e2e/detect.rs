//! Every protocol that applications speak, through the pair.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

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
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/");
    let http = curl(&["--proxy", &format!("http://{}", pair.addr()), "-i", &url]);
    let said = String::from_utf8(http.ok()).unwrap();
    assert!(said.starts_with("HTTP/1.1 502"), "{said}");
    assert!(said.to_lowercase().contains("proxy-status: swiftproxy; error=connection_refused"), "{said}");

    let socks = curl(&["--proxy", &format!("socks5h://{}", pair.addr()), "-v", &url]);
    assert_eq!(socks.code, 97, "{}", socks.said);
    assert!(socks.said.contains("(5)"), "curl names the reply's code 0x05: {}", socks.said);

    let mut socks4 = TcpStream::connect(pair.addr()).unwrap();
    let SocketAddr::V4(v4) = closed else { panic!("IPv4") };
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

/// What a server says to these bytes up to that many, all sent at once or each alone.
fn said(to: SocketAddr, words: &[u8], most: usize) -> (Vec<u8>, TcpStream) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream.write_all(words).unwrap();
    let mut answer = Vec::new();
    (&stream).take(most as u64).read_to_end(&mut answer).unwrap();
    (answer, stream)
}

fn port(addr: SocketAddr) -> [u8; 2] {
    addr.port().to_be_bytes()
}

/// RFC 1928 §6, SOCKS4's reply, and `bound` of our Proxy-Status: what the remote dialled from.
#[test]
fn the_address_that_was_dialled_from_is_told_through_the_tunnel() {
    let pair = Pair::start(&["alice"], "");
    let local = pair.addr();
    let four = TcpListener::bind("127.0.0.1:0").unwrap();
    let six = TcpListener::bind("[::1]:0").unwrap();
    let (at, at_six) = (four.local_addr().unwrap(), six.local_addr().unwrap());
    let greeting = [5, 1, 0];

    let request = [&greeting[..], &[5, 1, 0, 1, 127, 0, 0, 1], &port(at)].concat();
    let (answer, _open) = said(local, &request, 12);
    let from = four.accept().unwrap().1;
    assert_eq!(answer, [&[5, 0, 5, 0, 0, 1, 127, 0, 0, 1][..], &port(from)].concat());

    // The type of the reply's address is that of the connection, whatever the request's was: a name that is an
    // address, of either family.
    for (name, listener) in [("127.0.0.1", &four), ("::1", &six)] {
        let length = u8::try_from(name.len()).unwrap();
        let to = port(listener.local_addr().unwrap());
        let request = [&greeting[..], &[5, 1, 0, 3, length], name.as_bytes(), &to].concat();
        let length = if listener.local_addr().unwrap().is_ipv4() { 12 } else { 24 };
        let (answer, _open) = said(local, &request, length);
        let from = listener.accept().unwrap().1;
        let wanted = match from.ip() {
            std::net::IpAddr::V4(ip) => [&[1][..], &ip.octets()].concat(),
            std::net::IpAddr::V6(ip) => [&[4][..], &ip.octets()].concat(),
        };
        assert_eq!(answer, [&[5, 0, 5, 0, 0][..], &wanted, &port(from)].concat(), "{name}");
    }

    let (answer, _open) = said(local, &[&[4, 1], &port(at)[..], &[127, 0, 0, 1, b'm', b'e', 0]].concat(), 8);
    let from = four.accept().unwrap().1;
    assert_eq!(answer, [&[0, 0x5A][..], &port(from), &[127, 0, 0, 1]].concat());

    for (target, listener) in [(at, &four), (at_six, &six)] {
        let mut stream = TcpStream::connect(local).unwrap();
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
        let from = listener.accept().unwrap().1;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains(&format!("\r\nproxy-status: swiftproxy; bound=\"{from}\"\r\n")), "{head}");
    }
}

/// A target that cannot be has the same reply with the tunnel and without.
#[test]
fn odd_targets_are_told_alike_through_the_tunnel_and_without() {
    let plain = r#"
[listeners.plain]
bind = "127.0.0.1:0"
stack = ["open", "acl"]
relay = "direct"

[layers.open]
kind = "detect"
"#;
    let pair = Pair::start(&["alice"], plain);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = port(closed);
    let long = "a".repeat(255);
    let named =
        |name: &[u8], port: [u8; 2]| [&[3, u8::try_from(name.len()).unwrap()][..], name, &port].concat();
    let own = pair.remote.addr("plain");
    let cases: [(&str, Vec<u8>, u8); 14] = [
        ("port 0", vec![1, 127, 0, 0, 1, 0, 0], 5),
        ("a name and port 0", named(b"localhost", [0, 0]), 5),
        ("a closed port", [&[1, 127, 0, 0, 1][..], &closed].concat(), 5),
        ("a name that is an address", named(b"127.0.0.1", closed), 5),
        ("a name that is one of IPv6", named(b"::1", closed), 5),
        ("an IPv4 address in IPv6 clothes", named(b"::ffff:127.0.0.1", closed), 5),
        ("a name of 255 bytes", named(long.as_bytes(), closed), 4),
        ("a private address", [&[1, 10, 0, 0, 1][..], &closed].concat(), 2),
        ("a name that is a private address", named(b"10.0.0.1", closed), 2),
        ("our own port", [&[1, 127, 0, 0, 1][..], &port(own)].concat(), 2),
        ("no name", named(b"", closed), 1),
        ("a name in other bytes", named(b"\xff\xfe", closed), 1),
        ("a name with a line feed", named(b"a\nb", closed), 1),
        ("another kind of address", [&[2, 127, 0, 0, 1][..], &closed].concat(), 8),
    ];
    for (what, target, code) in cases {
        for door in [own, pair.addr()] {
            let words = [&[5, 1, 0, 5, 1, 0][..], &target].concat();
            let (answer, mut stream) = said(door, &words, 12);
            assert_eq!(answer, [&[5, 0, 5, code, 0, 1][..], &[0; 6]].concat(), "{what} at {door}");
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "{what} at {door}: closed");
        }
    }
}
