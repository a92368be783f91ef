//! Reports: of what was acknowledged, and of runs that were not.

use rusqlite::params;

use crate::callback::CallbackAddress;
use crate::change::{Change, Need, Rows};
use crate::clock::millis;
use crate::output::{OutputFile, StagedOutputs};
use crate::rows::{RecordOwner, StoredState, find, name_outputs, remove_request, remove_submission};

/// What lists and statistics show of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// Whose it is.
    pub owner: RecordOwner,
    /// The submission's id.
    pub id: String,
    pub language: String,
    /// The verdict's word.
    pub verdict: String,
    /// The beginning of the report's message.
    pub message: String,
    /// Who is at fault for a `system_error`.
    pub blame: Option<String>,
    /// When it arrived, in milliseconds since 1970.
    pub received_ms: i64,
    /// From its arrival to its report.
    pub total_ms: f64,
    /// CPU time of its runs.
    pub cpu_ms: f64,
    /// The most memory that one of its runs used.
    pub memory_bytes: u64,
}

/// What is kept beside a report, as it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached {
    /// The signed receipt.
    pub receipt: Option<Vec<u8>>,
    /// What its runs used over time.
    pub usage: Option<Vec<u8>>,
}

impl Attached {
    fn bytes(&self) -> usize {
        [&self.receipt, &self.usage].into_iter().flatten().map(Vec::len).sum()
    }
}

/// The report of a submission that was acknowledged. Fsynced. The first one stays.
#[derive(Debug)]
pub struct Finish {
    /// The key from [`IntakeResult`](crate::IntakeResult).
    pub key: i64,
    /// What lists show of it. Owner and id must be the submission's.
    pub entry: HistoryEntry,
    /// The report, which is returned as it is.
    pub report: Vec<u8>,
    /// What is kept beside it.
    pub attached: Attached,
    /// Outputs that the report refers to.
    pub outputs: StagedOutputs,
    /// Whether a caller is still to fetch it.
    pub is_awaited: bool,
    /// Where it is to be delivered.
    pub callback: Option<CallbackAddress>,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishResult {
    /// It is the submission's report.
    Answered {
        /// Its key in history.
        history: i64,
    },
    /// The submission had one, which stays.
    Already {
        /// Its key in history.
        history: i64,
    },
    /// The store does not have the submission (any more).
    Gone,
}

impl Change for Finish {
    type Output = FinishResult;
    const NEED: Need = Need::Synced;

    fn bytes(&self) -> usize {
        self.report.len() + self.attached.bytes()
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<FinishResult> {
        let Finish { key, entry, report, attached, outputs, is_awaited, callback } = self;
        // after damage, a new file may have given the key to another submission
        match find(rows, &entry.owner, &entry.id)?.filter(|found| found.key == *key) {
            None => return Ok(FinishResult::Gone),
            Some(found) if found.state == StoredState::Answered => {
                return Ok(match found.history {
                    Some(history) => FinishResult::Already { history },
                    None => FinishResult::Gone,
                });
            }
            Some(_) => {}
        }
        let history = insert_history(rows, entry, report, attached, outputs.files())?;
        let expires_ms = rows.now.store_ms + millis(rows.retention.report_ttl);
        let mut update = rows
            .connection
            .prepare_cached("UPDATE submission SET state = 'answered', expires_ms = ?2, history = ?3 WHERE key = ?1")?;
        update.execute(params![*key, expires_ms, history])?;
        if *is_awaited {
            let mut insert = rows.connection.prepare_cached(
                "INSERT INTO outbox (history, destination, since_ms, next_ms) VALUES (?1, 'wait', ?2, ?2)",
            )?;
            insert.execute(params![history, rows.now.wall_ms])?;
        }
        if let Some(callback) = callback {
            callback.insert(rows, history)?;
        }
        if rows.retention.keep_sources {
            let mut keep = rows.connection.prepare_cached(
                "INSERT INTO source (history, body) SELECT ?2, body FROM request WHERE submission = ?1",
            )?;
            keep.execute(params![*key, history])?;
            let mut keep = rows
                .connection
                .prepare_cached("UPDATE output SET submission = NULL, history = ?2 WHERE submission = ?1")?;
            keep.execute(params![*key, history])?;
        }
        remove_request(rows, *key)?;
        Ok(FinishResult::Answered { history })
    }

    fn committed(&mut self, output: &FinishResult) {
        if matches!(output, FinishResult::Answered { .. }) {
            self.outputs.keep();
        }
    }

    fn unknown(&mut self) {
        self.outputs.keep();
    }
}

/// The report of a run that was not acknowledged: history. Not waited for, and dropped if too many
/// wait.
#[derive(Debug)]
pub struct Record {
    /// What lists show of it.
    pub entry: HistoryEntry,
    /// The report, which is returned as it is.
    pub report: Vec<u8>,
    /// What is kept beside it.
    pub attached: Attached,
    /// Outputs that the report refers to.
    pub outputs: StagedOutputs,
    /// The digest of the content, if the caller gave the id: it then stands for this report for
    /// `report_ttl`.
    pub digest: Option<[u8; 32]>,
}

impl Change for Record {
    type Output = i64;
    const NEED: Need = Need::Later;
    const SPARES_RESERVE: bool = true;

    fn bytes(&self) -> usize {
        self.report.len() + self.attached.bytes()
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<i64> {
        let Record { entry, report, attached, outputs, digest } = self;
        let history = insert_history(rows, entry, report, attached, outputs.files())?;
        let Some(digest) = digest else { return Ok(history) };
        match find(rows, &entry.owner, &entry.id)? {
            Some(found) if found.expires_ms.is_some_and(|at| at <= rows.now.store_ms) => {
                remove_submission(rows, found.key)?;
            }
            // what was acknowledged under this id keeps it
            Some(_) => return Ok(history),
            None => {}
        }
        let mut insert = rows.connection.prepare_cached(
            "INSERT INTO submission (principal, tenant, id, digest, language, state, received_ms, expires_ms, history)
             VALUES (?1, ?2, ?3, ?4, ?5, 'answered', ?6, ?7, ?8)",
        )?;
        let expires_ms = rows.now.store_ms + millis(rows.retention.report_ttl);
        let HistoryEntry { owner, id, language, received_ms, .. } = entry;
        insert.execute(params![
            owner.principal,
            owner.tenant,
            id,
            digest,
            language,
            received_ms,
            expires_ms,
            history
        ])?;
        Ok(history)
    }

    fn committed(&mut self, _: &i64) {
        self.outputs.keep();
    }

    fn unknown(&mut self) {
        self.outputs.keep();
    }
}

/// The caller has the report. It stays until `report_ttl` and can be fetched again.
#[derive(Debug)]
pub struct Fetched {
    /// The report's key in history.
    pub history: i64,
}

impl Change for Fetched {
    type Output = ();
    const NEED: Need = Need::Later;

    fn bytes(&self) -> usize {
        0
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<()> {
        let mut delete =
            rows.connection.prepare_cached("DELETE FROM outbox WHERE history = ?1 AND destination = 'wait'")?;
        delete.execute([self.history])?;
        Ok(())
    }
}

/// Changes nothing: what was queued before it is committed when it is.
#[derive(Debug)]
pub(crate) struct Barrier;

impl Change for Barrier {
    type Output = ();
    const NEED: Need = Need::Now;

    fn bytes(&self) -> usize {
        0
    }

    fn apply(&self, _: &mut Rows<'_>) -> rusqlite::Result<()> {
        Ok(())
    }
}

fn insert_history(
    rows: &mut Rows<'_>,
    entry: &HistoryEntry,
    report: &[u8],
    attached: &Attached,
    outputs: &[OutputFile],
) -> rusqlite::Result<i64> {
    let mut insert = rows.connection.prepare_cached(
        "INSERT INTO history (principal, tenant, id, language, verdict, blame, received_ms, answered_ms, total_ms,
             cpu_ms, memory_bytes, message)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    let HistoryEntry { owner, id, language, verdict, message, blame, received_ms, total_ms, cpu_ms, memory_bytes } =
        entry;
    let memory_bytes = i64::try_from(*memory_bytes).unwrap_or(i64::MAX);
    // SQLite has no NaN: it would be NULL
    let finite = |figure: f64| if figure.is_finite() { figure } else { 0.0 };
    let (total_ms, cpu_ms) = (finite(*total_ms), finite(*cpu_ms));
    let history = insert.insert(params![
        owner.principal,
        owner.tenant,
        id,
        language,
        verdict,
        blame,
        received_ms,
        rows.now.wall_ms,
        total_ms,
        cpu_ms,
        memory_bytes,
        message
    ])?;
    let mut insert = rows.connection.prepare_cached("INSERT INTO report (history, body) VALUES (?1, ?2)")?;
    insert.execute(params![history, report])?;
    if let Some(receipt) = &attached.receipt {
        let mut insert = rows.connection.prepare_cached("INSERT INTO receipt (history, body) VALUES (?1, ?2)")?;
        insert.execute(params![history, receipt])?;
    }
    if let Some(usage) = &attached.usage {
        let mut insert = rows.connection.prepare_cached("INSERT INTO usage (history, body) VALUES (?1, ?2)")?;
        insert.execute(params![history, usage])?;
    }
    name_outputs(rows, outputs, None, Some(history))?;
    rows.added += 1;
    Ok(history)
}
