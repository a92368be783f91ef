//! What a run could leave in its cell for the next one of the same submission, and whether it left anything.
//!
//! ```text
//!  files put --look--> program runs, everything of it is killed --look again--> the same: the cell is as new
//!                                                                 '- anything else: the cell ends with its run
//! ```
//!
//! A cell's file systems are writable in its own tmpfs only, where the program made none of the folders that are there. What is
//! made, removed or renamed in a folder changes that folder's times, which no program can set back (ctime), and a mode, an owner,
//! an attribute the same; and the space that is taken changes what is free. Processes, sockets, locks and watches end with the
//! last process. System V objects and message queues cannot be had under the filter; where the profile allows them, no cell is
//! used twice. What is left is the cell's PID 1 itself, whose scheduling its program could change.
//!
//! Not covered: the number of the next pid, and when a folder was last read.

use super::sys::{self, FolderState};
use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::libc;

/// With more folders than this, looking takes as long as making another cell.
const MAX_FOLDERS: usize = 8;

/// How a cell looks.
pub struct Look {
    folders: Vec<(OwnedFd, FolderState)>,
    schedule: [u64; 20],
}

impl Look {
    /// Looks now; `inner` are the folders below /box. None when that is too much to look at.
    #[must_use]
    pub fn new(inner: &[CString]) -> Option<Self> {
        if inner.len() > MAX_FOLDERS {
            return None;
        }
        let open = |path: &std::ffi::CStr| sys::open(path, libc::O_RDONLY | libc::O_DIRECTORY);
        let mut folders = vec![open(c"/box").ok()?, open(c"/tmp").ok()?];
        match open(c"/dev/shm") {
            Ok(folder) => folders.push(folder),
            Err(libc::ENOENT) => {}
            Err(_) => return None,
        }
        for path in inner {
            folders.push(open(path).ok()?);
        }
        let with_state = |folder: OwnedFd| Some((sys::folder_state(&folder).ok()?, folder));
        let folders = folders.into_iter().map(with_state).map(|pair| pair.map(|(state, folder)| (folder, state)));
        Some(Self { folders: folders.collect::<Option<_>>()?, schedule: sys::schedule() })
    }

    /// Whether it still looks so. Nothing of the program may be alive.
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.schedule == sys::schedule()
            && self.folders.iter().all(|(folder, state)| sys::folder_state(folder).as_ref() == Ok(state))
    }

    /// What it holds open.
    pub fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        self.folders.iter().map(|(folder, _)| folder)
    }
}
