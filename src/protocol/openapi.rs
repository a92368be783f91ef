//! The HTTP API as an OpenAPI 3.1 document, made from [`ROUTES`] and the types that they name.
//! `GET /api/v1/openapi.json` serves it, docs/openapi.json is a copy.

use serde_json::{Map, Value, json};

use crate::problem::{PROBLEM_JSON, ProblemBody, reason};
use crate::results::EventBody;
use crate::routes::{OWN_STATUSES, ROUTES, Route, RouteAnswer, RouteContent};
use crate::schema::{Definitions, of, redirect};

const ABOUT: &str = "Judges programs in sandboxes. Errors are problem+json with a closed list of codes. \
    A status in 4xx is the request's fault and comes again; 429 and 503 pass, and have Retry-After. \
    Who calls is said by a token (Authorization: Bearer), by the cookie of a browser session, or by the \
    kernel on a Unix socket, as the configuration allows; docs/HTTP.md has all of it.";

/// The whole document.
pub fn document() -> Value {
    let mut definitions = Definitions::new();
    let mut paths = Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut definitions);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.verb.as_str().to_ascii_lowercase()] = operation;
    }
    of::<ProblemBody<'static>>(&mut definitions.open);
    of::<EventBody>(&mut definitions.open);
    let mut schemas = definitions.all();
    // of a query, only its fields are part of the document
    schemas.retain(|name, _| !name.ends_with("Query") && name != "ListParams");
    schemas.values_mut().for_each(words_as_enum);
    let mut document = json!({
        "openapi": "3.1.0",
        "info": { "title": "assay", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" } },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{ "url": "/", "description": "The listener that served this document." }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token of `assay token add`." },
                "session": { "type": "apiKey", "in": "cookie", "name": "assay_session",
                    "description": "The cookie of `POST /api/v1/session`; only from pages of the same origin." },
            },
        },
    });
    redirect(&mut document);
    document
}

/// Makes one enumeration of a choice between words, each with its meaning: generators of clients
/// make a type of each choice.
fn words_as_enum(schema: &mut Value) {
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    let mut words: Vec<Value> = Vec::new();
    let mut meanings = schema["description"].as_str().unwrap_or_default().to_owned();
    for choice in choices {
        let more = match (&choice["const"], &choice["enum"]) {
            (word @ Value::String(_), _) => vec![word.clone()],
            (_, Value::Array(words)) => words.clone(),
            _ => return,
        };
        if let Some(meaning) = choice["description"].as_str() {
            let names: Vec<String> = more.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
            meanings += &format!("\n\n{}: {}", names.join(", "), meaning.replace('\n', " "));
        }
        words.extend(more);
    }
    if !words.is_empty() && words.iter().all(Value::is_string) {
        *schema = json!({ "type": "string", "enum": words, "description": meanings.trim_start() });
    }
}

fn operation(route: &Route, definitions: &mut Definitions) -> Value {
    let mut responses = Map::new();
    for answer in route.answers {
        responses.insert(answer.status.to_string(), response(answer, definitions));
    }
    for (status, links) in links(route) {
        responses[&status.to_string()]["links"] = links;
    }
    for (status, codes) in route.problems() {
        let words: Vec<String> = codes.iter().map(|code| format!("`{}`", code.as_str())).collect();
        let own = OWN_STATUSES.iter().find(|(own, ..)| *own == status).map(|(.., when)| format!(": {when}"));
        let mut problem = json!({
            "description": format!("{} ({}){}.", reason(status), words.join(", "), own.unwrap_or_default()),
            "content": { PROBLEM_JSON: { "schema": { "$ref": "#/$defs/Problem" } } },
        });
        let header = match status {
            401 => Some(("WWW-Authenticate", "`Bearer`.", "string")),
            429 | 503 => Some(("Retry-After", "Seconds after which to try again.", "integer")),
            _ => None,
        };
        if let Some((name, description, kind)) = header {
            problem["headers"] = json!({ name: { "description": description, "schema": { "type": kind } } });
        }
        responses.insert(status.to_string(), problem);
    }
    let mut operation = json!({
        "operationId": route.operation, "summary": route.summary, "tags": [tag(route)],
        "parameters": parameters(route, definitions), "responses": responses,
    });
    if let Some(role) = route.role {
        // `{}`: anonymous callers and peer uids, as the configuration allows
        operation["security"] = json!([{ "token": [] }, { "session": [] }, {}]);
        operation["x-assay-role"] = json!(role.as_str().unwrap_or("any"));
    }
    if let Some(content) = &route.request {
        let media = media(content, &mut definitions.strict);
        operation["requestBody"] =
            json!({ "required": !route.is_body_optional, "content": { content.media_type(): media } });
    }
    operation
}

/// Where the id in an answer leads: tools that go from one request to the next use it.
fn links(route: &Route) -> Vec<(u16, Value)> {
    let to = |operations: &[&str], id: &str| -> Value {
        let link = |operation: &&str| {
            (
                (*operation).to_owned(),
                json!({ "operationId": operation, "parameters": { "id": format!("$response.body#/{id}") } }),
            )
        };
        Value::Object(operations.iter().map(link).collect())
    };
    let of_submission = ["getSubmission", "followSubmission", "sendInput", "getReceipt", "cancelSubmission"];
    match route.operation {
        "submit" => vec![(200, to(&["getSubmission", "getReceipt"], "id")), (202, to(&of_submission, "id"))],
        "listSubmissions" => vec![(200, to(&of_submission, "submissions/0/id"))],
        "putBlob" => vec![(201, to(&["getBlob"], "blob"))],
        _ => Vec::new(),
    }
}

fn tag(route: &Route) -> &'static str {
    match route.path.trim_start_matches("/api/v1/").split('/').next().unwrap_or_default() {
        "submissions" => "submissions",
        "blobs" => "blobs",
        "session" => "session",
        _ if route.path == "/api/run-code" => "submissions",
        _ if route.is_api() => "daemon",
        _ => "monitoring",
    }
}

fn response(answer: &RouteAnswer, definitions: &mut Definitions) -> Value {
    let mut response = json!({ "description": answer.description });
    if let Some(content) = &answer.content {
        response["content"] = json!({ content.media_type(): media(content, &mut definitions.open) });
    }
    for (name, description) in answer.headers {
        response["headers"][name] = json!({ "description": description, "schema": { "type": "string" } });
    }
    response
}

fn media(content: &RouteContent, generator: &mut schemars::SchemaGenerator) -> Value {
    match content {
        RouteContent::Json(shape) => json!({ "schema": shape(generator).to_value() }),
        RouteContent::AnyJson(description) => json!({ "schema": { "type": "object", "description": description } }),
        // generators know bytes by this format, which is an annotation in JSON Schema
        RouteContent::Bytes => json!({ "schema": { "type": "string", "format": "binary" } }),
        RouteContent::Events => json!({ "schema": { "type": "string",
            "description": "`id:` is `seq`, `event:` is `kind`, `data:` is an `EventBody` on one line. The last one is `event: done`." } }),
        RouteContent::Text(_) => json!({ "schema": { "type": "string" } }),
    }
}

/// The parameters: of the path, then of the query, then headers.
fn parameters(route: &Route, definitions: &mut Definitions) -> Vec<Value> {
    let mut parameters = Vec::new();
    if route.path.contains("{id}") {
        parameters.push(json!({ "name": "id", "in": "path", "required": true,
            "description": "Id of the submission or blob.", "schema": { "type": "string" } }));
    }
    if let Some(shape) = route.query {
        let reference = shape(&mut definitions.strict).to_value();
        let name = reference["$ref"].as_str().and_then(|to| to.strip_prefix("#/$defs/")).unwrap_or_default();
        let fields = &definitions.strict.definitions()[name]["properties"];
        for (field, schema) in fields.as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            not_null(&mut schema);
            parameters.push(json!({ "name": field, "in": "query", "required": false,
                "description": description, "schema": schema }));
        }
    }
    for (name, description) in route.headers {
        parameters.push(json!({ "name": name, "in": "header", "required": false,
            "description": description, "schema": { "type": "string" } }));
    }
    parameters
}

/// A parameter of a query is absent, and never null.
fn not_null(schema: &mut Value) {
    if let Some(kind) = schema["type"].as_array().and_then(|kinds| kinds.iter().find(|kind| *kind != "null")).cloned() {
        schema["type"] = kind;
    }
    let is_null = |choice: &Value| choice["type"] == "null";
    if let Some(choice) =
        schema["anyOf"].as_array().and_then(|choices| choices.iter().find(|choice| !is_null(choice))).cloned()
    {
        *schema = choice;
    }
    if let Some(schema) = schema.as_object_mut()
        && schema.get("default").is_some_and(Value::is_null)
    {
        schema.remove("default");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_to_a_schema_and_no_parameter_may_be_null() {
        let document = document();
        let text = document.to_string();
        assert!(!text.contains("#/$defs/"));
        for name in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                let parameters = operation["parameters"].to_string();
                assert!(!parameters.contains("null"), "{parameters}");
            }
        }
        let list = &document["paths"]["/api/v1/submissions"]["get"]["parameters"];
        assert_eq!(list.as_array().unwrap().len(), 8, "{list:#}");
        assert_eq!(document["components"]["schemas"]["ListParams"], Value::Null);
        let start = &document["components"]["schemas"]["StartKind"];
        assert_eq!((&start["oneOf"], &start["enum"]), (&Value::Null, &json!(["hot", "warm", "cold"])));
    }
}
