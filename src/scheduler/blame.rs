//! Reports that no judge wrote: of a submission that never ran, whose sandbox died, or whose memory took the init along.
//! Pure: what was seen goes in, whose fault it is comes out.

use judge::drive::Judged;
use judge::render;
use judge::work::Work;
use protocol::{Blame, Outcome, Report, RunFacts, Verdict};
use sandbox::host::ContainerEnd;
use sandbox::lifecycle::Lost;

/// The report of a submission that never ran.
pub(super) fn bare(id: &str, verdict: Verdict, message: &str) -> Report {
    render::report(id, Judged::bare(verdict, message), &|_| None)
}

/// A sandbox that died, init and all, because its memory was used up: that is the program's limit, not a fault of ours.
pub(super) fn out_of_memory(work: &Work, lost: &Lost) -> Judged {
    let mut facts = RunFacts::bare(Outcome::MemoryLimit);
    facts.evidence.limit = Some("memory_bytes".to_owned());
    facts.evidence.limit_value = Some(work.limits.memory_bytes);
    facts.evidence.lost = Some(lost.to_string());
    let message = judge::decide::message(&facts, &work.limits);
    Judged { run: Some(facts), ..Judged::bare(Verdict::MemoryLimit, message) }
}

/// The same of a program that judges: nobody knows what the submission is worth.
pub(super) fn referee_out_of_memory(lost: &Lost) -> Judged {
    let mut facts = RunFacts::bare(Outcome::Lost);
    facts.evidence.lost = Some(lost.to_string());
    let message = "The checker used too much memory; this is not the submission's fault.";
    Judged { run: Some(facts), blame: Some(Blame::Caller), ..Judged::bare(Verdict::SystemError, message) }
}

/// A sandbox that died under a submission.
#[derive(Debug)]
pub(super) struct Death {
    /// How it was noticed.
    pub(super) lost: Lost,
    /// How its container ended.
    pub(super) end: ContainerEnd,
    /// Whether its engine provably did not fail meanwhile.
    pub(super) engine_was_well: bool,
    /// Where.
    pub(super) host: String,
}

/// Deaths of sandboxes under one submission. Two of them are the submission's doing only when the engine provably was well
/// all the time and the inits ended by themselves. Where the engine was not, the host is to blame; an init that was killed
/// was killed from outside.
pub(super) fn lost_report(id: &str, deaths: &[Death]) -> Report {
    let host_failed = deaths.iter().any(|death| !death.engine_was_well);
    let words = deaths.iter().map(|death| death.lost.to_string()).collect::<Vec<_>>().join("; then ");
    let (blame, message) = if host_failed {
        (Blame::Host, "The Docker host failed while the submission ran; this is not the submission's fault.")
    } else if deaths.len() > 1 && deaths.iter().all(|death| death.end.is_its_own()) {
        (Blame::Caller, "The sandbox died under the submission twice on a healthy host.")
    } else {
        (Blame::Assay, "The sandbox was lost while the submission ran; this is not the submission's fault.")
    };
    let mut facts = RunFacts::bare(Outcome::Lost);
    facts.evidence.lost = Some(words);
    let judged = Judged { blame: Some(blame), run: Some(facts), ..Judged::bare(Verdict::SystemError, message) };
    render::report(id, judged, &|_| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(engine_was_well: bool, exit_code: i64) -> Death {
        let end = ContainerEnd { oom: false, exit_code: Some(exit_code) };
        Death { lost: Lost::Eof, end, engine_was_well, host: "local".to_owned() }
    }

    #[test]
    fn an_init_that_was_killed_is_not_the_submissions_doing() {
        assert_eq!(lost_report("1", &[death(true, 137), death(true, 137)]).blame, Some(Blame::Assay));
        assert_eq!(lost_report("1", &[death(true, 134), death(true, 137)]).blame, Some(Blame::Assay));
    }

    #[test]
    fn a_host_that_failed_is_to_blame_for_a_lost_run() {
        let report = lost_report("1", &[death(false, 134)]);
        assert_eq!((report.verdict, report.blame), (Verdict::SystemError, Some(Blame::Host)));
    }

    #[test]
    fn a_second_death_on_a_healthy_host_is_the_submissions_doing() {
        let report = lost_report("1", &[death(true, 134), death(true, 134)]);
        assert_eq!(report.blame, Some(Blame::Caller));
        assert_eq!(report.run.unwrap().evidence.lost.unwrap().matches("attach stream ended").count(), 2);
    }
}
