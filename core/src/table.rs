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
        let written = table.get(&key).and_then(figment::value::Value::as_str).unwrap_or_default();
        let problem = match worded(&error.inner().to_string()) {
            // No secret is an address.
            problem if problem.starts_with("is not an ") => format!("\"{written}\" {problem}"),
            problem => problem,
        };
        TableError { key, problem }
    })
}

/// The library's words for the commonest mistakes, in ours.
fn worded(problem: &str) -> String {
    if let Some(name) = problem.strip_prefix("missing field ") {
        return format!("the key {name} is missing; write it below the table's name");
    }
    if problem == "invalid socket address syntax" {
        return "is not an IP address and port; write one such as 127.0.0.1:9000 or [::1]:9000".to_owned();
    }
    if problem == "invalid IP address syntax" {
        return "is not an IP address; write one such as 192.0.2.1".to_owned();
    }
    if let Some((found, known)) =
        problem.strip_prefix("unknown variant: found ").and_then(|rest| rest.split_once(", expected `"))
    {
        return format!("there is no {found}; expected {}", known.strip_suffix('`').unwrap_or(known));
    }
    if let Some(found) =
        problem.strip_suffix(", expected usize").or_else(|| problem.strip_suffix(", expected u32"))
    {
        return format!("{found}; write a whole number from 0");
    }
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
        bind: Option<std::net::SocketAddr>,
    }

    #[test]
    fn an_error_names_its_key() {
        let table = Table::from([("rate".to_owned(), "ten".into())]);
        let error = read::<Sample>(&table).expect_err("not a rate");
        assert_eq!(error.key, "rate");
        assert!(error.problem.contains("10Mbit/s"), "{}", error.problem);
        let table = Table::from([("bind".to_owned(), "localhost:1".into())]);
        let error = read::<Sample>(&table).expect_err("not an address");
        assert!(
            error.problem.starts_with("\"localhost:1\" is not an IP address and port"),
            "{}",
            error.problem
        );
        for (theirs, ours) in [
            ("missing field `bind`", "the key `bind` is missing"),
            (
                "unknown variant: found `x`, expected `one of `a`, `b``",
                "there is no `x`; expected one of `a`, `b`",
            ),
            ("invalid type: found signed int `-1`, expected usize", "; write a whole number from 0"),
            ("invalid socket address syntax", "such as 127.0.0.1:9000"),
        ] {
            assert!(worded(theirs).contains(ours), "{}", worded(theirs));
        }
        let table = Table::from([("rat".to_owned(), "1B/s".into())]);
        let error = read::<Sample>(&table).expect_err("unknown");
        assert!(error.problem.contains("rate"), "{}", error.problem);
    }
}
