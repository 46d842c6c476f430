"""Measurement of times: interleaved repetitions, and the conditions that they depend on."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from typing import Any, Callable, Dict, Hashable, List, Mapping, NamedTuple, TypeVar

import numpy as np

from ._mxnet import mx

__all__ = ["Latency", "conditions", "conditions_line", "machine", "time_interleaved"]

Name = TypeVar("Name", bound=Hashable)


class Latency(NamedTuple):
    """Milliseconds for one batch."""

    minimum: float
    median: float


def time_interleaved(
    calls: Mapping[Name, Callable[[], object]], repeats: int = 20, clock: Callable[[], float] = time.perf_counter
) -> Dict[Name, Latency]:
    """Time every call `repeats` times, one after the other in turn, so that disturbances meet all alike.

    `clock=time.process_time` counts the processor's time instead, which other processes disturb less (use one thread).
    Returns {name: Latency} without a first, warming call.
    """
    times: Dict[Name, List[float]] = {name: [] for name in calls}
    for round_number in range(repeats + 1):
        for name, call in calls.items():
            begin = clock()
            call()
            if round_number:
                times[name].append((clock() - begin) * 1e3)
    return {name: Latency(min(values), float(np.median(values))) for name, values in times.items()}


def machine() -> Dict[str, Any]:
    """The computer, for JSON: model and number of its processors, and its system."""
    return {"processor": _processor(), "processors": os.cpu_count(), "system": platform.platform(terse=True)}


def conditions() -> Dict[str, Any]:
    """What a measurement in this process depends on besides the networks, for JSON.

    Beside `machine`: threads of OpenMP and how they wait (None where the variables are not set), the load averages of
    the last 1, 5 and 15 minutes (None where the system has none), and the versions of Python and MXNet.
    """
    return {
        **machine(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "mxnet": mx.__version__,
    }


def conditions_line(given: Mapping[str, Any]) -> str:
    """What `conditions` gave at the end of a measurement, in one line of text."""
    threads, waiting = (given[f"omp_{name}"] or "not set" for name in ("num_threads", "wait_policy"))
    load = given["load_average"]
    return (
        f"MXNet {given['mxnet']}, {given['processors']} processors, OMP_NUM_THREADS {threads}, "
        f"OMP_WAIT_POLICY {waiting}" + (f", load average {load[0]:.1f} at the end" if load else "")
    )


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo") as lines:
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()
