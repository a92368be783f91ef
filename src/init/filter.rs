//! The program's system call filter: stricter than any engine's, and the same on every engine
//! (docs/ENGINE.md, seccomp).
//!
//! No system calls: a table becomes a classic BPF program for seccomp(2). The child installs it as
//! the last step before exec, in addition to the engine's. Of several filters the strictest result
//! counts.
//!
//! ```text
//!  another ABI (32 bit, x32) --> kill the process: its numbers mean other calls
//!  a number beyond this table --> ENOSYS, as on an older kernel
//!  clone, socket, socketpair, ioctl, prlimit64, personality --> decided by arguments
//!  denied --> EPERM, or ENOSYS where programs have a fallback
//!  everything else --> allowed
//! ```
//!
//! Allowed calls are decided by number and architecture alone, so that the kernel (5.11 and later)
//! caches them in a bitmap and does not run the filter for them.

use nix::libc;
use wire::frame::Relax;

use self::Line::{And, JumpIf, JumpUnless, Label, Load, Return};

/// One instruction: code, jump if true, jump if false, constant.
pub type Instruction = libc::sock_filter;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const MASK: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`: the number, the architecture, the low half of an argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(n: u32) -> u32 {
    16 + 8 * n + if cfg!(target_endian = "big") { 4 } else { 0 }
}

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// The last call that this table covers (futex_requeue, Linux 6.7). Later calls get ENOSYS.
const LAST: u32 = 456;

/// Numbers of x32 calls have this bit.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const fn deny(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Denied in every profile.
const DENIED: &[i64] = &[
    // other namespaces, mounts, roots
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // files by handle, watches of whole file systems, quotas
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_quotactl,
    443, // quotactl_fd
    // keys, BPF, performance counters, page faults, other processes' memory
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_memfd_secret,
    libc::SYS_vmsplice,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    440, // process_madvise
    // the machine
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
];

/// Denied in every profile; calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

/// Reported as missing, because programs have a fallback. The flags of clone3 are in memory, where
/// a filter cannot read them.
const ABSENT: &[i64] = &[libc::SYS_clone3];

/// What an operator may allow in a profile, and the errno otherwise.
const RELAXABLE: &[(Relax, i32, &[i64])] = &[
    (
        Relax::PTRACE,
        libc::EPERM,
        &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_kcmp,
            438, // pidfd_getfd
        ],
    ),
    (
        Relax::SYSV_IPC,
        libc::EPERM,
        &[
            libc::SYS_shmget,
            libc::SYS_shmat,
            libc::SYS_shmctl,
            libc::SYS_shmdt,
            libc::SYS_semget,
            libc::SYS_semop,
            libc::SYS_semctl,
            libc::SYS_semtimedop,
            libc::SYS_msgget,
            libc::SYS_msgsnd,
            libc::SYS_msgrcv,
            libc::SYS_msgctl,
        ],
    ),
    (
        Relax::POSIX_MQ,
        libc::EPERM,
        &[
            libc::SYS_mq_open,
            libc::SYS_mq_unlink,
            libc::SYS_mq_timedsend,
            libc::SYS_mq_timedreceive,
            libc::SYS_mq_notify,
            libc::SYS_mq_getsetattr,
        ],
    ),
    (Relax::IO_URING, libc::ENOSYS, &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register]),
];

/// A line of the filter's source.
enum Line {
    Load(u32),
    And(u32),
    Return(u32),
    /// Jumps to the next [`Line::Label`] of that name if the test holds.
    JumpIf(u16, u32, &'static str),
    /// Jumps to the next [`Line::Label`] of that name unless the test holds.
    JumpUnless(u16, u32, &'static str),
    /// A jump target. Produces no instruction.
    Label(&'static str),
}

/// Resolves the labels. A name may occur several times, because BPF only jumps forward and a jump
/// goes to the next occurrence.
fn assemble(lines: &[Line]) -> Vec<Instruction> {
    let instruction = |code, k, jt, jf| Some(Instruction { code, jt, jf, k });
    let resolve = |(at, line): (usize, &Line)| match *line {
        Load(offset) => instruction(LOAD, offset, 0, 0),
        And(mask) => instruction(MASK, mask, 0, 0),
        Return(action) => instruction(RETURN, action, 0, 0),
        JumpIf(test, k, label) => instruction(test, k, distance(lines, at, label), 0),
        JumpUnless(test, k, label) => instruction(test, k, 0, distance(lines, at, label)),
        Label(_) => None,
    };
    lines.iter().enumerate().filter_map(resolve).collect()
}

/// How many instructions a jump at `at` skips. Cases are short, far below the maximum of 255.
fn distance(lines: &[Line], at: usize, label: &str) -> u8 {
    let rest = lines.get(at + 1..).unwrap_or_default().iter();
    let skipped = rest.take_while(|line| !matches!(line, Label(name) if *name == label));
    u8::try_from(skipped.filter(|line| !matches!(line, Label(_))).count()).unwrap_or(u8::MAX)
}

/// Lines for one call; every path through `body` must return.
fn case(call: i64, body: impl IntoIterator<Item = Line>) -> impl Iterator<Item = Line> {
    let head = JumpUnless(IF_EQUAL, call as u32, "next case");
    std::iter::once(head).chain(body).chain([Label("next case")])
}

fn deny_all(calls: &[i64], errno: i32) -> impl Iterator<Item = Line> {
    calls.iter().flat_map(move |call| case(*call, [Return(deny(errno))]))
}

/// The filter as instructions.
#[must_use]
pub fn build(relax: Relax) -> Vec<Instruction> {
    let mut lines =
        vec![Load(ARCHITECTURE), JumpIf(IF_EQUAL, NATIVE, "native"), Return(KILL), Label("native"), Load(NUMBER)];
    #[cfg(target_arch = "x86_64")]
    lines.extend([JumpUnless(IF_AT_LEAST, X32, "64 bit"), Return(KILL), Label("64 bit")]);
    lines.extend([JumpUnless(IF_AT_LEAST, LAST + 1, "known"), Return(deny(libc::ENOSYS)), Label("known")]);

    lines.extend(case(libc::SYS_clone, clone_flags()));
    lines.extend(case(libc::SYS_socket, sockets()));
    lines.extend(case(libc::SYS_socketpair, sockets()));
    lines.extend(case(libc::SYS_ioctl, ioctls()));
    lines.extend(case(libc::SYS_prlimit64, own_limits()));
    if !relax.has(Relax::PTRACE) {
        lines.extend(case(libc::SYS_personality, personalities()));
    }
    lines.extend(deny_all(DENIED, libc::EPERM));
    lines.extend(deny_all(DENIED_HERE, libc::EPERM));
    lines.extend(deny_all(ABSENT, libc::ENOSYS));
    for (what, errno, calls) in RELAXABLE {
        if !relax.has(*what) {
            lines.extend(deny_all(calls, *errno));
        }
    }
    lines.push(Return(ALLOW));
    assemble(&lines)
}

/// The filter as the kernel takes it: an array of `struct sock_filter`.
#[must_use]
pub fn bytes(relax: Relax) -> Vec<u8> {
    let one = |i: &Instruction| [&i.code.to_ne_bytes()[..], &[i.jt, i.jf], &i.k.to_ne_bytes()].concat();
    build(relax).iter().flat_map(one).collect()
}

/// clone without new namespaces.
fn clone_flags() -> [Line; 5] {
    [
        Load(argument(0)),
        JumpUnless(IF_ANY_BIT, NEW_NAMESPACES, "allow"),
        Return(deny(libc::EPERM)),
        Label("allow"),
        Return(ALLOW),
    ]
}

/// Unix sockets, TCP and UDP, which can reach only the loopback. No other family, no raw sockets,
/// no other protocol (SCTP, MPTCP, DCCP) of these families.
fn sockets() -> [Line; 18] {
    [
        Load(argument(0)),
        JumpIf(IF_EQUAL, libc::AF_UNIX as u32, "allow"),
        JumpIf(IF_EQUAL, libc::AF_INET as u32, "internet"),
        JumpUnless(IF_EQUAL, libc::AF_INET6 as u32, "deny"),
        Label("internet"),
        Load(argument(1)),
        // without SOCK_CLOEXEC and SOCK_NONBLOCK
        And(0xf),
        JumpIf(IF_EQUAL, libc::SOCK_STREAM as u32, "protocol"),
        JumpUnless(IF_EQUAL, libc::SOCK_DGRAM as u32, "deny"),
        Label("protocol"),
        Load(argument(2)),
        JumpIf(IF_EQUAL, 0, "allow"),
        JumpIf(IF_EQUAL, libc::IPPROTO_TCP as u32, "allow"),
        JumpIf(IF_EQUAL, libc::IPPROTO_UDP as u32, "allow"),
        Label("deny"),
        Return(deny(libc::EAFNOSUPPORT)),
        Label("allow"),
        Return(ALLOW),
    ]
}

/// Every ioctl except those that push bytes into a terminal's input.
fn ioctls() -> [Line; 7] {
    [
        Load(argument(1)),
        JumpIf(IF_EQUAL, libc::TIOCSTI as u32, "deny"),
        JumpUnless(IF_EQUAL, libc::TIOCLINUX as u32, "allow"),
        Label("deny"),
        Return(deny(libc::EPERM)),
        Label("allow"),
        Return(ALLOW),
    ]
}

/// prlimit64 of the calling process only.
fn own_limits() -> [Line; 5] {
    [Load(argument(0)), JumpIf(IF_EQUAL, 0, "allow"), Return(deny(libc::EPERM)), Label("allow"), Return(ALLOW)]
}

/// The default personality, and the query for the current one (0xffffffff).
fn personalities() -> [Line; 6] {
    [
        Load(argument(0)),
        JumpIf(IF_EQUAL, 0, "allow"),
        JumpIf(IF_EQUAL, u32::MAX, "allow"),
        Return(deny(libc::EPERM)),
        Label("allow"),
        Return(ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interprets the filter as the kernel does and returns its action for one call.
    fn run(program: &[Instruction], arch: u32, number: i64, args: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&(number as u32).to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        for (n, arg) in args.iter().enumerate() {
            data[16 + 8 * n..24 + 8 * n].copy_from_slice(&arg.to_ne_bytes());
        }
        let (mut at, mut acc) = (0usize, 0u32);
        loop {
            let i = program[at];
            at += 1;
            let jump = |is: bool| usize::from(if is { i.jt } else { i.jf });
            match i.code {
                LOAD => {
                    let from = i.k as usize;
                    acc = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                }
                IF_EQUAL => at += jump(acc == i.k),
                IF_AT_LEAST => at += jump(acc >= i.k),
                IF_ANY_BIT => at += jump(acc & i.k != 0),
                MASK => acc &= i.k,
                RETURN => return i.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn action(number: i64, args: &[u64]) -> u32 {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        run(&build(Relax::NONE), NATIVE, number, all)
    }

    #[test]
    fn common_calls_are_allowed_and_listed_ones_are_denied() {
        for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_mmap, libc::SYS_futex, libc::SYS_openat, 0, 435 - 1] {
            assert_eq!(action(call, &[]), ALLOW, "{call}");
        }
        for call in DENIED.iter().chain(DENIED_HERE) {
            assert_eq!(action(*call, &[]), deny(libc::EPERM), "{call}");
        }
        assert_eq!(action(libc::SYS_clone3, &[]), deny(libc::ENOSYS));
        assert_eq!(action(i64::from(LAST) + 1, &[]), deny(libc::ENOSYS));
    }

    #[test]
    fn another_abi_kills_the_process() {
        let program = build(Relax::NONE);
        assert_eq!(run(&program, 0x4000_0003, libc::SYS_read, [0; 6]), KILL);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(action(i64::from(X32), &[]), KILL);
    }

    #[test]
    fn threads_and_forks_are_allowed_and_new_namespaces_are_not() {
        assert_eq!(action(libc::SYS_clone, &[libc::SIGCHLD as u64]), ALLOW);
        assert_eq!(action(libc::SYS_clone, &[(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_FILES) as u64]), ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_NEWNS, libc::CLONE_NEWPID] {
            assert_eq!(action(libc::SYS_clone, &[flag as u64 | libc::SIGCHLD as u64]), deny(libc::EPERM));
        }
    }

    #[test]
    fn only_unix_tcp_and_udp_sockets_are_allowed() {
        let socket = |family: i32, kind: i32, protocol: i32| {
            action(libc::SYS_socket, &[family as u64, kind as u64, protocol as u64]) == ALLOW
        };
        let cloexec = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        assert!(socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) && socket(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0));
        assert!(socket(libc::AF_INET, libc::SOCK_STREAM | cloexec, 0) && socket(libc::AF_INET6, libc::SOCK_STREAM, 6));
        assert!(socket(libc::AF_INET, libc::SOCK_DGRAM, 17));
        for family in [libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK, libc::AF_ALG, libc::AF_BLUETOOTH, 0] {
            assert!(!socket(family, libc::SOCK_STREAM, 0) && !socket(family, libc::SOCK_RAW, 0), "{family}");
        }
        assert!(!socket(libc::AF_INET, libc::SOCK_RAW, 1) && !socket(libc::AF_INET, libc::SOCK_STREAM, 262));
        assert!(!socket(libc::AF_INET, libc::SOCK_DCCP, 33) && !socket(libc::AF_INET6, libc::SOCK_STREAM, 132));
    }

    #[test]
    fn a_process_sets_only_its_own_limits_and_keeps_its_personality() {
        assert_eq!(action(libc::SYS_prlimit64, &[0]), ALLOW);
        assert_eq!(action(libc::SYS_prlimit64, &[1]), deny(libc::EPERM));
        assert_eq!(
            (action(libc::SYS_personality, &[0]), action(libc::SYS_personality, &[0xffff_ffff])),
            (ALLOW, ALLOW)
        );
        assert_eq!(action(libc::SYS_personality, &[0x0040_0000]), deny(libc::EPERM));
        assert_eq!(action(libc::SYS_ioctl, &[0, libc::TIOCSTI]), deny(libc::EPERM));
        assert_eq!(action(libc::SYS_ioctl, &[0, libc::TIOCGWINSZ]), ALLOW);
    }

    #[test]
    fn relaxing_allows_exactly_the_listed_calls() {
        for (what, _, calls) in RELAXABLE {
            let relaxed = build(*what);
            for (other, _, others) in RELAXABLE {
                for call in *others {
                    assert_eq!(run(&relaxed, NATIVE, *call, [0; 6]) == ALLOW, what == other, "{call}");
                }
            }
            assert!(calls.iter().all(|call| action(*call, &[]) != ALLOW));
            assert_eq!(run(&relaxed, NATIVE, libc::SYS_bpf, [0; 6]), deny(libc::EPERM));
        }
    }

    #[test]
    fn the_filter_is_within_the_kernels_maximum_length() {
        assert!(build(Relax::NONE).len() < 4096);
    }

    #[test]
    fn a_jump_goes_to_the_next_label_of_its_name() {
        let lines = [
            JumpIf(IF_EQUAL, 1, "a"),
            Return(10),
            Label("b"),
            Label("a"),
            JumpUnless(IF_EQUAL, 2, "a"),
            Return(20),
            Return(21),
            Label("a"),
            Return(30),
        ];
        let jumps: Vec<_> = assemble(&lines).iter().map(|i| (i.jt, i.jf)).collect();
        assert_eq!(jumps, [(1, 0), (0, 0), (0, 2), (0, 0), (0, 0), (0, 0)]);
    }

    #[test]
    fn every_jump_stays_inside_the_filter() {
        for relax in 0..=Relax::ALL.0 {
            let filter = build(Relax(relax));
            for (at, i) in filter.iter().enumerate() {
                assert!(at + 1 + usize::from(i.jt.max(i.jf)) < filter.len() || i.code == RETURN, "{at}");
            }
        }
    }
}
