//! Rows that several changes read and remove.

use rusqlite::{OptionalExtension, params};

use crate::change::Rows;
use crate::output::OutputFile;

/// Whose a submission is: ids are apart for each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordOwner {
    /// Who called, such as `uid:1000`.
    pub principal: String,
    /// For whom; empty if none was stated.
    pub tenant: String,
}

/// Where a submission is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredState {
    Queued,
    /// It was given to a sandbox.
    Leased,
    /// Its report is there.
    Answered,
}

impl StoredState {
    pub(crate) fn of(word: &str) -> StoredState {
        match word {
            "leased" => StoredState::Leased,
            "answered" => StoredState::Answered,
            _ => StoredState::Queued,
        }
    }
}

/// The row of an id.
pub(crate) struct FoundRow {
    pub(crate) key: i64,
    pub(crate) digest: Vec<u8>,
    pub(crate) state: StoredState,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) history: Option<i64>,
}

pub(crate) fn find(rows: &Rows<'_>, owner: &RecordOwner, id: &str) -> rusqlite::Result<Option<FoundRow>> {
    let mut select = rows.connection.prepare_cached(
        "SELECT key, digest, state, expires_ms, history FROM submission
         WHERE principal = ?1 AND tenant = ?2 AND id = ?3",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let state = StoredState::of(row.get_ref(2)?.as_str()?);
        Ok(FoundRow { key: row.get(0)?, digest: row.get(1)?, state, expires_ms: row.get(3)?, history: row.get(4)? })
    };
    select.query_row(params![owner.principal, owner.tenant, id], read).optional()
}

/// Names files for a submission or a report.
pub(crate) fn name_outputs(
    rows: &Rows<'_>,
    files: &[OutputFile],
    submission: Option<i64>,
    history: Option<i64>,
) -> rusqlite::Result<()> {
    for OutputFile { name, label, bytes } in files {
        let mut insert = rows.connection.prepare_cached(
            "INSERT INTO output (name, submission, history, label, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        insert.execute(params![name, submission, history, label, i64::try_from(*bytes).unwrap_or(i64::MAX)])?;
    }
    Ok(())
}

/// Removes a request and the files that it refers to.
pub(crate) fn remove_request(rows: &mut Rows<'_>, key: i64) -> rusqlite::Result<()> {
    rows.connection.prepare_cached("DELETE FROM request WHERE submission = ?1")?.execute([key])?;
    let mut delete = rows.connection.prepare_cached("DELETE FROM output WHERE submission = ?1 RETURNING name")?;
    for name in delete.query_map([key], |row| row.get(0))? {
        rows.removed.push(name?);
    }
    Ok(())
}

/// Removes the row of an id; its history stays.
pub(crate) fn remove_submission(rows: &mut Rows<'_>, key: i64) -> rusqlite::Result<()> {
    remove_request(rows, key)?;
    let mut delete = rows.connection.prepare_cached("DELETE FROM submission WHERE key = ?1 RETURNING history")?;
    let history: Option<i64> = delete.query_row([key], |row| row.get(0)).optional()?.flatten();
    if let Some(history) = history {
        let mut delete =
            rows.connection.prepare_cached("DELETE FROM outbox WHERE history = ?1 AND destination = 'wait'")?;
        delete.execute([history])?;
    }
    Ok(())
}

/// Removes a report and the files that it refers to. Returns their size.
pub(crate) fn remove_history(rows: &mut Rows<'_>, key: i64) -> rusqlite::Result<u64> {
    let connection = rows.connection;
    let mut delete = connection.prepare_cached("DELETE FROM report WHERE history = ?1 RETURNING length(body)")?;
    let mut bytes: i64 = delete.query_row([key], |row| row.get(0)).optional()?.unwrap_or(0);
    for of_report in ["source", "receipt", "usage", "callback"] {
        connection.prepare_cached(&format!("DELETE FROM {of_report} WHERE history = ?1"))?.execute([key])?;
    }
    connection.prepare_cached("DELETE FROM outbox WHERE history = ?1")?.execute([key])?;
    let removed = connection.prepare_cached("DELETE FROM history WHERE key = ?1")?.execute([key])?;
    rows.added -= i64::try_from(removed).unwrap_or(0);
    let mut delete = connection.prepare_cached("DELETE FROM output WHERE history = ?1 RETURNING name, bytes")?;
    for removed in delete.query_map([key], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))? {
        let (name, size) = removed?;
        rows.removed.push(name);
        bytes = bytes.saturating_add(size);
    }
    Ok(bytes.unsigned_abs())
}
