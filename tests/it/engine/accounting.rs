//! The figures of a report and its verdict agree: a figure above its limit is that limit's verdict,
//! one below never is. The figures are those of the kernel, read from outside as root.
//!
//! `ASSAY_ACCOUNTING_ROUNDS=n` repeats the random and the timed tests n times as often
//! (`make accounting`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, eventually, root, submission, with};

const MIB: u64 = 1 << 20;

/// `touch MIB`, `spin MS` (by its own clock), `fork N`, `write MIB`, `share MIB CHILDREN`.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void touch(size_t n) {
    volatile char *p = malloc(n);
    for (size_t i = 0; i < n; i += 4096) p[i] = 1;
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    long n = argc > 2 ? atol(argv[2]) : 0;
    if (!strcmp(verb, "touch")) touch((size_t)n << 20);
    if (!strcmp(verb, "spin")) {
        struct timespec t;
        do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); while (t.tv_sec * 1000 + t.tv_nsec / 1000000 < n);
    }
    if (!strcmp(verb, "fork")) {
        int failed = 0;
        for (long i = 0; i < n; i++) {
            pid_t child = fork();
            if (child == 0) { pause(); _exit(0); }
            if (child < 0) failed = 1;
        }
        if (failed) perror("fork");
        return failed;
    }
    if (!strcmp(verb, "write")) {
        static char block[1 << 16];
        signal(SIGXFSZ, SIG_IGN);
        int file = -1;
        for (long left = n << 20; left > 0; left -= sizeof block) {
            if (file < 0) file = open("/box", O_TMPFILE | O_WRONLY, 0600);
            if (write(file, block, sizeof block) <= 0) file = open("/tmp", O_TMPFILE | O_WRONLY, 0600);
        }
    }
    if (!strcmp(verb, "share")) {
        int children = atoi(argv[3]), ready[2], go[2];
        char byte;
        pipe(ready), pipe(go);
        for (int i = 0; i < children; i++)
            if (fork() == 0) {
                close(go[1]);
                touch((size_t)n << 20);
                write(ready[1], "", 1);
                read(go[0], &byte, 1);
                _exit(0);
            }
        for (int i = 0; i < children; i++) read(ready[0], &byte, 1);
        usleep(50000);
        close(go[1]);
        while (wait(0) > 0) {}
    }
    if (!strcmp(verb, "raise")) raise(n);
    puts("done");
    return 0;
}
"#;

fn rounds() -> u64 {
    std::env::var("ASSAY_ACCOUNTING_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// Both figures within 1 MiB or 1 %.
#[track_caller]
fn assert_close(told: u64, real: u64, about: &Value) {
    assert!(told.abs_diff(real) <= MIB.max(real / 100), "told {told}, {real} from outside: {about:#}");
}

/// A daemon with one profile whose sandboxes are reused.
fn daemon(name: &str, isolation: &str) -> (tempfile::TempDir, Daemon) {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join(format!("config/profiles/{name}.toml"))).unwrap();
    let (head, rest) = text.split_at(text.find("\n[").unwrap());
    let rest = rest.replace("[pool]\n", "[pool]\nreuse = 1000\n");
    let text = format!("{head}\nisolation = '{isolation}'\n{rest}");
    // where a sandbox serves once, the next one is to be ready before its submission
    let floor = u32::from(isolation == "split");
    std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    let options =
        Options { profiles: name, profiles_dir: Some(folder.path()), floor, ceiling: 1, ..Options::default() };
    let daemon = Daemon::start(&options);
    (folder, daemon)
}

/// Runs a submission and waits until its sandbox is idle again.
fn run(caller: &mut Caller, work: &Value) -> Value {
    let report = caller.ok("submission.run", with(work.clone(), "tenant", json!("t")));
    eventually("the lease has ended", || {
        caller.ok("pool.list", json!({}))["pools"].as_array().unwrap().iter().all(|pool| pool["leased"] == 0)
    });
    report
}

fn c(args: &[&str], limits: Value) -> Value {
    with(with(submission("c", PROGRAM), "args", json!(args)), "limits", limits)
}

fn memory_of(report: &Value) -> u64 {
    report["run"]["memory_bytes"].as_u64().unwrap_or_else(|| panic!("{report:#}"))
}

/// The memory cgroup of a sandbox, seen from outside.
struct Outside(PathBuf);

impl Outside {
    fn of(id: &str) -> Option<Outside> {
        let parents =
            ["memory/docker", "docker", "system.slice"].map(|path| PathBuf::from("/sys/fs/cgroup").join(path));
        let entries = parents.iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten().flatten();
        entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains(id)).map(Outside)
    }

    fn number(&self, v1: &str, v2: &str) -> Option<u64> {
        let text = [v1, v2].iter().find_map(|name| std::fs::read_to_string(self.0.join(name)).ok());
        text?.trim().parse().ok()
    }

    /// Bytes of page cache. The pages of an image's files are charged to the sandbox that read them
    /// first, which may be this one.
    fn cached(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(self.0.join("memory.stat")).ok()?;
        let of = |key: &str| stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
        Some(of("file").or(of("cache"))? - of("shmem").unwrap_or(0u64))
    }

    /// Bytes in use, without page cache.
    fn used(&self) -> u64 {
        let cached = self.cached().unwrap();
        self.number("memory.usage_in_bytes", "memory.current").unwrap() - cached
    }

    /// Begins a new peak. Returns whether that is possible.
    fn begin(&self) -> bool {
        std::fs::write(self.0.join("memory.max_usage_in_bytes"), "0").is_ok()
    }

    fn peak(&self) -> Option<u64> {
        self.number("memory.max_usage_in_bytes", "memory.peak")
    }
}

/// Programs, as arguments.
const SIZES: [&[&str]; 5] =
    [&["touch", "10"], &["touch", "200"], &["write", "40"], &["share", "20", "4"], &["touch", "30"]];
/// Programs that run after a larger one, and their memory in MiB.
const HIDDEN: [([&str; 3], u64); 3] =
    [(["touch", "10", "1"], 10), (["touch", "200", "1"], 200), (["share", "40", "4"], 160)];

/// What a comparison with the outside found.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Compared {
    /// A peak cannot be begun here.
    NoPeak,
    /// The sandbox was removed before its peak was read.
    Gone,
    /// The figures agree; whether the report has the kernel's peak.
    Agrees { is_peak: bool },
}

/// Runs a program in the sandbox with this id, and compares its memory with what is seen from
/// outside.
fn compare_with_outside(caller: &mut Caller, id: &str, args: &[&str]) -> Compared {
    let Some(outside) = Outside::of(id) else { panic!("no cgroup of {id}") };
    let (before, cached_before) = (outside.used(), outside.cached().unwrap());
    let begun = outside.begin();
    let report = run(caller, &c(args, json!({})));
    assert_eq!((&report["verdict"], &report["sandbox"]["id"]), (&json!("accepted"), &json!(id)));
    if !begun {
        return Compared::NoPeak;
    }
    let (Some(peak), Some(cached_after)) = (outside.peak(), outside.cached()) else { return Compared::Gone };
    // the peak has the page cache of that time, which lies between what was and what is cached
    let all = peak - before;
    let least = all.saturating_sub(cached_before.max(cached_after));
    let most = all.saturating_sub(cached_before.min(cached_after));
    let told = memory_of(&report);
    assert_close(told, told.clamp(least, most), &report);
    Compared::Agrees { is_peak: report["run"]["evidence"]["memory_source"] == "cgroup_peak" }
}

/// Whether the reports had the peaks, as far as they can be begun.
fn assert_mostly_peaks(found: &[Compared]) {
    let peaks = found.iter().filter(|found| **found == Compared::Agrees { is_peak: true }).count();
    assert!(found.contains(&Compared::NoPeak) || peaks >= 4, "{found:?}");
}

#[test]
fn memory_figures_are_the_kernels_in_cell() {
    let (_folder, daemon) = daemon("c", "cell");
    let mut caller = daemon.caller_as(4701);
    let first = run(&mut caller, &c(&["none"], json!({})));
    let id = first["sandbox"]["id"].as_str().unwrap();
    let found: Vec<_> = SIZES.iter().map(|args| compare_with_outside(&mut caller, id, args)).collect();
    assert_mostly_peaks(&found);
    // now the peak of the largest hides the others
    run(&mut caller, &c(&["touch", "220"], json!({})));
    for (args, mib) in HIDDEN {
        let report = run(&mut caller, &c(&args, json!({})));
        assert_close(memory_of(&report), mib * MIB, &report);
    }
}

#[test]
fn memory_figures_are_the_kernels_in_split() {
    let (_folder, daemon) = daemon("c", "split");
    let mut caller = daemon.caller_as(4701);
    run(&mut caller, &c(&["none"], json!({})));
    // a sandbox serves once, and waits before it does
    let mut in_new_sandbox = |args: &&[&str]| {
        let mut compared = Compared::Gone;
        eventually("a sandbox is still there when its peak is read", || {
            let rows = caller.ok("sandbox.list", json!({}))["sandboxes"].as_array().unwrap().clone();
            let ready = rows.iter().find(|row| row["state"] == "ready");
            if let Some(id) = ready.and_then(|row| row["id"].as_str()) {
                compared = compare_with_outside(&mut caller, id, args);
            }
            compared != Compared::Gone
        });
        compared
    };
    let found: Vec<_> = SIZES.iter().map(&mut in_new_sandbox).collect();
    assert_mostly_peaks(&found);
    // the tests of a submission share a sandbox: there the peak of the largest hides the others
    let tests = [(["touch", "220", "1"], 220)].into_iter().chain(HIDDEN);
    let args: Vec<Value> = tests.clone().map(|(args, _)| json!({ "args": args })).collect();
    let report = run(&mut caller, &with(c(&[], json!({})), "tests", json!(args)));
    for ((_, mib), test) in tests.zip(report["tests"].as_array().unwrap()) {
        assert_close(test["memory_bytes"].as_u64().unwrap(), mib * MIB, test);
    }
}

#[test]
fn memory_above_the_limit_is_a_memory_limit_and_below_it_is_not() {
    let daemon = Daemon::start(&Options { profiles: "c,python", floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let mut check = |work: Value, mib: u64, verdict: &str| {
        let report = caller.ok("submission.run", with(work, "limits", json!({ "memory_bytes": mib * MIB })));
        assert_eq!(report["verdict"], verdict, "{report:#}");
        assert_eq!(memory_of(&report) > mib * MIB, verdict == "memory_limit", "{report:#}");
    };
    for (touched, limit, verdict) in [
        (62, 64, "accepted"),
        (66, 64, "memory_limit"),
        (68, 64, "memory_limit"),
        (250, 256, "accepted"),
        (259, 256, "memory_limit"),
    ] {
        check(c(&["touch", &touched.to_string()], json!({})), limit, verdict);
    }
    for prewarm in [true, false] {
        let list = with(submission("python", "A = [i for i in range(10**6)]\nprint(1)"), "prewarm", json!(prewarm));
        check(list.clone(), 32, "memory_limit");
        check(list, 64, "accepted");
    }
}

/// Connections over the loopback that are filled and never read.
const FULL_SOCKETS: &str = r"
import resource, socket, time
held = []
listener = socket.create_server(('127.0.0.1', 0), backlog=64)
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
try:
    while True:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        near.setblocking(False)
        held += [near, far]
        try:
            while True:
                near.send(bytes(1 << 16))
        except BlockingIOError:
            pass
except OSError:
    pass
time.sleep(2)
print(len(held))
";

#[test]
fn socket_buffers_are_the_programs_memory() {
    for isolation in ["cell", "split"] {
        let (_folder, daemon) = daemon("python", isolation);
        let mut caller = daemon.caller_as(4702);
        let work = submission("python", FULL_SOCKETS);
        let work = with(work, "limits", json!({ "memory_bytes": 64 * MIB, "cpu_ms": 20_000, "wall_ms": 60_000 }));
        let report = run(&mut caller, &work);
        assert_eq!(report["verdict"], "memory_limit", "{report:#}");
        assert!(memory_of(&report) > 64 * MIB, "{report:#}");
        // a server with one connection is within its limit
        let small = "import socket\ns = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection(s.getsockname())\nprint(1)";
        assert_eq!(run(&mut caller, &submission("python", small))["verdict"], "accepted");
    }
}

/// UDP sockets that may share their ports, each with a port of its own.
const SHARED_PORTS: &str = r"
import socket, sys, time
held = []
for _ in range(int(sys.argv[1])):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(('127.0.0.1', 0))
    held.append(one)
time.sleep(0.5)
print(len(held))
";

#[test]
fn udp_sockets_are_charged_for_what_the_kernel_keeps_for_a_shared_port() {
    const FEW: u64 = 600;
    const MANY: u64 = 4000;
    for isolation in ["cell", "split"] {
        let (_folder, daemon) = daemon("python", isolation);
        let mut caller = daemon.caller_as(4703);
        let mut memory = |count: u64| {
            let limits = json!({ "memory_bytes": 128 * MIB, "cpu_ms": 20_000, "wall_ms": 60_000, "open_files": 4096 });
            let work =
                with(with(submission("python", SHARED_PORTS), "limits", limits), "args", json!([count.to_string()]));
            let report = run(&mut caller, &work);
            assert_eq!(report["run"]["stdout"], format!("{count}\n"), "{report:#}");
            memory_of(&report)
        };
        // a socket itself is charged 2.5 to 3.3 KB, and for its port the kernel takes 2 KiB more
        let more = memory(MANY).saturating_sub(memory(FEW)) / (MANY - FEW);
        assert!((3_800..8_000).contains(&more), "{more} bytes for each socket in {isolation}");
    }
}

/// Threads that keep two programs busy on each CPU until they are dropped.
struct BusyMachine(Arc<AtomicBool>);

impl BusyMachine {
    fn start() -> BusyMachine {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..2 * std::thread::available_parallelism().unwrap().get() {
            let is_over = is_over.clone();
            std::thread::spawn(move || while !is_over.load(Ordering::Relaxed) {});
        }
        BusyMachine(is_over)
    }
}

impl Drop for BusyMachine {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_cpu_limit_is_exact_on_a_busy_machine() {
    let daemon = Daemon::start(&Options { profiles: "c", floor: 1, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let limits = json!({ "cpu_ms": 300, "wall_ms": 60_000 });
    assert_eq!(caller.ok("submission.run", c(&["none"], limits.clone()))["verdict"], "accepted");
    let _busy = BusyMachine::start();
    for (ms, verdict) in [("270", "accepted"), ("330", "time_limit")] {
        for _ in 0..5 * rounds() {
            let report = caller.ok("submission.run", c(&["spin", ms], limits.clone()));
            assert_eq!(report["verdict"], verdict, "{report:#}");
            assert_eq!(report["run"]["cpu_ms"].as_f64() >= Some(300.0), verdict == "time_limit", "{report:#}");
        }
    }
    // signals that the kernel sends at a limit, sent by the program itself
    let report = caller.ok("submission.run", c(&["raise", "24"], limits));
    assert_eq!((&report["verdict"], &report["run"]["signal"]), (&json!("runtime_error"), &json!(24)), "{report:#}");
}

#[test]
fn a_denied_process_is_evidence_and_message() {
    let daemon = Daemon::start(&Options { profiles: "c,python", floor: 1, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let report = caller.ok("submission.run", c(&["fork", "63"], json!({ "pids": 64 })));
    assert_eq!((&report["verdict"], &report["run"]["evidence"]["pids_denied"]), (&json!("accepted"), &json!(0)));
    let report = caller.ok("submission.run", c(&["fork", "66"], json!({ "pids": 64 })));
    assert_eq!((&report["verdict"], &report["run"]["evidence"]["pids_denied"]), (&json!("runtime_error"), &json!(3)));
    assert!(report["message"].as_str().unwrap().contains("64 processes"), "{report:#}");
    let threads =
        "import threading, time\nfor _ in range(70):\n    threading.Thread(target=time.sleep, args=(5,)).start()";
    for _ in 0..3 {
        let report = caller.ok("submission.run", with(submission("python", threads), "limits", json!({ "pids": 64 })));
        assert!(report["run"]["evidence"]["pids_denied"].as_u64() > Some(0), "{report:#}");
        assert!(report["message"].as_str().unwrap().contains("64 processes"), "{report:#}");
    }
}

/// Fills the tmpfs after it has tried to make the init the one that the kernel kills.
const FILL: &str = r"
import signal, sys
if sys.stdin.read() != 'fill':
    sys.exit()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    open('/proc/self/oom_score_adj', 'w').write('0')
except OSError:
    pass
n = 0
while True:
    n += 1
    try:
        with open(('/tmp/' if n % 2 else '/box/') + str(n), 'wb') as file:
            file.write(b'x' * 2**20)
    except OSError:
        pass
";

fn earlier_results_stay(isolation: &str) {
    let (_folder, daemon) = daemon("python", isolation);
    let mut caller = daemon.caller();
    for _ in 0..3 {
        let tests = ["", "", "fill", ""].map(|stdin| json!({ "stdin": stdin, "expect": "" }));
        let work = with(submission("python", FILL), "tests", json!(tests));
        let work = with(work, "limits", json!({ "memory_bytes": 40 * MIB }));
        let report = caller.ok("submission.run", work);
        let verdicts: Vec<_> = (0..3).map(|test| report["tests"][test]["verdict"].as_str().unwrap_or("")).collect();
        let third = ["memory_limit", "time_limit"].contains(&verdicts[2]);
        assert!(verdicts[..2] == ["accepted", "accepted"] && third, "{report:#}");
    }
}

#[test]
fn tests_that_were_finished_stay_when_a_program_fills_the_memory_in_cell() {
    earlier_results_stay("cell");
}

#[test]
fn tests_that_were_finished_stay_when_a_program_fills_the_memory_in_split() {
    earlier_results_stay("split");
}

/// Random numbers that are the same in each run (a linear congruential generator).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }
}

/// The limits that a run's figures exceed, by the verdicts that they would give.
fn exceeded(run: &Value, limits: &Value) -> Vec<&'static str> {
    let (figure, limit) = (|name: &str| run[name].as_f64().unwrap(), |name: &str| limits[name].as_f64().unwrap());
    let all = [
        (figure("memory_bytes") > limit("memory_bytes"), "memory_limit"),
        (figure("cpu_ms") >= limit("cpu_ms"), "time_limit"),
        (figure("wall_ms") >= limit("wall_ms"), "time_limit"),
    ];
    all.into_iter().filter(|(is_above, _)| *is_above).map(|(_, verdict)| verdict).collect()
}

#[test]
fn no_report_contradicts_itself() {
    let daemon = Daemon::start(&Options { profiles: "c,python", floor: 0, ceiling: 2, ..Options::default() });
    let mut caller = daemon.caller();
    let mut random = Random(std::env::var("ASSAY_ACCOUNTING_SEED").map_or(1, |seed| seed.parse().unwrap()));
    for round in 0..4 * rounds() {
        let memory = random.between(48, 96);
        let (cpu, pids) = (random.between(100, 400), random.between(6, 30));
        let limits = json!({ "memory_bytes": memory * MIB, "cpu_ms": cpu, "wall_ms": 20_000, "pids": pids, "output_bytes": 10_000 });
        let tests: Vec<Value> = (0..6)
            .map(|_| {
                let (near, half) = (random.between(memory / 2, memory * 5 / 4), random.between(memory / 8, memory / 3));
                let args = match random.below(5) {
                    0 => vec!["touch".to_owned(), near.to_string()],
                    1 => vec!["spin".to_owned(), random.between(cpu / 2, cpu * 3 / 2).to_string()],
                    2 => vec!["fork".to_owned(), random.between(1, pids * 2).to_string()],
                    3 => vec!["write".to_owned(), near.to_string()],
                    _ => vec!["share".to_owned(), half.to_string(), random.between(1, 4).to_string()],
                };
                json!({ "args": args, "expect": "done\n" })
            })
            .collect();
        let (name, code) = if round % 2 == 0 { ("c", PROGRAM) } else { ("python", PYTHON) };
        let work = with(with(submission(name, code), "limits", limits.clone()), "tests", json!(tests));
        let report = caller.ok("submission.run", work);
        for (test, asked) in report["tests"].as_array().unwrap().iter().zip(&tests) {
            let above = exceeded(test, &limits);
            let verdict = test["verdict"].as_str().unwrap();
            let is_limit = ["memory_limit", "time_limit"].contains(&verdict);
            let holds = if is_limit { above.contains(&verdict) } else { above.is_empty() };
            assert!(holds, "round {round}, {above:?} exceeded: {asked} {limits} {test:#}");
            let denied = test["evidence"]["pids_denied"].as_u64().unwrap();
            assert!(denied == 0 || asked["args"][0] == "fork", "{asked} {test:#}");
            let forks: u64 = asked["args"][1].as_str().unwrap().parse().unwrap();
            let is_denied = asked["args"][0] == "fork" && forks >= pids;
            assert!(is_limit || (denied > 0) == is_denied, "{asked} {limits} {test:#}");
        }
    }
}

/// [`PROGRAM`] in Python.
const PYTHON: &str = r"
import os, signal, sys, time
verb, n = sys.argv[1], int(sys.argv[2])
if verb == 'touch':
    block = bytearray(n << 20)
    block[::4096] = b'x' * len(range(0, n << 20, 4096))
elif verb == 'spin':
    while time.process_time_ns() < n * 1_000_000: pass
elif verb == 'fork':
    for _ in range(n):
        try:
            if os.fork() == 0:
                signal.pause()
        except OSError as error:
            failed = error
    if 'failed' in vars():
        sys.exit(f'Error: {failed}')
elif verb == 'write':
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    files = [open(f'/box/{i}' if i % 4 else f'/tmp/{i}', 'wb') for i in range(n)]
    for file in files:
        try:
            file.write(b'x' * 2**20); file.flush()
        except OSError:
            pass
elif verb == 'share':
    for _ in range(int(sys.argv[3])):
        if os.fork() == 0:
            block = bytearray(n << 20)
            block[::4096] = b'x' * len(range(0, n << 20, 4096))
            time.sleep(0.1)
            os._exit(0)
    while True:
        try: os.wait()
        except ChildProcessError: break
print('done')
";
