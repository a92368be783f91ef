//! Opens the database file: mode, pragmas, version.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{OpenError, is_damage};
use crate::schema::{APPLICATION_ID, MIGRATIONS, VERSION};

/// A checkpoint holds a lock for as long as it copies pages.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(10);

/// What a checkpoint leaves of the write-ahead log.
const MAX_LEFT_LOG_BYTES: i64 = 16 * 1024 * 1024;

/// Memory of a connection for pages, in KiB.
const CACHE_KIB: i64 = 8 * 1024;

/// Why the file cannot be opened.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It has to be set aside.
    Damaged(rusqlite::Error),
    /// The daemon must not start.
    Refused(OpenError),
}

fn classify(file: &Path) -> impl Fn(rusqlite::Error) -> Unusable + Copy + use<'_> {
    move |source| match is_damage(&source) {
        true => Unusable::Damaged(source),
        false => Unusable::Refused(OpenError::Sqlite { file: file.to_owned(), source }),
    }
}

/// Makes changes of a folder's entries survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Opens the file for the writer; creates it, and brings an earlier version up to date.
pub(crate) fn open(file: &Path) -> Result<Connection, Unusable> {
    create(file).map_err(Unusable::Refused)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = classify(file);
    let mut connection = Connection::open_with_flags(file, flags).map_err(failed)?;
    connection.busy_timeout(LOCK_WAIT).map_err(failed)?;
    let found = version(&connection, file)?;
    if found == 0 {
        // before the first table: it cannot be set later without a vacuum
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    }
    set_up(&connection).map_err(failed)?;
    migrate(&mut connection, found).map_err(failed)?;
    check_live_tables(&connection).map_err(failed)?;
    Ok(connection)
}

/// Opens the file for reads. It must exist.
pub(crate) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(LOCK_WAIT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(connection)
}

/// SQLite creates files with the mode of the umask; its log and shared memory take the file's.
fn create(file: &Path) -> Result<(), OpenError> {
    if file.exists() {
        return Ok(());
    }
    let made = File::options().create_new(true).write(true).mode(0o600).open(file);
    made.and_then(|file| file.sync_all()).map_err(OpenError::io("create", file))?;
    let folder = file.parent().unwrap_or(file);
    sync_folder(folder).map_err(OpenError::io("sync", folder))
}

/// The version of a file that is ours; 0 if it is empty. Writes nothing.
fn version(connection: &Connection, file: &Path) -> Result<i64, Unusable> {
    let read = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let count =
        |connection: &Connection| connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    let failed = classify(file);
    let (application, found) = (read("application_id").map_err(failed)?, read("user_version").map_err(failed)?);
    let tables: i64 = count(connection).map_err(failed)?;
    match (application == i64::from(APPLICATION_ID), found) {
        (true, found) if found > VERSION => {
            Err(Unusable::Refused(OpenError::LaterVersion { file: file.to_owned(), found, known: VERSION }))
        }
        (true, found @ 1..) => Ok(found),
        (_, 0) if tables == 0 => Ok(0),
        _ => Err(Unusable::Refused(OpenError::Foreign(file.to_owned()))),
    }
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", MAX_LEFT_LOG_BYTES, |_| Ok(()))?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Each version in a transaction of its own, which sets `user_version` with it.
fn migrate(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    for (at, statements) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute_batch(statements)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", at as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Reads the small tables that the start depends on; history may be large and is checked by
/// `check` only.
fn check_live_tables(connection: &Connection) -> rusqlite::Result<()> {
    for table in ["meta", "submission", "outbox", "token"] {
        let result: String = connection.query_row(&format!("PRAGMA quick_check('{table}')"), [], |row| row.get(0))?;
        if result != "ok" {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                Some(result),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn dump(connection: &Connection) -> Vec<(String, String)> {
        let mut statement =
            connection.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn a_new_file_is_private_has_a_log_and_the_current_version() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        let connection = open(&file).unwrap();
        connection.execute("INSERT INTO meta VALUES ('a', 1)", []).unwrap();
        let value = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((value("user_version"), value("secure_delete"), value("auto_vacuum")), (VERSION, 1, 2));
        assert_eq!(value("synchronous"), 2);
        for name in ["a.db", "a.db-wal", "a.db-shm"] {
            let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn the_file_of_every_version_is_brought_up_to_date_with_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = dump(&open(&folder.path().join("fresh.db")).unwrap());
        for version in 1..=VERSION {
            let file = folder.path().join(format!("{version}.db"));
            let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
            let statements = std::fs::read_to_string(format!("{fixture}/v{version}.sql")).unwrap();
            Connection::open(&file).unwrap().execute_batch(&statements).unwrap();
            let connection = open(&file).unwrap();
            assert_eq!(dump(&connection), fresh, "the schema of a migrated version {version}");
            let report = "SELECT submission.id, report.body FROM submission JOIN report USING (history)";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?));
            let (id, body) = connection.query_row(report, [], read).unwrap();
            assert_eq!((id.as_str(), body.as_slice()), ("done", br#"{"verdict":"accepted"}"#.as_slice()));
            let request = "SELECT request.body FROM submission JOIN request ON submission = key WHERE id = 'waiting'";
            let body: Vec<u8> = connection.query_row(request, [], |row| row.get(0)).unwrap();
            assert_eq!(body, br#"{"language":"python"}"#);
        }
    }

    #[test]
    fn files_of_later_versions_and_other_programs_are_refused_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let later = folder.path().join("later.db");
        open(&later).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        let before = [&later, &foreign].map(|file| std::fs::read(file).unwrap());
        assert!(matches!(
            open(&later),
            Err(Unusable::Refused(OpenError::LaterVersion { found, known, .. })) if found == known + 1
        ));
        assert!(matches!(open(&foreign), Err(Unusable::Refused(OpenError::Foreign(_)))));
        assert!([&later, &foreign].map(|file| std::fs::read(file).unwrap()) == before);
    }

    #[test]
    fn garbage_and_a_damaged_table_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let garbage = folder.path().join("garbage.db");
        std::fs::write(&garbage, [7; 8192]).unwrap();
        assert!(matches!(open(&garbage), Err(Unusable::Damaged(_))));
        let empty = folder.path().join("empty.db");
        std::fs::write(&empty, []).unwrap();
        open(&empty).unwrap();
    }
}
