//! Which of a submission's tests is next when several run at the same time, and what becomes known
//! of them in which order. Pure.
//!
//! ```text
//!            claim                 end
//!  waiting ---------> on a sandbox -----> ended --announce, in the tests' order--> known
//!     ^                    | give_back: its sandbox was lost
//!     '--------------------'
//! ```
//!
//! Seen from outside, the tests might have run one after the other: nothing is known of a test
//! before all tests before it, and nothing of a test that would not have run because of them.

use std::collections::BTreeSet;

use super::results::TestResult;
use protocol::Verdict;
use protocol::submission::Stop;

/// A test that has ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EndedTest {
    pub result: TestResult,
    /// Whether its output was passed on while it ran.
    pub was_live: bool,
    /// Whether it was run at all.
    pub was_run: bool,
}

/// The tests of one submission, by their place.
#[derive(Debug)]
pub(super) struct TestSchedule {
    ended: Vec<Option<EndedTest>>,
    /// The first test that was never claimed.
    next: usize,
    /// Claimed tests whose sandbox was lost.
    returned: BTreeSet<usize>,
    /// The results of tests from here on are not needed.
    needed: usize,
    /// The first test that is not known yet.
    unknown: usize,
    stop: Stop,
}

impl TestSchedule {
    pub fn new(count: usize, stop: Stop) -> TestSchedule {
        let returned = BTreeSet::new();
        TestSchedule { ended: vec![None; count], next: 0, returned, needed: count, unknown: 0, stop }
    }

    /// The next test for a sandbox. A test whose sandbox was lost goes to the submission's own one
    /// (`is_own`): the loss of that one is examined.
    pub fn claim(&mut self, is_own: bool) -> Option<usize> {
        if is_own && let Some(first) = self.returned.pop_first() {
            return Some(first);
        }
        let next = (self.next < self.needed).then_some(self.next)?;
        self.next += 1;
        Some(next)
    }

    /// Whether a further sandbox would have a test to run.
    pub fn has_waiting(&self) -> bool {
        self.next < self.needed
    }

    /// Whether its output may be passed on while it runs: everything before it is known.
    pub fn is_next_known(&self, test: usize) -> bool {
        self.unknown == test
    }

    /// Whether the result of a test is needed.
    pub fn is_needed(&self, test: usize) -> bool {
        test < self.needed
    }

    /// A claimed test has ended.
    pub fn end(&mut self, test: usize, ended: EndedTest) {
        let is_failure = ended.was_run && ended.result.verdict != Verdict::Accepted;
        if is_failure && self.stop == Stop::FirstFailure {
            self.need_only(test + 1);
        }
        self.ended[test] = Some(ended);
    }

    /// A claimed test has not ended, because its sandbox was lost.
    pub fn give_back(&mut self, test: usize) {
        if self.is_needed(test) {
            self.returned.insert(test);
        }
    }

    /// Results from this test on are not needed.
    pub fn need_only(&mut self, count: usize) {
        self.needed = self.needed.min(count);
        self.returned.split_off(&self.needed);
    }

    /// The next test that becomes known.
    pub fn announce(&mut self) -> Option<(usize, &mut EndedTest)> {
        let test = self.unknown;
        let ended = self.ended.get_mut(test).filter(|_| test < self.needed)?.as_mut()?;
        self.unknown += 1;
        Some((test, ended))
    }

    /// Whether every result that is needed is there.
    pub fn is_complete(&self) -> bool {
        self.ended.iter().take(self.needed).all(Option::is_some)
    }

    /// The results before the first one that is missing or not needed.
    pub fn into_results(self) -> Vec<TestResult> {
        let ended = self.ended.into_iter().take(self.needed);
        ended.map_while(|ended| ended.map(|ended| ended.result)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::results::bare;

    fn result(test: usize, verdict: Verdict) -> TestResult {
        bare(&test.to_string(), verdict, "")
    }

    fn ended(test: usize, is_right: bool) -> EndedTest {
        let verdict = if is_right { Verdict::Accepted } else { Verdict::WrongAnswer };
        EndedTest { result: result(test, verdict), was_live: false, was_run: true }
    }

    /// Results and announcements of tests that run one after the other.
    fn one_by_one(right: &[bool], stop: Stop) -> Vec<TestResult> {
        let failed = right.iter().position(|right| !right).filter(|_| stop == Stop::FirstFailure);
        let count = failed.map_or(right.len(), |failed| failed + 1);
        (0..count).map(|test| ended(test, right[test]).result).collect()
    }

    #[test]
    fn a_test_after_the_first_failure_is_neither_started_nor_known() {
        let mut schedule = TestSchedule::new(4, Stop::FirstFailure);
        assert_eq!([schedule.claim(true), schedule.claim(false), schedule.claim(false)], [Some(0), Some(1), Some(2)]);
        schedule.end(2, ended(2, false));
        assert!(schedule.announce().is_none() && schedule.claim(true).is_none());
        schedule.end(1, ended(1, false));
        assert!(schedule.is_needed(0) && !schedule.is_needed(2) && !schedule.is_complete());
        schedule.end(0, ended(0, true));
        assert_eq!(schedule.announce().map(|(test, _)| test), Some(0));
        assert_eq!(schedule.announce().map(|(test, _)| test), Some(1));
        assert!(schedule.announce().is_none() && schedule.is_complete());
        assert_eq!(schedule.into_results(), one_by_one(&[true, false], Stop::FirstFailure));
    }

    #[test]
    fn a_test_whose_sandbox_was_lost_goes_to_the_own_one_if_it_is_needed() {
        let mut schedule = TestSchedule::new(3, Stop::FirstFailure);
        let _ = (schedule.claim(true), schedule.claim(false), schedule.claim(false));
        schedule.give_back(1);
        schedule.give_back(2);
        assert_eq!(schedule.claim(false), None);
        schedule.end(0, ended(0, true));
        assert_eq!(schedule.claim(true), Some(1));
        schedule.end(1, ended(1, false));
        assert_eq!((schedule.claim(true), schedule.is_complete()), (None, true));
    }

    #[test]
    fn results_before_a_lost_test_stay() {
        let mut schedule = TestSchedule::new(3, Stop::Never);
        let _ = (schedule.claim(true), schedule.claim(false), schedule.claim(false));
        schedule.end(2, ended(2, true));
        schedule.end(0, ended(0, true));
        schedule.need_only(1);
        assert!(schedule.is_complete() && schedule.claim(true).is_none());
        assert_eq!(schedule.into_results().len(), 1);
    }

    proptest! {
        /// Whatever runs where and ends when, results and announcements are those of tests that run
        /// one after the other; lost further sandboxes change nothing.
        #[test]
        fn results_are_those_of_tests_that_run_one_after_the_other(
            right in proptest::collection::vec(any::<bool>(), 1..12),
            stops in any::<bool>(),
            moves in proptest::collection::vec((0..5usize, any::<bool>()), 0..40),
        ) {
            let stop = if stops { Stop::FirstFailure } else { Stop::Never };
            let mut schedule = TestSchedule::new(right.len(), stop);
            // what each of five sandboxes runs; the first is the submission's own
            let mut running = [None; 5];
            let mut known = Vec::new();
            let to_the_end = (0..10 * right.len() + 10).map(|at| (at % 5, false));
            for (sandbox, is_lost) in moves.into_iter().chain(to_the_end) {
                match running[sandbox].take() {
                    None => running[sandbox] = schedule.claim(sandbox == 0),
                    Some(test) if is_lost && sandbox > 0 => schedule.give_back(test),
                    Some(test) => schedule.end(test, ended(test, right[test])),
                }
                while let Some((_, ended)) = schedule.announce() {
                    known.push(ended.result.clone());
                }
            }
            let expected = one_by_one(&right, stop);
            prop_assert!(schedule.is_complete());
            prop_assert_eq!(&known, &expected);
            prop_assert_eq!(schedule.into_results(), expected);
        }
    }
}
