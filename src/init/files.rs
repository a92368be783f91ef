//! The box's files: put by the host, kept for it, removed for it, cleaned between runs.
//!
//! Promises: what the host put is owned by root and the program cannot change or replace it; no path is ever followed
//! through a link; a program's entry that stands in the way goes. Every path is walked one component at a time from the
//! box's own descriptor.
//!
//! The init has neither CHOWN nor DAC_OVERRIDE nor FOWNER, hence: folders it makes are root-owned, mode 1777 (sticky, so
//! the program can add to them but not rename or remove what root owns), and what belongs to the program is touched with
//! the program's effective ids while none of its processes is alive.

use super::clean::{self, MAX_DEPTH};
use super::collect;
use super::sys::{self, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use wire::frame::Put;

use nix::libc;

/// The largest file that is kept, in bytes.
pub const MAX_KEEP_BYTES: u64 = 256 * 1024 * 1024;

/// The most files that are kept or brought back at a time: each is an open file for a moment.
pub const MAX_FILES: usize = 256;

const DIR: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK;

/// Whose a program's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Another uid and gid, in the same folders.
    Other(u32, u32),
    /// Ours, but in folders of their own: those of a cell.
    Cell,
}

/// The folders that programs can write to, and who the program is.
pub struct Files {
    base: OwnedFd,
    others: Vec<OwnedFd>,
    proc: Option<OwnedFd>,
    owner: Owner,
    /// The /box of the last run's cell, with what its program left.
    left: Option<OwnedFd>,
    /// The file of the last Put: its next piece needs no lookup (and a 0444 file could not be opened for writing again).
    open: Option<(String, OwnedFd, u32)>,
    /// Whether a program may have left something since the last cleaning.
    used: bool,
}

impl Files {
    /// Opens the folders and gives them their modes (runc before 1.1.8 ignores a tmpfs's `mode=`, ENGINE.md finding 8).
    pub fn open(owner: Owner) -> Result<Self, Errno> {
        let base = sys::open(c"/box", DIR)?;
        let others = [c"/tmp", c"/dev/shm"].iter().filter_map(|path| sys::open(path, DIR).ok()).collect::<Vec<_>>();
        for folder in others.iter().chain([&base]) {
            // A read-only or missing /tmp is the profile's choice; the box is judged by Ready.
            let _ = sys::chmod(folder, 0o1777);
        }
        Ok(Self { base, others, proc: sys::open(c"/proc", DIR).ok(), owner, left: None, open: None, used: false })
    }

    /// Writes a piece of a file.
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
            // Half a file is worse than none, and its room may be what is missing.
            self.open = None;
            self.remove(&put.path);
        }
        written
    }

    /// No file may be open for writing when a program starts (ETXTBSY).
    pub fn close(&mut self) {
        self.open = None;
    }

    /// A program is about to run.
    pub fn mark_used(&mut self) {
        self.used = true;
    }

    /// The /box of the cell that has just ended.
    pub fn set_left(&mut self, left: Option<OwnedFd>) {
        if let Some(folder) = &left
            && sys::stat(folder).is_ok_and(|meta| meta.mode != 0o755)
        {
            // it was the program's own: it may have closed it even to us
            let _ = sys::chmod(folder, 0o755);
        }
        self.left = left;
    }

    /// Where the last run's files are.
    pub fn left(&self) -> &OwnedFd {
        self.left.as_ref().unwrap_or(&self.base)
    }

    /// Whether the last run's files are elsewhere than what the host put.
    pub fn is_left_apart(&self) -> bool {
        self.left.is_some()
    }

    /// Whether an entry below the box is ours: the program's in a cell are elsewhere.
    fn is_ours(&self, uid: u32) -> bool {
        self.owner == Owner::Cell || uid == 0
    }

    /// Touches what belongs to the program, of whom nobody is alive.
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

    /// Entries that are in the folders.
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

    /// Removes what earlier programs left. Free when there was none, a scan when it left nothing.
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

    /// Takes the program's files over: root's from now on, mode 0755. Gives those that were not there, were not plain
    /// files, were too large or did not fit.
    pub fn keep(&mut self, wanted: &[String]) -> Vec<String> {
        let paths = &self.found(wanted);
        // All are opened before the first is replaced: making room for one may remove another's folder.
        let sources = self
            .as_program(|| paths.iter().take(MAX_FILES).map(|path| self.open_source(path)).collect::<Vec<_>>())
            .unwrap_or_default();
        let mut missing = Vec::new();
        for (i, path) in paths.iter().enumerate() {
            let kept = match sources.get(i) {
                Some(Ok(Source::Roots)) => Ok(()),
                Some(Ok(Source::Programs(file, size))) => self.take_over(path, file, *size),
                Some(Err(e)) => Err(*e),
                None => Err(libc::EMFILE),
            };
            if kept.is_err() {
                missing.push(path.clone());
            }
        }
        missing
    }

    /// The paths that are wanted, patterns replaced by what they match. A pattern that matches nothing, or more than can be
    /// kept, stays, and is missing.
    fn found(&self, wanted: &[String]) -> Vec<String> {
        let mut paths = Vec::new();
        for path in wanted {
            match path.contains(['*', '?']).then(|| collect::find(self, path)) {
                Some(Some(matched)) => paths.extend(matched),
                Some(None) | None => paths.push(path.clone()),
            }
        }
        paths
    }

    fn open_source(&self, path: &str) -> Result<Source, Errno> {
        let parts = components(path)?;
        let (name, folders) = parts.split_last().ok_or(libc::EINVAL)?;
        // what the host put cannot be replaced in a cell, where an empty file stands in its place by now
        if self.left.is_some() && self.is_stored(path) {
            return Ok(Source::Roots);
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
            return Ok(Source::Roots);
        }
        sys::chmod_at(folder, name, 0o700)?;
        let file = sys::open_at(folder, name, libc::O_RDWR | libc::O_NONBLOCK, 0)?;
        let meta = sys::stat(&file)?;
        if !meta.is_file || meta.size > MAX_KEEP_BYTES {
            return Err(libc::EINVAL);
        }
        Ok(Source::Programs(file, meta.size))
    }

    /// Opens a file that the host put, or that was kept for it.
    pub fn open_stored(&self, path: &str) -> Result<OwnedFd, Errno> {
        let (folder, name) = self.parent(path, false)?;
        match sys::stat_at(&folder, &name)? {
            meta if meta.is_file && self.is_ours(meta.uid) => {
                sys::open_at(&folder, &name, libc::O_RDONLY | libc::O_NONBLOCK, 0)
            }
            _ => Err(libc::ENOENT),
        }
    }

    /// Whether the host put a file there.
    pub fn is_stored(&self, path: &str) -> bool {
        self.open_stored(path).is_ok()
    }

    fn take_over(&mut self, path: &str, source: &OwnedFd, size: u64) -> Result<(), Errno> {
        let (folder, name) = self.parent(path, true)?;
        self.remove_entry(&folder, &name)?;
        let file = create(&folder, &name)?;
        let mut buffer = vec![0; 256 * 1024];
        let mut at = 0;
        let copied = loop {
            match sys::read(source.as_raw_fd(), &mut buffer) {
                Ok(0) => break Ok(()),
                Ok(n) => {
                    let piece = buffer.get(..n).unwrap_or_default();
                    if let Err(e) = sys::write_all(file.as_raw_fd(), piece) {
                        break Err(e);
                    }
                    // The original gives its room back piece by piece, so that a copy needs none twice.
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

    /// Removes one file of the box, whoever owns it. What is not there needs no removing.
    pub fn remove(&mut self, path: &str) {
        if let Ok((folder, name)) = self.parent(path, false) {
            let _ = self.remove_entry(&folder, &name);
        }
    }

    /// Whether the folders are as they were given: root's, sticky, writable by all; and nobody is alive but the init
    /// and these processes of its own.
    #[must_use]
    pub fn is_clean(&self, ours: &[i32]) -> bool {
        if self.owner == Owner::Cell {
            return self.alone(ours);
        }
        let folders = self
            .others
            .iter()
            .chain([&self.base])
            .all(|folder| matches!(sys::stat(folder), Ok(m) if m.uid == 0 && m.mode == 0o1777));
        folders && self.alone(ours)
    }

    /// Whether /proc shows no process but PID 1, and these.
    fn alone(&self, ours: &[i32]) -> bool {
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
                        pid.is_some_and(|pid| pid != 1 && !ours.contains(&pid))
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

    /// The folder of `path` and its last name. With `make`, folders that are missing are made and a program's entries in
    /// the way removed; without, every folder must be there and be root's.
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
            // Somebody else's folder, or no folder at all.
            Ok(_) | Err(_) => self.remove_entry(folder, name)?,
        }
        sys::mkdir_at(folder, name, 0o700)?;
        let below = sys::open_at(folder, name, DIR, 0)?;
        sys::chmod(&below, 0o1777)?;
        Ok(below)
    }

    /// Removes an entry of a root-owned folder. Root's own folders stay (EISDIR).
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

    /// Opens our own file for appending, whatever its mode.
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
enum Source {
    /// Owned by root already.
    Roots,
    /// The program's, open, with its size.
    Programs(OwnedFd, u64),
}

fn create(folder: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    sys::open_at(folder, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600)
}

/// A path's components: relative, no `.`, no `..`, none empty, not too deep.
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
    fn a_path_that_could_leave_the_box_is_no_path() {
        for bad in ["", "/", "/a", "a/", "a//b", ".", "a/./b", "..", "a/../b", "a\0b"] {
            assert_eq!(components(bad), Err(libc::EINVAL), "{bad:?}");
        }
        assert_eq!(components("a/b c/.d").map(|p| p.len()), Ok(3));
        assert_eq!(components(&["a"; 65].join("/")), Err(libc::ENAMETOOLONG));
    }
}
