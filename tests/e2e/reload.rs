//! The file is changed while it runs.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::traffic::{Bulk, Flow};
use crate::support::{Origin, Pair, Proxy, curl, until};

#[test]
fn a_broken_file_changes_nothing_and_says_why() {
    let origin = Origin::start();
    let bulk = Bulk::start();
    let pair = Pair::start(&["alice --down 8Mbit/s"], "");
    let flow = Flow::down(pair.addr(), bulk.source);
    pair.remote.edit(|text| text.replace("[layers.acl]", "[layers.acl]\nalow = 1"));
    let line = pair.remote.logged("rejected");
    assert!(line.contains("remote.toml:") && line.contains("layers.acl.alow"), "{line}");
    assert_eq!(pair.remote.stats()["config"]["outcome"], "rejected");
    let proxy = format!("socks5h://{}", pair.addr());
    assert_eq!(curl(&["--proxy", &proxy, &origin.url("/bytes/10")]).ok().len(), 10);
    pair.remote.edit(|text| text.replace("\nalow = 1", ""));
    pair.remote.logged("configuration reloaded");
    assert!(!flow.has_ended());
}

#[test]
fn listeners_come_and_go_and_the_others_stay() {
    let origin = Origin::start();
    let bulk = Bulk::start();
    let pair = Pair::start(&["alice"], "");
    let flow = Flow::down(pair.addr(), bulk.source);
    let tunnel = pair.remote.addr("tunnel");
    pair.remote.edit(|text| {
        text + "\n[listeners.second]\nbind = \"127.0.0.1:0\"\nstack = [\"plain\", \"auth\", \"acl\"]\nrelay = \"direct\"\n\
                [layers.plain]\nkind = \"detect\"\n"
    });
    let second = pair.remote.addr("second");
    let proxy = format!("socks5h://{second}");
    let user = ["--proxy-user", "alice:correct horse"];
    let url = origin.url("/bytes/10");
    assert_eq!(curl(&[&["--proxy", &proxy][..], &user, &[&url]].concat()).ok().len(), 10);
    pair.remote.edit(|text| text.split("\n[listeners.second]").next().unwrap().to_owned());
    pair.remote.logged("no longer listening");
    until("it is closed", || std::net::TcpStream::connect(second).is_err().then_some(()));
    assert_eq!(pair.remote.addr("tunnel"), tunnel);
    assert!(!flow.has_ended(), "nothing that it does not concern drops");
}

/// A file's users follow it like rows of the store, and what is read only at start is told to be.
#[test]
fn a_users_table_that_is_disabled_or_removed_ends_its_sessions() {
    let bulk = Bulk::start();
    let toml = "[node]\nname = \"t\"\n[api]\nbind = \"127.0.0.1:0\"\nsecret = \"s3cret\"\n\
        [listeners.a]\nbind = \"127.0.0.1:0\"\nstack = [\"detect\", \"auth\", \"acl\", \"ratelimit\"]\nrelay = \"direct\"\n\
        [layers.auth]\nmethod = \"address\"\n[layers.auth.addresses]\n\"127.0.0.0/8\" = \"alice\"\n\
        [layers.acl]\nallow = [\"127.0.0.0/8\"]\n[store]\nurl = \"sqlite://s.db\"\n\
        [users.alice]\ndown = \"8Mbit/s\"\n";
    let proxy = Proxy::start(toml);
    let flow = || Flow::down(proxy.addr("a"), bulk.source);
    let first = flow();
    let start = Instant::now();
    proxy.edit(|text| text + "enabled = false\n");
    until("a disabled user's session ends", || first.has_ended().then_some(()));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    proxy.edit(|text| text.replace("enabled = false\n", ""));
    until("the user is back", || {
        let url = format!("http://{}/", bulk.source);
        let args = [
            "--proxy",
            &format!("http://{}", proxy.addr("a")),
            "-m",
            "1",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url,
        ];
        (String::from_utf8_lossy(&curl(&args).body) != "403").then_some(())
    });
    let second = flow();
    proxy.edit(|text| {
        let kept = text.split("[users.alice]").next().expect("there is a first").to_owned();
        kept.replace(
            "[layers.auth.addresses]\n\"127.0.0.0/8\" = \"alice\"",
            "[layers.auth.addresses]\n\"127.0.0.0/8\" = \"bob\"",
        )
        .replace("[store]\nurl = \"sqlite://s.db\"\n", "")
            + "[users.bob]\n"
    });
    until("a removed user's session ends", || second.has_ended().then_some(()));
    let line = proxy.logged("takes a restart");
    assert!(line.contains("[store]"), "{line}");
}

#[test]
fn a_rule_ends_open_sessions_that_it_denies() {
    let bulk = Bulk::start();
    let pair = Pair::start(&["alice --down 8Mbit/s"], "");
    let (denied, kept) = (Flow::down(pair.addr(), bulk.source), Flow::up(pair.addr(), bulk.sink));
    let port = bulk.source.port();
    pair.remote.edit(|text| {
        text.replace(
            "allow = [\"127.0.0.0/8\", \"::1/128\"]",
            &format!("allow = [\"127.0.0.1:{}\"]", bulk.sink.port()),
        )
    });
    until(&format!("port {port}'s session ends"), || denied.has_ended().then_some(()));
    assert!(!kept.has_ended());
}

#[test]
fn the_cap_on_sessions_follows_the_file() {
    let origin = Origin::start();
    let bulk = Bulk::start();
    let proxy = Proxy::start(
        "[listeners.lan]\nbind = \"127.0.0.1:0\"\nstack = [\"detect\"]\nrelay = \"direct\"\nmax_sessions = 1\n",
    );
    let address = format!("http://{}", proxy.addr("lan"));
    let status = || {
        let url = origin.url("/bytes/10");
        let args = ["--proxy", &address, "-o", "/dev/null", "-w", "%{http_code}", &url];
        String::from_utf8(curl(&args).ok()).unwrap()
    };
    let flow = Flow::down(proxy.addr("lan"), bulk.source);
    assert_eq!(status(), "429");
    proxy.edit(|text| text.replace("max_sessions = 1", "max_sessions = 2"));
    until("another session is let in", || (status() == "200").then_some(()));
    proxy.edit(|text| text.replace("max_sessions = 2", "max_sessions = 1"));
    until("nobody new is let in", || (status() == "429").then_some(()));
    // The node's goes over all listeners' together.
    proxy.edit(|text| text.replace("max_sessions = 1", "") + "[node]\nmax_sessions = 2\n");
    until("the listener has no cap any more", || (status() == "200").then_some(()));
    proxy.edit(|text| text.replace("max_sessions = 2", "max_sessions = 1"));
    until("the node is full", || (status() == "429").then_some(()));
    proxy.edit(|text| text.replace("max_sessions = 1", "max_sessions = 2"));
    until("the node has room", || (status() == "200").then_some(()));
    assert!(!flow.has_ended(), "whoever is in stays");
}
