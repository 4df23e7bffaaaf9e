//! Chromium and Firefox as they are told of a proxy: pages, uploads, a WebSocket, 100 MB, and who is asked for a login.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{LOGIN, Run, World, client, missing, program, run, scripts};
use crate::support::Proxy;
use crate::support::proxy::request;
use crate::support::wait::pause;

/// A page with twenty parts, and a link to a file of 100 MB.
fn page(world: &World) {
    let parts: String = (0..20).map(|at| format!("<script src=\"part.js?{at}\"></script>")).collect();
    let page = format!(
        "<!doctype html><title>A page</title><link rel=\"icon\" href=\"data:,\"><body data-parts=\"0\">{parts}\
         <a id=\"big\" href=\"/bytes/100000000\" download=\"big\">big</a></body>"
    );
    std::fs::write(world.site.files().join("page.html"), page).unwrap();
    let part = "document.body.dataset.parts = String(Number(document.body.dataset.parts) + 1);";
    std::fs::write(world.site.files().join("part.js"), part).unwrap();
}

fn browse(world: &World, browser: &str, proxy: &str, login: (&str, &str)) -> Run {
    if !scripts().join("node_modules/playwright-core").is_dir() {
        missing("Node's playwright-core");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = client("node");
    // Debian's name for Firefox carries its edition, the script's does not.
    let script = scripts().join(format!("{}.mjs", browser.trim_end_matches("-esr")));
    command.arg(script).arg(program(browser)).arg(folder.path()).args([proxy, login.0, login.1]);
    command.args([world.site.url(""), world.site.https("")]).env("HOME", folder.path());
    run(&mut command)
}

/// Through the pair, and at the listener with logins.
fn by_the_pair_and_with_a_login(world: &World, browser: &str) {
    page(world);
    let at_least = 200_000_000;
    for scheme in ["http", "socks5"] {
        let browse = || browse(world, browser, &world.local(scheme), ("", "")).ok();
        world.carried(&world.pair.remote, at_least, browse);
    }
    let lan = format!("http://{}", world.lan.addr("lan"));
    world.carried(&world.lan, at_least, || browse(world, browser, &lan, LOGIN).ok());
}

/// Straight at the remote, over HTTP/2.
fn at_the_remote(world: &World, browser: &str, at_least: u64) {
    let remote = format!("https://{}", world.pair.remote.addr("tunnel"));
    let spoken = spoken(&world.pair.remote);
    world.carried(&world.pair.remote, at_least, || browse(world, browser, &remote, LOGIN).ok());
    assert!(spoken.lock().unwrap().iter().any(|word| word == "h2"), "{spoken:?}");
}

/// Which protocols open sessions speak while somebody holds on to the answer.
fn spoken(node: &Proxy) -> Arc<Mutex<BTreeSet<String>>> {
    let (api, spoken) = (node.api(), Arc::<Mutex<BTreeSet<String>>>::default());
    let kept = Arc::downgrade(&spoken);
    std::thread::spawn(move || {
        while let Some(kept) = kept.upgrade() {
            let (_, body) = request(api, "GET", "/v1/sessions", &[("Authorization", "Bearer s3cret")], "");
            let sessions: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            let all = sessions["sessions"].as_array().into_iter().flatten();
            let words = all.filter_map(|session| session["protocol"].as_str().map(str::to_owned));
            kept.lock().unwrap().extend(words);
            drop(kept);
            pause(Duration::from_millis(20));
        }
    });
    spoken
}

#[test]
#[ignore = "slow: browsers"]
fn chromium() {
    let world = World::start();
    by_the_pair_and_with_a_login(&world, "chromium");
    at_the_remote(&world, "chromium", 200_000_000);
}

#[test]
#[ignore = "slow: browsers"]
fn firefox() {
    let world = World::start();
    by_the_pair_and_with_a_login(&world, "firefox-esr");
    at_the_remote(&world, "firefox-esr", 100_000_000);
}
