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

fn check(texts: &[&str], sets: &[&str]) {
    let outcome = load(texts, sets);
    let again = load(texts, sets);
    match (outcome, again) {
        (Ok(config), Ok(again)) => {
            assert!(!config.listeners.is_empty());
            assert_eq!(config.node, again.node);
            assert_eq!((config.listeners, config.layers), (again.listeners, again.layers));
            for user in &config.users {
                assert!(!user.name.is_empty() && !user.name.contains(':') && user.weight > 0);
            }
        }
        (Err(errors), Err(again)) => {
            assert_eq!(errors, again);
            assert!(!errors.0.is_empty() && !errors.to_string().is_empty());
            for error in &errors.0 {
                let Some(Place::File(path, line)) = &error.place else { continue };
                let text =
                    path.to_str().and_then(|path| path.parse::<usize>().ok()).and_then(|n| texts.get(n));
                let lines = text.expect("a text of ours").matches('\n').count() + 1;
                assert!(*line <= lines, "line {line} of {lines}: {error}");
            }
        }
        (first, second) => panic!("{first:?}, then {second:?}"),
    }
}

fuzz_target!(|text: &str| {
    let mut parts = text.split('\0');
    let text = parts.next().unwrap_or_default();
    let sets: Vec<&str> = parts.take(8).collect();
    check(&[text], &[]);
    check(&[GOOD, text], &sets);
});
