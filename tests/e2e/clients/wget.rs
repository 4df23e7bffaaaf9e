//! wget, which knows HTTP proxies by http:// only.

use super::{LOGIN, Run, World, client, pattern, run};

fn wget(world: &World, proxy: &str, args: &[&str]) -> Run {
    let mut command = client("wget");
    command.args([
        "--no-config",
        "--no-verbose",
        "--server-response",
        "--tries=1",
        "-O",
        "-",
        "--timeout=20",
    ]);
    command.arg(format!("--ca-certificate={}", world.site.certificate().display()));
    command.env("http_proxy", proxy).env("https_proxy", proxy);
    run(command.args(args))
}

#[test]
fn pages_over_http_and_https_with_and_without_a_login() {
    let world = World::start();
    let bare = format!("http://{}", world.lan.addr("lan"));
    let user = [format!("--proxy-user={}", LOGIN.0), format!("--proxy-password={}", LOGIN.1)];
    let user = [user[0].as_str(), &user[1]];
    for (node, proxy, login) in [
        (&world.pair.remote, world.local("http"), &[][..]),
        (&world.lan, world.lan("http"), &[]),
        (&world.lan, bare, &user),
    ] {
        for url in [world.site.url("/bytes/300000"), world.site.https("/bytes/300000")] {
            let got = world.carried(node, 300_000, || wget(&world, &proxy, &[login, &[&url]].concat()));
            assert!(got.ok() == pattern(300_000), "{proxy} {url}");
        }
        let posted =
            wget(&world, &proxy, &[login, &["--post-data=hello", &world.site.url("/echo")]].concat());
        assert_eq!(posted.text(), "hello", "{proxy}");
    }
}

#[test]
fn a_wrong_login_is_a_407() {
    let world = World::start();
    let proxy = format!("http://bob:wrong@{}", world.lan.addr("lan"));
    for url in [world.site.url("/"), world.site.https("/")] {
        let refused = wget(&world, &proxy, &[&url]);
        assert!(
            refused.code != 0 && refused.err.contains("Proxy Authentication Required"),
            "{url}: {}",
            refused.err
        );
    }
    assert_eq!(world.site.connections(), 0);
}
