//! The clock of a talk in made-up times: turns, charges and ends.

use super::*;
use Speaker::{Interactor, Submission};

fn state() -> (TalkState, Instant) {
    let TalkClock(state) = TalkClock::start(Duration::from_secs(2), Duration::from_secs(5));
    let state = state.into_inner();
    let began = state.began;
    (state, began)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn only_the_side_whose_turn_it_is_is_charged() {
    let (mut state, began) = state();
    state.wrote(Submission, b"1\n", false, began + ms(150));
    state.wrote(Interactor, b"2\n", false, began + ms(1200));
    state.wrote(Submission, b"3\n", false, began + ms(1450));
    assert_eq!((state.submission.charged, state.interactor.charged), (ms(300), ms(1000)));
}

#[test]
fn ten_thousand_quick_answers_cost_no_wall_time() {
    let (mut state, began) = state();
    for n in 0..10_000 {
        state.wrote(Submission, b"?\n", false, began + ms(20 * n));
        state.wrote(Interactor, b"!\n", false, began + ms(20 * n + 10));
    }
    let now = began + ms(200_000);
    assert_eq!((state.submission.charged, state.interactor.charged), (ms(0), ms(0)));
    // the talk as a whole has a bound
    assert_eq!(state.end_of(Submission, now), Some(TalkEnd::Whole(ms(14_000))));
}

#[test]
fn a_side_is_over_when_its_turns_exceed_its_wall_limit() {
    let (mut state, began) = state();
    assert_eq!(state.end_of(Submission, began + ms(2000)), None);
    assert_eq!(state.end_of(Submission, began + ms(2051)), Some(TalkEnd::Wall));
    state.wrote(Submission, b"1\n", false, began + ms(1000));
    assert_eq!(state.end_of(Submission, began + ms(4000)), None);
    assert_eq!(state.end_of(Interactor, began + ms(6051)), Some(TalkEnd::Wall));
}

#[test]
fn a_side_that_waits_while_the_other_one_computes_is_not_charged() {
    let (mut state, began) = state();
    state.wrote(Submission, b"the first of three numbers\n", false, began + ms(10));
    for n in 0..10 {
        let at = began + ms(20 + 200 * n);
        state.used(Submission, ms(50 * n), at);
        state.used(Interactor, ms(1), at);
    }
    assert_eq!(state.turn, Submission);
    assert_eq!(state.end_of(Submission, began + ms(2000)), None);
    assert_eq!(state.end_of(Submission, began + ms(2100)), Some(TalkEnd::Wall));
    assert_eq!(state.interactor.charged, ms(0));
    // while both wait, and while both compute, the turn stays
    let both = |cpu: u64| {
        let (mut state, began) = self::state();
        state.wrote(Submission, b"1\n", false, began + ms(10));
        for n in 0..6 {
            let at = began + ms(20 + 200 * n);
            state.used(Submission, ms(cpu * n), at);
            state.used(Interactor, ms(cpu * n), at);
        }
        state.turn
    };
    assert_eq!([both(0), both(50)], [Interactor, Interactor]);
}

#[test]
fn both_wait_when_neither_writes_nor_computes() {
    let (mut state, began) = state();
    let report = |state: &mut TalkState, from: u64, submission_cpu: u64| {
        for n in 0..=6 {
            let at = began + ms(from + 200 * n);
            state.used(Submission, ms(submission_cpu * n), at);
            state.used(Interactor, ms(1), at);
        }
    };
    state.submission.wall_limit = ms(60_000);
    report(&mut state, 0, 100);
    assert_eq!(state.end_of(Submission, began + ms(1200)), None, "it computes");
    report(&mut state, 1400, 0);
    assert_eq!(state.end_of(Submission, began + ms(2600)), Some(TalkEnd::Idle), "it has stopped computing");
    state.wrote(Submission, b"a line that does not end", false, began + ms(2700));
    report(&mut state, 2800, 0);
    let now = began + ms(4000);
    assert_eq!((state.end_of(Interactor, now), state.end_of(Submission, now)), (None, Some(TalkEnd::Idle)));
    state.wrote(Submission, b"\n", false, now);
    assert_eq!(state.end_of(Interactor, now), None);
    report(&mut state, 4100, 0);
    let now = began + ms(5300);
    assert_eq!((state.end_of(Interactor, now), state.end_of(Submission, now)), (Some(TalkEnd::Idle), None));
}

/// A submission that completed a line at 50 ms, and an interactor that neither answers nor
/// computes.
fn both_wait_after_a_line() -> (TalkState, Instant) {
    let (mut state, began) = state();
    state.wrote(Submission, b"\n", false, began + ms(50));
    idle(&mut state, began, 100..=1200);
    (state, began)
}

fn idle(state: &mut TalkState, began: Instant, times: std::ops::RangeInclusive<u64>) {
    for at in times.step_by(100) {
        state.used(Submission, ms(1), began + ms(at));
        state.used(Interactor, ms(1), began + ms(at));
    }
}

#[test]
fn who_waited_for_whom_is_what_the_interactor_does_at_the_end_of_its_input() {
    type Reaction = fn(&mut TalkState, Instant);
    let ends: Reaction = |state, now| state.ended(Interactor, now);
    let writes: Reaction = |state, now| state.wrote(Interactor, b"?", false, now);
    let computes: Reaction = |state, now| state.used(Interactor, ms(20), now);
    for reaction in [ends, writes, computes] {
        let (mut state, began) = both_wait_after_a_line();
        // neither is at fault yet, and only the submission is killed
        assert_eq!(state.check(Interactor, began + ms(1250)), None);
        assert_eq!(state.check(Submission, began + ms(1250)), Some(TalkEnd::Idle));
        assert_eq!((state.over, state.check(Interactor, began + ms(1260))), (None, None));
        state.ended(Submission, began + ms(1270));
        assert_eq!((state.question, state.check(Interactor, began + ms(1300))), (Question::Put, None));
        reaction(&mut state, began + ms(1320));
        assert_eq!(state.over, Some(Submission));
        // one that does not end is killed
        assert_eq!(state.check(Interactor, began + ms(1330)), Some(TalkEnd::Idle));
        assert_eq!(state.over, Some(Submission));
    }
    let (mut state, began) = both_wait_after_a_line();
    assert_eq!(state.check(Submission, began + ms(1250)), None, "it is not the submission's turn");
    assert_eq!(state.check(Interactor, began + ms(1250)), None);
    assert_eq!(state.check(Submission, began + ms(1260)), Some(TalkEnd::Idle));
    state.ended(Submission, began + ms(1270));
    idle(&mut state, began, 1300..=2200);
    assert_eq!((state.check(Interactor, began + ms(2250)), state.over), (None, None));
    idle(&mut state, began, 2300..=2300);
    assert_eq!((state.check(Interactor, began + ms(2350)), state.over), (Some(TalkEnd::Idle), Some(Interactor)));
}

#[test]
fn a_side_that_ends_by_itself_or_writes_settles_who_waited_for_whom() {
    let (mut state, began) = both_wait_after_a_line();
    assert_eq!(state.check(Interactor, began + ms(1250)), None);
    state.ended(Submission, began + ms(1260));
    assert_eq!((state.question, state.over), (Question::No, None));
    let (mut state, began) = both_wait_after_a_line();
    assert_eq!(state.check(Interactor, began + ms(1250)), None);
    state.wrote(Interactor, b"late\n", false, began + ms(1260));
    assert_eq!((state.turn, state.check(Submission, began + ms(1270))), (Submission, None));
    let (mut state, began) = both_wait_after_a_line();
    assert_eq!(state.check(Interactor, began + ms(1250)), None);
    assert_eq!(state.check(Submission, began + ms(1260)), Some(TalkEnd::Idle));
    state.wrote(Interactor, b"too late\n", false, began + ms(1265));
    state.ended(Submission, began + ms(1270));
    assert_eq!((state.over, state.check(Interactor, began + ms(1280))), (Some(Interactor), Some(TalkEnd::Idle)));
    let (mut state, began) = both_wait_after_a_line();
    assert_eq!(state.check(Interactor, began + ms(1250)), None);
    state.ended(Interactor, began + ms(1260));
    assert_eq!((state.check(Submission, began + ms(1270)), state.over), (None, None));
}

#[test]
fn an_interactor_that_computed_before_it_read_is_not_over_at_once() {
    let (mut state, began) = state();
    for at in (100..=600).step_by(100) {
        state.used(Submission, ms(1), began + ms(at));
        state.used(Interactor, ms(at / 2), began + ms(at));
    }
    assert_eq!(state.turn, Interactor);
    for at in (700..=1900).step_by(100) {
        state.used(Submission, ms(1), began + ms(at));
        state.used(Interactor, ms(300), began + ms(at));
    }
    assert_eq!((state.check(Interactor, began + ms(1950)), state.over), (None, None));
    assert_eq!(state.check(Submission, began + ms(1960)), Some(TalkEnd::Idle));
    state.ended(Submission, began + ms(1970));
    state.ended(Interactor, began + ms(1980));
    assert_eq!(state.over, Some(Submission));
}

#[test]
fn a_submission_that_writes_on_takes_its_own_time() {
    // empty lines, lines and no lines, slow and fast
    for (data, pause) in [(&b"\n"[..], 300), (b"\n", 40), (b"1\n", 1), (b" ", 300), (b"x", 40)] {
        let (mut state, began) = state();
        state.submission.wall_limit = ms(2000);
        state.interactor.wall_limit = ms(300);
        state.wrote(Interactor, b"0\n", false, began + ms(400));
        let mut end = None;
        for at in (500..3000).step_by(pause) {
            state.wrote(Submission, data, false, began + ms(at));
            state.used(Submission, ms(at), began + ms(at));
            state.used(Interactor, ms(at / 10), began + ms(at));
            assert_eq!(state.check(Interactor, began + ms(at + 1)), None, "{data:?} every {pause} ms");
            end = end.or(state.check(Submission, began + ms(at + 1)));
        }
        assert_eq!((end, state.over), (Some(TalkEnd::Wall), Some(Submission)), "{data:?} every {pause} ms");
    }
}

#[test]
fn a_submission_that_could_not_write_on_is_not_charged_for_the_interactors_reading() {
    let (mut state, began) = state();
    state.wrote(Submission, b"much", true, began + ms(100));
    state.wrote(Submission, b"more\n", false, began + ms(1100));
    assert_eq!((state.submission.charged, state.interactor.charged), (ms(50), ms(950)));
}

#[test]
fn a_submission_that_closes_its_output_takes_its_own_time_until_it_ends() {
    let (mut state, began) = state();
    state.wrote(Submission, b"1\n", false, began + ms(50));
    state.submission.has_closed = true;
    for at in (100..1400).step_by(100) {
        state.used(Submission, ms(0), began + ms(at));
        state.used(Interactor, ms(0), began + ms(at));
    }
    let now = began + ms(1400);
    assert_eq!((state.end_of(Interactor, now), state.turn), (None, Submission));
    assert_eq!(state.end_of(Submission, began + ms(3000)), None);
    assert_eq!(state.end_of(Submission, began + ms(5000)), Some(TalkEnd::Wall));
}

#[test]
fn the_side_that_was_over_first_is_remembered_when_the_other_one_ends_before_it() {
    let (mut state, began) = state();
    assert_eq!((state.check(Submission, began + ms(100)), state.over), (None, None));
    assert_eq!(state.check(Submission, began + ms(2051)), Some(TalkEnd::Wall));
    state.ended(Interactor, began + ms(2060));
    state.ended(Submission, began + ms(2400));
    assert_eq!(state.over, Some(Submission));
}

#[test]
fn a_side_that_cannot_write_more_waits_for_the_other() {
    let (mut state, began) = state();
    state.wrote(Submission, b"no line", true, began + ms(100));
    assert_eq!(state.turn, Interactor);
}

#[test]
fn after_the_end_of_one_side_it_is_the_turn_of_the_other() {
    let (mut state, began) = state();
    state.ended(Submission, began + ms(60));
    state.ended(Interactor, began + ms(1110));
    assert_eq!((state.submission.charged, state.interactor.charged), (ms(10), ms(1000)));
    assert_eq!(state.end_of(Interactor, began + ms(9000)), None);
}
