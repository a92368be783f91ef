//! Lists and statistics of reports.
//!
//! A page costs a bounded amount of work, whatever the filters: at most [`MAX_LOOKED_AT`] rows of
//! one index are read. A page may therefore be short, or empty, and still have a next one.

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, params};

use crate::record::HistoryEntry;
use crate::rows::RecordOwner;

/// Rows of a page.
pub(crate) const MAX_PAGE: usize = 1000;

/// Rows that are read for a page.
pub(crate) const MAX_LOOKED_AT: usize = 4096;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Only this principal's.
    pub principal: Option<String>,
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only this language.
    pub language: Option<String>,
    /// Only this verdict.
    pub verdict: Option<String>,
    /// Answered at this time or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Answered before this time.
    pub until_ms: Option<i64>,
}

impl HistoryFilter {
    fn admits(&self, row: &HistoryRow) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let HistoryEntry { owner, language, verdict, .. } = &row.entry;
        is(&self.principal, &owner.principal)
            && is(&self.tenant, &owner.tenant)
            && is(&self.language, language)
            && is(&self.verdict, verdict)
    }

    /// The index that leaves the fewest rows, and the value of its first column. Most submissions
    /// are accepted. A list of one principal reads no row of another: neither its place nor its
    /// time must tell of them.
    fn index(&self) -> (&'static str, Option<(&'static str, &String)>) {
        match self {
            HistoryFilter { principal: Some(principal), .. } => ("history_principal", Some(("principal", principal))),
            HistoryFilter { verdict: Some(verdict), .. } if verdict != "accepted" => {
                ("history_verdict", Some(("verdict", verdict)))
            }
            HistoryFilter { tenant: Some(tenant), .. } => ("history_tenant", Some(("tenant", tenant))),
            _ => ("history_time", None),
        }
    }
}

/// A report as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryRow {
    pub key: i64,
    /// When it was answered, in milliseconds since 1970.
    pub answered_ms: i64,
    /// What was said of it.
    pub entry: HistoryEntry,
}

/// Where a page ended. Newer reports do not move it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListPosition {
    /// The time of the last row that was read.
    pub answered_ms: i64,
    pub key: i64,
}

/// Some reports, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    pub rows: Vec<HistoryRow>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<ListPosition>,
}

const COLUMNS: &str = "key, principal, tenant, id, language, verdict, blame, received_ms, answered_ms, total_ms, \
                       cpu_ms, memory_bytes, message";

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<HistoryRow> {
    let memory_bytes: i64 = row.get(11)?;
    Ok(HistoryRow {
        key: row.get(0)?,
        answered_ms: row.get(8)?,
        entry: HistoryEntry {
            owner: RecordOwner { principal: row.get(1)?, tenant: row.get(2)? },
            id: row.get(3)?,
            language: row.get(4)?,
            verdict: row.get(5)?,
            message: row.get(12)?,
            blame: row.get(6)?,
            received_ms: row.get(7)?,
            total_ms: row.get(9)?,
            cpu_ms: row.get(10)?,
            memory_bytes: memory_bytes.unsigned_abs(),
        },
    })
}

/// A page of reports, newest first, from `after` on.
pub(crate) fn list(
    connection: &Connection,
    filter: &HistoryFilter,
    after: Option<ListPosition>,
    limit: usize,
) -> rusqlite::Result<HistoryPage> {
    let (index, equal) = filter.index();
    let condition = equal.map_or(String::new(), |(column, _)| format!("{column} = ?4 AND"));
    let since_ms = filter.since_ms.unwrap_or(i64::MIN);
    let last_ms = filter.until_ms.map_or(i64::MAX, |until| until.saturating_sub(1));
    let start = after.unwrap_or(ListPosition { answered_ms: i64::MAX, key: i64::MAX });
    let (start_ms, start_key) =
        if start.answered_ms > last_ms { (last_ms, i64::MAX) } else { (start.answered_ms, start.key) };
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM history INDEXED BY {index}
         WHERE {condition} answered_ms >= ?1 AND (answered_ms, key) < (?2, ?3)
         ORDER BY answered_ms DESC, key DESC"
    ))?;
    let mut values: Vec<&dyn ToSql> = vec![&since_ms, &start_ms, &start_key];
    if let Some((_, value)) = &equal {
        values.push(value);
    }
    let limit = limit.clamp(1, MAX_PAGE);
    let mut found = select.query(values.as_slice())?;
    let (mut rows, mut looked_at) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let row = read_row(row)?;
        let here = ListPosition { answered_ms: row.answered_ms, key: row.key };
        looked_at += 1;
        if filter.admits(&row) {
            rows.push(row);
        }
        if rows.len() == limit || looked_at == MAX_LOOKED_AT {
            return Ok(HistoryPage { rows, next: Some(here) });
        }
    }
    Ok(HistoryPage { rows, next: None })
}

/// How many reports there are. Reads an index of all.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM history", [], |row| row.get(0))
}

/// The newest report of an id; of any owner whose principal and tenant fit.
pub(crate) fn find(
    connection: &Connection,
    principal: Option<&str>,
    tenant: Option<&str>,
    id: &str,
) -> rusqlite::Result<Option<HistoryRow>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM history INDEXED BY history_id
         WHERE id = ?1 AND (?2 IS NULL OR principal = ?2) AND (?3 IS NULL OR tenant = ?3) ORDER BY key DESC LIMIT 1"
    ))?;
    select.query_row(params![id, principal, tenant], read_row).optional()
}

/// Reports of one language, tenant and verdict, counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    pub language: String,
    pub tenant: String,
    /// The verdict's word.
    pub verdict: String,
    pub count: u64,
    /// CPU time of all.
    pub cpu_ms: f64,
    /// The mean time from arrival to report.
    pub mean_total_ms: f64,
    /// The most memory of one.
    pub max_memory_bytes: u64,
}

/// Counts the reports that a filter admits. Reads all of its time range.
pub(crate) fn tally(connection: &Connection, filter: &HistoryFilter) -> rusqlite::Result<Vec<Tally>> {
    let mut select = connection.prepare_cached(
        "SELECT language, tenant, verdict, count(*), sum(cpu_ms), avg(total_ms), max(memory_bytes) FROM history
         WHERE answered_ms >= ?1 AND answered_ms < ?2 AND (?3 IS NULL OR principal = ?3)
             AND (?4 IS NULL OR tenant = ?4) AND (?5 IS NULL OR language = ?5) AND (?6 IS NULL OR verdict = ?6)
         GROUP BY language, tenant, verdict ORDER BY language, tenant, verdict",
    )?;
    let HistoryFilter { principal, tenant, language, verdict, since_ms, until_ms } = filter;
    let (since_ms, until_ms) = (since_ms.unwrap_or(i64::MIN), until_ms.unwrap_or(i64::MAX));
    let read = |row: &rusqlite::Row<'_>| {
        let (count, memory): (i64, i64) = (row.get(3)?, row.get(6)?);
        Ok(Tally {
            language: row.get(0)?,
            tenant: row.get(1)?,
            verdict: row.get(2)?,
            count: count.unsigned_abs(),
            cpu_ms: row.get(4)?,
            mean_total_ms: row.get(5)?,
            max_memory_bytes: memory.unsigned_abs(),
        })
    };
    select.query_map(params![since_ms, until_ms, principal, tenant, language, verdict], read)?.collect()
}
