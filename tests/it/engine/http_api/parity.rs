//! The same submission through the socket and through HTTP: the same verdict with the same
//! evidence. Figures of time and memory are those of two runs and left out.

use serde_json::{Value, json};

use super::{HttpCaller, serve};
use crate::harness::{Options, patient, submission};

/// A name, a language, code, and fields of the submission.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// Limits that end a run soon, and that no other limit of a busy machine comes before.
const SHORT: &str = r#"{"limits":{"cpu_ms":300,"wall_ms":60000}}"#;

#[rustfmt::skip]
const PROGRAMS: &[Row] = &[
    ("prints", "python", "print('hello')", "{}"),
    ("arguments", "python", "import sys; print(sys.argv[1:])", r#"{"args":["a","b c","é"]}"#),
    ("environment", "python", "import os; print(os.environ['X'])", r#"{"env":{"X":"y z"}}"#),
    ("input", "python", "print(sum(map(int, input().split())))", r#"{"stdin":"1 2 3\n"}"#),
    ("input in base64", "python", "import sys; print(len(sys.stdin.buffer.read()))", r#"{"stdin_b64":"AP8A"}"#),
    ("a status", "python", "raise SystemExit(3)", "{}"),
    ("an exception", "python", "1/0", "{}"),
    ("a syntax error", "python", "print(", "{}"),
    ("stderr", "python", "import sys; print('no', file=sys.stderr)", "{}"),
    ("bytes that are not text", "python", "import sys; sys.stdout.buffer.write(b'\\xff\\0\\xfe')", "{}"),
    ("text that is not ASCII", "python", "print('héllo ✓ 日本')", "{}"),
    ("cpu limit", "python", "while True: pass", SHORT),
    ("wall limit", "python", "import time; time.sleep(100)", r#"{"limits":{"cpu_ms":60000,"wall_ms":300}}"#),
    ("memory limit", "python", "x = []\nwhile True: x.append(bytearray(1 << 20))", r#"{"limits":{"memory_bytes":67108864,"cpu_ms":60000,"wall_ms":120000}}"#),
    ("output limit", "python", "while True: print('x' * 1000)", r#"{"limits":{"output_bytes":10000,"cpu_ms":60000,"wall_ms":120000}}"#),
    ("output cut off", "python", "print('x' * 5000)", r#"{"truncate_output":true,"limits":{"output_bytes":1000,"cpu_ms":60000,"wall_ms":120000}}"#),
    ("a file that is too large", "python", "open('f', 'wb').write(bytes(1 << 20))", r#"{"limits":{"file_bytes":1000,"cpu_ms":60000,"wall_ms":120000}}"#),
    ("a signal", "python", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "{}"),
    ("a child", "python", "import os\nif os.fork(): os.wait()\nelse: print('child')", "{}"),
    ("files that are collected", "python", "open('out.txt', 'w').write('kept')", r#"{"collect":["*.txt"]}"#),
    ("a test that passes", "python", "print(int(input()) * 2)", r#"{"tests":[{"stdin":"21","expect":"42"}]}"#),
    ("a test that fails", "python", "print(int(input()) * 3)", r#"{"tests":[{"stdin":"21","expect":"42"}]}"#),
    ("some tests", "python", "print(int(input()) * 2)", r#"{"tests":[{"stdin":"1","expect":"2"},{"stdin":"x","expect":"0"},{"stdin":"3","expect":"6"}]}"#),
    ("the first failure ends it", "python", "print(1)", r#"{"stop":"first_failure","tests":[{"expect":"2"},{"expect":"1"}]}"#),
    ("points", "python", "print(1)", r#"{"tests":[{"expect":"1","weight":3},{"expect":"2","weight":5}]}"#),
    ("a secret test", "python", "print(1)", r#"{"tests":[{"expect":"2","secret":true}]}"#),
    ("numbers that are near", "python", "print(0.1 + 0.2)", r#"{"checker":{"kind":"float"},"tests":[{"expect":"0.3"}]}"#),
    ("lines in any order", "python", "print('b\\na')", r#"{"checker":{"kind":"lines","unordered":true},"tests":[{"expect":"a\nb"}]}"#),
    ("bytes that must be exact", "python", "print('a ')", r#"{"checker":{"kind":"exact"},"tests":[{"expect":"a\n"}]}"#),
    ("a checker program", "python", "print(7)", r#"{"checker":{"kind":"program","language":"python","files":[{"path":"c.py","content":"import sys\nsys.exit(42 if sys.stdin.read().strip() == '7' else 43)"}]},"tests":[{"stdin":"1","expect":"7"}]}"#),
    ("its own sandbox", "python", "print(1)", r#"{"fresh":true}"#),
    ("another command", "bash", "echo no", r#"{"command":["/bin/echo","yes"]}"#),
    ("a pipe", "bash", "seq 5 | tail -n 1", "{}"),
    ("a process left behind", "bash", "sleep 1000 & echo done", "{}"),
    ("C", "c", "#include <stdio.h>\nint main(){puts(\"c\");}", "{}"),
    ("C that does not compile", "c", "int main(){return x;}", "{}"),
    ("C that divides by zero", "c", "int main(int n,char**v){return 1/(n-1);}", "{}"),
    ("C that aborts", "c", "#include <stdlib.h>\nint main(){abort();}", "{}"),
    ("C++ that throws", "cpp", "int main(){throw 1;}", "{}"),
    ("JavaScript", "javascript", "console.log([1, 2].map(x => x * 2))", "{}"),
    ("JavaScript that throws", "javascript", "null.x", "{}"),
];

/// What two runs of one program have in common.
fn comparable(report: &Value) -> Value {
    match report {
        Value::Object(fields) => {
            // an id and a sandbox of its own; how it was found; figures of time and memory, and
            // how those were measured, which differs between the first run in a sandbox and others
            let is_own = |name: &str| {
                ["id", "sandbox", "start", "cached", "timing"].contains(&name)
                    || name.ends_with("_ms")
                    || ["memory_bytes", "max_rss_bytes", "memory_source"].contains(&name)
            };
            let rest = fields.iter().filter(|(name, _)| !is_own(name));
            rest.map(|(name, value)| (name.clone(), comparable(value))).collect()
        }
        Value::Array(list) => list.iter().map(comparable).collect(),
        other => other.clone(),
    }
}

#[test]
fn forty_programs_get_the_same_verdict_and_evidence_through_socket_and_http() {
    let profiles = "bash,python,c,cpp,javascript";
    let (daemon, address) = serve(&Options { profiles, floor: 1, ceiling: 4, ..Options::default() });
    let (mut socket, mut http) = (daemon.caller(), HttpCaller::connect(&address));
    let mut verdicts = std::collections::BTreeSet::new();
    for (name, language, code, more) in PROGRAMS {
        let mut work = patient(submission(language, code));
        let more: Value = serde_json::from_str(more).unwrap();
        more.as_object().unwrap().iter().for_each(|(name, value)| work[name] = value.clone());
        let [one, other] = [socket.ok("submission.run", work.clone()), http.judge(&work)];
        let (mut one_same, mut other_same) = (comparable(&one), comparable(&other));
        // how much output fits between the limit and the end of the process differs from run to run
        if *name == "output limit" {
            for report in [&mut one_same, &mut other_same] {
                assert!(report["run"]["evidence"]["stdout_bytes"].as_u64() > Some(10_000), "{report}");
                report["run"]["evidence"]["stdout_bytes"] = json!(0);
            }
        }
        assert_eq!(one_same, other_same, "{name}");
        let fields = |report: &Value| report.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(fields(&one), fields(&other), "{name}");
        verdicts.insert(one["verdict"].as_str().unwrap().to_owned());
    }
    assert!(PROGRAMS.len() >= 40 && verdicts.len() >= 7, "{} programs: {verdicts:?}", PROGRAMS.len());
}
