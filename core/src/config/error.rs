//! What is wrong with a configuration, told so that it can be mended.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file and line (from 1), or another source's name.
    pub place: Option<Place>,
    /// The key's path; empty where a file as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead; empty where the problem says it.
    pub remedy: String,
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of a file.
    File(PathBuf, usize),
    /// The environment or the command line.
    Other(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(Place::File(path, 0)) => write!(f, "{}: ", path.display())?,
            Some(Place::File(path, line)) => write!(f, "{}:{line}: ", path.display())?,
            Some(Place::Other(name)) => write!(f, "{name}: ")?,
            None => {}
        }
        // `--set node.name` names the key already.
        let named = matches!(&self.place, Some(Place::Other(name)) if name.ends_with(&self.key));
        if !self.key.is_empty() && !named {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}
