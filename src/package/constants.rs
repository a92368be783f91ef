//! Constants of a package: `{{name}}` and `{{name.variant}}` in its programs and settings.

use std::collections::BTreeMap;
use std::path::Path;

use yaml_rust2::Yaml;

use crate::{Error, yaml};

/// Values by name, and by name and variant with a dot between.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Constants(BTreeMap<String, String>);

impl Constants {
    /// The `constants` of problem.yaml.
    pub(crate) fn of(path: &Path, problem: &Yaml) -> Result<Constants, Error> {
        let map = &problem["constants"];
        let mut values = BTreeMap::new();
        if yaml::is_absent(map) {
            return Ok(Constants(values));
        }
        let wrong =
            |name: &str| Error::new(path, format!("constants.{name}: expected a number, a text, or a map of them"));
        let entries = map.as_hash().ok_or_else(|| wrong("*"))?;
        for (name, value) in entries {
            let name = yaml::text(name).ok_or_else(|| wrong("*"))?;
            if !is_name(&name) {
                let reason = format!("constants: {name:?} is not a name of letters, digits and underscores");
                return Err(Error::new(path, reason));
            }
            match value.as_hash() {
                None => drop(values.insert(name.clone(), yaml::text(value).ok_or_else(|| wrong(&name))?)),
                Some(variants) => {
                    for (variant, value) in variants {
                        let variant = yaml::text(variant).ok_or_else(|| wrong(&name))?;
                        let value = yaml::text(value).ok_or_else(|| wrong(&name))?;
                        values.insert(format!("{name}.{variant}"), value);
                    }
                    let value = values.get(&format!("{name}.value")).cloned();
                    let missing = || Error::new(path, format!("constants.{name}: the key value is missing"));
                    values.insert(name.clone(), value.ok_or_else(missing)?);
                    continue;
                }
            }
            let value = values[&name].clone();
            values.insert(format!("{name}.value"), value);
        }
        Ok(Constants(values))
    }

    /// The bytes with every known sequence replaced.
    pub fn fill(&self, bytes: &[u8]) -> Vec<u8> {
        if self.0.is_empty() {
            return bytes.to_vec();
        }
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            match self.at(&bytes[at..]) {
                Some((value, len)) => {
                    out.extend_from_slice(value.as_bytes());
                    at += len;
                }
                None => {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
        }
        out
    }

    /// The value of the sequence at the start, and the sequence's length.
    fn at(&self, bytes: &[u8]) -> Option<(&str, usize)> {
        let rest = bytes.strip_prefix(b"{{")?;
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'.';
        let len = rest.iter().take_while(|byte| is_name(byte)).count();
        rest.get(len..)?.strip_prefix(b"}}")?;
        let value = self.0.get(std::str::from_utf8(&rest[..len]).ok()?)?;
        Some((value, len + 4))
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use yaml_rust2::YamlLoader;

    #[test]
    fn known_sequences_are_replaced_and_others_stay() {
        let text = "constants:\n  n: 5\n  f: {value: 10.0, de: \"10,0\"}\n";
        let yaml = YamlLoader::load_from_str(text).unwrap().remove(0);
        let constants = Constants::of(Path::new("p"), &yaml).unwrap();
        let fill = |text: &str| String::from_utf8(constants.fill(text.as_bytes())).unwrap();
        assert_eq!(
            fill("a {{n}} {{n.value}} {{f}} {{f.de}} {{x}} {{ n }} {{{n}}}"),
            "a 5 5 10.0 10,0 {{x}} {{ n }} {5}"
        );
        assert_eq!(fill("{{n"), "{{n");
        for bad in ["constants: {n: [1]}", "constants: {a-b: 1}", "constants: {1a: 1}"] {
            let bad = YamlLoader::load_from_str(bad).unwrap().remove(0);
            assert!(Constants::of(Path::new("p"), &bad).is_err(), "{bad:?}");
        }
    }
}
