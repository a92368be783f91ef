//! Submissions that a drain leaves unfinished, saved in the state folder for the next daemon.
//!
//! Saved are submissions that outlive their caller (`submission.submit`) and of which no caller has
//! seen output: they have not started, or can run again from the beginning. Each has its own file,
//! written to a temporary name and renamed, and removed when the next daemon resumes it. A file
//! that cannot be read is renamed, not deleted.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use judge::work::Work;

/// Version of the file format. Files of other versions are set aside.
const VERSION: u32 = 2;

/// The folder of saved submissions.
#[derive(Debug, Clone)]
pub(super) struct UnfinishedStore(PathBuf);

/// A saved submission.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnfinishedSubmission {
    version: u32,
    /// Milliseconds since 1970 when it was saved: its deadline keeps running.
    at_ms: u64,
    /// Digest of the content, to detect another submission with the same id.
    pub(super) digest: [u8; 32],
    pub(super) work: Work,
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl UnfinishedStore {
    pub(super) fn new(path: PathBuf) -> UnfinishedStore {
        UnfinishedStore(path)
    }

    /// Saves one. Its deadline must be the time that is left now.
    pub(super) fn save(&self, work: Work, digest: [u8; 32]) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let unfinished = UnfinishedSubmission { version: VERSION, at_ms: now_ms(), digest, work };
        let file = tempfile::NamedTempFile::new_in(&self.0)?;
        let mut to = io::BufWriter::new(file.as_file());
        serde_json::to_writer(&mut to, &unfinished)?;
        io::Write::flush(&mut to)?;
        drop(to);
        file.as_file().sync_all()?;
        file.persist(self.0.join(format!("{}.json", uuid::Uuid::new_v4().simple())))?;
        Ok(())
    }

    /// All saved submissions, oldest first, each with its file.
    pub(super) fn load(&self) -> Vec<(PathBuf, UnfinishedSubmission)> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let files = entries.flatten().map(|entry| entry.path());
        let json = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let mut all: Vec<(PathBuf, UnfinishedSubmission)> =
            json.filter_map(|path| read(&path).map(|unfinished| (path, unfinished))).collect();
        all.sort_by_key(|(_, unfinished)| unfinished.at_ms);
        all
    }
}

fn read(path: &Path) -> Option<UnfinishedSubmission> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string());
    let owner = bytes.as_ref().map(|bytes| SavedOwner::of(&String::from_utf8_lossy(bytes))).unwrap_or_default();
    let parsed = bytes
        .and_then(|bytes| serde_json::from_slice::<UnfinishedSubmission>(&bytes).map_err(|error| error.to_string()));
    let error = match parsed {
        Ok(unfinished) if unfinished.version == VERSION => return Some(unfinished),
        Ok(unfinished) => format!("its version is {}, expected {VERSION}", unfinished.version),
        Err(error) => error,
    };
    let aside = path.with_extension("unreadable");
    tracing::error!(
        file = %path.display(), error, aside = %aside.display(), submission = owner.id, uid = owner.uid,
        remedy = "the submission is lost: its caller has to hand it in again; look for a full or failing disk (df, dmesg)",
        "cannot read a saved submission; its file is set aside"
    );
    let _ = std::fs::rename(path, aside);
    None
}

/// Whose submission a damaged file had, as far as its text still tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct SavedOwner {
    /// Its id, with everything unprintable escaped.
    id: Option<String>,
    uid: Option<u32>,
}

impl SavedOwner {
    fn of(text: &str) -> SavedOwner {
        let work = text.split_once("\"work\":").map_or("", |(_, work)| work);
        let after = |key: &str| work.split_once(key).map_or("", |(_, value)| value);
        let id = serde_json::Deserializer::from_str(after("\"id\":")).into_iter::<String>().next();
        // a number at the end of the text may have lost digits
        let uid = after("\"uid\":").split_once(|end: char| !end.is_ascii_digit());
        SavedOwner {
            id: id.and_then(Result::ok).map(|id| id.escape_debug().to_string()),
            uid: uid.and_then(|(digits, _)| digits.parse().ok()),
        }
    }
}

impl UnfinishedSubmission {
    /// The work, with the time that is left of its deadline.
    pub(super) fn into_work(self) -> Work {
        let elapsed = Duration::from_millis(now_ms().saturating_sub(self.at_ms));
        let deadline = self.work.deadline.map(|deadline| deadline.saturating_sub(elapsed));
        Work { deadline, ..self.work }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use judge::accept::accept;
    use protocol::Profile;
    use std::sync::Arc;

    #[test]
    fn a_damaged_file_tells_whose_it_was_as_far_as_it_goes() {
        let saved = UnfinishedSubmission { version: VERSION, at_ms: 1, digest: [0; 32], work: work() };
        let text = serde_json::to_string(&saved).unwrap();
        let (id, uid) = (Some(saved.work.id.clone()), Some(saved.work.caller.uid));
        assert_eq!(SavedOwner::of(&text[..text.len() - 9]), SavedOwner { id: id.clone(), uid });
        let cut = text.find("\"uid\":").unwrap() + "\"uid\":".len() + 1;
        assert_eq!(SavedOwner::of(&text[..cut]), SavedOwner { id, uid: None });
        assert_eq!(SavedOwner::of(&text[..19]), SavedOwner::default());
    }

    fn work() -> Work {
        let profile: Profile = toml::from_str("name='x'\nimage='x'\nentry='a'\nrun=['a']").unwrap();
        let submission = serde_json::from_value(serde_json::json!({
            "language": "x", "deadline_ms": 60_000, "files": [{"path": "a", "content_b64": "AP8="}],
            "tests": [{"stdin": "1", "expect": "2", "files": [{"path": "b", "content": "c"}]}, {"expect_b64": "/w=="}],
        }));
        accept(&submission.unwrap(), 7, &[("x".to_owned(), Arc::new(profile))].into(), &|_| None).unwrap()
    }

    #[test]
    fn a_saved_submission_is_loaded_unchanged_and_its_deadline_keeps_running() {
        let folder = tempfile::tempdir().unwrap();
        let store = UnfinishedStore::new(folder.path().join("kept"));
        assert!(store.load().is_empty());
        let work = work();
        store.save(work.clone(), [3; 32]).unwrap();
        let (path, mut loaded) = store.load().pop().unwrap();
        assert_eq!((loaded.digest, &loaded.work), ([3; 32], &work));
        loaded.at_ms -= 10_000;
        let left = loaded.into_work().deadline.unwrap();
        assert!(left <= Duration::from_secs(50), "{left:?}");
        std::fs::remove_file(path).unwrap();
        assert!(store.load().is_empty());
    }

    #[test]
    fn an_unreadable_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let store = UnfinishedStore::new(folder.path().to_owned());
        store.save(work(), [0; 32]).unwrap();
        std::fs::write(folder.path().join("a.json"), "{").unwrap();
        assert_eq!(store.load().len(), 1);
        assert_eq!(std::fs::read(folder.path().join("a.unreadable")).unwrap(), b"{");
    }
}
