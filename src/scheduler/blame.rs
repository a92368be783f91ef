//! Reports of submissions that could not be judged, and the one place that decides whose fault that
//! is. Pure: what was observed goes in, a report comes out.

use super::leases::Unfit;
use super::no_sandbox::{NoSandbox, NoSandboxCause};
use judge::decide::{self, CANCELLED};
use judge::drive::{self, Judged, TestResult};
use judge::render;
use judge::work::Work;
use protocol::{Blame, Outcome, Report, RunFacts, Verdict};
use sandbox::host::ContainerEnd;
use sandbox::lifecycle::{Lost, UpdateError};

/// A report without any run.
fn bare(id: &str, verdict: Verdict, message: &str) -> Report {
    render::report(id, Judged::bare(verdict, message), &|_| None)
}

fn system_error(id: &str, blame: Blame, message: &str) -> Report {
    Report { blame: Some(blame), ..bare(id, Verdict::SystemError, message) }
}

/// The report of a submission that was cancelled before it ran.
pub(super) fn cancelled(id: &str) -> Report {
    bare(id, Verdict::Cancelled, CANCELLED)
}

/// Says that not the caller but the end of the daemon cancelled a submission.
pub(super) fn ended_by_daemon(report: &mut Report) {
    report.message = "The daemon was stopped before the submission was done; submit it again.".to_owned();
    report.blame = Some(Blame::Assay);
}

/// The report of a submission that was not taken in by the store when the daemon ended.
pub(super) fn not_stored(id: &str) -> Report {
    let message = "The daemon ended before the submission was started, and could not store it; submit it again.";
    Report { blame: Some(Blame::Assay), ..bare(id, Verdict::Cancelled, message) }
}

/// The report of a submission under which the daemon ended again and again.
pub(super) fn ends_daemons(id: &str, starts: u32) -> Report {
    let message = format!("The daemon ended {starts} times while the submission ran; it is not run again.");
    system_error(id, Blame::Assay, &message)
}

/// The report of a submission whose input was fed to a daemon that has ended.
pub(super) fn input_lost(id: &str) -> Report {
    let message = "The daemon ended before the submission was answered, and with it the input that it was fed; submit \
                   it again.";
    system_error(id, Blame::Assay, message)
}

/// The report of a submission that an earlier daemon acknowledged and this one cannot judge.
pub(super) fn not_accepted(id: &str, why: &str) -> Report {
    let message =
        format!("The submission was acknowledged before the daemon was started again, and is invalid now: {why}.");
    system_error(id, Blame::Host, &message)
}

/// The report of a submission of `profile` for which no sandbox was allocated.
pub(super) fn no_sandbox(id: &str, profile: &str, error: &NoSandbox) -> Report {
    let blame = match &error.cause {
        _ if !error.host_up => Blame::Host,
        Some(NoSandboxCause::Make(error)) => error.blame(),
        _ => Blame::Assay,
    };
    let remedy = error.remedy(profile).map(|remedy| format!(" Remedy: {remedy}")).unwrap_or_default();
    system_error(id, blame, &format!("No sandbox was available: {error}.{remedy}"))
}

/// The report of a submission whose sandbox could not be used for it.
pub(super) fn unfit(id: &str, unfit: &Unfit) -> Report {
    let blame = match unfit {
        Unfit::Isolation { .. } => Blame::Host,
        Unfit::Limits(UpdateError::Engine(error)) if error.is_unreachable() => Blame::Host,
        Unfit::Limits(_) => Blame::Assay,
    };
    system_error(id, blame, &format!("The sandbox does not fit the submission: {unfit}."))
}

/// Whether a sandbox that was lost in this way can have died because the program exhausted its
/// memory. Not if its init reported why it ends, although the engine may then report a kill for
/// memory: that was of a helper with which the init squeezed memory out of the sandbox.
pub(super) fn may_be_out_of_memory(lost: &Lost) -> bool {
    !matches!(lost, Lost::OutOfMemory | Lost::Fault(_) | Lost::SocketsLeft)
}

/// The result of a submission whose sandbox died, init included, because its memory was exhausted:
/// the program's limit, not a fault of ours. `used_bytes` is what the program used then; `tests`
/// are the results from before.
pub(super) fn out_of_memory(work: &Work, lost: &Lost, used_bytes: u64, tests: Vec<TestResult>) -> Judged {
    let mut facts = RunFacts { memory_bytes: used_bytes, ..RunFacts::bare(Outcome::MemoryLimit) };
    facts.evidence.limit = Some("memory_bytes".to_owned());
    facts.evidence.limit_value = Some(work.limits.memory_bytes);
    facts.evidence.lost = Some(lost.to_string());
    let message = decide::message(&facts, &work.limits);
    let judged = Judged::bare(Verdict::MemoryLimit, message);
    with_finished(judged, work, facts, tests)
}

/// The same result with the tests that were finished before the sandbox died, if it has tests.
fn with_finished(judged: Judged, work: &Work, facts: RunFacts, finished: Vec<TestResult>) -> Judged {
    let tests = drive::interrupted(finished, &work.plan, (judged.verdict, &judged.message), &facts);
    let (verdict, message) = match tests.is_empty() {
        true => (judged.verdict, judged.message),
        false => drive::overall(&tests),
    };
    let blame = judged.blame.filter(|_| verdict == Verdict::SystemError);
    Judged { verdict, message, blame, tests, run: Some(facts), ..Judged::bare(verdict, "") }
}

/// The same for a checker or interactor: the submission cannot be judged.
pub(super) fn referee_out_of_memory(lost: &Lost) -> Judged {
    let mut facts = RunFacts::bare(Outcome::Lost);
    facts.evidence.lost = Some(lost.to_string());
    let message = "The checker used too much memory; this is not the submission's fault.";
    Judged { run: Some(facts), blame: Some(Blame::Caller), ..Judged::bare(Verdict::SystemError, message) }
}

/// The loss of a sandbox under a submission.
#[derive(Debug)]
pub(super) struct Death {
    /// How the loss was noticed.
    pub(super) lost: Lost,
    /// How the container ended.
    pub(super) end: ContainerEnd,
    /// The engine provably worked from the lease to the loss.
    pub(super) engine_was_well: bool,
    /// The host's name.
    pub(super) host: String,
    /// The short id of its container.
    pub(super) sandbox: String,
    /// Results of the tests before it.
    pub(super) tests: Vec<TestResult>,
}

impl Death {
    /// What the operator can do about it.
    pub(super) fn remedy(&self) -> &'static str {
        match (self.engine_was_well, self.end) {
            (false, _) => {
                "the engine cannot be shown to have been up meanwhile: read its log (journalctl -u docker); if it was \
                 up, docker events says who killed the container"
            }
            (true, end) if end.oom => {
                "the kernel killed for memory: journalctl -k says which process, and whether the machine ran out of it"
            }
            (true, end) if end.is_its_own() => {
                "the init ended by itself: if other submissions lose theirs too, keep the log and report it"
            }
            (true, _) => {
                "something outside killed the container: docker events --filter event=kill, systemctl list-timers and \
                 cron (a job that kills or prunes containers), journalctl -k (the OOM killer)"
            }
        }
    }
}

/// The report of a submission that lost its sandboxes, with the tests that the last of them had
/// finished. The submission is to blame only for two deaths, if the engines provably worked all the
/// time and the inits exited by themselves. If an engine failed, the host is to blame. An init that
/// was killed was killed from outside.
pub(super) fn lost_report(work: &Work, deaths: &mut [Death]) -> Report {
    let finished = deaths.last_mut().map(|death| std::mem::take(&mut death.tests)).unwrap_or_default();
    let (judged, facts) = lost(deaths);
    render::report(&work.id, with_finished(judged, work, facts, finished), &|_| None)
}

/// The result of a submission that lost its sandboxes, and the facts of its run.
fn lost(deaths: &[Death]) -> (Judged, RunFacts) {
    let host_failed = deaths.iter().any(|death| !death.engine_was_well);
    let evidence = deaths.iter().map(|death| death.lost.to_string()).collect::<Vec<_>>().join("; then ");
    let (blame, message) = if host_failed {
        (Blame::Host, "The Docker host failed while the submission ran; this is not the submission's fault.")
    } else if deaths.len() > 1 && deaths.iter().all(|death| death.lost == Lost::SocketsLeft) {
        (
            Blame::Caller,
            "The programs left sockets that stayed in use after their end, so that the next test could not begin, in \
             two sandboxes.",
        )
    } else if deaths.len() > 1 && deaths.iter().all(|death| death.end.is_its_own()) {
        (Blame::Caller, "The sandbox died under the submission twice on a healthy host.")
    } else {
        (Blame::Assay, "The sandbox was lost while the submission ran; this is not the submission's fault.")
    };
    let mut facts = RunFacts::bare(Outcome::Lost);
    facts.evidence.lost = Some(evidence);
    (Judged { blame: Some(blame), ..Judged::bare(Verdict::SystemError, message) }, facts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sandbox::pool::MakeError;

    use super::*;

    fn death(engine_was_well: bool, exit_code: i64) -> Death {
        let end = ContainerEnd { oom: false, exit_code: Some(exit_code) };
        Death {
            lost: Lost::Eof,
            end,
            engine_was_well,
            host: "local".to_owned(),
            sandbox: "ab12".to_owned(),
            tests: Vec::new(),
        }
    }

    #[test]
    fn the_submission_is_not_blamed_for_an_init_that_was_killed() {
        assert_eq!(lost(&[death(true, 137), death(true, 137)]).0.blame, Some(Blame::Assay));
        assert_eq!(lost(&[death(true, 134), death(true, 137)]).0.blame, Some(Blame::Assay));
    }

    #[test]
    fn an_init_that_says_why_it_ends_has_not_run_out_of_memory() {
        assert!(may_be_out_of_memory(&Lost::Eof) && may_be_out_of_memory(&Lost::Silent));
        assert!(!may_be_out_of_memory(&Lost::Fault("earlier runs left 7 bytes of memory".to_owned())));
        assert!(!may_be_out_of_memory(&Lost::OutOfMemory));
    }

    #[test]
    fn a_failed_host_is_blamed_for_a_lost_run() {
        let (judged, _) = lost(&[death(false, 134)]);
        assert_eq!((judged.verdict, judged.blame), (Verdict::SystemError, Some(Blame::Host)));
    }

    #[test]
    fn the_submission_is_blamed_for_a_second_death_on_a_healthy_host() {
        let (judged, run) = lost(&[death(true, 134), death(true, 134)]);
        assert_eq!(judged.blame, Some(Blame::Caller));
        assert_eq!(run.evidence.lost.unwrap().matches("attach stream ended").count(), 2);
    }

    #[test]
    fn the_submission_is_blamed_for_sockets_that_stay_in_use_in_two_sandboxes() {
        let left = || Death { lost: Lost::SocketsLeft, ..death(true, 137) };
        assert_eq!(lost(&[left()]).0.blame, Some(Blame::Assay));
        assert_eq!(lost(&[left(), death(true, 137)]).0.blame, Some(Blame::Assay));
        assert_eq!(lost(&[left(), left()]).0.blame, Some(Blame::Caller));
    }

    #[test]
    fn the_host_is_blamed_for_a_missing_sandbox_if_none_is_up_or_the_engine_does_not_answer() {
        let error = |cause, host_up| NoSandbox { cause, host_up };
        assert_eq!(no_sandbox("1", "c", &error(None, false)).blame, Some(Blame::Host));
        assert_eq!(no_sandbox("1", "c", &error(None, true)).blame, Some(Blame::Assay));
        let down = Some(NoSandboxCause::Make(Arc::new(MakeError::HostDown { source: None })));
        assert_eq!(no_sandbox("1", "c", &error(down, true)).blame, Some(Blame::Host));
    }

    #[test]
    fn the_remedy_of_a_lost_sandbox_says_who_kills_containers() {
        assert!(death(true, 137).remedy().contains("docker events"));
        assert!(death(true, 1).remedy().contains("report it"));
        assert!(death(false, 137).remedy().contains("journalctl -u docker"));
        let end = ContainerEnd { oom: true, exit_code: Some(137) };
        assert!(Death { end, ..death(true, 137) }.remedy().contains("for memory"));
    }

    #[test]
    fn the_report_of_a_failed_creation_has_its_remedy() {
        let cause = Some(NoSandboxCause::Make(Arc::new(MakeError::NoUid { spent: 0, count: 4, floors: 6 })));
        let report = no_sandbox("1", "c", &NoSandbox { cause, host_up: true });
        assert_eq!(report.blame, Some(Blame::Assay));
        let message = report.message;
        assert!(message.contains("every uid is in use") && message.contains("Remedy: Raise uids.count"), "{message}");
    }
}
