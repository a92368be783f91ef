//! Time in a talk, the conversation of a submission and its interactor: whose turn it is, what each
//! side is charged, and when it ends.
//!
//! ```text
//!             the submission completed a line
//!  Submission -------------------------------> Interactor
//!    (start)  <-------------------------------
//!             the interactor wrote, or a side ended: the other one's turn
//!             the submission wrote again before that: its turn never ended
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
//! Both wait, and it is the interactor's turn, or the submission has completed a line since the
//! interactor wrote: was that the whole answer, or does the interactor read on? The submission is
//! killed, and the interactor reads the end of its input:
//!
//! ```text
//!   it ends, writes or computes    it was reading: the submission is over
//!   it does nothing for IDLE       it was not: the interactor is over
//! ```
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
    /// What the submission had been charged, and the begin of its turn, while the interactor has
    /// the turn for a line of the submission. Writing more continues that turn.
    unanswered: Option<(Duration, Instant)>,
    /// Whether the submission has completed a line since the interactor wrote.
    has_spoken: bool,
    question: Question,
    /// The first side that was over.
    over: Option<Speaker>,
}

/// Whether the end of its input shows what the interactor waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// They do not both wait.
    No,
    /// Both wait: the submission is to be killed.
    Raised,
    /// The submission was told to end.
    Cut,
    /// The submission has ended, and the interactor may read that.
    Put,
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
        match (speaker, self.question) {
            (_, Question::No) => {}
            // it answers after all, and its partner still runs
            (Speaker::Interactor, Question::Raised) => self.question = Question::No,
            _ => return self.reacted(speaker),
        }
        for side in [&mut self.submission, &mut self.interactor] {
            (side.first, side.last) = (None, None);
        }
        match speaker {
            Speaker::Submission => self.submission_wrote(data.last() == Some(&b'\n'), is_full, now),
            Speaker::Interactor => {
                self.pass_turn(Speaker::Submission, now);
                (self.unanswered, self.has_spoken) = (None, false);
            }
        }
    }

    fn submission_wrote(&mut self, ends_line: bool, is_full: bool, now: Instant) {
        match self.unanswered.take() {
            Some((charged, since)) => {
                (self.submission.charged, self.turn, self.turn_since) = (charged, Speaker::Submission, since);
            }
            None => self.pass_turn(Speaker::Submission, now),
        }
        // an interactor waits for the rest of the line
        if is_full || ends_line {
            // the time until it has read is its own if the submission cannot write on
            self.unanswered = (!is_full).then_some((self.submission.charged, self.turn_since));
            self.has_spoken = true;
            self.pass_turn(Speaker::Interactor, now);
        }
    }

    /// The interactor did something. After the end of its input: it was reading. Before that: it
    /// was late.
    fn reacted(&mut self, speaker: Speaker) {
        match (speaker, self.question) {
            (Speaker::Interactor, Question::Put) => self.over.get_or_insert(Speaker::Submission),
            (Speaker::Interactor, Question::Cut) => self.over.get_or_insert(Speaker::Interactor),
            _ => return,
        };
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
        if has_worked {
            self.reacted(speaker);
        }
        let both_talk = !self.submission.has_ended && !self.interactor.has_ended;
        if both_talk
            && has_worked
            && self.turn != speaker
            && let Some(since) = self.side(speaker.other()).waits_since(WAITS)
        {
            self.pass_turn(speaker, since.max(self.turn_since));
            self.unanswered = None;
        }
    }

    fn ended(&mut self, speaker: Speaker, now: Instant) {
        self.reacted(speaker);
        self.question = match (speaker, self.question) {
            (Speaker::Submission, Question::Cut) => Question::Put,
            // it ended by itself: no question is left
            (Speaker::Submission, _) => Question::No,
            // it ended before it could read the end of its input, so it did not wait
            (Speaker::Interactor, Question::Raised) => Question::No,
            (Speaker::Interactor, question) => question,
        };
        if self.question == Question::Put && speaker == Speaker::Submission {
            // what it computes from now on
            let mark = self.interactor.last.map(|last| CpuMark { at: now, ..last });
            (self.interactor.first, self.interactor.last) = (mark, mark);
        }
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
        if self.side(speaker).has_ended {
            return None;
        }
        if self.turn != speaker {
            let side = self.side(speaker);
            return (side.charged > side.wall_limit).then_some(TalkEnd::Wall);
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

    /// Whether a side is to be killed. Like [`TalkState::end_of`] while the talk goes on; remembers
    /// which side was over first.
    fn check(&mut self, speaker: Speaker, now: Instant) -> Option<TalkEnd> {
        if self.question == Question::No {
            let end = self.end_of(speaker, now)?;
            let is_known = speaker == Speaker::Submission && !self.has_spoken;
            if end != TalkEnd::Idle || is_known {
                self.over.get_or_insert(speaker);
                return Some(end);
            }
            self.question = Question::Raised;
        }
        match (speaker, self.question) {
            (Speaker::Submission, Question::Raised) => self.question = Question::Cut,
            (Speaker::Interactor, Question::Put) => {
                if self.over.is_none() && !self.interactor.is_idle() {
                    return None;
                }
                self.over.get_or_insert(Speaker::Interactor);
            }
            _ => return None,
        }
        Some(TalkEnd::Idle)
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
            unanswered: None,
            has_spoken: false,
            question: Question::No,
            over: None,
        }))
    }

    /// The side that was over first, if one was. Its run decides the test.
    pub(super) fn over(&self) -> Option<Speaker> {
        self.0.lock().over
    }

    /// Whether the submission was ended to see what the interactor waits for. Who is over is known
    /// when the interactor has ended, too.
    pub(super) fn is_in_question(&self) -> bool {
        self.0.lock().question == Question::Put
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
        self.clock.whole_limit() + IDLE * 4
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
#[path = "talk_tests.rs"]
mod tests;
