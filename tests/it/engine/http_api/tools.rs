//! Tools that are not ours against the API: schemathesis, which makes requests from the
//! description, and a client that a generator makes from it.

use std::path::Path;
use std::process::{Command, Output};

use super::{TOKEN, serve};
use crate::engine::contract::openapi::http_tools;
use crate::harness::{Options, root};

/// Checks of schemathesis: no 500, no status, media type or body that the description lacks.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
    response_headers_conformance,unsupported_method,missing_required_header,use_after_free,ensure_resource_availability";

/// Requests per operation; ASSAY_HTTP_EXAMPLES asks for more.
const EXAMPLES: &str = "25";

fn text(done: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

#[test]
fn schemathesis_finds_no_500_and_no_answer_that_is_not_described() {
    let Some(tools) = http_tools() else { return };
    let (daemon, address) = serve(&Options { profiles: "bash", floor: 1, ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let examples = std::env::var("ASSAY_HTTP_EXAMPLES").unwrap_or(EXAMPLES.to_owned());
    let mut command = Command::new(tools.join("schemathesis"));
    command.current_dir(folder.path()).arg("run").arg(root().join("docs/openapi.json"));
    command.args(["--url", &format!("http://{address}"), "--checks", CHECKS, "--max-examples", &examples]);
    command.args(["--phases", "examples,coverage,fuzzing,stateful", "--seed", "1", "--generation-database", "none"]);
    command.args(["--header", &format!("Authorization: Bearer {TOKEN}"), "--header", "Host: localhost"]);
    command.args(["--request-timeout", "120", "--no-color", "--continue-on-failure"]);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    println!(
        "{}",
        text(&done).lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    assert_eq!(daemon.caller().run("bash", "echo 1")["verdict"], "accepted");
}

/// Hands in a submission with the generated client, lists it and reads it again.
const USE: &str = r#"
import os
from assay_client import AuthenticatedClient
from assay_client.api.submissions import get_submission, list_submissions, submit
from assay_client.api.blobs import get_blob, put_blob
from assay_client.models import Submission, FileSpec, Report, Problem, Submitted
from assay_client.types import File
import io

client = AuthenticatedClient(base_url=os.environ["URL"], token=os.environ["TOKEN"])
work = Submission(language="bash", files=[FileSpec(path="main.sh", content="echo generated")])
report = submit.sync(client=client, body=work)
assert isinstance(report, Report), report
assert report.verdict == "accepted" and report.run.stdout == "generated\n", report
later = submit.sync(client=client, body=work, wait=False)
assert isinstance(later, Submitted), later
state = get_submission.sync(later.id, client=client, wait_ms=60000)
assert state.state == "done" and state.report.verdict == "accepted", state
rows = list_submissions.sync(client=client, limit=10).submissions
assert {row.id for row in rows} >= {later.id, report.id}, rows
blob = put_blob.sync(client=client, body=File(payload=io.BytesIO(b"\x00\xff")))
assert get_blob.sync(blob.blob, client=client).payload.read() == b"\x00\xff"
wrong = submit.sync(client=client, body=Submission(language="klingon", files=[FileSpec(path="x", content="")]))
assert isinstance(wrong, Problem) and wrong.code == "unknown_profile" and wrong.status == 422, wrong
print("ok")
"#;

fn generate(tools: &Path, folder: &Path) {
    let mut command = Command::new(tools.join("openapi-python-client"));
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    command.current_dir(folder).env("PATH", path).args(["generate", "--meta", "none", "--fail-on-warning"]);
    command.args(["--output-path", "assay_client", "--path"]).arg(root().join("docs/openapi.json"));
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
}

#[test]
fn a_client_that_a_public_generator_makes_judges_a_program() {
    let Some(tools) = http_tools() else { return };
    let folder = tempfile::tempdir().unwrap();
    generate(&tools, folder.path());
    let (_daemon, address) = serve(&Options { profiles: "bash", floor: 1, ..Options::default() });
    let mut command = Command::new(tools.join("python"));
    command.current_dir(folder.path()).args(["-c", USE]).env("URL", format!("http://{address}")).env("TOKEN", TOKEN);
    let done = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "ok\n", "{}", text(&done));
}
