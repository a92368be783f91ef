//! What can go wrong between us and an engine: whose fault, which call, which phase, and whether to try again.
//!
//! `Display` reads after "failed to", `source()` carries the cause, [`Error::remedy`] is a sentence for a person.
//!
//! | variant | whose | was anything sent | again? |
//! |---|---|---|---|
//! | `Connect`, `Tls` | the host's, or its configuration's | no | yes, but for what a person must mend |
//! | `Timeout`, `Broken` | the host's | perhaps | yes, for what is idempotent |
//! | `Status` | 4xx the call's, 5xx the host's | yes | 5xx and 429 |
//! | `Reported` | the engine's or its registry's | yes | yes |
//! | `Nonsense`, `NotHttp`, `TooLarge`, `Version` | whatever listens there | yes | no |
//! | `BadName`, `Refused`, `Upload` | the caller's | no, or in part | no |

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use super::dial::ConnectProblem;
use super::endpoint::Endpoint;
use super::tls::TlsProblem;
use super::version::{NEWEST, OLDEST, VersionError};

/// The calls that wait for no container's lock, nor for work: only these say something about the engine by being late.
const LOCKLESS: [&str; 4] = ["ping the engine", "ask the engine's version", "ask about the engine", "list containers"];

/// The named waits of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// From the request to the status line; an upload's silence counts here too.
    Head,
    /// Taking the connection over after a 101.
    Upgrade,
    /// Reading the reply.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Head => "head",
            Phase::Upgrade => "upgrade",
            Phase::Body => "body",
        })
    }
}

/// Any error below ours.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nobody at the endpoint, or we may not talk to it. Nothing was sent.
    #[error("reach the Docker Engine at {endpoint}: {problem}")]
    Connect {
        /// Where.
        endpoint: Endpoint,
        /// What kind of refusal it was.
        problem: ConnectProblem,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The two sides do not trust each other, or the other does not speak TLS. Nothing was sent.
    #[error("reach the Docker Engine at {endpoint}: {problem}")]
    Tls {
        /// Where.
        endpoint: Endpoint,
        /// What kind of distrust it is.
        problem: TlsProblem,
    },
    /// A phase took too long. The engine may still do what was asked.
    #[error("{call}: no answer within {} ms ({phase})", after.as_millis())]
    Timeout {
        /// Which call.
        call: &'static str,
        /// Which phase of it.
        phase: Phase,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke in the middle. The engine may have done what was asked.
    #[error("{call}: the connection to the engine broke ({phase}): {}", innermost(source.as_ref()))]
    Broken {
        /// Which call.
        call: &'static str,
        /// Which phase of it.
        phase: Phase,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The engine answered with an error.
    #[error("{call}: the engine answered {status}: {message}")]
    Status {
        /// Which call.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// The engine's words, at most 4 KiB.
        message: String,
    },
    /// The engine reported an error inside a stream that had begun well.
    #[error("{call}: the engine reported: {message}")]
    Reported {
        /// Which call.
        call: &'static str,
        /// The engine's words, at most 4 KiB.
        message: String,
    },
    /// The engine's answer is not what the API promises.
    #[error("{call}: the answer makes no sense: {message}")]
    Nonsense {
        /// Which call.
        call: &'static str,
        /// What is wrong with it, at most 4 KiB.
        message: String,
    },
    /// What answers speaks something else.
    #[error("{call}: what answers at {endpoint} does not speak HTTP/1.1: {}", innermost(source.as_ref()))]
    NotHttp {
        /// Which call.
        call: &'static str,
        /// Where.
        endpoint: Endpoint,
        /// The parser's word.
        #[source]
        source: Cause,
    },
    /// An answer beyond its bound.
    #[error("{call}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// Which call.
        call: &'static str,
        /// The bound, in bytes.
        limit: usize,
    },
    /// No API version in common.
    #[error("speak with the engine at {endpoint}: {problem}")]
    Version {
        /// Where.
        endpoint: Endpoint,
        /// What is wrong with its version.
        problem: VersionError,
    },
    /// A name or id that must not stand in a path. Nothing was sent.
    #[error("{call}: {given:?} is not a name or id")]
    BadName {
        /// Which call.
        call: &'static str,
        /// What was given.
        given: String,
    },
    /// The call is not made with these arguments. Nothing was sent.
    #[error("{call}: {message}")]
    Refused {
        /// Which call.
        call: &'static str,
        /// Why.
        message: String,
    },
    /// What was to be uploaded could not be read to its end. The engine made nothing of it.
    #[error("{call}: read what is to be uploaded: {source}")]
    Upload {
        /// Which call.
        call: &'static str,
        /// The reader's error.
        #[source]
        source: io::Error,
    },
}

/// The most that is kept of a peer's words, in bytes.
pub(super) const MAX_WORDS: usize = 4096;

/// At most [`MAX_WORDS`] bytes of `text`, cut between two characters.
pub(super) fn shorten(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_WORDS)].to_owned()
}

/// The last of a chain of causes: the one that knows.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Error {
    /// An answer that is not what the API promises. A parser quotes what it refuses, so what it says is bounded.
    pub(super) fn nonsense(call: &'static str, message: impl fmt::Display) -> Error {
        Error::Nonsense { call, message: shorten(&message.to_string()) }
    }

    /// The HTTP status, when there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// No such container, image or network.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// In the way of something else.
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }

    /// The engine is absent, does not answer, or may not be talked to: news about the host, not about this call.
    ///
    /// A head that is late counts only for the calls that wait for no container: an `inspect` or a `start` that hangs means
    /// that something holds that container's lock (moby issue 41827), while the engine answers all others. Ping to know.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Tls { .. } | Error::Version { .. } | Error::NotHttp { .. } => true,
            Error::Timeout { call, phase, .. } => *phase == Phase::Head && LOCKLESS.contains(call),
            Error::Broken { phase, .. } => *phase == Phase::Head,
            _ => false,
        }
    }

    /// Whether the same call may succeed a moment later. It says nothing of whether the first try took effect.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Connect { problem, .. } => problem.may_pass(),
            Error::Timeout { .. } | Error::Broken { .. } | Error::Reported { .. } => true,
            Error::Status { status, .. } => *status >= 500 || *status == 429 || self.is_stale(),
            Error::Tls { problem, .. } => problem.may_pass(),
            _ => false,
        }
    }

    /// Whether the engine may have done what was asked although the caller was not told.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Error::Timeout { .. } | Error::Broken { .. } | Error::TooLarge { .. } | Error::Nonsense { .. } => true,
            Error::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// The engine no longer speaks the version that we remember. One of the few texts that are matched, stable since 1.12.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Error::Status { status: 400, message, .. } if message.contains("client version"))
    }

    /// Another client's df is under way, and the engine (before 23) does one at a time. The words of 1.13 to 20.10.
    pub(super) fn is_counting(&self) -> bool {
        matches!(self, Error::Status { status: 500, message, .. } if message.contains("disk usage operation is already running"))
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Error::Connect { endpoint, problem, .. } => problem.remedy(endpoint),
            Error::Tls { problem, .. } => problem.remedy(),
            Error::Version { problem: VersionError::TooOld(_), .. } => {
                Some(format!("upgrade Docker to 20.10 (API {OLDEST}) or later"))
            }
            Error::Version { problem: VersionError::TooNew(_) | VersionError::Unknown(_), .. } => {
                Some(format!("upgrade assay: this one speaks API {OLDEST} to {NEWEST}"))
            }
            Error::Version { .. } => Some("give the address of a Docker Engine".to_owned()),
            Error::Timeout { phase: Phase::Head, .. } => Some(
                "the engine accepts connections but does not answer: look at its log (journalctl -u docker)".to_owned(),
            ),
            Error::NotHttp { endpoint: Endpoint::Tcp { .. }, .. } => Some(
                "if this is the engine's TLS port, give its certificates (DOCKER_TLS_VERIFY=1, DOCKER_CERT_PATH)"
                    .to_owned(),
            ),
            Error::Status { status: 400, message, .. } if message.contains("HTTPS server") => Some(
                "this is the engine's TLS port: give its certificates (DOCKER_TLS_VERIFY=1, DOCKER_CERT_PATH)"
                    .to_owned(),
            ),
            Error::Status { message, .. } | Error::Reported { message, .. }
                if message.contains("no space left on device") =>
            {
                Some("the engine's disk is full: docker system df says what takes it".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(call: &'static str, phase: Phase) -> Error {
        Error::Timeout { call, phase, after: Duration::from_secs(5) }
    }

    fn status(status: u16, message: &str) -> Error {
        Error::Status { call: "start a container", status, message: message.to_owned() }
    }

    #[test]
    fn a_hanging_container_is_not_a_hanging_engine() {
        assert!(late("ping the engine", Phase::Head).is_unreachable());
        assert!(!late("ping the engine", Phase::Body).is_unreachable());
        assert!(!late("inspect a container", Phase::Head).is_unreachable());
        assert!(late("inspect a container", Phase::Head).retryable());
    }

    #[test]
    fn only_what_may_pass_is_worth_another_try() {
        let worth = |code| status(code, "x").retryable();
        assert!(worth(500) && worth(503) && worth(429));
        assert!(!worth(400) && !worth(404) && !worth(409));
        assert!(status(400, "client version 1.47 is too new").retryable());
    }

    #[test]
    fn an_error_says_which_call_and_which_wait() {
        assert_eq!(
            late("start a container", Phase::Head).to_string(),
            "start a container: no answer within 5000 ms (head)"
        );
        assert!(status(500, "write: no space left on device").remedy().unwrap().contains("disk is full"));
        assert!(status(400, "Client sent an HTTP request to an HTTPS server.").remedy().unwrap().contains("TLS port"));
    }

    #[test]
    fn a_peers_words_are_cut_between_two_characters() {
        let long = "é".repeat(MAX_WORDS);
        assert_eq!(shorten(&long).len(), MAX_WORDS);
        assert!(shorten(&format!("x{long}")).len() < MAX_WORDS);
        assert!(Error::nonsense("ping the engine", long).to_string().len() < MAX_WORDS + 64);
    }

    #[test]
    fn a_lost_answer_may_have_happened_and_a_refusal_has_not() {
        assert!(late("create a container", Phase::Head).may_have_happened());
        assert!(!status(409, "taken").may_have_happened() && status(500, "").may_have_happened());
    }
}
