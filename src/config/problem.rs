//! Problems of a configuration, and the origin of each value.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Origin of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum SettingOrigin {
    /// Not set anywhere.
    Default,
    File {
        file: PathBuf,
        /// Line number from 1; 0 for the file as a whole.
        line: usize,
    },
    /// An environment variable.
    Variable { name: String },
    /// The command line.
    Flag {
        /// The flag as given.
        flag: String,
    },
}

impl SettingOrigin {
    /// Whether it was set for this process only, by a variable or a flag.
    pub fn is_of_the_process(&self) -> bool {
        matches!(self, SettingOrigin::Variable { .. } | SettingOrigin::Flag { .. })
    }
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingOrigin::Default => f.write_str("default"),
            SettingOrigin::File { file, line: 0 } => write!(f, "{}", file.display()),
            SettingOrigin::File { file, line } => write!(f, "{}:{line}", file.display()),
            SettingOrigin::Variable { name } => f.write_str(name),
            SettingOrigin::Flag { flag } => f.write_str(flag),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    pub origin: SettingOrigin,
    /// The setting as `section.key`; empty when the file as a whole is meant.
    pub key: String,
    /// The mistake, and a valid value.
    pub message: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != SettingOrigin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or folder cannot be read.
    #[error("read {}: {source}{}", path.display(), remedy(source))]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The list is never empty.
    #[error("use the configuration: {}", Listed(.0))]
    Wrong(Vec<ConfigProblem>),
}

impl ConfigError {
    pub(super) fn one(origin: SettingOrigin, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::Wrong(vec![ConfigProblem { origin, key: key.to_owned(), message: message.into() }])
    }
}

pub(super) fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "; use --config for another file, or create it (config/assayd.toml shows every setting)"
        }
        std::io::ErrorKind::PermissionDenied => "; the daemon's user must be able to read it",
        std::io::ErrorKind::IsADirectory => "; use the path of a file in it",
        std::io::ErrorKind::InvalidData => "; save it as UTF-8",
        _ => "",
    }
}

/// A single problem on the same line, several on a line each.
struct Listed<'a>(&'a [ConfigProblem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [one] => write!(f, "{one}"),
            many => {
                write!(f, "{} mistakes", many.len())?;
                many.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}
