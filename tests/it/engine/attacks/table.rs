//! Every attack, its limits, and the expected result: the outcome of the run, or what the program
//! prints about its attempt.

pub struct Attack {
    pub name: &'static str,
    /// Limits besides those of the profile, as JSON.
    pub limits: &'static str,
    /// Alternatives separated by `|`; a trailing `*` matches any rest.
    pub expected: &'static str,
    /// What is expected in `split` instead, where runs share more.
    pub in_split: Option<&'static str>,
}

impl Attack {
    pub fn expected_in(&self, isolation: &str) -> &'static str {
        self.in_split.filter(|_| isolation == "split").unwrap_or(self.expected)
    }
}

/// An attack that ends by itself: limits that even a busy machine does not reach.
const fn attack(name: &'static str, expected: &'static str) -> Attack {
    Attack { name, limits: r#"{"cpu_ms":20000,"wall_ms":60000}"#, expected, in_split: None }
}

/// An attack that a cell and `split` meet in different ways.
const fn differs(name: &'static str, expected: &'static str, in_split: &'static str) -> Attack {
    Attack { in_split: Some(in_split), ..attack(name, expected) }
}

const fn short(name: &'static str, expected: &'static str) -> Attack {
    Attack { limits: r#"{"cpu_ms":300,"wall_ms":700}"#, ..attack(name, expected) }
}

/// An attack that burns CPU time: enough wall time for a busy machine to use it up.
const fn burn(name: &'static str, expected: &'static str) -> Attack {
    Attack { limits: r#"{"cpu_ms":300,"wall_ms":20000}"#, ..attack(name, expected) }
}

const fn wide(name: &'static str, expected: &'static str) -> Attack {
    Attack { limits: r#"{"cpu_ms":20000,"wall_ms":60000,"file_bytes":1073741824}"#, ..attack(name, expected) }
}

/// Verbs of `attacks.c`.
pub const PROGRAMS: &[Attack] = &[
    // processes
    short("fork-bomb", "cpu_limit|wall_limit|memory_limit"),
    short("fork-bomb-sessions", "cpu_limit|wall_limit|memory_limit"),
    attack("thread-bomb", "EAGAIN"),
    short("vfork", "wall_limit"),
    short("zombies", "wall_limit|cpu_limit"),
    burn("cpu-children", "cpu_limit"),
    burn("cpu-orphans", "cpu_limit"),
    short("sleep", "wall_limit"),
    short("stop", "wall_limit"),
    short("stop-children", "wall_limit"),
    attack("kill-all", "alive"),
    attack("orphans-hold-output", "*"),
    attack("orphans-hold-silence", ""),
    attack("nice-init", ""),
    attack("signals-to-init", "alive"),
    // memory
    wide("malloc", "memory_limit"),
    wide("mmap-shared", "memory_limit"),
    wide("memfd", "memory_limit"),
    wide("page-tables", "memory_limit|ENOMEM"),
    wide("children-malloc", "memory_limit"),
    attack("pipes", "EMFILE"),
    attack("sockets-in-flight", "ETOOMANYREFS|ENOMEM"),
    attack("mlock", "ENOMEM"),
    attack("msgget", "EPERM"),
    attack("shmget", "EPERM"),
    attack("mq_open", "EPERM"),
    attack("mqueue-file", "EMFILE|EACCES|EROFS"),
    // files
    wide("fill-box", "ENOSPC"),
    wide("fill-tmp", "ENOSPC"),
    wide("fill-shm", "ENOSPC"),
    attack("fill-dev", "EACCES|EROFS"),
    attack("fill-root", "EROFS"),
    Attack { limits: r#"{"file_bytes":1048576}"#, ..attack("large-file", "EFBIG") },
    wide("million-files", "ENOSPC"),
    wide("deep-tree", "done"),
    attack("locked-folders", "done"),
    attack("long-names", "done"),
    attack("odd-names", "done"),
    // in a cell, /box belongs to the run and ends with it
    attack("chmod-box", "EPERM|done"),
    attack("rename-box", "EROFS|EBUSY|EXDEV|EACCES"),
    attack("leave-secret", "left"),
    attack("find-secret", "ENOENT ENOENT ENOENT"),
    attack("overwrite-code", "EACCES|EROFS"),
    attack("overwrite-program", "EACCES|EROFS|ETXTBSY"),
    attack("unlink-program", "EPERM|EBUSY"),
    attack("replace-program", "EXDEV|EPERM|EBUSY"),
    attack("link-code", "EPERM|EXDEV|EACCES"),
    attack("setuid-copy", "not root"),
    attack("mknod", "EPERM"),
    attack("memfd-exec", "EPERM"),
    attack("core", "signal 6"),
    attack("core-left", "ENOENT ENOENT"),
    // the init
    attack("init-files", "0 readable"),
    differs("init-write", "EACCES EROFS", "EACCES EACCES"),
    attack("ptrace", "EPERM"),
    attack("ptrace-me", "EPERM"),
    attack("process-vm", "EPERM"),
    attack("pidfd-getfd", "EPERM"),
    attack("prlimit", "EPERM"),
    attack("raise-limit", "EPERM"),
    attack("inherited", "0"),
    attack("forge", "exit 3"),
    attack("environment", "0"),
    differs("dumpable-init", "EROFS", "EACCES"),
    attack("steal-stdin", "EACCES|ENOENT"),
    // output
    wide("flood", "output_limit"),
    wide("flood-children", "output_limit"),
    wide("flood-dup", "output_limit"),
    // the kernel
    attack("io_uring", "ENOSYS"),
    attack("userfaultfd", "EPERM"),
    attack("bpf", "EPERM"),
    attack("keyctl", "EPERM"),
    attack("add_key", "EPERM"),
    attack("perf", "EPERM"),
    attack("unshare", "EPERM"),
    attack("clone-user", "EPERM"),
    attack("clone3", "ENOSYS"),
    attack("setns", "EPERM"),
    attack("mount", "EPERM"),
    attack("umount", "EPERM"),
    attack("pivot", "EPERM"),
    attack("chroot", "EPERM"),
    attack("fsopen", "EPERM"),
    attack("open_tree", "EPERM"),
    attack("personality", "EPERM"),
    attack("handle", "EPERM"),
    attack("name-handle", "EPERM"),
    attack("fanotify", "EPERM"),
    attack("modules", "EPERM"),
    attack("kexec", "EPERM"),
    attack("reboot", "EPERM"),
    attack("hostname", "EPERM"),
    attack("clock", "EPERM"),
    attack("dmesg", "EPERM"),
    attack("iopl", "EPERM"),
    attack("secret-memory", "EPERM"),
    attack("realtime", "EPERM"),
    attack("unknown-call", "ENOSYS"),
    attack("abi-32", "signal 31"),
    attack("abi-x32", "signal 31"),
    attack("setuid-0", "EPERM|EINVAL"),
    attack("capabilities", "EPERM"),
    attack("kernel-files", "0 writable"),
    attack("kernel-memory", "0 readable"),
    attack("engine-socket", "ENOENT"),
    attack("terminal-input", "EPERM|ENOENT|EACCES"),
    // the network
    attack("vsock", "EAFNOSUPPORT"),
    attack("af-alg", "EAFNOSUPPORT"),
    attack("netlink", "EAFNOSUPPORT"),
    attack("raw", "EAFNOSUPPORT"),
    attack("packet", "EAFNOSUPPORT"),
    attack("sctp", "EAFNOSUPPORT"),
    attack("mptcp", "EAFNOSUPPORT"),
    attack("internet", "ENETUNREACH"),
    attack("docker-bridge", "ENETUNREACH"),
    attack("udp-out", "ENETUNREACH"),
    attack("listen-and-leave", "left"),
    attack("find-listener", "ECONNREFUSED"),
    attack("abstract-and-leave", "left"),
    attack("find-abstract", "ECONNREFUSED"),
    // resources that the kernel counts per uid, machine-wide
    wide("inotify", "EMFILE"),
];

/// From one run to the next: one leaves something, the next looks for it. In `split` the runs of a
/// submission share a network and the counters.
pub const CROSSING: &[Attack] = &[
    attack("cross-port-leave", "left"),
    differs("cross-port-find", "done", "done|EADDRINUSE"),
    attack("cross-udp-leave", "left"),
    attack("cross-udp-find", "done"),
    differs("cross-datagrams-find", "0 datagrams", "*"),
    differs("cross-interface-find", "0 packets", "*"),
    attack("cross-names-leave", "left"),
    differs("cross-names-find", "0 names", "*"),
    differs("cross-flight-find", "done", "done|ETOOMANYREFS"),
    attack("cross-signals-leave", "left"),
    attack("cross-signals-find", "0 queued, none pending"),
    attack("cross-timers-find", "900 timers"),
    attack("cross-schedule-leave", "left"),
    attack("cross-schedule-find", "policy 0, nice 0, its own slice, io usual"),
    attack("cross-cpus-leave", "left"),
    attack("cross-cpus-find", "all"),
    attack("cross-inodes-leave", "left"),
    differs("cross-inodes-find", "low", "*"),
    attack("cross-locks-leave", "left"),
    attack("cross-locks-find", "done"),
    attack("cross-pipes-leave", "left"),
    attack("cross-pipes-find", "65536"),
    attack("cross-inotify-leave", "left"),
    attack("cross-inotify-find", "100"),
    differs("cross-cgroup-find", "0 counters", "*"),
    attack("cross-process-find", "umask 022, oom 1000, slack 50000, dump 00000033"),
    attack("cross-memory-leave", "left"),
    attack("cross-memory-find", "fits"),
];

/// More of these, between submissions only: where the kernel keeps what a run left, the sandbox
/// retires.
pub const CROSSING_SUBMISSIONS: &[Attack] = &[attack("cross-cache-leave", "left"), attack("cross-cache-find", "fits")];

/// What the kernel counts for the whole machine, and what would slow all of it.
pub const MACHINE_WIDE: &[Attack] = &[
    attack("wide-aio", "ENOSYS"),
    attack("wide-aio-submit", "ENOSYS"),
    differs("wide-pty", "ENOENT", "EACCES"),
    differs("wide-pty-path", "ENOENT", "EACCES"),
    attack("wide-pty-flood", "0"),
    attack("wide-flow-label", "EPERM"),
    attack("wide-filter", "EPERM"),
    attack("wide-filter-reuseport", "EPERM"),
    attack("wide-filter-bpf", "EPERM"),
    attack("wide-filter-reuseport-bpf", "EPERM"),
    attack("wide-timestamp", "EPERM"),
    attack("wide-timestamping", "EPERM"),
    attack("wide-timestamp-ioctl", "EPERM"),
    attack("wide-timestamp-ioctl-new", "EPERM"),
    attack("wide-ulp", "EPERM"),
    attack("wide-md5", "EPERM"),
    attack("wide-tcp-delay", "EPERM"),
    attack("wide-min-ttl", "EPERM"),
    attack("wide-min-hops", "EPERM"),
    attack("wide-pacing", "EPERM"),
    attack("wide-timer-fan", "ENOSYS"),
    attack("wide-signal-fan", "ENOSYS"),
    attack("wide-module-vlan", "EPERM"),
    attack("wide-module-bridge", "EPERM"),
    attack("wide-udp-encap", "EPERM"),
    attack("wide-udp-gro", "EPERM"),
    attack("wide-multicast", "EPERM"),
    attack("wide-multicast-6", "EPERM"),
    attack("wide-multicast-group", "EPERM"),
    attack("wide-other-level", "ENOPROTOOPT"),
    attack("wide-usual-options", "done"),
    attack("wide-seccomp", "ENOSYS"),
    attack("wide-seccomp-prctl", "EINVAL"),
    attack("wide-core-scheduling", "EINVAL"),
    attack("wide-memory-merge", "EINVAL"),
    attack("wide-mergeable", "EINVAL"),
    attack("wide-huge-pages", "ENOMEM"),
    attack("wide-huge-memfd", "ENOSYS"),
    attack("wide-page-cache", "no effect"),
    attack("wide-cachestat", "ENOSYS"),
    attack("wide-sync", "no effect"),
    attack("wide-fsync", "no effect"),
    attack("wide-msync", "no effect"),
    attack("wide-signals", "bounded"),
    attack("wide-timers", "bounded"),
    attack("wide-watches", "own"),
    attack("wide-epoll", "EMFILE"),
    attack("wide-priority", "EACCES"),
    attack("wide-io-priority", "EPERM"),
    attack("wide-deadline", "EPERM"),
    attack("wide-swap", "EPERM"),
    attack("wide-quota", "EPERM"),
    attack("wide-collapse", "EINVAL"),
    attack("wide-device-addresses", "EPERM"),
    attack("wide-device-list", "EPERM"),
    attack("wide-device-driver", "EPERM"),
    attack("wide-device-membership", "EPERM"),
    attack("wide-device-filter", "EPERM"),
    attack("wide-device-index", "done"),
    differs("wide-file-locks", "empty", "*"),
    differs("wide-sysfs", "in memory", "*"),
    attack("wide-lease", "EACCES"),
    attack("wide-membarrier", "done"),
];

/// What a program uses and could fail to be charged.
pub const ACCOUNTING: &[Attack] = &[
    wide("count-acl", "EOPNOTSUPP"),
    attack("count-acl-path", "EOPNOTSUPP"),
    attack("count-attribute", "EOPNOTSUPP"),
    wide("count-policies", "ENOSYS"),
    attack("count-area-names", "EINVAL"),
    wide("count-unix-buffers", "memory_limit"),
    wide("count-unaccepted", "memory_limit"),
    attack("count-headers", "EPERM"),
    attack("count-routing-header", "EPERM"),
    wide("count-tcp-buffers", "memory_limit"),
    wide("count-udp-buffers", "memory_limit"),
    wide("count-zero-shared", "memory_limit"),
    wide("count-memfds", "memory_limit"),
    wide("count-dead-children", "memory_limit"),
    burn("count-short-children", "cpu_limit"),
    burn("count-vfork-children", "cpu_limit"),
    burn("count-idle-class", "cpu_limit"),
    burn("count-system-time", "cpu_limit"),
    burn("count-faults", "cpu_limit"),
    burn("count-loopback", "cpu_limit"),
    burn("count-loopback-tcp", "cpu_limit"),
    burn("count-cpu-signal", "cpu_limit"),
    wide("count-oom-score", "memory_limit"),
    wide("count-oom-tmpfs", "ENOSPC*|memory_limit"),
    attack("count-threads", "bounded"),
    attack("count-splice", "EPERM"),
];

/// All verbs of `attacks.c`, in their order.
pub fn verbs() -> impl Iterator<Item = &'static Attack> {
    [PROGRAMS, CROSSING, MACHINE_WIDE, ACCOUNTING].into_iter().flatten()
}

/// Attacks in Python and bash, each in a submission of its own.
pub const SCRIPTS: &[(Attack, &str)] = &[
    (
        short("python fork bomb", "cpu_limit|wall_limit|memory_limit"),
        "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
    ),
    (
        short("python threads", "exit 1|cpu_limit|wall_limit"),
        "import threading,time\nwhile True: threading.Thread(target=time.sleep,args=(99,)).start()",
    ),
    (wide("python memory", "memory_limit|exit 1"), "x=[]\nwhile True: x.append(bytearray(1<<20))"),
    (
        wide("python recursion", "exit 1|signal 11|memory_limit"),
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    ),
    (burn("python big number", "cpu_limit|memory_limit"), "x=7\nwhile True: x=x**7"),
    (
        attack("python secrets", "nothing"),
        "import os\nfound=[]\nfor top in ('/proc/1','/.assay','/run','/var/lib','/etc'):\n  for where,_,names in os.walk(top):\n    for name in names:\n      try: text=open(os.path.join(where,name),'rb').read(65536)\n      except OSError: continue\n      if b'docker.sock' in text and b'ELF' not in text[:4] or b'assay.sock' in text and b'ELF' not in text[:4]: found.append(name)\nprint(found or 'nothing')",
    ),
    (attack("python exits early", "exit 7"), "import os,atexit\natexit.register(lambda: print('late'))\nos._exit(7)"),
    (wide("python flood", "output_limit"), "while True: print('x'*10000)"),
    (short("bash fork bomb", "cpu_limit|wall_limit|memory_limit"), ":(){ :|:& };:\nwait\nwhile :; do :; done"),
    (wide("bash yes", "output_limit"), "yes"),
    (attack("bash kills all", "here"), "kill -9 -1 2>/dev/null; echo here"),
    (attack("bash limits", "refused"), "ulimit -u unlimited 2>/dev/null && echo raised || echo refused"),
    (attack("bash network", "refused"), "(exec 3<>/dev/tcp/8.8.8.8/53) 2>/dev/null && echo out || echo refused"),
    (
        attack("bash setuid files", "not root"),
        "find / -xdev -perm -4000 -type f 2>/dev/null | head -3 | while read f; do $f </dev/null >/dev/null 2>&1; done; su -c id root </dev/null >/dev/null 2>&1 && echo root || echo not root",
    ),
    (attack("bash shadow", "denied"), "cat /etc/shadow 2>/dev/null && echo read || echo denied"),
];

/// Attacks on compilers.
pub const BUILDS: &[(Attack, &str)] = &[
    (attack("build /dev/zero", "compile_error: *"), "#include \"/dev/zero\"\nint main() {}"),
    (attack("build environ", "compile_error: *"), "#include \"/proc/1/environ\"\nint main() {}"),
    (attack("build shadow", "compile_error: *"), "#include \"/etc/shadow\"\nint main() {}"),
    (
        attack("build templates", "compile_error: *"),
        "template<int N> struct A { static const long v = A<N-1>::v + A<N-2>::v + A<N/2>::v; };\ntemplate<> struct A<0> { static const long v = 1; };\ntemplate<int N, int M> struct B { static const long v = B<N-1, M>::v + B<N, M-1>::v; };\ntemplate<int M> struct B<0, M> { static const long v = 1; };\ntemplate<int N> struct B<N, 0> { static const long v = 1; };\nint main() { return B<850, 850>::v; }",
    ),
    (attack("build recursion", "compile_error: *"), "#include __FILE__\nint main() {}"),
    (attack("build huge", "compile_error: *"), "char a[1ul << 31] = {1};\nint main() {}"),
    (
        attack("build macros", "compile_error: *"),
        "#define A(x) x x x x x x x x x x\n#define B(x) A(A(A(A(x))))\n#define C(x) B(B(B(x)))\nconst char *s = C(\"x\");\nint main() {}",
    ),
    (attack("build incbin", "compile_error: *"), "asm(\".incbin \\\"/proc/1/mem\\\"\");\nint main() {}"),
    (
        attack("build errors", "compile_error: *"),
        "#define A(x) x x x x x x x x x x\n#define B(x) A(A(A(A(x))))\nint main() { B(undefined;) }",
    ),
];
