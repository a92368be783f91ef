//! What operators ask the writer for: forget a tenant, vacuum.

use std::path::Path;

use rusqlite::{Connection, params_from_iter};

use crate::change::Rows;
use crate::database::LOCK_WAIT;
use crate::rows::{remove_history, remove_submission};
use crate::task::Forget;
use crate::token;

/// Rows of one step.
const STEP_ROWS: usize = 256;

/// How often a checkpoint is tried that readers hold up.
const CHECKPOINT_TRIES: usize = 50;

/// Removes a step's worth. Returns how many submissions and reports were removed; 0 at the end.
pub(crate) fn forget_step(rows: &mut Rows<'_>, forget: &Forget) -> rusqlite::Result<u64> {
    let submissions = keys(rows, "submission", forget)?;
    for key in &submissions {
        remove_submission(rows, *key)?;
    }
    let history = keys(rows, "history", forget)?;
    for key in &history {
        remove_history(rows, *key)?;
    }
    token::forget_revoked(rows, &forget.tenant, forget.principal.as_deref())?;
    Ok((submissions.len() + history.len()) as u64)
}

fn keys(rows: &Rows<'_>, table: &str, forget: &Forget) -> rusqlite::Result<Vec<i64>> {
    let and = if forget.principal.is_some() { "AND principal = ?2" } else { "" };
    let select = format!("SELECT key FROM {table} WHERE tenant = ?1 {and} LIMIT {STEP_ROWS}");
    let values = [Some(&forget.tenant), forget.principal.as_ref()];
    let mut select = rows.connection.prepare_cached(&select)?;
    select.query_map(params_from_iter(values.into_iter().flatten()), |row| row.get(0))?.collect()
}

/// Writes the whole file anew, without what deleted rows left in its pages, and empties the log.
/// The copy that this takes is in the same folder: the system's may be small, and is not ours.
pub(crate) fn vacuum(connection: &Connection, folder: &Path) -> rusqlite::Result<()> {
    connection.pragma_update(None, "temp_store_directory", folder.to_string_lossy())?;
    connection.execute_batch("VACUUM")?;
    checkpoint(connection)
}

/// The same as [`checkpoint`], unless a reader needs the log. Returns whether it was done.
pub(crate) fn try_checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(std::time::Duration::ZERO)?;
    let is_busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    connection.busy_timeout(LOCK_WAIT)?;
    Ok(is_busy? == 0)
}

/// Copies the log into the file and truncates it.
pub(crate) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    for _ in 0..CHECKPOINT_TRIES {
        let is_busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if is_busy == 0 {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
        Some("a reader holds the log".to_owned()),
    ))
}
