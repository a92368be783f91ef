//! The sandboxes of one submission: allocating those of its referees, setting its limits, and
//! keeping a used sandbox for its caller.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::allocator::{Allocator, RefereeLease};
use super::counters::SubmissionCounters;
use super::no_sandbox::NoSandbox;
use judge::work::Work;
use protocol::{Caller, Isolation, Limits, Profile};
use sandbox::host::Host;
use sandbox::lifecycle::{AuditOutcome, Sandbox, UpdateError, update_limits};
use sandbox::pool::{Lease, RetireReason};
use telemetry::throttle::LogThrottle;

/// Why a leased sandbox cannot be used for a submission.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// The submission requires more isolation than the host has. This was not known yet when the
    /// submission was admitted.
    #[error("the host isolates runs by {} only: {why}", offered.as_str())]
    Isolation { offered: Isolation, why: String },
    /// The sandbox could not be given the submission's limits.
    #[error("failed to {0}")]
    Limits(#[source] UpdateError),
}

/// Allocates sandboxes for all referees of a submission, whose own one is on `host`.
pub(super) async fn allocate_referees(
    allocator: &Allocator,
    work: &Work,
    host: &Arc<Host>,
    patience: Duration,
) -> Result<Vec<RefereeLease>, NoSandbox> {
    let deadline = Instant::now() + patience;
    let mut leases = Vec::with_capacity(work.referees.len());
    for referee in &work.referees {
        let left = deadline.saturating_duration_since(Instant::now());
        leases.push(allocator.allocate_referee(referee, host, left).await?);
    }
    Ok(leases)
}

/// How often the limits are set: the kernel needs a moment to take back the memory of ended
/// runtimes.
const LIMIT_ATTEMPTS: u32 = 5;
const LIMIT_PAUSE: Duration = Duration::from_millis(20);

/// Gives a sandbox the limits that a submission needs, if it was not created with them. This is the
/// one engine call that a lease may cost. Such a sandbox is never reused, so its limits are not
/// restored. A lower memory limit needs no call: the init keeps each program to its own.
///
/// Where the init cannot do that, the kernel refuses a memory limit below what the sandbox holds
/// (cgroup v1) or kills processes in it (v2). Prewarmed runtimes that may not fit below the new
/// limit are ended first.
///
/// # Errors
/// The limits are not in effect; the sandbox must be retired.
pub(super) async fn set_limits(
    host: &Host,
    lease: &mut Lease,
    profile: &Profile,
    limits: &Limits,
) -> Result<(), UpdateError> {
    let result = try_set_limits(host, lease, profile, limits).await;
    if result.as_ref().is_err_and(UpdateError::is_unreachable) {
        host.mark_suspect();
    }
    result
}

async fn try_set_limits(host: &Host, lease: &mut Lease, profile: &Profile, limits: &Limits) -> Result<(), UpdateError> {
    let sandbox = &mut lease.sandbox;
    if has_limits(sandbox, profile, limits) {
        return Ok(());
    }
    let runtimes = sandbox.prewarm_state();
    let is_lower = profile.run_limits().is_ok_and(|usual| limits.memory_bytes < usual.memory_bytes);
    let mut is_prewarmed = runtimes.wanted > 0;
    if is_prewarmed && is_lower && (!runtimes.is_hot() || runtimes.memory_bytes > limits.memory_bytes) {
        sandbox.drop_prewarmed().await?;
        is_prewarmed = false;
    }
    for _ in 1..LIMIT_ATTEMPTS {
        match update_limits(host.client(), sandbox, limits).await {
            Err(UpdateError::Engine(error)) if runtimes.wanted > 0 && !error.is_unreachable() => {
                if is_prewarmed {
                    sandbox.drop_prewarmed().await?;
                    is_prewarmed = false;
                }
                tokio::time::sleep(LIMIT_PAUSE).await;
            }
            result => return result,
        }
    }
    update_limits(host.client(), sandbox, limits).await
}

/// Whether a sandbox of this profile was created with the processes and the CPU share of `limits`,
/// and has room for its memory.
fn has_limits(sandbox: &Sandbox, profile: &Profile, limits: &Limits) -> bool {
    profile.run_limits().is_ok_and(|usual| {
        let has_memory = match sandbox.sees_memory() {
            true => limits.memory_bytes <= usual.memory_bytes.max(sandbox.overheads().compile_bytes),
            false => limits.memory_bytes == usual.memory_bytes,
        };
        has_memory && (usual.pids, usual.cpus) == (limits.pids, limits.cpus)
    })
}

/// Whether a used sandbox may serve its caller again: settings and profile allow it, the submission
/// does not forbid it, and the sandbox has the profile's limits. Besides, no run may have ended in
/// a way that makes reuse unsafe.
pub(super) fn may_keep(work: &Work, lease: &Lease) -> bool {
    !work.fresh && lease.may_keep(&work.caller) && has_limits(&lease.sandbox, &work.profile, &work.sandbox_limits())
}

static RESIDUE: LogThrottle = LogThrottle::new();

/// Audits a used sandbox in the background and keeps it for its caller if the audit finds nothing.
/// `commands` are those that the submission ran.
pub(super) fn audit_and_keep(
    mut lease: Lease,
    caller: Caller,
    profile: String,
    commands: Vec<Arc<[String]>>,
    counters: Arc<SubmissionCounters>,
) {
    tokio::spawn(async move {
        let choice = lease.choose_runtimes(commands);
        match lease.sandbox.audit().await {
            Ok(AuditOutcome::Clean(audited)) => {
                counters.count(&counters.kept);
                lease.keep(caller, &choice, audited);
            }
            Ok(AuditOutcome::Residue(residue)) => {
                lease.retire_as(RetireReason::Residue);
                counters.count(&counters.residue);
                if let Some(suppressed) = RESIDUE.allow() {
                    let (principal, residue) = (&caller.principal, residue.join("; "));
                    tracing::warn!(%profile, uid = principal.uid(), principal = principal.named(), suppressed, residue, "a run left residue; its sandbox is retired");
                }
            }
            Err(_) => lease.retire_as(RetireReason::Lost),
        }
    });
}
