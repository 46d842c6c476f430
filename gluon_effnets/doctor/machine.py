"""What the machine gives this process: processors, memory, files, a disk, and the number format of its GPUs."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from .finding import Finding, fine, note, wrong

__all__ = ["allowed_processors", "disk", "machine"]

_GIB = 1 << 30
_LEAST_MEMORY, _LEAST_FILES = 4 * _GIB, 1024
_AMPERE = 8.0  # compute capability from which float32 products are TF32 unless forbidden
_MEGABYTES = 256
_SLOW_DISK = 100  # megabytes per second: 900 photographs of ImageNet


def machine(gpus: List[Dict[str, Any]]) -> Iterator[Finding]:
    """Look at the machine, which has these GPUs (see `software.gpus`)."""
    yield from _processors()
    yield _memory()
    yield from _files()
    if gpus:
        yield _tf32(gpus)


def allowed_processors() -> float:
    """How many processors this process may use: by its affinity, and by the quota of its container."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _quota()
    return count if quota is None else min(count, quota)


def _quota() -> Optional[float]:
    """The quota of a container in processors, of both versions of control groups; None: there is none."""
    with contextlib.suppress(OSError, ValueError):
        most, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    with contextlib.suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        granted, of = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return None if granted <= 0 else granted / of
    return None


def _processors() -> Iterator[Finding]:
    allowed, all_of_them = allowed_processors(), os.cpu_count() or 1
    found = f"{allowed:g} of {all_of_them} may be used" if allowed < all_of_them else f"{all_of_them}"
    wish = max(1, int(allowed))
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if threads.isdigit() and int(threads) > allowed:
        yield wrong("processors", f"{found}, but OMP_NUM_THREADS is {threads}", f"export OMP_NUM_THREADS={wish}")
    elif not threads.isdigit() and allowed < all_of_them:
        yield wrong("processors", f"{found}; OpenMP starts {all_of_them} threads", f"export OMP_NUM_THREADS={wish}")
    else:
        yield fine("processors", f"{found}, OMP_NUM_THREADS {threads or 'not set: OpenMP starts one thread for each'}")
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        if load > 0.5 * allowed:
            yield note("load", f"{load:.1f} on {allowed:g} processors: others compute, too", "measure when they do not")


def _memory() -> Finding:
    left = _free_memory()
    if left is None:
        return note("memory", "this system does not tell")
    found = f"{left / _GIB:.1f} GiB are free"
    if left < _LEAST_MEMORY:
        return note("memory", found, "a smaller data.batch_size, with accumulate, needs less")
    return fine("memory", found)


def _free_memory() -> Optional[int]:
    """Bytes that this process can still have: of the machine, and of its container."""
    found: List[int] = []
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/meminfo") as lines:
        found.append(next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")))
    for most, used in (("max", "current"), ("limit_in_bytes", "usage_in_bytes")):
        folder = Path("/sys/fs/cgroup") / ("" if most == "max" else "memory")
        with contextlib.suppress(OSError, ValueError):
            found.append(int((folder / f"memory.{most}").read_text()) - int((folder / f"memory.{used}").read_text()))
    return min(found) if found else None


def _files() -> Iterator[Finding]:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    most, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _LEAST_FILES:
        yield note("open files", f"{most} at once", f"ulimit -n {max(_LEAST_FILES, min(highest, 65536))}")


def _tf32(gpus: List[Dict[str, Any]]) -> Finding:
    with contextlib.suppress(ValueError):
        if all(float(gpu["capability"]) < _AMPERE for gpu in gpus):
            return fine("TF32", "these GPUs have none: float32 is float32")
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return fine("TF32", "forbidden by NVIDIA_TF32_OVERRIDE=0: float32 is float32")
    return note(
        "TF32",
        "products in float32 may be rounded to 10 bits",
        "export NVIDIA_TF32_OVERRIDE=0  # slower, and exact enough to compare logits",
    )


def disk(folder: str) -> Finding:
    """Write a file of 256 MB into a folder, read it back without the cache, and remove it."""
    part = os.urandom(1 << 20)
    subject = f"disk of {folder}"
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            begin = time.perf_counter()
            for _ in range(_MEGABYTES):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            written = time.perf_counter()
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            while file.read(1 << 20):
                pass
            rates = _MEGABYTES / (written - begin), _MEGABYTES / (time.perf_counter() - written)
    except OSError as error:
        return wrong(subject, f"cannot be written: {error.strerror or error}", "name a folder that can: --folder DIR")
    found = "written with {:,.0f}, read with {:,.0f} MB/s".format(*rates)
    if rates[1] < _SLOW_DISK:
        return note(subject, found, "keep the data of a run on a faster disk: RecordIO files are read in one stream")
    return fine(subject, found)
