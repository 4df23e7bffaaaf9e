//! Who is it.

use std::io::{Read, Write};
use std::net::TcpStream;

use swiftproxy_core::credentials::Credentials;
use swiftproxy_core::secret::Secret;

use crate::support::proxy::{PASSWORD, connected, local_toml};
use crate::support::{Origin, Pair, Proxy, curl};

const STANDALONE: &str = r#"
[api]
bind = "127.0.0.1:0"

[listeners.lan]
bind = "127.0.0.1:0"
stack = ["detect", "auth", "acl", "ratelimit", "stats"]
relay = "direct"

[layers.acl]
allow = ["127.0.0.0/8"]

[users.alice]
password = "pass:word"

[users.bob]
password = "x"
enabled = false
"#;

#[test]
fn right_wrong_missing_and_disabled() {
    let origin = Origin::start();
    let proxy = Proxy::start(STANDALONE);
    let url = origin.url("/bytes/10");
    for scheme in ["socks5h", "http"] {
        let address = format!("{scheme}://{}", proxy.addr("lan"));
        let run = |user: Option<&str>| {
            let mut args = vec!["--proxy", &address, "-i"];
            args.extend(user.iter().flat_map(|user| ["--proxy-user", user]));
            args.push(&url);
            curl(&args)
        };
        assert!(run(Some("alice:pass:word")).ok().ends_with(&[0; 10]), "{scheme}");
        for user in [Some("alice:wrong"), Some("nobody:pass:word"), Some("Alice:pass:word"), None] {
            let refused = run(user);
            match scheme {
                "http" => assert!(refused.ok().starts_with(b"HTTP/1.1 407"), "{user:?}"),
                _ => assert_eq!(refused.code, 97, "{user:?}: {}", refused.said),
            }
        }
        let disabled = run(Some("bob:x"));
        match scheme {
            "http" => assert!(disabled.ok().starts_with(b"HTTP/1.1 403")),
            _ => assert_eq!(disabled.code, 97),
        }
    }
}

#[test]
fn a_listener_beyond_loopback_without_auth_is_refused_at_load() {
    let toml = STANDALONE
        .replace("127.0.0.1:0\"\nstack = [\"detect\", \"auth\", ", "0.0.0.0:0\"\nstack = [\"detect\", ");
    let folder = crate::support::proxy::folder();
    let file = folder.path().join("open.toml");
    std::fs::write(&file, toml).unwrap();
    let (ok, _, error) = crate::support::proxy::command(&["check", "-c", file.to_str().unwrap()]);
    assert!(!ok && error.contains("auth"), "{error}");
}

#[test]
fn addresses_stand_for_accounts() {
    let origin = Origin::start();
    let toml = STANDALONE.to_owned()
        + "[layers.auth]\nmethod = \"address\"\naddresses = { \"127.0.0.0/8\" = \"alice\" }\n";
    let proxy = Proxy::start(&toml);
    let address = format!("socks5h://{}", proxy.addr("lan"));
    assert_eq!(curl(&["--proxy", &address, &origin.url("/bytes/1000")]).ok().len(), 1000);
    let stats = proxy.stats();
    let alice =
        stats["accounts"].as_array().unwrap().iter().find(|account| account["name"] == "alice").unwrap();
    assert!(alice["down"].as_u64() > Some(1000), "{stats}");
}

/// The longest that RFC 1929 has room for, and no plain text either.
#[test]
fn names_and_passwords_of_255_bytes() {
    let origin = Origin::start();
    let name = "\u{f8}".repeat(127) + "x";
    let password = ":\"\\ ".repeat(30) + &"\u{20ac}".repeat(45);
    assert_eq!((name.len(), password.len()), (255, 255));
    let toml = STANDALONE.to_owned() + &format!("[users.\"{name}\"]\npassword = '{password}'\n");
    let proxy = Proxy::start(&toml);
    let (lan, target) = (proxy.addr("lan"), origin.addr);
    let std::net::SocketAddr::V4(four) = target else { panic!("IPv4") };
    let socks = |name: &[u8], password: &[u8]| {
        let mut stream = TcpStream::connect(lan).unwrap();
        let login = [&[5, 1, 2, 1, name.len() as u8], name, &[password.len() as u8], password].concat();
        let request = [&[5, 1, 0, 1][..], &four.ip().octets(), &four.port().to_be_bytes()].concat();
        stream.write_all(&[login, request].concat()).unwrap();
        let mut answer = Vec::new();
        stream.take(8).read_to_end(&mut answer).unwrap();
        answer
    };
    assert_eq!(socks(name.as_bytes(), password.as_bytes()), [5, 2, 1, 0, 5, 0, 0, 1]);
    let wrong: [(&[u8], &[u8]); 6] = [
        (name.as_bytes(), &password.as_bytes()[..252]),
        (&name.as_bytes()[..254], password.as_bytes()),
        (&[0xFF; 255], password.as_bytes()),
        (name.as_bytes(), &[0; 255]),
        (b"", b""),
        (b"alice:pass", b"word"),
    ];
    for (name, password) in wrong {
        assert_eq!(socks(name, password), [5, 2, 1, 1], "{name:?}");
    }
    // The same by Basic, to a target and as a request to forward.
    let login = |password: &str| {
        let credentials = Credentials { name: name.as_str().into(), password: Secret::new(password) };
        swiftproxy_wire::basic::encode(&credentials).to_str().unwrap().to_owned()
    };
    for line in [format!("CONNECT {target}"), format!("GET http://{target}/bytes/1")] {
        for (login, status) in [(login(&password), 200), (login(&password[..252]), 407)] {
            let mut stream = TcpStream::connect(lan).unwrap();
            let fields = format!("Host: {target}\r\nProxy-Authorization: {login}");
            stream.write_all(format!("{line} HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).unwrap();
            let mut start = [0; 13];
            stream.read_exact(&mut start).unwrap();
            assert_eq!(start, format!("HTTP/1.1 {status} ").as_bytes(), "{line}");
        }
    }
    // And as a local role's login at its remote.
    let pair = Pair::start(&["alice"], &format!("[users.\"{name}\"]\npassword = '{password}'\n"));
    let toml = local_toml(pair.remote.addr("tunnel"), &pair.pin, &name)
        .replace(&format!("\"{PASSWORD}\""), &format!("'{password}'"));
    let local = Proxy::start_in(&pair.remote.folder, "long.toml", &toml);
    connected(&local);
    let address = format!("socks5h://{}", local.addr("local"));
    assert_eq!(curl(&["--proxy", &address, &origin.url("/bytes/10")]).ok().len(), 10);
}
