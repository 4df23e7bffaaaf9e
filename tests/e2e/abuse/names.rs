//! Names that resolve to what may be dialled and to what may not.

use std::net::{SocketAddr, TcpListener};

use crate::support::namespace::inside;
use crate::support::proxy::folder;
use crate::support::{Proxy, curl};

/// An address that is public everywhere else.
const PUBLIC: &str = "93.184.215.14";

const SETUP: &str = r#"
ip addr add 93.184.215.14/32 dev lo
ip addr add 10.1.2.3/32 dev lo
ip -6 addr add fd00::1/128 dev lo
hosts=$(mktemp)
for at in 127.0.0.1 10.1.2.3 fd00::1 ::1 93.184.215.14; do echo "$at both.example" >>"$hosts"; done
for at in 127.0.0.1 10.1.2.3 fd00::1; do echo "$at private.example" >>"$hosts"; done
mount --bind "$hosts" /etc/hosts
"#;

#[test]
#[ignore = "root: a network and a hosts file of its own"]
fn of_a_name_that_is_public_and_private_only_the_public_address_is_dialled() {
    let name = "abuse::names::of_a_name_that_is_public_and_private_only_the_public_address_is_dialled";
    if !inside(name, SETUP) {
        return;
    }
    let toml = r#"
[listeners.plain]
bind = "127.0.0.1:0"
stack = ["detect", "acl"]
relay = "direct"

[layers.acl]
"#;
    let proxy = Proxy::start_in(&folder(), "names.toml", toml);
    let listen = |at, port| {
        let listener = TcpListener::bind((at, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    };
    let public = listen(PUBLIC, 0);
    let port = public.local_addr().unwrap().port();
    let private = ["127.0.0.1", "10.1.2.3", "fd00::1", "::1"].map(|at| listen(at, port));
    let through = |host: &str, most: &str| {
        let proxy = format!("socks5h://{}", proxy.addr("plain"));
        curl(&["--proxy", &proxy, "--max-time", most, &format!("http://{host}:{port}/")])
    };
    for _ in 0..5 {
        // It connects, and waits in vain for an answer.
        assert_eq!(through("both.example", "1").code, 28);
        let (_, from) = public.accept().expect("it was dialled");
        let SocketAddr::V4(from) = from else { panic!("IPv4") };
        assert!(!from.ip().is_unspecified());
    }
    let refused = through("private.example", "5");
    assert_eq!(refused.code, 97, "{}", refused.said);
    drop(public);
    // With nobody at the public one, the others are no way out.
    let refused = through("both.example", "5");
    assert_eq!(refused.code, 97, "{}", refused.said);
    for listener in private {
        assert!(listener.accept().is_err(), "{:?} was dialled", listener.local_addr());
    }
}
