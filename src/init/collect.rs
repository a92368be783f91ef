//! Files that the last run left, selected by pattern and read by the daemon.
//!
//! Works only between runs, when no process of the program is alive, so an entry does not change
//! after it was checked. The walk goes down from the box by descriptors, follows no link, opens
//! only regular files, and bounds entries, files and bytes. Files are opened once and then read
//! piece by piece, at the daemon's pace.

use super::clean::{DIR, MAX_DEPTH, MAX_ENTRIES};
use super::files::{Files, MAX_FILES};
use super::sys::{self, Errno};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use wire::frame::{Collect, Collected, Refused};

use nix::libc;

/// Most entries in [`Collected::refused`].
const MAX_REFUSED: usize = 64;

/// Longest path in [`Collected::refused`], in bytes.
const MAX_REFUSED_PATH: usize = 1024;

/// Open files that the daemon may read.
#[derive(Default)]
pub struct Collection(Vec<OwnedFd>);

/// A search in progress.
struct Walk<'a> {
    wanted: &'a Collect,
    patterns: Vec<Vec<&'a str>>,
    entries: u64,
    bytes: u64,
    open: Vec<OwnedFd>,
    collected: Collected,
    files: &'a Files,
}

impl Collection {
    /// Finds and opens the files that are wanted.
    pub fn find(files: &Files, wanted: &Collect) -> (Self, Collected) {
        let mut walk = Walk {
            wanted,
            patterns: wanted.patterns.iter().map(|pattern| pattern.split('/').collect()).collect(),
            entries: MAX_ENTRIES,
            bytes: wanted.max_bytes,
            open: Vec::new(),
            collected: Collected::default(),
            files,
        };
        // a folder that cannot be read ends the walk; what was found before is kept
        let _ = files.as_program(|| walk.below(files.left(), &mut Vec::new()));
        (Self(walk.open), walk.collected)
    }

    /// A piece of a file as long as the buffer; empty at its end.
    pub fn read<'b>(&self, file: u32, at: u64, buffer: &'b mut [u8]) -> &'b [u8] {
        let Some(fd) = self.0.get(file as usize) else { return &[] };
        let n = sys::read_at(fd, buffer, at).unwrap_or(0);
        buffer.get(..n).unwrap_or_default()
    }
}

/// Replaces patterns by the paths they match. A pattern that matches nothing, or more than can be
/// kept, stays as it is, and names no file.
pub fn expand(files: &Files, wanted: &[String]) -> Vec<String> {
    let mut paths = Vec::new();
    for path in wanted {
        match path.contains(['*', '?']).then(|| matching(files, path)) {
            Some(Some(matched)) => paths.extend(matched),
            Some(None) | None => paths.push(path.clone()),
        }
    }
    paths
}

/// Paths of the regular files of the last run that match a pattern. `None` when there are none, or
/// more than can be opened. Links and other kinds of entries are ignored.
fn matching(files: &Files, pattern: &str) -> Option<Vec<String>> {
    let wanted = Collect { patterns: vec![pattern.to_owned()], max_files: MAX_FILES as u32, max_bytes: u64::MAX };
    let Collected { files, refused } = Collection::find(files, &wanted).1;
    let is_ignored = |why: &Refused| matches!(why, Refused::NotAFile | Refused::Name);
    let is_complete = refused.iter().all(|(_, why)| is_ignored(why));
    (is_complete && !files.is_empty()).then(|| files.into_iter().map(|(path, _)| path).collect())
}

impl Walk<'_> {
    fn below(&mut self, folder: &OwnedFd, path: &mut Vec<String>) -> Result<(), Errno> {
        if path.len() >= MAX_DEPTH {
            return Ok(());
        }
        sys::rewind(folder)?;
        let mut names = Vec::new();
        let mut all = Vec::new();
        while sys::read_dir(folder, &mut names)? {
            self.entries = self.entries.checked_sub(names.len() as u64).ok_or(libc::E2BIG)?;
            all.append(&mut names);
        }
        // a file system lists entries in any order
        all.sort();
        for name in all {
            let meta = sys::stat_at(folder, &name)?;
            path.push(name.to_string_lossy().into_owned());
            if name.to_str().is_err() {
                if self.patterns.iter().any(|pattern| matches(pattern, path)) {
                    self.refuse(path, Refused::Name);
                }
            } else if meta.is_dir {
                if self.patterns.iter().any(|pattern| may_match_below(pattern, path)) {
                    // the program may have removed its own permission to read the folder
                    let _ = sys::chmod_at(folder, &name, meta.mode | 0o700);
                    if let Ok(inner) = sys::open_at(folder, &name, DIR, 0) {
                        self.below(&inner, path)?;
                    }
                }
            } else if self.patterns.iter().any(|pattern| matches(pattern, path)) {
                self.take(folder, &name, meta, path);
            }
            path.pop();
        }
        Ok(())
    }

    fn refuse(&mut self, path: &[String], why: Refused) {
        if self.collected.refused.len() < MAX_REFUSED {
            let mut path = path.join("/");
            path.truncate(path.floor_char_boundary(MAX_REFUSED_PATH));
            self.collected.refused.push((path, why));
        }
    }

    fn take(&mut self, folder: &OwnedFd, name: &CString, meta: sys::FileMeta, path: &[String]) {
        let most = (self.wanted.max_files as usize).min(MAX_FILES);
        let whole = path.join("/");
        let opened = if path.iter().any(|part| part.chars().any(char::is_control)) {
            Err(Refused::Name)
        } else if !meta.is_file {
            Err(Refused::NotAFile)
        } else if self.open.len() >= most {
            Err(Refused::TooMany)
        } else {
            self.open_one(folder, name, &whole)
        };
        match opened {
            Ok((file, size)) => {
                self.bytes -= size;
                self.open.push(file);
                self.collected.files.push((whole, size));
            }
            Err(why) => self.refuse(path, why),
        }
    }

    fn open_one(&self, folder: &OwnedFd, name: &CString, path: &str) -> Result<(OwnedFd, u64), Refused> {
        let unreadable = |_| Refused::Unreadable;
        let open = || sys::open_at(folder, name, libc::O_RDONLY | libc::O_NONBLOCK, 0);
        // a cell's mounts end with it: what is left in place of a stored file is empty
        let file = match self.files.has_separate_box().then(|| self.files.open_stored(path)) {
            Some(Ok(stored)) => stored,
            _ => open().or_else(|_| sys::chmod_at(folder, name, 0o400).and_then(|()| open())).map_err(unreadable)?,
        };
        let meta = sys::stat(&file).map_err(unreadable)?;
        if !meta.is_file {
            return Err(Refused::NotAFile);
        }
        if meta.size > self.bytes {
            return Err(Refused::TooLarge);
        }
        Ok((file, meta.size))
    }
}

/// Whether a path matches a pattern.
fn matches(pattern: &[&str], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            matches(rest, path) || path.split_first().is_some_and(|(_, below)| matches(pattern, below))
        }
        (Some((part, rest)), Some((name, below))) => glob(part.as_bytes(), name.as_bytes()) && matches(rest, below),
        _ => false,
    }
}

/// Whether a path below this folder can match the pattern. If not, the folder is pruned.
fn may_match_below(pattern: &[&str], folder: &[String]) -> bool {
    match (pattern.split_first(), folder.split_first()) {
        (Some((&"**", _)), _) => true,
        (Some((part, rest)), Some((name, below))) => {
            glob(part.as_bytes(), name.as_bytes()) && may_match_below(rest, below)
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Matches one component: `*` is any bytes, `?` is any one byte. Backtracks to the last star only.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || Some(byte) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(pattern: &str, path: &str) -> bool {
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        let pattern: Vec<&str> = pattern.split('/').collect();
        let found = matches(&pattern, &path);
        // a match must not be pruned by its prefix
        assert!(!found || (1..path.len()).all(|n| may_match_below(&pattern, &path[..n])));
        found
    }

    #[test]
    fn one_star_stays_in_its_folder_and_two_match_any_depth() {
        assert!(is("out/*.png", "out/a.png") && !is("out/*.png", "out/b/a.png") && !is("out/*.png", "a.png"));
        assert!(is("**/*.png", "a.png") && is("**/*.png", "x/y/a.png") && is("**", "x/y"));
        assert!(is("a?c*", "abcd") && !is("a?c", "ac") && is("*", "x") && !is("*", "x/y"));
        assert!(is("a*b*c", "a-b-b-c") && !is("a*b*c", "a-b-b"));
        assert!(is("x/**/z", "x/z") && is("x/**/z", "x/1/2/z") && !is("x/**/z", "y/z"));
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        assert!(!glob(&b"*a".repeat(200), &b"a".repeat(199).iter().chain(b"b").copied().collect::<Vec<u8>>()));
    }
}
