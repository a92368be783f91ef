//! What the store has: history, statistics, receipts, and reports that memory no longer has.
//!
//! A caller sees what it handed in, an admin everything. Reads block, so they have threads of
//! their own. What was published a moment ago may still be on its way to the store: a read that
//! finds nothing waits for that, and looks again.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::context::{CallContext, CallReply, CallResult, ResultText};
use super::error::CallError;
use super::params::params;
use super::socket_bytes::ByteAccount;
use super::to_value;
use protocol::code::Code;
use protocol::history::{HistoryFields, StatsRow, SubmissionStats};
use protocol::params::{IdParams, ListParams, StatsParams};
use protocol::results::{StateWord, SubmissionRow, Submissions};
use protocol::{Principal, ReportText};
use store::{HistoryFilter, HistoryRow, ListPosition, Store, Tally};

/// Rows of a page of history where the caller states no number, and the most that it may state.
pub(crate) const PAGE_ROWS: u64 = 100;
const MAX_PAGE_ROWS: u64 = 1000;

/// About the size of a row as JSON.
const ROW_BYTES: usize = 512;

/// A report that the store has.
pub(crate) struct FoundReport {
    pub(crate) fields: HistoryFields,
    pub(crate) report: ReportText,
    /// What its runs used over time, as JSON.
    pub(crate) usage: Option<String>,
}

pub(crate) fn not_found() -> CallError {
    CallError::new(Code::NotFound, "id: you have no such submission (any more)").at_field("id")
}

/// The store, which may not be open.
pub(crate) fn open_store(context: &CallContext) -> Result<Arc<Store>, CallError> {
    let access = context.daemon.submissions.store();
    let closed = || {
        let problem = access.problem().unwrap_or_default();
        CallError::new(Code::Unsupported, format!("the store is not open: {problem}"))
    };
    access.get().cloned().ok_or_else(closed)
}

/// Reads on a thread that may block. An account reads one thing at a time, so that it takes neither
/// all such threads nor all readers of the store.
pub(crate) async fn read<T: Send + 'static>(
    context: &CallContext,
    store: Arc<Store>,
    read: impl FnOnce(&Store) -> Result<T, store::Error> + Send + 'static,
) -> Result<T, CallError> {
    let _turn = context.account.reading().await;
    let done = tokio::task::spawn_blocking(move || read(&store)).await;
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(CallError::new(Code::Internal, format!("failed to read the store: {error}"))),
        Err(_) => Err(CallError::new(Code::Internal, "failed to read the store")),
    }
}

/// Whose rows the caller sees; all for an admin.
fn visible_principal(context: &CallContext) -> Option<String> {
    (!context.peer.is_admin).then(|| context.peer.principal.to_string())
}

/// The newest row of an id that the caller sees.
async fn find_row(
    context: &CallContext,
    id: &str,
    tenant: Option<&str>,
) -> Result<Option<(Arc<Store>, HistoryRow)>, CallError> {
    let tenant = context.peer.visible_tenant(tenant)?;
    let store = open_store(context)?;
    for is_settled in [false, true] {
        if is_settled {
            context.daemon.submissions.settle_records().await;
        }
        let (principal, id) = (visible_principal(context), id.to_owned());
        let tenant = tenant.map(str::to_owned);
        let found =
            read(context, store.clone(), move |store| store.find(principal.as_deref(), tenant.as_deref(), &id)).await?;
        if let Some(row) = found {
            return Ok(Some((store, row)));
        }
    }
    Ok(None)
}

/// The newest report of an id that the caller sees, if the store is open and has one.
pub(crate) async fn find_report(
    context: &CallContext,
    id: &str,
    tenant: Option<&str>,
) -> Result<Option<FoundReport>, CallError> {
    if context.daemon.submissions.store().get().is_none() {
        return Ok(None);
    }
    let Some((store, row)) = find_row(context, id, tenant).await? else { return Ok(None) };
    let key = row.key;
    let (stored, usage) = read(context, store, move |store| Ok((store.report(key)?, store.usage(key)?))).await?;
    // retention may have removed it since
    let Some(stored) = stored else { return Ok(None) };
    let broken = || CallError::new(Code::Internal, "the stored report cannot be read");
    let report = String::from_utf8(stored.body).ok().and_then(ReportText::parse).ok_or_else(broken)?;
    let usage = usage.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(Some(FoundReport { fields: fields(row), report, usage }))
}

fn fields(row: HistoryRow) -> HistoryFields {
    let HistoryRow { key, answered_ms, entry } = row;
    HistoryFields {
        key,
        principal: entry.owner.principal,
        language: entry.language,
        verdict: entry.verdict,
        blame: entry.blame,
        message: entry.message,
        received_ms: entry.received_ms,
        answered_ms,
        total_ms: entry.total_ms,
        cpu_ms: entry.cpu_ms,
        memory_bytes: entry.memory_bytes,
    }
}

fn list_row(row: HistoryRow) -> SubmissionRow {
    let principal = row.entry.owner.principal.clone();
    SubmissionRow {
        id: row.entry.id.clone(),
        state: StateWord::Done,
        uid: principal.parse().ok().and_then(|principal: Principal| principal.uid()),
        // history has it among its fields
        principal: None,
        tenant: row.entry.owner.tenant.clone(),
        history: Some(fields(row)),
    }
}

/// The state of a submission of history, whose report's text is copied once.
pub(crate) fn found_state(id: &str, found: &FoundReport) -> String {
    let (history, id, state) = (to_value(&found.fields), to_value(&id), to_value(&StateWord::Done));
    let usage = found.usage.as_ref().map_or(String::new(), |usage| format!(",\"usage\":{usage}"));
    format!("{{\"history\":{history},\"id\":{id},\"report\":{},\"state\":{state}{usage}}}", found.report.as_str())
}

/// A place in a list, as callers get it.
fn cursor_text(position: ListPosition) -> String {
    format!("{}-{}", position.answered_ms, position.key)
}

fn cursor_position(text: &str) -> Option<ListPosition> {
    // a time before 1970 has a sign
    let (answered_ms, key) = text.rsplit_once('-')?;
    Some(ListPosition { answered_ms: answered_ms.parse().ok()?, key: key.parse().ok().filter(|key| *key >= 0)? })
}

/// A page of history.
pub(crate) async fn list(context: &CallContext, given: ListParams) -> CallResult {
    let ListParams { state, tenant, verdict, language, since_ms, until_ms, cursor, limit } = given;
    if state.is_some_and(|state| state != StateWord::Done.as_str()) {
        return Err(CallError::bad("state", "state: history has submissions that are done; leave it out, or use done"));
    }
    let limit = limit.unwrap_or(PAGE_ROWS);
    if !(1..=MAX_PAGE_ROWS).contains(&limit) {
        return Err(CallError::bad("limit", format!("limit: must be 1 to {MAX_PAGE_ROWS}")));
    }
    let after = match cursor.as_deref() {
        None => None,
        Some(text) => match cursor_position(text) {
            Some(position) => Some(position),
            None => return Err(CallError::bad("cursor", "cursor: is not the next_cursor of a page")),
        },
    };
    let (principal, tenant) = (visible_principal(context), context.peer.visible_tenant(tenant.as_deref())?);
    let tenant = tenant.map(str::to_owned);
    let verdict = verdict.map(|verdict| verdict.as_str().to_owned());
    let filter = HistoryFilter { principal, tenant, language, verdict, since_ms, until_ms };
    let store = open_store(context)?;
    context.daemon.submissions.settle_records().await;
    let page = read(context, store, move |store| store.list(&filter, after, limit as usize)).await?;
    let make = || {
        let submissions = page.rows.into_iter().map(list_row).collect();
        ResultText::of(&Submissions { submissions, next_cursor: page.next.map(cursor_text) })
    };
    Ok(context.account.work(limit as usize * ROW_BYTES, make).await)
}

/// Counts of finished submissions.
pub(crate) async fn stats(context: &CallContext, given: Value) -> CallResult {
    let StatsParams { tenant, verdict, language, since_ms, until_ms } = params(given)?;
    let (principal, tenant) = (visible_principal(context), context.peer.visible_tenant(tenant.as_deref())?);
    let tenant = tenant.map(str::to_owned);
    let verdict = verdict.map(|verdict| verdict.as_str().to_owned());
    let filter = HistoryFilter { principal, tenant, language, verdict, since_ms, until_ms };
    let store = open_store(context)?;
    context.daemon.submissions.settle_records().await;
    let tallies = read(context, store, move |store| store.tally(&filter)).await?;
    let row = |tally: Tally| {
        let Tally { language, tenant, verdict, count, cpu_ms, mean_total_ms, max_memory_bytes } = tally;
        StatsRow { language, tenant, verdict, count, cpu_ms, mean_total_ms, max_memory_bytes }
    };
    Ok(ResultText::of(&SubmissionStats { rows: tallies.into_iter().map(row).collect() }))
}

/// A large output of a report of this owner; of any if there is none, which is for admins.
pub(crate) async fn output(
    context: &CallContext,
    blob: &str,
    owner: Option<&Principal>,
) -> Result<Option<Bytes>, CallError> {
    let Some(store) = context.daemon.submissions.store().get().cloned() else { return Ok(None) };
    let (principal, label) = (owner.map(Principal::to_string), blob.to_owned());
    let named = read(context, store.clone(), move |store| store.find_output(principal.as_deref(), &label)).await?;
    let Some(name) = named else { return Ok(None) };
    // retention may have removed it since
    Ok(read(context, store, move |store| Ok(store.output(&name).ok())).await?.map(Bytes::from))
}

pub(crate) async fn receipt(context: &CallContext, given: Value) -> Result<CallReply, CallError> {
    receipt_of(context, params(given)?).await
}

/// The signed receipt of the newest report of an id.
pub(crate) async fn receipt_of(context: &CallContext, given: IdParams) -> Result<CallReply, CallError> {
    let IdParams { id, tenant } = given;
    let (store, row) = find_row(context, &id, tenant.as_deref()).await?.ok_or_else(not_found)?;
    let receipt = read(context, store, move |store| store.receipt(row.key)).await?;
    let none = || CallError::new(Code::NotFound, "id: this submission has no receipt").at_field("id");
    let text = receipt.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(none)?;
    let held = context.account.hold(text.len()).ok_or_else(ByteAccount::refusal)?;
    Ok(CallReply { held: Some(held), ..CallReply::from(ResultText::Made(text)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        for position in [
            ListPosition { answered_ms: 1_700_000_000_000, key: 1 },
            ListPosition { answered_ms: -5, key: i64::MAX },
            ListPosition { answered_ms: i64::MIN, key: 0 },
        ] {
            assert_eq!(cursor_position(&cursor_text(position)), Some(position));
        }
        for text in ["", "-", "1", "1-", "1-x", "x-1", "1--1", "99999999999999999999-1"] {
            assert_eq!(cursor_position(text), None, "{text}");
        }
    }
}
