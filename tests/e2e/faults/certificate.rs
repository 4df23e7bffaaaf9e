//! The remote's certificate changes under its local roles.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::support::proxy::{certificate, connected, local_toml};
use crate::support::traffic::{Bulk, Flow};
use crate::support::wait::until_within;
use crate::support::{Origin, Pair, Proxy, curl, until};

use super::{is_counted, moves, serves};

#[test]
fn a_new_certificate_is_shown_and_an_old_pin_is_told() {
    let (origin, bulk) = (Origin::start(), Bulk::start());
    let pair = Pair::start(&["alice --down 8Mbit/s"], "");
    let flow = Flow::down(pair.addr(), bulk.source);
    let folder = pair.remote.folder.clone();
    let files = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let old = files.clone().map(|file| std::fs::read(file).unwrap());
    let pin = certificate(folder.path());
    let server = pair.remote.addr("tunnel");
    until("the new pin is trusted", || {
        let local = Proxy::start_in(&folder, "new.toml", &local_toml(server, &pin, "alice"));
        let state = until("an outcome", || {
            let tunnel = local.stats()["tunnel"].clone();
            (tunnel["state"] == "connected" || !tunnel["error"].is_null()).then_some(tunnel)
        });
        if state["state"] != "connected" {
            return None;
        }
        serves(local.addr("local"), &origin.url("/bytes/10"));
        Some(())
    });
    // Open links are not asked again.
    moves(&flow.received);
    serves(pair.addr(), &origin.url("/bytes/10"));
    let stale = Proxy::start_in(&folder, "stale.toml", &local_toml(server, &pair.pin, "alice"));
    let error = until("the status says so", || {
        let error = stale.stats()["tunnel"]["error"].clone();
        (!error.is_null()).then_some(error)
    });
    assert_eq!(error["label"], "certificate", "{error}");
    assert!(error["message"].as_str().unwrap().contains(&pin), "it tells the key it saw: {error}");
    let proxy = format!("socks5h://{}", stale.addr("local"));
    assert_eq!(
        curl(&["--proxy", &proxy, &origin.url("/bytes/10")]).code,
        97,
        "refused at once, as SOCKS says it"
    );
    for (file, text) in files.iter().zip(old) {
        std::fs::write(file, text).unwrap();
    }
    until_within(Duration::from_secs(40), "it recovers unaided", || {
        (stale.stats()["tunnel"]["state"] == "connected").then_some(())
    });
    connected(&pair.local);
    serves(stale.addr("local"), &origin.url("/bytes/10"));
    assert!(!flow.has_ended());
    is_counted(&pair, flow.received.load(Relaxed));
}
