//! Finds the line in which a compiler reports its first error, and the place where that is. Pure.

use crate::compute;
use protocol::RunFacts;

/// Bytes and lines of an output in which an error is searched for: each line with each path.
const SEARCHED_BYTES: usize = 256 * 1024;
pub(crate) const SEARCHED_LINES: usize = 2_000;

/// The line of a run's output that reports an error in files with these paths, or else the first.
pub(crate) fn error_line(run: &RunFacts, paths: &[&str]) -> Option<String> {
    let outputs =
        [&run.stderr, &run.stdout].map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(SEARCHED_BYTES)]));
    let bytes = outputs.iter().map(|output| output.len()).sum();
    compute::on_bytes(bytes, || outputs.iter().find_map(|output| first_error(output, paths)))
}

/// The first line that reports an error in the submission's own files: compilers also print much
/// about files that they included.
pub(crate) fn first_error(output: &str, paths: &[&str]) -> Option<String> {
    let output = without_colours(output);
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).take(SEARCHED_LINES).collect();
    let find = |is_wanted: &dyn Fn(&str) -> bool| lines.iter().position(|line| is_wanted(line));
    let has = |line: &str, word: &str| line.to_ascii_lowercase().contains(word);
    let is_error = |line: &str| has(line, "error") || has(line, "fatal:");
    let is_own = |line: &str| paths.iter().any(|path| line.contains(path));
    let is_foreign = |line: &str| line.starts_with("/usr/") || line.starts_with("In file included");
    let at = find(&|line| is_error(line) && is_own(line))
        .or_else(|| find(&|line| is_error(line) && !is_foreign(line)))
        .or_else(|| find(&is_own))
        .or(if lines.is_empty() { None } else { Some(0) })?;
    let found = lines[at];
    // some compilers put the error itself on the next line, perhaps with a code before it
    let (head, code) = found.rsplit_once(": [").unwrap_or((found, "]"));
    let is_head = found.ends_with("error:") || (head.ends_with("error") && code.ends_with(']'));
    let after = lines.get(at + 1).copied().filter(|_| is_head);
    // and some the place above it, with the line itself in between, or below
    let above = lines[..at].iter().rev().take(4).find_map(|line| place(line, paths));
    let place = above.or_else(|| lines[at + 1..].iter().take(1).find_map(|line| place(line, paths)));
    let place = place.filter(|_| !is_own(found)).map(|place| format!("{place}:"));
    let words = [place.as_deref(), Some(found), after];
    Some(words.into_iter().flatten().collect::<Vec<_>>().join(" ").chars().take(300).collect())
}

/// `main.rs:8` from a line that names a file of the submission and a line of it.
fn place(line: &str, paths: &[&str]) -> Option<String> {
    let path = paths.iter().filter(|path| line.contains(**path)).max_by_key(|path| path.len())?;
    let (_, rest) = line.split_once(path)?;
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    let between = &rest[..rest.len() - digits.len()];
    let number: String = digits.chars().take_while(char::is_ascii_digit).collect();
    // `:8`, `(8`, `", line 8`
    let is_near = between.len() <= 8 && (between.contains("line") || !between.contains(char::is_alphabetic));
    (!number.is_empty() && is_near).then(|| format!("{path}:{number}"))
}

/// The text without the colours of a terminal.
fn without_colours(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        kept.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.strip_prefix(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest);
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_has_its_place() {
        for (path, output, line) in [
            (
                "main.rs",
                "error: unknown start of token\n --> main.rs:8:21\n  |\n8 | x\n",
                "main.rs:8: error: unknown start of token",
            ),
            (
                "main.ml",
                "File \"main.ml\", line 5, characters 22-23:\n5 | let x\n        ^\nError: Illegal character\n",
                "main.ml:5: Error: Illegal character",
            ),
            (
                "main.f90",
                "main.f90:9:2:\n\n    9 | @@ ((((\n      |  1\nError: Invalid character in name at (1)\n",
                "main.f90:9: Error: Invalid character in name at (1)",
            ),
            (
                "main.cr",
                "In \u{1b}[4mmain.cr:3:3\u{1b}[0m\n\n\u{1b}[2m 3 | \u{1b}[0m\u{1b}[1m@@\u{1b}[0m\n      \u{1b}[32;1m^\u{1b}[0m\n\u{1b}[33;1mError: unknown token\u{1b}[0m\n",
                "main.cr:3: Error: unknown token",
            ),
            (
                "main.pas",
                "Compiling main.pas\nmain.pas(6,9) Fatal: illegal character\nError: /usr/bin/ppcx64 returned an error exitcode\n",
                "main.pas(6,9) Fatal: illegal character",
            ),
            (
                "main.c",
                "main.c: In function 'main':\nmain.c:3:9: error: expected ';'\n",
                "main.c:3:9: error: expected ';'",
            ),
            ("a.c", "a.c in 2020 was\nerror: no place\n", "error: no place"),
        ] {
            assert_eq!(first_error(output, &[path]).as_deref(), Some(line));
        }
        assert_eq!(first_error("", &["a"]), None);
        assert_eq!(without_colours("a\u{1b}[\u{1b}[1;2mb\u{1b}"), "ab\u{1b}");
    }
}
