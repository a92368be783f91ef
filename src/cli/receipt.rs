//! `assay receipt`: the signed receipt of a submission, and whether one can be trusted.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use protocol::envelope::{Envelope, PublicKey, sha256_hex};
use protocol::receipt::{Predicate, Statement};
use serde_json::{Value, json};

use super::client::connect;
use super::out::{self, OutputFormat, TextStyle};
use super::{CliError, completions, when};

/// Arguments of `receipt`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ReceiptArgs {
    #[command(subcommand)]
    pub command: Option<ReceiptCommand>,
    /// The submission's id
    #[arg(required = true, add = ArgValueCandidates::new(completions::submissions))]
    pub id: Option<String>,
}

/// The commands below `receipt`.
#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// Check that a receipt is signed and unchanged; exits 0 if it is, else 1
    Verify(VerifyArgs),
}

/// Arguments of `receipt verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The receipt; `-` for stdin
    pub file: PathBuf,
    /// The public key of the instance that signed it, in PEM form; without it, the daemon's own
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// A report, which must be the one that the receipt is of: the JSON that `assay rpc` prints
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Runs `assay receipt`.
///
/// # Errors
/// Usage, a broken connection, an error response, or a receipt that is not valid.
pub async fn receipt(socket: &Path, output: OutputFormat, args: ReceiptArgs) -> Result<u8, CliError> {
    match (args.command, args.id) {
        (Some(ReceiptCommand::Verify(args)), _) => verify(socket, output, args).await,
        (None, id) => {
            let id = id.unwrap_or_default();
            let envelope = connect(socket).await?.call("receipt.get", json!({ "id": id })).await?;
            // the same as text and as JSON: it is for a file
            out::json(&envelope);
            Ok(0)
        }
    }
}

async fn verify(socket: &Path, output: OutputFormat, args: VerifyArgs) -> Result<u8, CliError> {
    let VerifyArgs { file, key, report } = args;
    let name = file.display().to_string();
    let text = read(&file)?;
    let report = report.map(|path| Ok::<_, CliError>((path.display().to_string(), read(&path)?))).transpose()?;
    let key = match key {
        Some(path) => {
            let pem = read(&path)?;
            let key = PublicKey::from_pem(&String::from_utf8_lossy(&pem));
            key.map_err(|error| CliError::Usage(format!("cannot use {}: {error}", path.display())))?
        }
        None => {
            let status = connect(socket).await?.call("daemon.status", json!({})).await?;
            let pem = status["receipt_key"]["pem"].as_str().unwrap_or_default();
            let advice = "the daemon states no key: it is of an earlier release; name one with --key";
            PublicKey::from_pem(pem).map_err(|_| CliError::Usage(advice.to_owned()))?
        }
    };
    let invalid = |why: String| CliError::Invalid(format!("{name} is not a valid receipt: {why}"));
    let statement = open(&text, &key).map_err(invalid)?;
    if let Some((report_name, report)) = report {
        check_report(&statement, &report).map_err(|why| CliError::Invalid(format!("{report_name} {why}")))?;
    }
    output.print(&statement, || show(&statement, &key));
    Ok(0)
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    read.map_err(|error| CliError::cannot_read(path, error))
}

/// The statement of a receipt that this key signed, or why it is not one.
fn open(text: &[u8], key: &PublicKey) -> Result<Statement, String> {
    let envelope: Envelope =
        serde_json::from_slice(text).map_err(|error| format!("it is not a signed envelope: {error}"))?;
    envelope.open(key).map_err(|error| error.to_string())
}

/// Whether a file has the report that a statement is about, as JSON with any white space.
fn check_report(statement: &Statement, report: &[u8]) -> Result<(), String> {
    let expected = statement.subject.first().map_or("", |subject| subject.digest.sha256.as_str());
    let is_it = |text: &[u8]| sha256_hex(text) == expected;
    let parsed: Value = serde_json::from_slice(report).unwrap_or_default();
    // also within the result of `submission.get`
    let is_parsed = |value: &Value| value.is_object() && is_it(value.to_string().as_bytes());
    if is_it(report) || is_parsed(&parsed) || is_parsed(&parsed["report"]) {
        return Ok(());
    }
    let id = statement.subject.first().map_or("", |subject| subject.name.as_str());
    Err(format!("is not the report that the receipt of {id:?} is about: its digest is another one"))
}

fn show(statement: &Statement, key: &PublicKey) {
    let Predicate { instance, verdict, image, isolation, language, inputs, times, tenant, .. } = &statement.predicate;
    let line = |name: &str, value: &str| out::line(format_args!("{name:<10}{}", out::clean(value)));
    out::line(format_args!(
        "{}, signed by {} with key {}",
        out::styled("valid", TextStyle::Green),
        out::clean(instance),
        key.id()
    ));
    for subject in &statement.subject {
        line("id", &subject.name);
        line("report", &format!("sha256:{}", subject.digest.sha256));
    }
    if !tenant.is_empty() {
        line("tenant", tenant);
    }
    line("verdict", verdict.as_str());
    line("language", language);
    line("image", image.as_deref().unwrap_or("no sandbox was used"));
    line("isolation", isolation.as_deref().unwrap_or("-"));
    line("inputs", &inputs.len().to_string());
    line("answered", &format!("{} UTC", when::show(times.answered_ms)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ReceiptKey;

    #[test]
    fn a_report_is_known_by_its_digest_with_any_white_space() {
        let text = r#"{"a":1.2345678901234567,"b":[1e-7,"x \" y"]}"#;
        let predicate = serde_json::json!({
            "instance": "i", "version": "1", "tenant": "", "language": "c", "profile_sha256": "", "init_sha256": "",
            "limits": {}, "inputs": [], "stdin_open": false, "verdict": "accepted", "blame": null, "runs": [],
            "times": { "received_ms": 1, "answered_ms": 2 },
            "figures": { "total_ms": 1.0, "cpu_ms": 1.0, "memory_bytes": 1 },
        });
        let predicate = serde_json::from_value(predicate).unwrap();
        let statement = Statement::new("a", sha256_hex(text.as_bytes()), predicate);
        let parsed: Value = serde_json::from_str(text).unwrap();
        let within = json!({ "id": "a", "report": parsed });
        for same in [text.to_owned(), format!("{parsed:#}\n"), format!("{within:#}")] {
            check_report(&statement, same.as_bytes()).unwrap();
        }
        for other in ["", "{}", &text.replace("x ", "x"), "[", "{\"report\":1}"] {
            let why = check_report(&statement, other.as_bytes()).unwrap_err();
            assert!(why.contains("is not the report that the receipt of \"a\" is about"), "{why}");
        }
    }

    #[test]
    fn what_is_not_an_envelope_is_said_to_be_none() {
        let key = ReceiptKey::from_pem(&ReceiptKey::generate().unwrap()).unwrap();
        for text in ["", "{}", "[1]", "not json", r#"{"payload":1,"payloadType":"","signatures":[]}"#] {
            let why = open(text.as_bytes(), key.public()).unwrap_err();
            assert!(why.starts_with("it is not a signed envelope"), "{text}: {why}");
        }
        let unsigned = r#"{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[]}"#;
        assert_eq!(open(unsigned.as_bytes(), key.public()).unwrap_err(), "it has no signature");
    }
}
