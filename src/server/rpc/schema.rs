//! What may be asked, by whom, with what, and what comes back: one table, published as JSON Schema (draft 2020-12).
//!
//! ```text
//!  params.rs, results.rs, model  --derive-->  [ $defs ]  <--$ref--  METHODS (name, role, params, result)
//!        docs/protocol.schema.json, `assay schema`: the whole     `rpc.discover`: the same as an OpenRPC document
//! ```
//!
//! What goes in is strict (unknown fields are errors), what comes out is open (more fields may come), as the protocol is.
//! The root accepts any one line of a conversation, in either direction.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::params::*;
use super::results::*;
use protocol::{Report, Submission};
use scheduler::Health;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everyone who may connect.
    Any,
    /// Who may hand submissions in.
    Submit,
    /// Who may change the daemon.
    Admin,
}

impl Role {
    /// The word of the configuration; none for everyone.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Role::Any => None,
            Role::Submit => Some("submit"),
            Role::Admin => Some("admin"),
        }
    }
}

type Shape = fn(&mut SchemaGenerator) -> schemars::Schema;

/// A method.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Who may call it.
    pub role: Role,
    /// What it does.
    pub summary: &'static str,
    /// Notifications that come before its response.
    pub notifications: &'static [&'static str],
    params: Shape,
    result: Shape,
}

const fn method<P: JsonSchema, R: JsonSchema>(name: &'static str, role: Role, summary: &'static str) -> Method {
    Method { name, role, summary, notifications: &[], params: of::<P>, result: of::<R> }
}

const fn telling<P: JsonSchema, R: JsonSchema>(
    name: &'static str,
    role: Role,
    notifications: &'static [&'static str],
    summary: &'static str,
) -> Method {
    Method { notifications, ..method::<P, R>(name, role, summary) }
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

const EVENT: &[&str] = &["submission.event"];
const PROGRESS: &[&str] = &["image.progress"];

/// Every method.
pub const METHODS: &[Method] = &[
    telling::<RunParams, Report>("submission.run", Role::Submit, EVENT, "judge a submission and answer its report"),
    method::<SubmitParams, Submitted>(
        "submission.submit",
        Role::Submit,
        "hand a submission in; it outlives the connection",
    ),
    telling::<WaitParams, Waited>("submission.wait", Role::Any, EVENT, "wait for a submission's report"),
    method::<IdParams, SubmissionState<'static>>("submission.get", Role::Any, "where a submission stands"),
    method::<CancelParams, Empty>("submission.cancel", Role::Any, "withdraw a submission; idempotent"),
    method::<InputParams, Empty>("submission.input", Role::Any, "feed the standard input of one with `stdin_open`"),
    method::<IdParams, Logs>("submission.logs", Role::Any, "the kept output of a submission"),
    method::<ListParams, Submissions>(
        "submission.list",
        Role::Any,
        "the submissions of your uid; of all, for an admin",
    ),
    method::<BlobPutParams, BlobPut>("blob.put", Role::Submit, "hand over what is larger than a line, piece by piece"),
    method::<BlobGetParams, BlobPiece>("blob.get", Role::Any, "fetch a piece of a blob"),
    method::<Nothing, Status<'static>>("daemon.status", Role::Any, "instance, hosts, pools, queue, counters, stages"),
    method::<Nothing, Health>("daemon.health", Role::Any, "whether it can judge"),
    method::<Nothing, Empty>("daemon.drain", Role::Admin, "let nothing in any more, finish what runs, end"),
    method::<Nothing, Reloaded>("daemon.reload", Role::Admin, "take the configuration over anew, all of it or nothing"),
    method::<Nothing, Pools>("pool.list", Role::Any, "the pools"),
    method::<Nothing, Hosts>("host.list", Role::Any, "the Docker hosts"),
    method::<HostParams, Empty>("host.drain", Role::Admin, "give a host no more work"),
    method::<HostParams, Empty>("host.resume", Role::Admin, "give a drained host work again"),
    method::<Nothing, ProfileRows>("profile.list", Role::Any, "the profiles: what `language` may say"),
    method::<Nothing, Sandboxes>(
        "sandbox.list",
        Role::Any,
        "the live sandboxes; of others' only those that wait, unless an admin asks",
    ),
    method::<Nothing, Images>("image.list", Role::Any, "the images that the profiles need"),
    telling::<ImageParams, ImagesMade>(
        "image.build",
        Role::Admin,
        PROGRESS,
        "build a profile's image where it is missing",
    ),
    telling::<ImageParams, ImagesMade>(
        "image.pull",
        Role::Admin,
        PROGRESS,
        "ask the registry for a profile's image, also where it is there",
    ),
    method::<Nothing, OpenRpc>("rpc.discover", Role::Any, "this table, as an OpenRPC document"),
];

/// The method of that name.
pub fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

/// An OpenRPC document.
struct OpenRpc;

impl JsonSchema for OpenRpc {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OpenRpc".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "An OpenRPC document (open-rpc.org).", "type": "object",
            "required": ["openrpc", "info", "methods", "components"],
            "properties": { "openrpc": { "type": "string" }, "info": { "type": "object" },
                "methods": { "type": "array" }, "components": { "type": "object" } },
        })
    }
}

/// Names for people, and what they stand for.
const NAMES: &[(&str, &str)] = &[
    ("submission", "Submission"),
    ("report", "Report"),
    ("run", "RunReport"),
    ("event", "EventBody"),
    ("error", "ErrorBody"),
    ("hello", "Hello"),
    ("progress", "ImageProgress"),
    ("line", ""),
];

/// What [`named`] knows.
pub fn names() -> Vec<String> {
    let methods = METHODS.iter().map(|method| method.name.to_owned());
    NAMES.iter().map(|(name, _)| (*name).to_owned()).chain(methods).collect()
}

/// Definitions out of two generators: what is read, and what is written.
struct Definitions {
    strict: SchemaGenerator,
    open: SchemaGenerator,
}

impl Definitions {
    fn new() -> Definitions {
        let settings = SchemaSettings::draft2020_12;
        Definitions {
            strict: settings().for_deserialize().into_generator(),
            open: settings().for_serialize().into_generator(),
        }
    }

    /// All that was referred to. A type that is read and written has one shape, or the test below says so.
    fn all(mut self) -> Map<String, Value> {
        let mut all = self.open.take_definitions(true);
        all.extend(self.strict.take_definitions(true));
        all
    }
}

/// The whole: any line, and every method.
pub fn document() -> Value {
    let mut definitions = Definitions::new();
    let (mut methods, mut requests) = (Map::new(), Vec::new());
    for method in METHODS {
        let params = (method.params)(&mut definitions.strict).to_value();
        let result = (method.result)(&mut definitions.open).to_value();
        let must = if method.name.starts_with("submission.") || method.name.starts_with("blob.") {
            json!(["jsonrpc", "id", "method", "params"])
        } else {
            json!(["jsonrpc", "id", "method"])
        };
        requests.push(json!({
            "type": "object", "required": must, "additionalProperties": false,
            "properties": { "jsonrpc": { "const": "2.0" }, "id": { "$ref": "#/$defs/CallId" },
                "method": { "const": method.name }, "params": params },
        }));
        let row = json!({
            "description": method.summary, "role": method.role.as_str(), "params": params, "result": result,
            "notifications": method.notifications,
        });
        methods.insert(method.name.to_owned(), row);
    }
    let told: Vec<Value> = [
        ("server.hello", of::<Hello>(&mut definitions.open)),
        ("submission.event", of::<EventBody>(&mut definitions.open)),
        ("image.progress", of::<ImageProgress>(&mut definitions.open)),
    ]
    .into_iter()
    .map(|(name, params)| {
        json!({
            "type": "object", "required": ["jsonrpc", "method", "params"],
            "properties": { "jsonrpc": { "const": "2.0" }, "method": { "const": name }, "params": params.to_value() },
        })
    })
    .collect();
    of::<Submission>(&mut definitions.strict);
    let error = of::<ErrorBody<'static>>(&mut definitions.open).to_value();
    let mut defs = definitions.all();
    let id = json!({ "description": "Chosen by the caller, one for each call.", "type": ["string", "integer"] });
    defs.insert("CallId".to_owned(), id);
    defs.insert("Request".to_owned(), json!({ "description": "A call.", "oneOf": requests }));
    defs.insert("Notification".to_owned(), json!({ "description": "Told unasked.", "oneOf": told }));
    let response = json!({
        "description": "The answer to a call; `methods` says what `result` is. The id is null where the call's could not be read.",
        "oneOf": [
            { "type": "object", "required": ["jsonrpc", "id", "result"],
                "properties": { "jsonrpc": { "const": "2.0" }, "id": { "$ref": "#/$defs/CallId" }, "result": { "type": "object" } } },
            { "type": "object", "required": ["jsonrpc", "id", "error"],
                "properties": { "jsonrpc": { "const": "2.0" },
                    "id": { "anyOf": [{ "$ref": "#/$defs/CallId" }, { "type": "null" }] }, "error": error } },
        ],
    });
    defs.insert("Response".to_owned(), response);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The socket protocol of assay, version 1",
        "description": "One line of a conversation, in either direction. `methods` says which params and result each method has.",
        "anyOf": [{ "$ref": "#/$defs/Request" }, { "$ref": "#/$defs/Response" }, { "$ref": "#/$defs/Notification" }],
        "methods": methods,
        "$defs": defs,
    })
}

/// A part of [`document`] that stands by itself: one of [`names`], or `METHOD.params`, `METHOD.result`.
pub fn named(name: &str) -> Option<Value> {
    let document = document();
    if name == "line" {
        return Some(document);
    }
    let part = match NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, definition)) => json!({ "$ref": format!("#/$defs/{definition}") }),
        None => match (find(name), name.rsplit_once('.')) {
            (Some(_), _) => document["methods"][name].clone(),
            (None, Some((method, side @ ("params" | "result")))) if find(method).is_some() => {
                document["methods"][method][side].clone()
            }
            _ => return None,
        },
    };
    Some(standing(part, &document["$defs"]))
}

/// A schema with the definitions that it needs.
pub fn standing(mut part: Value, defs: &Value) -> Value {
    let mut needed = BTreeSet::new();
    let mut open = vec![part.clone()];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/$defs/"))
                    && needed.insert(name.to_owned())
                {
                    open.push(defs[name].clone());
                }
                open.extend(map.into_iter().map(|(_, value)| value));
            }
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
    part["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    if !needed.is_empty() {
        let picked: Map<String, Value> = needed.into_iter().map(|name| (name.clone(), defs[&name].clone())).collect();
        part["$defs"] = Value::Object(picked);
    }
    part
}

/// The table as an OpenRPC document, for tools that know those.
pub fn open_rpc() -> Value {
    let mut document = document();
    let methods: Vec<Value> = METHODS
        .iter()
        .map(|method| {
            let row = &document["methods"][method.name];
            let params = resolved(&row["params"], &document["$defs"]);
            // a submission stands there directly, or under its name: the first is what is said
            let params = params["anyOf"].get(0).map_or(params, |first| resolved(first, &document["$defs"]));
            let required = params["required"].as_array().cloned().unwrap_or_default();
            let fields = params["properties"].as_object().into_iter().flatten().map(
                |(name, schema)| json!({ "name": name, "required": required.contains(&json!(name)), "schema": schema }),
            );
            json!({
                "name": method.name, "summary": method.summary, "paramStructure": "by-name",
                "params": fields.collect::<Vec<_>>(), "result": { "name": "result", "schema": row["result"] },
            })
        })
        .collect();
    let mut all = json!({
        "openrpc": "1.3.2",
        "info": { "title": "assay", "version": env!("CARGO_PKG_VERSION"),
            "description": "JSON-RPC 2.0 over a Unix socket, one object per line; the server speaks first (server.hello)." },
        "methods": methods,
        "components": { "schemas": document["$defs"].take() },
    });
    redirect(&mut all);
    all
}

fn resolved<'a>(schema: &'a Value, defs: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|to| to.strip_prefix("#/$defs/")) {
        Some(name) => &defs[name],
        None => schema,
    }
}

/// OpenRPC keeps definitions elsewhere.
fn redirect(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match inner.as_str().and_then(|to| to.strip_prefix("#/$defs/")) {
                    Some(name) if key == "$ref" => *inner = json!(format!("#/components/schemas/{name}")),
                    _ => redirect(inner),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(redirect),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_what_is_answered_and_nothing_else() {
        let source = include_str!("methods.rs").split("async fn run").next().unwrap_or_default();
        let arms = source.split("match method.name").nth(1).unwrap();
        let known = ["submission.", "blob.", "daemon.", "host.", "pool.", "profile.", "sandbox.", "image.", "rpc."];
        let answered: BTreeSet<&str> =
            arms.split('"').filter(|word| known.iter().any(|prefix| word.starts_with(prefix))).collect();
        let said: BTreeSet<&str> = METHODS.iter().map(|method| method.name).collect();
        assert_eq!(answered, said);
    }

    #[test]
    fn a_type_that_is_read_and_written_has_one_shape() {
        let mut definitions = Definitions::new();
        for method in METHODS {
            (method.params)(&mut definitions.strict);
            (method.result)(&mut definitions.open);
        }
        let open = definitions.open.take_definitions(true);
        for (name, strict) in definitions.strict.take_definitions(true) {
            assert!(open.get(&name).is_none_or(|open| *open == strict), "{name}: {strict:#}\n{:#}", open[&name]);
        }
    }

    #[test]
    fn every_name_stands_by_itself() {
        for name in names() {
            let schema = named(&name).unwrap();
            let text = schema.to_string();
            for to in text.split("\"#/$defs/").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(schema["$defs"].get(to).is_some(), "{name} lacks {to}");
            }
        }
        assert!(named("submission.run.params").is_some() && named("submission.run.else").is_none());
        assert!(!open_rpc().to_string().contains("#/$defs/"));
    }
}
