//! Removes what programs left in the folders that they may write to.
//!
//! Runs only when no process of the program is alive, so an entry does not change after it was
//! checked. Entries are removed with the program's effective ids (`sys::as_user`): the init has no
//! DAC_OVERRIDE, and the owner needs none. Trees of any depth are walked with one descriptor and
//! `..`, the number of entries is bounded, and no link is followed.

use super::sys::{self, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use nix::libc;

/// Most entries that one walk visits: more than the inodes of a sandbox's tmpfs mounts, about a
/// second of work.
pub const MAX_ENTRIES: u64 = 1_000_000;

/// Depth of the deepest folder that the init creates below the box.
pub const MAX_DEPTH: usize = 64;

/// Flags to open a folder. O_NONBLOCK, because a program may have put a pipe in its place.
pub const DIR: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK;

/// Entries that may still be visited.
struct Budget(u64);

impl Budget {
    /// Takes one entry; E2BIG when none are left.
    fn spend(&mut self) -> Result<(), Errno> {
        self.0 = self.0.checked_sub(1).ok_or(libc::E2BIG)?;
        Ok(())
    }
}

/// Whether any entry below `folder` is not owned by root. Descends only into root's folders.
pub fn has_foreign(folder: &OwnedFd) -> Result<bool, Errno> {
    foreign_below(folder, 0, &mut Budget(MAX_ENTRIES))
}

fn foreign_below(folder: &OwnedFd, depth: usize, budget: &mut Budget) -> Result<bool, Errno> {
    sys::rewind(folder)?;
    let mut names = Vec::new();
    while sys::read_dir(folder, &mut names)? {
        for name in &names {
            budget.spend()?;
            let meta = sys::stat_at(folder, name)?;
            if meta.uid != 0 {
                return Ok(true);
            }
            if meta.is_dir {
                if depth >= MAX_DEPTH {
                    return Err(libc::ELOOP);
                }
                let below = sys::open_at(folder, name, DIR, 0)?;
                if foreign_below(&below, depth + 1, budget)? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Removes every entry below `folder` that root does not own. To be called with the program's ids.
pub fn remove_foreign(folder: &OwnedFd) -> Result<(), Errno> {
    remove_foreign_below(folder, 0, &mut Budget(MAX_ENTRIES))
}

fn remove_foreign_below(folder: &OwnedFd, depth: usize, budget: &mut Budget) -> Result<(), Errno> {
    let mut names = Vec::new();
    let mut first = true;
    // Removing entries while reading may skip some, so read again until a pass removes nothing.
    loop {
        let mut removed = false;
        sys::rewind(folder)?;
        while sys::read_dir(folder, &mut names)? {
            for name in &names {
                budget.spend()?;
                let meta = sys::stat_at(folder, name)?;
                if meta.uid != 0 {
                    remove(folder, name, meta.is_dir, budget)?;
                    removed = true;
                } else if meta.is_dir && first {
                    if depth >= MAX_DEPTH {
                        return Err(libc::ELOOP);
                    }
                    let below = sys::open_at(folder, name, DIR, 0)?;
                    remove_foreign_below(&below, depth + 1, budget)?;
                }
            }
        }
        if !removed {
            return Ok(());
        }
        first = false;
    }
}

/// Removes everything below a folder that contains only files of the init.
pub fn empty_all(folder: &OwnedFd) -> Result<(), Errno> {
    let mut names = Vec::new();
    let mut all = Vec::new();
    sys::rewind(folder)?;
    while sys::read_dir(folder, &mut names)? {
        all.append(&mut names);
    }
    let mut budget = Budget(MAX_ENTRIES);
    all.iter().try_for_each(|name| remove(folder, name, sys::stat_at(folder, name)?.is_dir, &mut budget))
}

/// Removes one entry of `parent` with everything below it. To be called with the program's ids.
pub fn remove_tree(parent: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let meta = sys::stat_at(parent, name)?;
    remove(parent, name, meta.is_dir, &mut Budget(MAX_ENTRIES))
}

fn remove(parent: &OwnedFd, name: &CStr, is_dir: bool, budget: &mut Budget) -> Result<(), Errno> {
    if !is_dir {
        return sys::unlink_at(parent, name, false);
    }
    match sys::unlink_at(parent, name, true) {
        Err(libc::ENOTEMPTY | libc::EEXIST) => {}
        other => return other,
    }
    let enter = |dir: &OwnedFd, name: &CStr| {
        sys::chmod_at(dir, name, 0o700)?;
        sys::open_at(dir, name, DIR, 0)
    };
    // The path down from `parent`, as names. The way up is "..": no process is left that could move
    // a folder.
    let mut path = vec![name.to_owned()];
    let mut here = enter(parent, name)?;
    while let Some(last) = path.last() {
        match empty(&here, budget)? {
            Some(below) => {
                here = enter(&here, &below)?;
                path.push(below);
            }
            None if path.len() == 1 => return sys::unlink_at(parent, last, true),
            None => {
                let up = sys::open_at(&here, c"..", DIR, 0)?;
                sys::unlink_at(&up, last, true)?;
                here = up;
                path.pop();
            }
        }
    }
    Ok(())
}

/// Removes entries of `dir` up to the first folder that is not empty, and returns its name.
fn empty(dir: &OwnedFd, budget: &mut Budget) -> Result<Option<CString>, Errno> {
    let mut names = Vec::new();
    loop {
        let mut any = false;
        sys::rewind(dir)?;
        while sys::read_dir(dir, &mut names)? {
            for name in &names {
                budget.spend()?;
                any = true;
                match sys::unlink_at(dir, name, false) {
                    Ok(()) => continue,
                    // a folder: EISDIR on Linux, EPERM by POSIX
                    Err(libc::EISDIR | libc::EPERM) => {}
                    Err(e) => return Err(e),
                }
                match sys::unlink_at(dir, name, true) {
                    Ok(()) => {}
                    Err(libc::ENOTEMPTY | libc::EEXIST) => return Ok(Some(name.clone())),
                    Err(e) => return Err(e),
                }
            }
        }
        if !any {
            return Ok(None);
        }
    }
}
