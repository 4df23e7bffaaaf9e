//! Where the store is: `store.url`, parsed.
//!
//! Invariant: the path is absolute, so a later change of the working directory moves nothing.

use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// Whether `url` names a store.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn check_url(url: &str) -> Result<(), StoreError> {
    Place::parse(url).map(drop)
}

/// The URL of the store in that file.
pub fn url_of(path: &Path) -> String {
    let path = path.display().to_string();
    format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"))
}

/// A database file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    path: PathBuf,
}

impl Place {
    /// Reads `sqlite://PATH` or `sqlite:PATH`; a relative path starts at the working directory, `%20` is a space.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let wrong = |why| StoreError::Url { url: url.to_owned(), why };
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(wrong("write sqlite://PATH, for example sqlite://swiftproxy.db"));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => {}
            "postgres" | "postgresql" => return Err(StoreError::NoPostgres),
            _ => return Err(wrong("only sqlite:// is known; write sqlite://PATH")),
        }
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if path.contains(['?', '#']) {
            return Err(wrong("it takes no parameters; write sqlite://PATH alone (a ? in a path is %3F)"));
        }
        if path == ":memory:" {
            return Err(wrong("a store in memory would forget everything; write sqlite://PATH"));
        }
        let path = decode(path).ok_or_else(|| wrong("a % in a path is written %25"))?;
        if path.is_empty() || path.ends_with('/') {
            return Err(wrong("the file's name is missing; write sqlite://PATH"));
        }
        if path.contains('\0') {
            return Err(wrong("a path cannot contain a NUL"));
        }
        let path = std::path::absolute(&path)
            .map_err(|error| StoreError::Unreachable { path: path.into(), why: error.to_string() })?;
        Ok(Self { path })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_a_path() {
        let here = std::env::current_dir().unwrap();
        for url in ["sqlite://a/b.db", "sqlite:a/b.db", "SQLite:a/b.db", "sqlite://./a/b.db"] {
            assert_eq!(Place::parse(url).unwrap().path(), here.join("a/b.db"), "{url}");
        }
        for url in ["sqlite:///tmp/a b.db", "sqlite:/tmp/a b.db", "sqlite:///tmp/a%20b.db"] {
            assert_eq!(Place::parse(url).unwrap().path(), Path::new("/tmp/a b.db"), "{url}");
        }
        assert_eq!(Place::parse("sqlite://file:x").unwrap().path(), here.join("file:x"));
    }

    #[test]
    fn any_path_has_a_url() {
        for path in ["/tmp/a%20b/c.db", "/tmp/100%/c?d#e.db", "/tmp/a b.db"] {
            assert_eq!(Place::parse(&url_of(Path::new(path))).unwrap().path(), Path::new(path));
        }
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        for url in [
            "store.db",
            "mysql://x",
            "sqlite://",
            "sqlite:",
            "sqlite:///a/",
            "sqlite::memory:",
            "sqlite://a?mode=ro",
            "sqlite://100%",
            "sqlite://%ff",
            "sqlite://a%00b",
        ] {
            assert!(matches!(Place::parse(url), Err(StoreError::Url { .. })), "{url}");
        }
        for url in ["postgres://db/x", "postgresql://db/x"] {
            let error = Place::parse(url).unwrap_err().to_string();
            assert!(error.contains("PostgreSQL is not built into this version; use sqlite://"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_url_panics(url in ".*", path in ".*") {
            let _ = Place::parse(&url);
            let _ = Place::parse(&format!("sqlite:{path}"));
        }

        #[test]
        fn encoded_paths_come_back(path in "[^\0/]{1,40}") {
            let encoded: String = path.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(&encoded), Some(path));
        }
    }
}
