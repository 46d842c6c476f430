"""Measurement of times: interleaved repetitions, and the conditions that they depend on."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from typing import Any, Callable, Dict, Hashable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar

import numpy as np

from ._mxnet import mx

__all__ = [
    "Latency",
    "Speedup",
    "conditions",
    "conditions_line",
    "machine",
    "processor_kind",
    "speedup",
    "time_interleaved",
]

Name = TypeVar("Name", bound=Hashable)


class Latency(NamedTuple):
    """Milliseconds for one batch.

    Attributes:
        minimum, median: Of the repetitions.
        samples: Of every repetition, in their order.
    """

    minimum: float
    median: float
    samples: Tuple[float, ...] = ()


class Speedup(NamedTuple):
    """How many times as fast one of two calls is as the other, with its 95 % interval.

    `low` and `high` are None where so few repetitions have no such interval. `str` gives a lead only if the interval
    excludes 1, and says otherwise that there is none.

    Attributes:
        ratio: How many times as fast.
        low, high: Of the interval, or None.
        repetitions: Pairs of times.
    """

    ratio: float
    low: Optional[float]
    high: Optional[float]
    repetitions: int

    @property
    def is_shown(self) -> bool:
        """Whether there is a difference: 1 is outside of the interval, as it is printed."""
        return self.low is not None and self.high is not None and not round(self.low, 2) <= 1 <= round(self.high, 2)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"unknown ({self.repetitions} repetition{'s' if self.repetitions > 1 else ''})"
        between = f"({self.low:.2f} to {self.high:.2f})"
        return f"{self.ratio:.2f} {between}" if self.is_shown else f"no difference {between}"

    def over(self, other: str) -> str:
        """The same beside the name of the other, as the end of a sentence."""
        if self.low is None:
            return f"{self} times as fast as {other}"
        return f"{self} times as fast as {other}" if self.is_shown else f"{self} to {other}"

    def record(self) -> Dict[str, Any]:
        """For JSON: ratio, ratio_low, ratio_high, repetitions."""
        ends = {"ratio_low": self.low, "ratio_high": self.high}
        return {"ratio": self.ratio, **ends, "repetitions": self.repetitions}


def speedup(ours: Sequence[float], others: Sequence[float]) -> Speedup:
    """How many times as fast ours is: the median, over repetitions in turn, of the other's time divided by ours.

    The two times of a repetition are neighbors, so that a machine that is slow for a while is slow for both, and their
    ratio stays. What disturbs one of the two alone makes single ratios arbitrarily wrong, always towards the slow
    side: means, their t-intervals and the distribution that a bootstrap of few values sees would follow them. So the
    interval is the exact one of the median, between two ratios by their order: among independent repetitions the
    number of ratios below the true median is binomial, whatever their distribution. Nothing is drawn by chance. The
    interval covers at least 95 % and needs 6 repetitions.

    Args:
        ours: Times of ours, one for every repetition.
        others: Times of the other call in the same repetitions.

    Raises:
        ValueError: The two have different numbers of repetitions, or none.

    Example:
        >>> print(speedup([1.0] * 6, [1.1, 1.2, 1.2, 1.3, 1.3, 1.4]))
        1.25 (1.10 to 1.40)
    """
    if len(ours) != len(others) or not len(ours):
        raise ValueError(f"{len(ours)} and {len(others)} repetitions are no pairs: time both in the same repetitions")
    ratios = sorted(other / own for own, other in zip(ours, others))
    count, tail, rank = len(ratios), 0.0, 0
    while True:
        tail += math.comb(count, rank) / 2**count
        if tail > 0.025:
            break
        rank += 1
    low, high = (ratios[rank - 1], ratios[-rank]) if rank else (None, None)
    return Speedup(math.exp(np.median(np.log(ratios))), low, high, count)


def time_interleaved(
    calls: Mapping[Name, Callable[[], object]], repeats: int = 20, clock: Callable[[], float] = time.perf_counter
) -> Dict[Name, Latency]:
    """Time every call `repeats` times, one after the other in turn, so that disturbances meet all alike.

    `clock=time.process_time` counts the processor's time instead, which other processes disturb less (use one thread).
    Returns {name: Latency} without a first, warming call.

    Args:
        calls: Functions without arguments, by name.
        repeats: Repetitions of each.
        clock: Gives seconds.
    """
    times: Dict[Name, List[float]] = {name: [] for name in calls}
    for round_number in range(repeats + 1):
        for name, call in calls.items():
            begin = clock()
            call()
            if round_number:
                times[name].append((clock() - begin) * 1e3)
    return {name: Latency(min(values), float(np.median(values)), tuple(values)) for name, values in times.items()}


def machine() -> Dict[str, Any]:
    """The computer, for JSON: model and number of its processors, and its system.

    `processor_kind` tells processors apart that call themselves alike, as virtual ones do: maker, family, model, and
    the widest vector unit with its operations on 8 and 16 bits; None where the system does not say.
    """
    return {
        "processor": _cpuinfo().get("model name") or platform.processor() or platform.machine(),
        "processor_kind": processor_kind(_cpuinfo()),
        "processors": os.cpu_count(),
        "system": platform.platform(terse=True),
    }


def processor_kind(cpuinfo: Mapping[str, str]) -> Optional[str]:
    """The kind of a processor by the lines of /proc/cpuinfo, in words that a file name can hold; None if unknown.

    Args:
        cpuinfo: Lines of /proc/cpuinfo by their names.

    Example:
        >>> lines = {"vendor_id": "GenuineIntel", "cpu family": "6", "model": "143", "flags": "avx2 avx512f amx_tile"}
        >>> processor_kind(lines)
        'intel-family-6-model-143-avx512-amx'
    """
    if not all(key in cpuinfo for key in ("vendor_id", "cpu family", "model")):
        return None
    maker = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}.get(cpuinfo["vendor_id"], cpuinfo["vendor_id"].lower())
    flags = cpuinfo.get("flags", "").split()
    vectors = next((name for flag, name in _VECTORS.items() if flag in flags), "")
    more = (name for flag, name in _SHORT_NUMBERS.items() if flag in flags)
    words = [maker, "family", cpuinfo["cpu family"], "model", cpuinfo["model"], vectors, *more]
    return "-".join(filter(None, words))


_VECTORS = {"avx512f": "avx512", "avx2": "avx2", "avx": "avx", "sse2": "sse2"}
_SHORT_NUMBERS = {"avx512_vnni": "vnni", "avx_vnni": "vnni256", "avx512_bf16": "bf16", "amx_tile": "amx"}


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
    """What `conditions` gave at the end of a measurement, in one line of text.

    Args:
        given: What `conditions` gave at the begin.
    """
    threads, waiting = (given[f"omp_{name}"] or "not set" for name in ("num_threads", "wait_policy"))
    load = given["load_average"]
    return (
        f"MXNet {given['mxnet']}, {given['processors']} processors, OMP_NUM_THREADS {threads}, "
        f"OMP_WAIT_POLICY {waiting}" + (f", load average {load[0]:.1f} at the end" if load else "")
    )


def _cpuinfo() -> Dict[str, str]:
    """The lines of /proc/cpuinfo about the first processor; none on systems without it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        pairs = (line.partition(":") for line in lines.read().split("\n\n")[0].splitlines())
        return {key.strip(): value.strip() for key, _, value in pairs}
    return {}
