//! The frames that host and init exchange, as plain values.
//!
//! This file promises the *vocabulary* and nothing else: how a frame looks as bytes is `codec`, how frames are cut
//! out of a stream is `stream`. Integers are little-endian, durations are nanoseconds, strings and byte strings are
//! length-prefixed, and nothing here allocates more than a frame's own length.
//!
//! ```text
//! host                                            init
//!  | -- Hello{version, nonce, uid, gid, ...} -----> |   first; the init never speaks before it
//!  | <------------- Ready{nonce, limits seen} ----- |
//!  | -- Prepare --> / <-- Prepared ---------------- |   a runtime that waits for its program (cells only)
//!  | -- Put (0..n) -------------------------------> |   files, root-owned, the program cannot change them
//!  | -- Run{run, argv, env, limits, ...} ---------> |
//!  | -- Stdin (within the window), StdinEnd ------> |
//!  | <-- Output (within the window) --------------- |
//!  | <-- StdinCredit ------------------------------ |
//!  | -- Credit -----------------------------------> |
//!  | -- Kill -------------------------------------> |   any time; idempotent
//!  | <-- Done{run, facts} ------------------------- |   exactly one per Run; last for that run
//!  | -- Reset --> / <-- Audited -------------------- |   between runs: what is left, when all is taken away
//!  | -- Collect{patterns} --> / <-- Collected ----- |   between runs: which files the last run left
//!  | -- Read{file, at} --> / <-- Piece ------------ |   and what is in them, until the next Put or Run
//!  | -- Ping{token} --> / <-- Pong{token} --------- |   any time; the host's heartbeat
//! ```

/// The wire's version. Host and init of different versions refuse each other in the first exchange.
pub const VERSION: u16 = 4;

/// The largest frame, kind byte and payload together. A larger length is corruption.
pub const MAX_FRAME_BYTES: usize = 256 * 1024;

/// The largest piece of a file, of input or of output in one frame.
pub const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// Un-acknowledged output bytes of one run (both streams together). Below the Engine's own buffer (ENGINE.md finding 1).
pub const OUTPUT_WINDOW_BYTES: u32 = 192 * 1024;

/// Un-acknowledged input bytes of one run. The init keeps that much in memory for a program that doesn't read.
pub const STDIN_WINDOW_BYTES: u32 = 128 * 1024;

/// Pieces of residue that are told.
pub const MAX_RESIDUE: usize = 16;

/// An init that hears nothing from its host for this long ends itself and all it runs.
pub const SILENCE_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// How often a host pings.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(5);

/// What a host says to an init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToInit {
    /// Opens the session. Anything else before it is a protocol error and ends the init.
    Hello(InitHello),
    /// Writes (a piece of) a file below the box.
    Put(Put),
    /// Starts a runtime ahead of its program, in a cell of its own; the answer is a [`FromInit::Prepared`]. Idle only.
    Prepare(Prepare),
    /// Runs one program. One more may come ahead, with its input: it runs when the one before is done.
    Run(Run),
    /// Input bytes for the running program.
    Stdin {
        /// The run it is meant for; another run's input is dropped.
        run: u32,
        /// The bytes, at most [`MAX_CHUNK_BYTES`].
        data: Vec<u8>,
    },
    /// The input's end.
    StdinEnd {
        /// The run it is meant for.
        run: u32,
    },
    /// More output may be sent.
    Credit {
        /// The run it is meant for.
        run: u32,
        /// Bytes consumed by the host.
        bytes: u32,
    },
    /// Ends the run at once. A run that has ended already is not disturbed.
    Kill {
        /// The run to end.
        run: u32,
    },
    /// Asks for a sign of life.
    Ping {
        /// Comes back in the [`FromInit::Pong`].
        token: u64,
    },
    /// Makes the sandbox as it was at Ready, between runs, and looks whether it is: the answer is a [`FromInit::Audited`].
    Reset,
    /// Asks which files the last run left. Between runs only; the answer is a [`FromInit::Collected`].
    Collect(Collect),
    /// Asks for a piece of a collected file; the answer is a [`FromInit::Piece`].
    Read {
        /// Its place in the list.
        file: u32,
        /// Where the piece begins.
        at: u64,
    },
    /// Asks for the limits again (after the container was updated); the answer is a [`FromInit::Ready`].
    Probe,
}

/// What an init says to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromInit {
    /// The answer to Hello and to Probe.
    Ready(Box<Ready>),
    /// A runtime waits for its program, or could not be brought to wait.
    Prepared {
        /// From the Prepare.
        id: u32,
        /// The step that failed, or the runtime's own words, and an errno (0 for words).
        failed: Option<(String, i32)>,
        /// From the Prepare to here, in nanoseconds.
        took_ns: u64,
        /// Memory that it holds, in bytes.
        memory_bytes: u64,
    },
    /// A file could not be written; the next Run is refused with the same words until a new Hello-less Put succeeds.
    PutFailed {
        /// The file.
        path: String,
        /// The errno.
        errno: i32,
    },
    /// Output of the running program.
    Output {
        /// The run.
        run: u32,
        /// Which stream.
        stream: OutputStream,
        /// The bytes, at most [`MAX_CHUNK_BYTES`].
        data: Vec<u8>,
    },
    /// An output of the running program has ended: nobody holds it open any more. Only when the Run asks for it.
    OutputEnd {
        /// The run.
        run: u32,
        /// Which stream.
        stream: OutputStream,
    },
    /// What the running program has used so far. Only when the Run asks for it.
    Usage {
        /// The run.
        run: u32,
        /// Since the program's start, in nanoseconds.
        wall_ns: u64,
        /// CPU time of the tree, in nanoseconds.
        cpu_ns: u64,
        /// Memory in use, in bytes.
        memory_bytes: u64,
    },
    /// More input may be sent.
    StdinCredit {
        /// The run.
        run: u32,
        /// Bytes that the program's pipe took (or that were thrown away because nobody reads any more).
        bytes: u32,
    },
    /// The run has ended, nothing of it is left.
    Done(Box<Done>),
    /// What is left after a [`ToInit::Reset`], in words; nothing, when the sandbox is as it was.
    Audited {
        /// At most [`MAX_RESIDUE`].
        residue: Vec<String>,
    },
    /// The files that the last run left and that may be read now.
    Collected(Collected),
    /// A piece of a collected file, at most [`MAX_CHUNK_BYTES`]; an empty one is its end.
    Piece {
        /// Its place in the list.
        file: u32,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A sign of life.
    Pong {
        /// From the Ping.
        token: u64,
    },
    /// The init's own fault, in words; the session is over after it.
    Fault {
        /// What happened, for the log.
        message: String,
    },
}

/// Opens a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitHello {
    /// [`VERSION`] of the host.
    pub version: u16,
    /// Random per session; echoed in Ready. 128 bits.
    pub nonce: [u8; 16],
    /// The program's user id, unique per slot on the engine. Never 0.
    pub uid: u32,
    /// The program's group id. Never 0.
    pub gid: u32,
    /// How a run is kept apart from the init and from other runs.
    pub isolation: IsolationMode,
    /// The room that a cell's own folders get. Where it is not a cell, the engine gave it already.
    pub space: Space,
}

/// How a run is kept apart (DESIGN section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IsolationMode {
    /// The init is root with three capabilities, the program an unprivileged uid.
    #[default]
    Split,
    /// Each run in fresh user, pid, mount and ipc namespaces; nobody is root.
    Cell,
}

/// Room for files: they live in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Bytes below the box.
    pub box_bytes: u64,
    /// Bytes below /tmp.
    pub tmp_bytes: u64,
    /// Bytes below /dev/shm.
    pub shm_bytes: u64,
    /// Files and folders in each.
    pub inodes: u32,
}

/// System calls that an operator allows a profile's programs again; bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Relax(pub u32);

impl Relax {
    /// Nothing.
    pub const NONE: Relax = Relax(0);
    /// ptrace, process_vm_readv, process_vm_writev, kcmp, pidfd_getfd, and any personality: for debuggers.
    pub const PTRACE: Relax = Relax(1);
    /// System V shared memory, semaphores and message queues.
    pub const SYSV_IPC: Relax = Relax(2);
    /// POSIX message queues.
    pub const POSIX_MQ: Relax = Relax(4);
    /// io_uring.
    pub const IO_URING: Relax = Relax(8);
    /// All of them.
    pub const ALL: Relax = Relax(15);

    /// Whether all of these are among them.
    #[must_use]
    pub const fn has(self, these: Relax) -> bool {
        self.0 & these.0 == these.0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, these: Relax) -> Relax {
        Relax(self.0 | these.0)
    }
}

/// Which files are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collect {
    /// Paths below the box, with `*` and `?` within a component and `**` for any number of components.
    pub patterns: Vec<String>,
    /// At most so many.
    pub max_files: u32,
    /// At most so many bytes together.
    pub max_bytes: u64,
}

/// What there is of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Path and size.
    pub files: Vec<(String, u64)>,
    /// What matched and is not given, with the reason.
    pub refused: Vec<(String, Refused)>,
}

/// Why a file is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// A link, a folder, a pipe, a socket, a device.
    NotAFile,
    /// More bytes than are wanted together.
    TooLarge,
    /// More files than are wanted.
    TooMany,
    /// Its name is no UTF-8, or has control characters in it.
    Name,
    /// It cannot be read, or has gone.
    Unreadable,
}

/// Writes a piece of a file under `/box`. Root-owned, never writable by the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Relative to `/box`, no `..`, no empty component; parents are made as needed (root-owned, sticky, mode 1777).
    pub path: String,
    /// Permission bits, masked with 0755 and or-ed with 0444.
    pub mode: u32,
    /// False truncates (or creates) the file, true appends.
    pub append: bool,
    /// The bytes, at most [`MAX_CHUNK_BYTES`].
    pub data: Vec<u8>,
}

/// Starts a runtime ahead of its program. It is used by the first Run with the command that it stands for (more arguments may
/// follow), the same environment and the same system calls allowed, and made anew when the sandbox is reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepare {
    /// Chosen by the host. A Run that uses one ends those with lower numbers.
    pub id: u32,
    /// The runtime and its arguments.
    pub argv: Vec<String>,
    /// The beginning of the command that it stands for; the rest goes to it as arguments.
    pub stands_for: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Whether nothing may follow that beginning.
    pub exact: bool,
    /// Whether each program is a fork of the runtime, which goes on waiting. One at the most.
    pub forks: bool,
    /// What the runtime is to load, in its own terms.
    pub load: Vec<String>,
    /// The limits of an ordinary run.
    pub limits: RunLimits,
    /// What its filter lets through beside the usual.
    pub relax: Relax,
}

/// The most runtimes that wait in one sandbox.
pub const MAX_PREPARED: usize = 4;

/// Runs one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Chosen by the host, increasing within a session.
    pub run: u32,
    /// The program and its arguments; `argv[0]` is looked up in the PATH of `env` unless it contains a slash.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// The limits that the init arms.
    pub limits: RunLimits,
    /// What the program's pid namespace and folders look like before it starts: true removes everything that earlier
    /// programs left (files not owned by root under /box, /tmp and /dev/shm).
    pub clean: bool,
    /// After exit 0, these files (relative to /box) are taken over: copied, root-owned, mode 0755, the program's own removed.
    pub keep: Vec<String>,
    /// Files below the box that the init removes when the run has ended (a test's own files).
    pub remove_after: Vec<String>,
    /// What happens with output beyond `limits.output_bytes`: true throws it away and goes on, false ends the run.
    pub truncate_output: bool,
    /// What the program's filter lets through beside the usual.
    pub relax: Relax,
    /// Whether [`FromInit::OutputEnd`] is wanted.
    pub report_output_ends: bool,
    /// How often [`FromInit::Usage`] is wanted, in nanoseconds; 0 for never.
    pub usage_interval_ns: u64,
    /// Whether another run follows at once: its cell is then made while the host looks at this one's facts.
    pub more: bool,
    /// Whether a runtime that waits may be used.
    pub hot: bool,
}

/// The limits that the init arms for one run. Memory, processes of the container and CPU share belong to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// CPU time of the whole tree, in nanoseconds.
    pub cpu_ns: u64,
    /// Wall time, in nanoseconds.
    pub wall_ns: u64,
    /// stdout and stderr together, in bytes.
    pub output_bytes: u64,
    /// RLIMIT_FSIZE, in bytes.
    pub file_bytes: u64,
    /// RLIMIT_NOFILE.
    pub open_files: u32,
    /// RLIMIT_NPROC for the program's uid.
    pub pids: u32,
    /// The program's memory limit, in bytes; the container's own is higher by a reserve. Peak use above it is reported
    /// by `facts.memory`, the kernel's kill comes from the container's limit.
    pub memory_bytes: u64,
}

/// Which output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// What the init really sees of its sandbox. The host compares it with what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ready {
    /// [`VERSION`] of the init.
    pub version: u16,
    /// From Hello.
    pub nonce: [u8; 16],
    /// 1 or 2; 0 when no cgroup is visible.
    pub cgroup_version: u8,
    /// The container's memory limit in bytes; 0 when unknown, u64::MAX when unlimited.
    pub memory_bytes: u64,
    /// Swap allowed beyond memory, in bytes; u64::MAX when unlimited or unknown.
    pub swap_bytes: u64,
    /// The container's process limit; 0 unknown, u64::MAX unlimited.
    pub pids: u64,
    /// CPU quota in units of 1e-9 CPU (1_000_000_000 is one CPU); 0 unknown, u64::MAX unlimited.
    pub nano_cpus: u64,
    /// Effective capabilities of the init (`CapEff`).
    pub cap_eff: u64,
    /// Bounding set of the init (`CapBnd`).
    pub cap_bnd: u64,
    /// Whether no_new_privs is set.
    pub no_new_privs: bool,
    /// `Seccomp:` of /proc/self/status: 0 off, 2 filter.
    pub seccomp: u8,
    /// The init's own uid as it sees it.
    pub uid: u32,
    /// Whether uid 0 in here is another uid outside (user namespace remapped).
    pub userns_remapped: bool,
    /// Whether `lo` is the only network interface.
    pub only_loopback: bool,
    /// Whether the root file system is mounted read-only.
    pub readonly_root: bool,
    /// Whether the box is a writable, executable tmpfs.
    pub box_tmpfs: bool,
    /// Bytes in use by the sandbox's cgroup now.
    pub memory_used_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Why cells cannot be made here: the step and its errno. None in a split sandbox, and when one was made.
    pub no_cell: Option<(String, i32)>,
}

/// Why the init ended a run, if it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fired {
    /// Nothing: the program ended by itself.
    None,
    /// The CPU time was used up (by the cgroup's clock).
    Cpu,
    /// The wall time was over.
    Wall,
    /// The output was too much.
    Output,
    /// The kernel killed for memory during the run.
    Memory,
    /// A Kill frame came.
    Kill,
}

/// How the program's main process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exited(u8),
    /// A signal ended it.
    Signaled(u8),
    /// It never ran: a set-up step failed.
    NotStarted {
        /// The step's name, such as `execve` or `chdir`.
        step: String,
        /// The errno.
        errno: i32,
    },
}

/// Where a memory figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryMethod {
    /// The cgroup's peak rose above its earlier value during this run: exact for the sandbox.
    CgroupPeak,
    /// Samples of the cgroup's use above the baseline, together with the largest resident set: a lower bound.
    Sampled,
    /// Only the largest resident set of one process.
    MaxRss,
}

/// The facts of one run. Nothing here is a judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The run.
    pub run: u32,
    /// How the main process ended.
    pub ended: Ended,
    /// Which armed limit the init acted on.
    pub fired: Fired,
    /// Monotonic time from the program's start to the main process's end (or the kill), in nanoseconds.
    pub wall_ns: u64,
    /// CPU time of the tree by the cgroup (delta), or by rusage when no cgroup is visible, in nanoseconds.
    pub cpu_ns: u64,
    /// User part by rusage, in nanoseconds.
    pub user_ns: u64,
    /// System part by rusage, in nanoseconds.
    pub system_ns: u64,
    /// Memory used by the run, in bytes.
    pub memory_bytes: u64,
    /// Where that figure comes from.
    pub memory_source: MemoryMethod,
    /// Largest resident set of one process of the tree, in bytes.
    pub max_rss_bytes: u64,
    /// Kernel OOM kills in the sandbox's cgroup (delta).
    pub oom_kills: u64,
    /// Forks denied by the cgroup's process limit (delta).
    pub pids_denied: u64,
    /// Processes that were still alive when the main process had ended, and were killed.
    pub survivors: u32,
    /// Bytes the program wrote to stdout, sent or not.
    pub stdout_bytes: u64,
    /// Bytes the program wrote to stderr, sent or not.
    pub stderr_bytes: u64,
    /// Files of `keep` that were not there or were not plain files.
    pub keep_missing: Vec<String>,
    /// Nanoseconds the init spent before the program's start (cleaning, fork, exec).
    pub setup_ns: u64,
    /// Whether it was a runtime that had waited.
    pub hot: bool,
    /// Whether after the run only the init was left and the folders were writable as before.
    pub clean: bool,
}

impl Done {
    /// Of a run that never had a process: nothing was used.
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
