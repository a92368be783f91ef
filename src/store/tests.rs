//! The store from its callers' side.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::clock::TimeSource;
use crate::{
    Attached, Error, Fetched, Finish, FinishResult, Forget, HistoryEntry, HistoryFilter, Intake, IntakeResult,
    OpenError, Options, Record, RecordOwner, Requeue, Retention, StagedOutputs, Start, Store, StoredState,
};

pub(crate) const MINUTE_MS: i64 = 60_000;

/// A clock that tests set.
#[derive(Debug, Default)]
pub(crate) struct TestTime {
    pub(crate) wall_ms: AtomicI64,
    pub(crate) elapsed_ms: AtomicI64,
}

impl TestTime {
    pub(crate) fn new() -> Arc<TestTime> {
        let time = TestTime::default();
        time.wall_ms.store(1_700_000_000_000, Ordering::Relaxed);
        Arc::new(time)
    }

    pub(crate) fn advance(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
        self.elapsed_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl TimeSource for TestTime {
    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed).unsigned_abs())
    }
}

pub(crate) fn owner(tenant: &str) -> RecordOwner {
    RecordOwner { principal: "uid:1000".to_owned(), tenant: tenant.to_owned() }
}

pub(crate) fn intake(tenant: &str, id: &str, content: &str) -> Intake {
    let mut digest = [0; 32];
    digest[..content.len()].copy_from_slice(content.as_bytes());
    Intake {
        owner: owner(tenant),
        id: id.to_owned(),
        digest,
        language: "python".to_owned(),
        request: format!("{{\"files\":\"{content}\"}}").into_bytes(),
        inputs: StagedOutputs::default(),
    }
}

pub(crate) fn entry(tenant: &str, id: &str, verdict: &str) -> HistoryEntry {
    HistoryEntry {
        owner: owner(tenant),
        id: id.to_owned(),
        language: "python".to_owned(),
        verdict: verdict.to_owned(),
        message: format!("The verdict is {verdict}."),
        blame: None,
        received_ms: 1_700_000_000_000,
        total_ms: 12.5,
        cpu_ms: 10.0,
        memory_bytes: 1024,
    }
}

pub(crate) fn finish(key: i64, tenant: &str, id: &str, report: &str) -> Finish {
    let outputs = StagedOutputs::default();
    let report = report.as_bytes().to_vec();
    Finish {
        key,
        entry: entry(tenant, id, "accepted"),
        report,
        attached: Attached::default(),
        outputs,
        is_awaited: true,
        callback: None,
    }
}

pub(crate) fn record(tenant: &str, id: &str, verdict: &str, content: Option<&str>) -> Record {
    let digest = content.map(|content| intake(tenant, id, content).digest);
    Record {
        entry: entry(tenant, id, verdict),
        report: verdict.into(),
        attached: Attached::default(),
        outputs: StagedOutputs::default(),
        digest,
    }
}

pub(crate) fn options(time: &Arc<TestTime>) -> Options {
    Options { time: time.clone(), reserve_bytes: 0, ..Options::default() }
}

pub(crate) fn open(folder: &Path, time: &Arc<TestTime>) -> Store {
    Store::open(folder, options(time)).unwrap()
}

pub(crate) fn accept(store: &Store, intake: Intake) -> i64 {
    match store.intake(intake).wait().unwrap() {
        IntakeResult::Accepted { key } => key,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn answer(store: &Store, finish: Finish) -> i64 {
    match store.finish(finish).wait().unwrap() {
        FinishResult::Answered { history } => history,
        other => panic!("{other:?}"),
    }
}

/// Waits until everything that was queued before is committed.
pub(crate) fn settle(store: &Store) {
    store.start(Start { key: -1 }).wait().unwrap();
}

/// Waits until the writer has brought a condition about.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the text stands in any file of a folder.
pub(crate) fn is_in_files(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| match entry.path() {
        path if path.is_dir() => is_in_files(&path, text),
        path => {
            let bytes = std::fs::read(&path).unwrap();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        }
    })
}

#[test]
fn a_submission_is_taken_in_started_answered_and_found() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    let key = accept(&store, intake("", "a", "print(1)"));
    assert_eq!(store.request(key).unwrap().unwrap().body, b"{\"files\":\"print(1)\"}");
    assert_eq!((store.start(Start { key }).wait().unwrap(), store.start(Start { key }).wait().unwrap()), (1, 2));
    let held = store.held().unwrap();
    assert_eq!((held.len(), held[0].state, held[0].starts, held[0].id.as_str()), (1, StoredState::Leased, 2, "a"));
    let figures = store.figures().unwrap();
    assert_eq!((figures.unfinished, figures.oldest_unfinished_ms, figures.outbox), (1, Some(1_700_000_000_000), 0));

    let history = answer(&store, finish(key, "", "a", "the report"));
    assert_eq!(store.report(history).unwrap().unwrap().body, b"the report");
    assert!(store.held().unwrap().is_empty() && store.request(key).unwrap().is_none());
    assert!(!is_in_files(folder.path(), "no such text") && is_in_files(folder.path(), "the report"));
    eventually("the request has left the log", || !is_in_files(folder.path(), "{\"files\":\"print(1)\"}"));
    let known = store.known(10).unwrap();
    assert_eq!((known.len(), known[0].history, known[0].id.as_str()), (1, history, "a"));
    let figures = store.figures().unwrap();
    assert_eq!((figures.unfinished, figures.outbox, figures.history), (0, 1, 1));
    store.fetched(Fetched { history });
    settle(&store);
    assert_eq!(store.figures().unwrap().outbox, 0);
    let found = store.find(Some("uid:1000"), None, "a").unwrap().unwrap();
    assert_eq!((found.key, found.entry, found.answered_ms), (history, entry("", "a", "accepted"), 1_700_000_000_000));
    assert!(store.find(Some("uid:7"), None, "a").unwrap().is_none());
}

#[test]
fn an_id_stands_for_one_content_until_its_time_is_over() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let mut store = open(folder.path(), &time);
    let key = accept(&store, intake("", "a", "one"));
    let again = |store: &Store, content| store.intake(intake("", "a", content)).wait().unwrap();
    assert_eq!(again(&store, "one"), IntakeResult::Known { key, state: StoredState::Queued, history: None });
    assert_eq!(again(&store, "two"), IntakeResult::Conflict);
    accept(&store, intake("other tenant", "a", "two"));
    let first = answer(&store, finish(key, "", "a", "first"));
    assert_eq!(store.finish(finish(key, "", "a", "second")).wait().unwrap(), FinishResult::Already { history: first });
    assert_eq!(store.finish(finish(key + 100, "", "b", "x")).wait().unwrap(), FinishResult::Gone);
    time.advance(10 * MINUTE_MS - 1);
    for _ in 0..2 {
        let known = IntakeResult::Known { key, state: StoredState::Answered, history: Some(first) };
        assert_eq!(again(&store, "one"), known);
        assert_eq!(again(&store, "two"), IntakeResult::Conflict);
        drop(store);
        store = open(folder.path(), &time);
    }
    time.advance(1);
    assert!(store.known(10).unwrap().is_empty());
    let IntakeResult::Accepted { key: next } = again(&store, "two") else { panic!("the id is not free") };
    let second = answer(&store, finish(next, "", "a", "second"));
    assert_eq!(store.report(first).unwrap().unwrap().body, b"first");
    assert_eq!(store.find(None, Some(""), "a").unwrap().unwrap().key, second);
}

#[test]
fn a_store_that_is_closed_has_written_all_and_takes_nothing_more() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    assert!(store.record(record("", "a", "accepted", None)));
    store.close();
    assert!(!store.record(record("", "b", "accepted", None)));
    assert!(matches!(store.intake(intake("", "c", "x")).wait(), Err(Error::Closed)));
    let page = store.list(&HistoryFilter::default(), None, 10).unwrap();
    assert_eq!(page.rows.iter().map(|row| row.entry.id.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn what_was_acknowledged_waits_again_after_a_restart() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    let (one, two) = (accept(&store, intake("", "1", "x")), accept(&store, intake("", "2", "x")));
    store.start(Start { key: one }).wait().unwrap();
    store.start(Start { key: two }).wait().unwrap();
    store.requeue(Requeue { key: two }).wait().unwrap();
    store.requeue(Requeue { key: two }).wait().unwrap();
    drop(store);
    let store = open(folder.path(), &time);
    let held = store.held().unwrap();
    let seen: Vec<_> = held.iter().map(|held| (held.key, held.state, held.starts)).collect();
    assert_eq!(seen, [(one, StoredState::Queued, 1), (two, StoredState::Queued, 0)]);
}

#[test]
fn a_clock_that_is_set_back_or_forward_expires_nothing_early() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    let key = accept(&store, intake("", "a", "x"));
    answer(&store, finish(key, "", "a", "report"));
    time.wall_ms.fetch_add(1000 * MINUTE_MS, Ordering::Relaxed);
    assert_eq!(store.known(10).unwrap().len(), 1, "set forward");
    time.wall_ms.fetch_sub(3000 * MINUTE_MS, Ordering::Relaxed);
    assert_eq!(store.known(10).unwrap().len(), 1, "set back");
    drop(store);
    let store = open(folder.path(), &time);
    assert_eq!(store.known(10).unwrap().len(), 1, "set back before a restart");
    time.advance(10 * MINUTE_MS);
    assert!(store.known(10).unwrap().is_empty(), "it expires although the clock was set back");
}

#[test]
fn a_run_is_history_and_its_id_stands_for_it_if_the_caller_gave_one() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    let key = accept(&store, intake("", "mine", "x"));
    assert!(store.record(record("", "named", "wrong_answer", Some("x"))));
    assert!(store.record(record("", "unnamed", "accepted", None)));
    assert!(store.record(record("", "mine", "accepted", Some("other"))));
    settle(&store);
    assert_eq!(store.known(10).unwrap().iter().map(|known| known.id.as_str()).collect::<Vec<_>>(), ["named"]);
    assert_eq!(store.figures().unwrap().history, 3);
    assert_eq!(store.held().unwrap()[0].key, key);
    assert_eq!(store.intake(intake("", "named", "y")).wait().unwrap(), IntakeResult::Conflict);
}

#[test]
fn large_outputs_live_as_long_as_the_rows_that_name_them() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    let count = || std::fs::read_dir(folder.path().join("assay-outputs")).unwrap().count();
    let with_input =
        |content| Intake { inputs: store.stage(&[("blob".to_owned(), b"input")]).unwrap(), ..intake("", "a", content) };
    let key = accept(&store, with_input("x"));
    assert_eq!(store.intake(with_input("y")).wait().unwrap(), IntakeResult::Conflict);
    eventually("the refused one's file is removed", || count() == 1);
    let request = store.request(key).unwrap().unwrap();
    assert_eq!((request.files[0].label.as_str(), request.files[0].bytes), ("blob", 5));
    assert_eq!(store.output(&request.files[0].name).unwrap(), b"input");

    let outputs = store.stage(&[("stdout".to_owned(), vec![7; 100_000])]).unwrap();
    let history = answer(&store, Finish { outputs, ..finish(key, "", "a", "report") });
    eventually("the input is removed with the answer", || count() == 1);
    let file = store.report(history).unwrap().unwrap().files.remove(0);
    assert_eq!((store.output(&file.name).unwrap().len(), file.label.as_str()), (100_000, "stdout"));
    assert!(store.check().unwrap().is_empty());
    let dropped = store.stage(&[("a".to_owned(), b"x")]).unwrap();
    assert_eq!(count(), 2);
    drop(dropped);
    assert_eq!(count(), 1);

    std::fs::write(folder.path().join("assay-outputs/stray"), "left by a crash").unwrap();
    drop(store);
    let store = open(folder.path(), &time);
    assert_eq!(count(), 1);
    std::fs::remove_file(folder.path().join("assay-outputs").join(&file.name)).unwrap();
    assert!(store.check().unwrap()[0].contains(&file.name));
    assert!(matches!(store.output(&file.name), Err(Error::Io { .. })));
}

#[test]
fn requests_stay_only_if_sources_are_kept() {
    for keep_sources in [false, true] {
        let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
        let retention = Retention { keep_sources, ..Retention::default() };
        let store = Store::open(folder.path(), Options { retention, ..options(&time) }).unwrap();
        let key = accept(&store, intake("", "a", "needle in the source"));
        answer(&store, finish(key, "", "a", "report"));
        store.vacuum().wait().unwrap();
        let reader = Connection::open_in_memory().unwrap();
        let copies: String = reader.pragma_query_value(None, "temp_store_directory", |row| row.get(0)).unwrap();
        assert!(!copies.is_empty(), "its copy is where the system has its temporary files");
        assert_eq!(is_in_files(folder.path(), "needle in the source\"}"), keep_sources);
    }
}

#[test]
fn history_goes_by_age_but_not_what_may_still_be_fetched() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let retention = Retention { keep: Duration::from_secs(60), ..Retention::default() };
    let store = Store::open(folder.path(), Options { retention, ..options(&time) }).unwrap();
    for number in 0..700 {
        store.record(record("", &number.to_string(), "accepted", None));
    }
    let key = accept(&store, intake("", "a", "x"));
    let history = answer(&store, finish(key, "", "a", "report"));
    assert_eq!(store.figures().unwrap().history, 701);
    time.advance(2 * MINUTE_MS);
    settle(&store);
    eventually("old history goes in steps", || store.figures().unwrap().history == 1);
    assert!(store.report(history).unwrap().is_some(), "its id still stands for it");
    time.advance(9 * MINUTE_MS);
    settle(&store);
    eventually("and with the id the rest", || store.figures().unwrap().history == 0);
    assert!(store.check().unwrap().is_empty());
}

#[test]
fn history_goes_by_size_and_the_file_becomes_smaller() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let max_bytes = 8 * 1024 * 1024;
    let retention = Retention { max_bytes, ..Retention::default() };
    let store = Store::open(folder.path(), Options { retention: retention.clone(), ..options(&time) }).unwrap();
    let outputs = || store.stage(&[("a".to_owned(), vec![1; 50_000])]).unwrap();
    for number in 0..400 {
        let record = record("", &number.to_string(), "accepted", None);
        assert!(store.record(Record { report: vec![b'x'; 50_000], outputs: outputs(), ..record }));
        if number % 16 == 0 {
            settle(&store);
        }
    }
    settle(&store);
    eventually("the oldest go", || store.figures().unwrap().bytes <= max_bytes);
    let page = store.list(&HistoryFilter::default(), None, 10).unwrap();
    assert_eq!(page.rows[0].entry.id, "399", "the newest stay");
    assert!(store.figures().unwrap().history > 20);
    let file = folder.path().join("assay.db");
    store.set_retention(Retention { max_bytes: 1024 * 1024, ..retention });
    settle(&store);
    eventually("pages are given back", || {
        store.figures().unwrap().bytes <= 1024 * 1024 && store.vacuum().wait().unwrap() < 2 * 1024 * 1024
    });
    assert!(std::fs::metadata(&file).unwrap().len() < 2 * 1024 * 1024);
    let files = std::fs::read_dir(folder.path().join("assay-outputs")).unwrap().count();
    assert_eq!(files as u64, store.figures().unwrap().history);
}

#[test]
fn of_too_much_history_that_of_anonymous_callers_goes_first() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let retention = Retention { max_bytes: 4 * 1024 * 1024, ..Retention::default() };
    let store = Store::open(folder.path(), Options { retention, ..options(&time) }).unwrap();
    for number in 0..100 {
        // the older half is that of a uid
        let principal = if number < 50 { "uid:1000" } else { "anon:ab" };
        let owner = RecordOwner { principal: principal.to_owned(), tenant: String::new() };
        let entry = HistoryEntry { owner, ..entry("", &number.to_string(), "accepted") };
        let record = record("", "x", "accepted", None);
        assert!(store.record(Record { entry, report: vec![b'x'; 50_000], ..record }));
        settle(&store);
    }
    eventually("enough has gone", || store.figures().unwrap().bytes <= 4 * 1024 * 1024);
    let of_uid = HistoryFilter { principal: Some("uid:1000".to_owned()), ..HistoryFilter::default() };
    assert_eq!(store.list(&of_uid, None, 1000).unwrap().rows.len(), 50);
    assert!(store.figures().unwrap().history < 100);
}

#[test]
fn forgetting_a_tenant_leaves_nothing_in_any_file_and_others_alone() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    std::fs::write(folder.path().join("assay.db-damaged-1"), "secret-tenant").unwrap();
    let store = open(folder.path(), &time);
    for number in 0..600 {
        let outputs = store.stage(&[("o".to_owned(), format!("secret-tenant output {number}"))]).unwrap();
        let verdict = format!("secret-tenant verdict {number}");
        let attached = Attached {
            receipt: Some(format!("secret-tenant receipt {number}").into_bytes()),
            usage: Some(format!("secret-tenant usage {number}").into_bytes()),
        };
        let kept = record("secret-tenant", &number.to_string(), &verdict, Some("x"));
        store.record(Record { outputs, attached, ..kept });
        store.record(record("other", &number.to_string(), "accepted", None));
    }
    accept(&store, intake("secret-tenant", "waiting", "secret-tenant's code"));
    let key = accept(&store, intake("other", "waiting", "code"));
    assert!(is_in_files(folder.path(), "secret-tenant"));
    let forget = Forget { tenant: "secret-tenant".to_owned(), principal: None };
    assert_eq!(store.forget(forget).wait().unwrap(), 600 * 2 + 1);
    assert!(!is_in_files(folder.path(), "secret-tenant"));
    assert_eq!((store.figures().unwrap().history, store.held().unwrap()[0].key), (600, key));
    assert!(store.check().unwrap().is_empty());
    let nothing = Forget { tenant: "other".to_owned(), principal: Some("uid:7".to_owned()) };
    assert_eq!(store.forget(nothing).wait().unwrap(), 0);
}

#[test]
fn history_is_listed_by_filters_page_by_page() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    for number in 0..100 {
        let (tenant, verdict) = (["a", "b"][number % 2], ["accepted", "system_error", "accepted"][number % 3]);
        store.record(record(tenant, &number.to_string(), verdict, None));
        settle(&store);
        // several have the same time
        time.advance(if number % 4 == 0 { 1000 } else { 0 });
    }
    let all = |filter: &HistoryFilter, limit| {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(filter, after, limit).unwrap();
            ids.extend(page.rows.iter().map(|row| row.entry.id.parse::<usize>().unwrap()));
            match page.next {
                Some(next) => after = Some(next),
                None => return ids,
            }
        }
    };
    let some = |text: &str| Some(text.to_owned());
    let filters = [
        HistoryFilter::default(),
        HistoryFilter { tenant: some("b"), ..HistoryFilter::default() },
        HistoryFilter { verdict: some("system_error"), tenant: some("a"), ..HistoryFilter::default() },
        HistoryFilter { verdict: some("accepted"), principal: some("uid:1000"), ..HistoryFilter::default() },
        HistoryFilter { language: some("perl"), ..HistoryFilter::default() },
        HistoryFilter { principal: some("uid:7"), ..HistoryFilter::default() },
    ];
    for filter in &filters {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let expected: Vec<usize> = (0..100)
            .rev()
            .filter(|number| {
                is(&filter.tenant, ["a", "b"][number % 2])
                    && is(&filter.verdict, ["accepted", "system_error", "accepted"][number % 3])
                    && is(&filter.language, "python")
                    && is(&filter.principal, "uid:1000")
            })
            .collect();
        for limit in [1, 7, 1000] {
            assert_eq!(all(filter, limit), expected, "{filter:?}, pages of {limit}");
        }
        let counted: u64 = store.tally(filter).unwrap().iter().map(|tally| tally.count).sum();
        assert_eq!(counted, expected.len() as u64);
    }
    let rows = store.list(&HistoryFilter::default(), None, 1000).unwrap().rows;
    let (since_ms, until_ms) = (rows[60].answered_ms, rows[20].answered_ms);
    let range = HistoryFilter { since_ms: Some(since_ms), until_ms: Some(until_ms), ..HistoryFilter::default() };
    let in_range = rows.iter().filter(|row| (since_ms..until_ms).contains(&row.answered_ms));
    assert_eq!(all(&range, 7).len(), in_range.count());
    let tally = &store.tally(&HistoryFilter::default()).unwrap()[1];
    assert_eq!((tally.tenant.as_str(), tally.verdict.as_str(), tally.count), ("a", "system_error", 16));
    assert_eq!((tally.cpu_ms, tally.mean_total_ms, tally.max_memory_bytes), (160.0, 12.5, 1024));
}

#[test]
fn a_page_reads_a_bounded_number_of_rows_and_has_a_next_one() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    for number in 0..5000 {
        let tenant = if number == 0 { "rare" } else { "common" };
        store.record(Record { entry: entry(tenant, "x", "accepted"), ..record("", "x", "accepted", None) });
        if number % 1000 == 999 {
            settle(&store);
        }
    }
    let filter = HistoryFilter {
        principal: Some("uid:1000".to_owned()),
        language: Some("perl".to_owned()),
        ..HistoryFilter::default()
    };
    let page = store.list(&filter, None, 10).unwrap();
    assert!(page.rows.is_empty() && page.next.is_some());
    assert!(store.list(&filter, page.next, 10).unwrap().next.is_none());
    // another principal learns neither that there are such rows nor when
    for (tenant, verdict) in [(Some("common".to_owned()), None), (None, Some("accepted".to_owned()))] {
        let of_another =
            HistoryFilter { principal: Some("uid:7".to_owned()), tenant, verdict, ..HistoryFilter::default() };
        let page = store.list(&of_another, None, 10).unwrap();
        assert!(page.rows.is_empty() && page.next.is_none(), "{page:?}");
    }
    let rare = HistoryFilter { tenant: Some("rare".to_owned()), ..HistoryFilter::default() };
    assert_eq!(store.list(&rare, None, 10).unwrap().rows.len(), 1);
}

#[test]
fn a_disk_with_only_its_reserve_left_refuses_intake_and_takes_reports() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    let key = accept(&store, intake("", "a", "x"));
    drop(store);
    let store = Store::open(folder.path(), Options { reserve_bytes: u64::MAX, ..options(&time) }).unwrap();
    assert!(matches!(store.intake(intake("", "b", "x")).wait(), Err(Error::Full)));
    assert!(store.figures().unwrap().is_full);
    answer(&store, finish(key, "", "a", "report"));
}

#[test]
fn a_change_that_does_not_fit_fails_alone() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let file = folder.path().join("assay.db");
    drop(open(folder.path(), &time));
    let store = open(folder.path(), &time);
    // a report without room, of a submission that is in the same group as others
    let connection = Connection::open(&file).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON request WHEN length(new.body) > 100000
         BEGIN SELECT raise(ABORT, 'too large'); END",
        )
        .unwrap();
    drop(connection);
    let hold = Connection::open(&file).unwrap();
    hold.execute_batch("BEGIN IMMEDIATE").unwrap();
    let receipts: Vec<_> = (0..10)
        .map(|number| {
            let request = if number == 5 { vec![b' '; 200_000] } else { Vec::new() };
            store.intake(Intake { request, ..intake("", &number.to_string(), "x") })
        })
        .collect();
    hold.execute_batch("COMMIT").unwrap();
    let results: Vec<bool> = receipts.into_iter().map(|receipt| receipt.wait().is_ok()).collect();
    assert_eq!(results, (0..10).map(|number| number != 5).collect::<Vec<_>>());
    assert_eq!(store.held().unwrap().len(), 9);
}

#[test]
fn a_second_daemon_a_later_version_and_another_program_are_refused() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    let second = Store::open(folder.path(), options(&time)).unwrap_err();
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
    drop(store);
    let file = folder.path().join("assay.db");
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let later = Store::open(folder.path(), options(&time)).unwrap_err();
    assert!(later.to_string().contains("a later version of assay wrote it (schema 99"), "{later}");
    std::fs::remove_file(&file).unwrap();
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(Store::open(folder.path(), options(&time)), Err(OpenError::Foreign(_))));
}

#[test]
fn a_backup_is_a_store_of_its_own() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    let outputs = store.stage(&[("stdout".to_owned(), b"large")]).unwrap();
    store.record(Record { outputs, ..record("", "a", "accepted", None) });
    let key = accept(&store, intake("", "b", "x"));
    let to = tempfile::tempdir().unwrap();
    let file = to.path().join("assay.db");
    store.backup(&file).unwrap();
    assert!(matches!(store.backup(&file), Err(Error::Io { .. })), "an existing file is not replaced");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::rename(to.path().join("assay.db-outputs"), to.path().join("assay-outputs")).unwrap();
    let copy = open(to.path(), &time);
    assert!(copy.check().unwrap().is_empty());
    assert_eq!((copy.held().unwrap()[0].key, copy.figures().unwrap().history), (key, 1));
}

#[test]
fn changes_that_wait_together_share_a_commit() {
    let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
    let store = open(folder.path(), &time);
    let hold = Connection::open(folder.path().join("assay.db")).unwrap();
    hold.execute_batch("BEGIN IMMEDIATE").unwrap();
    let before = store.figures().unwrap();
    let receipts: Vec<_> = (0..200).map(|number| store.intake(intake("", &number.to_string(), "x"))).collect();
    hold.execute_batch("COMMIT").unwrap();
    assert!(receipts.into_iter().all(|receipt| receipt.wait().is_ok()));
    let after = store.figures().unwrap();
    // the first may have been taken before the others came
    assert!(after.commits - before.commits <= 3 && after.changes - before.changes == 200, "{before:?} {after:?}");
}
