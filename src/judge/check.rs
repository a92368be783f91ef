//! Output against what was expected: a verdict and, when it differs, where. Pure.
//!
//! Comparison is on bytes, so a program that prints something else than UTF-8 is compared like any other. The first
//! difference is shown with its line and column (both from 1, columns in bytes) and both sides cut to
//! [`SHOWN_BYTES`].

use crate::model::submission::{CheckerKind, CheckerSpec};

/// How much of each side a difference shows.
pub const SHOWN_BYTES: usize = 80;

/// What a checker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// As expected.
    Right,
    /// Different from here on.
    Wrong(Difference),
}

/// The first difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Line of the output, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What was expected there; `None` when nothing more was.
    pub expected: Option<String>,
    /// What came; `None` when nothing more did.
    pub got: Option<String>,
}

impl Difference {
    /// The sentence for people. A secret test's says only that it differs.
    pub fn message(&self, secret: bool) -> String {
        if secret {
            return "The output differs from what was expected.".to_owned();
        }
        let at = format!("line {}, column {}", self.line, self.column);
        match (&self.expected, &self.got) {
            (Some(expected), Some(got)) => format!("At {at}: expected {expected:?}, got {got:?}."),
            (Some(expected), None) => format!("At {at}: expected {expected:?}, but the output ends."),
            (None, Some(got)) => format!("At {at}: the output should end, got {got:?}."),
            (None, None) => format!("The output differs at {at}."),
        }
    }
}

/// Compares.
pub fn check(spec: &CheckerSpec, expected: &[u8], got: &[u8]) -> Answer {
    let fold = spec.case_insensitive;
    match spec.kind {
        CheckerKind::Exact => compare(exact(expected), exact(got), fold),
        CheckerKind::Lines => compare(lines(expected), lines(got), fold),
        // float and program are refused before a run; tokens is the stricter reading should one ever get here
        CheckerKind::Tokens | CheckerKind::Float | CheckerKind::Program => compare(tokens(expected), tokens(got), fold),
    }
}

/// A piece to compare, and where it stands.
struct Piece<'a> {
    line: usize,
    column: usize,
    bytes: &'a [u8],
}

fn compare<'a>(
    mut expected: impl Iterator<Item = Piece<'a>>,
    mut got: impl Iterator<Item = Piece<'a>>,
    fold: bool,
) -> Answer {
    let mut last = (1, 1);
    loop {
        match (expected.next(), got.next()) {
            (None, None) => return Answer::Right,
            (Some(want), Some(have)) if same(want.bytes, have.bytes, fold) => {
                last = (have.line, have.column + have.bytes.len());
            }
            (want, have) => {
                let offset = match (&want, &have) {
                    (Some(want), Some(have)) => common(want.bytes, have.bytes, fold),
                    _ => 0,
                };
                let (line, column) = have.as_ref().map_or(last, |piece| (piece.line, piece.column + offset));
                return Answer::Wrong(Difference {
                    line,
                    column,
                    expected: want.map(|piece| shown(piece.bytes)),
                    got: have.map(|piece| shown(piece.bytes)),
                });
            }
        }
    }
}

fn same(a: &[u8], b: &[u8], fold: bool) -> bool {
    if fold { a.eq_ignore_ascii_case(b) } else { a == b }
}

fn common(a: &[u8], b: &[u8], fold: bool) -> usize {
    a.iter().zip(b).take_while(|(x, y)| if fold { x.eq_ignore_ascii_case(y) } else { x == y }).count()
}

fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let mut text = String::from_utf8_lossy(cut).into_owned();
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}

/// Whole lines, the line feed being part of the line: exact comparison with a useful position.
fn exact(bytes: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    bytes.split_inclusive(|byte| *byte == b'\n').enumerate().map(|(index, bytes)| Piece {
        line: index + 1,
        column: 1,
        bytes,
    })
}

/// Lines without the space at their ends, and without the empty lines at the end.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    bytes.trim_ascii_end().split(|byte| *byte == b'\n').enumerate().map(|(index, bytes)| Piece {
        line: index + 1,
        column: 1,
        bytes: bytes.trim_ascii_end(),
    })
}

/// Words.
fn tokens(bytes: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    bytes.split(|byte| *byte == b'\n').enumerate().flat_map(|(index, line)| {
        let start = line.as_ptr() as usize;
        line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(move |word| Piece {
            line: index + 1,
            column: word.as_ptr() as usize - start + 1,
            bytes: word,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: CheckerKind, expected: &str, got: &str) -> Answer {
        check(&CheckerSpec { kind, ..Default::default() }, expected.as_bytes(), got.as_bytes())
    }

    fn wrong(answer: Answer) -> Difference {
        match answer {
            Answer::Wrong(difference) => difference,
            Answer::Right => panic!("was accepted"),
        }
    }

    #[test]
    fn exact_means_every_byte() {
        assert_eq!(run(CheckerKind::Exact, "a\n", "a\n"), Answer::Right);
        assert_ne!(run(CheckerKind::Exact, "a\n", "a"), Answer::Right);
        assert_ne!(run(CheckerKind::Exact, "a\n", "a\n\n"), Answer::Right);
        assert_eq!(run(CheckerKind::Exact, "", ""), Answer::Right);
    }

    #[test]
    fn lines_forgives_space_at_the_end_of_lines_and_of_the_output() {
        assert_eq!(run(CheckerKind::Lines, "a b\nc\n", "a b  \r\nc\n\n\n"), Answer::Right);
        assert_ne!(run(CheckerKind::Lines, "a b\n", "a  b\n"), Answer::Right);
        assert_ne!(run(CheckerKind::Lines, "a\nb\n", "a\n\nb\n"), Answer::Right);
        assert_ne!(run(CheckerKind::Lines, "a\n", " a\n"), Answer::Right);
        assert_eq!(run(CheckerKind::Lines, "", "\n"), Answer::Right);
    }

    #[test]
    fn tokens_forgives_all_white_space_but_not_a_missing_word() {
        assert_eq!(run(CheckerKind::Tokens, "1 2 3\n", "1\n2\t3"), Answer::Right);
        let difference = wrong(run(CheckerKind::Tokens, "1 2 3", "1 2"));
        assert_eq!((difference.expected.as_deref(), difference.got), (Some("3"), None));
        assert_ne!(run(CheckerKind::Tokens, "12", "1 2"), Answer::Right);
    }

    #[test]
    fn a_difference_says_line_and_column() {
        let difference = wrong(run(CheckerKind::Tokens, "1 2\n3 4\n", "1 2\n3 5\n"));
        assert_eq!((difference.line, difference.column), (2, 3));
        assert_eq!(difference.message(false), "At line 2, column 3: expected \"4\", got \"5\".");
        assert!(!difference.message(true).contains('4'));
        let difference = wrong(run(CheckerKind::Exact, "hello\n", "help\n"));
        assert_eq!((difference.line, difference.column), (1, 4));
    }

    #[test]
    fn case_counts_unless_the_caller_says_otherwise() {
        let spec = CheckerSpec { kind: CheckerKind::Tokens, case_insensitive: true, ..Default::default() };
        assert_eq!(check(&spec, b"YES", b"yes"), Answer::Right);
        assert_ne!(run(CheckerKind::Tokens, "YES", "yes"), Answer::Right);
    }

    #[test]
    fn a_long_line_is_cut_in_the_message() {
        let difference = wrong(run(CheckerKind::Exact, &"a".repeat(500), &"b".repeat(500)));
        assert!(difference.message(false).len() < 300);
    }

    #[test]
    fn bytes_that_are_not_text_are_compared_all_the_same() {
        let spec = CheckerSpec { kind: CheckerKind::Exact, ..Default::default() };
        assert_eq!(check(&spec, &[0xff, 0xfe], &[0xff, 0xfe]), Answer::Right);
        assert_ne!(check(&spec, &[0xff, 0xfe], &[0xff, 0xfd]), Answer::Right);
    }
}
