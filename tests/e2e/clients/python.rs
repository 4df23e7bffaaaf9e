//! Python: requests with PySocks, httpx, aiohttp, aiohttp-socks.

use super::{Run, World, client, missing, run, scripts};

fn visit(world: &World, library: &str, proxy: &str) -> Run {
    let python = scripts().join(".venv/bin/python");
    if !python.is_file() {
        missing("Python's virtual environment with its HTTP clients");
    }
    let site = &world.site;
    let mut command = client("env");
    command.arg(python).arg(scripts().join("visit.py")).args([library, proxy]);
    command.args([site.url(""), site.https(""), site.six("")]).arg(world.certificates());
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
    }
}

#[test]
fn requests_and_pysocks() {
    ways(
        "requests",
        &["socks5", "socks5h", "socks4", "socks4a", "http"],
        &["socks5", "socks5h", "http"],
        true,
    );
}

#[test]
fn httpx() {
    ways("httpx", &["socks5", "socks5h", "http"], &["socks5", "http"], true);
}

#[test]
fn aiohttp() {
    ways("aiohttp", &["http"], &["http"], true);
}

#[test]
fn aiohttp_socks() {
    ways("aiohttp-socks", &["socks5", "socks4", "http"], &["socks5", "http"], false);
}
