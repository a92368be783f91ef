//! The frames that daemon and init exchange, as plain values.
//!
//! This file defines the vocabulary only: the bytes of a frame are in `codec`, splitting a stream
//! into frames is in `stream`. Durations are nanoseconds and sizes are bytes.
//!
//! ```text
//! daemon                                          init
//!  | -- Hello{version, nonce, uid, gid, ...} -----> |   first; the init never sends before it
//!  | <------------- Ready{nonce, limits seen} ----- |
//!  | -- Prepare --> / <-- Prepared ---------------- |   a prewarmed runtime (cells only)
//!  | -- DropPrepared -----------------------------> |   ends all prewarmed runtimes
//!  | -- Put (0..n) -------------------------------> |   files, read-only for the program
//!  | -- Run{run, argv, env, limits, ...} ---------> |
//!  | -- Stdin (within the window), StdinEnd ------> |
//!  | <-- Output (within the window) --------------- |
//!  | <-- StdinCredit ------------------------------ |
//!  | -- Credit -----------------------------------> |
//!  | -- Kill -------------------------------------> |   any time; idempotent
//!  | <-- Done{run, facts} ------------------------- |   exactly one per Run, the last frame of it
//!  | -- Reset --> / <-- Audited ------------------- |   between runs: remove everything, audit
//!  | -- Collect{patterns} --> / <-- Collected ----- |   between runs: list files of the last run
//!  | -- Read{file, at} --> / <-- Piece ------------ |   their content, until the next Put or Run
//!  | -- Ping{token} --> / <-- Pong{token} --------- |   any time; the daemon's heartbeat
//! ```

pub use crate::prepare::{Prepare, SentWords};
use std::time::Duration;

/// Version of the wire format. Daemon and init refuse another version in the first exchange.
pub const VERSION: u16 = 8;

/// Text in every build of the init, by which a daemon knows one that speaks its version.
pub const INIT_MARKER: &str = "assay-init (wire version 8)";

/// Largest frame (kind byte and payload). A larger length means a corrupt stream.
pub const MAX_FRAME_BYTES: usize = 256 * 1024;

/// Largest piece of a file, of input or of output in one frame.
pub const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// Unacknowledged output bytes of one run, both streams together. Less than what the engine
/// buffers on an attach stream (docs/ENGINE.md, back-pressure).
pub const OUTPUT_WINDOW_BYTES: u32 = 192 * 1024;

/// Unacknowledged input bytes of one run. The init buffers up to this much for a program that does
/// not read.
pub const STDIN_WINDOW_BYTES: u32 = 128 * 1024;

/// Most entries in [`FromInit::Audited`].
pub const MAX_RESIDUE: usize = 16;

/// Most prewarmed runtimes in one sandbox.
pub const MAX_PREPARED: usize = 4;

/// An init that receives nothing from its daemon for this long kills everything and exits.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(20);

/// Interval between the daemon's pings.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// A frame from the daemon to the init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToInit {
    /// Opens the session. Any other first frame is a protocol error and ends the init.
    Hello(InitHello),
    /// Writes a file below the box, or appends to it.
    Put(Put),
    /// Prewarms a runtime in a cell of its own. Between runs only; answered by
    /// [`FromInit::Prepared`].
    Prepare(Prepare),
    /// Ends all prewarmed runtimes for good, so that their memory is free. Between runs only; not
    /// answered.
    DropPrepared,
    /// Runs one program. One more run, with its input, may be sent before the current one is done.
    Run(Run),
    /// Input bytes for a run.
    Stdin {
        /// Input for any other run is dropped.
        run: u32,
        /// At most [`MAX_CHUNK_BYTES`].
        data: Vec<u8>,
    },
    /// End of the input of a run.
    StdinEnd { run: u32 },
    /// Acknowledges output, so that more may be sent.
    Credit {
        run: u32,
        /// Bytes that the daemon consumed.
        bytes: u32,
    },
    /// Ends a run at once. Ignored when it has already ended.
    Kill { run: u32 },
    /// Heartbeat; answered by [`FromInit::Pong`].
    Ping { token: u64 },
    /// Restores the sandbox to its state at Ready, between runs, and audits it; answered by
    /// [`FromInit::Audited`].
    Reset,
    /// Lists files that the last run left. Between runs only; answered by [`FromInit::Collected`].
    Collect(Collect),
    /// Reads a piece of a collected file; answered by [`FromInit::Piece`].
    Read {
        /// Index in [`Collected::files`].
        file: u32,
        /// Byte offset of the piece.
        at: u64,
    },
    /// Asks for the current limits, after a `containers/update`; answered by [`FromInit::Ready`].
    Probe,
}

/// A frame from the init to the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromInit {
    /// Answer to Hello and to Probe.
    Ready(Box<Ready>),
    /// A prewarmed runtime is ready, or failed to become ready.
    Prepared {
        /// [`Prepare::id`] of the runtime.
        id: u32,
        /// The failed step and its errno, or the runtime's own message and 0.
        failed: Option<(String, i32)>,
        /// Nanoseconds since the Prepare arrived.
        took_ns: u64,
        /// Memory that the sandbox uses beyond its baseline, in bytes.
        memory_bytes: u64,
    },
    /// A file could not be written. Runs are refused with this path and errno until a Put of the
    /// same file succeeds.
    PutFailed { path: String, errno: i32 },
    /// Output of the running program.
    Output {
        run: u32,
        stream: OutputStream,
        /// At most [`MAX_CHUNK_BYTES`].
        data: Vec<u8>,
    },
    /// End of file on an output: no process holds it open any more. Sent only when
    /// [`Run::report_output_ends`] is set.
    OutputEnd { run: u32, stream: OutputStream },
    /// What the running program has used so far. Sent only when [`Run::usage_interval_ns`] is set.
    Usage {
        run: u32,
        /// Nanoseconds since the program's start.
        wall_ns: u64,
        /// CPU time of the process tree, in nanoseconds.
        cpu_ns: u64,
        /// Memory in use, in bytes.
        memory_bytes: u64,
    },
    /// Acknowledges input, so that more may be sent.
    StdinCredit {
        run: u32,
        /// Bytes that the program's pipe took, or that were dropped because it is closed.
        bytes: u32,
    },
    /// The run has ended and none of its processes is alive.
    Done(Box<Done>),
    /// Result of a [`ToInit::Reset`]: one sentence per trace found, empty when the sandbox is
    /// clean.
    Audited {
        /// At most [`MAX_RESIDUE`].
        residue: Vec<String>,
    },
    /// The files that can be read with [`ToInit::Read`].
    Collected(Collected),
    /// A piece of a collected file. An empty one means end of file.
    Piece {
        /// Index in [`Collected::files`].
        file: u32,
        /// At most [`MAX_CHUNK_BYTES`].
        data: Vec<u8>,
    },
    /// Answer to Ping, with its token.
    Pong { token: u64 },
    /// A protocol or internal error, for the log. The session ends after it.
    Fault { message: String },
    /// Sockets of earlier runs are still in use, so no later run can begin. The session ends after
    /// it.
    SocketsLeft,
}

/// Opens a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitHello {
    /// [`VERSION`] of the daemon.
    pub version: u16,
    /// Random 128 bits per session, echoed in Ready.
    pub nonce: [u8; 16],
    /// The program's user id, unique per slot on the engine. Never 0.
    pub uid: u32,
    /// The program's group id. Never 0.
    pub gid: u32,
    pub isolation: IsolationMode,
    /// Sizes of a cell's own tmpfs mounts. In `split` the engine mounted them already.
    pub space: Space,
}

/// How a run is isolated from the init and from other runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IsolationMode {
    /// The init is root with three capabilities, the program an unprivileged uid.
    #[default]
    Split,
    /// Each run gets fresh user, PID, mount, IPC, network and cgroup namespaces; nothing in the
    /// container is root.
    Cell,
}

/// Sizes of the tmpfs mounts of a cell. They count as memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Bytes for /box.
    pub box_bytes: u64,
    /// Bytes for /tmp.
    pub tmp_bytes: u64,
    /// Bytes for /dev/shm.
    pub shm_bytes: u64,
    /// Files and folders in each mount.
    pub inodes: u32,
}

/// Processes and threads of a container beyond a program's limit: the init, the helpers that it
/// forks, and prewarmed runtimes (a JVM has twenty threads).
pub const OWN_PIDS: u32 = 64;

/// Bit set of system calls that an operator allows in a profile although the filter denies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Relax(pub u32);

impl Relax {
    pub const NONE: Relax = Relax(0);
    /// ptrace, process_vm_readv, process_vm_writev, kcmp, pidfd_getfd and any personality, for
    /// debuggers.
    pub const PTRACE: Relax = Relax(1);
    /// System V shared memory, semaphores and message queues.
    pub const SYSV_IPC: Relax = Relax(2);
    /// POSIX message queues.
    pub const POSIX_MQ: Relax = Relax(4);
    pub const IO_URING: Relax = Relax(8);
    /// Pseudoterminals, for shells and editors.
    pub const PTY: Relax = Relax(16);
    /// Descriptors that timers and signals make readable.
    pub const TIMERFD: Relax = Relax(32);
    pub const ALL: Relax = Relax(63);

    /// Whether every bit of `these` is set.
    #[must_use]
    pub const fn has(self, these: Relax) -> bool {
        self.0 & these.0 == these.0
    }

    /// The union of both sets.
    #[must_use]
    pub const fn with(self, these: Relax) -> Relax {
        Relax(self.0 | these.0)
    }
}

/// Selects files that the last run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collect {
    /// Paths below the box, with `*` and `?` within a component and `**` for any number of
    /// components.
    pub patterns: Vec<String>,
    /// Most files to return.
    pub max_files: u32,
    /// Most bytes to return, all files together.
    pub max_bytes: u64,
}

/// Result of a [`Collect`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Path and size in bytes.
    pub files: Vec<(String, u64)>,
    /// Paths that matched but are not returned, with the reason.
    pub refused: Vec<(String, Refused)>,
}

/// Why a matching file is not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// A link, folder, pipe, socket or device.
    NotAFile,
    /// It exceeds what is left of [`Collect::max_bytes`].
    TooLarge,
    /// [`Collect::max_files`] is reached.
    TooMany,
    /// Its name is not UTF-8, or contains control characters.
    Name,
    /// It cannot be opened, or no longer exists.
    Unreadable,
}

/// Writes a piece of a file below `/box`. The program can never change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Relative to `/box`, without `..` and empty components. Missing parents are created
    /// (root-owned, mode 1777).
    pub path: String,
    /// Permission bits; the file gets `mode & 0755 | 0444`.
    pub mode: u32,
    /// True appends; false creates or truncates the file.
    pub append: bool,
    /// At most [`MAX_CHUNK_BYTES`].
    pub data: Vec<u8>,
}

/// Runs one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Chosen by the daemon; increases within a session.
    pub run: u32,
    /// The program and its arguments. `argv[0]` is searched in the PATH of `env` unless it contains
    /// a slash.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    pub limits: RunLimits,
    /// Whether to remove, before the start, everything that earlier programs left: files not owned
    /// by root below /box, /tmp and /dev/shm.
    pub clean: bool,
    /// Files (relative to /box, patterns allowed) that are kept after exit 0: copied, root-owned,
    /// mode 0755.
    pub keep: Vec<String>,
    /// Files below the box that the init removes after the run, for example those of one test.
    pub remove_after: Vec<String>,
    /// Output beyond `limits.output_bytes`: true discards it, false ends the run.
    pub truncate_output: bool,
    pub relax: Relax,
    /// Whether to send [`FromInit::OutputEnd`].
    pub report_output_ends: bool,
    /// Interval of [`FromInit::Usage`] in nanoseconds; 0 for none.
    pub usage_interval_ns: u64,
    /// Whether another run follows at once. Its cell is then made while the daemon processes this
    /// run's facts.
    pub more: bool,
    /// Whether a prewarmed runtime may be used.
    pub hot: bool,
    /// Variables that a program gets besides `env` if its output is read while it runs; a forked
    /// runtime is told `live` instead. Empty: it is not, or the language needs none.
    pub live_env: Vec<(String, String)>,
}

impl Run {
    /// The environment of a program that is started for this run.
    pub fn whole_env(&self) -> Vec<(String, String)> {
        self.env.iter().chain(&self.live_env).cloned().collect()
    }
}

/// The limits that the init enforces for one run. The kernel enforces those of the container, which
/// are higher by a reserve, and its CPU share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// CPU time of the whole process tree, in nanoseconds.
    pub cpu_ns: u64,
    /// Wall time in nanoseconds.
    pub wall_ns: u64,
    /// stdout and stderr together, in bytes.
    pub output_bytes: u64,
    /// RLIMIT_FSIZE, in bytes.
    pub file_bytes: u64,
    /// Value of RLIMIT_NOFILE.
    pub open_files: u32,
    /// Processes and threads of the program. Where the cgroup counts denied forks, its limit is
    /// what a program meets; RLIMIT_NPROC otherwise.
    pub pids: u32,
    /// Memory of the program, in bytes. The init ends a run whose samples exceed it.
    pub memory_bytes: u64,
}

/// One of a program's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    Stdout,
    Stderr,
}

/// What the init sees of its sandbox. The daemon compares it with what it asked the engine for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ready {
    /// [`VERSION`] of the init.
    pub version: u16,
    /// Echo of [`InitHello::nonce`].
    pub nonce: [u8; 16],
    /// 1 or 2; 0 when no cgroup is visible.
    pub cgroup_version: u8,
    /// The container's memory limit in bytes; 0 unknown, u64::MAX unlimited.
    pub memory_bytes: u64,
    /// Swap allowed beyond memory, in bytes; u64::MAX unlimited or unknown.
    pub swap_bytes: u64,
    /// The container's process limit; 0 unknown, u64::MAX unlimited.
    pub pids: u64,
    /// CPU quota in units of 1e-9 CPU; 0 unknown, u64::MAX unlimited.
    pub nano_cpus: u64,
    /// Effective capabilities of the init (`CapEff`).
    pub cap_eff: u64,
    /// Bounding set of the init (`CapBnd`).
    pub cap_bnd: u64,
    pub no_new_privs: bool,
    /// `Seccomp:` of /proc/self/status: 0 off, 2 filter.
    pub seccomp: u8,
    /// The init's uid inside the container.
    pub uid: u32,
    /// Whether uid 0 inside is another uid outside (user namespace remapping).
    pub userns_remapped: bool,
    /// Whether `lo` is the only usable network interface.
    pub only_loopback: bool,
    /// Whether the root file system is mounted read-only.
    pub readonly_root: bool,
    /// Whether /box is a writable tmpfs without `noexec`.
    pub box_tmpfs: bool,
    /// Whether descriptors of the programs' uid are in flight that no process can receive: the
    /// kernel counts them until it is booted again, and a program could pass fewer.
    pub uid_is_spent: bool,
    /// Bytes that the sandbox's cgroup uses now.
    pub memory_used_bytes: u64,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// The step and errno that keep cells from being made here. None in `split`, and when a trial
    /// cell was made.
    pub no_cell: Option<(String, i32)>,
}

/// Which armed limit or request made the init end a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fired {
    /// The program ended by itself.
    None,
    /// CPU time as counted by the cgroup reached its limit.
    Cpu,
    /// Wall time reached its limit.
    Wall,
    /// Output exceeded its limit.
    Output,
    /// The memory use passed its limit.
    Memory,
    /// A Kill frame arrived.
    Kill,
}

/// The step that replaces the child by the program: execve(2).
pub const EXECVE: &str = "execve";

/// How the program's main process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Exit status of the process.
    Exited(u8),
    /// Number of the signal that ended it.
    Signaled(u8),
    /// It never ran: a set-up step failed.
    NotStarted {
        /// Name of the step, for example `execve` or `chdir`.
        step: String,
        errno: i32,
    },
}

/// How a memory figure was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryMethod {
    /// The cgroup's peak rose during this run: exact.
    CgroupPeak,
    /// An earlier run or a compiler hides the peak: the largest of the samples, and of the largest
    /// process without its mapped files.
    Sampled,
    /// Only the largest resident set of one process.
    MaxRss,
}

/// The facts of one run, without judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub run: u32,
    pub ended: Ended,
    pub fired: Fired,
    /// From the program's start to the end of its main process (or the kill), in nanoseconds.
    pub wall_ns: u64,
    /// CPU time of the process tree in nanoseconds: by the cgroup, or by rusage where no cgroup is
    /// visible.
    pub cpu_ns: u64,
    /// User time by rusage, in nanoseconds.
    pub user_ns: u64,
    /// System time by rusage, in nanoseconds.
    pub system_ns: u64,
    /// Memory that the run used, in bytes.
    pub memory_bytes: u64,
    pub memory_source: MemoryMethod,
    /// Largest resident set of one process, in bytes.
    pub max_rss_bytes: u64,
    /// OOM kills in the sandbox's cgroup during the run.
    pub oom_kills: u64,
    /// Forks that the cgroup's process limit denied during the run.
    pub pids_denied: u64,
    /// Processes that outlived the main process and were killed.
    pub survivors: u32,
    /// Bytes written to stdout, sent or not.
    pub stdout_bytes: u64,
    /// Bytes written to stderr, sent or not.
    pub stderr_bytes: u64,
    /// Files of [`Run::keep`] that are missing or not regular.
    pub keep_missing: Vec<String>,
    /// Nanoseconds from the Run to the program's start (cleaning, fork, exec).
    pub setup_ns: u64,
    /// Whether a prewarmed runtime served the run.
    pub hot: bool,
    /// Whether only the init is left and the folders have their original modes.
    pub clean: bool,
}

impl Done {
    /// Facts of a run that never had a process.
    #[must_use]
    pub fn not_started(run: u32, step: String, errno: i32, setup_ns: u64, clean: bool) -> Self {
        Done {
            run,
            ended: Ended::NotStarted { step, errno },
            fired: Fired::None,
            wall_ns: 0,
            cpu_ns: 0,
            user_ns: 0,
            system_ns: 0,
            memory_bytes: 0,
            memory_source: MemoryMethod::MaxRss,
            max_rss_bytes: 0,
            oom_kills: 0,
            pids_denied: 0,
            survivors: 0,
            stdout_bytes: 0,
            stderr_bytes: 0,
            keep_missing: Vec::new(),
            setup_ns,
            hot: false,
            clean,
        }
    }
}
