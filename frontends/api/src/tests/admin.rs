//! What runs, who is here, and ending it.

use serde_json::json;
use swiftproxy_core::cancel::Reason;
use swiftproxy_core::connection::Connection;
use swiftproxy_core::listener::Assembled;
use swiftproxy_core::meter::Direction;
use swiftproxy_core::stack::Front;
use swiftproxy_core::status::Reload;

use super::*;

const SECRET: &str = "Authorization: Bearer s3cret";

#[tokio::test]
async fn the_configuration_that_runs() {
    let running = start(None);
    let listener = Listener::new(&running.node, "local");
    running.node.set_listeners(vec![listener.clone()]);
    listener.swap(Assembled {
        front: Front::new(tower::service_fn(async |_: Connection| Ok(()))),
        stack: listener.following(),
        rechecks: Vec::new(),
        names: ["detect", "stats", "direct"].map(str::to_owned).to_vec(),
    });
    let answer = ask(running.addr, "GET /v1/config", &[], "").await.json();
    assert_eq!(
        answer,
        json!({
            "listeners": [{ "name": "local", "stack": ["detect", "stats"], "relay": "direct" }],
            "reload": { "outcome": null, "time": null, "errors": [] },
        })
    );
    running.node.health.set_reload(Reload::Rejected(vec!["local.toml:3: no".into()]));
    let answer = ask(running.addr, "GET /v1/config", &[], "").await.json();
    assert_eq!(answer["reload"]["outcome"], "rejected");
    assert_eq!(answer["reload"]["errors"], json!(["local.toml:3: no"]));
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let running = start(Some("s3cret"));
    let listener = Listener::new(&running.node, "local");
    let (alice, bob) = (add_account(&running.node, "alice"), add_account(&running.node, "bob"));
    let first = admit(&listener, Some(&alice));
    let second = admit(&listener, Some(&bob));
    let third = admit(&listener, None);
    first.meter.count(Direction::Up, 5);

    let answer = ask(running.addr, "GET /v1/sessions", &[SECRET], "").await.json();
    assert_eq!(answer["total"], 3);
    let ids: Vec<_> = answer["sessions"].as_array().unwrap().iter().map(|s| s["id"].clone()).collect();
    assert_eq!(ids, [3, 2, 1]);
    let oldest = &answer["sessions"][2];
    for (key, value) in [
        ("client", json!("127.0.0.1:4000")),
        ("listener", json!("local")),
        ("protocol", json!("socks5")),
        ("target", json!("example.com:80")),
        ("account", json!("alice")),
        ("dialled", json!(null)),
        ("up", json!(5)),
        ("down", json!(0)),
    ] {
        assert_eq!(oldest[key], value, "{key}");
    }
    let answer = ask(running.addr, "GET /v1/sessions?limit=1", &[SECRET], "").await.json();
    assert_eq!((answer["total"].as_u64(), answer["sessions"].as_array().unwrap().len()), (Some(3), 1));
    let answer = ask(running.addr, "GET /v1/sessions?account=bob", &[SECRET], "").await.json();
    assert_eq!((answer["total"].as_u64(), &answer["sessions"][0]["id"]), (Some(1), &json!(2)));
    let answer = ask(running.addr, "GET /v1/sessions?limit=x", &[SECRET], "").await;
    assert_eq!((answer.status, answer.label().as_str()), (400, "bad_request"));

    let answer = ask(running.addr, "DELETE /v1/sessions/2", &[SECRET], "").await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "ended": 1 })));
    assert_eq!(second.live().cancel.reason(), Some(Reason::Kicked));
    assert_eq!(first.live().cancel.reason(), None);

    let answer = ask(running.addr, "POST /v1/users/alice/kick", &[SECRET], "").await;
    assert_eq!(answer.json(), json!({ "ended": 1 }));
    assert_eq!(first.live().cancel.reason(), Some(Reason::Kicked));
    assert_eq!(third.live().cancel.reason(), None);
    drop(first);
    let answer = ask(running.addr, "POST /v1/users/alice/kick", &[SECRET], "").await;
    assert_eq!(answer.json(), json!({ "ended": 0 }));

    for line in [
        "DELETE /v1/sessions/99",
        "DELETE /v1/sessions/x",
        "DELETE /v1/sessions/99999999999999999999999",
        "DELETE /v1/sessions/-1",
        "POST /v1/users/carol/kick",
        "POST /v1/users/%ff/kick",
    ] {
        let answer = ask(running.addr, line, &[SECRET], "").await;
        assert_eq!((answer.status, answer.label().as_str()), (404, "not_found"), "{line}");
    }
}

#[tokio::test]
async fn a_name_in_any_letters_is_found() {
    let running = start(Some("s3cret"));
    add_account(&running.node, "jürgen/ 1");
    let answer = ask(running.addr, "POST /v1/users/j%C3%BCrgen%2F%201/kick", &[SECRET], "").await;
    assert_eq!(answer.json(), json!({ "ended": 0 }), "{answer:?}");
}
