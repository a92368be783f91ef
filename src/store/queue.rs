//! The changes that wait for the writer. Bounded in number and bytes; changes that may be dropped
//! take at most half, so a flood of history keeps no submission out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::change::{Change, Need, QueuedChange, Receipt, WaitingChange};
use crate::error::Error;
use crate::task::UpkeepTask;
use parking_lot::{Condvar, Mutex};

/// Changes that wait at most: 64 callers with 64 calls each.
pub(crate) const MAX_WAITING: usize = 4096;

/// Bytes that wait at most: 32 requests of the largest line.
pub(crate) const MAX_WAITING_BYTES: usize = 256 * 1024 * 1024;

/// Changes and bytes of one transaction: what is committed with it waits for all of it.
pub(crate) const MAX_GROUP: usize = 1024;
pub(crate) const MAX_GROUP_BYTES: usize = 32 * 1024 * 1024;

/// How long history waits for more of it, or for a submission to be committed with.
pub(crate) const LINGER: Duration = Duration::from_millis(200);

/// Upkeep that operators may have waiting.
const MAX_TASKS: usize = 16;

#[derive(Default)]
struct WaitingChanges {
    changes: VecDeque<Box<dyn WaitingChange>>,
    bytes: usize,
    /// Changes of `changes` that cannot wait.
    urgent: usize,
    /// When the oldest one that can wait arrived.
    lingering: Option<Instant>,
    tasks: VecDeque<UpkeepTask>,
    /// There is something to do besides changes and tasks.
    is_woken: bool,
    closed: bool,
    dropped: u64,
}

/// What the writer gets.
pub(crate) struct Taken {
    pub(crate) group: Vec<Box<dyn WaitingChange>>,
    pub(crate) task: Option<UpkeepTask>,
    /// There is something else to look at.
    pub(crate) is_woken: bool,
    /// Nothing waits, and nothing will.
    pub(crate) is_over: bool,
}

/// The queue between callers and the writer.
#[derive(Default)]
pub(crate) struct ChangeQueue {
    state: Mutex<WaitingChanges>,
    changed: Condvar,
}

impl ChangeQueue {
    /// Queues a change and returns the receipt for it.
    pub(crate) fn push<C: Change>(&self, change: C) -> Receipt<C::Output> {
        let (sender, receipt) = Receipt::new();
        let pair = Box::new(QueuedChange::new(change, Some(sender)));
        if let Err((pair, error)) = self.put(pair) {
            pair.finish(Err(error));
        }
        receipt
    }

    /// Queues a change that no call waits for. It is dropped and counted if the queue is full.
    pub(crate) fn offer<C: Change>(&self, change: C) -> bool {
        let pair = Box::new(QueuedChange::new(change, None));
        match self.put(pair) {
            Ok(()) => true,
            Err((pair, error)) => {
                pair.finish(Err(error));
                self.state.lock().dropped += 1;
                false
            }
        }
    }

    fn put(&self, change: Box<dyn WaitingChange>) -> Result<(), (Box<dyn WaitingChange>, Error)> {
        let mut state = self.state.lock();
        let (count, bytes) = (state.changes.len(), state.bytes + change.bytes());
        let share = if change.need() == Need::Later { 2 } else { 1 };
        if state.closed {
            return Err((change, Error::Closed));
        }
        // the first one fits, whatever its size
        if count >= MAX_WAITING / share || (count > 0 && bytes > MAX_WAITING_BYTES / share) {
            return Err((change, Error::Busy { waiting: count }));
        }
        state.bytes = bytes;
        // the writer already waits for the end of the linger, and a caller's answer is on its way
        let is_awaited = change.need() != Need::Later || state.lingering.is_none();
        match change.need() {
            Need::Later => drop(state.lingering.get_or_insert_with(Instant::now)),
            _ => state.urgent += 1,
        }
        state.changes.push_back(change);
        drop(state);
        if is_awaited {
            self.changed.notify_one();
        }
        Ok(())
    }

    pub(crate) fn push_task(&self, task: UpkeepTask) -> Result<(), (Error, UpkeepTask)> {
        let mut state = self.state.lock();
        if state.closed {
            return Err((Error::Closed, task));
        }
        if state.tasks.len() >= MAX_TASKS {
            return Err((Error::Busy { waiting: state.tasks.len() }, task));
        }
        state.tasks.push_back(task);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Wakes the writer without a change.
    pub(crate) fn wake(&self) {
        self.state.lock().is_woken = true;
        self.changed.notify_one();
    }

    /// What waits, in the order of arrival and within the bounds of a group. Waits until something
    /// has to be done, `patience` at most.
    pub(crate) fn take(&self, patience: Duration) -> Taken {
        let mut state = self.state.lock();
        let until = Instant::now() + patience;
        loop {
            let linger = state.lingering.map(|since| since + LINGER);
            let now = Instant::now();
            let is_due = state.urgent > 0
                || state.closed
                || state.is_woken
                || !state.tasks.is_empty()
                || linger.is_some_and(|linger| linger <= now)
                || until <= now;
            if is_due {
                break;
            }
            let wake_at = linger.map_or(until, |linger| linger.min(until));
            if self.changed.wait_until(&mut state, wake_at).timed_out() && wake_at == until {
                break;
            }
        }
        let is_woken = std::mem::take(&mut state.is_woken);
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(change) = state.changes.pop_front() {
            state.bytes -= change.bytes();
            bytes += change.bytes();
            if change.need() != Need::Later {
                state.urgent -= 1;
            }
            group.push(change);
            let next = state.changes.front().map_or(0, |next| next.bytes());
            if group.len() == MAX_GROUP || bytes + next > MAX_GROUP_BYTES {
                break;
            }
        }
        let rest_lingers = state.changes.iter().any(|change| change.need() == Need::Later);
        state.lingering = state.lingering.filter(|_| rest_lingers);
        let task = state.tasks.pop_front();
        let is_over = state.closed && group.is_empty() && task.is_none();
        Taken { group, task, is_woken, is_over }
    }

    /// Nothing is queued any more; what waits is still taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Drops what waits without a trace, as the end of the process does.
    #[cfg(test)]
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.changes.drain(..).for_each(WaitingChange::abandon);
        state.tasks.clear();
    }

    /// Changes that wait, and how many were dropped.
    pub(crate) fn figures(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.changes.len(), state.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fetched, Intake, RecordOwner, StagedOutputs, Start};

    #[test]
    fn a_flood_of_history_keeps_no_submission_out_and_all_is_bounded() {
        let queue = ChangeQueue::default();
        let history = (0..MAX_WAITING).take_while(|_| queue.offer(Fetched { history: 1 })).count();
        assert_eq!((history, queue.figures()), (MAX_WAITING / 2, (MAX_WAITING / 2, 1)));
        let receipts: Vec<_> = (0..MAX_WAITING / 2).map(|_| queue.push(Start { key: 1 })).collect();
        assert!(matches!(queue.push(Start { key: 1 }).wait(), Err(Error::Busy { waiting: MAX_WAITING })));
        let taken = queue.take(Duration::ZERO);
        assert_eq!((taken.group.len(), taken.is_over), (MAX_GROUP, false));
        queue.close();
        assert!(matches!(queue.push(Start { key: 1 }).wait(), Err(Error::Closed)));
        let rest: usize = std::iter::from_fn(|| Some(queue.take(Duration::ZERO)))
            .take_while(|taken| !taken.is_over)
            .map(|taken| taken.group.len())
            .sum();
        assert_eq!(rest + MAX_GROUP, MAX_WAITING, "what was queued is taken after the end");
        drop(receipts);
    }

    #[test]
    fn a_writer_that_is_woken_has_something_to_look_at() {
        let queue = ChangeQueue::default();
        queue.wake();
        let forever = Duration::from_secs(1 << 30);
        assert!(queue.take(forever).is_woken && !queue.take(Duration::ZERO).is_woken);
    }

    #[test]
    fn a_group_and_the_queue_are_bounded_in_bytes() {
        let queue = ChangeQueue::default();
        let large = || Intake {
            owner: RecordOwner::default(),
            id: String::new(),
            digest: [0; 32],
            language: String::new(),
            request: vec![0; MAX_GROUP_BYTES / 2],
            inputs: StagedOutputs::default(),
        };
        let receipts: Vec<_> = (0..MAX_WAITING_BYTES / (MAX_GROUP_BYTES / 2)).map(|_| queue.push(large())).collect();
        let count = queue.figures().0;
        assert_eq!(count, receipts.len() - 1, "the last one would be over the bound");
        assert_eq!(queue.take(Duration::ZERO).group.len(), 1);
        assert_eq!(queue.figures().0, count - 1);
    }
}
