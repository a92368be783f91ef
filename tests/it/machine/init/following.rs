//! Runs of one submission that follow each other, some of them sent before the previous run has
//! ended.

use super::driver::{End, Sandbox};
use std::time::Duration;
use wire::frame::{Done, Ended, Fired, FromInit, IsolationMode, ToInit};

#[test]
fn every_run_has_a_cell_of_its_own() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    sandbox.put("in/given", 0o644, b"x");
    let traces = [
        "",
        "file",
        "file and none",
        "shared memory",
        "inner folder",
        "mode",
        "time",
        "device time",
        "priority",
        "cpus",
        "policy",
        "slice",
        "signal",
        "unnamed file",
        "process",
        "abstract socket",
        "survivor",
    ];
    let state = |sandbox: &mut Sandbox| {
        let end = sandbox.run_with(&["/probe", "state"], |run| run.more = true);
        assert_eq!(end.done.ended, Ended::Exited(0), "{:?} {:?}", end.done, end.text());
        end.text()
    };
    let new = state(&mut sandbox);
    assert!(new.contains("pid 2\n") && new.contains("sockets: used 0\n"), "{new}");
    for what in traces {
        let end = sandbox.run_with(&["/probe", "trace", what], |run| run.more = true);
        assert!(end.done.clean && end.stderr.is_empty(), "{what} {:?} {:?}", end.done, end.stderr);
        assert_eq!(end.text(), "2", "{what}");
        assert_eq!(state(&mut sandbox), new, "{what}");
    }
}

#[test]
fn a_server_on_a_fixed_port_starts_in_every_run() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    for family in ["4", "6"] {
        for _ in 0..3 {
            let end = sandbox.run_with(&["/probe", "serve", family], |run| run.more = true);
            assert_eq!(end.text(), "served\n", "{:?} {:?}", end.done, String::from_utf8_lossy(&end.stderr));
        }
    }
}

#[test]
fn more_runs_than_networks_follow_each_other() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    for _ in 0..150 {
        assert_eq!(sandbox.run_with(&["/probe", "true"], |run| run.more = true).done.ended, Ended::Exited(0));
    }
}

#[test]
fn a_run_waits_until_sockets_that_are_on_their_way_are_gone() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    let run_chain = |sandbox: &mut Sandbox| {
        // the kernel frees a chain one link after the other
        let end = sandbox.run_with(&["/probe", "trace", "chain"], |run| {
            run.more = true;
            run.limits.open_files = 512;
        });
        assert_eq!((end.text(), end.stderr.is_empty()), ("2".to_owned(), true), "{:?}", end.done);
    };
    (0..3).for_each(|_| run_chain(&mut sandbox));
    // it frees all of it at once when any process closes a socket at the right moment
    let in_use = FromInit::Audited { residue: vec!["sockets that are still in use".to_owned()] };
    let found = (0..50).any(|_| {
        run_chain(&mut sandbox);
        sandbox.send(&ToInit::Reset);
        let audited = sandbox.expect();
        assert!(audited == in_use || audited == FromInit::Audited { residue: Vec::new() }, "{audited:?}");
        audited == in_use
    });
    assert!(found);
}

#[test]
fn each_of_several_runs_has_its_own_limits_and_is_charged_for_itself_only() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    for _ in 0..3 {
        sandbox.run_with(&["/probe", "burn", "60"], |run| run.more = true).assert_charged_for_itself(60);
    }
    let limits = sandbox.run_with(&["/probe", "limits"], |run| run.more = true).text();
    // a run that its limit ends
    let done = sandbox.run_with(&["/probe", "spin"], |run| {
        run.more = true;
        run.limits.cpu_ns = 100_000_000;
    });
    let Done { fired, cpu_ns, user_ns, system_ns, .. } = done.done;
    assert_eq!(fired, Fired::Cpu);
    assert!((100_000_000..150_000_000).contains(&cpu_ns), "{:?}", done.done);
    assert!(user_ns + system_ns < 160_000_000, "{:?}", done.done);
    assert_eq!(sandbox.run(&["/probe", "limits"]).text(), limits);
}

/// The pid of a `trace` in its cell.
fn pid(end: &End) -> u32 {
    assert_eq!((end.done.ended.clone(), end.done.fired), (Ended::Exited(0), Fired::None), "{:?}", end.done);
    end.text().parse().unwrap_or_else(|_| panic!("expected one number: {:?}", end.text()))
}

/// Like [`Sandbox::begin`], with this limit of CPU time and another run announced.
fn begin(sandbox: &mut Sandbox, argv: &[&str], cpu_ms: u64) -> u32 {
    sandbox.begin(argv, |run| {
        run.more = true;
        run.limits.cpu_ns = cpu_ms * 1_000_000;
    })
}

#[test]
fn each_of_many_queued_runs_is_charged_for_itself_only() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    let burns = |n: u32| n.is_multiple_of(3);
    let start = |sandbox: &mut Sandbox, n: u32| match burns(n) {
        true => begin(sandbox, &["/probe", "burn", "40"], 2_000),
        false => begin(sandbox, &["/probe", "trace", ""], 2_000),
    };
    let mut order = std::collections::VecDeque::from([start(&mut sandbox, 0), start(&mut sandbox, 1)]);
    for n in 0..30 {
        let run = order.pop_front().unwrap();
        let end = sandbox.finish(run, b"");
        order.push_back(start(&mut sandbox, n + 2));
        let Done { cpu_ns, user_ns, system_ns, wall_ns, .. } = end.done;
        if burns(n) {
            end.assert_charged_for_itself(40);
        } else {
            assert!(cpu_ns < 15_000_000, "{n} {:?}", end.done);
        }
        assert!(cpu_ns <= wall_ns + 5_000_000 && user_ns + system_ns <= cpu_ns + 10_000_000, "{n} {:?}", end.done);
        if !burns(n) {
            assert_eq!(pid(&end), 2);
        }
    }
    order.into_iter().for_each(|run| drop(sandbox.finish(run, b"")));
}

/// The last run's cell is still exiting while the next program forks, and the next cell is just
/// being made when its room is measured.
#[test]
fn each_of_many_queued_runs_has_room_for_exactly_its_limit_of_processes() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    let start = |sandbox: &mut Sandbox| {
        sandbox.begin(&["/probe", "fork", "14"], |run| (run.more, run.limits.pids) = (true, 10))
    };
    let mut order = std::collections::VecDeque::from([start(&mut sandbox), start(&mut sandbox)]);
    for n in 0..100 {
        let run = order.pop_front().unwrap();
        let end = sandbox.finish(run, b"");
        order.push_back(start(&mut sandbox));
        assert_eq!((end.text().as_str(), end.done.pids_denied), ("9 5\n", 5), "{n} {:?}", end.done);
    }
    order.into_iter().for_each(|run| drop(sandbox.finish(run, b"")));
}

#[test]
fn limits_that_the_queued_run_exceeds_are_not_charged_to_the_current_one() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    let mut greedy = None;
    for n in 0..6 {
        let modest = begin(&mut sandbox, &["/probe", "trace", ""], 60);
        if let Some((run, fired)) = greedy.take() {
            assert_eq!(sandbox.finish(run, b"").done.fired, fired);
        }
        // allocating memory takes CPU time
        let (argv, cpu_ms, fired) = if n % 2 == 0 {
            (["/probe", "spin", ""], 200, Fired::Cpu)
        } else {
            (["/probe", "memory", "200"], 5_000, Fired::Memory)
        };
        greedy = Some((begin(&mut sandbox, &argv, cpu_ms), fired));
        pid(&sandbox.finish(modest, b""));
    }
}

#[test]
fn a_run_that_waits_for_credit_does_not_suspend_the_limits_of_the_queued_one() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    // more than the window, into a pipe that takes it all
    let first = begin(&mut sandbox, &["/probe", "write-wide", "900000"], 2_000);
    let second = begin(&mut sandbox, &["/probe", "spin"], 100);
    std::thread::sleep(Duration::from_millis(1_500));
    let third = {
        let end = sandbox.finish(first, b"");
        assert_eq!((end.stdout.len(), &end.done.ended), (900_000, &Ended::Exited(0)));
        assert!(end.done.cpu_ns < 100_000_000, "it includes CPU time of the queued run: {:?}", end.done);
        begin(&mut sandbox, &["/probe", "trace", ""], 2_000)
    };
    let done = sandbox.finish(second, b"").done;
    assert_eq!(done.fired, Fired::Cpu);
    assert!((100_000_000..150_000_000).contains(&done.cpu_ns), "{done:?}");
    pid(&sandbox.finish(third, b""));
}

#[test]
fn killing_the_current_run_does_not_affect_the_queued_one() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    for wait_ms in [0, 1, 2, 3, 5, 50] {
        let first = begin(&mut sandbox, &["/probe", "burn", "2"], 2_000);
        let second = begin(&mut sandbox, &["/probe", "trace", ""], 2_000);
        std::thread::sleep(Duration::from_millis(wait_ms));
        sandbox.send(&ToInit::Kill { run: first });
        let done = sandbox.finish(first, b"").done;
        assert!(done.fired == Fired::Kill || done.ended == Ended::Exited(0), "{done:?}");
        pid(&sandbox.finish(second, b""));
    }
}

#[test]
fn input_of_a_queued_run_is_read_once_also_if_the_run_is_started_again() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    let data: Vec<u8> = (0..100_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    for kills in [false, true, false] {
        let first = begin(&mut sandbox, &["/probe", "burn", "20"], 2_000);
        let second = begin(&mut sandbox, &["/probe", "echo"], 2_000);
        for piece in data.chunks(30_000) {
            sandbox.send(&ToInit::Stdin { run: second, data: piece.to_vec() });
        }
        if kills {
            sandbox.send(&ToInit::Kill { run: first });
        }
        sandbox.finish(first, b"");
        let end = sandbox.finish(second, b"tail");
        assert!(end.stdout == [&data[..], b"tail"].concat(), "{} bytes {:?}", end.stdout.len(), end.done);
    }
}
