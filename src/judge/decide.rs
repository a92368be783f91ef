//! Facts -> outcome -> verdict -> message. Pure.
//!
//! Where several causes apply, the first of this list is the outcome: not started, cancelled,
//! memory, output, CPU time, wall time, signal, exit status. The figures decide: one that is above
//! its limit (for times: that reaches it) is the outcome of that limit, whatever the exit status,
//! and one that is below never is. The init ends a run only when a figure says so.

use std::time::Duration;

use crate::error_line::error_line;
use crate::talk::{self, TalkEnd};
use protocol::{Evidence, Limits, MemorySource, Outcome, RunFacts, Verdict};
use wire::frame::{Done, Ended, Fired, MemoryMethod};

/// SIGXFSZ: RLIMIT_FSIZE was exceeded.
const SIGXFSZ: u8 = 25;

/// The name of the limit on the time for which both sides of an interactive test wait.
const IDLE_LIMIT: &str = "idle_ms";

/// The name of the limit on an interactive test as a whole.
const TALK_LIMIT: &str = "talk_ms";

/// What the daemon itself knows about a run, in addition to the init's facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DaemonView {
    /// The caller cancelled the submission while it ran.
    pub cancelled: bool,
    /// The daemon's own backstop timer ended the run.
    pub backstop: bool,
    /// Why the daemon ended its part in an interactive test.
    pub talk: Option<TalkEnd>,
}

/// The outcome of a run, by the order above.
pub fn outcome(done: &Done, limits: &Limits, daemon: DaemonView) -> Outcome {
    let killed_by = |signal: u8| done.ended == Ended::Signaled(signal);
    if matches!(done.ended, Ended::NotStarted { .. }) {
        return Outcome::StartFailed;
    }
    if daemon.cancelled {
        return Outcome::Cancelled;
    }
    if done.fired == Fired::Memory || done.memory_bytes > limits.memory_bytes {
        return Outcome::MemoryLimit;
    }
    if done.fired == Fired::Output || killed_by(SIGXFSZ) {
        return Outcome::OutputLimit;
    }
    // where no cgroup is visible, the kernel's SIGXCPU is what the init acts on
    if done.fired == Fired::Cpu || Duration::from_nanos(done.cpu_ns) >= limits.cpu {
        return Outcome::CpuLimit;
    }
    if done.fired == Fired::Wall || daemon.talk.is_some() || Duration::from_nanos(done.wall_ns) >= limits.wall {
        return Outcome::WallLimit;
    }
    // the daemon's timer ended it within its limit; one that ended by itself before is not affected
    if daemon.backstop && done.fired == Fired::Kill {
        return Outcome::Lost;
    }
    match done.ended {
        Ended::Signaled(_) => Outcome::Signaled,
        Ended::Exited(_) | Ended::NotStarted { .. } => Outcome::Exited,
    }
}

/// Whether the kernel killed a process of a run for memory although the program was within its
/// limit: the machine was short of memory, or the sandbox had used more than its reserve.
pub fn is_short_of_memory(done: &Done, limits: &Limits) -> bool {
    done.oom_kills > 0 && done.memory_bytes <= limits.memory_bytes && done.fired != Fired::Memory
}

/// The facts of a run, from the init's report and the captured output.
pub fn facts(done: &Done, limits: &Limits, daemon: DaemonView, stdout: Vec<u8>, stderr: Vec<u8>) -> RunFacts {
    let outcome = outcome(done, limits, daemon);
    let millis = |ns: u64| ns as f64 / 1e6;
    let (limit, limit_value) = match outcome {
        Outcome::CpuLimit => (Some("cpu_ms"), Some(millis_of(limits.cpu))),
        Outcome::WallLimit => match daemon.talk {
            Some(TalkEnd::Idle) => (Some(IDLE_LIMIT), Some(millis_of(talk::IDLE))),
            Some(TalkEnd::Whole(limit)) => (Some(TALK_LIMIT), Some(millis_of(limit))),
            Some(TalkEnd::Wall) | None => (Some("wall_ms"), Some(millis_of(limits.wall))),
        },
        Outcome::MemoryLimit => (Some("memory_bytes"), Some(limits.memory_bytes)),
        Outcome::OutputLimit if done.ended == Ended::Signaled(SIGXFSZ) => (Some("file_bytes"), Some(limits.file_bytes)),
        Outcome::OutputLimit => (Some("output_bytes"), Some(limits.output_bytes)),
        _ => (None, None),
    };
    let (exit_code, signal) = match done.ended {
        Ended::Exited(code) => (Some(i32::from(code)), None),
        Ended::Signaled(signal) => (None, Some(i32::from(signal))),
        Ended::NotStarted { .. } => (None, None),
    };
    let failed_step = match &done.ended {
        Ended::NotStarted { step, errno } => Some(format!("{step}: {}", nix::errno::Errno::from_raw(*errno).desc())),
        _ => None,
    };
    let (user_ns, system_ns) = split_within(done.cpu_ns, done.user_ns, done.system_ns);
    RunFacts {
        hot: done.hot,
        missing_program: None,
        outcome,
        exit_code,
        signal,
        cpu: Duration::from_nanos(done.cpu_ns),
        wall: Duration::from_nanos(done.wall_ns),
        memory_bytes: done.memory_bytes,
        stdout_truncated: done.stdout_bytes > stdout.len() as u64,
        stderr_truncated: done.stderr_bytes > stderr.len() as u64,
        stdout,
        stderr,
        evidence: Evidence {
            limit: limit.map(str::to_owned),
            limit_value,
            oom_kills: done.oom_kills,
            pids_denied: done.pids_denied,
            max_rss_bytes: done.max_rss_bytes,
            memory_source: Some(match done.memory_source {
                MemoryMethod::CgroupPeak => MemorySource::CgroupPeak,
                MemoryMethod::Sampled => MemorySource::Sampled,
                MemoryMethod::MaxRss => MemorySource::MaxRss,
            }),
            user_ms: millis(user_ns),
            system_ms: millis(system_ns),
            survivors: done.survivors,
            stdout_bytes: done.stdout_bytes,
            stderr_bytes: done.stderr_bytes,
            failed_step,
            lost: None,
        },
    }
}

/// User and system time, of which what a program used has no more: rusage has its set-up in it.
fn split_within(cpu_ns: u64, user_ns: u64, system_ns: u64) -> (u64, u64) {
    let known_ns = user_ns.saturating_add(system_ns);
    if known_ns <= cpu_ns {
        return (user_ns, system_ns);
    }
    let user = u128::from(cpu_ns) * u128::from(user_ns) / u128::from(known_ns);
    let user_ns = u64::try_from(user).unwrap_or(cpu_ns);
    (user_ns, cpu_ns - user_ns)
}

fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The verdict of a run whose output is not checked.
pub fn verdict(run: &RunFacts) -> Verdict {
    match run.outcome {
        Outcome::Exited if run.exit_code == Some(0) => Verdict::Accepted,
        Outcome::StartFailed if run.missing_program.is_some() => Verdict::SystemError,
        Outcome::Exited | Outcome::Signaled | Outcome::StartFailed => Verdict::RuntimeError,
        Outcome::CpuLimit | Outcome::WallLimit => Verdict::TimeLimit,
        Outcome::MemoryLimit => Verdict::MemoryLimit,
        Outcome::OutputLimit => Verdict::OutputLimit,
        Outcome::Cancelled => Verdict::Cancelled,
        Outcome::Lost => Verdict::SystemError,
    }
}

/// The verdict of a compile step that failed, `None` if it succeeded. A compiler that exceeded a
/// limit is a compile error; a lost sandbox stays a system error.
pub fn compile_verdict(run: &RunFacts) -> Option<Verdict> {
    match verdict(run) {
        Verdict::Accepted => None,
        Verdict::Cancelled => Some(Verdict::Cancelled),
        Verdict::SystemError => Some(Verdict::SystemError),
        _ => Some(Verdict::CompileError),
    }
}

/// The message of a compile step that failed. `paths` are the submission's files.
pub fn compile_message(run: &RunFacts, limits: &Limits, paths: &[&str]) -> String {
    if run.missing_program.is_some() {
        return message(run, limits);
    }
    if run.outcome != Outcome::Exited {
        return format!("The compiler did not finish: {}", message(run, limits));
    }
    match error_line(run, paths) {
        Some(line) => format!("The code does not compile: {line}"),
        None => "The code does not compile; the compiler's output is in compile.stderr.".to_owned(),
    }
}

/// The message of a compile step that ended without an error and did not make `file`.
pub fn not_made_message(file: &str) -> String {
    format!("The compiler ended without an error, but did not make {file}, which is what is run")
}

/// The message of a program that exited.
pub fn status(run: &RunFacts) -> String {
    match run.exit_code {
        Some(0) => "The program ran and exited with status 0.".to_owned(),
        code => with_last_line(format!("The program exited with status {}", code.unwrap_or(-1)), run),
    }
}

/// The message of a cancelled submission.
pub const CANCELLED: &str = "The submission was cancelled.";

/// The message of a run, for the submitter. It never contains expected output.
pub fn message(run: &RunFacts, limits: &Limits) -> String {
    let message = outcome_message(run, limits);
    match run.evidence.pids_denied {
        0 => message,
        _ if run.outcome == Outcome::Exited && run.exit_code == Some(0) => message,
        denied => {
            let (pids, times) = (limits.pids, if denied == 1 { "once" } else { "more than once" });
            format!(
                "{} (it was denied a process or thread {times}: the limit is {pids} processes)",
                message.trim_end_matches('.')
            )
        }
    }
}

/// The message of a run whose input is secret: without the program's own words, which may repeat
/// it.
pub fn secret_message(run: &RunFacts, limits: &Limits) -> String {
    let (evidence, missing_program) = (run.evidence.clone(), run.missing_program.clone());
    let (exit_code, signal) = (run.exit_code, run.signal);
    let bare = RunFacts { exit_code, signal, evidence, missing_program, ..RunFacts::bare(run.outcome) };
    message(&bare, limits)
}

fn outcome_message(run: &RunFacts, limits: &Limits) -> String {
    match run.outcome {
        Outcome::Exited => status(run),
        Outcome::Signaled => {
            let signal = run.signal.unwrap_or(0);
            let name = nix::sys::signal::Signal::try_from(signal).map_or("unknown", |signal| signal.as_str());
            let what = meaning(signal).map(|what| format!(": {what}")).unwrap_or_default();
            with_last_line(format!("The program was terminated by signal {signal} ({name}{what})"), run)
        }
        Outcome::CpuLimit => {
            format!("Code execution exceeded time limit ({} of CPU time)", seconds(limits.cpu))
        }
        Outcome::WallLimit if run.evidence.limit.as_deref() == Some(IDLE_LIMIT) => {
            let idle = seconds(talk::IDLE);
            format!("Your code and the interactor waited for each other for {idle}; flush the output after each line")
        }
        Outcome::WallLimit if run.evidence.limit.as_deref() == Some(TALK_LIMIT) => {
            let limit = Duration::from_millis(run.evidence.limit_value.unwrap_or_default());
            format!("The exchange with the interactor took longer than {} in all", seconds(limit))
        }
        Outcome::WallLimit => format!("Code execution exceeded time limit ({}): wall time", seconds(limits.wall)),
        Outcome::MemoryLimit => {
            format!("Your code used too much memory (limit {} MiB)", limits.memory_bytes / protocol::limits::MIB)
        }
        Outcome::OutputLimit if run.evidence.limit.as_deref() == Some("file_bytes") => {
            format!("Your code wrote a file that is too large (limit {} bytes)", limits.file_bytes)
        }
        Outcome::OutputLimit => format!("Your code printed too much (limit {} bytes)", limits.output_bytes),
        Outcome::StartFailed if run.missing_program.is_some() => format!(
            "The profile's program {} cannot be started in its image ({}): this is not the submission's fault. \
             Remedy: correct the command in the profile, or its image",
            run.missing_program.as_deref().unwrap_or_default(),
            run.evidence.failed_step.as_deref().unwrap_or("unknown")
        ),
        Outcome::StartFailed => {
            format!("The program could not be started ({})", run.evidence.failed_step.as_deref().unwrap_or("unknown"))
        }
        Outcome::Cancelled => CANCELLED.to_owned(),
        Outcome::Lost => "The sandbox was lost; this is not the submission's fault.".to_owned(),
    }
}

/// The message of a run whose output was cut off at its limit, where it had to be checked.
pub fn truncated_message(limits: &Limits) -> String {
    format!(
        "Your code printed too much (limit {} bytes): the output was cut off, so it was not checked",
        limits.output_bytes
    )
}

/// The usual cause of a signal.
fn meaning(signal: i32) -> Option<&'static str> {
    use nix::libc;
    Some(match signal {
        libc::SIGSEGV => "segmentation fault, invalid memory access",
        libc::SIGBUS => "bus error, access to memory that does not exist",
        libc::SIGFPE => "arithmetic error, usually a division by zero",
        libc::SIGABRT => "aborted, usually by a failed assertion or an uncaught exception",
        libc::SIGILL => "illegal instruction",
        libc::SIGSYS => "forbidden system call",
        libc::SIGPIPE => "write to a closed pipe",
        _ => return None,
    })
}

/// Appends the line of stderr that best describes the failure, if there is one.
fn with_last_line(head: String, run: &RunFacts) -> String {
    let tail_start = run.stderr.len().saturating_sub(4096);
    let text = String::from_utf8_lossy(&run.stderr[tail_start..]);
    let Some(line) = describing_line(&text) else { return format!("{head}.") };
    // a panic of Rust says what happened on the next line
    let after = text.lines().skip_while(|other| *other != line).nth(1).filter(|_| line.trim_end().ends_with(':'));
    let words = [Some(line.trim()), after.map(str::trim)].into_iter().flatten().collect::<Vec<_>>().join(" ");
    format!("{head}: {}", words.chars().take(200).collect::<String>())
}

/// The line that names the failure: the last one without indentation that does. Stack traces, which
/// precede it in some languages and follow it in others, are skipped.
fn describing_line(text: &str) -> Option<&str> {
    let lines = || text.lines().rev().filter(|line| !line.trim().is_empty());
    let is_trace = |line: &&str| {
        let prefixes = ["note:", "Node.js v", "[C]:", "stack traceback:", "goroutine ", "CallStack", "#", "[signal "];
        line.starts_with(char::is_whitespace) || prefixes.iter().any(|prefix| line.starts_with(prefix))
    };
    let names_failure = |line: &&str| {
        let line = line.to_ascii_lowercase();
        ["error", "exception", "panic"].iter().any(|word| line.contains(word))
    };
    lines()
        .find(|line| line.trim_start().starts_with("what():"))
        .or_else(|| lines().find(|line| !is_trace(line) && names_failure(line)))
        .or_else(|| lines().find(|line| !is_trace(line)))
        .or_else(|| lines().next())
}

fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_line::{SEARCHED_LINES, first_error};
    use protocol::Preset;

    #[test]
    fn a_crash_message_names_the_cause() {
        for (signal, text) in [(11, "segmentation fault"), (8, "division by zero"), (6, "assertion"), (31, "forbidden")]
        {
            let run = RunFacts { signal: Some(signal), ..RunFacts::bare(Outcome::Signaled) };
            let message = message(&run, &Preset::Judge.limits());
            assert!(message.contains(text), "{message}");
        }
    }

    #[test]
    fn a_compile_error_is_shown_from_the_submissions_own_files() {
        let of = |stderr: &str| {
            let run = RunFacts { exit_code: Some(1), stderr: stderr.into(), ..RunFacts::bare(Outcome::Exited) };
            compile_message(&run, &Preset::Judge.limits(), &["main.cpp", "src/a.rs"])
        };
        let gcc = "In file included from /usr/include/c++/12/algorithm:61,\n                 from main.cpp:1:\n/usr/include/c++/12/bits/stl_algo.h:1: error: no match\nmain.cpp:3:5: error: oops\n";
        assert_eq!(of(gcc), "The code does not compile: main.cpp:3:5: error: oops");
        let rustc = "error[E0425]: cannot find value `x`\n --> src/a.rs:1:2\n";
        assert_eq!(of(rustc), "The code does not compile: src/a.rs:1: error[E0425]: cannot find value `x`");
        assert_eq!(of("src/a.rs(2): bad\nmore"), "The code does not compile: src/a.rs(2): bad");
        let ghc = "\nmain.cpp:2:15: error: [GHC-39999]\n    No instance for \u{2018}Num String\u{2019}\n";
        assert!(of(ghc).ends_with("error: [GHC-39999] No instance for \u{2018}Num String\u{2019}"), "{}", of(ghc));
        assert!(of("").contains("compile.stderr"));
    }

    fn done(ended: Ended, fired: Fired) -> Done {
        Done {
            run: 1,
            ended,
            fired,
            wall_ns: 1_000_000,
            cpu_ns: 1_000_000,
            user_ns: 0,
            system_ns: 0,
            memory_bytes: 1,
            memory_source: MemoryMethod::CgroupPeak,
            max_rss_bytes: 1,
            oom_kills: 0,
            pids_denied: 0,
            survivors: 0,
            stdout_bytes: 0,
            stderr_bytes: 0,
            keep_missing: vec![],
            setup_ns: 0,
            hot: false,
            clean: true,
        }
    }

    fn judged(done: &Done) -> (Outcome, Verdict) {
        let facts = facts(done, &Preset::Judge.limits(), DaemonView::default(), vec![], vec![]);
        (facts.outcome, verdict(&facts))
    }

    #[test]
    fn an_exit_status_counts_last() {
        assert_eq!(judged(&done(Ended::Exited(0), Fired::None)), (Outcome::Exited, Verdict::Accepted));
        assert_eq!(judged(&done(Ended::Exited(1), Fired::None)), (Outcome::Exited, Verdict::RuntimeError));
        assert_eq!(judged(&done(Ended::Signaled(11), Fired::None)), (Outcome::Signaled, Verdict::RuntimeError));
        assert_eq!(judged(&done(Ended::Signaled(9), Fired::Wall)), (Outcome::WallLimit, Verdict::TimeLimit));
        assert_eq!(judged(&done(Ended::Signaled(9), Fired::Cpu)), (Outcome::CpuLimit, Verdict::TimeLimit));
        assert_eq!(judged(&done(Ended::Signaled(9), Fired::Output)), (Outcome::OutputLimit, Verdict::OutputLimit));
    }

    #[test]
    fn user_and_system_time_are_no_more_than_the_cpu_time() {
        assert_eq!(split_within(410, 300, 100), (300, 100));
        assert_eq!(split_within(200, 300, 100), (150, 50));
        assert_eq!((split_within(0, 0, 0), split_within(0, 3, 1)), ((0, 0), (0, 0)));
    }

    #[test]
    fn memory_counts_before_every_other_limit() {
        let mut facts = done(Ended::Signaled(9), Fired::Wall);
        facts.memory_bytes = Preset::Judge.limits().memory_bytes + 1;
        assert_eq!(judged(&facts), (Outcome::MemoryLimit, Verdict::MemoryLimit));
    }

    #[test]
    fn a_figure_above_its_limit_decides_and_one_below_never_does() {
        let limits = Preset::Judge.limits();
        let (cpu, wall) = (limits.cpu.as_nanos() as u64, limits.wall.as_nanos() as u64);
        let exited = || done(Ended::Exited(0), Fired::None);
        let figures = |cpu_ns, wall_ns, memory_bytes| Done { cpu_ns, wall_ns, memory_bytes, ..exited() };
        let memory = limits.memory_bytes;
        assert_eq!(judged(&figures(cpu - 1, wall - 1, memory)), (Outcome::Exited, Verdict::Accepted));
        assert_eq!(judged(&figures(0, 0, memory + 1)), (Outcome::MemoryLimit, Verdict::MemoryLimit));
        assert_eq!(judged(&figures(cpu, 0, 0)), (Outcome::CpuLimit, Verdict::TimeLimit));
        assert_eq!(judged(&figures(0, wall, 0)), (Outcome::WallLimit, Verdict::TimeLimit));
        // signals that the kernel sends at a limit, sent by another process
        for signal in [9, 24] {
            assert_eq!(judged(&Done { ended: Ended::Signaled(signal), ..exited() }).0, Outcome::Signaled);
        }
    }

    #[test]
    fn an_oom_kill_within_the_limit_is_not_the_programs_fault() {
        let limits = Preset::Judge.limits();
        let with = |memory_bytes| Done { oom_kills: 1, memory_bytes, ..done(Ended::Signaled(9), Fired::None) };
        assert!(is_short_of_memory(&with(limits.memory_bytes), &limits));
        assert!(!is_short_of_memory(&with(limits.memory_bytes + 1), &limits));
    }

    #[test]
    fn a_denied_process_is_named_in_the_message_of_a_failed_run() {
        let limits = Preset::Judge.limits();
        let mut facts = done(Ended::Exited(1), Fired::None);
        facts.pids_denied = 3;
        let run = super::facts(&facts, &limits, DaemonView::default(), vec![], b"Error: fork\n".to_vec());
        assert!(message(&run, &limits).contains("64 processes"), "{}", message(&run, &limits));
        facts.ended = Ended::Exited(0);
        let run = super::facts(&facts, &limits, DaemonView::default(), vec![], vec![]);
        assert!(!message(&run, &limits).contains("64 processes"));
    }

    #[test]
    fn a_program_that_kills_itself_is_not_a_time_limit() {
        assert_eq!(judged(&done(Ended::Signaled(9), Fired::None)).0, Outcome::Signaled);
    }

    #[test]
    fn a_file_too_large_is_an_output_limit_that_names_the_file_limit() {
        let facts = facts(
            &done(Ended::Signaled(25), Fired::None),
            &Preset::Judge.limits(),
            DaemonView::default(),
            vec![],
            vec![],
        );
        assert_eq!(facts.outcome, Outcome::OutputLimit);
        assert_eq!(facts.evidence.limit.as_deref(), Some("file_bytes"));
    }

    #[test]
    fn a_cancelled_run_is_cancelled_whatever_its_signal_was() {
        let daemon = DaemonView { cancelled: true, ..DaemonView::default() };
        assert_eq!(
            outcome(&done(Ended::Signaled(9), Fired::Kill), &Preset::Judge.limits(), daemon),
            Outcome::Cancelled
        );
    }

    #[test]
    fn the_daemons_late_timer_does_not_change_the_end_of_a_run() {
        let daemon = DaemonView { backstop: true, ..DaemonView::default() };
        let of = |done: &Done| outcome(done, &Preset::Judge.limits(), daemon);
        assert_eq!(of(&done(Ended::Exited(0), Fired::None)), Outcome::Exited);
        assert_eq!(of(&done(Ended::Signaled(9), Fired::Wall)), Outcome::WallLimit);
        // ended by the daemon within its limit: not the program's fault
        assert_eq!(of(&done(Ended::Signaled(9), Fired::Kill)), Outcome::Lost);
    }

    #[test]
    fn time_and_memory_limits_have_their_documented_messages() {
        let limits = protocol::Preset::Lesson.limits();
        let timed = facts(&done(Ended::Signaled(9), Fired::Wall), &limits, DaemonView::default(), vec![], vec![]);
        assert_eq!(message(&timed, &limits), "Code execution exceeded time limit (10s): wall time");
        let memory = facts(&done(Ended::Signaled(9), Fired::Memory), &limits, DaemonView::default(), vec![], vec![]);
        assert!(message(&memory, &limits).starts_with("Your code used too much memory"));
    }

    #[test]
    fn the_line_that_names_the_failure_is_found_among_stack_traces() {
        let outputs = [
            ("Traceback (most recent call last):\n  File \"main.py\", line 1\nValueError: x\n", "ValueError: x"),
            ("Exception in thread \"main\" E: 7\n\tat Main.main(Main.java:1)\n", "Exception in thread \"main\" E: 7"),
            ("/box/main.js:1\nthrow new Error('x')\n^\n\nError: x\n    at Object\n\nNode.js v18\n", "Error: x"),
            ("panic: oh\n\ngoroutine 1 [running]:\nmain.main()\n\t/box/main.go:2 +0x2\n", "panic: oh"),
            (
                "thread 'main' panicked at 'oh', main.rs:1:13\nnote: run with `RUST_BACKTRACE=1`\n",
                "thread 'main' panicked at 'oh', main.rs:1:13",
            ),
            ("lua: main.lua:1: oh\nstack traceback:\n\t[C]: in function 'error'\n\t[C]: in ?\n", "lua: main.lua:1: oh"),
            ("terminate called after throwing an instance of 'std::runtime_error'\n  what():  oh\n", "  what():  oh"),
            (
                "main: Prelude.head: empty list\nCallStack (from HasCallStack):\n  error, called at x\n",
                "main: Prelude.head: empty list",
            ),
            ("just words\n", "just words"),
        ];
        for (text, line) in outputs {
            assert_eq!(describing_line(text), Some(line));
        }
        assert_eq!(describing_line("\n \n"), None);
    }

    #[test]
    fn the_message_of_a_secret_test_has_no_words_of_the_program() {
        let limits = Preset::Judge.limits();
        let run = facts(
            &done(Ended::Exited(1), Fired::None),
            &limits,
            DaemonView::default(),
            vec![],
            b"the input\n".to_vec(),
        );
        assert_eq!(secret_message(&run, &limits), "The program exited with status 1.");
        let run = facts(
            &done(Ended::Signaled(6), Fired::None),
            &limits,
            DaemonView::default(),
            vec![],
            b"the input\n".to_vec(),
        );
        assert!(secret_message(&run, &limits).contains("SIGABRT") && !secret_message(&run, &limits).contains("input"));
    }

    #[test]
    fn an_error_is_searched_for_in_the_first_lines_only() {
        let lines = "x\n".repeat(SEARCHED_LINES);
        assert_eq!(first_error(&format!("{lines}main.c:1: error: e\n"), &["main.c"]).as_deref(), Some("x"));
        let lines = "x\n".repeat(SEARCHED_LINES - 1);
        let found = first_error(&format!("{lines}main.c:1: error: e\n"), &["main.c"]);
        assert_eq!(found.as_deref(), Some("main.c:1: error: e"));
    }

    #[test]
    fn a_runtime_error_shows_the_interpreters_last_line() {
        let limits = Preset::Judge.limits();
        let stderr = b"Traceback (most recent call last):\nZeroDivisionError: division by zero\n".to_vec();
        let run = facts(&done(Ended::Exited(1), Fired::None), &limits, DaemonView::default(), vec![], stderr);
        assert!(message(&run, &limits).ends_with("ZeroDivisionError: division by zero"));
        let stderr = b"\nthread 'main' panicked at main.rs:1:55:\nindex out of bounds\nnote: run with x\n".to_vec();
        let run = facts(&done(Ended::Exited(101), Fired::None), &limits, DaemonView::default(), vec![], stderr);
        assert!(message(&run, &limits).ends_with("thread 'main' panicked at main.rs:1:55: index out of bounds"));
    }
}
