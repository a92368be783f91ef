//! The sandboxes of one submission: its own, and those of the programs that judge it. How they are had, set to other limits than
//! their pools', used, and when the first may be used again.

use std::time::{Duration, Instant};

use super::desk::{Desk, NoSandbox, Second};
use judge::drive::{AssignedSandbox, Judged, LostSandbox, RunContext, judge};
use judge::work::Work;
use protocol::{Limits, Profile};
use sandbox::host::Host;
use sandbox::lifecycle::{Lost, ensure_limits};
use sandbox::pool::Lease;

/// Sandboxes for the programs that judge a submission which has its own already.
pub(super) async fn seconds(desk: &Desk, work: &Work, patience: Duration) -> Result<Vec<Second>, NoSandbox> {
    let deadline = Instant::now() + patience;
    let mut seconds = Vec::with_capacity(work.referees.len());
    for referee in &work.referees {
        let left = deadline.saturating_duration_since(Instant::now());
        seconds.push(desk.second(referee, left).await?);
    }
    Ok(seconds)
}

/// Whether a used sandbox may serve its caller again: the profile says so, the caller said for whom it acts, the sandbox has
/// the pool's own limits, and nothing happened after which one would rather not.
pub(super) fn may_keep(work: &Work, lease: &Lease, judged: &Judged) -> bool {
    lease.uses + 1 < work.profile.pool.reuse
        && !work.caller.tenant.is_empty()
        && has_usual_limits(&work.profile, &work.limits)
        && judged.is_calm()
}

/// Whether memory, processes and CPU share are those that the profile's sandboxes have.
fn has_usual_limits(profile: &Profile, limits: &Limits) -> bool {
    let of = |limits: &Limits| (limits.memory_bytes, limits.pids, limits.cpus);
    profile.run_limits().is_ok_and(|usual| of(&usual) == of(limits))
}

/// Judges on leases; how long it took until the sandboxes were as the submission wants them.
pub(super) async fn on_lease(
    host: &Host,
    lease: &mut Lease,
    seconds: &mut [Second],
    work: &Work,
    line: RunContext<'_>,
    leasing: Instant,
) -> Result<(Judged, Duration), LostSandbox> {
    let (caller, cache) = (&work.caller, line.cache);
    set_limits(host, lease, &work.profile, &work.limits).await.map_err(LostSandbox::Submission)?;
    let mut seats = Vec::with_capacity(seconds.len());
    for (at, (second, referee)) in seconds.iter_mut().zip(&work.referees).enumerate() {
        let (profile, limits) = (&referee.profile, &referee.step.limits);
        set_limits(&second.host, &mut second.lease, profile, limits)
            .await
            .map_err(|lost| LostSandbox::Referee(at, lost))?;
        let key = cache.key(caller, profile, &referee.files, referee.compile.as_ref(), &second.lease.image);
        seats.push(AssignedSandbox { sandbox: &mut second.lease.sandbox, key });
    }
    let lease_time = leasing.elapsed();
    let key = cache.key(caller, &work.profile, &work.files, work.compile.as_ref(), &lease.image);
    let main = AssignedSandbox { sandbox: &mut lease.sandbox, key };
    Ok((judge(main, seats, work, line).await?, lease_time))
}

/// Gives a sandbox other limits than its pool's, where they are asked for: the named exception to invariant 8. It is never
/// used again, so nothing has to be put back.
async fn set_limits(host: &Host, lease: &mut Lease, profile: &Profile, limits: &Limits) -> Result<(), Lost> {
    if has_usual_limits(profile, limits) {
        return Ok(());
    }
    ensure_limits(host.client(), &mut lease.sandbox, limits).await.map_err(|error| Lost::Io(error.to_string()))
}
