//! The configuration: a TOML text, over a good one and alone, with settings of the environment and the command
//! line behind a NUL each. No file is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swiftproxy_core::config::{Config, ConfigErrors, Place, Sources};

/// A good one, so that what is laid over it is reached.
const GOOD: &str = include_str!("../seeds/config/standalone.toml");

fn load(texts: &[&str], sets: &[&str]) -> Result<Config, ConfigErrors> {
    let named = texts.iter().enumerate().map(|(n, text)| (n.to_string(), (*text).to_owned()));
    let (sets, environment) = sets.split_at(sets.len() / 2);
    let environment = environment.iter().filter_map(|set| set.split_once('='));
    Config::load(&Sources {
        files: Vec::new(),
        texts: named.collect(),
        environment: environment
            .map(|(name, value)| (format!("SWIFTPROXY__{name}"), value.to_owned()))
            .collect(),
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        sections: vec!["log", "store", "api"],
    })
}

/// Everything that an error says can be shown, and its line is one of the text's.
fn check_errors(errors: &ConfigErrors, texts: &[&str]) {
    assert!(!errors.0.is_empty() && !errors.to_string().is_empty());
    for error in &errors.0 {
        let Some(Place::File(path, line)) = &error.place else { continue };
        let text = path.to_str().and_then(|path| path.parse::<usize>().ok()).and_then(|n| texts.get(n));
        let lines = text.expect("a text of ours").matches('\n').count() + 1;
        assert!(*line <= lines, "line {line} of {lines}: {error}");
    }
}

fn check(texts: &[&str], sets: &[&str]) {
    match load(texts, sets) {
        Ok(config) => {
            assert!(!config.listeners.is_empty());
            for user in &config.users {
                assert!(!user.name.is_empty() && !user.name.contains(':') && user.weight > 0);
            }
            // An empty text over it changes nothing.
            let again = load(&[texts, &[""]].concat(), sets).expect("the same with nothing over it");
            assert_eq!(config.node, again.node);
            assert_eq!((config.listeners, config.layers), (again.listeners, again.layers));
        }
        Err(errors) => check_errors(&errors, texts),
    }
}

fuzz_target!(|text: &str| {
    let mut parts = text.split('\0');
    let text = parts.next().unwrap_or_default();
    let sets: Vec<&str> = parts.take(8).collect();
    match sets.is_empty() {
        true => check(&[text], &[]),
        false => check(&[GOOD, text], &sets),
    }
});
