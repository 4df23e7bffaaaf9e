//! `[api]` when its table changes.

use std::sync::Mutex;

use futures_util::StreamExt;
use swiftproxy_core::config::{Config, Sources};
use swiftproxy_core::server::Follower;

use super::*;
use crate::follow::Check;

fn change(api: &Arc<Api>, config: &ApiConfig) {
    api.prepare(config, &mut |error| panic!("{error}")).unwrap()();
}

#[tokio::test]
async fn a_secret_changes_in_place_and_ends_who_came_by_the_old() {
    let running = start(Some("old"));
    let mut client = websocket(running.addr, "/v1/stats?token=old", &[]).await.unwrap();
    assert!(client.next().await.unwrap().unwrap().is_text());
    // The same table again disturbs nobody.
    change(&running.api, &table(Some("old")));
    assert_eq!(running.api.local_addr(), Some(running.addr));
    assert!(client.next().await.unwrap().unwrap().is_text());
    change(&running.api, &table(Some("new")));
    assert_eq!(running.api.local_addr(), Some(running.addr));
    while let Some(Ok(message)) = client.next().await {
        assert!(message.is_close(), "{message:?}");
    }
    for (secret, status) in [("old", 401), ("new", 200)] {
        let header = format!("Authorization: Bearer {secret}");
        assert_eq!(ask(running.addr, "GET /v1/stats", &[&header], "").await.status, status, "{secret}");
    }
}

#[tokio::test]
async fn an_address_moves_goes_and_comes() {
    let running = start(None);
    let told = Arc::new(Mutex::new(Vec::new()));
    running.api.on_bind({
        let told = told.clone();
        move |addr| told.lock().unwrap().push(addr)
    });
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = free.local_addr().unwrap();
    let moved = ApiConfig { bind: Some(other), ..table(None) };
    let mut errors = Vec::new();
    assert!(running.api.prepare(&moved, &mut |error| errors.push(error)).is_none());
    assert_eq!((errors[0].key.as_str(), errors.len()), ("api.bind", 1), "{errors:?}");
    assert_eq!(ask(running.addr, "GET /v1/config", &[], "").await.status, 200);
    drop(free);
    change(&running.api, &moved);
    assert_eq!(ask(other, "GET /v1/config", &[], "").await.status, 200);
    assert_eq!(*told.lock().unwrap(), [running.addr, other]);
    change(&running.api, &ApiConfig::default());
    assert_eq!(running.api.local_addr(), None);
    while TcpStream::connect(other).await.is_ok() {
        tokio::task::yield_now().await;
    }
    change(&running.api, &moved);
    assert_eq!(ask(other, "GET /v1/config", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_wrong_table_changes_nothing() {
    let running = start(None);
    let open = ApiConfig { bind: Some("0.0.0.0:0".parse().unwrap()), ..table(None) };
    let mut errors = Vec::new();
    assert!(running.api.prepare(&open, &mut |error| errors.push(error)).is_none());
    assert_eq!(errors[0].key, "api.secret");
    assert_eq!(running.api.local_addr(), Some(running.addr));
    assert!(Api::bind(Node::new("test"), &open).is_err());
}

fn load(table: &str) -> Config {
    let text =
        format!("[listeners.a]\nbind = \"127.0.0.1:0\"\nstack = [\"detect\"]\nrelay = \"direct\"\n{table}");
    let texts = vec![("a.toml".into(), text)];
    Config::load(&Sources { texts, sections: vec!["api"], ..Sources::default() }).unwrap()
}

#[tokio::test]
async fn it_follows_a_servers_configuration() {
    let api = Api::new(Node::new("test"));
    let follower = api.follower();
    for none in ["", "[api]\n", "[api]\nsecret = \"s\"\n"] {
        follower.prepare(&load(none)).unwrap()();
        assert_eq!(api.local_addr(), None);
    }
    let config = load("[api]\nbind = \"127.0.0.1:0\"\n");
    let change = follower.prepare(&config).unwrap();
    assert_eq!(api.local_addr(), None, "nothing before it is carried out");
    change();
    let addr = api.local_addr().unwrap();
    follower.prepare(&config).unwrap()();
    assert_eq!(api.local_addr(), Some(addr));
    // Checking binds nothing, so a running instance is no error.
    assert!(Check.prepare(&load(&format!("[api]\nbind = \"{addr}\"\n"))).is_ok());
    for (table, key) in [
        ("bind = \"0.0.0.0:0\"", "api.secret"),
        ("bind = \"localhost\"", "api.bind"),
        ("bond = 1", "api"),
        ("secret = \"\"", "api.secret"),
        ("allow_origins = [\"*\"]", "api.allow_origins"),
    ] {
        let config = load(&format!("[api]\n{table}\n"));
        for follower in [&Check as &dyn Follower, &*follower] {
            let errors = follower.prepare(&config).err().unwrap().0;
            assert!(errors[0].key.starts_with(key), "{table}: {errors:?}");
            assert!(errors[0].place.is_some(), "{table}: {errors:?}");
        }
    }
    assert_eq!(api.local_addr(), Some(addr));
}
