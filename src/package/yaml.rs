//! Helpers for the small YAML files of a package. Lenient where the package format is lenient; a
//! value of the wrong type is an error, never ignored.

use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

use crate::Error;

/// Largest YAML file that is read.
const MAX_YAML_BYTES: u64 = 1024 * 1024;

/// The first document of a file, after `fill` has changed its text; `None` if the file does not
/// exist.
pub(super) fn read(path: &Path, fill: impl Fn(&[u8]) -> Vec<u8>) -> Result<Option<Yaml>, Error> {
    let size = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::new(path, error)),
    };
    if size > MAX_YAML_BYTES {
        return Err(Error::new(path, format!("is larger than {MAX_YAML_BYTES} bytes")));
    }
    let text = read_text(path)?;
    let text = String::from_utf8_lossy(&fill(text.as_bytes())).into_owned();
    let documents =
        YamlLoader::load_from_str(&text).map_err(|error| Error::new(path, format!("is not valid YAML: {error}")))?;
    match documents.into_iter().next() {
        None | Some(Yaml::Null) => Ok(Some(Yaml::Hash(Default::default()))),
        Some(map @ Yaml::Hash(_)) => Ok(Some(map)),
        Some(_) => Err(Error::new(path, "is not a map of keys and values")),
    }
}

/// A text file without the byte-order mark that some editors write.
pub(super) fn read_text(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::new(path, error))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The keys of a map; a key that is not a text is shown as one.
pub(super) fn keys(map: &Yaml) -> Vec<String> {
    let keys = map.as_hash().into_iter().flat_map(|hash| hash.keys());
    keys.map(|key| text(key).unwrap_or_else(|| format!("{key:?}"))).collect()
}

/// The first key that is not known is an error.
pub(super) fn only(path: &Path, map: &Yaml, known: &[&str]) -> Result<(), Error> {
    match keys(map).into_iter().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            Err(Error::new(path, format!("the key {key:?} is not supported; these are: {}", known.join(", "))))
        }
    }
}

/// A scalar as a text.
pub(super) fn text(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Whether a key has no value.
pub(super) fn is_absent(value: &Yaml) -> bool {
    value.is_badvalue() || value.is_null()
}

/// A finite number, also one that is quoted; `None` if the key is absent.
pub(super) fn number(path: &Path, map: &Yaml, key: &str) -> Result<Option<f64>, Error> {
    let value = &map[key];
    if is_absent(value) {
        return Ok(None);
    }
    let number = text(value).and_then(|text| text.trim().parse().ok()).filter(|number: &f64| number.is_finite());
    number.map(Some).ok_or_else(|| Error::new(path, format!("{key}: expected a number")))
}

/// A list of strings, or one string split at white space; `None` if the key is absent.
pub(super) fn strings(path: &Path, map: &Yaml, key: &str) -> Result<Option<Vec<String>>, Error> {
    let value = &map[key];
    if is_absent(value) {
        return Ok(None);
    }
    let list = match value {
        Yaml::Array(items) => items.iter().map(text).collect(),
        other => text(other).map(|text| text.split_whitespace().map(str::to_owned).collect()),
    };
    list.map(Some).ok_or_else(|| Error::new(path, format!("{key}: expected a list of texts")))
}
