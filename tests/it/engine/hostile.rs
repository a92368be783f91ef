//! Programs that mean no good: right outcome, nothing left running, the next submission unharmed.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, patient, submission, with};

/// Runs something hostile with a test before and after it on the same sandbox, and a submission after that.
fn survives(caller: &mut Caller, language: &str, code: &str, limits: Value) -> Value {
    let request = with(submission(language, code), "limits", limits);
    let report = caller.ok("submission.run", request);
    let next = caller.run("python", "import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))");
    assert_eq!(next["run"]["stdout"], "2\n", "the next submission: {next:#}");
    report
}

fn outcome(report: &Value) -> (&str, &str) {
    (report["verdict"].as_str().unwrap(), report["run"]["outcome"].as_str().unwrap())
}

#[test]
fn hostile_programs_get_their_outcome_and_harm_nobody() {
    let daemon = Daemon::start(&Options { profiles: "python,c,bash", floor: 0, ceiling: 3, ..Options::default() });
    let mut caller = daemon.caller();
    let short = || json!({ "wall_ms": 1500 });

    let bomb = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass";
    let report = survives(&mut caller, "python", bomb, short());
    assert_eq!(report["verdict"], "time_limit", "a fork bomb: {report:#}");

    let stubborn = "trap '' TERM INT HUP; while :; do sleep 1; done";
    let report = survives(&mut caller, "bash", stubborn, short());
    assert_eq!(outcome(&report), ("time_limit", "wall_limit"), "one that ignores SIGTERM: {report:#}");

    let daemonised = "(setsid sleep 1000 </dev/null >/dev/null 2>&1 &) ; (setsid setsid sleep 1000 &) ; echo gone";
    let report = survives(&mut caller, "bash", daemonised, json!({}));
    assert_eq!(outcome(&report), ("accepted", "exited"), "one that daemonises: {report:#}");
    assert!(report["run"]["evidence"]["survivors"].as_u64().unwrap() >= 1, "{report:#}");

    let silent = "exec >&- 2>&-; sleep 1000";
    let report = survives(&mut caller, "bash", silent, short());
    assert_eq!(outcome(&report), ("time_limit", "wall_limit"), "one that closes its output: {report:#}");

    let flood = "import os\nb = b'x' * 65536\nfor _ in range(160000): os.write(1, b)";
    let report = survives(&mut caller, "python", flood, json!({}));
    assert_eq!(outcome(&report), ("output_limit", "output_limit"), "10 GB of output: {}", report["run"]["evidence"]);

    let parricide =
        "import os, signal\nif os.fork() == 0:\n  os.kill(os.getppid(), 9)\n  os.kill(-1, 9)\nelse:\n  signal.pause()";
    let report = survives(&mut caller, "python", parricide, json!({}));
    assert_eq!(outcome(&report), ("runtime_error", "signaled"), "one that kills its parent: {report:#}");

    let threads = "#include <pthread.h>\n#include <unistd.h>\nvoid *f(void *x){for(;;);}\n\
                   int main(){pthread_t t;for(int i=0;i<8;i++)pthread_create(&t,0,f,0);for(;;);}";
    let report = survives(&mut caller, "c", threads, json!({ "cpu_ms": 400 }));
    assert_eq!(outcome(&report), ("time_limit", "cpu_limit"), "CPU time over threads: {report:#}");

    let filler = "f = open('/tmp/full', 'wb')\ntry:\n  while True: f.write(b'x' * 2**20); f.flush()\nexcept OSError as e: print(e.errno)";
    let report = survives(&mut caller, "python", filler, json!({ "file_bytes": 1 << 30 }));
    assert_eq!(report["run"]["stdout"], "28\n", "a full /tmp is ENOSPC: {report:#}");

    let inodes = "import os\nn = 0\ntry:\n  while True:\n    open(f'/box/{n}', 'w').close(); n += 1\nexcept OSError as e: print(e.errno, n < 40000)";
    let report = survives(&mut caller, "python", inodes, json!({ "cpu_ms": 20000, "wall_ms": 40000 }));
    assert_eq!(report["run"]["stdout"], "28 True\n", "inodes: {report:#}");

    let spawner = "import os, time\nfor _ in range(20):\n  if os.fork() == 0:\n    time.sleep(1000)\nprint('done')";
    let report = survives(&mut caller, "python", spawner, json!({}));
    assert_eq!(report["run"]["evidence"]["survivors"], 20, "one that exits with its children alive: {report:#}");
}

#[test]
fn a_program_that_never_reads_a_large_stdin_is_not_in_its_way() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let piece = base64::engine::general_purpose::STANDARD.encode(vec![b'y'; 3 << 20]);
    let mut blob = Value::Null;
    let mut offset = 0u64;
    while offset < 50 << 20 {
        let mut params = json!({ "data_b64": piece, "offset": offset, "eof": offset + (3 << 20) >= 50 << 20 });
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
fn a_wiped_box_between_tests_survives_links_locked_folders_and_deep_trees() {
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
    // the second test's own file takes the place of what the first one left there
    assert_eq!(report["tests"][0]["verdict"], "accepted", "{report:#}");
    assert_eq!(report["tests"][1]["stdout"], "['dir', 'main.py']\n", "{report:#}");
}
