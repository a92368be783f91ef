//! Errors of calls: whose fault it is, which call, which phase, and whether to try again.
//!
//! `Display` reads after "failed to", `source()` carries the cause, [`Error::remedy`] is a sentence
//! for the user.
//!
//! | variant | at fault | anything sent | retry |
//! |---|---|---|---|
//! | `Connect`, `Tls` | the host or its configuration | no | unless the configuration must change |
//! | `Timeout`, `Broken` | the host | perhaps | yes, if the call is idempotent |
//! | `Status` | 4xx the caller, 5xx the host | yes | 5xx and 429 |
//! | `Reported` | the engine or its registry | yes | yes |
//! | `BadReply`, `NotHttp`, `TooLarge`, `Version` | the peer | yes | no |
//! | `InvalidName`, `InvalidRequest`, `Upload` | the caller | no, or in part | no |

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use super::app::App;
use super::connect_problem::ConnectProblem;
use super::endpoint::Endpoint;
use super::op::Op;
use super::tls::TlsProblem;
use super::version::{NEWEST, OLDEST, VersionError};

/// The phases of a call after its connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// From the request to the status line. Includes the silence of an upload.
    Head,
    /// Taking over the connection after a 101.
    Upgrade,
    /// Reading the reply's body.
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

/// An error of a library below this one.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection to the endpoint. Nothing was sent.
    #[error("reach the Docker Engine at {endpoint}: {problem}")]
    Connect {
        endpoint: Endpoint,
        problem: ConnectProblem,
        #[source]
        source: io::Error,
    },
    /// The TLS handshake failed, or the engine rejected our certificate. Nothing was executed.
    #[error("reach the Docker Engine at {endpoint}: {problem}")]
    Tls { endpoint: Endpoint, problem: TlsProblem, app: &'static App },
    /// A phase exceeded its deadline. The engine may still do what was asked.
    #[error("{call}: no answer within {} ms ({phase})", after.as_millis())]
    Timeout { call: &'static Op, phase: Phase, after: Duration },
    /// The connection broke during the call. The engine may have done what was asked.
    #[error("{call}: the connection to the engine broke ({phase}): {}", innermost(source.as_ref()))]
    Broken {
        call: &'static Op,
        phase: Phase,
        #[source]
        source: Cause,
    },
    /// The engine answered with an error status. `message` has at most 4 KiB.
    #[error("{call}: the engine answered {status}: {message}")]
    Status { call: &'static Op, status: u16, message: String },
    /// The engine reported an error inside a stream that had begun with a success status.
    /// `message` has at most 4 KiB.
    #[error("{call}: the engine reported: {message}")]
    Reported { call: &'static Op, message: String },
    /// The reply is not what the API documents. `message` has at most 4 KiB.
    #[error("{call}: unexpected answer: {message}")]
    BadReply { call: &'static Op, message: String },
    /// The peer does not speak HTTP/1.1.
    #[error("{call}: what answers at {endpoint} does not speak HTTP/1.1: {}", innermost(source.as_ref()))]
    NotHttp {
        call: &'static Op,
        endpoint: Endpoint,
        #[source]
        source: Cause,
    },
    /// The reply exceeds its bound of `limit` bytes.
    #[error("{call}: the answer is larger than {limit} bytes")]
    TooLarge { call: &'static Op, limit: usize },
    /// There is no API version that both sides speak.
    #[error("speak with the engine at {endpoint}: {problem}")]
    Version { endpoint: Endpoint, problem: VersionError, app: &'static App },
    /// A name or id that is not valid in a path. Nothing was sent.
    #[error("{call}: {given:?} is not a name or id")]
    InvalidName { call: &'static Op, given: String },
    /// The arguments are not valid for the call. Nothing was sent.
    #[error("{call}: {message}")]
    InvalidRequest { call: &'static Op, message: String },
    /// Reading an upload, or writing a download, failed on the caller's side.
    #[error("{call}: read the data to upload: {source}")]
    Upload {
        call: &'static Op,
        #[source]
        source: io::Error,
    },
}

/// The most bytes kept of an error text from a peer.
pub(super) const MAX_ERROR_TEXT: usize = 4096;

/// At most [`MAX_ERROR_TEXT`] bytes of `text`, cut at a character boundary.
pub(super) fn shorten(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_ERROR_TEXT)].to_owned()
}

/// The text of the last error in a chain of causes: the most specific one.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Error {
    /// The text is cut to [`MAX_ERROR_TEXT`], because parsers quote their input.
    pub(super) fn bad_reply(call: &'static Op, message: impl fmt::Display) -> Error {
        Error::BadReply { call, message: shorten(&message.to_string()) }
    }

    pub(super) fn invalid(call: &'static Op, message: impl fmt::Display) -> Error {
        Error::InvalidRequest { call, message: message.to_string() }
    }

    /// The HTTP status, if the engine answered with one that is an error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Status 404: no such container, image or network.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Status 409: the object's state or name conflicts with the call.
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }

    /// Whether the engine itself is absent, hangs or denies access: a fact about the host, not
    /// about this call.
    ///
    /// A late head counts only for [immediate](Op::immediate) calls: an `inspect` or a `start` that
    /// hangs means that something holds that container's lock (moby issue 41827), while the engine
    /// answers all other calls. Send a ping to find out.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Tls { .. } | Error::Version { .. } | Error::NotHttp { .. } => true,
            Error::Timeout { call, phase, .. } => *phase == Phase::Head && call.immediate,
            Error::Broken { phase, .. } => *phase == Phase::Head,
            _ => false,
        }
    }

    /// Whether the same call may succeed a little later. Says nothing about whether the first
    /// attempt took effect; see [`Error::may_have_happened`].
    pub fn retryable(&self) -> bool {
        match self {
            Error::Connect { problem, .. } => problem.is_transient(),
            Error::Timeout { .. } | Error::Broken { .. } | Error::Reported { .. } => true,
            Error::Status { status, .. } => *status >= 500 || *status == 429 || self.is_stale_version(),
            Error::Tls { problem, .. } => problem.is_transient(),
            _ => false,
        }
    }

    /// Whether the engine may have done what was asked although the call failed.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Error::Timeout { .. } | Error::Broken { .. } | Error::TooLarge { .. } | Error::BadReply { .. } => true,
            Error::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// The engine no longer speaks the negotiated version. Text match, stable since Docker 1.12.
    pub(super) fn is_stale_version(&self) -> bool {
        matches!(self, Error::Status { status: 400, message, .. } if message.contains("client version"))
    }

    /// Engines before 23 serve one `/system/df` at a time and answer 500 to the others. Text match,
    /// stable from Docker 1.13 to 20.10.
    pub(super) fn is_disk_usage_busy(&self) -> bool {
        matches!(self, Error::Status { status: 500, message, .. } if message.contains("disk usage operation is already running"))
    }

    /// The engine's disk is full. Text match: the kernel's words, which the engine passes on.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Error::Status { message, .. } | Error::Reported { message, .. }
            if message.contains("no space left on device"))
    }

    /// What the user can do about it.
    pub fn remedy(&self) -> Option<String> {
        const TLS_PORT: &str =
            "this is the engine's TLS port: give its certificates (DOCKER_TLS_VERIFY=1, DOCKER_CERT_PATH)";
        const OTHER_PROGRAM: &str = "another program listens there: give the address of a Docker Engine";
        match self {
            Error::Connect { endpoint, problem, .. } => problem.remedy(endpoint),
            Error::Tls { problem, app, .. } => problem.remedy(app),
            Error::Version { problem, app, .. } => Some(match problem {
                VersionError::TooOld(_) => format!("upgrade Docker to 20.10 (API {OLDEST}) or later"),
                VersionError::TooNew(_) | VersionError::Unknown(_) => {
                    format!("upgrade {}: this one speaks API {OLDEST} to {NEWEST}", app.name)
                }
                _ => "give the address of a Docker Engine".to_owned(),
            }),
            Error::Timeout { phase: Phase::Head, .. } => Some(
                "the engine accepts connections but does not answer: look at its log (journalctl -u docker)".to_owned(),
            ),
            Error::NotHttp { endpoint: Endpoint::Tcp { .. }, .. } => Some(
                "if this is the engine's TLS port, give its certificates (DOCKER_TLS_VERIFY=1, DOCKER_CERT_PATH)"
                    .to_owned(),
            ),
            Error::NotHttp { .. } => Some(OTHER_PROGRAM.to_owned()),
            Error::Broken { phase: Phase::Head, .. } => Some(
                "what listens there closed the connection: make sure that it is a Docker Engine, and look at its log \
                 (journalctl -u docker)"
                    .to_owned(),
            ),
            Error::Status { status: 400, message, .. } if message.contains("HTTPS server") => Some(TLS_PORT.to_owned()),
            Error::Status { call, status: 404 | 405 | 501, .. } if call.immediate => Some(OTHER_PROGRAM.to_owned()),
            _ if self.is_disk_full() => {
                Some("the engine's disk is full: docker system df shows what uses it".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PING: Op = Op::get("ping the engine").immediate();
    static INSPECT: Op = Op::get("inspect a container");
    static START: Op = Op::post("start a container");

    fn late(call: &'static Op, phase: Phase) -> Error {
        Error::Timeout { call, phase, after: Duration::from_secs(5) }
    }

    fn status(status: u16, message: &str) -> Error {
        Error::Status { call: &START, status, message: message.to_owned() }
    }

    #[test]
    fn a_hanging_container_is_not_a_hanging_engine() {
        assert!(late(&PING, Phase::Head).is_unreachable());
        assert!(!late(&PING, Phase::Body).is_unreachable());
        assert!(!late(&INSPECT, Phase::Head).is_unreachable());
        assert!(late(&INSPECT, Phase::Head).retryable());
    }

    #[test]
    fn only_transient_statuses_are_retryable() {
        let retryable = |code| status(code, "x").retryable();
        assert!(retryable(500) && retryable(503) && retryable(429));
        assert!(!retryable(400) && !retryable(404) && !retryable(409));
        assert!(status(400, "client version 1.47 is too new").retryable());
    }

    #[test]
    fn an_error_names_the_call_and_the_phase() {
        assert_eq!(late(&START, Phase::Head).to_string(), "start a container: no answer within 5000 ms (head)");
        assert!(status(500, "write: no space left on device").remedy().unwrap().contains("disk is full"));
        assert!(status(400, "Client sent an HTTP request to an HTTPS server.").remedy().unwrap().contains("TLS port"));
        let endpoint = Endpoint::parse("unix:///run/other.sock").unwrap();
        let other = Error::NotHttp { call: &PING, endpoint, source: "invalid HTTP version parsed".into() };
        assert!(other.remedy().unwrap().contains("another program"));
        let other = Error::Status { call: &PING, status: 404, message: "not found".to_owned() };
        assert!(other.remedy().unwrap().contains("another program"));
        assert_eq!(status(404, "no such container").remedy(), None);
        let broken = Error::Broken { call: &PING, phase: Phase::Head, source: "closed".into() };
        assert!(broken.remedy().unwrap().contains("closed the connection"));
    }

    #[test]
    fn a_peers_error_text_is_cut_at_a_character_boundary() {
        let long = "é".repeat(MAX_ERROR_TEXT);
        assert_eq!(shorten(&long).len(), MAX_ERROR_TEXT);
        assert!(shorten(&format!("x{long}")).len() < MAX_ERROR_TEXT);
        assert!(Error::bad_reply(&PING, long).to_string().len() < MAX_ERROR_TEXT + 64);
    }

    #[test]
    fn a_lost_answer_may_have_taken_effect_and_a_refusal_has_not() {
        assert!(late(&START, Phase::Head).may_have_happened());
        assert!(!status(409, "taken").may_have_happened() && status(500, "").may_have_happened());
    }
}
