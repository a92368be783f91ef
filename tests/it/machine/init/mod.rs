//! The init in a real sandbox, driven over `docker run -i`.
//!
//! Needs an engine, the docker CLI and gcc with a static libc. Containers and images are named
//! `assay-inittest-*` and are removed, the image with the last test that uses it.

mod driver;

use crate::harness::InFlight;
use driver::{MIB, Sandbox};
use std::process::Command;
use std::time::{Duration, Instant};
use wire::frame::{
    Done, Ended, Fired, FromInit, IsolationMode, MemoryMethod, OUTPUT_WINDOW_BYTES, Prepare, Relax, STDIN_WINDOW_BYTES,
    ToInit,
};

/// Runs every test that takes an isolation with both.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod split {
            $(#[test] fn $name() { super::$name(wire::frame::IsolationMode::Split) })*
        }
        mod cell {
            $(#[test] fn $name() { super::$name(wire::frame::IsolationMode::Cell) })*
        }
    };
}

mod files;
mod following;

both!(
    ready_reports_the_limits_in_force,
    ready_reports_a_uid_with_descriptors_in_flight,
    input_is_echoed_and_a_ping_is_answered,
    the_end_of_a_program_is_reported,
    cpu_time_is_limited_for_the_whole_tree,
    wall_time_is_limited_even_for_a_program_that_closed_its_streams,
    output_ends_the_run_at_exactly_its_limit,
    output_is_truncated_at_exactly_its_limit_if_the_caller_asks_for_it,
    ten_megabytes_pass_through_the_window,
    a_daemon_that_sends_no_credit_gets_one_window_and_a_done,
    memory_is_limited_and_the_next_run_is_not_charged_for_it,
    memory_of_the_first_run_is_the_cgroups_peak,
    a_fork_bomb_ends_and_the_next_run_works,
    a_program_gets_exactly_its_processes_and_every_denial_is_counted,
    daemonised_processes_that_ignore_sigterm_die_with_the_run,
    a_program_that_never_reads_takes_no_more_than_the_window,
    input_for_a_program_that_closed_its_stdin_is_discarded,
    a_program_that_cannot_start_reports_the_step,
    a_program_has_no_privileges_no_extra_descriptors_and_its_limits,
    a_cell_masks_the_same_paths_as_the_engine,
    a_program_cannot_affect_the_init,
    a_kill_frame_ends_the_run_and_a_late_one_is_ignored,
    the_end_of_stdin_is_the_end_of_the_sandbox,
    docker_stop_ends_the_sandbox_at_once,
    a_queued_run_starts_when_the_current_one_is_done,
    a_probe_is_answered_with_ready_and_a_third_run_at_once_is_a_fault,
    starting_a_program_takes_about_as_long_as_on_the_machine_itself,
    set_up_and_removal_of_a_cell_are_not_charged_to_the_program,
);

fn ready_reports_the_limits_in_force(isolation: IsolationMode) {
    let sandbox = Sandbox::open(isolation);
    let ready = &sandbox.ready;
    assert_eq!(ready.memory_bytes, 96 * MIB);
    assert_eq!(ready.swap_bytes, 0);
    assert_eq!(ready.pids, 64);
    assert_eq!(ready.nano_cpus, 1_000_000_000);
    assert!(matches!(ready.cgroup_version, 1 | 2));
    // KILL is 5, SETGID 6, SETUID 7.
    let (caps, uid) = if isolation == IsolationMode::Cell { (0, sandbox.uid) } else { (0xe0, 0) };
    assert_eq!((ready.cap_eff, ready.cap_bnd), (caps, caps));
    assert!(ready.no_new_privs && ready.only_loopback && ready.readonly_root && ready.box_tmpfs);
    assert_eq!((ready.uid, ready.seccomp), (uid, 2));
    assert!(ready.memory_used_bytes > 0 && !ready.kernel.is_empty());
}

fn ready_reports_a_uid_with_descriptors_in_flight(isolation: IsolationMode) {
    let open_with = |count| {
        let sandbox = Sandbox::start(isolation);
        let _held = (count > 0).then(|| InFlight::start(sandbox.uid, count));
        let mut sandbox = sandbox.greet(isolation);
        // its own limit of open files is as before
        assert!(sandbox.run(&["/probe", "limits"]).text().contains("64/64"));
        sandbox.ready.uid_is_spent
    };
    assert_eq!([0, 16, 17, 200].map(open_with), [false, false, true, true]);
}

#[test]
fn it_sends_nothing_before_hello_and_ends_on_another_first_frame() {
    let mut sandbox = Sandbox::start(IsolationMode::Split);
    assert_eq!(sandbox.receive(Duration::from_millis(700)), None);
    sandbox.send(&ToInit::Ping { token: 1 });
    let frame = sandbox.receive(Duration::from_secs(10));
    assert!(matches!(frame, Some(FromInit::Fault { .. })), "{frame:?}");
}

fn input_is_echoed_and_a_ping_is_answered(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.send(&ToInit::Ping { token: 77 });
    assert_eq!(sandbox.expect(), FromInit::Pong { token: 77 });
    let end = sandbox.run_with_input(&["/probe", "echo"], b"hello", |_| {});
    assert_eq!((end.stdout.as_slice(), end.done.ended), (&b"hello"[..], Ended::Exited(0)));
    assert_eq!(end.done.stdout_bytes, 5);
    assert!(end.done.clean);
}

fn the_end_of_a_program_is_reported(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    assert_eq!(sandbox.run(&["/probe", "exit", "7"]).done.ended, Ended::Exited(7));
    assert_eq!(sandbox.run(&["/probe", "signal", "11"]).done.ended, Ended::Signaled(11));
    let end = sandbox.run(&["/probe", "signal", "9"]);
    assert_eq!((end.done.ended, end.done.fired), (Ended::Signaled(9), Fired::None));
}

fn cpu_time_is_limited_for_the_whole_tree(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    for verb in ["spin", "spin-children"] {
        let done = sandbox.run_with(&["/probe", verb], |r| r.limits.cpu_ns = 300_000_000).done;
        assert_eq!(done.fired, Fired::Cpu, "{done:?}");
        assert!((300_000_000..450_000_000).contains(&done.cpu_ns), "{done:?}");
    }
}

fn wall_time_is_limited_even_for_a_program_that_closed_its_streams(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    for argv in [&["/probe", "sleep", "60"][..], &["/probe", "mute"]] {
        let done = sandbox.run_with(argv, |r| r.limits.wall_ns = 300_000_000).done;
        assert_eq!(done.fired, Fired::Wall, "{done:?}");
        assert!((300_000_000..400_000_000).contains(&done.wall_ns), "{done:?}");
    }
}

fn output_ends_the_run_at_exactly_its_limit(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    for limit in [0, 1, 1000, 65_536, 300_001] {
        let argv = ["/probe", "write", "3000000"];
        let end = sandbox.run_with(&argv, |r| r.limits.output_bytes = limit);
        assert_eq!((end.stdout.len() as u64, end.done.fired), (limit, Fired::Output));
        assert!(end.done.stdout_bytes > limit);
        let text = limit.to_string();
        let end = sandbox.run_with(&["/probe", "write", &text], |r| r.limits.output_bytes = limit);
        assert_eq!((end.stdout.len() as u64, end.done.fired), (limit, Fired::None));
    }
}

fn output_is_truncated_at_exactly_its_limit_if_the_caller_asks_for_it(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let end = sandbox.run_with(&["/probe", "write", "3000000"], |r| {
        r.limits.output_bytes = 100_003;
        r.truncate_output = true;
    });
    assert_eq!((end.stdout.len(), end.done.stdout_bytes), (100_003, 3_000_000));
    assert_eq!((end.done.ended, end.done.fired), (Ended::Exited(0), Fired::None));
}

fn ten_megabytes_pass_through_the_window(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let end = sandbox.run(&["/probe", "write", "10000000"]);
    assert_eq!((end.stdout.len(), end.done.ended), (10_000_000, Ended::Exited(0)));
}

fn a_daemon_that_sends_no_credit_gets_one_window_and_a_done(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let run = sandbox.begin(&["/probe", "write", "4000000"], |r| {
        r.limits.wall_ns = 2_000_000_000;
    });
    let mut got = 0;
    let done = loop {
        match sandbox.expect() {
            FromInit::Output { data, .. } => got += data.len(),
            FromInit::Done(done) => break done,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((done.run, done.fired), (run, Fired::Wall));
    assert_eq!(got, OUTPUT_WINDOW_BYTES as usize);
    // What was in the pipe is counted although it was not sent.
    assert!(done.stdout_bytes > u64::from(OUTPUT_WINDOW_BYTES), "{done:?}");
}

fn memory_is_limited_and_the_next_run_is_not_charged_for_it(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let end = sandbox.run(&["/probe", "memory", "200"]);
    assert_eq!(end.done.fired, Fired::Memory, "{:?}", end.done);
    assert!(end.done.memory_bytes > driver::LIMITS.memory_bytes, "{:?}", end.done);
    // an earlier run hides the peak of these
    for mib in [40, 1, 70, 79] {
        let Done { ended, fired, memory_bytes, memory_source, .. } =
            sandbox.run(&["/probe", "memory", &mib.to_string()]).done;
        assert_eq!((ended, fired, memory_source), (Ended::Exited(0), Fired::None, MemoryMethod::Sampled));
        assert!(memory_bytes.abs_diff(mib * MIB) <= MIB, "{mib} MiB: {memory_bytes}");
    }
    for mib in ["82", "85"] {
        let done = sandbox.run(&["/probe", "memory", mib]).done;
        assert!(done.memory_bytes > driver::LIMITS.memory_bytes, "{mib} MiB: {done:?}");
    }
}

fn memory_of_the_first_run_is_the_cgroups_peak(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let done = sandbox.run(&["/probe", "memory", "50"]).done;
    assert_eq!(done.memory_source, MemoryMethod::CgroupPeak);
    assert!(done.memory_bytes.abs_diff(50 * MIB) <= MIB, "{done:?}");
    let done = sandbox.run(&["/probe", "memory", "82"]).done;
    // it may be ended before it has touched all
    assert!((driver::LIMITS.memory_bytes + 1..83 * MIB).contains(&done.memory_bytes), "{done:?}");
}

fn a_fork_bomb_ends_and_the_next_run_works(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let end = sandbox.run_with(&["/probe", "bomb"], |r| {
        // the kernel frees late what denied forks took: in more time they would fill the memory
        r.limits.cpu_ns = 40_000_000;
        r.limits.pids = 1000;
    });
    assert!(matches!(end.done.fired, Fired::Wall | Fired::Cpu), "{:?}", end.done);
    // the processes of a cell that is killed are not counted
    assert!(isolation == IsolationMode::Cell || end.done.survivors > 10, "{:?}", end.done);
    assert!(end.done.pids_denied > 0, "{:?}", end.done);
    assert!(end.done.clean);
    assert_eq!(sandbox.run(&["/probe", "exit", "3"]).done.ended, Ended::Exited(3));
}

fn a_program_gets_exactly_its_processes_and_every_denial_is_counted(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    for (pids, failures) in [(60, 5), (20, 1), (5, 40), (60, 0), (60, 3)] {
        let wanted = (pids - 1 + failures).to_string();
        let end = sandbox.run_with(&["/probe", "fork", &wanted], |run| run.limits.pids = pids);
        assert_eq!(end.text(), format!("{} {failures}\n", pids - 1), "{pids} {:?}", end.done);
        assert_eq!(end.done.pids_denied, u64::from(failures), "{pids} {:?}", end.done);
    }
    let end = sandbox.run(&["/probe", "fork", "59"]);
    assert_eq!((end.text().as_str(), end.done.pids_denied), ("59 0\n", 0));
}

fn daemonised_processes_that_ignore_sigterm_die_with_the_run(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let end = sandbox.run(&["/probe", "daemons"]);
    assert_eq!((end.done.ended, end.done.survivors), (Ended::Exited(0), 3));
    assert!(end.done.clean);
}

fn a_program_that_never_reads_takes_no_more_than_the_window(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let input = vec![b'i'; 50_000_000];
    let end = sandbox.run_with_input(&["/probe", "sleep", "1"], &input, |_| {});
    assert_eq!((end.done.ended, end.done.fired), (Ended::Exited(0), Fired::None));
    // The pipe's capacity, one window in the init, and another one credited after the program's
    // end.
    assert!(end.offered <= 65_536 + 2 * STDIN_WINDOW_BYTES as usize, "{}", end.offered);
}

fn input_for_a_program_that_closed_its_stdin_is_discarded(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let input = vec![b'i'; 5_000_000];
    let end = sandbox.run_with_input(&["/probe", "deaf"], &input, |_| {});
    assert_eq!((end.done.ended, end.offered), (Ended::Exited(0), 5_000_000));
}

fn a_program_that_cannot_start_reports_the_step(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let step = |sandbox: &mut Sandbox, argv: &[&str]| match sandbox.run(argv).done.ended {
        Ended::NotStarted { step, errno } => (step, errno),
        other => panic!("{other:?}"),
    };
    assert_eq!(step(&mut sandbox, &["/nowhere"]), ("execve".into(), 2));
    assert_eq!(step(&mut sandbox, &["nowhere"]), ("execve".into(), 2));
    assert_eq!(step(&mut sandbox, &["/box"]), ("execve".into(), 13));
    assert_eq!(step(&mut sandbox, &[]), ("argv".into(), 22));
    assert_eq!(step(&mut sandbox, &[""]), ("argv".into(), 2));
    sandbox.put("text", 0o755, b"not a program");
    assert_eq!(step(&mut sandbox, &["/box/text"]), ("execve".into(), 8));
    let end = sandbox.run_with(&["probe", "true"], |r| {
        r.env = vec![("PATH".into(), "/nowhere:/".into())];
    });
    assert_eq!(end.done.ended, Ended::Exited(0));
}

fn a_program_has_no_privileges_no_extra_descriptors_and_its_limits(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let uid = sandbox.uid;
    let text = sandbox.run(&["/probe", "cat", "/proc/self/status"]).text();
    let field = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid:"), format!("{uid} {uid} {uid} {uid}"));
    assert_eq!(field("Gid:"), format!("{uid} {uid} {uid} {uid}"));
    // an unprivileged init cannot drop the only group, which is the program's own
    let groups = if isolation == IsolationMode::Cell { uid.to_string() } else { String::new() };
    assert_eq!(field("Groups:"), groups);
    assert_eq!((field("Seccomp:"), field("Seccomp_filters:")), ("2".to_owned(), "2".to_owned()));
    assert_eq!(
        field("CapBnd:"),
        if isolation == IsolationMode::Cell { "0000000000000000" } else { "00000000000000e0" }
    );
    for key in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:", "SigBlk:", "SigIgn:"] {
        assert_eq!(field(key), "0000000000000000", "{key}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    let text = sandbox.run(&["/probe", "limits"]).text();
    // the cgroup enforces the limit on processes; these rlimits are above it
    let pids = if isolation == IsolationMode::Cell { "77/77" } else { "76/76" };
    assert_eq!(text, format!("6/7 8388608/8388608 64/64 {pids} 0/0 fd0 fd1 fd2 nonblock=0 sid=1\n"));
    let score = sandbox.run(&["/probe", "cat", "/proc/self/oom_score_adj"]);
    assert_eq!(score.text(), "1000\n");
}

fn a_cell_masks_the_same_paths_as_the_engine(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let mounts = sandbox.run(&["/probe", "cat", "/proc/self/mountinfo"]).text();
    let mount = |path: &str| mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(path)).map(str::to_owned);
    // in `split` the engine masks them
    for path in ["/proc/keys", "/proc/timer_list", "/sys/firmware"] {
        assert!(mount(path).is_some(), "{path} is not masked:\n{mounts}");
    }
    // a cell's whole /proc is read-only
    let all = &["/proc"][..];
    let locked = if isolation == IsolationMode::Cell { all } else { &["/proc/sys", "/proc/irq", "/proc/bus"] };
    for path in locked {
        let options = mount(path).and_then(|line| line.split(' ').nth(5).map(str::to_owned)).unwrap_or_default();
        assert!(options.starts_with("ro"), "{path} is {options}:\n{mounts}");
    }
}

fn a_program_cannot_affect_the_init(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let text = sandbox.run(&["/probe", "attack"]).text();
    // in a cell, pid 1 is the cell init: it has the same uid, and ignores signals from inside
    match isolation {
        IsolationMode::Split => assert_eq!(text, "kill 1 prlimit 1 nice 1 fd 13 mem 13 setuid 1\n"),
        IsolationMode::Cell => assert_eq!(text, "kill 0 prlimit 1 nice 0 fd 13 mem 30 setuid 22\n"),
    }
    assert_eq!(sandbox.run(&["/probe", "exit", "3"]).done.ended, Ended::Exited(3));
}

/// Errnos of attempts to change a file that the daemon put: no permission in `split`, read-only and
/// busy mounts in a cell.
fn untouchable(isolation: IsolationMode) -> &'static str {
    match isolation {
        IsolationMode::Split => "write 13 truncate 13 chmod 1 rename 1 unlink 1\n",
        IsolationMode::Cell => "write 30 truncate 30 chmod 30 rename 16 unlink 16\n",
    }
}

#[test]
fn a_program_in_a_cell_stays_the_oom_killers_first_choice() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    let score = |sandbox: &mut Sandbox| sandbox.run(&["/probe", "protect", "/proc/self/oom_score_adj"]).text();
    assert_eq!(score(&mut sandbox), "30 1000\n");
    // the init is the last to die, and survives a program that fills its files
    for _ in 0..3 {
        let done = sandbox.run(&["/probe", "protect", "fill"]).done;
        assert_eq!(done.fired, Fired::Memory, "{done:?}");
        assert_eq!(sandbox.run(&["/probe", "exit", "3"]).done.ended, Ended::Exited(3));
    }
}

fn a_kill_frame_ends_the_run_and_a_late_one_is_ignored(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let run = sandbox.begin(&["/probe", "sleep", "60"], |_| {});
    sandbox.send(&ToInit::Kill { run });
    let end = sandbox.finish(run, b"");
    assert_eq!((end.done.ended, end.done.fired), (Ended::Signaled(9), Fired::Kill));
    sandbox.send(&ToInit::Kill { run });
    assert_eq!(sandbox.run(&["/probe", "exit", "3"]).done.ended, Ended::Exited(3));
}

fn the_end_of_stdin_is_the_end_of_the_sandbox(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.begin(&["/probe", "sleep", "60"], |_| {});
    sandbox.hang_up();
    assert!(sandbox.is_gone_within(Duration::from_secs(10)));
}

fn docker_stop_ends_the_sandbox_at_once(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.begin(&["/probe", "sleep", "60"], |_| {});
    let start = Instant::now();
    sandbox.stop();
    assert!(sandbox.is_gone_within(Duration::from_secs(5)));
    assert!(start.elapsed() < Duration::from_secs(8));
}

fn a_queued_run_starts_when_the_current_one_is_done(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let first = sandbox.begin(&["/probe", "burn", "50"], |run| run.more = true);
    let second = sandbox.begin(&["/probe", "echo"], |_| {});
    sandbox.send(&ToInit::Stdin { run: second, data: b"early ".to_vec() });
    let done = sandbox.finish(first, b"").done;
    assert!(done.ended == Ended::Exited(0) && done.cpu_ns >= 50_000_000, "{done:?}");
    let end = sandbox.finish(second, b"late");
    assert_eq!((end.text().as_str(), &end.done.ended), ("early late", &Ended::Exited(0)));
    assert!(end.done.cpu_ns < 50_000_000, "{:?}", end.done);
    // a queued run is killed before it starts, behind a run that its limit ends
    let first = sandbox.begin(&["/probe", "spin"], |run| run.limits.cpu_ns = 50_000_000);
    let second = sandbox.begin(&["/probe", "sleep", "60"], |_| {});
    sandbox.send(&ToInit::StdinEnd { run: second });
    sandbox.send(&ToInit::Kill { run: second });
    assert_eq!(sandbox.finish(first, b"").done.fired, Fired::Cpu);
    assert_eq!(sandbox.finish(second, b"").done.fired, Fired::Kill);
    assert_eq!(sandbox.run(&["/probe", "exit", "3"]).done.ended, Ended::Exited(3));
}

fn a_probe_is_answered_with_ready_and_a_third_run_at_once_is_a_fault(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.begin(&["/probe", "sleep", "60"], |_| {});
    sandbox.send(&ToInit::Probe);
    assert!(matches!(sandbox.expect(), FromInit::Ready(_)));
    sandbox.begin(&["/probe", "true"], |_| {});
    sandbox.begin(&["/probe", "true"], |_| {});
    assert!(matches!(sandbox.expect(), FromInit::Fault { .. }));
    assert!(sandbox.is_gone_within(Duration::from_secs(10)));
}

fn set_up_and_removal_of_a_cell_are_not_charged_to_the_program(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    // each file is a mount of its own in a cell
    for n in 0..400 {
        sandbox.put(&n.to_string(), 0o644, b"x");
    }
    // the sandbox's clock without the init's part, and rusage of the program's processes
    let runs = (0..30).map(|_| sandbox.run_clean(&["/probe", "true"]).done);
    let (charged, used) = runs.map(|done| (done.cpu_ns, done.user_ns + done.system_ns)).min().unwrap();
    assert!(charged < used, "{charged} ns charged, {used} ns used");
}

/// A runtime that loads for this long and then waits.
fn runtime(loads_ms: &str) -> Prepare {
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    Prepare {
        id: 0,
        argv: list(&["/probe", "runtime", loads_ms]),
        stands_for: list(&["/probe", "program"]),
        entry_word: 0,
        exact: false,
        forks: false,
        env: Vec::new(),
        load: list(&["a", "b"]),
        limits: driver::LIMITS,
        relax: Relax::NONE,
    }
}

fn prepared(sandbox: &mut Sandbox) {
    let frame = sandbox.expect();
    assert!(matches!(frame, FromInit::Prepared { id: 0, failed: None, .. }), "{frame:?}");
}

#[test]
fn a_prewarmed_runtime_gets_its_runs_limits_and_is_charged_from_its_start() {
    let mut sandbox = Sandbox::open(IsolationMode::Cell);
    sandbox.send(&ToInit::Prepare(runtime("400")));
    for n in 0..8 {
        prepared(&mut sandbox);
        let end = sandbox.run_with(&["/probe", "program", "x", ""], |run| {
            run.hot = true;
            run.more = n % 2 == 0;
            run.limits.open_files = 48;
        });
        assert!(end.done.hot && end.text().starts_with("a|b\ngo|x|| 48 48\n"), "{} {:?}", end.text(), end.done);
        end.assert_charged_for_itself(200);
        // nor is its loading charged to the next run, where the kernel may count it
        let next = sandbox.run(&["/probe", "burn", "100"]);
        assert!(!next.done.hot, "{:?}", next.done);
        next.assert_charged_for_itself(100);
        sandbox.send(&ToInit::Reset);
        assert_eq!(sandbox.expect(), FromInit::Audited { residue: Vec::new() });
    }
    // a runtime that its limit ends
    prepared(&mut sandbox);
    let done = sandbox.run_with(&["/probe", "program", "long"], |run| {
        run.hot = true;
        run.limits.cpu_ns = 100_000_000;
    });
    let Done { fired, cpu_ns, user_ns, system_ns, .. } = done.done;
    assert_eq!(fired, Fired::Cpu);
    assert!((100_000_000..150_000_000).contains(&cpu_ns), "{:?}", done.done);
    assert!(user_ns + system_ns < 200_000_000, "{:?}", done.done);
}

/// Compares the init's set-up (from the Run to exec) with starting the same program on this
/// machine, alternating, so that the load of other tests is the same for both.
fn starting_a_program_takes_about_as_long_as_on_the_machine_itself(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let mut probe = Command::new(sandbox.probe());
    match isolation {
        IsolationMode::Split => probe.arg("true"),
        // a cell is made for each run here
        IsolationMode::Cell => probe.arg("namespaces"),
    };
    let (mut setups, mut references) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let done = sandbox.run_clean(&["/probe", "true"]).done;
        assert_eq!(done.ended, Ended::Exited(0));
        assert!(done.clean);
        setups.push(Duration::from_nanos(done.setup_ns));
        let start = Instant::now();
        assert!(probe.status().unwrap().success());
        references.push(start.elapsed());
    }
    setups.sort_unstable();
    references.sort_unstable();
    let (setup, reference) = (setups[100], references[100]);
    eprintln!("set-up p50 {setup:?}, p99 {:?}; on the machine p50 {reference:?}", setups[197]);
    assert!(setup < reference * 2, "{setup:?} against {reference:?}");
}
