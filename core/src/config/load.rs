//! Reads and merges the sources, and remembers where each value was written.

use std::path::{Path, PathBuf};

use figment::providers::Serialized;
use figment::value::{Dict, Map};
use figment::{Error, Figment, Metadata, Profile, Provider, Source};
use toml_edit::Document;

use super::error::{ConfigError, ConfigErrors, Place};
use super::spans;

/// Where a configuration comes from; later ones go over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// TOML files, in order.
    pub files: Vec<PathBuf>,
    /// TOML texts with a name each, before the files (defaults of a command).
    pub texts: Vec<(String, String)>,
    /// `SWIFTPROXY__section__key` from the environment.
    pub environment: Vec<(String, String)>,
    /// `key.path=value` from the command line.
    pub sets: Vec<String>,
    /// Tables that are not core's own.
    pub sections: Vec<&'static str>,
}

/// What environment variables start with.
const PREFIX: &str = "SWIFTPROXY__";

impl Sources {
    /// Those files and this process's environment.
    pub fn files(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        Self { files: files.into_iter().collect(), environment, ..Self::default() }
    }
}

/// Where values were written.
#[derive(Debug)]
pub(super) struct Provenance {
    pub(super) base: PathBuf,
    pub(super) files: Vec<PathBuf>,
    documents: Vec<(PathBuf, Document<String>)>,
    figment: Figment,
}

impl Provenance {
    /// An error at a key: its place is the source that gave the value, or the last file that has its table.
    pub(super) fn error(&self, key: &str, problem: String, remedy: String) -> ConfigError {
        let metadata = self.figment.find_metadata(key);
        let place = match metadata.map(|metadata| (&metadata.source, &metadata.name)) {
            Some((None, name)) => Some(Place::Other(name.to_string())),
            _ => self.documents.iter().rev().find_map(|(path, document)| {
                spans::line_of(document, key).map(|line| Place::File(path.clone(), line))
            }),
        };
        let place = place.or_else(|| Some(Place::File(self.files.last()?.clone(), 0)));
        ConfigError { place, key: key.to_owned(), problem, remedy }
    }
}

/// The merged root table.
pub(super) fn merge(sources: &Sources) -> Result<(Dict, Provenance, Vec<String>), ConfigErrors> {
    let mut errors = Vec::new();
    let mut documents = Vec::new();
    let mut texts = Vec::new();
    let mut figment = Figment::new();
    let named = sources.texts.iter().map(|(name, text)| (PathBuf::from(name), Ok(text.clone())));
    let files = sources.files.iter().map(|path| (path.clone(), std::fs::read_to_string(path)));
    for (path, text) in named.chain(files) {
        match text.map_err(|error| unreadable(&path, &error)).and_then(|text| parse(&path, text)) {
            Ok((document, dict)) => {
                texts.push(document.raw().to_owned());
                figment = figment.merge(FileDict { path: path.clone(), dict });
                documents.push((path, document));
            }
            Err(error) => errors.push(error),
        }
    }
    let environment = sources.environment.iter().map(|(name, value)| {
        let key =
            name.strip_prefix(PREFIX).unwrap_or(name).split("__").map(str::to_lowercase).collect::<Vec<_>>();
        (format!("environment variable {name}"), key.join("."), value.as_str())
    });
    let sets = sources.sets.iter().map(|set| {
        let (key, value) = set.split_once('=').unwrap_or(("", set));
        // No error repeats the value, for it may be a secret.
        (format!("--set {}", key.trim()).trim_end().to_owned(), key.trim().to_owned(), value.trim())
    });
    for (name, key, value) in environment.chain(sets) {
        if key.split('.').any(str::is_empty) {
            errors.push(ConfigError {
                place: None,
                key: String::new(),
                problem: format!("{name}: it names no key"),
                remedy: "write --set section.key=value, or SWIFTPROXY__section__key".into(),
            });
            continue;
        }
        texts.push(format!("{key}={value}"));
        figment = figment.merge(Named { name, inner: Serialized::default(&key, scalar(value)) });
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let root = figment.extract::<Dict>().map_err(|error| ConfigError {
        place: None,
        key: error.path.join("."),
        problem: error.kind.to_string(),
        remedy: String::new(),
    })?;
    let base =
        sources.files.first().and_then(|path| path.parent()).map_or_else(PathBuf::new, Path::to_path_buf);
    Ok((root, Provenance { base, files: sources.files.clone(), documents, figment }, texts))
}

fn unreadable(path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError {
        place: Some(Place::File(path.to_owned(), 0)),
        key: String::new(),
        problem: format!("it cannot be read: {error}"),
        remedy: "check the path given with -c, and that this user may read it".into(),
    }
}

fn parse(path: &Path, text: String) -> Result<(Document<String>, Dict), ConfigError> {
    let syntax = |message: &str, span: Option<std::ops::Range<usize>>, text: &str| ConfigError {
        place: Some(Place::File(path.to_owned(), span.map_or(0, |span| spans::line_at(text, span.start)))),
        key: String::new(),
        problem: format!("this is not TOML: {}", message.trim_end().replace('\n', ", ")),
        remedy: String::new(),
    };
    let document =
        Document::parse(text.clone()).map_err(|error| syntax(error.message(), error.span(), &text))?;
    let dict = toml::from_str(&text).map_err(|error| syntax(error.message(), error.span(), &text))?;
    Ok((document, dict))
}

/// A value as TOML would read it; what is no TOML value, or more than one, is a text.
fn scalar(value: &str) -> toml::Value {
    let whole = format!("value = {value}");
    let parsed = toml::from_str::<toml::Table>(&whole).ok().filter(|table| table.len() == 1);
    let parsed = parsed.and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()))
}

struct FileDict {
    path: PathBuf,
    dict: Dict,
}

impl Provider for FileDict {
    fn metadata(&self) -> Metadata {
        Metadata::from("file", Source::File(self.path.clone()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

struct Named<P> {
    name: String,
    inner: P,
}

impl<P: Provider> Provider for Named<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        self.inner.data()
    }
}
