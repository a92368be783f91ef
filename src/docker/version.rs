//! API versions, compared as numbers: 1.9 is older than 1.41.

use std::fmt;

/// An API version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// The part before the dot.
    pub major: u32,
    /// The part after it.
    pub minor: u32,
}

/// The oldest that we speak: Engine 20.10.
pub const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 41 };
/// The newest that we speak: everything we need is there, and it avoids what 1.52 removes.
pub const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 47 };

impl ApiVersion {
    /// Reads `1.41`.
    pub fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.trim().split_once('.')?;
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().ok(),
            false => None,
        };
        Some(ApiVersion { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version to speak with an engine that offers `offered`, or none when it is too old.
pub fn negotiate(offered: ApiVersion) -> Option<ApiVersion> {
    (offered >= OLDEST).then(|| offered.min(NEWEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ApiVersion {
        ApiVersion::parse(text).unwrap()
    }

    #[test]
    fn versions_are_numbers_not_text() {
        assert!(version("1.9") < version("1.41"));
        assert!(version("2.0") > version("1.99"));
    }

    #[test]
    fn the_older_of_both_is_spoken() {
        assert_eq!(negotiate(version("1.41")), Some(version("1.41")));
        assert_eq!(negotiate(version("1.52")), Some(NEWEST));
        assert_eq!(negotiate(version("9999.0")), Some(NEWEST));
        assert_eq!(negotiate(version("1.40")), None);
    }

    #[test]
    fn what_is_not_a_version_is_refused() {
        for text in ["", "1", "1.", ".1", "1.x", "-1.2", "1.2.3", "1.99999999999", "+1.2"] {
            assert_eq!(ApiVersion::parse(text), None, "{text}");
        }
    }
}
