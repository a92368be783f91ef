//! pytest, through a runner of ours (`runner.py`) that signs what it saw.
//!
//! The key is new for each run and comes as the first line of the runner's input. Records count from 0; one that is missing,
//! doubled or signed by nobody is no record, and without the last one nothing is believed.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;

use super::{CaseStatus, SuiteCase, SuiteOutput, add};
use crate::work::WorkFile;

/// Where the runner lies, below the box.
const RUNNER_PATH: &str = ".assay/runner.py";

/// The runner.
pub(crate) fn runner_file() -> WorkFile {
    let data = Bytes::from_static(include_bytes!("runner.py"));
    WorkFile { path: RUNNER_PATH.to_owned(), mode: 0o444, data }
}

/// What stands before a record.
const MARK: &[u8] = b"\x1eassay ";

/// How it is run: nothing of the environment or the folder takes part in its start.
pub(crate) fn command() -> Vec<String> {
    ["python3", "-I", "-B", RUNNER_PATH].map(str::to_owned).into()
}

/// A key of this run's own.
pub(super) type SigningKey = [u8; 32];

/// A new key.
pub(super) fn key() -> SigningKey {
    let mut key = [0; 32];
    key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files whose names pytest takes for tests; all, where there is none.
fn tests(files: &[WorkFile]) -> Vec<&str> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_test = |path: &&str| {
        let name = name(path);
        name.ends_with(".py") && (name.starts_with("test_") || name.ends_with("_test.py"))
    };
    let python = |path: &&str| path.ends_with(".py") && !path.ends_with("conftest.py") && *path != RUNNER_PATH;
    let paths = || files.iter().map(|file| file.path.as_str());
    let found: Vec<&str> = paths().filter(is_test).collect();
    if found.is_empty() { paths().filter(python).collect() } else { found }
}

/// What the runner is told: the key, and what to run.
pub(super) fn order(key: &SigningKey, files: &[WorkFile]) -> Bytes {
    let is = |name: &str| files.iter().any(|file| file.path == name || file.path.ends_with(&format!("/{name}")));
    let config = ["pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml"].into_iter().find(|name| {
        // only one that was handed in with the tests counts
        files.iter().any(|file| file.path == *name)
    });
    let order = json!({
        "key": hex(key), "files": tests(files), "conftest": is("conftest.py"), "config": config.unwrap_or("/dev/null"),
    });
    Bytes::from(format!("{order}\n"))
}

#[derive(Deserialize)]
struct PytestRecord {
    n: usize,
    name: Option<String>,
    end: Option<String>,
    message: Option<String>,
    ms: Option<f64>,
    collected: Option<usize>,
    done: Option<i32>,
}

/// Takes the records out of what was printed, and believes those that are signed.
pub(super) fn read(key: &SigningKey, stdout: &mut Vec<u8>) -> SuiteOutput {
    let mut said = SuiteOutput::default();
    let (mut rest, mut printed) = (stdout.as_slice(), Vec::with_capacity(stdout.len()));
    let (mut next, mut collected, mut tried, mut done) = (0, 0, 0, None);
    while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
        let line = rest[at + MARK.len()..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        // each record begins with a line feed of its own
        printed.extend_from_slice(rest[..at].strip_suffix(b"\n").unwrap_or(&rest[..at]));
        rest = rest.get(at + MARK.len() + line.len() + 1..).unwrap_or_default();
        let Some(record) = verified(key, line).filter(|record| record.n == next && done.is_none()) else { continue };
        next += 1;
        collected = record.collected.unwrap_or(collected);
        done = record.done;
        let message = record.message.unwrap_or_default();
        let end = match record.end.as_deref() {
            None => continue,
            Some("passed") => CaseStatus::Passed,
            Some("skipped") => CaseStatus::Skipped,
            Some("failed") => CaseStatus::Failed,
            Some("crashed") => CaseStatus::Crashed,
            Some("tampered") => {
                said.broken = Some(format!("the code under test changed {message}"));
                break;
            }
            Some(_) => CaseStatus::Error,
        };
        tried += usize::from(record.ms.is_some());
        add(&mut said, SuiteCase { name: record.name.unwrap_or_default(), end, message, duration_ms: record.ms });
    }
    printed.extend_from_slice(rest);
    *stdout = printed;
    let is_error = |case: &SuiteCase| case.end == CaseStatus::Error;
    if said.broken.is_none() && done.is_none() {
        said.broken = Some("the test runner was ended from inside".to_owned());
    } else if said.broken.is_none() && tried != collected && !said.cases.iter().any(is_error) {
        said.broken = Some(format!("{collected} tests were found, {tried} were run"));
    }
    said
}

/// A record, if it is one of our runner's.
fn verified(key: &SigningKey, line: &[u8]) -> Option<PytestRecord> {
    let (mac, text) = line.split_at_checked(64)?;
    let text = text.strip_prefix(b" ")?;
    let digit = |byte: u8| (byte as char).to_digit(16);
    let mac: Option<Vec<u8>> =
        mac.chunks(2).map(|pair| Some((digit(pair[0])? * 16 + digit(*pair.get(1)?)?) as u8)).collect();
    let mut signer = Hmac::<Sha256>::new_from_slice(key).ok()?;
    signer.update(text);
    signer.verify_slice(&mac?).ok()?;
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SigningKey = [7; 32];

    fn record(key: &SigningKey, text: &str) -> String {
        let mut signer = Hmac::<Sha256>::new_from_slice(key).unwrap();
        signer.update(text.as_bytes());
        format!("\n\u{1e}assay {} {text}\n", hex(&signer.finalize().into_bytes()))
    }

    fn said(text: &str) -> SuiteOutput {
        read(&KEY, &mut text.as_bytes().to_vec())
    }

    const ONE: &str = r#"{"n": 1, "name": "t.py::test", "end": "passed", "message": "", "ms": 1.5}"#;

    fn whole() -> String {
        let found = record(&KEY, r#"{"n": 0, "collected": 1}"#);
        found + &record(&KEY, ONE) + &record(&KEY, r#"{"n": 2, "done": 0}"#)
    }

    #[test]
    fn signed_records_are_cases_and_the_rest_is_what_was_printed() {
        let mut stdout = format!("hello {}1 passed\n", whole()).into_bytes();
        let said = read(&KEY, &mut stdout);
        assert_eq!((said.broken, said.cases.len(), said.cases[0].duration_ms), (None, 1, Some(1.5)));
        assert_eq!(String::from_utf8(stdout).unwrap(), "hello 1 passed\n");
    }

    #[test]
    fn what_is_not_signed_doubled_missing_or_too_late_is_not_believed() {
        let forged = record(&[8; 32], ONE);
        assert!(said(&forged).cases.is_empty() && said(&forged).broken.is_some());
        assert!(said(&whole().replace("done", "dune")).broken.is_some());
        let twice = whole().replacen(&record(&KEY, ONE), &record(&KEY, ONE).repeat(2), 1);
        assert_eq!((said(&twice).cases.len(), said(&twice).broken), (1, None));
        assert!(said(&whole().replace(&record(&KEY, ONE), "")).broken.is_some());
        let late = whole() + &record(&KEY, &ONE.replace("\"n\": 1", "\"n\": 3"));
        assert_eq!(said(&late).cases.len(), 1);
    }

    #[test]
    fn fewer_tests_than_were_found_are_no_success() {
        let text =
            record(&KEY, r#"{"n": 0, "collected": 2}"#) + &record(&KEY, ONE) + &record(&KEY, r#"{"n": 2, "done": 0}"#);
        assert_eq!(said(&text).broken.unwrap(), "2 tests were found, 1 were run");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_printed_is_read_without_a_panic(text in "(\u{1e}assay |[0-9a-f ]|\n){0,60}") {
            said(&text);
        }
    }
}
