//! Files out: what the last run left and the host asks for by pattern.
//!
//! Only between runs, when nothing of the program is alive: what was looked at stays what it was. From the box downwards by
//! descriptors, no link is followed, only regular files are opened, and every folder, name and byte counts against a bound.
//! Opened once, then read piece by piece as the host asks: it sets the pace.

use super::clean::{MAX_DEPTH, MAX_ENTRIES};
use super::files::{Files, MAX_FILES};
use super::sys::{self, Errno};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use wire::frame::{Collect, Collected, Refused};

use nix::libc;

/// Refusals that are told.
const MAX_TOLD: usize = 64;

const DIR: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK;

/// Files that the host may read now.
#[derive(Default)]
pub struct Collection(Vec<OwnedFd>);

/// A walk in progress.
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
    /// Finds and opens what is wanted.
    pub fn of(files: &Files, wanted: &Collect) -> (Self, Collected) {
        let mut walk = Walk {
            wanted,
            patterns: wanted.patterns.iter().map(|pattern| pattern.split('/').collect()).collect(),
            entries: MAX_ENTRIES,
            bytes: wanted.max_bytes,
            open: Vec::new(),
            collected: Collected::default(),
            files,
        };
        // a folder that cannot be read ends the walk there; what was found before stands
        let _ = files.as_program(|| walk.below(files.left(), &mut Vec::new()));
        (Self(walk.open), walk.collected)
    }

    /// A piece of one of them; empty at its end.
    pub fn read<'b>(&self, file: u32, at: u64, buffer: &'b mut [u8]) -> &'b [u8] {
        let Some(fd) = self.0.get(file as usize) else { return &[] };
        let n = sys::read_at(fd, buffer, at).unwrap_or(0);
        buffer.get(..n).unwrap_or_default()
    }
}

/// Paths of the regular files that the last run left and that match a pattern; none when there is none, or more than can be
/// had. Links and the like are not meant.
pub fn find(files: &Files, pattern: &str) -> Option<Vec<String>> {
    let wanted = Collect { patterns: vec![pattern.to_owned()], max_files: MAX_FILES as u32, max_bytes: u64::MAX };
    let Collected { files, refused } = Collection::of(files, &wanted).1;
    let meant = |why: &Refused| !matches!(why, Refused::NotAFile | Refused::Name);
    let all = !refused.iter().any(|(_, why)| meant(why));
    (all && !files.is_empty()).then(|| files.into_iter().map(|(path, _)| path).collect())
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
        // the same list for the same files, whatever order the file system has them in
        all.sort();
        for name in all {
            let meta = sys::stat_at(folder, &name)?;
            path.push(name.to_string_lossy().into_owned());
            if name.to_str().is_err() {
                if self.patterns.iter().any(|pattern| matches(pattern, path)) {
                    self.refuse(path, Refused::Name);
                }
            } else if meta.is_dir {
                if self.patterns.iter().any(|pattern| may_lie_below(pattern, path)) {
                    // a folder that its owner may not read is readable to its owner all the same
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
        if self.collected.refused.len() < MAX_TOLD {
            let mut path = path.join("/");
            path.truncate(path.floor_char_boundary(1024));
            self.collected.refused.push((path, why));
        }
    }

    fn take(&mut self, folder: &OwnedFd, name: &CString, meta: sys::Meta, path: &[String]) {
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
        // in a cell an empty file stands in the place of one that the host put or kept
        let file = match self.files.is_left_apart().then(|| self.files.open_stored(path)) {
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

/// Whether a path is one of a pattern's.
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

/// Whether something below a folder may be one of a pattern's.
fn may_lie_below(pattern: &[&str], folder: &[String]) -> bool {
    match (pattern.split_first(), folder.split_first()) {
        (Some((&"**", _)), _) => true,
        (Some((part, rest)), Some((name, below))) => {
            glob(part.as_bytes(), name.as_bytes()) && may_lie_below(rest, below)
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// `*` is any bytes, `?` any one. Linear but for going back to the last star.
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
        // whoever is found is not passed by
        assert!(!found || (1..path.len()).all(|n| may_lie_below(&pattern, &path[..n])));
        found
    }

    #[test]
    fn a_star_stays_in_its_folder_and_two_go_down() {
        assert!(is("out/*.png", "out/a.png") && !is("out/*.png", "out/b/a.png") && !is("out/*.png", "a.png"));
        assert!(is("**/*.png", "a.png") && is("**/*.png", "x/y/a.png") && is("**", "x/y"));
        assert!(is("a?c*", "abcd") && !is("a?c", "ac") && is("*", "x") && !is("*", "x/y"));
        assert!(is("a*b*c", "a-b-b-c") && !is("a*b*c", "a-b-b"));
        assert!(is("x/**/z", "x/z") && is("x/**/z", "x/1/2/z") && !is("x/**/z", "y/z"));
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!glob(&b"*a".repeat(200), &b"a".repeat(199).iter().chain(b"b").copied().collect::<Vec<u8>>()));
    }
}
