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
//!
//! node writes that when it has time. A file that hangs or ends early leaves the lines of
//! `node.cjs` instead, and which tests it has is asked afterwards (`listing`).

use super::{CaseStatus, ParsedSuite, SuiteCase, add, tap, too_many};
use crate::work::WorkFile;
use config::bounds;

/// Runs the test files one after the other, each in a process of its own.
const SCRIPT: &str = "s=0; for f; do node --require ./.assay/node.cjs --test-reporter=tap \"$f\" || s=1; done; exit $s";

/// Lists the tests of the files: none has a name that is empty.
const LISTING: &str = "for f; do node --test-name-pattern='^$' --test-reporter=tap \"$f\"; done";

/// Precedes what the module that is loaded first says.
const MARK: &str = "\u{1e}assay ";

/// The module that is loaded before a test file.
pub(crate) fn preloaded() -> WorkFile {
    WorkFile {
        path: ".assay/node.cjs".to_owned(),
        mode: 0o444,
        data: bytes::Bytes::from_static(include_bytes!("node.cjs")),
    }
}

/// The command that lists the tests of those that a command of ours runs.
pub(super) fn listing(argv: &[String]) -> Option<Vec<String>> {
    let mut argv = argv.to_vec();
    let script = argv.get_mut(2).filter(|word| *word == SCRIPT)?;
    LISTING.clone_into(script);
    Some(argv)
}

/// Adds the tests that a listing has and that were not run.
pub(super) fn add_planned(parsed: &mut ParsedSuite, stdout: &[u8]) {
    let listed = read(&[], stdout);
    let is_known =
        |name: &str, known: &str| name == known || known.strip_prefix(name).is_some_and(|rest| rest.starts_with(" > "));
    for SuiteCase { name, .. } in listed.cases {
        let cases = parsed.cases.iter().map(|case| &case.name);
        if !cases.chain(&parsed.missing).any(|known| is_known(&name, known)) {
            parsed.missing.push(name);
        }
    }
    parsed.planned = (parsed.cases.len() + parsed.missing.len()).min(bounds::MAX_CASES);
}

/// Stdout without the lines of `node.cjs`.
pub(super) fn without_marks(stdout: &[u8]) -> Vec<u8> {
    let mut kept: Vec<u8> = Vec::with_capacity(stdout.len());
    for line in stdout.split_inclusive(|byte| *byte == b'\n') {
        match line.starts_with(MARK.as_bytes()) {
            // each begins with a line feed of its own
            true => kept.truncate(kept.len() - usize::from(kept.ends_with(b"\n"))),
            false => kept.extend_from_slice(line),
        }
    }
    kept
}

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
    /// What is known of the current file besides.
    begun: Vec<BegunTest>,
}

/// A test that has begun, by `node.cjs`.
struct BegunTest {
    name: String,
    /// Whether it passed, and what failed.
    end: Option<(bool, String)>,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) {
        if let Some(text) = line.strip_prefix(MARK) {
            self.mark(text);
            return;
        }
        if line.starts_with("TAP version ") {
            // the first lines of a file may come before its header
            if !self.levels.is_empty() {
                self.end_document();
            }
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

    /// A line of `node.cjs`.
    fn mark(&mut self, text: &str) {
        let Ok(words) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return };
        let text = |at: usize| words.get(at).and_then(serde_json::Value::as_str).unwrap_or_default();
        let name = || text(1)[..text(1).floor_char_boundary(MAX_NAME_BYTES)].to_owned();
        match text(0) {
            "file" => self.end_document(),
            "begin" if self.begun.len() < bounds::MAX_CASES => self.begun.push(BegunTest { name: name(), end: None }),
            "end" => {
                let is_meant = |test: &&mut BegunTest| test.end.is_none() && test.name == text(1);
                let passed = words.get(2).and_then(serde_json::Value::as_bool) == Some(true);
                if let Some(test) = self.begun.iter_mut().rev().find(is_meant) {
                    test.end = Some((passed, text(3).to_owned()));
                }
            }
            _ => {}
        }
    }

    /// The cases of a file that ended early, by what has begun: those that have others below them
    /// are none.
    fn end_early(&mut self) {
        self.parsed.broken.get_or_insert_with(|| "a test file ended before its tests".to_owned());
        let begun = std::mem::take(&mut self.begun);
        let mut outer = std::collections::BTreeSet::new();
        for test in &begun {
            outer.extend(test.name.match_indices(" > ").map(|(at, _)| test.name[..at].to_owned()));
        }
        for BegunTest { name, end } in begun.into_iter().filter(|test| !outer.contains(&test.name)) {
            let Some((passed, error)) = end else {
                self.parsed.missing.push(name);
                continue;
            };
            let status = if passed { CaseStatus::Passed } else { CaseStatus::Failed };
            let message = error.split_whitespace().collect::<Vec<_>>().join(" ");
            add(&mut self.parsed, SuiteCase { name, status, message, duration_ms: None });
        }
    }

    fn end_document(&mut self) {
        if self.block.is_some() {
            self.end_block();
        }
        let levels = std::mem::take(&mut self.levels);
        let mut levels = levels.into_iter();
        let top = levels.next();
        let is_whole = top.as_ref().is_some_and(|top| top.plan == Some(top.count));
        if !self.begun.is_empty() && !is_whole {
            self.end_early();
            return;
        }
        self.begun.clear();
        let Some(top) = top else { return };
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
    fn a_file_that_ends_early_has_what_had_begun_and_what_it_planned() {
        let mark = |words: &str| format!("\n{MARK}[{words}]\n");
        let begun = [
            mark("\"file\""),
            "TAP version 13\n".to_owned(),
            mark("\"begin\",\"add > one\""),
            mark("\"end\",\"add > one\",true,\"\""),
            mark("\"begin\",\"sub\""),
            mark("\"begin\",\"sub > inner\""),
            mark("\"end\",\"sub > inner\",false,\"1\\n2\""),
            mark("\"end\",\"sub\",false,\"1 subtest failed\""),
            mark("\"begin\",\"three\""),
        ];
        for text in [begun.concat(), [&begun[..1], &begun[2..]].concat().concat()] {
            let mut parsed = read(&[], text.as_bytes());
            let listed = "TAP version 13\n    ok 1 - one # SKIP\n    1..1\nok 1 - add\nok 2 - sub # SKIP\nok 3 - three # SKIP\nok 4 - four # SKIP\n1..4\n";
            add_planned(&mut parsed, listed.as_bytes());
            let cases: Vec<_> = parsed.cases.iter().map(|case| (case.name.as_str(), case.status)).collect();
            assert_eq!(cases, [("add > one", CaseStatus::Passed), ("sub > inner", CaseStatus::Failed)]);
            assert_eq!((parsed.cases[1].message.as_str(), parsed.planned), ("1 2", 4));
            assert_eq!(parsed.missing, ["three", "four"]);
            assert!(parsed.broken.is_some());
        }
        // a file that ran to its end has what node says
        let whole = [mark("\"file\""), mark("\"begin\",\"a\""), "TAP version 13\nok 1 - a\n1..1\n".to_owned()].concat();
        let parsed = read(&[], whole.as_bytes());
        assert_eq!((parsed.broken, parsed.cases.len(), parsed.missing.len()), (None, 1, 0));
        assert_eq!(without_marks(whole.as_bytes()), b"TAP version 13\nok 1 - a\n1..1\n");
        assert!(read(&[], mark("\"begin\",5").as_bytes()).broken.is_some());
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
