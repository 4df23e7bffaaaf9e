//! The tables that are the program's own: `[log]` and `[store]`.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// What is logged, and how.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// The least severe level that is logged. Read at start.
    pub(crate) level: Level,
    /// Text for people, or one JSON object a line. Read at start.
    pub(crate) format: Format,
}

/// How severe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// For whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

impl LogConfig {
    /// Only what a person at a terminal must act on.
    pub(crate) fn quiet() -> Self {
        Self { level: Level::Warn, format: Format::Text }
    }

    /// Sends log lines to standard error from now on; `RUST_LOG` goes over the level.
    pub(crate) fn start(&self) {
        let level = match self.level {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        // sqlx logs every statement otherwise, and the verifier what its caller tells better.
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
            EnvFilter::new(format!("{level},sqlx=warn,h2=warn,hyper=warn,rustls_platform_verifier=off"))
        });
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // A second start in one process keeps the first.
        let _ = match self.format {
            Format::Json => lines.json().flatten_event(true).try_init(),
            Format::Text => {
                let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
                lines.with_ansi(colour).with_target(false).try_init()
            }
        };
    }
}

/// Where users and usage are kept.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreConfig {
    /// Such as `sqlite://swiftproxy.db`; a relative path starts at the first configuration file's folder. Read at
    /// start.
    #[schemars(example = "sqlite://swiftproxy.db")]
    pub(crate) url: String,
}

impl StoreConfig {
    /// The URL with its path made to start at `base`.
    pub(crate) fn url_from(&self, base: &Path) -> String {
        let path = match self.url.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sqlite") => {
                rest.strip_prefix("//").unwrap_or(rest)
            }
            _ => return self.url.clone(),
        };
        // What is written may hold escapes already, the folder holds none yet.
        if path.is_empty() || Path::new(path).is_absolute() || base.as_os_str().is_empty() {
            return self.url.clone();
        }
        format!("{}/{path}", swiftproxy_store::url_of(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_store_lies_beside_its_file() {
        let store = |url: &str| StoreConfig { url: url.into() }.url_from(Path::new("/etc/swiftproxy"));
        assert_eq!(store("sqlite://a.db"), "sqlite:///etc/swiftproxy/a.db");
        assert_eq!(store("sqlite:///var/a.db"), "sqlite:///var/a.db");
        assert_eq!(store("SQLite:a%20b.db"), "sqlite:///etc/swiftproxy/a%20b.db");
        assert_eq!(store("postgres://h/d"), "postgres://h/d");
        let odd = StoreConfig { url: "sqlite://a%20b.db".into() }.url_from(Path::new("/srv/50%?"));
        assert_eq!(odd, "sqlite:///srv/50%25%3F/a%20b.db");
    }
}
