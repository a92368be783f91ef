//! From a Run frame to a running program: the child's set-up, step by step.
//!
//! Everything possible is prepared before the fork. In the child every step has a name. The first
//! step that fails is reported to the init on a close-on-exec pipe (`run_status`) and the child
//! exits without having run anything of the program. Just before exec the child sends the time, so
//! that the init knows when the program started without being woken for it, and the CPU time of the
//! set-up, which is not the program's.
//!
//! ```text
//! split: prepare -> fork -> setsid -> stdio -> chdir -> oom score -> rlimits -> signals -> fds
//!                -> groups -> gid -> uid -> pdeathsig -> no_new_privs -> filter
//!                -> send start -> execve
//! cell:  (in `cell_init`) fork -> no_new_privs -> filter -> setsid -> stdio -> chdir -> oom score
//!        -> drop capabilities; when the Run arrives: prepare -> rlimits -> signals -> fds
//!        -> send start -> execve
//! ```

use super::bpf::Instruction;
use super::cell::{CellFiles, OOM_SCORE, write_file};
use super::filter;
use super::limits::{self, Counted, Resource};
use super::run_status::{self, ProgramStart, StatusPipe, StepError, StepResult};
use super::sys::{self, CStringArray, Errno};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use wire::frame::{EXECVE, Relax, Run, RunLimits};

use nix::libc;

/// PATH for a program whose environment has none: execvp's fallback, with the sbin folders.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Arguments, environment and limits of a program, prepared for execve.
pub struct ExecPlan {
    argv: CStringArray,
    env: CStringArray,
    /// Candidate paths of the executable, in order.
    paths: Vec<CString>,
    resources: [Resource; 9],
}

impl ExecPlan {
    /// `helpers` is how many processes of the program's uid are ours.
    pub fn new(
        argv: &[String],
        env: &[(String, String)],
        limits: &RunLimits,
        relax: Relax,
        helpers: u64,
        counted: Counted,
    ) -> Result<ExecPlan, StepError> {
        let string = |step: &str, s: String| CString::new(s).map_err(|_| StepError::new(step, libc::EINVAL));
        let name = argv.first().ok_or_else(|| StepError::new("argv", libc::EINVAL))?;
        if name.is_empty() {
            return Err(StepError::new("argv", libc::ENOENT));
        }
        let mut paths = Vec::new();
        if name.contains('/') {
            paths.push(string("argv", name.clone())?);
        } else {
            let path = env.iter().find(|(k, _)| k == "PATH");
            let path = path.map_or(DEFAULT_PATH, |(_, v)| v.as_str());
            for folder in path.split(':') {
                // An empty entry is the current folder (execvp(3)).
                let folder = if folder.is_empty() { "." } else { folder };
                paths.push(string("argv", format!("{folder}/{name}"))?);
            }
        }
        let mut pairs = Vec::with_capacity(env.len());
        for (key, value) in env {
            if key.is_empty() || key.contains('=') {
                return Err(StepError::new("env", libc::EINVAL));
            }
            pairs.push(string("env", format!("{key}={value}"))?);
        }
        let argv = argv.iter().map(|s| string("argv", s.clone()));
        Ok(ExecPlan {
            argv: CStringArray::new(argv.collect::<Result<_, _>>()?),
            env: CStringArray::new(pairs),
            paths,
            resources: limits::resources(limits, relax, helpers, counted),
        })
    }
}

/// A program that was forked, and our ends of its pipes.
pub struct StartedProgram {
    /// Its main process, or its cell init.
    pub pid: i32,
    pub stdio: StdioEnds,
    /// Where its start, a failed step and the end of a cell's program arrive.
    pub status: StatusPipe,
    /// The main process, if `pid` is its cell init and it is known.
    pub main: Option<i32>,
    /// Its cell; `None` in `split`.
    pub cell: Option<StartedCell>,
    /// Where a runtime that was still loading writes `ready`. Held open so that the write succeeds.
    pub ready: Option<OwnedFd>,
}

/// The cell of a program that was started.
pub struct StartedCell {
    /// The control socket to the cell init.
    control: OwnedFd,
    /// Its files, once it has sent them: when it has mounted everything.
    files: Option<CellFiles>,
}

impl StartedCell {
    #[must_use]
    pub fn new(control: OwnedFd) -> Self {
        let mut cell = Self { control, files: None };
        cell.files();
        cell
    }

    /// Its files, if it has sent them.
    pub fn files(&mut self) -> Option<&CellFiles> {
        if self.files.is_none()
            && let Ok([box_folder, sockets]) = sys::recv_fds(&self.control, false)
        {
            self.files = Some(CellFiles { box_folder, sockets });
        }
        self.files.as_ref()
    }

    /// Ends the cell's use and returns its files.
    #[must_use]
    pub fn into_files(mut self) -> Option<CellFiles> {
        self.files();
        self.files
    }
}

/// The init's ends of a program's stdin, stdout and stderr; non-blocking.
pub struct StdioEnds {
    pub stdin: OwnedFd,
    /// stdout and stderr.
    pub output: [OwnedFd; 2],
}

/// Room of a program's stdout: the most that the kernel gives a user without privileges.
const STDOUT_PIPE_BYTES: i32 = 1024 * 1024;

/// The pipes between the init and a program: the init's ends and the program's.
pub fn stdio() -> Result<(StdioEnds, [OwnedFd; 3]), StepError> {
    let pipe = || sys::pipe().map_err(StepError::of("pipe"));
    let (in_read, stdin) = pipe()?;
    let (stdout, out_write) = pipe()?;
    let (stderr, err_write) = pipe()?;
    // a program that exits without waiting for its output loses what does not fit. Large pipes are
    // counted per uid: each sandbox with cells has its own, those without share root's
    if !sys::is_root() {
        let _ = sys::set_pipe_size(&stdout, STDOUT_PIPE_BYTES);
    }
    for fd in [&stdin, &stdout, &stderr] {
        sys::set_nonblocking(fd).map_err(StepError::of("pipe"))?;
    }
    Ok((StdioEnds { stdin, output: [stdout, stderr] }, [in_read, out_write, err_write]))
}

/// The pipe on which a program's processes report, and its writing end.
pub fn status_pipe() -> Result<(StatusPipe, OwnedFd), StepError> {
    let (reader, writer) = sys::pipe().map_err(StepError::of("pipe"))?;
    sys::set_nonblocking(&reader).map_err(StepError::of("pipe"))?;
    Ok((StatusPipe::new(reader), writer))
}

/// Lets programs open pseudoterminals, or not. They are files of the init's user; an engine without
/// them, or with a kernel of its own, loses nothing.
fn allow_terminals(allowed: bool) {
    let mode = if allowed { 0o666 } else { 0 };
    let _ = sys::open(c"/dev/pts", libc::O_RDONLY | libc::O_DIRECTORY)
        .and_then(|folder| sys::chmod_at(&folder, c"ptmx", mode));
}

/// Starts the program of `run` in the sandbox's own namespaces, as this uid and gid.
pub fn start_split(run: &Run, uid: u32, gid: u32, counted: Counted) -> Result<StartedProgram, StepError> {
    let plan = ExecPlan::new(&run.argv, &run.whole_env(), &run.limits, run.relax, 0, counted)?;
    let (ends, stdio) = stdio()?;
    let (status, status_writer) = status_pipe()?;
    let filter = filter::build(run.relax);
    allow_terminals(run.relax.has(Relax::PTY));
    match sys::fork().map_err(StepError::of("fork"))? {
        Some(pid) => Ok(StartedProgram { pid, main: None, stdio: ends, status, cell: None, ready: None }),
        None => {
            let steps = |plan: &ExecPlan| split_steps(plan, &stdio, uid, gid, &filter);
            let report = StartReport { to: &status_writer, ready_at: 0, before_ns: 0 };
            let failed = exec_program(&plan, Some(report), steps);
            run_status::send_failed(&status_writer, &failed);
            sys::exit(127)
        }
    }
}

/// Where and how a child reports its start.
pub struct StartReport<'a> {
    pub to: &'a OwnedFd,
    /// When the child was ready for its run; monotonic, in nanoseconds.
    pub ready_at: u64,
    /// Its CPU time when the run arrived, in nanoseconds.
    pub before_ns: u64,
}

/// Does the steps, reports the start and executes the program. Returns only if something failed.
pub fn exec_program(
    plan: &ExecPlan,
    report: Option<StartReport<'_>>,
    steps: impl Fn(&ExecPlan) -> StepResult<()>,
) -> StepError {
    if let Err((step, errno)) = steps(plan) {
        return StepError::new(step, errno);
    }
    if let Some(StartReport { to, ready_at, before_ns }) = report {
        let setup_ns = sys::own_cpu().saturating_sub(before_ns);
        run_status::send_start(to, ProgramStart { at: sys::now(), ready_at, before_ns, setup_ns, hot: false });
    }
    let mut denied = false;
    let mut errno = libc::ENOENT;
    for path in &plan.paths {
        errno = sys::exec(path, &plan.argv, &plan.env);
        match errno {
            // As execvp: try the next path, but report EACCES in the end.
            libc::EACCES => denied = true,
            libc::ENOENT | libc::ENOTDIR => {}
            _ => return StepError::new(EXECVE, errno),
        }
    }
    StepError::new(EXECVE, if denied { libc::EACCES } else { errno })
}

fn step(name: &'static str, result: Result<(), Errno>) -> StepResult<()> {
    result.map_err(|errno| (name, errno))
}

/// A new session, stdio, working folder and umask.
pub fn enter_session(stdio: &[OwnedFd; 3]) -> StepResult<()> {
    step("setsid", sys::setsid())?;
    for (fd, place) in stdio.iter().zip(0..) {
        step("stdio", sys::dup_onto(fd, place))?;
    }
    step("chdir", sys::chdir(c"/box"))?;
    sys::umask(0o022);
    Ok(())
}

/// Which resource limits a process gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RlimitPhase {
    /// Those of its run.
    Run,
    /// Those of a runtime that loads before its run: no CPU limit, and no hard limits, because its
    /// run may set others.
    Loading,
}

/// Final setup steps except the uid/gid change: limits, signals, descriptors.
pub fn final_steps(plan: &ExecPlan, phase: RlimitPhase) -> StepResult<()> {
    for (name, resource, soft, hard) in plan.resources {
        let hard = match phase {
            RlimitPhase::Run => hard,
            RlimitPhase::Loading if resource == libc::RLIMIT_CPU => continue,
            RlimitPhase::Loading => u64::MAX,
        };
        match sys::limit(resource, soft, hard) {
            // gVisor has neither of these limits
            Err(libc::EPERM) if matches!(resource, libc::RLIMIT_MSGQUEUE | libc::RLIMIT_SIGPENDING) => {}
            limited => step(name, limited)?,
        }
    }
    step("signals", sys::unblock_signals())?;
    sys::close_on_exec_from_3();
    Ok(())
}

fn split_steps(plan: &ExecPlan, stdio: &[OwnedFd; 3], uid: u32, gid: u32, filter: &[Instruction]) -> StepResult<()> {
    enter_session(stdio)?;
    // Raising the score needs no privilege; an engine without the file loses only this preference.
    let _ = write_file(c"/proc/self/oom_score_adj", OOM_SCORE);
    final_steps(plan, RlimitPhase::Run)?;
    step("setgroups", sys::drop_groups())?;
    step("setresgid", sys::set_gid(gid))?;
    step("setresuid", sys::set_uid(uid))?;
    // after the uid, because changing ids clears it
    step("pdeathsig", sys::die_with_parent())?;
    step("no_new_privs", sys::no_new_privileges())?;
    // last, and after no_new_privs, without which it needs CAP_SYS_ADMIN
    step("filter", sys::install_filter(filter))
}

/// The first steps of a process in a cell, which has the filter already.
pub fn cell_steps(stdio: &[OwnedFd; 3]) -> StepResult<()> {
    // without it /proc/self is not accessible; exec sets it anyway
    step("dumpable", sys::dumpable())?;
    enter_session(stdio)?;
    // until exec this is our own code
    step("dumpable", sys::not_dumpable())?;
    step("capabilities", sys::drop_capabilities())
}
