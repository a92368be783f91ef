//! The outputs of a submission's tests, from the end of a test to the report.
//!
//! ```text
//!  test ends --its turn--> fits into the report: stays in memory
//!     |                    else: a blob, held until the report names it
//!     '--before its turn (parallel)--> waits in memory up to a bound, and is a blob beyond it
//! ```
//!
//! What the report carries itself is decided in the order of the tests and by its own rule
//! ([`InlineBudget`]), so that it is the report that would be made of all outputs at the end. If
//! the blob store is full, an output is cut to what the report carries.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::results::TestResult;
use super::stored::{InlineBudget, OutputStore, StoredOutput};
use config::bounds;
use protocol::RunFacts;

/// One output of a test: its bytes, whether they were cut, and the blob that replaces them.
type TestOutput<'r> = (&'r mut Vec<u8>, &'r mut bool, &'r mut Option<StoredOutput>);

/// Those of a test that are not blobs yet.
fn in_memory(result: &mut TestResult) -> impl Iterator<Item = TestOutput<'_>> {
    let TestResult { run, stored, .. } = result;
    let both = run.iter_mut().zip(std::iter::once(stored)).flat_map(|(run, stored)| {
        let RunFacts { stdout, stderr, stdout_truncated, stderr_truncated, .. } = run;
        [(stdout, stdout_truncated, &mut stored.stdout), (stderr, stderr_truncated, &mut stored.stderr)]
    });
    both.filter(|(_, _, stored)| stored.is_none())
}

#[derive(Debug)]
struct Memory {
    /// What the report still carries.
    budget: InlineBudget,
    /// Bytes of tests that ended before their turn.
    waiting: usize,
}

/// Decides for each test of a submission where its outputs go.
#[derive(Debug)]
pub(super) struct TestOutputs {
    store: Arc<dyn OutputStore>,
    memory: Mutex<Memory>,
}

impl TestOutputs {
    /// The report begins with the compile step.
    pub fn new(store: Arc<dyn OutputStore>, compile: Option<&RunFacts>) -> TestOutputs {
        let mut budget = InlineBudget::default();
        for output in compile.into_iter().flat_map(|facts| [&facts.stdout, &facts.stderr]) {
            if output.len() <= budget.inline() {
                budget.take(output.len());
            }
        }
        TestOutputs { store, memory: Mutex::new(Memory { budget, waiting: 0 }) }
    }

    /// A test has ended, and all tests before it had their turn. `waited` says whether it was set
    /// aside before.
    pub fn settle(&self, result: &mut TestResult, waited: bool) {
        let mut memory = self.memory.lock();
        for (bytes, truncated, stored) in in_memory(result) {
            if waited {
                memory.waiting -= bytes.len();
            }
            let inline = memory.budget.inline();
            if bytes.len() > inline {
                *stored = self.store_or_cut(bytes, truncated, inline);
            }
            memory.budget.take(bytes.len());
            bytes.shrink_to_fit();
        }
    }

    /// A test has ended before its turn.
    pub fn set_aside(&self, result: &mut TestResult) {
        let mut memory = self.memory.lock();
        for (bytes, truncated, stored) in in_memory(result) {
            let room = bounds::MAX_WAITING_OUTPUT_BYTES.saturating_sub(memory.waiting);
            // larger ones are blobs whatever comes before them
            let room = room.min(bounds::MAX_INLINE_OUTPUT_BYTES);
            if bytes.len() > room {
                *stored = self.store_or_cut(bytes, truncated, room);
            }
            memory.waiting += bytes.len();
            bytes.shrink_to_fit();
        }
    }

    fn store_or_cut(&self, bytes: &mut Vec<u8>, truncated: &mut bool, room: usize) -> Option<StoredOutput> {
        // counted is what is held
        bytes.shrink_to_fit();
        let all = Bytes::from(mem::take(bytes));
        let stored = StoredOutput::new(all.clone(), &self.store);
        if stored.is_none() {
            *bytes = all[..room].to_vec();
            *truncated = true;
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::drive::Judged;
    use crate::render::report;
    use crate::stored::StoredOutputs;
    use protocol::report::Output;
    use protocol::{Outcome, Report, Verdict};

    const MIB: usize = 1 << 20;

    /// Has room for this many blobs; the value says whether one was published.
    #[derive(Debug)]
    struct FewBlobs(usize, Mutex<BTreeMap<String, bool>>);

    impl OutputStore for FewBlobs {
        fn hold(&self, bytes: Bytes) -> Option<String> {
            let mut blobs = self.1.lock();
            let id = format!("{} bytes, {}", bytes.len(), blobs.len());
            (blobs.len() < self.0).then(|| blobs.insert(id.clone(), false)).map(|_| id)
        }
        fn publish(&self, blob: &str) {
            self.1.lock().insert(blob.to_owned(), true);
        }
        fn remove(&self, blob: &str) {
            self.1.lock().remove(blob);
        }
    }

    fn store(room: usize) -> Arc<FewBlobs> {
        Arc::new(FewBlobs(room, Mutex::default()))
    }

    fn result(name: usize, stdout: usize) -> TestResult {
        let run = Some(RunFacts { stdout: vec![b'x'; stdout], ..RunFacts::bare(Outcome::Exited) });
        let stored = StoredOutputs::default();
        let (name, message) = (name.to_string(), String::new());
        let (group, points, feedback, transcript, passes) = (None, None, None, None, None);
        TestResult {
            name,
            group,
            verdict: Verdict::Accepted,
            message,
            weight: 1.0,
            points,
            feedback,
            transcript,
            passes,
            run,
            stored,
        }
    }

    /// For each output whether it is a blob, how much the report carries, and whether it is cut.
    fn outputs(report: &Report) -> Vec<(bool, usize, bool)> {
        let runs = report.tests.iter().map(|test| test.run.as_ref().unwrap());
        let of = |output: &Option<Output>| match output {
            Some(Output::Text(text)) => (false, text.len()),
            _ => (true, 0),
        };
        runs.map(|run| (of(&run.stdout).0, of(&run.stdout).1, run.stdout_truncated)).collect()
    }

    fn judged(tests: Vec<TestResult>) -> Judged {
        Judged { tests, ..Judged::bare(Verdict::Accepted, "") }
    }

    fn in_memory_bytes(tests: &[TestResult]) -> usize {
        tests.iter().filter_map(|test| test.run.as_ref()).map(|run| run.stdout.capacity()).sum()
    }

    #[test]
    fn outputs_leave_memory_as_tests_are_judged_and_the_report_is_the_same() {
        for room in [100, 2, 0] {
            let sizes = [10, 3 * MIB, MIB, MIB - 20, 5 * MIB, 700, 5, 9];
            let all = || sizes.iter().enumerate().map(|(name, size)| result(name, *size));
            let (at_the_end, early) = (store(room), store(room));
            let expected = report("1", judged(all().collect()), &|bytes| at_the_end.hold(bytes));
            let keeper = TestOutputs::new(early.clone(), None);
            let mut settled = Vec::new();
            for mut test in all() {
                keeper.settle(&mut test, false);
                settled.push(test);
                assert!(in_memory_bytes(&settled) <= bounds::MAX_REPORT_BYTES / 4);
            }
            let report = report("1", judged(settled), &|_| panic!("was not stored before"));
            assert_eq!(outputs(&report), outputs(&expected));
            assert!(early.1.lock().values().all(|published| *published) && early.1.lock().len() <= room);
        }
    }

    #[test]
    fn tests_that_end_before_their_turn_hold_no_more_than_their_bound() {
        for room in [1000, 0] {
            let store = store(room);
            let keeper = TestOutputs::new(store.clone(), None);
            let mut waiting: Vec<TestResult> = (0..100).map(|name| result(name, (1 + name % 2) * MIB)).collect();
            waiting.iter_mut().for_each(|test| keeper.set_aside(test));
            assert!(in_memory_bytes(&waiting) <= bounds::MAX_WAITING_OUTPUT_BYTES);
            waiting.iter_mut().for_each(|test| keeper.settle(test, true));
            assert!(in_memory_bytes(&waiting) <= bounds::MAX_REPORT_BYTES / 4);
            assert_eq!(keeper.memory.lock().waiting, 0);
            // what is not needed is removed
            drop(waiting);
            assert!(store.1.lock().is_empty());
        }
    }
}
