//! Tests of reading packages: what each key of each version means, and what is refused.

use super::*;

/// A package of these files, with one test and whatever is needed to be read.
fn read(files: &[(&str, &str)]) -> Result<ProblemPackage, String> {
    let folder = tempfile::tempdir().unwrap();
    let base = [("data/secret/1.in", ""), ("data/secret/1.ans", "")];
    for (name, text) in base.iter().chain(files) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    ProblemPackage::read(folder.path(), 100, &Languages::new([("python", ["py"]), ("cpp", ["cpp"])]))
        .map_err(|error| error.to_string())
}

const NEW: &str = "problem_format_version: 2025-09\nname: x\nuuid: y\n";

fn new(more: &str) -> String {
    format!("{NEW}{more}")
}

#[test]
fn every_version_is_known_and_others_are_refused() {
    for (version, is) in [
        ("legacy", FormatVersion::Legacy),
        ("legacy-icpc", FormatVersion::Legacy),
        ("2023-07-draft", FormatVersion::Of2023),
        ("2025-09", FormatVersion::Of2025),
        ("draft", FormatVersion::Of2025),
    ] {
        let problem = read(&[("problem.yaml", &format!("problem_format_version: {version}\n"))]).unwrap();
        assert_eq!(problem.version, is, "{version}");
    }
    assert_eq!(read(&[("problem.yaml", "name: x")]).unwrap().version, FormatVersion::Legacy);
    for version in ["2026-01", "2025", "[a]"] {
        let error = read(&[("problem.yaml", &format!("problem_format_version: {version}\n"))]).unwrap_err();
        assert!(error.contains("problem_format_version"), "{error}");
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let problem = |text: &str, part: &str| {
        let error = read(&[("problem.yaml", text)]).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    };
    problem(&new("validator_flags: x"), "validator_flags");
    problem(&new("memory: 5"), "memory");
    problem(&new("type: [scoring, pass-fail]"), "exclude");
    problem("type: problem", "problem");
    problem("validation: customised", "customised");
    problem("limits: {mem: 5}", "mem");
    problem("limits: {memory: big}", "limits.memory");
    problem("limits: {memory: 4096}", "limits.memory");
    problem("limits: {output: 0}", "limits.output");
    problem("validator_flags: {a: b}", "validator_flags");
    problem("grading: {custom_scoring: true}", "custom_scoring");
    problem("limits: {time_multipliers: {ac_to_time_limit: 0.5}}", "ac_to_time_limit");
    problem("limits: {time_limit: 1.5, time_resolution: 1}", "time_resolution");
    problem(&new("constants: {a-b: 1}"), "constants");
    problem("- a", "map");
    let group = |version: &str, file: &str, text: &str, part: &str| {
        let error = read(&[("problem.yaml", version), (&format!("data/secret/{file}"), text)]).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    };
    for (yaml, text, part) in [
        ("type: scoring", "static_validation_score: 5", "no static_validator"),
        ("type: scoring", "static_validation_score: -1", "whole number"),
        ("type: scoring", "static_validation_score: all", "whole number"),
        ("type: scoring", "static_validator_args: [x]", "static_validation_score is missing"),
        ("type: scoring", "static_validation: true", "static_validation"),
    ] {
        group(&new(yaml), "test_group.yaml", text, part);
    }
    group(&new("type: scoring"), "test_group.yaml", "max_score: many", "max_score");
    group(&new("type: scoring"), "test_group.yaml", "score_aggregation: avg", "score_aggregation");
    group(&new("type: scoring"), "test_group.yaml", "require_pass: secret/9", "require_pass");
    group(&new("type: scoring"), "test_group.yaml", "max_score: unbounded", "unbounded");
    group(&new("type: scoring"), "g/test_group.yaml", "max_score: 5", "secret/1 is in none");
    let groups = |whole: &str, one: &str, two: &str, part: &str| {
        let error = read(&[
            ("problem.yaml", &new("type: scoring")),
            ("data/secret/test_group.yaml", whole),
            ("data/secret/a/test_group.yaml", one),
            ("data/secret/b/test_group.yaml", two),
            ("data/secret/b/1.in", ""),
            ("data/secret/b/1.ans", ""),
        ]);
        assert!(error.as_ref().is_err_and(|error| error.contains(part)), "{part}: {error:?}");
    };
    let bounded = "max_score: 50";
    groups("", bounded, "score_aggregation: sum", "max_score");
    groups("score_aggregation: pass-fail", bounded, "max_score: 5\nscore_aggregation: min", "score_aggregation");
    groups("", "max_score: 5\nscore_aggregation: sum", "max_score: 5\nrequire_pass: secret/a", "require_pass");
    group(&new(""), "test_group.yaml", "max_score: 5", "max_score");
    group(&new(""), "testdata.yaml", "on_reject: break", "test_group.yaml");
    group(&new(""), "1.yaml", "arg: [x]", "arg");
    group("name: x", "test_group.yaml", "args: [x]", "testdata.yaml");
    group("name: x", "testdata.yaml", "grading: custom", "grading");
    group("name: x", "testdata.yaml", "grader_flags: median", "median");
    group("name: x", "testdata.yaml", "on_reject: stop", "on_reject");
    let error = read(&[("domjudge-problem.ini", "special_compare = other\n")]).unwrap_err();
    assert!(error.contains("special_compare"), "{error}");
    let error = read(&[("problem.yaml", &new("")), ("output_validators/v.py", "")]).unwrap_err();
    assert!(error.contains("output_validator"), "{error}");
}

#[test]
fn static_tests_have_points_of_their_own_and_are_not_inherited() {
    let of = |yaml: &str, settings: &str, version: &str| {
        read(&[
            ("problem.yaml", &format!("problem_format_version: {version}\n{yaml}")),
            ("static_validator/v.py", ""),
            ("data/secret/2.in", ""),
            ("data/secret/2.ans", ""),
            ("data/secret/test_group.yaml", settings),
        ])
    };
    let points = |settings: &str| {
        let tests = of("type: scoring", settings, "2025-09").map(|problem| problem.tests);
        tests.map(|tests| tests.iter().map(|test| test.accept_points).collect::<Vec<_>>())
    };
    let sum = "max_score: 50\nstatic_validation_score: 20";
    assert_eq!(points(sum), Ok(vec![20.0, 15.0, 15.0]));
    assert_eq!(points(&format!("{sum}\nscore_aggregation: min")), Ok(vec![20.0, 50.0, 50.0]));
    assert_eq!(points("static_validation_score: pass-fail\nscore_aggregation: pass-fail").unwrap().len(), 3);
    for bad in ["score_aggregation: pass-fail\nstatic_validation_score: 5", "static_validation_score: pass-fail"] {
        assert!(points(bad).is_err_and(|error| error.contains("score_aggregation")), "{bad}");
    }
    assert!(points("static_validation_score: 200").is_err_and(|error| error.contains("max_score")));
    let pass_fail = |text: &str| of("", text, "2025-09").map(|problem| problem.tests[0].clone());
    let test = pass_fail("static_validation_score: pass-fail\nstatic_validator_args: [a, b]").unwrap();
    assert_eq!((test.name.as_str(), test.data, test.flags.len()), ("secret/static validation", None, 2));
    assert!(pass_fail("static_validation_score: 5").is_err());
    let draft = of("type: scoring", "max_score: 50\nstatic_validation: {score: 20, args: x y}", "2023-07").unwrap();
    assert_eq!((draft.tests[0].accept_points, draft.tests[0].flags.len()), (20.0, 2));
    let answers = of("type: submit-answer", "", "2025-09").unwrap_err();
    assert!(answers.contains("submit-answer"), "{answers}");
    let below = read(&[
        ("problem.yaml", &new("")),
        ("static_validator/v.py", ""),
        ("data/secret/test_group.yaml", "static_validation_score: pass-fail"),
        ("data/secret/g/test_group.yaml", "args: [x]"),
        ("data/secret/g/2.in", ""),
        ("data/secret/g/2.ans", ""),
    ]);
    assert_eq!(below.unwrap().tests.iter().filter(|test| test.data.is_none()).count(), 1);
}

#[test]
fn flags_and_arguments_are_inherited_and_the_problems_flags_stay() {
    let problem = read(&[
        ("problem.yaml", "validator_flags: case_sensitive"),
        ("data/secret/testdata.yaml", "output_validator_flags: float_tolerance 1e-3"),
    ]);
    assert_eq!(problem.unwrap().tests[0].flags, ["case_sensitive", "float_tolerance", "1e-3"]);
    let problem = read(&[
        ("problem.yaml", &new("constants: {n: 7}")),
        ("data/secret/test_group.yaml", "args: [a, '{{n}}']\noutput_validator_args: [x]"),
        ("data/secret/below/2.in", ""),
        ("data/secret/below/2.ans", ""),
        ("data/secret/below/2.yaml", "output_validator_args: [y]\nhint: h"),
        ("data/secret/below/2.files/sub/f.txt", "text"),
    ]);
    let problem = problem.unwrap();
    let of = |name: &str| problem.tests.iter().find(|test| test.name == name).unwrap();
    assert_eq!(
        (of("secret/1").args.clone(), of("secret/1").flags.clone()),
        (vec!["a".into(), "7".into()], vec!["x".into()])
    );
    let below = of("secret/below/2");
    assert_eq!((below.flags.as_slice(), below.args.len(), below.group.as_str()), (&["y".to_owned()][..], 2, "secret"));
    assert_eq!(below.data.as_ref().unwrap().files[0].0, "sub/f.txt");
}

#[test]
fn tests_are_in_the_order_of_their_names_without_the_ending() {
    let problem = read(&[("problem.yaml", ""), ("data/secret/1-b.in", ""), ("data/secret/1-b.ans", "")]).unwrap();
    let names: Vec<&str> = problem.tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!(names, ["secret/1", "secret/1-b"]);
}

#[test]
fn a_validator_may_be_a_script_alone_and_have_the_new_name_in_an_old_package() {
    let problem = read(&[("problem.yaml", &new("")), ("output_validator/run", "")]).unwrap();
    assert_eq!(problem.validator.unwrap().entry, "run");
    let problem = read(&[("problem.yaml", "validation: custom"), ("output_validator/v.py", "")]).unwrap();
    assert_eq!(problem.validator.unwrap().entry, "v.py");
    let twice = ["float_tolerance", "1", "float_absolute_tolerance", "2"].map(str::to_owned);
    assert!(read(&[("problem.yaml", &new(""))]).unwrap().default_checker(&twice).is_err());
    assert!(read(&[("problem.yaml", "")]).unwrap().default_checker(&twice).is_ok());
}

#[test]
fn points_of_2025_come_from_max_score() {
    let problem = read(&[("problem.yaml", &new("type: scoring")), ("data/secret/2.in", ""), ("data/secret/2.ans", "")]);
    assert_eq!(problem.unwrap().tests[0].accept_points, 50.0);
}

#[test]
fn limits_have_the_formats_defaults() {
    let limits = read(&[("problem.yaml", "limits: {validation_time: 12.5}")]).unwrap().limits;
    assert_eq!((limits.memory_mib, limits.output_mib, limits.validation_time), (2048.0, 8.0, 12.5));
    let limits = read(&[("problem.yaml", "\u{feff}limits:\n  time_limit: 1.5\n")]).unwrap().limits;
    assert_eq!(limits.time, Some(1.5));
    let problem = read(&[("domjudge-problem.ini", "\u{feff}timelimit='3'\nname = \"N\"\n")]).unwrap();
    assert_eq!((problem.limits.time, problem.name.as_str()), (Some(3.0), "N"));
}
