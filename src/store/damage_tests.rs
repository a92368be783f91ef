//! Files that are damaged, before and while the store is open.

use std::path::Path;

use rusqlite::Connection;

use crate::tests::{TestTime, accept, answer, eventually, finish, intake, open, record};
use crate::{Error, HistoryFilter, Record};

/// Overwrites the pages of a table with zeros, as a disk that lost them.
fn damage(file: &Path, table: &str, skip: usize) {
    let connection = Connection::open(file).unwrap();
    // while the store's own checkpoint runs, this one is refused: the log would heal the damage
    let is_busy = || connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).unwrap();
    while is_busy() != 0 {}
    let mut select =
        connection.prepare("SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY path").unwrap();
    let pages: Vec<u64> =
        select.query_map([table], |row| row.get::<_, i64>(0)).unwrap().map(|page| page.unwrap() as u64).collect();
    drop(select);
    drop(connection);
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(file).unwrap();
    let page = pages.get(skip).unwrap_or(&pages[0]);
    file.write_all_at(&[0xa5; 4096], (page - 1) * 4096).unwrap();
}

#[test]
fn a_damaged_file_is_set_aside_and_what_can_be_read_is_carried_over() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    let mut keys = Vec::new();
    for number in 0..400 {
        keys.push(accept(&store, intake("", &format!("{number:0200}"), "x")));
    }
    let history = answer(&store, finish(keys[0], "", &format!("{:0200}", 0), "the report"));
    drop(store);
    damage(&folder.path().join("assay.db"), "submission", 10);
    let store = open(folder.path(), &time);
    let aside = store.figures().unwrap().set_aside.unwrap();
    assert!(aside.file.exists() && aside.salvaged >= 350, "{aside:?}");
    assert_eq!(store.held().unwrap().len(), aside.salvaged - 1);
    assert_eq!(store.report(history).unwrap().unwrap().body, b"the report");
    assert!(store.check().unwrap().is_empty());
    let last = store.held().unwrap().pop().unwrap();
    assert_eq!(last.key, keys[399], "rows behind the damage are read from the other end");
    assert!(accept(&store, intake("", "new", "x")) > keys[399], "keys are not given twice");
}

#[test]
fn a_file_that_is_not_a_database_is_set_aside() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    std::fs::write(folder.path().join("assay.db"), vec![b'x'; 20_000]).unwrap();
    let store = open(folder.path(), &time);
    accept(&store, intake("", "a", "x"));
    let aside = store.figures().unwrap().set_aside.unwrap();
    assert_eq!(std::fs::read(aside.file).unwrap(), vec![b'x'; 20_000]);
}

#[test]
fn damage_that_is_found_while_it_runs_is_set_aside_and_what_waits_is_stored() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    for number in 0..100 {
        store.record(Record { report: vec![b'x'; 3000], ..record("", &number.to_string(), "accepted", None) });
    }
    let key = accept(&store, intake("", "a", "x"));
    let first = store.list(&HistoryFilter::default(), None, 1000).unwrap().rows.pop().unwrap();
    damage(&folder.path().join("assay.db"), "report", 0);
    // a connection that has not read the page yet
    assert!(matches!(store.report(first.key), Err(Error::Damaged(_))));
    eventually("it is set aside", || store.figures().is_ok_and(|figures| figures.set_aside.is_some()));
    answer(&store, finish(key, "", "a", "report"));
    accept(&store, intake("", "b", "x"));
    assert!(store.check().unwrap().is_empty());
    drop(store);
    assert_eq!(open(folder.path(), &time).held().unwrap().len(), 1);
}

#[test]
fn a_replacement_that_a_crash_interrupted_is_finished() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    accept(&store, intake("", "a", "x"));
    drop(store);
    let file = folder.path().join("assay.db");
    std::fs::rename(&file, folder.path().join("assay.db-salvaged")).unwrap();
    std::fs::write(&file, "damaged").unwrap();
    std::fs::write(folder.path().join("assay.db-wal"), "an old log").unwrap();
    std::fs::write(folder.path().join("assay.db-new"), "half written").unwrap();
    let store = open(folder.path(), &time);
    assert_eq!(store.held().unwrap().len(), 1);
    let aside = store.figures().unwrap().set_aside.unwrap().file;
    assert_eq!(std::fs::read(&aside).unwrap(), b"damaged");
    assert!(!folder.path().join("assay.db-new").exists());
}

#[test]
fn readers_that_find_the_same_damage_have_the_file_replaced_once() {
    for _ in 0..5 {
        let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
        let store = open(folder.path(), &time);
        for number in 0..100 {
            store.record(Record { report: vec![b'x'; 3000], ..record("", &number.to_string(), "accepted", None) });
        }
        accept(&store, intake("", "a", "x"));
        let first = store.list(&HistoryFilter::default(), None, 1000).unwrap().rows.pop().unwrap();
        let file = folder.path().join("assay.db");
        damage(&file, "report", 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                // until the new file, which does not have the report
                scope.spawn(|| while !matches!(store.report(first.key), Ok(None)) {});
            }
        });
        accept(&store, intake("", "b", "x"));
        assert_eq!(store.held().unwrap().len(), 2);
        let aside = crate::set_aside::damaged_files(&file);
        let databases = aside.iter().filter(|path| !path.to_string_lossy().ends_with("-wal"));
        assert_eq!(databases.filter(|path| !path.to_string_lossy().ends_with("-shm")).count(), 1, "{aside:?}");
    }
}

#[test]
fn damage_that_the_opening_finds_in_any_table_is_set_aside() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    for number in 0..50 {
        let outputs = store.stage(&[("stdout".to_owned(), b"x")]).unwrap();
        store.record(Record { outputs, ..record("", &number.to_string(), "accepted", None) });
    }
    accept(&store, intake("", "a", "x"));
    drop(store);
    damage(&folder.path().join("assay.db"), "output", 0);
    let store = open(folder.path(), &time);
    assert!(store.figures().unwrap().set_aside.is_some());
    assert_eq!(store.held().unwrap().len(), 1);
    assert!(store.check().unwrap().is_empty());
}
