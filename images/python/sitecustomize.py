# A prewarmed Python waits here for its program, with the profile's modules loaded (docs/SPEED.md). This runs before the
# interpreter looks at its script, so the interpreter itself then runs the script, as in a cold start. Without the pipes
# or the socket this file does nothing.
#
# With pipes, this process becomes the program. With a socket it is a template: it forks each program into the namespaces
# whose descriptors come with the request, and reads nothing else.


def _wait():
    import posix
    import sys

    order = 1023
    try:
        kind = posix.fstat(order).st_mode & 0o170000
    except OSError:
        return
    if kind not in (0o010000, 0o140000):
        return
    forks = kind == 0o140000

    def read(fd, data, end=None):
        while end is None or end not in data:
            piece = posix.read(fd, 65536)
            if not piece:
                break
            data += piece
        return data

    # on a pipe the order may already follow the line; on a socket this reads one message
    names, _, begun = read(order, b"", b"\n").partition(b"\n")
    names = names.decode().split("\0")
    filter = bytes.fromhex(names.pop(0)) if forks else b""
    tools = _tools(order, filter) if forks else None
    before = set(sys.modules)
    failed = ""
    try:
        for name in names:
            if name:
                __import__(name)
        # `site` searches for this next; searching now fills the caches of the folders on sys.path
        name = "usercustomize"
        if sys.modules["site"].ENABLE_USER_SITE:
            any(finder.find_spec(name, None) for finder in sys.meta_path)
    except BaseException as error:
        failed = f"load {name}: {type(error).__name__}: {error}"[:1000]
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    # keep everything that was loaded until the end: freeing a library at exit costs more than most programs
    import gc

    keep = [value for name in set(sys.modules) - before for value in vars(sys.modules[name]).values()]
    keep.append(keep)
    # the main module must not be frozen: the collector does not track an empty dictionary
    main = vars(sys.modules["__main__"])
    rest = dict(main)
    main.clear()
    gc.collect()
    gc.freeze()
    main.update(rest)
    if "gc" not in before:
        del sys.modules["gc"]
    limit = None
    if forks:
        order, limit = _serve(tools, failed)
    elif failed:
        posix.write(1022, failed.encode())
        posix._exit(1)
    else:
        posix.write(1022, b"ready")
        posix.close(1022)

    fields = read(order, begun).split(b"\0")
    posix.close(order)
    if limit is not None:
        limit([int(word) for word in fields.pop(0).split()])
    if fields[0] != b"go":
        posix._exit(1)
    args = [word.decode("utf-8", "surrogateescape") for word in fields[1:-1]]
    sys.argv += args
    sys.orig_argv += args
    if loaded:
        # a file of the program has the name of a loaded module, and should have been imported instead: start again
        for name in posix.listdir("."):
            if name.partition(".")[0] in loaded:
                posix.execv(sys.executable, sys.orig_argv)


def _tools(order, filter):
    """The functions that a template needs; the modules they use are removed from sys.modules."""
    import posix
    import sys

    before, folders = set(sys.modules), set(sys.path_importer_cache)
    import _socket
    import ctypes
    import time

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    call = ctypes.CDLL(None, use_errno=True)
    program = Program(len(filter) // 8, filter)
    none = ctypes.create_string_buffer(24)
    # capset(2): version 3, this thread
    header = ctypes.create_string_buffer((0x20080522).to_bytes(4, sys.byteorder) + bytes(4), 8)

    def must(result):
        if result != 0:
            raise OSError(ctypes.get_errno(), "call")

    def enter(spaces):
        for space in spaces:
            must(call.setns(space, 0))

    def confine():
        number = ctypes.c_ulong
        must(call.prctl(38, number(1), number(0), number(0), number(0)))  # no_new_privs
        must(call.prctl(22, number(2), ctypes.byref(program)))  # the filter
        must(call.prctl(4, number(1), number(0), number(0), number(0)))  # dumpable, as after exec

    def drop():
        number = ctypes.c_ulong
        capability = 0
        while call.prctl(24, number(capability), number(0), number(0), number(0)) == 0:
            capability += 1
        must(call.syscall(126 if sys.implementation._multiarch.startswith("x86_64") else 91, header, none))

    def common():
        """The interpreter's data and the heap, as (address, length): every program writes to most of it."""
        maps = posix.open("/proc/self/maps", posix.O_RDONLY)
        text = b""
        while piece := posix.read(maps, 65536):
            text += piece
        posix.close(maps)
        memory = []
        for row in text.splitlines():
            fields = row.split()
            if fields[1] == b"rw-p":
                begin, end = (int(word, 16) for word in fields[0].split(b"-"))
                memory.append((begin, end - begin))
            if fields[-1] == b"[heap]":
                return memory
        return []

    def own(memory):
        # copies pages that are shared with the template now, instead of on the program's clock
        for begin, length in memory:
            # MADV_POPULATE_WRITE; kernels before 5.14 answer EINVAL, which is ignored
            call.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), 23)

    class Limit(ctypes.Structure):
        _fields_ = [("soft", ctypes.c_uint64), ("hard", ctypes.c_uint64)]

    def limit(numbers):
        for at in range(0, len(numbers), 3):
            resource, soft, hard = numbers[at : at + 3]
            have = Limit()
            must(call.prlimit(0, resource, None, ctypes.byref(have)))
            hard = min(hard, have.hard)
            must(call.prlimit(0, resource, ctypes.byref(Limit(min(soft, hard), hard)), None))

    # never closed by Python, so there is no warning at exit
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, order)
    space = _socket.CMSG_SPACE(36)
    flags = _socket.MSG_CMSG_CLOEXEC

    def request():
        data, control, _, _ = socket.recvmsg(1, space, flags)
        if not data or not control:
            return None
        numbers = control[0][2]
        return [int.from_bytes(numbers[at : at + 4], sys.byteorder) for at in range(0, len(numbers), 4)]

    clock = time.process_time_ns
    for name in set(sys.modules) - before:
        del sys.modules[name]
    for folder in set(sys.path_importer_cache) - folders:
        del sys.path_importer_cache[folder]
    return order, socket, request, enter, confine, drop, clock, limit, common, own


def _serve(tools, failed):
    """Forks programs; returns in each of them, with its order and the function that sets its limits."""
    import posix

    line, socket, request, enter, confine, drop, clock, limit, common, own = tools
    memory = common()
    while True:
        asked = request()
        if asked is None:
            posix._exit(0)
        *spaces, stdin, stdout, stderr, order, answer = fds = asked
        if failed:
            posix.write(answer, failed.encode())
        elif posix.fork() == 0:
            break
        for fd in fds:
            posix.close(fd)
        if not failed:
            posix.wait()
    try:
        # CPU time of the processes between the template and the program
        enter(spaces)
        between = clock()
        if posix.fork() != 0:
            posix.wait()
            posix._exit(0)
        between += clock()
        if posix.fork() != 0:
            posix._exit(0)
        # the process in between has exited once the cell's PID 1 is the parent
        while posix.getppid() != 1:
            posix.sched_yield()
        confine()
        posix.setsid()
        for fd, place in ((stdin, 0), (stdout, 1), (stderr, 2)):
            posix.dup2(fd, place)
        posix.chdir("/box")
        score = posix.open("/proc/self/oom_score_adj", posix.O_WRONLY)
        posix.write(score, b"1000")
        posix.close(score)
        drop()
        socket.detach()
        for fd in [line, *spaces, stdin, stdout, stderr]:
            posix.close(fd)
        own(memory)
        posix.write(answer, f"{posix.getpid()} {between}".encode())
        posix.close(answer)
        return order, limit
    except BaseException as error:
        posix.write(answer, f"{type(error).__name__}: {error}"[:1000].encode())
        posix._exit(1)


_wait()
del _wait, _tools, _serve
