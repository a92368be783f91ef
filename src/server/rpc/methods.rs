//! What can be asked, a function per method.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::blobs::BlobError;
use super::connection::{Arrived, Context};
use super::params::{
    BlobGetParams, BlobPutParams, CancelParams, HostParams, IdParams, ImageParams, InputParams, ListParams, Nothing,
    WaitParams,
};
use super::results::{
    BlobPiece, BlobPut, Empty, EventBody, EventData, EventKind, Hosts, ImageMade, ImageProgress, Images, ImagesMade,
    LogRow, Logs, Pools, Sandboxes, StateWord, StillGoing, SubmissionRow, SubmissionState, Submissions, Submitted,
    UsageRow, Waited, value,
};
use super::schema::{self, Role};
use super::types::{Code, Request, RpcError, params};
use super::views;
use config::bounds;
use judge::accept::accept;
use judge::events::{EventLog, EventReader, NumberedEvent, SubmissionEvent};
use judge::rejected::Rejected;
use protocol::{RunReport, Submission};
use sandbox::host::Host;
use scheduler::{Arrival, KeptForNextDaemon, SubmissionHandle, SubmissionPhase, Viewer};
use telemetry::text::clean;
use telemetry::throttle::LogThrottle;
use wire::frame::OutputStream;

type Answer = Result<Value, RpcError>;

/// Answers one call. `since` becomes when there was something to say, for who waited for a report.
pub(super) async fn call(
    context: &Arc<Context>,
    request: Request,
    arrived: Arrived,
    since: &mut Option<Instant>,
) -> Answer {
    let is_submission = matches!(request.method.as_str(), "submission.run" | "submission.submit");
    let answer = dispatch(context, request, arrived, since).await;
    if let (true, Err(error)) = (is_submission, &answer) {
        context.daemon.metrics.count_refused_submission(error.code);
    }
    answer
}

async fn dispatch(context: &Arc<Context>, request: Request, arrived: Arrived, since: &mut Option<Instant>) -> Answer {
    let Request { id, method, params } = request;
    let peer = context.peer;
    let unknown = || RpcError {
        number: -32601,
        ..RpcError::new(Code::NotFound, format!("there is no method {:?}", method.chars().take(64).collect::<String>()))
    };
    let method = schema::find(&method).ok_or_else(unknown)?;
    let allowed = match method.role {
        Role::Any => true,
        Role::Submit => peer.may_submit,
        Role::Admin => peer.is_admin,
    };
    if !allowed {
        let (name, role) = (method.name, method.role.as_str().unwrap_or_default());
        return Err(RpcError::new(Code::Forbidden, format!("{name} needs the role {role}, which your uid lacks")));
    }
    match method.name {
        "submission.run" => run(context, &id, params, arrived, since).await,
        "submission.submit" => {
            let submission = submission(params)?;
            let arrival = arrival(arrived, EventLog::new(true), true);
            let entry = admit(context, &submission, arrival).await?;
            Ok(value(&Submitted { id: entry.id.clone() }))
        }
        "submission.wait" => wait(context, params, arrived, since).await,
        "submission.input" => input(context, params).await,
        "submission.get" => get(context, params),
        "submission.cancel" => cancel(context, params),
        "submission.list" => list(context, params),
        "submission.logs" => logs(context, params),
        "blob.put" => blob_put(context, params),
        "blob.get" => blob_get(context, params),
        "daemon.status" => none(params).map(|()| value(&views::status(context))),
        "daemon.health" => none(params).map(|()| value(&views::health(context))),
        "daemon.drain" => {
            none(params)?;
            context.daemon.submissions.stop_admitting();
            context.daemon.drain.notify_one();
            Ok(value(&Empty {}))
        }
        "daemon.reload" => {
            none(params)?;
            reload(context).await
        }
        "host.drain" | "host.resume" => {
            let HostParams { host } = self::params(params)?;
            find_host(context, &host)?.set_drained(method.name == "host.drain");
            Ok(value(&Empty {}))
        }
        "pool.list" => none(params).map(|()| value(&Pools { pools: views::pools(context) })),
        "host.list" => none(params).map(|()| value(&Hosts { hosts: views::hosts(context) })),
        "profile.list" => none(params).map(|()| value(&views::profiles(context))),
        "rpc.discover" => none(params).map(|()| schema::open_rpc()),
        "sandbox.list" => {
            none(params)?;
            let hosts = context.daemon.fleet.all();
            let mut rows: Vec<_> = hosts.iter().flat_map(|host| host.sandboxes()).collect();
            rows.retain(|row| peer.is_admin || row.uid.is_none_or(|uid| uid == peer.uid));
            Ok(value(&Sandboxes { sandboxes: rows }))
        }
        "image.list" => {
            none(params)?;
            let (profiles, mut rows) = (context.daemon.live.profiles(), Vec::new());
            for host in context.daemon.fleet.all().iter() {
                rows.extend(host.images().rows(profiles.values().map(AsRef::as_ref)).await);
            }
            Ok(value(&Images { images: rows }))
        }
        "image.build" | "image.pull" => image_make(context, params, method.name == "image.pull").await,
        other => Err(RpcError::new(Code::Internal, format!("{other} is in the table, and not answered"))),
    }
}

fn none(value: Value) -> Result<(), RpcError> {
    params::<Nothing>(value).map(|Nothing {}| ())
}

/// A submission as it stands in `params`: its fields directly, or under `submission`. Both spellings are in use.
fn submission(mut value: Value) -> Result<Submission, RpcError> {
    match value.get_mut("submission").map(Value::take) {
        None => params(value),
        Some(inner) => match value.as_object().and_then(|object| object.keys().find(|key| *key != "submission")) {
            None => params(inner),
            Some(other) => Err(RpcError::bad(other, format!("{other}: does not belong beside submission"))),
        },
    }
}

/// Takes `stream` out of a run's parameters.
fn take_stream(value: &mut Value) -> Result<bool, RpcError> {
    match value.as_object_mut().and_then(|object| object.remove("stream")) {
        None => Ok(false),
        Some(Value::Bool(stream)) => Ok(stream),
        Some(_) => Err(RpcError::bad("stream", "stream: must be true or false")),
    }
}

static DENIED: LogThrottle = LogThrottle::new();
static REFUSED: LogThrottle = LogThrottle::new();

async fn admit(
    context: &Context,
    submission: &Submission,
    arrival: Arrival,
) -> Result<Arc<SubmissionHandle>, RpcError> {
    let daemon = &context.daemon;
    daemon.submissions.wait_for_first_probe().await;
    let uid = context.peer.uid;
    let work = accept(submission, uid, &daemon.live.profiles(), &|id| daemon.blobs.get(uid, id)).inspect_err(|rejected| {
        if matches!(rejected, Rejected::Denied { .. })
            && let Some(suppressed) = DENIED.allow()
        {
            tracing::warn!(uid, suppressed, field = %rejected.field().escape_debug(), "security: a submission was denied by policy");
        }
    })?;
    let (tenant, language) = (work.caller.tenant.clone(), work.profile.name.clone());
    daemon.submissions.submit(submission, work, arrival).map_err(|refusal| {
        let error = RpcError::from(refusal);
        if let Some(suppressed) = REFUSED.allow() {
            let (tenant, code, error) = (clean(&tenant), error.code.as_str(), clean(&error.message));
            tracing::warn!(uid, tenant, language, code, error, suppressed, "a submission was refused");
        }
        error
    })
}

fn arrival(arrived: Arrived, log: Arc<EventLog>, outlives_caller: bool) -> Arrival {
    let Arrived { first, received } = arrived;
    Arrival { received, accepting: received.saturating_duration_since(first), log, outlives_caller }
}

/// Since when a caller who waits for a report could have it.
fn since_when(entry: &SubmissionHandle, arrived: Arrived) -> Option<Instant> {
    entry.done_at().map(|done| done.max(arrived.received))
}

async fn run(
    context: &Arc<Context>,
    call: &Value,
    mut value: Value,
    arrived: Arrived,
    since: &mut Option<Instant>,
) -> Answer {
    let stream = take_stream(&mut value)?;
    let submission = submission(value)?;
    let log = EventLog::new(stream);
    // it misses nothing: its program waits for it
    let events = stream.then(|| log.read_all());
    let entry = admit(context, &submission, arrival(arrived, log.clone(), false)).await?;
    context.began(call, &entry);
    // dropped with this call when the connection goes: that is the hang-up's cancel
    if let Some(events) = events {
        // the same id again: it has its own log
        let is_ours = Arc::ptr_eq(&entry.io.log, &log);
        forward(context, &entry.id, if is_ours { events } else { entry.io.log.read_from(0) }).await;
    }
    let report = entry.report().await;
    *since = since_when(&entry, arrived);
    context.ended(call);
    if submission.id.is_none() {
        context.daemon.submissions.forget(&entry);
    }
    to_value(&*report.map_err(is_kept)?)
}

fn is_kept(_: KeptForNextDaemon) -> RpcError {
    let message = "the daemon is on its way out; the submission is kept and runs when it is back: ask again then";
    RpcError::new(Code::Draining, message)
}

fn to_value(value: &impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| RpcError::new(Code::Internal, error.to_string()))
}

/// Sends events as they come; `accepted` is the first.
async fn forward(context: &Context, id: &str, mut events: EventReader) {
    while let Some(NumberedEvent { seq, event, dropped_bytes }) = events.next().await {
        let mut body = describe(id, seq, event);
        body.dropped_bytes = Some(dropped_bytes).filter(|bytes| *bytes > 0);
        if !context.notify("submission.event", &value(&body)).await {
            return;
        }
    }
}

/// An event as it stands in JSON.
fn describe(id: &str, seq: u64, event: SubmissionEvent) -> EventBody {
    let body =
        |kind, test, data| EventBody { id: id.to_owned(), seq, kind, test, data, data_b64: None, dropped_bytes: None };
    match event {
        SubmissionEvent::Accepted => body(EventKind::Accepted, None, None),
        SubmissionEvent::Running => body(EventKind::State, None, Some(EventData::Text("running".to_owned()))),
        SubmissionEvent::Compile { outcome } => body(EventKind::Compile, None, Some(EventData::Outcome(outcome))),
        SubmissionEvent::Test { name, verdict } => body(EventKind::Test, Some(name), Some(EventData::Verdict(verdict))),
        SubmissionEvent::Usage { test, usage } => {
            let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
            let data = UsageRow { wall_ms: ms(usage.wall), cpu_ms: ms(usage.cpu), memory_bytes: usage.memory_bytes };
            body(EventKind::Usage, test, Some(EventData::Usage(data)))
        }
        SubmissionEvent::Output { test, stream, data } => {
            let kind = match stream {
                OutputStream::Stdout => EventKind::Stdout,
                OutputStream::Stderr => EventKind::Stderr,
            };
            match String::from_utf8(data) {
                Ok(text) => body(kind, test, Some(EventData::Text(text))),
                Err(error) => {
                    let data_b64 = Some(base64::engine::general_purpose::STANDARD.encode(error.as_bytes()));
                    EventBody { data_b64, ..body(kind, test, None) }
                }
            }
        }
    }
}

fn viewer(context: &Context) -> Viewer {
    if context.peer.is_admin { Viewer::Admin } else { Viewer::Uid(context.peer.uid) }
}

fn find(context: &Context, id: &str) -> Result<Arc<SubmissionHandle>, RpcError> {
    let found = context.daemon.submissions.find(viewer(context), id);
    found.ok_or_else(|| RpcError {
        field: Some("id".to_owned()),
        ..RpcError::new(Code::NotFound, "id: there is no such submission of yours (any more)")
    })
}

async fn wait(context: &Context, given: Value, arrived: Arrived, since: &mut Option<Instant>) -> Answer {
    let WaitParams { id, timeout_ms, stream, from_seq } = params(given)?;
    if from_seq.is_some() && !stream {
        return Err(RpcError::bad("from_seq", "from_seq: says where a stream begins; set stream as well"));
    }
    let entry = find(context, &id)?;
    let ended = async {
        if stream {
            forward(context, &entry.id, entry.io.log.read_from(from_seq.unwrap_or(0))).await;
        }
        entry.report().await
    };
    let report = match timeout_ms {
        None => Some(ended.await),
        Some(ms) => tokio::time::timeout(Duration::from_millis(ms), ended).await.ok(),
    };
    *since = since_when(&entry, arrived).filter(|_| report.is_some());
    match report {
        Some(report) => to_value(&*report.map_err(is_kept)?),
        None => Ok(value(&Waited::State(StillGoing { id: entry.id.clone(), state: StateWord::of(&entry.phase()) }))),
    }
}

/// Feeds a program's input; answers when there is room for more.
async fn input(context: &Context, given: Value) -> Answer {
    let InputParams { id, data, data_b64, eof } = params(given)?;
    let data = match (data, data_b64) {
        (Some(_), Some(_)) => return Err(RpcError::bad("data", "data: give data or data_b64, not both")),
        (Some(text), None) => text.into_bytes(),
        (None, Some(b64)) => base64::engine::general_purpose::STANDARD
            .decode(b64)
            .map_err(|error| RpcError::bad("data_b64", format!("data_b64: is not base64: {error}")))?,
        (None, None) => Vec::new(),
    };
    let entry = find(context, &id)?;
    let closed =
        || RpcError::bad("id", "id: this submission's input is not open (any more); hand it in with stdin_open");
    let pipe = entry.io.input.as_ref().ok_or_else(closed)?;
    // the submission may end while this waits; then nobody reads, and that is said
    pipe.wait_for_room().await;
    if matches!(entry.phase(), SubmissionPhase::Done(_)) || !(data.is_empty() || pipe.push(data.into())) {
        return Err(closed());
    }
    if eof {
        pipe.close();
    }
    Ok(value(&Empty {}))
}

fn get(context: &Context, given: Value) -> Answer {
    let entry = find(context, &params::<IdParams>(given)?.id)?;
    let state = entry.phase();
    let word = StateWord::of(&state);
    let report = if let SubmissionPhase::Done(report) = &state { Some(report.as_ref()) } else { None };
    to_value(&SubmissionState { id: &entry.id, state: word, report })
}

fn cancel(context: &Context, given: Value) -> Answer {
    match params(given)? {
        CancelParams { id: Some(id), request: None } => find(context, &id)?.cancel(),
        CancelParams { id: None, request: Some(call) } => {
            // a call that has been answered already is not an error: cancel is idempotent
            if let Some(entry) = context.run_of(&call) {
                entry.cancel();
            }
        }
        _ => return Err(RpcError::bad("id", "give id (a submission) or request (a call of this connection)")),
    }
    Ok(value(&Empty {}))
}

fn list(context: &Context, given: Value) -> Answer {
    let ListParams { state, tenant } = params(given)?;
    let mut rows = Vec::new();
    for entry in context.daemon.submissions.list(viewer(context)) {
        let now = entry.phase();
        let word = now.as_str();
        let fits = state.as_deref().is_none_or(|state| state == word)
            && tenant.as_deref().is_none_or(|tenant| tenant == entry.caller.tenant);
        if fits {
            rows.push(SubmissionRow {
                id: entry.id.clone(),
                state: StateWord::of(&now),
                uid: entry.caller.uid,
                tenant: entry.caller.tenant.clone(),
            });
        }
    }
    Ok(value(&Submissions { submissions: rows }))
}

fn logs(context: &Context, given: Value) -> Answer {
    let entry = find(context, &params::<IdParams>(given)?.id)?;
    let state = entry.phase();
    let mut logs = Vec::new();
    if let SubmissionPhase::Done(report) = &state {
        let row = |name: &str, run: &RunReport| LogRow {
            name: name.to_owned(),
            stdout: run.stdout.clone(),
            stdout_b64: run.stdout_b64.clone(),
            stderr: run.stderr.clone(),
            stderr_b64: run.stderr_b64.clone(),
        };
        logs.extend(report.compile.as_ref().map(|run| row("compile", run)));
        logs.extend(report.run.as_ref().map(|run| row("run", run)));
        let tests = report.tests.iter();
        logs.extend(tests.map(|test| match &test.run {
            Some(run) => row(&test.name, run),
            None => LogRow { name: test.name.clone(), ..LogRow::default() },
        }));
    }
    to_value(&Logs { id: entry.id.clone(), state: StateWord::of(&state), logs })
}

fn blob_error(error: &BlobError) -> RpcError {
    let (code, field) = match error {
        BlobError::Unknown(_) => (Code::NotFound, "blob"),
        BlobError::Ended(_) => (Code::BadRequest, "blob"),
        BlobError::Offset { .. } => (Code::BadRequest, "offset"),
        BlobError::Full(_) => (Code::TooLarge, "data_b64"),
    };
    RpcError { field: Some(field.to_owned()), ..RpcError::new(code, error.to_string()) }
}

fn blob_put(context: &Context, given: Value) -> Answer {
    let BlobPutParams { data_b64, offset, eof, blob } = params(given)?;
    let data = base64::engine::general_purpose::STANDARD
        .decode(data_b64)
        .map_err(|error| RpcError::bad("data_b64", format!("data_b64: is not base64: {error}")))?;
    let id = context
        .daemon
        .blobs
        .put(context.peer.uid, blob.as_deref(), offset, &data, eof)
        .map_err(|error| blob_error(&error))?;
    Ok(value(&BlobPut { blob: id }))
}

fn blob_get(context: &Context, given: Value) -> Answer {
    let BlobGetParams { blob, offset, max } = params(given)?;
    let bytes = context
        .daemon
        .blobs
        .get(context.peer.uid, &blob)
        .ok_or_else(|| blob_error(&BlobError::Unknown(blob.chars().take(64).collect())))?;
    // base64 makes four of three, and the line has a bound
    let most = (bounds::MAX_LINE_BYTES / 2) as u64;
    let begin = offset.min(bytes.len() as u64);
    let end = begin.saturating_add(max.unwrap_or(most).min(most)).min(bytes.len() as u64);
    let piece = &bytes[begin as usize..end as usize];
    Ok(value(&BlobPiece {
        data_b64: base64::engine::general_purpose::STANDARD.encode(piece),
        eof: end == bytes.len() as u64,
    }))
}

fn find_host(context: &Context, name: &str) -> Result<Arc<Host>, RpcError> {
    let fleet = &context.daemon.fleet;
    fleet.find(name).ok_or_else(|| {
        let known = fleet.all().iter().map(|host| host.name().to_owned()).collect::<Vec<_>>().join(", ");
        let name = name.chars().take(64).collect::<String>();
        RpcError {
            field: Some("host".to_owned()),
            ..RpcError::new(Code::NotFound, format!("host: there is no host {name:?}; there are {known}"))
        }
    })
}

async fn reload(context: &Context) -> Answer {
    let (reply, answer) = oneshot::channel();
    let gone = || RpcError::new(Code::Draining, "the daemon is on its way out");
    context.daemon.reload.send(reply).await.map_err(|_| gone())?;
    let message = |error| format!("the new configuration is not taken over, the old one stays in effect: {error}");
    answer.await.map_err(|_| gone())?.map_err(|error| RpcError::new(Code::BadRequest, message(error)))
}

/// `image.build`, and `image.pull`, which asks the registry also when the engine has the image.
async fn image_make(context: &Context, given: Value, pull: bool) -> Answer {
    let ImageParams { profile, host } = params(given)?;
    let daemon = &context.daemon;
    let profiles = daemon.live.profiles();
    let Some(found) = profiles.get(&profile) else {
        let known = profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        let message = format!("profile: there is no profile {profile:?}; there are {known}");
        return Err(RpcError { field: Some("profile".to_owned()), ..RpcError::new(Code::UnknownProfile, message) });
    };
    if pull && !sandbox::image::is_registry_name(&found.image) {
        let message =
            format!("profile: the image of {profile:?} is built from the folder {:?}: use image.build", found.image);
        return Err(RpcError { field: Some("profile".to_owned()), ..RpcError::new(Code::BadRequest, message) });
    }
    daemon.submissions.wait_for_first_probe().await;
    let fleet = &daemon.fleet;
    let hosts = match host {
        Some(name) => vec![find_host(context, &name)?],
        None => fleet.all().iter().filter(|host| host.answers()).cloned().collect(),
    };
    let mut rows = Vec::new();
    for host in &hosts {
        let built = make_on(context, host, &profile, &found.image, pull).await?;
        rows.push(ImageMade {
            host: host.name().to_owned(),
            image: found.image.clone(),
            id: built.id,
            tag: built.tag,
            built: built.built,
            took_ms: built.took.as_millis() as u64,
        });
    }
    let first = rows.first().cloned().ok_or_else(|| RpcError::new(Code::NoHost, "no Docker host is up"))?;
    Ok(value(&ImagesMade { first, hosts: rows }))
}

/// On one host, with its progress.
async fn make_on(
    context: &Context,
    host: &Arc<Host>,
    profile: &str,
    image: &str,
    pull: bool,
) -> Result<sandbox::image::ResolvedImage, RpcError> {
    let (sender, mut events) = mpsc::channel::<sandbox::image::BuildEvent>(bounds::MAX_OUTBOUND_MESSAGES);
    // progress is a courtesy: a slow reader misses lines, the build does not wait for it
    let mut watch = move |event| drop(sender.try_send(event));
    let making = async move { host.images().make(image, pull, &mut watch).await };
    let telling = async {
        while let Some(event) = events.recv().await {
            let body = ImageProgress {
                profile: profile.to_owned(),
                host: host.name().to_owned(),
                image: event.image,
                step: event.step,
                done: event.done,
                total: event.total,
                line: event.line,
            };
            if !context.notify("image.progress", &value(&body)).await {
                return;
            }
        }
    };
    let (built, ()) = tokio::join!(making, telling);
    for pool in host.pools() {
        pool.reset_backoff();
    }
    built.map_err(|error| RpcError::new(Code::Internal, error.to_string()))
}
