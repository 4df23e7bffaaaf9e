//! The commands.

use crate::support::proxy::{command, command_with, folder};

#[test]
fn users_from_beginning_to_end() {
    let folder = folder();
    let store = format!("sqlite://{}/a.db", folder.path().display());
    let user =
        |args: &[&str], input: &str| command_with(&[&["user"], args, &["--store", &store]].concat(), input);
    let said = |result: (bool, String, String)| {
        assert!(result.0, "{}", result.2);
        result.1
    };
    let add = said(user(
        &["add", "alice", "--down", "1.5MiB/s", "--up", "unlimited", "--password-stdin"],
        "secret\n",
    ));
    assert_eq!(add, "added alice: up unlimited, down 1.5MiB/s\n");
    assert!(user(&["add", "alice", "--password-stdin"], "x").2.contains("alice"), "taken");
    assert!(user(&["add", "a:b", "--password-stdin"], "x").2.contains("colon"));
    assert!(user(&["add", "bob", "--password-stdin"], "\n").2.contains("empty"));
    assert_eq!(
        said(user(&["set", "alice", "--down", "default", "--disable"], "")),
        "alice: up unlimited, down default, disabled\n"
    );
    assert!(user(&["set", "nobody", "--enable"], "").2.contains("nobody"));
    assert!(user(&["set", "alice"], "").2.contains("--down"));
    assert!(said(user(&["list"], "")).contains("disabled"));
    assert_eq!(
        said(user(&["set", "alice", "--rename", "eve", "--enable"], "")),
        "eve: up unlimited, down default\n"
    );
    said(user(&["passwd", "eve", "--password-stdin"], "new\n"));
    let shown = said(user(&["show", "eve"], ""));
    for line in ["name        eve\n", "state       enabled\n", "up limit    unlimited\n", "weight      1\n"] {
        assert!(shown.contains(line), "{line} is missing in\n{shown}");
    }
    let shown: serde_json::Value = serde_json::from_str(&said(user(&["show", "eve", "--json"], ""))).unwrap();
    assert_eq!(shown["enabled"], true);
    said(user(&["remove", "eve"], ""));
    assert!(said(user(&["list"], "")).contains("no users"));
}

#[test]
fn a_missing_store_is_named_not_made() {
    let folder = folder();
    let store = format!("sqlite://{}/typo.db", folder.path().display());
    let (ok, _, error) = command(&["user", "list", "--store", &store]);
    assert!(!ok && error.contains("typo.db"), "{error}");
    assert!(!folder.path().join("typo.db").exists());
    let (ok, _, error) = command(&["user", "list", "--store", "postgres://localhost/x"]);
    assert!(!ok && error.contains("sqlite://"), "{error}");
}

#[test]
fn check_prints_the_stacks_or_every_error() {
    let folder = folder();
    let file = folder.path().join("c.toml");
    let check = |toml: &str| {
        std::fs::write(&file, toml).unwrap();
        command(&["check", "-c", file.to_str().unwrap()])
    };
    let good = "[listeners.a]\nbind = \"127.0.0.1:0\"\nstack = [\"detect\", \"acl\", \"stats\"]\nrelay = \"direct\"\n";
    assert_eq!(check(good), (true, "a: detect → acl → stats → direct\n".into(), String::new()));
    let bad = good.replace("\"acl\"", "\"acll\"").replace("bind", "bnd")
        + "[layers.detect]\nprotocol = 1\n[layers.cap]\nkind = \"ratelimit\"\n";
    let (ok, said, error) = check(&bad);
    assert!(!ok && said.is_empty());
    let path = file.display();
    assert!(error.contains(&format!("{path}:2: listeners.a.bnd")), "{error}");
    let bad = good.replace("\"acl\"", "\"acll\"")
        + "[layers.detect]\nprotocol = 1\n[layers.cap]\nkind = \"ratelimit\"\n";
    let (_, _, error) = check(&bad);
    for words in [
        ":3: listeners.a.stack: there is no \"acll\"",
        ":6: layers.detect.protocol",
        ":7: layers.cap: no listener's stack names it",
    ] {
        assert!(error.contains(words), "{words} is missing in\n{error}");
    }
    // What cannot be read hides nothing of what is wrong with the rest.
    let bad =
        bad + "[node]\nshutdown_timeout = \"10\"\n[users.a]\nweight = 0\n[log]\nlevel = \"loud\"\n[nod]\n";
    std::fs::write(&file, bad).unwrap();
    for said in
        [command(&["check", "-c", file.to_str().unwrap()]), command(&["run", "-c", file.to_str().unwrap()])]
    {
        assert!(!said.0);
        for key in [
            "listeners.a.stack: ",
            "layers.cap: ",
            "node.shutdown_timeout: ",
            "users.a.weight: ",
            "log.level: ",
            "nod: ",
        ] {
            assert!(said.2.contains(key), "{key} is missing in\n{}", said.2);
        }
    }
    let (ok, _, error) = check(&(good.to_owned() + "[store]\nurl = \"postgres://h/d\"\n"));
    assert!(!ok && error.contains(":6: store.url: ") && error.contains("sqlite://"), "{error}");
}

#[test]
fn the_reference_can_be_read_back_and_the_schema_names_every_table() {
    let (ok, reference, _) = command(&["config", "reference"]);
    assert!(ok);
    for key in [
        "[node]",
        "[layers.ratelimit]",
        "[relays.tunnel]",
        "[api]",
        "max_sessions",
        "\nshutdown_timeout = \"10s\"",
        "\nlevel = \"info\"",
        "\ndeny = [\"private\"]",
        "\nper = \"account\"",
    ] {
        assert!(reference.contains(key), "{key}");
    }
    toml::from_str::<toml::Table>(&reference).expect("it is TOML");
    let kept = include_str!("../../docs/reference.toml");
    assert!(reference == kept, "it changed; run: swiftproxy config reference > docs/reference.toml");
    let (ok, schema, _) = command(&["config", "schema"]);
    assert!(ok);
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("it is JSON");
    let layers = &schema["properties"]["layers"];
    let detect = &layers["properties"]["detect"]["anyOf"];
    assert!(detect[0]["properties"]["protocols"].is_object());
    assert_eq!(detect[0]["additionalProperties"], false);
    // A table of another name is of the kind it says, and of no other.
    let others = layers["additionalProperties"]["anyOf"].as_array().unwrap();
    assert_eq!(others.len(), 5);
    for other in others {
        assert_eq!((&other["additionalProperties"], &other["required"][0]), (&false.into(), &"kind".into()));
        assert!(other["properties"]["kind"]["const"].is_string(), "{other}");
    }
}

#[test]
fn help_shows_examples() {
    for args in
        [&["run", "--help"][..], &["quickstart", "--help"], &["user", "--help"], &["connect", "--help"]]
    {
        let (ok, said, _) = command(args);
        assert!(ok && said.contains("Example"), "{said}");
    }
}
