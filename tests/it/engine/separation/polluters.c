// Programs that leave as much as they can to the next run in their sandbox, by the number on stdin; -1 is a program
// that needs most of its memory. Each prints ok.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)
static char block[MIB];

static int give_all(int to, const int *fds, int count) {
    char byte = 0, control[CMSG_SPACE(100 * sizeof *fds)] = {0};
    size_t size = count * sizeof *fds;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(size)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(header), fds, size);
    return sendmsg(to, &message, MSG_DONTWAIT);
}
static int give(int to, int fd) { return give_all(to, &fd, 1); }
static int full_pipe(void) {
    int ends[2];
    if (pipe2(ends, O_NONBLOCK)) return -1;
    fcntl(ends[1], F_SETPIPE_SZ, MIB);
    while (write(ends[1], block, sizeof block) > 0);
    close(ends[1]);
    return ends[0];
}
static int named(const char *name) {
    struct sockaddr_un address = {AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strcpy(address.sun_path + 1, name);
    bind(fd, (void *)&address, sizeof(sa_family_t) + 1 + strlen(name));
    listen(fd, 1);
    return fd;
}
// sockets in sockets, the innermost one with `last` in it, in a cycle that only the kernel's collector ends
static void chain(int depth, int last) {
    int pair[2], inner = last;
    for (int i = 0; i < depth; i++) {
        if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)) break;
        give(pair[0], inner);
        close(inner);
        close(pair[0]);
        inner = pair[1];
    }
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    give(pair[0], inner);
    give(pair[0], pair[0]);
    give(pair[0], pair[1]);
}
static void missing(const char *folder, int count) {
    char path[128];
    struct stat s;
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/a name that does not exist and is not short either %d", folder, i);
        stat(path, &s);
    }
}
static void tcp(int keep) {
    struct sockaddr_in name = {AF_INET, htons(5000), {htonl(INADDR_LOOPBACK)}};
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (void *)&name, sizeof name)) { perror("bind"); exit(1); }
    listen(server, 100);
    for (int i = 0; i < 40; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(client, (void *)&name, sizeof name);
        int end = accept(server, 0, 0);
        fcntl(client, F_SETFL, O_NONBLOCK);
        for (int n = 0; keep && n < 20 && write(client, block, 65536) > 0; n++);
        close(end);
        if (!keep) close(client);
    }
}
static void datagrams(int family) {
    for (int i = 0; i < 60; i++) {
        int pair[2];
        if (family == AF_UNIX) {
            socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair);
        } else {
            struct sockaddr_in name = {AF_INET, htons(6000 + i), {htonl(INADDR_LOOPBACK)}};
            pair[0] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
            pair[1] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
            bind(pair[1], (void *)&name, sizeof name);
            connect(pair[0], (void *)&name, sizeof name);
        }
        for (int n = 0; n < 300 && write(pair[0], block, 4096) > 0; n++);
    }
}
static void files(const char *folder, int count, int bytes) {
    char path[128];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/file %d", folder, i);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        if (fd < 0) return;
        for (int left = bytes; left > 0; left -= MIB)
            if (write(fd, block, left < MIB ? left : MIB) < 0) break;
        close(fd);
    }
}
static void walk(const char *folder, int depth) {
    DIR *dir = opendir(folder);
    char path[4096];
    struct stat s;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (!lstat(path, &s) && S_ISDIR(s.st_mode) && depth < 12 && strncmp(path, "//proc", 6) && strncmp(path, "//sys", 5))
            walk(path, depth + 1);
    }
    if (dir) closedir(dir);
}
static void *idle(void *_) { for (;;) pause(); }

int main(void) {
    int kind = -1;
    if (scanf("%d", &kind) != 1) return 1;
    memset(block, 'x', sizeof block);
    struct rlimit all;
    getrlimit(RLIMIT_NOFILE, &all);
    switch (kind) {
    case -1: {
        size_t size = 235L * MIB;
        char *memory = malloc(size);
        for (size_t at = 0; at < size; at += 4096) memory[at] = 1;
        // what an earlier run could have left to be seen
        int server = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in name = {AF_INET, htons(5000), {htonl(INADDR_LOOPBACK)}};
        if (bind(server, (void *)&name, sizeof name)) { perror("bind"); return 1; }
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) || give(pair[0], server) < 0) { perror("give"); return 1; }
        if (named("a name") < 0) return 1;
        break;
    }
    case 0: {
        int pair[2], pipes[60];
        socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
        for (int i = 0; i < 60; i++) pipes[i] = full_pipe();
        if (give_all(pair[0], pipes, 60) < 0) { perror("give"); return 1; }
        for (int i = 0; i < 60; i++) close(pipes[i]);
        close(pair[0]);
        chain(130, pair[1]);
        break;
    }
    case 1: chain(200, named("a name")); break;
    case 2: missing("", 120000); break;
    case 3: missing("/proc", 60000); break;
    case 4: missing("/usr/lib", 120000); break;
    case 5: tcp(0); break;
    case 6: tcp(1); break;
    case 7: datagrams(AF_INET); break;
    case 8: datagrams(AF_UNIX); break;
    case 9: files("/tmp", 30000, 0); break;
    case 10: for (int i = 0; i < 3000 && !mkdir("d", 0700) && !chdir("d"); i++); break;
    case 11: files("/box", 100, MIB); break;
    case 12: files("/dev/shm", 15, MIB); break;
    case 13: for (int i = 0; i < 40; i++) if (!fork()) { setsid(); close(1); close(2); sleep(60); } break;
    case 14: for (int i = 0; i < 40; i++) { pthread_t t; pthread_create(&t, 0, idle, 0); } break;
    case 15: for (int i = 0; i < 1000; i++) sigqueue(1, SIGRTMIN + i % 20, (union sigval){0}); break;
    case 16: {
        unsigned attr[14] = {56, SCHED_BATCH, 0, 0, 19, 0, 100000};
        syscall(SYS_sched_setattr, 1, attr, 0);
        setpriority(PRIO_PROCESS, 1, 19);
        break;
    }
    case 17: for (int i = 0; i < 1000; i++) { timer_t t; timer_create(CLOCK_MONOTONIC, 0, &t); } break;
    case 18: for (int i = 0; i < 60; i++) full_pipe(); break;
    case 19: { int fd = inotify_init(); files("/tmp", 500, 0); for (int i = 0; i < 500; i++) { char p[64]; sprintf(p, "/tmp/file %d", i); inotify_add_watch(fd, p, IN_ALL_EVENTS); } break; }
    case 20: for (int i = 0; i < 40; i++) { int e = epoll_create1(0), v = eventfd(0, 0); struct epoll_event event = {EPOLLIN}; epoll_ctl(e, EPOLL_CTL_ADD, v, &event); } break;
    case 21: { int fd = memfd_create("m", 0); for (int i = 0; i < 90; i++) write(fd, block, MIB); chain(100, fd); break; }
    case 22: puts("ok"); fflush(stdout); if (!fork()) { char *m = malloc(100L * MIB); memset(m, 1, 100L * MIB); kill(getpid(), SIGKILL); } wait(0); return 0;
    case 23: files("/tmp", 100, 1); for (int i = 0; i < 100; i++) { char p[64]; sprintf(p, "/tmp/file %d", i); flock(open(p, O_RDWR), LOCK_EX); } break;
    case 24: { char *m = mmap(0, 40L << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); if (m != MAP_FAILED) for (size_t at = 0; at < 40L << 30; at += 2L << 20) if (((volatile char *)m)[at]) return 1; break; }
    case 25: for (int i = 0; i < 50000; i++) if (mmap(0, 4096, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) break; break;
    case 26: for (int i = 0; i < 500; i++) { char p[64]; sprintf(p, "/object %d", i); int fd = shm_open(p, O_CREAT | O_RDWR, 0600); if (fd < 0 || ftruncate(fd, 4096)) break; close(fd); } break;
    case 27: for (int i = 0; i < 40; i++) { char p[64]; sprintf(p, "name %d", i); named(p); } break;
    case 28: walk("/", 0); break;
    case 29: files("/tmp", 100, 1); for (int i = 0; i < 100; i++) { char p[64]; sprintf(p, "/tmp/file %d", i); setxattr(p, "user.x", block, 60000, 0); symlink(p, p + 5); } break;
    default: return 1;
    }
    puts("ok");
    fflush(stdout);
    _exit(0);
}
