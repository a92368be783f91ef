//! What a drain leaves undone, kept in the state folder for the next daemon.
//!
//! Only what was submitted to outlive its caller (`submission.submit`), and of which nobody has seen anything yet: it has not
//! started, or is run again from its beginning. A file each, whole or not
//! there (written beside, then renamed); what the next daemon has taken over is removed. A file that cannot be read is set
//! aside under another name, not lost: it is somebody's work.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use judge::work::Work;

/// The files' shape. Another one's files are set aside.
const VERSION: u32 = 2;

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// A submission that waits for the next daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    /// When, in milliseconds since 1970: its deadline goes on meanwhile.
    at_ms: u64,
    /// Of its content, for who hands it in again under the same id.
    pub(super) digest: [u8; 32],
    pub(super) work: Work,
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Folder {
        Folder(path)
    }

    /// Keeps one; its deadline must be what is left of it now.
    pub(super) fn put(&self, work: Work, digest: [u8; 32]) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let kept = Kept { version: VERSION, at_ms: now_ms(), digest, work };
        let beside = tempfile::NamedTempFile::new_in(&self.0)?;
        let mut to = io::BufWriter::new(beside.as_file());
        serde_json::to_writer(&mut to, &kept)?;
        io::Write::flush(&mut to)?;
        drop(to);
        beside.as_file().sync_all()?;
        beside.persist(self.0.join(format!("{}.json", uuid::Uuid::new_v4().simple())))?;
        Ok(())
    }

    /// Those that are there, oldest first, each with its file.
    pub(super) fn all(&self) -> Vec<(PathBuf, Kept)> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let files = entries.flatten().map(|entry| entry.path());
        let json = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let mut all: Vec<(PathBuf, Kept)> = json.filter_map(|path| read(&path).map(|kept| (path, kept))).collect();
        all.sort_by_key(|(_, kept)| kept.at_ms);
        all
    }
}

fn read(path: &Path) -> Option<Kept> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string());
    let kept = bytes.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).map_err(|error| error.to_string()));
    let error = match kept {
        Ok(kept) if kept.version == VERSION => return Some(kept),
        Ok(kept) => format!("its version is {}, ours is {VERSION}", kept.version),
        Err(error) => error,
    };
    let aside = path.with_extension("unreadable");
    tracing::error!(file = %path.display(), error, aside = %aside.display(), "a kept submission cannot be taken over");
    let _ = std::fs::rename(path, aside);
    None
}

impl Kept {
    /// The work, with what is left of its deadline.
    pub(super) fn into_work(self) -> Work {
        let gone = Duration::from_millis(now_ms().saturating_sub(self.at_ms));
        let deadline = self.work.deadline.map(|deadline| deadline.saturating_sub(gone));
        Work { deadline, ..self.work }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use judge::accept::accept;
    use protocol::Profile;
    use std::sync::Arc;

    fn work() -> Work {
        let profile: Profile = toml::from_str("name='x'\nimage='x'\nentry='a'\nrun=['a']").unwrap();
        let submission = serde_json::from_value(serde_json::json!({
            "language": "x", "deadline_ms": 60_000, "files": [{"path": "a", "content_b64": "AP8="}],
            "tests": [{"stdin": "1", "expect": "2", "files": [{"path": "b", "content": "c"}]}, {"expect_b64": "/w=="}],
        }));
        accept(&submission.unwrap(), 7, &[("x".to_owned(), Arc::new(profile))].into(), &|_| None).unwrap()
    }

    #[test]
    fn what_is_kept_comes_back_as_it_was_and_its_deadline_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Folder::new(folder.path().join("kept"));
        assert!(kept.all().is_empty());
        let work = work();
        kept.put(work.clone(), [3; 32]).unwrap();
        let (path, mut back) = kept.all().pop().unwrap();
        assert_eq!((back.digest, &back.work), ([3; 32], &work));
        back.at_ms -= 10_000;
        let left = back.into_work().deadline.unwrap();
        assert!(left <= Duration::from_secs(50), "{left:?}");
        std::fs::remove_file(path).unwrap();
        assert!(kept.all().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Folder::new(folder.path().to_owned());
        kept.put(work(), [0; 32]).unwrap();
        std::fs::write(folder.path().join("a.json"), "{").unwrap();
        assert_eq!(kept.all().len(), 1);
        assert_eq!(std::fs::read(folder.path().join("a.unreadable")).unwrap(), b"{");
    }
}
