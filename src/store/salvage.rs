//! Carries what can be read of a damaged file to a new one: tokens, unfinished submissions,
//! answered ones whose id is not free yet, and reports whose callback is not delivered. Other
//! history stays in the file that is set aside.
//!
//! A table is read from its lowest key on until an error, and then from its highest key down to
//! where that was: one damaged page costs what is on it.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::database::open_reader;

/// The tables that are carried as a whole, with their key, and those of which the rows of one
/// report are carried: a condition on `submission` in the damaged file would read its damage.
const WHOLE: [(&str, &str); 5] =
    [("meta", "name"), ("submission", "key"), ("request", "submission"), ("token", "name"), ("callback", "history")];
const OF_REPORTS: [(&str, &str); 6] = [
    ("history", "key"),
    ("report", "history"),
    ("receipt", "history"),
    ("usage", "history"),
    ("outbox", "history"),
    ("output", "history"),
];

/// Copies to a new file. Returns the number of submissions. What cannot be read is left out.
pub(crate) fn salvage(damaged: &Path, into: &mut Connection) -> rusqlite::Result<usize> {
    let Ok(from) = open_reader(damaged) else { return Ok(0) };
    let transaction = into.transaction()?;
    for (table, key) in WHOLE {
        copy(&from, &transaction, table, key, "1", &[])?;
    }
    let keys = |select| -> rusqlite::Result<Vec<i64>> {
        transaction.prepare(select)?.query_map([], |row| row.get(0))?.collect()
    };
    for history in keys("SELECT history FROM submission WHERE history IS NOT NULL UNION SELECT history FROM callback")?
    {
        for (table, key) in OF_REPORTS {
            copy(&from, &transaction, table, key, &format!("{key} = ?"), &[history])?;
        }
    }
    for submission in keys("SELECT key FROM submission WHERE history IS NULL")? {
        copy(&from, &transaction, "output", "name", "submission = ?", &[submission])?;
    }
    // an id whose report is lost is free; a submission whose request is lost cannot run
    let removed = "
        DELETE FROM submission WHERE state = 'answered'
            AND (history NOT IN (SELECT key FROM history) OR history NOT IN (SELECT history FROM report));
        DELETE FROM submission WHERE state <> 'answered' AND key NOT IN (SELECT submission FROM request);
        DELETE FROM request WHERE submission NOT IN (SELECT key FROM submission);
        DELETE FROM history WHERE key NOT IN (SELECT history FROM submission WHERE history IS NOT NULL)
            AND key NOT IN (SELECT history FROM callback JOIN report USING (history));
        DELETE FROM report WHERE history NOT IN (SELECT key FROM history);
        DELETE FROM receipt WHERE history NOT IN (SELECT key FROM history);
        DELETE FROM usage WHERE history NOT IN (SELECT key FROM history);
        DELETE FROM outbox WHERE history NOT IN (SELECT key FROM history);
        DELETE FROM callback WHERE history NOT IN (SELECT history FROM outbox WHERE destination = 'callback');
        DELETE FROM outbox WHERE destination = 'callback' AND history NOT IN (SELECT history FROM callback);
        DELETE FROM output WHERE submission NOT IN (SELECT key FROM submission)
            OR history NOT IN (SELECT key FROM history);";
    transaction.execute_batch(removed)?;
    let count: i64 = transaction.query_row("SELECT count(*) FROM submission", [], |row| row.get(0))?;
    transaction.commit()?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn copy(
    from: &Connection,
    into: &Connection,
    table: &str,
    key: &str,
    condition: &str,
    values: &[i64],
) -> rusqlite::Result<()> {
    // the damaged file may be of an earlier version, with fewer columns
    let Ok(columns) = columns(from, table) else { return Ok(()) };
    let known = self::columns(into, table)?;
    let shared: Vec<&String> = columns.iter().filter(|column| known.contains(column)).collect();
    let names = shared.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let marks = vec!["?"; shared.len()].join(", ");
    let insert = format!("INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})");
    for order in ["ASC", "DESC"] {
        let select = format!("SELECT {names} FROM {table} WHERE {condition} ORDER BY {key} {order}");
        if copy_until_error((from, &select, values), (into, &insert), shared.len())? {
            break;
        }
    }
    Ok(())
}

/// Returns whether all rows were read. Only the new file's errors are errors.
fn copy_until_error(
    (from, select, values): (&Connection, &str, &[i64]),
    (into, insert): (&Connection, &str),
    columns: usize,
) -> rusqlite::Result<bool> {
    let mut insert = into.prepare(insert)?;
    let Ok(mut select) = from.prepare(select) else { return Ok(false) };
    let Ok(mut rows) = select.query(params_from_iter(values)) else { return Ok(false) };
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(true),
            Err(_) => return Ok(false),
        };
        let values: Result<Vec<Value>, _> = (0..columns).map(|at| row.get(at)).collect();
        let Ok(values) = values else { return Ok(false) };
        match insert.execute(params_from_iter(values)) {
            // the row itself is damaged
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {}
            done => drop(done?),
        }
    }
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
    statement.query_map([], |row| row.get(0))?.collect()
}
