//! Reports that nobody has asked for yet, kept over a restart.
//!
//! What was submitted to outlive its caller may be answered just before the daemon ends; its owner comes for the report when
//! the next one is there. At a drain's end they go to one file in the state folder, with the blobs that they point to, and
//! the next daemon takes them back for what is left of their time. A report that was handed over already is kept as well:
//! asking again gives the same answer, as it does within one daemon's life.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use config::bounds;
use protocol::Caller;
use protocol::Report;

/// The file's shape. Another one's is left alone.
const VERSION: u32 = 1;
/// The most that is written: the newest reports first, until it is full.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// Where large outputs lie that reports point to.
pub trait Shelf: Send + Sync {
    /// Keeps bytes for a uid: a blob's id; none when its bounds are reached.
    fn keep(&self, uid: u32, bytes: Bytes) -> Option<String>;
    /// What a blob of a uid holds.
    fn get(&self, uid: u32, blob: &str) -> Option<Bytes>;
    /// Keeps bytes under an id that they had before.
    fn put_back(&self, uid: u32, blob: &str, bytes: Bytes);
}

/// An answer on its way to the next daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    version: u32,
    /// When it was given, in milliseconds since 1970.
    at_ms: u64,
    pub(super) id: String,
    pub(super) caller: Caller,
    pub(super) digest: [u8; 32],
    pub(super) outlives_caller: bool,
    pub(super) report: Arc<Report>,
    /// Blobs that the report points to, in base64.
    #[serde(default)]
    blobs: BTreeMap<String, String>,
}

impl Answer {
    pub(super) fn new(
        id: &str,
        caller: &Caller,
        digest: [u8; 32],
        outlives: bool,
        report: Arc<Report>,
        age: Duration,
    ) -> Answer {
        Answer {
            version: VERSION,
            at_ms: now_ms().saturating_sub(age.as_millis() as u64),
            id: id.to_owned(),
            caller: caller.clone(),
            digest,
            outlives_caller: outlives,
            report,
            blobs: BTreeMap::new(),
        }
    }

    /// How long ago it was given.
    pub(super) fn age(&self) -> Duration {
        Duration::from_millis(now_ms().saturating_sub(self.at_ms))
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Ids of the blobs that a report points to.
fn pointed_to(value: &Value, ids: &mut Vec<String>) {
    match value {
        Value::Object(fields) => match (fields.len(), fields.get("blob")) {
            (1, Some(Value::String(id))) => ids.push(id.clone()),
            _ => fields.values().for_each(|value| pointed_to(value, ids)),
        },
        Value::Array(values) => values.iter().for_each(|value| pointed_to(value, ids)),
        _ => {}
    }
}

/// The file.
#[derive(Debug, Clone)]
pub(super) struct Answers(PathBuf);

impl Answers {
    pub(super) fn new(path: PathBuf) -> Answers {
        Answers(path)
    }

    /// Writes them, newest first, as far as there is room; how many.
    pub(super) fn put(&self, answers: Vec<Answer>, shelf: &dyn Shelf) -> io::Result<usize> {
        if answers.is_empty() {
            return Ok(0);
        }
        let folder = self.0.parent().unwrap_or(&self.0);
        // of mode 0600
        let beside = tempfile::NamedTempFile::new_in(folder)?;
        let mut to = io::BufWriter::new(beside.as_file());
        let (mut bytes, mut count) = (0, 0);
        for mut answer in answers {
            let mut ids = Vec::new();
            pointed_to(&serde_json::to_value(&answer.report)?, &mut ids);
            for id in ids {
                if let Some(content) = shelf.get(answer.caller.uid, &id) {
                    answer.blobs.insert(id, BASE64.encode(content));
                }
            }
            let line = serde_json::to_vec(&answer)?;
            bytes += line.len();
            if bytes > MOST_BYTES {
                break;
            }
            to.write_all(&line)?;
            to.write_all(b"\n")?;
            count += 1;
        }
        to.flush()?;
        drop(to);
        beside.as_file().sync_all()?;
        beside.persist(&self.0)?;
        Ok(count)
    }

    /// Takes them back, oldest first; the file is gone then. What is too old is dropped, what cannot be read is said.
    pub(super) fn take(&self, shelf: &dyn Shelf) -> Vec<Answer> {
        let Ok(file) = std::fs::File::open(&self.0) else { return Vec::new() };
        let mut answers: Vec<Answer> = Vec::new();
        for line in io::BufReader::new(file).lines() {
            let answer = line.map_err(|error| error.to_string());
            match answer.and_then(|line| serde_json::from_str::<Answer>(&line).map_err(|error| error.to_string())) {
                Ok(answer) if answer.version == VERSION => answers.push(answer),
                Ok(answer) => {
                    tracing::error!(version = answer.version, ours = VERSION, "kept reports are of another version");
                    break;
                }
                Err(error) => {
                    tracing::error!(file = %self.0.display(), error, "a kept report cannot be taken over");
                    break;
                }
            }
        }
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::error!(file = %self.0.display(), %error, "kept reports are taken over, but their file stays");
        }
        answers.retain(|answer| answer.age() < bounds::REPORT_TTL);
        answers.reverse();
        for answer in &mut answers {
            for (id, content) in std::mem::take(&mut answer.blobs) {
                if let Ok(content) = BASE64.decode(content) {
                    shelf.put_back(answer.caller.uid, &id, content.into());
                }
            }
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Verdict;
    use std::sync::Mutex;

    #[derive(Default)]
    struct OneShelf(Mutex<BTreeMap<String, Bytes>>);

    impl Shelf for OneShelf {
        fn keep(&self, _: u32, _: Bytes) -> Option<String> {
            None
        }
        fn get(&self, _: u32, blob: &str) -> Option<Bytes> {
            self.0.lock().unwrap().get(blob).cloned()
        }
        fn put_back(&self, _: u32, blob: &str, bytes: Bytes) {
            self.0.lock().unwrap().insert(blob.to_owned(), bytes);
        }
    }

    fn answer(id: &str, report: Value, age: Duration) -> Answer {
        let caller = Caller { uid: 7, tenant: "t".to_owned() };
        Answer::new(id, &caller, [1; 32], true, Arc::new(serde_json::from_value(report).unwrap()), age)
    }

    fn report(stdout: &Value) -> Value {
        let mut report = serde_json::to_value(super::super::blame::bare("x", Verdict::Accepted, "")).unwrap();
        report["files"] = serde_json::json!([{ "path": "a", "content": stdout }]);
        report
    }

    #[test]
    fn reports_come_back_with_their_blobs_oldest_first_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers::new(folder.path().join("answers"));
        let (before, after) = (OneShelf::default(), OneShelf::default());
        before.put_back(7, "b1", Bytes::from_static(b"\xffpicture"));
        let blob = serde_json::json!({ "blob": "b1" });
        let newest_first = vec![
            answer("new", report(&serde_json::json!("text")), Duration::from_secs(1)),
            answer("old", report(&blob), Duration::from_secs(60)),
            answer("gone", report(&blob), bounds::REPORT_TTL),
        ];
        assert_eq!(answers.put(newest_first, &before).unwrap(), 3);
        let back = answers.take(&after);
        assert_eq!(back.iter().map(|answer| answer.id.as_str()).collect::<Vec<_>>(), ["old", "new"]);
        assert_eq!(back[0].report, answer("old", report(&blob), Duration::ZERO).report);
        assert!(back[0].age() >= Duration::from_secs(60) && back[0].digest == [1; 32] && back[0].caller.uid == 7);
        assert_eq!(after.get(7, "b1").unwrap(), b"\xffpicture".as_slice());
        assert!(answers.take(&after).is_empty(), "they were taken twice");
    }

    #[test]
    fn a_file_that_is_cut_gives_what_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers");
        let answers = Answers::new(path.clone());
        let text = serde_json::json!("text");
        answers.put(vec![answer("a", report(&text), Duration::ZERO)], &OneShelf::default()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"version\":1,");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(answers.take(&OneShelf::default()).len(), 1);
    }
}
