//! Node: undici, the proxy agents, and its own HTTP/2 straight at the remote.

use super::{Run, World, client, missing, run, scripts};

fn visit(world: &World, library: &str, proxy: &str) -> Run {
    if !scripts().join("node_modules/undici").is_dir() {
        missing("Node's undici, and what goes with it,");
    }
    let site = &world.site;
    let mut command = client("node");
    command.arg(scripts().join("visit.mjs")).args([library, proxy]);
    command.args([site.url(""), site.https(""), site.six("")]);
    command.env("NODE_EXTRA_CA_CERTS", world.certificates());
    run(&mut command)
}

/// Each way that a library knows, and a wrong login where there is one.
fn ways(library: &str, local: &[&str], lan: &[&str], remote: bool) {
    let world = World::start();
    let at_least = 1_500_000;
    for scheme in local {
        let visit = || visit(&world, library, &world.local(scheme)).ok();
        world.carried(&world.pair.remote, at_least, visit);
    }
    for scheme in lan {
        world.carried(&world.lan, at_least, || visit(&world, library, &world.lan(scheme)).ok());
        let before = world.site.connections();
        let wrong = format!("{scheme}://bob:wrong@{}", world.lan.addr("lan"));
        let refused = visit(&world, library, &wrong);
        assert!(refused.err.contains("refused"), "{library}, {scheme}: {}", refused.err);
        assert_eq!(world.site.connections(), before);
    }
    if remote {
        world.carried(&world.pair.remote, at_least, || visit(&world, library, &world.remote()).ok());
        let wrong = format!("https://bob:wrong@{}", world.pair.remote.addr("tunnel"));
        let refused = visit(&world, library, &wrong);
        assert!(refused.err.contains("refused"), "{library}: {}", refused.err);
    }
}

#[test]
fn undici() {
    ways("undici", &["http"], &["http"], true);
}

#[test]
fn socks_proxy_agent() {
    ways("socks", &["socks5", "socks5h", "socks4", "socks4a"], &["socks5", "socks5h"], false);
}

#[test]
fn https_proxy_agent() {
    ways("https", &["http"], &["http"], true);
}

#[test]
fn http_proxy_agent() {
    ways("http", &["http"], &["http"], true);
}

#[test]
fn http2_straight_at_the_remote() {
    ways("http2", &[], &[], true);
}
