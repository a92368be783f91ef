//! The files of the box: put, kept and removed at the daemon's request, and cleaned between runs.
//!
//! A program cannot change or replace the daemon's files. No path is followed through a link, and
//! an entry of the program that is in the way is removed. Every path is walked one component at a
//! time from the box's descriptor.
//!
//! The init has none of CHOWN, DAC_OVERRIDE and FOWNER. Therefore folders that it creates are
//! root-owned with mode 1777 (sticky: the program can add entries but not rename or remove root's),
//! and the program's files are accessed with the program's effective ids while none of its
//! processes is alive.

use super::clean::{self, DIR, MAX_DEPTH};
use super::sys::{self, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use wire::frame::Put;

use nix::libc;

/// Largest file that is kept, in bytes.
pub const MAX_KEEP_BYTES: u64 = 256 * 1024 * 1024;

/// Most files that are kept or collected at a time, because all are open at once.
pub const MAX_FILES: usize = 256;

/// Size of the buffer that kept files are copied with, in bytes.
const COPY_BYTES: usize = 256 * 1024;

/// Who owns a program's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Another uid and gid, in the same folders.
    Other(u32, u32),
    /// The init's own uid, but in the separate folders of a cell.
    Cell,
}

/// The folders that programs can write to.
pub struct Files {
    /// The container's /box.
    base: OwnedFd,
    /// /tmp and /dev/shm, if they exist.
    others: Vec<OwnedFd>,
    proc: Option<OwnedFd>,
    owner: Owner,
    /// The /box of the last run's cell, with the files that its program left.
    left: Option<OwnedFd>,
    /// Path, descriptor and mode of the last Put's file, which may be appended to.
    open: Option<(String, OwnedFd, u32)>,
    /// Whether a program may have left something since the last cleaning.
    used: bool,
    /// Whether a program has run at all.
    has_served: bool,
}

impl Files {
    /// Opens the folders and sets their modes: runc before 1.1.8 ignores the `mode=` of a tmpfs
    /// (docs/ENGINE.md, limits that the engine accepts and drops).
    pub fn open(owner: Owner) -> Result<Self, Errno> {
        let base = sys::open(c"/box", DIR)?;
        let others = [c"/tmp", c"/dev/shm"].iter().filter_map(|path| sys::open(path, DIR).ok()).collect::<Vec<_>>();
        for folder in others.iter().chain([&base]) {
            // /tmp may be read-only or missing by the profile; Ready reports the state of the box.
            let _ = sys::chmod(folder, 0o1777);
        }
        Ok(Self {
            base,
            others,
            proc: sys::open(c"/proc", DIR).ok(),
            owner,
            left: None,
            open: None,
            used: false,
            has_served: false,
        })
    }

    /// Writes a piece of a file; on failure the file is removed.
    pub fn put(&mut self, put: &Put) -> Result<(), Errno> {
        let mode = (put.mode & 0o755) | 0o444;
        if put.append {
            if !matches!(&self.open, Some((path, _, _)) if *path == put.path) {
                self.open = None;
                let (folder, name) = self.parent(&put.path, false)?;
                let mode = sys::stat_at(&folder, &name)?.mode;
                self.open = Some((put.path.clone(), self.reopen(&folder, &name)?, mode));
            }
        } else {
            self.open = None;
            let (folder, name) = self.parent(&put.path, true)?;
            self.remove_entry(&folder, &name)?;
            let file = create(&folder, &name)?;
            self.open = Some((put.path.clone(), file, mode));
        }
        let Some((_, file, mode)) = &self.open else {
            return Err(libc::EIO);
        };
        let written = sys::write_all(file.as_raw_fd(), &put.data);
        sys::chmod(file, *mode)?;
        if written.is_err() {
            // Half a file is worse than none, and the space may be needed.
            self.open = None;
            self.remove(&put.path);
        }
        written
    }

    /// Closes the last Put's file: executing a file that is open for writing fails (ETXTBSY).
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Notes that a program is about to run, so that the folders may need cleaning.
    pub fn mark_used(&mut self) {
        self.used = true;
        self.has_served = true;
    }

    /// Whether a program has run.
    pub fn has_served(&self) -> bool {
        self.has_served
    }

    /// Bytes that files take in the folders.
    pub fn stored_bytes(&self) -> u64 {
        self.others.iter().chain([&self.base]).map(sys::used_bytes).sum()
    }

    /// Sets the /box of the cell that has just ended.
    pub fn set_left(&mut self, left: Option<OwnedFd>) {
        if let Some(folder) = &left
            && sys::stat(folder).is_ok_and(|meta| meta.mode != 0o755)
        {
            // the program owned it and may have removed all permissions
            let _ = sys::chmod(folder, 0o755);
        }
        self.left = left;
    }

    /// The folder with the last run's files.
    pub fn left(&self) -> &OwnedFd {
        self.left.as_ref().unwrap_or(&self.base)
    }

    /// Whether the last run's files are in another folder than the daemon's, that of its cell.
    pub fn has_separate_box(&self) -> bool {
        self.left.is_some()
    }

    /// Whether an entry below the container's /box is the init's. A cell's program has its files
    /// elsewhere.
    fn is_ours(&self, uid: u32) -> bool {
        self.owner == Owner::Cell || uid == 0
    }

    /// Does `work` as the owner of the program's files. No process of the program may be alive.
    pub fn as_program<T>(&self, work: impl FnOnce() -> T) -> Result<T, Errno> {
        match self.owner {
            Owner::Other(uid, gid) => sys::as_user(uid, gid, work),
            Owner::Cell => Ok(work()),
        }
    }

    /// Removes what programs left, and then everything below the box.
    pub fn empty(&mut self) -> Result<(), Errno> {
        self.close();
        self.clean()?;
        clean::empty_all(&self.base)
    }

    /// Number of entries in the folders; usize::MAX if one cannot be read.
    pub fn count(&self) -> usize {
        let mut names = Vec::new();
        let mut count = 0;
        for folder in self.others.iter().chain([&self.base]) {
            if sys::rewind(folder).is_err() {
                return usize::MAX;
            }
            while let Ok(true) = sys::read_dir(folder, &mut names) {
                count += names.len();
            }
        }
        count
    }

    /// Removes what earlier programs left. Does nothing if none ran; scans if one did.
    pub fn clean(&mut self) -> Result<(), Errno> {
        self.left = None;
        if !self.used || self.owner == Owner::Cell {
            return Ok(());
        }
        let folders = || self.others.iter().chain([&self.base]);
        let mut foreign = false;
        for folder in folders() {
            foreign |= clean::has_foreign(folder)?;
        }
        if foreign {
            self.as_program(|| folders().try_for_each(clean::remove_foreign))??;
        }
        self.used = false;
        Ok(())
    }

    /// Copies files of the program to root-owned ones with mode 0755. Returns those that are
    /// missing, not regular, too large, or did not fit.
    pub fn keep(&mut self, paths: &[String]) -> Vec<String> {
        // All are opened before the first is replaced: replacing one may remove another's folder.
        let sources = self
            .as_program(|| paths.iter().take(MAX_FILES).map(|path| self.open_source(path)).collect::<Vec<_>>())
            .unwrap_or_default();
        let mut missing = Vec::new();
        for (i, path) in paths.iter().enumerate() {
            let kept = match sources.get(i) {
                Some(Ok(KeepSource::Stored)) => Ok(()),
                Some(Ok(KeepSource::Program(file, size))) => self.take_over(path, file, *size),
                Some(Err(e)) => Err(*e),
                None => Err(libc::EMFILE),
            };
            if kept.is_err() {
                missing.push(path.clone());
            }
        }
        missing
    }

    fn open_source(&self, path: &str) -> Result<KeepSource, Errno> {
        let parts = components(path)?;
        let (name, folders) = parts.split_last().ok_or(libc::EINVAL)?;
        // in a cell a stored file is mounted over an empty one, so the program cannot replace it
        if self.left.is_some() && self.is_stored(path) {
            return Ok(KeepSource::Stored);
        }
        let mut at = None;
        for folder in folders {
            let from = at.as_ref().unwrap_or(self.left());
            at = Some(sys::open_at(from, folder, DIR, 0)?);
        }
        let folder = at.as_ref().unwrap_or(self.left());
        let seen = sys::stat_at(folder, name)?;
        if !seen.is_file || seen.size > MAX_KEEP_BYTES {
            return Err(libc::EINVAL);
        }
        if self.left.is_none() && self.is_ours(seen.uid) {
            return Ok(KeepSource::Stored);
        }
        sys::chmod_at(folder, name, 0o700)?;
        let file = sys::open_at(folder, name, libc::O_RDWR | libc::O_NONBLOCK, 0)?;
        let meta = sys::stat(&file)?;
        if !meta.is_file || meta.size > MAX_KEEP_BYTES {
            return Err(libc::EINVAL);
        }
        Ok(KeepSource::Program(file, meta.size))
    }

    /// Opens a file that the daemon put, or that was kept.
    pub fn open_stored(&self, path: &str) -> Result<OwnedFd, Errno> {
        let (folder, name) = self.parent(path, false)?;
        match sys::stat_at(&folder, &name)? {
            meta if meta.is_file && self.is_ours(meta.uid) => {
                sys::open_at(&folder, &name, libc::O_RDONLY | libc::O_NONBLOCK, 0)
            }
            _ => Err(libc::ENOENT),
        }
    }

    /// Whether the path is a file that the daemon put, or that was kept.
    pub fn is_stored(&self, path: &str) -> bool {
        self.open_stored(path).is_ok()
    }

    fn take_over(&mut self, path: &str, source: &OwnedFd, size: u64) -> Result<(), Errno> {
        let (folder, name) = self.parent(path, true)?;
        self.remove_entry(&folder, &name)?;
        let file = create(&folder, &name)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = 0;
        let copied = loop {
            match sys::read(source.as_raw_fd(), &mut buffer) {
                Ok(0) => break Ok(()),
                Ok(n) => {
                    let piece = buffer.get(..n).unwrap_or_default();
                    if let Err(e) = sys::write_all(file.as_raw_fd(), piece) {
                        break Err(e);
                    }
                    // Frees the original piece by piece, so that the copy needs no extra space.
                    sys::punch_hole(source, at, n as u64);
                    at += n as u64;
                }
                Err(e) => break Err(e),
            }
        };
        let whole = copied.and(if at == size { Ok(()) } else { Err(libc::EIO) });
        match whole.and_then(|()| sys::chmod(&file, 0o755)) {
            Ok(()) => Ok(()),
            Err(e) => {
                let _ = sys::unlink_at(&folder, &name, false);
                Err(e)
            }
        }
    }

    /// Removes one file of the box, whatever its owner, if it exists.
    pub fn remove(&mut self, path: &str) {
        if let Ok((folder, name)) = self.parent(path, false) {
            let _ = self.remove_entry(&folder, &name);
        }
    }

    /// Whether the folders have their original owner and mode (root, 1777) and no process is alive
    /// except the init and these helpers.
    #[must_use]
    pub fn is_clean(&self, helpers: &[i32]) -> bool {
        if self.owner == Owner::Cell {
            return self.is_alone(helpers);
        }
        let folders = self
            .others
            .iter()
            .chain([&self.base])
            .all(|folder| matches!(sys::stat(folder), Ok(m) if m.uid == 0 && m.mode == 0o1777));
        folders && self.is_alone(helpers)
    }

    /// Whether /proc lists no process except PID 1 and these helpers.
    fn is_alone(&self, helpers: &[i32]) -> bool {
        let Some(proc) = &self.proc else { return false };
        if sys::rewind(proc).is_err() {
            return false;
        }
        let mut names = Vec::new();
        loop {
            match sys::read_dir(proc, &mut names) {
                Ok(true) => {
                    let other = |n: &CString| {
                        let pid: Option<i32> = n.to_str().ok().and_then(|n| n.parse().ok());
                        pid.is_some_and(|pid| pid != 1 && !helpers.contains(&pid))
                    };
                    if names.iter().any(other) {
                        return false;
                    }
                }
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
    }

    /// The parent folder of `path` and its last component. With `make`, missing folders are created
    /// and entries of the program in the way removed; without, every folder must exist and be the
    /// init's.
    fn parent(&self, path: &str, make: bool) -> Result<(OwnedFd, CString), Errno> {
        let mut parts = components(path)?;
        let name = parts.pop().ok_or(libc::EINVAL)?;
        let mut at = self.base.try_clone().map_err(|e| sys::errno_of(&e))?;
        for part in &parts {
            at = self.enter(&at, part, make)?;
        }
        Ok((at, name))
    }

    fn enter(&self, folder: &OwnedFd, name: &CStr, make: bool) -> Result<OwnedFd, Errno> {
        match sys::open_at(folder, name, DIR, 0) {
            Ok(below) if self.is_ours(sys::stat(&below)?.uid) => return Ok(below),
            Ok(_) | Err(_) if !make => return Err(libc::ENOENT),
            Err(libc::ENOENT) => {}
            // the program's folder, or not a folder
            Ok(_) | Err(_) => self.remove_entry(folder, name)?,
        }
        sys::mkdir_at(folder, name, 0o700)?;
        let below = sys::open_at(folder, name, DIR, 0)?;
        sys::chmod(&below, 0o1777)?;
        Ok(below)
    }

    /// Removes an entry of a folder of the init. Fails for the init's own folders (EISDIR).
    fn remove_entry(&self, folder: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        match sys::unlink_at(folder, name, false) {
            Ok(()) | Err(libc::ENOENT) => return Ok(()),
            Err(libc::EISDIR | libc::EPERM) => {}
            Err(e) => return Err(e),
        }
        let meta = sys::stat_at(folder, name)?;
        if self.is_ours(meta.uid) {
            return Err(libc::EISDIR);
        }
        self.as_program(|| clean::remove_tree(folder, name))?
    }

    /// Opens a file of the init for appending, whatever its mode.
    fn reopen(&self, folder: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
        let seen = sys::stat_at(folder, name)?;
        if !seen.is_file || !self.is_ours(seen.uid) {
            return Err(libc::EPERM);
        }
        let reading = sys::open_at(folder, name, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
        let meta = sys::stat(&reading)?;
        if !meta.is_file || !self.is_ours(meta.uid) {
            return Err(libc::EPERM);
        }
        sys::chmod(&reading, meta.mode | 0o200)?;
        sys::open_at(folder, name, libc::O_WRONLY | libc::O_APPEND, 0)
    }
}

/// A file to keep.
enum KeepSource {
    /// The daemon's own; there is nothing to do.
    Stored,
    /// The program's, open, with its size.
    Program(OwnedFd, u64),
}

fn create(folder: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    sys::open_at(folder, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600)
}

/// The components of a relative path without `.`, `..` and empty ones; at most [`MAX_DEPTH`].
fn components(path: &str) -> Result<Vec<CString>, Errno> {
    let parts = path
        .split('/')
        .map(|part| match part {
            "" | "." | ".." => Err(libc::EINVAL),
            name => CString::new(name).map_err(|_| libc::EINVAL),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if parts.len() > MAX_DEPTH {
        return Err(libc::ENAMETOOLONG);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_leave_the_box_is_invalid() {
        for bad in ["", "/", "/a", "a/", "a//b", ".", "a/./b", "..", "a/../b", "a\0b"] {
            assert_eq!(components(bad), Err(libc::EINVAL), "{bad:?}");
        }
        assert_eq!(components("a/b c/.d").map(|p| p.len()), Ok(3));
        assert_eq!(components(&["a"; 65].join("/")), Err(libc::ENAMETOOLONG));
    }
}
