//! Reads what node:test writes as TAP: each test that has no tests below it is a case, and its YAML
//! block says what failed and where.
//!
//! ```text
//!  TAP version 13
//!  # Subtest: sums                 one document for each test file
//!      ok 1 - adds
//!        ---                       the block of a test is indented by two more
//!        ...
//!      1..1                        the plan of what is below "sums"
//!  ok 1 - sums
//!  1..1
//! ```

use super::{CaseStatus, ParsedSuite, SuiteCase, add, tap, too_many};
use crate::work::WorkFile;
use config::bounds;

/// Runs the test files one after the other, each in a process of its own.
const SCRIPT: &str = "s=0; for f; do node --test-reporter=tap \"$f\" || s=1; done; exit $s";

/// Words of the command before the files.
const WORDS: usize = 4;

/// The command that runs a suite's test files: those that node takes for tests by their names, all
/// JavaScript files if there is none.
pub(crate) fn command(files: &[WorkFile]) -> Vec<String> {
    let is_script = |path: &&str| [".js", ".mjs", ".cjs"].iter().any(|extension| path.ends_with(extension));
    let is_test = |path: &&str| {
        let (folder, name) = path.split_at(path.rfind('/').map_or(0, |at| at + 1));
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let by_name = stem == "test"
            || stem.starts_with("test-")
            || [".test", "-test", "_test", ".spec"].iter().any(|end| stem.ends_with(end));
        by_name || folder.split('/').any(|part| part == "test" || part == "tests" || part == "__tests__")
    };
    let scripts = || files.iter().map(|file| file.path.as_str()).filter(is_script);
    let mut tests: Vec<&str> = scripts().filter(is_test).collect();
    if tests.is_empty() {
        tests = scripts().collect();
    }
    let words = ["sh", "-c", SCRIPT, "sh"].into_iter().map(str::to_owned);
    words.chain(tests.into_iter().map(|path| format!("./{path}"))).collect()
}

/// How much a level is indented.
const INDENT: usize = 4;

/// Most test lines: also those of tests that have others below them and are not cases.
const MAX_TEST_LINES: usize = 2 * bounds::MAX_CASES;

/// Longest name of a case, with those of the tests around it.
const MAX_NAME_BYTES: usize = 512;

/// Longest value of a block that is read: many times what is shown of it.
const MAX_SCALAR_BYTES: usize = 64 * 1024;

/// The cases of one level that are not part of a test of the level above yet.
#[derive(Default)]
struct Level {
    cases: Vec<SuiteCase>,
    /// Test lines at this level since the last one of the level above.
    count: usize,
    plan: Option<usize>,
}

/// Reads a command's stdout.
pub(super) fn read(argv: &[String], stdout: &[u8]) -> ParsedSuite {
    let text = String::from_utf8_lossy(stdout);
    let mut reader = Reader { text: &text, ..Reader::default() };
    for line in text.split_inclusive('\n') {
        reader.next_at += line.len();
        let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
        reader.line(line);
        if reader.count > MAX_TEST_LINES {
            return ParsedSuite { broken: Some(too_many()), ..reader.end() };
        }
    }
    let documents = reader.documents;
    let mut parsed = reader.end();
    let is_ours = argv.get(2).is_some_and(|word| word == SCRIPT);
    if is_ours && documents != argv.len() - WORDS {
        let message = format!("{} test files were to run, {documents} reported", argv.len() - WORDS);
        parsed.broken.get_or_insert(message);
    }
    parsed
}

/// A YAML block: the lines from its first to its last, which are indented.
#[derive(Clone, Copy)]
struct Block<'t> {
    text: &'t str,
    indent: usize,
}

impl<'t> Block<'t> {
    /// The lines without their indent. One that is indented less is as good as empty.
    fn lines(self) -> impl Iterator<Item = &'t str> {
        self.text.lines().map(move |line| line.get(self.indent..).unwrap_or_default())
    }
}

#[derive(Default)]
struct Reader<'t> {
    text: &'t str,
    /// Where the line after the current one begins.
    next_at: usize,
    parsed: ParsedSuite,
    levels: Vec<Level>,
    documents: usize,
    /// Test lines of all levels.
    count: usize,
    /// Where the block below the last test line begins.
    block: Option<usize>,
    /// The level of that line.
    at: usize,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) {
        if line.starts_with("TAP version ") {
            self.end_document();
            self.documents += 1;
            self.levels = vec![Level::default()];
            return;
        }
        if self.levels.is_empty() {
            return;
        }
        let trimmed = line.trim_start_matches(' ');
        let indent = line.len() - trimmed.len();
        if self.block.is_some() {
            if indent == self.at * INDENT + 2 && trimmed == "..." {
                self.end_block();
            }
            return;
        }
        let level = indent / INDENT;
        if trimmed == "---" && indent == self.at * INDENT + 2 {
            self.block = Some(self.next_at);
        } else if !indent.is_multiple_of(INDENT) || level > 64 {
            // output of the code
        } else if let Some(case) = tap::test_line(trimmed) {
            self.test(level, case);
        } else if let Some(number) = trimmed.strip_prefix("1..").and_then(|rest| rest.trim().parse().ok()) {
            self.levels.resize_with(self.levels.len().max(level + 1), Level::default);
            self.levels[level].plan = Some(number);
        } else if let Some(reason) = trimmed.strip_prefix("Bail out!") {
            self.parsed.broken = Some(format!("the tests bailed out:{reason}"));
        }
    }

    /// A test line, which ends what is below it.
    fn test(&mut self, level: usize, mut case: SuiteCase) {
        self.count += 1;
        cut_name(&mut case);
        self.levels.resize_with(self.levels.len().max(level + 1), Level::default);
        let mut below = Vec::new();
        for inner in self.levels.drain(level + 1..) {
            if inner.plan.is_some_and(|plan| plan != inner.count) {
                self.parsed.broken = Some(format!("not all tests of {} were reported", case.name));
            }
            below.extend(inner.cases);
        }
        let has_failed = |case: &SuiteCase| case.status == CaseStatus::Failed;
        let says_more = below.is_empty() || has_failed(&case) && !below.iter().any(has_failed);
        for inner in &mut below {
            inner.name = format!("{} > {}", case.name, inner.name);
            cut_name(inner);
        }
        let cases = &mut self.levels[level];
        cases.count += 1;
        cases.cases.extend(below);
        if says_more {
            cases.cases.push(case);
        } else {
            // its block is about the tests below it
            cases.cases.push(SuiteCase { status: CaseStatus::NotRun, ..SuiteCase::default() });
        }
        self.at = level;
    }

    fn end_block(&mut self) {
        // the last line is the end itself, which has no key
        let text = &self.text[self.block.take().unwrap_or(self.next_at)..self.next_at];
        let block = Block { text, indent: self.at * INDENT + 2 };
        if let Some(case) = self.levels.get_mut(self.at).and_then(|level| level.cases.last_mut()) {
            let value = |key: &str| value(block, key);
            case.duration_ms = value("duration_ms").and_then(|text| text.parse().ok());
            if case.status == CaseStatus::Failed {
                case.message = message(block);
                let is_assertion = value("code").as_deref() == Some("ERR_ASSERTION")
                    || value("name").as_deref() == Some("AssertionError");
                // what is not an assertion, but for failed hooks and cancelled tests
                if !is_assertion && value("failureType").as_deref() == Some("testCodeFailure") {
                    case.status = CaseStatus::Crashed;
                }
            }
        }
    }

    fn end_document(&mut self) {
        if self.block.is_some() {
            self.end_block();
        }
        let levels = std::mem::take(&mut self.levels);
        let mut levels = levels.into_iter();
        let Some(top) = levels.next() else { return };
        if levels.any(|level| !level.cases.is_empty()) || top.plan != Some(top.count) {
            self.parsed.broken.get_or_insert_with(|| "a test file ended before its tests".to_owned());
        }
        if top.count == 0 && top.plan == Some(0) {
            self.parsed.broken.get_or_insert_with(|| "a test file has no tests".to_owned());
        }
        top.cases
            .into_iter()
            .filter(|case| case.status != CaseStatus::NotRun)
            .for_each(|case| add(&mut self.parsed, case));
    }

    fn end(mut self) -> ParsedSuite {
        self.end_document();
        if self.documents == 0 {
            self.parsed.broken = Some("the output has no results".to_owned());
        }
        self.parsed
    }
}

fn cut_name(case: &mut SuiteCase) {
    case.name.truncate(case.name.floor_char_boundary(MAX_NAME_BYTES));
}

/// The value of a key of a block: a word, a quoted text, or the lines of a block scalar.
fn value(block: Block<'_>, key: &str) -> Option<String> {
    let mut lines = block.lines();
    let text = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim();
    if text.starts_with('|') || text.starts_with('>') {
        let mut scalar = String::new();
        for line in lines.take_while(|line| line.starts_with("  ") || line.is_empty()) {
            if scalar.len() + line.len() > MAX_SCALAR_BYTES {
                break;
            }
            scalar.push_str(line.trim());
            scalar.push('\n');
        }
        return Some(scalar.trim().to_owned());
    }
    let text = &text[..text.floor_char_boundary(MAX_SCALAR_BYTES)];
    let unquoted = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).map(|text| text.replace("''", "'"));
    let unquoted = unquoted.or_else(|| Some(text.strip_prefix('"')?.strip_suffix('"')?.replace("\\\"", "\"")));
    Some(unquoted.unwrap_or_else(|| text.to_owned()))
}

/// `file:line: words` of a failed test; the words in one line, for they are what is shown first.
fn message(block: Block<'_>) -> String {
    let error = value(block, "error").unwrap_or_default();
    let words: Vec<&str> = error.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let stack = value(block, "stack").unwrap_or_default();
    let place = stack.lines().find_map(place_in).or_else(|| place_in(&value(block, "location")?));
    format!("{}{}", place.map(|place| format!("{place}: ")).unwrap_or_default(), words.join(" "))
}

/// What node wrote about a file that it could not run: `add.mjs:1: SyntaxError: ...`.
pub(super) fn crash(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let words = text.lines().find(|line| !line.starts_with(' ') && line.contains("Error") && line.contains(": "))?;
    let place = text.lines().find_map(place_in).map(|place| format!("{place}: ")).unwrap_or_default();
    Some(format!("{place}{}", words.trim()).chars().take(300).collect())
}

/// `test.js:2` from a line that names `/box/test.js:2:27`.
fn place_in(line: &str) -> Option<String> {
    let path = line.split_once("/box/")?.1;
    let mut parts = path.split(':');
    let (file, number) = (parts.next()?, parts.next()?);
    let number: String = number.chars().take_while(char::is_ascii_digit).collect();
    (!number.is_empty()).then(|| format!("{file}:{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: &str = "TAP version 13\n# Subtest: sums\n    # Subtest: adds\n    not ok 1 - adds\n      ---\n      duration_ms: 1.5\n      failureType: 'testCodeFailure'\n      error: |-\n        Expected values to be strictly equal:\n        \n        0 !== 3\n        \n      code: 'ERR_ASSERTION'\n      stack: |-\n        TestContext.<anonymous> (/box/test.js:2:27)\n      ...\n    # Subtest: adds nothing\n    ok 2 - adds nothing\n      ---\n      duration_ms: 0.5\n      ...\n    1..2\nnot ok 1 - sums\n  ---\n  duration_ms: 3\n  failureType: 'subtestsFailed'\n  error: '1 subtest failed'\n  ...\n1..1\n# tests 1\n";

    #[test]
    fn tests_without_tests_below_them_are_cases_with_place_and_words() {
        let parsed = read(&[], NESTED.as_bytes());
        assert_eq!(parsed.broken, None);
        let of =
            |at: usize| (parsed.cases[at].name.as_str(), parsed.cases[at].status, parsed.cases[at].message.as_str());
        assert_eq!(
            of(0),
            ("sums > adds", CaseStatus::Failed, "test.js:2: Expected values to be strictly equal: 0 !== 3")
        );
        assert_eq!(of(1), ("sums > adds nothing", CaseStatus::Passed, ""));
        assert_eq!((parsed.cases.len(), parsed.cases[1].duration_ms), (2, Some(0.5)));
    }

    #[test]
    fn documents_without_plan_or_tests_and_missing_tests_are_not_a_success() {
        let good = "TAP version 13\nok 1 - a\n1..1\n";
        assert_eq!((read(&[], good.as_bytes()).broken, read(&[], good.as_bytes()).cases.len()), (None, 1));
        for bad in [
            "",
            "TAP version 13\n",
            "TAP version 13\nok 1 - a\n",
            "TAP version 13\n1..0\n",
            "TAP version 13\n    ok 1 - a\n    1..2\nok 1 - b\n1..1\n",
        ] {
            assert!(read(&[], bad.as_bytes()).broken.is_some(), "{bad}");
            assert!(read(&[], format!("{good}{bad}{good}").as_bytes()).broken.is_some() || bad.is_empty(), "{bad}");
        }
        assert_eq!(read(&[], format!("{good}{good}").as_bytes()).cases.len(), 2);
    }

    #[test]
    fn very_many_tests_and_long_names_take_little_memory_and_time() {
        let inner = "    ok 1\n".repeat(bounds::MAX_CASES / 2);
        let text = format!("TAP version 13\n{inner}ok 1 - {}\n1..1\n", "x".repeat(300_000));
        let parsed = read(&[], text.as_bytes());
        assert_eq!((parsed.broken, parsed.cases.len()), (None, bounds::MAX_CASES / 2));
        assert!(parsed.cases.iter().all(|case| case.name.len() <= MAX_NAME_BYTES));
        let block = "    ok 1\n      ---\n      duration_ms: 1\n      ...\n";
        let text = format!("TAP version 13\n{}", block.repeat(20 * bounds::MAX_CASES));
        assert_eq!(read(&[], text.as_bytes()).broken, Some(too_many()));
    }

    #[test]
    fn a_block_takes_no_memory_and_a_value_of_it_little() {
        let empty = "\n".repeat(1 << 20);
        let text =
            format!("TAP version 13\nnot ok 1 - a\n  ---\n  error: |-{empty}  code: 'ERR_ASSERTION'\n  ...\n1..1\n");
        let block = Block { text: &text, indent: 2 };
        assert!(value(block, "error").unwrap().len() <= MAX_SCALAR_BYTES);
        assert_eq!(value(block, "code").as_deref(), Some("ERR_ASSERTION"));
        let parsed = read(&[], text.as_bytes());
        assert_eq!((parsed.broken, parsed.cases[0].status), (None, CaseStatus::Failed));
    }

    #[test]
    fn an_exception_is_a_crash_and_a_skipped_test_is_skipped() {
        let text = "TAP version 13\nnot ok 1 - a\n  ---\n  failureType: 'testCodeFailure'\n  error: 'x is not defined'\n  code: 'ERR_TEST_FAILURE'\n  stack: |-\n    f (file:///box/add.mjs:1:30)\n  ...\nok 2 - b # SKIP later\n1..2\n";
        let parsed = read(&[], text.as_bytes());
        assert_eq!(
            (parsed.cases[0].status, parsed.cases[0].message.as_str()),
            (CaseStatus::Crashed, "add.mjs:1: x is not defined")
        );
        assert_eq!(parsed.cases[1].status, CaseStatus::Skipped);
    }

    proptest::proptest! {
        #[test]
        fn any_output_is_read_without_a_panic(text in "(TAP version 13|ok|not ok|1\\.\\.|    |  ---|  \\.\\.\\.|error:|[ #0-9a-z\n|'-]){0,40}") {
            read(&[], text.as_bytes());
        }
    }
}
