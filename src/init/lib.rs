//! PID 1 of a sandbox: takes files and runs from the host over stdin, gives output and facts over stdout.
//!
//! Promises: it never speaks before Hello; at most one program runs, and when its Done is sent nothing of it is alive;
//! no wait is outside the one poll(2); the host's end (EOF, or silence) is the sandbox's end. It refuses to know what
//! facts mean: verdicts are the host's.
//!
//! ```text
//!                    +--------------------- session: one turn ----------------------+
//!   fd 0, frames --> |  timers -> run over? -> write -> poll -> what happened       | --> fd 1, frames (output)
//!   signalfd ------> |     |          |                                             |
//!   program's 1, 2 > |     |          +-- files: keep, remove, audit; then Done     | --> program's 0
//!                    |     +-- run: limits, kill(-1), facts <- cgroup, reap         |
//!                    +--------------------------------------------------------------+
//! ```
//!
//! Files: `session` the loop, `run` one run's state, `setup` the child's steps, `cell` a run's own namespaces, `filter` its
//! system calls, `report` what it tells, `reap` the init's waitpid, `limits` numbers, `cgroup` counters, `input` fd 0's bytes, `files`, `clean` and
//! `collect` the folders, `leader`, `waiting` and `template` what is ready ahead of runs, `trace` and `audit` what is left, `ready` what the sandbox looks like, `output` fd 1, `sys` every system call.

mod ahead;
mod audit;
mod cell;
mod cgroup;
mod clean;
mod collect;
mod files;
mod filter;
mod input;
mod leader;
mod limits;
mod open;
mod output;
mod outputs;
mod ready;
mod reap;
mod report;
mod run;
mod session;
mod setup;
mod sys;
mod template;
mod trace;
mod waiting;

/// Is PID 1 until the host is gone. Anywhere else it refuses to start: it would kill every process it may.
pub fn run() -> ! {
    if !sys::is_pid1() {
        let _ = sys::write_all(2, b"assay-init: is PID 1 of a sandbox or nothing\n");
        sys::exit(2);
    }
    let out = output::Out::open();
    // Best effort each: other uids are what really keeps the program away from this process.
    let _ = sys::not_dumpable();
    let _ = sys::drop_groups();
    sys::umask(0);
    sys::lock_memory();
    match sys::take_signals() {
        Ok(signals) => session::Session::new(signals, out).serve(),
        Err(_) => sys::exit(71),
    }
}
