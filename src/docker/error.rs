//! What can go wrong between us and an engine: whose fault, in which call and phase, and whether to try again.

use std::io;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::version::ApiVersion;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nobody at the endpoint, or we may not talk to it.
    #[error("reach the Docker Engine at {endpoint}: {}", connect_words(source))]
    Connect {
        /// Where.
        endpoint: Endpoint,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A phase took too long.
    #[error("{call}: no answer within {} ms ({phase})", after.as_millis())]
    Timeout {
        /// Which call.
        call: &'static str,
        /// Which phase of it: connect, head or body.
        phase: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The connection failed in the middle.
    #[error("{call}: the connection failed ({phase}): {source}")]
    Transport {
        /// Which call.
        call: &'static str,
        /// Which phase of it.
        phase: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine answered with an error.
    #[error("{call}: the engine answered {status}: {message}")]
    Status {
        /// Which call.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// The engine's words, cut.
        message: String,
    },
    /// The engine reported an error inside a stream that had begun well.
    #[error("{call}: the engine reported: {message}")]
    Reported {
        /// Which call.
        call: &'static str,
        /// The engine's words, cut.
        message: String,
    },
    /// The engine's answer is not what the API promises.
    #[error("{call}: the answer makes no sense: {message}")]
    Nonsense {
        /// Which call.
        call: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The engine is too old.
    #[error("speak with this engine: it offers API {offered}, and 1.41 (Engine 20.10) is the least")]
    TooOld {
        /// What it offers.
        offered: ApiVersion,
    },
    /// A name or id that must not stand in a path.
    #[error("{call}: {given:?} is not a name or id")]
    BadName {
        /// Which call.
        call: &'static str,
        /// What was given.
        given: String,
    },
}

fn connect_words(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::NotFound => "its socket does not exist. Please make sure Docker is running".to_owned(),
        io::ErrorKind::ConnectionRefused => {
            "nobody listens on its socket. Please make sure Docker is running".to_owned()
        }
        io::ErrorKind::PermissionDenied => "permission denied on its socket".to_owned(),
        _ => source.to_string(),
    }
}

impl Error {
    /// The HTTP status, when there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// No such container or image.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// In the way of something else.
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }

    /// Whether the engine itself is not there (or not for us), so that the call's content is not to blame.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Connect { .. } | Error::Timeout { .. } | Error::Transport { .. } | Error::TooOld { .. })
    }

    /// Whether the same call may succeed when it is tried again.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Timeout { .. } | Error::Transport { .. } => true,
            Error::Status { status, .. } => *status >= 500,
            Error::Reported { .. } => true,
            Error::Nonsense { .. } | Error::TooOld { .. } | Error::BadName { .. } => false,
        }
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Error::Connect { endpoint: Endpoint::Unix(path), source } => Some(match source.kind() {
                io::ErrorKind::PermissionDenied => format!(
                    "add the daemon's user to the group that owns {} (usually: sudo usermod -aG docker USER), then log in again",
                    path.display()
                ),
                _ => "start the engine: sudo systemctl start docker (or: sudo dockerd &)".to_owned(),
            }),
            Error::TooOld { .. } => Some("upgrade Docker to 20.10 or later".to_owned()),
            Error::Timeout { .. } => {
                Some("the engine is there but does not answer: look at its log (journalctl -u docker)".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(kind: io::ErrorKind) -> Error {
        Error::Connect { endpoint: Endpoint::default(), source: io::Error::from(kind) }
    }

    #[test]
    fn a_missing_socket_asks_to_start_docker() {
        let error = connect(io::ErrorKind::NotFound);
        assert!(error.to_string().contains("Please make sure Docker is running"));
        assert!(error.remedy().unwrap().contains("systemctl start docker"));
        assert!(error.retryable() && error.is_unreachable());
    }

    #[test]
    fn a_denied_socket_names_the_group() {
        let error = connect(io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("permission denied"));
        assert!(error.remedy().unwrap().contains("usermod -aG docker"));
    }

    #[test]
    fn a_client_error_is_not_worth_a_retry_and_a_server_error_is() {
        let status = |status| Error::Status { call: "c", status, message: String::new() };
        assert!(!status(400).retryable() && !status(404).retryable() && status(500).retryable());
    }
}
