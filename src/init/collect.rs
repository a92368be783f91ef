//! Files that the last run left, selected by pattern and read by the daemon.
//!
//! Works only between runs, when no process of the program is alive, so an entry does not change
//! after it was checked. The walk goes down from the box by descriptors, follows no link, opens
//! only regular files, and bounds entries, files and bytes. Files are opened once and then read
//! piece by piece, at the daemon's pace.

use super::clean::{DIR, MAX_DEPTH, MAX_ENTRIES};
use super::files::{Files, MAX_FILES};
use super::sys::{self, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::rc::Rc;
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
            entries: MAX_ENTRIES,
            bytes: wanted.max_bytes,
            open: Vec::new(),
            collected: Collected::default(),
            files,
        };
        // a folder that cannot be read ends the walk; what was found before is kept
        let patterns: Vec<PathPattern> = wanted.patterns.iter().map(|pattern| PathPattern::new(pattern)).collect();
        let _ = files.as_program(|| walk.below(files.left(), &mut Vec::new(), &patterns));
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
    /// `patterns` are those that may match something in this folder.
    fn below(&mut self, folder: &OwnedFd, path: &mut Vec<String>, patterns: &[PathPattern<'_>]) -> Result<(), Errno> {
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
            let inner_patterns: Vec<_> = patterns.iter().filter_map(|pattern| pattern.enter(&name)).collect();
            if name.to_str().is_err() {
                if inner_patterns.iter().any(PathPattern::is_match) {
                    self.refuse(path, Refused::Name);
                }
            } else if meta.is_dir {
                if inner_patterns.iter().any(|pattern| pattern.is_match() && !pattern.ends_in_any_depth()) {
                    self.refuse(path, Refused::NotAFile);
                }
                if inner_patterns.iter().any(PathPattern::may_match_below) {
                    // the program may have removed its own permission to read the folder
                    let _ = sys::chmod_at(folder, &name, meta.mode | 0o700);
                    if let Ok(inner) = sys::open_at(folder, &name, DIR, 0) {
                        self.below(&inner, path, &inner_patterns)?;
                    }
                }
            } else if inner_patterns.iter().any(PathPattern::is_match) {
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

/// Any number of folders.
const ANY_DEPTH: &str = "**";

/// A pattern of paths, and how much of it the folders down to some place have matched. One step per
/// folder keeps it linear: a program chooses the names.
#[derive(Clone)]
struct PathPattern<'a> {
    parts: Rc<[&'a str]>,
    /// How many leading parts may have matched. Ascending; with each [`ANY_DEPTH`] the part after
    /// it, because it may match no folder.
    matched: Vec<usize>,
}

impl<'a> PathPattern<'a> {
    fn new(pattern: &'a str) -> Self {
        let mut parts: Vec<&str> = pattern.split('/').collect();
        parts.dedup_by(|part, before| *part == ANY_DEPTH && *before == ANY_DEPTH);
        let mut matched = Vec::new();
        Self::push(&parts, 0, &mut matched);
        Self { parts: parts.into(), matched }
    }

    fn push(parts: &[&str], at: usize, matched: &mut Vec<usize>) {
        if matched.last() < Some(&at) {
            matched.push(at);
            if parts.get(at) == Some(&ANY_DEPTH) {
                matched.push(at + 1);
            }
        }
    }

    /// The same in the entry of this name; `None` if nothing can match there.
    fn enter(&self, name: &CStr) -> Option<Self> {
        let mut matched = Vec::new();
        for &at in &self.matched {
            match self.parts.get(at) {
                Some(&ANY_DEPTH) => Self::push(&self.parts, at, &mut matched),
                Some(part) if glob(part.as_bytes(), name.to_bytes()) => Self::push(&self.parts, at + 1, &mut matched),
                _ => {}
            }
        }
        (!matched.is_empty()).then(|| Self { parts: self.parts.clone(), matched })
    }

    fn is_match(&self) -> bool {
        self.matched.last() == Some(&self.parts.len())
    }

    fn ends_in_any_depth(&self) -> bool {
        self.parts.last() == Some(&ANY_DEPTH)
    }

    fn may_match_below(&self) -> bool {
        self.matched.iter().any(|at| *at < self.parts.len())
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
        let mut names = path.split('/').map(|name| CString::new(name).unwrap()).peekable();
        let mut pattern = PathPattern::new(pattern);
        while let Some(name) = names.next() {
            let Some(inner) = pattern.enter(&name) else { return false };
            if names.peek().is_some() && !inner.may_match_below() {
                return false;
            }
            pattern = inner;
        }
        pattern.is_match()
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
    fn folders_of_one_name_and_many_stars_do_not_take_exponential_time() {
        let path = vec!["a"; 64].join("/");
        assert!(!is(&format!("{}b", "**/a/".repeat(30)), &path));
        assert!(is(&format!("{}a", "**/a/".repeat(30)), &path));
        assert!(is(&format!("{}**/a", "**/".repeat(100)), &path));
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        assert!(!glob(&b"*a".repeat(200), &b"a".repeat(199).iter().chain(b"b").copied().collect::<Vec<u8>>()));
    }
}
