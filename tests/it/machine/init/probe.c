// The program that the init's tests run inside a sandbox: static, one verb per behaviour.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
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
static void send_fd(int to, int fd) {
    char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(to, &message, 0) < 0) { perror("send"); exit(3); }
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
    // a program that does nothing in namespaces and mounts like those of a cell
    if (!strcmp(verb, "namespaces")) {
        int status, flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP;
        if (syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0) == 0) {
            struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
            if (ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &lo)) { perror("loopback"); _exit(1); }
            mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
            for (const char **on = (const char *[]){"/tmp", "/srv", "/dev/shm", 0}; *on; on++)
                if (mount("tmpfs", *on, "tmpfs", 0, 0)) { perror(*on); _exit(1); }
            if (mount("proc", "/proc", "proc", MS_RDONLY, 0)) { perror("/proc"); _exit(1); }
            for (const char **on = (const char *[]){"/proc/kcore", "/proc/keys", "/proc/timer_list", 0}; *on; on++)
                mount("/dev/null", *on, 0, MS_BIND, 0);
            if (fork() == 0) { execl("/proc/self/exe", "probe", "true", (char *)0); _exit(1); }
            wait(&status);
            _exit(status ? 1 : 0);
        }
        wait(&status);
        return status ? 1 : 0;
    }
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
        if (!strcmp(arg, "device time")) { struct timespec t[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}}; utimensat(AT_FDCWD, "/dev/null", t, 0); }
        if (!strcmp(arg, "priority")) setpriority(PRIO_PROCESS, 1, 5);
        if (!strcmp(arg, "cpus")) { cpu_set_t one; CPU_ZERO(&one); CPU_SET(0, &one); sched_setaffinity(1, sizeof one, &one); }
        if (!strcmp(arg, "policy")) { struct sched_param p = {0}; sched_setscheduler(1, SCHED_BATCH, &p); }
        if (!strcmp(arg, "slice")) {
            unsigned attr[14] = {56, SCHED_OTHER, 0, 0, 3, 0, 100000};
            syscall(SYS_sched_setattr, 1, attr, 0);
        }
        if (!strcmp(arg, "signal"))
            for (int n = 0; n < 100; n++) sigqueue(1, SIGRTMIN + n % 20, (union sigval){.sival_int = n});
        if (!strcmp(arg, "unnamed file")) open("/box", O_TMPFILE | O_RDWR, 0600);
        if (!strcmp(arg, "process") && !fork()) _exit(0);
        if (!strcmp(arg, "abstract socket")) {
            // a cycle of sockets in sockets, with a name in it
            int pair[2], named = socket(AF_UNIX, SOCK_STREAM, 0);
            struct sockaddr_un name = {AF_UNIX, "\0a message"};
            bind(named, (void *)&name, sizeof name);
            listen(named, 1);
            socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
            send_fd(pair[0], named);
            send_fd(pair[0], pair[0]);
            send_fd(pair[0], pair[1]);
        }
        if (!strcmp(arg, "chain")) {
            int pair[2], inner = socket(AF_UNIX, SOCK_STREAM, 0);
            for (int i = 0; i < 200; i++) {
                socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
                send_fd(pair[0], inner);
                close(inner);
                close(pair[0]);
                inner = pair[1];
            }
            socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
            send_fd(pair[0], inner);
            send_fd(pair[0], pair[0]);
            send_fd(pair[0], pair[1]);
        }
        if (!strcmp(arg, "survivor") && !fork()) { close(1); close(2); sleep(60); }
        return access("/tmp/f", F_OK) && access("/box/f", F_OK) && access("/dev/shm/f", F_OK) ? 0 : 9;
    }
    // prints what an earlier program in the same cell, or its network, could have changed
    if (!strcmp(verb, "state")) {
        const char *files[] = {"/proc/net/dev", "/proc/net/sockstat", "/proc/net/unix", "/proc/net/snmp", "/proc/1/stat"};
        char text[8192], line[256];
        unsigned attr[14] = {0};
        struct stat s;
        printf("pid %d\n", getpid());
        for (int i = 0; i < 4; i++) {
            FILE *file = fopen(files[i], "r");
            while (fgets(text, sizeof text, file))
                // the memory of sockets is that of the machine
                if (!strstr(text, " mem ")) fputs(text, stdout);
            fclose(file);
        }
        syscall(SYS_sched_getattr, 1, attr, sizeof attr, 0);
        for (int i = 0; i < 14; i++) printf("%u ", attr[i]);
        for (const char **folder = (const char *[]){"/box", "/tmp", "/dev/shm", 0}; *folder; folder++) {
            int fd = open(*folder, O_TMPFILE | O_RDWR, 0600);
            fstat(fd, &s);
            printf("%s %lu\n", *folder, s.st_ino);
            stat(*folder, &s);
            printf("%o %lu\n", s.st_mode, s.st_nlink);
        }
        stat("/dev/null", &s);
        printf("/dev/null %ld.%09ld\n", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
        FILE *status = fopen("/proc/1/status", "r");
        while (fgets(line, sizeof line, status))
            if (!strncmp(line, "Sig", 3) || !strncmp(line, "ShdPnd", 6)) fputs(line, stdout);
        fclose(status);
        return 0;
    }
    // a TCP server that closes first, so that its port stays in TIME_WAIT
    if (!strcmp(verb, "serve")) {
        struct sockaddr_in6 six = {AF_INET6, htons(80), 0, IN6ADDR_LOOPBACK_INIT};
        struct sockaddr_in four = {AF_INET, htons(80), {htonl(INADDR_LOOPBACK)}};
        int is_six = *arg == '6';
        struct sockaddr *name = is_six ? (void *)&six : (void *)&four;
        socklen_t size = is_six ? sizeof six : sizeof four;
        int server = socket(name->sa_family, SOCK_STREAM, 0), client = socket(name->sa_family, SOCK_STREAM, 0);
        if (bind(server, name, size)) { perror("bind"); return 1; }
        if (listen(server, 1)) { perror("listen"); return 1; }
        if (connect(client, name, size)) { perror("connect"); return 1; }
        int end = accept(server, 0, 0);
        char byte;
        close(end);
        if (read(client, &byte, 1) != 0) { perror("read"); return 1; }
        close(client);
        puts("served");
        return 0;
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
    if (!strcmp(verb, "protect")) {
        int fd = open("/proc/self/oom_score_adj", O_WRONLY), failed = fd < 0 ? errno : write(fd, "0", 1) < 0 ? errno : 0;
        if (!strcmp(arg, "fill")) {
            static char big[1 << 20];
            int file = open("/box/big", O_WRONLY | O_CREAT, 0600), other = open("/tmp/big", O_WRONLY | O_CREAT, 0600);
            signal(SIGXFSZ, SIG_IGN);
            for (;;) {
                if (write(file, big, sizeof big) <= 0) file = open("/box", O_TMPFILE | O_WRONLY, 0600);
                if (write(other, big, sizeof big) <= 0) other = open("/tmp", O_TMPFILE | O_WRONLY, 0600);
            }
        }
        printf("%d ", failed);
        fflush(stdout);
        copy(open(arg, O_RDONLY));
        return 0;
    }
    if (!strcmp(verb, "fork")) {
        int made = 0, failed = 0;
        for (int i = atoi(arg); i > 0; i--) {
            pid_t child = fork();
            if (child == 0) { pause(); _exit(0); }
            if (child > 0) made++; else failed++;
        }
        printf("%d %d\n", made, failed);
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
