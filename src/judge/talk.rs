//! Time in a talk, the conversation of a submission and its interactor: whose turn it is, what each
//! side is charged, and when it ends.
//!
//! ```text
//!             the submission completed a line
//!  Submission -------------------------------> Interactor
//!    (start)  <-------------------------------
//!             the interactor wrote, or a side ended: the other one's turn
//!             in its turn a side waited for WAITS while the other one computed: the other one's
//!             turn, from when this one began to wait (it waits for the rest of what it reads)
//!
//!  a side is over    its turns together took more than its wall limit
//!                    in its turn, neither side wrote or computed for IDLE: both wait
//!                    (if the submission has closed its output, it is then the submission's turn)
//!                    in its turn, the talk as a whole took too long
//! ```
//!
//! The first side that is over decides the test, even if the other one ends before it is killed.
//!
//! Wall time is charged to the side whose turn it is, without the first [`RELAY_ALLOWANCE`] of each
//! turn: neither side is charged for the relay. CPU time is limited independently.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::transcript::Speaker;

/// Both sides wait for each other when neither has written or computed for this long.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// The side whose turn it is waits for the other one if it has neither written nor computed for
/// this long and the other one has.
const WAITS: Duration = Duration::from_millis(400);

/// CPU time up to which a side counts as idle: what our own measuring costs it.
const IDLE_CPU: Duration = Duration::from_millis(5);

/// Period of the usage figures by which idle sides are recognized.
pub(super) const USAGE_PERIOD: Duration = Duration::from_millis(200);

/// Time of each turn that is not charged: relaying a line takes 0.2 ms on an idle machine
/// (`scripts/bench talk`) and much longer on a busy one. What a side computes in that time is
/// limited by its CPU time.
const RELAY_ALLOWANCE: Duration = Duration::from_millis(50);

/// Pause between checks of a side that is not over.
const CHECK_PERIOD: Duration = Duration::from_millis(100);

/// Why a side's part in a talk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TalkEnd {
    /// Its turns took longer than its wall limit.
    Wall,
    /// It was its turn when the talk as a whole exceeded this.
    Whole(Duration),
    /// Both sides waited for each other, and it was its turn.
    Idle,
}

/// A side's CPU time at one time.
#[derive(Debug, Clone, Copy)]
struct CpuMark {
    at: Instant,
    cpu: Duration,
}

#[derive(Debug)]
struct Side {
    wall_limit: Duration,
    charged: Duration,
    has_ended: bool,
    /// Whether it has closed its output and runs on.
    has_closed: bool,
    /// The first and the last CPU figure since either side wrote or this one computed.
    first: Option<CpuMark>,
    last: Option<CpuMark>,
}

impl Side {
    fn new(wall_limit: Duration) -> Side {
        Side { wall_limit, charged: Duration::ZERO, has_ended: false, has_closed: false, first: None, last: None }
    }

    fn is_idle(&self) -> bool {
        self.waits_since(IDLE).is_some()
    }

    /// Since when it waits, if that is at least so long.
    fn waits_since(&self, least: Duration) -> Option<Instant> {
        let (first, last) = (self.first?, self.last?);
        (last.at.duration_since(first.at) >= least).then_some(first.at)
    }
}

#[derive(Debug)]
struct TalkState {
    submission: Side,
    interactor: Side,
    turn: Speaker,
    turn_since: Instant,
    began: Instant,
    /// The first side that was over.
    over: Option<Speaker>,
}

impl TalkState {
    fn side(&mut self, speaker: Speaker) -> &mut Side {
        match speaker {
            Speaker::Submission => &mut self.submission,
            Speaker::Interactor => &mut self.interactor,
        }
    }

    fn charge(&mut self, now: Instant) {
        let turn = self.turn;
        let took = now.duration_since(self.turn_since).saturating_sub(RELAY_ALLOWANCE);
        self.side(turn).charged += took;
    }

    fn pass_turn(&mut self, to: Speaker, now: Instant) {
        if self.turn != to {
            self.charge(now);
            (self.turn, self.turn_since) = (to, now);
        }
    }

    /// With `is_full`, the other side has to read before this one can write more.
    fn wrote(&mut self, speaker: Speaker, data: &[u8], is_full: bool, now: Instant) {
        for side in [&mut self.submission, &mut self.interactor] {
            (side.first, side.last) = (None, None);
        }
        match speaker {
            // an interactor waits for the rest of the line
            Speaker::Submission if is_full || data.last() == Some(&b'\n') => self.pass_turn(Speaker::Interactor, now),
            Speaker::Submission => {}
            Speaker::Interactor => self.pass_turn(Speaker::Submission, now),
        }
    }

    fn used(&mut self, speaker: Speaker, cpu: Duration, now: Instant) {
        let mark = CpuMark { at: now, cpu };
        let side = self.side(speaker);
        let computed = side.first.is_none_or(|first| cpu.saturating_sub(first.cpu) > IDLE_CPU);
        let has_worked = computed && side.first.is_some();
        if computed {
            side.first = Some(mark);
        }
        side.last = Some(mark);
        let both_talk = !self.submission.has_ended && !self.interactor.has_ended;
        if both_talk
            && has_worked
            && self.turn != speaker
            && let Some(since) = self.side(speaker.other()).waits_since(WAITS)
        {
            self.pass_turn(speaker, since.max(self.turn_since));
        }
    }

    fn ended(&mut self, speaker: Speaker, now: Instant) {
        self.side(speaker).has_ended = true;
        if !self.side(speaker.other()).has_ended {
            self.pass_turn(speaker.other(), now);
        } else {
            self.charge(now);
            self.turn_since = now;
        }
    }

    /// Why the side is over, if it is.
    fn end_of(&mut self, speaker: Speaker, now: Instant) -> Option<TalkEnd> {
        if self.turn != speaker || self.side(speaker).has_ended {
            return None;
        }
        let whole = self.whole_limit();
        let in_turn = now.duration_since(self.turn_since).saturating_sub(RELAY_ALLOWANCE);
        let side = self.side(speaker);
        if side.charged + in_turn > side.wall_limit {
            return Some(TalkEnd::Wall);
        }
        if now.duration_since(self.began) > whole {
            return Some(TalkEnd::Whole(whole));
        }
        let both_talk = !self.submission.has_ended && !self.interactor.has_ended;
        let both_wait = self.submission.is_idle() && self.interactor.is_idle();
        if both_talk && both_wait && self.submission.has_closed {
            // the interactor cannot read on: what the submission still does takes its own time
            self.pass_turn(Speaker::Submission, now);
            return None;
        }
        (both_talk && both_wait).then_some(TalkEnd::Idle)
    }

    /// Like [`TalkState::end_of`], and remembers which side was over first.
    fn check(&mut self, speaker: Speaker, now: Instant) -> Option<TalkEnd> {
        let end = self.end_of(speaker, now)?;
        self.over.get_or_insert(speaker);
        Some(end)
    }

    fn whole_limit(&self) -> Duration {
        (self.submission.wall_limit + self.interactor.wall_limit) * 2
    }
}

/// The clock of one interactive test.
#[derive(Debug)]
pub struct TalkClock(Mutex<TalkState>);

impl TalkClock {
    /// The talk begins now, with the submission's turn.
    pub(super) fn start(submission_wall: Duration, interactor_wall: Duration) -> TalkClock {
        let now = Instant::now();
        TalkClock(Mutex::new(TalkState {
            submission: Side::new(submission_wall),
            interactor: Side::new(interactor_wall),
            turn: Speaker::Submission,
            turn_since: now,
            began: now,
            over: None,
        }))
    }

    /// The side that was over first, if one was. Its run decides the test.
    pub(super) fn over(&self) -> Option<Speaker> {
        self.0.lock().over
    }

    /// The longest that the talk as a whole may take.
    fn whole_limit(&self) -> Duration {
        self.0.lock().whole_limit()
    }
}

/// One side of a talk, for the supervisor of its run.
#[derive(Debug, Clone, Copy)]
pub struct TalkSide<'a> {
    clock: &'a TalkClock,
    speaker: Speaker,
}

impl<'a> TalkSide<'a> {
    pub(super) fn new(clock: &'a TalkClock, speaker: Speaker) -> TalkSide<'a> {
        TalkSide { clock, speaker }
    }

    /// The wall limit for the init, which does not know whose turn it is.
    pub(super) fn armed_wall(self) -> Duration {
        self.clock.whole_limit() + IDLE
    }

    /// With `is_full`, the other side has to read before this one can write more.
    pub(super) fn wrote(self, data: &[u8], is_full: bool) {
        self.clock.0.lock().wrote(self.speaker, data, is_full, Instant::now());
    }

    pub(super) fn used(self, cpu: Duration) {
        self.clock.0.lock().used(self.speaker, cpu, Instant::now());
    }

    /// Its output has ended. Whether the other side may know before this one has ended.
    ///
    /// An interactor sees the end of a submission's output when the submission has ended, so that
    /// what a submission does after closing its output decides, and not a race.
    pub(super) fn closed(self) -> bool {
        self.clock.0.lock().side(self.speaker).has_closed = true;
        self.speaker == Speaker::Interactor
    }

    pub(super) fn ended(self) {
        self.clock.0.lock().ended(self.speaker, Instant::now());
    }

    /// Wall time that it was charged, once it has ended.
    pub(super) fn charged(self) -> Duration {
        self.clock.0.lock().side(self.speaker).charged
    }

    /// Why its part is over, or when to ask again.
    pub(super) fn check(self) -> Result<TalkEnd, Instant> {
        let now = Instant::now();
        self.clock.0.lock().check(self.speaker, now).ok_or(now + CHECK_PERIOD)
    }
}

#[cfg(test)]
mod tests {
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
}
