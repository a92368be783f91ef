//! The init in a real sandbox, driven over `docker run -i`.
//!
//! Needs an engine, the docker CLI and gcc with a static libc. Containers and images are named
//! `assay-inittest-*` and are removed, the image with the last test that uses it.

mod driver;
mod following;

use driver::{MIB, Sandbox};
use std::process::Command;
use std::time::{Duration, Instant};
use wire::frame::{
    Collect, Done, Ended, Fired, FromInit, IsolationMode, MemoryMethod, OUTPUT_WINDOW_BYTES, Prepare, Put, Refused,
    Relax, STDIN_WINDOW_BYTES, ToInit,
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

both!(
    ready_reports_the_limits_in_force,
    input_is_echoed_and_a_ping_is_answered,
    the_end_of_a_program_is_reported,
    cpu_time_is_limited_for_the_whole_tree,
    wall_time_is_limited_even_for_a_program_that_closed_its_streams,
    output_ends_the_run_at_exactly_its_limit,
    output_is_truncated_at_exactly_its_limit_if_the_caller_asks_for_it,
    ten_megabytes_pass_through_the_window,
    a_host_that_sends_no_credit_gets_one_window_and_a_done,
    memory_is_limited_and_the_next_run_is_not_charged_for_it,
    memory_of_the_first_run_is_the_cgroups_peak,
    a_fork_bomb_ends_and_the_next_run_works,
    daemons_that_ignore_sigterm_die_with_the_run,
    a_program_that_never_reads_takes_no_more_than_the_window,
    input_for_a_program_that_closed_its_stdin_is_discarded,
    a_program_that_cannot_start_reports_the_step,
    a_program_has_no_privileges_no_extra_descriptors_and_its_limits,
    a_cell_masks_the_same_paths_as_the_engine,
    a_program_cannot_affect_the_init,
    a_file_is_put_in_pieces_and_cannot_be_changed,
    a_put_replaces_whatever_the_program_left_in_its_place,
    runs_are_refused_after_a_failed_put,
    only_regular_files_of_the_last_run_are_collected,
    kept_files_belong_to_root_and_the_rest_is_cleaned,
    kept_files_are_moved_out_of_the_programs_folder_without_extra_space,
    a_pattern_that_matches_more_than_can_be_kept_is_reported_missing,
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

fn a_host_that_sends_no_credit_gets_one_window_and_a_done(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let run = sandbox.begin(&["/probe", "write", "1000000"], |r| {
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
    assert!(end.done.oom_kills > 0);
    let end = sandbox.run(&["/probe", "memory", "40"]);
    assert_eq!((end.done.ended, end.done.fired), (Ended::Exited(0), Fired::None));
    assert!(end.done.memory_bytes >= 40 * MIB && end.done.max_rss_bytes >= 40 * MIB);
}

fn memory_of_the_first_run_is_the_cgroups_peak(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let done = sandbox.run(&["/probe", "memory", "50"]).done;
    assert_eq!(done.memory_source, MemoryMethod::CgroupPeak);
    // The kernel charges in batches per CPU, so the figure may be a little low.
    assert!((49 * MIB..56 * MIB).contains(&done.memory_bytes), "{done:?}");
}

fn a_fork_bomb_ends_and_the_next_run_works(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let end = sandbox.run_with(&["/probe", "bomb"], |r| {
        r.limits.cpu_ns = 500_000_000;
        r.limits.pids = 1000;
    });
    assert!(matches!(end.done.fired, Fired::Wall | Fired::Cpu), "{:?}", end.done);
    // the processes of a cell that is killed are not counted
    assert!(isolation == IsolationMode::Cell || end.done.survivors > 10, "{:?}", end.done);
    assert!(end.done.pids_denied > 0, "{:?}", end.done);
    assert!(end.done.clean);
    assert_eq!(sandbox.run(&["/probe", "exit", "3"]).done.ended, Ended::Exited(3));
}

fn daemons_that_ignore_sigterm_die_with_the_run(isolation: IsolationMode) {
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
    let pids = if isolation == IsolationMode::Cell { "61/61" } else { "60/60" };
    assert_eq!(text, format!("2/3 8388608/8388608 64/64 {pids} 0/0 fd0 fd1 fd2 nonblock=0 sid=1\n"));
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
    for path in ["/proc/sys", "/proc/irq", "/proc/bus"] {
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
        IsolationMode::Cell => assert_eq!(text, "kill 0 prlimit 1 nice 0 fd 13 mem 13 setuid 22\n"),
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

fn a_file_is_put_in_pieces_and_cannot_be_changed(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.put("data/in/file", 0o600, b"one");
    sandbox.put("other", 0o755, b"x");
    let piece = Put { path: "data/in/file".into(), mode: 0, append: true, data: b" two".to_vec() };
    sandbox.send(&ToInit::Put(piece));
    let text = sandbox.run(&["/probe", "tamper", "/box/data/in/file"]).text();
    assert_eq!(text, untouchable(isolation));
    for folder in ["/box/data", "/box/data/in"] {
        let text = sandbox.run(&["/probe", "rename", folder, "/box/elsewhere"]).text();
        let busy = ["16", "18"].contains(&text.as_str());
        assert!(if isolation == IsolationMode::Cell { busy } else { text == "1" }, "{folder}: {text}");
    }
    assert_eq!(sandbox.run(&["/probe", "create", "/box/data/in/new", "x"]).done.ended, Ended::Exited(0));
    assert_eq!(sandbox.run(&["/probe", "cat", "data/in/file"]).text(), "one two");
    assert_eq!(sandbox.run_clean(&["/probe", "cat", "data/in/file"]).text(), "one two");
}

fn a_put_replaces_whatever_the_program_left_in_its_place(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.run(&["/probe", "link", "/box/a", "/etc"]);
    sandbox.run(&["/probe", "litter"]);
    sandbox.run(&["/probe", "link", "/box/c", "/box/probe"]);
    sandbox.put("a/x", 0o644, b"1");
    sandbox.put("d/x", 0o644, b"2");
    sandbox.put("c", 0o644, b"3");
    assert_eq!(sandbox.run(&["/probe", "cat", "a/x"]).text(), "1");
    assert_eq!(sandbox.run(&["/probe", "cat", "d/x"]).text(), "2");
    assert_eq!(sandbox.run(&["/probe", "cat", "c"]).text(), "3");
}

fn runs_are_refused_after_a_failed_put(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.put("../x", 0o644, b"1");
    assert_eq!(sandbox.expect(), FromInit::PutFailed { path: "../x".into(), errno: 22 });
    sandbox.put("a", 0o644, b"1");
    let end = sandbox.run(&["/probe", "true"]);
    assert_eq!(end.done.ended, Ended::NotStarted { step: "put ../x".into(), errno: 22 });
}

fn kept_files_belong_to_root_and_the_rest_is_cleaned(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let end = sandbox.run_with(&["/probe", "create", "/box/out", "kept"], |r| {
        r.keep = vec!["out".into(), "gone".into()];
    });
    assert_eq!(end.done.keep_missing, ["gone"]);
    let end = sandbox.run(&["/probe", "litter"]);
    assert_eq!(end.done.ended, Ended::Exited(0), "{:?}", String::from_utf8_lossy(&end.stderr));
    let text = sandbox.run_clean(&["/probe", "tamper", "/box/out"]).text();
    assert_eq!(text, untouchable(isolation));
    assert_eq!(sandbox.run(&["/probe", "cat", "out"]).text(), "kept");
    for gone in ["/box/d", "/tmp/f"] {
        let end = sandbox.run(&["/probe", "cat", gone]);
        assert_eq!(end.done.ended, Ended::Exited(2), "{gone}");
    }
    let end = sandbox.run_with(&["/probe", "link", "/box/l", "/etc/passwd"], |r| {
        r.keep = vec!["l".into()];
        r.remove_after = vec!["out".into()];
    });
    assert_eq!(end.done.keep_missing, ["l"]);
    assert_eq!(sandbox.run(&["/probe", "cat", "out"]).done.ended, Ended::Exited(2));
}

fn kept_files_are_moved_out_of_the_programs_folder_without_extra_space(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    // 40 MiB in a box of 64.
    let end = sandbox.run_with(&["/probe", "bury"], |r| {
        r.limits.file_bytes = 64 * MIB;
        r.keep = vec!["sub/x".into(), "sub/big".into()];
    });
    assert_eq!(end.done.ended, Ended::Exited(0), "{:?}", end.done);
    assert!(end.done.keep_missing.is_empty() && end.done.clean);
    let text = sandbox.run_clean(&["/probe", "tamper", "/box/sub/x"]).text();
    assert_eq!(text, untouchable(isolation));
    assert_eq!(sandbox.run(&["/probe", "cat", "sub/x"]).text(), "kept");
    let end = sandbox.run_with(&["/probe", "cat", "sub/big"], |r| {
        r.limits.output_bytes = 64 * MIB;
        r.limits.wall_ns = 120_000_000_000;
    });
    assert_eq!(end.stdout.len() as u64, 40 * MIB);
}

fn a_pattern_that_matches_more_than_can_be_kept_is_reported_missing(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let keep_all = |run: &mut wire::frame::Run| run.keep = vec!["*".into()];
    (0..256).for_each(|n| sandbox.put(&n.to_string(), 0o644, b"x"));
    assert!(sandbox.run_with(&["/probe", "true"], keep_all).done.keep_missing.is_empty());
    sandbox.put("one more", 0o644, b"x");
    assert_eq!(sandbox.run_with(&["/probe", "true"], keep_all).done.keep_missing, ["*"]);
}

fn only_regular_files_of_the_last_run_are_collected(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.put("given", 0o644, b"the host's");
    sandbox.run_with(&["/probe", "leave"], |r| r.limits.file_bytes = 1 << 40);
    let wanted = |patterns: &[&str], max_files, max_bytes| {
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        ToInit::Collect(Collect { patterns, max_files, max_bytes })
    };
    sandbox.send(&wanted(&["out/**"], 100, MIB));
    let FromInit::Collected(collected) = sandbox.expect() else { panic!() };
    let files: Vec<(&str, u64)> = collected.files.iter().map(|(path, size)| (path.as_str(), *size)).collect();
    assert_eq!(files, [("out/closed/inner", 5), ("out/hard", 5), ("out/locked", 6), ("out/plain", 5)]);
    let mut refused = collected.refused;
    refused.sort();
    let refused: Vec<_> = refused.iter().map(|(path, why)| (path.as_str(), *why)).collect();
    assert_eq!(
        refused,
        [
            ("out/fifo", Refused::NotAFile),
            ("out/giant", Refused::TooLarge),
            ("out/link", Refused::NotAFile),
            ("out/new\nline", Refused::Name),
            ("out/socket", Refused::NotAFile),
            ("out/\u{fffd}", Refused::Name),
        ]
    );
    for (file, content) in [(0, "inner"), (1, "plain"), (2, "locked"), (9, "")] {
        sandbox.send(&ToInit::Read { file, at: 0 });
        assert_eq!(sandbox.expect(), FromInit::Piece { file, data: content.into() });
    }
    sandbox.send(&ToInit::Read { file: 1, at: 3 });
    assert_eq!(sandbox.expect(), FromInit::Piece { file: 1, data: "in".into() });
    sandbox.send(&wanted(&["out/plain", "out/locked"], 1, MIB));
    let FromInit::Collected(collected) = sandbox.expect() else { panic!() };
    assert_eq!((collected.files.len(), collected.refused), (1, vec![("out/plain".to_owned(), Refused::TooMany)]));
    // the daemon's file is unchanged
    sandbox.send(&wanted(&["given", "../*", "/etc/passwd"], 9, MIB));
    let FromInit::Collected(collected) = sandbox.expect() else { panic!() };
    assert_eq!(collected.files, [("given".to_owned(), 10)]);
    sandbox.send(&ToInit::Read { file: 0, at: 0 });
    assert_eq!(sandbox.expect(), FromInit::Piece { file: 0, data: b"the host's".to_vec() });
    // the next run removes the files of the last one
    sandbox.run_clean(&["/probe", "true"]);
    sandbox.send(&wanted(&["**"], 9, MIB));
    let FromInit::Collected(collected) = sandbox.expect() else { panic!() };
    assert!(collected.files.iter().all(|(path, _)| path == "given"), "{collected:?}");
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
    probe.arg("true");
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
    // a cell is made for each run here, with its mounts
    let most = if isolation == IsolationMode::Cell { 6 } else { 2 };
    assert!(setup < reference * most, "{setup:?} against {reference:?}");
}
