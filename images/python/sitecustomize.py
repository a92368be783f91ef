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
    tools = None
    if forks:
        stack, *code, names = names[0], *(bytes.fromhex(text) for text in names[1:5]), names[5:]
        tools = _tools(order, int(stack), *code)
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
    limit = enter = None
    if forks:
        order, limit, enter = _serve(tools, failed)
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
    entry = sys.argv[0]
    if fields[0] == b"entry":
        entry = fields[1].decode("utf-8", "surrogateescape")
        del fields[:2]
    is_live = fields[0] == b"live"
    if fields[0] != b"go" and not is_live:
        posix._exit(1)
    if is_live:
        _make_live()
    args = [word.decode("utf-8", "surrogateescape") for word in fields[1:-1]]
    is_entered = entry == sys.argv[0] or enter is not None and enter(entry)
    sys.orig_argv[-1] = sys.argv[0] = entry
    sys.argv += args
    sys.orig_argv += args
    # a file of the program has the name of a loaded module, and should have been imported instead
    is_hidden = loaded and any(name.partition(".")[0] in loaded for name in posix.listdir("."))
    if is_hidden or not is_entered:
        # start again
        if is_live:
            posix.putenv(b"ASSAY_LIVE_OUTPUT", b"1")
        posix.execv(sys.executable, sys.orig_argv)


def _make_live():
    """The output is read as it comes."""
    import sys

    if sys.stdout:
        sys.stdout.reconfigure(line_buffering=True)


def _start():
    import os
    import posix

    # of a run that starts from nothing; the program does not see it
    if posix.environ.pop(b"ASSAY_LIVE_OUTPUT", None):
        os.environ.pop("ASSAY_LIVE_OUTPUT", None)
        _make_live()
    _wait()


def _tools(order, stack, crossing, steps, detour, filter):
    """The functions that a template needs; the modules they use are removed from sys.modules."""
    import posix
    import sys

    size = posix.sysconf("SC_PAGESIZE")

    def own_bytes():
        statm = posix.open("/proc/self/statm", posix.O_RDONLY)
        _, resident, shared, *_ = posix.read(statm, 256).split()
        posix.close(statm)
        return (int(resident) - int(shared)) * size

    bytes_before = own_bytes()
    before, folders = set(sys.modules), set(sys.path_importer_cache)
    import _socket
    import ctypes

    call = ctypes.CDLL(None, use_errno=True)
    python = ctypes.pythonapi
    number, pointer = ctypes.c_uint64, ctypes.c_void_p
    is_x86 = sys.implementation._multiarch.startswith("x86_64")
    # dup3, madvise, setsid, chdir, capset, prctl, prlimit64
    DUP, ADVISE, SESSION, FOLDER, CAPABILITIES, CONTROL, LIMIT = (
        (292, 28, 112, 80, 126, 157, 302) if is_x86 else (24, 233, 157, 49, 91, 167, 261)
    )
    IGNORE = 1 << 32
    # the part of PyConfig that is searched
    CONFIG_BYTES = 512
    MAX_MAPPING = 1 << 30

    def memory(size, protection=3):
        # private and anonymous
        at = call.mmap(pointer(None), ctypes.c_size_t(size), protection, 0x22, -1, ctypes.c_long(0))
        if at == pointer(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")
        return at

    call.mmap.restype = pointer

    def code(text):
        at = memory(len(text))
        ctypes.memmove(at, text, len(text))
        # readable and executable
        if call.mprotect(pointer(at), ctypes.c_size_t(len(text)), 5) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
        # without the lock of the interpreter being released: its state must be whole on both sides of the fork
        return ctypes.PYFUNCTYPE(ctypes.c_long, pointer)(at)

    cross, run = code(crossing), code(steps)

    note_loaded = _shorten_end(ctypes, python, code, detour) if detour else lambda: None

    # what `cross` takes: fork(3), a spare stack, what it answers, and descriptors of namespaces
    SPACES = 6
    crossed = (number * (6 + SPACES))()
    crossed[0] = ctypes.cast(call.fork, pointer).value
    crossed[1] = memory(2 * stack) + 2 * stack
    crossed[5] = SPACES
    usage = (ctypes.c_int64 * 18)()

    def fork(spaces):
        """Forks into these namespaces: None in the new process, else its pid there and the time of those in between."""
        crossed[3] = crossed[4] = 0
        crossed[6:] = spaces
        python.PyOS_BeforeFork()
        first = cross(ctypes.addressof(crossed))
        if first == 0:
            python.PyOS_AfterFork_Child()
            return None
        python.PyOS_AfterFork_Parent()
        if first > 0:
            call.wait4(first, None, 0, ctypes.byref(usage))
        pid = ctypes.c_int64(crossed[4]).value
        if first > 0 and pid == 0 and crossed[3] == 0:
            # killed with its cell in the middle of fork(3), whose locks are in this memory (glibc 2.41 has one): every later
            # program would inherit them locked
            posix._exit(1)
        if pid <= 0:
            failed = first if first < 0 else ctypes.c_int64(crossed[3]).value
            raise OSError(-failed if failed else 11, "fork into a cell")
        return pid, (usage[0] + usage[2]) * 10**9 + (usage[1] + usage[3]) * 10**3

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    program = Program(len(filter) // 8, filter)
    none = ctypes.create_string_buffer(24)
    # capset(2): version 3, this thread
    header = ctypes.create_string_buffer((0x20080522).to_bytes(4, sys.byteorder) + bytes(4), 8)
    box = ctypes.create_string_buffer(b"/box")
    kept = (program, none, header, box)

    # of the highest byte of an entry in pagemap: present, of a file
    PRESENT, FILE = 0x80, 0x20

    def pages(rights, looked_at, wanted):
        """The pages with these rights and bits, as (address, length)."""
        files = [posix.open("/proc/self/" + name, posix.O_RDONLY) for name in ("maps", "pagemap")]
        maps, pagemap = files
        text = b""
        while piece := posix.read(maps, 65536):
            text += piece
        written = []
        for row in text.splitlines():
            fields = row.split()
            begin, end = (int(word, 16) for word in fields[0].split(b"-"))
            if fields[1] not in rights or fields[-1] == b"[stack]" or end - begin > MAX_MAPPING:
                continue
            for page in range(begin, end, size * 512):
                entries = posix.pread(pagemap, 8 * min(512, (end - page) // size), page // size * 8)
                for at, bits in enumerate(entries[7::8]):
                    if bits & looked_at == wanted:
                        address = page + at * size
                        if written and written[-1][1] == address:
                            written[-1][1] += size
                        else:
                            written.append([address, address + size])
        for file in files:
            posix.close(file)
        return [(begin, end - begin) for begin, end in written]

    def plan():
        """What a new process does, as a list of system calls; the first three are its stdio."""
        # what only loading needed
        call.malloc_trim(ctypes.c_size_t(0))
        before = own_bytes()
        note_loaded()
        bounding = 0
        while call.prctl(23, number(bounding), number(0), number(0), number(0)) >= 0:
            bounding += 1
        address = ctypes.addressof
        calls = [(DUP, 0, place, 0) for place in range(3)]
        calls += [
            (CONTROL, 38, 1),  # no_new_privs
            (CONTROL, 22, 2, address(program)),  # the filter
            (CONTROL, 4, 1),  # dumpable, as after exec
            (SESSION,),
            (FOLDER, address(box)),
        ]
        calls += [(CONTROL, 24, capability) for capability in range(bounding)]
        calls += [(CAPABILITIES, address(header), address(none))]
        # MADV_POPULATE_WRITE: copies all that is shared with the template now. That is cheaper than one by one and not on
        # the program's clock, and what a program copies itself would count twice in its memory. Kernels before 5.14 answer
        # EINVAL.
        written = pages((b"rw-p",), PRESENT | FILE, PRESENT)
        copies = call.madvise(pointer(written[0][0]), ctypes.c_size_t(size), 23) == 0
        copied_bytes = sum(length for _, length in written) if copies else 0
        calls += [(ADVISE | IGNORE, begin, length, 23) for begin, length in written]
        # MADV_POPULATE_READ: the pages of files that the template uses. Those that a program adds itself are told apart from
        # its memory only in samples. One page for each 64 KiB: the kernel maps what is cached around it as well.
        mapped = pages((b"r--p", b"r-xp"), PRESENT | FILE, PRESENT | FILE)
        around = 65536
        firsts = {}
        for begin, length in mapped:
            for window in range(begin & -around, begin + length, around):
                firsts.setdefault(window, max(begin, window))
        calls += [(ADVISE | IGNORE, first, size, 22) for first in firsts.values()]
        steps = listed(calls)
        return steps, tools_bytes + own_bytes() - before, copied_bytes

    def listed(calls):
        numbers = [word for entry in calls for word in entry + (0,) * (6 - len(entry))]
        return (number * (len(numbers) + 1))(*numbers, 2**64 - 1)

    def confine(plan, stdio):
        for place in range(3):
            plan[6 * place + 1] = stdio[place]
        failed = run(ctypes.addressof(plan))
        if failed != 0:
            raise OSError(-failed, "confine")

    hard = []
    pair = (number * 2)()
    for resource in range(16):
        call.prlimit(0, resource, None, ctypes.byref(pair))
        hard.append(pair[1])
    pairs = (number * 32)()

    def limit(numbers):
        calls = []
        for at in range(0, len(numbers), 3):
            resource, soft, most = numbers[at : at + 3]
            most = min(most, hard[resource])
            pairs[2 * resource : 2 * resource + 2] = min(soft, most), most
            calls.append((LIMIT, 0, resource, ctypes.addressof(pairs) + 16 * resource))
        steps = listed(calls)
        failed = run(ctypes.addressof(steps))
        if failed != 0:
            raise OSError(-failed, "limits")

    # Where the interpreter has the path of its script. It looks there when it begins to run it.
    script = posix.getcwd() + "/" + sys.argv[0]
    text = ctypes.create_unicode_buffer(script)
    text = ctypes.string_at(text, ctypes.sizeof(text))
    script_at = None
    python._Py_GetConfig.restype = python.Py_DecodeLocale.restype = pointer
    config = python._Py_GetConfig()
    # not all words are addresses; reading a file tells which
    own_memory = posix.open("/proc/self/mem", posix.O_RDONLY)
    for at in range(config, config + CONFIG_BYTES, 8):
        try:
            if posix.pread(own_memory, len(text), number.from_address(at).value) == text:
                script_at = at
        except (OSError, OverflowError):
            pass
    posix.close(own_memory)

    def enter(entry):
        """Makes another file of the same folder the script; returns whether that can be."""
        if script_at is None:
            return False
        path = posix.getcwd() + "/" + entry
        # allocated as the interpreter does it, which frees it at the end
        new = python.Py_DecodeLocale(path.encode("utf-8", "surrogateescape"), None)
        number.from_address(script_at).value = new or 0
        return bool(new)

    # never closed by Python, so there is no warning at exit
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, order)
    space = _socket.CMSG_SPACE(44)
    flags = _socket.MSG_CMSG_CLOEXEC

    def request():
        data, control, _, _ = socket.recvmsg(1, space, flags)
        if not data or not control:
            return None
        numbers = control[0][2]
        return [int.from_bytes(numbers[at : at + 4], sys.byteorder) for at in range(0, len(numbers), 4)]

    for name in set(sys.modules) - before:
        del sys.modules[name]
    for folder in set(sys.path_importer_cache) - folders:
        del sys.path_importer_cache[folder]
    tools_bytes = own_bytes() - bytes_before
    return order, socket, request, fork, plan, confine, limit, enter, kept


def _shorten_end(ctypes, python, code, detour):
    """Ends programs without finalizing the interpreter, where no program can tell: it costs more than a small program.

    Py_FinalizeEx begins with a jump to `end`, which says whether that is so. The exit status stays the interpreter's.
    """
    import atexit
    import builtins
    import gc
    import sys
    from _thread import _count
    from _weakref import ReferenceType

    # a program may put other functions into their places
    any, id, len, map, set, type = (getattr(builtins, name) for name in ("any", "id", "len", "map", "set", "type"))
    MOST_OBJECTS = 20_000
    HAS_GC = 1 << 14
    HEAP_TYPE = 1 << 9
    # types of C that write to their files when they are freed, and interpreters that end with this one
    ENDED = frozenset(("_dbm", "_gdbm", "_interpreters", "_xxsubinterpreters"))
    objects, count_frozen, count_callbacks = gc.get_objects, gc.get_freeze_count, atexit._ncallbacks
    # not the objects: what is written to them at the end is flushed when they are freed
    streams = id(sys.stdout), id(sys.stderr)
    most_frozen, frozen_classes = [], []
    callbacks, debug_flags = gc.callbacks, gc.get_debug
    # attributes of classes, without running code of their metaclasses
    bases, names, flags = (type.__dict__[name].__get__ for name in ("__mro__", "__dict__", "__flags__"))

    def has_finalizer(kind):
        return any("__del__" in names(base) for base in bases(kind))

    def is_silent(objects):
        """Whether no code would run, and no file would be written to, when the program's objects are freed."""
        if len(objects) > MOST_OBJECTS:
            return False
        kinds = set(map(type, objects))
        # generators that are suspended, open files and many more have one
        if any(has_finalizer(kind) for kind in kinds):
            return False
        references = {kind for kind in kinds if ReferenceType in bases(kind)}
        classes = {kind for kind in kinds if type in bases(kind)}
        for it in objects:
            kind = type(it)
            if kind in references and (kind is not ReferenceType or it.__callback__):
                return False
            # instances of classes that the collector does not track are not in the list
            if kind in classes and not flags(it) & HAS_GC and has_finalizer(it):
                return False
        return True

    def end():
        try:
            if _count() > 0 or count_callbacks() > 0 or (id(sys.stdout), id(sys.stderr)) != streams:
                return 1
            threads = sys.modules.get("threading")
            if threads and threads._threading_atexits or not ENDED.isdisjoint(sys.modules):
                return 1
            # the collector calls or tells the program, or instances that were loaded before have a finalizer now
            if callbacks or debug_flags() or any("__del__" in names(kind) for kind in frozen_classes):
                return 1
            # objects that the program has frozen are not in the list
            if count_frozen() > most_frozen[0] or not is_silent(objects()):
                return 1
            sys.stdout.flush()
            sys.stderr.flush()
            return 0
        except BaseException:
            return 1

    def kept(kind, function):
        """The address of a callback that exists until the end."""
        callback = ctypes.PYFUNCTYPE(kind)(function)
        python.Py_IncRef(ctypes.py_object(callback))
        return ctypes.cast(callback, ctypes.c_void_p).value

    # where the program traces calls it would see `end`
    traces = [sys.gettrace, sys.getprofile]
    monitoring = getattr(sys, "monitoring", None)
    if monitoring:
        # each is a call of get_tool that runs no code of Python
        method = type(kept.__get__(0))
        traces += [method(monitoring.get_tool, tool) for tool in range(6)]
    traces = [kept(ctypes.py_object, function) for function in traces]
    function = ctypes.cast(python.Py_FinalizeEx, ctypes.c_void_p).value
    first = ctypes.string_at(function, 16)
    if first.startswith(b"\xf3\x0f\x1e\xfa\xe9"):
        # endbr64; jmp: what sys.exit calls as well
        function += 9 + int.from_bytes(first[5:9], sys.byteorder, signed=True)
        first = ctypes.string_at(function, 16)
    words = [id(None), kept(ctypes.c_int, end), function]
    words = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
    calls = b"".join(word.to_bytes(8, sys.byteorder) for word in [*traces, 0])
    leave = ctypes.cast(code(detour + words + first + calls), ctypes.c_void_p).value
    # readable, writable and executable: `detour` puts the function back
    page = function & -4096
    length = ctypes.c_size_t(function + 16 - page)
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), length, 7) == 0:
        # mov rax, leave; jmp rax
        ctypes.memmove(function, b"\x48\xb8" + leave.to_bytes(8, sys.byteorder) + b"\xff\xe0", 12)

    def note_loaded():
        most_frozen.append(count_frozen())
        found, rest = set(), [object]
        while rest:
            new = set(type.__subclasses__(rest.pop())) - found
            found |= new
            rest += new
        # what has a finalizer from the beginning has it in a cold start as well
        frozen_classes.extend(kind for kind in found if flags(kind) & HEAP_TYPE and "__del__" not in names(kind))

    return note_loaded


def _renew():
    """Gives a fork its own randomness, where a loaded module would share the template's.

    `random` does this by itself. Libraries that compare pids do not notice a fork into another PID namespace, where its
    pid may be that of the template.
    """
    import posix
    import sys

    def loaded(name):
        return sys.modules.get(name)

    random = loaded("random")
    if random:
        random.seed()
    numpy = loaded("numpy.random")
    if numpy:
        numpy.seed()
    ssl = loaded("_ssl")
    if ssl:
        # the generators of this process are seeded again when that of the library was
        ssl.RAND_add(posix.urandom(32), 32.0)
    tempfile = loaded("tempfile")
    if tempfile:
        tempfile._name_sequence = None
    uuid = loaded("uuid")
    if uuid:
        uuid._node = uuid._last_timestamp = None
    processes = loaded("multiprocessing.process")
    if processes:
        config = processes.current_process()._config
        config["authkey"] = processes.AuthenticationString(posix.urandom(32))


def _serve(tools, failed):
    """Forks programs; returns in each of them, with its order and the functions that set its limits and its script."""
    import posix

    line, socket, request, fork, plan, confine, limit, enter, kept = tools
    steps, forking_bytes, copied_bytes = plan()
    # and how much of its memory is that of the forking code, and how much a fork copies
    socket.send(b"loaded %d %d" % (max(forking_bytes, 0), copied_bytes))
    while True:
        asked = request()
        if asked is None:
            posix._exit(0)
        *spaces, stdin, stdout, stderr, order, answer = fds = asked
        text = failed
        try:
            if not failed:
                made = fork(spaces)
                if made is None:
                    break
                text = "forked %d %d;" % made
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"[:1000]
        try:
            posix.write(answer, text.encode())
        except OSError:
            pass  # the cell has ended
        for fd in fds:
            posix.close(fd)
    try:
        # the process in between has exited once the cell's PID 1 is the parent
        while posix.getppid() != 1:
            posix.sched_yield()
        confine(steps, (stdin, stdout, stderr))
        socket.detach()
        for fd in [line, *spaces, stdin, stdout, stderr]:
            posix.close(fd)
        _renew()
        posix.write(answer, b"ready;")
        posix.close(answer)
        return order, limit, enter
    except BaseException as error:
        posix.write(answer, f"{type(error).__name__}: {error}"[:1000].encode())
        posix._exit(1)


try:
    _start()
except BaseException:
    # a process that waits must not go on to the script: a template is in no cell
    import posix

    posix._exit(1)
del _start, _make_live, _wait, _tools, _shorten_end, _renew, _serve
