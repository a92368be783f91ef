//! Finds what a test runner says about a failure, in its output: the case, the place and the words.

/// The first failure in the output of unittest, `go test`, `cargo test` or a Python script, in one
/// line.
pub(super) fn of(stdout: &[u8], stderr: &[u8]) -> Option<String> {
    let texts = [stderr, stdout].map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(256 * 1024)]));
    let readers = [unittest, go, cargo, traceback];
    let found = readers.iter().find_map(|reader| texts.iter().find_map(|text| reader(text)));
    found.map(|text| text.chars().take(500).collect())
}

/// `FAIL: test_add (t.T)`, a traceback, and the error.
fn unittest(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("FAIL: ") && !line.starts_with("ERROR: "));
    let name = lines.next()?.split_once(": ")?.1.split(" (").next()?;
    lines.by_ref().find(|line| line.starts_with("------"))?;
    let block: Vec<&str> =
        lines.take_while(|line| !line.starts_with("======") && !line.starts_with("------")).collect();
    Some(format!("{name}: {}", traceback(&block.join("\n"))?))
}

/// The last line of a traceback, and the place of its last frame.
fn traceback(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("Traceback (most recent call last)"));
    lines.next()?;
    let mut place = "";
    for line in lines {
        if let Some(frame) = line.trim_start().strip_prefix("File \"") {
            place = frame;
        } else if !line.starts_with(' ') && !line.trim().is_empty() {
            let mut parts = place.splitn(3, [',', '"']);
            let file = parts.next()?;
            let file = file.strip_prefix("/box/").unwrap_or(file);
            let number: String = place.split("line ").nth(1)?.chars().take_while(char::is_ascii_digit).collect();
            return Some(format!("{file}:{number}: {}", line.trim()));
        }
    }
    None
}

/// `--- FAIL: TestAdd (0.00s)` and the lines below it.
fn go(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim_start).skip_while(|line| !line.starts_with("--- FAIL: "));
    let mut name = lines.next()?.strip_prefix("--- FAIL: ")?.split(' ').next()?;
    for line in lines {
        match line.strip_prefix("--- FAIL: ") {
            Some(inner) => name = inner.split(' ').next()?,
            None if line.contains(".go:") => return Some(format!("{name}: {}", line.trim())),
            None => break,
        }
    }
    None
}

/// `thread 'adds' panicked at ...`, with the words on the same line or the next.
fn cargo(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| !(line.starts_with("thread '") && line.contains("' panicked at ")));
    let (name, rest) = lines.next()?.strip_prefix("thread '")?.split_once("' panicked at ")?;
    match rest.strip_suffix(':') {
        Some(place) => Some(format!("{name}: {place}: {}", lines.next()?.trim())),
        None => Some(format!("{name}: {rest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_shown_with_its_place_and_words() {
        let unittest = "F.\n======================================================================\nFAIL: test_add (t.T.test_add)\n----------------------------------------------------------------------\nTraceback (most recent call last):\n  File \"/box/t.py\", line 5, in test_add\n    self.assertEqual(add(1, 2), 3, 'carry')\nAssertionError: 2 != 3 : carry\n\n----------------------------------------------------------------------\nRan 2 tests in 0.000s\n\nFAILED (failures=1)\n";
        let go = "--- FAIL: TestAdd (0.00s)\n    --- FAIL: TestAdd/small (0.00s)\n        main_test.go:5: want 5, got 6\nFAIL\n";
        let old = "thread 'adds' panicked at 'assertion failed: x', tests/adds.rs:1:20\nnote: run with\n";
        let new = "thread 'adds' panicked at tests/adds.rs:1:20:\nassertion `left == right` failed: carry\n  left: 6\n";
        let script = "Traceback (most recent call last):\n  File \"/box/t.py\", line 2, in <module>\n    assert add(1, 2) == 3, 'carry'\nAssertionError: carry\n";
        for (text, hint) in [
            (unittest, "test_add: t.py:5: AssertionError: 2 != 3 : carry"),
            (go, "TestAdd/small: main_test.go:5: want 5, got 6"),
            (old, "adds: 'assertion failed: x', tests/adds.rs:1:20"),
            (new, "adds: tests/adds.rs:1:20: assertion `left == right` failed: carry"),
            (script, "t.py:2: AssertionError: carry"),
        ] {
            assert_eq!(of(text.as_bytes(), b"").as_deref(), Some(hint));
            assert_eq!(of(b"", text.as_bytes()).as_deref(), Some(hint));
        }
        assert_eq!(of(b"1 failed\n", b""), None);
    }

    proptest::proptest! {
        #[test]
        fn any_output_is_read_without_a_panic(text in "(FAIL: |------|Traceback \\(most recent call last\\)|  File \"|--- FAIL: |.go:|thread '|' panicked at |line |[ :,a1\"\n]){0,40}") {
            of(text.as_bytes(), b"");
        }
    }
}
