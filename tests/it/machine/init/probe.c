// The program that the init's tests run inside a sandbox: static, one verb per behaviour.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <sys/un.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void put(const char *path, const char *text, int mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) { perror(path); exit(3); }
    close(fd);
}
static void copy(int from) {
    static char b[65536];
    ssize_t n;
    while ((n = read(from, b, sizeof b)) > 0)
        for (ssize_t at = 0, w; at < n; at += w)
            if ((w = write(1, b + at, n - at)) < 0) exit(4);
}
// CPU time of this process in nanoseconds
static long cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}
static void burn(long ms) {
    for (long from = cpu_ns(); cpu_ns() - from < ms * 1000000;);
}
int main(int argc, char **argv) {
    long started = cpu_ns();
    const char *verb = argc > 1 ? argv[1] : "";
    const char *arg = argc > 2 ? argv[2] : "0";
    // executes a program with every signal ignored, the C library's own included, as an engine may
    // start the init
    if (!strcmp(verb, "ignoring")) {
        unsigned long ignore[4] = {(unsigned long)SIG_IGN};
        for (int n = 1; n <= 64; n++) syscall(SYS_rt_sigaction, n, ignore, 0, 8);
        execv(arg, argv + 2);
        return errno;
    }
    if (!strcmp(verb, "true")) return 0;
    // prints its pid, and does something that the next program in the same cell could notice
    if (!strcmp(verb, "trace")) {
        printf("%d", getpid());
        fflush(stdout);
        if (!strcmp(arg, "file")) put("/tmp/f", "x", 0600);
        if (!strcmp(arg, "file and none")) { put("/box/f", "x", 0600); unlink("/box/f"); }
        if (!strcmp(arg, "shared memory")) put("/dev/shm/f", "x", 0600);
        if (!strcmp(arg, "inner folder")) put("/box/in/f", "x", 0600);
        if (!strcmp(arg, "mode")) chmod("/tmp", 0700);
        if (!strcmp(arg, "time")) { struct timespec t[2] = {{1, 0}, {1, 0}}; utimensat(AT_FDCWD, "/tmp", t, 0); }
        if (!strcmp(arg, "priority")) setpriority(PRIO_PROCESS, 1, 5);
        if (!strcmp(arg, "cpus")) { cpu_set_t one; CPU_ZERO(&one); CPU_SET(0, &one); sched_setaffinity(1, sizeof one, &one); }
        if (!strcmp(arg, "policy")) { struct sched_param p = {0}; sched_setscheduler(1, SCHED_BATCH, &p); }
        if (!strcmp(arg, "survivor") && !fork()) { close(1); close(2); sleep(60); }
        return access("/tmp/f", F_OK) && access("/box/f", F_OK) && access("/dev/shm/f", F_OK) ? 0 : 9;
    }
    if (!strcmp(verb, "echo")) { copy(0); return 0; }
    if (!strcmp(verb, "exit")) return atoi(arg);
    if (!strcmp(verb, "signal")) { raise(atoi(arg)); pause(); }
    if (!strcmp(verb, "spin")) for (volatile long i = 0;; i++) {}
    // prints the CPU time that it used
    if (!strcmp(verb, "burn")) { burn(atol(arg)); printf("%ld\n", cpu_ns() - started); return 0; }
    // a runtime: loads, which takes CPU time, waits for its run, and prints the CPU time that the
    // run used
    if (!strcmp(verb, "runtime")) {
        char message[256];
        struct rlimit files;
        puts("noise");
        fflush(stdout);
        burn(atol(arg));
        if (write(1022, "ready", 5) != 5) return 5;
        ssize_t n, all = 0;
        while ((n = read(1023, message + all, sizeof message - all)) > 0) all += n;
        started = cpu_ns();
        close(1022);
        close(1023);
        getrlimit(RLIMIT_NOFILE, &files);
        for (ssize_t at = 0; at < all; at++) putchar(message[at] ? message[at] : '|');
        printf(" %ld %ld\n", (long)files.rlim_cur, (long)files.rlim_max);
        burn(memmem(message, all, "long", 4) ? 2000 : 200);
        printf("%ld\n", cpu_ns() - started);
        return 0;
    }
    if (!strcmp(verb, "spin-children")) { for (int i = 0; i < 3; i++) fork(); for (volatile long i = 0;; i++) {} }
    if (!strcmp(verb, "sleep")) { sleep(atoi(arg)); return 0; }
    if (!strcmp(verb, "write-wide")) fcntl(1, F_SETPIPE_SZ, 1 << 20);
    if (!strncmp(verb, "write", 5)) {
        static char b[65536];
        memset(b, 'x', sizeof b);
        for (long left = atol(arg); left > 0;) {
            ssize_t n = write(1, b, left < (long)sizeof b ? left : (long)sizeof b);
            if (n < 0) return 4;
            left -= n;
        }
        return 0;
    }
    if (!strcmp(verb, "memory")) {
        size_t n = (size_t)atol(arg) << 20;
        char *p = malloc(n);
        for (size_t i = 0; i < n; i += 4096) p[i] = 1;
        puts("touched");
        return 0;
    }
    if (!strcmp(verb, "bomb")) for (;;) { if (fork() < 0) continue; }
    if (!strcmp(verb, "daemons")) {
        for (int i = 0; i < 3; i++)
            if (fork() == 0) {
                signal(SIGTERM, SIG_IGN);
                setsid();
                if (fork()) _exit(0);
                for (;;) pause();
            }
        for (int i = 0; i < 3; i++) wait(0);
        return 0;
    }
    if (!strcmp(verb, "mute")) { close(0); close(1); close(2); sleep(60); }
    if (!strcmp(verb, "deaf")) { close(0); sleep(6); return 0; }
    if (!strcmp(verb, "cat")) { int fd = open(arg, O_RDONLY); if (fd < 0) return errno; copy(fd); return 0; }
    if (!strcmp(verb, "create")) { put(arg, argv[3], 0600); return 0; }
    if (!strcmp(verb, "bury")) {
        static char big[1 << 20];
        mkdir("/box/sub", 0700);
        put("/box/sub/x", "kept", 0000);
        int fd = open("/box/sub/big", O_WRONLY | O_CREAT, 0500);
        for (int i = 0; i < 40; i++) if (write(fd, big, sizeof big) != sizeof big) return 8;
        return 0;
    }
    if (!strcmp(verb, "link")) return symlink(argv[3], arg) ? errno : 0;
    if (!strcmp(verb, "limits")) {
        int all[] = {RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_CORE};
        struct rlimit r;
        for (int i = 0; i < 5; i++) { getrlimit(all[i], &r); printf("%lu/%lu ", r.rlim_cur, r.rlim_max); }
        for (int fd = 0; fd < 100; fd++) if (fcntl(fd, F_GETFD) >= 0) printf("fd%d ", fd);
        printf("nonblock=%d sid=%d\n", fcntl(0, F_GETFL) & O_NONBLOCK ? 1 : 0, getsid(0) == getpid());
        return 0;
    }
    if (!strcmp(verb, "tamper")) {
        char to[300];
        snprintf(to, sizeof to, "%s.moved", arg);
        printf("write %d ", open(arg, O_WRONLY) < 0 ? errno : 0);
        printf("truncate %d ", truncate(arg, 0) ? errno : 0);
        printf("chmod %d ", chmod(arg, 0777) ? errno : 0);
        printf("rename %d ", rename(arg, to) ? errno : 0);
        printf("unlink %d\n", unlink(arg) ? errno : 0);
        return 0;
    }
    if (!strcmp(verb, "litter")) {
        mkdir("/box/d", 0700);
        put("/box/d/f", "x", 0);
        put("/tmp/f", "x", 0);
        if (chdir("/box/d")) return 5;
        for (int i = 0; i < 2000; i++) {
            if (mkdir("deep", 0700)) { perror("mkdir"); return 6; }
            put("side", "x", 0600);
            if (chdir("deep")) return 7;
        }
        symlink("/proc/1/root", "/box/d/l");
        chmod("/box/d", 0);
        return 0;
    }
    if (!strcmp(verb, "rename")) { printf("%d", rename(arg, argv[3]) ? errno : 0); return 0; }
    if (!strcmp(verb, "leave")) {
        mkdir("out", 0700);
        if (chdir("out")) return 5;
        put("plain", "plain", 0644);
        put("locked", "locked", 0);
        link("plain", "hard");
        symlink("/etc/passwd", "link");
        mkfifo("fifo", 0600);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        struct sockaddr_un name = {AF_UNIX, "socket"};
        bind(fd, (void *)&name, sizeof name);
        fd = open("giant", O_CREAT | O_WRONLY, 0600);
        if (ftruncate(fd, 1L << 39)) return 6;
        put("new\nline", "x", 0600);
        put("\xff", "x", 0600);
        mkdir("closed", 0700);
        put("closed/inner", "inner", 0600);
        chmod("closed", 0);
        chmod("/box", 0);
        return 0;
    }
    if (!strcmp(verb, "attack")) {
        struct rlimit one = {1, 1};
        printf("kill %d ", kill(1, SIGKILL) ? errno : 0);
        printf("prlimit %d ", prlimit(1, RLIMIT_CPU, &one, 0) ? errno : 0);
        printf("nice %d ", setpriority(PRIO_PROCESS, 1, 19) ? errno : 0);
        printf("fd %d ", open("/proc/1/fd/1", O_WRONLY) < 0 ? errno : 0);
        printf("mem %d ", open("/proc/1/mem", O_RDWR) < 0 ? errno : 0);
        printf("setuid %d\n", setuid(0) ? errno : 0);
        return 0;
    }
    fprintf(stderr, "no such verb: %s\n", verb);
    return 99;
}
