use super::*;

const GOOD: &str = r#"
[node]
name = "n"

[listeners.local]
bind = "127.0.0.1:0"
stack = ["detect"]
relay = "direct"

[layers.detect]
x = 1

[users.alice]
password = "secret"
down = "10Mbit/s"
"#;

fn sources(text: &str) -> Sources {
    Sources { texts: vec![("test.toml".into(), text.into())], sections: vec!["api"], ..Sources::default() }
}

fn errors(text: &str) -> Vec<String> {
    Config::load(&sources(text)).expect_err("wrong").0.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_one() {
    let config = Config::load(&sources(GOOD)).unwrap();
    assert_eq!(config.listeners["local"].relay, "direct");
    assert_eq!(config.users[0].down, crate::account::AccountRate::Limited(1_250_000));
    assert!(config.layers.contains_key("detect"));
}

#[test]
fn later_sources_go_over_earlier_ones() {
    let mut sources = sources(GOOD);
    sources.environment = vec![("SWIFTPROXY__NODE__ACCESS_LOG".into(), "true".into())];
    sources.sets = vec!["node.name=m".into(), "listeners.local.max_sessions=7".into()];
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.node.name.as_deref(), Some("m"));
    assert!(config.node.access_log);
    assert_eq!(config.listeners["local"].max_sessions, Some(7));
}

#[test]
fn every_error_is_told_with_its_line() {
    let text = GOOD.replace("name = \"n\"", "nam = \"n\"").replace("10Mbit/s", "ten") + "[nod]\nx = 1\n";
    let errors = errors(&text);
    assert_eq!(errors.len(), 3, "{errors:#?}");
    let has = |words: &[&str]| errors.iter().any(|error| words.iter().all(|word| error.contains(word)));
    assert!(has(&["test.toml:3: node.nam", "name"]), "{errors:#?}");
    assert!(has(&["test.toml:15: users.alice.down", "10Mbit/s"]), "{errors:#?}");
    assert!(has(&["test.toml:16: nod:", "[node]"]), "{errors:#?}");
}

#[test]
fn syntax_errors_name_the_line() {
    let errors = errors("a = 1\nb = = 2\n");
    assert!(errors[0].starts_with("test.toml:2: this is not TOML"), "{errors:?}");
}

#[test]
fn errors_of_the_command_line_name_it() {
    let mut sources = sources(GOOD);
    sources.sets = vec!["node.max_sessions=many".into()];
    let error = Config::load(&sources).expect_err("wrong").to_string();
    assert!(error.starts_with("--set node.max_sessions: invalid"), "{error}");
}

#[test]
fn bad_accounts() {
    for (line, word) in [
        ("[users.\"a:b\"]\n", "colon"),
        ("[users.b]\npassword = \"a\"\npassword_hash = \"$argon2id$\"\n", "keep one"),
        ("[users.b]\npassword_hash = \"md5\"\n", "argon2id"),
        ("[users.b]\nweight = 0\n", "from 1"),
    ] {
        let errors = errors(&format!("{GOOD}{line}"));
        assert!(errors[0].contains(word), "{errors:?}");
    }
}

#[test]
fn no_error_repeats_a_secret() {
    for set in [
        "users.alice.password=8675309",
        "users.alice.password=-8675309",
        "users.alice.password=8675309.5",
        "users.alice.password_hash=\"8675309\"",
        "users.bob={ password = 8675309 }",
        "users.alice.password_hash=$8675309",
        "users.alice=8675309",
        "8675309",
        "=8675309",
    ] {
        let mut sources = sources(GOOD);
        sources.sets = vec![set.into()];
        let error = Config::load(&sources).expect_err(set).to_string();
        assert!(error.contains("--set") && !error.contains("8675309"), "{error}");
    }
    let error = &errors(&GOOD.replace("\"secret\"", "8675309"))[0];
    assert!(error.contains("users.alice.password") && error.contains("quotes"), "{error}");
    assert!(!error.contains("8675309"), "{error}");
}

#[test]
fn one_setting_sets_one_key() {
    let mut sources = sources(GOOD);
    sources.sets = vec!["listeners.local.max_sessions=7\nx = 1".into()];
    let error = Config::load(&sources).expect_err("a text").to_string();
    assert!(error.contains("listeners.local.max_sessions"), "{error}");
}
