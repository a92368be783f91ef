//! The tables, version by version.
//!
//! `MIGRATIONS[n]` leads from version n to n + 1; what was released is never changed. A file's
//! version is its `user_version`.

/// `application_id` of our files: "assy".
pub(crate) const APPLICATION_ID: i32 = 0x6173_7379;

/// The latest version, that of this program.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Times are milliseconds since 1970; `expires_ms`, `clock` and the `next_ms` of callbacks are the
/// store's, all others the wall's. A request is in a table of its own, so that a change of state
/// does not copy it; a report likewise, so that lists read small rows.
pub(crate) const MIGRATIONS: [&str; 4] = [
    "
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE submission (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    principal TEXT NOT NULL,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    language TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'leased', 'answered')),
    received_ms INTEGER NOT NULL,
    starts INTEGER NOT NULL DEFAULT 0,
    expires_ms INTEGER CHECK ((expires_ms IS NULL) = (state <> 'answered')),
    history INTEGER CHECK ((history IS NULL) = (state <> 'answered')),
    UNIQUE (principal, tenant, id)
) STRICT;
CREATE INDEX submission_unfinished ON submission (key) WHERE state <> 'answered';
CREATE INDEX submission_expires ON submission (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE INDEX submission_history ON submission (history) WHERE history IS NOT NULL;
CREATE INDEX submission_tenant ON submission (tenant);

CREATE TABLE request (
    submission INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE history (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    principal TEXT NOT NULL,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    language TEXT NOT NULL,
    verdict TEXT NOT NULL,
    blame TEXT,
    received_ms INTEGER NOT NULL,
    answered_ms INTEGER NOT NULL,
    total_ms REAL NOT NULL,
    cpu_ms REAL NOT NULL,
    memory_bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX history_time ON history (answered_ms, key);
CREATE INDEX history_principal ON history (principal, answered_ms, key);
CREATE INDEX history_tenant ON history (tenant, answered_ms, key);
CREATE INDEX history_verdict ON history (verdict, answered_ms, key);
CREATE INDEX history_id ON history (id, key);

CREATE TABLE report (
    history INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE source (
    history INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE output (
    name TEXT PRIMARY KEY,
    submission INTEGER,
    history INTEGER,
    label TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    CHECK ((submission IS NULL) <> (history IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX output_submission ON output (submission) WHERE submission IS NOT NULL;
CREATE INDEX output_history ON output (history) WHERE history IS NOT NULL;

CREATE TABLE outbox (
    history INTEGER NOT NULL,
    destination TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_ms INTEGER NOT NULL,
    PRIMARY KEY (history, destination)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_next ON outbox (next_ms);
",
    "
ALTER TABLE history ADD COLUMN message TEXT NOT NULL DEFAULT '';

CREATE INDEX output_label ON output (label) WHERE history IS NOT NULL;

CREATE TABLE receipt (
    history INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE usage (
    history INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;
",
    "
CREATE TABLE token (
    name TEXT PRIMARY KEY,
    hash BLOB UNIQUE CHECK ((hash IS NULL) = (revoked_ms IS NOT NULL)),
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_ms INTEGER,
    used_ms INTEGER,
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE callback (
    history INTEGER PRIMARY KEY,
    delivery TEXT NOT NULL,
    url TEXT NOT NULL,
    token BLOB NOT NULL
) STRICT;

ALTER TABLE outbox ADD COLUMN receiver TEXT;
CREATE INDEX outbox_receiver ON outbox (receiver, next_ms) WHERE destination = 'callback';
",
];
