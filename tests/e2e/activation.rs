//! Sockets that were open before the process was (systemd's socket activation).

use std::net::TcpListener;

use crate::support::proxy::folder;
use crate::support::{Origin, Proxy, curl, until};

fn toml(bind: &str) -> String {
    format!("[listeners.lan]\nbind = \"{bind}\"\nstack = [\"detect\"]\nrelay = \"direct\"\n")
}

/// Whoever holds the socket holds its port, so it is served by that socket or not at all.
#[test]
fn a_socket_that_was_handed_over_is_served_and_found_again_after_reloads() {
    let origin = Origin::start();
    let folder = folder();
    let file = folder.path().join("c.toml");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = socket.try_clone().unwrap();
    let addr = socket.local_addr().unwrap();
    std::fs::write(&file, toml(&addr.to_string())).unwrap();
    let proxy = Proxy::activated(&folder, file, "lan", socket);
    let served = || {
        let url = origin.url("/bytes/10");
        assert_eq!(curl(&["--proxy", &format!("http://{addr}"), &url]).ok().len(), 10);
    };
    assert_eq!(proxy.addr("lan"), addr);
    served();
    proxy.edit(|text| text.replace(&addr.to_string(), "127.0.0.1:0"));
    proxy.logged("rejected");
    proxy.edit(|text| text.replace("[listeners.lan]", "[listeners.other]"));
    until("it is on another port", || (proxy.addr("other") != addr).then_some(()));
    proxy.edit(|text| text.replace("127.0.0.1:0", &addr.to_string()));
    until("it is back", || (proxy.addr("other") == addr).then_some(()));
    served();
    drop(held);
}

#[test]
fn a_name_whose_address_disagrees_is_an_error_at_start() {
    let folder = folder();
    let file = folder.path().join("c.toml");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    std::fs::write(&file, toml("127.0.0.1:0")).unwrap();
    let (status, log) = Proxy::activated(&folder, file, "lan", socket).wait();
    assert!(!status.success());
    assert!(log.contains("c.toml:2: listeners.lan.bind: ") && log.contains(&addr.to_string()), "{log}");
}
