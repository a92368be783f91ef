//! Interprets a referee's exit status and feedback: a result, or that the referee is broken. Pure.
//!
//! | exit status | icpc, static | testlib |
//! |---|---|---|
//! | 0 | broken | correct |
//! | 1, 2, 4, 8 | broken | wrong (answer, presentation, trailing output, too short) |
//! | 3 | broken | broken: it reports its own failure |
//! | 7 | broken | points: a number at the start of its message |
//! | 42 | correct | broken |
//! | 43 | wrong | broken |
//! | 50 to 250 | broken | a share of the points: 50 is none, 250 all |
//! | other, a signal, a limit | broken | broken |
//!
//! A broken referee is never the submission's fault.

use bytes::Bytes;

use config::bounds;
use protocol::submission::Protocol;
use protocol::{Outcome, RunFacts, Verdict};

/// A checker's or interactor's decision about one test.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CheckerResult {
    pub verdict: Verdict,
    /// Points, if it gives them itself.
    pub points: Option<f64>,
    /// Message for the submitter.
    pub message: String,
    /// Message for the problem author.
    pub feedback: Option<String>,
}

impl CheckerResult {
    /// The result with a message about `what` it judged, if it has none.
    fn or_message(mut self, what: &str) -> CheckerResult {
        if self.message.is_empty() {
            let says = if self.verdict == Verdict::Accepted { "accepts" } else { "does not accept" };
            self.message = format!("The checker {says} the {what}.");
        }
        self
    }
}

/// The files of an icpc referee's feedback folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Feedback {
    pub judge: Option<String>,
    pub team: Option<String>,
    pub score: Option<String>,
    /// The share of the test's points.
    pub multiplier: Option<String>,
    /// The input of the test's next run; only with several passes.
    pub next_pass: Option<Bytes>,
}

/// The result of a test that is worth `weight` points.
///
/// # Errors
/// How the referee failed, as text that follows its name.
pub(super) fn checker_result(
    protocol: Protocol,
    run: &RunFacts,
    feedback: Feedback,
    weight: f64,
) -> Result<CheckerResult, String> {
    if run.outcome != Outcome::Exited {
        return Err(match run.outcome {
            Outcome::Signaled => format!("was terminated by signal {}", run.signal.unwrap_or(0)),
            Outcome::CpuLimit | Outcome::WallLimit => "took too long".to_owned(),
            Outcome::MemoryLimit => "used too much memory".to_owned(),
            Outcome::OutputLimit => "printed too much".to_owned(),
            _ => {
                format!("could not be run ({})", run.evidence.failed_step.as_deref().unwrap_or("its sandbox was lost"))
            }
        });
    }
    let code = run.exit_code.unwrap_or(-1);
    match protocol {
        Protocol::Icpc => icpc(code, run, feedback, weight).map(|result| result.or_message("output")),
        Protocol::Static => icpc(code, run, feedback, weight).map(|result| result.or_message("code")),
        Protocol::Testlib => testlib(code, run, weight),
    }
}

fn icpc(code: i32, run: &RunFacts, feedback: Feedback, weight: f64) -> Result<CheckerResult, String> {
    let verdict = match code {
        42 => Verdict::Accepted,
        43 => Verdict::WrongAnswer,
        _ => return Err(format!("exited with status {code}, neither 42 nor 43{}", last_line(&run.stderr))),
    };
    let points = match (feedback.score, feedback.multiplier) {
        (None, None) => None,
        (Some(_), Some(_)) => return Err("left both score.txt and score_multiplier.txt".to_owned()),
        (Some(score), None) => {
            Some(parse_points(&score).ok_or(format!("left an invalid number in score.txt: {score:?}"))?)
        }
        (None, Some(share)) => {
            let parsed = parse_points(&share).filter(|share| *share <= 1.0);
            let invalid = || format!("left no number from 0 to 1 in score_multiplier.txt: {share:?}");
            Some(parsed.ok_or_else(invalid)? * weight)
        }
    };
    let message = feedback.team.unwrap_or_default();
    Ok(CheckerResult { verdict, points, message, feedback: feedback.judge })
}

fn testlib(code: i32, run: &RunFacts, weight: f64) -> Result<CheckerResult, String> {
    let comment = feedback_text(if run.stderr.is_empty() { &run.stdout } else { &run.stderr });
    let result = |verdict, points, message: &str| {
        Ok(CheckerResult { verdict, points, message: message.to_owned(), feedback: comment.clone() })
    };
    let partial = |points: f64| {
        let verdict = match points {
            _ if points >= weight => Verdict::Accepted,
            _ if points > 0.0 => Verdict::Partial,
            _ => Verdict::WrongAnswer,
        };
        result(verdict, Some(points), &format!("The checker gives {points} of {weight} points."))
    };
    match code {
        0 => result(Verdict::Accepted, None, "The checker accepts the output."),
        1 | 4 => result(Verdict::WrongAnswer, None, "The checker does not accept the output."),
        2 | 8 => result(Verdict::WrongAnswer, None, "The checker cannot parse the output: it has the wrong format."),
        7 => {
            let mut words = comment.as_deref().unwrap_or_default().split_ascii_whitespace();
            let points = words.find(|word| *word != "points").and_then(parse_points);
            partial(points.ok_or_else(|| format!("gives points without a number{}", last_line(&run.stderr)))?)
        }
        50..=250 => partial(weight * f64::from(code - 50) / 200.0),
        3 => Err(format!("reports that it, or the answer file, is wrong{}", last_line(&run.stderr))),
        _ => Err(format!("exited with status {code}, which testlib does not define{}", last_line(&run.stderr))),
    }
}

/// A finite number of at least 0.
fn parse_points(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|points| points.is_finite() && *points >= 0.0)
}

/// Output of a referee as trimmed text of at most [`bounds::MAX_FEEDBACK_BYTES`]; `None` if there
/// is none.
pub(super) fn feedback_text(bytes: &[u8]) -> Option<String> {
    let cut = &bytes[..bytes.len().min(bounds::MAX_FEEDBACK_BYTES)];
    let text = String::from_utf8_lossy(cut).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// `: ` and the last line that is not blank, from the last 500 bytes; empty if there is none.
fn last_line(stderr: &[u8]) -> String {
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
        let result = checker_result(protocol, &exited(code, stderr), Feedback::default(), 2.0)?;
        Ok((result.verdict, result.points))
    }

    #[test]
    fn an_output_validator_exits_with_42_or_43_and_every_other_status_is_its_own_fault() {
        assert_eq!(of(Protocol::Icpc, 42, ""), Ok((Verdict::Accepted, None)));
        assert_eq!(of(Protocol::Icpc, 43, ""), Ok((Verdict::WrongAnswer, None)));
        for code in [0, 1, 2, 41, 44, 255] {
            assert!(of(Protocol::Icpc, code, "Traceback\nValueError: x").unwrap_err().ends_with(": ValueError: x"));
        }
        for outcome in [Outcome::Signaled, Outcome::CpuLimit, Outcome::MemoryLimit, Outcome::OutputLimit] {
            let run = RunFacts { exit_code: Some(42), ..RunFacts::bare(outcome) };
            assert!(checker_result(Protocol::Icpc, &run, Feedback::default(), 1.0).is_err());
        }
    }

    #[test]
    fn a_score_is_used_and_an_invalid_one_is_the_validators_fault() {
        let feedback = |score: &str| Feedback { score: Some(score.to_owned()), ..Feedback::default() };
        let result = |score: &str| checker_result(Protocol::Icpc, &exited(42, ""), feedback(score), 1.0);
        assert_eq!(result("12.5\n").unwrap().points, Some(12.5));
        for bad in ["", "x", "nan", "-1", "inf"] {
            assert!(result(bad).is_err(), "{bad}");
        }
        let share = |share: &str, score: Option<&str>| {
            let (multiplier, score) = (Some(share.to_owned()), score.map(str::to_owned));
            let feedback = Feedback { multiplier, score, ..Feedback::default() };
            checker_result(Protocol::Icpc, &exited(42, ""), feedback, 40.0).map(|result| result.points)
        };
        assert_eq!(share("0.25", None), Ok(Some(10.0)));
        assert!(share("1.5", None).is_err() && share("x", None).is_err() && share("0.5", Some("1")).is_err());
    }

    #[test]
    fn the_team_message_becomes_the_message() {
        let feedback = Feedback { judge: Some("j".to_owned()), team: Some("t".to_owned()), ..Feedback::default() };
        let result = checker_result(Protocol::Icpc, &exited(43, ""), feedback, 1.0).unwrap();
        assert_eq!((result.message.as_str(), result.feedback.as_deref()), ("t", Some("j")));
    }

    #[test]
    fn testlib_has_its_own_statuses() {
        let of = |code, stderr| of(Protocol::Testlib, code, stderr);
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
