//! The local role as a GUI's back end, and what it does when the remote goes away.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::faults::{Download, Source, moves};
use crate::support::proxy::{PASSWORD, connected, request};
use crate::support::traffic::socks5;
use crate::support::{Origin, Pair, Proxy, curl, until};

const SECRET: (&str, &str) = ("Authorization", "Bearer s3cret");

fn post(local: &Proxy, path: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
    let headers = [SECRET, ("Content-Type", "application/json")];
    let (status, body) = request(local.api(), "POST", path, &headers, &body.to_string());
    (status, serde_json::from_str(&body).unwrap_or_default())
}

#[test]
fn login_by_the_api_tells_what_is_wrong() {
    let origin = Origin::start();
    let pair = Pair::start(&["alice", "bob"], "");
    assert!(crate::support::proxy::command(&["user", "set", "bob", "--disable", "--store", &pair.store()]).0);
    let toml = std::fs::read_to_string(pair.local.file()).unwrap();
    let local = Proxy::start(toml.split("[relays.tunnel]").next().unwrap());
    assert_eq!(local.stats()["tunnel"]["state"], "disconnected");
    let server = pair.remote.addr("tunnel").to_string();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let login = |server: &str, user: &str, password: &str, pin: &str| serde_json::json!({ "server": server, "username": user, "password": password, "pin": pin });
    let wrong_pin = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (body, label) in [
        (login(&server, "alice", "wrong", &pair.pin), "auth_failed"),
        (login(&server, "alice", PASSWORD, wrong_pin), "certificate"),
        (login(&closed, "alice", PASSWORD, &pair.pin), "unreachable"),
        (login("", "alice", PASSWORD, &pair.pin), "bad_request"),
    ] {
        let (status, answer) = post(&local, "/v1/tunnel/connect", &body);
        assert!(status >= 400, "{label}: {answer}");
        assert_eq!(answer["error"], label, "{answer}");
        assert!(answer["message"].as_str().unwrap().len() > 10, "{answer}");
    }
    until("bob's row is seen as disabled", || {
        let (_, answer) = post(&local, "/v1/tunnel/connect", &login(&server, "bob", PASSWORD, &pair.pin));
        (answer["error"] == "account_disabled").then_some(())
    });
    let (status, answer) = post(&local, "/v1/tunnel/connect", &login(&server, "alice", PASSWORD, &pair.pin));
    assert_eq!((status, &answer["state"]), (200, &"connected".into()), "{answer}");
    let proxy = format!("socks5h://{}", local.addr("local"));
    assert_eq!(curl(&["--proxy", &proxy, &origin.url("/bytes/10")]).ok().len(), 10);
    assert_eq!(post(&local, "/v1/tunnel/disconnect", &serde_json::json!({})).0 / 100, 2);
    assert_ne!(curl(&["--proxy", &proxy, &origin.url("/bytes/10")]).code, 0);
}

#[test]
fn a_killed_remote_ends_downloads_and_is_found_again() {
    let origin = Origin::start();
    let source = Source::start();
    let pair = Pair::start(&["alice"], "");
    let bound = pair.remote.addr("tunnel");
    let download = Download::of(socks5(pair.addr(), source.addr));
    moves(&download.received);
    let Pair { remote, local, .. } = pair;
    let (folder, file) = (remote.folder.clone(), remote.file().to_owned());
    remote.kill();
    let (end, received) = download.end(Duration::from_secs(20));
    assert!(end.is_err(), "half a download is no whole one: {end:?}");
    let counted = local.stats()["total"]["down"].as_u64().unwrap();
    let sent = source.sent.load(Relaxed);
    assert!(received <= counted && counted <= sent, "{received}, {counted}, {sent}");
    until("the status says so", || (local.stats()["tunnel"]["state"] == "connecting").then_some(()));
    let set = format!("listeners.tunnel.bind={bound}");
    let again = Proxy::run(&folder, file, &["--set", &set]);
    connected(&local);
    let proxy = format!("socks5h://{}", local.addr("local"));
    assert_eq!(curl(&["--proxy", &proxy, &origin.url("/bytes/10")]).ok().len(), 10);
    drop(again);
}

/// The remote's refusal of the local role's own login must not make a browser ask a person for a password.
#[test]
fn a_wrong_login_of_the_local_role_is_no_407() {
    let origin = Origin::start();
    let pair = Pair::start(&["alice"], "");
    let args = ["user", "passwd", "alice", "--password-stdin", "--store", &pair.store()];
    assert!(crate::support::proxy::command_with(&args, "changed").0);
    let proxy = format!("http://{}", pair.addr());
    until("the old login is refused", || {
        let said =
            String::from_utf8_lossy(&curl(&["--proxy", &proxy, "-i", &origin.url("/")]).body).into_owned();
        assert!(!said.starts_with("HTTP/1.1 407"), "{said}");
        (said.starts_with("HTTP/1.1 502") || said.starts_with("HTTP/1.1 503")).then_some(())
    });
}
