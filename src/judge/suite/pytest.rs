//! Runs pytest through our own runner (`runner.py`), which signs the results.
//!
//! Each run has a key of its own, which the runner reads from the first line of stdin. Records are
//! numbered from 0. A record that is out of order, repeated or not signed is ignored, and without
//! the last one the result is invalid.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;

use super::{CaseStatus, ParsedSuite, SuiteCase, add};
use crate::work::WorkFile;

/// Path of the runner, relative to the box.
const RUNNER_PATH: &str = ".assay/runner.py";

/// The runner as a file of the step.
pub(crate) fn runner_file() -> WorkFile {
    let data = Bytes::from_static(include_bytes!("runner.py"));
    WorkFile { path: RUNNER_PATH.to_owned(), mode: 0o444, data }
}

/// Precedes every record.
const MARK: &[u8] = b"\x1eassay ";

/// The runner's command. `-I` ignores the environment and the current folder.
pub(crate) fn command() -> Vec<String> {
    ["python3", "-I", "-B", RUNNER_PATH].map(str::to_owned).into()
}

/// The key that signs the records of one run.
pub(super) type SigningKey = [u8; 32];

/// A new random key.
pub(super) fn key() -> SigningKey {
    let mut key = [0; 32];
    getrandom::fill(&mut key).expect("the kernel has random bytes");
    key
}

/// Files that pytest recognises as tests by their names; all Python files if there is none.
fn test_files(files: &[WorkFile]) -> Vec<&str> {
    let is_test = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.ends_with(".py") && (name.starts_with("test_") || name.ends_with("_test.py"))
    };
    let is_python = |path: &&str| path.ends_with(".py") && !path.ends_with("conftest.py") && *path != RUNNER_PATH;
    let paths = || files.iter().map(|file| file.path.as_str());
    let found: Vec<&str> = paths().filter(is_test).collect();
    if found.is_empty() { paths().filter(is_python).collect() } else { found }
}

/// The first line of the runner's stdin: the key, and what to run.
pub(super) fn order(key: &SigningKey, files: &[WorkFile]) -> Bytes {
    let has = |name: &str| files.iter().any(|file| file.path == name || file.path.ends_with(&format!("/{name}")));
    let config = ["pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml"].into_iter().find(|name| {
        // only one that belongs to the suite counts
        files.iter().any(|file| file.path == *name)
    });
    let order = json!({
        "key": base16ct::lower::encode_string(key), "files": test_files(files), "conftest": has("conftest.py"), "config": config.unwrap_or("/dev/null"),
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

/// Removes the records from stdout and reads those that are signed.
pub(super) fn read(key: &SigningKey, stdout: &mut Vec<u8>) -> ParsedSuite {
    let mut parsed = ParsedSuite::default();
    let (mut rest, mut printed) = (stdout.as_slice(), Vec::with_capacity(stdout.len()));
    let (mut next, mut collected, mut run, mut done) = (0, 0, 0, None);
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
        let status = match record.end.as_deref() {
            None => continue,
            Some("passed") => CaseStatus::Passed,
            Some("skipped") => CaseStatus::Skipped,
            Some("failed") => CaseStatus::Failed,
            Some("crashed") => CaseStatus::Crashed,
            Some("tampered") => {
                parsed.broken = Some(format!("the code under test changed {message}"));
                break;
            }
            Some(_) => CaseStatus::Error,
        };
        run += usize::from(record.ms.is_some());
        add(&mut parsed, SuiteCase { name: record.name.unwrap_or_default(), status, message, duration_ms: record.ms });
    }
    printed.extend_from_slice(rest);
    *stdout = printed;
    let is_error = |case: &SuiteCase| case.status == CaseStatus::Error;
    if parsed.broken.is_none() && done.is_none() {
        parsed.broken = Some("the code under test ended the test runner".to_owned());
    } else if parsed.broken.is_none() && run != collected && !parsed.cases.iter().any(is_error) {
        parsed.broken = Some(format!("{collected} tests were found, {run} were run"));
    }
    parsed
}

/// The record in a line, if the runner signed it.
fn verified(key: &SigningKey, line: &[u8]) -> Option<PytestRecord> {
    let (mac, text) = line.split_at_checked(64)?;
    let text = text.strip_prefix(b" ")?;
    let mac = base16ct::mixed::decode_vec(mac).ok()?;
    let mut signer = Hmac::<Sha256>::new_from_slice(key).ok()?;
    signer.update(text);
    signer.verify_slice(&mac).ok()?;
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SigningKey = [7; 32];

    fn record(key: &SigningKey, text: &str) -> String {
        let mut signer = Hmac::<Sha256>::new_from_slice(key).unwrap();
        signer.update(text.as_bytes());
        format!("\n\u{1e}assay {} {text}\n", base16ct::lower::encode_string(&signer.finalize().into_bytes()))
    }

    fn parsed(text: &str) -> ParsedSuite {
        read(&KEY, &mut text.as_bytes().to_vec())
    }

    const ONE: &str = r#"{"n": 1, "name": "t.py::test", "end": "passed", "message": "", "ms": 1.5}"#;

    fn whole() -> String {
        let found = record(&KEY, r#"{"n": 0, "collected": 1}"#);
        found + &record(&KEY, ONE) + &record(&KEY, r#"{"n": 2, "done": 0}"#)
    }

    #[test]
    fn signed_records_are_cases_and_the_rest_is_output() {
        let mut stdout = format!("hello {}1 passed\n", whole()).into_bytes();
        let parsed = read(&KEY, &mut stdout);
        assert_eq!((parsed.broken, parsed.cases.len(), parsed.cases[0].duration_ms), (None, 1, Some(1.5)));
        assert_eq!(String::from_utf8(stdout).unwrap(), "hello 1 passed\n");
    }

    #[test]
    fn unsigned_repeated_missing_and_late_records_are_ignored() {
        let forged = record(&[8; 32], ONE);
        assert!(parsed(&forged).cases.is_empty() && parsed(&forged).broken.is_some());
        assert!(parsed(&whole().replace("done", "dune")).broken.is_some());
        let twice = whole().replacen(&record(&KEY, ONE), &record(&KEY, ONE).repeat(2), 1);
        assert_eq!((parsed(&twice).cases.len(), parsed(&twice).broken), (1, None));
        assert!(parsed(&whole().replace(&record(&KEY, ONE), "")).broken.is_some());
        let late = whole() + &record(&KEY, &ONE.replace("\"n\": 1", "\"n\": 3"));
        assert_eq!(parsed(&late).cases.len(), 1);
    }

    #[test]
    fn fewer_tests_than_were_found_are_not_a_success() {
        let text =
            record(&KEY, r#"{"n": 0, "collected": 2}"#) + &record(&KEY, ONE) + &record(&KEY, r#"{"n": 2, "done": 0}"#);
        assert_eq!(parsed(&text).broken.unwrap(), "2 tests were found, 1 were run");
    }

    proptest::proptest! {
        #[test]
        fn any_output_is_read_without_a_panic(text in "(\u{1e}assay |[0-9a-f ]|\n){0,60}") {
            parsed(&text);
        }
    }
}
