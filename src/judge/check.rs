//! Compares output with the expected output and finds the first difference. Pure.
//!
//! Comparison is on bytes, so output that is not UTF-8 is compared like any other. The first
//! difference has a line and a column (both from 1, columns in bytes), and shows both sides cut to
//! [`SHOWN_BYTES`].

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher, RandomState};

use protocol::submission::{CheckerKind, CheckerSpec};

/// Bytes of each side that a difference shows.
pub const SHOWN_BYTES: usize = 80;

/// Lines that are sorted to find a difference: 40 bytes for each.
const MAX_SORTED_LINES: usize = 1 << 20;

/// Counts of hashes of more lines than that: 4 MiB.
const COUNTS: usize = 1 << 20;

/// Bytes of a line whose letters are folded at a time.
const FOLDED_BYTES: usize = 256;

/// Result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Different(Difference),
}

/// The first difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Line of the output, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// The expected text there; `None` if the output should end.
    pub expected: Option<String>,
    /// The text in the output; `None` if the output ends there.
    pub got: Option<String>,
}

impl Difference {
    /// The message for the submitter. For a secret test it only says that the output differs.
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

/// Compares output with what is expected, by the options of `spec`.
pub fn check(spec: &CheckerSpec, expected: &[u8], got: &[u8]) -> Comparison {
    let fold = spec.case_insensitive;
    match spec.kind {
        CheckerKind::Exact => compare(exact(expected), exact(got), |a, b| same(a, b, fold)),
        CheckerKind::Lines if spec.unordered => compare_unordered(expected, got, fold),
        CheckerKind::Lines => compare(lines(expected), lines(got), |a, b| same(a, b, fold)),
        CheckerKind::Float => {
            let tolerance = Tolerance::of(spec);
            compare(tokens(expected), tokens(got), |a, b| tolerance.allows(a, b).unwrap_or_else(|| same(a, b, fold)))
        }
        // checker programs run elsewhere; should one get here, tokens is the stricter choice
        CheckerKind::Tokens | CheckerKind::Program => compare(tokens(expected), tokens(got), |a, b| same(a, b, fold)),
    }
}

/// A line or token to compare, and its position.
struct Segment<'a> {
    line: usize,
    column: usize,
    bytes: &'a [u8],
}

fn compare<'a>(
    mut expected: impl Iterator<Item = Segment<'a>>,
    mut got: impl Iterator<Item = Segment<'a>>,
    equal: impl Fn(&[u8], &[u8]) -> bool,
) -> Comparison {
    let mut last = (1, 1);
    loop {
        match (expected.next(), got.next()) {
            (None, None) => return Comparison::Equal,
            (Some(want), Some(have)) if equal(want.bytes, have.bytes) => {
                last = (have.line, have.column + have.bytes.len());
            }
            (want, have) => {
                let offset = match (&want, &have) {
                    (Some(want), Some(have)) => common_prefix(want.bytes, have.bytes),
                    _ => 0,
                };
                let (line, column) = have.as_ref().map_or(last, |segment| (segment.line, segment.column + offset));
                return Comparison::Different(Difference {
                    line,
                    column,
                    expected: want.map(|segment| shown(segment.bytes)),
                    got: have.map(|segment| shown(segment.bytes)),
                });
            }
        }
    }
}

fn same(a: &[u8], b: &[u8], fold: bool) -> bool {
    if fold { a.eq_ignore_ascii_case(b) } else { a == b }
}

fn order(a: &[u8], b: &[u8], fold: bool) -> Ordering {
    if !fold {
        return a.cmp(b);
    }
    a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase))
}

/// Length of the common prefix without regard to case, for the column.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x.eq_ignore_ascii_case(y)).count()
}

/// Compares lines in any order; each has to occur as often as expected. The first line that does
/// not is the difference.
fn compare_unordered(expected: &[u8], got: &[u8], fold: bool) -> Comparison {
    let keys = [RandomState::new(), RandomState::new()];
    let count = lines(expected).count();
    let digest = |bytes| lines_digest(lines(bytes), fold, &keys);
    if lines(got).count() == count && digest(expected) == digest(got) {
        return Comparison::Equal;
    }
    if count > MAX_SORTED_LINES {
        return Comparison::Different(first_surplus(expected, got, fold, &keys[0]));
    }
    let (expected, got) = (lines(expected), lines(got));
    let mut sorted: Vec<&[u8]> = Vec::with_capacity(count);
    sorted.extend(expected.map(|line| line.bytes));
    sorted.sort_by(|a, b| order(a, b, fold));
    // each distinct line, and how often it is still to come
    let mut missing: Vec<(&[u8], usize)> = Vec::new();
    for line in sorted {
        match missing.last_mut() {
            Some((known, count)) if same(known, line, fold) => *count += 1,
            _ => missing.push((line, 1)),
        }
    }
    let next = |missing: &[(&[u8], usize)]| missing.iter().find(|(_, count)| *count > 0).map(|(line, _)| shown(line));
    let mut last = 1;
    for line in got {
        last = line.line;
        match missing.binary_search_by(|(known, _)| order(known, line.bytes, fold)) {
            Ok(at) if missing[at].1 > 0 => missing[at].1 -= 1,
            _ => {
                let (expected, got) = (next(&missing), Some(shown(line.bytes)));
                return Comparison::Different(Difference { line: line.line, column: 1, expected, got });
            }
        }
    }
    match next(&missing) {
        None => Comparison::Equal,
        expected => Comparison::Different(Difference { line: last, column: 1, expected, got: None }),
    }
}

/// The sum of the hashes of lines: equal for the same lines in any order. As many others have the
/// same one with a chance below one in 2^70, whatever they are, because the keys are secret.
fn lines_digest<'a>(lines: impl Iterator<Item = Segment<'a>>, fold: bool, keys: &[RandomState; 2]) -> [u64; 2] {
    lines.fold([0; 2], |sums: [u64; 2], line| {
        [0, 1].map(|at: usize| sums[at].wrapping_add(hash(line.bytes, fold, &keys[at])))
    })
}

/// The hash of a line, the same for both cases of its letters if `fold`.
fn hash(line: &[u8], fold: bool, key: &RandomState) -> u64 {
    let mut hasher = key.build_hasher();
    if fold {
        for piece in line.chunks(FOLDED_BYTES) {
            let mut folded = [0; FOLDED_BYTES];
            folded[..piece.len()].copy_from_slice(piece);
            folded.make_ascii_lowercase();
            hasher.write(&folded[..piece.len()]);
        }
    } else {
        hasher.write(line);
    }
    hasher.finish()
}

/// A difference of more lines than are sorted: a line that occurs more often than expected, by
/// counts of hashes, or else the last one. Two lines with one count may hide an earlier one.
fn first_surplus(expected: &[u8], got: &[u8], fold: bool, key: &RandomState) -> Difference {
    let mut missing = vec![0_u32; COUNTS];
    let of = |line: &Segment<'_>| hash(line.bytes, fold, key) as usize % COUNTS;
    lines(expected).for_each(|line| missing[of(&line)] += 1);
    let mut last = 1;
    for line in lines(got) {
        last = line.line;
        let count = &mut missing[of(&line)];
        match count.checked_sub(1) {
            Some(left) => *count = left,
            None => break,
        }
    }
    Difference { line: last, column: 1, expected: None, got: None }
}

/// How far a number may differ from the expected one.
struct Tolerance {
    absolute: f64,
    relative: f64,
}

/// Absolute and relative tolerance if a checker gives neither.
const DEFAULT_TOLERANCE: f64 = 1e-6;

impl Tolerance {
    fn of(spec: &CheckerSpec) -> Tolerance {
        match (spec.absolute, spec.relative) {
            (None, None) => Tolerance { absolute: DEFAULT_TOLERANCE, relative: DEFAULT_TOLERANCE },
            (absolute, relative) => Tolerance { absolute: absolute.unwrap_or(0.0), relative: relative.unwrap_or(0.0) },
        }
    }

    /// Whether the number is within the tolerance; `None` if no number is expected. A word that is
    /// not a finite number never is.
    fn allows(&self, expected: &[u8], got: &[u8]) -> Option<bool> {
        let want = number(expected)?;
        let Some(have) = number(got) else { return Some(false) };
        let difference = (want - have).abs();
        Some(difference <= self.absolute || difference <= self.relative * want.abs())
    }
}

/// A finite decimal number, with or without an exponent.
fn number(word: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(word).ok()?;
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse::<f64>().ok().filter(|number| is_decimal && number.is_finite())
}

fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let mut text = String::from_utf8_lossy(cut).into_owned();
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}

/// Lines with their line feeds: an exact comparison that still has a useful position.
fn exact(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    bytes.split_inclusive(|byte| *byte == b'\n').enumerate().map(|(index, bytes)| Segment {
        line: index + 1,
        column: 1,
        bytes,
    })
}

/// Lines without trailing white space, and without the empty lines at the end.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    bytes.trim_ascii_end().split(|byte| *byte == b'\n').enumerate().map(|(index, bytes)| Segment {
        line: index + 1,
        column: 1,
        bytes: bytes.trim_ascii_end(),
    })
}

/// White space as C has it: with the vertical tab.
fn is_space(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || *byte == 0x0b
}

/// Words separated by ASCII white space.
fn tokens(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    bytes.split(|byte| *byte == b'\n').enumerate().flat_map(|(index, line)| {
        let start = line.as_ptr() as usize;
        line.split(is_space).filter(|word| !word.is_empty()).map(move |word| Segment {
            line: index + 1,
            column: word.as_ptr() as usize - start + 1,
            bytes: word,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: CheckerKind, expected: &str, got: &str) -> Comparison {
        check(&CheckerSpec { kind, ..Default::default() }, expected.as_bytes(), got.as_bytes())
    }

    fn difference(comparison: Comparison) -> Difference {
        match comparison {
            Comparison::Different(difference) => difference,
            Comparison::Equal => panic!("was accepted"),
        }
    }

    #[test]
    fn exact_compares_every_byte() {
        assert_eq!(run(CheckerKind::Exact, "a\n", "a\n"), Comparison::Equal);
        assert_ne!(run(CheckerKind::Exact, "a\n", "a"), Comparison::Equal);
        assert_ne!(run(CheckerKind::Exact, "a\n", "a\n\n"), Comparison::Equal);
        assert_eq!(run(CheckerKind::Exact, "", ""), Comparison::Equal);
    }

    #[test]
    fn lines_ignores_white_space_at_the_end_of_lines_and_of_the_output() {
        assert_eq!(run(CheckerKind::Lines, "a b\nc\n", "a b  \r\nc\n\n\n"), Comparison::Equal);
        assert_ne!(run(CheckerKind::Lines, "a b\n", "a  b\n"), Comparison::Equal);
        assert_ne!(run(CheckerKind::Lines, "a\nb\n", "a\n\nb\n"), Comparison::Equal);
        assert_ne!(run(CheckerKind::Lines, "a\n", " a\n"), Comparison::Equal);
        assert_eq!(run(CheckerKind::Lines, "", "\n"), Comparison::Equal);
    }

    #[test]
    fn tokens_ignores_white_space_but_not_a_missing_word() {
        assert_eq!(run(CheckerKind::Tokens, "1 2 3\n", "1\n2\t3"), Comparison::Equal);
        let found = difference(run(CheckerKind::Tokens, "1 2 3", "1 2"));
        assert_eq!((found.expected.as_deref(), found.got), (Some("3"), None));
        assert_ne!(run(CheckerKind::Tokens, "12", "1 2"), Comparison::Equal);
        assert_eq!(run(CheckerKind::Tokens, "1 2 3", "1\x0b2\x0c3\x0b"), Comparison::Equal);
        assert_eq!(run(CheckerKind::Float, "1 2", "1.0\x0b2.0"), Comparison::Equal);
    }

    #[test]
    fn a_difference_has_a_line_and_a_column() {
        let found = difference(run(CheckerKind::Tokens, "1 2\n3 4\n", "1 2\n3 5\n"));
        assert_eq!((found.line, found.column), (2, 3));
        assert_eq!(found.message(false), "At line 2, column 3: expected \"4\", got \"5\".");
        assert!(!found.message(true).contains('4'));
        let found = difference(run(CheckerKind::Exact, "hello\n", "help\n"));
        assert_eq!((found.line, found.column), (1, 4));
    }

    #[test]
    fn case_matters_unless_the_checker_is_case_insensitive() {
        let spec = CheckerSpec { kind: CheckerKind::Tokens, case_insensitive: true, ..Default::default() };
        assert_eq!(check(&spec, b"YES", b"yes"), Comparison::Equal);
        assert_ne!(run(CheckerKind::Tokens, "YES", "yes"), Comparison::Equal);
    }

    #[test]
    fn a_long_line_is_cut_in_the_message() {
        let found = difference(run(CheckerKind::Exact, &"a".repeat(500), &"b".repeat(500)));
        assert!(found.message(false).len() < 300);
    }

    #[test]
    fn numbers_may_differ_within_the_tolerance_and_words_may_not() {
        let float = |absolute, relative, expected: &str, got: &str| {
            let spec = CheckerSpec { kind: CheckerKind::Float, absolute, relative, ..Default::default() };
            check(&spec, expected.as_bytes(), got.as_bytes()) == Comparison::Equal
        };
        assert!(float(None, None, "0.1 1e6\n", "0.1000005\n1000000.5"));
        assert!(!float(None, None, "0.1", "0.1001") && float(Some(0.001), None, "0.1", "0.1001"));
        assert!(float(None, Some(0.01), "1000", "1009") && !float(None, Some(0.01), "1000", "1011"));
        assert!(float(Some(1.0), None, "5", "5.0") && float(Some(0.0), None, "5", "5.0"));
        for got in ["nan", "inf", "", "5 5", "0x5", "five", "1e999"] {
            assert!(!float(Some(1e9), Some(1e9), "5", got), "{got}");
        }
        assert!(float(None, None, "case 1: 2.0", "case 1: 2") && !float(None, None, "yes", "no"));
        assert!(!float(Some(9.0), None, "nan", "nan1") && float(None, None, "nan", "nan"));
    }

    #[test]
    fn very_many_unordered_lines_are_compared_without_a_list_of_them() {
        let spec = CheckerSpec { kind: CheckerKind::Lines, unordered: true, ..Default::default() };
        let mut got: String = (0..=MAX_SORTED_LINES).map(|line| format!("{line}\n")).collect();
        let expected: String = (0..=MAX_SORTED_LINES).rev().map(|line| format!("{line}\n")).collect();
        assert_eq!(check(&spec, expected.as_bytes(), got.as_bytes()), Comparison::Equal);
        assert_ne!(check(&spec, expected.as_bytes(), &got.as_bytes()[2..]), Comparison::Equal);
        // 0 occurs too often
        got.replace_range(..8, "0\n0\n0\n0\n");
        let found = difference(check(&spec, expected.as_bytes(), got.as_bytes()));
        assert!(found.line >= 2 && (found.expected, found.got) == (None, None));
        assert!(size_of::<[u32; COUNTS]>() <= 4 << 20 && MAX_SORTED_LINES * size_of::<(&[u8], usize)>() <= 24 << 20);
    }

    #[test]
    fn unordered_lines_occur_as_often_as_expected_in_any_order() {
        let unordered = |expected: &str, got: &str| {
            let spec = CheckerSpec { kind: CheckerKind::Lines, unordered: true, ..Default::default() };
            check(&spec, expected.as_bytes(), got.as_bytes())
        };
        assert_eq!(unordered("a\nb\nb\n", "b \na\nb"), Comparison::Equal);
        let found = difference(unordered("a\nb\n", "b\nb\n"));
        assert_eq!((found.line, found.expected.as_deref(), found.got.as_deref()), (2, Some("a"), Some("b")));
        let found = difference(unordered("a\nb\n", "b\n"));
        assert_eq!((found.expected.as_deref(), found.got), (Some("a"), None));
    }

    mod against_a_reference {
        use super::*;
        use proptest::prelude::*;

        fn words(text: &str) -> Vec<String> {
            text.split_ascii_whitespace().map(str::to_ascii_lowercase).collect()
        }

        fn rows(text: &str) -> Vec<String> {
            let text = text.trim_end_matches(|c: char| c.is_ascii_whitespace());
            text.split('\n').map(|row| row.trim_end_matches(|c: char| c.is_ascii_whitespace()).to_owned()).collect()
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(2000))]

            #[test]
            fn every_checker_agrees_with_a_simpler_reference(a in "[aA1 \n.]{0,8}", b in "[aA1 \n.]{0,8}") {
                let right = |spec: CheckerSpec| check(&spec, a.as_bytes(), b.as_bytes()) == Comparison::Equal;
                let of = |kind, case_insensitive, unordered| CheckerSpec { kind, case_insensitive, unordered, ..Default::default() };
                prop_assert_eq!(right(of(CheckerKind::Exact, false, false)), a == b);
                prop_assert_eq!(right(of(CheckerKind::Tokens, true, false)), words(&a) == words(&b));
                prop_assert_eq!(right(of(CheckerKind::Lines, false, false)), rows(&a) == rows(&b));
                let sorted = |text: &str| { let mut all = rows(text); all.sort(); all };
                prop_assert_eq!(right(of(CheckerKind::Lines, false, true)), sorted(&a) == sorted(&b));
                prop_assert_eq!(right(of(CheckerKind::Lines, true, true)), sorted(&a.to_lowercase()) == sorted(&b.to_lowercase()));
                let near = words(&a).len() == words(&b).len() && words(&a).iter().zip(&words(&b)).all(|(x, y)| {
                    match (x.parse::<f64>(), y.parse::<f64>()) {
                        (Ok(x), Ok(y)) => (x - y).abs() <= 1e-6_f64.max(1e-6 * x.abs()),
                        (Ok(_), Err(_)) => false,
                        _ => x == y,
                    }
                });
                prop_assert_eq!(right(of(CheckerKind::Float, true, false)), near);
            }
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_compared_too() {
        let spec = CheckerSpec { kind: CheckerKind::Exact, ..Default::default() };
        assert_eq!(check(&spec, &[0xff, 0xfe], &[0xff, 0xfe]), Comparison::Equal);
        assert_ne!(check(&spec, &[0xff, 0xfe], &[0xff, 0xfd]), Comparison::Equal);
    }
}
