//! curl, in what `detect` has not shown yet: logins, and the less usual requests.

use super::{LOGIN, LOGIN_IN_URL, World, pattern};
use crate::support::curl;

/// Every scheme with what it needs to get at a listener: through the pair, and with a login.
fn ways(world: &World) -> Vec<Vec<String>> {
    let mut ways = Vec::new();
    for scheme in ["socks5", "socks5h", "socks4", "socks4a", "http"] {
        ways.push(vec![world.local(scheme)]);
    }
    let lan = world.lan.addr("lan");
    let user = format!("{}:{}", LOGIN.0, LOGIN.1);
    for scheme in ["socks5", "socks5h", "http"] {
        ways.push(vec![world.lan(scheme)]);
        ways.push(vec![format!("{scheme}://{lan}"), "--proxy-user".into(), user.clone()]);
        ways.push(vec![format!("{scheme}://{lan}"), "--proxy-user".into(), "søren:smørrebrød".into()]);
    }
    for scheme in ["socks5", "socks5h"] {
        ways.push(vec![world.lan(scheme), "--socks5-basic".into()]);
    }
    for how in ["--proxy-anyauth", "--proxy-basic"] {
        ways.push(vec![world.lan("http"), how.into()]);
    }
    let certificate = world.remote_certificate().display().to_string();
    let remote = [world.remote(), "--proxy-cacert".into(), certificate];
    ways.push(remote.to_vec());
    for how in ["--proxy-anyauth", "--proxy-basic"] {
        ways.push([&remote[..], &[how.into()]].concat());
    }
    ways
}

#[test]
fn every_way_in_carries_every_request() {
    let world = World::start();
    let trust = world.site.certificate().display().to_string();
    for way in ways(&world) {
        let mut args: Vec<&str> = vec!["--noproxy", "", "--cacert", &trust, "--proxy"];
        args.extend(way.iter().map(String::as_str));
        let run = |more: &[&str]| curl(&[&args[..], more].concat());
        let text = |more: &[&str]| String::from_utf8(run(more).ok()).unwrap();
        for tunnel in [&[][..], &["--proxytunnel"]] {
            let run = |more: &[&str]| run(&[tunnel, more].concat());
            let text = |more: &[&str]| text(&[tunnel, more].concat());
            assert!(run(&[&world.site.url("/bytes/200000")]).ok() == pattern(200_000), "{way:?}");
            let part = run(&["--range", "65530-65540", &world.site.url("/bytes/200000")]).ok();
            assert_eq!(part, pattern(65_541)[65_530..], "{way:?}: a range");
            let head = text(&["--head", &world.site.url("/bytes/123456")]);
            assert!(head.to_lowercase().contains("content-length: 123456"), "{way:?}: {head}");
            let empty = text(&["--include", &world.site.url("/status/204")]);
            assert!(empty.contains("HTTP/1.1 204"), "{way:?}: {empty}");
            let chunked = run(&["--include", &world.site.url("/chunked/100000")]).ok();
            assert!(chunked.ends_with(&pattern(100_000)), "{way:?}: chunks and a trailer");
            let big = "x".repeat(100_000);
            let sent = text(&["--header", "Expect: 100-continue", "--data", &big, &world.site.url("/echo")]);
            assert!(sent == big, "{way:?}: an upload that waits for 100");
            let urls = [world.site.url("/count"), world.site.url("/count"), world.site.url("/count")];
            // With --proxy-anyauth curl asks without a login each time, and a refusal ends the origin's connection.
            let asks = way.iter().any(|arg| arg == "--proxy-anyauth") && tunnel.is_empty();
            let kept = if asks { "1\n1\n1\n" } else { "1\n2\n3\n" };
            assert_eq!(text(&[&urls[0], &urls[1], &urls[2]]), kept, "{way:?}: kept alive");
        }
        assert!(run(&[&world.site.https("/bytes/200000")]).ok() == pattern(200_000), "{way:?}: https");
        let (url, six) = (world.site.url("/bytes/5"), world.site.https("/bytes/5"));
        assert_eq!(run(&[&url, &six, &url, &six]).ok().len(), 20, "{way:?}: origins in turn");
        // SOCKS4 has no room for an IPv6 address, SOCKS4a sends the literal as a name.
        if !way[0].starts_with("socks4") {
            assert!(
                run(&["--globoff", &world.site.six("/bytes/70000")]).ok() == pattern(70_000),
                "{way:?}: IPv6"
            );
        }
        let headers = text(&[&world.site.url("/headers")]).to_lowercase();
        assert!(!headers.contains("proxy-"), "{way:?}: {headers}");
    }
}

#[test]
fn uploads_from_standard_input_come_whole() {
    let world = World::start();
    let body = pattern(3 << 20);
    let file = world.pair.remote.folder.path().join("upload");
    std::fs::write(&file, &body).unwrap();
    for proxy in [world.local("http"), world.local("socks5h"), world.lan("http")] {
        for how in [&["--header", "Transfer-Encoding: chunked"][..], &["--header", "Expect:"], &[]] {
            let upload = ["--proxy", &proxy, "--upload-file", file.to_str().unwrap()];
            let echoed = curl(&[&upload[..], how, &[&world.site.url("/echo")]].concat());
            assert!(echoed.ok() == body, "{proxy}, {how:?}");
        }
    }
}

#[test]
fn a_wrong_login_is_told_and_opens_nothing() {
    let world = World::start();
    let (lan, remote) = (world.lan.addr("lan"), world.pair.remote.addr("tunnel"));
    for login in ["bob:wrong@", "nobody:x@", "bob@", ""] {
        for proxy in [format!("http://{login}{lan}"), format!("https://{login}{remote}")] {
            let args = ["--proxy", &proxy, "--proxy-insecure", "--insecure", "--include"];
            let said = curl(&[&args[..], &[&world.site.url("/")]].concat()).ok();
            assert!(said.starts_with(b"HTTP/1.1 407"), "{proxy}: {}", String::from_utf8_lossy(&said));
            let connect = curl(&[&args[..], &[&world.site.https("/")]].concat());
            assert_eq!(connect.code, 56, "{proxy}: {}", connect.said);
            assert!(connect.said.contains("407"), "{proxy}: {}", connect.said);
        }
        let socks = curl(&["--proxy", &format!("socks5h://{login}{lan}"), &world.site.url("/")]);
        assert_eq!(socks.code, 97, "{login}: {}", socks.said);
    }
    for scheme in ["socks4", "socks4a"] {
        let socks = curl(&["--proxy", &format!("{scheme}://{LOGIN_IN_URL}@{lan}"), &world.site.url("/")]);
        assert_eq!(socks.code, 97, "{scheme}: {}", socks.said);
    }
    assert_eq!(world.site.connections(), 0);
}
