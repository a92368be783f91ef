//! What the store says of itself, read every few seconds on a thread that may block: health and
//! metrics never wait for a disk.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use protocol::status::{CheckKind, HealthCheck};
use store::{Figures, Store};
use telemetry::metrics::{MetricsWriter, Unit};

/// How often the store is asked.
pub(super) const PERIOD: Duration = Duration::from_secs(2);

/// How long it may say nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// What to do about a disk.
const DISK_REMEDY: &str = "See whether the disk of the state folder is full or failing: df, dmesg";

/// What the store said last.
#[derive(Debug, Clone)]
struct LastAnswer {
    figures: Figures,
    /// Why it could not be read.
    error: Option<String>,
    /// When it was asked and had answered, or when it was first asked.
    at: Instant,
}

/// The last answer of the store.
#[derive(Debug)]
pub(super) struct StoreWatch(Mutex<LastAnswer>);

impl Default for StoreWatch {
    fn default() -> Self {
        StoreWatch(Mutex::new(LastAnswer { figures: Figures::default(), error: None, at: Instant::now() }))
    }
}

impl StoreWatch {
    /// Asks the store now. Blocks.
    pub(super) fn ask(&self, store: &Store) {
        let answer = store.figures();
        let mut last = self.0.lock();
        last.at = Instant::now();
        match answer {
            Ok(figures) => (last.figures, last.error) = (figures, None),
            Err(error) => last.error = Some(error.to_string()),
        }
    }

    /// The row of health; `problem` says why the store is not open.
    pub(super) fn check(&self, problem: Option<String>) -> HealthCheck {
        let last = self.0.lock().clone();
        check(problem, &last, last.at.elapsed())
    }

    /// Callbacks that are still to be delivered.
    pub(super) fn waiting_callbacks(&self) -> u64 {
        self.0.lock().figures.callbacks
    }

    /// The same of one principal.
    pub(super) fn waiting_callbacks_of(&self, principal: &str) -> u64 {
        let last = self.0.lock();
        let found = last.figures.callbacks_by_principal.iter().find(|(of, _)| of == principal);
        found.map_or(0, |(_, count)| *count)
    }

    /// Writes the metrics of the store; `problem` says why it is not open.
    ///
    /// # Errors
    /// The writer failed.
    pub(super) fn write(&self, problem: Option<String>, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let (last, is_open) = (self.0.lock().clone(), problem.is_none());
        let is_ok = check(problem, &last, last.at.elapsed()).ok;
        let Figures { bytes, waiting, dropped, unfinished, outbox, history, commits, changes, commit_time, .. } =
            last.figures;
        let bytes_unit = || Some(Unit::Bytes);
        let (open, ok) = (f64::from(u8::from(is_open)), f64::from(u8::from(is_ok)));
        writer.gauge("assay_store_open", "Whether the store is open.", None, open)?;
        writer.gauge("assay_store_healthy", "Whether the health check of the store passes.", None, ok)?;
        let help = "Bytes of the database in use, and of the outputs beside it.";
        writer.gauge("assay_store_size", help, bytes_unit(), bytes as f64)?;
        writer.gauge("assay_store_reports", "Reports in history.", None, history as f64)?;
        let help = "Changes that wait for the store's writer.";
        writer.gauge("assay_store_waiting_changes", help, None, waiting as f64)?;
        let help = "Reports that were not kept because too much waited.";
        writer.counter("assay_store_dropped", help, None, dropped as f64)?;
        let help = "Acknowledged submissions without a report.";
        writer.gauge("assay_store_unfinished", help, None, unfinished as f64)?;
        let help = "Age of the oldest acknowledged submission without a report; 0 without any.";
        let oldest = last.figures.oldest_unfinished_ms.map_or(0, |since| super::records::now_ms() - since);
        writer.gauge("assay_store_oldest_unfinished", help, Some(Unit::Seconds), oldest.max(0) as f64 / 1e3)?;
        let help = "Reports that a caller is still to fetch.";
        writer.gauge("assay_store_outbox", help, None, outbox as f64)?;
        let help = "Callbacks that are still to be delivered.";
        writer.gauge("assay_callbacks_waiting", help, None, last.figures.callbacks as f64)?;
        let help = "Age of the oldest callback that is still to be delivered; 0 without any.";
        let oldest = last.figures.oldest_callback_ms.map_or(0, |since| super::records::now_ms() - since);
        writer.gauge("assay_callbacks_oldest", help, Some(Unit::Seconds), oldest.max(0) as f64 / 1e3)?;
        writer.counter("assay_store_commits", "Commits of the store.", None, commits as f64)?;
        writer.counter("assay_store_changes", "Changes in the commits of the store.", None, changes as f64)?;
        let help = "Time of the store's commits.";
        writer.counter("assay_store_commit_time", help, Some(Unit::Seconds), commit_time.as_secs_f64())
    }
}

/// The row of health for an answer of this age.
fn check(problem: Option<String>, last: &LastAnswer, age: Duration) -> HealthCheck {
    let Figures { history, unfinished, is_full, fault, set_aside, .. } = &last.figures;
    let failed = |message: String, remedy: &str| (false, message, Some(remedy.to_owned()));
    let (ok, message, remedy) = if let Some(problem) = problem {
        failed(format!("not open: {problem}"), DISK_REMEDY)
    } else if let Some(error) = &last.error {
        failed(format!("failed to {error}"), DISK_REMEDY)
    } else if age > SILENCE {
        failed(format!("no answer for {} s", age.as_secs()), DISK_REMEDY)
    } else if *is_full {
        let remedy =
            "Make room on the disk of the state folder, or keep less: store.keep, store.max, assay store vacuum";
        failed("the disk is full: submission.submit is refused".to_owned(), remedy)
    } else if let Some(fault) = fault {
        failed(format!("the last change failed: {fault}"), DISK_REMEDY)
    } else if let Some(aside) = set_aside {
        let remedy = "Look into the file, then remove it and restart assayd: what could be read is in the new one";
        let message = format!("a damaged file was set aside as {}: {}", aside.file.display(), aside.reason);
        failed(message, remedy)
    } else {
        (true, format!("{history} reports, {unfinished} submissions unfinished"), None)
    };
    HealthCheck { kind: CheckKind::Store, name: "store".to_owned(), ok, message, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::SetAside;

    fn answer(figures: Figures) -> LastAnswer {
        LastAnswer { figures, error: None, at: Instant::now() }
    }

    #[test]
    fn every_trouble_of_the_store_has_a_row_and_a_remedy() {
        let well = Figures { history: 7, ..Figures::default() };
        let row = check(None, &answer(well.clone()), Duration::ZERO);
        assert_eq!((row.ok, row.message.as_str()), (true, "7 reports, 0 submissions unfinished"));
        let aside = SetAside { file: "/s/assay.db.damaged".into(), reason: "malformed".to_owned(), salvaged: 1 };
        let unread = LastAnswer { error: Some("use the store: disk I/O error".to_owned()), ..answer(well.clone()) };
        let troubles = [
            (Some("the disk is full".to_owned()), answer(well.clone()), 0, "not open: the disk is full"),
            (None, unread, 0, "failed to use the store: disk I/O error"),
            (None, answer(well.clone()), 61, "no answer for 61 s"),
            (
                None,
                answer(Figures { is_full: true, ..well.clone() }),
                0,
                "the disk is full: submission.submit is refused",
            ),
            (None, answer(Figures { fault: Some("x".to_owned()), ..well.clone() }), 0, "the last change failed: x"),
            (
                None,
                answer(Figures { set_aside: Some(aside), ..well }),
                0,
                "a damaged file was set aside as /s/assay.db.damaged: malformed",
            ),
        ];
        for (problem, last, age, message) in troubles {
            let row = check(problem, &last, Duration::from_secs(age));
            assert!(!row.ok && row.remedy.is_some() && row.name == "store", "{row:?}");
            assert_eq!(row.message, message);
        }
    }
}
