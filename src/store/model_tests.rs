//! Any interleaving of submit, start, answer, run, crash, restart, list and the passing of time
//! against a naive model.
//!
//! Changes are made in the order in which they were queued, so after a crash the store must show
//! what the model shows after some number of them, and at least those that were acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::tests::{TestTime, entry, finish, intake, owner, settle};
use crate::{
    Attached, Error, FinishResult, Forget, HistoryFilter, IntakeResult, Options, Record, RecordOwner, StagedOutputs,
    Start, Store,
};

const TENANTS: [&str; 2] = ["", "t"];
const TTL_MS: i64 = 600_000;

#[derive(Debug, Clone)]
enum ModelStep {
    Submit {
        tenant: usize,
        id: usize,
        content: usize,
    },
    Start {
        tenant: usize,
        id: usize,
    },
    Finish {
        tenant: usize,
        id: usize,
        report: usize,
    },
    Run {
        tenant: usize,
        id: usize,
        content: usize,
        named: bool,
    },
    Forget {
        tenant: usize,
    },
    /// Waits for all that was queued.
    Settle,
    Advance {
        seconds: i64,
    },
    SetClock {
        seconds: i64,
    },
    Restart,
    /// The process ends at so many points of the writer from now.
    CrashAfter {
        points: usize,
    },
}

fn step() -> impl Strategy<Value = ModelStep> {
    let (tenant, id, content) = (0..2usize, 0..3usize, 0..2usize);
    prop_oneof![
        6 => (tenant.clone(), id.clone(), content.clone())
            .prop_map(|(tenant, id, content)| ModelStep::Submit { tenant, id, content }),
        2 => (tenant.clone(), id.clone()).prop_map(|(tenant, id)| ModelStep::Start { tenant, id }),
        5 => (tenant.clone(), id.clone(), 0..9usize)
            .prop_map(|(tenant, id, report)| ModelStep::Finish { tenant, id, report }),
        3 => (tenant, id, content, any::<bool>())
            .prop_map(|(tenant, id, content, named)| ModelStep::Run { tenant, id, content, named }),
        1 => (0..2usize).prop_map(|tenant| ModelStep::Forget { tenant }),
        2 => Just(ModelStep::Settle),
        1 => prop_oneof![Just(TTL_MS / 1000), 1..700i64].prop_map(|seconds| ModelStep::Advance { seconds }),
        1 => (-2000..2000i64).prop_map(|seconds| ModelStep::SetClock { seconds }),
        1 => Just(ModelStep::Restart),
        2 => (0..6usize).prop_map(|points| ModelStep::CrashAfter { points }),
    ]
}

/// What the model knows of an id.
#[derive(Debug, Clone, PartialEq)]
struct ModelRow {
    content: usize,
    starts: u32,
    /// The report and when the id is free again.
    report: Option<(String, i64)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    rows: BTreeMap<(usize, usize), ModelRow>,
    /// Tenant, id and report, oldest first.
    history: Vec<(usize, usize, String)>,
}

/// What a caller sees of a store.
#[derive(Debug, Clone, PartialEq)]
struct View {
    held: Vec<(usize, usize, usize, u32)>,
    known: Vec<(usize, usize, usize, String)>,
    history: Vec<(usize, usize, String)>,
}

impl Model {
    fn free_expired(&mut self, at: (usize, usize), now_ms: i64) {
        let is_free = |row: &ModelRow| row.report.as_ref().is_some_and(|(_, expires)| *expires <= now_ms);
        if self.rows.get(&at).is_some_and(is_free) {
            self.rows.remove(&at);
        }
    }

    fn submit(&mut self, at: (usize, usize), content: usize, now_ms: i64) -> &'static str {
        self.free_expired(at, now_ms);
        match self.rows.get(&at) {
            None => {
                self.rows.insert(at, ModelRow { content, starts: 0, report: None });
                "accepted"
            }
            Some(row) if row.content == content => "known",
            Some(_) => "conflict",
        }
    }

    fn start(&mut self, at: (usize, usize)) -> u32 {
        match self.rows.get_mut(&at).filter(|row| row.report.is_none()) {
            Some(row) => {
                row.starts += 1;
                row.starts
            }
            None => 0,
        }
    }

    fn finish(&mut self, at: (usize, usize), report: String, now_ms: i64) -> &'static str {
        match self.rows.get_mut(&at) {
            None => "gone",
            Some(row) if row.report.is_some() => "already",
            Some(row) => {
                row.report = Some((report.clone(), now_ms + TTL_MS));
                self.history.push((at.0, at.1, report));
                "answered"
            }
        }
    }

    fn run(&mut self, at: (usize, usize), content: usize, named: bool, now_ms: i64) {
        let report = format!("run {content}");
        self.history.push((at.0, at.1, report.clone()));
        if named {
            self.free_expired(at, now_ms);
            let row = ModelRow { content, starts: 0, report: Some((report, now_ms + TTL_MS)) };
            self.rows.entry(at).or_insert(row);
        }
    }

    fn forget(&mut self, tenant: usize) {
        self.rows.retain(|at, _| at.0 != tenant);
        self.history.retain(|row| row.0 != tenant);
    }

    fn view(&self, now_ms: i64) -> View {
        let unfinished = self.rows.iter().filter(|(_, row)| row.report.is_none());
        let known = self.rows.iter().filter_map(|(at, row)| {
            let (report, expires) = row.report.as_ref()?;
            (*expires > now_ms).then(|| (at.0, at.1, row.content, report.clone()))
        });
        View {
            held: unfinished.map(|(at, row)| (at.0, at.1, row.content, row.starts)).collect(),
            known: known.collect(),
            history: self.history.clone(),
        }
    }
}

fn id(number: usize) -> String {
    format!("id {number}")
}

fn content(number: usize) -> &'static str {
    ["print(1)", "print(2)"][number]
}

fn view(store: &Store) -> View {
    let place = |owner: &RecordOwner, id: &str| {
        let tenant = TENANTS.iter().position(|tenant| *tenant == owner.tenant).unwrap();
        (tenant, id.strip_prefix("id ").unwrap().parse::<usize>().unwrap())
    };
    let number = |digest: &[u8; 32]| (0..2).find(|at| intake("", "", content(*at)).digest == *digest).unwrap();
    let text = |history| String::from_utf8(store.report(history).unwrap().unwrap().body).unwrap();
    let held = store.held().unwrap();
    let mut held: Vec<_> = held
        .iter()
        .map(|held| {
            let (tenant, id) = place(&held.owner, &held.id);
            assert_eq!(
                store.request(held.key).unwrap().unwrap().body,
                intake("", "", content(number(&held.digest))).request
            );
            (tenant, id, number(&held.digest), held.starts)
        })
        .collect();
    held.sort();
    let known = store.known(usize::MAX).unwrap();
    let mut known: Vec<_> = known
        .iter()
        .map(|known| {
            let (tenant, id) = place(&known.owner, &known.id);
            (tenant, id, number(&known.digest), text(known.history))
        })
        .collect();
    known.sort();
    let page = store.list(&HistoryFilter::default(), None, 1000).unwrap();
    let mut history: Vec<_> = page
        .rows
        .iter()
        .map(|row| {
            let (tenant, id) = place(&row.entry.owner, &row.entry.id);
            (row.key, (tenant, id, text(row.key)))
        })
        .collect();
    history.sort();
    View { held, known, history: history.into_iter().map(|(_, row)| row).collect() }
}

/// One run of the model beside a store.
struct Trial {
    folder: tempfile::TempDir,
    time: Arc<TestTime>,
    /// Points until the process ends; negative for never.
    fuse: Arc<AtomicI64>,
    crashes: Arc<AtomicUsize>,
    store: Option<Store>,
    /// The model after each change that may still be lost; the first is certain.
    states: Vec<Model>,
    /// Keys of submissions, as the store gave them.
    keys: BTreeMap<(usize, usize), i64>,
}

impl Trial {
    fn new() -> Trial {
        let mut trial = Trial {
            folder: tempfile::tempdir().unwrap(),
            time: TestTime::new(),
            fuse: Arc::new(AtomicI64::new(-1)),
            crashes: Arc::default(),
            store: None,
            states: vec![Model::default()],
            keys: BTreeMap::new(),
        };
        trial.open();
        trial
    }

    fn open(&mut self) {
        self.fuse.store(-1, Ordering::SeqCst);
        let (fuse, crashes) = (self.fuse.clone(), self.crashes.clone());
        let crash = move |_| {
            let is_end = fuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| (left >= 0).then(|| left - 1));
            let is_end = is_end == Ok(0);
            crashes.fetch_add(usize::from(is_end), Ordering::SeqCst);
            is_end
        };
        let options = Options { time: self.time.clone(), reserve_bytes: 0, ..Options::default() };
        self.store = Some(Store::open_to_crash(self.folder.path(), options, Some(Arc::new(crash))).unwrap());
        // without a key that the store gave, starts and reports go nowhere
        let held = self.store().held().unwrap();
        self.keys.clear();
        for held in held {
            let tenant = TENANTS.iter().position(|tenant| *tenant == held.owner.tenant).unwrap();
            self.keys.insert((tenant, held.id.strip_prefix("id ").unwrap().parse().unwrap()), held.key);
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn last(&self) -> Model {
        self.states[self.states.len() - 1].clone()
    }

    /// All that was queued is certain.
    fn acknowledged(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// Opens the store again; it must show a state that is possible.
    fn reopen(&mut self) {
        self.store = None;
        self.open();
        let (found, now_ms) = (view(self.store()), self.store().now_ms());
        let possible = self.states.iter().find(|state| state.view(now_ms) == found);
        let possible = possible.unwrap_or_else(|| panic!("{found:#?}\nis none of\n{:#?}", self.states)).clone();
        self.states = vec![possible];
        assert!(self.store().check().unwrap().is_empty());
    }

    /// Judges what a change answered: its own, or that the process ended.
    fn expect<T: std::fmt::Debug>(&mut self, next: Model, result: Result<T, Error>, fits: impl FnOnce(&T) -> bool) {
        self.states.push(next);
        match result {
            Ok(answer) => {
                assert!(fits(&answer), "{answer:?}");
                self.acknowledged();
            }
            Err(Error::Closed) => {
                assert!(self.crashes.load(Ordering::SeqCst) > 0);
                self.reopen();
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn step(&mut self, step: &ModelStep) {
        let now_ms = self.store().now_ms();
        let mut next = self.last();
        match *step {
            ModelStep::Submit { tenant, id: number, content: what } => {
                let at = (tenant, number);
                let expected = next.submit(at, what, now_ms);
                let result = self.store().intake(intake(TENANTS[tenant], &id(number), content(what))).wait();
                if let Ok(IntakeResult::Accepted { key } | IntakeResult::Known { key, .. }) = &result {
                    self.keys.insert(at, *key);
                }
                self.expect(next, result, |answer| match answer {
                    IntakeResult::Accepted { .. } => expected == "accepted",
                    IntakeResult::Known { .. } => expected == "known",
                    IntakeResult::Conflict => expected == "conflict",
                });
            }
            ModelStep::Start { tenant, id } => {
                let Some(key) = self.keys.get(&(tenant, id)).copied() else { return };
                let expected = next.start((tenant, id));
                let result = self.store().start(Start { key }).wait();
                self.expect(next, result, |starts| *starts == expected);
            }
            ModelStep::Finish { tenant, id: number, report } => {
                let at = (tenant, number);
                let Some(key) = self.keys.get(&at).copied() else { return };
                let report = format!("report {report}");
                let expected = next.finish(at, report.clone(), now_ms);
                let result = self.store().finish(finish(key, TENANTS[tenant], &id(number), &report)).wait();
                self.expect(next, result, |answer| match answer {
                    FinishResult::Answered { .. } => expected == "answered",
                    FinishResult::Already { .. } => expected == "already",
                    // an expired row that retention removed
                    FinishResult::Gone => expected != "answered",
                });
            }
            ModelStep::Run { tenant, id: number, content: what, named } => {
                next.run((tenant, number), what, named, now_ms);
                let digest = named.then(|| intake("", "", content(what)).digest);
                let entry = entry(TENANTS[tenant], &id(number), "accepted");
                let report = format!("run {what}").into_bytes();
                let (attached, outputs) = (Attached::default(), StagedOutputs::default());
                let record = Record { entry, report, attached, outputs, digest };
                // refused once the process has ended
                if self.store().record(record) {
                    self.states.push(next);
                }
            }
            ModelStep::Forget { tenant } => {
                next.forget(tenant);
                let forget = Forget { tenant: TENANTS[tenant].to_owned(), principal: None };
                let result = self.store().forget(forget).wait();
                self.expect(next, result, |_| true);
            }
            ModelStep::Settle => self.settle(),
            ModelStep::Advance { seconds } => {
                self.settle();
                self.time.advance(seconds * 1000);
            }
            ModelStep::SetClock { seconds } => {
                self.settle();
                self.time.wall_ms.fetch_add(seconds * 1000, Ordering::Relaxed);
            }
            ModelStep::Restart => {
                self.settle();
                self.reopen();
            }
            ModelStep::CrashAfter { points } => self.fuse.store(points as i64, Ordering::SeqCst),
        }
    }

    fn settle(&mut self) {
        let next = self.last();
        let result = self.store().start(Start { key: -1 }).wait();
        self.expect(next, result, |starts| *starts == 0);
    }

    fn finish(mut self) {
        self.fuse.store(-1, Ordering::SeqCst);
        self.settle();
        settle(self.store());
        let now_ms = self.store().now_ms();
        assert_eq!(view(self.store()), self.last().view(now_ms));
        self.reopen();
        let figures = self.store().figures().unwrap();
        let rows = self.store().list(&HistoryFilter::default(), None, 1000).unwrap().rows.len();
        assert_eq!((figures.dropped, figures.history), (0, rows as u64));
        assert_eq!(owner("").principal, "uid:1000");
    }
}

#[test]
fn any_interleaving_with_crashes_is_one_of_the_model() {
    let cases = std::env::var("PROPTEST_CASES").map_or(48, |cases| cases.parse().unwrap());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let crashes = AtomicUsize::new(0);
    let tried = TestRunner::new(config).run(&prop::collection::vec(step(), 1..60), |steps| {
        let mut trial = Trial::new();
        steps.iter().for_each(|step| trial.step(step));
        crashes.fetch_add(trial.crashes.load(Ordering::SeqCst), Ordering::SeqCst);
        trial.finish();
        Ok(())
    });
    tried.unwrap();
    assert!(crashes.into_inner() > 10, "the process hardly ever ended");
}
