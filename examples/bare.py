"""Executes Python's print(1) over and over, with nothing around it: what `make demo` compares with.

bare.py CALLERS SECONDS: prints the executions per second, and the median of their times in milliseconds.
"""
import multiprocessing
import os
import sys
import time

PYTHON = "/usr/bin/python3"


def execute():
    begun = time.perf_counter()
    reader, writer = os.pipe()
    pid = os.posix_spawn(PYTHON, [PYTHON, "-c", "print(1)"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    output = b""
    while piece := os.read(reader, 4096):
        output += piece
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    if status or output != b"1\n":
        sys.exit(f"status {status}, output {output!r}")
    return (time.perf_counter() - begun) * 1e3


def loop(until):
    times = []
    while time.monotonic() < until:
        times.append(execute())
    return times


callers, seconds = int(sys.argv[1]), float(sys.argv[2])
with multiprocessing.Pool(callers) as pool:
    times = sorted(sum(pool.map(loop, [time.monotonic() + seconds] * callers, 1), []))
print(len(times) / seconds, times[len(times) // 2])
