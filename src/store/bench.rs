//! What the store costs, against the disk that it is on: `make bench-store`. Needs no engine.
//!
//! | row | measures |
//! |---|---|
//! | `fsync` | an append of 4 KiB and its fsync |
//! | `intake` | one caller, one submission of 2 KB at a time, until it is acknowledged |
//! | `callers` | 64 callers with the same, and a bare loop of group commits of 64 rows |
//! | `record` | what a run waits for: putting its history on the queue |
//! | `history` | opening, pages, lookups and bytes of a store with many reports (`--rows N`) |
//!
//! `--folder DIR` names the disk; the default is the one of TMPDIR.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use store::{
    Attached, HistoryEntry, HistoryFilter, Intake, IntakeResult, Options, Record, RecordOwner, StagedOutputs, Start,
    Store,
};

const CALLERS: usize = 64;
const REQUEST_BYTES: usize = 2000;

fn option(name: &str, default: &str) -> String {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|argument| argument == name);
    at.and_then(|at| arguments.get(at + 1).cloned()).unwrap_or_else(|| default.to_owned())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn show(row: &str, text: &str) {
    println!("{row:10} {text}");
}

fn owner(number: u64) -> RecordOwner {
    RecordOwner { principal: format!("uid:{}", 1000 + number % 3), tenant: format!("tenant-{}", number % 50) }
}

fn intake(id: String) -> Intake {
    Intake {
        owner: owner(0),
        id,
        digest: [7; 32],
        language: "python".to_owned(),
        request: vec![b'x'; REQUEST_BYTES],
        inputs: StagedOutputs::default(),
    }
}

fn entry(number: u64) -> HistoryEntry {
    let verdict = if number.is_multiple_of(1000) { "system_error" } else { "accepted" };
    HistoryEntry {
        owner: owner(number),
        id: format!("{number:032x}"),
        language: "python".to_owned(),
        verdict: verdict.to_owned(),
        message: "All tests passed.".to_owned(),
        blame: None,
        received_ms: 0,
        total_ms: 5.0,
        cpu_ms: 4.0,
        memory_bytes: 10_000_000,
    }
}

/// Medians of an fsync and of an acknowledgement, measured in turns.
fn one_caller(folder: &Path) {
    let store = Store::open(folder, Options::default()).unwrap();
    let mut file = std::fs::File::create(folder.join("fsync")).unwrap();
    let (mut syncs, mut intakes) = (Vec::new(), Vec::new());
    for number in 0..300 {
        let began = Instant::now();
        file.write_all(&[1; 4096]).unwrap();
        file.sync_data().unwrap();
        syncs.push(began.elapsed());
        let began = Instant::now();
        let done = store.intake(intake(format!("one-{number}"))).wait().unwrap();
        intakes.push(began.elapsed());
        assert!(matches!(done, IntakeResult::Accepted { .. }));
    }
    let (sync, intake) = (median(syncs), median(intakes));
    show("fsync", &format!("p50 {:.2} ms", sync.as_secs_f64() * 1e3));
    let times = intake.as_secs_f64() / sync.as_secs_f64();
    show("intake", &format!("p50 {:.2} ms: {times:.1} times an fsync (bound: 3)", intake.as_secs_f64() * 1e3));
}

fn many_callers(folder: &Path, time: Duration) {
    let store = Store::open(folder, Options::default()).unwrap();
    let (until, count) = (Instant::now() + time, AtomicU64::new(0));
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (store, count) = (&store, &count);
            scope.spawn(move || {
                for number in 0.. {
                    if Instant::now() > until {
                        break;
                    }
                    store.intake(intake(format!("{caller}-{number}"))).wait().unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let reached = count.into_inner() as f64 / time.as_secs_f64();
    let bare = bare_commits(folder, time);
    let share = reached / bare;
    show(
        "callers",
        &format!("{reached:.0} acknowledged a second; bare {bare:.0}; {share:.2} of it (bound: 2000, or 0.5)"),
    );
}

/// Rows a second of a loop that does nothing but insert and commit.
fn bare_commits(folder: &Path, time: Duration) -> f64 {
    let mut connection = Connection::open(folder.join("bare.db")).unwrap();
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection.execute_batch("CREATE TABLE t (id TEXT PRIMARY KEY, body BLOB)").unwrap();
    let (until, mut count) = (Instant::now() + time, 0);
    while Instant::now() < until {
        let transaction = connection.transaction().unwrap();
        for _ in 0..CALLERS {
            let mut insert = transaction.prepare_cached("INSERT INTO t VALUES (?1, ?2)").unwrap();
            insert.execute(params![format!("{count}"), vec![b'x'; REQUEST_BYTES]]).unwrap();
            count += 1;
        }
        transaction.commit().unwrap();
    }
    f64::from(count) / time.as_secs_f64()
}

fn record(folder: &Path) {
    let store = Store::open(folder, Options::default()).unwrap();
    let mut times = Vec::new();
    for number in 0..1500 {
        let record = Record {
            entry: entry(number),
            report: vec![b'x'; 1500],
            attached: Attached { receipt: Some(vec![b'x'; 2000]), usage: None },
            outputs: StagedOutputs::default(),
            digest: None,
        };
        let began = Instant::now();
        assert!(store.record(record));
        times.push(began.elapsed());
    }
    show("record", &format!("p50 {} ns on the caller's thread", median(times).as_nanos()));
}

/// Fills a store through its own file: the writer would take minutes.
fn fill(folder: &Path, rows: u64) {
    drop(Store::open(folder, Options::default()).unwrap());
    let mut connection = Connection::open(folder.join("assay.db")).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    let transaction = connection.transaction().unwrap();
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    for number in 0..rows {
        let HistoryEntry { owner, id, language, verdict, total_ms, cpu_ms, memory_bytes, .. } = entry(number);
        let mut insert = transaction
            .prepare_cached(
                "INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, ?7, ?7, ?8, ?9, ?10, 'All tests passed.')",
            )
            .unwrap();
        let (key, at_ms) = (number as i64 + 1, (now_ms - (rows - number) * 1000) as i64);
        let memory_bytes = memory_bytes as i64;
        insert
            .execute(params![
                key,
                owner.principal,
                owner.tenant,
                id,
                language,
                verdict,
                at_ms,
                total_ms,
                cpu_ms,
                memory_bytes
            ])
            .unwrap();
        let mut insert = transaction.prepare_cached("INSERT INTO report VALUES (?1, ?2)").unwrap();
        insert.execute(params![key, vec![b'x'; 700]]).unwrap();
    }
    transaction.commit().unwrap();
}

/// The slowest and the median of some calls.
fn time<T>(what: &str, mut call: impl FnMut(u64) -> T) {
    let mut times = Vec::new();
    for number in 0..50 {
        let began = Instant::now();
        call(number);
        times.push(began.elapsed());
    }
    let most = *times.iter().max().unwrap();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    show("history", &format!("{what}: p50 {:.2} ms, most {:.2} ms", ms(median(times)), ms(most)));
}

fn history(folder: &Path, rows: u64) {
    fill(folder, rows);
    let began = Instant::now();
    let store = Store::open(folder, Options::default()).unwrap();
    store.start(Start { key: -1 }).wait().unwrap();
    show("history", &format!("{rows} reports: open in {:.0} ms", began.elapsed().as_secs_f64() * 1e3));
    let bytes = std::fs::metadata(folder.join("assay.db")).unwrap().len();
    show("history", &format!("{} bytes of the file per report of 700 bytes", bytes / rows));
    let some = |text: String| Some(text);
    let all = HistoryFilter::default();
    time("the newest page of 100", |_| store.list(&all, None, 100).unwrap());
    let failed = |number: u64| HistoryFilter {
        verdict: some("system_error".to_owned()),
        tenant: some(format!("tenant-{}", number % 50)),
        ..HistoryFilter::default()
    };
    time("system_error of a tenant", |number| store.list(&failed(number), None, 100).unwrap());
    let none = HistoryFilter { language: some("perl".to_owned()), ..HistoryFilter::default() };
    time("a page on which nothing fits", |_| store.list(&none, None, 100).unwrap());
    time("an id and its report", |number| {
        let id = format!("{:032x}", number * (rows / 50));
        let row = store.find(None, None, &id).unwrap().unwrap();
        store.report(row.key).unwrap().unwrap()
    });
    time("figures", |_| store.figures().unwrap());
    let day = HistoryFilter { since_ms: Some(store.now_ms() - 86_400_000), ..HistoryFilter::default() };
    time("statistics of a day", |_| store.tally(&day).unwrap());
}

fn main() {
    let base = option("--folder", &std::env::temp_dir().display().to_string());
    let rows = option("--rows", "1000000").parse().unwrap();
    let seconds = option("--seconds", "5").parse().unwrap();
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir_in(&base).unwrap()).collect();
    one_caller(folders[0].path());
    many_callers(folders[1].path(), Duration::from_secs(seconds));
    record(folders[2].path());
    history(folders[3].path(), rows);
}
