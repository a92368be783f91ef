"""Runs pytest for assay and signs the results.

The first line of stdin holds the key, the suite's files and options. The key is read, every module that is needed
imported, and the suite compiled before any of the code under test runs. Each record is one line on the real stdout,
which pytest replaces for the tests:

    RS "assay" SP hmac-sha256(key, text) SP text LF        text = JSON with "n" counting from 0; the last has "done"

What decides a case is the suite's own code, not pytest's report of it:

* A finder that comes before all others serves the suite's modules from the suite's bytes.
* A case passes only if its test function, whose code was compiled from those bytes, was called by this runner and
  returned, and no phase raised anything.
* A skip or an expected failure counts only where the suite's own source states it: the mark was made by the suite's
  code, or the line of the suite that raised it says so.
* After each case, what it used is compared with what it was when it was loaded: the names of its module and classes,
  the builtins, unittest, pytest. Tracing and changing the code of functions is refused.

What decides cannot be replaced by code that runs in the same process:

* The runner's functions have builtins of their own, and copies of the modules that they use; what signs is C functions.
* Nothing outside leads to them: the tests' functions, pytest's hooks and whatever else must call the runner go through
  its audit hook, and further audit hooks, real frames and what enumerates objects are refused.
"""

import sys


def part(serve):
    """Starts the process of the code under test: its pid, and the suite's end of the socket between the two."""
    import os
    import socket

    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        empty = os.open("/dev/null", os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        serve(theirs, os.getcwd())
    theirs.close()
    # PR_SET_DUMPABLE: the other process has the same user, and must not read or write this one's memory and files
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(4, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    return ours, pid


SEPARATE = "--assay-separate"


def main(load):
    """Runs the suite with builtins of its own; no module leads to its code."""
    import builtins

    sys.modules.pop("assay_suite", None)
    scope = {"__builtins__": dict(vars(builtins)), "__name__": "assay_suite", "sys": sys, "part": part, "SEPARATE": SEPARATE}
    type(main)(run_suite.__code__, scope)(load)


def run_suite(load):
    import __future__

    bridge_end = None
    if sys.argv[1:2] == [SEPARATE]:
        # made before the key is read: it has no copy of it
        del sys.argv[1]
        bridge = load("bridge")
        bridge_end, code_process = part(bridge["serve"])

    import ast
    import collections
    import gc
    import genericpath
    from fnmatch import fnmatch
    import hashlib
    import importlib.machinery
    import importlib.util
    import json
    import linecache
    import marshal
    import os
    import posixpath
    import re
    import stat
    import time
    import traceback as tracebacks
    import types
    from operator import is_

    import _pytest.assertion.rewrite
    import _pytest.assertion.util
    import _pytest.debugging
    import _pytest.doctest
    import _pytest.main
    import _pytest.mark.structures
    import _pytest.nodes
    import _pytest.outcomes
    import _pytest.python
    import _pytest.python_api
    import _pytest.runner
    import _pytest.skipping
    import _pytest.unittest
    import pluggy
    import pytest
    import unittest.case

    def alone(*modules):
        """Copies of modules, whose functions use these copies and the runner's builtins."""
        copies = {id(vars(one)): types.ModuleType(one.__name__) for one in modules}
        for one in modules:
            names = vars(copies[id(vars(one))])
            names["__builtins__"] = __builtins__
            for name, value in vars(one).items():
                if isinstance(value, types.FunctionType) and value.__globals__ is vars(one):
                    made = types.FunctionType(value.__code__, names, name, value.__defaults__, value.__closure__)
                    made.__kwdefaults__ = value.__kwdefaults__
                    value = made
                elif isinstance(value, types.ModuleType):
                    value = copies.get(id(vars(value)), value)
                if name != "__builtins__":
                    names[name] = value
        return copies.values()

    ast, os, _, _, _, time, types = alone(ast, os, posixpath, genericpath, stat, time, types)
    TestCase, SkipTest, XFailed = unittest.case.TestCase, unittest.case.SkipTest, _pytest.outcomes.XFailed
    Function, Class, Failed = pytest.Function, pytest.Class, pytest.fail.Exception
    DoctestItem, TestCaseFunction = _pytest.doctest.DoctestItem, _pytest.unittest.TestCaseFunction
    evaluate_skip_marks, assertion_util = _pytest.skipping.evaluate_skip_marks, _pytest.assertion.util

    order = json.loads(sys.stdin.buffer.readline())
    key = bytes.fromhex(order.pop("key")).ljust(64, b"\0")
    # HMAC, of C functions only
    inner_hash, outer_hash = (hashlib.sha256(bytes(byte ^ pad for byte in key)).copy for pad in (0x36, 0x5C))
    del key
    quoted = json.encoder.encode_basestring_ascii
    out = os.dup(1)
    os.set_inheritable(out, False)
    numbers = iter(range(1 << 30))
    box = os.getcwd()
    process = os.getpid()
    installed = list(sys.path)
    system = tuple({os.path.dirname(os.__file__) + "/", os.path.dirname(os.path.dirname(pytest.__file__)) + "/"})

    def json_of(value):
        if isinstance(value, str):
            return quoted(value)
        if isinstance(value, dict):
            return "{" + ",".join([f"{quoted(key)}:{json_of(one)}" for key, one in value.items()]) + "}"
        if isinstance(value, list):
            return "[" + ",".join([json_of(one) for one in value]) + "]"
        return repr(value)

    def record(write=os.write, getpid=os.getpid, leave=os._exit, **what):
        if getpid() != process:
            leave(3)  # a fork of the code under test
        text = json_of({"n": next(numbers), **what}).encode()
        inside, mac = inner_hash(), outer_hash()
        inside.update(text)
        mac.update(inside.digest())
        line = b"\n\x1eassay " + mac.hexdigest().encode() + b" " + text + b"\n"
        while line:
            line = line[write(out, line):]

    def tampered(what, leave=os._exit):
        record(end="tampered", message=str(what)[:500])
        leave(3)

    state = {"named": [], "before": None, "core": None, "running": False, "finder": None, "config": None}

    # --- the suite's own code -----------------------------------------------------------------------------------

    hidden = order.get("sources", {})  # the suite's sources, where the code under test must not see them
    sources = {path: text.encode() for path, text in hidden.items()}
    for path in order["suite"]:
        if path.endswith(".py") and path not in sources:
            with open(os.path.join(box, path), "rb") as file:
                sources[path] = file.read()
    heads = {}  # path -> (name, whether it has decorators, whether it is a class) of the definitions at the top of the file
    programs = {}  # path -> the compiled module, or the exception of compiling it
    # code objects by id: comparing them is slow, and not exact in every version
    codes = {}  # every code object of the suite
    served = {}  # module name -> the module that was made from the suite's bytes
    loaded = {}  # id of a module's dictionary -> what it held when it had been loaded
    failures = {}  # path -> why a file of the suite could not be loaded
    tails = {path.removesuffix("/__init__.py").removesuffix(".py").rpartition("/")[2] for path in sources}

    libraries = {}  # name, and id of the dictionary, of a module that the suite imports -> what it held before the submission
    taken = {}  # path -> (module, name, name here) of what the file takes from such modules
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

    def spread(code):
        codes[id(code)] = code
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                spread(constant)

    def is_rewritten(path, config):
        name = path.rpartition("/")[2]
        patterns = config.getini("python_files")
        return path in order["files"] or name == "conftest.py" or any(_pytest.pathlib.fnmatch_ex(p, name) for p in patterns)

    def compile_suite(config):
        plain = getattr(config.known_args_namespace, "assertmode", "rewrite") != "rewrite"
        for path, source in sources.items():
            place = os.path.join(box, path)
            try:
                tree = ast.parse(source, place)
                # not the nodes: the rewritten tree is large, and what collects garbage would walk through it
                heads[path] = [
                    (node.name, bool(node.decorator_list), isinstance(node, ast.ClassDef))
                    for node in tree.body if isinstance(node, definitions)
                ]
                taken[path] = [
                    (node.module, alias.name, alias.asname or alias.name)
                    for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level
                    for alias in node.names
                ] + [
                    (alias.name if alias.asname else alias.name.partition(".")[0], None, alias.asname or alias.name.partition(".")[0])
                    for node in tree.body if isinstance(node, ast.Import)
                    for alias in node.names
                ]
                if not plain and is_rewritten(path, config):
                    _pytest.assertion.rewrite.rewrite_asserts(tree, source, place, config)
                programs[path] = list(compiled(tree, place))
                if path in hidden:
                    text = source.decode(errors="replace")
                    linecache.cache[place] = len(text), None, text.splitlines(True), place
                for _, program in programs[path]:
                    spread(program)
            except (SyntaxError, ValueError) as error:
                programs[path] = error

    def compiled(tree, place):
        """The module in pieces: (whether it is `from MODULE import *` of another's module, code)."""
        whole = compile(tree, place, "exec", dont_inherit=True)
        futures = 0
        for name in __future__.all_feature_names:
            futures |= whole.co_flags & getattr(__future__, name).compiler_flag
        pieces = []
        for node in tree.body:
            is_star = isinstance(node, ast.ImportFrom) and node.names[0].name == "*" and (
                node.level or node.module.rpartition(".")[2] not in tails
            )
            if is_star or not pieces or pieces[-1][0]:
                pieces.append((is_star, []))
            pieces[-1][1].append(node)
        if len(pieces) < 2:
            yield False, whole
            return
        for at, (is_star, nodes) in enumerate(pieces):
            if at:
                # text at the beginning would be the module's documentation
                nodes.insert(0, ast.copy_location(ast.Pass(), nodes[0]))
            yield is_star, compile(ast.Module(nodes, []), place, "exec", dont_inherit=True, flags=futures)

    def verify_star(path, names, before):
        """What a `*` has brought must not stand in for what the suite has, or uses of Python itself."""
        for name, value in names.items():
            if name in before:
                if value is not before[name] and name not in ("__builtins__", "__annotations__"):
                    tampered(f"{name}, which {path} has before it imports * from it")
            elif name in core_names and words[path][name.encode()]:
                tampered(f"{name}, which {path} uses as Python's own; import it by name")

    importing = re.compile(rb"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import|import[ \t]+([\w., \t]+))", re.MULTILINE)

    asking = re.compile(rb"importorskip\(\s*['\"]([\w.]+)['\"]")

    def imported(source):
        for module, modules in importing.findall(source):
            for name in (module or modules).decode(errors="replace").split(","):
                if name.strip() and not name.strip().startswith("."):
                    yield name.split()[0]

    def is_installed(top):
        spec = importlib.machinery.PathFinder.find_spec(top, installed)
        return spec is not None and spec.loader is not None

    def load_libraries():
        """Imports the installed modules that the suite imports, before files of the submission can take their place.

        If the suite imports nothing else of the submission, the module of that name is what it tests.
        """
        wanted = {name for source in sources.values() for name in imported(source)}
        wanted |= {name.decode() for source in sources.values() for name in asking.findall(source)}
        wanted |= {name.partition(".")[0] for name in wanted}
        own = {path.partition("/")[0].removesuffix(".py") for path in order["own"]}
        tops = {name.partition(".")[0] for name in wanted}
        modules = sys.stdlib_module_names
        for name in sorted(wanted):
            top = name.partition(".")[0]
            is_library = top in modules or top not in own and is_installed(top)
            if is_library and top not in tails and (top not in own or (tops & own) - modules):
                try:
                    __import__(name)
                except BaseException:
                    pass  # the suite's own import tells
        for name in wanted:
            module = sys.modules.get(name)
            if module is not None:
                libraries[name] = libraries[id(vars(module))] = {None: module, **vars(module)}
                library_tops.add(name.partition(".")[0])

    library_tops = set()
    # what pytest and unittest compare, match and wrap with
    tools = {"collections", "contextlib", "decimal", "functools", "io", "math", "numbers", "operator", "re"}
    # these have hooks that programs replace
    unwatched = {"builtins", "sys", "threading", "warnings", "logging", "signal", "pytest", "_pytest", "unittest", "pluggy"}

    def library_core():
        """Functions and classes of the modules that the suite imports, with what they consist of."""
        # conditions of skips that are a text may ask it
        asked = {"platform"} if any(words[path][b"platform"] for path in words) else set()
        tops = (library_tops | tools | asked) - unwatched
        for name, module in list(sys.modules.items()):
            top = name.partition(".")[0]
            is_standard = top in sys.stdlib_module_names
            if top not in tops or not isinstance(module, types.ModuleType) or name in served:
                continue
            if not is_standard and name != top and not any(words[path][name.rpartition(".")[2].encode()] for path in words):
                continue
            if isinstance(module, foreign):
                continue
            yield name, frozen(vars(module), functions + c_functions if top in tools else functions, own_changes)
            # os.path is posixpath, and collections.abc has the classes of another module
            below = [module] + [one for one in vars(module).values() if isinstance(one, types.ModuleType) and one.__name__ not in sys.modules]
            for one in below:
                for key, value in list(vars(one).items()):
                    if isinstance(value, type) and value.__module__ == name and value.__flags__ & HEAP_TYPE:
                        yield f"{name}.{key}", frozen(vars(value), functions, own_changes)
            for key, value in list(vars(module).items()):
                if isinstance(value, types.ModuleType) and value.__name__ in sys.modules and any(words[path][key.encode()] for path in words):
                    if value.__name__.partition(".")[0] not in tops | unwatched and not isinstance(value, foreign):
                        yield value.__name__, frozen(vars(value), functions, own_changes)

    HEAP_TYPE = 1 << 9

    special = {
        "pytestmark", "pytest_plugins", "__test__", "load_tests", "setup_module", "teardown_module", "setup_function",
        "teardown_function", "setUpModule", "tearDownModule", "collect_ignore", "collect_ignore_glob", "__getattr__",
    }

    function_kind = types.FunctionType

    def inner(function):
        """The function below decorators that say what they wrap."""
        for _ in range(20):
            if type(function) is function_kind:
                below = function.__dict__.get("__wrapped__")
                if below is None:
                    break
                function = below
                continue
            if isinstance(function, foreign):
                break
            function = getattr(function, "__func__", function)
            below = getattr(function, "__dict__", {}).get("__wrapped__")
            if below is None:
                break
            function = below
        return function

    def is_of_suite(function):
        return id(getattr(inner(function), "__code__", None)) in codes

    words = {path: collections.Counter(re.findall(rb"\w+", source)) for path, source in sources.items()}

    def is_test(key, method):
        # not all versions of pytest collect methods of classes
        return key.startswith("test") and not isinstance(method, classmethod) and is_of_suite(method)

    def verify_module(path, module):
        """What the code under test may have done to a module of the suite while that imported it."""
        names = vars(module)
        if names.get("__name__") != module.__spec__.name and not words[path][b"__name__"]:
            tampered(f"{path}: __name__")
        if names.get("__builtins__") not in (vars(builtins), builtins):
            tampered(f"the builtins of {path}")
        for name in list(names):
            if (name in special or name.startswith("pytest_")) and not words[path][name.encode()]:
                tampered(f"{path}: {name}")
        defined = {name for name, _, _ in heads[path]}
        for library, name, here in taken[path]:
            before = libraries.get(library, {}).get(name, missing)
            if library in served and id(vars(served[library])) in loaded:
                whole = loaded[id(vars(served[library]))]
                before = missing if name in whole.changing | own_changes else whole.before.get(name, missing)
            if before is not missing and here not in defined and names.get(here) is not before:
                tampered(f"{library if name is None else f'{library}.{name}'}, which the tests use")
        tests = set()
        for name, is_decorated, is_class in heads[path]:
            value = names.get(name)
            if is_decorated or words[path][name.encode()] > 1:
                continue  # the suite itself may have replaced it
            kind = type if is_class else types.FunctionType
            if is_class and isinstance(value, type) and value.__module__ != names.get("__name__") and not words[path][b"__module__"]:
                tampered(f"{path}: the module of {name}")
            if not isinstance(value, kind) or kind is types.FunctionType and id(value.__code__) not in codes:
                tampered(f"{path}: {name}")
        for name, value in list(names.items()):
            if name.startswith("test") and isinstance(value, types.FunctionType) and is_of_suite(value):
                tests.add(name)
            elif isinstance(value, type) and value.__module__ == module.__name__:
                if name.startswith("Test") or issubclass(value, TestCase):
                    methods = (key for key, method in vars(value).items() if is_test(key, method))
                    tests.update(f"{name}::{key}" for key in methods)
        classes = {}
        abstract = {value.__name__ for value in names.values() if isinstance(value, type) and has_constructor(value)}
        note_marks([module, *names.values()])
        for value in names.values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                classes[value] = dict(vars(value))
                note_marks(getattr(one, "__func__", one) for one in classes[value].values())
        loaded[id(names)] = loaded_as(path, names, dict(names), classes, tests, abstract)

    # what a suite replaces itself
    patching = re.compile(rb"(?:setattr|patch(?:\.object)?)\(\s*(?:[\w.]+\s*,\s*)?['\"][\w.]*?(\w+)['\"]")
    own_changes = {name.decode() for source in sources.values() for name in patching.findall(source)}

    globals_of = re.compile(rb"^[ \t]*global[ \t]+([\w, \t]+)", re.MULTILINE)
    stores_of = re.compile(rb"\.(\w+)[ \t]*(?:,|[-+*/%@&|^]?=(?!=)|(?://|\*\*|<<|>>)=)")
    own_changes |= {name.decode() for source in sources.values() for name in stores_of.findall(source)}

    def has_constructor(kind):
        """Whether pytest does not collect a class for that."""
        if issubclass(kind, TestCase):
            return False
        return kind.__init__ is not object.__init__ or kind.__new__ is not object.__new__

    def loaded_as(path, names, before, classes, tests, abstract):
        """A module of the suite, as it was when it had been loaded."""
        found = globals_of.findall(sources[path])
        return types.SimpleNamespace(
            path=path, names=names, before=before, classes=classes, tests=tests, abstract=abstract, key=id(names),
            changing={name.strip().decode() for line in found for name in line.split(b",")},
            stored={name.decode() for name in stores_of.findall(sources[path])},
        )

    def one_object(name, bases, body):
        """In place of a class, which is found among the subclasses of `object`: one object with its functions."""
        one = types.SimpleNamespace()
        for key, value in body.items():
            vars(one)[key] = types.MethodType(value, one) if isinstance(value, types.FunctionType) else value
        return one

    class suite(metaclass=one_object):
        """Finds and loads the suite's modules, from the suite's bytes."""

        def find_spec(self, name, path=None, target=None):
            spec = self.suite_spec(name, path)
            if spec is not None or separate is None:
                return spec
            spec = separate.find_spec(name, path)
            if spec is not None:
                return spec
            # the folder of the submission is on sys.path, and the code under test can write there
            for finder in importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter:
                spec = spec or finder.find_spec(name, path)
            trusted = [entry for entry in (sys.path if path is None else path) if f"{entry}/".startswith(system)]
            spec = spec or importlib.machinery.PathFinder.find_spec(name, trusted)
            if spec is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return spec

        def suite_spec(self, name, path):
            tail = name.rpartition(".")[2]
            if tail not in tails:
                return None
            for entry in sys.path if path is None else path:
                folder = os.path.abspath(entry or ".")
                if folder != box and not folder.startswith(box + "/"):
                    continue
                start = folder[len(box) + 1:]
                start = start + "/" if start else ""
                for file, package in ((f"{start}{tail}/__init__.py", True), (f"{start}{tail}.py", False)):
                    if file in sources:
                        place = os.path.join(box, file)
                        spec = importlib.machinery.ModuleSpec(name, state["finder"], origin=place, is_package=package)
                        spec.has_location = True
                        spec.loader_state = file
                        if package:
                            spec.submodule_search_locations = [os.path.dirname(place)]
                        return spec
            return None

        def create_module(self, spec):
            served[spec.name] = module = types.ModuleType(spec.name)
            return module

        def exec_module(self, module):
            file = module.__spec__.loader_state
            program = programs[file]
            try:
                if isinstance(program, BaseException):
                    raise program
                vars(module).setdefault("__builtins__", vars(builtins))  # not the runner's own
                for is_star, piece in program:
                    before = dict(vars(module)) if is_star else None
                    exec(piece, vars(module))
                    if is_star:
                        verify_star(file, vars(module), before)
            except BaseException as error:
                if is_skip(error) and not says_skip(error.__traceback__):
                    error = RuntimeError(f"the code under test skips its tests: {error}").with_traceback(error.__traceback__)
                failures[file] = place_of(error) + describe(error)
                raise error
            verify_module(file, module)

        def get_source(self, name):
            return sources[served[name].__spec__.loader_state].decode()

        def get_code(self, name):
            return compile(self.get_source(name), self.get_filename(name), "exec", dont_inherit=True)

        def get_data(self, path):
            if os.path.relpath(path, box) in hidden:
                return sources[os.path.relpath(path, box)]
            with open(path, "rb") as file:
                return file.read()

        def get_filename(self, name):
            return served[name].__file__

        def is_package(self, name):
            return served[name].__spec__.submodule_search_locations is not None

    class separate_code(metaclass=one_object):
        """Finds and loads what stands for the modules of the code under test."""

        loaded = set()

        def find_spec(self, name, path):
            tail = name.rpartition(".")[2]
            for entry in sys.path if path is None else path:
                folder = os.path.abspath(entry or ".")
                if folder != box and not folder.startswith(box + "/"):
                    continue
                start = os.path.relpath(folder, box)
                start = tail if start == "." else f"{start}/{tail}"
                found = f"{start}.py" in order["own"]
                package = any(path.startswith(start + "/") for path in order["own"])
                if found or package:
                    spec = importlib.machinery.ModuleSpec(name, self, origin=f"{folder}/{tail}.py", is_package=package)
                    if package:
                        spec.submodule_search_locations = [f"{folder}/{tail}"]
                    spec.loader_state = folder
                    return spec
            return None

        def create_module(self, spec):
            self.loaded.discard(spec.name)
            return bridge.Module(spec.name)

        def exec_module(self, module):
            name = module.__spec__.name
            if name in self.loaded:
                bridge.reload(name)
            else:
                # what is below a package is found by the package
                bridge.load(name, module.__spec__.loader_state if "." not in name else box, module)
                self.loaded.add(name)

    separate, foreign, far_places = None, (), {}
    if bridge_end is not None:
        bridge = bridge["connect"](bridge_end, lambda function: is_of_suite(function), far_places)
        separate, foreign = separate_code, bridge.foreign
        if not bridge.start():
            record(name="suite", end="error", message="this machine does not keep processes of one user apart")
            os._exit(3)

    # --- skips and expected failures ----------------------------------------------------------------------------

    skips = (_pytest.outcomes.Skipped, unittest.case.SkipTest)
    stated = {}  # id of a mark that the suite's code made -> the mark, its arguments
    says = {"skip", "skipTest", "importorskip", "xfail", "SkipTest", "Skipped", "Exception"}
    skippers = set()
    for function in (
        _pytest.outcomes.skip, _pytest.outcomes.xfail, _pytest.outcomes.importorskip, unittest.case.TestCase.skipTest,
    ):
        function = inner(function)
        skippers.add(function.__code__)
        skippers.add(getattr(function, "__wrapped__", function).__code__)
        skippers.update(
            cell.cell_contents.__code__
            for cell in function.__closure__ or ()
            if isinstance(cell.cell_contents, types.FunctionType)
        )
    decorated = {getattr(_pytest.outcomes.skip, "__code__", None), getattr(_pytest.outcomes.xfail, "__code__", None)}
    skippers |= decorated - {None}

    def is_skip(error):
        return isinstance(error, skips) or isinstance(error, XFailed)

    def calls(traceback, name):
        """Whether the line of the suite in a traceback calls a function of this name: an exception may be raised again."""
        code = traceback.tb_frame.f_code
        line, end, column, end_column = list(code.co_positions())[traceback.tb_lasti // 2]
        text = sources.get(os.path.relpath(code.co_filename, box), b"").splitlines()
        if name.startswith(("__", "<")) or None in (line, end, column, end_column) or line != end or line > len(text):
            return name.startswith(("__", "<")) or line is None or line != end
        return re.search(rf"\b{name}\b", text[line - 1][column:end_column].decode(errors="replace")) is not None

    def says_skip(traceback):
        """Whether a skip was raised by a line of the suite that says so, with no other code in between."""
        last = None
        while traceback is not None:
            code = traceback.tb_frame.f_code
            if id(code) in codes:
                if last is not None and not calls(last, code.co_name):
                    return False
                last = traceback
            elif last is not None and code not in skippers:
                return code.co_filename.endswith("/unittest/case.py") and code in framework
            traceback = traceback.tb_next
        return last is not None and states(last)

    framework = {
        code for name in ("skip", "skipIf", "skipUnless", "_id") for code in [getattr(unittest.case, name).__code__]
    }

    def nodes_of(tree):
        todo = [tree]
        while todo:
            node = todo.pop()
            todo.extend(ast.iter_child_nodes(node))
            yield node

    def states(traceback):
        code = traceback.tb_frame.f_code
        position = list(code.co_positions())[traceback.tb_lasti // 2]
        path = os.path.relpath(code.co_filename, box)
        if path not in sources or None in position:
            return False
        tree = ast.parse(sources[path])
        line, end, column, end_column = position
        foreign = {
            alias.asname or alias.name
            for node in nodes_of(tree)
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").partition(".")[0] not in ("pytest", "unittest", "_pytest"))
            for alias in node.names
        }
        for node in nodes_of(tree):
            if isinstance(node, (ast.Call, ast.Raise)) and (node.lineno, node.end_lineno, node.col_offset) == (line, end, column):
                target = node.func if isinstance(node, ast.Call) else node.exc
                target = target.func if isinstance(target, ast.Call) else target
                name = getattr(target, "attr", getattr(target, "id", None))
                if name in says and not (isinstance(target, ast.Name) and name in foreign):
                    return True
        return False

    structures = _pytest.mark.structures

    def by_suite(*names):
        """Whether the suite's code made this call of a function that is watched, and has one of its names."""
        frame = getframe()
        while id(frame.f_code) not in protected:
            frame = frame.f_back
        frame = frame.f_back
        while frame is not None and (is_pytest(frame.f_code) or id(frame.f_code) in protected and not is_library(frame.f_code)):
            frame = frame.f_back
        if frame is None or id(frame.f_code) not in codes:
            return False
        return not names or any(name in frame.f_code.co_names for name in names)

    def marks_of(owner):
        """The marks that a function, a class or a module has itself."""
        marks = getattr(owner, "__dict__", {}).get("pytestmark", ())
        return [getattr(one, "mark", one) for one in (marks if isinstance(marks, (list, tuple)) else [marks])]

    cases = {}  # id of a function, class or module of the suite -> for each of its lists of cases: (names, rows, is direct)

    def cases_of(mark):
        """The values of a parametrize mark, where they are a list of the suite."""
        names, rows = (*mark.args, None, None)[:2] if mark.name == "parametrize" else (None, None)
        names, rows = mark.kwargs.get("argnames", names), mark.kwargs.get("argvalues", rows)
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",") if name.strip()]
        if not isinstance(names, (list, tuple)) or not isinstance(rows, (list, tuple)) or not rows:
            return None
        values = [getattr(row, "values", row) for row in rows]
        if len(names) == 1:
            values = [value if isinstance(row, structures.ParameterSet) else (value,) for row, value in zip(rows, values)]
        return list(names), [tuple(value) for value in values], not mark.kwargs.get("indirect")

    def verify_cases(items):
        """Each list of the suite's cases makes as many tests as it has rows, of its values."""
        counts = {}
        for item in items:
            if not isinstance(item, Function):
                continue
            function = getattr(item.obj, "__func__", item.obj)
            owners = [function, *getattr(item.cls, "__mro__", ()), getattr(item, "module", None)]
            lists = [one for owner in owners for one in cases.get(id(owner), ())]
            if not lists:
                continue
            least, given = 1, {}
            spec = getattr(item, "callspec", None)
            now = {**getattr(spec, "funcargs", {}), **getattr(spec, "params", {})}
            for names, rows, is_direct in lists:
                least *= len(rows)
                if not any(all(at < len(row) and now.get(name, missing) is row[at] for at, name in enumerate(names)) for row in rows):
                    tampered(f"the parameters of {item.nodeid}")
                given.update((name, now[name]) for name in names if is_direct)
            case_values[id(item)] = given
            key = id(function), id(item.cls), id(getattr(item, "module", None))
            have, _, _ = counts.get(key, (0, 0, ""))
            counts[key] = have + 1, least, item.nodeid
        for have, least, name in counts.values():
            if have < least:
                tampered(f"the parameters of {name}")

    case_values = {}  # id of an item -> what its function is given by a list of cases

    def note_marks(owners):
        """Remembers, once, what the suite has marked, and with what; marks of parameters are marks of all."""
        for owner in owners:
            if id(owner) not in marked and isinstance(owner, (type, types.FunctionType, types.ModuleType)):
                marks = marks_of(owner)
                own_flags = {flag for flag in unittest_flags if vars(owner).get(flag, False)}
                marked[id(owner)] = owner, {id(mark) for mark in marks}, own_flags
                cases[id(owner)] = [one for one in map(cases_of, marks) if one]
                for mark in marks:
                    for several in mark.args if mark.name == "parametrize" else ():
                        for one in several if isinstance(several, (list, tuple)) else ():
                            of_parameters.update((id(mark), mark) for mark in (getattr(mark, "mark", mark) for mark in getattr(one, "marks", ())))

    unittest_flags = "__unittest_expecting_failure__", "__unittest_skip__"
    # id of a function, class or module of the suite -> itself, ids of its marks and flags of unittest when it had been loaded
    marked = {}
    of_parameters = {}  # id of a mark -> the mark
    added = set()  # (id of an item or a collector, id of a mark) that the suite's code has added to it

    def allow_marks(item):
        """Notes which marks the suite's code gave to a test, its class, module and parameters."""
        function = getattr(item, "obj", None)
        owners = [getattr(function, "__func__", function), *getattr(getattr(item, "cls", None), "__mro__", ())]
        allowed, present = set(of_parameters), set()
        allowed_marks[item], flags[item] = allowed, present
        for owner in [*owners, getattr(item, "module", None)]:
            _, ids, own_flags = marked.get(id(owner), nothing_marked)
            allowed |= ids
            present |= own_flags
        # those of parameters that a hook of the suite has made
        dynamic = {id(mark) for mark in getattr(getattr(item, "callspec", None), "marks", ())} - allowed
        if dynamic:
            allowed |= dynamic.difference(*(ids for _, ids, _ in marked.values()))

    allowed_marks = {}  # item -> ids of marks
    flags = {}  # item -> unittest's attributes that its function or class had
    deciding = {"skip", "skipif", "xfail"}

    # what code under test may have put on an object or its class does not count
    parent_of, fields_of = vars(_pytest.nodes.Node)["parent"].__get__, vars(_pytest.nodes.Node)["__dict__"].__get__
    fields_of_mark = vars(structures.Mark)["__dict__"].__get__

    def marks_on(item):
        """The marks that the suite's code has made and that a test has, its collectors' too: (node, mark, its fields)."""
        node = item
        while node is not None:
            for mark in fields_of(node).get("own_markers", ()):
                if id(mark) in stated:
                    yield node, mark, fields_of_mark(mark)
            node = parent_of(node)

    def verify_marks(item):
        """A mark that skips a test or expects its failure is one that the suite's code gave to it."""
        for node, mark, now in marks_on(item):
            _, name, args, more, values = stated[id(mark)]
            if now["name"] != name or now["args"] is not args or now["kwargs"] is not more or list(map(id, more.values())) != values:
                tampered(f"the mark {name}")
            if name in deciding and id(mark) not in allowed_marks.get(item, ()) and (id(node), id(mark)) not in added:
                tampered(f"the marks of {item.nodeid}")

    def holds(item, condition):
        """Whether a condition of a mark is true; one that is a text is an expression in the test's module."""
        if not isinstance(condition, str):
            return bool(condition)
        names = {"os": sys.modules["os"], "sys": sys, "platform": sys.modules.get("platform"), "config": item.config}
        names.update(getattr(getattr(item, "obj", None), "__globals__", {}))
        return bool(eval(compile(condition, "<condition>", "eval"), {"__builtins__": vars(builtins), **names}))

    def is_marked(item, *names, error=None):
        """Whether the suite's marks skip a test, or expect that it fails, now."""
        for _, mark, now in marks_on(item):
            more = now["kwargs"]
            if now["name"] not in names:
                continue
            conditions = [more["condition"]] if "condition" in more else now["args"] if now["name"] != "skip" else ()
            try:
                if conditions and not any(holds(item, condition) for condition in conditions):
                    continue
                raises = more.get("raises")
                if error is None or raises is None or isinstance(error, raises):
                    return True
            except Exception:
                return True  # pytest tells what is wrong with it
        return False

    nothing_marked = None, frozenset(), frozenset()

    def is_pytest(code):
        return is_library(code) and "/_pytest/" in code.co_filename

    def watch_marks():
        def watched(function):
            def handler(*args, **more):
                structures.MARK_GEN._config = state["config"]
                try:
                    made = function(*args, **more)
                finally:
                    structures.MARK_GEN._config = None
                mark = getattr(made, "mark", None)
                if mark is not None and by_suite():
                    stated[id(mark)] = mark, mark.name, mark.args, mark.kwargs, list(map(id, mark.kwargs.values()))
                return made

            return handler

        for kind, name in (
            (structures.MarkGenerator, "__getattr__"),
            (structures.MarkDecorator, "__call__"),
            (structures.MarkDecorator, "with_args"),
        ):
            setattr(kind, name, opaque(f"{kind.__name__}.{name}", watched(getattr(kind, name))))
        add_marker = _pytest.nodes.Node.add_marker

        def note_added(node, marker, append=True):
            before = set(map(id, node.own_markers))
            add_marker(node, marker, append)
            if by_suite("add_marker", "applymarker"):
                added.update((id(node), id(mark)) for mark in node.own_markers if id(mark) not in before)

        _pytest.nodes.Node.add_marker = opaque("Node.add_marker", note_added)

    def unittest_flag(item, flag):
        """Whether the suite's source has decorated the test, or its class, with unittest's skip or expectedFailure."""
        whole = loaded.get(id(vars(item.module))) if getattr(item, "module", None) else None
        word = b"expectedFailure" if flag == "__unittest_expecting_failure__" else b"skip"
        if whole is None or word not in sources[whole.path]:
            return False
        return flag in flags.get(item, ())

    # --- comparing ----------------------------------------------------------------------------------------------

    import builtins

    functions = (types.FunctionType, type, staticmethod, classmethod, property)
    c_functions = (types.BuiltinFunctionType,)
    unchecked = {"print", "input", "help", "exit", "quit", "_", "copyright", "credits", "license"}
    # a suite may replace others itself, by `monkeypatch` or `mock.patch`
    patched = re.compile(rb"builtins['\",.\s]+(\w+)")
    unchecked |= {name.decode() for source in sources.values() for name in patched.findall(source)}
    core_names = frozenset(vars(builtins)) - unchecked

    def parts():
        modules = sys.modules
        for name, module in list(modules.items()):
            if name.partition(".")[0] in ("_pytest", "pytest", "pluggy", "unittest", "doctest"):
                for key, value in list(vars(module).items()):
                    if isinstance(value, functions):
                        yield (name, key), value
                        if isinstance(value, types.FunctionType):
                            yield (name, key, "code"), value.__code__
                    if isinstance(value, type) and value.__module__ == name:
                        for part, method in list(vars(value).items()):
                            if isinstance(method, functions):
                                yield (name, key, part), method
                                if isinstance(method, types.FunctionType):
                                    yield (name, key, part, "code"), method.__code__

    def is_of_legacy(value):
        """Whether it is one of the methods that pytest's plugin of old paths adds while pytest starts."""
        value = getattr(value, "fget", value)
        code = getattr(value, "__code__", value)
        return isinstance(code, types.CodeType) and is_library(code) and code.co_filename.endswith("/_pytest/legacypath.py")

    def is_of_skipping(value):
        code = getattr(value, "__code__", value)
        return isinstance(code, types.CodeType) and is_library(code) and code.co_filename.endswith("/_pytest/skipping.py")

    def look_at_all():
        now = dict(parts())
        for key, value in state["before"].items():
            if now.get(key) is not value:
                tampered(".".join(key))

    def frozen(names, kinds=object, but=()):
        kept = {key: value for key, value in list(names.items()) if isinstance(value, kinds) and key not in but}
        return names, tuple(kept), tuple(kept.values())

    def core():
        yield "builtins", frozen(vars(builtins), but=unchecked)
        modules = [_pytest.outcomes, _pytest.python_api, _pytest.assertion.rewrite, _pytest.runner, unittest.case]
        if any("doctest" in word for word in sys.argv[1:]):
            modules.append(doctest)
            for kind in (value for value in list(vars(doctest).values()) if isinstance(value, type)):
                if kind.__flags__ & HEAP_TYPE:
                    yield f"doctest.{kind.__name__}", frozen(vars(kind), functions)
        for module in modules:
            yield module.__name__, frozen(vars(module), functions)
        # settings, which suites change for all their classes
        yield "unittest.TestCase", frozen(vars(unittest.case.TestCase), but=own_changes | {"maxDiff", "longMessage"})
        # conditions of skips; the suite may patch them
        constants = {"platform", "version_info", "version", "hexversion", "maxsize", "maxunicode", "byteorder", "implementation"}
        yield "sys", frozen(vars(sys), but=own_changes | (vars(sys).keys() - constants))
        yield "os", frozen(vars(sys.modules["os"]), but=own_changes | (vars(sys.modules["os"]).keys() - {"name"}))
        names = [name for name in libraries if isinstance(name, str) and name not in own_changes]
        yield "sys.modules", (sys.modules, tuple(names), tuple(libraries[name][None] for name in names))
        for home in ("unittest.case", "_pytest.python_api", "_pytest.raises", "_pytest.recwarn", "_pytest._code.code"):
            for key, value in list(vars(sys.modules.get(home, types)).items()):
                if isinstance(value, type) and value.__module__ == home and value is not unittest.case.TestCase:
                    if home != "_pytest._code.code" or key == "ExceptionInfo":
                        yield f"{home}.{key}", frozen(vars(value))

    everything = all

    def look(watched):
        """Compares the core and what a case uses with what they were."""
        for name, (names, keys, values) in state["core"]:
            if not everything(map(is_, map(names.get, keys), values)):
                for key, value in zip(keys, values):
                    if names.get(key) is not value:
                        tampered(f"{name}.{key}")
        for names, key, value in watched:
            if names.get(key, missing) is not value:
                tampered(f"{key}, which the tests use")

    missing, nothing = object(), ()
    known = {}

    def cells_of(function):
        """What a function has of the functions around it."""
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))

        def get(name, default=None):
            try:
                return cells[name].cell_contents
            except (KeyError, ValueError):
                return default

        return types.SimpleNamespace(cells=cells, get=get)

    def levels(function):
        """The function and those below its decorators."""
        for _ in range(20):
            if isinstance(function, foreign):
                return
            function = getattr(function, "__func__", function)
            if not isinstance(function, types.FunctionType):
                return
            yield function
            function = getattr(function, "__dict__", {}).get("__wrapped__")
            if function is None:
                return

    around = {"setup_module", "teardown_module", "setup_function", "teardown_function", "setUpModule", "tearDownModule"}

    def used_by(function, kind, fixtures=()):
        """What a test of the suite and its fixtures use by name: (names, key, value when it was loaded)."""
        code = getattr(inner(function), "__code__", None)
        key = (code, kind, fixtures)
        if key not in known:
            found = {}
            todo, seen = [inner(function)], set()
            for one in (function, *fixtures):
                todo.extend(levels(one))
            home = loaded.get(id(getattr(inner(function), "__globals__", None)))
            if home is not None:
                for name in around & home.before.keys():
                    found[home.key, name] = (home.names, name, home.before[name])
                    todo.append(inner(home.before[name]))
            while todo:
                one = todo.pop()
                code = getattr(one, "__code__", None)
                whole = loaded.get(id(getattr(one, "__globals__", None)))
                if code in seen or id(code) not in codes or whole is None:
                    continue
                seen.add(code)
                names = set(code.co_names)
                nested = [constant for constant in code.co_consts if type(constant) is code_kind]
                while nested:
                    part = nested.pop()
                    names.update(part.co_names)
                    nested.extend(constant for constant in part.co_consts if type(constant) is code_kind)
                for name, value in (one.__kwdefaults__ or nowhere).items():
                    found[id(one), name] = (one.__kwdefaults__, name, value)
                if one.__closure__:
                    cells = cells_of(one)
                    for name in cells.cells:
                        value = cells.get(name)
                        if isinstance(value, functions):
                            found[id(one), name] = (cells, name, value)
                            todo.extend(levels(value))
                # functions that are made later get these
                found[whole.key, "__builtins__"] = (whole.names, "__builtins__", whole.before.get("__builtins__", missing))
                for name in names - whole.changing:
                    value = whole.before.get(name, missing)
                    if value is missing:
                        if name not in whole.stored:
                            found[whole.key, name] = (whole.names, name, missing) if hasattr(builtins, name) else None
                        continue
                    found[whole.key, name] = (whole.names, name, value)
                    if isinstance(value, types.ModuleType):
                        watch_module(value, names, found, todo)
                    elif type(value) is not function_kind or is_of_suite(value):
                        todo.append(inner(value))
                        if isinstance(value, type) and value in whole.classes:
                            watch_class(value, whole, names, found, todo)
                if kind is not None:
                    for base in kind.__mro__:
                        home = [one for one in loaded.values() if base in one.classes]
                        if home:
                            watch_class(base, home[0], names, found, todo)
            known[key] = [triple for triple in found.values() if triple is not None]
        return known[key]

    nowhere, code_kind = {}, types.CodeType

    def watch_module(module, names, found, todo, depth=0):
        """What a function uses of a module that it names: one of the suite's, or an installed one."""
        whole = loaded.get(id(vars(module)))
        if whole is None:
            before = libraries.get(id(vars(module)), nowhere)
            for used in (names & before.keys()) - own_changes:
                # streams, hooks and paths of the interpreter change while tests run
                if module is not sys or isinstance(before[used], types.BuiltinFunctionType):
                    found[id(vars(module)), used] = (vars(module), used, before[used])
            return
        for used in (names & whole.before.keys()) - own_changes - whole.changing:
            value = whole.before[used]
            found[whole.key, used] = (whole.names, used, value)
            todo.append(inner(value))
            if isinstance(value, type) and value in whole.classes:
                watch_class(value, whole, names, found, todo)
        for used in names if depth < 8 else ():
            below = served.get(f"{module.__name__}.{used}")
            if below is not None and id(vars(below)) in loaded:
                watch_module(below, names, found, todo, depth + 1)

    def fixtures_of(item):
        """The functions of the suite's fixtures that a test uses."""
        info = getattr(item, "_fixtureinfo", None)
        found = info.name2fixturedefs.values() if info is not None else ()
        return tuple(one.func for several in found for one in several if is_of_suite(one.func)) + tuple(hooks)

    hooks = []  # functions of the suite that pytest calls for all tests

    def look_at_suite():
        """What the modules of the suite have, once all of them have been imported: it has made which cases there are."""
        for whole in loaded.values():
            is_conftest = whole.path.endswith("conftest.py")
            for name, value in whole.before.items():
                if not isinstance(value, functions) or name in whole.changing or name in own_changes:
                    continue
                if whole.names.get(name) is not value:
                    tampered(f"{whole.path}: {name}")
                if is_conftest and name.startswith("pytest_"):
                    hooks.append(value)

    fixed = {"setUp", "tearDown", "setUpClass", "tearDownClass", "setup_method", "teardown_method", "setup_class", "teardown_class", "run", "__call__"}

    def watch_class(kind, whole, names, found, todo):
        before = whole.classes[kind]
        now = vars(kind)
        for name, value in before.items():
            if isinstance(value, functions) or name not in whole.stored and not name.startswith("_"):
                found[id(before), name] = (now, name, value)
                if name in names or name in fixed:
                    todo.append(inner(value))
        for name in (names | fixed) - whole.stored:
            if name not in before and any(name in vars(base) for base in kind.__mro__[1:]):
                found[id(before), name] = (now, name, missing)

    def instance_of(item):
        return getattr(item, "_testcase", None) or getattr(item, "instance", None)

    def look_at_instance(item):
        """Methods that were put on the instance of a test's class, in front of those of the class."""
        if item.cls is None:
            return
        one = instance_of(item)
        whole = loaded.get(id(vars(item.module))) if getattr(item, "module", None) else None
        if one is None or isinstance(one, types.ModuleType) or whole is None:
            return
        kind = type(one)
        for name in list(getattr(one, "__dict__", ())):
            if name not in whole.stored and name != item.originalname and isinstance(getattr(kind, name, None), types.FunctionType):
                tampered(f"{kind.__name__}.{name}, which the tests use")

    # --- what the code under test must not reach ------------------------------------------------------------------
    #
    # The runner's functions are closures, so one of them, or a frame of them, leads to everything. The interpreter keeps
    # only the audit hook, in a place that Python code cannot read. What other modules must call goes through it; frames,
    # and what enumerates objects, are refused to the code under test.

    import _imp
    import _signal
    import _thread
    import doctest
    import signal

    getframe = sys._getframe
    busy = set()
    handlers = {}
    own = set()

    def own_codes(code):
        own.add(id(code))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                own_codes(constant)

    own_codes(getframe().f_code)

    def opaque(name, handler, parameters="*args, **more", given="args, more", after="return answer[0]", kind="def"):
        """A function that has the handler called, without a reference to it."""

        def answered(event, args):
            __tracebackhide__ = True
            _, given, more, answer = event, *args
            answer.append(handler(*given, **more))

        event = f"assay.{name}.{os.urandom(8).hex()}"
        handlers[event] = answered
        text = (
            f"{kind} call({parameters}):\n    __tracebackhide__ = True\n    answer = []\n"
            f"    audit = 0.5\n    audit(0.25, {given}, answer)\n    {after}"
        )
        code = next(one for one in compile(text, "<assay>", "exec").co_consts if isinstance(one, types.CodeType))
        # constants, which code cannot replace
        stands_for = {0.5: sys.audit, 0.25: event}
        code = code.replace(co_consts=tuple(stands_for[one] if isinstance(one, float) else one for one in code.co_consts))
        protected[id(code)] = code
        return types.FunctionType(code, {"__builtins__": {}}, name.rpartition(".")[2])

    protected = {}  # those of unittest and pytest
    library_codes = {}
    known_codes = {}

    def key_of(code):
        simple = (int, float, str, bytes, type(None))
        constants = tuple(constant for constant in code.co_consts if isinstance(constant, simple))
        return code.co_name, code.co_firstlineno, code.co_code, code.co_names, code.co_varnames, constants

    file_number, file_io = importlib.util.MAGIC_NUMBER, sys.modules["io"].open_code
    cache_tag, load_code = sys.implementation.cache_tag, marshal.loads

    def code_of_file(file):
        folder, _, name = file.rpartition("/")
        try:
            with file_io(f"{folder}/__pycache__/{name.removesuffix('.py')}.{cache_tag}.pyc") as cached:
                data = cached.read()
            if data[:4] == file_number:
                return [load_code(data[16:])]
        except OSError:
            pass
        try:
            with file_io(file) as source:
                return [compile(source.read(), file, "exec", dont_inherit=True)]
        except (OSError, SyntaxError, ValueError):
            return []

    def is_library(code):
        """Whether it is code of an installed module: of a file that the code under test cannot write."""
        if id(code) not in known_codes:
            file, found = code.co_filename, False
            if type(file) is str and file.startswith(system):
                if file not in library_codes:
                    library_codes[file] = set()
                    todo = code_of_file(file)
                    while todo:
                        one = todo.pop()
                        library_codes[file].add(key_of(one))
                        todo.extend(constant for constant in one.co_consts if isinstance(constant, types.CodeType))
                found = key_of(code) in library_codes[file]
            known_codes[id(code)] = (code, found)
        return known_codes[id(code)][1]

    def is_ours(code):
        return id(code) in codes or id(code) in own

    identity = _thread.get_ident
    root = getframe().f_code

    scope = globals()

    def is_own(frame):
        # the runner's code as a function of others has other names
        return id(frame.f_code) in own and frame.f_globals is scope

    def refuse_frames(event, args):
        """Frames are the runner's: others get copies, as the function that asks may belong to a library and its names not."""
        if not state["running"]:
            return
        thread = identity()
        if thread in busy:
            return
        busy.add(thread)
        try:
            allowed = is_own(getframe(2))
        finally:
            busy.discard(thread)
        if not allowed:
            raise RuntimeError("the interpreter's frames and objects cannot be walked while a suite runs")

    frames = {"tb_frame", "gi_frame", "cr_frame", "ag_frame"}

    def refuse_attribute(event, args):
        """Frames of tracebacks are for the runner, and for pytest, unittest and the suite where nothing else is running."""
        target, name = args
        if name not in frames or not state["running"]:
            return
        thread = identity()
        if thread in busy:
            return
        busy.add(thread)
        try:
            frame = getframe(2)
            allowed = is_own(frame) or reads(frame, target, name)
        finally:
            busy.discard(thread)
        if not allowed:
            raise RuntimeError("the interpreter's frames and objects cannot be walked while a suite runs")

    def reads(frame, target, name):
        """Whether known code reads an attribute of what it has itself, and not a function that it was given instead."""
        code, at = frame.f_code, frame.f_lasti
        is_suite = id(code) in codes
        if not is_suite and not is_library(code):
            return False
        if opcodes.get(code.co_code[at]) != "LOAD_ATTR":
            return False
        if not is_suite:
            here = list(frame.f_locals.values())
            here += [entry_of(one) for one in here if type(one) is entry_kind]
            if not any(one is target for one in here):
                return False
            if name != "tb_frame":
                return code.co_filename.endswith("/asyncio/coroutines.py")
        while frame is not None and frame.f_code is not root:
            code = frame.f_code
            if id(code) not in codes and not is_own(frame) and id(code) not in protected and not is_library(code):
                return False
            frame = frame.f_back
        return True

    entry_kind = _pytest._code.code.TracebackEntry
    entry_slot = vars(entry_kind).get("_rawentry")
    # no code of others may run here
    entry_of = (lambda entry: vars(entry).get("_rawentry")) if entry_slot is None else entry_slot.__get__

    import opcode

    opcodes = {number: "LOAD_ATTR" for name, number in opcode.opmap.items() if name.startswith("LOAD_ATTR")}

    # a copy of what others may know of a frame
    Frame = type("frame", (), {
        "__slots__": ("f_code", "f_globals", "f_locals", "f_builtins", "f_lineno", "f_lasti", "f_back", "f_trace"),
        "__class__": types.FrameType,
    })
    fields = [getattr(Frame, name).__set__ for name in Frame.__slots__]

    def is_hidden(code):
        file = code.co_filename
        if id(code) in own or id(code) in protected or type(file) is not str:
            return True
        return file.startswith(system) and ("/_pytest/" in file or "/pluggy/" in file)

    def copies_of(frame):
        """Copies of a frame and those that called it, up to the first of pytest or the runner."""
        chain, above = [frame], frame.f_back
        while above is not None and not is_hidden(above.f_code):
            chain.append(above)
            above = above.f_back
        copy = None
        for one in reversed(chain):
            copy = copied(*shown(one), one.f_lineno, one.f_lasti, copy)
        return copy

    def shown(frame):
        """The code and the names that a copy has."""
        code = frame.f_code
        if not is_hidden(code):
            return code, frame.f_globals
        is_ours = id(code) in own or id(code) in protected and not is_library(code)
        return empty_code if is_ours else code, {"__name__": str(frame.f_globals.get("__name__"))}

    def copied(code, names, line, at, back):
        copy = Frame()
        for put, value in zip(fields, (code, names, {}, vars(builtins), line, at, back, None)):
            put(copy, value)
        return copy

    def frame_at(depth=0):
        # below are this function, its event's and the function that was called
        return copies_of(getframe(max(int(depth), 0) + 4))

    def entries_of(tb):
        while tb is not None:
            yield tb, copied_entry(tb)
            tb = tb.tb_next

    def copied_entry(tb):
        frame = tb.tb_frame
        return copied(*shown(frame), tb.tb_lineno, tb.tb_lasti, None)

    empty_code = compile("", "<assay>", "exec")

    def with_copies():
        """Gives others copies of frames."""
        def walk_tb(tb):
            return [(copy, tb.tb_lineno) for tb, copy in entries_of(tb)]

        def walk_positions(tb):
            found = []
            for tb, copy in entries_of(tb):
                positions = next(itertools.islice(copy.f_code.co_positions(), tb.tb_lasti // 2, None), (None,) * 4)
                found.append((copy, (tb.tb_lineno, *positions[1:]) if positions[0] is None else positions))
            return found

        def clear_frames(tb):
            for one, _ in entries_of(tb):
                try:
                    one.tb_frame.clear()
                except RuntimeError:
                    pass

        sys._getframe = opaque("frame_at", frame_at)
        tracebacks.walk_tb = opaque("walk_tb", walk_tb)
        tracebacks.clear_frames = opaque("clear_frames", clear_frames)
        if hasattr(tracebacks, "_walk_tb_with_full_positions"):
            tracebacks._walk_tb_with_full_positions = opaque("walk_positions", walk_positions)
        # Python 3.12 and later look into a frame for a name that is like the one that does not exist
        suggest = getattr(tracebacks, "_compute_suggestion_error", None)
        if suggest:
            def suggestion(error, tb, name):
                return None if isinstance(error, NameError) else suggest(error, tb, name)

            tracebacks._compute_suggestion_error = opaque("suggestion", suggestion)

    import itertools

    def refuse_tracing(event, args):
        if state["running"]:
            raise RuntimeError(f"{event} is not available while a suite runs")

    def without_tracing():
        """doctest puts back a trace function, which there is none of."""
        text = """
class Sys:
    def __getattr__(self, name): return getattr(sys, name)
    def __setattr__(self, name, value): setattr(sys, name, value)
    def settrace(self, function): pass
"""
        scope = {"__builtins__": vars(builtins), "sys": sys}
        exec(compile(text, "<assay>", "exec"), scope)
        doctest.sys = scope["Sys"]()

    def refuse_change(event, args):
        target, name = args[0], args[1]
        if state["running"] and name in ("__code__", "__defaults__", "__kwdefaults__"):
            if any(id(target.__code__) in known for known in (codes, protected, own)):
                raise RuntimeError(f"{name} of this function cannot be changed while a suite runs")

    # a module that was loaded again has none of the functions above; another interpreter has no hook
    refused = {"_signal", "gc", "sys", "_imp", "_interpreters", "_xxsubinterpreters", "_testcapi", "_testinternalcapi", "_testlimitedcapi"}

    def refuse_import(event, args):
        name = args[0].rpartition(".")[2]
        if name in refused and state["running"]:
            raise RuntimeError(f"{name} cannot be loaded while a suite runs")

    def refuse_always(event, args):
        if state["running"]:
            raise RuntimeError(f"{event} is not available while a suite runs")

    def refuse_memory(event, args):
        path = args[0]
        if state["running"] and isinstance(path, (str, bytes)):
            path = os.fsdecode(path)
            if path.endswith("mem") or path.startswith("/proc/") or os.path.islink(path):
                if os.path.realpath(path).endswith("/mem"):
                    raise PermissionError(f"{path} cannot be opened while a suite runs")

    handlers.update({
        "sys.settrace": refuse_tracing, "sys.setprofile": refuse_tracing, "object.__setattr__": refuse_change,
        "sys._getframe": refuse_frames, "sys._current_frames": refuse_frames, "sys._current_exceptions": refuse_frames,
        "object.__getattr__": refuse_attribute, "sys.addaudithook": refuse_always, "gc.get_objects": refuse_frames, "gc.get_referrers": refuse_frames,
        "gc.get_referents": refuse_frames, "import": refuse_import, "open": refuse_memory,
        # its callbacks get what other functions call and return
        "sys.monitoring.register_callback": refuse_always,
    })
    handler_of = handlers.get

    def guard(event, args):
        __tracebackhide__ = True
        handler = handler_of(event)
        if handler is not None:
            handler(event, args)

    def without_frames():
        """Handlers of signals get no frame; nothing that the interpreter keeps leads to pytest's objects."""
        install, make, set_debug = _signal.signal, _imp.create_builtin, gc.set_debug

        def make_module(spec):
            name = spec.name
            if type(name) is not str or name in refused:
                raise RuntimeError(f"{str(name)} cannot be loaded while a suite runs")
            return make(types.SimpleNamespace(name=name))

        _imp.create_builtin = opaque("make_module", make_module)

        def set_flags(flags):
            # garbage that is kept has frames
            set_debug(int(flags) & ~gc_saves)

        gc_saves = gc.DEBUG_SAVEALL
        gc.set_debug = opaque("set_flags", set_flags)

        def set_handler(number, handler):
            if callable(handler) and type(handler) is not types.BuiltinFunctionType:
                function = handler
                scope = {"function": function, "__builtins__": vars(builtins)}
                exec(compile("def handler(number, frame): return function(number, None)", "<assay>", "exec"), scope)
                handler = scope["handler"]
            return install(number, handler)

        _signal.signal = opaque("signal", set_handler)
        enums = signal._int_to_enum, signal._enum_to_int, signal.Handlers, signal.Signals

        def set_enum(number, handler):
            to_enum, to_int, kinds, _ = enums
            return to_enum(set_handler(to_int(number), to_int(handler)), kinds)

        signal.signal = opaque("enum_signal", set_enum)

    def forget(config):
        """Removes what leads from modules to pytest's objects."""
        hook = _pytest.assertion.rewrite.AssertionRewritingHook
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, hook)]
        pdb = _pytest.debugging.pytestPDB
        pdb._config = pdb._pluginmanager = structures.MARK_GEN._config = None
        state["config"] = config

    class Finder:
        """What stands in sys.meta_path."""

    # --- messages -----------------------------------------------------------------------------------------------

    def describe(error):
        if isinstance(error, SyntaxError):
            text = (error.text or "").strip()
            return f"{type(error).__name__}: {error.msg}" + (f": {text}" if text else "")
        return "\n".join(line for line in str_of(error).splitlines())[:4000]

    def str_of(error):
        try:
            text = str(error)
        except BaseException:
            text = "(its text cannot be shown)"
        name = type(error).__name__
        return f"{name}: {text}" if text else name

    def place_of(error):
        """`file:line: ` of the innermost line in the box that an exception went through."""
        if isinstance(error, SyntaxError) and error.filename and error.filename.startswith(box + "/"):
            return f"{error.filename[len(box) + 1:]}:{error.lineno}: "
        far = far_places.get(id(error))
        if far is not None and far[0] is error and far[1]:
            return far[1]
        found, traceback = "", error.__traceback__
        while traceback is not None:
            file = os.path.join(box, traceback.tb_frame.f_code.co_filename)
            if file.startswith(box + "/") and not file.startswith(box + "/.assay/"):
                found = f"{file[len(box) + 1:]}:{traceback.tb_lineno}: "
            traceback = traceback.tb_next
        return found

    def crash(report, excinfo=None):
        place = ""
        if excinfo is not None:
            place = place_of(excinfo.value)
        crashed = getattr(report.longrepr, "reprcrash", None)
        if crashed is not None:
            text = str(crashed.message)
            note = notes.get(id(excinfo.value)) if excinfo is not None else None
            if note is not None and note[0] is excinfo.value:
                text = f"{text} {note[1]}" if "\n" not in text else text.replace("\n", f" {note[1]}\n", 1)
            return (place + text)[:4000]
        text = str(report.longrepr or "")
        errors = [line[2:].strip() for line in text.splitlines() if line.startswith("E ")]
        # the last line names the exception
        return (place + "\n".join(errors[-1:] + errors[:-1] if errors else [text]))[:4000]

    notes = {}

    def note_subtests():
        """unittest's subTest, which tells its parameters when it fails."""
        def note(error, msg, params):
            words = [] if msg is unittest.case._subtest_msg_sentinel else [f"[{msg}]"]
            if params:
                words.append("(" + ", ".join(f"{name}={value!r}" for name, value in params.items()) + ")")
            notes.setdefault(id(error), (error, " ".join(words)[:500]))

        import contextlib

        scope = {"note": opaque("note", note), "missing": unittest.case._subtest_msg_sentinel}
        text = """
def subTest(self, msg=missing, **params):
    try:
        yield
    except Exception as error:
        note(error, msg, params)
        raise
"""
        exec(compile(text, "<assay>", "exec"), {"__builtins__": vars(builtins), **scope}, scope)
        subTest = contextlib.contextmanager(scope["subTest"])
        unittest.case.TestCase.subTest = subTest

    # --- pytest -------------------------------------------------------------------------------------------------

    pinned = {}  # item -> its function
    places = {}  # item -> its index in the plan
    planned = set()

    now = time.perf_counter

    def witness_of(item):
        """One case under way."""
        return types.SimpleNamespace(item=item, reports=[], returned=False, begun=now(), function=None, watched=None)

    current = []
    main_thread = identity()
    compare = [None]
    explaining = opaque("compare", lambda *args: compare[0](*args))

    def is_coroutine(function):
        function = getattr(function, "__func__", function)
        while type(function) is partial:
            function = function.func
        function = getattr(function, "__func__", function)
        return type(function) is types.FunctionType and bool(function.__code__.co_flags & 0x80)

    from functools import partial

    def begin(given):
        """The case under way, whose function is called once, with the case's values."""
        case = current[-1]
        for name, value in case_values.get(id(case.item), nowhere).items():
            if given.get(name, missing) is not value:
                tampered(f"the parameters of {case.item.nodeid}")
        function, case.function = case.function, None
        if function is None:
            tampered("the test that it runs in")
        return case, function

    def finish(case):
        look(case.watched)
        if case.watched is not nothing:
            look_at_instance(case.item)
        case.returned = True

    def call_function(*args, **more):
        __tracebackhide__ = True
        case, function = begin(more)
        result = function(*args, **more)
        finish(case)
        return result

    async def call_coroutine(*args, **more):
        __tracebackhide__ = True
        case, function = begin(more)
        result = await function(*args, **more)
        finish(case)
        return result

    plain = opaque("witness", call_function).__code__
    awaited = opaque("witness", call_coroutine, kind="async def", after="return await answer[0]").__code__

    def as_witness(case, function, watched):
        """What pytest calls: it leads to nothing, and the audit hook calls the test's function."""
        case.function, case.watched = function, watched
        witness = types.FunctionType(awaited if is_coroutine(function) else plain, {"__builtins__": {}}, "witness")
        # the marks of unittest
        vars(witness).update(getattr(getattr(function, "__func__", function), "__dict__", {}))
        return witness

    def is_ignored(path, config):
        """Whether the command leaves out a folder that the file is in, which pytest does not ask of files that are named."""
        folders = [os.path.join(box, path)]
        while folders[-1] != box:
            folders.append(os.path.dirname(folders[-1]))
        exact = [os.path.abspath(one) for one in config.getoption("ignore", None) or ()]
        globs = [os.path.abspath(one) for one in config.getoption("ignore_glob", None) or ()]
        return any(one in exact or any(fnmatch(one, glob) for glob in globs) for one in folders)

    relatives = {}

    def relative(path):
        if path not in relatives:
            relatives[path] = os.path.relpath(str(path), box)
        return relatives[path]

    def is_named(item, config):
        """Whether a file of the submission was named in the command."""
        path = relative(item.path)
        return any(os.path.normpath(str(word).partition("::")[0]) == path for word in state["named"])

    class watch(metaclass=one_object):
        @pytest.hookimpl(tryfirst=True)
        def pytest_load_initial_conftests(self, early_config, parser, args):
            gc.disable()  # nothing of the trees is garbage
            compile_suite(early_config)
            freeze()
            gc.enable()
            watch_marks()
            note_subtests()
            load_libraries()
            finder = Finder()
            for name in ("find_spec", "create_module", "exec_module", "get_source", "get_code", "get_data", "get_filename", "is_package"):
                setattr(finder, name, opaque(name, getattr(suite, name)))
            state["finder"] = finder
            without_frames()
            without_tracing()
            with_copies()
            state["running"] = True
            forget(None)  # marks know no settings yet
            # before a conftest.py of the suite, which may import the code under test
            state["before"] = dict(parts())
            state["core"] = [*core(), *library_core()]
            for value in state["before"].values():
                if isinstance(value, types.CodeType):
                    protected[id(value)] = value
            sys.meta_path.insert(0, finder)
            sys.path.insert(0, box)

        @pytest.hookimpl(tryfirst=True)
        def pytest_configure(self, config):
            source = getattr(config, "args_source", None)
            state["usual"] = config.getini("python_functions") == ["test"] and config.getini("python_classes") == ["Test"]
            option = config.option
            state["selects"] = any(getattr(option, name, None) for name in ("keyword", "markexpr", "deselect")) or any(
                words[path][b"pytest_collection_modifyitems"] for path in words
            )
            state["files"] = []
            if source is not None and source.name in ("INVOCATION_DIR", "INCOVATION_DIR") or not config.args:
                config.args = state["files"] = [path for path in order["files"] if not is_ignored(path, config)]
                if config.getoption("doctestmodules", False):
                    config.args = config.args + [path for path in order["own"] if path not in config.args]
            else:
                state["named"] = list(config.args)
                state["files"] = [path for path in map(os.path.normpath, map(str, config.args)) if path in order["files"]]
            if any(words[path][b"collect_ignore"] or words[path][b"pytest_ignore_collect"] for path in words):
                state["files"] = []

        @pytest.hookimpl(tryfirst=True)
        def pytest_collection(self, session):
            forget(session.config)
            now = dict(parts())
            for key, value in now.items():
                # and what --runxfail puts in its place
                if is_of_legacy(value) or key[:2] == ("pytest", "xfail") and session.config.option.runxfail and is_of_skipping(value):
                    state["before"][key] = value
            for value in now.values():
                if isinstance(value, types.CodeType):
                    protected[id(value)] = value
            look_at_all()

        @pytest.hookimpl(tryfirst=True)
        def pytest_collection_modifyitems(self, session, config, items):
            seen, kept = set(), []
            for item in items:
                path = relative(item.path)
                is_own = path in order["own"] and path not in sources
                if is_own and sources and not isinstance(item, DoctestItem) and not is_named(item, config):
                    continue
                if item.nodeid not in seen:
                    seen.add(item.nodeid)
                    kept.append(item)
            items[:] = kept
            for name, module in list(sys.modules.items()):
                place = getattr(getattr(module, "__spec__", None), "origin", None) or getattr(module, "__file__", None)
                if name in served and module is not served[name]:
                    tampered(f"sys.modules[{name!r}]")
                if name not in served and place and relative(place) in sources and name != "__main__":
                    tampered(f"sys.modules[{name!r}]")
            for tail in tails:
                if tail in sys.modules and tail not in served and f"{tail}.py" in sources:
                    tampered(f"sys.modules[{tail!r}]")
            for item in items:
                allow_marks(item)
                verify_marks(item)
            self.verify_fixtures(session)
            self.pin(config, items)

        def verify_fixtures(self, session):
            """A fixture of the suite's modules is the suite's: another one gets pytest's objects, and replaces pytest's own."""
            for name, found in session._fixturemanager._arg2fixturedefs.items():
                for fixture in found:
                    path = fixture.baseid.partition("::")[0]
                    if path in order["own"] and path not in sources or not sources:
                        continue
                    code = getattr(inner(fixture.func), "__code__", None)
                    if code is not None and id(code) not in codes and not is_library(code):
                        tampered(f"{path}: the fixture {name}")

        def pin(self, config, items):
            for item in items:
                if not isinstance(item, Function):
                    continue
                function = inner(item.obj)
                if relative(item.path) in sources and id(getattr(function, "__code__", None)) not in codes:
                    if getattr(function, "__module__", None) not in served and not is_of_suite(function):
                        file = getattr(getattr(function, "__code__", None), "co_filename", "")
                        if not file.startswith(system):
                            dropped.add(item)
                            continue
                pinned[item] = (getattr(item.obj, "__func__", item.obj), getattr(function, "__code__", None))
            items[:] = [item for item in items if item not in dropped]
            state["first"] = list(items)
            if any("::" in str(word) for word in config.args):
                return
            if not state["usual"]:
                return
            found = {}
            for item in items:
                if isinstance(item, Function):
                    chain = [one.name for one in item.listchain() if isinstance(one, Class)]
                    found.setdefault(relative(item.path), set()).add("::".join([*chain, item.originalname or item.name]))
            for whole in loaded.values():
                if whole.path in found or whole.path in order["files"]:
                    lost = whole.tests - found.get(whole.path, set())
                    if lost and b"__test__" not in sources[whole.path] and whole.path not in failures:
                        if whole.path in found or not config.args_source.name.startswith("ARGS"):
                            lost = {name for name in lost if not is_abstract(whole, name)}
                            if lost:
                                tampered(f"{whole.path}: {sorted(lost)[0]} was not collected")

        @pytest.hookimpl(trylast=True)
        def pytest_collection_finish(self, session):
            look_at_all()
            look(())
            look_at_suite()
            known = {whole.path for whole in loaded.values()} | failures.keys()
            for path in state["files"]:
                if path in sources and path not in known:
                    tampered(f"the tests: {path} was left out")
            if not state["selects"]:
                verify_cases(session.items)
            lost = {*state.get("first", ())} - {*session.items}
            if lost and not state["selects"]:
                tampered(f"the tests: {next(iter(lost)).nodeid} was left out")
            names, skipped = [], []
            for item in session.items:
                if is_marked(item, "skip", "skipif") and is_skipped(item):
                    skipped.append(len(places))
                places[item] = len(places)
                names.append(item.nodeid[:500])
            for at in range(0, max(len(names), 1), 500):
                record(plan=names[at : at + 500])
            record(skips=skipped)
            for item in session.items:
                if isinstance(item, Function):
                    used_by(item.obj, item.cls, fixtures_of(item))
            freeze()

        def pytest_collectreport(self, report):
            path = report.nodeid.partition("::")[0]
            if report.failed:
                record(name=report.nodeid or "collection", end="error", message=failures.get(path) or crash(report))
            elif report.skipped and path in sources and path not in order["files"] + [path]:
                pass

        @pytest.hookimpl(tryfirst=True)
        def pytest_sessionfinish(self):
            if state["before"] is not None:
                look_at_all()

        @pytest.hookimpl(hookwrapper=True, tryfirst=True)
        def pytest_runtest_protocol(self, item, nextitem):
            if current or identity() != main_thread:
                tampered("the order of the tests")
            if stated:
                verify_marks(item)
            case = witness_of(item)
            current.append(case)
            yield
            current.pop()
            took = (now() - case.begun) * 1000
            if item not in places:
                tampered(f"the tests: {item.nodeid} was not collected")
            end, message = rule(case)
            what = {"message": message} if message else {}
            record(i=places[item], end=end, ms=round(took, 3), **what)
            if now() > state.get("next", 0):
                look_at_all()
                state["next"] = now() + 1

        @pytest.hookimpl(hookwrapper=True, tryfirst=True)
        def pytest_runtest_call(self, item):
            case = current[-1]
            util = assertion_util
            explain, util._config = util._reprcompare, None
            if explain is not None:
                compare[0] = explain
                util._reprcompare = explaining
            if isinstance(item, Function):
                was = item.obj
                function, code = pinned.get(item, (None, None))
                if getattr(was, "__func__", was) is not function or getattr(inner(was), "__code__", None) is not code:
                    tampered(f"the test {item.nodeid}")
                watched = used_by(was, item.cls, fixtures_of(item))
                look_at_instance(item)
                for names, key, value in watched:
                    if names.get(key, missing) is not value:
                        tampered(f"{key}, which the tests use")
                wrapped = as_witness(case, was, watched)
                item.obj = wrapped
                if isinstance(item, _pytest.unittest.TestCaseFunction) and is_coroutine(was):
                    vars(instance_of(item))[item.originalname] = wrapped
                yield
                item.obj = was
            else:
                item.runtest = as_witness(case, item.runtest, nothing)
                yield
                del item.runtest

        @pytest.hookimpl(hookwrapper=True, tryfirst=True)
        def pytest_runtest_makereport(self, item, call):
            outcome = yield
            report = outcome.get_result()
            current[-1].reports.append((report, call.excinfo))

    freeze = gc.freeze
    dropped = set()

    def is_skipped(item):
        """Whether the suite's marks skip it, if pytest can tell now."""
        try:
            return evaluate_skip_marks(item) is not None
        except BaseException:
            return False

    def is_abstract(whole, name):
        """Whether pytest does not collect a class of this kind: one with __init__, or hidden behind another name."""
        kind = whole.before.get(name.partition("::")[0])
        return isinstance(kind, type) and kind.__name__ in whole.abstract

    def rule(case):
        item, end, message = case.item, "passed", ""
        if stated:
            verify_marks(item)
        phases = [report.when for report, _ in case.reports]
        if phases[:1] != ["setup"] or phases[-1:] != ["teardown"]:
            return "error", "the test did not run from set-up to tear-down"
        for report, excinfo in case.reports:
            if report.failed:
                if report.when != "call":
                    return "error", crash(report, excinfo)
                asserts = excinfo is None or excinfo.errisinstance((AssertionError, Failed))
                end, message = ("failed" if asserts else "crashed"), crash(report, excinfo)
            elif report.skipped or hasattr(report, "wasxfail"):
                error = excinfo.value if excinfo is not None else None
                if hasattr(report, "wasxfail"):
                    if not may_fail(item, error):
                        end, message = "crashed", "an expected failure that the suite's own source does not state: " + str(report.wasxfail)
                    elif end == "passed":
                        end = "xfailed" if report.skipped else "passed"
                elif may_skip(item, report, error):
                    end = "skipped"
                    message = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "")
                else:
                    end, message = "crashed", "a skip that the suite's own source does not state: " + str_of(error)[:500]
            elif excinfo is not None:
                return "crashed", "it ended with an exception that is missing from its report"
        if end == "passed" and not case.returned:
            return "crashed", "the test did not run to its end"
        return ("passed" if end == "xfailed" else end), message

    def may_fail(item, error):
        if is_marked(item, "xfail", error=error) or unittest_flag(item, "__unittest_expecting_failure__"):
            return True
        return error is not None and isinstance(error, XFailed) and says_skip(error.__traceback__)

    def may_skip(item, report, error):
        if report.when == "setup" and is_marked(item, "skip", "skipif"):
            return True
        if error is None:
            return False
        if unittest_flag(item, "__unittest_skip__"):
            return True
        raised = error.__context__ if isinstance(error.__context__, SkipTest) else error
        if says_skip(raised.__traceback__):
            return True
        return is_coroutine(inner(item.obj)) and is_of_suite(item.obj)

    class Plugin:
        """What pytest gets: functions that lead to nothing."""

    plugin = Plugin()
    for name, method in list(vars(watch).items()):
        if name.startswith("pytest_"):
            function = method.__func__
            code = function.__code__
            parameters = ", ".join(code.co_varnames[1 : code.co_argcount])
            after = "yield from answer[0]" if code.co_flags & 0x20 else "return answer[0]"
            made = opaque(name, method, parameters, f"({parameters}{',' * bool(parameters)}), {{}}", after)
            vars(made).update(vars(function))
            setattr(plugin, name, made)

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    arguments = ["-p", "no:cacheprovider", "--rootdir=" + box, "-c", order["config"]]
    if not any(word.endswith("no:terminal") for word in sys.argv):
        arguments += ["-q", "--tb=short"]
    if not order["conftest"]:
        arguments.append("--noconftest")
    sys.addaudithook(guard)
    status = pytest.main(arguments + sys.argv[1:], plugins=[plugin])
    if bridge_end is not None:
        os.kill(code_process, signal.SIGKILL)
    unloaded = [f"{path} cannot be loaded: {why}" for path, why in failures.items() if path.endswith("conftest.py")]
    record(done=int(status), message=unloaded[0] if unloaded else "")
    sys.stdout.flush()
    sys.stderr.flush()
    # skips exit handlers, which the code under test may have registered
    os._exit(int(status))
