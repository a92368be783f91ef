//! Reads the Test Anything Protocol, versions 12 to 14: the plan, the test lines of the top level,
//! and the comments and YAML blocks below them.

use super::{CaseStatus, ParsedSuite, SuiteCase, add};

/// Reads a command's stdout.
pub(super) fn read(stdout: &[u8]) -> ParsedSuite {
    let text = String::from_utf8_lossy(stdout);
    let mut parsed = ParsedSuite::default();
    let mut plan: Option<usize> = None;
    let mut case: Option<SuiteCase> = None;
    let mut count = 0;
    for line in text.lines() {
        if let Some(next) = test_line(line) {
            count += 1;
            case.replace(named(next, count)).into_iter().for_each(|done| add(&mut parsed, done));
        } else if let Some(number) = line.strip_prefix("1..") {
            let number = number.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
            match (number, plan) {
                (Some(number), None) => plan = Some(number),
                _ => parsed.broken = Some("there are two plans, or an invalid one".to_owned()),
            }
        } else if let Some(reason) = line.strip_prefix("Bail out!") {
            parsed.broken =
                Some(format!("the tests bailed out:{}", if reason.is_empty() { " no reason given" } else { reason }));
        } else if let Some(case) =
            case.as_mut().filter(|case| case.status != CaseStatus::Passed || line.contains("duration_ms"))
        {
            add_detail(line, case);
        }
    }
    case.into_iter().for_each(|done| add(&mut parsed, done));
    parsed.planned = plan.unwrap_or(0).min(config::bounds::MAX_CASES);
    if parsed.broken.is_none() {
        parsed.broken = match plan {
            None => Some("no plan was printed".to_owned()),
            Some(planned) if planned != count => Some(format!("{planned} tests were planned, {count} were reported")),
            Some(_) => None,
        };
    }
    parsed
}

/// `ok 1 - name # SKIP reason` or `not ok ...`, without indentation.
pub(super) fn test_line(line: &str) -> Option<SuiteCase> {
    let (passed, rest) = match (line.strip_prefix("ok"), line.strip_prefix("not ok")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return None,
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let rest = rest.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let is = |text: &str, word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    // a name may have a `#` of its own
    let hashes = rest.match_indices('#').filter(|(at, _)| *at == 0 || rest[..*at].ends_with(' '));
    let mut directives = hashes.map(|(at, _)| (&rest[..at], rest[at + 1..].trim()));
    let (name, directive) = directives
        .find(|(_, directive)| is(directive, "skip") || is(directive, "todo"))
        .unwrap_or((rest.split_once(" # ").map_or(rest, |(name, _)| name), ""));
    let status = match passed {
        // a test marked as todo may fail
        _ if !directive.is_empty() => CaseStatus::Skipped,
        true => CaseStatus::Passed,
        false => CaseStatus::Failed,
    };
    let message = if status == CaseStatus::Skipped { directive.to_owned() } else { String::new() };
    Some(SuiteCase { name: name.trim().to_owned(), status, message, duration_ms: None })
}

fn named(mut case: SuiteCase, number: usize) -> SuiteCase {
    if case.name.is_empty() {
        case.name = number.to_string();
    }
    case
}

/// A comment, or a line of the YAML block, below a test line.
fn add_detail(line: &str, case: &mut SuiteCase) {
    let trimmed = line.trim();
    if let Some(number) = trimmed.strip_prefix("duration_ms:") {
        case.duration_ms = case.duration_ms.or(number.trim().parse().ok());
        return;
    }
    if ["---", "...", "|-", ""].contains(&trimmed) || case.message.len() > 4096 {
        return;
    }
    if line.starts_with('#') || line.starts_with(' ') {
        if !case.message.is_empty() {
            case.message.push('\n');
        }
        case.message.push_str(trimmed.trim_start_matches("# "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(text: &str) -> (Vec<(String, CaseStatus)>, Option<String>) {
        let parsed = read(text.as_bytes());
        (parsed.cases.into_iter().map(|case| (case.name, case.status)).collect(), parsed.broken)
    }

    #[test]
    fn a_directive_needs_no_name_and_a_name_may_have_a_hash() {
        let text = "1..5\nok 1 # SKIP why\nnot ok 2 # todo\nok 3 - issue # 5 # skip\nok 4 - c #SKIP\nok 5 - a # b\n";
        let all: Vec<(String, bool)> =
            cases(text).0.into_iter().map(|(name, status)| (name, status == CaseStatus::Skipped)).collect();
        let expect = [("1", true), ("2", true), ("issue # 5", true), ("c", true), ("a", false)];
        assert_eq!(all, expect.map(|(name, is_skipped)| (name.to_owned(), is_skipped)));
    }

    #[test]
    fn test_lines_are_cases_and_the_plan_may_come_first_or_last() {
        let expect = vec![
            ("adds".to_owned(), CaseStatus::Passed),
            ("2".to_owned(), CaseStatus::Failed),
            ("later".to_owned(), CaseStatus::Skipped),
        ];
        let tests = "ok 1 - adds\nnot ok 2\n# off by one\nok 3 - later # SKIP no time\n";
        assert_eq!(cases(&format!("TAP version 13\n1..3\n{tests}")), (expect.clone(), None));
        assert_eq!(cases(&format!("{tests}1..3\n")), (expect, None));
        assert_eq!(read(format!("{tests}1..3\n").as_bytes()).cases[1].message, "off by one");
    }

    #[test]
    fn a_plan_that_does_not_match_is_not_a_success() {
        assert!(cases("1..2\nok 1\n").1.unwrap().contains("2 tests were planned, 1 were reported"));
        assert!(cases("ok 1\n").1.is_some());
        assert!(cases("1..1\nok 1\n1..1\n").1.is_some());
        assert!(cases("1..1\nok 1\nBail out! no disk\n").1.unwrap().contains("no disk"));
        assert!(cases("").1.is_some());
    }

    #[test]
    fn indented_lines_belong_to_the_test_line_above() {
        let text = "TAP version 13\n# Subtest: a\n    ok 1 - inner\n    1..1\nnot ok 1 - a\n  ---\n  duration_ms: 1.5\n  error: 'no'\n  ...\n1..1\n";
        let parsed = read(text.as_bytes());
        assert_eq!(parsed.cases.len(), 1);
        assert_eq!((parsed.cases[0].duration_ms, parsed.cases[0].message.as_str()), (Some(1.5), "error: 'no'"));
        assert_eq!(parsed.broken, None);
    }

    proptest::proptest! {
        #[test]
        fn any_output_is_read_without_a_panic(text in "(ok|not ok|1\\.\\.|Bail out!|[ #0-9a-z\n-]){0,40}") {
            read(text.as_bytes());
        }
    }
}
