//! The `token.*` methods and `session.code`, for admins.
//!
//! A token is accepted once it is on the disk, and is not accepted any more before its end is: a
//! daemon that is killed between the two has forgotten a token that no caller was given, never an
//! end that was acknowledged.

use std::sync::Arc;

use serde_json::Value;

use super::context::{CallContext, CallResult, ResultText};
use super::error::CallError;
use super::history::open_store;
use super::params::params;
use crate::http::access::AccessControl;
use config::bounds;
use protocol::code::Code;
use protocol::params::Nothing;
use protocol::results::Empty;
use protocol::token::{SessionCode, TokenAddParams, TokenAdded, TokenNameParams, TokenRow, Tokens, is_token_name};
use store::{AddToken, AddTokenResult, RevokeResult, RevokeToken, Store};

/// Adds a token, and returns it this once.
pub(crate) async fn add(context: &CallContext, given: Value) -> CallResult {
    let TokenAddParams { name, tenant, role, expires_ms, replace } = params(given)?;
    check_name(&name)?;
    let most = bounds::MAX_TENANT_BYTES;
    if tenant.as_ref().is_some_and(|tenant| tenant.is_empty() || tenant.len() > most) {
        return Err(CallError::bad("tenant", format!("tenant: must have 1 to {most} bytes")));
    }
    if expires_ms.is_some_and(|at| at <= AccessControl::now_ms()) {
        return Err(CallError::bad("expires_ms", "expires_ms: is over; use a time in the future"));
    }
    let access = &context.daemon.access;
    if access.is_configured(&name) {
        return Err(of_configuration(&name));
    }
    let store = token_store(context)?;
    let (token, hash) = AccessControl::new_token();
    let created_by = context.peer.principal.to_string();
    let role = role.map(|role| role.as_str().to_owned());
    let change = AddToken { name: name.clone(), hash, tenant, role, expires_ms, created_by, replace };
    // a caller that hangs up must not leave a replaced token in memory
    let access = access.clone();
    let adding = tokio::spawn(async move {
        let added = store.add_token(change).done().await;
        if let Ok(AddTokenResult::Added(stored)) = &added {
            access.add_stored(stored.clone());
        }
        added
    });
    match adding.await.map_err(|_| failed("add it to", None))? {
        Ok(AddTokenResult::Added(stored)) => {
            let row = context.daemon.access.token_rows().into_iter().find(|row| is_row(row, &stored.name));
            let row = row.ok_or_else(|| failed("add it to", None))?;
            let callback_key = context.daemon.submissions.callbacks().key(&hash).as_str().to_owned();
            Ok(ResultText::of(&TokenAdded { token, callback_key, api: context.daemon.access.is_api(), row }))
        }
        Ok(AddTokenResult::Taken { is_revoked }) => Err(taken(&name, is_revoked)),
        Ok(AddTokenResult::OtherTenant { tenant }) => {
            let message = format!(
                "tenant: what {name:?} handed in belongs to the tenant {tenant:?}; use another name, or that tenant"
            );
            Err(CallError::new(Code::Conflict, message).at_field("tenant"))
        }
        Ok(AddTokenResult::NoTenant) => Err(CallError::bad("tenant", "tenant: is required")),
        Ok(AddTokenResult::TooMany) => {
            let message = format!("the store has {} tokens already; forget tenants that are gone", store::MAX_TOKENS);
            Err(CallError::new(Code::QuotaExceeded, message))
        }
        Err(error) => Err(failed("add it to", Some(&error))),
    }
}

fn is_row(row: &TokenRow, name: &str) -> bool {
    row.name == name && row.origin == protocol::token::TokenOrigin::Store
}

/// Lists all tokens; none of them is in the list itself.
pub(crate) fn list(context: &CallContext, given: Value) -> CallResult {
    let Nothing {} = params(given)?;
    Ok(ResultText::of(&Tokens { tokens: context.daemon.access.token_rows() }))
}

/// Ends a token, at once.
pub(crate) async fn revoke(context: &CallContext, given: Value) -> CallResult {
    let TokenNameParams { name } = params(given)?;
    check_name(&name)?;
    let access = &context.daemon.access;
    access.revoke_stored(&name);
    let store = match token_store(context) {
        Err(_) if access.is_configured(&name) => return Err(of_configuration(&name)),
        store => store?,
    };
    let revoked = store.revoke_token(RevokeToken { name: name.clone() }).done().await;
    match revoked {
        Err(error) => {
            let message = format!(
                "the token is not accepted until the daemon ends, but its end could not be written: {error}; try again"
            );
            Err(CallError::new(code_of(&error), message))
        }
        Ok(_) if access.is_configured(&name) => Err(of_configuration(&name)),
        Ok(RevokeResult::Unknown) => {
            Err(CallError::new(Code::NotFound, "name: no token has this name").at_field("name"))
        }
        Ok(RevokeResult::Revoked | RevokeResult::Before) => Ok(ResultText::of(&Empty {})),
    }
}

/// Makes a one-use code that logs a browser in as the caller.
pub(crate) fn session_code(context: &CallContext, given: Value) -> CallResult {
    let Nothing {} = params(given)?;
    let access = &context.daemon.access;
    if !access.is_api() {
        let message = "browser sessions need the API: set http.api = true, and restart the daemon";
        return Err(CallError::new(Code::Unsupported, message));
    }
    let (code, valid) = access.new_code(&context.peer);
    let url = access.page_url().map(|page| format!("{page}/#login={code}"));
    Ok(ResultText::of(&SessionCode { code, valid_ms: valid.as_millis() as u64, url }))
}

fn check_name(name: &str) -> Result<(), CallError> {
    let message = "name: use 1 to 64 letters, digits, dots, underscores and hyphens, with a letter or digit first";
    if is_token_name(name) { Ok(()) } else { Err(CallError::bad("name", message)) }
}

fn taken(name: &str, is_revoked: bool) -> CallError {
    let message = match is_revoked {
        true => format!(
            "name: {name:?} had a token, which was revoked, and what it handed in is still seen under this name; use \
             another name, or replace it deliberately"
        ),
        false => format!("name: {name:?} has a token; use another name, or replace it to rotate it"),
    };
    CallError::new(Code::Conflict, message).at_field("name")
}

fn of_configuration(name: &str) -> CallError {
    let message = format!(
        "name: the token {name:?} is in the configuration: change its section [[http.tokens]] there, and reload"
    );
    CallError::new(Code::Conflict, message).at_field("name")
}

/// The store, for tokens.
fn token_store(context: &CallContext) -> Result<Arc<Store>, CallError> {
    open_store(context).map_err(|error| CallError {
        message: format!("{}; tokens of the configuration (http.tokens) work without it", error.message),
        ..error
    })
}

fn code_of(error: &store::Error) -> Code {
    if matches!(error, store::Error::Full) { Code::StoreFull } else { Code::Internal }
}

fn failed(what: &str, error: Option<&store::Error>) -> CallError {
    let (code, why) = error.map_or((Code::Internal, String::new()), |error| (code_of(error), format!(": {error}")));
    CallError::new(code, format!("failed to {what} the store{why}"))
}
