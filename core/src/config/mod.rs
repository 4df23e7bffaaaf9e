//! The configuration: files, then `SWIFTPROXY__…` from the environment, then `--set key=value`.
//!
//! Invariant: a key that nobody reads is an error, and every error is told at once, with file, line, key and what to
//! write instead.

mod error;
mod load;
mod model;
mod spans;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::Value;

pub use error::{ConfigError, ConfigErrors, Place};
pub use load::Sources;
pub use model::{ListenerConfig, NodeConfig, UserConfig};

use crate::account::AccountSpec;
use crate::table::{self, Table};
use load::Provenance;

/// A configuration that was read; its layers and relays are not built yet.
#[derive(Debug)]
pub struct Config {
    /// `[node]`.
    pub node: NodeConfig,
    /// `[listeners.*]`.
    pub listeners: BTreeMap<String, ListenerConfig>,
    /// `[layers.*]`, as written.
    pub layers: BTreeMap<String, Table>,
    /// `[relays.*]`, as written.
    pub relays: BTreeMap<String, Table>,
    /// `[users.*]`.
    pub users: Vec<AccountSpec>,
    sections: BTreeMap<String, Table>,
    provenance: Provenance,
    texts: Vec<String>,
    /// Whether all listeners could be read, so that what none of them names is named by nobody.
    pub(crate) whole: bool,
}

impl Config {
    /// Reads everything that needs no catalogue.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        match Self::read_most(sources)? {
            (config, errors) if errors.is_empty() => Ok(config),
            (_, errors) => Err(ConfigErrors(errors)),
        }
    }

    /// The same, without the tables that are wrong, and what is wrong with them.
    ///
    /// # Errors
    /// A source cannot be read at all.
    pub(crate) fn read_most(sources: &Sources) -> Result<(Self, Vec<ConfigError>), ConfigErrors> {
        let (root, provenance, texts) = load::merge(sources)?;
        let mut config = Self {
            node: NodeConfig::default(),
            listeners: BTreeMap::new(),
            layers: BTreeMap::new(),
            relays: BTreeMap::new(),
            users: Vec::new(),
            sections: BTreeMap::new(),
            provenance,
            texts,
            whole: false,
        };
        let mut errors = Vec::new();
        for (key, value) in root {
            config.take(sources, &key, value, &mut errors);
        }
        if config.listeners.is_empty() && errors.is_empty() {
            errors.push(config.error(
                "listeners",
                "there is no listener",
                "add a table such as [listeners.local] with bind, stack and relay",
            ));
        }
        Ok((config, errors))
    }

    fn take(&mut self, sources: &Sources, key: &str, value: Value, errors: &mut Vec<ConfigError>) {
        let Some(table) = as_table(value) else {
            errors.push(self.error(key, "it is not a table", format!("write [{key}] and its keys below it")));
            return;
        };
        match key {
            "node" => match self.read(key, &table) {
                Ok(node) => self.node = node,
                Err(error) => errors.push(error),
            },
            "listeners" => {
                let before = errors.len();
                for (name, table) in self.named(key, table, errors) {
                    match self.read(&format!("listeners.{name}"), &table) {
                        Ok(listener) => drop(self.listeners.insert(name, listener)),
                        Err(error) => errors.push(error),
                    }
                }
                self.whole = errors.len() == before;
            }
            "layers" => self.layers = self.named(key, table, errors),
            "relays" => self.relays = self.named(key, table, errors),
            "users" => {
                for (name, table) in self.named(key, table, errors) {
                    let path = format!("users.{name}");
                    let spec = self.read::<UserConfig>(&path, &table).and_then(|user| {
                        user.spec(&name).map_err(|(k, p, r)| self.error(&join(&path, k), p, r))
                    });
                    match spec {
                        Ok(spec) => self.users.push(spec),
                        Err(error) => errors.push(error),
                    }
                }
            }
            section if sources.sections.contains(&section) => {
                drop(self.sections.insert(key.to_owned(), table))
            }
            _ => {
                let known = ["node", "listeners", "layers", "relays", "users"];
                let known: Vec<_> =
                    known.iter().chain(&sources.sections).map(|name| format!("[{name}]")).collect();
                errors.push(self.error(
                    key,
                    "there is no such table",
                    format!("the tables are {}", known.join(", ")),
                ));
            }
        }
    }

    /// A table of tables; what is none is an error.
    fn named(&self, key: &str, tables: Table, errors: &mut Vec<ConfigError>) -> BTreeMap<String, Table> {
        let mut named = BTreeMap::new();
        for (name, value) in tables {
            match as_table(value) {
                Some(table) => drop(named.insert(name, table)),
                None => errors.push(self.error(
                    &format!("{key}.{name}"),
                    "it is not a table",
                    format!("write [{key}.NAME] and its keys below it"),
                )),
            }
        }
        named
    }

    /// A table that is not core's own, such as `[api]`.
    ///
    /// # Errors
    /// The key that cannot be read.
    pub fn section<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        self.sections.get(key).map(|table| self.read(key, table)).transpose()
    }

    fn read<T: serde::de::DeserializeOwned>(&self, key: &str, table: &Table) -> Result<T, ConfigError> {
        table::read(table).map_err(|error| self.table_error(key, error))
    }

    /// An error of reading the table at `key`, with its place.
    pub(crate) fn table_error(&self, key: &str, error: table::TableError) -> ConfigError {
        let path = join(key, &error.key);
        self.provenance.error(&path, error.problem, String::new())
    }

    /// An error at a key, with the place it was written at.
    pub fn error(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        self.provenance.error(key, problem.into(), remedy.into())
    }

    /// Where relative paths start: the folder of the first file, or the working directory.
    pub fn base(&self) -> &Path {
        &self.provenance.base
    }

    /// The files it was read from.
    pub fn files(&self) -> &[PathBuf] {
        &self.provenance.files
    }

    /// Whether `other` was read from the same words.
    pub(crate) fn same_text(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

fn as_table(value: Value) -> Option<Table> {
    match value {
        Value::Dict(_, table) => Some(table),
        _ => None,
    }
}

fn join(path: &str, key: &str) -> String {
    match (path, key) {
        (path, "") => path.to_owned(),
        ("", key) => key.to_owned(),
        (path, key) => format!("{path}.{key}"),
    }
}

#[cfg(test)]
mod tests;
