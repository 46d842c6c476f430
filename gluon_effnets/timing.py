"""Measurement of times: interleaved repetitions, and the conditions that they depend on."""

from __future__ import annotations

import os
import time
from typing import Callable, Dict, Hashable, List, Mapping, NamedTuple, TypeVar

import mxnet as mx
import numpy as np

__all__ = ["Latency", "conditions", "time_interleaved"]

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


def conditions() -> str:
    """What a measurement depends on besides the networks, in one line."""
    threads, waiting = (os.environ.get(f"OMP_{name}", "not set") for name in ("NUM_THREADS", "WAIT_POLICY"))
    return (
        f"MXNet {mx.__version__}, {os.cpu_count()} processors, OMP_NUM_THREADS {threads}, OMP_WAIT_POLICY {waiting}, "
        f"load average {os.getloadavg()[0]:.1f} at the end"
    )
