//! Runs of one submission that follow each other in one cell, some of them sent before the previous
//! run has ended.

use super::driver::{End, Sandbox};
use std::time::Duration;
use wire::frame::{Done, Ended, Fired, FromInit, IsolationMode, Relax, ToInit};

#[test]
fn a_cell_is_reused_only_if_the_previous_run_left_no_trace() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    sandbox.put("in/given", 0o644, b"x");
    let traces = [
        "file",
        "file and none",
        "shared memory",
        "inner folder",
        "mode",
        "time",
        "priority",
        "cpus",
        "policy",
        "survivor",
    ];
    let mut pid = |what: &str, more: bool| {
        let end = sandbox.run_with(&["/probe", "trace", what], |run| run.more = more);
        assert!(end.done.clean && end.stderr.is_empty(), "{what} {:?}", end.done);
        assert!(end.done.cpu_ns < 50_000_000, "{what} {:?}", end.done);
        let text = end.text();
        assert_eq!(end.done.ended, Ended::Exited(u8::from(["file", "shared memory"].contains(&what)) * 9), "{what}");
        text.parse::<u32>().unwrap()
    };
    let new = pid("", true);
    assert!(pid("", true) > new && pid("", true) > new + 1, "the cell is reused");
    for what in traces {
        pid(what, true);
        assert_eq!(pid("", true), new, "{what}");
    }
    // nor if no run was announced, or a file is put or removed
    pid("", false);
    assert_eq!(pid("", true), new);
    sandbox.put("other", 0o644, b"x");
    let mut pid = |change: fn(&mut wire::frame::Run)| {
        let end = sandbox.run_with(&["/probe", "trace", ""], |run| {
            run.more = true;
            change(run);
        });
        end.text().parse::<u32>().unwrap()
    };
    assert_eq!(pid(|run| run.remove_after = vec!["other".to_owned()]), new);
    assert_eq!(pid(|_| {}), new);
    assert!(pid(|_| {}) > new);
    assert_eq!(pid(|run| run.relax = Relax::SYSV_IPC), new);
    // nor after a reset
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    for _ in 0..2 {
        let end = sandbox.run_with(&["/probe", "trace", ""], |run| run.more = true);
        assert_eq!(end.text(), new.to_string());
        sandbox.send(&ToInit::Reset);
        assert_eq!(sandbox.expect(), FromInit::Audited { residue: Vec::new() });
    }
}

#[test]
fn a_run_in_a_reused_cell_has_its_own_limits_and_is_charged_for_itself_only() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    for _ in 0..3 {
        sandbox.run_with(&["/probe", "burn", "60"], |run| run.more = true).assert_charged_for_itself(60);
    }
    let limits = sandbox.run_with(&["/probe", "limits"], |run| run.more = true).text();
    // a run that its limit ends, in the same cell
    let done = sandbox.run_with(&["/probe", "spin"], |run| {
        run.more = true;
        run.limits.cpu_ns = 100_000_000;
    });
    let Done { fired, cpu_ns, user_ns, system_ns, .. } = done.done;
    assert_eq!(fired, Fired::Cpu);
    assert!((100_000_000..150_000_000).contains(&cpu_ns), "{:?}", done.done);
    assert!(user_ns + system_ns < 160_000_000, "{:?}", done.done);
    assert_eq!(sandbox.run(&["/probe", "limits"]).text(), limits, "the same limits as in a new cell");
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
    let mut last = 0;
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
            let pid = pid(&end);
            assert!(pid > last, "the cell is reused: {pid} after {last}");
            last = pid;
        }
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
