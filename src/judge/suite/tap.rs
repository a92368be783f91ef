//! The Test Anything Protocol, versions 12 to 14: the plan, the test lines of the top level, and what is said below them.

use super::{CaseStatus, SuiteCase, SuiteOutput, add};

/// Reads what a command wrote to stdout.
pub(super) fn read(stdout: &[u8]) -> SuiteOutput {
    let text = String::from_utf8_lossy(stdout);
    let mut said = SuiteOutput::default();
    let mut plan: Option<usize> = None;
    let mut case: Option<SuiteCase> = None;
    let mut count = 0;
    for line in text.lines() {
        if let Some(next) = test_line(line) {
            count += 1;
            case.replace(named(next, count)).into_iter().for_each(|done| add(&mut said, done));
        } else if let Some(number) = line.strip_prefix("1..") {
            let number = number.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
            match (number, plan) {
                (Some(number), None) => plan = Some(number),
                _ => said.broken = Some("there are two plans, or one that is no number".to_owned()),
            }
        } else if let Some(why) = line.strip_prefix("Bail out!") {
            said.broken = Some(format!("they gave up:{}", if why.is_empty() { " without a reason" } else { why }));
        } else if let Some(case) =
            case.as_mut().filter(|case| case.end != CaseStatus::Passed || line.contains("duration_ms"))
        {
            below(line, case);
        }
    }
    case.into_iter().for_each(|done| add(&mut said, done));
    if said.broken.is_none() {
        said.broken = match plan {
            None => Some("there is no plan".to_owned()),
            Some(planned) if planned != count => Some(format!("{planned} tests were planned, {count} came")),
            Some(_) => None,
        };
    }
    said
}

/// `ok 1 - name # SKIP why` or `not ok ...`, at the very left.
fn test_line(line: &str) -> Option<SuiteCase> {
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
    let (name, directive) = rest.split_once(" # ").unwrap_or((rest.strip_prefix("# ").map_or(rest, |_| ""), ""));
    let directive = directive.trim();
    let is = |word: &str| directive.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let end = match passed {
        _ if is("skip") => CaseStatus::Skipped,
        // what is still to be done may fail
        _ if is("todo") => CaseStatus::Skipped,
        true => CaseStatus::Passed,
        false => CaseStatus::Failed,
    };
    let message = if end == CaseStatus::Skipped { directive.to_owned() } else { String::new() };
    Some(SuiteCase { name: name.trim().to_owned(), end, message, duration_ms: None })
}

fn named(mut case: SuiteCase, number: usize) -> SuiteCase {
    if case.name.is_empty() {
        case.name = number.to_string();
    }
    case
}

/// A comment, or a line of the YAML block, below a test line.
fn below(line: &str, case: &mut SuiteCase) {
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

    fn ends(text: &str) -> (Vec<(String, CaseStatus)>, Option<String>) {
        let said = read(text.as_bytes());
        (said.cases.into_iter().map(|case| (case.name, case.end)).collect(), said.broken)
    }

    #[test]
    fn lines_are_cases_and_the_plan_may_stand_at_either_end() {
        let expect = vec![
            ("adds".to_owned(), CaseStatus::Passed),
            ("2".to_owned(), CaseStatus::Failed),
            ("later".to_owned(), CaseStatus::Skipped),
        ];
        let tests = "ok 1 - adds\nnot ok 2\n# off by one\nok 3 - later # SKIP no time\n";
        assert_eq!(ends(&format!("TAP version 13\n1..3\n{tests}")), (expect.clone(), None));
        assert_eq!(ends(&format!("{tests}1..3\n")), (expect, None));
        assert_eq!(read(format!("{tests}1..3\n").as_bytes()).cases[1].message, "off by one");
    }

    #[test]
    fn a_plan_that_is_not_kept_is_no_success() {
        assert!(ends("1..2\nok 1\n").1.unwrap().contains("2 tests were planned, 1 came"));
        assert!(ends("ok 1\n").1.is_some());
        assert!(ends("1..1\nok 1\n1..1\n").1.is_some());
        assert!(ends("1..1\nok 1\nBail out! no disk\n").1.unwrap().contains("no disk"));
        assert!(ends("").1.is_some());
    }

    #[test]
    fn what_is_indented_belongs_to_the_line_above() {
        let text = "TAP version 13\n# Subtest: a\n    ok 1 - inner\n    1..1\nnot ok 1 - a\n  ---\n  duration_ms: 1.5\n  error: 'no'\n  ...\n1..1\n";
        let said = read(text.as_bytes());
        assert_eq!(said.cases.len(), 1);
        assert_eq!((said.cases[0].duration_ms, said.cases[0].message.as_str()), (Some(1.5), "error: 'no'"));
        assert_eq!(said.broken, None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_printed_is_read_without_a_panic(text in "(ok|not ok|1\\.\\.|Bail out!|[ #0-9a-z\n-]){0,40}") {
            read(text.as_bytes());
        }
    }
}
