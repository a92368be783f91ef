//! All submissions that can be looked up, by id and caller. Answered ones are bounded in number,
//! time, and bytes of one uid.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::callbacks::PendingCallback;
use super::phase::SubmissionPhase;
use super::store_access::StoreAccess;
use super::stored::Stored;
use config::bounds;
use judge::events::EventLog;
use judge::pipe::Pipe;
use protocol::ReportText;
use protocol::{Account, Caller, Principal};
use store::Start;

/// The daemon is shutting down, and the submission is kept for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptForNextDaemon;

/// Who looks at submissions, and so which ones are visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Viewer {
    /// An administrator sees all submissions.
    Admin,
    /// A principal sees its own submissions, of any tenant: ids are given to their owner only.
    Principal(Principal),
}

impl Viewer {
    fn sees(&self, handle: &SubmissionHandle) -> bool {
        match self {
            Viewer::Admin => true,
            Viewer::Principal(own) => handle.caller.principal == *own,
        }
    }
}

/// The event log and the open input of a submission.
#[derive(Debug)]
pub struct SubmissionIo {
    /// The submission's events.
    pub log: Arc<EventLog>,
    /// The input, if it was left open with `stdin_open`.
    pub input: Option<Arc<Pipe>>,
}

impl SubmissionIo {
    /// Ends the log, and releases callers that wait to feed the input.
    pub(super) fn close(&self) {
        self.log.end();
        self.input.iter().for_each(|pipe| pipe.close_reader());
    }
}

/// One admitted submission, shared by its task and its callers.
#[derive(Debug)]
pub struct SubmissionHandle {
    /// The caller's id, or a generated one.
    pub id: String,
    /// Who submitted it.
    pub caller: Caller,
    /// A digest of the content, to detect another submission with the same id.
    pub(super) digest: [u8; 32],
    /// Whether it continues when its caller disconnects, and is kept when a drain ends.
    outlives_caller: AtomicBool,
    /// Calls that wait for its report.
    waiting: AtomicUsize,
    /// Its event log and open input.
    pub io: SubmissionIo,
    /// Where it is in the store. Held while that changes, and while its report is published.
    pub(super) stored: tokio::sync::Mutex<Stored>,
    /// Where its report is to be sent, if anywhere.
    pub(super) callback: OnceLock<PendingCallback>,
    phase: watch::Sender<SubmissionPhase>,
    cancel: watch::Sender<bool>,
    /// Cancelled by the end of a drain, and can run again.
    is_interrupted: AtomicBool,
    is_ended_by_daemon: AtomicBool,
    /// Counted in `RegistryState::retained`, with the bytes of its report.
    retained_bytes: OnceLock<usize>,
    done_at: OnceLock<Instant>,
}

impl SubmissionHandle {
    pub(super) fn new(
        id: String,
        caller: Caller,
        digest: [u8; 32],
        outlives_caller: bool,
        io: SubmissionIo,
    ) -> SubmissionHandle {
        SubmissionHandle {
            id,
            caller,
            digest,
            outlives_caller: AtomicBool::new(outlives_caller),
            waiting: AtomicUsize::new(0),
            io,
            stored: tokio::sync::Mutex::default(),
            callback: OnceLock::new(),
            phase: watch::Sender::new(SubmissionPhase::Queued),
            cancel: watch::Sender::new(false),
            is_interrupted: AtomicBool::new(false),
            is_ended_by_daemon: AtomicBool::new(false),
            retained_bytes: OnceLock::new(),
            done_at: OnceLock::new(),
        }
    }

    /// Where its report is to be sent.
    pub(super) fn set_callback(&self, callback: Option<PendingCallback>) {
        if let Some(callback) = callback {
            let _ = self.callback.set(callback);
        }
    }

    /// Where it is in the store.
    pub(super) fn with_stored(self, stored: Stored) -> SubmissionHandle {
        SubmissionHandle { stored: tokio::sync::Mutex::new(stored), ..self }
    }

    /// Counts that it starts, if the store has it; once for each daemon. Waits for nothing: an
    /// intake that is under way counts it itself.
    pub(super) fn count_start(&self, access: &StoreAccess) {
        let Ok(mut stored) = self.stored.try_lock() else { return };
        if let (Stored::Held { key, is_started: false }, Some(store)) = (*stored, access.get()) {
            drop(store.start(Start { key }));
            *stored = Stored::Held { key, is_started: true };
        }
    }

    /// Whether its caller gave it an id, so that its content counts.
    pub(super) fn has_digest(&self) -> bool {
        self.digest != [0; 32]
    }

    /// The current phase.
    pub fn phase(&self) -> SubmissionPhase {
        self.phase.borrow().clone()
    }

    /// Whether it continues when no call waits for it.
    pub(super) fn outlives_caller(&self) -> bool {
        self.outlives_caller.load(Ordering::Relaxed)
    }

    /// It was submitted: from now on it continues when no call waits for it.
    pub(super) fn set_outlives_caller(&self) {
        self.outlives_caller.store(true, Ordering::Relaxed);
    }

    /// It was not acknowledged: it goes on only for calls that wait for it. Returns whether there
    /// are none, and it is cancelled.
    pub(super) fn withdraw(&self) -> bool {
        self.outlives_caller.store(false, Ordering::Relaxed);
        let is_alone = self.waiting.load(Ordering::Acquire) == 0;
        if is_alone {
            self.cancel();
        }
        is_alone
    }

    /// Counts a call that waits for the report until the result is dropped. With the last one the
    /// submission is cancelled, unless it was submitted.
    pub fn count_waiting(self: &Arc<Self>) -> WaitingCall {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        WaitingCall(self.clone())
    }

    /// Cancels the submission. Idempotent; has no effect on an answered one.
    pub fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// Cancels the submission if it still is there after this time.
    pub fn cancel_after(self: &Arc<Self>, time: Duration) {
        let handle = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            handle.upgrade().iter().for_each(|handle| handle.cancel());
        });
    }

    /// Cancels the submission because the daemon ends. It can run again if it outlives its caller
    /// and its input was not left open.
    pub(super) fn interrupt(&self) {
        if !*self.cancel.borrow() {
            self.is_ended_by_daemon.store(true, Ordering::Relaxed);
            let can_run_again = self.outlives_caller() && self.io.input.is_none();
            self.is_interrupted.store(can_run_again, Ordering::Relaxed);
        }
        self.cancel();
    }

    /// Whether it was cancelled because the daemon ends, and not by its caller before.
    pub(super) fn is_ended_by_daemon(&self) -> bool {
        self.is_ended_by_daemon.load(Ordering::Relaxed)
    }

    /// Whether the end of the daemon cancelled it, and it can run again.
    pub(super) fn was_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
    }

    /// A receiver that becomes true when the submission is cancelled.
    pub(super) fn cancelled(&self) -> watch::Receiver<bool> {
        self.cancel.subscribe()
    }

    /// When the report became available.
    pub fn done_at(&self) -> Option<Instant> {
        self.done_at.get().copied()
    }

    pub(super) fn set_phase(&self, phase: SubmissionPhase) {
        if matches!(phase, SubmissionPhase::Done(_)) {
            let _ = self.done_at.set(Instant::now());
        }
        self.phase.send_replace(phase);
    }

    /// Waits for the report. Cancel-safe.
    ///
    /// # Errors
    /// The submission is kept for the next daemon, which will answer it.
    pub async fn report(&self) -> Result<ReportText, KeptForNextDaemon> {
        let mut phases = self.phase.subscribe();
        loop {
            match &*phases.borrow_and_update() {
                SubmissionPhase::Done(report) => return Ok(report.clone()),
                SubmissionPhase::Kept => return Err(KeptForNextDaemon),
                _ => {}
            }
            if phases.changed().await.is_err() {
                // self owns the sender, so this cannot happen while self is borrowed
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A call that waits for a submission's report.
#[derive(Debug)]
pub struct WaitingCall(Arc<SubmissionHandle>);

impl Drop for WaitingCall {
    fn drop(&mut self) {
        let is_last = self.0.waiting.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && !self.0.outlives_caller() {
            self.0.cancel();
        }
    }
}

/// The result of looking up an id for a new submission.
pub(super) enum IdClaim {
    /// The id is free.
    New,
    /// The id belongs to a submission with the same content.
    Known(Arc<SubmissionHandle>),
    /// The id belongs to a submission with other content.
    Conflict,
}

/// The answered submissions of one account.
#[derive(Debug, Default)]
struct Answered {
    /// In order of their answers. Removed ones are skipped when they come up.
    queue: VecDeque<(Instant, Weak<SubmissionHandle>)>,
    /// How many of `queue` are still in `RegistryState::by_id`.
    count: usize,
    /// The size of their reports.
    bytes: usize,
}

impl Answered {
    /// Whether the oldest one has been removed, or has to go.
    fn is_oldest_due(&self, now: Instant) -> bool {
        let Some((at, oldest)) = self.queue.front() else { return false };
        let is_over = self.bytes > bounds::MAX_KEPT_REPORT_BYTES_PER_UID && self.count > 1;
        is_over || now.duration_since(*at) > bounds::REPORT_TTL || oldest.strong_count() == 0
    }
}

#[derive(Debug, Default)]
struct RegistryState {
    /// By id. Several callers may use the same id.
    by_id: HashMap<String, Vec<Arc<SubmissionHandle>>>,
    /// The answered ones of each account.
    answered: HashMap<Account, Answered>,
    /// How many of the answered ones are still in `by_id`.
    retained: usize,
}

/// All submissions that can be looked up.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<RegistryState>,
}

impl RegistryState {
    fn with_id(&self, id: &str) -> &[Arc<SubmissionHandle>] {
        self.by_id.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    fn remove(&mut self, handle: &Arc<SubmissionHandle>) {
        let Some(with_id) = self.by_id.get_mut(&handle.id) else { return };
        // the id may belong to a newer submission by now
        let Some(at) = with_id.iter().position(|known| Arc::ptr_eq(known, handle)) else { return };
        with_id.swap_remove(at);
        if with_id.is_empty() {
            self.by_id.remove(&handle.id);
        }
        let Some(bytes) = handle.retained_bytes.get() else { return };
        self.retained -= 1;
        if let Some(answered) = self.answered.get_mut(&handle.caller.account()) {
            answered.count -= 1;
            answered.bytes -= bytes;
        }
    }

    fn remove_oldest(&mut self, account: &Account) {
        let Some(answered) = self.answered.get_mut(account) else { return };
        let oldest = answered.queue.pop_front();
        if let Some(oldest) = oldest.and_then(|(_, handle)| handle.upgrade()) {
            self.remove(&oldest);
        }
        self.answered.retain(|_, answered| !answered.queue.is_empty());
    }

    /// The account whose oldest answered submission is the next to be removed, if one has to go. Of
    /// too many, those of the account that has the most.
    fn due(&self, now: Instant) -> Option<Account> {
        let due = self.answered.iter().find(|(_, answered)| answered.is_oldest_due(now));
        let most = || self.answered.iter().max_by_key(|(_, answered)| answered.count);
        due.or_else(|| (self.retained > bounds::MAX_KEPT_REPORTS).then(most).flatten())
            .map(|(account, _)| account.clone())
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        self.state.lock()
    }

    pub(super) fn claim(&self, caller: &Caller, id: &str, digest: &[u8; 32]) -> IdClaim {
        match self.lock().with_id(id).iter().find(|handle| handle.caller == *caller) {
            None => IdClaim::New,
            Some(handle) if handle.digest == *digest => IdClaim::Known(handle.clone()),
            Some(_) => IdClaim::Conflict,
        }
    }

    pub(super) fn add(&self, handle: Arc<SubmissionHandle>) {
        self.lock().by_id.entry(handle.id.clone()).or_default().push(handle);
    }

    /// Records that a submission was answered `age` ago, with a report of this size. Removes
    /// answered submissions beyond the bounds, oldest first.
    pub(super) fn record_answer(&self, handle: &Arc<SubmissionHandle>, age: Duration, report_bytes: usize) {
        let now = Instant::now();
        let mut state = self.lock();
        if handle.retained_bytes.set(report_bytes).is_err() {
            return;
        }
        state.retained += 1;
        let answered = state.answered.entry(handle.caller.account()).or_default();
        answered.count += 1;
        answered.bytes += report_bytes;
        answered.queue.push_back((now.checked_sub(age).unwrap_or(now), Arc::downgrade(handle)));
        while let Some(account) = state.due(now) {
            state.remove_oldest(&account);
        }
    }

    /// The submission with this id that the viewer sees; of this tenant, or the first of any.
    pub(super) fn find(&self, viewer: &Viewer, id: &str, tenant: Option<&str>) -> Option<Arc<SubmissionHandle>> {
        let is_meant = |handle: &&Arc<SubmissionHandle>| {
            viewer.sees(handle) && tenant.is_none_or(|own| handle.caller.tenant == own)
        };
        self.lock().with_id(id).iter().find(is_meant).cloned()
    }

    pub(super) fn remove(&self, handle: &Arc<SubmissionHandle>) {
        self.lock().remove(handle);
    }

    /// Removes the answered submissions of a tenant, of one principal or of all.
    pub(super) fn remove_answered(&self, tenant: &str, principal: Option<&Principal>) {
        let mut state = self.lock();
        let is_meant = |handle: &&Arc<SubmissionHandle>| {
            let Caller { principal: of, tenant: whose } = &handle.caller;
            whose == tenant
                && principal.is_none_or(|principal| principal == of)
                && handle.retained_bytes.get().is_some()
        };
        let all: Vec<Arc<SubmissionHandle>> = state.by_id.values().flatten().filter(is_meant).cloned().collect();
        all.iter().for_each(|handle| state.remove(handle));
    }

    pub(super) fn list(&self, viewer: &Viewer) -> Vec<Arc<SubmissionHandle>> {
        self.lock().by_id.values().flatten().filter(|handle| viewer.sees(handle)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(uid: u32, id: usize) -> Arc<SubmissionHandle> {
        let io = SubmissionIo { log: EventLog::new(false), input: None };
        Arc::new(SubmissionHandle::new(id.to_string(), Caller::of_uid(uid, ""), [0; 32], false, io))
    }

    fn answer(registry: &Registry, handle: &Arc<SubmissionHandle>, report_bytes: usize) {
        registry.add(handle.clone());
        registry.record_answer(handle, Duration::ZERO, report_bytes);
    }

    fn find(registry: &Registry, viewer: &Viewer, id: &str) -> Option<Arc<SubmissionHandle>> {
        registry.find(viewer, id, None)
    }

    fn of_uid(uid: u32) -> Viewer {
        Viewer::Principal(Principal::Uid(uid))
    }

    fn count(registry: &Registry, uid: u32) -> usize {
        registry.list(&of_uid(uid)).len()
    }

    #[test]
    fn answered_submissions_are_bounded_and_waiting_ones_are_not() {
        let registry = Registry::default();
        registry.add(handle(1, 0));
        for id in 1..=bounds::MAX_KEPT_REPORTS + 10 {
            answer(&registry, &handle(1, id), 1000);
        }
        assert_eq!(count(&registry, 1), bounds::MAX_KEPT_REPORTS + 1);
        assert!(find(&registry, &of_uid(1), "0").is_some() && find(&registry, &of_uid(1), "10").is_none());
        assert!(find(&registry, &of_uid(1), "11").is_some());
    }

    #[test]
    fn large_reports_are_bounded_for_each_account_and_cost_no_other_one_its_own() {
        let registry = Registry::default();
        answer(&registry, &handle(2, 0), bounds::MAX_REPORT_BYTES);
        let large = bounds::MAX_REPORT_BYTES;
        for id in 0..1000 {
            answer(&registry, &handle(1, id), large);
        }
        assert_eq!(count(&registry, 1), bounds::MAX_KEPT_REPORT_BYTES_PER_UID / large);
        assert!(find(&registry, &of_uid(1), "999").is_some());
        assert_eq!(count(&registry, 2), 1);
        // the newest stays, whatever its size
        answer(&registry, &handle(3, 0), bounds::MAX_KEPT_REPORT_BYTES_PER_UID + 1);
        assert_eq!(count(&registry, 3), 1);
    }

    #[test]
    fn of_too_many_reports_the_account_with_the_most_loses_its_oldest() {
        let registry = Registry::default();
        answer(&registry, &handle(2, 0), 1000);
        for id in 1..=bounds::MAX_KEPT_REPORTS {
            answer(&registry, &handle(1, id), 1000);
        }
        assert_eq!((count(&registry, 1), count(&registry, 2)), (bounds::MAX_KEPT_REPORTS - 1, 1));
        assert!(find(&registry, &of_uid(1), "1").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_submission_with_a_time_of_its_own_is_cancelled_after_it() {
        let handle = handle(1, 0);
        handle.cancel_after(Duration::from_secs(60));
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(!*handle.cancelled().borrow());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(*handle.cancelled().borrow());
    }

    #[test]
    fn the_end_of_the_daemon_is_told_from_a_cancel_of_the_caller() {
        let (ended, cancelled) = (handle(1, 0), handle(1, 1));
        ended.interrupt();
        cancelled.cancel();
        cancelled.interrupt();
        assert!(ended.is_ended_by_daemon() && !cancelled.is_ended_by_daemon());
        assert!(!ended.was_interrupted(), "its caller waits, so it does not run again");
    }

    #[test]
    fn an_id_of_several_tenants_is_found_by_its_tenant() {
        let registry = Registry::default();
        let of = |uid, tenant: &str| {
            let io = SubmissionIo { log: EventLog::new(false), input: None };
            let caller = Caller::of_uid(uid, tenant);
            let handle = Arc::new(SubmissionHandle::new("job".to_owned(), caller, [0; 32], true, io));
            registry.add(handle.clone());
            handle
        };
        let (a, b, other) = (of(1, "a"), of(1, "b"), of(2, "a"));
        let found = |viewer: &Viewer, tenant| registry.find(viewer, "job", tenant).map(|found| Arc::as_ptr(&found));
        assert_eq!(found(&of_uid(1), None), Some(Arc::as_ptr(&a)));
        assert_eq!(found(&of_uid(1), Some("a")), Some(Arc::as_ptr(&a)));
        assert_eq!(found(&of_uid(1), Some("b")), Some(Arc::as_ptr(&b)));
        assert_eq!(found(&of_uid(1), Some("")), None);
        assert_eq!(found(&of_uid(2), None), Some(Arc::as_ptr(&other)));
        registry.remove(&a);
        assert_eq!(found(&of_uid(1), None), Some(Arc::as_ptr(&b)));
    }

    #[test]
    fn a_submission_is_cancelled_with_its_last_waiting_call_unless_it_was_submitted() {
        let is_cancelled = |handle: &SubmissionHandle| *handle.cancelled().borrow();
        let run = handle(1, 0);
        let (one, two) = (run.count_waiting(), run.count_waiting());
        drop(one);
        assert!(!is_cancelled(&run));
        drop(two);
        assert!(is_cancelled(&run));
        let submitted = handle(1, 1);
        let waiting = submitted.count_waiting();
        submitted.set_outlives_caller();
        drop(waiting);
        assert!(!is_cancelled(&submitted));
    }

    #[test]
    fn removed_submissions_do_not_count_towards_the_bound() {
        let registry = Registry::default();
        answer(&registry, &handle(1, 0), 1000);
        for id in 1..=bounds::MAX_KEPT_REPORTS * 2 {
            let handle = handle(1, id);
            answer(&registry, &handle, bounds::MAX_REPORT_BYTES);
            registry.remove(&handle);
        }
        assert!(find(&registry, &of_uid(1), "0").is_some());
        let state = registry.lock();
        assert_eq!((state.by_id.len(), state.retained, state.answered[&Account::Uid(1)].bytes), (1, 1, 1000));
    }
}
