//! The program's own system call filter, stricter than any engine's and the same on every one (ENGINE.md 5.2).
//!
//! Pure: a table becomes a classic BPF program for seccomp(2). It is installed by the child as the last step before exec, in
//! addition to the engine's own; of several filters the strictest word counts.
//!
//! ```text
//!  another ABI (32 bit, x32) --> the process is killed: its numbers mean other calls
//!  a number that this table was not written for --> ENOSYS, as on an older kernel
//!  checked by arguments: clone, socket, socketpair, ioctl, prlimit64, personality
//!  denied --> EPERM (ENOSYS where programs know how to do without)
//!  everything else --> allowed
//! ```
//!
//! Allowed calls are decided by number and architecture alone, so that the kernel (5.11 and later) remembers them in a
//! bitmap and never runs the program for them.

use nix::libc;
use wire::frame::Relax;

/// One instruction: code, jump if true, jump if false, constant.
pub type Instruction = libc::sock_filter;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const MASK: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in seccomp_data: the number, the architecture, the low half of an argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(n: u32) -> u32 {
    16 + 8 * n + if cfg!(target_endian = "big") { 4 } else { 0 }
}

#[cfg(target_arch = "x86_64")]
const OURS: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OURS: u32 = 0xc000_00b7;

/// The last call that this table knows (futex_requeue, Linux 6.7). What came later is not there.
const LAST: u32 = 456;

/// x32 calls have this bit in their number.
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

/// Denied whatever the profile says.
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
    // keys, programs in the kernel, counters, page faults for others
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

/// The same, where only this architecture has them.
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

/// Not there, as on an older kernel: programs know how to do without. clone3's flags are in memory, where no filter sees.
const ABSENT: &[i64] = &[libc::SYS_clone3];

/// What an operator may allow a profile again.
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

fn step(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// The next `skip` instructions are passed over unless the accumulator is so.
fn unless(code: u16, k: u32, skip: u8) -> Instruction {
    Instruction { code, jt: 0, jf: skip, k }
}

/// The next `skip` instructions are passed over if the accumulator is so.
fn when(code: u16, k: u32, skip: u8) -> Instruction {
    Instruction { code, jt: skip, jf: 0, k }
}

/// A program under construction.
struct Program(Vec<Instruction>);

impl Program {
    /// What is done for one call; every way through it must return.
    fn case(&mut self, call: i64, body: &[Instruction]) {
        // bodies are a few instructions: far below the 255 that a jump can pass over
        self.0.push(unless(IF_EQUAL, call as u32, body.len() as u8));
        self.0.extend_from_slice(body);
    }

    fn deny(&mut self, calls: &[i64], errno: i32) {
        for call in calls {
            self.case(*call, &[step(RETURN, deny(errno))]);
        }
    }
}

/// The filter.
#[must_use]
pub fn build(relax: Relax) -> Vec<Instruction> {
    let mut program =
        Program(vec![step(LOAD, ARCHITECTURE), when(IF_EQUAL, OURS, 1), step(RETURN, KILL), step(LOAD, NUMBER)]);
    #[cfg(target_arch = "x86_64")]
    program.0.extend([unless(IF_AT_LEAST, X32, 1), step(RETURN, KILL)]);
    program.0.extend([unless(IF_AT_LEAST, LAST + 1, 1), step(RETURN, deny(libc::ENOSYS))]);

    program.case(
        libc::SYS_clone,
        &[
            step(LOAD, argument(0)),
            unless(IF_ANY_BIT, NEW_NAMESPACES, 1),
            step(RETURN, deny(libc::EPERM)),
            step(RETURN, ALLOW),
        ],
    );
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        program.case(call, &sockets());
    }
    program.case(
        libc::SYS_ioctl,
        &[
            step(LOAD, argument(1)),
            // bytes pushed into a terminal's input
            when(IF_EQUAL, libc::TIOCSTI as u32, 1),
            unless(IF_EQUAL, libc::TIOCLINUX as u32, 1),
            step(RETURN, deny(libc::EPERM)),
            step(RETURN, ALLOW),
        ],
    );
    // of itself only
    program.case(
        libc::SYS_prlimit64,
        &[step(LOAD, argument(0)), when(IF_EQUAL, 0, 1), step(RETURN, deny(libc::EPERM)), step(RETURN, ALLOW)],
    );
    if !relax.has(Relax::PTRACE) {
        // the usual one, and the question which one it is
        program.case(
            libc::SYS_personality,
            &[
                step(LOAD, argument(0)),
                when(IF_EQUAL, 0, 2),
                when(IF_EQUAL, u32::MAX, 1),
                step(RETURN, deny(libc::EPERM)),
                step(RETURN, ALLOW),
            ],
        );
    }
    program.deny(DENIED, libc::EPERM);
    program.deny(DENIED_HERE, libc::EPERM);
    program.deny(ABSENT, libc::ENOSYS);
    for (what, errno, calls) in RELAXABLE {
        if !relax.has(*what) {
            program.deny(calls, *errno);
        }
    }
    program.0.push(step(RETURN, ALLOW));
    program.0
}

/// The same as the kernel takes it: an array of `struct sock_filter`.
#[must_use]
pub fn bytes(relax: Relax) -> Vec<u8> {
    let one = |i: &Instruction| [&i.code.to_ne_bytes()[..], &[i.jt, i.jf], &i.k.to_ne_bytes()].concat();
    build(relax).iter().flat_map(one).collect()
}

/// Unix sockets; TCP and UDP, which have only the loopback to go to. No other family, no raw sockets, no other protocol
/// (SCTP, MPTCP, DCCP) of those families.
fn sockets() -> Vec<Instruction> {
    vec![
        step(LOAD, argument(0)),
        when(IF_EQUAL, libc::AF_UNIX as u32, 11),
        when(IF_EQUAL, libc::AF_INET as u32, 1),
        unless(IF_EQUAL, libc::AF_INET6 as u32, 8),
        step(LOAD, argument(1)),
        step(MASK, 0xf),
        when(IF_EQUAL, libc::SOCK_STREAM as u32, 1),
        unless(IF_EQUAL, libc::SOCK_DGRAM as u32, 4),
        step(LOAD, argument(2)),
        when(IF_EQUAL, 0, 3),
        when(IF_EQUAL, libc::IPPROTO_TCP as u32, 2),
        when(IF_EQUAL, libc::IPPROTO_UDP as u32, 1),
        step(RETURN, deny(libc::EAFNOSUPPORT)),
        step(RETURN, ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do: the program's word on one call.
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

    fn word(number: i64, args: &[u64]) -> u32 {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        run(&build(Relax::NONE), OURS, number, all)
    }

    #[test]
    fn what_programs_live_on_is_allowed_and_what_opens_other_worlds_is_not() {
        for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_mmap, libc::SYS_futex, libc::SYS_openat, 0, 435 - 1] {
            assert_eq!(word(call, &[]), ALLOW, "{call}");
        }
        for call in DENIED.iter().chain(DENIED_HERE) {
            assert_eq!(word(*call, &[]), deny(libc::EPERM), "{call}");
        }
        assert_eq!(word(libc::SYS_clone3, &[]), deny(libc::ENOSYS));
        assert_eq!(word(i64::from(LAST) + 1, &[]), deny(libc::ENOSYS));
    }

    #[test]
    fn another_abi_is_death() {
        let program = build(Relax::NONE);
        assert_eq!(run(&program, 0x4000_0003, libc::SYS_read, [0; 6]), KILL);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(word(i64::from(X32), &[]), KILL);
    }

    #[test]
    fn threads_and_forks_are_allowed_and_namespaces_are_not() {
        assert_eq!(word(libc::SYS_clone, &[libc::SIGCHLD as u64]), ALLOW);
        assert_eq!(word(libc::SYS_clone, &[(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_FILES) as u64]), ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_NEWNS, libc::CLONE_NEWPID] {
            assert_eq!(word(libc::SYS_clone, &[flag as u64 | libc::SIGCHLD as u64]), deny(libc::EPERM));
        }
    }

    #[test]
    fn sockets_are_unix_tcp_and_udp() {
        let socket = |family: i32, kind: i32, protocol: i32| {
            word(libc::SYS_socket, &[family as u64, kind as u64, protocol as u64]) == ALLOW
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
    fn limits_are_set_for_oneself_only_and_the_personality_stays() {
        assert_eq!(word(libc::SYS_prlimit64, &[0]), ALLOW);
        assert_eq!(word(libc::SYS_prlimit64, &[1]), deny(libc::EPERM));
        assert_eq!((word(libc::SYS_personality, &[0]), word(libc::SYS_personality, &[0xffff_ffff])), (ALLOW, ALLOW));
        assert_eq!(word(libc::SYS_personality, &[0x0040_0000]), deny(libc::EPERM));
        assert_eq!(word(libc::SYS_ioctl, &[0, libc::TIOCSTI]), deny(libc::EPERM));
        assert_eq!(word(libc::SYS_ioctl, &[0, libc::TIOCGWINSZ]), ALLOW);
    }

    #[test]
    fn an_operator_gets_back_what_was_asked_for_and_nothing_else() {
        for (what, _, calls) in RELAXABLE {
            let relaxed = build(*what);
            for (other, _, others) in RELAXABLE {
                for call in *others {
                    assert_eq!(run(&relaxed, OURS, *call, [0; 6]) == ALLOW, what == other, "{call}");
                }
            }
            assert!(calls.iter().all(|call| word(*call, &[]) != ALLOW));
            assert_eq!(run(&relaxed, OURS, libc::SYS_bpf, [0; 6]), deny(libc::EPERM));
        }
    }

    #[test]
    fn the_program_is_as_long_as_the_kernel_takes() {
        assert!(build(Relax::NONE).len() < 4096);
    }
}
