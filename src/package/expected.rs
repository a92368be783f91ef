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
        "brute_force" => &["accepted", "time_limit", "runtime_error", "memory_limit"],
        _ => return None,
    })
}

const REJECTED: &[&str] =
    &["wrong_answer", "partial", "time_limit", "runtime_error", "memory_limit", "output_limit", "compile_error"];

/// Verdicts in DOMjudge's `@EXPECTED_RESULTS@:` line, searched in the first 64 KiB of a source.
pub fn verdicts_of_source(source: &[u8]) -> Option<Vec<&'static str>> {
    let text = String::from_utf8_lossy(&source[..source.len().min(64 * 1024)]);
    let results = text.split_once("@EXPECTED_RESULTS@:")?.1.lines().next()?;
    let verdicts = |result: &str| -> Option<&'static [&'static str]> {
        Some(match result.trim().trim_end_matches("*/").trim() {
            "CORRECT" | "ACCEPTED" => &["accepted"],
            "WRONG-ANSWER" | "WRONG_ANSWER" | "NO-OUTPUT" => &["wrong_answer"],
            "TIMELIMIT" | "TIME_LIMIT_EXCEEDED" => &["time_limit"],
            "RUN-ERROR" | "RUN_TIME_ERROR" => &["runtime_error", "memory_limit"],
            "MEMORY-LIMIT" => &["memory_limit"],
            "OUTPUT-LIMIT" => &["output_limit"],
            "COMPILER-ERROR" => &["compile_error"],
            _ => return None,
        })
    };
    let all: Vec<&str> = results.split(',').filter_map(verdicts).flatten().copied().collect();
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_sources_name_the_expected_verdicts() {
        assert_eq!(verdicts_of_folder("accepted"), Some(&["accepted"][..]));
        assert!(verdicts_of_folder("rejected").unwrap().iter().all(|verdict| *verdict != "accepted"));
        assert_eq!(verdicts_of_folder("mine"), None);
        let source = b"/* @EXPECTED_RESULTS@: TIMELIMIT, CORRECT */";
        assert_eq!(verdicts_of_source(source), Some(vec!["time_limit", "accepted"]));
        assert_eq!(verdicts_of_source(b"int main() {}"), None);
    }
}
