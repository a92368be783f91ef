//! Checks the role of a caller and dispatches a call to the function of its method.

use std::sync::{Arc, LazyLock};

use serde_json::Value;
use tokio::sync::oneshot;

use super::context::{Context, LineReply};
use super::{images, submissions};
use crate::calls::audit::AuditedAction;
use crate::calls::context::{CallReply, CallResult, ReceivedAt, ResultText};
use crate::calls::error::CallError;
use crate::calls::params::params;
use crate::calls::socket_bytes::HeldBytes;
use crate::calls::{blobs, history, store_admin, submissions as shared, tokens, views};
use protocol::code::Code;
use protocol::method::{Method, Role};
use protocol::params::{HostParams, Nothing};
use protocol::results::{Admission, Empty, Hosts, ImageList, Pools, Sandboxes};
use protocol::rows::HostState;
use protocol::schema;

/// Executes one call. `held` counts its parameters.
pub(super) async fn call(
    context: &Arc<Context>,
    method: Method,
    id: &Value,
    params: Value,
    received: ReceivedAt,
    held: HeldBytes,
) -> Result<LineReply, CallError> {
    let action = AuditedAction::of(method, &params, context.daemon.submissions.is_paused());
    let reply = match check_role(context, method) {
        Ok(()) => dispatch(context, method, id, params, received, held).await,
        Err(error) => Err(error),
    };
    if let Some(action) = action {
        action.record(&context.peer.principal, "socket", reply.as_ref().map(drop).map_err(|error| error.code));
    }
    if let (true, Err(error)) = (method.is_submitting(), &reply) {
        context.count_refused(error);
    }
    reply
}

fn check_role(context: &Context, method: Method) -> Result<(), CallError> {
    let role = method.role();
    let is_allowed = match role {
        Role::Any => true,
        Role::Submit => context.peer.may_submit,
        Role::Admin => context.peer.is_admin,
    };
    if is_allowed {
        return Ok(());
    }
    let (name, role) = (method.name(), role.as_str().unwrap_or_default());
    Err(CallError::new(Code::Forbidden, format!("{name} needs the role {role}, which your uid lacks")))
}

async fn dispatch(
    context: &Arc<Context>,
    method: Method,
    id: &Value,
    params: Value,
    received: ReceivedAt,
    held: HeldBytes,
) -> Result<LineReply, CallError> {
    // what has been admitted counts in the queue
    let held = match method {
        Method::SubmissionRun => return submissions::run(context, id, params, received, held).await,
        Method::SubmissionWait => return submissions::wait(context, params, received).await,
        Method::SubmissionSubmit => {
            return shared::submit(context, params, received, held).await.map(LineReply::from);
        }
        Method::SubmissionInput => return shared::input(context, params, held).await.map(LineReply::from),
        _ => held,
    };
    let gone = || CallError::new(Code::Internal, "the connection is closed");
    let turn = if only_reads(method) { Some(context.outbox.turn().await.ok_or_else(gone)?) } else { None };
    let reply = match method {
        Method::BlobGet => blobs::get(context, params).await,
        Method::SubmissionGet => shared::get(context, params).await,
        Method::SubmissionLogs => shared::logs(context, params).await,
        Method::ReceiptGet => history::receipt(context, params).await,
        Method::BlobPut => {
            context.account.work(held.bytes(), || blobs::put(context, params)).await.map(CallReply::from)
        }
        _ => act(context, method, params).await.map(CallReply::from),
    };
    drop(held);
    reply.map(|reply| LineReply { reply, turn })
}

/// Whether a method does nothing but make a reply, which is then made in its turn.
fn only_reads(method: Method) -> bool {
    let waits_or_acts = matches!(method, Method::SubmissionWait | Method::SubmissionCancel | Method::SubmissionInput);
    method.role() == Role::Any && !waits_or_acts
}

/// The methods that wait or act, and reply with a small value.
async fn act(context: &Arc<Context>, method: Method, params: Value) -> CallResult {
    match method {
        Method::SubmissionCancel => submissions::cancel(context, params),
        Method::SubmissionList => shared::list(context, params).await,
        Method::SubmissionStats => history::stats(context, params).await,
        Method::DaemonDrain => nothing(params).map(|()| drain(context)),
        Method::DaemonReload => reload(context, params).await,
        Method::DaemonPause => nothing(params).map(|()| set_paused(context, true)),
        Method::DaemonResume => nothing(params).map(|()| set_paused(context, false)),
        Method::HostDrain => set_drained(context, params, true),
        Method::HostResume => set_drained(context, params, false),
        Method::ImageList => image_list(context, params).await,
        Method::ImageBuild => images::build(context, params).await,
        Method::ImagePull => images::pull(context, params).await,
        Method::ImagePrune => images::prune(context, params).await,
        Method::StoreBackup => store_admin::backup(context, params).await,
        Method::StoreCheck => store_admin::check(context, params).await,
        Method::StoreVacuum => store_admin::vacuum(context, params).await,
        Method::StoreForget => store_admin::forget(context, params).await,
        Method::TokenAdd => tokens::add(context, params).await,
        Method::TokenList => tokens::list(context, params),
        Method::TokenRevoke => tokens::revoke(context, params).await,
        Method::SessionCode => tokens::session_code(context, params),
        // those that only read what the daemon knows
        _ => context.account.work(0, || read(context, method, params)).await,
    }
}

/// The methods that only read what the daemon knows.
fn read(context: &Arc<Context>, method: Method, params: Value) -> CallResult {
    static DISCOVER: LazyLock<String> = LazyLock::new(|| schema::open_rpc().to_string());
    match method {
        Method::DaemonStatus => nothing(params).map(|()| status(context)),
        Method::DaemonHealth => nothing(params).map(|()| ResultText::of(&views::health(&context.daemon))),
        Method::PoolList => nothing(params).map(|()| ResultText::of(&Pools { pools: views::pools(&context.daemon) })),
        Method::HostList => nothing(params).map(|()| ResultText::of(&Hosts { hosts: views::hosts(&context.daemon) })),
        Method::ProfileList => nothing(params).map(|()| ResultText::of(&views::profiles(&context.daemon))),
        Method::SandboxList => nothing(params).map(|()| sandboxes(context)),
        Method::RpcDiscover => nothing(params).map(|()| ResultText::Made(DISCOVER.clone())),
        // see `dispatch` and `act`
        _ => Err(CallError::unknown_method(method.name())),
    }
}

/// The status. Names of tokens are for admins.
fn status(context: &Context) -> ResultText {
    let mut status = views::status(&context.daemon);
    if !context.peer.is_admin {
        status.queue.callers.retain(|row| row.account.is_none());
    }
    ResultText::of(&status)
}

fn nothing(value: Value) -> Result<(), CallError> {
    params::<Nothing>(value).map(|Nothing {}| ())
}

fn drain(context: &Context) -> ResultText {
    context.daemon.submissions.stop_admitting();
    context.daemon.drain.notify_one();
    ResultText::of(&Empty {})
}

fn set_paused(context: &Context, paused: bool) -> ResultText {
    let submissions = &context.daemon.submissions;
    let principal = &context.peer.principal;
    // a command that waits asks again and again
    match (submissions.set_paused(paused), paused) {
        (true, true) => tracing::warn!(
            uid = principal.uid(),
            principal = principal.named(),
            "paused by command: submissions are refused until `assay resume`"
        ),
        (true, false) => tracing::info!(
            uid = principal.uid(),
            principal = principal.named(),
            "resumed by command: submissions are admitted"
        ),
        (false, _) => {}
    }
    let (admitted, running, _) = submissions.counts();
    ResultText::of(&Admission { paused, queued: admitted.saturating_sub(running), running })
}

async fn reload(context: &Context, given: Value) -> CallResult {
    nothing(given)?;
    let (reply, result) = oneshot::channel();
    let shutting_down = || CallError::new(Code::Draining, "the daemon is shutting down");
    context.daemon.reload.send(reply).await.map_err(|_| shutting_down())?;
    let message = |error| format!("the new configuration is not applied, the old one stays in effect: {error}");
    let reloaded = result.await.map_err(|_| shutting_down())?;
    let reloaded = reloaded.map_err(|error| CallError::new(Code::BadRequest, message(error)))?;
    Ok(ResultText::of(&reloaded))
}

fn set_drained(context: &Context, given: Value, drained: bool) -> CallResult {
    let HostParams { host } = params(given)?;
    let found = views::find_host(&context.daemon, &host)?;
    let is_change = (found.state() == HostState::Draining) != drained;
    found.set_drained(drained);
    let principal = &context.peer.principal;
    match drained {
        _ if !is_change => {}
        true => {
            tracing::warn!(
                uid = principal.uid(),
                principal = principal.named(),
                host,
                "host drained by command: it gets no work until `assay hosts resume {host}`"
            )
        }
        false => tracing::info!(
            uid = principal.uid(),
            principal = principal.named(),
            host,
            "host resumed by command: it gets work"
        ),
    }
    Ok(ResultText::of(&Empty {}))
}

fn sandboxes(context: &Context) -> ResultText {
    let hosts = context.daemon.fleet.all();
    let mut rows: Vec<_> = hosts.iter().flat_map(|host| host.sandboxes()).collect();
    let (uid, name) = (context.peer.principal.uid(), context.peer.principal.named());
    rows.retain(|row| {
        let is_free = row.uid.is_none() && row.principal.is_none();
        context.peer.is_admin || is_free || (row.uid, &row.principal) == (uid, &name)
    });
    ResultText::of(&Sandboxes { sandboxes: rows })
}

async fn image_list(context: &Context, given: Value) -> CallResult {
    nothing(given)?;
    let (profiles, mut rows) = (context.daemon.live.profiles(), Vec::new());
    for host in context.daemon.fleet.all().iter() {
        rows.extend(host.images().rows(profiles.values().map(AsRef::as_ref)).await);
    }
    Ok(ResultText::of(&ImageList { images: rows }))
}
