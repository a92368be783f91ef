//! Every bound in one table (invariant 5). Each has its derivation beside it; its name is the one that errors use.

use std::time::Duration;

/// One line of the socket protocol: a submission of ordinary size, base64 included, fits; more travels as blobs.
pub const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// JSON nesting. A submission nests 6 deep.
pub const MAX_DEPTH: usize = 32;

/// One blob: the largest test inputs of published contests are around 100 MB.
pub const MAX_BLOB_BYTES: u64 = 256 * 1024 * 1024;

/// All blobs of one uid.
pub const MAX_BLOBS_BYTES_PER_UID: u64 = 1024 * 1024 * 1024;

/// Blobs of one uid.
pub const MAX_BLOBS_PER_UID: usize = 4096;

/// A blob that nobody touched for this long is dropped.
pub const BLOB_TTL: Duration = Duration::from_secs(600);

/// Files, inputs and expectations of one submission together, blobs included.
pub const MAX_SUBMISSION_BYTES: u64 = 512 * 1024 * 1024;

/// A report as a line; larger outputs become blobs.
pub const MAX_REPORT_BYTES: usize = 8 * 1024 * 1024;

/// An output larger than this stands in a blob, not in the report.
pub const MAX_INLINE_OUTPUT_BYTES: usize = 1024 * 1024;

/// How long a finished submission can be asked for.
pub const REPORT_TTL: Duration = Duration::from_secs(600);

/// Finished submissions that are kept.
pub const MAX_KEPT_REPORTS: usize = 4096;

/// Connections at a time.
pub const MAX_CONNECTIONS: usize = 2048;

/// Connections of one uid at a time: half, so that no uid can keep the others out.
pub const MAX_CONNECTIONS_PER_UID: usize = MAX_CONNECTIONS / 2;

/// Files, inputs and expectations of one uid's submissions that are not answered yet, in bytes.
pub const MAX_BYTES_PER_UID: u64 = 1024 * 1024 * 1024;

/// Calls under way on one connection.
pub const MAX_CALLS_PER_CONNECTION: usize = 1024;

/// What waits to be written to one connection, in messages; past it, the calls of that connection wait.
pub const MAX_OUTBOUND_MESSAGES: usize = 256;

/// A reader that takes nothing for this long is cut.
pub const SLOW_READER: Duration = Duration::from_secs(30);

/// Files of one submission or test.
pub const MAX_FILES: usize = 1024;

/// A path.
pub const MAX_PATH_BYTES: usize = 1024;

/// A component of a path: Linux's own bound.
pub const MAX_NAME_BYTES: usize = 255;

/// Tests of one submission.
pub const MAX_TESTS: usize = 4096;

/// Arguments of one program.
pub const MAX_ARGS: usize = 1024;

/// Variables of one program.
pub const MAX_ENV: usize = 256;

/// Arguments and environment of one program together: half of one wire frame.
pub const MAX_ARGV_ENV_BYTES: usize = 128 * 1024;

/// A tenant (DESIGN section 6).
pub const MAX_TENANT_BYTES: usize = 128;

/// A submission's id.
pub const MAX_ID_BYTES: usize = 128;

/// The host's backstop: what it waits beyond a run's wall limit before it acts itself.
pub const BACKSTOP: Duration = Duration::from_secs(5);

/// Patterns of files to bring back.
pub const MAX_COLLECT_PATTERNS: usize = 64;

/// Files brought back from one submission; each is an open file in the init for a moment.
pub const MAX_COLLECT_FILES: u32 = 256;

/// Their bytes together: as much as one output may have.
pub const MAX_COLLECT_BYTES: u64 = 64 * 1024 * 1024;

/// A program's output that waits for a slow streaming reader, in events.
pub const MAX_EVENTS_AHEAD: usize = 64;

/// Events of one submission that are kept for who reads them later.
pub const MAX_LOG_EVENTS: usize = 8192;

/// Output among them, in bytes.
pub const MAX_LOG_BYTES: usize = 256 * 1024;

/// And when it is over: [`MAX_KEPT_REPORTS`] of them come to 256 MiB at most.
pub const MAX_ENDED_LOG_BYTES: usize = 64 * 1024;

/// How often who streams is told what the program uses.
pub const USAGE_EVERY: Duration = Duration::from_millis(500);

/// Programs that judge one submission: checkers of its tests that differ, an interactor.
pub const MAX_REFEREES: usize = 4;

/// What a checker or interactor says to people.
pub const MAX_FEEDBACK_BYTES: usize = 4096;

/// Cases of one suite; and the same for their names and messages together.
pub const MAX_CASES: usize = 4096;

/// What the cases of a suite say together.
pub const MAX_CASES_BYTES: usize = 1024 * 1024;

/// Connections to the HTTP door: a handful of scrapers and health checks, and as many again that are in nobody's way.
pub const MAX_HTTP_CONNECTIONS: usize = 32;

/// How long a request's head may take from the first moment on, on a new connection and between two requests.
pub const HTTP_HEAD_TIME: Duration = Duration::from_secs(5);

/// A request's head. Prometheus sends 250 bytes; hyper wants 8 KiB at least.
pub const MAX_HTTP_HEAD_BYTES: usize = 8 * 1024;

/// Fields of a request's head: Prometheus sends 6.
pub const MAX_HTTP_FIELDS: usize = 64;

/// How long a connection to the HTTP door lives; who reads slowly holds its place no longer than this and
/// [`HTTP_SHUTDOWN_TIME`]. A scraper that comes every 15 s uses one four times.
pub const HTTP_CONNECTION_TIME: Duration = Duration::from_secs(60);

/// How long the answer under way then has.
pub const HTTP_SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// How long one text of the metrics serves all who ask: asking faster costs nothing more.
pub const METRICS_FRESH: Duration = Duration::from_millis(100);
