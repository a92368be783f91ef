//! What may stand in a request's path and query.
//!
//! A container's name goes into a path as it is, so it is checked; an image's name and every query value are
//! percent-encoded. An empty or dotted segment is refused rather than encoded: the engine's router cleans paths before it
//! matches them, and answers an empty id with a redirect to somewhere else.

use super::error::Error;

/// The id or name of a container or a network, fit for a path: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 255 bytes.
pub(super) fn name<'a>(call: &'static str, name: &'a str) -> Result<&'a str, Error> {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && name.len() <= 255 && name.bytes().all(rest) { Ok(name) } else { Err(bad(call, name)) }
}

/// An image's reference, percent-encoded for a path. `/`, `:` and `@` stay: the engine's routes expect them.
pub(super) fn image(call: &'static str, name: &str) -> Result<String, Error> {
    let fine = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    if name.len() <= 1024 && name.split('/').all(fine) { Ok(encode(name, b"/:@")) } else { Err(bad(call, name)) }
}

fn bad(call: &'static str, name: &str) -> Error {
    Error::BadName { call, given: name.chars().take(80).collect() }
}

/// Percent-encodes all but RFC 3986's unreserved characters and those in `keep`.
fn encode(text: &str, keep: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// A query string in the making.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Query(String);

impl Query {
    /// Adds `key=value`, the value percent-encoded.
    pub(super) fn add(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
        self.0.push('=');
        self.0.push_str(&encode(value, b""));
    }

    /// `?a=b&c=d`, or nothing.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_path_is_refused() {
        assert_eq!(name("x", "assay-1_a.b").unwrap(), "assay-1_a.b");
        for bad in ["", "/a", "a/b", "..", ".a", "-a", "a?b", "a%2fb", "a b", "ä", "a\r\nHost: b"] {
            assert!(name("x", bad).is_err(), "{bad}");
        }
        assert!(name("x", &"a".repeat(255)).is_ok() && name("x", &"a".repeat(256)).is_err());
    }

    #[test]
    fn an_image_name_keeps_its_punctuation_and_loses_its_tricks() {
        assert_eq!(image("x", "r.io:5/a/b:1@sha256:0").unwrap(), "r.io:5/a/b:1@sha256:0");
        assert_eq!(image("x", "a?b#c d").unwrap(), "a%3Fb%23c%20d");
        for bad in ["", "/a", "a//b", "../containers/x", "a/./b", "a/"] {
            assert!(image("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_encodes_its_values() {
        let mut query = Query::default();
        assert_eq!(query.as_str(), "");
        query.add("a", "1&b=2");
        query.add("d", "é");
        assert_eq!(query.as_str(), "?a=1%26b%3D2&d=%C3%A9");
    }
}
