//! Files in which a daemon of version 0.1 kept submissions and reports over a restart: a file for
//! each submission in `kept`, and one file `answers` with a line for each report. They are read
//! only. A file that cannot be read is renamed, not deleted.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use config::bounds;
use judge::work::Work;
use protocol::{Caller, ReportText};

/// Version of a submission's file. Files of other versions are set aside.
const SUBMISSION_VERSION: u32 = 2;

/// Version of a report's line. Lines of another version are left out, with an error.
const REPORT_VERSION: u32 = 1;

/// The files of a state folder.
#[derive(Debug, Clone)]
pub(super) struct KeptFiles {
    submissions: PathBuf,
    reports: PathBuf,
}

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

/// A saved report.
#[derive(Debug, Deserialize)]
pub(super) struct KeptReport {
    version: u32,
    /// Milliseconds since 1970 when the report became available.
    at_ms: u64,
    pub(super) id: String,
    pub(super) caller: Caller,
    pub(super) digest: [u8; 32],
    pub(super) report: ReportText,
    /// Blobs that the report refers to.
    #[serde(default, deserialize_with = "from_base64")]
    pub(super) blobs: BTreeMap<String, Bytes>,
}

fn from_base64<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Bytes>, D::Error> {
    let texts = BTreeMap::<String, String>::deserialize(from)?;
    Ok(texts.into_iter().filter_map(|(id, text)| Some((id, BASE64.decode(text).ok()?.into()))).collect())
}

fn since_ms(at_ms: u64) -> Duration {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Duration::from_millis(now_ms.saturating_sub(at_ms))
}

impl KeptFiles {
    pub(super) fn new(state_folder: &Path) -> KeptFiles {
        KeptFiles { submissions: state_folder.join("kept"), reports: state_folder.join("answers") }
    }

    /// All saved submissions, oldest first, each with its file.
    pub(super) fn submissions(&self) -> Vec<(PathBuf, UnfinishedSubmission)> {
        let Ok(entries) = std::fs::read_dir(&self.submissions) else { return Vec::new() };
        let files = entries.flatten().map(|entry| entry.path());
        let json = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let mut all: Vec<(PathBuf, UnfinishedSubmission)> =
            json.filter_map(|path| read(&path).map(|unfinished| (path, unfinished))).collect();
        all.sort_by_key(|(_, unfinished)| unfinished.at_ms);
        all
    }

    /// The saved reports that have not expired, oldest first. Those after one that cannot be read
    /// are lost, with an error in the log.
    pub(super) fn reports(&self) -> Vec<KeptReport> {
        let Ok(file) = std::fs::File::open(&self.reports) else { return Vec::new() };
        let mut reports: Vec<KeptReport> = Vec::new();
        for line in io::BufReader::new(file).lines() {
            let line = line.map_err(|error| error.to_string());
            let parse = |line: String| serde_json::from_str::<KeptReport>(&line).map_err(|error| error.to_string());
            match line.and_then(parse) {
                Ok(kept) if kept.version == REPORT_VERSION => reports.push(kept),
                Ok(kept) => {
                    tracing::error!(
                        version = kept.version,
                        expected = REPORT_VERSION,
                        "saved reports have another version"
                    );
                    break;
                }
                Err(error) => {
                    tracing::error!(file = %self.reports.display(), error, "cannot read a saved report");
                    break;
                }
            }
        }
        reports.retain(|kept| since_ms(kept.at_ms) < bounds::REPORT_TTL);
        reports.reverse();
        reports
    }

    /// The reports are in the store.
    pub(super) fn remove_reports(&self) {
        match std::fs::remove_file(&self.reports) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(
                    file = %self.reports.display(), %error,
                    "saved reports are in the store, but their file cannot be removed"
                );
            }
            _ => {}
        }
    }

    /// Removes the folder of submissions, if it is empty.
    pub(super) fn remove_empty(&self) {
        let _ = std::fs::remove_dir(&self.submissions);
    }
}

fn read(path: &Path) -> Option<UnfinishedSubmission> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string());
    let owner = bytes.as_ref().map(|bytes| SavedOwner::of(&String::from_utf8_lossy(bytes))).unwrap_or_default();
    let parsed = bytes
        .and_then(|bytes| serde_json::from_slice::<UnfinishedSubmission>(&bytes).map_err(|error| error.to_string()));
    let error = match parsed {
        Ok(unfinished) if unfinished.version == SUBMISSION_VERSION => return Some(unfinished),
        Ok(unfinished) => format!("its version is {}, expected {SUBMISSION_VERSION}", unfinished.version),
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
        let elapsed = since_ms(self.at_ms);
        let deadline = self.work.deadline.map(|deadline| deadline.saturating_sub(elapsed));
        Work { deadline, ..self.work }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use judge::accept::accept;
    use protocol::{Principal, Profile};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn now_ms() -> u64 {
        since_ms(0).as_millis() as u64
    }

    fn work() -> Work {
        let profile: Profile = toml::from_str("name='x'\nimage='x'\nentry='a'\nrun=['a']").unwrap();
        let submission = serde_json::from_value(json!({
            "language": "x", "deadline_ms": 60_000, "files": [{"path": "a", "content_b64": "AP8="}],
            "tests": [{"stdin": "1", "expect": "2", "files": [{"path": "b", "content": "c"}]}, {"expect_b64": "/w=="}],
        }));
        accept(&submission.unwrap(), &Principal::Uid(7), &[("x".to_owned(), Arc::new(profile))].into(), &|_| None)
            .unwrap()
    }

    /// The files of a new folder, with a saved submission.
    fn saved(work: &Work, digest: [u8; 32]) -> (tempfile::TempDir, KeptFiles) {
        let folder = tempfile::tempdir().unwrap();
        let files = KeptFiles::new(folder.path());
        std::fs::create_dir(&files.submissions).unwrap();
        let saved = UnfinishedSubmission { version: SUBMISSION_VERSION, at_ms: now_ms(), digest, work: work.clone() };
        std::fs::write(files.submissions.join("1.json"), serde_json::to_vec(&saved).unwrap()).unwrap();
        (folder, files)
    }

    #[test]
    fn a_damaged_file_tells_whose_it_was_as_far_as_it_goes() {
        let saved = UnfinishedSubmission { version: SUBMISSION_VERSION, at_ms: 1, digest: [0; 32], work: work() };
        // as version 0.1 wrote it
        let text = serde_json::to_string(&saved).unwrap().replace("\"principal\":\"uid:7\"", "\"uid\":7");
        let (id, uid) = (Some(saved.work.id.clone()), saved.work.caller.principal.uid());
        assert_eq!(SavedOwner::of(&text[..text.len() - 9]), SavedOwner { id: id.clone(), uid });
        let cut = text.find("\"uid\":").unwrap() + "\"uid\":".len() + 1;
        assert_eq!(SavedOwner::of(&text[..cut]), SavedOwner { id, uid: None });
        assert_eq!(SavedOwner::of(&text[..19]), SavedOwner::default());
    }

    #[test]
    fn a_saved_submission_is_loaded_unchanged_and_its_deadline_keeps_running() {
        let work = work();
        let (folder, files) = saved(&work, [3; 32]);
        let (path, mut loaded) = files.submissions().pop().unwrap();
        assert_eq!((loaded.digest, &loaded.work), ([3; 32], &work));
        loaded.at_ms -= 10_000;
        let left = loaded.into_work().deadline.unwrap();
        assert!(left <= Duration::from_secs(50), "{left:?}");
        files.remove_empty();
        assert!(path.exists(), "a folder that is not empty stays");
        std::fs::remove_file(path).unwrap();
        files.remove_empty();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_unreadable_file_is_set_aside() {
        let (folder, files) = saved(&work(), [0; 32]);
        std::fs::write(files.submissions.join("a.json"), "{").unwrap();
        assert_eq!(files.submissions().len(), 1);
        assert_eq!(std::fs::read(folder.path().join("kept/a.unreadable")).unwrap(), b"{");
    }

    /// A line of `answers`.
    fn line(id: &str, stdout: &Value, age: Duration) -> String {
        let mut report = serde_json::to_value(super::super::blame::cancelled(id)).unwrap();
        report["files"] = json!([{ "path": "a", "content": stdout }]);
        let at_ms = now_ms() - age.as_millis() as u64;
        json!({
            "version": 1, "at_ms": at_ms, "id": id, "caller": { "uid": 7, "tenant": "t" }, "digest": vec![1; 32],
            "outlives_caller": true, "report": report, "blobs": { "b1": BASE64.encode(b"\xffpicture") },
        })
        .to_string()
    }

    #[test]
    fn reports_are_loaded_with_their_blobs_oldest_first_up_to_one_that_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeptFiles::new(folder.path());
        assert!(files.reports().is_empty());
        let lines = [
            line("new", &json!("text"), Duration::from_secs(1)),
            line("old", &json!({ "blob": "b1" }), Duration::from_secs(60)),
            line("gone", &json!("text"), bounds::REPORT_TTL),
            "{\"version\":1,".to_owned(),
            line("behind it", &json!("text"), Duration::ZERO),
        ];
        std::fs::write(&files.reports, lines.join("\n")).unwrap();
        let loaded = files.reports();
        assert_eq!(loaded.iter().map(|kept| kept.id.as_str()).collect::<Vec<_>>(), ["old", "new"]);
        assert_eq!((&loaded[0].caller, loaded[0].digest), (&Caller::of_uid(7, "t"), [1; 32]));
        assert_eq!(loaded[0].blobs["b1"], b"\xffpicture".as_slice());
        files.remove_reports();
        files.remove_reports();
        assert!(files.reports().is_empty());
    }
}
