//! Reads, on connections of their own: they wait for no writer, and no writer for them.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OptionalExtension, params};

use crate::database::open_reader;
use crate::error::Error;
use crate::output::OutputFile;
use crate::queue::ChangeQueue;
use crate::rows::{RecordOwner, StoredState};
use crate::status::Status;

/// Connections that read at a time: a list takes a millisecond.
const MAX_READERS: usize = 4;

#[derive(Debug, Default)]
struct ReaderPool {
    idle: Vec<Connection>,
    busy: usize,
    /// Raised when the file was replaced: connections of an earlier one are closed.
    generation: u64,
}

/// The connections that read.
pub(crate) struct Readers {
    file: PathBuf,
    status: Arc<Status>,
    queue: Arc<ChangeQueue>,
    pool: Mutex<ReaderPool>,
    freed: Condvar,
}

impl Readers {
    pub(crate) fn new(file: PathBuf, status: Arc<Status>, queue: Arc<ChangeQueue>) -> Readers {
        Readers { file, status, queue, pool: Mutex::default(), freed: Condvar::new() }
    }

    /// Closes the connections: the file is another one. What was found in the old one is forgotten.
    pub(crate) fn renew(&self) {
        let mut pool = self.pool.lock();
        pool.generation += 1;
        pool.idle.clear();
        drop(self.status.take_damage());
    }

    /// Reads on a connection; waits while all are busy.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let mut pool = self.pool.lock();
        while pool.busy >= MAX_READERS {
            self.freed.wait(&mut pool);
        }
        pool.busy += 1;
        let (generation, idle) = (pool.generation, pool.idle.pop());
        drop(pool);
        let permit = ReadPermit(self);
        let connection = idle.map_or_else(|| open_reader(&self.file), Ok);
        let (result, connection) = match connection {
            Ok(connection) => (read(&connection), Some(connection)),
            Err(error) => (Err(error), None),
        };
        let result = result.map_err(Error::from);
        let mut pool = self.pool.lock();
        // the damage of a file that was replaced meanwhile says nothing of the new one
        if pool.generation == generation {
            if let Err(Error::Damaged(reason)) = &result {
                self.status.suspect(reason.clone());
                self.queue.wake();
            } else {
                pool.idle.extend(connection);
            }
        }
        drop(pool);
        drop(permit);
        result
    }
}

/// One of the connections that may read at a time.
struct ReadPermit<'a>(&'a Readers);

impl Drop for ReadPermit<'_> {
    fn drop(&mut self) {
        self.0.pool.lock().busy -= 1;
        self.0.freed.notify_one();
    }
}

/// A submission that has no report yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub key: i64,
    /// Whose it is.
    pub owner: RecordOwner,
    pub id: String,
    /// The digest of its content.
    pub digest: [u8; 32],
    pub language: String,
    /// When it was acknowledged, in milliseconds since 1970.
    pub received_ms: i64,
    /// Whether it waits or was given to a sandbox.
    pub state: StoredState,
    /// How often it was given to a sandbox, by all daemons.
    pub starts: u32,
}

/// A submission whose id stands for its report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Whose it is.
    pub owner: RecordOwner,
    pub id: String,
    /// The digest of its content.
    pub digest: [u8; 32],
    /// When the id is free again, by the store's clock.
    pub expires_ms: i64,
    /// The key of its report.
    pub history: i64,
}

/// A request, or a report, with the files that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRequest {
    /// The bytes as they were given.
    pub body: Vec<u8>,
    /// The files; their contents are read one by one.
    pub files: Vec<OutputFile>,
}

fn digest(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<[u8; 32]> {
    let bytes: Vec<u8> = row.get(at)?;
    bytes.try_into().map_err(|bytes: Vec<u8>| {
        rusqlite::Error::FromSqlConversionFailure(
            at,
            rusqlite::types::Type::Blob,
            format!("a digest of {} bytes", bytes.len()).into(),
        )
    })
}

/// All submissions without a report, oldest first.
pub(crate) fn held(connection: &Connection) -> rusqlite::Result<Vec<Held>> {
    let mut select = connection.prepare_cached(
        "SELECT key, principal, tenant, id, digest, language, received_ms, state, starts
         FROM submission WHERE state <> 'answered' ORDER BY key",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Held {
            key: row.get(0)?,
            owner: RecordOwner { principal: row.get(1)?, tenant: row.get(2)? },
            id: row.get(3)?,
            digest: digest(row, 4)?,
            language: row.get(5)?,
            received_ms: row.get(6)?,
            state: StoredState::of(row.get_ref(7)?.as_str()?),
            starts: row.get(8)?,
        })
    };
    select.query_map([], read)?.collect()
}

/// Submissions whose id stands for a report, newest first.
pub(crate) fn known(connection: &Connection, now_ms: i64, limit: usize) -> rusqlite::Result<Vec<Known>> {
    let mut select = connection.prepare_cached(
        "SELECT principal, tenant, id, digest, expires_ms, history
         FROM submission WHERE expires_ms > ?1 ORDER BY expires_ms DESC, key DESC LIMIT ?2",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Known {
            owner: RecordOwner { principal: row.get(0)?, tenant: row.get(1)? },
            id: row.get(2)?,
            digest: digest(row, 3)?,
            expires_ms: row.get(4)?,
            history: row.get(5)?,
        })
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    select.query_map([now_ms, limit], read)?.collect()
}

fn files(connection: &Connection, column: &str, key: i64) -> rusqlite::Result<Vec<OutputFile>> {
    let mut select = connection
        .prepare_cached(&format!("SELECT name, label, bytes FROM output WHERE {column} = ?1 ORDER BY name"))?;
    let read = |row: &rusqlite::Row<'_>| {
        let bytes: i64 = row.get(2)?;
        Ok(OutputFile { name: row.get(0)?, label: row.get(1)?, bytes: bytes.unsigned_abs() })
    };
    select.query_map([key], read)?.collect()
}

fn body(connection: &Connection, table: &str, column: &str, key: i64) -> rusqlite::Result<Option<StoredRequest>> {
    // both reads see the same state
    let transaction = connection.unchecked_transaction()?;
    let mut select = transaction.prepare_cached(&format!("SELECT body FROM {table} WHERE {column} = ?1"))?;
    let Some(body) = select.query_row([key], |row| row.get(0)).optional()? else { return Ok(None) };
    Ok(Some(StoredRequest { body, files: files(&transaction, column, key)? }))
}

/// The request of a submission that has no report.
pub(crate) fn request(connection: &Connection, key: i64) -> rusqlite::Result<Option<StoredRequest>> {
    body(connection, "request", "submission", key)
}

/// The name of the output of a report by its label.
pub(crate) fn find_output(
    connection: &Connection,
    principal: Option<&str>,
    label: &str,
) -> rusqlite::Result<Option<String>> {
    let mut select = connection.prepare_cached(
        "SELECT name FROM output JOIN history ON history.key = output.history
         WHERE label = ?1 AND (?2 IS NULL OR principal = ?2) ORDER BY history.key DESC LIMIT 1",
    )?;
    select.query_row(params![label, principal], |row| row.get(0)).optional()
}

/// The signed receipt of the report with a key.
pub(crate) fn receipt(connection: &Connection, history: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    attached(connection, "receipt", history)
}

/// What the runs of the report with a key used over time.
pub(crate) fn usage(connection: &Connection, history: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    attached(connection, "usage", history)
}

fn attached(connection: &Connection, table: &str, history: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut select = connection.prepare_cached(&format!("SELECT body FROM {table} WHERE history = ?1"))?;
    select.query_row([history], |row| row.get(0)).optional()
}

/// The report with a key.
pub(crate) fn report(connection: &Connection, history: i64) -> rusqlite::Result<Option<StoredRequest>> {
    body(connection, "report", "history", history)
}
