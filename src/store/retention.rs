//! What is removed by itself: ids that are free again, history that is too old or too much.
//!
//! One step is one transaction of bounded work. What a caller is still to fetch, or may fetch
//! again, stays: history goes only when no id and no outbox refers to it.

use rusqlite::Connection;

use crate::change::Rows;
use crate::clock::millis;
use crate::rows::{remove_history, remove_submission};

/// Rows and bytes that one step removes: some 20 ms of the writer's time.
const STEP_ROWS: usize = 256;
const STEP_BYTES: u64 = 16 * 1024 * 1024;

/// The file gives pages back to the disk when it has this many that are unused, and a tenth of it.
const MIN_FREE_PAGES: i64 = 1024;

/// Pages given back in one step.
const STEP_PAGES: i64 = 512;

/// Removes at most a step's worth. Returns whether there is more to remove.
pub(crate) fn step(rows: &mut Rows<'_>) -> rusqlite::Result<bool> {
    let expired = keys(rows, "SELECT key FROM submission WHERE expires_ms <= ?1 LIMIT 256", rows.now.store_ms)?;
    for key in &expired {
        remove_submission(rows, *key)?;
    }
    if !expired.is_empty() {
        return Ok(true);
    }
    let oldest_ms = rows.now.wall_ms.saturating_sub(millis(rows.retention.keep));
    let aged = unreferenced(rows, "answered_ms < ?1", oldest_ms)?;
    if remove(rows, &aged, STEP_BYTES)? {
        return Ok(true);
    }
    let max_bytes = i64::try_from(rows.retention.max_bytes).unwrap_or(i64::MAX);
    let excess = used_bytes(rows.connection)?.saturating_sub(max_bytes);
    if excess <= 0 {
        return Ok(false);
    }
    // what callers without a name left goes before what others left
    let mut oldest = of_anonymous(rows)?;
    if oldest.is_empty() {
        oldest = unreferenced(rows, "?1 = 0", 0)?;
    }
    remove(rows, &oldest, STEP_BYTES.min(excess.unsigned_abs()))
}

/// History of anonymous callers that may be removed.
fn of_anonymous(rows: &Rows<'_>) -> rusqlite::Result<Vec<i64>> {
    let select = format!(
        "SELECT key FROM history INDEXED BY history_principal WHERE principal >= 'anon:' AND principal < 'anon;'
             AND ?1 = 0 AND {NOT_REFERENCED} LIMIT {STEP_ROWS}"
    );
    keys(rows, &select, 0)
}

/// Rows that no id and no outbox refers to.
const NOT_REFERENCED: &str = "NOT EXISTS (SELECT 1 FROM submission WHERE submission.history = history.key)
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.history = history.key)";

/// The oldest history that may be removed.
fn unreferenced(rows: &Rows<'_>, condition: &str, bound: i64) -> rusqlite::Result<Vec<i64>> {
    let select = format!(
        "SELECT key FROM history INDEXED BY history_time WHERE {condition}
             AND {NOT_REFERENCED}
         ORDER BY answered_ms, key LIMIT {STEP_ROWS}"
    );
    keys(rows, &select, bound)
}

fn keys(rows: &Rows<'_>, select: &str, bound: i64) -> rusqlite::Result<Vec<i64>> {
    rows.connection.prepare_cached(select)?.query_map([bound], |row| row.get(0))?.collect()
}

/// Removes history until this many bytes are free. Returns whether anything was removed.
fn remove(rows: &mut Rows<'_>, keys: &[i64], enough: u64) -> rusqlite::Result<bool> {
    let mut bytes = 0;
    for key in keys {
        // a row with its index entries takes some 300 bytes
        bytes += remove_history(rows, *key)? + 300;
        if bytes >= enough {
            break;
        }
    }
    Ok(!keys.is_empty())
}

/// Bytes of the database that are in use, and of the outputs.
pub(crate) fn used_bytes(connection: &Connection) -> rusqlite::Result<i64> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    let outputs: i64 = connection.query_row("SELECT coalesce(sum(bytes), 0) FROM output", [], |row| row.get(0))?;
    Ok(pages * pragma("page_size")? + outputs)
}

/// Gives unused pages back to the disk, if there are many. Returns whether there are more.
pub(crate) fn shrink(connection: &Connection) -> rusqlite::Result<bool> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (free, pages) = (pragma("freelist_count")?, pragma("page_count")?);
    if free < MIN_FREE_PAGES || free < pages / 10 {
        return Ok(false);
    }
    connection.execute_batch(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
    Ok(true)
}
