//! Isolation of runs, reuse of sandboxes, and collected files.

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, eventually, images, patient, root, skip, submission, with};
use crate::private_engine::{PrivateEngine, load_images};

/// A folder with a changed copy of one profile.
fn profile(name: &str, top: &str, pool: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join(format!("config/profiles/{name}.toml"))).unwrap();
    let (head, rest) = text.split_at(text.find("\n[").unwrap());
    let text = format!("{head}\n{top}\n{}", rest.replace("[pool]\n", &format!("[pool]\n{pool}\n")));
    std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    folder
}

fn start<'a>(name: &'a str, folder: &'a tempfile::TempDir, config: &'a str) -> Daemon {
    let options = Options {
        profiles: name,
        profiles_dir: Some(folder.path()),
        floor: 1,
        ceiling: 4,
        config,
        ..Options::default()
    };
    let daemon = Daemon::start(&options);
    daemon.warm();
    daemon
}

fn of(tenant: &str, code: &str) -> Value {
    with(submission("python", code), "tenant", json!(tenant))
}

/// Runs a submission. Returns the report and the sandbox's id when the sandbox was kept or retired.
fn run(caller: &mut Caller, work: Value) -> (Value, String) {
    let report = caller.ok("submission.run", work);
    let id = report["sandbox"]["id"].as_str().unwrap_or("none").to_owned();
    eventually("the lease has ended", || {
        caller.ok("pool.list", json!({}))["pools"].as_array().unwrap().iter().all(|pool| pool["leased"] == 0)
    });
    (report, id)
}

const LEAVE: &str = "import os\nopen('left','w'); open('/tmp/left','w'); open('/dev/shm/left','w')\nprint(sorted(os.listdir('.')), os.listdir('/tmp'), os.listdir('/dev/shm'))";

#[test]
fn a_used_sandbox_serves_its_own_caller_again() {
    let folder = profile("python", "isolation = 'cell'\nallow = ['sysv_ipc']", "reuse = 4");
    let daemon = start("python", &folder, "");
    let mut caller = daemon.caller_as(4001);
    let (report, first) = run(&mut caller, of("a", LEAVE));
    assert_eq!(report["sandbox"]["isolation"], "cell");
    let clean = "['left', 'main.py'] ['left'] ['left']\n";
    assert_eq!((&report["run"]["stdout"], &report["sandbox"]["uses"]), (&json!(clean), &json!(1)));
    // the caller's next submissions run in the same sandbox and find it clean; four in total
    for uses in 2..=4 {
        let (report, id) = run(&mut caller, of("a", LEAVE));
        let seen = (&report["run"]["stdout"], &id, &report["sandbox"]["uses"]);
        assert_eq!(seen, (&json!(clean), &first, &json!(uses)), "{report:#}");
    }
    assert_ne!(run(&mut caller, of("a", LEAVE)).1, first);

    // no other caller gets a kept sandbox: no other tenant or uid, and no caller without a tenant
    let (_, of_a) = run(&mut caller, of("a", "print(1)"));
    let (_, of_b) = run(&mut caller, of("b", "print(1)"));
    assert_ne!(of_a, of_b);
    assert_ne!(run(&mut daemon.caller_as(4002), of("a", "print(1)")).1, of_a);
    let (_, nameless) = run(&mut caller, submission("python", "print(1)"));
    assert!(nameless != of_a && nameless != of_b);
    assert_eq!(run(&mut caller, of("b", "print(1)")).1, of_b);

    // a cell's IPC objects end with it; a sandbox that ran out of memory is not reused
    let shm = "import ctypes\nlibc = ctypes.CDLL(None)\nprint(libc.shmget(77, 4096, 0o1600) >= 0)";
    let (report, id) = run(&mut caller, of("c", shm));
    assert_eq!(report["run"]["stdout"], "True\n", "{report:#}");
    assert_eq!(run(&mut caller, of("c", "print(1)")).1, id);
    assert_eq!(caller.ok("daemon.status", json!({}))["counters"]["residue"], 0);
    let (report, id) = run(&mut caller, of("d", "x = bytearray(1 << 30)"));
    assert_eq!(report["verdict"], "memory_limit", "{report:#}");
    assert_ne!(run(&mut caller, of("d", "print(1)")).1, id);
}

/// Runs the same work three times for one caller. Returns how many submissions each run's sandbox
/// had then served, itself included.
fn uses(caller: &mut Caller, work: &Value) -> Vec<u64> {
    let mut report = || run(caller, work.clone()).0;
    (0..3).map(|_| report()["sandbox"]["uses"].as_u64().unwrap()).collect()
}

#[test]
fn sandboxes_serve_again_by_default_and_the_setting_says_whose() {
    let (nameless, named) = (submission("python", "print(1)"), of("a", "print(1)"));
    for (setting, without, with_tenant) in [
        ("", [1, 2, 3], [1, 2, 3]),
        ("reuse = 'always'", [1, 2, 3], [1, 2, 3]),
        ("reuse = 'tenant'", [1, 1, 1], [1, 2, 3]),
        ("reuse = 'never'", [1, 1, 1], [1, 1, 1]),
    ] {
        let config = format!("[isolation]\n{setting}\n");
        let daemon = Daemon::start(&Options { floor: 1, ceiling: 4, config: &config, ..Options::default() });
        daemon.warm();
        let mut caller = daemon.caller();
        let feature = if setting.is_empty() { "reuse:always" } else { &setting.replace(" = ", ":").replace('\'', "") };
        let features = caller.hello["params"]["features"].as_array().unwrap().clone();
        assert!(features.contains(&json!(feature)), "{setting}: {features:?}");
        assert_eq!(uses(&mut caller, &nameless), without, "{setting}");
        assert_eq!(uses(&mut caller, &named), with_tenant, "{setting}");
    }
}

#[test]
fn single_use_can_be_asked_for_by_submission_and_by_profile() {
    let daemon = Daemon::start(&Options { floor: 1, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let (_, kept) = run(&mut caller, submission("python", "print(1)"));
    // a fresh submission gets an unused sandbox, which serves no other afterwards
    let fresh = with(submission("python", "print(1)"), "fresh", json!(true));
    let (report, id) = run(&mut caller, fresh.clone());
    assert_eq!(report["sandbox"]["uses"], 1);
    assert_ne!(id, kept);
    assert_eq!(uses(&mut caller, &fresh), [1, 1, 1]);
    assert_eq!(run(&mut caller, submission("python", "print(1)")).1, kept);
    drop(daemon);
    for (top, pool) in [("", "reuse = 1"), ("isolation = 'split'", "reuse = 9")] {
        let folder = profile("python", top, pool);
        let daemon = start("python", &folder, "");
        assert_eq!(uses(&mut daemon.caller(), &of("a", LEAVE)), [1, 1, 1], "{top} {pool}");
    }
}

#[test]
fn a_fresh_submission_is_not_held_up_by_kept_sandboxes() {
    // the one place below the ceiling is kept for the same caller
    let options = Options { floor: 0, ceiling: 1, ..Options::default() };
    let daemon = Daemon::start(&options);
    let mut caller = daemon.caller();
    let (_, kept) = run(&mut caller, submission("python", "print(1)"));
    let fresh = with(submission("python", "print(2)"), "fresh", json!(true));
    let (report, id) = run(&mut caller, fresh);
    assert_eq!((&report["run"]["stdout"], id == kept), (&json!("2\n"), false));
}

#[test]
fn kept_sandboxes_are_evicted_for_waiting_submissions() {
    let folder = profile("python", "", "reuse = 9");
    let options =
        Options { profiles: "python", profiles_dir: Some(folder.path()), floor: 1, ceiling: 2, ..Options::default() };
    let daemon = Daemon::start(&options);
    let mut caller = daemon.caller_as(4003);
    for tenant in 0..6 {
        let (report, _) = run(&mut caller, of(&tenant.to_string(), "print(1)"));
        assert_eq!(report["verdict"], "accepted");
    }
    let pool = caller.ok("pool.list", json!({}))["pools"][0].clone();
    assert!(pool["kept"].as_u64() <= Some(2) && pool["reused"].as_u64() >= Some(3), "{pool}");
}

#[test]
fn files_are_collected_by_pattern_or_refused_with_a_reason() {
    let daemon = Daemon::start(&Options { floor: 1, ..Options::default() });
    let code = r#"
import os
os.makedirs('out/deep')
open('out/a.txt', 'w').write('text')
open('out/deep/b.bin', 'wb').write(b'\xff\x00')
open('out/large', 'wb').write(b'x' * 3_000_000)
os.symlink('/etc/passwd', 'out/link')
os.mkfifo('out/pipe')
open('not asked for', 'w')
"#;
    let mut caller = daemon.caller();
    let work = with(submission("python", code), "collect", json!(["out/**", "nothing/*"]));
    let report = caller.ok("submission.run", work);
    let blob = report["files"][2]["content"]["blob"].clone();
    assert_eq!(
        report["files"],
        json!([
            { "path": "out/a.txt", "size_bytes": 4, "content": "text" },
            { "path": "out/deep/b.bin", "size_bytes": 2, "content_b64": "/wA=" },
            { "path": "out/large", "size_bytes": 3_000_000, "content": { "blob": blob } },
            { "path": "out/link", "error": "not_a_file" },
            { "path": "out/pipe", "error": "not_a_file" },
        ])
    );
    let piece = caller.ok("blob.get", json!({ "blob": blob, "offset": 2_999_999 }));
    assert_eq!(piece, json!({ "data_b64": "eA==", "eof": true }));
    assert!(report["timing"]["collect_ms"].as_f64().unwrap() > 0.0);
    // beyond the limit on their sum
    let code = "for n in range(3): open(f'f{n}', 'wb').write(bytes(30_000_000))";
    let report = caller.ok("submission.run", with(submission("python", code), "collect", json!(["f*"])));
    assert_eq!(
        (&report["files"][1]["size_bytes"], &report["files"][2]["error"]),
        (&json!(30_000_000), &json!("too_large"))
    );
}

#[test]
fn required_isolation_is_provided_or_the_pool_reports_why_not() {
    let folder = profile("bash", "isolation = 'split'", "");
    let config = "[isolation]\nrequire_nonroot=true\n";
    let options =
        Options { profiles: "bash", profiles_dir: Some(folder.path()), floor: 1, config, ..Options::default() };
    let daemon = Daemon::start(&options);
    let mut caller = daemon.caller();
    eventually("the pool reports why", || {
        let pool = caller.ok("pool.list", json!({}))["pools"][0].clone();
        pool["broken"].as_str().is_some_and(|why| why.contains("require_nonroot"))
    });
    drop(daemon);
    let folder = profile("bash", "", "");
    let daemon = start("bash", &folder, config);
    let mut caller = daemon.caller();
    let report = caller.run("bash", "id -u; cat /proc/self/uid_map");
    assert_eq!(report["sandbox"]["isolation"], "cell", "{report:#}");
    let error = caller.error("submission.run", with(submission("bash", ":"), "isolation", json!("split")));
    assert_eq!((&error["data"]["code"], &error["data"]["field"]), (&json!("unsupported"), &json!("isolation")));
    assert_eq!(
        caller.ok("submission.run", with(submission("bash", ":"), "isolation", json!("cell")))["verdict"],
        "accepted"
    );
}

#[test]
fn a_profile_may_allow_denied_system_calls() {
    let code = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.ptrace(0, 0, 0, 0), libc.shmget(77, 4096, 0o1600) >= 0)";
    for (allow, output) in
        [("", "-1 False\n"), ("allow = ['ptrace']", "0 False\n"), ("allow = ['sysv_ipc']", "-1 True\n")]
    {
        let folder = profile("python", allow, "");
        let daemon = start("python", &folder, "");
        assert_eq!(daemon.caller().run("python", code)["run"]["stdout"], output, "{allow}");
    }
}

#[test]
fn a_profile_may_allow_terminals() {
    let code = "import os\ntry:\n  a, b = os.openpty()\n  os.write(a, b'hi\\n')\n  print(os.read(b, 9))\nexcept OSError as e: print('none')";
    for isolation in ["cell", "split"] {
        for (allow, output) in [("", "none\n"), ("allow = ['pty']", "b'hi\\n'\n")] {
            let folder = profile("python", &format!("isolation = '{isolation}'\n{allow}"), "");
            let daemon = start("python", &folder, "");
            let report = daemon.caller().run("python", code);
            assert_eq!(report["run"]["stdout"], output, "{isolation} {allow}: {report:#}");
        }
    }
}

#[test]
fn gvisor_gives_programs_a_kernel_of_their_own() {
    if !std::path::Path::new("/usr/bin/runsc").exists() {
        return skip("there is no /usr/bin/runsc");
    }
    images();
    // the engine's network mode "none" does not work with runsc's own network (docs/ENGINE.md)
    let folder = tempfile::tempdir().unwrap();
    let runtime = folder.path().join("runsc");
    std::fs::write(&runtime, "#!/bin/sh\nexec /usr/bin/runsc --network=none \"$@\"\n").unwrap();
    std::fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let engine = PrivateEngine::start(&[&format!("--add-runtime=runsc={}", runtime.display())]);
    load_images(&engine, "base|python");
    let profile = profile("python", "runtime = 'runsc'", "");
    let host = format!("unix://{}", engine.socket().display());
    let daemon = Daemon::start(&Options {
        profiles: "python",
        profiles_dir: Some(profile.path()),
        floor: 1,
        engine: Some(&host),
        ..Options::default()
    });
    let mut caller = daemon.caller();
    let version = patient(submission("python", "import os\nprint(os.uname().version, os.getuid() > 0)"));
    let report = caller.ok("submission.run", version);
    assert_eq!(report["verdict"], "accepted", "{report:#}\n{}", daemon.log());
    // gVisor reports that it is Linux 4.4
    assert!(report["run"]["stdout"].as_str().unwrap().starts_with("#1 SMP Sun Jan 10"), "{report:#}");
    let spin = with(submission("python", "while True: pass"), "limits", json!({ "cpu_ms": 1000, "wall_ms": 60_000 }));
    assert_eq!(caller.ok("submission.run", spin)["run"]["outcome"], "cpu_limit");
    let mut ends = |code: &str| caller.ok("submission.run", patient(submission("python", code)));
    assert_eq!(ends("x = bytearray(1 << 30)")["verdict"], "memory_limit");
    assert_eq!(ends("print(input())")["run"]["exit_code"], 1);
}

#[test]
fn no_submission_fails_because_a_kept_sandbox_was_evicted_or_ended() {
    let folder = profile("bash", "", "reuse = 1000");
    let options = Options {
        profiles: "bash",
        profiles_dir: Some(folder.path()),
        floor: 0,
        ceiling: 3,
        config: "[engine]\ncpu_overcommit=8\n",
        ..Options::default()
    };
    let daemon = Daemon::start(&options);
    daemon.caller().run("bash", ":");
    // more tenants than sandboxes: kept ones are evicted all the time while their callers come back
    let callers: Vec<_> = (0..6)
        .map(|n| {
            let mut caller = daemon.caller_as(4200);
            std::thread::spawn(move || {
                for turn in 0..40 {
                    let tenant = if turn % 3 == 0 { n } else { n % 2 };
                    let work = with(submission("bash", "echo $((6 * 7))"), "tenant", json!(tenant.to_string()));
                    let report = caller.ok("submission.run", work);
                    assert_eq!(report["verdict"], "accepted", "{report:#}");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    let counters = daemon.caller().ok("daemon.status", json!({}))["counters"].clone();
    assert_eq!(counters["system_error"], 0, "{counters}");
}
