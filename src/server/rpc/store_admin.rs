//! The `store.*` methods, for admins.

use serde_json::Value;

use super::context::{CallResult, Context};
use super::error::CallError;
use super::history::{open_store, read};
use super::message::{ResultText, params};
use protocol::code::Code;
use protocol::history::{StoreBackup, StoreCheck, StoreForgotten, StoreVacuumed};
use protocol::params::{ForgetParams, Nothing};

fn failed(what: &str, error: &store::Error) -> CallError {
    CallError::new(Code::Internal, format!("failed to {what} the store: {error}"))
}

/// Copies the store into the state folder. The daemon writes no other place: a caller takes the
/// copy from there.
pub(super) async fn backup(context: &Context, given: Value) -> CallResult {
    let Nothing {} = params(given)?;
    let backup = read(open_store(context)?, |store| Ok(store.backup_beside())).await?;
    let (folder, bytes) = backup.map_err(|error| failed("back up", &error))?;
    Ok(ResultText::of(&StoreBackup { folder: folder.to_string_lossy().into_owned(), bytes }))
}

pub(super) async fn check(context: &Context, given: Value) -> CallResult {
    let Nothing {} = params(given)?;
    let findings = read(open_store(context)?, |store| Ok(store.check())).await?;
    let findings = findings.map_err(|error| failed("check", &error))?;
    Ok(ResultText::of(&StoreCheck { findings }))
}

pub(super) async fn vacuum(context: &Context, given: Value) -> CallResult {
    let Nothing {} = params(given)?;
    let bytes = open_store(context)?.vacuum().done().await.map_err(|error| failed("vacuum", &error))?;
    Ok(ResultText::of(&StoreVacuumed { bytes }))
}

/// Removes everything that is kept of a tenant.
pub(super) async fn forget(context: &Context, given: Value) -> CallResult {
    let ForgetParams { tenant, uid } = params(given)?;
    let store = open_store(context)?;
    let submissions = &context.daemon.submissions;
    let removed = submissions.forget_tenant(&store, &tenant, uid).await;
    let removed = removed.map_err(|error| failed("remove a tenant from", &error))?;
    tracing::info!(uid = context.peer.uid, removed, "what was kept of a tenant was removed by command");
    Ok(ResultText::of(&StoreForgotten { removed }))
}
