//! The fixed bounds that a caller can meet, in one table, each with its derivation. Errors use
//! their names. Bounds that no caller can meet are next to their owners.

use std::time::Duration;

/// A line of the socket protocol: fits a submission of ordinary size in base64; anything larger is
/// sent as a blob.
pub const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// Nesting of JSON. A submission has a depth of 6.
pub const MAX_DEPTH: usize = 32;

/// Number of values in a line. A value takes up to [`LINE_VALUE_BYTES`] when it is parsed, but only
/// two in the line. [`MAX_TESTS`] tests with 60 values each.
pub const MAX_LINE_VALUES: usize = 256 * 1024;

/// Memory of a parsed value besides its text.
pub const LINE_VALUE_BYTES: usize = 64;

/// Memory of a call under way besides its line: its task, which waits for a report or a turn.
pub const CALL_BYTES: usize = 8 * 1024;

/// Length of a call's id, which its response repeats.
pub const MAX_CALL_ID_BYTES: usize = 1024;

/// How long a line may take from its first byte to its end: a full line at 280 KB/s.
pub const LINE_TIME: Duration = Duration::from_secs(30);

/// Size of a blob: the largest test inputs of published contests are around 100 MB.
pub const MAX_BLOB_BYTES: u64 = 256 * 1024 * 1024;

/// Total size of the blobs of one uid.
pub const MAX_BLOBS_BYTES_PER_UID: u64 = 1024 * 1024 * 1024;

/// Total size of all blobs. Beyond it the uid with the most loses those that were not used for the
/// longest time, if another uid needs the room.
pub const MAX_BLOBS_BYTES: u64 = 4 * MAX_BLOBS_BYTES_PER_UID;

/// Number of blobs of one uid.
pub const MAX_BLOBS_PER_UID: usize = 4096;

/// A blob that was not read or written for this long is dropped.
pub const BLOB_TTL: Duration = Duration::from_secs(600);

/// Total size of files, inputs and expected outputs of a submission, with its blobs, and of the
/// arguments and environments that its tests have beside those of the submission.
pub const MAX_SUBMISSION_BYTES: u64 = 512 * 1024 * 1024;

/// Size of a report's line; larger outputs become blobs.
pub const MAX_REPORT_BYTES: usize = 8 * 1024 * 1024;

/// An output larger than this is returned as a blob.
pub const MAX_INLINE_OUTPUT_BYTES: usize = 1024 * 1024;

/// Sum of the output limits of a submission's tests that run at the same time: four of the largest.
pub const MAX_RUNNING_OUTPUT_BYTES: u64 = 256 * 1024 * 1024;

/// Output of a submission's tests that ended before the tests before them (`parallel`); what is
/// beyond it becomes blobs. Twice [`MAX_PARALLEL`] outputs of [`MAX_INLINE_OUTPUT_BYTES`]; larger
/// ones become blobs at once.
pub const MAX_WAITING_OUTPUT_BYTES: usize = 64 * 1024 * 1024;

/// How long the report of a finished submission is kept.
pub const REPORT_TTL: Duration = Duration::from_secs(600);

/// The shortest `store.keep`: [`REPORT_TTL`], in which reports can be fetched.
pub const MIN_STORE_KEEP: Duration = REPORT_TTL;

/// The least `store.max`: two of the largest reports with everything around them.
pub const MIN_STORE_BYTES: u64 = 16 * 1024 * 1024;

/// Number of kept reports.
pub const MAX_KEPT_REPORTS: usize = 4096;

/// Total size of the kept reports of one uid, with their events: 32 of the largest.
pub const MAX_KEPT_REPORT_BYTES_PER_UID: usize = 256 * 1024 * 1024;

/// Number of open connections.
pub const MAX_CONNECTIONS: usize = 2048;

/// Number of open connections of one uid: half, so that no uid can lock out the others.
pub const MAX_CONNECTIONS_PER_UID: usize = MAX_CONNECTIONS / 2;

/// Memory of one uid's unanswered submissions: files, inputs, expected outputs, arguments,
/// environments, and the tests themselves.
pub const MAX_BYTES_PER_UID: u64 = 1024 * 1024 * 1024;

/// Number of calls under way on one connection.
pub const MAX_CALLS_PER_CONNECTION: usize = 1024;

/// Messages waiting to be written to one connection; beyond it, the calls of that connection wait.
pub const MAX_OUTBOUND_MESSAGES: usize = 256;

/// Bytes of replies waiting to be written to one connection; beyond it, further replies wait. One
/// reply may exceed it by [`MAX_REPORT_BYTES`].
pub const MAX_OUTBOUND_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of unfinished lines, calls under way and unread replies of one uid: 32 full lines.
pub const MAX_SOCKET_BYTES_PER_UID: u64 = 256 * 1024 * 1024;

/// A message of this size or less is served when [`MAX_SOCKET_BYTES_PER_UID`] is reached.
pub const SMALL_MESSAGE_BYTES: u64 = 16 * 1024;

/// Total size of the small messages of one uid beyond that bound.
pub const SMALL_MESSAGES_BYTES_PER_UID: u64 = 64 * 1024 * 1024;

/// Delay that a caller beyond that bound is told to wait.
pub const SOCKET_BYTES_RETRY: Duration = Duration::from_secs(1);

/// A caller that reads less than [`SLOW_READER_BYTES`] in this time, while replies wait, is
/// disconnected.
pub const SLOW_READER: Duration = Duration::from_secs(30);

/// Bytes that a caller must read in [`SLOW_READER`].
pub const SLOW_READER_BYTES: usize = 64 * 1024;

/// Number of files of a submission or test.
pub const MAX_FILES: usize = 1024;

/// Length of a path.
pub const MAX_PATH_BYTES: usize = 1024;

/// Length of a component of a path: Linux's NAME_MAX.
pub const MAX_NAME_BYTES: usize = 255;

/// Folders in a path, with the file itself: what the init makes at most.
pub const MAX_PATH_DEPTH: usize = 64;

/// Points of a test: the sum of all tests' points stays exact to a thousandth.
pub const MAX_WEIGHT: f64 = 1e9;

/// Runs of one test that a checker may ask for.
pub const MAX_PASSES: u32 = 100;

/// Sandboxes that the tests of one submission run on at the same time: twice a usual ceiling of a
/// pool, so that the pool is what bounds them.
pub const MAX_PARALLEL: u32 = 32;

/// Number of tests of a submission.
pub const MAX_TESTS: usize = 4096;

/// Number of arguments of a program.
pub const MAX_ARGS: usize = 1024;

/// Number of environment variables of a program.
pub const MAX_ENV: usize = 256;

/// Total size of arguments and environment of a program: half of a wire frame.
pub const MAX_ARGV_ENV_BYTES: usize = 128 * 1024;

/// Length of a tenant.
pub const MAX_TENANT_BYTES: usize = 128;

/// Length of a submission's id.
pub const MAX_ID_BYTES: usize = 128;

/// Length of the URL of a callback.
pub const MAX_CALLBACK_URL_BYTES: usize = 2048;

/// Callbacks of one principal that wait for their receivers: the reports of all of them stay in the
/// store, beyond `store.max` if need be.
pub const MAX_WAITING_CALLBACKS: u64 = 4096;

/// Receivers of callbacks that `[http] callbacks` may name: each may have deliveries of its own
/// under way.
pub const MAX_CALLBACK_RECEIVERS: usize = 256;

/// How long the daemon waits beyond a run's wall limit before it ends the run itself.
pub const BACKSTOP: Duration = Duration::from_secs(5);

/// Number of patterns in `collect`.
pub const MAX_COLLECT_PATTERNS: usize = 64;

/// Number of files collected from a submission; each is briefly an open file in the init.
pub const MAX_COLLECT_FILES: u32 = 256;

/// Total size of the collected files: the maximum of an output.
pub const MAX_COLLECT_BYTES: u64 = 64 * 1024 * 1024;

/// Output events waiting for a slow streaming reader.
pub const MAX_EVENTS_AHEAD: usize = 64;

/// Number of events of a submission kept for later readers.
pub const MAX_LOG_EVENTS: usize = 8192;

/// Size of the output among the kept events.
pub const MAX_LOG_BYTES: usize = 256 * 1024;

/// The same once the submission is done: at most 256 MiB for [`MAX_KEPT_REPORTS`].
pub const MAX_ENDED_LOG_BYTES: usize = 64 * 1024;

/// Period of `usage` events.
pub const USAGE_EVERY: Duration = Duration::from_millis(500);

/// Number of programs that judge a submission: different checkers of its tests, and an interactor.
pub const MAX_REFEREES: usize = 4;

/// Size of the feedback of a checker or interactor.
pub const MAX_FEEDBACK_BYTES: usize = 4096;

/// Number of cases of a suite. The largest that are published have some 10,000.
pub const MAX_CASES: usize = 20_000;

/// Total size of the names and messages of a suite's cases: half of [`MAX_REPORT_BYTES`].
pub const MAX_CASES_BYTES: usize = 4 * 1024 * 1024;

/// Number of open HTTP connections: several times the number of usual scrapers and health checks.
pub const MAX_HTTP_CONNECTIONS: usize = 32;

/// Time limit of a request's head, from the start of the connection or the end of the last
/// response.
pub const HTTP_HEAD_TIME: Duration = Duration::from_secs(5);

/// Size of a request's head. Prometheus sends 250 bytes; 8 KiB is hyper's minimum.
pub const MAX_HTTP_HEAD_BYTES: usize = 8 * 1024;

/// Number of header fields of a request. Prometheus sends 6.
pub const MAX_HTTP_FIELDS: usize = 64;

/// Lifetime of an HTTP connection without the API. A scraper with a period of 15 s uses a
/// connection four times.
pub const HTTP_CONNECTION_TIME: Duration = Duration::from_secs(60);

/// Time limit of the response under way at the end of a connection.
pub const HTTP_SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// Number of open HTTP connections where the API is served.
pub const MAX_API_CONNECTIONS: usize = 2048;

/// Number of open HTTP connections of one address, or of one /64 of IPv6: half, so that no address
/// can lock out the others. A reverse proxy is one address.
pub const MAX_API_CONNECTIONS_PER_ADDRESS: usize = MAX_API_CONNECTIONS / 2;

/// Time limit of a request's head where the API is served, and how long a kept connection may be
/// idle.
pub const HTTP_IDLE_TIME: Duration = Duration::from_secs(30);

/// Lifetime of a connection where the API is served; the client of a stream of events connects
/// again.
pub const API_CONNECTION_TIME: Duration = Duration::from_secs(3600);

/// Requests under way of one account.
pub const MAX_REQUESTS_PER_ACCOUNT: usize = 512;

/// Requests under way of all anonymous callers together.
pub const MAX_ANONYMOUS_REQUESTS: usize = 64;

/// How long a submission of an anonymous caller may take in all; then it is cancelled.
pub const ANONYMOUS_TIME: Duration = Duration::from_secs(60);

/// Streams of events of one account: a quarter of its requests, so that others go on.
pub const MAX_EVENT_STREAMS_PER_ACCOUNT: usize = MAX_REQUESTS_PER_ACCOUNT / 4;

/// Streams of events of all anonymous callers together.
pub const MAX_ANONYMOUS_EVENT_STREAMS: usize = MAX_ANONYMOUS_REQUESTS / 4;

/// How long a request may wait for a report with `wait_ms`.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// How often a stream of events without an event says that it is there: proxies close a connection
/// that is silent for a minute.
pub const EVENT_STREAM_PULSE: Duration = Duration::from_secs(15);

/// How long a rendered text of the metrics is reused.
pub const METRICS_FRESH: Duration = Duration::from_millis(100);

/// How long a browser session lasts: a day's work, and it is to be opened again the next day.
pub const HTTP_SESSION_TIME: Duration = Duration::from_secs(12 * 3600);

/// Number of open browser sessions. A session takes about 300 bytes.
pub const MAX_HTTP_SESSIONS: usize = 4096;

/// Number of open browser sessions of one token or uid: the browsers of a class that shares one.
pub const MAX_HTTP_SESSIONS_PER_OWNER: usize = 64;

/// How long a login code is valid: the time to click on a link.
pub const LOGIN_CODE_TIME: Duration = Duration::from_secs(60);

/// Number of login codes that are valid at a time.
pub const MAX_LOGIN_CODES: usize = 32;
