//! API versions: numbers, not text (`1.9 < 1.41`).
//!
//! At most 1.51 is spoken: 1.52 drops empty fields and removes old ones. At least 1.41 (Docker 20.10): `CgroupnsMode` starts
//! there, and an older engine would drop it without a word. The version is never pinned: Docker 20.10 speaks 1.41 at most,
//! 29.0 nothing below 1.44.

use std::fmt;
use std::str::FromStr;

/// An Engine API version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The part before the dot.
    pub major: u32,
    /// The part behind it.
    pub minor: u32,
}

/// The oldest version that is spoken: Docker 20.10.
pub const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 41 };
/// The newest version that is spoken: Docker 28.
pub const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 51 };

/// Why no version could be agreed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The reply to a ping carried no `Api-Version`.
    #[error("its answer names no API version; is this a Docker Engine?")]
    Missing,
    /// The header is not `major.minor`.
    #[error("its API version {0:?} is not of the form {NEWEST}; is this a Docker Engine?")]
    Malformed(String),
    /// The engine is older than [`OLDEST`].
    #[error("it offers API {0}, and {OLDEST} (Docker 20.10) is the least")]
    TooOld(ApiVersion),
    /// A major version that nobody has seen.
    #[error("it offers API {0}, and this client knows 1.x, up to {NEWEST}")]
    Unknown(ApiVersion),
    /// The engine no longer speaks what this client does.
    #[error("it speaks nothing as old as {NEWEST}: {0}")]
    TooNew(String),
}

/// The version to speak with an engine whose newest is `offered`.
///
/// # Errors
/// There is none in common.
pub fn negotiate(offered: ApiVersion) -> Result<ApiVersion, VersionError> {
    match offered {
        old if old < OLDEST => Err(VersionError::TooOld(old)),
        new if new.major != NEWEST.major => Err(VersionError::Unknown(new)),
        fine => Ok(fine.min(NEWEST)),
    }
}

impl ApiVersion {
    /// Reads `1.41`; nothing else around it.
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
    fn the_lower_of_the_two_is_spoken_and_below_the_floor_nothing() {
        for (text, spoken) in [("1.41", "1.41"), ("1.44", "1.44"), ("1.51", "1.51"), ("1.52", "1.51"), ("1.60", "1.51")]
        {
            assert_eq!(offered(text).unwrap().to_string(), spoken);
        }
        assert!(matches!(offered("1.40"), Err(VersionError::TooOld(_))));
        assert!(matches!(offered("1.9"), Err(VersionError::TooOld(_))));
        assert!(matches!(offered("9999.0"), Err(VersionError::Unknown(_))));
    }

    #[test]
    fn what_is_not_a_version_is_refused() {
        for text in ["", "1", "1.", ".41", "1.41.0", "1.+4", "v1.41", "1.99999999999", "1,41", "1.041", " 1.41"] {
            assert!(matches!(offered(text), Err(VersionError::Malformed(_))), "{text}");
        }
    }
}
