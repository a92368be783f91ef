//! API versions: parsing, comparison as numbers (`1.9 < 1.41`), and negotiation.
//!
//! This client speaks at most 1.51, because 1.52 omits empty fields and removes old ones, and at
//! least 1.41 (Docker 20.10), because `CgroupnsMode` starts there and an older engine would ignore
//! it silently. The version is never pinned: Docker 20.10 speaks at most 1.41, Docker 29.0 at least
//! 1.44.

use std::fmt;
use std::str::FromStr;

/// An Engine API version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    pub major: u32,
    pub minor: u32,
}

/// The oldest version that this client speaks: Docker 20.10.
pub const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 41 };
/// The newest version that this client speaks: Docker 28.
pub const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 51 };

/// Why negotiation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The reply to a ping carried no `Api-Version`.
    #[error("its answer has no API version; is this a Docker Engine?")]
    Missing,
    /// The header is not `major.minor`.
    #[error("its API version {0:?} is not of the form {NEWEST}; is this a Docker Engine?")]
    Malformed(String),
    /// The engine is older than [`OLDEST`].
    #[error("it offers API {0}, and at least {OLDEST} (Docker 20.10) is required")]
    TooOld(ApiVersion),
    /// A major version that is not 1.
    #[error("it offers API {0}, and this client knows 1.x, up to {NEWEST}")]
    Unknown(ApiVersion),
    /// The engine no longer speaks any version of this client.
    #[error("it no longer speaks API {NEWEST}: {0}")]
    TooNew(String),
}

/// The version to use with an engine whose newest is `offered`.
///
/// # Errors
/// There is no common version.
pub fn negotiate(offered: ApiVersion) -> Result<ApiVersion, VersionError> {
    match offered {
        old if old < OLDEST => Err(VersionError::TooOld(old)),
        new if new.major != NEWEST.major => Err(VersionError::Unknown(new)),
        supported => Ok(supported.min(NEWEST)),
    }
}

impl ApiVersion {
    /// Parses `1.41`, without anything around it.
    pub fn parse(text: &str) -> Option<ApiVersion> {
        let number = |part: &str| {
            let plain = (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            (plain && (part.len() == 1 || !part.starts_with('0'))).then(|| part.parse().ok()).flatten()
        };
        let (major, minor) = text.split_once('.')?;
        Some(ApiVersion { major: number(major)?, minor: number(minor)? })
    }
}

impl FromStr for ApiVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<ApiVersion, VersionError> {
        ApiVersion::parse(text).ok_or_else(|| VersionError::Malformed(text.chars().take(32).collect()))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(text: &str) -> Result<ApiVersion, VersionError> {
        negotiate(text.parse()?)
    }

    #[test]
    fn versions_compare_as_numbers() {
        let nine = ApiVersion::parse("1.9").unwrap();
        assert!(nine < OLDEST && nine.to_string() == "1.9");
    }

    #[test]
    fn the_lower_version_is_used_and_too_old_an_engine_is_refused() {
        for (text, spoken) in [("1.41", "1.41"), ("1.44", "1.44"), ("1.51", "1.51"), ("1.52", "1.51"), ("1.60", "1.51")]
        {
            assert_eq!(offered(text).unwrap().to_string(), spoken);
        }
        assert!(matches!(offered("1.40"), Err(VersionError::TooOld(_))));
        assert!(matches!(offered("1.9"), Err(VersionError::TooOld(_))));
        assert!(matches!(offered("9999.0"), Err(VersionError::Unknown(_))));
    }

    #[test]
    fn text_that_is_not_a_version_is_refused() {
        for text in ["", "1", "1.", ".41", "1.41.0", "1.+4", "v1.41", "1.99999999999", "1,41", "1.041", " 1.41"] {
            assert!(matches!(offered(text), Err(VersionError::Malformed(_))), "{text}");
        }
    }
}
