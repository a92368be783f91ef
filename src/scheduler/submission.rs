//! One submission as a state machine, from admission to its one report.
//!
//! ```text
//!           acquire                      execute            settle
//!  Queued -----------> Acquiring -----------------> Running --------> Settling ---> Done
//!    |    own sandbox    |    referees' sandboxes,    |   judged, lost    |
//!    |                   |    isolation checked       |   or unfit        '--> a second attempt,
//!    |                   |                            |                        after a loss or
//!    |                   |                            |                        limits that failed
//!    |                   |                            '- interrupted, no output read ---.
//!    '-------------------'-- the drain ends, and it outlives its caller ----------------'-> Kept
//!
//!  cancelled in any phase: Done, with verdict `cancelled`
//! ```
//!
//! A second attempt waits and acquires while the phase is still Settling, so that a submission
//! reported as running is never reported as queued again.
//!
//! [`SubmissionTask::run`] drives it. A [`Placement`] owns all that an attempt holds on hosts; its
//! field order is the order in which that is released.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::access_log;
use super::allocator::{Allocation, Allocator, RefereeLease, RunningGuard};
use super::blame::{self, Death};
use super::counters::SubmissionCounters;
use super::further_sandboxes::FurtherSandboxes;
use super::language_metrics::LanguageMetrics;
use super::leases::{Unfit, allocate_referees, audit_and_keep, may_keep, set_limits};
use super::no_sandbox::NoSandbox;
use super::outputs::{BlobStore, OwnedOutputs};
use super::phase::SubmissionPhase;
use super::registry::SubmissionHandle;
use super::stages::{Stage, StageTimes};
use super::store_access::StoreAccess;
use judge::cache::Cache;
use judge::drive::{AssignedSandbox, FinishedTests, Judged, LostSandbox, RunContext, TestResult, judge};
use judge::render::{self, millis};
use judge::work::Work;
use protocol::report::SandboxInfo;
use protocol::{Profile, Report, RunReport, StartKind, Verdict};
use sandbox::host::capacity::Reservation;
use sandbox::host::{BusyGuard, Host};
use sandbox::lifecycle::{ContainerId, Lost, UpdateError};
use sandbox::pool::{Lease, RetireReason};

/// What one attempt holds on hosts. Fields are dropped in this order: the referees' sandboxes, then
/// what counts the submission as running, its reservation, and last its own sandbox.
#[derive(Debug)]
struct Placement {
    referees: Vec<RefereeLease>,
    occupied: Vec<BusyGuard>,
    running: RunningGuard,
    reservation: Reservation,
    lease: Lease,
    host: Arc<Host>,
}

/// How one attempt ended.
#[derive(Debug)]
enum Attempt {
    /// Judged, or out of memory.
    Finished(Box<Finished>),
    /// A sandbox died.
    Lost(Death),
    /// A sandbox could not be used for the submission.
    Unfit(Unfit),
    /// No sandbox was allocated in time.
    NoSandbox(NoSandbox),
    /// Cancelled before it ran.
    Cancelled,
    /// The drain ended before it ran, and it outlives its caller.
    Interrupted,
}

/// The result of an attempt that ran, and what the report says about its sandbox.
#[derive(Debug)]
struct Finished {
    judged: Judged,
    start: StartKind,
    sandbox: SandboxInfo,
    lease_time: Duration,
}

/// Why a run on a placement ended without a result.
enum RunFailure {
    Unfit(Unfit),
    Lost(LostSandbox),
}

impl RunFailure {
    fn of_update(error: UpdateError, lost_in: impl FnOnce(Lost) -> LostSandbox) -> RunFailure {
        match error {
            UpdateError::Lost(lost) => RunFailure::Lost(lost_in(lost)),
            error => RunFailure::Unfit(Unfit::Limits(error)),
        }
    }
}

/// What follows an attempt.
enum Next {
    Answer(Box<Report>),
    Keep,
    Retry,
}

impl Placement {
    fn new(allocation: Allocation, referees: Vec<RefereeLease>) -> Placement {
        let Allocation { running, reservation, lease, host } = allocation;
        Placement { referees, occupied: Vec::new(), running, reservation, lease, host }
    }

    /// The first of its sandboxes that does not isolate runs as the submission requires.
    fn check_isolation(&self, work: &Work) -> Result<(), Unfit> {
        let referees = self.referees.iter().map(|referee| (&referee.host, &referee.lease));
        for (host, lease) in [(&self.host, &self.lease)].into_iter().chain(referees) {
            let offered = lease.sandbox.isolation();
            if !work.isolation.allows(offered) {
                return Err(Unfit::Isolation { offered, why: host.cell_unavailable_reason().unwrap_or_default() });
            }
        }
        Ok(())
    }

    /// Counts the sandboxes as occupied by the submission.
    fn occupy(&mut self, work: &Work) {
        let own = (&self.host, &self.lease, &work.profile);
        let referees = self.referees.iter().zip(&work.referees);
        let referees = referees.map(|(lease, referee)| (&lease.host, &lease.lease, &referee.profile));
        let all = [own].into_iter().chain(referees);
        let occupy = |(host, lease, profile): (&Arc<Host>, &Lease, &Arc<Profile>)| {
            host.mark_busy(lease.sandbox.id(), &profile.name, &work.id, &work.caller.principal)
        };
        self.occupied = all.map(occupy).collect();
    }

    /// Sets the limits and judges. Returns the result and the time that setting the limits took.
    async fn judge(
        &mut self,
        work: &Work,
        context: RunContext<'_>,
        leased_at: Instant,
    ) -> Result<(Judged, Duration), RunFailure> {
        let (caller, cache) = (&work.caller, context.cache);
        let own = set_limits(&self.host, &mut self.lease, &work.profile, &work.sandbox_limits()).await;
        own.map_err(|error| RunFailure::of_update(error, LostSandbox::Submission))?;
        let mut referees = Vec::with_capacity(self.referees.len());
        let leases = self.referees.iter_mut().zip(&work.referees);
        for (at, (RefereeLease { host, lease, .. }, referee)) in leases.enumerate() {
            let limited = set_limits(host, lease, &referee.profile, &referee.sandbox_limits()).await;
            limited.map_err(|error| RunFailure::of_update(error, |lost| LostSandbox::Referee(at, lost)))?;
            let key = cache.key(caller, &referee.profile, &referee.files, referee.compile.as_ref(), &lease.image);
            referees.push(AssignedSandbox { sandbox: &mut lease.sandbox, key });
        }
        let lease_time = leased_at.elapsed();
        let key = cache.key(caller, &work.profile, &work.files, work.compile.as_ref(), &self.lease.image);
        let main = AssignedSandbox { sandbox: &mut self.lease.sandbox, key };
        let judged = judge(main, referees, work, context).await.map_err(RunFailure::Lost)?;
        if let Some(file) = &judged.not_made {
            access_log::log_not_made(caller, &work.profile.name, file);
        }
        Ok((judged, lease_time))
    }

    /// The start and the sandbox as the report states them.
    fn describe(&self, work: &Work, was_hot: bool) -> (StartKind, SandboxInfo) {
        let Placement { host, lease, .. } = self;
        let info = SandboxInfo {
            id: lease.sandbox.id().short().to_owned(),
            host: host.name().to_owned(),
            image: lease.image.to_string(),
            profile: work.profile.name.clone(),
            isolation: lease.sandbox.isolation().as_str().to_owned(),
            engine: host.engine_version(),
            uses: lease.uses + 1,
        };
        (if was_hot { StartKind::Hot } else { lease.start }, info)
    }

    /// The program's memory when the sandbox's is exhausted, in bytes: its limit without what it
    /// used before the first program.
    fn program_bytes_when_full(&self) -> u64 {
        let ready = self.lease.sandbox.ready();
        ready.memory_bytes.saturating_sub(ready.memory_used_bytes)
    }

    /// Retires the lost sandbox as such; returns its host and its container's id.
    fn retire_lost(&mut self, lost: &LostSandbox) -> (Arc<Host>, ContainerId) {
        let (host, lease) = match lost {
            LostSandbox::Submission(_) => (&self.host, &mut self.lease),
            LostSandbox::Referee(at, _) => {
                let RefereeLease { host, lease, .. } = &mut self.referees[*at];
                (&*host, lease)
            }
        };
        lease.retire_as(RetireReason::Lost);
        (host.clone(), lease.sandbox.id().clone())
    }

    /// Releases everything but the submission's own sandbox.
    fn release(self) -> Lease {
        let Placement { referees, occupied, running, reservation, lease, .. } = self;
        drop(referees);
        drop((occupied, running, reservation));
        lease
    }
}

/// What a task uses besides its submission.
pub(super) struct TaskResources<'a> {
    pub(super) allocator: &'a Allocator,
    /// How long a submission without a deadline waits for its sandboxes.
    pub(super) default_patience: Duration,
    pub(super) cache: &'a Cache,
    pub(super) blobs: &'a Arc<dyn BlobStore>,
    pub(super) counters: &'a Arc<SubmissionCounters>,
    pub(super) languages: &'a LanguageMetrics,
    /// True from the end of a drain on.
    pub(super) drain_ended: watch::Receiver<bool>,
    pub(super) store: &'a StoreAccess,
}

/// Drives one submission to its report.
pub(super) struct SubmissionTask<'a> {
    resources: TaskResources<'a>,
    pub(super) work: &'a Work,
    pub(super) handle: &'a SubmissionHandle,
    /// When the last byte of its call was read.
    pub(super) received: Instant,
    pub(super) times: StageTimes,
    /// When the current attempt was queued.
    queued_at: Instant,
    queue_time: Duration,
    /// The sandboxes that were lost in earlier attempts.
    deaths: Vec<Death>,
    /// Attempts that failed and were repeated.
    retries: usize,
}

/// The first run that the sandbox was used for.
fn first_run(report: &mut Report) -> Option<&mut RunReport> {
    let tests = report.tests.iter_mut().filter_map(|test| test.run.as_mut());
    let suite = report.suite.iter_mut().map(|suite| &mut suite.run);
    let mut runs = report.compile.iter_mut().chain(report.run.iter_mut()).chain(suite).chain(tests);
    runs.find(|run| run.start.is_some())
}

impl<'a> SubmissionTask<'a> {
    pub(super) fn new(
        resources: TaskResources<'a>,
        work: &'a Work,
        handle: &'a SubmissionHandle,
        received: Instant,
        times: StageTimes,
    ) -> SubmissionTask<'a> {
        SubmissionTask {
            resources,
            work,
            handle,
            received,
            times,
            queued_at: Instant::now(),
            queue_time: Duration::ZERO,
            deaths: Vec::new(),
            retries: 0,
        }
    }

    /// The report; `None` if the submission is to be saved for the next daemon.
    pub(super) async fn run(&mut self) -> Option<Report> {
        loop {
            let attempt = match self.acquire().await {
                Ok(placement) => self.execute(placement).await,
                Err(attempt) => attempt,
            };
            match self.settle(attempt) {
                Next::Answer(report) => return Some(*report),
                Next::Keep => return None,
                Next::Retry => self.resources.counters.count(&self.resources.counters.retried),
            }
        }
    }

    /// Waits for the sandboxes that the submission needs.
    async fn acquire(&mut self) -> Result<Placement, Attempt> {
        let work = self.work;
        let allocator = self.resources.allocator;
        let patience = work.deadline.unwrap_or(self.resources.default_patience);
        let patience = patience.saturating_sub(self.received.elapsed());
        self.queued_at = Instant::now();
        let avoid = self.deaths.last().map(|death| death.host.clone());
        let allocated = self.unless_withdrawn(allocator.allocate(work, avoid.as_deref(), patience)).await?;
        self.times.set(Stage::Queue, self.queued_at.elapsed());
        self.resources.languages.record_wait(&work.profile.name, self.queued_at.elapsed());
        let allocation = allocated.map_err(Attempt::NoSandbox)?;
        if self.handle.phase().is_waiting() {
            self.handle.set_phase(SubmissionPhase::Acquiring);
        }
        let patience = patience.saturating_sub(self.queued_at.elapsed());
        let referees = self.unless_withdrawn(allocate_referees(allocator, work, &allocation.host, patience)).await?;
        let placement = Placement::new(allocation, referees.map_err(Attempt::NoSandbox)?);
        placement.check_isolation(work).map_err(Attempt::Unfit)?;
        self.queue_time = self.queued_at.elapsed();
        self.times.set(Stage::Queue, self.queue_time);
        Ok(placement)
    }

    /// Waits for `ready`, unless the submission is cancelled or to be saved for the next daemon.
    async fn unless_withdrawn<T>(&self, ready: impl Future<Output = T>) -> Result<T, Attempt> {
        let mut cancel = self.handle.cancelled();
        let mut drain_ended = self.resources.drain_ended.clone();
        tokio::select! {
            biased;
            _ = cancel.wait_for(|cancelled| *cancelled) => Err(Attempt::Cancelled),
            _ = drain_ended.wait_for(|ended| *ended), if self.handle.outlives_caller() => Err(Attempt::Interrupted),
            value = ready => Ok(value),
        }
    }

    /// Judges the submission on its placement, and releases the placement.
    async fn execute(&mut self, mut placement: Placement) -> Attempt {
        let (work, leased_at) = (self.work, Instant::now());
        placement.occupy(work);
        self.handle.set_phase(SubmissionPhase::Running);
        self.handle.count_start(self.resources.store);
        let finished = FinishedTests::default();
        // what an attempt before used
        drop(self.handle.io.log.take_usage());
        let TaskResources { allocator, counters, .. } = &self.resources;
        let extras = FurtherSandboxes::new(allocator, work, &placement.host, &placement.lease, counters);
        let context = RunContext {
            log: &self.handle.io.log,
            input: self.handle.io.input.as_deref(),
            cancel: self.handle.cancelled(),
            cache: self.resources.cache,
            finished: &finished,
            extras: &extras,
            outputs: Arc::new(OwnedOutputs {
                owner: work.caller.principal.clone(),
                blobs: self.resources.blobs.clone(),
            }),
        };
        let result = placement.judge(work, context, leased_at).await;
        self.handle.set_phase(SubmissionPhase::Settling);
        match result {
            Ok((judged, lease_time)) => {
                let (start, sandbox) = placement.describe(work, judged.was_hot);
                // retiring or auditing the sandbox does not delay the answer
                let lease = placement.release();
                if may_keep(work, &lease) && judged.allows_reuse() {
                    let (caller, profile) = (work.caller.clone(), work.profile.name.clone());
                    let commands = work.commands(judged.is_cached);
                    audit_and_keep(lease, caller, profile, commands, self.resources.counters.clone());
                }
                Attempt::Finished(Box::new(Finished { judged, start, sandbox, lease_time }))
            }
            Err(RunFailure::Unfit(unfit)) => Attempt::Unfit(unfit),
            Err(RunFailure::Lost(lost)) => self.examine_loss(placement, lost, finished.take(), leased_at).await,
        }
    }

    /// Finds out how a lost sandbox ended.
    async fn examine_loss(
        &self,
        mut placement: Placement,
        lost: LostSandbox,
        tests: Vec<TestResult>,
        leased_at: Instant,
    ) -> Attempt {
        let (start, sandbox) = placement.describe(self.work, false);
        let used_bytes = placement.program_bytes_when_full();
        let (host, container) = placement.retire_lost(&lost);
        drop(placement.release());
        let end = host.container_end(&container).await;
        let (LostSandbox::Submission(how) | LostSandbox::Referee(_, how)) = &lost;
        if end.is_out_of_memory() && blame::may_be_out_of_memory(how) {
            let judged = match &lost {
                LostSandbox::Submission(lost) => blame::out_of_memory(self.work, lost, used_bytes, tests),
                LostSandbox::Referee(_, lost) => blame::referee_out_of_memory(lost),
            };
            return Attempt::Finished(Box::new(Finished { judged, start, sandbox, lease_time: Duration::ZERO }));
        }
        host.mark_suspect();
        let engine_was_well = host.was_healthy_since(leased_at).await;
        let (LostSandbox::Submission(lost) | LostSandbox::Referee(_, lost)) = lost;
        let (host, sandbox) = (host.name().to_owned(), container.short().to_owned());
        Attempt::Lost(Death { lost, end, engine_was_well, host, sandbox, tests })
    }

    /// Decides what follows an attempt.
    fn settle(&mut self, attempt: Attempt) -> Next {
        let id = &self.work.id;
        let mut report = match attempt {
            Attempt::Finished(finished) => return self.finish(*finished),
            Attempt::Lost(death) => return self.after_loss(death),
            Attempt::Interrupted => return Next::Keep,
            Attempt::Unfit(unfit @ Unfit::Limits(_)) if self.retries == 0 => {
                let principal = &self.work.caller.principal;
                tracing::warn!(submission = %id.escape_debug(), %principal, error = %unfit, "sandbox unfit for a submission");
                self.retries += 1;
                return Next::Retry;
            }
            Attempt::Unfit(unfit) => blame::unfit(id, &unfit),
            Attempt::NoSandbox(error) => {
                let mut report = blame::no_sandbox(id, &self.work.profile.name, &error);
                report.timing.queue_ms = millis(self.queued_at.elapsed());
                report
            }
            Attempt::Cancelled => blame::cancelled(id),
        };
        report.id.clone_from(id);
        self.explain_cancel(&mut report);
        Next::Answer(Box::new(report))
    }

    /// A caller that did not cancel its submission is told who did.
    fn explain_cancel(&self, report: &mut Report) {
        if report.verdict == Verdict::Cancelled && self.handle.is_ended_by_daemon() {
            blame::ended_by_daemon(report);
        }
    }

    fn finish(&mut self, finished: Finished) -> Next {
        let Finished { judged, start, sandbox, lease_time } = finished;
        let is_cancelled = judged.verdict == Verdict::Cancelled;
        if is_cancelled && self.handle.was_interrupted() && self.handle.io.log.discard_unread_output() {
            // no caller has read any output: the next daemon runs it from the beginning
            return Next::Keep;
        }
        self.times.set(Stage::Lease, lease_time);
        self.times.set_judging(&judged.timings);
        let deciding = Instant::now();
        let (work, blobs) = (&self.work, &self.resources.blobs);
        let mut report = render::report(&work.id, judged, &|bytes| blobs.keep(&work.caller.principal, bytes));
        self.times.add(Stage::Decide, deciding.elapsed());
        report.start = Some(start);
        if start == StartKind::Cold
            && let Some(first) = first_run(&mut report)
        {
            first.start = Some(start);
        }
        report.sandbox = Some(sandbox);
        report.timing.queue_ms = millis(self.queue_time);
        report.timing.lease_ms = millis(lease_time);
        self.explain_cancel(&mut report);
        Next::Answer(Box::new(report))
    }

    /// Retries once after a loss, unless output was read, input was fed, or the submission was
    /// cancelled.
    fn after_loss(&mut self, death: Death) -> Next {
        let id = &self.work.id;
        tracing::warn!(
            submission = %id.escape_debug(), uid = self.work.caller.principal.uid(), principal = self.work.caller.principal.named(), host = %death.host, lost = %death.lost,
            sandbox = death.sandbox,
            engine_was_well = death.engine_was_well, init_exit_code = death.end.exit_code, oom = death.end.oom,
            remedy = death.remedy(),
            "sandbox lost during a run"
        );
        self.deaths.push(death);
        self.retries += 1;
        // output that was read would be delivered twice, and input that was fed is gone
        let is_observed = self.handle.io.input.is_some() || !self.handle.io.log.discard_unread_output();
        if self.retries > 1 || is_observed || *self.handle.cancelled().borrow() {
            return Next::Answer(Box::new(blame::lost_report(self.work, &mut self.deaths)));
        }
        // the next attempt runs them again, and needs the room of their outputs
        self.deaths.iter_mut().for_each(|death| death.tests.clear());
        Next::Retry
    }
}
