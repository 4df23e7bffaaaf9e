//! The address of an interface goes and comes back, under listeners and sessions.

use std::time::Duration;

use crate::support::namespace::inside;
use crate::support::proxy::{
    PASSWORD, certificate, command_with, connected, folder, local_toml, remote_toml,
};
use crate::support::traffic::{Bulk, Flow};
use crate::support::wait::until_within;
use crate::support::{Origin, Proxy, until};

use super::{counted, ip, moves, serves, stored};

const SETUP: &str = "ip addr add 192.0.2.1/32 dev lo";

#[test]
#[ignore = "root: an interface of its own"]
fn an_address_that_goes_and_comes_back_is_served_again_without_a_hand() {
    let name = "faults::interface::an_address_that_goes_and_comes_back_is_served_again_without_a_hand";
    if !inside(name, SETUP) {
        return;
    }
    let (origin, bulk) = (Origin::start(), Bulk::start());
    let folder = folder();
    let pin = certificate(folder.path());
    let database = folder.path().join("swiftproxy.db");
    let store = format!("sqlite://{}", database.display());
    let user = ["user", "add", "alice", "--down", "8Mbit/s", "--password-stdin", "--store", &store];
    assert!(command_with(&user, PASSWORD).0);
    let toml = remote_toml().replacen(
        "[listeners.tunnel]\nbind = \"127.0.0.1:0\"",
        "[listeners.tunnel]\nbind = \"192.0.2.1:0\"",
        1,
    );
    assert!(toml.contains("192.0.2.1"));
    let remote = Proxy::start_in(&folder, "remote.toml", &toml);
    let local = Proxy::start_in(&folder, "local.toml", &local_toml(remote.addr("tunnel"), &pin, "alice"));
    connected(&local);
    let flow = Flow::down(local.addr("local"), bulk.source);
    moves(&flow.received);
    ip(&["addr", "del", "192.0.2.1/32", "dev", "lo"]);
    // Nothing reaches it any more, and nothing says so: it is found silent.
    until_within(Duration::from_secs(30), "the status says so", || {
        (local.stats()["tunnel"]["state"] == "connecting").then_some(())
    });
    assert_eq!(remote.stats()["store"]["state"], "ok");
    ip(&["addr", "add", "192.0.2.1/32", "dev", "lo"]);
    until_within(Duration::from_secs(20), "it is connected again", || {
        (local.stats()["tunnel"]["state"] == "connected").then_some(())
    });
    serves(local.addr("local"), &origin.url("/bytes/10"));
    let again = Flow::down(local.addr("local"), bulk.source);
    moves(&again.received);
    let so_far = counted(&remote, "alice");
    until("it is stored", || (stored(&database) >= so_far).then_some(()));
    drop((flow, again));
    until_within(Duration::from_secs(60), "no session is left over", || {
        (remote.stats()["sessions"]["open"] == 0).then_some(())
    });
}
