//! What is wrong with a configuration, and where each value comes from.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum SettingOrigin {
    /// Nobody said anything.
    Default,
    /// A file.
    File {
        /// Which.
        file: PathBuf,
        /// Where in it, from 1; 0 for the file as a whole.
        line: usize,
    },
    /// A variable of the environment.
    Variable {
        /// Its name.
        name: String,
    },
    /// The command line.
    Flag {
        /// The flag, as it was given.
        flag: String,
    },
}

impl SettingOrigin {
    /// Whether it is said for this one process, by a variable or a flag.
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

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where it stands.
    pub origin: SettingOrigin,
    /// Which setting, as `section.key`; empty when it is about the whole.
    pub key: String,
    /// What is wrong, and what to write instead.
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
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// What was read is not what it should be. Never empty.
    #[error("use the configuration: {}", Listed(.0))]
    Wrong(Vec<ConfigProblem>),
}

impl ConfigError {
    /// One thing that is wrong.
    pub(super) fn one(origin: SettingOrigin, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::Wrong(vec![ConfigProblem { origin, key: key.to_owned(), message: message.into() }])
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "; name another with --config, or make it (config/assayd.toml shows every setting)"
        }
        std::io::ErrorKind::PermissionDenied => "; the daemon's user must be able to read it",
        std::io::ErrorKind::IsADirectory => "; name the file in it",
        std::io::ErrorKind::InvalidData => "; save it as UTF-8",
        _ => "",
    }
}

/// One problem behind the colon, several below each other.
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
