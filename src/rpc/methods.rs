//! What can be asked, a function per method.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::blobs::BlobError;
use super::connection::Context;
use super::types::{Code, Request, RpcError, params};
use super::views;
use crate::config::bounds;
use crate::host::Host;
use crate::judge::accept::accept;
use crate::judge::events::{Event, Log, Reader, Told};
use crate::judge::rejected::Rejected;
use crate::model::Submission;
use crate::scheduler::{Arrival, Entry, IsKept, State};
use crate::telemetry::seldom::Seldom;
use crate::wire::frame::Stream;

type Answer = Result<Value, RpcError>;

/// Answers one call.
pub(super) async fn call(context: &Arc<Context>, request: Request, received: Instant) -> Answer {
    let Request { id, method, params } = request;
    let allow = |allowed: bool, role: &str| match allowed {
        true => Ok(()),
        false => Err(RpcError::new(Code::Forbidden, format!("{method} needs the role {role}, which your uid lacks"))),
    };
    let peer = context.peer;
    match method.as_str() {
        "submission.run" => {
            allow(peer.may_submit, "submit")?;
            run(context, &id, params, received).await
        }
        "submission.submit" => {
            allow(peer.may_submit, "submit")?;
            let submission = submission(params)?;
            let arrival = Arrival { received, log: Log::new(true), outlives_caller: true };
            let entry = admit(context, &submission, arrival)?;
            Ok(json!({ "id": entry.id }))
        }
        "submission.wait" => wait(context, params).await,
        "submission.input" => input(context, params).await,
        "submission.get" => get(context, params),
        "submission.cancel" => cancel(context, params),
        "submission.list" => list(context, params),
        "submission.logs" => logs(context, params),
        "blob.put" => {
            allow(peer.may_submit, "submit")?;
            blob_put(context, params)
        }
        "blob.get" => blob_get(context, params),
        "daemon.status" => none(params).map(|()| views::status(context)),
        "daemon.health" => none(params).map(|()| views::health(context)),
        "daemon.drain" => {
            allow(peer.is_admin, "admin")?;
            none(params)?;
            context.daemon.scheduler.stop_admitting();
            context.daemon.drain.notify_one();
            Ok(json!({}))
        }
        "daemon.reload" => {
            allow(peer.is_admin, "admin")?;
            none(params)?;
            reload(context).await
        }
        "host.drain" | "host.resume" => {
            allow(peer.is_admin, "admin")?;
            let HostParams { host } = self::params(params)?;
            find_host(context, &host)?.set_drained(method == "host.drain");
            Ok(json!({}))
        }
        "pool.list" => none(params).map(|()| json!({ "pools": views::pools(context) })),
        "host.list" => none(params).map(|()| json!({ "hosts": views::hosts(context) })),
        "profile.list" => none(params).map(|()| views::profiles(context)),
        "sandbox.list" => {
            none(params)?;
            let hosts = context.daemon.scheduler.fleet().all();
            let mut rows: Vec<_> = hosts.iter().flat_map(|host| host.sandboxes()).collect();
            rows.retain(|row| peer.is_admin || row.uid.is_none_or(|uid| uid == peer.uid));
            Ok(json!({ "sandboxes": rows }))
        }
        "image.list" => {
            none(params)?;
            let (profiles, mut rows) = (context.daemon.live.profiles(), Vec::new());
            for host in context.daemon.scheduler.fleet().all().iter() {
                rows.extend(host.images().rows(profiles.values().map(AsRef::as_ref)).await);
            }
            Ok(json!({ "images": rows }))
        }
        "image.build" | "image.pull" => {
            allow(peer.is_admin, "admin")?;
            image_make(context, params, method == "image.pull").await
        }
        other => Err(RpcError {
            number: -32601,
            ..RpcError::new(
                Code::NotFound,
                format!("there is no method {:?}", other.chars().take(64).collect::<String>()),
            )
        }),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

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

static DENIED: Seldom = Seldom::new();

fn admit(context: &Context, submission: &Submission, arrival: Arrival) -> Result<Arc<Entry>, RpcError> {
    let daemon = &context.daemon;
    let uid = context.peer.uid;
    let work = accept(submission, uid, &daemon.live.profiles(), &|id| daemon.blobs.get(uid, id)).inspect_err(|rejected| {
        if matches!(rejected, Rejected::Denied { .. })
            && let Some(unsaid) = DENIED.may()
        {
            tracing::warn!(uid, unsaid, field = %rejected.field().escape_debug(), "security: a submission was denied by policy");
        }
    })?;
    Ok(daemon.scheduler.submit(submission, work, arrival)?)
}

async fn run(context: &Arc<Context>, call: &Value, mut value: Value, received: Instant) -> Answer {
    let stream = take_stream(&mut value)?;
    let submission = submission(value)?;
    let log = Log::new(stream);
    // it misses nothing: its program waits for it
    let events = stream.then(|| log.read_all());
    let entry = admit(context, &submission, Arrival { received, log: log.clone(), outlives_caller: false })?;
    context.began(call, &entry);
    // dropped with this call when the connection goes: that is the hang-up's cancel
    if let Some(events) = events {
        // the same id again: it has its own log
        let is_ours = Arc::ptr_eq(&entry.ends.log, &log);
        forward(context, &entry.id, if is_ours { events } else { entry.ends.log.read_from(0) }).await;
    }
    let report = entry.report().await;
    context.ended(call);
    if submission.id.is_none() {
        context.daemon.scheduler.forget(&entry);
    }
    to_value(&*report.map_err(is_kept)?)
}

fn is_kept(_: IsKept) -> RpcError {
    let message = "the daemon is on its way out; the submission is kept and runs when it is back: ask again then";
    RpcError::new(Code::Draining, message)
}

fn to_value(value: &impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| RpcError::new(Code::Internal, error.to_string()))
}

/// Sends events as they come; `accepted` is the first.
async fn forward(context: &Context, id: &str, mut events: Reader) {
    while let Some(Told { seq, event, dropped_bytes }) = events.next().await {
        let mut body = json!({ "id": id, "seq": seq });
        if dropped_bytes > 0 {
            body["dropped_bytes"] = json!(dropped_bytes);
        }
        describe(event, &mut body);
        if !context.notify("submission.event", &body).await {
            return;
        }
    }
}

/// An event's kind, test and data.
fn describe(event: Event, body: &mut Value) {
    let (kind, test, data) = match event {
        Event::Accepted => ("accepted", None, None),
        Event::Running => ("state", None, Some(json!("running"))),
        Event::Compile { outcome } => ("compile", None, Some(json!(outcome))),
        Event::Test { name, verdict } => ("test", Some(name), Some(json!(verdict))),
        Event::Usage { test, usage } => {
            let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
            let data = json!({
                "wall_ms": ms(usage.wall), "cpu_ms": ms(usage.cpu), "memory_bytes": usage.memory_bytes,
            });
            ("usage", test, Some(data))
        }
        Event::Output { test, stream, data } => {
            let kind = match stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            };
            let text = String::from_utf8(data).map_err(|error| {
                body["data_b64"] = json!(base64::engine::general_purpose::STANDARD.encode(error.as_bytes()));
            });
            (kind, test, text.ok().map(|text| json!(text)))
        }
    };
    body["kind"] = json!(kind);
    if let Some(test) = test {
        body["test"] = json!(test);
    }
    if let Some(data) = data {
        body["data"] = data;
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitParams {
    id: String,
    timeout_ms: Option<u64>,
    #[serde(default)]
    stream: bool,
    from_seq: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdParams {
    id: String,
}

fn find(context: &Context, id: &str) -> Result<Arc<Entry>, RpcError> {
    let found = context.daemon.scheduler.find(context.peer.uid, context.peer.is_admin, id);
    found.ok_or_else(|| RpcError {
        field: Some("id".to_owned()),
        ..RpcError::new(Code::NotFound, "id: there is no such submission of yours (any more)")
    })
}

async fn wait(context: &Context, value: Value) -> Answer {
    let WaitParams { id, timeout_ms, stream, from_seq } = params(value)?;
    if from_seq.is_some() && !stream {
        return Err(RpcError::bad("from_seq", "from_seq: says where a stream begins; set stream as well"));
    }
    let entry = find(context, &id)?;
    let ended = async {
        if stream {
            forward(context, &entry.id, entry.ends.log.read_from(from_seq.unwrap_or(0))).await;
        }
        entry.report().await
    };
    let report = match timeout_ms {
        None => Some(ended.await),
        Some(ms) => tokio::time::timeout(Duration::from_millis(ms), ended).await.ok(),
    };
    match report {
        Some(report) => to_value(&*report.map_err(is_kept)?),
        None => Ok(json!({ "id": entry.id, "state": entry.state().as_str() })),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputParams {
    id: String,
    data: Option<String>,
    data_b64: Option<String>,
    #[serde(default)]
    eof: bool,
}

/// Feeds a program's input; answers when there is room for more.
async fn input(context: &Context, value: Value) -> Answer {
    let InputParams { id, data, data_b64, eof } = params(value)?;
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
    let pipe = entry.ends.input.as_ref().ok_or_else(closed)?;
    // the submission may end while this waits; then nobody reads, and that is said
    pipe.room().await;
    if matches!(entry.state(), State::Done(_)) || !(data.is_empty() || pipe.push(data.into())) {
        return Err(closed());
    }
    if eof {
        pipe.close();
    }
    Ok(json!({}))
}

fn get(context: &Context, value: Value) -> Answer {
    let entry = find(context, &params::<IdParams>(value)?.id)?;
    let state = entry.state();
    let mut answer = json!({ "id": entry.id, "state": state.as_str() });
    if let State::Done(report) = state {
        answer["report"] = to_value(&*report)?;
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelParams {
    id: Option<String>,
    request: Option<Value>,
}

fn cancel(context: &Context, value: Value) -> Answer {
    match params(value)? {
        CancelParams { id: Some(id), request: None } => find(context, &id)?.cancel(),
        CancelParams { id: None, request: Some(call) } => {
            // a call that has been answered already is not an error: cancel is idempotent
            if let Some(entry) = context.run_of(&call) {
                entry.cancel();
            }
        }
        _ => return Err(RpcError::bad("id", "give id (a submission) or request (a call of this connection)")),
    }
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    state: Option<String>,
    tenant: Option<String>,
}

fn list(context: &Context, value: Value) -> Answer {
    let ListParams { state, tenant } = params(value)?;
    let mut rows = Vec::new();
    for entry in context.daemon.scheduler.list(context.peer.uid, context.peer.is_admin) {
        let word = entry.state().as_str();
        let fits = state.as_deref().is_none_or(|state| state == word)
            && tenant.as_deref().is_none_or(|tenant| tenant == entry.caller.tenant);
        if fits {
            rows.push(json!({
                "id": entry.id, "state": word, "uid": entry.caller.uid, "tenant": entry.caller.tenant,
            }));
        }
    }
    Ok(json!({ "submissions": rows }))
}

fn logs(context: &Context, value: Value) -> Answer {
    let entry = find(context, &params::<IdParams>(value)?.id)?;
    let State::Done(report) = entry.state() else {
        return Ok(json!({ "id": entry.id, "state": entry.state().as_str(), "logs": [] }));
    };
    let report = to_value(&*report)?;
    let mut rows = Vec::new();
    let mut add = |name: &str, run: &Value| {
        if run.is_object() {
            let pick = |key: &str| run.get(key).cloned();
            let mut row = json!({ "name": name });
            for key in ["stdout", "stdout_b64", "stderr", "stderr_b64"] {
                if let Some(value) = pick(key) {
                    row[key] = value;
                }
            }
            rows.push(row);
        }
    };
    add("compile", &report["compile"]);
    add("run", &report["run"]);
    for test in report["tests"].as_array().into_iter().flatten() {
        add(test["name"].as_str().unwrap_or_default(), test);
    }
    Ok(json!({ "id": entry.id, "state": "done", "logs": rows }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlobPut {
    data_b64: String,
    offset: u64,
    eof: bool,
    blob: Option<String>,
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

fn blob_put(context: &Context, value: Value) -> Answer {
    let BlobPut { data_b64, offset, eof, blob } = params(value)?;
    let data = base64::engine::general_purpose::STANDARD
        .decode(data_b64)
        .map_err(|error| RpcError::bad("data_b64", format!("data_b64: is not base64: {error}")))?;
    let id = context
        .daemon
        .blobs
        .put(context.peer.uid, blob.as_deref(), offset, &data, eof)
        .map_err(|error| blob_error(&error))?;
    Ok(json!({ "blob": id }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlobGet {
    blob: String,
    #[serde(default)]
    offset: u64,
    max: Option<u64>,
}

fn blob_get(context: &Context, value: Value) -> Answer {
    let BlobGet { blob, offset, max } = params(value)?;
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
    Ok(json!({
        "data_b64": base64::engine::general_purpose::STANDARD.encode(piece),
        "eof": end == bytes.len() as u64,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostParams {
    host: String,
}

fn find_host(context: &Context, name: &str) -> Result<Arc<Host>, RpcError> {
    let fleet = context.daemon.scheduler.fleet();
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageMake {
    profile: String,
    host: Option<String>,
}

/// `image.build`, and `image.pull`, which asks the registry also when the engine has the image.
async fn image_make(context: &Context, value: Value, pull: bool) -> Answer {
    let ImageMake { profile, host } = params(value)?;
    let daemon = &context.daemon;
    let profiles = daemon.live.profiles();
    let Some(found) = profiles.get(&profile) else {
        let known = profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        let message = format!("profile: there is no profile {profile:?}; there are {known}");
        return Err(RpcError { field: Some("profile".to_owned()), ..RpcError::new(Code::UnknownProfile, message) });
    };
    if pull && !crate::image::is_registrys(&found.image) {
        let message =
            format!("profile: the image of {profile:?} is built from the folder {:?}: use image.build", found.image);
        return Err(RpcError { field: Some("profile".to_owned()), ..RpcError::new(Code::BadRequest, message) });
    }
    let fleet = daemon.scheduler.fleet();
    let hosts = match host {
        Some(name) => vec![find_host(context, &name)?],
        None => fleet.all().iter().filter(|host| host.answers()).cloned().collect(),
    };
    let mut rows = Vec::new();
    for host in &hosts {
        let built = make_on(context, host, &profile, &found.image, pull).await?;
        rows.push(json!({
            "host": host.name(), "image": found.image, "id": built.id, "tag": built.tag, "built": built.built,
            "took_ms": built.took.as_millis() as u64,
        }));
    }
    let mut answer = rows.first().cloned().ok_or_else(|| RpcError::new(Code::NoHost, "no Docker host is up"))?;
    answer["hosts"] = json!(rows);
    Ok(answer)
}

/// On one host, with its progress.
async fn make_on(
    context: &Context,
    host: &Arc<Host>,
    profile: &str,
    image: &str,
    pull: bool,
) -> Result<crate::image::Built, RpcError> {
    let (sender, mut events) = mpsc::channel::<crate::image::BuildEvent>(bounds::MAX_OUTBOUND_MESSAGES);
    // progress is a courtesy: a slow reader misses lines, the build does not wait for it
    let mut watch = move |event| drop(sender.try_send(event));
    let making = async move { host.images().make(image, pull, &mut watch).await };
    let telling = async {
        while let Some(event) = events.recv().await {
            let body = json!({
                "profile": profile, "host": host.name(), "image": event.image, "step": event.step,
                "done": event.done, "total": event.total, "line": event.line,
            });
            if !context.notify("image.progress", &body).await {
                return;
            }
        }
    };
    let (built, ()) = tokio::join!(making, telling);
    for pool in host.pools() {
        pool.encourage();
    }
    built.map_err(|error| RpcError::new(Code::Internal, error.to_string()))
}
