//! Helpers for the small YAML files of a package. Lenient where the package format is lenient.

use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

use crate::Error;

/// Largest YAML file that is read.
const MAX_YAML_BYTES: u64 = 1024 * 1024;

/// The first document of a file; `None` if the file does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Yaml>, Error> {
    let size = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::new(path, error)),
    };
    if size > MAX_YAML_BYTES {
        return Err(Error::new(path, format!("is larger than {MAX_YAML_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| Error::new(path, error))?;
    let documents =
        YamlLoader::load_from_str(&text).map_err(|error| Error::new(path, format!("is not valid YAML: {error}")))?;
    Ok(Some(documents.into_iter().next().unwrap_or(Yaml::Null)))
}

/// A finite number, also one that is quoted.
pub(super) fn number(value: &Yaml) -> Option<f64> {
    match value {
        Yaml::Integer(number) => Some(*number as f64),
        Yaml::Real(text) | Yaml::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// A list of strings, or one string split at white space.
pub(super) fn strings(value: &Yaml) -> Option<Vec<String>> {
    let scalar = |value: &Yaml| match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    };
    match value {
        Yaml::Array(items) => items.iter().map(scalar).collect(),
        other => scalar(other).map(|text| text.split_whitespace().map(str::to_owned).collect()),
    }
}
