//! The store on a disk that loses its power, is full, fails or cannot be written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use store::{
    Attached, Error, Finish, FinishResult, Forget, HistoryEntry, HistoryFilter, Intake, IntakeResult, OpenError,
    Options, Record, RecordOwner, Retention, StagedOutputs, Start, Store,
};

use super::volatile_disk::{Random, VolatileDisk};
use crate::harness::skip;

/// Power cuts in `make test`; ASSAY_POWER_CUTS asks for more.
const CUTS: usize = 40;

/// Whether this machine lets us mount a file system of our own.
fn can_mount() -> bool {
    let can = nix::unistd::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !can {
        skip("mounting a file system in user space needs root and /dev/fuse");
    }
    can
}

fn owner() -> RecordOwner {
    RecordOwner { principal: "uid:1000".to_owned(), tenant: "t".to_owned() }
}

fn entry(id: &str) -> HistoryEntry {
    HistoryEntry {
        owner: owner(),
        id: id.to_owned(),
        language: "python".to_owned(),
        verdict: "accepted".to_owned(),
        message: String::new(),
        blame: None,
        received_ms: 0,
        total_ms: 1.0,
        cpu_ms: 1.0,
        memory_bytes: 1,
    }
}

fn intake(id: &str, inputs: StagedOutputs) -> Intake {
    let request = format!("{{\"request\":\"{id}\"}}").into_bytes();
    Intake { owner: owner(), id: id.to_owned(), digest: [1; 32], language: "python".to_owned(), request, inputs }
}

fn report(id: &str) -> Vec<u8> {
    // some span pages
    format!("report of {id} {}", "x".repeat(id.len() * 97 % 9000)).into_bytes()
}

fn finish(key: i64, id: &str, outputs: StagedOutputs) -> Finish {
    Finish {
        key,
        entry: entry(id),
        report: report(id),
        attached: Attached::default(),
        outputs,
        is_awaited: true,
        callback: None,
    }
}

/// Old runs are removed while it runs, with their files.
fn options() -> Options {
    let retention = Retention { max_bytes: 400 * 1024, ..Retention::default() };
    Options { retention, reserve_bytes: 0, ..Options::default() }
}

/// What callers were told.
#[derive(Debug, Default)]
struct Told {
    /// Acknowledged submissions, with what was handed in beside the request.
    accepted: BTreeMap<String, Option<Vec<u8>>>,
    /// Those whose report was acknowledged, with its output.
    answered: BTreeMap<String, Option<Vec<u8>>>,
}

/// One caller: hands in, answers most, runs others, until the disk is gone.
fn call(store: &Store, told: &Mutex<Told>, name: &str, mut random: Random) -> Result<(), Error> {
    for number in 0.. {
        let id = format!("{name}-{number}");
        let large = |random: &mut Random, what: &str| {
            (random.below(3) == 0)
                .then(|| format!("{what} of {id} ").repeat(1 + random.below(400) as usize).into_bytes())
        };
        let stage = |content: &Option<Vec<u8>>| match content {
            Some(content) => store.stage(&[("large".to_owned(), content)]),
            None => Ok(StagedOutputs::default()),
        };
        if random.below(3) == 0 {
            let outputs = stage(&large(&mut random, "run"))?;
            store.record(Record {
                entry: entry(&format!("run-{id}")),
                report: report(&id),
                attached: Attached::default(),
                outputs,
                digest: None,
            });
        }
        let input = large(&mut random, "input");
        let IntakeResult::Accepted { key } = store.intake(intake(&id, stage(&input)?)).wait()? else {
            panic!("{id} is new")
        };
        told.lock().unwrap().accepted.insert(id.clone(), input);
        store.start(Start { key }).wait()?;
        if random.below(4) > 0 {
            let output = large(&mut random, "output");
            let done = store.finish(finish(key, &id, stage(&output)?)).wait()?;
            assert!(matches!(done, FinishResult::Answered { .. }), "{done:?}");
            told.lock().unwrap().answered.insert(id, output);
        }
    }
    Ok(())
}

/// Everything that was told is there, once, and can be read.
fn verify(store: &Store, told: &Told) {
    assert_eq!(store.figures().unwrap().set_aside, None, "the database was not readable");
    verify_rows(store, told);
}

fn verify_rows(store: &Store, told: &Told) {
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let held: BTreeMap<String, i64> = store.held().unwrap().into_iter().map(|held| (held.id, held.key)).collect();
    let known: BTreeMap<String, i64> =
        store.known(usize::MAX).unwrap().into_iter().map(|known| (known.id, known.history)).collect();
    let contents = |request: &store::StoredRequest| -> Vec<Vec<u8>> {
        request.files.iter().map(|file| store.output(&file.name).unwrap()).collect()
    };
    for (id, input) in &told.accepted {
        match (held.get(id), known.get(id)) {
            (Some(key), None) => {
                assert!(!told.answered.contains_key(id), "the report of {id} is lost");
                let request = store.request(*key).unwrap().unwrap();
                assert_eq!(request.body, intake(id, StagedOutputs::default()).request);
                assert_eq!(contents(&request), input.iter().cloned().collect::<Vec<_>>());
            }
            (None, Some(history)) => {
                let stored = store.report(*history).unwrap().unwrap();
                assert_eq!(stored.body, report(id));
                if let Some(output) = told.answered.get(id) {
                    assert_eq!(contents(&stored), output.iter().cloned().collect::<Vec<_>>());
                }
            }
            (None, None) => panic!("{id} was acknowledged and is lost"),
            (Some(_), Some(_)) => panic!("{id} is there twice"),
        }
    }
    let (mut seen, mut after) = (BTreeMap::new(), None);
    loop {
        let page = store.list(&HistoryFilter::default(), after, 1000).unwrap();
        for row in page.rows {
            if row.entry.owner == owner() {
                *seen.entry(row.entry.id).or_insert(0) += 1;
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "more than one report: {twice:?}");
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if !can_mount() {
        return;
    }
    let cuts = std::env::var("ASSAY_POWER_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap());
    let seed = std::env::var("ASSAY_POWER_SEED").map_or(1, |seed| seed.parse().unwrap());
    let (mut random, told) = (Random::new(seed), Mutex::new(Told::default()));
    let (mut disk, folder) = (VolatileDisk::new(), tempfile::tempdir().unwrap());
    let (mut acknowledged, mut answered) = (0, 0);
    for cut in 0..cuts {
        if cut % 20 == 19 {
            // another one: the checks of a round grow with what was acknowledged
            let Told { accepted, answered: reports } = std::mem::take(&mut *told.lock().unwrap());
            (acknowledged, answered) = (acknowledged + accepted.len(), answered + reports.len());
            disk = VolatileDisk::new();
        }
        // early ones hit the opening, late ones checkpoints and retention
        disk.cut_after(random.below([30, 300, 3000][cut % 3]));
        let mounted = disk.mount(folder.path(), "volatile");
        if let Ok(store) = Store::open(folder.path(), options()) {
            std::thread::scope(|scope| {
                for caller in 0..4 {
                    let (store, told, name) = (&store, &told, format!("{cut}-{caller}"));
                    let random = Random::new(random.below(u64::MAX >> 1));
                    scope.spawn(move || call(store, told, &name, random));
                }
            });
        }
        assert!(disk.is_cut(), "callers stopped although the disk works");
        drop(mounted);
        disk.come_back(&mut random);
        let mounted = disk.mount(folder.path(), "volatile");
        let store = Store::open(folder.path(), options()).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        verify(&store, &told.lock().unwrap());
        drop(store);
        drop(mounted);
    }
    let told = told.into_inner().unwrap();
    (acknowledged, answered) = (acknowledged + told.accepted.len(), answered + told.answered.len());
    eprintln!("{cuts} power cuts: {acknowledged} acknowledged, {answered} answered, none lost or doubled");
    assert!(acknowledged > cuts, "hardly anything was acknowledged");
}

#[test]
fn a_failed_fsync_is_told_and_what_was_acknowledged_before_and_after_survives() {
    if !can_mount() {
        return;
    }
    let mut random = Random::new(7);
    for round in 0..10 {
        let (disk, folder, told) = (VolatileDisk::new(), tempfile::tempdir().unwrap(), Mutex::new(Told::default()));
        let mounted = disk.mount(folder.path(), "volatile");
        let store = Store::open(folder.path(), options()).unwrap();
        let (failures, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for caller in 0..2 {
                let (store, told, failures, is_over) = (&store, &told, &failures, &is_over);
                scope.spawn(move || {
                    for number in 0.. {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        let id = format!("{caller}-{number}");
                        match store.intake(intake(&id, StagedOutputs::default())).wait() {
                            Ok(IntakeResult::Accepted { key } | IntakeResult::Known { key, .. }) => {
                                told.lock().unwrap().accepted.insert(id, None);
                                // written without fsync: what a failed one forgets
                                let _ = store.start(Start { key }).wait();
                            }
                            Ok(IntakeResult::Conflict) => panic!("{id} is new"),
                            Err(_) => drop(failures.fetch_add(1, Ordering::Relaxed)),
                        }
                    }
                });
            }
            for _ in 0..5 {
                let before = disk.syncs();
                while disk.syncs() < before + 5 {
                    std::thread::yield_now();
                }
                disk.fail_syncs(1 + random.below(4));
            }
            let before = disk.syncs();
            while disk.syncs() < before + 20 {
                std::thread::yield_now();
            }
            disk.cut();
            is_over.store(true, Ordering::Relaxed);
        });
        drop(store);
        drop(mounted);
        disk.come_back(&mut random);
        let mounted = disk.mount(folder.path(), "volatile");
        let store = Store::open(folder.path(), options()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        verify(&store, &told.lock().unwrap());
        drop(store);
        drop(mounted);
    }
}

#[test]
fn a_full_disk_refuses_new_submissions_and_takes_the_reports_of_old_ones() {
    if !can_mount() {
        return;
    }
    let (disk, folder) = (VolatileDisk::new(), tempfile::tempdir().unwrap());
    let _mounted = disk.mount(folder.path(), "volatile");
    let reserve_bytes = 4 * 1024 * 1024;
    let store = Store::open(folder.path(), Options { reserve_bytes, ..options() }).unwrap();
    let large = |id: &str| Intake { request: vec![b'x'; 100_000], ..intake(id, StagedOutputs::default()) };
    disk.set_capacity(disk.used() + 12 * 1024 * 1024);
    let mut keys = Vec::new();
    let refusal = loop {
        let id = keys.len().to_string();
        match store.intake(large(&id)).wait() {
            Ok(IntakeResult::Accepted { key }) => keys.push((id, key)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, Error::Full), "{refusal}");
    assert!(keys.len() > 10 && store.figures().unwrap().is_full);
    for (id, key) in keys.iter().take(10) {
        let done = store.finish(finish(*key, id, StagedOutputs::default())).wait().unwrap();
        assert!(matches!(done, FinishResult::Answered { .. }), "{done:?}");
    }
    // not even the reserve is left
    disk.set_capacity(disk.used());
    let (id, key) = &keys[10];
    let last = finish(*key, id, StagedOutputs::default());
    let last = store.finish(Finish { report: vec![b'x'; 20_000_000], ..last }).wait();
    assert!(matches!(last, Err(Error::Full)), "{last:?}");
    assert!(matches!(store.stage(&[("large".to_owned(), vec![b'x'; 1_000_000])]), Err(Error::Full)));
    disk.set_capacity(1 << 30);
    assert!(matches!(store.intake(large("more")).wait(), Ok(IntakeResult::Accepted { .. })));
    store.finish(finish(*key, id, StagedOutputs::default())).wait().unwrap();
    assert_eq!(store.held().unwrap().len(), keys.len() - 11 + 1);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let files = std::fs::read_dir(folder.path().join("assay-outputs")).unwrap().count();
    assert_eq!(files, 0, "files of what found no room are left");
}

#[test]
fn a_disk_that_cannot_be_written_says_so_and_is_used_again_when_it_can() {
    if !can_mount() {
        return;
    }
    let (disk, folder) = (VolatileDisk::new(), tempfile::tempdir().unwrap());
    let _mounted = disk.mount(folder.path(), "volatile");
    let store = Store::open(folder.path(), options()).unwrap();
    store.intake(intake("before", StagedOutputs::default())).wait().unwrap();
    disk.set_read_only(true);
    let refused = store.intake(intake("meanwhile", StagedOutputs::default())).wait();
    assert!(matches!(refused, Err(Error::Sqlite(_))), "{refused:?}");
    assert_eq!(store.held().unwrap().len(), 1, "reads go on");
    assert!(store.figures().unwrap().fault.is_some());
    disk.set_read_only(false);
    store.intake(intake("after", StagedOutputs::default())).wait().unwrap();
    assert_eq!(store.held().unwrap().len(), 2);
    assert!(store.figures().unwrap().fault.is_none());
    drop(store);
    disk.set_read_only(true);
    let refused = Store::open(folder.path(), options()).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. } | OpenError::Sqlite { .. }), "{refused}");
}

#[test]
fn a_network_file_system_is_refused() {
    if !can_mount() {
        return;
    }
    let (disk, folder) = (VolatileDisk::new(), tempfile::tempdir().unwrap());
    let _mounted = disk.mount(folder.path(), "sshfs");
    let refused = Store::open(folder.path(), options()).unwrap_err();
    assert!(matches!(&refused, OpenError::Network { kind, .. } if kind == "fuse.sshfs"), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was written");
}

/// A store with submissions, answered and not, and history of a tenant that is to be forgotten.
fn fill(store: &Store, round: usize) -> Told {
    let mut told = Told::default();
    for number in 0..30 {
        let id = format!("{round}-{number}");
        let output = (number % 3 == 0).then(|| format!("output of {id}").into_bytes());
        let IntakeResult::Accepted { key } = store.intake(intake(&id, StagedOutputs::default())).wait().unwrap() else {
            panic!("{id} is new")
        };
        told.accepted.insert(id.clone(), None);
        if number % 2 == 0 {
            let contents: Vec<_> = output.iter().map(|output| ("large".to_owned(), output)).collect();
            store.finish(finish(key, &id, store.stage(&contents).unwrap())).wait().unwrap();
            told.answered.insert(id.clone(), output);
        }
        let owner = RecordOwner { tenant: "forgotten".to_owned(), ..owner() };
        let (entry, outputs) = (HistoryEntry { owner, ..entry("of another") }, StagedOutputs::default());
        store.record(Record { entry, report: report(&id), attached: Attached::default(), outputs, digest: None });
    }
    told
}

/// Damages a page of an index: the rows can still be read.
fn damage(file: &Path) {
    let connection = rusqlite::Connection::open(file).unwrap();
    let page = "SELECT max(pageno) FROM dbstat WHERE name = 'submission_tenant'";
    let page: u64 = connection.query_row(page, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    drop(connection);
    let file = std::fs::File::options().write(true).open(file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4096], (page - 1) * 4096).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_power_cut_while_a_damaged_file_is_replaced_or_a_tenant_is_forgotten_loses_nothing_else() {
    if !can_mount() {
        return;
    }
    let (mut random, mut replaced, mut forgotten) = (Random::new(3), 0, 0);
    for round in 0..30 {
        let (disk, folder) = (VolatileDisk::new(), tempfile::tempdir().unwrap());
        let is_damaged = round % 2 == 0;
        let mounted = disk.mount(folder.path(), "volatile");
        let store = Store::open(folder.path(), options()).unwrap();
        let told = fill(&store, round);
        drop(store);
        if is_damaged {
            damage(&folder.path().join("assay.db"));
        }
        drop(mounted);

        let mounted = disk.mount(folder.path(), "volatile");
        disk.cut_after(random.below([60, 600, 6000][round / 2 % 3]));
        let mut is_forgotten = false;
        if let Ok(store) = Store::open(folder.path(), options()) {
            let forget = Forget { tenant: "forgotten".to_owned(), principal: None };
            let result = store.forget(forget).wait();
            is_forgotten = result.is_ok();
            assert!(is_forgotten || disk.is_cut(), "{result:?}");
            replaced += usize::from(store.figures().is_ok_and(|figures| figures.set_aside.is_some()));
        }
        forgotten += usize::from(is_forgotten);
        disk.cut();
        drop(mounted);
        disk.come_back(&mut random);
        let _mounted = disk.mount(folder.path(), "volatile");
        let store = Store::open(folder.path(), options()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let aside = store.figures().unwrap().set_aside;
        assert!(aside.is_none() || is_damaged, "{aside:?}");
        verify_rows(&store, &told);
        let others = HistoryFilter { tenant: Some("forgotten".to_owned()), ..HistoryFilter::default() };
        let left = store.list(&others, None, 1).unwrap().rows.len();
        assert!(left == 0 || !is_forgotten, "what was forgotten is back");
    }
    eprintln!("{replaced} replaced and {forgotten} forgotten before the cut");
    assert!(replaced > 0 && forgotten > 0);
}

#[test]
fn history_of_runs_costs_no_fsync() {
    if !can_mount() {
        return;
    }
    let (disk, folder) = (VolatileDisk::new(), tempfile::tempdir().unwrap());
    let _mounted = disk.mount(folder.path(), "volatile");
    let store = Store::open(folder.path(), Options { reserve_bytes: 0, ..Options::default() }).unwrap();
    store.start(Start { key: -1 }).wait().unwrap();
    let before = disk.syncs();
    // fewer pages than a checkpoint waits for
    for number in 0..100 {
        let entry = entry(&number.to_string());
        assert!(store.record(Record {
            entry,
            report: vec![],
            attached: Attached::default(),
            outputs: StagedOutputs::default(),
            digest: None
        }));
    }
    store.start(Start { key: -1 }).wait().unwrap();
    assert_eq!((store.figures().unwrap().history, disk.syncs()), (100, before));
    store.intake(intake("acknowledged", StagedOutputs::default())).wait().unwrap();
    assert!(disk.syncs() > before);
}
