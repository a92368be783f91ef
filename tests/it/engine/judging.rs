//! Verdicts, limits and isolation of tests on a real engine.

use serde_json::json;

use crate::harness::{Daemon, Options, eventually, patient, submission, with};

#[test]
fn correct_and_wrong_programs_get_their_verdicts_in_every_language() {
    let daemon = Daemon::start(&Options { profiles: "", floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let adders = [
        ("python", "print(sum(map(int, input().split())))"),
        ("c", "#include <stdio.h>\nint main(){int a,b;scanf(\"%d %d\",&a,&b);printf(\"%d\\n\",a+b);return 0;}"),
        ("cpp", "#include <iostream>\nint main(){int a,b;std::cin>>a>>b;std::cout<<a+b<<\"\\n\";}"),
        ("javascript", "const [a,b]=require('fs').readFileSync(0,'utf8').split(' ').map(Number);console.log(a+b)"),
        ("bash", "read a b; echo $((a+b))"),
    ];
    for (language, code) in adders {
        let tests = json!([
            { "stdin": "1 2\n", "expect": "3\n", "checker": { "kind": "exact" } },
            { "stdin": "20 22\n", "expect": "42" },
            { "name": "trap", "stdin": "1 1\n", "expect": "3", "checker": { "kind": "lines" } },
        ]);
        let report = caller.ok("submission.run", with(submission(language, code), "tests", tests));
        let verdicts: Vec<_> =
            report["tests"].as_array().unwrap().iter().map(|t| t["verdict"].as_str().unwrap().to_owned()).collect();
        assert_eq!(verdicts, ["accepted", "accepted", "wrong_answer"], "{language}: {report}");
        assert_eq!(report["verdict"], "wrong_answer");
        assert_eq!(report["score"]["passed"], 2);
        let message = report["tests"][2]["message"].as_str().unwrap();
        assert!(message.contains("expected \"3\", got \"2\""), "{message}");
        assert_eq!(report["compile"].is_object(), matches!(language, "c" | "cpp"), "{language}");
    }
}

#[test]
fn an_exceeded_limit_is_an_outcome_with_evidence() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let mut run = |code: &str, limits: serde_json::Value| {
        let report = caller.ok("submission.run", with(submission("python", code), "limits", limits));
        let result = (
            report["verdict"].as_str().unwrap().to_owned(),
            report["run"]["outcome"].as_str().unwrap().to_owned(),
            report["run"]["evidence"]["limit"].as_str().unwrap_or("none").to_owned(),
        );
        (result, report)
    };
    let expect = |verdict: &str, outcome: &str, limit: &str| (verdict.to_owned(), outcome.to_owned(), limit.to_owned());

    let (result, report) = run("while True: pass", json!({ "cpu_ms": 300 }));
    assert_eq!(result, expect("time_limit", "cpu_limit", "cpu_ms"), "{report}");
    assert!(report["run"]["cpu_ms"].as_f64().unwrap() >= 300.0);

    let (result, report) = run("import time; time.sleep(60)", json!({ "wall_ms": 400 }));
    assert_eq!(result, expect("time_limit", "wall_limit", "wall_ms"), "{report}");
    assert_eq!(report["message"], "Code execution exceeded time limit (400ms): wall time");

    // allocating takes time on a busy machine
    let (result, report) = run("x = bytearray(10**9)\nprint(len(x))", json!({ "cpu_ms": 15_000, "wall_ms": 40_000 }));
    assert_eq!(result, expect("memory_limit", "memory_limit", "memory_bytes"), "{report}");
    assert!(report["run"]["memory_bytes"].as_u64().unwrap() > 256 << 20, "{report}");

    let (result, report) = run("while True: print('x' * 1000)", json!({ "output_bytes": 5000 }));
    assert_eq!(result, expect("output_limit", "output_limit", "output_bytes"), "{report}");
    assert_eq!(report["run"]["stdout"].as_str().unwrap().len(), 5000);
    assert_eq!(report["run"]["stdout_truncated"], true);

    let code = "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nopen('f','wb').write(b'x'*2000000)";
    let (result, report) = run(code, json!({ "file_bytes": 1_000_000 }));
    assert_eq!(result, expect("output_limit", "output_limit", "file_bytes"), "{report}");

    let code = "import os\ntry:\n  while True:\n    if os.fork() == 0:\n      import time; time.sleep(60)\nexcept OSError:\n  print('denied')";
    let (result, report) = run(code, json!({ "pids": 10 }));
    assert_eq!(result, expect("accepted", "exited", "none"), "{report}");
    assert_eq!(report["run"]["stdout"], "denied\n");
    assert!(report["run"]["evidence"]["survivors"].as_u64().unwrap() >= 5, "{report}");

    let (result, report) = run(
        "import resource\nprint(resource.getrlimit(resource.RLIMIT_CORE)[1], resource.getrlimit(resource.RLIMIT_NOFILE)[0])",
        json!({ "open_files": 32 }),
    );
    assert_eq!(result.0, "accepted");
    assert_eq!(report["run"]["stdout"], "0 32\n");
}

#[test]
fn output_beyond_its_limit_is_truncated_on_request() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let code = "print('x' * 100000)\nimport sys; sys.exit(3)";
    let request = with(
        with(submission("python", code), "limits", json!({ "output_bytes": 100 })),
        "truncate_output",
        json!(true),
    );
    let report = daemon.caller().ok("submission.run", request);
    assert_eq!((&report["verdict"], &report["run"]["exit_code"]), (&json!("runtime_error"), &json!(3)), "{report}");
    assert_eq!(report["run"]["stdout"].as_str().unwrap().len(), 100);
    assert_eq!(report["run"]["evidence"]["stdout_bytes"], 100_001);
}

#[test]
fn a_compile_error_includes_the_compilers_output() {
    let daemon = Daemon::start(&Options { profiles: "c", floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let tests = json!([{ "stdin": "", "expect": "" }]);
    let report = caller.ok("submission.run", with(submission("c", "int main(){ return oops; }"), "tests", tests));
    assert_eq!(report["verdict"], "compile_error");
    assert!(report["compile"]["stderr"].as_str().unwrap().contains("oops"));
    assert_eq!(report["tests"][0]["verdict"], "skipped");

    let crash = "int main(){ volatile int *p = 0; return *p; }";
    let report = caller.run("c", crash);
    assert_eq!((&report["verdict"], &report["run"]["signal"]), (&json!("runtime_error"), &json!(11)), "{report}");
}

#[test]
fn tests_share_neither_files_nor_processes_and_cannot_change_the_code() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let code = r#"
import os, subprocess, sys
seen = sorted(os.listdir('.')) + sorted(os.listdir('/tmp')) + sorted(os.listdir('/dev/shm'))
print(seen, len([p for p in os.listdir('/proc') if p.isdigit()]))
try:
    open('main.py', 'w'); print('changed the code')
except OSError:
    pass
try:
    os.unlink('main.py'); print('removed the code')
except OSError:
    pass
open('left', 'w').write('x'); os.makedirs('/tmp/deep/er'); os.chmod('/tmp/deep', 0); open('/dev/shm/x', 'w')
subprocess.Popen(['sleep', '1000'], start_new_session=True)
"#;
    let expect = "['main.py'] 2\n";
    let tests = json!([{ "expect": expect }, { "expect": expect }, { "expect": expect }]);
    let report = daemon.caller().ok("submission.run", with(submission("python", code), "tests", tests));
    assert_eq!(report["verdict"], "accepted", "{report:#}");
    assert_eq!(report["tests"][1]["evidence"]["survivors"], 1);
}

#[test]
fn a_program_has_no_privileges() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let code = r#"
import os
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
caps = [status[name].strip() for name in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb')]
print(os.getuid() >= 40000, os.geteuid() == os.getuid(), os.getgroups() in ([], [os.getgid()]), set(caps), status['NoNewPrivs'].strip())
for path in ('/proc/1/mem', '/proc/1/environ', '/proc/1/fd/0'):
    try:
        open(path, 'rb'); print('opened', path)
    except OSError:
        pass
for attack in (lambda: os.setuid(0), lambda: os.chroot('/tmp'), lambda: open('/etc/x', 'w'), lambda: open('/x', 'w')):
    try:
        attack(); print('succeeded')
    except OSError:
        pass
print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:3], len(os.listdir('/sys/class/net')))
"#;
    let report = daemon.caller().run("python", code);
    assert_eq!(report["run"]["stdout"], "True True True {'0000000000000000'} 1\n[0, 1, 2] 1\n", "{report:#}");
}

#[test]
fn loopback_works_inside_a_sandbox() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let code = "import socket\ns = socket.socket(); s.bind(('localhost', 6379)); s.listen(1)\n\
                c = socket.create_connection(('localhost', 6379)); c.sendall(b'hi'); a, _ = s.accept(); print(a.recv(2))";
    let report = daemon.caller().run("python", code);
    assert_eq!(report["run"]["stdout"], "b'hi'\n", "{report:#}");
}

#[test]
fn limits_that_differ_from_the_pools_are_applied_by_an_update() {
    let daemon = Daemon::start(&Options { floor: 1, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let code = "x = bytearray(100 * 2**20)\nprint(len(x))";
    let request = with(submission("python", code), "limits", json!({ "memory_bytes": 64 << 20 }));
    assert_eq!(caller.ok("submission.run", request)["verdict"], "memory_limit");
    let request = with(submission("python", code), "preset", json!("lesson"));
    let report = caller.ok("submission.run", request);
    assert_eq!(report["verdict"], "accepted", "{report:#}");
    assert!(report["timing"]["lease_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn pytest_can_be_run_as_a_command() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let request = json!({
        "language": "python",
        "files": [
            { "path": "main.py", "content": "def add(a, b):\n    return a - b\n" },
            { "path": "test_main.py", "content": "from main import add\n\ndef test_add():\n    assert add(1, 2) == 3, 'hint: plus'\n" },
        ],
        "command": ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_main.py"],
    });
    let report = daemon.caller().ok("submission.run", patient(request));
    assert_eq!((&report["verdict"], &report["run"]["exit_code"]), (&json!("runtime_error"), &json!(1)), "{report:#}");
    assert!(report["run"]["stdout"].as_str().unwrap().contains("hint: plus"));
}

#[test]
fn an_artifact_is_cached_for_its_caller_only() {
    let mut daemon = Daemon::start(&Options { profiles: "c", floor: 1, ..Options::default() });
    let code = "#include <stdio.h>\nint main(int argc, char **argv) { (void)argv; int n; scanf(\"%d\", &n); printf(\"%d\\n\", n * argc); int unused; }";
    let work = |tenant: &str| {
        let tests = json!([{ "stdin": "2", "expect": "2" }, { "stdin": "3", "args": ["x"], "expect": "6" }]);
        with(with(submission("c", code), "tests", tests), "tenant", json!(tenant))
    };
    let judge = |caller: &mut crate::harness::Caller, work: serde_json::Value| {
        let report = caller.ok("submission.run", work);
        assert_eq!(report["verdict"], "accepted", "{report:#}");
        report["compile"]["cached"].as_bool().unwrap()
    };
    let mut caller = daemon.caller_as(4100);
    assert!(!judge(&mut caller, work("a")));
    crate::harness::eventually("the artifact is cached", || judge(&mut caller, work("a")));
    assert!(!judge(&mut caller, work("b")));
    assert!(!judge(&mut daemon.caller_as(4101), work("a")));
    assert!(!judge(&mut caller, with(work("a"), "env", json!({ "A": "B" }))));
    // the next daemon uses the cache too, but no damaged entry
    daemon.terminate();
    daemon.start_again();
    let mut caller = daemon.caller_as(4100);
    assert!(judge(&mut caller, work("a")));
    for entry in std::fs::read_dir(daemon.folder.path().join("state/cache")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(!judge(&mut caller, work("a")));
    // a failed compile is not cached
    for _ in 0..2 {
        let report = caller.ok("submission.run", submission("c", "int main(void) { return x; }"));
        assert_eq!((&report["verdict"], &report["compile"]["cached"]), (&json!("compile_error"), &json!(false)));
    }
}

#[test]
fn queued_tests_have_their_own_input_limits_and_verdict() {
    let daemon = Daemon::start(&Options { floor: 1, ..Options::default() });
    let mut caller = daemon.caller();
    // it echoes its input, apart from a few special ones
    let code = r#"
import sys, time
text = sys.stdin.read()
if text == 'die': sys.exit(3)
if text == 'spin':
    while True: pass
if text == 'leave': open('/tmp/left', 'w').write('x')
print(len(text), text[:9], __import__('os').path.exists('/tmp/left') and text != 'leave')
"#;
    let echo = |n: usize| {
        // some are larger than the flow-control window
        let text = if n % 5 == 4 { format!("{n} {}", "x".repeat(400_000)) } else { n.to_string() };
        json!({ "stdin": text, "expect": format!("{} {} False\n", text.len(), &text[..text.len().min(9)]) })
    };
    let special = |word: &str, cpu_ms: u32| json!({ "stdin": word, "expect": "", "limits": { "cpu_ms": cpu_ms } });
    let mut tests: Vec<_> = (0..12).map(echo).collect();
    tests.insert(3, special("die", 1900));
    tests.insert(6, special("spin", 200));
    tests.insert(
        9,
        json!({ "stdin": "leave", "expect": "5 leave False\n", "files": [{ "path": "given", "content": "x" }] }),
    );
    tests.insert(11, json!({ "stdin": "other", "expect": "no" }));
    let work = with(submission("python", code), "tests", json!(tests));
    let report = caller.ok("submission.run", work.clone());
    let verdicts: Vec<&str> =
        report["tests"].as_array().unwrap().iter().map(|t| t["verdict"].as_str().unwrap()).collect();
    let mut expected = vec!["accepted"; 16];
    (expected[3], expected[6], expected[11]) = ("runtime_error", "time_limit", "wrong_answer");
    assert_eq!(verdicts, expected, "{report:#}");

    // cancelled in the middle: earlier results remain, queued tests are killed
    let slow = json!([echo(1), echo(2), { "stdin": "spin", "expect": "" }, echo(3), echo(4)]);
    let work = with(with(work, "tests", slow), "limits", json!({ "cpu_ms": 60_000, "wall_ms": 60_000 }));
    let id = caller.ok("submission.submit", work)["id"].clone();
    eventually("the third test runs", || {
        let state = caller.ok("submission.get", json!({ "id": id }));
        state["state"] == "running"
    });
    std::thread::sleep(std::time::Duration::from_millis(700));
    caller.ok("submission.cancel", json!({ "id": id }));
    let report = caller.ok("submission.wait", json!({ "id": id }));
    assert_eq!(report["verdict"], "cancelled", "{report:#}");
    assert!((2..5).all(|test| report["tests"][test]["verdict"] == "cancelled"), "{report:#}");
    assert_eq!(caller.run("python", "print(1)")["verdict"], "accepted");
}
