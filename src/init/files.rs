//! The box's files: what the host puts, what a compile step leaves to keep, what a program leaves to be removed.
//!
//! ```text
//!  /box   root:root 1777   files of the submission: root-owned, not writable; the program adds its own beside them
//!  /tmp   root:root 1777
//! ```
//!
//! The init has no capability over files: it writes where root owns. What a program made is removed by a forked helper
//! that *is* the program's user, when nothing of the program runs any more, so there is no race to lose. Links are
//! never followed.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{ForkResult, UnlinkatFlags, unlinkat};

use super::Identity;
use super::setup::{Failed, become_program};
use super::{reap, sys};
use crate::wire::frame::Put;

const BOX: &str = "/box";

/// Where a program can leave files.
const WRITABLE: [&str; 3] = [BOX, "/tmp", "/dev/shm"];

/// The largest file that is kept of a compile step.
const MAX_KEPT_BYTES: u64 = 256 * 1024 * 1024;

/// How deep the removal walks before it flattens.
const MAX_DEPTH: usize = 32;

/// How often it flattens: more passes than any tree that fits the tmpfs's inodes needs.
const MAX_PASSES: usize = 4096;

pub(super) struct Files {
    root: OwnedFd,
    /// Whether a program has run since the folders were last cleaned.
    dirty: bool,
    failed: Option<Failed>,
}

fn open_dir(at: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    openat(at, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

impl Files {
    pub(super) fn open() -> Result<Files, Errno> {
        // a tmpfs's mode option is ignored by old runc (ENGINE finding 8); root owns the mount, so this may be set
        for folder in [BOX, "/tmp"] {
            let _ = std::fs::set_permissions(folder, Permissions::from_mode(0o1777));
        }
        Ok(Files { root: open_dir(AT_FDCWD, BOX)?, dirty: false, failed: None })
    }

    pub(super) fn put_failed(&mut self, path: &str, errno: Errno) {
        self.failed = Some(Failed { step: format!("write {path}"), errno: errno as i32 });
    }

    /// The first write that failed since the last run.
    pub(super) fn take_failure(&mut self) -> Option<Failed> {
        self.failed.take()
    }

    /// A program has run.
    pub(super) fn soil(&mut self) {
        self.dirty = true;
    }

    /// Writes (a piece of) a file, on clean folders.
    pub(super) fn put(&mut self, put: &Put, identity: Identity) -> Result<(), Errno> {
        self.clean(identity)?;
        let (folder, name) = self.parent(&put.path, true)?;
        let folder = folder.as_ref().unwrap_or(&self.root);
        let how = if put.append { OFlag::O_APPEND } else { OFlag::O_CREAT | OFlag::O_TRUNC };
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | how;
        let mut file = File::from(openat(folder, name, flags, Mode::from_bits_truncate(0o600))?);
        if !put.append {
            // root stays able to append: without DAC_OVERRIDE even uid 0 cannot reopen its own read-only file
            fchmod(&file, Mode::from_bits_truncate((put.mode & 0o755) | 0o644))?;
        }
        file.write_all(&put.data).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    }

    /// The folder of a path below the box (none: the box itself) and the last name.
    fn parent<'a>(&self, path: &'a str, make: bool) -> Result<(Option<OwnedFd>, &'a str), Errno> {
        let mut components = path.split('/').peekable();
        let mut folder: Option<OwnedFd> = None;
        while let Some(name) = components.next() {
            if name.is_empty() || name == "." || name == ".." {
                return Err(Errno::EINVAL);
            }
            if components.peek().is_none() {
                return Ok((folder, name));
            }
            let at = folder.as_ref().unwrap_or(&self.root);
            if make && mkdirat(at, name, Mode::from_bits_truncate(0o700)).is_ok() {
                let made = open_dir(at, name)?;
                fchmod(&made, Mode::from_bits_truncate(0o1777))?;
            }
            let next = open_dir(at, name)?;
            folder = Some(next);
        }
        Err(Errno::EINVAL)
    }

    /// Removes what programs left, when one has run since the last time.
    pub(super) fn clean(&mut self, identity: Identity) -> Result<(), Errno> {
        if !self.dirty {
            return Ok(());
        }
        match sys::fork()? {
            ForkResult::Child => {
                let done = std::fs::write("/proc/self/oom_score_adj", "500").is_ok()
                    && become_program(identity).is_ok()
                    && WRITABLE.iter().all(|root| remove_own(Path::new(root), identity.uid));
                sys::exit_now(i32::from(!done));
            }
            ForkResult::Parent { child } => {
                if !reap::wait_for_helper(child) {
                    return Err(Errno::ENOTEMPTY);
                }
                self.dirty = false;
                Ok(())
            }
        }
    }

    /// Takes over what a compile step made: a root-owned copy in place of the program's own file. Says what was
    /// missing or no plain file.
    pub(super) fn keep(&self, paths: &[String]) -> Vec<String> {
        paths.iter().filter(|path| self.keep_one(path).is_err()).cloned().collect()
    }

    fn keep_one(&self, path: &str) -> Result<(), Errno> {
        let (folder, name) = self.parent(path, false)?;
        let folder = folder.as_ref().unwrap_or(&self.root);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let original = openat(folder, name, flags, Mode::empty())?;
        let stat = fstat(&original)?;
        let is_plain = stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFREG;
        if !is_plain || stat.st_size as u64 > MAX_KEPT_BYTES {
            return Err(Errno::EINVAL);
        }
        if stat.st_uid == 0 {
            return Ok(());
        }
        const COPY: &str = ".assay-keep";
        let _ = unlinkat(&self.root, COPY, UnlinkatFlags::NoRemoveDir);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut copy = File::from(openat(&self.root, COPY, flags, Mode::from_bits_truncate(0o600))?);
        let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
        std::io::copy(&mut File::from(original).take(MAX_KEPT_BYTES), &mut copy).map_err(io)?;
        fchmod(&copy, Mode::from_bits_truncate(0o755))?;
        // the folder is root's and sticky, so root may put its own file in the place of the program's
        renameat(&self.root, COPY, folder, name)
    }

    /// Removes files that the host put for one run only.
    pub(super) fn remove(&self, paths: &[String]) {
        for path in paths {
            if let Ok((folder, name)) = self.parent(path, false) {
                let folder = folder.as_ref().unwrap_or(&self.root);
                let _ = unlinkat(folder, name, UnlinkatFlags::NoRemoveDir);
            }
        }
    }
}

/// Removes everything below `root` that `uid` owns. A tree deeper than the walk goes is moved up and walked again.
fn remove_own(root: &Path, uid: u32) -> bool {
    let mut flattened = 0;
    for _ in 0..MAX_PASSES {
        let mut deep = Vec::new();
        if !remove_below(root, uid, 0, &mut deep) {
            return false;
        }
        if deep.is_empty() {
            return true;
        }
        for path in deep {
            flattened += 1;
            if std::fs::rename(&path, root.join(format!(".assay-flat-{flattened}"))).is_err() {
                return false;
            }
        }
    }
    false
}

fn remove_below(folder: &Path, uid: u32, depth: usize, deep: &mut Vec<PathBuf>) -> bool {
    // a folder that is not there, or that is root's alone, holds nothing of the program's
    let Ok(entries) = std::fs::read_dir(folder) else { return true };
    let mut done = true;
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        let own = meta.uid() == uid;
        if !meta.is_dir() {
            done &= !own || std::fs::remove_file(&path).is_ok();
            continue;
        }
        if own {
            done &= std::fs::set_permissions(&path, Permissions::from_mode(0o700)).is_ok();
        }
        if depth >= MAX_DEPTH {
            if own && std::fs::remove_dir(&path).is_err() {
                deep.push(path);
            }
            continue;
        }
        let before = deep.len();
        done &= remove_below(&path, uid, depth + 1, deep);
        if own && deep.len() == before {
            done &= std::fs::remove_dir(&path).is_ok();
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_uid() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let top = std::env::current_dir().unwrap();
        // built piecewise upwards: each step moves the tree so far into a new folder
        let mut tree = root.path().join("t");
        std::fs::create_dir(&tree).unwrap();
        for index in 0..500 {
            let above = root.path().join(format!("n{index}"));
            std::fs::create_dir(&above).unwrap();
            std::fs::rename(&tree, above.join("a-rather-long-name-for-a-folder")).unwrap();
            tree = above;
        }
        assert!(remove_own(root.path(), own_uid()));
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        assert_eq!(std::env::current_dir().unwrap(), top);
    }

    #[test]
    fn a_link_is_removed_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("precious"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        std::fs::create_dir(root.path().join("locked")).unwrap();
        std::fs::write(root.path().join("locked/file"), "x").unwrap();
        std::fs::set_permissions(root.path().join("locked"), Permissions::from_mode(0o0)).unwrap();
        assert!(remove_own(root.path(), own_uid()));
        assert!(outside.path().join("precious").exists());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_another_owns_stays() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "x").unwrap();
        assert!(remove_own(root.path(), own_uid() + 1));
        assert!(root.path().join("file").exists());
    }
}
