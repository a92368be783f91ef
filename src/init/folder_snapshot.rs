//! Whether a run left anything in its cell that the next run of the same submission could notice.
//!
//! ```text
//!  files put --snapshot--> program runs, its processes are killed --compare--> equal: reuse
//!                                                                  '- different: the cell ends
//! ```
//!
//! A program can write only to the cell's own tmpfs mounts, and made none of the folders that exist
//! before it. Creating, removing or renaming an entry changes the folder's ctime, which a program
//! cannot set back; so does a change of mode, owner or attributes. Space that is taken changes the
//! free space. Processes, sockets, locks and watches end with the last process. The filter denies
//! System V objects and message queues; where a profile allows them, no cell is reused. What
//! remains is the cell init itself, whose scheduling its program could change.
//!
//! Not covered: the next pid, and the access times of folders.

use super::sys::{self, FolderState};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use nix::libc;

/// With more folders than this, comparing takes as long as making another cell.
const MAX_FOLDERS: usize = 8;

/// The state of a cell's folders and of its init's scheduling.
pub struct FolderSnapshot {
    folders: Vec<(OwnedFd, FolderState)>,
    scheduling: [u64; 20],
}

impl FolderSnapshot {
    /// Reads the current state. `inner` are the folders below /box. `None` when there are too many,
    /// or one cannot be read.
    #[must_use]
    pub fn take(inner: &[CString]) -> Option<Self> {
        if inner.len() > MAX_FOLDERS {
            return None;
        }
        let open = |path: &CStr| sys::open(path, libc::O_RDONLY | libc::O_DIRECTORY);
        let mut folders = vec![open(c"/box").ok()?, open(c"/tmp").ok()?];
        match open(c"/dev/shm") {
            Ok(folder) => folders.push(folder),
            Err(libc::ENOENT) => {}
            Err(_) => return None,
        }
        for path in inner {
            folders.push(open(path).ok()?);
        }
        let with_state = |folder: OwnedFd| {
            let state = sys::folder_state(&folder).ok()?;
            Some((folder, state))
        };
        let folders = folders.into_iter().map(with_state).collect::<Option<_>>()?;
        Some(Self { folders, scheduling: sys::scheduling() })
    }

    /// Whether the state is still the same. To be called when no process of the program is alive.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.scheduling == sys::scheduling()
            && self.folders.iter().all(|(folder, state)| sys::folder_state(folder).as_ref() == Ok(state))
    }

    /// The descriptors that it holds open.
    pub fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        self.folders.iter().map(|(folder, _)| folder)
    }
}
