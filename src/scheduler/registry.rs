//! All submissions that can be looked up, by id and caller. Answered ones are bounded in number and
//! time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::phase::SubmissionPhase;
use config::bounds;
use judge::events::EventLog;
use judge::pipe::Pipe;
use protocol::Caller;
use protocol::Report;

/// The daemon is shutting down, and the submission is kept for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptForNextDaemon;

/// Who looks at submissions, and so which ones are visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// An administrator sees all submissions.
    Admin,
    /// A uid sees its own submissions, of any tenant: ids are given to their owner only.
    Uid(u32),
}

impl Viewer {
    fn sees(self, handle: &SubmissionHandle) -> bool {
        match self {
            Viewer::Admin => true,
            Viewer::Uid(uid) => handle.caller.uid == uid,
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
    /// The uid and tenant that submitted it.
    pub caller: Caller,
    /// A digest of the content, to detect another submission with the same id.
    pub(super) digest: [u8; 32],
    /// Whether it continues when its caller disconnects, and is kept when a drain ends.
    pub(super) outlives_caller: bool,
    /// Its event log and open input.
    pub io: SubmissionIo,
    phase: watch::Sender<SubmissionPhase>,
    cancel: watch::Sender<bool>,
    /// Cancelled by the end of a drain, and can run again.
    is_interrupted: AtomicBool,
    /// Counted in `RegistryState::retained`.
    is_retained: AtomicBool,
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
            outlives_caller,
            io,
            phase: watch::Sender::new(SubmissionPhase::Queued),
            cancel: watch::Sender::new(false),
            is_interrupted: AtomicBool::new(false),
            is_retained: AtomicBool::new(false),
            done_at: OnceLock::new(),
        }
    }

    /// The current phase.
    pub fn phase(&self) -> SubmissionPhase {
        self.phase.borrow().clone()
    }

    /// Cancels the submission. Idempotent; has no effect on an answered one.
    pub fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// Cancels the submission because the daemon ends. It can run again if it outlives its caller
    /// and its input was not left open.
    pub(super) fn interrupt(&self) {
        if !*self.cancel.borrow() && self.outlives_caller && self.io.input.is_none() {
            self.is_interrupted.store(true, Ordering::Relaxed);
        }
        self.cancel();
    }

    /// Whether the end of the daemon cancelled it, and not its caller before.
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
    pub async fn report(&self) -> Result<Arc<Report>, KeptForNextDaemon> {
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

/// The result of looking up an id for a new submission.
pub(super) enum IdClaim {
    /// The id is free.
    New,
    /// The id belongs to a submission with the same content.
    Known(Arc<SubmissionHandle>),
    /// The id belongs to a submission with other content.
    Conflict,
}

#[derive(Debug, Default)]
struct RegistryState {
    /// By id. Several callers may use the same id.
    by_id: HashMap<String, Vec<Arc<SubmissionHandle>>>,
    /// Answered submissions in order of their answers. Removed ones are skipped when they come up.
    answered: VecDeque<(Instant, Weak<SubmissionHandle>)>,
    /// How many of `answered` are still in `by_id`.
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
        self.retained -= usize::from(handle.is_retained.load(Ordering::Relaxed));
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

    /// Records that a submission was answered `age` ago. Removes answered submissions beyond
    /// `MAX_KEPT_REPORTS` or older than `REPORT_TTL`, oldest first.
    pub(super) fn record_answer(&self, handle: &Arc<SubmissionHandle>, age: Duration) {
        let now = Instant::now();
        let mut state = self.lock();
        handle.is_retained.store(true, Ordering::Relaxed);
        state.retained += 1;
        state.answered.push_back((now.checked_sub(age).unwrap_or(now), Arc::downgrade(handle)));
        while let Some((at, oldest)) = state.answered.front() {
            let oldest = oldest.upgrade();
            let stays = state.retained <= bounds::MAX_KEPT_REPORTS && now.duration_since(*at) <= bounds::REPORT_TTL;
            if stays && oldest.is_some() {
                return;
            }
            state.answered.pop_front();
            if let Some(oldest) = oldest {
                state.remove(&oldest);
            }
        }
    }

    /// Answered submissions, newest first, each with the time since its answer.
    pub(super) fn answered(&self) -> Vec<(Arc<SubmissionHandle>, Duration)> {
        let state = self.lock();
        let is_retained =
            |handle: &Arc<SubmissionHandle>| state.with_id(&handle.id).iter().any(|known| Arc::ptr_eq(known, handle));
        let all = state.answered.iter().rev().filter_map(|(at, handle)| Some((handle.upgrade()?, at.elapsed())));
        all.filter(|(handle, _)| is_retained(handle)).collect()
    }

    pub(super) fn find(&self, viewer: Viewer, id: &str) -> Option<Arc<SubmissionHandle>> {
        self.lock().with_id(id).iter().find(|handle| viewer.sees(handle)).cloned()
    }

    pub(super) fn remove(&self, handle: &Arc<SubmissionHandle>) {
        self.lock().remove(handle);
    }

    pub(super) fn list(&self, viewer: Viewer) -> Vec<Arc<SubmissionHandle>> {
        self.lock().by_id.values().flatten().filter(|handle| viewer.sees(handle)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(id: usize) -> Arc<SubmissionHandle> {
        let io = SubmissionIo { log: EventLog::new(false), input: None };
        Arc::new(SubmissionHandle::new(id.to_string(), Caller { uid: 1, tenant: String::new() }, [0; 32], false, io))
    }

    #[test]
    fn answered_submissions_are_bounded_and_waiting_ones_are_not() {
        let registry = Registry::default();
        registry.add(handle(0));
        for id in 1..=bounds::MAX_KEPT_REPORTS + 10 {
            let handle = handle(id);
            registry.add(handle.clone());
            registry.record_answer(&handle, Duration::ZERO);
        }
        assert_eq!(registry.list(Viewer::Uid(1)).len(), bounds::MAX_KEPT_REPORTS + 1);
        assert!(registry.find(Viewer::Uid(1), "0").is_some() && registry.find(Viewer::Uid(1), "10").is_none());
        assert!(registry.find(Viewer::Uid(1), "11").is_some());
    }

    #[test]
    fn removed_submissions_do_not_count_towards_the_bound() {
        let registry = Registry::default();
        let retained = handle(0);
        registry.add(retained.clone());
        registry.record_answer(&retained, Duration::ZERO);
        for id in 1..=bounds::MAX_KEPT_REPORTS * 2 {
            let handle = handle(id);
            registry.add(handle.clone());
            registry.record_answer(&handle, Duration::ZERO);
            registry.remove(&handle);
        }
        assert!(registry.find(Viewer::Uid(1), "0").is_some());
        let state = registry.lock();
        assert_eq!((state.by_id.len(), state.retained), (1, 1));
    }
}
