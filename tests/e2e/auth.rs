//! Who is it.

use crate::support::{Origin, Proxy, curl};

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
