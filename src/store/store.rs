//! The store as its users see it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::callback::{self, CallbackEnd, CallbackTry, DueCallback, WaitingReceiver};
use crate::change::Receipt;
use crate::clock::{StoreClock, SystemTimeSource, TimeSource};
use crate::database::{self, Unusable, sync_folder};
use crate::error::{Error, OpenError, is_damage};
use crate::filesystem::refuse_network;
use crate::history::{self, HistoryFilter, HistoryPage, HistoryRow, ListPosition, Tally};
use crate::intake::{Intake, IntakeResult, Requeue, Start};
use crate::output::{OutputFolder, StagedOutputs};
use crate::queue::ChangeQueue;
use crate::read::{self, Held, Known, Readers, StoredRequest};
use crate::record::{Barrier, Fetched, Finish, FinishResult, Record};
use crate::retention::used_bytes;
use crate::set_aside::{self, SetAside};
use crate::settings::Retention;
use crate::status::{Figures, Status};
use crate::task::{Forget, UpkeepTask};
use crate::token::{self, AddToken, AddTokenResult, RevokeResult, RevokeToken, StoredToken, UseTokens};
use crate::writer::{CrashHook, RESERVE, Writer};

/// The database's name in its folder.
const FILE: &str = "assay.db";

/// The folder of the copy that [`Store::backup_beside`] makes.
const BACKUP: &str = "backup";

/// What a check says at most.
const MAX_FINDINGS: usize = 100;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// What is kept.
    pub retention: Retention,
    /// Bytes that intake leaves free on the disk.
    pub reserve_bytes: u64,
    pub time: Arc<dyn TimeSource>,
}

impl Default for Options {
    fn default() -> Self {
        let time = Arc::new(SystemTimeSource::default());
        Options { retention: Retention::default(), reserve_bytes: RESERVE, time }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("retention", &self.retention).finish_non_exhaustive()
    }
}

/// An open store. Dropping it closes it.
pub struct Store {
    file: PathBuf,
    outputs: OutputFolder,
    queue: Arc<ChangeQueue>,
    readers: Arc<Readers>,
    status: Arc<Status>,
    clock: StoreClock,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held while a copy is written.
    backing_up: Mutex<()>,
    /// Held until the writer has ended.
    _lock: Flock<File>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store {
    /// Opens the store in a folder that exists, and creates it if there is none. Submissions that
    /// had a sandbox wait again. A damaged file is replaced ([`Store::figures`] names it). Blocks.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(folder: &Path, options: Options) -> Result<Store, OpenError> {
        Store::open_to_crash(folder, options, None)
    }

    /// The same; the hook says where a test ends the process.
    pub(crate) fn open_to_crash(folder: &Path, options: Options, crash: Option<CrashHook>) -> Result<Store, OpenError> {
        refuse_network(folder)?;
        let lock = lock(folder)?;
        let file = folder.join(FILE);
        let wall = StoreClock::new(options.time.clone(), i64::MIN);
        let status = Arc::new(Status::default());
        status.set_retention(options.retention);
        if let Some(aside) =
            set_aside::finish_interrupted(&file, wall.now()).map_err(OpenError::io("replace", &file))?
        {
            status.set_aside(SetAside { file: aside, reason: "found by the last daemon".to_owned(), salvaged: 0 });
        }
        let outputs = folder.join("assay-outputs");
        let outputs = OutputFolder::open(outputs.clone()).map_err(OpenError::io("create", &outputs))?;
        let failed = |source| OpenError::Sqlite { file: file.clone(), source };
        let mut connection = open_or_replace(&file, &wall, &status)?;
        let latest_ms = match begin(&connection, &outputs, &status) {
            Err(reason) if is_damage(&reason) => {
                drop(connection);
                connection = replace(&file, &reason, &wall, &status)?;
                begin(&connection, &outputs, &status)
            }
            begun => begun,
        };
        let latest_ms = latest_ms.map_err(failed)?;
        let clock = StoreClock::new(options.time, latest_ms);
        let queue = Arc::new(ChangeQueue::default());
        let readers = Arc::new(Readers::new(file.clone(), status.clone(), queue.clone()));
        let writer = Writer {
            file: file.clone(),
            outputs: outputs.clone(),
            queue: queue.clone(),
            readers: readers.clone(),
            status: status.clone(),
            clock: clock.clone(),
            reserve: options.reserve_bytes,
            crash,
            connection: Some(connection),
            is_synced: true,
            removed: Vec::new(),
            is_log_due: false,
        };
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        let writer = thread.spawn(move || writer.run()).map_err(OpenError::io("start the writer of", folder))?;
        Ok(Store {
            file,
            outputs,
            queue,
            readers,
            status,
            clock,
            writer: Mutex::new(Some(writer)),
            backing_up: Mutex::default(),
            _lock: lock,
        })
    }

    /// Writes what waits; changes after that are refused ([`Error::Closed`]). Blocks.
    pub fn close(&self) {
        self.queue.close();
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }

    /// Takes in a submission.
    pub fn intake(&self, intake: Intake) -> Receipt<IntakeResult> {
        self.queue.push(intake)
    }

    /// Notes that a submission starts.
    pub fn start(&self, start: Start) -> Receipt<u32> {
        self.queue.push(start)
    }

    /// Notes that a submission that started waits again.
    pub fn requeue(&self, requeue: Requeue) -> Receipt<()> {
        self.queue.push(requeue)
    }

    /// Stores the report of a submission that was taken in.
    pub fn finish(&self, finish: Finish) -> Receipt<FinishResult> {
        self.queue.push(finish)
    }

    /// Stores the report of another run, some time. Returns false, and counts it, if too much
    /// waits. Never blocks.
    pub fn record(&self, record: Record) -> bool {
        self.queue.offer(record)
    }

    /// Notes that a caller has a report. Never blocks.
    pub fn fetched(&self, fetched: Fetched) -> bool {
        self.queue.offer(fetched)
    }

    /// Adds a token.
    pub fn add_token(&self, token: AddToken) -> Receipt<AddTokenResult> {
        self.queue.push(token)
    }

    /// Ends a token.
    pub fn revoke_token(&self, token: RevokeToken) -> Receipt<RevokeResult> {
        self.queue.push(token)
    }

    /// Notes when tokens were used. Never blocks.
    pub fn use_tokens(&self, used: UseTokens) -> bool {
        self.queue.offer(used)
    }

    /// All tokens, by name; revoked ones too.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn tokens(&self) -> Result<Vec<StoredToken>, Error> {
        self.readers.read(token::all)
    }

    /// Notes that a callback was tried in vain.
    pub fn callback_tried(&self, tried: CallbackTry) -> Receipt<()> {
        self.queue.push(tried)
    }

    /// Notes that a callback is delivered, or given up.
    pub fn end_callback(&self, ended: CallbackEnd) -> Receipt<()> {
        self.queue.push(ended)
    }

    /// The receivers for which callbacks wait.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn waiting_receivers(&self) -> Result<Vec<WaitingReceiver>, Error> {
        self.readers.read(callback::receivers)
    }

    /// The callbacks to a receiver that are due, those that have waited longest first.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn due_callbacks(&self, receiver: &str, limit: usize) -> Result<Vec<DueCallback>, Error> {
        let now_ms = self.now_ms();
        self.readers.read(|connection| callback::due(connection, receiver, now_ms, limit))
    }

    /// Commits what was queued before, without fsync, so that reads find it.
    pub fn settle(&self) -> Receipt<()> {
        self.queue.push(Barrier)
    }

    /// Writes and syncs files, for a request or a report that refers to them by label. Blocks.
    ///
    /// # Errors
    /// The disk is full, or failed.
    pub fn stage(&self, contents: &[(String, impl AsRef<[u8]>)]) -> Result<StagedOutputs, Error> {
        self.outputs.stage(contents)
    }

    /// The content of a file of a request or a report. Blocks.
    ///
    /// # Errors
    /// It is not there (any more), or the disk failed.
    pub fn output(&self, name: &str) -> Result<Vec<u8>, Error> {
        self.outputs.read(name)
    }

    /// All submissions without a report, oldest first. Blocks, as all reads do.
    ///
    /// # Errors
    /// The file is damaged, or the disk failed; likewise for all reads.
    pub fn held(&self) -> Result<Vec<Held>, Error> {
        self.readers.read(read::held)
    }

    /// The request of a submission without a report.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn request(&self, key: i64) -> Result<Option<StoredRequest>, Error> {
        self.readers.read(|connection| read::request(connection, key))
    }

    /// The newest `limit` submissions whose id stands for a report.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn known(&self, limit: usize) -> Result<Vec<Known>, Error> {
        let now_ms = self.now_ms();
        self.readers.read(|connection| read::known(connection, now_ms, limit))
    }

    /// The time by which ids expire.
    pub fn now_ms(&self) -> i64 {
        self.clock.now().store_ms
    }

    /// The report with a key in history.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn report(&self, history: i64) -> Result<Option<StoredRequest>, Error> {
        self.readers.read(|connection| read::report(connection, history))
    }

    /// The name of the output that a report calls by this label; of any principal if none is given.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn find_output(&self, principal: Option<&str>, label: &str) -> Result<Option<String>, Error> {
        self.readers.read(|connection| read::find_output(connection, principal, label))
    }

    /// The signed receipt of the report with a key in history.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn receipt(&self, history: i64) -> Result<Option<Vec<u8>>, Error> {
        self.readers.read(|connection| read::receipt(connection, history))
    }

    /// What the runs of the report with a key in history used over time.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn usage(&self, history: i64) -> Result<Option<Vec<u8>>, Error> {
        self.readers.read(|connection| read::usage(connection, history))
    }

    /// A page of reports, newest first, from `after` on. At most 1000 rows; a page may be short
    /// and have a next one.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn list(
        &self,
        filter: &HistoryFilter,
        after: Option<ListPosition>,
        limit: usize,
    ) -> Result<HistoryPage, Error> {
        self.readers.read(|connection| history::list(connection, filter, after, limit))
    }

    /// The newest report of an id, of any principal and tenant if none is given.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn find(&self, principal: Option<&str>, tenant: Option<&str>, id: &str) -> Result<Option<HistoryRow>, Error> {
        self.readers.read(|connection| history::find(connection, principal, tenant, id))
    }

    /// Counts reports by language, tenant and verdict.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn tally(&self, filter: &HistoryFilter) -> Result<Vec<Tally>, Error> {
        self.readers.read(|connection| history::tally(connection, filter))
    }

    /// Changes what is kept, from now on.
    pub fn set_retention(&self, retention: Retention) {
        self.status.set_retention(retention);
        self.queue.wake();
    }

    /// Removes everything of a tenant. The receipt says how many submissions and reports that were.
    /// Writes wait while the file is written anew at the end.
    pub fn forget(&self, forget: Forget) -> Receipt<u64> {
        let (reply, receipt) = Receipt::new();
        self.ask(UpkeepTask::Forget { forget, removed: 0, reply });
        receipt
    }

    /// Writes the file anew, as small as it can be. The receipt says its size. Writes wait
    /// meanwhile.
    pub fn vacuum(&self) -> Receipt<u64> {
        let (reply, receipt) = Receipt::new();
        self.ask(UpkeepTask::Vacuum { reply });
        receipt
    }

    fn ask(&self, task: UpkeepTask) {
        if let Err((error, task)) = self.queue.push_task(task) {
            let (UpkeepTask::Forget { reply, .. } | UpkeepTask::Vacuum { reply }) = task;
            let _ = reply.send(Err(error));
        }
    }

    /// Writes a consistent copy to a file that does not exist, mode 0600, with the outputs in a
    /// folder beside it. Nothing waits for it.
    ///
    /// # Errors
    /// The file exists, the disk is full, or reading failed.
    pub fn backup(&self, to: &Path) -> Result<(), Error> {
        let made = File::options().create_new(true).write(true).mode(0o600).open(to);
        made.map_err(Error::io("create the backup"))?;
        let written = self.write_backup(to);
        if written.is_err() {
            let _ = std::fs::remove_file(to);
        }
        written
    }

    /// Writes a copy as [`Store::backup`] does into the folder `backup` beside the file, in place
    /// of an earlier one. Returns the folder and the bytes of all of it.
    ///
    /// # Errors
    /// As [`Store::backup`].
    pub fn backup_beside(&self) -> Result<(PathBuf, u64), Error> {
        let _one_at_a_time = self.backing_up.lock();
        let folder = self.file.with_file_name(BACKUP);
        remove_folder(&folder).map_err(Error::io("remove the last backup"))?;
        std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(Error::io("create the folder of the backup"))?;
        let bytes =
            self.backup(&folder.join(FILE)).and_then(|()| folder_bytes(&folder).map_err(Error::io("read the backup")));
        match bytes {
            Ok(bytes) => Ok((folder, bytes)),
            Err(error) => {
                let _ = remove_folder(&folder);
                Err(error)
            }
        }
    }

    /// Removes the copy that [`Store::backup_beside`] made, if there is one.
    ///
    /// # Errors
    /// The disk failed.
    pub fn remove_backup(&self) -> Result<(), Error> {
        let _one_at_a_time = self.backing_up.lock();
        remove_folder(&self.file.with_file_name(BACKUP)).map_err(Error::io("remove the last backup"))
    }

    fn write_backup(&self, to: &Path) -> Result<(), Error> {
        let path = to.to_string_lossy().into_owned();
        self.readers.read(|connection| {
            connection.pragma_update(None, "query_only", false)?;
            let copied = connection.execute("VACUUM INTO ?1", [&path]);
            connection.pragma_update(None, "query_only", true)?;
            copied
        })?;
        let names: Vec<String> = {
            let copy = Connection::open(to)?;
            let mut select = copy.prepare("SELECT name FROM output")?;
            select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        let mut folder = to.as_os_str().to_owned();
        folder.push("-outputs");
        if !names.is_empty() {
            let folder = OutputFolder::open(folder.into()).map_err(Error::io("create the folder of outputs"))?;
            for name in names {
                // one that retention removed since
                let Ok(content) = self.outputs.read(&name) else { continue };
                folder.write(&name, &content)?;
            }
            sync_folder(folder.path()).map_err(Error::io("sync the backup"))?;
        }
        File::open(to).and_then(|file| file.sync_all()).map_err(Error::io("sync the backup"))?;
        sync_folder(to.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")))
            .map_err(Error::io("sync the backup"))
    }

    /// Reads everything and says what is wrong: pages, indexes, outputs that are missing. Empty if
    /// nothing is.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn check(&self) -> Result<Vec<String>, Error> {
        let (mut findings, outputs) = self.readers.read(|connection| {
            let mut check = connection.prepare(&format!("PRAGMA integrity_check({MAX_FINDINGS})"))?;
            let findings: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let mut select = connection.prepare("SELECT name, bytes FROM output")?;
            let outputs = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
            Ok((findings, outputs.collect::<Result<Vec<_>, _>>()?))
        })?;
        findings.retain(|finding| finding != "ok");
        for (name, bytes) in outputs {
            let length = std::fs::metadata(self.outputs.path().join(&name)).map(|metadata| metadata.len());
            let finding = match length {
                Ok(length) if length == bytes.unsigned_abs() => continue,
                Ok(length) => format!("output {name} has {length} bytes instead of {bytes}"),
                Err(error) => format!("output {name}: {error}"),
            };
            // retention may have removed it since
            let named = "SELECT EXISTS (SELECT 1 FROM output WHERE name = ?1)";
            if self.readers.read(|connection| connection.query_row(named, [&name], |row| row.get(0)))? {
                findings.push(finding);
            }
        }
        findings.truncate(MAX_FINDINGS);
        Ok(findings)
    }

    /// What the store says of itself. Reads the file.
    ///
    /// # Errors
    /// As [`Store::held`].
    pub fn figures(&self) -> Result<Figures, Error> {
        let (waiting, dropped) = self.queue.figures();
        let read = |connection: &Connection| {
            let one = |select| connection.query_row(select, [], |row| row.get::<_, Option<i64>>(0));
            let count = |select| Ok::<u64, rusqlite::Error>(one(select)?.unwrap_or(0).unsigned_abs());
            Ok(Figures {
                bytes: used_bytes(connection)?.unsigned_abs(),
                unfinished: count("SELECT count(*) FROM submission WHERE state <> 'answered'")?,
                oldest_unfinished_ms: one("SELECT min(received_ms) FROM submission WHERE state <> 'answered'")?,
                outbox: count("SELECT count(*) FROM outbox WHERE destination = 'wait'")?,
                callbacks: count("SELECT count(*) FROM outbox WHERE destination = 'callback'")?,
                callbacks_by_principal: callback::by_principal(connection)?,
                oldest_callback_ms: one("SELECT min(since_ms) FROM outbox WHERE destination = 'callback'")?,
                waiting,
                dropped,
                ..self.status.figures()
            })
        };
        self.readers.read(read)
    }
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes of the files in a folder and in the folders in it.
fn folder_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let (path, metadata) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        bytes += if metadata.is_dir() { folder_bytes(&path)? } else { metadata.len() };
    }
    Ok(bytes)
}

/// The lock that keeps a second daemon out. Not on the database itself: closing a descriptor of it
/// would end SQLite's own locks.
fn lock(folder: &Path) -> Result<Flock<File>, OpenError> {
    let path = folder.join("assay.db-lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(OpenError::io("create", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EAGAIN => OpenError::InUse(folder.to_owned()),
        errno => OpenError::Io { what: "lock", path, source: errno.into() },
    })
}

fn open_or_replace(file: &Path, wall: &StoreClock, status: &Status) -> Result<Connection, OpenError> {
    match database::open(file) {
        Ok(connection) => Ok(connection),
        Err(Unusable::Refused(error)) => Err(error),
        Err(Unusable::Damaged(reason)) => replace(file, &reason, wall, status),
    }
}

/// Sets a damaged file aside and opens the new one.
fn replace(file: &Path, reason: &rusqlite::Error, wall: &StoreClock, status: &Status) -> Result<Connection, OpenError> {
    let aside = set_aside::replace(file, reason, wall.now())?;
    aside.log();
    status.set_aside(aside);
    database::open(file).map_err(|unusable| match unusable {
        Unusable::Refused(error) => error,
        Unusable::Damaged(source) => OpenError::Sqlite { file: file.to_owned(), source },
    })
}

/// What the last process left: nothing runs, and files that no row names go. Returns the latest
/// time of the file's clock.
fn begin(connection: &Connection, outputs: &OutputFolder, status: &Status) -> rusqlite::Result<i64> {
    connection.execute("UPDATE submission SET state = 'queued' WHERE state = 'leased'", [])?;
    status.set_history(history::count(connection)?);
    let strays = outputs.sweep(connection)?;
    if strays > 0 {
        tracing::info!(strays, "removed outputs that a crash left without a report");
    }
    let latest = "SELECT coalesce(max(value), 0) FROM meta WHERE name = 'clock'";
    connection.query_row(latest, [], |row| row.get(0))
}
