//! Where an engine is.

use std::path::PathBuf;

/// Docker's own default.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A scheme that we know but don't speak yet.
    #[error("use {0:?}: TCP endpoints are not supported yet; use unix:///var/run/docker.sock")]
    NotYet(String),
    /// Anything else.
    #[error("use {0:?}: not an engine's address; write unix:///path/to/docker.sock")]
    Unknown(String),
}

impl Endpoint {
    /// Reads an address such as `unix:///var/run/docker.sock`.
    ///
    /// # Errors
    /// A scheme that is not (yet) spoken, or a path that is not absolute.
    pub fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Endpoint::Unix(PathBuf::from(path)))
            } else {
                Err(EndpointError::Unknown(text.to_owned()))
            };
        }
        let known = ["tcp://", "http://", "https://", "ssh://", "npipe://"];
        match known.iter().any(|scheme| text.starts_with(scheme)) {
            true => Err(EndpointError::NotYet(text.to_owned())),
            false => Err(EndpointError::Unknown(text.to_owned())),
        }
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint::Unix(PathBuf::from(DEFAULT_SOCKET))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_the_same() {
        let endpoint = Endpoint::parse("unix:///var/run/docker.sock").unwrap();
        assert_eq!(endpoint.to_string(), "unix:///var/run/docker.sock");
        assert_eq!(endpoint, Endpoint::default());
    }

    #[test]
    fn what_is_not_an_address_says_what_one_looks_like() {
        assert!(matches!(Endpoint::parse("tcp://localhost:2376"), Err(EndpointError::NotYet(_))));
        for text in ["", "docker.sock", "unix://relative", "file:///x"] {
            assert!(matches!(Endpoint::parse(text), Err(EndpointError::Unknown(_))), "{text}");
        }
    }
}
