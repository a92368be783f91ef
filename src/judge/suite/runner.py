"""Runs pytest for assay and signs the results.

The first line of stdin holds the key, the test files and options. The key is read, and every module that is
needed imported, before any of the code under test runs. Each record is one line on the real stdout, which
pytest replaces for the tests:

    RS "assay" SP hmac-sha256(key, text) SP text LF        text = JSON with "n" counting from 0; the last has "done"

Whatever the code under test prints, patches or registers for the exit cannot sign a record. After each test,
pytest is compared with its state before the collection.
"""

import sys


def main():
    import hmac
    import json
    import os
    import time
    import types

    import _pytest.assertion.rewrite
    import _pytest.main
    import _pytest.python
    import _pytest.runner
    import _pytest.unittest
    import pluggy
    import pytest

    order = json.loads(sys.stdin.buffer.readline())
    signer = hmac.new(bytes.fromhex(order.pop("key")), digestmod="sha256")
    out = os.dup(1)
    os.set_inheritable(out, False)
    numbers = iter(range(1 << 30))

    def record(write=os.write, dumps=json.dumps, **what):
        text = dumps({"n": next(numbers), **what}).encode()
        mac = signer.copy()
        mac.update(text)
        line = b"\n\x1eassay " + mac.hexdigest().encode() + b" " + text + b"\n"
        while line:
            line = line[write(out, line):]

    functions = (types.FunctionType, type, staticmethod, classmethod, property)

    def parts(modules=sys.modules):
        for name, module in list(modules.items()):
            if name.partition(".")[0] in ("_pytest", "pytest", "pluggy", "unittest"):
                for key, value in list(vars(module).items()):
                    if isinstance(value, functions):
                        yield (name, key), value
                        if isinstance(value, types.FunctionType):
                            yield (name, key, "code"), value.__code__
                    if isinstance(value, type) and value.__module__ == name:
                        for inner, method in list(vars(value).items()):
                            if isinstance(method, functions):
                                yield (name, key, inner), method
                                if isinstance(method, types.FunctionType):
                                    yield (name, key, inner, "code"), method.__code__
        for key in ("AssertionError", "BaseException", "Exception", "isinstance", "getattr", "__import__"):
            yield ("builtins", key), getattr(modules["builtins"], key)

    def changed(before):
        now = dict(parts())
        for key, value in before.items():
            if now.get(key) is not value:
                return ".".join(key)
        return None

    class Watch:
        def __init__(self):
            self.before = None
            self.reports = {}
            self.begun = {}

        @pytest.hookimpl(tryfirst=True)
        def pytest_collection(self, session):
            self.before = dict(parts())

        @pytest.hookimpl(trylast=True)
        def pytest_collection_finish(self, session):
            self.look()
            record(collected=len(session.items))

        def pytest_collectreport(self, report):
            if report.failed:
                record(name=report.nodeid or "collection", end="error", message=crash(report))

        def pytest_runtest_logstart(self, nodeid, location):
            self.reports[nodeid] = []
            self.begun[nodeid] = time.perf_counter()

        @pytest.hookimpl(hookwrapper=True, tryfirst=True)
        def pytest_runtest_makereport(self, item, call):
            outcome = yield
            report = outcome.get_result()
            self.reports[item.nodeid].append((report, call.excinfo))

        @pytest.hookimpl(trylast=True)
        def pytest_runtest_logfinish(self, nodeid, location):
            self.look()
            took = (time.perf_counter() - self.begun.pop(nodeid)) * 1000
            end, message = rule(self.reports.pop(nodeid))
            record(name=nodeid, end=end, message=message, ms=round(took, 3))

        def look(self):
            what = changed(self.before)
            if what is not None:
                record(end="tampered", message=what)
                os._exit(3)

    def rule(reports):
        end, message = "passed", ""
        phases = [report.when for report, _ in reports]
        if phases[:1] != ["setup"] or phases[-1:] != ["teardown"]:
            return "error", "the test did not run from set-up to tear-down"
        for report, excinfo in reports:
            if report.skipped:
                why = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
                end, message = ("passed", "") if hasattr(report, "wasxfail") else ("skipped", str(why))
            elif report.failed:
                if report.when != "call":
                    return "error", crash(report)
                asserts = excinfo is None or excinfo.errisinstance((AssertionError, pytest.fail.Exception))
                end, message = ("failed" if asserts else "crashed"), crash(report)
            elif excinfo is not None and not hasattr(report, "wasxfail"):
                return "crashed", "it ended with an exception that is missing from its report"
        return end, message

    def crash(report):
        place = getattr(report.longrepr, "reprcrash", None)
        if place is not None:
            return str(place.message)[:4000]
        text = str(report.longrepr or "")
        errors = [line[2:].strip() for line in text.splitlines() if line.startswith("E ")]
        # the last line names the exception
        return "\n".join(errors[-1:] + errors[:-1] if errors else [text])[:4000]

    sys.path.insert(0, os.getcwd())
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    arguments = ["-p", "no:cacheprovider", "--rootdir=" + os.getcwd(), "-c", order["config"], "-q", "--tb=short"]
    if not order["conftest"]:
        arguments.append("--noconftest")
    status = pytest.main(arguments + sys.argv[1:] + order["files"], plugins=[Watch()])
    record(done=int(status))
    sys.stdout.flush()
    sys.stderr.flush()
    # skips exit handlers, which the code under test may have registered
    os._exit(int(status))


main()
