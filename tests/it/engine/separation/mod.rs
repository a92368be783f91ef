//! Nothing passes from one run to the next, whether the next one is a test of the same submission
//! or another submission in a reused sandbox.
//!
//! `ASSAY_SEPARATION_ROUNDS` sets how often the long form repeats all polluters
//! (`make separation`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, eventually, patient, root, submission, with};

const POLLUTERS: &str = include_str!("polluters.c");
const KINDS: i64 = 30;

/// A daemon that keeps the sandboxes of this profile for as many submissions as a test sends.
fn reusing(profile: &str) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join(format!("config/profiles/{profile}.toml"))).unwrap();
    let text = text.replace("[pool]\n", "[pool]\nreuse = 1000000\n");
    std::fs::write(folder.path().join(format!("{profile}.toml")), text).unwrap();
    let profiles_dir = Some(folder.path());
    let daemon =
        Daemon::start(&Options { profiles: profile, profiles_dir, floor: 1, ceiling: 2, ..Options::default() });
    daemon.warm();
    daemon
}

/// Runs a submission and waits until its sandbox is kept or retired.
fn run(caller: &mut Caller, work: Value) -> Value {
    let report = caller.ok("submission.run", work);
    eventually("the lease has ended", || {
        caller.ok("pool.list", json!({}))["pools"].as_array().unwrap().iter().all(|pool| pool["leased"] == 0)
    });
    report
}

/// One test for each of these numbers on stdin.
fn polluting(kinds: &[i64]) -> Value {
    let tests: Vec<Value> = kinds.iter().map(|kind| json!({ "stdin": kind.to_string(), "expect": "ok\n" })).collect();
    let files = json!([{ "path": "main.c", "content": POLLUTERS }]);
    let limits = json!({ "cpu_ms": 8000, "wall_ms": 40_000 });
    patient(json!({ "language": "c", "tenant": "t", "files": files, "tests": tests, "limits": limits }))
}

fn rounds() -> i64 {
    std::env::var("ASSAY_SEPARATION_ROUNDS").map_or(0, |rounds| rounds.parse().unwrap())
}

#[test]
fn a_program_that_needs_most_of_its_memory_is_accepted_after_any_polluter_of_the_same_caller() {
    let daemon = reusing("c");
    let mut caller = daemon.caller_as(4301);
    let all: Vec<i64> = match rounds() {
        0 => vec![0, 1, 2, 6, 11, 18, 21, 24, 28, 29],
        rounds => (0..rounds).flat_map(|_| 0..KINDS).collect(),
    };
    for kind in all {
        run(&mut caller, polluting(&[kind]));
        let report = run(&mut caller, polluting(&[-1]));
        assert_eq!(report["verdict"], "accepted", "after {kind}: {report:#}");
    }
}

#[test]
fn a_program_that_needs_most_of_its_memory_is_accepted_as_the_test_after_any_polluter() {
    let daemon = reusing("c");
    let mut caller = daemon.caller();
    for _ in 0..rounds().max(1) {
        for kinds in (0..KINDS).collect::<Vec<_>>().chunks(6) {
            let tests: Vec<i64> = kinds.iter().flat_map(|kind| [*kind, -1]).collect();
            let report = run(&mut caller, polluting(&tests));
            for (kind, test) in tests.iter().zip(report["tests"].as_array().unwrap()) {
                let is_accepted = test["verdict"] == "accepted";
                // a polluter's own verdict does not matter here
                assert!(is_accepted || *kind >= 0, "a victim in {tests:?}: {test:#}\n{report:#}");
            }
        }
    }
}

#[test]
fn forks_of_a_runtime_share_no_randomness() {
    let folder = tempfile::tempdir().unwrap();
    let profile = root().join("config/profiles/python-numpy.toml");
    let text = std::fs::read_to_string(profile).unwrap();
    let modules = "load = ['numpy', 'ssl', 'uuid', 'tempfile', 'random', 'multiprocessing']\n";
    let text = text.lines().filter(|line| !line.starts_with("load")).collect::<Vec<_>>().join("\n");
    let text = text.replace("[[prewarm]]\n", &format!("[[prewarm]]\n{modules}"));
    std::fs::write(folder.path().join("python-numpy.toml"), text).unwrap();
    let profiles_dir = Some(folder.path());
    let daemon = Daemon::start(&Options { profiles: "python-numpy", profiles_dir, floor: 1, ..Options::default() });
    let mut caller = daemon.caller();
    eventually("a runtime is prewarmed", || caller.ok("pool.list", json!({}))["pools"][0]["hot"].as_u64() >= Some(1));
    let code = "import numpy, ssl, uuid, tempfile, random, multiprocessing as m\n\
        print(numpy.random.random(), numpy.random.randint(1 << 60))\n\
        print(ssl.RAND_bytes(16).hex())\nprint(uuid.uuid4())\nprint(uuid.getnode(), uuid.uuid1().clock_seq)\n\
        print(next(tempfile._get_candidate_names()))\nprint(random.random())\n\
        print(bytes(m.current_process().authkey).hex())";
    let files = json!([{ "path": "main.py", "content": code }]);
    let work = json!({ "language": "python-numpy", "files": files, "tests": vec![json!({}); 8] });
    let report = caller.ok("submission.run", patient(work));
    assert_eq!(report["start"], "hot", "{report:#}");
    let outputs: Vec<Vec<&str>> = report["tests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|test| test["stdout"].as_str().unwrap().lines().collect())
        .collect();
    for line in 0..7 {
        let values: BTreeSet<&str> = outputs.iter().map(|output| output[line]).collect();
        assert_eq!(values.len(), outputs.len(), "{line}: {outputs:?}");
    }
}

#[test]
fn a_template_is_replaced_after_some_uses() {
    let daemon = reusing("python");
    let mut caller = daemon.caller_as(4302);
    let code = "print(hash('text'), id(print))";
    let mut hashes = BTreeSet::new();
    for _ in 0..120 {
        let report = run(&mut caller, with(submission("python", code), "tenant", json!("t")));
        assert_eq!(report["verdict"], "accepted", "{report:#}");
        if report["start"] == "hot" {
            hashes.insert(report["run"]["stdout"].as_str().unwrap().to_owned());
        }
        if hashes.len() > 4 {
            return;
        }
    }
    panic!("{} values in 120 runs", hashes.len());
}

#[test]
fn programs_see_the_limits_of_their_cgroup_and_nothing_else_of_it() {
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 1, ..Options::default() });
    let mut caller = daemon.caller();
    let code = "cat /proc/self/cgroup | grep -v ':/$'\n\
        find /sys/fs/cgroup -type f | sort | sed 's,.*/,,' | sort -u | tr '\\n' ' '\n\
        cat $(find /sys/fs/cgroup -name memory.limit_in_bytes -o -name memory.max)\n\
        (echo 1 > $(find /sys/fs/cgroup -name memory.limit_in_bytes -o -name memory.max)) 2>/dev/null && echo written\n\
        for f in hostname hosts resolv.conf; do stat -f -c %T /etc/$f; done";
    for limit in [200 << 20, 300 << 20] {
        let report =
            caller.ok("submission.run", with(submission("bash", code), "limits", json!({ "memory_bytes": limit })));
        if report["sandbox"]["isolation"] != "cell" {
            return crate::harness::skip("no cells here");
        }
        let text = report["run"]["stdout"].as_str().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let allowed = [
            "memory.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "memory.max",
            "memory.high",
            "cpu.cfs_quota_us",
            "cpu.cfs_period_us",
            "cpu.shares",
            "cpuset.cpus",
            "cpuset.mems",
            "cpuset.cpus.effective",
            "cgroup.controllers",
            "cpu.max",
            "cpu.weight",
        ];
        let (names, shown) = lines[0].rsplit_once(' ').unwrap();
        assert!(names.split(' ').all(|name| allowed.contains(&name)), "{text}");
        assert_eq!(shown, limit.to_string(), "{text}");
        assert_eq!(lines[1..], ["tmpfs", "tmpfs", "tmpfs"], "{text}");
    }
}

#[test]
fn runtimes_size_their_heaps_by_the_programs_memory_limit() {
    let daemon = Daemon::start(&Options { profiles: "java,javascript", floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let java = "public class Main { public static void main(String[] a) {\n\
        System.out.println(Runtime.getRuntime().maxMemory() >> 20); } }";
    let node = "console.log(require('v8').getHeapStatistics().heap_size_limit / 1048576)";
    for (language, file, code) in [("java", "Main.java", java), ("javascript", "main.js", node)] {
        let heap = |caller: &mut Caller, mib: u64| {
            let work = json!({ "language": language, "files": [{ "path": file, "content": code }],
                "limits": { "memory_bytes": mib << 20 } });
            let report = caller.ok("submission.run", patient(work));
            assert_eq!(report["verdict"], "accepted", "{report:#}");
            report["run"]["stdout"].as_str().unwrap().trim().parse::<f64>().unwrap()
        };
        let (small, large) = (heap(&mut caller, 512), heap(&mut caller, 1024));
        assert!(small < 512.0 && large < 1024.0, "{language}: {small} {large} MiB");
        assert!((1.6..2.4).contains(&(large / small)), "{language}: {small} {large} MiB");
    }
}
