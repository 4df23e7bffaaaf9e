//! May they go there.

use crate::support::{Origin, Pair, Proxy, curl};

const OPEN: &str = r#"
[listeners.lan]
bind = "127.0.0.1:0"
stack = ["detect", "acl"]
relay = "direct"
"#;

/// No spelling of a private address passes by default (and none of them reaches the origin that listens there).
#[test]
fn private_targets_are_denied_in_all_spellings() {
    let origin = Origin::start();
    let proxy = Proxy::start(OPEN);
    let port = origin.addr.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "0",
        "localhost.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "[64:ff9b::7f00:1]",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00::1]",
    ] {
        let authority = format!("{host}:{port}");
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        let answer = exchange(proxy.addr("lan"), request.as_bytes());
        let status = answer.split(' ').nth(1).unwrap_or_default();
        // What does not resolve, or has no route, does not pass either.
        assert!(["403", "502", "400"].contains(&status), "{host}: {answer}");
    }
    let answer = exchange(
        proxy.addr("lan"),
        format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
    );
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

fn exchange(proxy: std::net::SocketAddr, request: &[u8]) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[test]
fn an_allowed_address_passes_and_its_neighbour_does_not() {
    let (origin, other) = (Origin::start(), Origin::start());
    let proxy = Proxy::start(&format!("{OPEN}[layers.acl]\nallow = [\"{}\"]\n", origin.addr));
    let address = format!("socks5h://{}", proxy.addr("lan"));
    assert_eq!(curl(&["--proxy", &address, &origin.url("/bytes/10")]).ok().len(), 10);
    assert_eq!(curl(&["--proxy", &address, &other.url("/bytes/10")]).code, 97);
}

/// The proxy's own listeners and API are never dialled, whatever the rules say.
#[test]
fn our_own_ports_are_refused() {
    let pair = Pair::start(&["alice"], "");
    let proxy = format!("http://{}", pair.addr());
    for own in [pair.remote.addr("tunnel"), pair.remote.api()] {
        for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
            let url = format!("http://{host}:{}/v1/stats", own.port());
            let said = String::from_utf8_lossy(&curl(&["--proxy", &proxy, "-i", &url]).body).into_owned();
            assert!(said.starts_with("HTTP/1.1 502") || said.starts_with("HTTP/1.1 403"), "{host}: {said}");
        }
    }
}
