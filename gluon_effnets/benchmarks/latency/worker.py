"""A process that holds compiled networks of one runtime and times calls on demand: JSON lines on its standard streams.

Started by path as `python worker.py in_<runtime>.py THREADS`, perhaps by another interpreter than the package's: it and
the files beside it named in_*.py import nothing of the package. Such a file has two functions: `versions()`, which
imports the runtime, and `build(job, threads)`, which returns a call of one batch and the size of the model in bytes;
in_torch.py has a third one, `export(job)`, which writes a file for another runtime.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import time

# How long a process that stood still runs before a call is timed: threads of a pool take their time to come back.
WAKING_S = 0.05
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def peak_bytes() -> int:
    """Largest memory of this process so far.

    Not ru_maxrss: that one survives exec, so that a child of a large process begins with its parent's peak.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def timed(call, clock) -> float:
    """Seconds of a call that follows others, as in a running program: threads awake, weights in the cache."""
    awake = time.perf_counter() + WAKING_S
    call()
    while time.perf_counter() < awake:
        call()
    gc.disable()
    begin = clock()
    call()
    seconds = clock() - begin
    gc.enable()
    return seconds


def one_line(error: Exception) -> str:
    """The message without the traces that MXNet and PyTorch put before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def main() -> None:
    """Answer the parent's requests until its end of the pipe closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    # Ctrl-C is the parent's alone. And if the parent dies while this process is stopped, then the kernel ends it, as
    # it does with stopped groups that nobody is left to continue.
    os.setpgrp()
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != folder]  # its names are no modules

    def answer(**content):
        answers.write(json.dumps(content) + "\n")

    spec = importlib.util.spec_from_file_location("runtime", sys.argv[1])
    assert spec and spec.loader, sys.argv[1]
    runtime, threads, calls = importlib.util.module_from_spec(spec), int(sys.argv[2]), {}
    try:
        spec.loader.exec_module(runtime)
        answer(versions=runtime.versions(), peak_bytes=peak_bytes())
    except Exception as error:  # whatever keeps a runtime from loading is told, not raised
        answer(error=one_line(error))
        return
    for line in sys.stdin:
        job = json.loads(line)
        try:
            if job["do"] == "build":
                call, size = runtime.build(job, threads)
                call()  # compiles, for most
                call()
                calls[job["key"]] = call
                answer(model_bytes=size)
            elif job["do"] == "export":
                runtime.export(job)
                answer()
            elif job["do"] == "time":
                answer(seconds=timed(calls[job["key"]], CLOCKS[job["clock"]]))
            else:
                answer(peak_bytes=peak_bytes())
        except Exception as error:
            answer(error=one_line(error))


if __name__ == "__main__":
    main()
