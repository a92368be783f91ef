//! The verdicts that a problem package expects of a submission: by the name of the submission's
//! folder, or by a line in its source.

/// Verdicts that a folder's name below `submissions/` allows; `None` for an unknown name.
pub fn verdicts_of_folder(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "accepted" => &["accepted"],
        "partially_accepted" => &["partial"],
        "wrong_answer" => &["wrong_answer"],
        "time_limit_exceeded" => &["time_limit"],
        "run_time_error" | "runtime_error" => &["runtime_error", "memory_limit", "output_limit"],
        "memory_limit_exceeded" => &["memory_limit", "runtime_error"],
        "output_limit_exceeded" => &["output_limit"],
        "compile_error" | "compiler_error" => &["compile_error"],
        "rejected" => REJECTED,
        "brute_force" => &["time_limit", "runtime_error", "memory_limit"],
        _ => return None,
    })
}

const REJECTED: &[&str] =
    &["wrong_answer", "partial", "time_limit", "runtime_error", "memory_limit", "output_limit", "compile_error"];

/// What a source says about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatedResult {
    /// What follows `@EXPECTED_RESULTS@:`.
    pub verdicts: Option<Vec<&'static str>>,
    /// What follows `@EXPECTED_SCORE@:`, or a number among the results.
    pub points: Option<f64>,
}

/// DOMjudge's lines in the first 64 KiB of a source, whatever the case.
pub fn stated_result(source: &[u8]) -> StatedResult {
    let text = String::from_utf8_lossy(&source[..source.len().min(64 * 1024)]).to_ascii_uppercase();
    let results = words_after(&text, "@EXPECTED_RESULTS@");
    let verdicts: Vec<&str> = results.iter().filter_map(|word| verdicts_of_word(word)).flatten().copied().collect();
    let points = words_after(&text, "@EXPECTED_SCORE@")
        .iter()
        .find_map(|word| number(word))
        .or_else(|| results.iter().find_map(|word| number(word)));
    StatedResult { verdicts: (!verdicts.is_empty()).then_some(verdicts), points }
}

fn number(word: &str) -> Option<f64> {
    word.parse().ok().filter(|points: &f64| points.is_finite())
}

/// The results and numbers in the line after the mark. In each part between commas, what follows
/// them is a remark, or the end of the comment in whatever language.
fn words_after<'t>(text: &'t str, mark: &str) -> Vec<&'t str> {
    let rest = text.split_once(mark).and_then(|(_, rest)| rest.trim_start_matches([' ', '\t']).strip_prefix(':'));
    let line = rest.and_then(|rest| rest.lines().next()).unwrap_or_default();
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    let mut words = Vec::new();
    for part in line.split(',') {
        let known = part.split_whitespace().map(|word| {
            let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
            word[..end].trim_end_matches(['.', '-', '+'])
        });
        words.extend(known.take_while(|word| verdicts_of_word(word).is_some() || number(word).is_some()));
    }
    words
}

fn verdicts_of_word(word: &str) -> Option<&'static [&'static str]> {
    Some(match word.replace('_', "-").as_str() {
        "CORRECT" | "ACCEPTED" => &["accepted"],
        "PARTIAL" | "PARTIALLY-ACCEPTED" | "PARTIAL-SCORE" => &["partial"],
        "WRONG-ANSWER" | "NO-OUTPUT" => &["wrong_answer"],
        "TIMELIMIT" | "TIME-LIMIT" | "TIME-LIMIT-EXCEEDED" => &["time_limit"],
        "RUN-ERROR" | "RUN-TIME-ERROR" | "RUNTIME-ERROR" => &["runtime_error", "memory_limit"],
        "MEMORY-LIMIT" | "MEMORY-LIMIT-EXCEEDED" => &["memory_limit", "runtime_error"],
        "OUTPUT-LIMIT" | "OUTPUT-LIMIT-EXCEEDED" => &["output_limit"],
        "COMPILER-ERROR" | "COMPILE-ERROR" => &["compile_error"],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_sources_name_the_expected_verdicts() {
        assert_eq!(verdicts_of_folder("accepted"), Some(&["accepted"][..]));
        assert!(verdicts_of_folder("rejected").unwrap().iter().all(|verdict| *verdict != "accepted"));
        assert_eq!(verdicts_of_folder("mine"), None);
        let of = |source: &str| stated_result(source.as_bytes());
        assert_eq!(of("/* @EXPECTED_RESULTS@: TIMELIMIT, CORRECT */").verdicts, Some(vec!["time_limit", "accepted"]));
        assert_eq!(of("int main() {}"), StatedResult::default());
        assert_eq!(of("// @expected_results@: output_limit").verdicts, Some(vec!["output_limit"]));
        assert_eq!(of("# @Expected_Results@: No-Output,wrong_answer").verdicts, Some(vec!["wrong_answer"; 2]));
        assert_eq!(of("# @EXPECTED_SCORE@: 42.5\n").points, Some(42.5));
        assert_eq!(of("# @EXPECTED_RESULTS@: 30, PARTIAL").points, Some(30.0));
        let comments = [
            ("<!-- ", " -->"),
            ("(* ", " *)"),
            ("{- ", " -}"),
            ("{ ", " }"),
            ("#| ", " |#"),
            ("\"\"\" ", " \"\"\""),
            ("// ", "."),
            ("# ", " # why, says who\r"),
            ("<?php /** ", " **/?>"),
        ];
        for (before, after) in comments {
            let source = format!("{before}@EXPECTED_RESULTS@: WRONG_ANSWER{after}\n");
            assert_eq!(of(&source).verdicts, Some(vec!["wrong_answer"]), "{source}");
        }
        assert_eq!(of("# @EXPECTED_RESULTS@ : RUN-ERROR TIMELIMIT").verdicts.unwrap().last(), Some(&"time_limit"));
        assert_eq!(of("# @EXPECTED_RESULTS@: CHECK-MANUALLY, or so").verdicts, None);
    }
}
