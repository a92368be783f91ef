//! Reads JUnit XML as most runners write it: `testcase` elements that contain `failure`, `error` or
//! `skipped`.

use super::{CaseStatus, ParsedSuite, SuiteCase, add};

/// Bound on all report files together.
const MAX_REPORT_BYTES: usize = 4 * 1024 * 1024;

/// Bound on the attributes of one element: the reader compares each with all before it.
const MAX_ATTRIBUTES: usize = 100;

/// Bound on the declarations of namespaces in one file: for each nested one the reader copies those
/// around it.
const MAX_NAMESPACES: usize = 256;

/// Reads the report files that a command wrote.
pub(super) fn read<'a>(files: impl Iterator<Item = &'a [u8]>) -> ParsedSuite {
    let mut parsed = ParsedSuite::default();
    let mut count = 0;
    let mut room = MAX_REPORT_BYTES;
    for file in files {
        count += 1;
        let Some(left) = room.checked_sub(file.len()) else {
            parsed.broken = Some(format!("the reports are larger than {MAX_REPORT_BYTES} bytes"));
            break;
        };
        room = left;
        let text = without_control(&String::from_utf8_lossy(file));
        if most_attributes(&text) > MAX_ATTRIBUTES {
            parsed.broken = Some(format!("an element of a report has more than {MAX_ATTRIBUTES} attributes"));
            break;
        }
        if text.matches("xmlns").count() > MAX_NAMESPACES {
            parsed.broken = Some(format!("a report declares more than {MAX_NAMESPACES} namespaces"));
            break;
        }
        match roxmltree::Document::parse(&text) {
            Ok(document) => {
                let begun = parsed.cases.len();
                let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
                cases.for_each(|node| add(&mut parsed, case(node)));
                let suites = document.descendants().filter(|node| node.has_tag_name("testsuite"));
                suites.filter_map(suite_error).for_each(|error| add(&mut parsed, error));
                let missing = missing(document.root_element(), parsed.cases.get(begun..).unwrap_or_default());
                parsed.broken = parsed.broken.or(missing);
            }
            Err(error) => parsed.broken = Some(format!("a report is not valid XML: {error}")),
        }
    }
    if count == 0 {
        parsed.broken = Some("no report was written to reports/".to_owned());
    }
    parsed
}

/// Text without what XML 1.0 does not allow: control characters, also as references. Runners copy
/// output into their reports as it is.
fn without_control(text: &str) -> String {
    let is_allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r') || !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let text: String = text.chars().filter(|c| is_allowed(*c)).collect();
    if !text.contains("&#") {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("&#") {
        clean.push_str(&rest[..at]);
        let reference = rest[at + 2..].split_once(|c: char| !c.is_ascii_alphanumeric());
        let reference =
            reference.filter(|(number, after)| number.len() <= 8 && rest[..rest.len() - after.len()].ends_with(';'));
        let code = reference.and_then(|(number, _)| match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => number.parse().ok(),
        });
        match (reference, code) {
            (Some((_, after)), Some(code)) => {
                if char::from_u32(code).is_some_and(is_allowed) {
                    clean.push_str(&rest[at..rest.len() - after.len()]);
                }
                rest = after;
            }
            _ => {
                clean.push_str("&#");
                rest = &rest[at + 2..];
            }
        }
    }
    clean + rest
}

/// The largest number of attributes of one element, or of quoted texts in a declaration.
fn most_attributes(text: &str) -> usize {
    const PASSED_OVER: [(&str, &str); 3] = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];
    let after = |text: &'_ str, end: &str| text.find(end).map_or(text.len(), |at| at + end.len());
    let (mut rest, mut most) = (text, 0);
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if let Some((_, end)) = PASSED_OVER.iter().find(|(begin, _)| rest.starts_with(begin)) {
            rest = &rest[after(rest, end)..];
            continue;
        }
        let mut count = 0;
        loop {
            let Some(at) = rest.find(['>', '"', '\'']) else { return most.max(count) };
            let found = &rest[at..=at];
            rest = &rest[at + 1..];
            if found == ">" {
                break;
            }
            count += 1;
            rest = &rest[after(rest, found)..];
        }
        most = most.max(count);
    }
    most
}

/// What a report counts and does not have: it was written before its end, or by something else.
fn missing(root: roxmltree::Node<'_, '_>, cases: &[SuiteCase]) -> Option<String> {
    let suites = || root.children().filter(|child| child.has_tag_name("testsuite"));
    let of = |node: roxmltree::Node<'_, '_>, name| node.attribute(name).and_then(|count| count.parse::<u64>().ok());
    // the root's own count, or those of its suites
    let counted = |name| of(root, name).unwrap_or_else(|| suites().filter_map(|suite| of(suite, name)).sum());
    let shown = |wanted: &[CaseStatus]| cases.iter().filter(|case| wanted.contains(&case.status)).count() as u64;
    let (tests, failed) = (counted("tests"), counted("failures").saturating_add(counted("errors")));
    if tests > cases.len() as u64 {
        return Some(format!("a report counts {tests} tests and has {}", cases.len()));
    }
    let has_failed = shown(&[CaseStatus::Failed, CaseStatus::Crashed, CaseStatus::Error]) > 0;
    (failed > 0 && !has_failed).then(|| format!("a report counts {failed} failures and shows none"))
}

/// An error of a whole suite, outside its cases.
fn suite_error(node: roxmltree::Node<'_, '_>) -> Option<SuiteCase> {
    let error = node.children().find(|child| child.has_tag_name("error") || child.has_tag_name("failure"))?;
    let name = node.attribute("name").unwrap_or("suite").to_owned();
    Some(SuiteCase { name, status: CaseStatus::Error, message: message_of(error), duration_ms: None })
}

/// The message of a failure, error or skip: its attribute, or else its text.
fn message_of(detail: roxmltree::Node<'_, '_>) -> String {
    let text = detail.text().unwrap_or_default();
    let message = detail.attribute("message").filter(|message| !message.trim().is_empty()).unwrap_or(text);
    message.trim().to_owned()
}

fn case(node: roxmltree::Node<'_, '_>) -> SuiteCase {
    let attribute = |name: &str| node.attribute(name).unwrap_or_default();
    let name = match (attribute("classname"), attribute("name")) {
        ("", name) => name.to_owned(),
        (class, name) => format!("{class}.{name}"),
    };
    let child = |name: &str| node.children().find(|child| child.has_tag_name(name));
    let is = |words: &[&str]| {
        ["status", "result", "disabled"].iter().any(|key| words.contains(&attribute(key).to_ascii_lowercase().as_str()))
    };
    let (status, detail) = match (child("error"), child("failure"), child("skipped").or(child("disabled"))) {
        (Some(detail), _, _) => (CaseStatus::Crashed, Some(detail)),
        (_, Some(detail), _) => (CaseStatus::Failed, Some(detail)),
        (_, _, Some(detail)) => (CaseStatus::Skipped, Some(detail)),
        _ if is(&["error", "errored", "broken", "crashed", "incomplete", "timeout", "aborted", "interrupted"]) => {
            (CaseStatus::Crashed, None)
        }
        _ if is(&["fail", "failed", "failure"]) => (CaseStatus::Failed, None),
        _ if is(&NOT_RUN) => (CaseStatus::Skipped, None),
        _ => (CaseStatus::Passed, None),
    };
    let message = detail.map(message_of).unwrap_or_default();
    let duration_ms = attribute("time").parse::<f64>().ok().map(|seconds| seconds * 1e3);
    SuiteCase { name, status, message, duration_ms }
}

/// Words for a case that did not run, in `status`, `result` or `disabled`.
const NOT_RUN: [&str; 12] = [
    "notrun",
    "not_run",
    "skipped",
    "skip",
    "disabled",
    "suppressed",
    "ignored",
    "pending",
    "inconclusive",
    "notexecuted",
    "canceled",
    "true",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read_from_every_file() {
        let one = br#"<testsuites><testsuite><testcase classname="A" name="adds" time="0.25"/>
            <testcase name="bad"><failure message="1 != 2">at line 3</failure></testcase></testsuite></testsuites>"#;
        let two = br#"<testsuite><testcase name="c"><error>boom</error></testcase><testcase name="d"><skipped/></testcase></testsuite>"#;
        let parsed = read([&one[..], &two[..]].into_iter());
        let cases: Vec<_> =
            parsed.cases.iter().map(|case| (case.name.as_str(), case.status, case.message.as_str())).collect();
        assert_eq!(
            cases,
            [
                ("A.adds", CaseStatus::Passed, ""),
                ("bad", CaseStatus::Failed, "1 != 2"),
                ("c", CaseStatus::Crashed, "boom"),
                ("d", CaseStatus::Skipped, "")
            ]
        );
        assert_eq!((parsed.cases[0].duration_ms, parsed.broken), (Some(250.0), None));
    }

    #[test]
    fn a_case_that_did_not_run_is_never_passed() {
        let text = br#"<testsuite><testcase name="a" status="notrun"/><testcase name="b" result="skipped" status="run"/>
            <testcase name="c" status="disabled"/><testcase name="d" disabled="true"/><testcase name="e" result="suppressed"/>
            <testcase name="f"><disabled/></testcase><testcase name="g" status="failed"/>
            <testcase name="i" status="run" result="incomplete"/>
            <testcase name="h" status="run" result="completed"/></testsuite>"#;
        let statuses: Vec<_> = read([&text[..]].into_iter()).cases.iter().map(|case| case.status).collect();
        let mut expect = vec![CaseStatus::Skipped; 6];
        expect.extend([CaseStatus::Failed, CaseStatus::Crashed, CaseStatus::Passed]);
        assert_eq!(statuses, expect);
    }

    #[test]
    fn a_report_has_what_it_counts() {
        let broken = |text: &str| read([text.as_bytes()].into_iter()).broken;
        let case = "<testcase name='a'/>";
        let skipped = "<testcase name='b'><skipped/></testcase>";
        for whole in [
            format!("<testsuite tests='2' skipped='1' failures='0'>{case}{skipped}</testsuite>"),
            format!("<testsuites tests='1'><testsuite tests='1' errors='0'>{case}</testsuite></testsuites>"),
            format!("<testsuites><testsuite tests='1'>{case}</testsuite><testsuite>{case}</testsuite></testsuites>"),
            "<testsuite tests='1' failures='1'><testcase name='a'><failure/></testcase></testsuite>".to_owned(),
        ] {
            assert_eq!(broken(&whole), None, "{whole}");
        }
        let cut = broken(&format!("<testsuites><testsuite tests='5'>{case}</testsuite></testsuites>"));
        assert_eq!(cut.unwrap(), "a report counts 5 tests and has 1");
        let silent = broken(&format!("<testsuite tests='1' errors='1'>{case}</testsuite>"));
        assert_eq!(silent.unwrap(), "a report counts 1 failures and shows none");
    }

    #[test]
    fn control_characters_in_a_report_are_left_out_and_nothing_else() {
        let text = "<testsuite><testcase name=\"a\"><failure message=\"1\u{1b}[31m2&#27;&#x1B;&#0;3 &#65;&amp;\u{0}\">x</failure></testcase></testsuite>";
        let parsed = read([text.as_bytes()].into_iter());
        assert_eq!((parsed.broken, parsed.cases[0].message.as_str()), (None, "1[31m23 A&"));
        assert_eq!(without_control("&#; &#x; &#999999999999; &# &#10;"), "&#; &#x; &#999999999999; &# &#10;");
    }

    #[test]
    fn an_element_with_very_many_attributes_is_refused_before_it_is_read() {
        let attributes: String = (0..60_000).map(|n| format!("a{n}=''")).collect::<Vec<_>>().join(" ");
        let text = format!("<testsuite><testcase name='a' {attributes}/></testsuite>");
        assert!(read([text.as_bytes()].into_iter()).broken.unwrap().contains("attributes"));
        let quotes = "don't say \"so\" ".repeat(1000);
        let text = format!("<s><!-- {quotes} --><a b='<' c=\">\"/>{quotes}<![CDATA[<{quotes}]]><d e=''/></s>");
        assert_eq!(most_attributes(&text), 2);
        assert_eq!((most_attributes("<a b='"), most_attributes("<"), most_attributes("a > b")), (1, 0, 0));
    }

    #[test]
    fn an_error_of_a_whole_suite_counts() {
        let text = br#"<testsuites><testsuite name="S"><testcase name="a"/><error message="no class"/></testsuite></testsuites>"#;
        let parsed = read([&text[..]].into_iter());
        assert_eq!((parsed.cases[1].status, parsed.cases[1].message.as_str()), (CaseStatus::Error, "no class"));
    }

    #[test]
    fn nested_namespaces_are_bounded() {
        let nested = |depth: usize| {
            let begin: String = (0..depth).map(|n| format!("<a xmlns:n{n}='u{n}'>")).collect();
            format!("{begin}<testcase name='t'/>{}", "</a>".repeat(depth))
        };
        let parsed = |depth| read(std::iter::once(nested(depth).as_bytes()));
        assert_eq!((parsed(60).cases.len(), parsed(60).broken), (1, None));
        // one by one they would take seconds
        assert!(parsed(20_000).broken.is_some_and(|broken| broken.contains("namespaces")));
    }

    #[test]
    fn missing_invalid_and_large_reports_are_not_a_success() {
        assert!(read(std::iter::empty()).broken.is_some());
        assert!(read([&b"<a>"[..]].into_iter()).broken.is_some());
        let large = vec![b' '; MAX_REPORT_BYTES + 1];
        assert!(read([large.as_slice()].into_iter()).broken.unwrap().contains("larger"));
    }
}
