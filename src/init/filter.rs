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
//!  mmap, madvise, clone, socket, setsockopt, ioctl, prctl and others --> decided by arguments
//!  sync, fsync and the like --> 0 without effect
//!  denied --> EPERM, or ENOSYS where programs have a fallback
//!  everything else --> allowed
//! ```
//!
//! Allowed calls are decided by number and architecture alone, so that the kernel (5.11 and later)
//! caches them in a bitmap and does not run the filter for them. It finds out by running the filter
//! once for every call when it is installed, so the calls are a tree of comparisons, not a list.

mod tables;

use std::collections::BTreeMap;

use nix::libc;
use wire::frame::Relax;

use self::tables::*;
use super::bpf::Line::{And, JumpIf, JumpUnless, Label, Load, Return};
use super::bpf::{self, IF_ANY_BIT, IF_AT_LEAST, IF_EQUAL, Instruction, Line};

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
/// The program reads 0, and the kernel does nothing.
const NO_EFFECT: u32 = libc::SECCOMP_RET_ERRNO;
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

/// The filter as instructions.
#[must_use]
pub fn build(relax: Relax) -> Vec<Instruction> {
    let mut head =
        vec![Load(ARCHITECTURE), JumpIf(IF_EQUAL, NATIVE, "native"), Return(KILL), Label("native"), Load(NUMBER)];
    #[cfg(target_arch = "x86_64")]
    head.extend([JumpUnless(IF_AT_LEAST, X32, "64 bit"), Return(KILL), Label("64 bit")]);
    head.extend([JumpUnless(IF_AT_LEAST, LAST + 1, "known"), Return(deny(libc::ENOSYS)), Label("known")]);

    let mut cases = BTreeMap::new();
    let mut add = |call: i64, lines: Vec<Line>| drop(cases.insert(call as u32, lines));
    add(libc::SYS_mmap, unless_any_bit(3, libc::MAP_HUGETLB, deny(libc::ENOMEM)));
    add(libc::SYS_ioctl, ioctls());
    add(libc::SYS_madvise, advice());
    add(libc::SYS_clone, unless_any_bit(0, NEW_NAMESPACES as i32, deny(libc::EPERM)));
    add(libc::SYS_prlimit64, own_limits());
    add(libc::SYS_prctl, process_operations());
    add(libc::SYS_socket, sockets());
    add(libc::SYS_socketpair, sockets());
    add(libc::SYS_setsockopt, socket_options());
    add(libc::SYS_getsockopt, read_socket_options());
    add(libc::SYS_msync, unless_any_bit(2, libc::MS_SYNC, NO_EFFECT));
    add(libc::SYS_fadvise64, unless_equal(3, libc::POSIX_FADV_DONTNEED, NO_EFFECT));
    add(libc::SYS_memfd_create, unless_any_bit(1, libc::MFD_HUGETLB as i32, deny(libc::ENOSYS)));
    if !relax.has(Relax::PTRACE) {
        add(libc::SYS_personality, personalities());
    }
    let mut return_for_all =
        |calls: &[i64], action: u32| calls.iter().for_each(|call| add(*call, vec![Return(action)]));
    return_for_all(WITHOUT_EFFECT, NO_EFFECT);
    return_for_all(DENIED, deny(libc::EPERM));
    return_for_all(DENIED_HERE, deny(libc::EPERM));
    return_for_all(ABSENT, deny(libc::ENOSYS));
    return_for_all(UNSUPPORTED, deny(libc::EOPNOTSUPP));
    for (what, errno, calls) in RELAXABLE {
        if !relax.has(*what) {
            return_for_all(calls, deny(*errno));
        }
    }
    let mut filter = bpf::assemble(&head);
    filter.extend(bpf::by_number(&cases, ALLOW));
    filter
}

/// The filter of one [`Relax`], built once: a child that built it would first copy the memory that
/// this takes.
pub struct Filter {
    pub relax: Relax,
    pub instructions: Vec<Instruction>,
}

impl Filter {
    #[must_use]
    pub fn new(relax: Relax) -> Self {
        Self { relax, instructions: build(relax) }
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::new(Relax::NONE)
    }
}

/// The filter as the kernel takes it: an array of `struct sock_filter`.
#[must_use]
pub fn bytes(relax: Relax) -> Vec<u8> {
    let one = |i: &Instruction| [&i.code.to_ne_bytes()[..], &[i.jt, i.jf], &i.k.to_ne_bytes()].concat();
    build(relax).iter().flat_map(one).collect()
}

/// `action` if an argument has any of these bits.
fn unless_any_bit(n: u32, bits: i32, action: u32) -> Vec<Line> {
    unless(n, IF_ANY_BIT, bits, action)
}

/// `action` if an argument has this value.
fn unless_equal(n: u32, value: i32, action: u32) -> Vec<Line> {
    unless(n, IF_EQUAL, value, action)
}

fn unless(n: u32, test: u16, k: i32, action: u32) -> Vec<Line> {
    vec![Load(argument(n)), JumpUnless(test, k as u32, "allow"), Return(action), Label("allow"), Return(ALLOW)]
}

/// Every advice but to merge equal pages, and to collapse pages to a huge one: that has threads of
/// the kernel on all CPUs empty their lists of pages.
fn advice() -> Vec<Line> {
    const MADV_COLLAPSE: u32 = 25;
    vec![
        Load(argument(2)),
        JumpIf(IF_EQUAL, libc::MADV_MERGEABLE as u32, "deny"),
        JumpIf(IF_EQUAL, MADV_COLLAPSE, "deny"),
        Return(ALLOW),
        Label("deny"),
        Return(deny(libc::EINVAL)),
    ]
}

/// The options that are read under the machine's lock of network devices cannot be read.
fn read_socket_options() -> Vec<Line> {
    let mut lines = vec![Load(argument(1))];
    lines.extend(LOCKED_OPTIONS.iter().map(|(label, level, _)| JumpIf(IF_EQUAL, *level as u32, label)));
    lines.push(Return(ALLOW));
    for (label, _, options) in LOCKED_OPTIONS {
        lines.extend([Label(label), Load(argument(2))]);
        lines.extend(options.iter().map(|option| JumpIf(IF_EQUAL, *option as u32, "deny")));
        lines.extend([Return(ALLOW), Label("deny"), Return(deny(libc::EPERM))]);
    }
    lines
}

/// Every option but the listed ones.
fn socket_options() -> Vec<Line> {
    let mut lines = vec![Load(argument(1))];
    lines.extend(SOCKET_OPTIONS.iter().map(|(label, level, _)| JumpIf(IF_EQUAL, *level as u32, label)));
    lines.push(Return(deny(libc::ENOPROTOOPT)));
    for (label, _, options) in SOCKET_OPTIONS {
        lines.extend([Label(label), Load(argument(2))]);
        lines.extend(options.iter().map(|option| JumpIf(IF_EQUAL, *option as u32, "deny")));
        lines.extend([Return(ALLOW), Label("deny"), Return(deny(libc::EPERM))]);
    }
    lines
}

/// Every operation but the listed ones.
fn process_operations() -> Vec<Line> {
    let mut lines = vec![Load(argument(0))];
    lines.extend(PROCESS_OPERATIONS.iter().map(|operation| JumpIf(IF_EQUAL, *operation, "deny")));
    lines.extend([Return(ALLOW), Label("deny"), Return(deny(libc::EINVAL))]);
    lines
}

/// Unix sockets, TCP and UDP, which can reach only the loopback. No other family, no raw sockets,
/// no other protocol (SCTP, MPTCP, DCCP) of these families.
fn sockets() -> Vec<Line> {
    vec![
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

/// Every ioctl except those that push bytes into a terminal's input, and those of sockets that are
/// not in [`SOCKET_REQUESTS`].
fn ioctls() -> Vec<Line> {
    let mut lines = vec![
        Load(argument(1)),
        JumpIf(IF_EQUAL, libc::TIOCSTI as u32, "deny"),
        JumpIf(IF_EQUAL, libc::TIOCLINUX as u32, "deny"),
        And(0xff00),
        JumpIf(IF_EQUAL, WIRELESS_REQUESTS, "deny"),
        JumpIf(IF_EQUAL, REQUESTS_OF_SOCKETS, "socket"),
        Return(ALLOW),
        Label("socket"),
        Load(argument(1)),
        And(0xffff),
    ];
    lines.extend(SOCKET_REQUESTS.iter().map(|request| JumpIf(IF_EQUAL, *request, "allow")));
    lines.extend([Label("deny"), Return(deny(libc::EPERM)), Label("allow"), Return(ALLOW)]);
    lines
}

/// prlimit64 of the calling process only.
fn own_limits() -> Vec<Line> {
    vec![Load(argument(0)), JumpIf(IF_EQUAL, 0, "allow"), Return(deny(libc::EPERM)), Label("allow"), Return(ALLOW)]
}

/// The default personality, and the query for the current one (0xffffffff).
fn personalities() -> Vec<Line> {
    vec![
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
    use super::super::bpf::{JUMP, LOAD, MASK, RETURN};
    use super::*;

    /// Interprets the filter as the kernel does and returns its action for one call.
    fn run(program: &[Instruction], arch: u32, number: i64, args: [u64; 6]) -> u32 {
        interpret(program, arch, number, args).0
    }

    /// The action, and how many instructions lead to it.
    fn interpret(program: &[Instruction], arch: u32, number: i64, args: [u64; 6]) -> (u32, usize) {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&(number as u32).to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        for (n, arg) in args.iter().enumerate() {
            data[16 + 8 * n..24 + 8 * n].copy_from_slice(&arg.to_ne_bytes());
        }
        let (mut at, mut acc, mut count) = (0usize, 0u32, 0);
        loop {
            let i = program[at];
            count += 1;
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
                JUMP => at += i.k as usize,
                RETURN => return (i.k, count),
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
        for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_mmap, libc::SYS_futex, libc::SYS_openat, 435 - 1] {
            assert_eq!(action(call, &[]), ALLOW, "{call}");
        }
        for call in DENIED.iter().chain(DENIED_HERE) {
            assert_eq!(action(*call, &[]), deny(libc::EPERM), "{call}");
        }
        for call in ABSENT {
            assert_eq!(action(*call, &[]), deny(libc::ENOSYS), "{call}");
        }
        assert_eq!(action(i64::from(LAST) + 1, &[]), deny(libc::ENOSYS));
    }

    /// The calls that have a decision of their own.
    fn decided() -> Vec<i64> {
        let by_arguments = [
            libc::SYS_mmap,
            libc::SYS_ioctl,
            libc::SYS_madvise,
            libc::SYS_clone,
            libc::SYS_prlimit64,
            libc::SYS_prctl,
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_setsockopt,
            libc::SYS_getsockopt,
            libc::SYS_msync,
            libc::SYS_fadvise64,
            libc::SYS_memfd_create,
            libc::SYS_personality,
        ];
        let lists = [DENIED, DENIED_HERE, ABSENT, UNSUPPORTED, WITHOUT_EFFECT, &by_arguments];
        let relaxable = RELAXABLE.iter().flat_map(|(.., calls)| calls.iter());
        lists.into_iter().flatten().chain(relaxable).copied().collect()
    }

    #[test]
    fn every_other_call_is_allowed_after_few_comparisons() {
        let (decided, program) = (decided(), build(Relax::NONE));
        for call in (0..=i64::from(LAST)).filter(|call| !decided.contains(call)) {
            let (action, count) = interpret(&program, NATIVE, call, [0; 6]);
            assert!(action == ALLOW && count <= 20, "{call}: {action:#x} after {count}");
        }
        let mut once = decided.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), decided.len(), "a call is listed twice");
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
        for current in [0, 0xffff_ffff] {
            assert_eq!(action(libc::SYS_personality, &[current]), ALLOW, "{current:#x}");
        }
        assert_eq!(action(libc::SYS_personality, &[0x0040_0000]), deny(libc::EPERM));
        assert_eq!(action(libc::SYS_ioctl, &[0, libc::TIOCSTI]), deny(libc::EPERM));
        for request in [libc::TIOCGWINSZ, libc::FIONREAD, libc::FIONBIO, libc::SIOCGIFINDEX] {
            assert_eq!(action(libc::SYS_ioctl, &[0, request]), ALLOW, "{request:#x}");
        }
    }

    #[test]
    fn no_program_takes_the_machines_lock_of_network_devices() {
        let ioctl = |request: u64| action(libc::SYS_ioctl, &[3, request]);
        let (addresses, ethtool, stamps) = ([0x8915, 0x8917, 0x8919, 0x891b], 0x8946, [0x8906, 0x8907, 0x8010_8906]);
        let devices = [libc::SIOCGIFCONF, ethtool, 0x89b0, 0x89b1, 0x894a, 0x89f0, 0x8994, 0x8b01];
        let modules = [0x8940, 0x8941, 0x8982, 0x8983, 0x89a0, 0x89a1, 0x89a2, 0x89a3];
        for request in addresses.into_iter().chain(stamps).chain(devices).chain(modules) {
            assert_eq!(ioctl(request), deny(libc::EPERM), "{request:#x}");
        }
        assert!(SOCKET_REQUESTS.iter().all(|request| ioctl(u64::from(*request)) == ALLOW));
        // the upper half of the argument has no meaning for the kernel
        assert_eq!((ioctl(1 << 32 | ethtool), ioctl(1 << 32 | 0x8933)), (deny(libc::EPERM), ALLOW));
        let read = |level: i32, name: i32| action(libc::SYS_getsockopt, &[3, level as u64, name as u64]);
        for (level, name) in [(libc::IPPROTO_IP, 41), (libc::IPPROTO_IP, 48), (libc::IPPROTO_IPV6, 48)] {
            assert_eq!(read(level, name), deny(libc::EPERM), "{level} {name}");
        }
        assert!(read(libc::SOL_SOCKET, 41) == ALLOW && read(libc::IPPROTO_IP, libc::IP_TTL) == ALLOW);
    }

    #[test]
    fn what_is_counted_machine_wide_cannot_be_taken_by_socket_options() {
        let option = |level: i32, name: i32| action(libc::SYS_setsockopt, &[3, level as u64, name as u64]);
        for (_, level, options) in SOCKET_OPTIONS {
            assert!(options.iter().all(|name| option(*level, *name) == deny(libc::EPERM)), "{level}");
        }
        for (level, name) in [
            (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            (libc::SOL_SOCKET, libc::SO_RCVBUF),
            (libc::SOL_SOCKET, libc::SO_DETACH_FILTER),
            (libc::IPPROTO_TCP, libc::TCP_NODELAY),
            (libc::IPPROTO_UDP, 103),
            (libc::IPPROTO_IP, libc::IP_TTL),
            (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        ] {
            assert_eq!(option(level, name), ALLOW, "{level} {name}");
        }
        assert_eq!(option(282, 1), deny(libc::ENOPROTOOPT));
        // the upper half of an int argument has no meaning for the kernel
        let upper = |name: i32| action(libc::SYS_setsockopt, &[3, 1 | 1 << 40, name as u64 | 1 << 40]);
        assert_eq!((upper(26), upper(libc::SO_REUSEADDR)), (deny(libc::EPERM), ALLOW));
    }

    #[test]
    fn what_would_reach_a_disk_or_the_page_cache_has_no_effect() {
        for call in WITHOUT_EFFECT {
            assert_eq!(action(*call, &[]), NO_EFFECT, "{call}");
        }
        let advice = |n: i32| action(libc::SYS_fadvise64, &[3, 0, 0, n as u64]);
        assert_eq!((advice(libc::POSIX_FADV_DONTNEED), advice(libc::POSIX_FADV_SEQUENTIAL)), (NO_EFFECT, ALLOW));
        let msync = |flags: i32| action(libc::SYS_msync, &[0, 0, flags as u64]);
        assert_eq!((msync(libc::MS_SYNC), msync(libc::MS_SYNC | libc::MS_INVALIDATE)), (NO_EFFECT, NO_EFFECT));
        assert_eq!(msync(libc::MS_ASYNC), ALLOW);
    }

    #[test]
    fn memory_that_no_cgroup_is_charged_cannot_be_taken() {
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let mmap = |flags: i32| action(libc::SYS_mmap, &[0, 4096, 3, flags as u64]);
        assert_eq!((mmap(private), mmap(private | libc::MAP_HUGETLB)), (ALLOW, deny(libc::ENOMEM)));
        let memfd = |flags: u32| action(libc::SYS_memfd_create, &[0, u64::from(flags)]);
        assert_eq!((memfd(libc::MFD_CLOEXEC), memfd(libc::MFD_HUGETLB)), (ALLOW, deny(libc::ENOSYS)));
        let madvise = |advice: i32| action(libc::SYS_madvise, &[0, 4096, advice as u64]);
        assert_eq!((madvise(libc::MADV_DONTNEED), madvise(libc::MADV_MERGEABLE)), (ALLOW, deny(libc::EINVAL)));
        assert_eq!((madvise(libc::MADV_HUGEPAGE), madvise(25)), (ALLOW, deny(libc::EINVAL)));
        let prctl = |operation: u32| action(libc::SYS_prctl, &[u64::from(operation)]);
        assert!(PROCESS_OPERATIONS.iter().all(|operation| prctl(*operation) == deny(libc::EINVAL)));
        assert_eq!(prctl(libc::PR_SET_NAME as u32), ALLOW);
        for call in UNSUPPORTED {
            assert_eq!(action(*call, &[]), deny(libc::EOPNOTSUPP), "{call}");
        }
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
    fn every_jump_stays_inside_the_filter() {
        for relax in 0..=Relax::ALL.0 {
            let filter = build(Relax(relax));
            for (at, i) in filter.iter().enumerate() {
                assert!(at + 1 + usize::from(i.jt.max(i.jf)) < filter.len() || i.code == RETURN, "{at}");
            }
        }
    }
}
