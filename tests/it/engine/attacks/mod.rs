//! The attack suite (`make attacks`): programs that try to escape, to harm their neighbours or to
//! cheat, each with its expected result, in `split` and in `cell`.
//!
//! After every attack the same sandbox runs a check: no file, process or lowered priority is left,
//! memory and processes are available. Meanwhile a neighbour in another sandbox uses its own
//! inotify instances, processes and files and must not be disturbed. At the end the daemon has
//! reported no fault of its own and the engine holds no sandbox.
//!
//! `ATTACKS_ROUNDS` repeats everything; `ATTACKS_TABLE=1` prints every row.

mod collected;
mod routes;
mod suite_parts;
mod suites;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, root, submission, with};
use table::{Attack, BUILDS, CROSSING, CROSSING_SUBMISSIONS, SCRIPTS, verbs};

/// The profiles with one isolation level, little memory and few processes.
fn profiles(isolation: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["c", "cpp", "python", "bash"] {
        let text = std::fs::read_to_string(root().join(format!("config/profiles/{name}.toml"))).unwrap();
        let (top, rest) = text.split_at(text.find("\n[").unwrap());
        // compilers need more than attacks get
        let memory = if name == "cpp" || name == "c" { 128 << 20 } else { 96 << 20 };
        let text = format!(
            "{top}\nisolation = \"{isolation}\"\nlimits = {{ memory_bytes = {memory}, pids = 40, cpu_ms = 1000, wall_ms = 4000 }}\n{rest}"
        );
        std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    }
    folder
}

fn daemon(isolation: &str, profiles: &Path) -> Daemon {
    let daemon = Daemon::start(&Options {
        profiles: "c,cpp,python,bash",
        profiles_dir: Some(profiles),
        floor: 1,
        ceiling: 4,
        config: "[engine]\ncpu_overcommit=3\n",
        ..Options::default()
    });
    let mut caller = daemon.caller();
    assert_eq!(caller.run("bash", "true")["sandbox"]["isolation"], isolation);
    daemon
}

/// The result of a run in one word: what the program printed if it exited with 0, otherwise its
/// exit status, signal or outcome.
fn word(run: &Value) -> String {
    let text = run["stdout"].as_str().unwrap_or("?").trim();
    match run["outcome"].as_str() {
        Some("exited") if run["exit_code"] == 0 => text.to_owned(),
        Some("exited") => format!("exit {}", run["exit_code"]),
        Some("signaled") => format!("signal {}", run["signal"]),
        other => other.unwrap_or("no run").to_owned(),
    }
}

/// One row of the table.
struct Row {
    attack: &'static str,
    got: String,
    expected: &'static str,
}

impl Row {
    fn holds(&self) -> bool {
        // alternatives are for differences between engines, kernels and isolation levels
        self.expected.split('|').any(|expected| match expected.strip_suffix('*') {
            Some(begin) => self.got.starts_with(begin),
            None => self.got == expected,
        })
    }
}

/// Programs of one submission: on a busy machine its answer must come in time.
const PROGRAMS_PER_SUBMISSION: usize = 60;

/// Runs all programs, each followed by a check in the same sandbox.
fn programs(caller: &mut Caller, isolation: &str) -> Vec<Row> {
    let all: Vec<&Attack> = verbs().collect();
    all.chunks(PROGRAMS_PER_SUBMISSION).flat_map(|part| some_programs(caller, isolation, part)).collect()
}

fn some_programs(caller: &mut Caller, isolation: &str, attacks: &[&Attack]) -> Vec<Row> {
    let code = include_str!("attacks.c");
    let mut tests = Vec::new();
    for Attack { name, limits, .. } in attacks {
        let limits: Value = serde_json::from_str(limits).unwrap();
        tests.push(json!({ "name": name, "args": [name], "limits": limits }));
        tests.push(json!({ "name": format!("after {name}"), "args": ["check"] }));
    }
    let report = caller.ok("submission.run", with(submission("c", code), "tests", json!(tests)));
    assert!(report["compile"]["exit_code"] == 0, "{}", report["compile"]);
    let results: BTreeMap<&str, &Value> =
        report["tests"].as_array().unwrap().iter().map(|test| (test["name"].as_str().unwrap(), test)).collect();
    let mut rows = Vec::new();
    for attack in attacks {
        let name = attack.name;
        rows.push(Row { attack: name, got: word(results[name]), expected: attack.expected_in(isolation) });
        let after = word(results[format!("after {name}").as_str()]);
        // main.c, the compiled program, and the check itself with the PID 1 that it sees
        let unharmed = after == "2 files, 2 processes, nice 0, cwd /box, child 7"
            || after == "2 files, 3 processes, nice 0, cwd /box, child 7";
        assert!(unharmed, "after {name}: {after}\n{:#}", results[format!("after {name}").as_str()]);
    }
    rows
}

/// Runs one script or build as a submission of its own.
fn single(caller: &mut Caller, attack: &Attack, language: &str, code: &str) -> Row {
    let limits: Value = serde_json::from_str(attack.limits).unwrap();
    let mut work = with(submission(language, code), "compile_limits", json!({ "cpu_ms": 30000, "wall_ms": 60000 }));
    work["limits"] = limits;
    let report = caller.ok("submission.run", work);
    let got = match report["verdict"].as_str() {
        Some("compile_error") => format!("compile_error: {}", word(&report["compile"])),
        Some("system_error") => format!("system_error: {report}"),
        _ => word(&report["run"]),
    };
    Row { attack: attack.name, got, expected: attack.expected }
}

/// A neighbour that runs all the while: it must keep its files, processes and inotify instances.
const NEIGHBOUR: &str = r#"
import ctypes, fcntl, os, signal, socket, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
libc = ctypes.CDLL(None, use_errno=True)
open('mine', 'w').write('mine')
end = time.monotonic() + float(sys.stdin.read())
while time.monotonic() < end:
    fd = libc.inotify_init()
    assert fd >= 0, 'inotify'
    os.close(fd)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, 'fork'
    assert open('mine').read() == 'mine' and sorted(os.listdir('/box')) == ['main.py', 'mine'], os.listdir('/box')
    assert len([p for p in os.listdir('/proc') if p.isdigit()]) == 2, 'processes'
    read, write = os.pipe()
    assert fcntl.fcntl(write, 1032) == 65536, 'pipe'
    here, there = socket.socketpair()
    socket.send_fds(here, [b'x'], [read])
    passed = socket.recv_fds(there, 1, 1)[1][0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
        first.bind(('127.0.0.1', 0))
        first.settimeout(10)
        second.sendto(b'x' * 1000, first.getsockname())
        assert len(first.recv(2000)) == 1000, 'datagram'
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    assert signal.sigtimedwait({signal.SIGALRM}, 10), 'timer'
    for one in (read, write, passed, here.detach(), there.detach()):
        os.close(one)
    time.sleep(0.02)
print('unharmed')
"#;

fn run_every_attack(isolation: &'static str) {
    let profiles = profiles(isolation);
    let daemon = daemon(isolation, profiles.path());
    let rounds = std::env::var("ATTACKS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut failed = Vec::new();
    for _ in 0..rounds {
        let mut neighbour = daemon.caller_as(3900);
        let mut work = with(submission("python", NEIGHBOUR), "stdin", json!("30"));
        work["limits"] = json!({ "cpu_ms": 60000, "wall_ms": 120_000 });
        let watching = neighbour.send("submission.run", &work);
        let mut caller = daemon.caller_as(3901);
        let (before, watch) = (MachineCounts::read(), MachineWatch::start());
        let mut rows = programs(&mut caller, isolation);
        // other tests may use a few terminals
        let (most, room) = (watch.most(), 32);
        assert!(most.aio_events <= before.aio_events && most.terminals <= before.terminals + room, "{most:?}");
        for (language, attacks) in [("python", SCRIPTS), ("cpp", BUILDS)] {
            for (attack, code) in attacks {
                let language = if attack.name.starts_with("bash") { "bash" } else { language };
                rows.push(single(&mut caller, attack, language, code));
            }
        }
        let report = neighbour.answer(watching)["result"].clone();
        assert_eq!(report["run"]["stdout"], "unharmed\n", "{report:#}");
        let held = rows.iter().filter(|row| row.holds()).count();
        eprintln!("{isolation}: {held} of {} attacks had the expected result", rows.len());
        if std::env::var_os("ATTACKS_TABLE").is_some() {
            for row in &rows {
                let mark = if row.holds() { "held" } else { "BROKE" };
                eprintln!("  {:5} {:22} {}", mark, row.attack, row.got.lines().next().unwrap_or_default());
            }
        }
        failed.extend(rows.into_iter().filter(|row| !row.holds()));
    }
    let failed: Vec<String> =
        failed.iter().map(|row| format!("{}: got {:?}, expected {:?}", row.attack, row.got, row.expected)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let counters = daemon.caller().ok("daemon.status", json!({}))["counters"].clone();
    assert_eq!((&counters["system_error"], &counters["retried"]), (&json!(0), &json!(0)), "{counters}");
}

#[test]
fn every_attack_fails_in_split() {
    run_every_attack("split");
}

#[test]
fn every_attack_fails_in_cell() {
    run_every_attack("cell");
}

/// `attacks.c` as an executable file, in base64; static, because other images have an older C
/// library.
fn compiled(caller: &mut Caller) -> String {
    let command = json!(["gcc", "-O1", "-static", "-s", "-o", "attack", "main.c", "-lpthread"]);
    let build = with(submission("c", include_str!("attacks.c")), "command", command);
    let build = with(with(build, "collect", json!(["attack"])), "limits", json!({ "cpu_ms": 20000, "wall_ms": 60000 }));
    let built = caller.ok("submission.run", build);
    built["files"][0]["content_b64"].as_str().unwrap_or_else(|| panic!("{built:#}")).to_owned()
}

/// What one submission leaves is not there for the next one of the same caller, in a sandbox that
/// serves both if its audit lets it.
#[test]
fn nothing_crosses_from_one_submission_to_the_next() {
    let profiles = profiles("cell");
    let path = profiles.path().join("bash.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("[pool]\n", "[pool]\nreuse = 100\n");
    std::fs::write(&path, text).unwrap();
    let daemon = daemon("cell", profiles.path());
    let mut caller = daemon.caller_as(3903);
    let binary = compiled(&mut caller);
    let (mut wrong, mut sandboxes) = (Vec::new(), Vec::new());
    for attack in CROSSING.iter().chain(CROSSING_SUBMISSIONS) {
        let report = caller.ok(
            "submission.run",
            json!({
                "language": "bash", "tenant": "one", "args": [attack.name],
                "limits": serde_json::from_str::<Value>(attack.limits).unwrap(),
                "files": [
                    { "path": "main.sh", "content": "exec /box/attack \"$1\"" },
                    { "path": "attack", "content_b64": binary, "mode": "0755" },
                ],
            }),
        );
        sandboxes.push(report["sandbox"]["id"].to_string());
        let row = Row { attack: attack.name, got: word(&report["run"]), expected: attack.expected };
        if !row.holds() {
            wrong.push(format!("{}: got {:?}, expected {:?}", row.attack, row.got, row.expected));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let uses = sandboxes.len();
    sandboxes.dedup();
    eprintln!("crossing: {uses} submissions used {} sandboxes", sandboxes.len());
}

/// What the kernel counts for the machine, as root sees it from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct MachineCounts {
    aio_events: u64,
    terminals: u64,
}

impl MachineCounts {
    fn read() -> MachineCounts {
        let number = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().parse().unwrap_or(0);
        MachineCounts { aio_events: number("/proc/sys/fs/aio-nr"), terminals: number("/proc/sys/kernel/pty/nr") }
    }

    fn max(self, other: MachineCounts) -> MachineCounts {
        MachineCounts {
            aio_events: self.aio_events.max(other.aio_events),
            terminals: self.terminals.max(other.terminals),
        }
    }
}

/// Reads the machine's counts until it is asked for the largest ones.
struct MachineWatch {
    stop: std::sync::mpsc::Sender<()>,
    watching: std::thread::JoinHandle<MachineCounts>,
}

impl MachineWatch {
    fn start() -> MachineWatch {
        let (stop, stopped) = std::sync::mpsc::channel();
        let watching = std::thread::spawn(move || {
            let mut most = MachineCounts::default();
            while stopped.recv_timeout(std::time::Duration::from_millis(20)).is_err() {
                most = most.max(MachineCounts::read());
            }
            most
        });
        MachineWatch { stop, watching }
    }

    fn most(self) -> MachineCounts {
        self.stop.send(()).unwrap();
        self.watching.join().unwrap()
    }
}

/// The same programs, each executed by a prewarmed Python: a process that was started ahead must
/// not have inherited anything that a fresh one lacks.
#[test]
fn every_attack_fails_in_a_prewarmed_runtime() {
    let profiles = profiles("cell");
    let path = profiles.path().join("python.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("[pool]\n", "[pool]\nhot = 4\n");
    std::fs::write(&path, text).unwrap();
    let daemon = daemon("cell", profiles.path());
    let mut caller = daemon.caller_as(3902);
    let binary = compiled(&mut caller);
    let script =
        "import os, sys\ndel os.environ['PYTHONDONTWRITEBYTECODE']\nos.execv('/box/attack', ['./main'] + sys.argv[1:])";
    let mut wrong = Vec::new();
    let (mut hot, mut all) = (0, 0);
    for Attack { name, limits, expected, .. } in verbs() {
        let work = json!({
            "language": "python", "args": [name], "limits": serde_json::from_str::<Value>(limits).unwrap(),
            "files": [
                { "path": "main.py", "content": script }, { "path": "attack", "content_b64": binary, "mode": "0755" },
                { "path": "main.c", "content": "" }, { "path": ".assay.out", "content": "" },
            ],
        });
        crate::harness::eventually("a runtime is prewarmed", || {
            let pools = caller.ok("pool.list", json!({}));
            let pools = pools["pools"].as_array().unwrap();
            pools.iter().any(|pool| pool["profile"] == "python" && pool["hot"].as_u64() >= Some(1))
        });
        let report = caller.ok("submission.run", work);
        all += 1;
        hot += usize::from(report["start"] == "hot");
        let row = Row { attack: name, got: word(&report["run"]), expected };
        if !row.holds() {
            wrong.push(format!("{name}: got {:?}, expected {expected:?}", row.got));
        }
    }
    eprintln!("hot: {} of {all} attacks had the expected result, {hot} of them hot", all - wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(hot * 10 >= all * 9, "{hot} of {all} were hot");
}
