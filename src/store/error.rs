//! Why a change or a read failed, and why a store cannot be opened.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi;

/// Why a change was not made or a read has no answer. A fault of the machine or of load, never of
/// the submission.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No room. Worth trying again when there is.
    #[error("write to the store: the disk is full")]
    Full,
    /// More changes wait than the queue takes. Worth trying again soon.
    #[error("write to the store: {waiting} changes wait already")]
    Busy {
        /// Changes that wait.
        waiting: usize,
    },
    /// The store is being closed.
    #[error("use the store: it is closed")]
    Closed,
    /// The file is damaged; it is being set aside.
    #[error("read the store: its file is damaged: {0}")]
    Damaged(#[source] Arc<rusqlite::Error>),
    /// The disk refused to read, write or sync.
    #[error("use the store: {0}")]
    Sqlite(#[source] Arc<rusqlite::Error>),
    /// An output file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was done, in words.
        what: &'static str,
        #[source]
        source: Arc<io::Error>,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| match source.raw_os_error() {
            Some(libc_error) if is_no_room(libc_error) => Error::Full,
            _ => Error::Io { what, source: Arc::new(source) },
        }
    }
}

fn is_no_room(errno: i32) -> bool {
    errno == nix::errno::Errno::ENOSPC as i32 || errno == nix::errno::Errno::EDQUOT as i32
}

/// Whether the file itself is wrong, and not the disk or the moment.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether an fsync failed: what was written before may be lost although later fsyncs succeed.
pub(crate) fn is_lost_sync(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(ffi::SQLITE_IOERR_FSYNC) || code == Some(ffi::SQLITE_IOERR_DIR_FSYNC)
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::Full,
            Some(_) if is_damage(&error) => Error::Damaged(Arc::new(error)),
            _ => Error::Sqlite(Arc::new(error)),
        }
    }
}

/// Why a store cannot be opened. The daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A later version of assay wrote the file.
    #[error(
        "open {}: a later version of assay wrote it (schema {found}; this one knows {known}); use that version, or \
         move the file away to begin anew", file.display()
    )]
    LaterVersion {
        /// The file that was refused.
        file: PathBuf,
        /// The schema's version in the file.
        found: i64,
        /// The latest version that this program knows.
        known: i64,
    },
    /// A database of another program.
    #[error("open {}: it is a database of another program", .0.display())]
    Foreign(PathBuf),
    /// Another daemon has it open.
    #[error("open the store in {}: another daemon uses it", .0.display())]
    InUse(PathBuf),
    /// Locks and shared memory do not work on network file systems.
    #[error("open the store in {}: it is on a network file system ({kind}); the store needs a local disk", folder.display())]
    Network {
        /// The folder that was refused.
        folder: PathBuf,
        /// The file system's name in mountinfo.
        kind: String,
    },
    /// SQLite could not open, read or write the file.
    #[error("open {}: {source}", file.display())]
    Sqlite {
        /// The database file.
        file: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    /// The folder or a file in it could not be used.
    #[error("open the store: {what} {}: {source}", path.display())]
    Io {
        /// What was done, in words.
        what: &'static str,
        /// To which file or folder.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> OpenError {
        let path = path.to_owned();
        move |source| OpenError::Io { what, path, source }
    }
}
