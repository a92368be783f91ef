"""Starts the runner of pytest suites: the image's modules if they are the same, which a waiting runtime has loaded."""

import sys


def load(name, folder=sys.argv[0].removesuffix("runner.py")):
    with open(f"{folder}{name}.py", "rb") as file:
        source = file.read()
    try:
        module = __import__(f"assay_{name}")

        with open(module.__file__, "rb") as file:
            if file.read() == source:
                return vars(module)
    except ImportError:
        pass
    names = {"__name__": f"assay_{name}"}
    exec(compile(source, f"{folder}{name}.py", "exec"), names)
    return names


load("suite")["main"](load)
