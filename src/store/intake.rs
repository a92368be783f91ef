//! Takes in a submission, and notes that it starts.

use rusqlite::{OptionalExtension, params};

use crate::change::{Change, Need, Rows};
use crate::output::StagedOutputs;
use crate::rows::{RecordOwner, StoredState, find, name_outputs, remove_submission};

/// A submission to be acknowledged. Fsynced.
#[derive(Debug)]
pub struct Intake {
    /// Whose it is.
    pub owner: RecordOwner,
    /// Its id, unique for the owner until `report_ttl` after its report.
    pub id: String,
    /// A digest of its content: the same id with another one is a conflict.
    pub digest: [u8; 32],
    pub language: String,
    /// The request, which is returned as it is.
    pub request: Vec<u8>,
    /// What the request refers to and is too large for it.
    pub inputs: StagedOutputs,
}

/// What became of an intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntakeResult {
    /// It is new, and in the store.
    Accepted { key: i64 },
    /// The store has it.
    Known {
        key: i64,
        /// Where it is.
        state: StoredState,
        /// The key of its report in history, if it is answered.
        history: Option<i64>,
    },
    /// The id belongs to other content.
    Conflict,
}

impl Change for Intake {
    type Output = IntakeResult;
    const NEED: Need = Need::Synced;
    const SPARES_RESERVE: bool = true;

    fn bytes(&self) -> usize {
        self.request.len() + self.id.len()
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<IntakeResult> {
        let Intake { owner, id, digest, language, request, inputs } = self;
        match find(rows, owner, id)? {
            Some(found) if found.expires_ms.is_some_and(|at| at <= rows.now.store_ms) => {
                remove_submission(rows, found.key)?;
            }
            Some(found) if found.digest == *digest => {
                return Ok(IntakeResult::Known { key: found.key, state: found.state, history: found.history });
            }
            Some(_) => return Ok(IntakeResult::Conflict),
            None => {}
        }
        let mut insert = rows.connection.prepare_cached(
            "INSERT INTO submission (principal, tenant, id, digest, language, state, received_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6)",
        )?;
        let key = insert.insert(params![owner.principal, owner.tenant, id, digest, language, rows.now.wall_ms])?;
        let mut insert = rows.connection.prepare_cached("INSERT INTO request (submission, body) VALUES (?1, ?2)")?;
        insert.execute(params![key, request])?;
        name_outputs(rows, inputs.files(), Some(key), None)?;
        Ok(IntakeResult::Accepted { key })
    }

    fn committed(&mut self, output: &IntakeResult) {
        if matches!(output, IntakeResult::Accepted { .. }) {
            self.inputs.keep();
        }
    }

    fn unknown(&mut self) {
        self.inputs.keep();
    }
}

/// A submission starts: counted, so that one that ends the daemon each time is recognized. Returns
/// how often it has started; 0 if it is not there or is answered.
#[derive(Debug)]
pub struct Start {
    pub key: i64,
}

/// A submission that started is given up before it has a report, because the daemon ends: the next
/// one runs it, and its start does not count.
#[derive(Debug)]
pub struct Requeue {
    pub key: i64,
}

impl Change for Requeue {
    type Output = ();
    const NEED: Need = Need::Now;

    fn bytes(&self) -> usize {
        0
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<()> {
        let mut update = rows.connection.prepare_cached(
            "UPDATE submission SET state = 'queued', starts = starts - 1 WHERE key = ?1 AND state = 'leased'",
        )?;
        update.execute([self.key]).map(drop)
    }
}

impl Change for Start {
    type Output = u32;
    const NEED: Need = Need::Now;

    fn bytes(&self) -> usize {
        0
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<u32> {
        let mut update = rows.connection.prepare_cached(
            "UPDATE submission SET state = 'leased', starts = starts + 1
             WHERE key = ?1 AND state <> 'answered' RETURNING starts",
        )?;
        Ok(update.query_row([self.key], |row| row.get(0)).optional()?.unwrap_or(0))
    }
}
