//! The program `assay` against a fake daemon: exit statuses, output and requests. Needs no engine.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// The fake daemon's answer to a call: notifications, then the reply.
type FakeAnswer = (Vec<(&'static str, Value)>, Result<Value, Value>);

/// A daemon that answers calls by a closure and records them.
struct FakeDaemon {
    dir: tempfile::TempDir,
    calls: Arc<Mutex<Vec<(String, Value)>>>,
}

impl FakeDaemon {
    fn new(answer: impl Fn(&str, &Value) -> FakeAnswer + Send + 'static) -> FakeDaemon {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("assay.sock")).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&calls);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let hello = json!({"jsonrpc": "2.0", "method": "server.hello", "params": {"protocol": 1,
                    "version": "0", "instance": "fake", "limits": {"max_line_bytes": 8 << 20}, "features": []}});
                let _ = writeln!(stream, "{hello}");
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let Ok(line) = line else { break };
                    let call: Value = serde_json::from_str(&line).unwrap();
                    let method = call["method"].as_str().unwrap().to_owned();
                    recorded.lock().unwrap().push((method.clone(), call["params"].clone()));
                    let (notifications, reply) = answer(&method, &call["params"]);
                    for (name, params) in notifications {
                        let _ = writeln!(stream, "{}", json!({"jsonrpc": "2.0", "method": name, "params": params}));
                    }
                    let reply = match reply {
                        Ok(result) => json!({"jsonrpc": "2.0", "id": call["id"], "result": result}),
                        Err(error) => json!({"jsonrpc": "2.0", "id": call["id"], "error": error}),
                    };
                    let _ = writeln!(stream, "{reply}");
                }
            }
        });
        FakeDaemon { dir, calls }
    }

    /// A daemon that answers every call with this report.
    fn reporting(report: Value) -> FakeDaemon {
        FakeDaemon::new(move |_, _| (Vec::new(), Ok(report.clone())))
    }

    fn refusing(code: &'static str) -> FakeDaemon {
        FakeDaemon::new(move |_, _| {
            let error =
                json!({"code": -32001, "message": "no", "data": {"code": code, "message": format!("refused: {code}")}});
            (Vec::new(), Err(error))
        })
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn assay<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.assay_with(args, Stdio::null())
    }

    fn assay_with<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>, stdin: Stdio) -> Output {
        assay(self.dir.path().join("assay.sock"), args, stdin)
    }

    /// The parameters of the first call of this method.
    fn params_of(&self, method: &str) -> Value {
        let calls = self.calls.lock().unwrap();
        calls.iter().find(|(name, _)| name == method).map(|(_, params)| params.clone()).unwrap()
    }
}

fn assay<S: AsRef<std::ffi::OsStr>>(socket: PathBuf, args: impl IntoIterator<Item = S>, stdin: Stdio) -> Output {
    Command::new(crate::programs::program("assay"))
        .env("ASSAY_SOCKET", socket)
        .args(args)
        .stdin(stdin)
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ran(verdict: &str, run: Value) -> Value {
    json!({"id": "1", "verdict": verdict, "message": "m", "tests": [], "run": run, "timing": {"total_ms": 1.5}})
}

#[test]
fn the_version_names_the_commit_of_the_build() {
    let git =
        Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(crate::harness::root()).output();
    let commit = git.ok().filter(|git| git.status.success()).map(|git| String::from_utf8(git.stdout).unwrap());
    let commit = commit.map(|commit| format!(" ({})", commit.trim())).unwrap_or_default();
    for name in ["assay", "assayd"] {
        let output = Command::new(crate::programs::program(name)).arg("--version").output().unwrap();
        assert_eq!(out(&output), format!("{name} {}{commit}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn run_exits_with_the_programs_status() {
    for (verdict, run, status) in [
        ("accepted", json!({"outcome": "exited", "exit_code": 0}), 0),
        ("runtime_error", json!({"outcome": "exited", "exit_code": 3}), 3),
        ("runtime_error", json!({"outcome": "signaled", "signal": 11}), 139),
        ("time_limit", json!({"outcome": "cpu_limit"}), 124),
        ("memory_limit", json!({"outcome": "memory_limit"}), 137),
        ("output_limit", json!({"outcome": "output_limit"}), 123),
        ("system_error", json!({"outcome": "lost"}), 125),
    ] {
        let fake = FakeDaemon::reporting(ran(verdict, run));
        let file = fake.file("a.py", "print(1)");
        let output = fake.assay(["run".into(), file]);
        assert_eq!(output.status.code(), Some(status), "{verdict}: {}", err(&output));
    }
}

#[test]
fn run_prints_streamed_output_once_and_unchanged() {
    let fake = FakeDaemon::new(|_, _| {
        let event = |kind: &str, key: &str, data: &str| {
            ("submission.event", json!({"id": "1", "seq": 1, "kind": kind, key: data}))
        };
        let events = vec![
            event("accepted", "x", ""),
            event("stdout", "data", "one\n"),
            event("stderr", "data", "complaint\n"),
            event("stdout", "data_b64", "/w=="),
        ];
        let run = json!({"outcome": "exited", "exit_code": 0, "stdout_b64": "b25lCv8=", "stderr": "complaint\n"});
        (events, Ok(ran("accepted", run)))
    });
    let file = fake.file("a.py", "x");
    let output = fake.assay(["run".into(), file]);
    assert_eq!(output.stdout, b"one\n\xff");
    assert_eq!(err(&output), "complaint\n");
    assert_eq!(fake.params_of("submission.run")["stream"], true);
}

#[test]
fn run_prints_the_reports_output_if_nothing_was_streamed() {
    let fake = FakeDaemon::reporting(ran("accepted", json!({"outcome": "exited", "exit_code": 0, "stdout": "kept\n"})));
    let file = fake.file("a.py", "x");
    assert_eq!(out(&fake.assay(["run".into(), file])), "kept\n");
}

#[test]
fn a_compile_error_shows_the_compilers_output() {
    let fake = FakeDaemon::reporting(json!({"verdict": "compile_error", "message": "m",
        "compile": {"outcome": "exited", "exit_code": 1, "stderr": "main.c:1: oh no\n"}}));
    let file = fake.file("main.c", "x");
    let output = fake.assay(["run".into(), file]);
    assert_eq!(output.status.code(), Some(122));
    assert!(err(&output).contains("main.c:1: oh no"));
}

#[test]
fn a_compile_error_without_output_shows_the_reports_message() {
    let compile = json!({"outcome": "exited", "exit_code": 0, "stdout": "", "stderr": ""});
    let report = json!({"verdict": "compile_error", "message": "did not make main", "compile": compile});
    let output = FakeDaemon::new(move |_, _| (Vec::new(), Ok(report.clone()))).assay(["run", "-l", "c", "Cargo.toml"]);
    assert_eq!(output.status.code(), Some(122));
    assert!(err(&output).contains("did not make main"), "{}", err(&output));
}

#[test]
fn run_sends_language_limits_arguments_and_stdin() {
    let fake = FakeDaemon::reporting(ran("accepted", json!({"outcome": "exited", "exit_code": 0})));
    let file = fake.file("prog.cc", "int main() {}");
    let input = fake.file("input", "5 6\n");
    let file = file.to_str().unwrap();
    let limits = ["--limits", "cpu_ms=500,memory_bytes=64M", "--pids", "9", "--preset", "lesson"];
    let mut args = vec!["run", file, "--stdin", input.to_str().unwrap()];
    args.extend(limits);
    args.extend(["--", "-x", "y"]);
    assert_eq!(fake.assay(args).status.code(), Some(0));
    let sent = fake.params_of("submission.run");
    assert_eq!(sent["language"], "cpp");
    assert_eq!(sent["entry"], "prog.cc");
    assert_eq!(sent["files"], json!([{"path": "prog.cc", "content": "int main() {}"}]));
    assert_eq!(sent["limits"], json!({"cpu_ms": 500, "memory_bytes": 64 << 20, "pids": 9}));
    assert_eq!(
        (&sent["args"], &sent["stdin"], &sent["preset"]),
        (&json!(["-x", "y"]), &json!("5 6\n"), &json!("lesson"))
    );
}

#[test]
fn the_command_passes_its_stdin_on_to_the_program() {
    let fake = FakeDaemon::reporting(ran("accepted", json!({"outcome": "exited", "exit_code": 0})));
    let file = fake.file("a.py", "x");
    let input = std::fs::File::open(fake.file("input", b"\xff\x00")).unwrap();
    fake.assay_with(["run".into(), file], input.into());
    assert_eq!(fake.params_of("submission.run")["stdin_b64"], "/wA=");
}

#[test]
fn a_large_input_is_uploaded_as_a_blob_in_chunks() {
    let fake = FakeDaemon::new(|method, _| {
        let run = json!({"outcome": "exited", "exit_code": 0});
        (Vec::new(), Ok(if method == "blob.put" { json!({"blob": "b1"}) } else { ran("accepted", run) }))
    });
    let file = fake.file("a.py", "x");
    let input = fake.file("input", vec![b'7'; 7 << 20]);
    let output = fake.assay(["run".into(), file, "--stdin".into(), input]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(fake.params_of("submission.run")["stdin"], json!({"blob": "b1"}));
    let calls = fake.calls.lock().unwrap();
    let puts: Vec<&Value> = calls.iter().filter(|(name, _)| name == "blob.put").map(|(_, params)| params).collect();
    let chunks: Vec<_> =
        puts.iter().map(|put| (put["offset"].as_u64(), put["eof"].as_bool(), put.get("blob").is_some())).collect();
    let chunk = 3 << 20;
    assert_eq!(
        chunks,
        [(Some(0), Some(false), false), (Some(chunk), Some(false), true), (Some(2 * chunk), Some(true), true)]
    );
}

#[test]
fn usage_errors_exit_2_before_the_daemon_is_called() {
    let nowhere = PathBuf::from("/nonexistent/assay.sock");
    for args in [
        vec!["run", "/nonexistent/a.py"],
        vec!["run", "/etc/hostname"],
        vec!["run", "--limits", "memroy=1", "/etc/hostname", "-l", "python"],
        vec!["run"],
        vec!["frobnicate"],
        vec!["rpc", "daemon.status", "{"],
    ] {
        let output = assay(nowhere.clone(), &args, Stdio::null());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", err(&output));
    }
}

#[test]
fn the_exit_status_of_an_error_response_depends_on_its_code() {
    for (code, status) in
        [("bad_request", 2), ("unknown_profile", 2), ("no_host", 125), ("queue_full", 125), ("new_word", 125)]
    {
        let fake = FakeDaemon::refusing(code);
        let file = fake.file("a.py", "x");
        let output = fake.assay(["run".into(), file]);
        assert_eq!(output.status.code(), Some(status), "{code}");
        assert!(err(&output).contains(&format!("refused: {code}")));
    }
}

#[test]
fn a_missing_daemon_is_an_error_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("assay.sock");
    let file = dir.path().join("a.py");
    std::fs::write(&file, "x").unwrap();
    let output = assay(socket.clone(), ["run".into(), file], Stdio::null());
    assert_eq!(output.status.code(), Some(125));
    assert!(err(&output).contains("The daemon is not running"), "{}", err(&output));
    drop(UnixListener::bind(&socket).unwrap());
    let output = assay(socket.clone(), ["status"], Stdio::null());
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("no process listens"), "{}", err(&output));
    let output = assay(socket, ["health"], Stdio::null());
    assert_eq!((output.status.code(), out(&output).lines().next()), (Some(1), Some("unhealthy")));
}

#[test]
fn a_path_without_a_socket_is_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file, dir.path().to_owned()] {
        let output = assay(path, ["health"], Stdio::null());
        assert_eq!(output.status.code(), Some(1));
        assert!(out(&output).contains("is not a socket") && !out(&output).contains("systemctl"), "{}", out(&output));
    }
}

/// A listener whose backlog is full: what a daemon that hangs leaves.
fn full_socket(dir: &tempfile::TempDir) -> (PathBuf, UnixListener, Vec<std::os::unix::net::UnixStream>) {
    let path = dir.path().join("assay.sock");
    let listener = UnixListener::bind(&path).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let mut waiting = Vec::new();
    while let Some(stream) = connect_at_once(&path) {
        waiting.push(stream);
    }
    (path, listener, waiting)
}

/// A connection, unless the backlog is full.
fn connect_at_once(path: &std::path::Path) -> Option<std::os::unix::net::UnixStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    connect(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).ok().map(|()| socket.into())
}

#[test]
fn a_daemon_that_accepts_no_connections_is_unhealthy_with_the_commands_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _listener, _waiting) = full_socket(&dir);
    let output = assay(path, ["health"], Stdio::null());
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("did not answer within 5 s"), "{}", out(&output));
    assert!(out(&output).contains("systemctl status assayd"), "{}", out(&output));
}

#[test]
fn a_caller_waits_for_a_place_in_the_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let (path, listener, waiting) = full_socket(&dir);
    let held = waiting.len();
    let server = std::thread::spawn(move || {
        // the command waits by now, or will find room
        for _ in 0..held {
            drop(listener.accept().unwrap());
        }
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"not assay\n").unwrap();
    });
    let output = assay(path, ["status"], Stdio::null());
    server.join().unwrap();
    assert!(err(&output).contains("failed to understand the server"), "{}", err(&output));
}

#[test]
fn a_server_that_is_not_assay_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("assay.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let output = assay(socket, ["status"], Stdio::null());
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("failed to understand the server"), "{}", err(&output));
}

#[test]
fn health_exits_0_if_healthy_or_degraded_and_1_otherwise() {
    for (health, status) in [("healthy", 0), ("degraded", 0), ("unhealthy", 1), ("surprised", 1)] {
        let fake = FakeDaemon::reporting(json!({"status": health,
            "checks": [{"name": "docker", "ok": false, "message": "no answer", "remedy": "start it"}]}));
        let output = fake.assay(["health"]);
        assert_eq!(output.status.code(), Some(status), "{health}");
        assert!(out(&output).contains("-> start it"));
    }
}

#[test]
fn tables_tolerate_missing_fields() {
    let fake = FakeDaemon::new(|method, _| {
        let result = match method {
            "daemon.status" => json!({"instance": "x", "pools": [{"profile": "python", "ready": 2}], "hosts": [{}],
                "stages": {"run": {"count": 3, "p50_ms": 1.25}, "queue": {}}}),
            "pool.list" => json!({"pools": [{"profile": "python", "ready": 2, "floor": 2}]}),
            "profile.list" => json!({"profiles": [{"name": "python"}]}),
            _ => json!({}),
        };
        (Vec::new(), Ok(result))
    });
    for command in ["status", "pools", "hosts", "profiles", "sandboxes"] {
        let output = fake.assay([command]);
        assert_eq!(output.status.code(), Some(0), "{command}: {}", err(&output));
        assert!(!out(&output).contains('\x1b'), "colour without a terminal");
    }
    let status = out(&fake.assay(["status"]));
    assert!(status.find("queue  ").unwrap() < status.find("run  ").unwrap());
    let json: Value = serde_json::from_slice(&fake.assay(["pools", "--json"]).stdout).unwrap();
    assert_eq!(json["pools"][0]["ready"], 2);
}

#[test]
fn images_build_builds_every_profile_and_prints_each_step_once() {
    let fake = FakeDaemon::new(|method, params| {
        if method == "profile.list" {
            return (Vec::new(), Ok(json!({"profiles": [{"name": "python"}, {"name": "c"}]})));
        }
        if params["profile"] == "c" {
            let error =
                json!({"code": -32000, "message": "m", "data": {"code": "forbidden", "message": "admins only"}});
            return (Vec::new(), Err(error));
        }
        let step =
            |done: u64| ("image.progress", json!({"profile": "python", "step": "fetch", "done": done, "total": 9}));
        (vec![step(1), step(2)], Ok(json!({"id": "sha256:0123456789abcdef"})))
    });
    let output = fake.assay(["images", "build"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output).matches("python: fetch").count(), 1);
    assert!(
        err(&output).contains("c: admins only (forbidden)") && err(&output).contains("Ask for the role"),
        "{}",
        err(&output)
    );
    assert!(out(&output).contains("built python  0123456789ab"), "{}", out(&output));
}

#[test]
fn submit_prints_the_id_and_wait_exits_as_run_does() {
    let fake = FakeDaemon::new(|method, _| {
        let result = match method {
            "submission.submit" => json!({"id": "s-1"}),
            _ => ran("time_limit", json!({"outcome": "wall_limit", "stdout": "part"})),
        };
        (Vec::new(), Ok(result))
    });
    let file = fake.file("a.sh", "x");
    assert_eq!(out(&fake.assay(["submit".into(), file])), "s-1\n");
    assert!(fake.params_of("submission.submit").get("stream").is_none());
    let output = fake.assay(["wait", "s-1", "-v"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(124), "part"));
    assert!(err(&output).contains("time limit: m"));
    assert_eq!(fake.params_of("submission.wait"), json!({"id": "s-1"}));
}

#[test]
fn rpc_prints_the_result_and_completions_need_no_daemon() {
    let fake = FakeDaemon::reporting(json!({"a": 1}));
    assert_eq!(out(&fake.assay(["rpc", "daemon.status", "{\"x\":2}"])), "{\"a\":1}\n");
    assert_eq!(fake.params_of("daemon.status"), json!({"x": 2}));
    let output = assay("/nonexistent".into(), ["completions", "bash"], Stdio::null());
    assert!(output.status.success() && out(&output).contains("_assay"));
}

/// Commands that write to stdout, with what a fake daemon needs to be told.
const WRITING: &[&str] = &[
    "--help",
    "--version",
    "run --help",
    "status",
    "pools",
    "hosts",
    "profiles",
    "sandboxes",
    "health",
    "top --count 2 --interval 0.1",
    "images list",
    "images prune --dry-run",
    "reload",
    "drain",
    "resume",
    "get one",
    "rpc daemon.status",
    "schema",
    "man",
    "completions bash",
    "doctor --no-pull --engine unix:///nonexistent/docker.sock",
    "--json status",
];

#[test]
fn output_that_cannot_be_written_ends_every_command_and_says_so_unless_the_reader_is_gone() {
    let fake = FakeDaemon::reporting(json!({"status": "healthy", "checks": [], "queue": {}}));
    let run = |words: &str, to: Stdio| {
        let mut command = Command::new(crate::programs::program("assay"));
        command.env("ASSAY_SOCKET", fake.dir.path().join("assay.sock")).args(words.split(' ')).stdin(Stdio::null());
        let output = command.stdout(to).stderr(Stdio::piped()).output().unwrap();
        (output.status.code(), err(&output))
    };
    for words in WRITING {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(run(words, writer.into()), (Some(141), String::new()), "{words}");
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (status, said) = run(words, full.into());
        assert!(status == Some(125) && said.contains("No space left on device"), "{words}: {status:?} {said}");
    }
}

#[test]
fn a_closed_stderr_changes_no_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, "[queue]\nmaxx = 3\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    for (name, words, expected) in [
        ("assay", vec!["--socket", "/nonexistent/assay.sock", "status"], 1),
        ("assay", vec!["--socket", "/nonexistent/assay.sock", "--json", "status"], 1),
        ("assay", vec!["stauts"], 2),
        ("assayd", vec!["--no-such-flag"], 2),
        ("assayd", vec!["--check-config", "--config", wrong], 1),
        ("assayd", vec!["--check-start", "--config", wrong], 78),
        ("assayd", vec!["--config", wrong], 78),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        for stderr in [Stdio::from(writer), full.into()] {
            let mut command = Command::new(crate::programs::program(name));
            let status = command.args(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).status();
            assert_eq!(status.unwrap().code(), Some(expected), "{name} {words:?}");
        }
    }
}

#[test]
fn an_argument_that_is_not_utf8_is_a_usage_error() {
    use std::os::unix::ffi::OsStrExt;
    for (flag, expected) in [("--config", 78), ("--log", 2)] {
        let mut command = Command::new(crate::programs::program("assayd"));
        let output = command.arg(flag).arg(std::ffi::OsStr::from_bytes(b"\xff")).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{flag}: {}", err(&output));
        assert!(!err(&output).contains("panicked"), "{}", err(&output));
    }
}
