//! What a program that judges says: exit status and feedback -> a ruling, or that it is broken. Pure.
//!
//! | exit status | icpc | testlib |
//! |---|---|---|
//! | 0 | broken | right |
//! | 1, 2, 4, 8 | broken | wrong (answer, presentation, something after it, too short) |
//! | 3 | broken | broken: it says so itself |
//! | 7 | broken | points, a number at the start of its message |
//! | 42 | right | broken |
//! | 43 | wrong | broken |
//! | 50 to 250 | broken | part of the points: 50 is nothing, 250 all |
//! | else, a signal, a limit | broken | broken |
//!
//! A broken one is never the submission's fault.

use config::bounds;
use protocol::submission::Protocol;
use protocol::{Outcome, RunFacts, Verdict};

/// What it decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CheckerResult {
    pub verdict: Verdict,
    /// Points, where it gives some itself.
    pub points: Option<f64>,
    /// What it says to who wrote the submission.
    pub message: String,
    /// What it says to who wrote the problem.
    pub feedback: Option<String>,
}

/// What it left in its feedback folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Feedback {
    pub judge: Option<String>,
    pub team: Option<String>,
    pub score: Option<String>,
}

/// The ruling on a test that is worth `weight`.
///
/// # Errors
/// What is wrong with the program that judges, in words that follow its name.
pub(super) fn ruling(protocol: Protocol, run: &RunFacts, left: Feedback, weight: f64) -> Result<CheckerResult, String> {
    if run.outcome != Outcome::Exited {
        return Err(match run.outcome {
            Outcome::Signaled => format!("was ended by signal {}", run.signal.unwrap_or(0)),
            Outcome::CpuLimit | Outcome::WallLimit => "took too long".to_owned(),
            Outcome::MemoryLimit => "used too much memory".to_owned(),
            Outcome::OutputLimit => "said too much".to_owned(),
            _ => format!("could not be run ({})", run.evidence.failed_step.as_deref().unwrap_or("it was lost")),
        });
    }
    let code = run.exit_code.unwrap_or(-1);
    match protocol {
        Protocol::Icpc => icpc(code, run, left),
        Protocol::Testlib => testlib(code, run, weight),
    }
}

fn icpc(code: i32, run: &RunFacts, left: Feedback) -> Result<CheckerResult, String> {
    let verdict = match code {
        42 => Verdict::Accepted,
        43 => Verdict::WrongAnswer,
        _ => return Err(format!("exited with status {code}, neither 42 nor 43{}", last_words(&run.stderr))),
    };
    let points = left.score.map(|score| number(&score).ok_or(format!("left no number in score.txt: {score:?}")));
    let message = match (left.team, verdict) {
        (Some(team), _) => team,
        (None, Verdict::Accepted) => "The checker accepts the output.".to_owned(),
        (None, _) => "The checker does not accept the output.".to_owned(),
    };
    Ok(CheckerResult { verdict, points: points.transpose()?, message, feedback: left.judge })
}

fn testlib(code: i32, run: &RunFacts, weight: f64) -> Result<CheckerResult, String> {
    let said = text(if run.stderr.is_empty() { &run.stdout } else { &run.stderr });
    let rule = |verdict, points, message: &str| {
        Ok(CheckerResult { verdict, points, message: message.to_owned(), feedback: said.clone() })
    };
    let part = |points: f64| {
        let verdict = match points {
            _ if points >= weight => Verdict::Accepted,
            _ if points > 0.0 => Verdict::Partial,
            _ => Verdict::WrongAnswer,
        };
        rule(verdict, Some(points), &format!("The checker gives {points} of {weight} points."))
    };
    match code {
        0 => rule(Verdict::Accepted, None, "The checker accepts the output."),
        1 | 4 => rule(Verdict::WrongAnswer, None, "The checker does not accept the output."),
        2 | 8 => rule(Verdict::WrongAnswer, None, "The checker cannot read the output: it has another form."),
        7 => {
            let words = said.as_deref().unwrap_or_default().split_ascii_whitespace();
            let mut words = words.skip_while(|word| *word == "points");
            let points = words.next().and_then(number);
            part(points.ok_or_else(|| format!("gives points, but no number{}", last_words(&run.stderr)))?)
        }
        50..=250 => part(weight * f64::from(code - 50) / 200.0),
        3 => Err(format!("says that it, or the answer, is wrong{}", last_words(&run.stderr))),
        _ => Err(format!("exited with status {code}, which testlib does not know{}", last_words(&run.stderr))),
    }
}

/// A number that can be points.
fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|points| points.is_finite() && *points >= 0.0)
}

/// What a program says, as text within a bound; none when it says nothing.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let cut = &bytes[..bytes.len().min(bounds::MAX_FEEDBACK_BYTES)];
    let text = String::from_utf8_lossy(cut).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn last_words(stderr: &[u8]) -> String {
    let tail = &stderr[stderr.len().saturating_sub(500)..];
    match String::from_utf8_lossy(tail).lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(": {}", line.trim()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32, stderr: &str) -> RunFacts {
        RunFacts { exit_code: Some(code), stderr: stderr.into(), ..RunFacts::bare(Outcome::Exited) }
    }

    fn of(protocol: Protocol, code: i32, stderr: &str) -> Result<(Verdict, Option<f64>), String> {
        let ruling = ruling(protocol, &exited(code, stderr), Feedback::default(), 2.0)?;
        Ok((ruling.verdict, ruling.points))
    }

    #[test]
    fn an_output_validator_says_42_or_43_and_everything_else_is_its_own_fault() {
        assert_eq!(of(Protocol::Icpc, 42, ""), Ok((Verdict::Accepted, None)));
        assert_eq!(of(Protocol::Icpc, 43, ""), Ok((Verdict::WrongAnswer, None)));
        for code in [0, 1, 2, 41, 44, 255] {
            assert!(of(Protocol::Icpc, code, "Traceback\nValueError: x").unwrap_err().ends_with(": ValueError: x"));
        }
        for outcome in [Outcome::Signaled, Outcome::CpuLimit, Outcome::MemoryLimit, Outcome::OutputLimit] {
            let run = RunFacts { exit_code: Some(42), ..RunFacts::bare(outcome) };
            assert!(ruling(Protocol::Icpc, &run, Feedback::default(), 1.0).is_err());
        }
    }

    #[test]
    fn a_score_is_taken_and_one_that_is_no_number_is_the_validators_fault() {
        let left = |score: &str| Feedback { score: Some(score.to_owned()), ..Feedback::default() };
        let rule = |score: &str| ruling(Protocol::Icpc, &exited(42, ""), left(score), 1.0);
        assert_eq!(rule("12.5\n").unwrap().points, Some(12.5));
        for bad in ["", "x", "nan", "-1", "inf"] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_it_tells_the_team_is_the_message() {
        let left = Feedback { judge: Some("j".to_owned()), team: Some("t".to_owned()), score: None };
        let ruling = ruling(Protocol::Icpc, &exited(43, ""), left, 1.0).unwrap();
        assert_eq!((ruling.message.as_str(), ruling.feedback.as_deref()), ("t", Some("j")));
    }

    #[test]
    fn testlib_has_its_own_statuses() {
        let of = |code, said| of(Protocol::Testlib, code, said);
        assert_eq!(of(0, "ok"), Ok((Verdict::Accepted, None)));
        for wrong in [1, 2, 4, 8] {
            assert_eq!(of(wrong, "wrong answer"), Ok((Verdict::WrongAnswer, None)));
        }
        assert_eq!(of(7, "points 0.5 half"), Ok((Verdict::Partial, Some(0.5))));
        assert_eq!(of(7, "2 all"), Ok((Verdict::Accepted, Some(2.0))));
        assert_eq!(of(7, "points 0"), Ok((Verdict::WrongAnswer, Some(0.0))));
        assert_eq!(of(150, ""), Ok((Verdict::Partial, Some(1.0))));
        assert_eq!(of(250, ""), Ok((Verdict::Accepted, Some(2.0))));
        for broken in [3, 5, 42, 251] {
            assert!(of(broken, "x").is_err(), "{broken}");
        }
        assert!(of(7, "many").is_err());
    }
}
