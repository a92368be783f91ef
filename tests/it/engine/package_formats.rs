//! `assay judge` with what the versions of the package format offer: small packages that are
//! written here, and the example packages of the format's own tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::packages::assay;
use crate::harness::{Daemon, Options, root, skip};

fn daemon() -> Daemon {
    let profiles = "python,c,cpp,java,bash,scripted";
    Daemon::start(&Options { profiles, floor: 0, config: "[cache]\nmax_bytes = 100000000\n", ..Options::default() })
}

const NEW: &str = "problem_format_version: 2025-09\nname: x\nuuid: y\n";

/// A package of these files; `@PATH` as a text is a link.
fn package(yaml: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("problem.yaml", yaml)].iter().chain(files) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix('@') {
            Some(target) if !target.contains('\n') => std::os::unix::fs::symlink(target, path).unwrap(),
            _ => std::fs::write(path, text).unwrap(),
        }
    }
    folder
}

/// The document of `assay judge`, and its exit status.
fn judged(daemon: &Daemon, path: &Path) -> (i32, Value) {
    let (status, stdout, stderr) = assay(daemon, &["judge", "--json", "--time-limit", "2", path.to_str().unwrap()]);
    (status, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}")))
}

/// The rows as `submission: verdict points`, in order.
fn rows(document: &Value) -> Vec<String> {
    let rows = document["submissions"].as_array().unwrap();
    let points = |row: &Value| row["points"].as_f64().map(|points| format!(" {points}")).unwrap_or_default();
    rows.iter()
        .map(|row| {
            let (name, verdict) = (row["submission"].as_str().unwrap(), row["verdict"].as_str().unwrap());
            format!("{name}: {verdict}{}", points(row))
        })
        .collect()
}

fn all_as_expected(name: &str, (status, document): (i32, Value)) {
    for row in document["submissions"].as_array().unwrap() {
        let (unmet, message) = (&row["unmet"], &row["message"]);
        assert_eq!(unmet.as_array().map(Vec::len), Some(0), "{name} {}: {unmet} {message}", row["submission"]);
    }
    assert_eq!(status, 0, "{name}: {document:#}");
}

/// Doubles a number in each pass; the validator asks for the next pass until the number is above 9.
const PASSES: &str = "import sys, pathlib\n\
    sent, got = int(open(sys.argv[1]).read()), int(input())\n\
    log = open(sys.argv[3] + 'judgemessage.txt', 'a')\n\
    log.write(f'pass {sent}; ')\n\
    if got != sent * 2: sys.exit(43)\n\
    if got < 10: pathlib.Path(sys.argv[3] + 'nextpass.in').write_text(str(got))\n\
    sys.exit(42)\n";

#[test]
fn a_multi_pass_problem_is_run_until_its_validator_asks_for_no_further_pass() {
    let daemon = daemon();
    let yaml = format!("{NEW}type: multi-pass\nlimits: {{validation_passes: 4}}\n");
    let files = [
        ("data/secret/1.in", "2"),
        ("data/secret/1.ans", ""),
        ("output_validator/check.py", PASSES),
        ("submissions/accepted/double.py", "print(2 * int(input()))"),
        ("submissions/wrong_answer/once.py", "n = int(input())\nprint(n * 2 if n == 2 else 0)"),
        ("submissions/run_time_error/second.py", "n = int(input())\nprint(n * 2 if n < 4 else 1 // 0)"),
    ];
    let document = judged(&daemon, package(&yaml, &files).path());
    let row = document.1["submissions"][0].clone();
    all_as_expected("passes", document);
    let test = &row["report"]["tests"][0];
    assert_eq!((&test["passes"], test["feedback"].as_str()), (&3.into(), Some("pass 2; pass 4; pass 8;")), "{test:#}");
    // more passes than the package allows are the validator's fault
    let few = yaml.replace("passes: 4", "passes: 2");
    let (status, document) = judged(&daemon, package(&few, &files[..4]).path());
    assert_eq!((status, rows(&document)), (1, vec!["accepted/double.py: system_error".to_owned()]));
}

#[test]
fn an_interactive_problem_may_have_several_passes() {
    let daemon = daemon();
    let validator = "import sys, pathlib\n\
        n = int(open(sys.argv[1]).read())\n\
        print(n, flush=True)\n\
        if input() != str(n + 1): sys.exit(43)\n\
        if n < 3: pathlib.Path(sys.argv[3] + 'nextpass.in').write_text(str(n + 2))\n\
        sys.exit(42)\n";
    let files = [
        ("data/secret/1.in", "1"),
        ("data/secret/1.ans", ""),
        ("output_validator/v.py", validator),
        ("submissions/accepted/next.py", "print(int(input()) + 1)"),
        ("submissions/wrong_answer/first.py", "input()\nprint(2)"),
    ];
    let yaml = format!("{NEW}type: [interactive, multi-pass]\n");
    all_as_expected("interactive", judged(&daemon, package(&yaml, &files).path()));
}

#[test]
fn scripts_build_and_run_a_validator_in_a_sandbox() {
    let daemon = daemon();
    let files = [
        ("data/secret/1.in", "5"),
        ("data/secret/1.ans", "5"),
        (
            "output_validators/v/build",
            "#!/bin/sh\ncc -o check check.c\nprintf '#!/bin/sh\\nexec ./check \"$@\"\\n' > run\nchmod +x run\n",
        ),
        (
            "output_validators/v/check.c",
            "#include <stdio.h>\nint main(int c, char **v) { int a, b; fscanf(fopen(v[2], \"r\"), \"%d\", &a); return scanf(\"%d\", &b) == 1 && a == b ? 42 : 43; }",
        ),
        ("submissions/accepted/five.py", "print(5)"),
        ("submissions/wrong_answer/six.py", "print(6)"),
    ];
    all_as_expected("scripts", judged(&daemon, package("validation: custom", &files).path()));
}

#[test]
fn groups_give_points_by_max_score_and_what_they_require() {
    let daemon = daemon();
    let yaml = format!("{NEW}type: scoring\n");
    let share = "import sys, pathlib\n\
        share = input()\n\
        if share == 'no': sys.exit(43)\n\
        if 'half' in sys.argv: pathlib.Path(sys.argv[3] + 'score_multiplier.txt').write_text(share)\n\
        sys.exit(42)\n";
    let files = [
        ("data/sample/1.in", "s"),
        ("data/sample/1.ans", ""),
        ("data/secret/a/test_group.yaml", "max_score: 40\nscore_aggregation: pass-fail\nargs: [a]"),
        ("data/secret/a/1.in", "1"),
        ("data/secret/a/1.ans", ""),
        (
            "data/secret/b/test_group.yaml",
            "max_score: 60\nscore_aggregation: sum\nrequire_pass: [sample, secret/a]\nargs: [b]\noutput_validator_args: [half]",
        ),
        ("data/secret/b/1.in", "1"),
        ("data/secret/b/1.ans", ""),
        ("data/secret/b/2.in", "1"),
        ("data/secret/b/2.ans", ""),
        ("output_validator/v.py", share),
        ("submissions/mine/all.py", "print(1)"),
        ("submissions/mine/half.py", "import sys\nprint(0.5 if 'b' in sys.argv else 1)"),
        ("submissions/mine/not_a.py", "import sys\nprint('no' if 'a' in sys.argv else 1)"),
        (
            "submissions/submissions.yaml",
            "mine/all.py: {score: 100}\nmine/half.py: {score: [69, 71]}\nmine/not_a.py: {score: 0, secret/a: {required: [WA]}, secret/b: {permitted: [AC]}}",
        ),
    ];
    let document = judged(&daemon, package(&yaml, &files).path());
    assert_eq!(
        rows(&document.1),
        ["mine/all.py: accepted 100", "mine/half.py: partial 70", "mine/not_a.py: wrong_answer 0"]
    );
    all_as_expected("groups", document);
}

#[test]
fn a_groups_flags_add_to_the_problems_and_reach_interactors() {
    let daemon = daemon();
    let files = [
        ("data/secret/g/1.in", ""),
        ("data/secret/g/1.ans", "Yes 0.5"),
        ("data/secret/g/testdata.yaml", "output_validator_flags: float_tolerance 1e-2"),
        ("submissions/accepted/right.py", "print('Yes 0.501')"),
        ("submissions/wrong_answer/case.py", "print('yes 0.5')"),
    ];
    all_as_expected("flags", judged(&daemon, package("validator_flags: case_sensitive", &files).path()));
    let talk = "import sys\nprint(sys.argv[4:], flush=True)\nsys.exit(42 if input() == 'problem group' else 43)";
    let files = [
        ("data/secret/g/1.in", ""),
        ("data/secret/g/1.ans", ""),
        ("data/secret/g/testdata.yaml", "output_validator_flags: group"),
        ("output_validators/talk.py", talk),
        ("submissions/accepted/echo.py", "print(*eval(input()))"),
    ];
    let yaml = "validation: custom interactive\nvalidator_flags: problem";
    all_as_expected("talk", judged(&daemon, package(yaml, &files).path()));
}

/// Rejects code with a loop, and gives half of its points to long code. Its working folder has the
/// submission's files, those of the package and what was compiled, and none of its own.
const NO_LOOPS: &str = "import os, pathlib, sys\n\
    from rules import LONG\n\
    language, entry, feedback, *more = sys.argv[1:]\n\
    names = sorted(str(path) for path in pathlib.Path('.').rglob('*') if path.is_file())\n\
    open(feedback + 'judgemessage.txt', 'w').write(f'{language} {entry} {names} {more}')\n\
    code = open('main.py' if language == 'python3' else 'main.c').read()\n\
    if 'while' in code or 'for' in code:\n\
    \x20   open(feedback + 'teammessage.txt', 'w').write('No loops, please.')\n\
    \x20   sys.exit(43)\n\
    if 'points' in more and len(code) > LONG: open(feedback + 'score_multiplier.txt', 'w').write('0.5')\n\
    sys.exit(42)\n";

#[test]
fn a_static_validator_judges_the_code_of_a_submission() {
    let daemon = daemon();
    let validator = [("static_validator/__main__.py", NO_LOOPS), ("static_validator/rules.py", "LONG = 100\n")];
    let long = format!("print(int(input()) * 2)  # {}", "x".repeat(100));
    let c = "#include <stdio.h>\nint main() { int n; scanf(\"%d\", &n); printf(\"%d\", 2 * n); }";
    let files = [
        ("data/secret/1.in", "2"),
        ("data/secret/1.ans", "4"),
        ("include/python3/given.py", ""),
        ("submissions/accepted/short/main.py", "print(int(input()) * 2)"),
        ("submissions/accepted/c/main.c", c),
        ("submissions/wrong_answer/loop/main.py", "for n in [2]: print(n * 2)"),
        ("submissions/wrong_answer/other/main.py", "print(5)"),
        ("submissions/run_time_error/crash/main.py", "print(1 // 0)"),
        ("submissions/partially_accepted/long/main.py", &long),
        ("submissions/submissions.yaml", "wrong_answer/loop:\n  message: \"main.py ['given.py', 'main.py']\"\n"),
    ];
    let package = |yaml: &str, settings: &str| {
        let settings = [("data/secret/test_group.yaml", settings)];
        let is_kept = |name: &str| yaml.contains("scoring") || !name.contains("/partially");
        let files = files.iter().filter(|(name, _)| is_kept(name)).chain(&validator).chain(&settings).copied();
        let files: Vec<(&str, &str)> = files.collect();
        package(&format!("{NEW}{yaml}"), &files)
    };
    let plain = package("", "static_validation_score: pass-fail\n");
    let (status, document) = judged(&daemon, plain.path());
    let row = |name: &str| {
        let rows = document["submissions"].as_array().unwrap();
        rows.iter().find(|row| row["submission"] == name).unwrap_or_else(|| panic!("{name}: {document:#}")).clone()
    };
    let looped = row("wrong_answer/loop");
    assert_eq!(looped["message"], "Test secret/static validation: No loops, please.", "{looped:#}");
    let compiled = &row("accepted/c")["report"]["tests"][0];
    assert!(compiled["feedback"].as_str().unwrap().starts_with("c main.c ['.assay.out', 'main.c'"), "{compiled:#}");
    assert_eq!(status, 0, "{document:#}");
    let points = "max_score: 50\nstatic_validation_score: 20\nstatic_validator_args: [points]\n";
    let scored = judged(&daemon, package("type: scoring\n", points).path());
    let of: Vec<String> = rows(&scored.1).into_iter().filter(|row| row.contains("cepted")).collect();
    assert_eq!(of, ["accepted/c: accepted 50", "accepted/short: accepted 50", "partially_accepted/long: partial 40"]);
    // its own mistakes are not the submission's
    for broken in
        ["import sys\nsys.exit(0)\n", "import sys\nopen(sys.argv[3] + 'score.txt', 'w').write('21')\nsys.exit(42)\n"]
    {
        let folder = package("type: scoring\n", points);
        std::fs::write(folder.path().join("static_validator/__main__.py"), broken).unwrap();
        let (_, document) = judged(&daemon, folder.path());
        assert_eq!(document["submissions"][0]["verdict"], "system_error", "{broken}: {document:#}");
    }
}

#[test]
fn an_interactive_problem_may_have_a_static_validator_of_two_scripts() {
    let daemon = daemon();
    let files = [
        ("data/secret/1.in", "7"),
        ("data/secret/1.ans", ""),
        ("data/secret/test_group.yaml", "static_validation_score: pass-fail\nstatic_validator_args: ['7']\n"),
        (
            "output_validator/v.py",
            "import sys\nprint(open(sys.argv[1]).read(), flush=True)\nsys.exit(42 if input() == '7' else 43)\n",
        ),
        (
            "static_validator/build",
            "#!/bin/sh\ncc -o check check.c\nprintf '#!/bin/sh\\nexec \"${0%%/*}/check\" \"$@\"\\n' > run\nchmod +x run\n",
        ),
        (
            "static_validator/check.c",
            "#include <stdio.h>\n#include <string.h>\nint main(int c, char **v) { char t[99] = \"\"; fread(t, 1, 98, fopen(v[2], \"r\")); return strstr(t, v[4]) ? 43 : 42; }",
        ),
        ("submissions/accepted/echo.py", "print(input())"),
        ("submissions/wrong_answer/seven.py", "input(); print(7)"),
    ];
    all_as_expected("static", judged(&daemon, package(&format!("{NEW}type: interactive\n"), &files).path()));
}

#[test]
fn files_arguments_constants_and_included_code_reach_the_submission() {
    let daemon = daemon();
    let yaml = format!("{NEW}constants: {{ten: 10}}\nlanguages: [python3, c]\nlimits: {{code: 1}}\n");
    let files = [
        ("data/secret/1.in", "3"),
        ("data/secret/1.ans", "3 17 text 10 helped"),
        ("data/secret/1.yaml", "args: ['17']\ndescription: d"),
        ("data/secret/1.files/extra/t.txt", "text"),
        ("include/python3/help.py", "ten = {{ten}}\ndef help(): return 'helped'"),
        (
            "submissions/accepted/all.py",
            "import sys, help\nprint(input(), sys.argv[1], open('extra/t.txt').read(), help.ten, help.help())",
        ),
        ("submissions/accepted/long.py", &"#".repeat(2000)),
        ("submissions/accepted/other.java", "class A {}"),
    ];
    let (status, document) = judged(&daemon, package(&yaml, &files).path());
    let skipped = document["skipped"].as_array().unwrap();
    let reasons: Vec<&str> = skipped.iter().map(|skipped| skipped["reason"].as_str().unwrap()).collect();
    assert!(reasons[0].contains("limits.code") && reasons[1].contains("does not allow java"), "{reasons:?}");
    all_as_expected("all", (status, document));
}

#[test]
fn answers_alone_can_be_submitted() {
    let daemon = daemon();
    let files = [
        ("data/secret/1.in", ""),
        ("data/secret/1.ans", "one"),
        ("data/secret/2.in", ""),
        ("data/secret/2.ans", "two"),
        ("submissions/accepted/mine/1.out", "one\n"),
        ("submissions/accepted/mine/secret/2", "two\n"),
        ("submissions/wrong_answer/half/1.out", "one\n"),
    ];
    all_as_expected("answers", judged(&daemon, package(&format!("{NEW}type: submit-answer\n"), &files).path()));
}

#[test]
fn what_is_not_a_program_is_listed_and_the_rest_is_judged() {
    let daemon = daemon();
    let files = [
        ("data/secret/1.in", ""),
        ("data/secret/1.ans", "1"),
        ("data/.DS_Store", "x"),
        ("submissions/accepted/README", "notes"),
        ("submissions/accepted/one.py3", "print(1)"),
        ("submissions/accepted/one.C", "#include <cstdio>\nint main() { puts(\"1\"); }"),
        ("submissions/accepted/one.c++", "#include <cstdio>\nint main() { puts(\"1\"); }"),
        ("submissions/accepted/package/__main__.py", "import a"),
        ("submissions/accepted/package/a.py", "print(1)"),
        ("submissions/accepted/package/__pycache__/a.pyc", "x"),
        ("submissions/accepted/one.zoo", "1"),
        ("submissions/accepted/Old.class", "x"),
        ("submissions/accepted/old.py", "#!/usr/bin/env python2\nprint 1"),
        ("submissions/wrong_answer/two.py", "print(2)"),
        ("submissions/wrong_answer/link.py", "@../accepted/one.py3"),
        ("submissions/mixed/a.py", "# @expected_results@: Wrong_Answer, output_limit\nprint(3)"),
    ];
    let folder = package("\u{feff}name: n", &files);
    let (status, document) = judged(&daemon, folder.path());
    let names: Vec<String> =
        document["skipped"].as_array().unwrap().iter().map(|skipped| skipped["submission"].to_string()).collect();
    assert_eq!(names, ["\"accepted/Old.class\"", "\"accepted/README\"", "\"accepted/old.py\"", "\"accepted/one.zoo\""]);
    let rows = rows(&document);
    assert!(rows.contains(&"wrong_answer/link.py: accepted".to_owned()), "{rows:?}");
    let (unexpected, others): (Vec<&Value>, Vec<&Value>) =
        document["submissions"].as_array().unwrap().iter().partition(|row| row["as_expected"] == false);
    assert_eq!((status, unexpected.len(), others.len()), (1, 1, 6), "{document:#}");
    assert_eq!(unexpected[0]["submission"], "wrong_answer/link.py");
}

/// Paths and texts of a package.
type Files = Vec<(&'static str, &'static str)>;

#[test]
fn points_verdicts_and_the_order_of_tests_are_as_each_version_says() {
    let daemon = daemon();
    let new = |more: &str| format!("{NEW}{more}");
    let echo = "print(input())";
    let but_3 = "x = input()\nprint(x if x != '3' else 0)";
    let groups: &[(&str, &str)] = &[
        ("data/secret/1/test_group.yaml", "max_score: 30"),
        ("data/secret/2/test_group.yaml", "max_score: 70\nrequire_pass: sample"),
        ("data/secret/1/1.in", "1"),
        ("data/secret/1/1.ans", "1"),
        ("data/secret/2/1.in", "3"),
        ("data/secret/2/1.ans", "3"),
        ("submissions/accepted/a.py", echo),
    ];
    let one: &[(&str, &str)] = &[("data/secret/1.in", "1"), ("data/secret/1.ans", "1")];
    let all = |parts: &[&[(&'static str, &'static str)]]| parts.concat();
    let gives = |text: &'static str| ("output_validator/v.py", text);
    let cases: Vec<(&str, String, Files, &[&str])> = vec![
        (
            "a folder's name promises verdicts of tests, not points",
            new("type: scoring"),
            all(&[
                groups,
                &[
                    ("submissions/wrong_answer/w.py", but_3),
                    ("submissions/run_time_error/r.py", "x = input()\nassert x != '3'\nprint(x)"),
                ],
            ]),
            &["accepted/a.py: accepted 100", "run_time_error/r.py: partial 30", "wrong_answer/w.py: partial 30"],
        ),
        (
            "samples that a group requires",
            new("type: scoring"),
            all(&[
                groups,
                &[
                    ("data/sample/1.in", "9"),
                    ("data/sample/1.ans", "9"),
                    ("submissions/wrong_answer/w.py", "x = input()\nprint(x if x != '9' else 0)"),
                    ("submissions/submissions.yaml", "accepted: {'secret/{1,2}': {score: [30, 70]}}"),
                ],
            ]),
            &["accepted/a.py: accepted 100", "wrong_answer/w.py: partial 30"],
        ),
        (
            "accepted with fewer points",
            new("type: scoring"),
            all(&[
                one,
                &[
                    gives("import sys\nopen(sys.argv[3] + 'score_multiplier.txt', 'w').write('0.25')\nsys.exit(42)"),
                    ("submissions/accepted/a.py", echo),
                ],
            ]),
            &["accepted/a.py: partial 25"],
        ),
        (
            "tests in the order of their names",
            "name: x".to_owned(),
            all(&[
                one,
                &[
                    ("data/secret/1-b.in", "2"),
                    ("data/secret/1-b.ans", "2"),
                    ("submissions/wrong_answer/w.py", "assert input() == '1'"),
                ],
            ]),
            &["wrong_answer/w.py: wrong_answer"],
        ),
        (
            "an output that is closed early",
            new("type: interactive"),
            all(&[
                one,
                &[
                    gives("import sys\nprint(3, flush=True)\nsys.exit(42 if sys.stdin.readline() == '3\\n' else 43)"),
                    ("submissions/run_time_error/r.py", "import os, time\nos.close(1)\ntime.sleep(1.5)\nos._exit(1)"),
                    ("submissions/time_limit_exceeded/t.py", "import os, time\nos.close(1)\ntime.sleep(30)"),
                    ("submissions/wrong_answer/w.py", "import os\nos.close(1)"),
                ],
            ]),
            &[
                "run_time_error/r.py: runtime_error",
                "time_limit_exceeded/t.py: time_limit",
                "wrong_answer/w.py: wrong_answer",
            ],
        ),
        (
            "folders that promise nothing, and a script that names the file beside it",
            "validation: custom".to_owned(),
            all(&[
                one,
                &[
                    gives("import sys\nsys.exit(42 if sys.stdin.read().split() == ['1'] else 43)"),
                    ("submissions/mine/w.py", "print(2)"),
                    ("submissions/accepted/s/main.sh", ". ${0%/*}/two.sh"),
                    ("submissions/accepted/s/two.sh", "cat"),
                ],
            ]),
            &["accepted/s: accepted", "mine/w.py: wrong_answer"],
        ),
    ];
    for (name, yaml, files, expected) in cases {
        let document = judged(&daemon, package(&yaml, &files).path());
        assert_eq!(rows(&document.1), expected, "{name}: {:#}", document.1);
        all_as_expected(name, document);
    }
}

#[test]
fn a_validator_that_gives_points_where_the_format_has_none_is_broken() {
    let daemon = daemon();
    let one: &[(&str, &str)] =
        &[("data/secret/g/1.in", "1"), ("data/secret/g/1.ans", "1"), ("submissions/accepted/a.py", "print(1)")];
    let gives = |file: &str, points: &str| {
        format!("import sys\nopen(sys.argv[3] + '{file}', 'w').write('{points}')\nsys.exit(42)")
    };
    for (group, validator, message) in [
        ("max_score: 100", gives("score.txt", "5"), "pass-fail"),
        ("max_score: 100\nscore_aggregation: sum", gives("score.txt", "101"), "101 points of 100"),
        ("score_aggregation: sum", gives("nothing.txt", ""), "no points"),
    ] {
        let whole = if group.contains("max_score") { "" } else { "max_score: unbounded" };
        let more = [
            ("data/secret/g/test_group.yaml", group),
            ("data/secret/test_group.yaml", whole),
            ("output_validator/v.py", validator.as_str()),
        ];
        let (status, document) =
            judged(&daemon, package(&format!("{NEW}type: scoring"), &[one, &more].concat()).path());
        assert_eq!((status, rows(&document)[0].split(' ').nth(1)), (1, Some("system_error")), "{document:#}");
        assert!(document["submissions"][0]["message"].as_str().unwrap().contains(message), "{document:#}");
    }
}

/// The example packages of problemtools, unpacked below target/.
fn examples() -> Option<PathBuf> {
    let folder = root().join("target/problemtools");
    let found = || {
        let entries = std::fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.path().join("examples"));
        entries.into_iter().find(|path| path.is_dir())
    };
    if found().is_none() {
        std::fs::create_dir_all(&folder).unwrap();
        let script = "python3 -m pip download --no-binary :all: --no-deps --no-build-isolation -d . problemtools \
            || python3 -m pip download --no-binary :all: --no-deps -d . problemtools; tar -xzf problemtools-*.tar.gz";
        Command::new("sh").args(["-c", script]).current_dir(&folder).output().ok()?;
    }
    found()
}

#[test]
fn the_examples_of_problemtools_come_out_as_their_folders_promise() {
    let Some(examples) = examples() else { return skip("problemtools cannot be downloaded with pip") };
    let daemon = daemon();
    let mut judged = 0;
    for name in ["different", "guess", "hello", "oddecho"] {
        let (status, stdout, stderr) = assay(&daemon, &["judge", "--json", examples.join(name).to_str().unwrap()]);
        let document: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{name}: {stdout}{stderr}"));
        judged += document["submissions"].as_array().unwrap().len();
        for skipped in document["skipped"].as_array().unwrap() {
            let reason = skipped["reason"].as_str().unwrap();
            assert!(reason.contains("no profile") || reason.contains("no source"), "{name}: {skipped}");
        }
        all_as_expected(name, (status, document));
    }
    assert!(judged >= 29, "{judged}");
}
