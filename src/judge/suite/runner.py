"""Starts the runner of pytest suites: the image's module if it is the same, which a waiting runtime has loaded."""

import sys


def load(path=sys.argv[0].removesuffix("runner.py") + "suite.py"):
    with open(path, "rb") as file:
        source = file.read()
    try:
        import assay_suite

        with open(assay_suite.__file__, "rb") as file:
            if file.read() == source:
                return assay_suite.main
    except ImportError:
        pass
    names = {"__name__": "assay_suite"}
    exec(compile(source, path, "exec"), names)
    return names["main"]


load()()
