//! PID 1 of a sandbox: receives files and runs from the daemon on stdin, sends output and facts on
//! stdout.
//!
//! It sends nothing before Hello. At most one program runs, and when its Done is sent none of its
//! processes is alive. The one poll(2) is the only wait. When the daemon is gone (end of file,
//! or silence), the sandbox ends. Facts are not judged here; verdicts are the daemon's.
//!
//! ```text
//!                    +------------------- session: one turn --------------------+
//!   fd 0, frames --> |  timers -> run over? -> flush -> wait (poll) -> dispatch | --> fd 1, frames
//!   signalfd ------> |     |          |                                         |
//!   program's 1, 2 > |     |          +-- files: keep, remove; then Done        | --> program's 0
//!                    |     +-- run: limits, SIGKILL, facts <- cgroup, reap      |
//!                    +----------------------------------------------------------+
//! ```
//!
//! | files | content |
//! |---|---|
//! | `session`, `sandbox_state`, `run`, `queued_run` | the loop, and the states that it drives |
//! | `input`, `outputs`, `frame_queue` | the program's stdin and outputs, frames to the daemon |
//! | `setup`, `filter`, `bpf`, `limits` | from a Run frame to a confined program |
//! | `base`, `cell`, `cell_init`, `ready_cell`, `cell_pool` | cells |
//! | `template`, `fds` | prewarmed runtimes |
//! | `cpu_ledger`, `own_cpu`, `memory_ledger`, `process_room` | who is charged |
//! | `cgroup`, `run_status`, `reap` | counters, and what processes report |
//! | `files`, `collect`, `clean`, `audit`, `ready` | the box, and the state of the sandbox |
//! | `sys` | every system call |

mod audit;
mod base;
mod bpf;
mod cell;
mod cell_init;
mod cell_pool;
mod cgroup;
mod clean;
mod collect;
mod cpu_ledger;
mod fds;
mod files;
mod filter;
mod frame_queue;
mod input;
mod limits;
mod memory_ledger;
mod outputs;
mod own_cpu;
mod pace;
mod process_room;
mod queued_run;
mod ready;
mod ready_cell;
mod reap;
mod run;
mod run_status;
mod sandbox_state;
mod session;
mod session_end;
mod setup;
mod sys;
mod template;

/// Serves as PID 1 until the daemon is gone. Refuses to run as another process: there it would kill
/// every process that it is allowed to.
pub fn run() -> ! {
    if !sys::is_pid1() {
        for text in [wire::frame::INIT_MARKER, ": runs only as PID 1 of a sandbox\n"] {
            let _ = sys::write_all(2, text.as_bytes());
        }
        sys::exit(2);
    }
    let out = frame_queue::FrameQueue::open();
    // All best effort: the different uid is what protects this process from programs.
    let _ = sys::not_dumpable();
    let _ = sys::drop_groups();
    sys::umask(0);
    sys::lock_memory();
    match sys::take_signals() {
        Ok(signals) => session::Session::new(signals, out).serve(),
        Err(_) => sys::exit(71),
    }
}
