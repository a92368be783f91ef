//! docs/openapi.json: made from the routes, and accepted by a validator that is not ours.

use std::path::PathBuf;
use std::process::Command;

use protocol::openapi;

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
