//! docs/openapi.json: made from the routes, and accepted by a validator that is not ours. The
//! tables of routes and errors in docs/HTTP.md come from there, too.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use protocol::code::http_status;
use protocol::problem::reason;
use protocol::routes::{OWN_STATUSES, ROUTES};
use protocol::{Code, openapi, schema};

use super::must_be;
use crate::harness::{root, skip};

/// The folder of the tools that scripts/http-tools installs; `None` if it cannot.
pub fn http_tools() -> Option<PathBuf> {
    let done = Command::new(root().join("scripts/http-tools")).output().unwrap();
    if !done.status.success() {
        skip(&format!("scripts/http-tools: {}", String::from_utf8_lossy(&done.stderr)));
        return None;
    }
    Some(PathBuf::from(String::from_utf8(done.stdout).unwrap().trim()))
}

#[test]
fn the_description_of_http_is_what_the_routes_say() {
    must_be(&root().join("docs/openapi.json"), &format!("{:#}\n", openapi::document()));
}

#[test]
fn a_public_validator_accepts_the_description_and_finds_what_is_wrong() {
    let Some(tools) = http_tools() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("openapi.json");
    let validate = |document: &serde_json::Value| {
        std::fs::write(&path, document.to_string()).unwrap();
        let mut python = Command::new(tools.join("python"));
        let done = python.args(["-m", "openapi_spec_validator", "--schema", "3.1"]).arg(&path).output().unwrap();
        (done.status.success(), format!("{done:?}"))
    };
    let mut document = openapi::document();
    let (is_valid, told) = validate(&document);
    assert!(is_valid, "{told}");
    document["paths"]["/api/v1/profiles"]["get"]["responses"]["200"] = serde_json::json!({});
    assert!(!validate(&document).0);
}

/// The table of errors: each code with its status and meaning, and what HTTP itself refuses.
fn errors() -> String {
    let mut text = "\n| status | code | |\n|---|---|---|\n".to_owned();
    let document = schema::document();
    let meanings = document["$defs"]["Code"]["oneOf"].as_array().unwrap();
    let mut codes: Vec<(u16, Code)> = Code::ALL.iter().map(|code| (http_status(*code), *code)).collect();
    codes.retain(|(_, code)| *code != Code::SlowReader);
    codes.sort_by_key(|(status, _)| *status);
    for (status, code) in codes {
        let meaning = meanings.iter().find(|meaning| meaning["const"] == code.as_str()).unwrap();
        let meaning = meaning["description"].as_str().unwrap().replace('\n', " ");
        writeln!(text, "| {status} {} | `{}` | {meaning} |", reason(status), code.as_str()).unwrap();
    }
    for (status, code, when) in OWN_STATUSES {
        let (first, rest) = when.split_at(1);
        writeln!(text, "| {status} {} | `{}` | {}{rest}. |", reason(*status), code.as_str(), first.to_uppercase())
            .unwrap();
    }
    text + "\n"
}

/// The table of routes.
fn routes() -> String {
    let mut text = "\n| route | role | | answers |\n|---|---|---|---|\n".to_owned();
    for route in ROUTES {
        let role = route.role.map_or("-", |role| role.as_str().unwrap_or("any"));
        let answers: Vec<String> = route.answers.iter().map(|answer| answer.status.to_string()).collect();
        let (verb, path) = (route.verb.as_str(), route.path);
        writeln!(text, "| `{verb} {path}` | {role} | {} | {} |", route.summary, answers.join(", ")).unwrap();
    }
    text + "\n"
}

#[test]
fn the_tables_of_the_guide_to_http_are_what_the_routes_say() {
    let path = root().join("docs/HTTP.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (name, table) in [("errors", errors()), ("routes", routes())] {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
        let (before, rest) = text.split_once(&begin).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        text = format!("{before}{begin}{table}{end}{after}");
    }
    must_be(&path, &text);
}
