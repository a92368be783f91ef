//! JUnit's XML, as most runners write it: `testcase` elements, with `failure`, `error` or `skipped` inside.

use super::{CaseStatus, SuiteCase, SuiteOutput, add};

/// What is read of all files together.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Reads the files that a command wrote.
pub(super) fn read<'a>(files: impl Iterator<Item = &'a [u8]>) -> SuiteOutput {
    let mut said = SuiteOutput::default();
    let mut count = 0;
    let mut room = MOST_BYTES;
    for file in files {
        count += 1;
        let Some(left) = room.checked_sub(file.len()) else {
            said.broken = Some(format!("their reports are larger than {MOST_BYTES} bytes"));
            break;
        };
        room = left;
        let text = String::from_utf8_lossy(file);
        match roxmltree::Document::parse(&text) {
            Ok(document) => {
                let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
                cases.for_each(|node| add(&mut said, case(node)));
            }
            Err(error) => said.broken = Some(format!("a report is no XML: {error}")),
        }
    }
    if count == 0 {
        said.broken = Some("they left no report below reports/".to_owned());
    }
    said
}

fn case(node: roxmltree::Node<'_, '_>) -> SuiteCase {
    let words = |name: &str| node.attribute(name).unwrap_or_default();
    let name = match (words("classname"), words("name")) {
        ("", name) => name.to_owned(),
        (class, name) => format!("{class}.{name}"),
    };
    let child = |name: &str| node.children().find(|child| child.has_tag_name(name));
    let (end, why) = match (child("error"), child("failure"), child("skipped")) {
        (Some(why), _, _) => (CaseStatus::Crashed, Some(why)),
        (_, Some(why), _) => (CaseStatus::Failed, Some(why)),
        (_, _, Some(why)) => (CaseStatus::Skipped, Some(why)),
        _ => (CaseStatus::Passed, None),
    };
    let message = why.map_or("", |why| why.attribute("message").or(why.text()).unwrap_or_default());
    let duration_ms = words("time").parse::<f64>().ok().map(|seconds| seconds * 1e3);
    SuiteCase { name, end, message: message.trim().to_owned(), duration_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read_from_every_file() {
        let one = br#"<testsuites><testsuite><testcase classname="A" name="adds" time="0.25"/>
            <testcase name="bad"><failure message="1 != 2">at line 3</failure></testcase></testsuite></testsuites>"#;
        let two = br#"<testsuite><testcase name="c"><error>boom</error></testcase><testcase name="d"><skipped/></testcase></testsuite>"#;
        let said = read([&one[..], &two[..]].into_iter());
        let ends: Vec<_> =
            said.cases.iter().map(|case| (case.name.as_str(), case.end, case.message.as_str())).collect();
        assert_eq!(
            ends,
            [
                ("A.adds", CaseStatus::Passed, ""),
                ("bad", CaseStatus::Failed, "1 != 2"),
                ("c", CaseStatus::Crashed, "boom"),
                ("d", CaseStatus::Skipped, "")
            ]
        );
        assert_eq!((said.cases[0].duration_ms, said.broken), (Some(250.0), None));
    }

    #[test]
    fn no_file_and_no_xml_are_no_success() {
        assert!(read(std::iter::empty()).broken.is_some());
        assert!(read([&b"<a>"[..]].into_iter()).broken.is_some());
        let large = vec![b' '; MOST_BYTES + 1];
        assert!(read([large.as_slice()].into_iter()).broken.unwrap().contains("larger"));
    }
}
