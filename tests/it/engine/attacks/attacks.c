/* Attacks from inside a sandbox, one per verb. Each prints its result: the name of an errno, or a word. Written with the
   sources of assay at hand; table.rs has the expected results. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_alg.h>
#include <linux/filter.h>
#include <linux/vm_sockets.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
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
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
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


/* an int option of a new socket */
static void option(int family, int type, int level, int name) { int one = 1; say(setsockopt(socket(family, type, 0), level, name, &one, sizeof one)); }
static void option_of(int family, int type, int level, int name, const void *value, socklen_t n) { say(setsockopt(socket(family, type, 0), level, name, value, n)); }
static struct sockaddr_in local(int port) { struct sockaddr_in a = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}}; return a; }
/* the line of a file that begins with a text, without it; "none" if there is none */
static const char *line_of(const char *path, const char *begin) {
    static char lines[8][4096];
    static int calls;
    char *line = lines[calls++ % 8];
    FILE *f = fopen(path, "r");
    while (f && fgets(line, 4096, f)) {
        char *at = line + strspn(line, " ");
        if (!strncmp(at, begin, strlen(begin))) { fclose(f); at += strlen(begin); at[strcspn(at, "\n")] = 0; return at; }
    }
    if (f) fclose(f);
    return "none";
}
/* how many regular files below a folder can be read, limits of a cgroup excepted */
static int readable_below(const char *folder, int depth) {
    int n = 0;
    DIR *d = depth > 6 ? 0 : opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[4096], byte;
        const char *limits[] = {"memory.limit_in_bytes", "memory.soft_limit_in_bytes", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", "cpuset.cpus", "cpuset.mems",
                                "cgroup.controllers", "memory.max", "memory.high", "cpu.max", "cpu.weight", "cpuset.cpus.effective"};
        int is_limit = e->d_name[0] == '.';
        for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) is_limit |= !strcmp(e->d_name, limits[i]);
        if (is_limit) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        struct stat st;
        if (lstat(path, &st)) continue;
        if (S_ISDIR(st.st_mode)) n += readable_below(path, depth + 1);
        int fd = S_ISREG(st.st_mode) ? open(path, O_RDONLY | O_NONBLOCK) : -1;
        if (fd >= 0) { n += read(fd, &byte, 1) > 0; close(fd); }
    }
    if (d) closedir(d);
    return n;
}
/* a child that outlives this program, if it can */
static int orphan(void) { if (fork()) return 0; setsid(); return 1; }
/* keeps sending until nothing more is taken; the receiver never reads */
static void stuff(int fd) { fcntl(fd, F_SETFL, O_NONBLOCK); while (send(fd, big, sizeof big, MSG_NOSIGNAL) > 0 || send(fd, big, 4096, MSG_NOSIGNAL) > 0) {} }
/* connections that are not accepted */
static void unaccepted(int listeners) {
    while (listeners--) {
        struct sockaddr_in at = {AF_INET, 0, {htonl(0x7f000001)}};
        socklen_t n = sizeof at;
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(listener, (void *)&at, n) || listen(listener, 4096)) return;
        getsockname(listener, (void *)&at, &n);
        for (int i = 0; i < 4000; i++) {
            int one = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            connect(one, (void *)&at, n);
            close(one);
        }
    }
}

static void attack_tcp_pair(int pair[2]) {
    struct sockaddr_in a = local(0);
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM, 0), size = 8 << 20;
    must(bind(s, (void *)&a, n)); must(listen(s, 1)); must(getsockname(s, (void *)&a, &n));
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    must(pair[0]);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(s, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    must(connect(pair[0], (void *)&a, n));
    pair[1] = accept(s, 0, 0);
    must(pair[1]);
    close(s);
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
            for (struct dirent *e; d && (e = readdir(d));) n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
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
    IS("overwrite-program") { say(open("/box/.assay.out", O_WRONLY)); return 0; }
    IS("unlink-program") { say(unlink("/box/.assay.out")); return 0; }
    IS("replace-program") { put("/tmp/evil", "#!/bin/sh\n", 10, 0755); say(rename("/tmp/evil", "/box/.assay.out")); return 0; }
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
    IS("environment") { int odd = 0; for (char **e = environ; *e; e++) odd += strncmp(*e, "PATH=", 5) && strncmp(*e, "HOME=", 5) && strncmp(*e, "LANG=", 5) && strncmp(*e, "USER=", 5) && strncmp(*e, "LOGNAME=", 8); printf("%d\n", odd); return 0; }

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


    /* what one run leaves and the next one looks for */
    IS("cross-port-leave") { int pair[2], s = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a = local(7801); must(bind(s, (void *)&a, sizeof a)); must(listen(s, 5)); pair[0] = socket(AF_INET, SOCK_STREAM, 0); must(connect(pair[0], (void *)&a, sizeof a)); pair[1] = accept(s, 0, 0); shutdown(pair[1], SHUT_RDWR); close(pair[1]); char c; while (read(pair[0], &c, 1) > 0) {} close(pair[0]); puts("left"); return 0; }
    IS("cross-port-find") { int s = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a = local(7801); say(bind(s, (void *)&a, sizeof a)); return 0; }
    IS("cross-udp-leave") { int s = socket(AF_INET, SOCK_DGRAM, 0); struct sockaddr_in a = local(7802); must(bind(s, (void *)&a, sizeof a)); for (int i = 0; i < 50; i++) must(sendto(s, big, 1000, 0, (void *)&a, sizeof a)); if (orphan()) sleep(1000); puts("left"); return 0; }
    IS("cross-udp-find") { int s = socket(AF_INET, SOCK_DGRAM, 0); struct sockaddr_in a = local(7802); say(bind(s, (void *)&a, sizeof a)); return 0; }
    IS("cross-datagrams-find") { char text[4096] = "", *at; FILE *f = fopen("/proc/net/snmp", "r"); if (!f) { say(-1); return 0; } int heads = 0, in = -1; while (fgets(text, sizeof text, f)) if (!strncmp(text, "Udp: ", 5) && heads++) { at = text + 5; in = atoi(at); } printf("%d datagrams\n", in); return 0; }
    IS("cross-interface-find") { unsigned long bytes = 0, packets = 0; sscanf(line_of("/proc/net/dev", "lo:"), "%lu %lu", &bytes, &packets); printf("%lu packets\n", packets); return 0; }
    IS("cross-names-leave") {
        /* a listener with a name, at the end of a chain of sockets in flight that the kernel collects slowly */
        struct sockaddr_un a = {AF_UNIX, "\0crossing"};
        int held = socket(AF_UNIX, SOCK_STREAM, 0);
        must(bind(held, (void *)&a, 11)); listen(held, 5);
        for (int i = 0; i < 200; i++) {
            int pair[2];
            if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)) break;
            char control[CMSG_SPACE(2 * sizeof(int))] = {0}, byte = 0;
            int fds[2] = {held, i == 199 ? pair[1] : held};
            struct iovec io = {&byte, 1};
            struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
            struct cmsghdr *c = CMSG_FIRSTHDR(&m);
            c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof fds);
            memcpy(CMSG_DATA(c), fds, sizeof fds);
            if (sendmsg(pair[0], &m, 0) < 0) break;
            close(pair[0]); close(held);
            held = pair[1];
        }
        puts("left");
        return 0;
    }
    IS("cross-names-find") { char line[512]; int n = 0; FILE *f = fopen("/proc/net/unix", "r"); while (f && fgets(line, sizeof line, f)) n += strstr(line, "crossing") != 0; printf("%d names\n", n); return 0; }
    IS("cross-flight-find") { int pair[2]; must(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)); char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 0; struct iovec io = {&byte, 1}; struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control}; struct cmsghdr *c = CMSG_FIRSTHDR(&m); c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof(int)); memcpy(CMSG_DATA(c), pair, sizeof(int)); say(sendmsg(pair[0], &m, 0)); return 0; }
    IS("cross-signals-leave") { union sigval v = {0}; for (int i = 0; i < 900; i++) { sigqueue(1, SIGRTMIN + i % 20, v); kill(1, 1 + i % 30); } puts("left"); return 0; }
    IS("cross-signals-find") { int queued = -1; sscanf(line_of("/proc/self/status", "SigQ:"), " %d", &queued); printf("%d queued, %s\n", queued, strcspn(line_of("/proc/self/status", "ShdPnd:"), "123456789abcdef") == strlen(line_of("/proc/self/status", "ShdPnd:")) ? "none pending" : "pending"); return 0; }
    IS("cross-timers-find") { int n = 0; timer_t t; struct sigevent e = {.sigev_notify = SIGEV_NONE}; while (n < 900 && syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &t) == 0) n++; printf("%d timers\n", n); return 0; }
    IS("cross-schedule-leave") { struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; uint32_t least, most; } a = {56, 0, 0, 5, 0, 100000000, 0, 0, 0, 0}; syscall(SYS_sched_setattr, 1, &a, 0); a.policy = 3; syscall(SYS_sched_setattr, getppid(), &a, 0); syscall(SYS_ioprio_set, 1, 1, 3 << 13 | 7); syscall(SYS_ioprio_set, 1, getppid(), 3 << 13); puts("left"); return 0; }
    IS("cross-schedule-find") { struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; uint32_t least, most; } a = {0}; must(syscall(SYS_sched_getattr, 0, &a, sizeof a, 0)); printf("policy %u, nice %d, %s slice, io %s\n", a.policy, a.nice, a.runtime == 100000000 ? "a left" : "its own", syscall(SYS_ioprio_get, 1, 0) >> 13 == 3 ? "idle" : "usual"); return 0; }
    IS("cross-cpus-leave") { cpu_set_t one; CPU_ZERO(&one); CPU_SET(0, &one); sched_setaffinity(1, sizeof one, &one); sched_setaffinity(getppid(), sizeof one, &one); puts("left"); return 0; }
    IS("cross-cpus-find") { cpu_set_t set; sched_getaffinity(0, sizeof set, &set); puts(CPU_COUNT(&set) == sysconf(_SC_NPROCESSORS_CONF) ? "all" : "one"); return 0; }
    IS("cross-inodes-leave") { char p[64]; for (int i = 0; i < 3000; i++) { sprintf(p, "/tmp/i%d", i); close(open(p, O_CREAT | O_WRONLY, 0600)); unlink(p); } puts("left"); return 0; }
    IS("cross-inodes-find") { struct stat st; must(put("/tmp/i", "x", 1, 0600)); must(stat("/tmp/i", &st)); puts(st.st_ino < 2000 ? "low" : "high"); return 0; }
    IS("cross-locks-leave") { int fd = open("/etc/passwd", O_RDONLY); must(flock(fd, LOCK_EX)); struct flock l = {F_RDLCK, SEEK_SET, 0, 0, 0}; if (orphan()) { fcntl(fd, F_SETLK, &l); sleep(1000); } puts("left"); return 0; }
    IS("cross-locks-find") { int fd = open("/etc/passwd", O_RDONLY); say(flock(fd, LOCK_EX | LOCK_NB)); return 0; }
    IS("cross-pipes-leave") { if (orphan()) { for (int i = 0; i < 400; i++) { int p[2]; if (pipe2(p, O_NONBLOCK)) break; fcntl(p[1], F_SETPIPE_SZ, 1 << 20); } sleep(1000); } usleep(50000); puts("left"); return 0; }
    IS("cross-pipes-find") { int p[2]; must(pipe(p)); printf("%d\n", fcntl(p[1], F_GETPIPE_SZ)); return 0; }
    IS("cross-inotify-leave") { if (orphan()) { for (int i = 0; i < 128; i++) inotify_init(); sleep(1000); } usleep(50000); puts("left"); return 0; }
    IS("cross-inotify-find") { int n = 0; while (n < 100 && inotify_init() >= 0) n++; printf("%d\n", n); return 0; }
    IS("cross-cgroup-find") { printf("%d counters\n", readable_below("/sys/fs/cgroup", 0)); return 0; }
    IS("cross-process-find") { umask(umask(0)); printf("umask %03o, oom %s, slack %s, dump %s\n", umask(0), line_of("/proc/self/oom_score_adj", ""), line_of("/proc/self/timerslack_ns", ""), line_of("/proc/self/coredump_filter", "")); return 0; }
    IS("cross-cache-leave") { char p[64]; struct stat st; for (int i = 0; i < 60000; i++) { sprintf(p, "/tmp/no-%d", i); stat(p, &st); sprintf(p, "/usr/no-%d", i); stat(p, &st); } puts("left"); return 0; }
    if (!strcmp(verb, "cross-cache-find") || !strcmp(verb, "cross-memory-find")) { size_t n = 80 << 20; char *p = mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); memset(p, 1, n); puts("fits"); return 0; }
    IS("cross-memory-leave") { for (int i = 0; i < 60; i++) { int p[2]; if (pipe2(p, O_NONBLOCK)) break; fcntl(p[1], F_SETPIPE_SZ, 1 << 20); while (write(p[1], big, sizeof big) > 0) {} int s[2]; if (socketpair(AF_UNIX, SOCK_DGRAM, 0, s)) break; char control[CMSG_SPACE(3 * sizeof(int))] = {0}, byte = 0; int fds[3] = {p[0], p[1], s[1]}; struct iovec io = {&byte, 1}; struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control}; struct cmsghdr *c = CMSG_FIRSTHDR(&m); c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof fds); memcpy(CMSG_DATA(c), fds, sizeof fds); sendmsg(s[0], &m, 0); close(p[0]); close(p[1]); close(s[0]); close(s[1]); } puts("left"); return 0; }

    /* what is counted for the whole machine */
    IS("wide-aio") { void *c = 0; say(syscall(SYS_io_setup, 65536, &c)); return 0; }
    IS("wide-aio-submit") { say(syscall(SYS_io_submit, 0, 1, big)); return 0; }
    IS("wide-pty") { say(posix_openpt(O_RDWR | O_NOCTTY)); return 0; }
    IS("wide-pty-path") { say(open("/dev/pts/ptmx", O_RDWR | O_NOCTTY)); return 0; }
    IS("wide-pty-flood") { int n = 0; while (open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0) n++; printf("%d\n", n); return 0; }
    IS("wide-flow-label") { char r[32] = {0}; r[15] = 1; r[20] = 0; r[21] = 1; r[23] = 255; option_of(AF_INET6, SOCK_DGRAM, IPPROTO_IPV6, 32, r, sizeof r); return 0; }
    IS("wide-filter") { struct sock_filter code = {6, 0, 0, 0xffff}; struct sock_fprog f = {1, &code}; option_of(AF_UNIX, SOCK_DGRAM, SOL_SOCKET, SO_ATTACH_FILTER, &f, sizeof f); return 0; }
    IS("wide-filter-reuseport") { struct sock_filter code = {6, 0, 0, 0}; struct sock_fprog f = {1, &code}; option_of(AF_INET, SOCK_DGRAM, SOL_SOCKET, 51, &f, sizeof f); return 0; }
    IS("wide-filter-bpf") { option(AF_INET, SOCK_STREAM, SOL_SOCKET, 50); return 0; }
    IS("wide-filter-reuseport-bpf") { option(AF_INET, SOCK_STREAM, SOL_SOCKET, 52); return 0; }
    IS("wide-timestamp") { option(AF_INET, SOCK_DGRAM, SOL_SOCKET, SO_TIMESTAMP); return 0; }
    IS("wide-timestamping") { option(AF_UNIX, SOCK_DGRAM, SOL_SOCKET, 65); return 0; }
    IS("wide-timestamp-ioctl") { struct timeval t; say(ioctl(socket(AF_INET, SOCK_DGRAM, 0), 0x8906, &t)); return 0; }
    IS("wide-timestamp-ioctl-new") { int64_t t[2]; say(ioctl(socket(AF_INET, SOCK_DGRAM, 0), 0x80108907, t)); return 0; }
    IS("wide-ulp") { option_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, 31, "tls", 4); return 0; }
    IS("wide-md5") { char key[256] = {0}; option_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, 14, key, 216); return 0; }
    IS("wide-tcp-delay") { option(AF_INET, SOCK_STREAM, IPPROTO_TCP, 37); return 0; }
    IS("wide-min-ttl") { option(AF_INET, SOCK_STREAM, IPPROTO_IP, 21); return 0; }
    IS("wide-min-hops") { option(AF_INET6, SOCK_STREAM, IPPROTO_IPV6, 73); return 0; }
    IS("wide-pacing") { option(AF_INET, SOCK_STREAM, SOL_SOCKET, 47); return 0; }
    IS("wide-timer-fan") { say(timerfd_create(CLOCK_MONOTONIC, 0)); return 0; }
    IS("wide-signal-fan") { sigset_t all; sigfillset(&all); say(signalfd(-1, &all, 0)); return 0; }
    IS("count-headers") { static char r[65536]; struct cmsghdr *c = (void *)r; c->cmsg_len = sizeof r; c->cmsg_level = IPPROTO_IPV6; c->cmsg_type = 60; option_of(AF_INET6, SOCK_DGRAM, IPPROTO_IPV6, 6, r, sizeof r); return 0; }
    IS("count-routing-header") { char r[24] = {0, 2, 0, 1}; option_of(AF_INET6, SOCK_DGRAM, IPPROTO_IPV6, 57, r, sizeof r); return 0; }
    IS("wide-module-vlan") { char r[64] = {0}; say(ioctl(socket(AF_INET, SOCK_DGRAM, 0), 0x8982, r)); return 0; }
    IS("wide-module-bridge") { long r[4] = {0}; say(ioctl(socket(AF_INET, SOCK_DGRAM, 0), 0x8940, r)); return 0; }
    IS("wide-udp-encap") { option(AF_INET, SOCK_DGRAM, IPPROTO_UDP, 100); return 0; }
    IS("wide-udp-gro") { option(AF_INET6, SOCK_DGRAM, IPPROTO_UDP, 104); return 0; }
    IS("wide-multicast") { struct ip_mreqn r = {{inet_addr("239.1.1.1")}, {htonl(INADDR_LOOPBACK)}, 1}; option_of(AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r); return 0; }
    IS("wide-multicast-6") { struct ipv6_mreq r = {{{{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}}}, 1}; option_of(AF_INET6, SOCK_DGRAM, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &r, sizeof r); return 0; }
    IS("wide-multicast-group") { struct group_req r = {.gr_interface = 1}; struct sockaddr_in6 a = {.sin6_family = AF_INET6}; a.sin6_addr.s6_addr[0] = 0xff; a.sin6_addr.s6_addr[1] = 2; memcpy(&r.gr_group, &a, sizeof a); option_of(AF_INET6, SOCK_DGRAM, IPPROTO_IPV6, MCAST_JOIN_GROUP, &r, sizeof r); return 0; }
    IS("wide-other-level") { option(AF_INET, SOCK_STREAM, 282, 1); return 0; }
    IS("wide-usual-options") { int one = 1, s = socket(AF_INET6, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0); say(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, 4) | setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &one, 4) | setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, 4) | setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &one, 4) | setsockopt(u, SOL_SOCKET, SO_BROADCAST, &one, 4) | setsockopt(u, IPPROTO_IP, IP_TTL, &one, 4)); return 0; }
    IS("wide-seccomp") { struct sock_filter code = {6, 0, 0, 0x7fff0000}; struct sock_fprog f = {1, &code}; prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); say(syscall(SYS_seccomp, 1, 0, &f)); return 0; }
    IS("wide-seccomp-prctl") { struct sock_filter code = {6, 0, 0, 0x7fff0000}; struct sock_fprog f = {1, &code}; prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); say(prctl(PR_SET_SECCOMP, 2, &f)); return 0; }
    IS("wide-core-scheduling") { say(prctl(62, 1, 0, 0, 0)); return 0; }
    IS("wide-memory-merge") { say(prctl(67, 1, 0, 0, 0)); return 0; }
    IS("wide-mergeable") { char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); say(madvise(p, 1 << 20, MADV_MERGEABLE)); return 0; }
    IS("wide-huge-pages") { say((long)mmap(0, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0)); return 0; }
    IS("wide-huge-memfd") { say(syscall(SYS_memfd_create, "x", 4)); return 0; }
    IS("wide-page-cache") {
        /* what is in the page cache stays there */
        int fd = open("/etc/passwd", O_RDONLY);
        char c;
        must(read(fd, &c, 1));
        for (int i = 0; i < 100; i++) must(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ? -1 : 0);
        /* the kernel refuses a negative length */
        puts(posix_fadvise(fd, 0, -1, POSIX_FADV_DONTNEED) == 0 ? "no effect" : "dropped");
        return 0;
    }
    IS("wide-cachestat") { say(syscall(451, open("/etc/passwd", O_RDONLY), big, big, 0)); return 0; }
    /* the kernel refuses the last call of each */
    IS("wide-sync") { for (int i = 0; i < 20000; i++) { sync(); must(syncfs(0)); } puts(syncfs(-1) == 0 ? "no effect" : "synced"); return 0; }
    IS("wide-fsync") { const char *files[] = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/passwd"}; for (int i = 0; i < 40000; i++) { int fd = open(files[i % 4], O_RDONLY); must(fd); must(fsync(fd)); must(fdatasync(fd)); must(sync_file_range(fd, 0, 0, 7)); close(fd); } puts(fsync(-1) == 0 && fdatasync(-1) == 0 && sync_file_range(-1, 0, 0, 7) == 0 ? "no effect" : "synced"); return 0; }
    IS("wide-msync") { int fd = open("/etc/hostname", O_RDONLY); char *p = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0); if (p == MAP_FAILED) { say(-1); return 0; } for (int i = 0; i < 40000; i++) must(msync(p, 4096, MS_SYNC)); puts(msync(p + 1, 4096, MS_SYNC) == 0 ? "no effect" : "synced"); return 0; }
    IS("wide-signals") { sigset_t all; sigfillset(&all); sigprocmask(SIG_BLOCK, &all, 0); union sigval v = {0}; int n = 0; while (n < 5000 && sigqueue(getpid(), SIGRTMIN, v) == 0) n++; printf("%s\n", n < 1025 ? "bounded" : "many"); return 0; }
    IS("wide-timers") { int n = 0; timer_t t; struct sigevent e = {.sigev_notify = SIGEV_NONE}; while (n < 5000 && syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &t) == 0) n++; printf("%s\n", n < 1025 ? "bounded" : "many"); return 0; }
    IS("wide-watches") { int fd = inotify_init(), n = 0; char p[64]; must(fd); for (; n < 20000; n++) { sprintf(p, "/tmp/w%d", n); int f = open(p, O_CREAT | O_WRONLY, 0600); if (f < 0) break; close(f); if (inotify_add_watch(fd, p, IN_MODIFY) < 0) break; } printf("%s\n", n > 0 ? "own" : "none"); return 0; }
    IS("wide-epoll") { int e = epoll_create1(0), n = 0; struct epoll_event v = {EPOLLIN, {0}}; for (;;) { int fd = inotify_init1(0); if (fd < 0) break; if (epoll_ctl(e, EPOLL_CTL_ADD, fd, &v)) break; n++; } say(-1); return 0; }
    IS("wide-priority") { say(setpriority(PRIO_PROCESS, 0, -1)); return 0; }
    IS("wide-io-priority") { say(syscall(SYS_ioprio_set, 1, 0, 1 << 13)); return 0; }
    IS("wide-deadline") { struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; } a = {48, 6, 0, 0, 0, 1000000, 2000000, 2000000}; say(syscall(SYS_sched_setattr, 0, &a, 0)); return 0; }
    IS("wide-swap") { say(syscall(SYS_swapoff, "/swap")); return 0; }
    IS("wide-quota") { say(syscall(SYS_quotactl, 0, 0, 0, 0)); return 0; }
    IS("wide-collapse") { size_t huge = 2 << 20; char *p = mmap(0, 3 * huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); p += -(uintptr_t)p % huge; memset(p, 1, huge); say(madvise(p, huge, 25)); return 0; }
    /* what takes the lock of network devices, for which each new network namespace waits */
    IS("wide-device-addresses") { char r[64] = "lo"; say(ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCGIFADDR, r)); return 0; }
    IS("wide-device-list") { struct ifconf c = {.ifc_len = sizeof big, .ifc_buf = big}; say(ioctl(socket(AF_INET6, SOCK_DGRAM, 0), SIOCGIFCONF, &c)); return 0; }
    IS("wide-device-driver") { unsigned d[64] = {3}; struct ifreq r = {{"lo"}, {.ifru_data = (void *)d}}; say(ioctl(socket(AF_UNIX, SOCK_DGRAM, 0), SIOCETHTOOL, &r)); return 0; }
    IS("wide-device-membership") { struct ip_mreq r = {{inet_addr("239.1.1.1")}, {0}}; option_of(AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_DROP_MEMBERSHIP, &r, sizeof r); return 0; }
    IS("wide-device-filter") { socklen_t n = 64; say(getsockopt(socket(AF_INET, SOCK_DGRAM, 0), IPPROTO_IP, 41, big, &n)); return 0; }
    IS("wide-device-index") { char r[64] = "lo"; say(ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCGIFINDEX, r)); return 0; }
    /* reading it keeps everyone on the machine from taking file locks */
    IS("wide-file-locks") { int fd = open("/proc/locks", O_RDONLY); must(fd); puts(read(fd, big, sizeof big) > 0 ? "readable" : "empty"); return 0; }
    /* opening files of the kernel's own /sys holds up whoever adds to it, as new network namespaces do */
    IS("wide-sysfs") { struct statfs s; must(statfs("/sys/devices/system/cpu/online", &s)); int f = s.f_type == 0x01021994; must(statfs("/sys/class/net", &s)); puts(f && s.f_type == 0x01021994 && access("/sys/module", F_OK) < 0 ? "in memory" : "the kernel's"); return 0; }
    IS("wide-lease") { say(fcntl(open("/bin/sh", O_RDONLY), F_SETLEASE, F_RDLCK)); return 0; }
    IS("wide-membarrier") { for (int i = 0; i < 3; i++) syscall(SYS_membarrier, 1, 0, 0); puts("done"); return 0; }

    /* what the program is charged */
    IS("count-acl") {
        /* an access control list of 64 KiB for each file */
        size_t n = 4 + 8 * 8004;
        unsigned char *list = calloc(1, n);
        struct { uint16_t tag, perm; uint32_t id; } *e = (void *)(list + 4);
        *(uint32_t *)list = 2;
        e[0].tag = 1; e[0].perm = 7; e[0].id = -1;
        for (int i = 1; i <= 8000; i++) { e[i].tag = 2; e[i].perm = 7; e[i].id = getuid(); }
        for (int i = 8001; i < 8004; i++) { e[i].tag = i == 8001 ? 4 : i == 8002 ? 16 : 32; e[i].perm = 7; e[i].id = -1; }
        char path[64];
        for (int i = 0; i < 20000; i++) {
            sprintf(path, "/tmp/a%d", i);
            int fd = open(path, O_CREAT | O_RDWR, 0600);
            if (fd < 0 || fsetxattr(fd, "system.posix_acl_access", list, n, 0)) { say(-1); return 0; }
            close(fd);
        }
        puts("endless");
        return 0;
    }
    IS("count-acl-path") { must(put("/tmp/a", "x", 1, 0600)); say(setxattr("/tmp/a", "system.posix_acl_access", big, 4, 0)); return 0; }
    IS("count-attribute") { must(put("/tmp/a", "x", 1, 0600)); say(lsetxattr("/tmp/a", "user.x", big, 60000, 0)); return 0; }
    IS("count-policies") { int fd = memfd_create("x", 0); must(ftruncate(fd, 1l << 30)); for (long i = 0; i < 100000; i++) { char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, i * 8192); unsigned long mask = 1; if (syscall(SYS_mbind, p, 4096, i & 1 ? 2 : 3, &mask, 64, 0)) { say(-1); return 0; } munmap(p, 4096); } puts("endless"); return 0; }
    IS("count-area-names") { char *p = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); say(prctl(0x53564d41, 0, p, 4096, "name")); return 0; }
    IS("count-unix-buffers") { for (int i = 0; i < 400; i++) { int pair[2], size = 8 << 20; if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) { say(-1); return 0; } setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size); stuff(pair[0]); } puts("endless"); return 0; }
    IS("count-unaccepted") { unaccepted(40); puts("endless"); return 0; }
    IS("count-tcp-buffers") { for (int i = 0; i < 400; i++) { int pair[2]; attack_tcp_pair(pair); stuff(pair[0]); } puts("endless"); return 0; }
    IS("count-udp-buffers") { for (int i = 0; i < 400; i++) { int size = 8 << 20, in = socket(AF_INET, SOCK_DGRAM, 0), out = socket(AF_INET, SOCK_DGRAM, 0); struct sockaddr_in a = local(0); socklen_t n = sizeof a; must(in); must(out); setsockopt(in, SOL_SOCKET, SO_RCVBUF, &size, sizeof size); must(bind(in, (void *)&a, n)); must(getsockname(in, (void *)&a, &n)); for (int j = 0; j < 200; j++) sendto(out, big, 60000, MSG_DONTWAIT, (void *)&a, n); close(out); } puts("endless"); return 0; }
    IS("count-zero-shared") { int fd = open("/dev/zero", O_RDWR); char *p = mmap(0, 1 << 30, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); must((long)p == -1 ? -1 : 0); memset(p, 1, 1 << 30); puts("endless"); return 0; }
    IS("count-memfds") { for (int i = 0; i < 2000; i++) { int fd = memfd_create("x", 0); must(fd); must(ftruncate(fd, 1 << 20)); char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); must((long)p == -1 ? -1 : 0); memset(p, 1, 1 << 20); munmap(p, 1 << 20); } puts("endless"); return 0; }
    IS("count-dead-children") { for (;;) { int p = fork(); if (!p) { char *m = malloc(90 << 20); memset(m, 1, 90 << 20); usleep(100000); _exit(0); } if (!fork()) { char *m = malloc(90 << 20); memset(m, 1, 90 << 20); usleep(100000); _exit(0); } while (wait(0) > 0) {} } }
    IS("count-short-children") { signal(SIGCHLD, SIG_IGN); for (;;) { int p = fork(); if (!p) { for (volatile int i = 0; i < 3000000; i++) {} _exit(0); } usleep(200); } }
    IS("count-vfork-children") { for (;;) { int p = vfork(); if (!p) { for (volatile int i = 0; i < 3000000; i++) {} _exit(0); } while (waitpid(-1, 0, WNOHANG) > 0) {} } }
    IS("count-idle-class") { struct sched_param p = {0}; sched_setscheduler(0, SCHED_IDLE, &p); setpriority(PRIO_PROCESS, 0, 19); spin(); }
    IS("count-system-time") { for (;;) { int fd = open("/proc/self/stat", O_RDONLY); (void)!read(fd, big, 4096); close(fd); } }
    IS("count-faults") { for (;;) { char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); for (int i = 0; i < 1 << 20; i += 4096) p[i] = 1; munmap(p, 1 << 20); } }
    IS("count-loopback") { int in = socket(AF_INET, SOCK_DGRAM, 0); struct sockaddr_in a = local(0); socklen_t n = sizeof a; must(bind(in, (void *)&a, n)); must(getsockname(in, (void *)&a, &n)); for (int i = 0; i < 3; i++) fork(); int out = socket(AF_INET, SOCK_DGRAM, 0); for (;;) sendto(out, big, 1, MSG_DONTWAIT, (void *)&a, n); }
    IS("count-loopback-tcp") { int pair[2]; attack_tcp_pair(pair); if (!fork()) for (;;) (void)!read(pair[1], big, sizeof big); for (;;) (void)!write(pair[0], big, 1); }
    IS("count-cpu-signal") { signal(SIGXCPU, SIG_IGN); struct rlimit r; getrlimit(RLIMIT_CPU, &r); r.rlim_cur = r.rlim_max; setrlimit(RLIMIT_CPU, &r); spin(); }
    IS("count-oom-score") { put("/proc/self/oom_score_adj", "0", 1, 0); fill("/dev/shm"); fill("/tmp"); for (;;) { char *p = malloc(1 << 20); if (p) memset(p, 1, 1 << 20); } }
    IS("count-oom-tmpfs") { int fd = open("/proc/self/oom_score_adj", O_WRONLY); if (fd >= 0) (void)!write(fd, "0", 1); fill("/tmp"); fill("/box"); puts("done"); return 0; }
    IS("count-threads") { pthread_t t; int n = 0; while (n < 10000 && pthread_create(&t, 0, idle, 0) == 0) n++; printf("%s\n", n < 64 ? "bounded" : "many"); exit(0); }
    IS("count-splice") { int p[2]; must(pipe(p)); struct iovec io = {big, 4096}; say(vmsplice(p[1], &io, 1, 0)); return 0; }

    fprintf(stderr, "no such verb: %s\n", verb);
    return 99;
}
