//! Reads JUnit XML as most runners write it: `testcase` elements that contain `failure`, `error` or
//! `skipped`.

use super::{CaseStatus, ParsedSuite, SuiteCase, add};

/// Bound on all report files together.
const MAX_REPORT_BYTES: usize = 4 * 1024 * 1024;

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
        let text = String::from_utf8_lossy(file);
        match roxmltree::Document::parse(&text) {
            Ok(document) => {
                let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
                cases.for_each(|node| add(&mut parsed, case(node)));
            }
            Err(error) => parsed.broken = Some(format!("a report is not valid XML: {error}")),
        }
    }
    if count == 0 {
        parsed.broken = Some("there is no report in reports/".to_owned());
    }
    parsed
}

fn case(node: roxmltree::Node<'_, '_>) -> SuiteCase {
    let attribute = |name: &str| node.attribute(name).unwrap_or_default();
    let name = match (attribute("classname"), attribute("name")) {
        ("", name) => name.to_owned(),
        (class, name) => format!("{class}.{name}"),
    };
    let child = |name: &str| node.children().find(|child| child.has_tag_name(name));
    let (status, detail) = match (child("error"), child("failure"), child("skipped")) {
        (Some(detail), _, _) => (CaseStatus::Crashed, Some(detail)),
        (_, Some(detail), _) => (CaseStatus::Failed, Some(detail)),
        (_, _, Some(detail)) => (CaseStatus::Skipped, Some(detail)),
        _ => (CaseStatus::Passed, None),
    };
    let message = detail.map_or("", |detail| detail.attribute("message").or(detail.text()).unwrap_or_default());
    let duration_ms = attribute("time").parse::<f64>().ok().map(|seconds| seconds * 1e3);
    SuiteCase { name, status, message: message.trim().to_owned(), duration_ms }
}

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
    fn missing_invalid_and_large_reports_are_not_a_success() {
        assert!(read(std::iter::empty()).broken.is_some());
        assert!(read([&b"<a>"[..]].into_iter()).broken.is_some());
        let large = vec![b' '; MAX_REPORT_BYTES + 1];
        assert!(read([large.as_slice()].into_iter()).broken.unwrap().contains("larger"));
    }
}
