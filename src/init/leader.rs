//! The PID 1 of a cell: makes its world, waits for the init's order, lets the program in, and counts what it leaves.
//!
//! ```text
//!  furnish -> hand /box out -> fork what waits: a blank child, or a runtime -> read one order
//!     (the init's end of the line closed: the end)
//!     it serves:       files -> no capability -> [limits onto the runtime] -> order ---.
//!     it does not, or
//!     has ended:       end it -> fork another blank child,
//!                      or ask the template (`template`) -> the same -------------------+-> filter
//!
//!  -> wait; kill and count what is left; say how it ended
//!       the same submission goes on, nothing was left (`trace`): say what is counted now; read the next order, with new pipes,
//!       which may be there already (`ahead`) -> fork, exec, or ask the template -> wait ...
//!       else: end
//! ```
//!
//! What waits has everything that a program has from its first instruction on: no capability, the filter. A blank child is
//! our own code: it reads its order, takes its limits, and becomes the program. A runtime has read nothing but what the image
//! and the profile gave it; it says `ready` on [`READY_FD`], and on [`ORDER_FD`] it reads what to load, a line, and later
//! `go` and arguments, each with a NUL behind it, until its end.

use super::cell::{self, Step, Tenant};
use super::cgroup::Cgroup;
use super::filter;
use super::limits;
use super::report::{self, Between, End, Failed, Start};
use super::setup::{self, Limits, Program};
use super::sys::{self, Stack, Waited};
use super::template::{Forked, Nursery, Origin};
use super::trace::Look;
use std::os::fd::{AsRawFd, OwnedFd};
use wire::codec;
use wire::frame::{Ended, MAX_FRAME_BYTES, Prepare, Relax, Run, ToInit};

use nix::libc;

/// Where a waiting runtime reads what it is to load, and its order.
pub const ORDER_FD: i32 = 1023;

/// Where it says that it waits.
pub const READY_FD: i32 = 1022;

/// What a leader was born with.
pub struct Ends {
    /// The program's stdin, stdout and stderr.
    pub stdio: [OwnedFd; 3],
    /// Where it reports.
    pub report: OwnedFd,
    /// Its line to the init: /box goes out, the order comes in.
    pub line: OwnedFd,
}

/// A process that waits to be the program.
struct Child {
    pid: i32,
    order: OwnedFd,
    kind: Kind,
}

enum Kind {
    /// With the filter that lets this through.
    Blank(Relax),
    /// Of its command's words, it knows so many. The descriptor ends when it has become the runtime.
    Runtime(usize, OwnedFd),
    /// Of its command's words, it knows so many; since when it was ready, and what CPU time that took.
    Forked { known: usize, ready_at: u64, before_ns: u64 },
}

/// The main process of a cell.
struct Main {
    pid: i32,
    /// CPU time that it took before it was the program's, in nanoseconds.
    before_ns: u64,
}

/// The life of a cell's PID 1.
pub fn lead(
    ends: Ends,
    tenant: &Tenant,
    relax: Relax,
    hot: Option<(&Prepare, Origin, OwnedFd)>,
    nursery: Option<&Nursery>,
    cgroup: &Cgroup,
) -> ! {
    let Ends { stdio, report, line } = ends;
    let world = cell::furnish(tenant).and_then(|world| {
        sys::send_fds(&line, 0, [&world.folder]).map_err(|e| ("cell handover", e))?;
        Ok(world.store)
    });
    let store = match world {
        Ok(store) => store,
        Err((step, errno)) => fail(&report, &Failed::new(step, errno)),
    };
    let child = match (hot, nursery) {
        (Some((_, Origin::Fork, ready)), Some(nursery)) => fork_ahead(nursery, &stdio, &ready).map(Some),
        (Some((prepare, _, ready)), _) => start_runtime(prepare, &stdio, ready).map(Some),
        // whatever is wanted is forked when it is
        (None, Some(_)) => Ok(None),
        (None, None) => start_blank(relax, &stdio, &report).map(Some),
    };
    let child = match child {
        Ok(child) => child,
        Err(failed) => fail(&report, &failed),
    };
    let Some(order) = hear_order(&line) else { sys::exit(0) };
    let (mut main, look) = match let_in(&order, child, nursery, &store, &stdio, &report) {
        Ok(let_in) => let_in,
        Err(failed) => fail(&report, &failed),
    };
    // the program's and the init's own go; the places stay taken, so that no descriptor that comes later lands there
    for place in 0..3 {
        let _ = sys::dup_onto(&report, place);
    }
    let held = look.iter().flat_map(Look::descriptors);
    let counted = cgroup.descriptors();
    sys::close_from_3_but(held.chain(counted).chain(nursery.map(Nursery::line)).chain([&report, &line]));
    // beside the program already: this process has no capability any more, and is not to be looked into
    if let Err((step, errno)) = confine(order.run.relax) {
        fail(&report, &Failed::new(step, errno));
    }
    let mut run = order.run;
    let mut stack = None;
    loop {
        let mut end = wait_for(&main);
        let is_new = is_followed(&run) && end.survivors == 0 && look.as_ref().is_some_and(Look::is_still);
        // the order of the clocks matters: asking for one's own brings the cgroup's up to date
        end.as_new = is_new.then(|| Between { at: sys::now(), leader_ns: sys::own_cpu(), counters: cgroup.counters() });
        report::say_end(&report, &end);
        if !is_new {
            sys::exit(0)
        }
        let Ok(stdio) = sys::receive_fds(&line, true) else { sys::exit(0) };
        let Some(next) = hear_order(&line) else { sys::exit(0) };
        run = next.run;
        let forked = fork_of_template(&run, nursery, &stdio);
        main = match forked.map(|child| let_go(child, &run, &report)) {
            None => start_next(&run, stdio, &report, stack.get_or_insert_with(Stack::new)),
            Some(Ok(main)) => main,
            Some(Err(failed)) => fail(&report, &failed),
        };
    }
}

/// Whether another run of the same submission may be let into the same cell: one is to follow, no file goes or comes in between,
/// and nothing is allowed that would outlive the program unseen.
#[must_use]
pub fn is_followed(run: &Run) -> bool {
    run.more && run.keep.is_empty() && run.remove_after.is_empty() && run.relax == Relax::NONE
}

/// A step failed: the end.
fn fail(report: &OwnedFd, failed: &Failed) -> ! {
    report::say_failed(report, failed);
    sys::exit(127)
}

/// Waits for the main process, then ends and counts what is left.
fn wait_for(main: &Main) -> End {
    let ended = Ended::Signaled(libc::SIGKILL as u8);
    let before_ns = main.before_ns;
    let mut end = End { ended, survivors: 0, at: 0, user_ns: 0, system_ns: 0, max_rss: 0, before_ns, as_new: None };
    let mut over = false;
    while let Ok(one) = sys::wait_one() {
        let one = if one.pid == main.pid { one.without(before_ns) } else { one };
        let Waited { pid, exited, signal, user_ns, system_ns, max_rss } = one;
        end.user_ns += user_ns;
        end.system_ns += system_ns;
        end.max_rss = end.max_rss.max(max_rss);
        if pid == main.pid {
            end.at = sys::now();
            end.ended = match exited {
                Some(status) => Ended::Exited(status),
                None => Ended::Signaled(signal.unwrap_or(libc::SIGKILL as u8)),
            };
            over = true;
        } else if over && signal == Some(libc::SIGKILL as u8) {
            end.survivors = end.survivors.saturating_add(1);
        }
        if over {
            sys::kill_everyone();
        }
    }
    end
}

fn step<T>(name: &'static str, result: Result<T, i32>) -> Result<T, Failed> {
    result.map_err(|errno| Failed::new(name, errno))
}

/// Forks a child that has all that a program has but its limits, and becomes one when it is told which.
fn start_blank(relax: Relax, stdio: &[OwnedFd; 3], report: &OwnedFd) -> Result<Child, Failed> {
    let (order_in, order) = step("pipe", sys::pipe())?;
    match step("fork", sys::fork())? {
        Some(pid) => Ok(Child { pid, order, kind: Kind::Blank(relax) }),
        None => {
            // without the init's order there is none to read
            drop(order);
            match be_blank(relax, stdio, report, &order_in) {
                Some(failed) => fail(report, &failed),
                None => sys::exit(0),
            }
        }
    }
}

/// The life of a blank child until it is the program: comes back with what failed, or without an order.
fn be_blank(relax: Relax, stdio: &[OwnedFd; 3], report: &OwnedFd, order: &OwnedFd) -> Option<Failed> {
    if let Err((step, errno)) = confine(relax).and_then(|()| setup::first_steps(stdio)) {
        return Some(Failed::new(step, errno));
    }
    let ready_at = sys::now();
    let Order { run, .. } = hear_order(order)?;
    let before_ns = sys::own_cpu();
    Some(match program_of(&run) {
        Ok(program) => {
            let steps = |program: &Program| setup::last_steps(program, Limits::OfTheRun);
            setup::become_program(&program, Some((report, ready_at, before_ns)), steps)
        }
        Err(failed) => failed,
    })
}

fn program_of(run: &Run) -> Result<Program, Failed> {
    Program::new(&run.argv, &run.env, &run.limits, run.relax, 1)
}

/// Starts the next program in a cell that is as new: the filter and the lack of rights are inherited.
fn start_next(run: &Run, stdio: [OwnedFd; 3], report: &OwnedFd, stack: &mut Stack) -> Main {
    let program = program_of(run);
    let mut child = || {
        let failed = match &program {
            Ok(program) => {
                let steps = |program: &Program| {
                    setup::next_steps(&stdio)?;
                    setup::last_steps(program, Limits::OfTheRun)
                };
                setup::become_program(program, Some((report, sys::now(), 0)), steps)
            }
            Err(failed) => failed.clone(),
        };
        fail(report, &failed)
    };
    let begun = sys::fork_to_exec(stack, &mut child);
    // the memory is the child's too until then, and this belongs to the memory
    let _ = sys::not_dumpable();
    match begun {
        Ok(pid) => Main { pid, before_ns: 0 },
        Err(errno) => fail(report, &Failed::new("fork", errno)),
    }
}

/// Starts a runtime as if it were the program, but with two more descriptors.
fn start_runtime(prepare: &Prepare, stdio: &[OwnedFd; 3], ready: OwnedFd) -> Result<Child, Failed> {
    let Prepare { argv, stands_for, env, load, limits, relax, .. } = prepare;
    let program = Program::new(argv, env, limits, *relax, 1)?;
    let (order_in, order) = step("pipe", sys::pipe())?;
    let (becomes, begun) = step("pipe", sys::pipe())?;
    let steps = |program: &Program| -> Step<()> {
        let at = |result: Result<(), i32>| result.map_err(|errno| ("order", errno));
        at(sys::dup_onto(&order_in, ORDER_FD))?;
        at(sys::dup_onto(&ready, READY_FD))?;
        confine(*relax)?;
        setup::first_steps(stdio)?;
        setup::last_steps(program, Limits::Ahead)?;
        at(sys::keep_open(ORDER_FD))?;
        at(sys::keep_open(READY_FD))
    };
    let pid = match step("fork", sys::fork())? {
        Some(pid) => pid,
        None => {
            // what is not "ready" is taken for what failed
            let failed = setup::become_program(&program, None, steps);
            let _ = sys::write_all(READY_FD, format!("{} (errno {})", failed.step, failed.errno).as_bytes());
            sys::exit(127)
        }
    };
    let words = load.join("\0") + "\n";
    step("order", sys::write_all(order.as_raw_fd(), words.as_bytes()))?;
    drop(begun);
    Ok(Child { pid, order, kind: Kind::Runtime(stands_for.len(), becomes) })
}

/// A program-to-be of the template's, before there is an order.
fn fork_ahead(nursery: &Nursery, stdio: &[OwnedFd; 3], ready: &OwnedFd) -> Result<Child, Failed> {
    let forked = nursery.ask(stdio);
    let words = forked.as_ref().map_or_else(|failed| failed.step.as_str(), |_| "ready");
    let _ = sys::write_all(ready.as_raw_fd(), words.as_bytes());
    forked.map(Child::from)
}

/// The same for an order, where it may and can be had: who gets none starts cold.
fn fork_of_template(run: &Run, nursery: Option<&Nursery>, stdio: &[OwnedFd; 3]) -> Option<Child> {
    let nursery = nursery.filter(|nursery| run.hot && nursery.serves(run.relax))?;
    nursery.ask(stdio).ok().map(Child::from)
}

impl From<Forked> for Child {
    fn from(forked: Forked) -> Self {
        let Forked { pid, order, known, before_ns } = forked;
        Self { pid, order, kind: Kind::Forked { known, ready_at: sys::now(), before_ns } }
    }
}

/// No more rights by exec, and the filter.
fn confine(relax: Relax) -> Step<()> {
    sys::no_new_privileges().map_err(|e| ("no_new_privs", e))?;
    sys::install_filter(&filter::build(relax)).map_err(|e| ("filter", e))
}

/// An order, and its bytes, as they came.
struct Order {
    run: Run,
    frame: Vec<u8>,
}

/// Waits for it; none when the init does without the cell. Reads not a byte of the next one, which comes with descriptors.
fn hear_order(from: &OwnedFd) -> Option<Order> {
    let mut frame = vec![0; 4];
    read_whole(from, &mut frame)?;
    let length = u32::from_le_bytes(frame.first_chunk().copied()?) as usize;
    if length > MAX_FRAME_BYTES {
        return None;
    }
    frame.resize(4 + length, 0);
    let body = frame.get_mut(4..)?;
    read_whole(from, body)?;
    match codec::decode_to_init(body) {
        Ok(ToInit::Run(run)) => Some(Order { run, frame }),
        _ => None,
    }
}

/// Fills the buffer; none at the end of what there is.
fn read_whole(from: &OwnedFd, mut buffer: &mut [u8]) -> Option<()> {
    while !buffer.is_empty() {
        let n = sys::read(from.as_raw_fd(), buffer).ok().filter(|n| *n > 0)?;
        buffer = buffer.get_mut(n..)?;
    }
    Some(())
}

/// Lets the program in. Gives how the cell looks before it, where another may follow.
fn let_in(
    order: &Order,
    child: Option<Child>,
    nursery: Option<&Nursery>,
    store: &OwnedFd,
    stdio: &[OwnedFd; 3],
    report: &OwnedFd,
) -> Result<(Main, Option<Look>), Failed> {
    let Order { run, frame } = order;
    let serves = |child: &Child| {
        let may = match &child.kind {
            Kind::Blank(relax) => *relax == run.relax,
            Kind::Runtime(..) | Kind::Forked { .. } => run.hot,
        };
        may && !sys::has_ended(child.pid)
    };
    let child = match child {
        Some(child) if serves(&child) => child,
        other => {
            if other.is_some() {
                sys::kill_everyone();
                while sys::wait_one().is_ok() {}
            }
            match fork_of_template(run, nursery, stdio) {
                Some(child) => child,
                None => start_blank(run.relax, stdio, report)?,
            }
        }
    };
    let folders = cell::mirror(store).map_err(|(name, errno)| Failed::new(name, errno))?;
    let look = if is_followed(run) { Look::new(&folders) } else { None };
    // nothing that follows needs one
    step("capabilities", sys::drop_capabilities())?;
    let main = match &child.kind {
        Kind::Blank(_) => {
            // before it can have begun
            let before_ns = sys::cpu_of(child.pid);
            // a child that has ended says why by its end
            let _ = sys::write_all(child.order.as_raw_fd(), frame);
            Main { pid: child.pid, before_ns }
        }
        Kind::Runtime(..) | Kind::Forked { .. } => let_go(child, run, report)?,
    };
    Ok((main, look))
}

/// A runtime's order, and before it its limits.
fn let_go(child: Child, run: &Run, report: &OwnedFd) -> Result<Main, Failed> {
    let Child { pid, order, kind } = child;
    let own_ns = sys::cpu_of(pid);
    // RLIMIT_CPU counts the seconds of a whole life: what it used before is not the program's
    let is_forked = matches!(kind, Kind::Forked { .. });
    let (known, ready_at, before_ns, seconds) = match kind {
        Kind::Forked { known, ready_at, before_ns } => (known, ready_at, before_ns, 0),
        Kind::Runtime(known, becomes) => {
            // its own limits first, ours after them
            let _ = sys::read(becomes.as_raw_fd(), &mut [0]);
            (known, 0, own_ns, own_ns.div_ceil(1_000_000_000))
        }
        Kind::Blank(_) => (0, 0, own_ns, 0),
    };
    let limits = limits::resources(&run.limits, run.relax, 1);
    let mut words = Vec::new();
    if is_forked {
        // it sets them itself: the filter that is on this process too lets nobody set another's
        let numbers = limits.iter().map(|(_, resource, soft, hard)| format!("{resource} {soft} {hard}"));
        words.extend_from_slice(numbers.collect::<Vec<_>>().join(" ").as_bytes());
        words.push(0);
    } else {
        for (name, resource, soft, hard) in limits {
            let more = if resource == libc::RLIMIT_CPU { seconds } else { 0 };
            step(name, sys::limit_of(pid, resource, soft.saturating_add(more), hard.saturating_add(more)))?;
        }
    }
    words.extend_from_slice(b"go\0");
    for argument in run.argv.iter().skip(known) {
        words.extend_from_slice(argument.as_bytes());
        words.push(0);
    }
    report::say_start(report, Start { at: sys::now(), ready_at, before_ns, setup_ns: 0, hot: true });
    // one that has ended says why by its end
    let _ = sys::write_all(order.as_raw_fd(), &words);
    Ok(Main { pid, before_ns: own_ns })
}
