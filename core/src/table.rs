//! One table of the configuration, read on its own, so that every error of every table is told at once.

use serde::de::DeserializeOwned;

/// A table's keys and values.
pub type Table = figment::value::Dict;

/// A key that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableError {
    /// Path below the table; empty where the table as a whole is meant.
    pub key: String,
    /// What is wrong, and what was expected.
    pub problem: String,
}

/// Reads a table into its type.
///
/// # Errors
/// The first key that does not fit.
pub fn read<T: DeserializeOwned>(table: &Table) -> Result<T, TableError> {
    let value = figment::value::Value::from(table.clone());
    serde_path_to_error::deserialize(&value).map_err(|error| {
        let path = error.path().to_string();
        let key = if path == "." { String::new() } else { path };
        TableError { key, problem: worded(&error.inner().to_string()) }
    })
}

/// The library's words for the commonest mistake, in ours.
fn worded(problem: &str) -> String {
    match problem.strip_prefix("unknown field: found ").and_then(|rest| rest.split_once(", expected ")) {
        Some((_, known)) => {
            let known = known.strip_prefix('`').and_then(|known| known.strip_suffix('`')).unwrap_or(known);
            format!("there is no such key; expected {known}")
        }
        None => problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its reading is tested")]
    struct Sample {
        rate: crate::units::Rate,
    }

    #[test]
    fn an_error_names_its_key() {
        let table = Table::from([("rate".to_owned(), "ten".into())]);
        let error = read::<Sample>(&table).expect_err("not a rate");
        assert_eq!(error.key, "rate");
        assert!(error.problem.contains("10Mbit/s"), "{}", error.problem);
        let table = Table::from([("rat".to_owned(), "1B/s".into())]);
        let error = read::<Sample>(&table).expect_err("unknown");
        assert!(error.problem.contains("rate"), "{}", error.problem);
    }
}
