/* Attacks from inside a sandbox, one per verb. Each prints its result: the name of an errno, or a word. Written with the
   sources of assay at hand; table.rs has the expected results. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_alg.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;
static char big[1 << 20];

/* prints the result of a call */
static void say(long r) { printf("%s\n", r < 0 ? strerrorname_np(errno) : "done"); }
static void must(long r) { if (r < 0) { say(r); exit(0); } }
static int put(const char *path, const void *data, size_t n, int mode) {
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
    if (fd < 0) return -1;
    ssize_t w = write(fd, data, n);
    close(fd);
    if (w >= 0 && w < (ssize_t)n) { errno = ENOSPC; return -1; }
    return w == (ssize_t)n ? 0 : -1;
}
static void *idle(void *x) { pause(); return x; }
static void spin(void) { for (volatile unsigned long i = 0;; i++) {} }

/* writes files of one size until the file system is full */
static void fill(const char *folder) {
    char path[300];
    for (int i = 0; i < 4000; i++) {
        snprintf(path, sizeof path, "%s/f%d", folder, i);
        if (put(path, big, sizeof big, 0600)) { say(-1); return; }
    }
    puts("endless");
}

static int open_word(const char *path, int flags) {
    int fd = open(path, flags);
    printf("%s ", fd < 0 ? strerrorname_np(errno) : "opened");
    if (fd >= 0) close(fd);
    return fd;
}

static void sock(int family, int type, int protocol) { say(socket(family, type, protocol)); }

static void send_fds(void) {
    /* descriptors in flight in sockets that are themselves in flight */
    int pair[2], n = 0;
    while (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0) {
        char control[CMSG_SPACE(sizeof pair)] = {0}, byte = 0;
        struct iovec io = {&byte, 1};
        struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof pair);
        memcpy(CMSG_DATA(c), pair, sizeof pair);
        if (sendmsg(pair[0], &m, 0) < 0) { say(-1); return; }
        close(pair[0]); close(pair[1]);
        if (++n > 1000000) { puts("endless"); return; }
    }
    say(-1);
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
#define IS(name) if (!strcmp(verb, name))
    setvbuf(stdout, 0, _IOLBF, 0);

    /* what every run must find, whatever ran before it */
    IS("check") {
        int n = 0, procs = 0;
        const char *folders[] = {"/box", "/tmp", "/dev/shm", "/dev/mqueue"};
        for (int i = 0; i < 4; i++) {
            DIR *d = opendir(folders[i]);
            for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
        }
        DIR *d = opendir("/proc");
        for (struct dirent *e; d && (e = readdir(d));) procs += atoi(e->d_name) > 0;
        struct rlimit r;
        getrlimit(RLIMIT_CPU, &r);
        char *p = malloc(16 << 20);
        memset(p, 1, 16 << 20);
        int child = fork();
        if (!child) _exit(7);
        int status = 0;
        waitpid(child, &status, 0);
        printf("%d files, %d processes, nice %d, cwd %s, child %d\n", n, procs, getpriority(PRIO_PROCESS, 0),
               get_current_dir_name(), WEXITSTATUS(status));
        return 0;
    }

    /* processes */
    IS("fork-bomb") for (;;) fork();
    IS("fork-bomb-sessions") for (;;) { if (!fork()) { setsid(); signal(SIGTERM, SIG_IGN); signal(SIGHUP, SIG_IGN); } }
    IS("thread-bomb") {
        pthread_t t;
        for (int i = 0; i < 100000; i++) { errno = pthread_create(&t, 0, idle, 0); if (errno) { say(-1); exit(0); } }
        puts("endless");
        exit(0);
    }
    IS("vfork") { if (!vfork()) pause(); return 0; }
    IS("zombies") { signal(SIGCHLD, SIG_DFL); for (;;) { int p = fork(); if (!p) _exit(0); if (p < 0) { say(-1); sleep(100); } } }
    IS("cpu-children") { signal(SIGCHLD, SIG_IGN); for (int i = 0; i < 4; i++) if (!fork()) spin(); for (;;) pause(); }
    IS("cpu-orphans") { for (int i = 0; i < 3; i++) if (!fork()) { setsid(); if (fork()) _exit(0); spin(); } sleep(100); }
    IS("sleep") { sleep(1000); }
    IS("stop") { kill(getpid(), SIGSTOP); }
    IS("stop-children") { for (int i = 0; i < 5; i++) if (!fork()) { kill(getpid(), SIGSTOP); _exit(0); } kill(0, SIGSTOP); }
    IS("kill-all") { kill(-1, SIGKILL); puts("alive"); return 0; }
    IS("orphans-hold-output") { if (!fork()) { setsid(); signal(SIGPIPE, SIG_IGN); for (;;) { if (write(1, "x", 1) < 0) sleep(1); usleep(1000); } } return 0; }
    IS("orphans-hold-silence") { if (!fork()) { setsid(); sleep(1000); } return 0; }
    IS("nice-init") {
        int r = setpriority(PRIO_PROCESS, 1, 19);
        cpu_set_t one;
        CPU_ZERO(&one); CPU_SET(0, &one);
        struct sched_param p = {0};
        r |= sched_setaffinity(1, sizeof one, &one) | sched_setscheduler(1, SCHED_IDLE, &p);
        put("/proc/1/oom_score_adj", "1000", 4, 0);
        return 0 * r;
    }
    IS("signals-to-init") { for (int s = 1; s <= 64; s++) { kill(1, s); union sigval v = {0}; sigqueue(1, s, v); } puts("alive"); return 0; }

    /* memory */
    IS("malloc") for (;;) { char *p = malloc(1 << 20); if (p) memset(p, 1, 1 << 20); }
    IS("mmap-shared") { char *p = mmap(0, 1 << 30, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); must((long)p == -1 ? -1 : 0); memset(p, 1, 1 << 30); puts("endless"); return 0; }
    IS("memfd") { int fd = syscall(SYS_memfd_create, "x", 0); for (int i = 0; i < 2000; i++) if (write(fd, big, sizeof big) < 0) { say(-1); return 0; } puts("endless"); return 0; }
    IS("page-tables") {
        for (uint64_t at = 1ul << 32;; at += 2 << 20) {
            char *p = mmap((void *)at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED) { say(-1); return 0; }
            *p = 1;
        }
    }
    IS("children-malloc") { for (int i = 0; i < 8; i++) if (!fork()) for (;;) { char *p = malloc(1 << 20); if (p) memset(p, 1, 1 << 20); } while (wait(0) > 0) {} puts("all died"); return 0; }
    IS("pipes") {
        for (int i = 0; i < 100000; i++) {
            int p[2];
            must(pipe2(p, O_NONBLOCK));
            fcntl(p[1], F_SETPIPE_SZ, 1 << 20);
            while (write(p[1], big, sizeof big) > 0) {}
        }
        puts("endless");
        return 0;
    }
    IS("sockets-in-flight") { send_fds(); return 0; }
    IS("mlock") { char *p = malloc(64 << 20); say(mlock(p, 64 << 20)); return 0; }
    IS("msgget") { say(msgget(IPC_PRIVATE, 0600)); return 0; }
    IS("shmget") { say(shmget(IPC_PRIVATE, 64 << 20, 0600)); return 0; }
    IS("mq_open") { say(syscall(SYS_mq_open, "/x", O_CREAT | O_RDWR, 0600, 0)); return 0; }
    IS("mqueue-file") { say(open("/dev/mqueue/x", O_CREAT | O_RDWR, 0600)); return 0; }

    /* files */
    IS("fill-box") { fill("/box"); return 0; }
    IS("fill-tmp") { fill("/tmp"); return 0; }
    IS("fill-shm") { fill("/dev/shm"); return 0; }
    IS("fill-dev") { fill("/dev"); return 0; }
    IS("fill-root") { fill("/"); return 0; }
    IS("large-file") { signal(SIGXFSZ, SIG_IGN); int fd = open("/box/f", O_CREAT | O_WRONLY, 0600); for (int i = 0; i < 4000; i++) if (write(fd, big, sizeof big) < 0) { say(-1); return 0; } puts("endless"); return 0; }
    IS("million-files") { char path[64]; for (int i = 0; i < 1000000; i++) { sprintf(path, "/tmp/%d", i); int fd = open(path, O_CREAT, 0600); must(fd); close(fd); } puts("endless"); return 0; }
    IS("deep-tree") { for (int i = 0; i < 3000; i++) { if (mkdir("d", 0700) || chdir("d")) { say(-1); return 0; } put("f", "x", 1, 0); } puts("done"); return 0; }
    IS("locked-folders") { for (int i = 0; i < 50; i++) { char p[64]; sprintf(p, "l%d", i); mkdir(p, 0700); strcat(p, "/x"); put(p, "x", 1, 0); p[strlen(p) - 2] = 0; chmod(p, 0); } puts("done"); return 0; }
    IS("long-names") { char name[256]; memset(name, 'n', 255); name[255] = 0; for (int i = 0; i < 40; i++) { if (mkdir(name, 0700) || chdir(name)) { say(-1); return 0; } } puts("done"); return 0; }
    IS("odd-names") { const char *odd[] = {"\n", "a\nb", "-rf", "\xff\xfe", "*", "$(id)", " "}; for (int i = 0; i < 7; i++) must(put(odd[i], "x", 1, 0600)); puts("done"); return 0; }
    IS("chmod-box") { say(chmod("/box", 0)); return 0; }
    IS("rename-box") { say(rename("/box", "/tmp/box")); return 0; }
    IS("leave-secret") { put("/box/secret", "x", 1, 0600); put("/tmp/secret", "x", 1, 0600); put("/dev/shm/secret", "x", 1, 0600); puts("left"); return 0; }
    IS("find-secret") { open_word("/box/secret", O_RDONLY); open_word("/tmp/secret", O_RDONLY); open_word("/dev/shm/secret", O_RDONLY); puts(""); return 0; }
    IS("overwrite-code") { say(open("/box/main.c", O_WRONLY)); return 0; }
    IS("overwrite-program") { say(open("/box/main", O_WRONLY)); return 0; }
    IS("unlink-program") { say(unlink("/box/main")); return 0; }
    IS("replace-program") { put("/tmp/evil", "#!/bin/sh\n", 10, 0755); say(rename("/tmp/evil", "/box/main")); return 0; }
    IS("link-code") { must(link("/box/main.c", "/box/alias")); say(open("/box/alias", O_WRONLY)); return 0; }
    IS("setuid-copy") {
        int in = open("/proc/self/exe", O_RDONLY), out = open("/tmp/x", O_CREAT | O_WRONLY, 0755);
        for (ssize_t n; (n = read(in, big, sizeof big)) > 0;) must(write(out, big, n));
        fchmod(out, 06755); close(out);
        execl("/tmp/x", "x", "who", (char *)0);
        say(-1);
        return 0;
    }
    IS("who") { printf("%s\n", geteuid() == 0 || getegid() == 0 || geteuid() != getuid() ? "root" : "not root"); return 0; }
    IS("mknod") { say(mknod("/tmp/mem", S_IFCHR | 0666, makedev(1, 1))); return 0; }
    IS("memfd-exec") {
        int in = open("/proc/self/exe", O_RDONLY), out = syscall(SYS_memfd_create, "x", 0);
        for (ssize_t n; (n = read(in, big, sizeof big)) > 0;) must(write(out, big, n));
        char *args[] = {"x", "unshare", 0};
        fexecve(out, args, environ);
        say(-1);
        return 0;
    }
    IS("core") { abort(); }
    IS("core-left") { open_word("core", O_RDONLY); open_word("/tmp/core", O_RDONLY); puts(""); return 0; }

    /* the init and its resources */
    IS("init-files") {
        const char *files[] = {"mem", "environ", "maps", "fd/0", "fd/1", "root", "cwd", "exe", "auxv", "stack", "io"};
        int got = 0;
        for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
            char path[64];
            sprintf(path, "/proc/1/%s", files[i]);
            int fd = open(path, O_RDONLY);
            char byte;
            if (fd >= 0 && read(fd, &byte, 1) >= 0) { got++; printf("%s ", files[i]); }
        }
        printf("%d readable\n", got);
        return 0;
    }
    IS("init-write") { printf("%s ", strerrorname_np(open("/proc/1/fd/1", O_WRONLY) < 0 ? errno : 0)); printf("%s\n", strerrorname_np(open("/proc/1/mem", O_RDWR) < 0 ? errno : 0)); return 0; }
    IS("ptrace") { say(ptrace(PTRACE_SEIZE, 1, 0, 0)); return 0; }
    IS("ptrace-me") { say(ptrace(PTRACE_TRACEME, 0, 0, 0)); return 0; }
    IS("process-vm") { struct iovec a = {big, 8}, b = {(void *)0x400000, 8}; say(process_vm_readv(1, &a, 1, &b, 1, 0)); return 0; }
    IS("pidfd-getfd") { int p = syscall(SYS_pidfd_open, 1, 0); say(syscall(438, p, 0, 0)); return 0; }
    IS("prlimit") { struct rlimit one = {1, 1}; say(prlimit(1, RLIMIT_CPU, &one, 0)); return 0; }
    IS("raise-limit") { struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY}; say(setrlimit(RLIMIT_NPROC, &r) & setrlimit(RLIMIT_CPU, &r) & setrlimit(RLIMIT_FSIZE, &r)); return 0; }
    IS("inherited") { int n = 0; for (int fd = 3; fd < 1024; fd++) n += fcntl(fd, F_GETFD) >= 0; printf("%d\n", n); return 0; }
    IS("forge") { unsigned char f[] = {40, 0, 0, 0, 0x85, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 8}; for (int i = 0; i < 100; i++) fwrite(f, 1, sizeof f, stdout); return 3; }
    IS("environment") { int odd = 0; for (char **e = environ; *e; e++) odd += strncmp(*e, "PATH=", 5) && strncmp(*e, "HOME=", 5) && strncmp(*e, "LANG=", 5); printf("%d\n", odd); return 0; }

    /* output */
    IS("flood") for (;;) { must(write(1, big, sizeof big)); must(write(2, big, sizeof big)); }
    IS("flood-children") { for (int i = 0; i < 5; i++) fork(); for (;;) must(write(1, big, sizeof big)); }
    IS("flood-dup") { int fd = dup(1); close(1); close(2); for (;;) must(write(fd, big, sizeof big)); }
    IS("steal-stdin") { char path[64]; sprintf(path, "/proc/%d/fd/0", getppid()); say(open(path, O_RDONLY)); return 0; }

    /* the kernel */
    IS("io_uring") { char p[256] = {0}; say(syscall(SYS_io_uring_setup, 8, p)); return 0; }
    IS("userfaultfd") { say(syscall(SYS_userfaultfd, 1)); return 0; }
    IS("bpf") { char a[128] = {0}; say(syscall(SYS_bpf, 0, a, sizeof a)); return 0; }
    IS("keyctl") { say(syscall(SYS_keyctl, 0, -3, 0)); return 0; }
    IS("add_key") { say(syscall(SYS_add_key, "user", "x", "y", 1, -3)); return 0; }
    IS("perf") { char a[128] = {0}; say(syscall(SYS_perf_event_open, a, 0, -1, -1, 0)); return 0; }
    IS("unshare") { say(unshare(CLONE_NEWUSER)); return 0; }
    IS("clone-user") { say(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)); return 0; }
    IS("clone3") { uint64_t a[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD}; say(syscall(SYS_clone3, a, sizeof a)); return 0; }
    IS("setns") { int fd = open("/proc/self/ns/user", O_RDONLY); say(setns(fd, 0)); return 0; }
    IS("mount") { say(mount("none", "/tmp", "tmpfs", 0, "")); return 0; }
    IS("umount") { say(umount2("/box", MNT_DETACH)); return 0; }
    IS("pivot") { say(syscall(SYS_pivot_root, "/tmp", "/tmp")); return 0; }
    IS("chroot") { say(chroot("/tmp")); return 0; }
    IS("fsopen") { say(syscall(SYS_fsopen, "tmpfs", 0)); return 0; }
    IS("open_tree") { say(syscall(SYS_open_tree, AT_FDCWD, "/", 1)); return 0; }
    IS("personality") { say(personality(ADDR_NO_RANDOMIZE)); return 0; }
    IS("handle") { char h[128] = {0}; *(int *)h = 8; say(syscall(SYS_open_by_handle_at, AT_FDCWD, h, O_RDONLY)); return 0; }
    IS("name-handle") { char h[128] = {0}; int id; *(int *)h = 64; say(syscall(SYS_name_to_handle_at, AT_FDCWD, "/", h, &id, 0)); return 0; }
    IS("fanotify") { say(syscall(SYS_fanotify_init, 0, 0)); return 0; }
    IS("modules") { say(syscall(SYS_finit_module, 0, "", 0)); return 0; }
    IS("kexec") { say(syscall(SYS_kexec_load, 0, 0, 0, 0)); return 0; }
    IS("reboot") { say(syscall(SYS_reboot, 0, 0, 0, 0)); return 0; }
    IS("hostname") { say(sethostname("x", 1)); return 0; }
    IS("clock") { struct timespec t = {1, 0}; say(clock_settime(CLOCK_REALTIME, &t)); return 0; }
    IS("dmesg") { say(syscall(SYS_syslog, 3, big, sizeof big)); return 0; }
    IS("iopl") { say(syscall(SYS_iopl, 3)); return 0; }
    IS("secret-memory") { say(syscall(447, 0)); return 0; }
    IS("realtime") { struct sched_param p = {1}; say(sched_setscheduler(0, SCHED_FIFO, &p)); return 0; }
    IS("unknown-call") { say(syscall(500)); return 0; }
    IS("abi-32") { long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20)); puts("went on"); return 0; }
    IS("abi-x32") { syscall(0x40000000 | SYS_getpid); puts("went on"); return 0; }
    IS("setuid-0") { say(setuid(0)); return 0; }
    IS("capabilities") { unsigned h[2] = {0x20080522, 0}, c[6] = {~0u, ~0u, 0, ~0u, ~0u, 0}; say(syscall(SYS_capset, h, c)); return 0; }
    IS("dumpable-init") { say(open("/proc/1/oom_score_adj", O_WRONLY)); return 0; }
    IS("kernel-files") {
        const char *files[] = {"/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/proc/sys/kernel/hostname",
                               "/sys/kernel/mm/ksm/run", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/pids/pids.max",
                               "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory/cgroup.procs"};
        int got = 0;
        for (unsigned i = 0; i < sizeof files / sizeof *files; i++) { int fd = open(files[i], O_WRONLY); if (fd >= 0) { got++; printf("%s ", files[i]); } }
        printf("%d writable\n", got);
        return 0;
    }
    IS("kernel-memory") { int got = 0; const char *files[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/dev/mem", "/dev/kmem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/fuse", "/dev/kvm"}; for (int i = 0; i < 10; i++) { int fd = open(files[i], O_RDONLY); char b; if (fd >= 0 && read(fd, &b, 1) > 0) { got++; printf("%s ", files[i]); } } printf("%d readable\n", got); return 0; }
    IS("engine-socket") { struct sockaddr_un a = {AF_UNIX, "/var/run/docker.sock"}; int s = socket(AF_UNIX, SOCK_STREAM, 0); say(connect(s, (void *)&a, sizeof a)); return 0; }
    IS("terminal-input") { int m = posix_openpt(O_RDWR); must(m); say(ioctl(m, TIOCSTI, "x")); return 0; }

    /* the network */
    IS("vsock") { sock(AF_VSOCK, SOCK_STREAM, 0); return 0; }
    IS("af-alg") { sock(AF_ALG, SOCK_SEQPACKET, 0); return 0; }
    IS("netlink") { sock(AF_NETLINK, SOCK_RAW, 0); return 0; }
    IS("raw") { sock(AF_INET, SOCK_RAW, IPPROTO_ICMP); return 0; }
    IS("packet") { sock(AF_PACKET, SOCK_RAW, 0); return 0; }
    IS("sctp") { sock(AF_INET, SOCK_STREAM, 132); return 0; }
    IS("mptcp") { sock(AF_INET, SOCK_STREAM, 262); return 0; }
    IS("internet") { struct sockaddr_in a = {AF_INET, htons(53), {inet_addr("8.8.8.8")}}; say(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof a)); return 0; }
    IS("docker-bridge") { struct sockaddr_in a = {AF_INET, htons(22), {inet_addr("172.17.0.1")}}; say(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof a)); return 0; }
    IS("udp-out") { struct sockaddr_in a = {AF_INET, htons(53), {inet_addr("8.8.8.8")}}; say(sendto(socket(AF_INET, SOCK_DGRAM, 0), "x", 1, 0, (void *)&a, sizeof a)); return 0; }
    IS("listen-and-leave") { struct sockaddr_in a = {AF_INET, htons(7777), {htonl(INADDR_LOOPBACK)}}; int s = socket(AF_INET, SOCK_STREAM, 0); must(bind(s, (void *)&a, sizeof a)); listen(s, 5); if (!fork()) { setsid(); sleep(1000); } puts("left"); return 0; }
    IS("find-listener") { struct sockaddr_in a = {AF_INET, htons(7777), {htonl(INADDR_LOOPBACK)}}; say(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof a)); return 0; }
    IS("abstract-and-leave") { struct sockaddr_un a = {AF_UNIX, "\0secret"}; int s = socket(AF_UNIX, SOCK_STREAM, 0); must(bind(s, (void *)&a, 9)); listen(s, 5); if (!fork()) { setsid(); sleep(1000); } puts("left"); return 0; }
    IS("find-abstract") { struct sockaddr_un a = {AF_UNIX, "\0secret"}; say(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, 9)); return 0; }

    /* resources that the kernel counts per uid, machine-wide */
    IS("inotify") { int n = 0; while (inotify_init() >= 0) n++; say(-1); sleep(1); return 0; }

    fprintf(stderr, "no such verb: %s\n", verb);
    return 99;
}
