//! A client of the Docker Engine's HTTP API.
//!
//! - Every wait is bounded and has a name ([`deadlines`]); every buffer is bounded.
//! - Every error says whose fault it was, in which call, and whether to try again ([`Error`]).
//! - Dropping a future closes that call's connection and has no other effect here. Whether
//!   the engine continues the operation differs, and is documented at each call.
//!
//! ```text
//!   Settings + Environment --target.rs--> EngineTarget --Client::open--> Client
//!                                                              (Transport, version)
//!   call/*.rs  --------->  Call  (Op, path, query, body)               |
//!                           |                                          |
//!   transport.rs            |  IdlePool, or dial.rs (Unix, TCP, tls.rs) ----> engine
//!                           |  head <---------------------------------------- status line
//!                           v
//!              +------ EngineReply ----+--------------------+
//!              | status refused        | 2xx                | 101
//!              v                       v                    v
//!        error body, 4 KiB       whole body, capped    Hijacked: the raw stream,
//!        -> Error::Status        or JSON lines, idle   leftover bytes first, never half-closed
//!                                                           |
//!                                                      stdcopy::Decoder (no I/O)
//! ```
//!
//! Not supported, on purpose: exec, swarm, plugins, volumes, and retries beyond what was provably
//! never executed (the caller decides, with [`Error::retryable`]). Access to the engine's socket
//! means root, so the set of calls is closed.
//!
//! **Versions.** The API version is negotiated once: the lower of the engine's newest and 1.51, at
//! least 1.41. Every reply names the engine's newest version, and a change is followed at once.
//! After a failed connect, or when the engine rejects our version, negotiation starts again: the
//! engine may have been upgraded. Fields without a note exist in API 1.41.

mod app;
mod call;
mod client;
mod connect_problem;
mod connection;
pub mod deadlines;
mod dial;
mod endpoint;
mod error;
mod hijack;
pub mod jsonlines;
mod observe;
mod op;
mod path;
pub mod registry;
mod reply;
mod request;
pub mod stdcopy;
mod target;
mod tls;
mod transport;
mod types;
pub mod version;

pub use app::{App, SettingNames};
pub use call::images::{Pull, PullPolicy};
pub use call::lifecycle::{LogOptions, LogStream, StatsStream, Wait};
pub use call::system::Events;
pub use call::transfer::BuildOptions;
pub use client::Client;
pub use connect_problem::ConnectProblem;
pub use dial::{BoxedIo, Connector, Io};
pub use endpoint::{DEFAULT_SOCKET, Endpoint, EndpointError};
pub use error::{Error, Phase};
pub use hijack::{HijackReader, HijackWriter, Hijacked};
pub use observe::Observer;
pub use op::Op;
pub use reply::error_text;
pub use target::{EngineTarget, Environment, Settings, SetupError};
pub use tls::{TlsFileKind, TlsFiles, TlsProblem, TlsSetupError};
pub use types::*;
pub use version::{ApiVersion, VersionError};

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
struct ReadmeExample;
