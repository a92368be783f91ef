//! The versions of the package format, and which keys each one knows.

use std::path::Path;

use yaml_rust2::Yaml;

use crate::{Error, yaml};

/// A version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatVersion {
    /// `legacy` and `legacy-icpc`; also a package that names no version.
    Legacy,
    /// `2023-07` and its draft, which changed for two years: keys of both other versions are valid.
    Of2023,
    /// `2025-09` and the draft of its successor.
    Of2025,
}

/// Top-level keys of problem.yaml that describe the problem and do not change how it is judged.
const METADATA: &[&str] = &[
    "problem_format_version",
    "name",
    "uuid",
    "version",
    "author",
    "credits",
    "source",
    "source_url",
    "license",
    "rights_owner",
    "embargo_until",
    "keywords",
    "type",
    "limits",
    "languages",
    "allow_file_writing",
];
const LEGACY: &[&str] = &["validation", "validator_flags", "grading"];
const NEW: &[&str] = &["constants"];

impl FormatVersion {
    /// The version that problem.yaml names.
    pub(crate) fn of(path: &Path, yaml: &Yaml) -> Result<FormatVersion, Error> {
        let value = &yaml["problem_format_version"];
        if value.is_badvalue() || value.is_null() {
            return Ok(FormatVersion::Legacy);
        }
        match yaml::text(value).as_deref() {
            Some("legacy" | "legacy-icpc") => Ok(FormatVersion::Legacy),
            Some("2023-07" | "2023-07-draft") => Ok(FormatVersion::Of2023),
            Some("2025-09" | "2025-09-draft" | "draft") => Ok(FormatVersion::Of2025),
            other => {
                let known = "legacy, legacy-icpc, 2023-07, 2025-09 and their drafts";
                let found = other.unwrap_or("not a text");
                Err(Error::new(path, format!("problem_format_version {found:?} is not supported; {known} are")))
            }
        }
    }

    pub fn is_legacy(self) -> bool {
        self == FormatVersion::Legacy
    }

    /// Whether keys and files of the legacy format are valid.
    pub(crate) fn has_legacy(self) -> bool {
        self != FormatVersion::Of2025
    }

    /// Checks the top-level keys of problem.yaml. Unknown ones are errors since 2023-07; before,
    /// they are returned.
    pub(crate) fn check_keys(self, path: &Path, yaml: &Yaml) -> Result<Vec<String>, Error> {
        let is_known = |key: &str| {
            METADATA.contains(&key)
                || self.has_legacy() && LEGACY.contains(&key)
                || !self.is_legacy() && NEW.contains(&key)
        };
        let unknown: Vec<String> = yaml::keys(yaml).into_iter().filter(|key| !is_known(key)).collect();
        match unknown.first() {
            None => Ok(unknown),
            Some(key) if LEGACY.contains(&key.as_str()) || NEW.contains(&key.as_str()) => {
                Err(Error::new(path, format!("{key:?} is not a key of this version of the format")))
            }
            Some(key) if !self.is_legacy() => Err(Error::new(path, format!("the key {key:?} is unknown"))),
            Some(_) => Ok(unknown),
        }
    }
}
