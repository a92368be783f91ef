//! Keeps reports over a restart.
//!
//! A submission that outlives its caller may be answered just before the daemon ends, and its owner
//! fetches the report from the next daemon. At the end of a drain all reports are written to one
//! file in the state folder, together with the blobs they refer to; the next daemon loads them for
//! the rest of their `REPORT_TTL`. Reports that were already fetched are included: a second fetch
//! returns the same report, as it does without a restart.

use std::collections::BTreeMap;
use std::fmt;
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
use judge::stored::OutputStore;
use protocol::Caller;
use protocol::ReportText;

/// Version of the file format. A file of another version is discarded with an error.
const VERSION: u32 = 1;
/// Bytes written at most, newest reports first.
const MAX_FILE_BYTES: usize = 256 * 1024 * 1024;

/// The store of large outputs that reports refer to.
pub trait BlobStore: Send + Sync {
    /// Stores bytes for a uid and returns the blob's id; `None` if the uid's bounds are reached.
    fn keep(&self, uid: u32, bytes: Bytes) -> Option<String>;
    /// The same, but the blob stays until it is published or removed.
    fn hold(&self, uid: u32, bytes: Bytes) -> Option<String>;
    /// A held blob is one like any other from now on.
    fn publish(&self, blob: &str);
    fn remove(&self, blob: &str);
    /// The bytes of a blob of a uid.
    fn get(&self, uid: u32, blob: &str) -> Option<Bytes>;
    /// Stores bytes under the id they had in the daemon before.
    fn put_back(&self, uid: u32, blob: &str, bytes: Bytes);
}

/// The blobs of one uid, for the outputs of its submissions.
pub(super) struct UidOutputs {
    pub(super) uid: u32,
    pub(super) blobs: Arc<dyn BlobStore>,
}

impl fmt::Debug for UidOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UidOutputs").field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl OutputStore for UidOutputs {
    fn hold(&self, bytes: Bytes) -> Option<String> {
        self.blobs.hold(self.uid, bytes)
    }

    fn publish(&self, blob: &str) {
        self.blobs.publish(blob);
    }

    fn remove(&self, blob: &str) {
        self.blobs.remove(blob);
    }
}

/// A report on its way to the next daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredReport {
    version: u32,
    /// Milliseconds since 1970 when the report became available.
    at_ms: u64,
    pub(super) id: String,
    pub(super) caller: Caller,
    pub(super) digest: [u8; 32],
    pub(super) outlives_caller: bool,
    pub(super) report: ReportText,
    /// Blobs that the report refers to, in base64.
    #[serde(default)]
    blobs: BTreeMap<String, String>,
}

impl StoredReport {
    pub(super) fn new(
        id: &str,
        caller: &Caller,
        digest: [u8; 32],
        outlives: bool,
        report: ReportText,
        age: Duration,
    ) -> StoredReport {
        StoredReport {
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

    /// The time since the report became available.
    pub(super) fn age(&self) -> Duration {
        Duration::from_millis(now_ms().saturating_sub(self.at_ms))
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Collects the ids of the blobs that a report refers to.
fn blob_ids(value: &Value, ids: &mut Vec<String>) {
    match value {
        Value::Object(fields) => match (fields.len(), fields.get("blob")) {
            (1, Some(Value::String(id))) => ids.push(id.clone()),
            _ => fields.values().for_each(|value| blob_ids(value, ids)),
        },
        Value::Array(values) => values.iter().for_each(|value| blob_ids(value, ids)),
        _ => {}
    }
}

/// The file of reports.
#[derive(Debug, Clone)]
pub(super) struct ReportStore(PathBuf);

impl ReportStore {
    pub(super) fn new(path: PathBuf) -> ReportStore {
        ReportStore(path)
    }

    /// Writes reports, newest first, up to `MAX_FILE_BYTES`. Returns how many were written.
    pub(super) fn save(&self, reports: Vec<StoredReport>, blobs: &dyn BlobStore) -> io::Result<usize> {
        if reports.is_empty() {
            return Ok(0);
        }
        let folder = self.0.parent().unwrap_or(&self.0);
        // created with mode 0600
        let file = tempfile::NamedTempFile::new_in(folder)?;
        let mut to = io::BufWriter::new(file.as_file());
        let (mut bytes, mut count) = (0, 0);
        for mut stored in reports {
            let mut ids = Vec::new();
            blob_ids(&serde_json::from_str(stored.report.as_str())?, &mut ids);
            for id in ids {
                if let Some(content) = blobs.get(stored.caller.uid, &id) {
                    stored.blobs.insert(id, BASE64.encode(content));
                }
            }
            let line = serde_json::to_vec(&stored)?;
            bytes += line.len();
            if bytes > MAX_FILE_BYTES {
                break;
            }
            to.write_all(&line)?;
            to.write_all(b"\n")?;
            count += 1;
        }
        to.flush()?;
        drop(to);
        file.as_file().sync_all()?;
        file.persist(&self.0)?;
        Ok(count)
    }

    /// Loads the reports, oldest first, and removes the file. Expired reports are dropped; reports
    /// after one that cannot be read are lost, with an error in the log.
    pub(super) fn take(&self, blobs: &dyn BlobStore) -> Vec<StoredReport> {
        let Ok(file) = std::fs::File::open(&self.0) else { return Vec::new() };
        let mut reports: Vec<StoredReport> = Vec::new();
        for line in io::BufReader::new(file).lines() {
            let line = line.map_err(|error| error.to_string());
            let parse = |line: String| serde_json::from_str::<StoredReport>(&line).map_err(|error| error.to_string());
            match line.and_then(parse) {
                Ok(stored) if stored.version == VERSION => reports.push(stored),
                Ok(stored) => {
                    tracing::error!(version = stored.version, expected = VERSION, "saved reports have another version");
                    break;
                }
                Err(error) => {
                    tracing::error!(file = %self.0.display(), error, "cannot read a saved report");
                    break;
                }
            }
        }
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::error!(file = %self.0.display(), %error, "saved reports are loaded, but their file cannot be removed");
        }
        reports.retain(|stored| stored.age() < bounds::REPORT_TTL);
        reports.reverse();
        for stored in &mut reports {
            for (id, content) in std::mem::take(&mut stored.blobs) {
                if let Ok(content) = BASE64.decode(content) {
                    blobs.put_back(stored.caller.uid, &id, content.into());
                }
            }
        }
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct MemoryBlobs(Mutex<BTreeMap<String, Bytes>>);

    impl BlobStore for MemoryBlobs {
        fn keep(&self, _: u32, _: Bytes) -> Option<String> {
            None
        }
        fn hold(&self, _: u32, _: Bytes) -> Option<String> {
            None
        }
        fn publish(&self, _: &str) {}
        fn remove(&self, _: &str) {}
        fn get(&self, _: u32, blob: &str) -> Option<Bytes> {
            self.0.lock().get(blob).cloned()
        }
        fn put_back(&self, _: u32, blob: &str, bytes: Bytes) {
            self.0.lock().insert(blob.to_owned(), bytes);
        }
    }

    fn stored(id: &str, report: Value, age: Duration) -> StoredReport {
        let caller = Caller { uid: 7, tenant: "t".to_owned() };
        let report = serde_json::from_value(report).unwrap();
        StoredReport::new(id, &caller, [1; 32], true, report, age)
    }

    fn report(stdout: &Value) -> Value {
        let mut report = serde_json::to_value(super::super::blame::cancelled("x")).unwrap();
        report["files"] = serde_json::json!([{ "path": "a", "content": stdout }]);
        report
    }

    #[test]
    fn reports_are_loaded_once_with_their_blobs_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = ReportStore::new(folder.path().join("answers"));
        let (before, after) = (MemoryBlobs::default(), MemoryBlobs::default());
        before.put_back(7, "b1", Bytes::from_static(b"\xffpicture"));
        let blob = serde_json::json!({ "blob": "b1" });
        let newest_first = vec![
            stored("new", report(&serde_json::json!("text")), Duration::from_secs(1)),
            stored("old", report(&blob), Duration::from_secs(60)),
            stored("gone", report(&blob), bounds::REPORT_TTL),
        ];
        assert_eq!(store.save(newest_first, &before).unwrap(), 3);
        let loaded = store.take(&after);
        assert_eq!(loaded.iter().map(|stored| stored.id.as_str()).collect::<Vec<_>>(), ["old", "new"]);
        assert_eq!(loaded[0].report.as_str(), stored("old", report(&blob), Duration::ZERO).report.as_str());
        assert!(loaded[0].age() >= Duration::from_secs(60) && loaded[0].digest == [1; 32] && loaded[0].caller.uid == 7);
        assert_eq!(after.get(7, "b1").unwrap(), b"\xffpicture".as_slice());
        assert!(store.take(&after).is_empty(), "the reports were loaded twice");
    }

    #[test]
    fn a_truncated_file_yields_its_complete_reports() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers");
        let store = ReportStore::new(path.clone());
        let text = serde_json::json!("text");
        store.save(vec![stored("a", report(&text), Duration::ZERO)], &MemoryBlobs::default()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"version\":1,");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(store.take(&MemoryBlobs::default()).len(), 1);
    }
}
