//! The `store.*` methods, for admins.

use serde_json::Value;

use super::context::{CallContext, CallResult, ResultText};
use super::error::CallError;
use super::history::{open_store, read};
use super::params::params;
use protocol::Principal;
use protocol::code::Code;
use protocol::history::{StoreBackup, StoreCheck, StoreForgotten, StoreVacuumed};
use protocol::params::{ForgetParams, Nothing};

fn failed(what: &str, error: &store::Error) -> CallError {
    CallError::new(Code::Internal, format!("failed to {what} the store: {error}"))
}

/// Copies the store into the state folder. The daemon writes no other place: a caller takes the
/// copy from there.
pub(crate) async fn backup(context: &CallContext, given: Value) -> CallResult {
    let Nothing {} = params(given)?;
    let backup = read(context, open_store(context)?, |store| Ok(store.backup_beside())).await?;
    let (folder, bytes) = backup.map_err(|error| failed("back up", &error))?;
    Ok(ResultText::of(&StoreBackup { folder: folder.to_string_lossy().into_owned(), bytes }))
}

pub(crate) async fn check(context: &CallContext, given: Value) -> CallResult {
    let Nothing {} = params(given)?;
    let findings = read(context, open_store(context)?, |store| Ok(store.check())).await?;
    let findings = findings.map_err(|error| failed("check", &error))?;
    Ok(ResultText::of(&StoreCheck { findings }))
}

pub(crate) async fn vacuum(context: &CallContext, given: Value) -> CallResult {
    let Nothing {} = params(given)?;
    let bytes = open_store(context)?.vacuum().done().await.map_err(|error| failed("vacuum", &error))?;
    Ok(ResultText::of(&StoreVacuumed { bytes }))
}

/// The principal that is meant, in either spelling.
fn whose(uid: Option<u32>, principal: Option<String>) -> Result<Option<Principal>, CallError> {
    match (uid, principal) {
        (None, None) => Ok(None),
        (Some(uid), None) => Ok(Some(Principal::Uid(uid))),
        (None, Some(text)) => {
            let wrong = |error| CallError::bad("principal", format!("principal: {error}"));
            text.parse().map(Some).map_err(wrong)
        }
        (Some(_), Some(_)) => Err(CallError::bad("principal", "principal: give uid or principal, not both")),
    }
}

/// Removes everything that is kept of a tenant.
pub(crate) async fn forget(context: &CallContext, given: Value) -> CallResult {
    let ForgetParams { tenant, uid, principal } = params(given)?;
    let principal = whose(uid, principal)?;
    let store = open_store(context)?;
    let submissions = &context.daemon.submissions;
    let removed = submissions.forget_tenant(&store, &tenant, principal.as_ref()).await;
    let removed = removed.map_err(|error| failed("remove a tenant from", &error))?;
    tracing::info!(
        uid = context.peer.principal.uid(),
        principal = context.peer.principal.named(),
        removed,
        "what was kept of a tenant was removed by command"
    );
    Ok(ResultText::of(&StoreForgotten { removed }))
}
