//! Java: HttpClient at HTTP proxies, URLConnection at SOCKS proxies.

use std::net::SocketAddr;

use super::{LOGIN, Run, World, client, run, scripts};

fn visit(world: &World, kind: &str, proxy: SocketAddr, login: (&str, &str)) -> Run {
    let mut command = client("java");
    // Basic is switched off for CONNECT by default; the compiler is in the way of nothing else.
    command.args(["-Djdk.http.auth.tunneling.disabledSchemes=", "-Djava.net.useSystemProxies=false"]);
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]).arg(scripts().join("Visit.java"));
    command.args([kind, &proxy.ip().to_string(), &proxy.port().to_string(), login.0, login.1]);
    let site = &world.site;
    command.args([site.url(""), site.https(""), site.six("")]).arg(site.certificate());
    run(&mut command)
}

#[test]
fn http_client_and_url_connection() {
    let world = World::start();
    let (local, lan) = (world.pair.addr(), world.lan.addr("lan"));
    for kind in ["http", "socks"] {
        world.carried(&world.pair.remote, 2_500_000, || visit(&world, kind, local, ("", "")).ok());
        world.carried(&world.lan, 2_500_000, || visit(&world, kind, lan, LOGIN).ok());
        let before = world.site.connections();
        let wrong = visit(&world, kind, lan, ("bob", "wrong"));
        assert_ne!(wrong.code, 0, "{kind}");
        assert!(wrong.err.contains("authentication"), "{kind}: {}", wrong.err);
        assert_eq!(world.site.connections(), before);
    }
}
