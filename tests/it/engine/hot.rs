//! Prewarmed runtimes: they are used, they behave like runtimes started for the program, and their
//! cost is not charged to it.
//!
//! Each program of tests/hot runs twice, in a prewarmed runtime and in one that is started for it:
//! the output must be equal to the byte.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{BusyCores, Caller, Daemon, Options, eventually, patient, root, submission, with};

/// A folder with one of the shipped profiles, changed by `change`.
fn profile(name: &str, change: impl FnOnce(String) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join(format!("config/profiles/{name}.toml"))).unwrap();
    std::fs::write(folder.path().join(format!("{name}.toml")), change(text)).unwrap();
    folder
}

fn reused(text: String) -> String {
    text.replace("[pool]\n", "[pool]\nreuse = 1000000\n")
}

fn daemon(name: &str, profiles: &Path) -> Daemon {
    daemon_of(name, profiles, 1, 2)
}

fn daemon_of(name: &str, profiles: &Path, floor: u32, ceiling: u32) -> Daemon {
    Daemon::start(&Options { profiles: name, profiles_dir: Some(profiles), floor, ceiling, ..Options::default() })
}

/// The row of one profile's pool.
fn pool_of(caller: &mut Caller, profile: &str) -> Value {
    let pools = caller.ok("pool.list", json!({}));
    pools["pools"].as_array().unwrap().iter().find(|pool| pool["profile"] == profile).unwrap().clone()
}

fn pool(caller: &mut Caller) -> Value {
    caller.ok("pool.list", json!({}))["pools"][0].clone()
}

fn python(profile: &str, code: &str) -> Value {
    json!({ "language": profile, "files": [{ "path": "main.py", "content": code }] })
}

/// Waits until a prewarmed runtime is ready.
fn wait_for_prewarm(caller: &mut Caller) {
    eventually("a runtime is prewarmed", || {
        let pool = pool(caller);
        assert!(pool["hot_failed"].is_null(), "{pool}");
        pool["hot"].as_u64() >= Some(1)
    });
}

/// Repeats the submission until it starts hot: the sandbox is reused and must prewarm its next
/// runtime in time.
fn hot(caller: &mut Caller, work: &Value) -> Value {
    let mut pause = Duration::from_millis(20);
    for _ in 0..40 {
        let report = caller.ok("submission.run", work.clone());
        if report["start"] == "hot" {
            return report;
        }
        // a run that comes too early ends the preparation
        std::thread::sleep(pause);
        pause = pause.mul_f64(1.3).min(Duration::from_secs(5));
    }
    let last = caller.ok("submission.run", work.clone());
    panic!("never hot: {} {work} {last}", pool(caller))
}

/// One program of a corpus.
struct Program {
    name: String,
    args: Value,
    stdin: Value,
    code: String,
}

fn corpus(language: &str) -> Vec<Program> {
    let text = std::fs::read_to_string(root().join(format!("tests/hot/{language}.txt"))).unwrap();
    let mut programs: Vec<Program> = Vec::new();
    for part in format!("\n{text}").split("\n=== ").skip(1) {
        let (head, code) = part.split_once("\n---\n").unwrap_or_else(|| panic!("{part}"));
        let mut lines = head.lines();
        let name = lines.next().unwrap().to_owned();
        let (mut args, mut stdin) = (json!([]), Value::Null);
        for line in lines {
            let (key, value) = line.split_once(':').unwrap();
            let value: Value = serde_json::from_str(value).unwrap_or_else(|error| panic!("{name}: {error}"));
            match key {
                "args" => args = value,
                "stdin" => stdin = value,
                other => panic!("{name}: {other}"),
            }
        }
        assert!(programs.iter().all(|program| program.name != name), "{name} is listed twice");
        programs.push(Program { name, args, stdin, code: format!("{code}\n") });
    }
    programs
}

/// Masks what differs between sandboxes (uids) and drops the lines that are known to differ
/// (docs/SPEED.md).
fn masked(text: &Value) -> Value {
    let Some(text) = text.as_str() else { return text.clone() };
    let kept = text.split_inclusive('\n').filter(|line| !line.contains("RLIMIT_CPU") && !line.contains("Max cpu time"));
    let mut masked = String::new();
    let mut digits = String::new();
    for c in kept.flat_map(str::chars).chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        masked += if digits.len() == 5 && digits.starts_with('4') { "UID" } else { &digits };
        digits.clear();
        masked.push(c);
    }
    json!(masked)
}

/// The parts of a report that must not depend on prewarming.
fn comparable(report: &Value) -> Value {
    let run = &report["run"];
    json!({
        "verdict": report["verdict"], "outcome": run["outcome"], "exit_code": run["exit_code"], "signal": run["signal"],
        "stdout": masked(&run["stdout"]), "stderr": masked(&run["stderr"]), "stdout_b64": run["stdout_b64"], "compile": report["compile"]["outcome"],
    })
}

/// The first lines that differ.
fn difference(cold: &Value, hot: &Value) -> String {
    let mut all = String::new();
    for (key, cold) in cold.as_object().unwrap() {
        let hot = &hot[key];
        if let (Some(cold), Some(hot)) = (cold.as_str(), hot.as_str()) {
            let at = cold.bytes().zip(hot.bytes()).take_while(|(c, h)| c == h).count();
            if cold != hot {
                let from = at.saturating_sub(40);
                let show =
                    |text: &str| String::from_utf8_lossy(&text.as_bytes()[from..text.len().min(at + 160)]).into_owned();
                let (c, h) = (cold.len(), hot.len());
                all += &format!(
                    "  {key} from byte {at} on\n    cold {c:7} {:?}\n    hot  {h:7} {:?}\n",
                    show(cold),
                    show(hot)
                );
            }
        } else if cold != hot {
            all += &format!("  {key}\n    cold {cold}\n    hot  {hot}\n");
        }
    }
    all
}

/// Runs every program of a corpus hot and cold.
fn compare(language: &str, file: &str, least: usize, change: impl FnOnce(String) -> String) {
    compare_some(language, language, file, least, 1, change);
}

/// Runs every `step`th program of a corpus hot and cold, and the last ones.
fn compare_some(
    language: &str,
    of: &str,
    file: &str,
    least: usize,
    step: usize,
    change: impl FnOnce(String) -> String,
) {
    let folder = profile(language, |text| change(reused(text)));
    let daemon = daemon(language, folder.path());
    daemon.caller().ok("image.build", json!({ "profile": language }));
    let mut caller = daemon.caller_as(4100);
    let programs = corpus(of);
    let takes_arguments = language != "java";
    assert!(programs.len() >= least, "{} programs", programs.len());
    let mut wrong = String::new();
    let last = programs.len() - 5;
    let chosen = programs.iter().enumerate().filter(|(at, _)| at % step == 0 || *at >= last);
    for (_, Program { name, args, stdin, code }) in chosen {
        let work = json!({
            "language": language, "tenant": "t", "files": [{ "path": file, "content": code }], "args": args, "stdin": stdin,
            "limits": { "output_bytes": 4 << 20 },
        });
        let work = patient(work);
        // some runtimes cannot take arguments once they are started
        let may_be_hot = takes_arguments || args.as_array().is_none_or(Vec::is_empty);
        let hot = if may_be_hot { hot(&mut caller, &work) } else { caller.ok("submission.run", work.clone()) };
        let cold = caller.ok("submission.run", with(work, "prewarm", json!(false)));
        assert_ne!(cold["start"], "hot");
        let (cold, hot) = (comparable(&cold), comparable(&hot));
        if cold != hot {
            wrong += &format!("{name}\n{}", difference(&cold, &hot));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn a_prewarmed_python_behaves_like_a_fresh_one() {
    compare("python", "main.py", 300, |text| text);
}

/// `python-3.11` shares its file with python, and stays on Debian 12.
#[test]
fn a_prewarmed_python_runs_a_script_of_another_name_like_a_fresh_one() {
    compare_some("python", "python", "größe 1.py", 300, 15, |text| text);
}

#[test]
fn a_prewarmed_python_of_debian_12_behaves_like_a_fresh_one() {
    compare_some("python-3.11", "python", "main.py", 300, 12, |text| text);
}

#[test]
fn a_prewarmed_node_behaves_like_a_fresh_one() {
    compare("javascript", "main.js", 60, |text| text);
}

#[test]
fn a_prewarmed_java_behaves_like_a_fresh_one() {
    // prewarming the compiler too would take two seconds each time
    let machine_only = |text: String| {
        let parts: Vec<&str> = text.split("[[prewarm]]").collect();
        let [head, _compiler, machine] = parts[..] else { panic!("{text}") };
        format!("{head}[[prewarm]]{machine}")
    };
    compare("java", "Main.java", 40, machine_only);
}

#[test]
fn a_command_other_than_the_profiles_starts_its_own_interpreter() {
    let folder = profile("python", reused);
    let daemon = daemon("python", folder.path());
    let mut caller = daemon.caller_as(4101);
    let work = with(submission("python", "import sys, os; print(sys.argv, os.environ.get('A'))"), "tenant", json!("t"));
    let report = hot(&mut caller, &with(work.clone(), "args", json!(["a b", "", "ü"])));
    assert_eq!(report["run"]["stdout"], "['main.py', 'a b', '', 'ü'] None\n");
    let others = [
        ("env", json!({ "A": "1" }), "['main.py'] 1\n"),
        ("prewarm", json!(false), "['main.py'] None\n"),
        ("command", json!(["python3", "-B", "main.py"]), "['main.py'] None\n"),
    ];
    for (field, value, wanted) in others {
        hot(&mut caller, &work);
        std::thread::sleep(Duration::from_millis(300));
        let report = caller.ok("submission.run", with(work.clone(), field, value));
        assert_ne!(report["start"], "hot", "{field}");
        assert_eq!(report["run"]["stdout"], wanted);
    }
    // with several tests, the first one runs hot
    let tests = json!([{ "expect": "['main.py'] None\n" }, { "expect": "['main.py'] None\n" }]);
    assert_eq!(hot(&mut caller, &with(work, "tests", tests))["verdict"], "accepted");
}

#[test]
fn a_hot_program_is_charged_for_itself_only_and_its_limits_are_exact() {
    let folder = profile("python-numpy", reused);
    // one sandbox: the template of another would still be loading during the cold runs
    let daemon = daemon_of("python-numpy", folder.path(), 0, 1);
    let mut caller = daemon.caller_as(4102);
    let numpy = with(python("python-numpy", "import numpy; print(numpy.arange(3).sum())"), "tenant", json!("t"));
    hot(&mut caller, &numpy);
    let hot_one = hot(&mut caller, &numpy);
    let cold = caller.ok("submission.run", with(numpy.clone(), "prewarm", json!(false)));
    let of = |report: &Value, field: &str| report["run"][field].as_f64().unwrap();
    assert_eq!((&hot_one["run"]["stdout"], &cold["run"]["stdout"]), (&json!("3\n"), &json!("3\n")));
    assert!(of(&hot_one, "cpu_ms") < of(&cold, "cpu_ms") / 2.0, "{hot_one:#} {cold:#}");
    // Where an earlier run used more, mapped files may count for a short cold one, so the least of
    // three is compared.
    let reported_cold = (0..2).fold(of(&cold, "memory_bytes"), |least, _| {
        let cold = caller.ok("submission.run", with(numpy.clone(), "prewarm", json!(false)));
        least.min(of(&cold, "memory_bytes"))
    });
    let reported_hot = (0..3).fold(f64::MAX, |least, _| least.min(of(&hot(&mut caller, &numpy), "memory_bytes")));
    let (one_mib, one_percent): (f64, f64) = (1024.0 * 1024.0, reported_cold / 100.0);
    // the kernel charges in batches of 64 pages, so either figure may be that much too high
    let batch = 64.0 * 4096.0;
    assert!((reported_hot - reported_cold).abs() <= one_mib.max(one_percent) + batch, "{reported_hot} {reported_cold}");
    let spin = with(python("python-numpy", "while True: pass"), "tenant", json!("t"));
    let report = hot(&mut caller, &with(spin, "limits", json!({ "cpu_ms": 300 })));
    assert_eq!(report["verdict"], "time_limit");
    assert!((300.0..450.0).contains(&of(&report, "cpu_ms")), "{report:#}");
    let big = with(python("python-numpy", "x = bytearray(500 << 20)"), "tenant", json!("t"));
    assert!(["memory_limit", "runtime_error"].contains(&hot(&mut caller, &big)["verdict"].as_str().unwrap()));
}

#[test]
fn a_forked_runtime_owns_its_memory_before_its_program_starts() {
    let folder = profile("python", |text| text);
    let daemon = daemon("python", folder.path());
    let mut caller = daemon.caller();
    wait_for_prewarm(&mut caller);
    // the runtime of the first test shares nothing, those of later tests are forks
    let code =
        "for row in open('/proc/self/smaps_rollup'):\n  if row.startswith('Private_Dirty'): print(row.split()[1])";
    let tests = json!([{}, {}, {}]);
    let report = caller.ok("submission.run", with(python("python", code), "tests", tests));
    assert_eq!(report["start"], "hot", "{report:#}");
    let of = |test: &Value| test["stdout"].as_str().unwrap().trim().parse::<f64>().unwrap();
    let [alone, forks @ ..] = &report["tests"].as_array().unwrap()[..] else { panic!("{report:#}") };
    for fork in forks {
        // about 0.5 if it owned nothing
        let share = of(fork) / of(alone);
        assert!((0.9..1.2).contains(&share), "{share}: {report:#}");
    }
}

/// A fork that was made ahead has copied its memory before its run; one that is made when its run
/// begins copies it then.
#[test]
fn all_tests_of_a_submission_report_the_same_memory_however_their_forks_were_made() {
    let folder = profile("python", reused);
    let daemon = daemon_of("python", folder.path(), 0, 1);
    let mut caller = daemon.caller_as(4105);
    let code = "held = bytearray(20 << 20)\nheld[::4096] = bytes(len(held[::4096]))";
    let work = with(python("python", code), "tenant", json!("t"));
    hot(&mut caller, &work);
    let figures = |report: &Value| -> Vec<f64> {
        report["tests"].as_array().unwrap().iter().map(|test| test["memory_bytes"].as_f64().unwrap()).collect()
    };
    let cold = with(with(work.clone(), "prewarm", json!(false)), "tests", json!(vec![json!({}); 3]));
    let cold = figures(&caller.ok("submission.run", cold)).into_iter().fold(f64::MAX, f64::min);
    let tests = with(work, "tests", json!(vec![json!({}); 20]));
    let hot = figures(&hot(&mut caller, &tests));
    // 1 MiB, and a batch of the kernel's charges
    let bound = 1024.0 * 1024.0 + 64.0 * 4096.0;
    assert!(hot.iter().all(|reported| (reported - cold).abs() <= bound), "{cold} cold, {hot:?} hot");
}

/// A fork that is still being made when its submission comes shares memory with its template, which
/// must not count twice, nor not at all.
#[test]
fn memory_does_not_depend_on_how_soon_a_submission_follows_the_last_one() {
    let folder = profile("python", reused);
    let daemon = daemon_of("python", folder.path(), 0, 1);
    let mut caller = daemon.caller_as(4106);
    let work = with(python("python", "print(1)"), "tenant", json!("t"));
    hot(&mut caller, &work);
    let busy = BusyCores::start();
    let memory = |report: Value| report["run"]["memory_bytes"].as_f64().unwrap();
    let told: Vec<f64> = (0..150).map(|_| memory(caller.ok("submission.run", patient(work.clone())))).collect();
    drop(busy);
    let (least, most) = told.iter().fold((f64::MAX, 0.0_f64), |(least, most), one| (least.min(*one), most.max(*one)));
    assert!(most - least <= 1024.0 * 1024.0 + 64.0 * 4096.0, "{least} to {most}: {told:?}");
}

/// A template that is loading is stopped while a run goes on that it does not serve.
#[test]
fn memory_of_the_first_run_in_a_sandbox_does_not_depend_on_its_template() {
    let daemon = Daemon::start(&Options { profiles: "python", floor: 1, ceiling: 2, ..Options::default() });
    let mut caller = daemon.caller();
    let code = "held = bytearray(20 << 20)\nheld[::4096] = bytes(len(held[::4096]))";
    let work = with(patient(python("python", code)), "fresh", json!(true));
    let busy = BusyCores::start();
    let memory = |report: Value| report["run"]["memory_bytes"].as_f64().unwrap();
    let told: Vec<f64> = (0..20).map(|_| memory(caller.ok("submission.run", work.clone()))).collect();
    drop(busy);
    let (least, most) = told.iter().fold((f64::MAX, 0.0_f64), |(least, most), one| (least.min(*one), most.max(*one)));
    assert!(most - least <= 1024.0 * 1024.0 + 64.0 * 4096.0, "{least} to {most}: {told:?}");
}

/// A cell that is discarded while the template forks into it leaves a request without a reader.
#[test]
fn a_template_survives_runs_that_come_too_early() {
    let folder = profile("python", reused);
    let daemon = daemon_of("python", folder.path(), 0, 1);
    let mut caller = daemon.caller_as(4104);
    let work = with(python("python", "print('text')"), "tenant", json!("t"));
    let first = hot(&mut caller, &work);
    for _ in 0..40 {
        // the runtime that waits is not used, and another is made
        let cold = caller.ok("submission.run", with(work.clone(), "prewarm", json!(false)));
        assert_eq!(cold["verdict"], "accepted", "{cold:#}");
    }
    let last = hot(&mut caller, &work);
    assert_eq!(first["sandbox"]["id"], last["sandbox"]["id"], "{first:#} {last:#}");
}

/// The process that forks into a cell dies with it, perhaps in the middle of the C library's fork,
/// whose lock it has in the template's memory. Starting a child takes that lock.
#[test]
fn programs_start_children_after_a_cell_was_discarded_while_it_was_forked_into() {
    let folder = profile("python", reused);
    let daemon = daemon_of("python", folder.path(), 0, 1);
    let mut caller = daemon.caller_as(4107);
    let work = with(python("python", "print(1)"), "tenant", json!("t"));
    let child = "import subprocess\nprint(subprocess.run(['true']).returncode)";
    let child = with(python("python", child), "tenant", json!("t"));
    for round in 0..8 {
        for step in 0..8 {
            let cold = caller.ok("submission.run", with(work.clone(), "prewarm", json!(false)));
            assert_eq!(cold["verdict"], "accepted", "{cold:#}");
            // not a condition: anywhere in the fork, which takes some milliseconds
            std::thread::sleep(std::time::Duration::from_micros(50 * (8 * step + round)));
        }
        let report = hot(&mut caller, &child);
        assert_eq!(report["verdict"], "accepted", "{round}: {report:#}");
    }
}

#[test]
fn a_submitted_file_hides_a_loaded_module_of_the_same_name() {
    let folder = profile("python-numpy", reused);
    let daemon = daemon("python-numpy", folder.path());
    let mut caller = daemon.caller_as(4103);
    let mut work = with(python("python-numpy", "import random; print(random.mine)"), "tenant", json!("t"));
    work["files"].as_array_mut().unwrap().push(json!({ "path": "random.py", "content": "mine = 'mine'" }));
    let report = hot(&mut caller, &work);
    assert_eq!(report["run"]["stdout"], "mine\n", "{report:#}");
}

#[test]
fn a_runtime_that_fails_to_prewarm_is_reported_and_runs_start_warm() {
    let load = |text: String| text.replace("[[prewarm]]\n", "[[prewarm]]\nload = ['nowhere']\n");
    let folder = profile("python", load);
    let one = daemon("python", folder.path());
    let mut caller = one.caller();
    eventually("the failure is reported", || {
        let failed = pool(&mut caller)["hot_failed"].clone();
        failed.as_str().is_some_and(|why| why == "load nowhere: ModuleNotFoundError: No module named 'nowhere'")
    });
    let report = caller.run("python", "print(1)");
    assert_eq!((&report["start"], &report["run"]["stdout"]), (&json!("warm"), &json!("1\n")));

    // a template that exits at once
    let none = |text: String| reused(text).replace("[[prewarm]]\n", "[[prewarm]]\nstart = ['/bin/true']\n");
    let folder = profile("python", none);
    let other = daemon("python", folder.path());
    let mut caller = other.caller();
    eventually("the failure is reported", || pool(&mut caller)["hot_failed"] == "it ended before it was ready");
    let report = caller.run("python", "print(1)");
    assert_eq!((&report["start"], &report["run"]["stdout"]), (&json!("warm"), &json!("1\n")));

    // a prewarmed runtime whose template exits: later tests start cold
    let half = "start = ['/bin/bash', '-c', '[ -S /proc/self/fd/1023 ] && exit 3; exec /usr/bin/python3 main.py']";
    let half = |text: String| reused(text).replace("[[prewarm]]\n", &format!("[[prewarm]]\n{half}\n"));
    let folder = profile("python", half);
    let other = daemon("python", folder.path());
    let mut caller = other.caller();
    wait_for_prewarm(&mut caller);
    let tests = json!([{ "stdin": "", "expect": "1\n" }, { "stdin": "", "expect": "1\n" }]);
    let report = caller.ok("submission.run", with(python("python", "print(1)"), "tests", tests));
    assert_eq!((&report["verdict"], &report["start"]), (&json!("accepted"), &json!("hot")), "{report:#}");

    // it reports ready, prints noise and exits
    let gone = |text: String| {
        let start = "start = ['/bin/bash', '-c', 'echo noise; echo noise >&2; printf ready >&1022; exit 3']";
        reused(text).replace("[[prewarm]]\nfork = true\n", &format!("[[prewarm]]\n{start}\n"))
    };
    let folder = profile("python", gone);
    let other = daemon("python", folder.path());
    let mut caller = other.caller();
    wait_for_prewarm(&mut caller);
    std::thread::sleep(Duration::from_millis(200));
    let report = caller.run("python", "print(1)");
    assert_eq!((&report["start"], &report["run"]["stdout"]), (&json!("warm"), &json!("1\n")), "{report:#}");
    assert_eq!(report["run"]["stderr"], "");
}

#[test]
fn a_suite_of_python_starts_hot_as_shipped() {
    let shipped = root().join("config/profiles");
    let daemon = daemon("python,python-pytest", &shipped);
    let mut caller = daemon.caller();
    eventually("the suites' runner is loaded", || {
        let pools = caller.ok("pool.list", json!({}));
        let pools = pools["pools"].as_array().unwrap();
        let pool = pools.iter().find(|pool| pool["profile"] == "python-pytest").unwrap();
        assert!(pool["hot_failed"].is_null(), "{pool}");
        pool["hot"].as_u64() >= Some(1)
    });
    let suite = json!({ "format": "pytest", "files": [{ "path": "test_main.py", "content": "from main import f\ndef test(): assert f(1) == 2\n" }] });
    let work = with(python("python", "def f(x): return x + 1"), "suite", suite);
    let report = caller.ok("submission.run", work);
    assert_eq!((&report["verdict"], &report["start"]), (&json!("accepted"), &json!("hot")), "{report:#}");
    assert_eq!(report["sandbox"]["profile"], "python-pytest", "{report:#}");
    // the profile as it is shipped has one ready without demand
    let text = std::fs::read_to_string(shipped.join("python-pytest.toml")).unwrap();
    assert!(text.contains("floor = 1"), "{text}");
}

#[test]
fn a_suite_runs_with_pytest_loaded_ahead() {
    let folder = profile("python-pytest", reused);
    let daemon = daemon("python-pytest", folder.path());
    let mut caller = daemon.caller_as(4104);
    let work = json!({
        "language": "python-pytest", "tenant": "t", "files": [{ "path": "sol.py", "content": "def f(x): return x + 1" }],
        "suite": { "format": "pytest", "files": [{ "path": "test_f.py", "content":
            "from sol import f\ndef test_good(): assert f(1) == 2\ndef test_bad(): assert f(1) == 3\n" }] },
    });
    let work = patient(work);
    let hot = hot(&mut caller, &work);
    let cold = caller.ok("submission.run", with(work, "prewarm", json!(false)));
    let cases = |report: &Value| {
        let cases = report["suite"]["cases"].as_array().unwrap_or_else(|| panic!("{report:#}")).clone();
        cases.into_iter().map(|case| json!([case["name"], case["verdict"], case["message"]])).collect::<Vec<_>>()
    };
    assert_eq!(cases(&hot), cases(&cold));
    assert_eq!(cases(&hot).len(), 2);
}

#[test]
fn programs_that_import_a_module_find_it_loaded_once_some_were_seen() {
    let daemon = Daemon::start(&Options { profiles: "python,python-numpy", floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let numpy = patient(python("python", "import numpy as np\nprint(np.arange(3).sum())"));
    let run = |caller: &mut Caller, work: &Value| {
        let report = caller.ok("submission.run", work.clone());
        assert_eq!(report["verdict"], "accepted", "{report:#}");
        report
    };
    // nothing waits yet: it runs as any other program
    assert_eq!(run(&mut caller, &numpy)["sandbox"]["profile"], "python");
    eventually("a runtime with numpy waits", || {
        let pool = pool_of(&mut caller, "python-numpy");
        assert!(pool["hot_failed"].is_null(), "{pool}");
        pool["hot"] == 1
    });
    let report = run(&mut caller, &numpy);
    assert_eq!(
        (&report["start"], &report["sandbox"]["profile"]),
        (&json!("hot"), &json!("python-numpy")),
        "{report:#}"
    );
    assert_eq!(report["run"]["stdout"], "3\n");
    // others stay where they were
    for work in [python("python", "print('import numpy')"), with(numpy, "prewarm", json!(false))] {
        assert_eq!(run(&mut caller, &work)["sandbox"]["profile"], "python");
    }
}

/// Nothing waits for it in its cell, since its process could come from the template: it must not
/// wait for that. The bound is below what it waited for.
#[test]
fn a_command_that_no_runtime_serves_starts_at_once_beside_a_template() {
    let profiles = profile("python", |text| text);
    let daemon = daemon("python", profiles.path());
    let mut caller = daemon.caller();
    let mut work = python("python", "");
    (work["command"], work["fresh"]) = (json!(["true"]), json!(true));
    let setups: Vec<f64> = (0..4)
        .map(|_| {
            wait_for_prewarm(&mut caller);
            caller.ok("submission.run", work.clone())["timing"]["setup_ms"].as_f64().unwrap()
        })
        .collect();
    assert!(setups.iter().any(|setup| *setup < 400.0), "{setups:?} ms");
}
