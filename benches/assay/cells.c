// PID 1 of the benchmark's container. In user, PID and mount namespaces of its own it makes cells, either in a loop of
// plain system calls or by having assay-init run a program that does nothing, and prints the CPU time that this took:
// the machine's and the container's, in nanoseconds.
//
//   cells loop COUNT            the namespaces and mounts of a cell, a fork, an exec, the end
//   cells once COUNT            the same; the mounts that are the same in all cells are made once, as assay-init does
//   cells init COUNT DONE       assay-init; DONE is the kind of the frame that ends a run
//   cells true                  nothing
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what) { perror(what); _exit(1); }
static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) fail(path);
    close(fd);
}
static int fork_into(int flags) {
    int pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid < 0) fail("clone");
    return pid;
}
static void map(int id) {
    char text[64];
    snprintf(text, sizeof text, "%d %d 1", id, id);
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", text);
    put("/proc/self/gid_map", text);
}
static void mask(const char *path, const char *empty) {
    if (mount(empty, path, 0, MS_BIND, 0) == 0 || errno == ENOENT) return;
    if (mount("/dev/null", path, 0, MS_BIND, 0)) fail(path);
}
static void tmpfs(const char *path, const char *options) {
    if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options) && errno != ENOENT) fail(path);
}

// what is the same in every cell
static void make_base(void) {
    mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
    mount("tmpfs", "/dev/mqueue", "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "size=4k,nr_inodes=1");
    mask("/sys/firmware", "/dev/mqueue");
    mask("/sys/devices/virtual/powercap", "/dev/mqueue");
    mask("/sys/fs/cgroup", "/dev/mqueue");
    for (const char **file = (const char *[]){"/etc/hostname", "/etc/hosts", "/etc/resolv.conf", 0}; *file; file++) {
        mount("/dev/null", *file, 0, MS_BIND, 0);
        mount(0, *file, 0, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, 0);
    }
}

// a cell, from inside
static void make_cell(int id, int once) {
    const char *masks[] = {"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                           "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                           "/proc/scsi"};
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    map(id);
    if (!once) make_base();
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ioctl(udp, SIOCSIFFLAGS, &lo)) fail("loopback");
    close(udp);
    put("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    tmpfs("/tmp", "mode=1777,size=64m,nr_inodes=32768");
    tmpfs("/box", "mode=755,size=192m,nr_inodes=32768");
    tmpfs("/dev/shm", "mode=1777,size=16m,nr_inodes=32768");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, 0)) fail("proc");
    for (int i = 0; i < 10; i++) mask(masks[i], "/dev/mqueue");
}

static void loop(int count, int id, int once) {
    int all = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP;
    if (once) make_base();
    while (count--) {
        int status, cell = fork_into(all);
        if (cell == 0) {
            make_cell(id, once);
            int program = fork();
            if (program == 0) {
                execl("/cells", "/cells", "true", (char *)0);
                fail("exec");
            }
            if (waitpid(program, &status, 0) != program || status) fail("program");
            _exit(0);
        }
        if (waitpid(cell, &status, 0) != cell || status) { fprintf(stderr, "a cell failed\n"); _exit(1); }
    }
}

static int to, from;
static void send_file(const char *path) {
    static char bytes[65536];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (fd < 0 || n < 0 || write(to, bytes, n) != n) fail(path);
    close(fd);
}
static void take(void *bytes, size_t n) {
    for (ssize_t got; n > 0; n -= got, bytes = (char *)bytes + got)
        if ((got = read(from, bytes, n)) <= 0) { fprintf(stderr, "the init has ended\n"); _exit(1); }
}
static int frame(void) {
    static unsigned char body[1 << 18];
    uint32_t length;
    take(&length, 4);
    take(body, length);
    return body[0];
}
static void with_init(int count, int done) {
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) fail("pipe");
    if (fork_into(CLONE_NEWPID | CLONE_NEWNS) == 0) {
        if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)) fail("proc");
        dup2(in[0], 0);
        dup2(out[1], 1);
        execl("/init", "/init", (char *)0);
        fail("init");
    }
    to = in[1];
    from = out[0];
    close(in[0]);
    close(out[1]);
    send_file("/hello");
    frame();
    while (count--) {
        send_file("/run");
        while (frame() != done);
    }
    close(to);
    wait(0);
}

// nanoseconds of CPU time of the machine; a tick is 10 ms
static long long machine_ns(void) {
    long long user, nice, system, idle, wait, irq, softirq;
    FILE *stat = fopen("/proc/stat", "r");
    if (fscanf(stat, "cpu %lld %lld %lld %lld %lld %lld %lld", &user, &nice, &system, &idle, &wait, &irq, &softirq) != 7)
        fail("/proc/stat");
    fclose(stat);
    return (user + nice + system + irq + softirq) * 10000000;
}
static long long container_ns(void) {
    long long value = 0;
    FILE *usage = fopen("/sys/fs/cgroup/cpuacct/cpuacct.usage", "r");
    if (!usage) usage = fopen("/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "r");
    if (usage) {
        if (fscanf(usage, "%lld", &value) != 1) fail("cpuacct.usage");
    } else {
        usage = fopen("/sys/fs/cgroup/cpu.stat", "r");
        if (!usage || fscanf(usage, "usage_usec %lld", &value) != 1) fail("cpu.stat");
        value *= 1000;
    }
    fclose(usage);
    return value;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "true")) return 0;
    int count = atoi(argv[2]), id = getuid(), status;
    long long machine = machine_ns(), container = container_ns();
    int child = fork_into(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS);
    if (child == 0) {
        map(id);
        if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)) fail("proc");
        if (argc > 3) with_init(count, atoi(argv[3]));
        else loop(count, id, !strcmp(argv[1], "once"));
        return 0;
    }
    if (waitpid(child, &status, 0) != child || status) return 1;
    // the kernel ends network namespaces later
    sleep(2);
    printf("%lld %lld\n", machine_ns() - machine, container_ns() - container);
    return 0;
}
