//! The queue and the hosts on real engines: turns, deadlines, capacity, several hosts, reload.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, eventually, images, root, submission, with};
use crate::private_engine::{PrivateEngine, load_images};

fn sleeper(seconds: f64) -> Value {
    submission("bash", &format!("sleep {seconds}; echo done"))
}

/// The verdict of a call's report, or the code of its error.
fn outcome(answer: &Value) -> String {
    let outcome = answer["result"]["verdict"].as_str().or(answer["error"]["data"]["code"].as_str());
    outcome.unwrap_or("?").to_owned()
}

fn answered_count(caller: &mut Caller) -> u64 {
    caller.ok("daemon.status", json!({}))["counters"]["answered"].as_u64().unwrap()
}

#[test]
fn a_caller_with_many_submissions_takes_turns_with_the_others() {
    // sixty submissions, two sandboxes at a time
    let config = "[queue]\npatience_ms=600000\n";
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 2, ceiling: 2, config, ..Options::default() });
    let mut busy = daemon.caller_as(3001);
    let ids: Vec<u64> = (0..60).map(|_| busy.send("submission.run", &sleeper(0.05))).collect();
    let mut admin = daemon.caller();
    eventually("the busy caller's submissions are queued", || {
        admin.ok("daemon.status", json!({}))["queue"]["callers"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["uid"] == 3001)
    });
    let mut modest = daemon.caller_as(3002);
    let before = answered_count(&mut admin);
    for _ in 0..4 {
        assert_eq!(outcome(&modest.call("submission.run", sleeper(0.05))), "accepted");
    }
    // each of the four submissions waited for one or two of the busy caller's, not for all sixty
    let passed = answered_count(&mut admin) - before;
    assert!(passed <= 30, "{passed} were answered while a modest caller had four");
    for id in ids {
        assert_eq!(outcome(&busy.answer(id)), "accepted");
    }
}

#[test]
fn max_running_per_uid_bounds_one_uid_and_not_the_others() {
    let text = "[queue]\nmax_running_per_uid=1\n";
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 3, ceiling: 4, config: text, ..Options::default() });
    daemon.warm();
    let mut one = daemon.caller_as(3003);
    let ids: Vec<u64> = (0..3).map(|_| one.send("submission.run", &sleeper(1.5))).collect();
    let mut admin = daemon.caller();
    let row = json!([{ "uid": 3003, "waiting": 2, "running": 1 }]);
    eventually("one runs, two wait", || admin.ok("daemon.status", json!({}))["queue"]["callers"] == row);
    assert_eq!(outcome(&daemon.caller_as(3004).call("submission.run", sleeper(0.0))), "accepted");
    for id in ids {
        assert_eq!(outcome(&one.answer(id)), "accepted");
    }
}

#[test]
fn a_uid_that_submits_too_fast_is_told_when_to_come_again_and_others_are_not() {
    // one per hour: no test is slow enough to get another one by waiting
    let text = "[queue]\nmax_rate_per_uid=0.001\nburst_per_uid=2\n";
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 1, config: text, ..Options::default() });
    let mut one = daemon.caller_as(3003);
    for _ in 0..2 {
        assert_eq!(outcome(&one.call("submission.run", sleeper(0.0))), "accepted");
    }
    let data = &one.error("submission.run", sleeper(0.0))["data"];
    assert_eq!(data["code"], "quota_exceeded", "{data}");
    assert!(data["message"].as_str().unwrap().contains("0.001 submissions per second"), "{data}");
    assert!((1..=1_000_000).contains(&data["retry_after_ms"].as_u64().unwrap()), "{data}");
    assert_eq!(outcome(&daemon.caller_as(3004).call("submission.run", sleeper(0.0))), "accepted");
}

#[test]
fn a_deadline_below_the_predicted_wait_is_refused_at_once() {
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 1, ceiling: 1, ..Options::default() });
    let mut caller = daemon.caller();
    for _ in 0..14 {
        caller.send("submission.run", &sleeper(0.5));
    }
    // the wait is estimated after some allocations
    for _ in 0..6 {
        assert_eq!(outcome(&caller.line()), "accepted");
    }
    let error = caller.error("submission.run", with(sleeper(0.0), "deadline_ms", json!(700)));
    assert_eq!(error["data"]["code"], "deadline_unreachable", "{error}");
    assert!(error["data"]["retry_after_ms"].as_u64() >= Some(100), "{error}");
    // a longer deadline is admitted
    assert_eq!(outcome(&caller.call("submission.run", with(sleeper(0.0), "deadline_ms", json!(110_000)))), "accepted");
}

#[test]
fn a_queue_that_is_too_long_refuses_at_once_and_serves_all_that_it_admitted() {
    let config = "[queue]\npatience = '20s'\n[isolation]\nreuse = 'always'\n";
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 1, ceiling: 4, config, ..Options::default() });
    daemon.warm();
    let mut busy = daemon.caller_as(3010);
    // the wait is estimated after some allocations
    let first: Vec<u64> = (0..30).map(|_| busy.send("submission.run", &sleeper(0.3))).collect();
    for id in first {
        assert_eq!(outcome(&busy.answer(id)), "accepted");
    }
    let (mut ids, mut refused, mut modest) = (Vec::new(), 0, daemon.caller_as(3011));
    for round in 0..8 {
        ids.extend((0..50).map(|_| busy.send("submission.run", &sleeper(0.3))));
        // a caller with few submissions is served between those of the busy one
        let report = modest.call("submission.run", sleeper(0.0));
        assert_eq!(outcome(&report), "accepted", "round {round}: {report:#}");
    }
    for id in ids {
        let answer = busy.answer(id);
        match outcome(&answer).as_str() {
            "accepted" => {}
            "queue_full" => {
                refused += 1;
                assert!(answer["error"]["data"]["retry_after_ms"].as_u64() >= Some(100), "{answer}");
            }
            other => panic!("{other}: {answer:#}"),
        }
    }
    assert!(refused > 50, "{refused} of 400 were refused");
}

#[test]
fn runs_start_only_within_the_cpu_capacity() {
    let text = "[engine]\ncpu_overcommit=0.5\n";
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 3, ceiling: 4, config: text, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let ids: Vec<u64> = (0..3).map(|_| caller.send("submission.run", &sleeper(0.4))).collect();
    let cpus = host_cpus(&daemon);
    let mut most = 0;
    let mut admin = daemon.caller();
    while answered_count(&mut admin) < 3 {
        let status = admin.ok("daemon.status", json!({}));
        most = most.max(status["queue"]["running"].as_u64().unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(most >= 1, "no sample saw a run");
    assert!(most as f64 <= (cpus * 0.5).max(1.0), "{most} at a time on {cpus} CPUs");
    for id in ids {
        assert_eq!(outcome(&caller.answer(id)), "accepted");
    }
}

#[test]
fn submissions_with_referees_take_no_more_than_the_hosts_room() {
    // three submissions find all their sandboxes ready
    let options = Options {
        profiles: "bash",
        floor: 15,
        ceiling: 15,
        config: "[engine]\ncpu_overcommit=64\n",
        ..Options::default()
    };
    let daemon = Daemon::start(&options);
    daemon.warm();
    let (mut caller, mut admin) = (daemon.caller(), daemon.caller());
    let mut room = || admin.ok("host.list", json!({}))["hosts"][0]["room"].clone();
    let (total, largest) = (room()["memory_bytes"].as_u64().unwrap(), 2_u64 << 30);
    let checkers = 4;
    // one more than fit
    let submissions = total / (largest * checkers) + 1;
    let checker = |at: u64| {
        let code = format!("read x; sleep 1; exit 42 # {at}");
        let files = json!([{ "path": "check.sh", "content": code }]);
        json!({ "kind": "program", "language": "bash", "files": files, "limits": { "memory_bytes": largest } })
    };
    let tests: Vec<Value> = (0..checkers).map(|at| json!({ "checker": checker(at) })).collect();
    let large = with(submission("bash", "echo hi"), "tests", json!(tests));
    let calls: Vec<u64> = (0..submissions).map(|_| caller.send("submission.run", &large)).collect();
    let mut most = 0;
    while answered_count(&mut daemon.caller()) < submissions {
        let taken = room()["memory_bytes_taken"].as_u64().unwrap();
        most = most.max(taken);
        assert!(taken <= total || taken < largest * checkers * 2, "{taken} of {total} bytes");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(most > largest * checkers, "no sample saw a submission with its referees: {most}");
    for call in calls {
        assert_eq!(outcome(&caller.answer(call)), "accepted");
    }
    eventually("all room is given back", || room()["memory_bytes_taken"] == 0);
}

fn host_cpus(daemon: &Daemon) -> f64 {
    daemon.caller().ok("host.list", json!({}))["hosts"][0]["cpus"].as_f64().unwrap()
}

/// A private engine with the image of the bash profile.
fn second_engine() -> PrivateEngine {
    images();
    let engine = PrivateEngine::start(&[]);
    load_images(&engine, "base|bash");
    engine
}

fn two_hosts(engine: &PrivateEngine) -> String {
    let local = "unix:///var/run/docker.sock";
    format!(
        "[[hosts]]\nname='near'\nhost='{local}'\n[[hosts]]\nname='far'\nhost='unix://{}'\n",
        engine.socket().display()
    )
}

fn state_of(caller: &mut Caller, host: &str) -> String {
    let hosts = caller.ok("host.list", json!({}))["hosts"].clone();
    let row = hosts.as_array().unwrap().iter().find(|row| row["name"] == host).unwrap().clone();
    row["state"].as_str().unwrap().to_owned()
}

#[test]
fn work_goes_to_every_host_and_moves_away_from_a_failed_one() {
    let engine = second_engine();
    let hosts = two_hosts(&engine);
    let daemon =
        Daemon::start(&Options { profiles: "bash", floor: 2, ceiling: 4, config: &hosts, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let ids: Vec<u64> = (0..12).map(|_| caller.send("submission.run", &sleeper(0.2))).collect();
    let mut used = Vec::new();
    for id in ids {
        let answer = caller.answer(id);
        assert_eq!(outcome(&answer), "accepted");
        used.push(answer["result"]["sandbox"]["host"].as_str().unwrap().to_owned());
    }
    assert!(used.contains(&"near".to_owned()) && used.contains(&"far".to_owned()), "{used:?}");

    // the engine is killed during runs: they are retried on the other host
    let ids: Vec<u64> = (0..12).map(|_| caller.send("submission.run", &sleeper(2.0))).collect();
    let mut admin = daemon.caller();
    eventually("some run on the far host", || {
        admin.ok("sandbox.list", json!({}))["sandboxes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["host"] == "far" && row["state"] == "leased")
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(engine.pid()), nix::sys::signal::Signal::SIGKILL).unwrap();
    for id in ids {
        assert_eq!(outcome(&caller.answer(id)), "accepted");
    }
    eventually("the far host is down", || state_of(&mut admin, "far") == "down");
    assert!(admin.ok("daemon.status", json!({}))["counters"]["retried"].as_u64() >= Some(1));
    assert_eq!(admin.ok("daemon.health", json!({}))["status"], "degraded");
    assert_eq!(outcome(&caller.call("submission.run", sleeper(0.0))), "accepted");
}

#[test]
fn a_drained_host_gets_no_work_until_it_is_resumed() {
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 1, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let running = caller.send("submission.run", &sleeper(5.0));
    let mut admin = daemon.caller();
    eventually("the submission runs", || admin.ok("daemon.status", json!({}))["queue"]["running"] == 1);
    assert_eq!(admin.error("host.drain", json!({ "host": "lokal" }))["data"]["field"], "host");
    admin.ok("host.drain", json!({ "host": "local" }));
    assert_eq!(state_of(&mut admin, "local"), "draining");
    assert_eq!(admin.error("submission.run", sleeper(0.0))["data"]["code"], "no_host");
    assert_eq!(outcome(&caller.answer(running)), "accepted");
    eventually("no sandbox is left on the host", || daemon.containers().is_empty());
    admin.ok("host.resume", json!({ "host": "local" }));
    assert_eq!(outcome(&admin.call("submission.run", sleeper(0.0))), "accepted");
}

#[test]
fn a_new_configuration_is_applied_completely_or_not_at_all() {
    let profiles = tempfile::tempdir().unwrap();
    let bash = std::fs::read_to_string(root().join("config/profiles/bash.toml")).unwrap();
    std::fs::write(profiles.path().join("bash.toml"), &bash).unwrap();
    let daemon = Daemon::start(&Options { profiles: "", profiles_dir: Some(profiles.path()), ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let before = caller.ok("sandbox.list", json!({}))["sandboxes"][0]["id"].clone();

    std::fs::write(profiles.path().join("shell.toml"), bash.replace("name = \"bash\"", "name = \"shell\"")).unwrap();
    let changed = caller.ok("daemon.reload", json!({}));
    assert_eq!(
        (&changed["profiles"], &changed["hosts"]["kept"]),
        (&json!(["bash", "shell"]), &json!(["local"])),
        "{changed}"
    );
    assert_eq!(outcome(&caller.call("submission.run", with(sleeper(0.0), "language", json!("shell")))), "accepted");
    let rows = caller.ok("sandbox.list", json!({}))["sandboxes"].clone();
    assert!(rows.as_array().unwrap().iter().any(|row| row["id"] == before), "an unchanged pool was disturbed: {rows}");

    // an invalid configuration changes nothing
    std::fs::write(profiles.path().join("shell.toml"), "name = 7").unwrap();
    let error = caller.error("daemon.reload", json!({}));
    assert!(error["message"].as_str().unwrap().contains("the old one stays in effect"), "{error}");
    assert_eq!(outcome(&caller.call("submission.run", with(sleeper(0.0), "language", json!("shell")))), "accepted");

    // a reload by signal removes a profile
    std::fs::remove_file(profiles.path().join("shell.toml")).unwrap();
    let pid = nix::unistd::Pid::from_raw(daemon.child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    eventually("the profile is gone", || {
        outcome(&caller.call("submission.run", with(sleeper(0.0), "language", json!("shell")))) == "unknown_profile"
    });
}

#[test]
fn a_restarted_host_on_the_same_engine_takes_no_sandbox_of_the_old_one() {
    let text = "[engine]\ncpu_overcommit=3\n";
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 2, ceiling: 4, config: text, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let long = caller.send("submission.run", &sleeper(4.0));
    let mut admin = daemon.caller();
    eventually("the submission runs", || admin.ok("daemon.status", json!({}))["queue"]["running"] == 1);
    let file = daemon.folder.path().join("assayd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("cpu_overcommit=3", "cpu_overcommit=4")).unwrap();
    let changed = admin.ok("daemon.reload", json!({}));
    assert_eq!((&changed["hosts"]["added"], &changed["hosts"]["removed"]), (&json!(["local"]), &json!(["local"])));
    eventually("the new one is up", || state_of(&mut admin, "local") == "up");
    // runs on the new host while the old one finishes its last run and closes
    for _ in 0..40 {
        assert_eq!(outcome(&admin.call("submission.run", sleeper(0.1))), "accepted");
    }
    assert_eq!(outcome(&caller.answer(long)), "accepted");
    let counters = admin.ok("daemon.status", json!({}))["counters"].clone();
    assert_eq!((&counters["retried"], &counters["system_error"]), (&json!(0), &json!(0)), "{}", daemon.log());
}

#[test]
fn submissions_that_a_drain_leaves_unstarted_run_after_the_restart() {
    let text = "[queue]\ndrain_ms=300\n";
    let mut daemon =
        Daemon::start(&Options { profiles: "bash", floor: 1, ceiling: 1, config: text, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller_as(3005);
    let begun = caller.send("submission.run", &sleeper(30.0));
    let mut admin = daemon.caller();
    eventually("the first runs", || admin.ok("daemon.status", json!({}))["queue"]["running"] == 1);
    let named = with(sleeper(0.0), "id", json!("named"));
    assert_eq!(caller.ok("submission.submit", named.clone()), json!({ "id": "named" }));
    let mut blob = sleeper(0.0);
    let stdin = caller.ok("blob.put", json!({ "data_b64": "aGVsbG8K", "offset": 0, "eof": true }));
    blob["stdin"] = stdin;
    blob["files"][0]["content"] = json!("cat; id -u");
    let nameless = caller.ok("submission.submit", blob)["id"].clone();
    let attended = caller.send("submission.run", &sleeper(0.0));
    let waiting = caller.send("submission.wait", &json!({ "id": "named" }));
    eventually("all are queued", || admin.ok("daemon.status", json!({}))["queue"]["waiting"] == 3);
    daemon.terminate();

    // the ending daemon answers every caller
    assert_eq!(outcome(&caller.answer(begun)), "cancelled");
    assert_eq!(outcome(&caller.answer(attended)), "cancelled");
    assert_eq!(outcome(&caller.answer(waiting)), "draining");
    let state = daemon.folder.path().join("state");
    let kept = |state: &std::path::Path| {
        let store = store::Store::open(state, store::Options::default()).unwrap();
        store.held().unwrap().into_iter().map(|held| (held.id, held.starts)).collect::<Vec<_>>()
    };
    let nameless_id = nameless.as_str().unwrap().to_owned();
    assert_eq!(kept(&state), [("named".to_owned(), 0), (nameless_id, 0)]);

    daemon.start_again();
    let mut caller = daemon.caller_as(3005);
    assert_eq!(caller.error("submission.submit", with(sleeper(1.0), "id", json!("named")))["data"]["code"], "conflict");
    assert_eq!(outcome(&caller.call("submission.run", named)), "accepted");
    let report = caller.ok("submission.wait", json!({ "id": nameless }));
    assert!(report["run"]["stdout"].as_str().unwrap().starts_with("hello\n"), "{report}");
    assert_eq!(daemon.caller_as(3006).error("submission.get", json!({ "id": nameless }))["data"]["code"], "not_found");
    daemon.terminate();
    assert_eq!(kept(&state), []);
}

#[test]
fn a_memory_limit_below_what_a_hot_runtime_holds_gets_a_report_of_the_program() {
    let daemon = Daemon::start(&Options { profiles: "java", floor: 1, ceiling: 2, ..Options::default() });
    let mut caller = daemon.caller();
    let hello = r#"public class Main { public static void main(String[] args) { System.out.println("hello"); } }"#;
    let small = json!({
        "language": "java",
        "files": [{ "path": "Main.java", "content": hello }],
        "limits": { "memory_bytes": 64 << 20 },
    });
    for _ in 0..3 {
        eventually("a sandbox is ready with its runtimes", || {
            let pool = caller.ok("pool.list", json!({}))["pools"][0].clone();
            pool["hot"].as_u64() >= Some(1)
        });
        let report = caller.ok("submission.run", small.clone());
        let verdict = report["verdict"].as_str().unwrap();
        assert!(["accepted", "compile_error", "memory_limit", "runtime_error"].contains(&verdict), "{report:#}");
        assert_eq!(report["blame"], Value::Null, "{report:#}");
    }
    let counters = caller.ok("daemon.status", json!({}))["counters"].clone();
    assert_eq!((&counters["retried"], &counters["system_error"]), (&json!(0), &json!(0)), "{}", daemon.log());
}
