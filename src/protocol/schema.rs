//! The published schema: every method with its parameters and result, as JSON Schema (draft
//! 2020-12).
//!
//! ```text
//!  params, results, model  --derive-->  [ $defs ]  <--$ref--  Method (name, role, params, result)
//!      docs/protocol.schema.json, `assay schema`: all of it    `rpc.discover`: the same as OpenRPC
//! ```
//!
//! Parameters are strict (unknown fields are errors), results are open (fields may be added), as in
//! the protocol. The root accepts any single line of a conversation, in either direction.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::method::{Method, Notification};
use super::params::*;
use super::results::*;
use crate::envelope::Envelope;
use crate::history::{StoreBackup, StoreCheck, StoreForgotten, StoreVacuumed, SubmissionStats};
use crate::receipt::Statement;
use crate::status::Health;
use crate::token::{SessionCode, TokenAddParams, TokenAdded, TokenNameParams, Tokens};
use crate::{Report, Submission};

type Shape = fn(&mut SchemaGenerator) -> schemars::Schema;

pub(crate) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

/// Types of the parameters and of the result.
fn shapes(method: Method) -> (Shape, Shape) {
    fn both<P: JsonSchema, R: JsonSchema>() -> (Shape, Shape) {
        (of::<P>, of::<R>)
    }
    match method {
        Method::SubmissionRun => both::<RunParams, Report>(),
        Method::SubmissionSubmit => both::<SubmitParams, Submitted>(),
        Method::SubmissionWait => both::<WaitParams, WaitResult>(),
        Method::SubmissionGet => both::<GetParams, SubmissionState<'static>>(),
        Method::SubmissionCancel => both::<CancelParams, Empty>(),
        Method::SubmissionInput => both::<InputParams, Empty>(),
        Method::SubmissionLogs => both::<IdParams, SubmissionLogs>(),
        Method::SubmissionList => both::<ListParams, Submissions>(),
        Method::SubmissionStats => both::<StatsParams, SubmissionStats>(),
        Method::ReceiptGet => both::<IdParams, Envelope>(),
        Method::BlobPut => both::<BlobPutParams, BlobPut>(),
        Method::BlobGet => both::<BlobGetParams, BlobPiece>(),
        Method::DaemonStatus => both::<Nothing, DaemonStatus<'static>>(),
        Method::DaemonHealth => both::<Nothing, Health>(),
        Method::DaemonDrain => both::<Nothing, Empty>(),
        Method::DaemonReload => both::<Nothing, Reloaded>(),
        Method::DaemonPause | Method::DaemonResume => both::<Nothing, Admission>(),
        Method::PoolList => both::<Nothing, Pools>(),
        Method::HostList => both::<Nothing, Hosts>(),
        Method::HostDrain | Method::HostResume => both::<HostParams, Empty>(),
        Method::ProfileList => both::<Nothing, ProfileRows>(),
        Method::SandboxList => both::<Nothing, Sandboxes>(),
        Method::ImageList => both::<Nothing, ImageList>(),
        Method::ImageBuild | Method::ImagePull => both::<ImageParams, ImagesMade>(),
        Method::ImagePrune => both::<ImagePruneParams, ImagesPruned>(),
        Method::StoreBackup => both::<Nothing, StoreBackup>(),
        Method::StoreCheck => both::<Nothing, StoreCheck>(),
        Method::StoreVacuum => both::<Nothing, StoreVacuumed>(),
        Method::StoreForget => both::<ForgetParams, StoreForgotten>(),
        Method::TokenAdd => both::<TokenAddParams, TokenAdded>(),
        Method::TokenList => both::<Nothing, Tokens>(),
        Method::TokenRevoke => both::<TokenNameParams, Empty>(),
        Method::SessionCode => both::<Nothing, SessionCode>(),
        Method::RpcDiscover => both::<Nothing, OpenRpc>(),
    }
}

fn notification_shape(notification: Notification) -> Shape {
    match notification {
        Notification::ServerHello => of::<Hello>,
        Notification::SubmissionEvent => of::<EventBody>,
        Notification::ImageProgress => of::<ImageProgress>,
    }
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

/// Short names of definitions; `line` is the whole document.
const NAMES: &[(&str, &str)] = &[
    ("submission", "Submission"),
    ("report", "Report"),
    ("run", "RunReport"),
    ("event", "EventBody"),
    ("receipt", "Statement"),
    ("error", "ErrorBody"),
    ("hello", "Hello"),
    ("progress", "ImageProgress"),
    ("line", ""),
];

/// The names that [`named`] accepts, without those of `METHOD.params` and `METHOD.result`.
pub fn names() -> Vec<String> {
    let methods = Method::ALL.iter().map(|method| method.name().to_owned());
    NAMES.iter().map(|(name, _)| (*name).to_owned()).chain(methods).collect()
}

/// Definitions from two generators: types that the daemon reads, and types that it writes.
pub(crate) struct Definitions {
    pub(crate) strict: SchemaGenerator,
    pub(crate) open: SchemaGenerator,
}

impl Definitions {
    pub(crate) fn new() -> Definitions {
        let settings = SchemaSettings::draft2020_12;
        Definitions {
            strict: settings().for_deserialize().into_generator(),
            open: settings().for_serialize().into_generator(),
        }
    }

    /// All referenced definitions. A test checks that a type which is both read and written has one
    /// shape.
    pub(crate) fn all(mut self) -> Map<String, Value> {
        let mut all = self.open.take_definitions(true);
        all.extend(self.strict.take_definitions(true));
        all
    }
}

/// The whole schema.
pub fn document() -> Value {
    let mut definitions = Definitions::new();
    let (mut methods, mut requests) = (Map::new(), Vec::new());
    for method in Method::ALL {
        let (params, result) = shapes(*method);
        let params = params(&mut definitions.strict).to_value();
        let result = result(&mut definitions.open).to_value();
        let required = match method.requires_params() {
            true => json!(["jsonrpc", "id", "method", "params"]),
            false => json!(["jsonrpc", "id", "method"]),
        };
        requests.push(json!({
            "type": "object", "required": required, "additionalProperties": false,
            "properties": { "jsonrpc": { "const": "2.0" }, "id": { "$ref": "#/$defs/CallId" },
                "method": { "const": method.name() }, "params": params },
        }));
        let notifications: Vec<&str> = method.notification().into_iter().map(Notification::name).collect();
        let row = json!({
            "description": method.summary(), "role": method.role().as_str(), "params": params, "result": result,
            "notifications": notifications,
        });
        methods.insert(method.name().to_owned(), row);
    }
    let mut notification = |notification: &Notification| {
        let params = notification_shape(*notification)(&mut definitions.open).to_value();
        json!({
            "type": "object", "required": ["jsonrpc", "method", "params"],
            "properties": { "jsonrpc": { "const": "2.0" }, "method": { "const": notification.name() }, "params": params },
        })
    };
    let notifications: Vec<Value> = Notification::ALL.iter().map(&mut notification).collect();
    of::<Submission>(&mut definitions.strict);
    of::<Statement>(&mut definitions.open);
    let error = of::<ErrorBody<'static>>(&mut definitions.open).to_value();
    let mut defs = definitions.all();
    let id = json!({ "description": "Chosen by the caller, unique among the calls under way.", "type": ["string", "integer"] });
    defs.insert("CallId".to_owned(), id);
    defs.insert("Request".to_owned(), json!({ "description": "A call.", "oneOf": requests }));
    defs.insert(
        "Notification".to_owned(),
        json!({ "description": "A message of the daemon without an id.", "oneOf": notifications }),
    );
    let response = json!({
        "description": "The response to a call; `methods` has the schema of `result`. The id is null if the id of the call could not be read.",
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
        "description": "One line of a conversation, in either direction. `methods` has the schemas of each method's params and result.",
        "anyOf": [{ "$ref": "#/$defs/Request" }, { "$ref": "#/$defs/Response" }, { "$ref": "#/$defs/Notification" }],
        "methods": methods,
        "$defs": defs,
    })
}

/// A part of [`document`] as a complete schema: one of [`names`], or `METHOD.params`,
/// `METHOD.result`.
pub fn named(name: &str) -> Option<Value> {
    let parse = |name: &str| name.parse::<Method>().ok();
    let document = document();
    if name == "line" {
        return Some(document);
    }
    let part = match NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, definition)) => json!({ "$ref": format!("#/$defs/{definition}") }),
        None => match (parse(name), name.rsplit_once('.')) {
            (Some(_), _) => document["methods"][name].clone(),
            (None, Some((method, side @ ("params" | "result")))) if parse(method).is_some() => {
                document["methods"][method][side].clone()
            }
            _ => return None,
        },
    };
    Some(self_contained(part, &document["$defs"]))
}

/// Adds the definitions that a schema refers to, so that it can be used alone.
pub fn self_contained(mut part: Value, defs: &Value) -> Value {
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

/// The methods as an OpenRPC document (open-rpc.org).
pub fn open_rpc() -> Value {
    let mut document = document();
    let methods: Vec<Value> = Method::ALL
        .iter()
        .map(|method| {
            let row = &document["methods"][method.name()];
            let params = resolved(&row["params"], &document["$defs"]);
            // a submission may be given directly or under its name; OpenRPC describes the first
            let params = params["anyOf"].get(0).map_or(params, |first| resolved(first, &document["$defs"]));
            let required = params["required"].as_array().cloned().unwrap_or_default();
            let fields = params["properties"].as_object().into_iter().flatten().map(
                |(name, schema)| json!({ "name": name, "required": required.contains(&json!(name)), "schema": schema }),
            );
            json!({
                "name": method.name(), "summary": method.summary(), "paramStructure": "by-name",
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

/// Rewrites references to definitions, which OpenRPC and OpenAPI keep under `components`.
pub(crate) fn redirect(value: &mut Value) {
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
    fn a_type_that_is_both_read_and_written_has_one_shape() {
        let mut definitions = Definitions::new();
        for (params, result) in Method::ALL.iter().map(|method| shapes(*method)) {
            params(&mut definitions.strict);
            result(&mut definitions.open);
        }
        let open = definitions.open.take_definitions(true);
        for (name, strict) in definitions.strict.take_definitions(true) {
            assert!(open.get(&name).is_none_or(|open| *open == strict), "{name}: {strict:#}\n{:#}", open[&name]);
        }
    }

    #[test]
    fn every_named_schema_is_self_contained() {
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
