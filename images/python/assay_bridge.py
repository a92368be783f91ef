"""The code under test in a process of its own (`suite.separate`), and what stands for it in the suite's process.

    suite's process                                             code's process
    proxies --- import, get, set, call, ... -------------------> Server: does one request at a time
            <-- ok or error; before it: write, read, callback ---

A message is its length, 8 bytes, and JSON. Values cross as data and are copied: numbers, text, bytes, the builtin
containers, dates, paths and the like. Everything else stays where it is and crosses as a number: an object of the code
under test is a proxy in the suite, a function of the suite a callback in the code. Nothing else of the suite crosses.

The suite's process believes what a message says about the code's own objects, and nothing about its own: it makes no object
of a class that it does not know, and calls only functions of the suite that it has handed out.
"""

import json
import sys

# what the class of an object of the code may have, and its proxy passes on
OPERATORS = frozenset(
    f"__{name}__"
    for name in (
        "len getitem setitem delitem contains iter next reversed call enter exit await aiter anext lt le gt ge eq hash bool "
        "int float complex index round trunc floor ceil str repr format bytes fspath "
        "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and or xor neg pos abs invert "
        "radd rsub rmul rmatmul rtruediv rfloordiv rmod rdivmod rpow rlshift rrshift rand ror rxor "
        "iadd isub imul imatmul itruediv ifloordiv imod ipow ilshift irshift iand ior ixor missing length_hint"
    ).split()
)
# between an object of the code and data these say nothing: an object could claim to be equal to everything
COMPARISONS = frozenset(("__eq__", "__lt__", "__le__", "__gt__", "__ge__"))
MOST_BYTES = 1 << 28
PLAIN = frozenset((bool, bytes, float, frozenset, int, object, str, tuple, type(None), SystemExit))
# modules of the standard library whose classes are what decides a suite
NOT_SHARED = frozenset(("unittest", "doctest", "bdb", "pdb", "concurrent"))


class BridgeError(RuntimeError):
    """What cannot cross, or an end of the code's process."""


class Channel:
    def __init__(self, socket):
        import threading

        self.socket = socket
        self.lock = threading.Lock()

    def send(self, message, dumps=json.dumps):
        data = dumps(message, separators=(",", ":")).encode()
        with self.lock:
            self.socket.sendall(len(data).to_bytes(8, "big") + data)

    def exactly(self, size):
        pieces = []
        while size:
            piece = self.socket.recv(min(size, 1 << 20))
            if not piece:
                raise EOFError
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def receive(self, loads=json.loads):
        size = int.from_bytes(self.exactly(8), "big")
        if size > MOST_BYTES:
            raise BridgeError("a message of the code under test is too large")
        return loads(self.exactly(size))


def standard(value):
    """The module and name of a class or function of the standard library, else None."""
    kind = getattr(value, "__objclass__", value)
    module, name = getattr(kind, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    top = module.partition(".")[0]
    if top not in sys.stdlib_module_names and top != "builtins" or top in NOT_SHARED or "<" in name:
        return None
    return [module, name] if looked_up(module, name) is value else None


def looked_up(module, name, modules=sys.modules):
    found = modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def made_error(kind, args):
    try:
        error = kind(*args)
    except Exception:
        error = kind.__new__(kind, *args)
    # a constructor of its own may have changed them
    error.args = args
    return error


class Values:
    """Values as JSON and back. Containers are numbered, so that cycles and containers that occur twice keep their shape.

    The numbers of a request go on in its reply: what a call gets and gives back is one container, not two.
    """

    def __init__(self):
        import base64
        import collections
        import datetime
        import decimal
        import fractions
        import pathlib

        self.b64, self.unb64 = base64.b64encode, base64.b64decode
        self.known = {
            "deque": collections.deque, "Counter": collections.Counter, "OrderedDict": collections.OrderedDict,
            "defaultdict": collections.defaultdict, "list": list, "dict": dict, "set": set, "bytearray": bytearray,
        }
        self.names = {kind: name for name, kind in self.known.items()}
        self.simple = {
            "Decimal": (decimal.Decimal, lambda v: [str(v)]),
            "Fraction": (fractions.Fraction, lambda v: [v.numerator, v.denominator]),
            "complex": (complex, lambda v: [v.real, v.imag]),
            "range": (range, lambda v: [v.start, v.stop, v.step]),
            "slice": (slice, lambda v: [v.start, v.stop, v.step]),
            "date": (datetime.date, lambda v: [v.year, v.month, v.day]),
            "time": (datetime.time, lambda v: [v.hour, v.minute, v.second, v.microsecond, v.tzinfo]),
            "datetime": (
                datetime.datetime, lambda v: [v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond, v.tzinfo]
            ),
            "timedelta": (datetime.timedelta, lambda v: [v.days, v.seconds, v.microseconds]),
            "timezone": (datetime.timezone, lambda v: list(v.__getinitargs__())),
            "PosixPath": (pathlib.PosixPath, lambda v: [str(v)]),
        }
        self.simple_names = {kind: name for name, (kind, _) in self.simple.items()}

    def other(self, value, table):
        raise NotImplementedError

    def made(self, tag, rest, table):
        raise NotImplementedError

    def encode(self, value, table):
        """`table`: id of a container -> (its number, itself)."""
        kind = type(value)
        if value is None or kind is bool or kind is float or kind is str:
            return value
        if kind is int:
            return value if -(1 << 60) < value < 1 << 60 else ["int", hex(value)]
        if kind is tuple:
            return ["tuple", [self.encode(item, table) for item in value]]
        if kind is bytes:
            return ["bytes", self.b64(value).decode()]
        if kind is frozenset:
            return ["frozenset", [self.encode(item, table) for item in value]]
        name = self.names.get(kind)
        if name is not None:
            if id(value) in table:
                return ["same", table[id(value)][0]]
            number = len(table)
            table[id(value)] = number, value
            return [name, number, self.content(name, value, table)]
        name = self.simple_names.get(kind)
        if name is not None:
            return ["simple", name, [self.encode(item, table) for item in self.simple[name][1](value)]]
        if value is NotImplemented or value is Ellipsis:
            return ["constant", str(value)]
        return self.other(value, table)

    def content(self, name, value, table):
        if name == "bytearray":
            return self.b64(value).decode()
        if name in ("list", "set"):
            return [self.encode(item, table) for item in value]
        if name == "deque":
            return [value.maxlen, *(self.encode(item, table) for item in value)]
        if name == "defaultdict":
            return [self.encode(value.default_factory, table), *self.pairs(value, table)]
        return self.pairs(value, table)

    def pairs(self, value, table):
        return [[self.encode(key, table), self.encode(item, table)] for key, item in value.items()]

    def fill(self, name, value, content, table):
        """Gives a container this content."""
        if name == "bytearray":
            value[:] = self.unb64(content)
        elif name == "list":
            value[:] = [self.decode(item, table) for item in content]
        elif name == "deque":
            items = [self.decode(item, table) for item in content[1:]]
            value.clear()
            value.extend(items)
        elif name == "set":
            items = [self.decode(item, table) for item in content]
            value.clear()
            value.update(items)
        else:
            pairs = content[1:] if name == "defaultdict" else content
            items = [(self.decode(key, table), self.decode(item, table)) for key, item in pairs]
            value.clear()
            for key, item in items:
                value[key] = item

    def decode(self, text, table):
        """`table`: number of a container -> itself."""
        if type(text) is not list:
            if type(text) is dict:
                raise BridgeError("a message of the code under test is not valid")
            return text
        tag, *rest = text
        if tag == "int":
            return int(rest[0], 16)
        if tag == "tuple":
            return tuple([self.decode(item, table) for item in rest[0]])
        if tag == "bytes":
            return self.unb64(rest[0])
        if tag == "frozenset":
            return frozenset([self.decode(item, table) for item in rest[0]])
        if tag == "same":
            return table[rest[0]]
        if tag in self.known:
            number, content = rest
            value = self.known[tag]()
            if tag == "deque":
                value = type(value)((), content[0])
            elif tag == "defaultdict":
                value.default_factory = self.decode(content[0], table)
            table[number] = value
            self.fill(tag, value, content, table)
            return value
        if tag == "simple":
            kind, _ = self.simple[rest[0]]
            return kind(*[self.decode(item, table) for item in rest[1]])
        if tag == "constant":
            return NotImplemented if rest[0] == "NotImplemented" else Ellipsis
        return self.made(tag, rest, table)

    def is_plain(self, kind):
        """Whether it is an exception of the standard library, or a class of plain data: they are the same in both."""
        return isinstance(kind, type) and (
            issubclass(kind, Exception) or kind in self.names or kind in self.simple_names or kind in PLAIN
        )


# --- the code's process -----------------------------------------------------------------------------------------------


def serve(socket, folder):
    """Imports and runs the code under test, as the suite asks. Does not return."""
    import _thread
    import builtins
    import importlib
    import io
    import logging
    import os
    import types
    import warnings

    channel = Channel(socket)
    main = _thread.get_ident()
    objects, numbers = [], {}
    described = set()
    callbacks = {}
    replaced = {}  # what a suite has put something else for in a class

    class Raised(Exception):
        """Carries an exception of the suite through the code under test."""

    class Callback:
        def __init__(self, number, name, binds):
            self.number, self.__name__, self.__qualname__, self.binds = number, name, name, binds

        def __get__(self, one, kind=None):
            return types.MethodType(self, one) if self.binds and one is not None else self

        def __call__(self, *args, **more):
            if _thread.get_ident() != main:
                raise BridgeError("a function of the suite can only be called by the thread that was called itself")
            table = {}
            given = [values.encode(args, table), values.encode(more, table)]
            channel.send(["callback", self.number, *given])
            return answered(channel.receive(), table)

    def answered(message, table):
        """The result of a function of the suite, or its exception."""
        objects_of = dict(table.values())
        if message[0] == "ok":
            return values.decode(message[1], objects_of)
        _, number, kind, args = message
        kind = getattr(builtins, kind) if kind else Raised
        try:
            error = kind(*values.decode(args, {}))
        except Exception:
            error = Raised()
        error.__assay_number__ = number
        raise error

    class Own(Values):
        def other(self, value, table):
            if isinstance(value, Callback):
                return ["callback", value.number]
            if isinstance(value, type):
                return self.kind(value)
            if isinstance(value, tuple) and type(value).__bases__ == (tuple,) and hasattr(value, "_fields"):
                return ["named", self.kind(type(value)), [self.encode(item, table) for item in value]]
            if type(value).__module__ == "numpy" and type(value).__name__ != "ndarray" and hasattr(value, "item"):
                return self.encode(value.item(), table)
            return ["object", number_of(value), self.kind(type(value))]

        def kind(self, kind):
            if self.is_plain(kind) and standard(kind) is not None:
                # where the suite has no such exception it takes the next built-in one
                next_one = next(one.__name__ for one in kind.__mro__ if one.__module__ == "builtins")
                return ["shared", *standard(kind), next_one]
            number = number_of(kind)
            if number in described:
                return ["class", number]
            described.add(number)
            found = {name for one in kind.__mro__ if one is not object for name in vars(one) if name in OPERATORS}
            if kind.__hash__ is None:
                found.add("no hash")
            fields = getattr(kind, "_fields", None)
            what = {
                "name": str(kind.__name__), "qualname": str(kind.__qualname__), "module": str(kind.__module__),
                "doc": kind.__doc__ if type(kind.__doc__) is str else None, "has": sorted(found),
                "bases": [self.kind(base) for base in kind.__bases__],
                "fields": list(fields) if issubclass(kind, tuple) and type(fields) is tuple else None,
            }
            return ["class", number, what]

        def made(self, tag, rest, table):
            if tag == "object":
                return objects[rest[0]]
            if tag == "callback":
                if rest[0] not in callbacks:
                    callbacks[rest[0]] = Callback(*rest)
                return callbacks[rest[0]]
            if tag == "failure":
                kind, args = looked_up(*rest[:2]), values.decode(rest[2], table)
                return made_error(kind, args)
            if tag == "named":
                return self.decode(rest[0], table)(*[self.decode(item, table) for item in rest[1]])
            if tag == "shared":
                __import__(rest[0])
                return looked_up(*rest)
            if tag == "module":
                return importlib.import_module(rest[0])
            raise BridgeError(f"unknown: {tag}")

    values = Own()

    def number_of(value):
        if id(value) not in numbers:
            numbers[id(value)] = len(objects)
            objects.append(value)
        return numbers[id(value)]

    def place_of(error):
        """`file:line: ` of the innermost line of the code under test."""
        if isinstance(error, SyntaxError) and error.filename and error.filename.startswith(folder + "/"):
            return f"{error.filename[len(folder) + 1:]}:{error.lineno}: "
        found, traceback = "", error.__traceback__
        while traceback is not None:
            file = os.path.join(folder, traceback.tb_frame.f_code.co_filename)
            if file.startswith(folder + "/") and not file.startswith(folder + "/.assay/"):
                found = f"{file[len(folder) + 1:]}:{traceback.tb_lineno}: "
            traceback = traceback.tb_next
        return found

    def told(error, table):
        number = getattr(error, "__assay_number__", None)
        if number is not None:
            return ["raised", number]
        try:
            text = str(error)
        except BaseException:
            text = "(its text cannot be shown)"
        attributes = {name: value for name, value in vars(error).items() if type(value) in (int, str)}
        kind, args = values.encode(type(error), table), values.encode(error.args, table)
        return ["exception", kind, number_of(error), args, text, place_of(error), attributes]

    class Stream(io.TextIOBase):
        """What the code prints: the suite's process prints it, so that the suite can capture it."""

        def __init__(self, number):
            self.number = number

        encoding, errors = "utf-8", "strict"

        def writable(self):
            return True

        def write(self, text):
            if not isinstance(text, str):
                raise TypeError(f"write() argument must be str, not {type(text).__name__}")
            channel.send(["write", self.number, text])
            return len(text)

        def fileno(self):
            return self.number

        def reconfigure(self, **how):
            pass

        @property
        def buffer(self):
            return Bytes(self)

    class Bytes(io.RawIOBase):
        def __init__(self, stream):
            self.stream = stream

        def writable(self):
            return True

        def write(self, data):
            self.stream.write(bytes(data).decode("utf-8", "replace"))
            return len(data)

    def asked(*words):
        if _thread.get_ident() != main:
            raise BridgeError("input is read by the thread that was called itself")
        channel.send(["read", *words])
        return answered(channel.receive(), {})

    class Input(io.TextIOBase):
        encoding = "utf-8"

        def readable(self):
            return True

        def read(self, size=-1):
            return asked("read", -1 if size is None else size)

        def readline(self, size=-1):
            return asked("readline", size)

        def __next__(self):
            line = self.readline()
            if not line:
                raise StopIteration
            return line

    def read_input(prompt="", /):
        return asked("input", str(prompt))

    read_input.__name__ = read_input.__qualname__ = "input"

    def show_warning(message, category, filename, lineno, file=None, line=None):
        kind = values.encode(category, {})
        channel.send(["warn", kind, str(message), str(filename), int(lineno)])

    class Forward(logging.Handler):
        """What the code logs is logged by the suite's process."""

        def emit(self, record):
            text = record.getMessage()
            if record.exc_info:
                text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
            channel.send(["log", record.name, record.levelno, str(record.pathname), record.lineno, text, record.funcName])

    def iterate(value):
        """Runs a coroutine to its end."""
        import asyncio

        async def wait():
            return await value

        return asyncio.run(wait())

    def do(words, table):
        what, *rest = words
        if what == "import":
            name, entry = rest
            if entry not in sys.path:
                sys.path.insert(0, entry)
            module = importlib.import_module(name)
            names = getattr(module, "__all__", None)
            if names is None:
                # without what it has from the standard library, which the suite has as well
                names = [
                    name for name, value in vars(module).items()
                    if not name.startswith("_") and not isinstance(value, types.ModuleType) and standard(value) is None
                ]
            return [number_of(module), list(names), hasattr(module, "__path__")]
        if what == "reload":
            return [number_of(importlib.reload(objects[rest[0]]))]
        if what == "context":
            os.chdir(rest[0])
            for name in set(os.environ) - set(rest[1]):
                del os.environ[name]
            os.environ.update(rest[1])
            sys.argv[:] = rest[2]
            return None
        value = objects[rest[0]]
        if what == "dir":
            return [name for name in dir(value)]
        if what == "get":
            return getattr(value, rest[1])
        if what == "set":
            if isinstance(value, type) and rest[1] in vars(value):
                replaced.setdefault((rest[0], rest[1]), vars(value)[rest[1]])
            setattr(value, rest[1], values.decode(rest[2], table))
        elif what == "del" and (rest[0], rest[1]) in replaced:
            setattr(value, rest[1], replaced.pop((rest[0], rest[1])))
        elif what == "del":
            delattr(value, rest[1])
        elif what == "call":
            return value(*values.decode(rest[1], table), **values.decode(rest[2], table))
        elif what == "operator":
            args = values.decode(rest[2], table)
            if rest[1] == "__await__":
                return iterate(value)
            if rest[1] == "__anext__":
                return iterate(value.__anext__())
            method = getattr(type(value), rest[1], None)
            if method is None and rest[1] == "__getitem__":
                return value[args[0]]
            if method is None:
                raise TypeError(f"{value!r} has no {rest[1]}")
            return method(value, *args)
        return None

    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        stream = Stream(number) if number else Input()
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    builtins.input = read_input
    warnings.showwarning = show_warning
    warnings.simplefilter("always")
    logging.getLogger().addHandler(Forward())
    logging.getLogger().setLevel(1)
    sys.path.insert(0, folder)

    while True:
        try:
            words = channel.receive()
        except (EOFError, OSError):
            os._exit(0)
        if words[0] == "start":
            try:
                os.close(os.open(f"/proc/{os.getppid()}/mem", os.O_RDWR))
                channel.send(["ok", "open", []])
            except OSError as error:
                channel.send(["ok", "closed", []])
            continue
        table = {}
        try:
            result = failed = None
            try:
                result = do(words, table)
            except BaseException as error:
                failed = error
            seen = {id(value): (number, value) for number, value in table.items()}
            reply = ["ok", values.encode(result, seen)] if failed is None else ["error", told(failed, seen)]
            # what the call was given, as it is now
            given = [(number, value, values.content(values.names[type(value)], value, seen)) for number, value in table.items()]
            reply.append([[number, content] for number, value, content in given])
        except BaseException as error:
            reply = ["error", told(BridgeError(f"{type(error).__name__}: {error}"), {}), []]
        channel.send(reply)


# --- the suite's process ----------------------------------------------------------------------------------------------


def connect(socket, is_of_suite, places):
    """What the suite's process uses: a function that imports modules of the code under test, and one that starts it.

    `is_of_suite` says of a function whether it is the suite's; `places` gets the places of exceptions by their id.
    """
    import builtins
    import functools
    import logging
    import os
    import threading
    import types
    import warnings
    import weakref

    channel = Channel(socket)
    known = weakref.WeakValueDictionary()  # number -> proxy
    kinds = {}  # number -> class
    modules = {}  # name -> (number, names)
    handed_out = []  # functions of the suite
    handed_numbers = {}
    raised = []  # exceptions of those, during the request under way
    turn, getcwd = threading.RLock(), os.getcwd
    late = []
    depth = [0]
    sent = [None]
    ended = []
    number_of = lambda proxy: object.__getattribute__(proxy, "_assay_number")

    class Kind(type):
        """The class of classes of the code under test."""

        def __call__(cls, *args, **more):
            return call(cls._assay_kind, args, more)

        def __getattr__(cls, name):
            return get(cls._assay_kind, name, cls.__name__)

        def __setattr__(cls, name, value):
            request(lambda table: ["set", cls._assay_kind, name, values.encode(value, table)])

        def __delattr__(cls, name):
            request(lambda table: ["del", cls._assay_kind, name])

        def __dir__(cls):
            return request(lambda table: ["dir", cls._assay_kind])

        def __bool__(cls):
            return True

        # of enumerations
        def __len__(cls):
            return of_kind(cls, "__len__")

        def __iter__(cls):
            return of_kind(cls, "__iter__")

        def __contains__(cls, item):
            return of_kind(cls, "__contains__", item)

        def __getitem__(cls, item):
            return of_kind(cls, "__getitem__", item)

    def of_kind(cls, name, *args):
        return request(lambda table: ["operator", cls._assay_kind, name, values.encode(args, table)])

    class Proxy(metaclass=type):
        """An object of the code under test."""

        __slots__ = ("_assay_number", "__weakref__")

        def __getattr__(self, name):
            return get(number_of(self), name, type(self).__name__)

        def __setattr__(self, name, value):
            request(lambda table: ["set", number_of(self), name, values.encode(value, table)])

        def __delattr__(self, name):
            request(lambda table: ["del", number_of(self), name])

        def __dir__(self):
            return request(lambda table: ["dir", number_of(self)])

        def __reduce_ex__(self, protocol):
            raise BridgeError("an object of the code under test cannot be copied or pickled by a separate suite")

    def is_hidden(name):
        return name.startswith(("__", "_pytest", "pytest", "_assay"))

    def get(number, name, of):
        if is_hidden(name) and name not in shown:
            raise AttributeError(f"{of!r} object has no attribute {name!r}")
        return request(lambda table: ["get", number, name])

    shown = {"__name__", "__qualname__", "__doc__", "__annotations__", "__members__", "__dict__", "__len__", "__iter__", "__next__",
             "__enter__", "__exit__", "__call__", "__init__", "__cause__", "__context__", "__notes__", "__version__", "__all__",
             "__author__", "__defaults__", "__slots__", "__abstractmethods__", "__isabstractmethod__", "__dataclass_fields__"}
    shown |= OPERATORS

    def call(number, args, more):
        return request(lambda table: ["call", number, values.encode(args, table), values.encode(more, table)])

    def operator(name):
        def method(self, *args):
            if name in COMPARISONS and not all(isinstance(arg, (Proxy, BaseException, Kind)) for arg in args):
                return NotImplemented
            return request(lambda table: ["operator", number_of(self), name, values.encode(args, table)])

        def called(self, *args, **more):
            return call(number_of(self), args, more)

        def awaited(self):
            return method(self)
            yield

        def left(self, *error):
            # the traceback stays here
            return method(self, *(error[:2] + (None,)))

        async def following(self):
            return method(self)

        special = {"__call__": called, "__await__": awaited, "__exit__": left, "__anext__": following}
        function = special.get(name, method)
        function.__name__ = function.__qualname__ = name
        return function

    operators = {name: operator(name) for name in OPERATORS}

    making = [0]

    def no_subclass(cls, **more):
        if not making[0]:
            raise BridgeError("a class of the code under test cannot be a base class in a separate suite")

    class Proxies(Values):
        def other(self, value, table):
            kind = type(value)
            if isinstance(value, Kind):
                return ["object", value._assay_kind]
            if isinstance(value, Proxy) or isinstance(kind, Kind):
                return ["object", number_of(value)]
            if isinstance(value, types.CoroutineType) and value in coroutine_numbers:
                return ["object", coroutine_numbers[value]]
            if kind is Module:
                return ["object", modules[value.__name__]]
            if isinstance(value, (type, types.BuiltinFunctionType, types.FunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)):
                place = standard(value)
                if place is not None:
                    return ["shared", *place]
            if isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] in sys.stdlib_module_names - NOT_SHARED:
                return ["module", value.__name__]
            if isinstance(value, functools.partial) or is_of_suite(value):
                if id(value) not in handed_numbers:
                    handed_numbers[id(value)] = len(handed_out)
                    handed_out.append(value)
                name = str(getattr(value, "__name__", "function"))
                return ["callback", handed_numbers[id(value)], name, isinstance(value, types.FunctionType)]
            if isinstance(value, Exception) and self.is_plain(kind) and standard(kind) is not None:
                return ["failure", *standard(kind), self.encode(value.args, table)]
            if issubclass(kind, tuple) and hasattr(kind, "_fields") and kind in fields:
                return ["named", ["object", fields[kind]], [self.encode(item, table) for item in value]]
            name = f"the class {value.__name__}" if isinstance(value, type) else f"an object of {kind.__module__}.{kind.__qualname__}"
            raise BridgeError(
                f"{name} cannot be handed to the code under test in a separate suite: only plain data, functions of the suite, "
                "and objects of that code can"
            )

        def made(self, tag, rest, table):
            if tag == "object":
                number, kind = rest
                found = module_of.get(number) or known.get(number)
                if found is None:
                    kind = self.decode(kind, table)
                    if kind in coroutine_kinds:
                        found = known[number] = awaiting(int(number))
                        coroutine_numbers[found] = int(number)
                        return found
                    if not isinstance(kind, Kind):
                        raise BridgeError("a message of the code under test is not valid")
                    found = known[number] = kind.__new__(kind) if is_error(kind) else object.__new__(kind)
                    object.__setattr__(found, "_assay_number", int(number))
                return found
            if tag == "shared":
                found = looked_up(*rest[:2])
                if not self.is_plain(found) or standard(found) != rest[:2]:
                    found = getattr(builtins, rest[2])
                if not self.is_plain(found):
                    raise BridgeError("a message of the code under test is not valid")
                return found
            if tag == "class":
                return self.kind(*rest)
            if tag == "callback":
                return handed_out[rest[0]]
            if tag == "named":
                kind = self.decode(rest[0], table)
                return tuple.__new__(kind, [self.decode(item, table) for item in rest[1]])
            raise BridgeError("a message of the code under test is not valid")

        def kind(self, number, what=None):
            if what is None:
                return kinds[number]
            text = {key: str(what[key]) for key in ("name", "qualname", "module")}
            is_coroutine = (text["module"], text["name"]) == ("builtins", "coroutine")
            if what["fields"] is not None:
                import collections

                kind = collections.namedtuple(text["name"], [str(field) for field in what["fields"]], module=text["module"])
                kinds[number], fields[kind] = kind, number
                return kind
            bases = [self.decode(base, {}) for base in what["bases"]]
            bases = [base for base in bases if isinstance(base, Kind) or is_error(base)]
            names = {"__module__": text["module"], "__qualname__": text["qualname"], "__doc__": what["doc"], "_assay_kind": int(number)}
            if text["module"] == "builtins":
                # of functions and methods each has its own
                names["__doc__"] = property(lambda one: get(number_of(one), "__doc__", text["name"]))
            errors = any(issubclass(base, BaseException) for base in bases)
            if not errors:
                names["__slots__"] = ()
                bases = bases or [Proxy]
            else:
                bases = [base for base in bases if is_error(base)]
                names["__getattr__"] = lambda one, name: get(number_of(one), name, text["name"])
            for name in what["has"]:
                if name in OPERATORS and not (errors and name in ("__eq__", "__hash__")):
                    names[name] = operators[name]
            if "__eq__" in names and "__hash__" not in names:
                names["__hash__"] = None
            making[0] += 1
            try:
                kind = kinds[number] = type.__new__(Kind, text["name"], tuple(bases), names)
            finally:
                making[0] -= 1
            if is_coroutine:
                coroutine_kinds.add(kind)
            type.__setattr__(kind, "__init_subclass__", classmethod(no_subclass))
            return kind

    coroutine_kinds = set()
    coroutine_numbers = weakref.WeakKeyDictionary()

    async def awaiting(number):
        """Stands for a coroutine of the code under test: asyncio takes none but real ones."""
        return request(lambda table: ["operator", number, "__await__", values.encode((), table)])

    fields = {}  # a named tuple's class -> its number

    def is_error(kind):
        return isinstance(kind, type) and issubclass(kind, Exception)

    values = Proxies()

    class Module(types.ModuleType):
        """A module of the code under test."""

        def __getattr__(self, name):
            if is_hidden(name) and name not in ("__version__", "__author__", "__doc__"):
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
            return request(lambda table: ["get", modules[self.__name__], name])

        def __setattr__(self, name, value):
            if is_hidden(name):
                return types.ModuleType.__setattr__(self, name, value)
            request(lambda table: ["set", modules[self.__name__], name, values.encode(value, table)])

        def __delattr__(self, name):
            request(lambda table: ["del", modules[self.__name__], name])

        def __dir__(self):
            return request(lambda table: ["dir", modules[self.__name__]])

    module_of = {}  # number -> module

    def import_module(name, entry, into):
        """Imports a module of the code under test, which `into` then stands for; whether it is a package."""
        number, names, is_package = request(lambda table: ["import", name, entry])
        modules[name] = int(number)
        module_of[int(number)] = into
        types.ModuleType.__setattr__(into, "__all__", [str(one) for one in names if not is_hidden(str(one))])
        return bool(is_package)

    def reload(name):
        request(lambda table: ["reload", modules[name]])

    def context():
        """What the code under test sees of its process, and a suite may have changed."""
        now = getcwd(), dict(os.environ), [str(word) for word in sys.argv]
        if now != sent[0]:
            sent[0] = now
            return now
        return None

    def request(words):
        """Has the code's process do something; its result or exception."""
        if ended:
            raise BridgeError(ended[0])
        if not depth[0]:
            raised.clear()
            now = context()
            if now is not None:
                exchange(lambda table: ["context", *now])
        return exchange(words)

    def exchange(words):
        with turn:
            return exchanged(words)

    def exchanged(words):
        table = {}
        message = words(table)
        depth[0] += 1
        try:
            channel.send(message)
            while True:
                reply = channel.receive()
                if reply[0] in ("ok", "error"):
                    break
                serve_one(reply)
        except (EOFError, OSError):
            ended.append("the code under test has ended its process")
            raise BridgeError(ended[0]) from None
        finally:
            depth[0] -= 1
        what, result, changed = reply
        objects = dict(table.values())
        if what == "ok":
            value = values.decode(result, objects)
        else:
            value = error_of(result, objects)
        for number, content in changed:
            container = objects[number]
            values.fill(values.names[type(container)], container, content, objects)
        if late:
            error = late[0]
            late.clear()
            raise error
        if what == "ok":
            return value
        raise value

    def error_of(words, table):
        if words[0] == "raised":
            return raised[words[1]]
        _, kind, number, args, text, place, attributes = words
        kind = values.decode(kind, table)
        try:
            args = values.decode(args, table)
            if isinstance(kind, Kind):
                error = known.get(number)
                if error is None:
                    error = kind.__new__(kind, *args)
                    object.__setattr__(error, "_assay_number", int(number))
                    known[number] = error
            elif is_error(kind) or kind is SystemExit:
                error = made_error(kind, args)
                for name, value in attributes.items():
                    if type(value) in (int, str) and not name.startswith("_"):
                        setattr(error, name, value)
            else:
                error = BridgeError(f"{getattr(kind, '__name__', 'an exception')}: {text}")
        except BridgeError:
            raise
        except Exception:
            error = BridgeError(f"{getattr(kind, '__name__', 'an exception')}: {text}")
        if not isinstance(error, BaseException):
            error = BridgeError(str(text))
        places[id(error)] = error, str(place)
        return error

    def serve_one(words):
        """What the code's process asks for meanwhile."""
        what, *rest = words
        if what == "write":
            stream = sys.stdout if rest[0] == 1 else sys.stderr
            stream.write(str(rest[1]))
            return
        try:
            if what == "warn":
                kind, text, file, line = rest
                kind = values.decode(kind, {})
                kind = kind if isinstance(kind, type) and issubclass(kind, Warning) else UserWarning
                warning = kind.__new__(kind, str(text)) if isinstance(kind, Kind) else str(text)
                return warnings.warn_explicit(warning, kind, str(file), int(line))
            if what == "log":
                name, level, file, line, text, function = rest
                logger = logging.getLogger(str(name))
                if logger.isEnabledFor(int(level)):
                    record = logger.makeRecord(str(name), int(level), str(file), int(line), str(text), (), None, str(function))
                    logger.handle(record)
                return
        except BaseException as error:
            # a filter may make an exception of a warning: it is raised where the call was made
            late.append(error)
            return
        try:
            table = {}
            if what == "read":
                name, *args = rest
                if name == "input":
                    result = builtins.input(str(args[0])) if args[0] else builtins.input()
                elif name in ("read", "readline"):
                    result = getattr(sys.stdin, name)(int(args[0]))
                else:
                    raise BridgeError(f"unknown: {name}")
            elif what == "callback":
                function = handed_out[rest[0]]
                args, more = values.decode(rest[1], table), values.decode(rest[2], table)
                result = function(*args, **more)
            else:
                raise BridgeError(f"unknown: {what}")
            seen = {id(value): (number, value) for number, value in table.items()}
            answer = ["ok", values.encode(result, seen)]
        except BaseException as error:
            raised.append(error)
            name = type(error).__name__ if getattr(builtins, type(error).__name__, None) is type(error) and isinstance(error, Exception) else None
            try:
                args = values.encode(error.args, {})
            except BridgeError:
                args = ["tuple", []]
            answer = ["raised", len(raised) - 1, name, args]
        channel.send(answer)

    def start():
        channel.send(["start"])
        return channel.receive()[1] == "closed"

    return types.SimpleNamespace(
        start=start, load=import_module, reload=reload, Module=Module, foreign=(Module, Kind, Proxy), Error=BridgeError
    )
