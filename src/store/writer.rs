//! The writer's thread: the one connection that writes.
//!
//! ```text
//!  take a group --> BEGIN, apply each, COMMIT --ok--> answer each
//!       ^                     | failed
//!       |                     |-- damaged: set the file aside, then each alone
//!       |                     |-- fsync failed: open the file again, then each alone
//!       |                     |-- no room, a constraint: each alone, each with its own answer
//!       |                     '-- otherwise: all are told
//!       '-- one step of upkeep: a task of an operator, retention, pages given back
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use crate::change::{Need, Rows, WaitingChange};
use crate::clock::{StoreClock, millis};
use crate::database::{self, Unusable};
use crate::error::{Error, is_damage, is_lost_sync};
use crate::history;
use crate::output::OutputFolder;
use crate::queue::{ChangeQueue, Taken};
use crate::read::Readers;
use crate::retention;
use crate::set_aside;
use crate::settings::Retention;
use crate::status::Status;
use crate::task::{Forget, UpkeepTask};
use crate::upkeep;

/// What intake leaves free on the disk: reports of what was acknowledged need room. Eight of the
/// largest.
pub(crate) const RESERVE: u64 = 64 * 1024 * 1024;

/// How long the writer sleeps when nothing changes.
const IDLE: Duration = Duration::from_secs(30);

/// How often retention looks while there are changes, and how often a failed file is tried.
const LOOK: Duration = Duration::from_secs(1);

/// Where a test may end the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    Taken,
    Applied,
    Committed,
    Answered,
}

/// Decides whether the process ends at a point.
pub(crate) type CrashHook = Arc<dyn Fn(CrashPoint) -> bool + Send + Sync>;

pub(crate) struct Writer {
    pub(crate) file: PathBuf,
    pub(crate) outputs: OutputFolder,
    pub(crate) queue: Arc<ChangeQueue>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) status: Arc<Status>,
    pub(crate) clock: StoreClock,
    pub(crate) reserve: u64,
    pub(crate) crash: Option<CrashHook>,
    /// `None` while the file cannot be opened.
    pub(crate) connection: Option<Connection>,
    /// The connection's `synchronous` is FULL.
    pub(crate) is_synced: bool,
    /// Outputs that no row names in a commit that is not on the disk yet.
    pub(crate) removed: Vec<String>,
    /// The log may have requests that are removed from the file.
    pub(crate) is_log_due: bool,
}

/// The process ends here, in a test.
struct Crashed;

impl Writer {
    pub(crate) fn run(mut self) {
        let mut task: Option<UpkeepTask> = None;
        let mut looked = Instant::now();
        let (mut has_more, mut has_changed) = (true, true);
        loop {
            let patience = match (has_more || task.is_some(), has_changed) {
                (true, _) => Duration::ZERO,
                (false, _) if self.connection.is_none() => LOOK,
                (false, true) => LOOK,
                (false, false) if self.is_log_due => LOOK,
                (false, false) => IDLE,
            };
            let Taken { group, task: new_task, is_woken, is_over } = self.queue.take(patience);
            has_changed |= is_woken;
            if is_over && task.is_none() {
                break;
            }
            if self.commit_group(group, &mut has_changed).is_err() {
                self.end_like_a_crash();
                return;
            }
            self.look_after_file();
            task = task.or(new_task).and_then(|task| self.step_task(task));
            let is_due = has_changed || self.is_log_due;
            if has_more || (is_due && looked.elapsed() >= LOOK) || looked.elapsed() >= IDLE {
                looked = Instant::now();
                has_more = self.step_retention();
                has_changed = false;
                if !has_more {
                    self.empty_log();
                }
            }
        }
    }

    fn crashes(&self, at: CrashPoint) -> Result<(), Crashed> {
        match &self.crash {
            Some(crash) if crash(at) => Err(Crashed),
            _ => Ok(()),
        }
    }

    /// Leaves the files as the end of the process would.
    fn end_like_a_crash(self) {
        #[cfg(test)]
        self.queue.abandon();
        if let Some(connection) = self.connection {
            let keep_log = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let _ = connection.set_db_config(keep_log, true);
        }
    }

    fn commit_group(&mut self, mut group: Vec<Box<dyn WaitingChange>>, has_changed: &mut bool) -> Result<(), Crashed> {
        if group.is_empty() {
            return Ok(());
        }
        *has_changed = true;
        let began = Instant::now();
        self.refuse_without_room(&mut group);
        if group.is_empty() {
            return Ok(());
        }
        if let Err(Crashed) = self.crashes(CrashPoint::Taken) {
            return abandon(group);
        }
        let result = self.transaction(&mut group);
        if let Err(Failed::Crashed) = result {
            return abandon(group);
        }
        let result = result.map_err(Failed::into_error);
        match result {
            Err(error) if self.recover(&error) || (group.len() > 1 && is_of_one_change(&error)) => {
                for mut change in group {
                    if !is_of_one_change(&error) {
                        change.unknown();
                    }
                    let mut alone = vec![change];
                    let result = self.transaction(&mut alone);
                    if let Err(Failed::Crashed) = result {
                        return abandon(alone);
                    }
                    self.answer(alone, result.map_err(Failed::into_error));
                }
            }
            result => {
                if result.is_ok()
                    && let Err(Crashed) = self.crashes(CrashPoint::Committed)
                {
                    return abandon(group);
                }
                self.status.committed(group.len(), began.elapsed());
                self.answer(group, result);
            }
        }
        self.crashes(CrashPoint::Answered)
    }

    fn answer(&mut self, group: Vec<Box<dyn WaitingChange>>, result: Result<(), rusqlite::Error>) {
        let result = result.map_err(Error::from);
        self.status.set_fault(result.as_ref().err());
        for change in group {
            change.finish(result.clone());
        }
    }

    /// Answers what would use the room that reports need.
    fn refuse_without_room(&self, group: &mut Vec<Box<dyn WaitingChange>>) {
        if !group.iter().any(|change| change.spares_reserve()) {
            return;
        }
        let Ok(disk) = nix::sys::statvfs::statvfs(self.outputs.path()) else { return };
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        let is_full = free < self.reserve;
        self.status.set_full(is_full);
        if is_full {
            let (refused, rest): (Vec<_>, Vec<_>) = group.drain(..).partition(|change| change.spares_reserve());
            *group = rest;
            refused.into_iter().for_each(|change| change.finish(Err(Error::Full)));
        }
    }

    /// Applies and commits; all or nothing.
    fn transaction(&mut self, group: &mut [Box<dyn WaitingChange>]) -> Result<(), Failed> {
        let is_synced = group.iter().any(|change| change.need() == Need::Synced);
        let crash = self.crash.clone();
        self.write(is_synced, |rows| {
            for change in group.iter_mut() {
                change.apply(rows)?;
            }
            match crash {
                Some(crash) if crash(CrashPoint::Applied) => Err(Failed::Crashed),
                _ => Ok(()),
            }
        })
    }

    /// One transaction. Output files that it no longer names are removed when it is on the disk.
    fn write<T>(
        &mut self,
        is_synced: bool,
        change: impl FnOnce(&mut Rows<'_>) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let Some(connection) = &mut self.connection else { return Err(Failed::Sqlite(no_connection())) };
        if self.is_synced != is_synced {
            connection.pragma_update(None, "synchronous", if is_synced { "FULL" } else { "NORMAL" })?;
            self.is_synced = is_synced;
        }
        let retention = self.status.retention();
        let now = self.clock.now();
        let mut removed = Vec::new();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut rows = Rows { connection: &transaction, now, retention: &retention, removed: &mut removed, added: 0 };
        let done = change(&mut rows)?;
        let added = rows.added;
        let mut clock = transaction.prepare_cached(
            "INSERT INTO meta (name, value) VALUES ('clock', ?1)
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        )?;
        clock.execute([now.store_ms])?;
        drop(clock);
        transaction.commit()?;
        self.status.count_history(added);
        self.removed.append(&mut removed);
        self.is_log_due |= is_synced;
        if is_synced {
            self.outputs.remove(self.removed.drain(..));
        }
        Ok(done)
    }

    /// Does what helps against an error. Returns whether trying again is worth it.
    fn recover(&mut self, error: &rusqlite::Error) -> bool {
        if is_damage(error) {
            self.replace(error);
            return self.connection.is_some();
        }
        if is_lost_sync(error) {
            self.reopen();
            return self.connection.is_some();
        }
        false
    }

    /// A reader found damage, or the file could not be opened.
    fn look_after_file(&mut self) {
        let seen = self.status.take_damage();
        if self.connection.is_none() {
            self.reopen();
        } else if let Some(reason) = seen {
            self.replace(&reason);
        }
    }

    /// Sets a damaged file aside and goes on with a new one.
    fn replace(&mut self, reason: &rusqlite::Error) {
        self.connection = None;
        match set_aside::replace(&self.file, reason, self.clock.now()) {
            Ok(aside) => {
                aside.log();
                self.status.set_aside(aside);
                self.readers.renew();
                self.reopen();
            }
            Err(error) => tracing::error!(%error, "failed to replace the damaged store; it is tried again"),
        }
    }

    /// Opens the file again and checkpoints it: what the log has is written and fsynced anew.
    fn reopen(&mut self) {
        self.connection = None;
        self.readers.renew();
        match database::open(&self.file) {
            Ok(connection) => match upkeep::checkpoint(&connection).and_then(|()| history::count(&connection)) {
                Ok(count) => {
                    self.status.set_history(count);
                    self.is_synced = true;
                    self.connection = Some(connection);
                }
                Err(error) => tracing::error!(%error, "failed to checkpoint the store; it is tried again"),
            },
            Err(Unusable::Damaged(reason)) => match set_aside::replace(&self.file, &reason, self.clock.now()) {
                Ok(aside) => {
                    aside.log();
                    self.status.set_aside(aside);
                }
                Err(error) => tracing::error!(%error, "failed to replace the damaged store; it is tried again"),
            },
            Err(Unusable::Refused(error)) => tracing::error!(%error, "failed to open the store; it is tried again"),
        }
    }

    /// One step of a task; returns it if there is more to do.
    fn step_task(&mut self, task: UpkeepTask) -> Option<UpkeepTask> {
        match task {
            UpkeepTask::Forget { forget, removed, reply } => {
                match self.write(true, |rows| Ok(upkeep::forget_step(rows, &forget)?)) {
                    Ok(0) => {
                        let _ = reply.send(self.erase(&forget).map(|()| removed));
                        None
                    }
                    Ok(more) => Some(UpkeepTask::Forget { forget, removed: removed + more, reply }),
                    Err(failed) => {
                        let _ = reply.send(Err(failed.into_error().into()));
                        None
                    }
                }
            }
            UpkeepTask::Vacuum { reply } => {
                let _ = reply.send(self.vacuum());
                None
            }
        }
    }

    /// Removes what deleted rows left in pages, and in files that were set aside.
    fn erase(&mut self, forget: &Forget) -> Result<(), Error> {
        set_aside::remove_damaged(&self.file).map_err(Error::io("remove the damaged files"))?;
        self.vacuum()?;
        tracing::info!(principal = ?forget.principal, "everything of a tenant is removed from the store");
        Ok(())
    }

    /// Returns the size of the file afterwards.
    fn vacuum(&mut self) -> Result<u64, Error> {
        let Some(connection) = &self.connection else { return Err(no_connection().into()) };
        upkeep::vacuum(connection, self.file.parent().unwrap_or(&self.file))?;
        let metadata = std::fs::metadata(&self.file).map_err(Error::io("look at the store"))?;
        Ok(metadata.len())
    }

    /// Returns whether there is more to remove.
    fn step_retention(&mut self) -> bool {
        let Some(connection) = &self.connection else { return false };
        let is_due = match retention_is_due(connection, &self.clock, &self.status.retention()) {
            Ok(is_due) => is_due,
            Err(error) => return self.retention_failed(&error),
        };
        if !is_due && self.removed.is_empty() {
            return retention::shrink(connection).unwrap_or(false);
        }
        match self.write(true, |rows| Ok(retention::step(rows)?)) {
            Ok(has_more) => has_more,
            Err(failed) => self.retention_failed(&failed.into_error()),
        }
    }

    /// Removes from the log what was removed from the file. While a reader needs the log, it is
    /// tried again.
    fn empty_log(&mut self) {
        if let (true, Some(connection)) = (self.is_log_due, &self.connection) {
            self.is_log_due = !upkeep::try_checkpoint(connection).unwrap_or(false);
        }
    }

    fn retention_failed(&mut self, error: &rusqlite::Error) -> bool {
        tracing::warn!(%error, "failed to remove old history from the store; it is tried again");
        self.recover(error);
        false
    }
}

/// Whether a group may have failed by one of its changes. All were rolled back then.
fn is_of_one_change(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, DiskFull, OutOfMemory, TooBig};
    matches!(error.sqlite_error_code(), Some(ConstraintViolation | DiskFull | OutOfMemory | TooBig))
}

/// Whether a step would remove anything: it costs an fsync.
fn retention_is_due(connection: &Connection, clock: &StoreClock, retention: &Retention) -> rusqlite::Result<bool> {
    let now = clock.now();
    let oldest_ms = now.wall_ms.saturating_sub(millis(retention.keep));
    let due = "SELECT EXISTS (SELECT 1 FROM submission WHERE expires_ms <= ?1)
                   OR EXISTS (SELECT 1 FROM history WHERE answered_ms < ?2)";
    let is_due: bool = connection.prepare_cached(due)?.query_row([now.store_ms, oldest_ms], |row| row.get(0))?;
    Ok(is_due || retention::used_bytes(connection)? > i64::try_from(retention.max_bytes).unwrap_or(i64::MAX))
}

fn abandon(group: Vec<Box<dyn WaitingChange>>) -> Result<(), Crashed> {
    #[cfg(test)]
    group.into_iter().for_each(WaitingChange::abandon);
    #[cfg(not(test))]
    drop(group);
    Err(Crashed)
}

/// Why a transaction was not committed.
enum Failed {
    Sqlite(rusqlite::Error),
    Crashed,
}

impl Failed {
    fn into_error(self) -> rusqlite::Error {
        match self {
            Failed::Sqlite(error) => error,
            Failed::Crashed => no_connection(),
        }
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        Failed::Sqlite(error)
    }
}

fn no_connection() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    rusqlite::Error::SqliteFailure(code, Some("the file could not be opened again".to_owned()))
}
