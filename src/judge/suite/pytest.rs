//! Runs pytest through our own runner (`images/python/assay_suite.py`), which signs the results.
//!
//! Each run has a key of its own, which the runner reads from the first line of stdin. Records are
//! numbered from 0. A record that is out of order, repeated or not signed is ignored. The names of
//! all cases come first; without the last record the result is invalid.

use std::collections::BTreeSet;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;

use super::{CaseStatus, ParsedSuite, SuiteCase, add, too_many};
use crate::work::{Suite, WorkFile};
use config::bounds;
use protocol::RunFacts;

/// Path of the runner, relative to the box.
const RUNNER_PATH: &str = ".assay/runner.py";

/// Path of the module that does its work, relative to the box. Where the image has the same module,
/// a waiting runtime has loaded that already.
const MODULE_PATH: &str = ".assay/suite.py";

/// Path of the module that connects the process of the code under test, relative to the box.
const BRIDGE_PATH: &str = ".assay/bridge.py";

/// The argument that has the code under test run in a process of its own.
const SEPARATE: &str = "--assay-separate";

/// The runner as files of the step.
pub(crate) fn runner_files(is_separate: bool) -> Vec<WorkFile> {
    let file = |path: &str, data: &'static [u8]| WorkFile {
        path: path.to_owned(),
        mode: 0o444,
        data: Bytes::from_static(data),
    };
    let mut files = vec![
        file(RUNNER_PATH, include_bytes!("runner.py")),
        file(MODULE_PATH, include_bytes!("../../../images/python/assay_suite.py")),
    ];
    if is_separate {
        files.push(file(BRIDGE_PATH, include_bytes!("../../../images/python/assay_bridge.py")));
    }
    files
}

/// Whether a path is one of the runner's own.
fn is_runner(path: &str) -> bool {
    [RUNNER_PATH, MODULE_PATH, BRIDGE_PATH].contains(&path)
}

/// Precedes every record.
const MARK: &[u8] = b"\x1eassay ";

/// The runner's command. `-I` ignores the environment and the current folder.
pub(crate) fn command(is_separate: bool) -> Vec<String> {
    let words = ["python3", "-I", "-B", RUNNER_PATH, SEPARATE];
    words[..if is_separate { 5 } else { 4 }].iter().map(|word| (*word).to_owned()).collect()
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
    let is_python = |path: &&str| path.ends_with(".py") && !path.ends_with("conftest.py") && !is_runner(path);
    let paths = || files.iter().map(|file| file.path.as_str());
    let found: Vec<&str> = paths().filter(is_test).collect();
    if found.is_empty() { paths().filter(is_python).collect() } else { found }
}

/// The first line of the runner's stdin: the key, and what to run.
pub(super) fn order(key: &SigningKey, suite: &Suite) -> Bytes {
    let files: Vec<&WorkFile> = suite.step.files.iter().filter(|file| !is_runner(&file.path)).collect();
    let has = |name: &str| files.iter().any(|file| file.path.rsplit('/').next() == Some(name));
    // only one that belongs to the suite counts
    let config = ["pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml"]
        .into_iter()
        .find(|name| files.iter().any(|file| file.path == *name));
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let order = json!({
        "key": base16ct::lower::encode_string(key), "files": test_files(&suite.step.files), "suite": paths,
        "own": suite.own, "sources": suite.sources, "conftest": has("conftest.py") || paths.is_empty(), "config": config.unwrap_or("/dev/null"),
    });
    Bytes::from(format!("{order}\n"))
}

#[derive(Deserialize)]
struct PytestRecord {
    n: usize,
    /// Names of cases that will run.
    #[serde(default)]
    plan: Vec<String>,
    /// Places of those in the plan that their marks skip.
    #[serde(default)]
    skips: Vec<usize>,
    /// Which of them this is the result of.
    i: Option<usize>,
    name: Option<String>,
    end: Option<String>,
    message: Option<String>,
    ms: Option<f64>,
    done: Option<i32>,
}

/// pytest's exit status for a wrong command line.
const USAGE_ERROR: i32 = 4;

/// Removes the records from stdout and reads those that are signed.
pub(super) fn read(key: &SigningKey, facts: &mut RunFacts) -> ParsedSuite {
    let mut parsed = ParsedSuite::default();
    let (mut plan, mut has_result): (Vec<String>, Vec<bool>) = Default::default();
    let (mut next, mut done, mut skips) = (0, None, BTreeSet::new());
    let stdout = std::mem::take(&mut facts.stdout);
    let (mut rest, mut printed) = (stdout.as_slice(), Vec::with_capacity(stdout.len()));
    while let Some(at) = find_mark(rest) {
        let line = rest[at + MARK.len()..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        // each record begins with a line feed of its own
        printed.extend_from_slice(rest[..at].strip_suffix(b"\n").unwrap_or(&rest[..at]));
        rest = rest.get(at + MARK.len() + line.len() + 1..).unwrap_or_default();
        let Some(record) = verified(key, line).filter(|record| record.n == next && done.is_none()) else { continue };
        next += 1;
        plan.extend(record.plan);
        skips.extend(record.skips);
        has_result.resize(plan.len(), false);
        done = record.done;
        let message = record.message.unwrap_or_default();
        let status = match record.end.as_deref() {
            None if done == Some(USAGE_ERROR) && !message.is_empty() => {
                parsed.broken = Some(message);
                continue;
            }
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
        let name = match record.i {
            // one result for each case
            Some(index) if has_result.get(index) != Some(&false) => continue,
            Some(index) => {
                has_result[index] = true;
                plan[index].clone()
            }
            None => record.name.unwrap_or_default(),
        };
        add(&mut parsed, SuiteCase { name, status, message, duration_ms: record.ms });
    }
    printed.extend_from_slice(rest);
    facts.stdout = printed;
    parsed.planned = plan.len();
    for (index, name) in plan.into_iter().enumerate().filter(|(index, _)| !has_result[*index]) {
        if skips.contains(&index) {
            let status = CaseStatus::Skipped;
            add(&mut parsed, SuiteCase { name, status, message: "Not run.".to_owned(), duration_ms: None });
        } else {
            parsed.missing.push(name);
        }
    }
    parsed.stopped = done.is_some();
    explain(&mut parsed, done, &facts.stderr);
    parsed
}

/// Why the results are not valid, if they are not. Called when all cases are known.
fn explain(parsed: &mut ParsedSuite, done: Option<i32>, stderr: &[u8]) {
    let (planned, missing) = (parsed.planned, parsed.missing.len());
    // skipped by their marks, and not reached
    let unreached = parsed.cases.iter().filter(|case| case.message == "Not run.").count();
    if planned > bounds::MAX_CASES {
        parsed.missing.clear();
        parsed.unusable = Some(too_many());
    } else if done == Some(USAGE_ERROR) && parsed.cases.is_empty() {
        parsed.broken = parsed.broken.take().or_else(|| Some(format!("pytest says: {}", usage_error(stderr))));
    }
    if let Some(broken) = &parsed.broken
        && planned == 0
        && parsed.cases.is_empty()
    {
        let (name, message) = ("collection".to_owned(), broken.clone());
        add(parsed, SuiteCase { name, status: CaseStatus::Error, message, duration_ms: None });
    }
    if parsed.broken.is_some() || done.is_some() && missing == 0 {
        return;
    }
    let is_bad = |case: &SuiteCase| !matches!(case.status, CaseStatus::Passed | CaseStatus::Skipped);
    parsed.broken = match (done, parsed.missing.first()) {
        (None, Some(name)) => {
            let number = planned - missing - unreached + 1;
            Some(format!("the code under test ended the test runner in {name} (test {number} of {planned})"))
        }
        (None, None) => Some("the code under test ended the test runner".to_owned()),
        // pytest stopped at a failure, as its options said
        (Some(_), _) if parsed.cases.iter().any(is_bad) => None,
        (Some(_), _) => Some(format!("{planned} tests were found, {} were run", planned - missing)),
    };
}

/// What pytest wrote about its command line.
fn usage_error(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find_map(|line| Some(line.split_once(": error: ")?.1));
    let line = line.or_else(|| lines().find_map(|line| line.strip_prefix("ERROR: ")));
    line.or_else(|| lines().next()).unwrap_or("its command line is wrong").chars().take(300).collect()
}

/// Where the next record begins.
fn find_mark(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == MARK[0]) {
        if bytes[from + at..].starts_with(MARK) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
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
        of(text).0
    }

    fn of(text: &str) -> (ParsedSuite, String) {
        let mut facts = RunFacts { stdout: text.into(), ..RunFacts::bare(protocol::Outcome::Exited) };
        (read(&KEY, &mut facts), String::from_utf8_lossy(&facts.stdout).into_owned())
    }

    const ONE: &str = r#"{"n": 1, "i": 0, "end": "passed", "ms": 1.5}"#;

    fn whole() -> String {
        let found = record(&KEY, r#"{"n": 0, "plan": ["t.py::test"]}"#);
        found + &record(&KEY, ONE) + &record(&KEY, r#"{"n": 2, "done": 0}"#)
    }

    #[test]
    fn signed_records_are_cases_and_the_rest_is_output() {
        let (parsed, stdout) = of(&format!("hello {}1 passed\n", whole()));
        assert_eq!((parsed.broken, parsed.cases.len(), parsed.cases[0].duration_ms), (None, 1, Some(1.5)));
        assert_eq!(parsed.cases[0].name, "t.py::test");
        assert_eq!(stdout, "hello 1 passed\n");
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
        let plan = record(&KEY, r#"{"n": 0, "plan": ["a", "b", "c"]}"#);
        let text = format!("{plan}{}{}", record(&KEY, ONE), record(&KEY, r#"{"n": 2, "done": 0}"#));
        assert_eq!(parsed(&text).broken.unwrap(), "3 tests were found, 1 were run");
        let cut_off = parsed(&format!("{plan}{}", record(&KEY, ONE)));
        assert_eq!((cut_off.planned, cut_off.missing.len(), cut_off.stopped), (3, 2, false));
        assert!(cut_off.broken.unwrap().ends_with("in b (test 2 of 3)"));
        // one case cannot stand for another
        let twice = record(&KEY, r#"{"n": 2, "i": 0, "end": "passed"}"#);
        assert_eq!(parsed(&format!("{plan}{}{twice}", record(&KEY, ONE))).cases.len(), 1);
    }

    #[test]
    fn a_wrong_command_line_shows_what_pytest_says() {
        let stderr =
            "ERROR: usage: runner.py [options]\nrunner.py: error: unrecognized arguments: --bogus\n  inifile: x\n";
        assert_eq!(usage_error(stderr.as_bytes()), "unrecognized arguments: --bogus");
        assert_eq!(usage_error(b"ERROR: file or directory not found: no.py\n\n"), "file or directory not found: no.py");
    }

    proptest::proptest! {
        #[test]
        fn any_output_is_read_without_a_panic(text in "(\u{1e}assay |[0-9a-f ]|\n){0,60}") {
            parsed(&text);
        }
    }
}
