//! Which system calls, options and requests the filter decides about.
//!
//! Numbers without a name in the libc crate are written out, with the kernel's name beside them.

use nix::libc;
use wire::frame::Relax;

/// Denied in every profile.
pub(super) const DENIED: &[i64] = &[
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
pub(super) const DENIED_HERE: &[i64] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const DENIED_HERE: &[i64] = &[];

/// Reported as missing, because programs have a fallback.
pub(super) const ABSENT: &[i64] = &[
    // its flags are in memory, where a filter cannot read them
    libc::SYS_clone3,
    // fs.aio-max-nr is machine-wide, and one call can take all of it
    libc::SYS_io_setup,
    libc::SYS_io_destroy,
    libc::SYS_io_submit,
    libc::SYS_io_cancel,
    libc::SYS_io_getevents,
    IO_PGETEVENTS,
    // filters use net.core.bpf_jit_limit, which is machine-wide
    libc::SYS_seccomp,
    // the policies of ranges are kernel memory that no cgroup is charged
    libc::SYS_mbind,
    // which files of the image others have read
    451, // cachestat
];

#[cfg(target_arch = "x86_64")]
pub(super) const IO_PGETEVENTS: i64 = 333;
#[cfg(target_arch = "aarch64")]
pub(super) const IO_PGETEVENTS: i64 = 292;

/// Extended attributes cannot be set, as on a file system without them: an access control list of
/// 64 KiB is kernel memory that no cgroup is charged.
pub(super) const UNSUPPORTED: &[i64] = &[libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr];

/// Everything that a program can write to is in memory, so these have nothing to do. Without the
/// filter they reach the host's disks: `sync` all of them, fsync that of the engine's bind mounts.
pub(super) const WITHOUT_EFFECT: &[i64] =
    &[libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_sync, libc::SYS_syncfs];

/// Socket options that cannot be set, by level. The options of other levels do not exist.
pub(super) const SOCKET_OPTIONS: &[(&str, i32, &[i32])] = &[
    (
        "socket",
        libc::SOL_SOCKET,
        &[
            // programs in BPF, which use net.core.bpf_jit_limit
            libc::SO_ATTACH_FILTER,
            50, // SO_ATTACH_BPF
            51, // SO_ATTACH_REUSEPORT_CBPF
            52, // SO_ATTACH_REUSEPORT_EBPF
            // time stamps of packets: the first and the last user patch the kernel on all CPUs
            29, // SO_TIMESTAMP
            35, // SO_TIMESTAMPNS
            37, // SO_TIMESTAMPING
            63, // SO_TIMESTAMP_NEW
            64, // SO_TIMESTAMPNS_NEW
            65, // SO_TIMESTAMPING_NEW
            // packets that a timer sends, in an interrupt
            47, // SO_MAX_PACING_RATE
        ],
    ),
    (
        "tcp",
        libc::IPPROTO_TCP,
        &[
            31, // TCP_ULP
            // TCP_TX_DELAY, keys of connections: patch the kernel
            37, 14, // TCP_MD5SIG
            32, // TCP_MD5SIG_EXT
            38, // TCP_AO_ADD_KEY
            39, // TCP_AO_DEL_KEY
            40, // TCP_AO_INFO
        ],
    ),
    // UDP_ENCAP, UDP_GRO: patch the kernel
    ("udp", libc::IPPROTO_UDP, &[100, 104]),
    // memberships in multicast groups are kernel memory that no cgroup is charged, and all calls
    // about them take the machine's lock of network devices; IP_MINTTL
    ("ip", libc::IPPROTO_IP, &[21, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48]),
    // the same, IPV6_ADDRFORM, anycast, and IPV6_FLOWLABEL_MGR: the machine has 4,096 flow labels;
    // headers that are sent with each packet (IPV6_2292PKTOPTIONS, HOPOPTS, RTHDRDSTOPTS, RTHDR,
    // DSTOPTS): 64 KiB and more for a socket, which no cgroup is charged
    ("ipv6", libc::IPPROTO_IPV6, &[1, 6, 20, 21, 27, 28, 32, 42, 43, 44, 45, 46, 47, 48, 54, 55, 57, 59, 73]),
];

/// Socket options that cannot be read, by level: IP_MSFILTER and MCAST_MSFILTER, under the lock of
/// network devices.
pub(super) const LOCKED_OPTIONS: &[(&str, i32, &[i32])] =
    &[("ip", libc::IPPROTO_IP, &[41, 48]), ("ipv6", libc::IPPROTO_IPV6, &[48])];

/// Operations of prctl that do not exist for programs.
pub(super) const PROCESS_OPERATIONS: &[u32] = &[
    libc::PR_SET_SECCOMP as u32,
    // forces the other threads of a core to be idle
    62, // PR_SCHED_CORE
    // has a kernel thread compare pages
    67, // PR_SET_MEMORY_MERGE
    // names of memory areas are kernel memory that no cgroup is charged
    0x5356_4d41, // PR_SET_VMA
];

/// The second byte of ioctl requests of sockets and network devices, and of wireless ones.
pub(super) const REQUESTS_OF_SOCKETS: u32 = 0x8900;
pub(super) const WIRELESS_REQUESTS: u32 = 0x8b00;

/// ioctl requests of sockets that programs can make, without direction and size. All others are
/// denied: most take the machine's lock of network devices (addresses, SIOCGIFCONF, SIOCETHTOOL),
/// for which each new network namespace waits. Others have the host load modules (bridges, VLANs),
/// or turn on time stamps of packets (SIOCGSTAMP).
pub(super) const SOCKET_REQUESTS: &[u32] = &[
    // FIOSETOWN, SIOCSPGRP, FIOGETOWN, SIOCGPGRP, SIOCATMARK
    0x8901, 0x8902, 0x8903, 0x8904, 0x8905, //
    // of a device: name, flags, metric, MTU, hardware address, index, length of its queue
    0x8910, 0x8913, 0x891d, 0x8921, 0x8927, 0x8933, 0x8942, //
    0x894b, // SIOCOUTQNSD
];

/// What an operator may allow in a profile, and the errno otherwise.
pub(super) const RELAXABLE: &[(Relax, i32, &[i64])] = &[
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
    (
        Relax::TIMERFD,
        libc::ENOSYS,
        // when a timer expires, an interrupt wakes up everything that watches it: thousands of
        // epoll instances take a millisecond of what runs on that CPU
        &[
            libc::SYS_timerfd_create,
            libc::SYS_timerfd_settime,
            libc::SYS_timerfd_gettime,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_signalfd,
            libc::SYS_signalfd4,
        ],
    ),
    (Relax::IO_URING, libc::ENOSYS, &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register]),
];
