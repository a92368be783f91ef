//! Programs that attack their sandbox: each gets the right outcome, leaves nothing running, and
//! does not affect the next submission.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::harness::{Daemon, Options, patient, submission, with};

/// Runs a hostile program, and then a submission that must see two processes only: PID 1 and its
/// own.
fn survives(language: &str, code: &str, limits: Value) -> Value {
    let profiles = if language == "python" { "python".to_owned() } else { format!("python,{language}") };
    let daemon = Daemon::start(&Options { profiles: &profiles, floor: 0, ceiling: 3, ..Options::default() });
    let mut caller = daemon.caller();
    let request = with(submission(language, code), "limits", limits);
    let report = caller.ok("submission.run", request);
    let next = caller.run("python", "import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))");
    assert_eq!(next["run"]["stdout"], "2\n", "the next submission: {next:#}");
    report
}

fn outcome(report: &Value) -> (&str, &str) {
    (report["verdict"].as_str().unwrap(), report["run"]["outcome"].as_str().unwrap())
}

fn short() -> Value {
    json!({ "wall_ms": 1500 })
}

#[test]
fn a_fork_bomb_is_a_time_limit() {
    let code = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass";
    let report = survives("python", code, short());
    assert_eq!(report["verdict"], "time_limit", "{report:#}");
}

#[test]
fn a_program_that_ignores_sigterm_is_killed() {
    let report = survives("bash", "trap '' TERM INT HUP; while :; do sleep 1; done", short());
    assert_eq!(outcome(&report), ("time_limit", "wall_limit"), "{report:#}");
}

#[test]
fn daemonised_processes_are_killed() {
    let code = "(setsid sleep 1000 </dev/null >/dev/null 2>&1 &) ; (setsid setsid sleep 1000 &) ; echo gone";
    let report = survives("bash", code, json!({}));
    assert_eq!(outcome(&report), ("accepted", "exited"), "{report:#}");
    assert!(report["run"]["evidence"]["survivors"].as_u64().unwrap() >= 1, "{report:#}");
}

#[test]
fn a_program_that_closes_its_output_reaches_its_wall_limit() {
    let report = survives("bash", "exec >&- 2>&-; sleep 1000", short());
    assert_eq!(outcome(&report), ("time_limit", "wall_limit"), "{report:#}");
}

#[test]
fn ten_gigabytes_of_output_are_an_output_limit() {
    let code = "import os\nb = b'x' * 65536\nfor _ in range(160000): os.write(1, b)";
    let report = survives("python", code, json!({}));
    assert_eq!(outcome(&report), ("output_limit", "output_limit"), "{}", report["run"]["evidence"]);
}

#[test]
fn a_program_that_is_killed_by_its_child_is_a_runtime_error() {
    let code =
        "import os, signal\nif os.fork() == 0:\n  os.kill(os.getppid(), 9)\n  os.kill(-1, 9)\nelse:\n  signal.pause()";
    let report = survives("python", code, json!({}));
    assert_eq!(outcome(&report), ("runtime_error", "signaled"), "{report:#}");
}

#[test]
fn cpu_time_is_counted_over_all_threads() {
    let code = "#include <pthread.h>\n#include <unistd.h>\nvoid *f(void *x){for(;;);}\n\
                int main(){pthread_t t;for(int i=0;i<8;i++)pthread_create(&t,0,f,0);for(;;);}";
    let report = survives("c", code, json!({ "cpu_ms": 400 }));
    assert_eq!(outcome(&report), ("time_limit", "cpu_limit"), "{report:#}");
}

#[test]
fn writing_to_a_full_tmp_fails_with_enospc() {
    let code = "f = open('/tmp/full', 'wb')\ntry:\n  while True: f.write(b'x' * 2**20); f.flush()\nexcept OSError as e: print(e.errno)";
    let report = survives("python", code, json!({ "file_bytes": 1 << 30 }));
    assert_eq!(report["run"]["stdout"], "28\n", "{report:#}");
}

#[test]
fn the_number_of_files_is_bounded() {
    let code = "import os\nn = 0\ntry:\n  while True:\n    open(f'/box/{n}', 'w').close(); n += 1\nexcept OSError as e: print(e.errno, n < 40000)";
    let report = survives("python", code, json!({ "cpu_ms": 20000, "wall_ms": 40000 }));
    assert_eq!(report["run"]["stdout"], "28 True\n", "{report:#}");
}

#[test]
fn children_that_outlive_the_program_are_counted_and_killed() {
    let code = "import os, time\nfor _ in range(20):\n  if os.fork() == 0:\n    time.sleep(1000)\nprint('done')";
    let report = survives("python", code, json!({}));
    assert_eq!(report["run"]["evidence"]["survivors"], 20, "{report:#}");
}

#[test]
fn a_large_stdin_does_not_hold_up_a_program_that_does_not_read_it() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let chunk = BASE64.encode(vec![b'y'; 3 << 20]);
    let mut blob = Value::Null;
    let mut offset = 0u64;
    while offset < 50 << 20 {
        let mut params = json!({ "data_b64": chunk, "offset": offset, "eof": offset + (3 << 20) >= 50 << 20 });
        if blob.is_string() {
            params["blob"] = blob.clone();
        }
        blob = caller.ok("blob.put", params)["blob"].clone();
        offset += 3 << 20;
    }
    let stdin = json!({ "blob": blob });
    let report = caller.ok("submission.run", with(submission("python", "print('ok')"), "stdin", stdin.clone()));
    assert_eq!((&report["verdict"], &report["run"]["stdout"]), (&json!("accepted"), &json!("ok\n")), "{report:#}");
    let reader = "import sys\nprint(len(sys.stdin.buffer.read()))";
    let report = caller.ok("submission.run", with(patient(submission("python", reader)), "stdin", stdin));
    assert_eq!(report["run"]["stdout"], format!("{offset}\n"), "{report:#}");
}

#[test]
fn the_box_is_wiped_between_tests_despite_links_locked_folders_and_deep_trees() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let code = r#"
import os
print(sorted(os.listdir('/box')))
os.symlink('/proc/1/root', '/box/link'); os.mkfifo('/box/fifo'); os.mkdir('/box/dir'); os.symlink('/etc/passwd', '/box/dir/data')
os.chdir('/tmp')
for _ in range(300):
    os.mkdir('d' * 100); os.chdir('d' * 100)
os.chmod('.', 0)
"#;
    let file = json!([{ "path": "dir/data", "content": "from the caller" }]);
    let tests = json!([
        { "expect": "['main.py']" },
        { "expect": "['dir', 'main.py']", "files": file, "checker": { "kind": "tokens" } },
    ]);
    let report = daemon.caller().ok("submission.run", with(submission("python", code), "tests", tests));
    // the second test's file replaces what the first test left at its path
    assert_eq!(report["tests"][0]["verdict"], "accepted", "{report:#}");
    assert_eq!(report["tests"][1]["stdout"], "['dir', 'main.py']\n", "{report:#}");
}
