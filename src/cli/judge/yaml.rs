//! The YAML files of a problem package: small, and read leniently where the format is lenient.

use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

use crate::CliError;

/// The largest YAML file that is read, in bytes.
const MOST: u64 = 1024 * 1024;

/// A file's document; nothing where there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Yaml>, CliError> {
    let wrong = |why: String| CliError::Usage(format!("{}: {why}", path.display()));
    let size = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    if size > MOST {
        return Err(wrong(format!("is larger than {MOST} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let documents = YamlLoader::load_from_str(&text).map_err(|error| wrong(format!("is no YAML: {error}")))?;
    Ok(Some(documents.into_iter().next().unwrap_or(Yaml::Null)))
}

/// A number, also one that is written as text.
pub(super) fn number(value: &Yaml) -> Option<f64> {
    match value {
        Yaml::Integer(number) => Some(*number as f64),
        Yaml::Real(text) | Yaml::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// Words: a list, or a text with spaces between them.
pub(super) fn words(value: &Yaml) -> Option<Vec<String>> {
    let scalar = |value: &Yaml| match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(is) => Some(is.to_string()),
        _ => None,
    };
    match value {
        Yaml::Array(all) => all.iter().map(scalar).collect(),
        other => scalar(other).map(|text| text.split_whitespace().map(str::to_owned).collect()),
    }
}
