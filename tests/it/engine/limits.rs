//! Limits as a caller sets them: the compiler's apart from the program's, and output that was cut.

use serde_json::{Value, json};

use crate::harness::{Daemon, Options, submission, with};

const MIB: u64 = 1024 * 1024;

fn compiled(language: &str, file: &str, code: &str, memory_mib: u64) -> Value {
    let work = json!({ "language": language, "files": [{ "path": file, "content": code }] });
    with(work, "limits", json!({ "memory_bytes": memory_mib * MIB }))
}

#[test]
fn a_compiler_may_use_more_memory_than_the_program() {
    let daemon = Daemon::start(&Options { profiles: "cpp,java", floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let regex = "#include <iostream>\n#include <regex>\nint main() { std::cout << std::regex_match(std::string(\"aab\"), std::regex(\"a*b\")); }";
    let cpp = compiled("cpp", "main.cpp", regex, 24);
    let report = caller.ok("submission.run", cpp.clone());
    assert_eq!((&report["verdict"], &report["run"]["stdout"]), (&json!("accepted"), &json!("1")), "{report:#}");
    assert!(report["compile"]["memory_bytes"].as_u64() > Some(24 * MIB), "{}", report["compile"]);
    assert!(report["run"]["memory_bytes"].as_u64() <= Some(24 * MIB), "{}", report["run"]);

    let small = with(cpp, "compile_limits", json!({ "memory_bytes": 24 * MIB }));
    let report = caller.ok("submission.run", small);
    assert_eq!(report["verdict"], "compile_error", "{report:#}");
    assert!(report["message"].as_str().unwrap().contains("too much memory (limit 24 MiB)"), "{}", report["message"]);

    // its heap follows the limit: garbage is collected before the limit is reached
    let garbage = "public class Main { public static void main(String[] a) { long n = 0; for (int i = 0; i < 600; i++) n += new byte[1 << 20].length; System.out.println(n >> 20); } }";
    let report = caller.ok("submission.run", compiled("java", "Main.java", garbage, 96));
    assert_eq!((&report["verdict"], &report["run"]["stdout"]), (&json!("accepted"), &json!("600\n")), "{report:#}");
}

#[test]
fn an_output_that_was_cut_off_is_not_checked() {
    let daemon = Daemon::start(&Options { profiles: "python", floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let right_then_garbage = submission("python", "print('42')\nprint('garbage')");
    let work = with(right_then_garbage, "truncate_output", json!(true));
    let work = with(work, "limits", json!({ "output_bytes": 3 }));
    let accept_all =
        json!({ "kind": "program", "language": "python", "files": [{ "path": "c.py", "content": "exit(42)" }] });
    let checks = [json!({ "expect": "42" }), json!({ "expect": "42", "checker": accept_all })];
    let mut judge = |work: Value| caller.ok("submission.run", work);
    for test in checks {
        let report = judge(with(work.clone(), "tests", json!([test])));
        assert_eq!(report["verdict"], "output_limit", "{report:#}");
        assert!(report["message"].as_str().unwrap().contains("cut off"), "{}", report["message"]);
    }
    // without a check, only the exit status counts
    let report = judge(work.clone());
    assert_eq!((&report["verdict"], &report["run"]["stdout_truncated"]), (&json!("accepted"), &json!(true)));
    // a failure after the cut is not seen either
    let tap = "print('1..2\\nok 1\\nok 2')\nprint('not ok 3')";
    let suite =
        json!({ "format": "tap", "command": ["python3", "t.py"], "files": [{ "path": "t.py", "content": tap }] });
    let work = with(with(work, "suite", suite), "limits", json!({ "output_bytes": 15 }));
    let report = judge(work);
    assert_eq!(report["verdict"], "output_limit", "{report:#}");
}
