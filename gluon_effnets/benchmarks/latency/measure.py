"""The measurement: every network in every runtime in turn, again and again, each timed while all others stand still."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from ... import _resources
from ...models import ClassificationNet
from ...nn.init import initialize_like_trained
from ...timing import machine
from .networks import Job, Network, find_jobs
from .processes import Worker, WorkerError, environment, turn

__all__ = ["Settings", "measure"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure besides the networks.

    runtimes : names in LATENCY_RUNTIMES.
    image_size : height and width.
    batches, threads : all pairs of them are measured.
    repeats : of every row with a batch below 16; of larger ones fewer, of 32 a quarter.
    forms : of `aligned`, for the runtimes with aligned graphs.
    clock : 'wall', or 'processor' for the processor's time, which other processes disturb less (use one thread).
    memory : also run every row of the first number of threads in a process of its own and read the peak of its memory.
    pythons : {kind of worker: interpreter}, where it is not this one.
    tvm_database : folder of TVM's tuning; None: schedules by rule.
    """

    runtimes: Sequence[str] = ("mxnet-fused", "onnxruntime")
    image_size: Tuple[int, int] = (224, 224)
    batches: Sequence[int] = (1,)
    threads: Sequence[int] = (1,)
    repeats: int = 20
    forms: Sequence[str] = ("auto",)
    clock: str = "wall"
    memory: bool = False
    pythons: Dict[str, Optional[str]] = dataclasses.field(default_factory=dict)
    tvm_database: Optional[str] = None


def measure(nets: Dict[str, ClassificationNet], settings: Settings) -> Dict[str, Any]:
    """Give networks random weights and time them: {'conditions', 'models', 'rows', 'left_out'}, ready for JSON.

    A row is one network, runtime, number of threads and batch: minimum_ms and median_ms of a batch, images_per_s by
    the median, model_bytes, with `memory` also peak_bytes of the process and import_bytes, what it had before it
    built the network. `left_out` says in lines what was not measured, and why.

    Raises ValueError for an unknown runtime, and if nothing is left to measure.
    """
    load, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as folder:
        networks = []
        for number, (name, net) in enumerate(nets.items()):
            initialize_like_trained(net)
            place = Path(folder) / str(number)
            place.mkdir()
            networks.append(Network(name, net, settings.image_size, place, settings.tvm_database))
        jobs, left_out = find_jobs(networks, settings.runtimes, settings.batches, settings.forms)
        versions: Dict[str, Dict[str, str]] = {}
        for threads in settings.threads:
            with contextlib.ExitStack() as stack:
                pool = _Pool(stack, jobs, threads, settings.pythons, left_out)
                rows += pool.times(settings.repeats, settings.clock)
                versions.update(pool.versions)
        if settings.memory:
            _add_memory([row for row in rows if row["threads"] == settings.threads[0]], jobs, settings.pythons)
        models = {network.name: network.about() for network in networks}
    lines = list(_lines(left_out))
    if not rows:
        raise ValueError("nothing to measure:\n" + "\n".join(lines[:2]))
    conditions = {**_conditions(settings), "versions": versions, "load_average": [load, os.getloadavg()[0]]}
    return {"conditions": conditions, "models": models, "rows": rows, "left_out": lines}


class _Built(NamedTuple):
    """A network in its worker. `ms`: the times so far."""

    key: int
    job: Job
    worker: Worker
    model_bytes: int
    ms: List[float]


class _Pool:
    """A worker per kind of runtime, each with its networks built, and paused."""

    def __init__(self, stack, jobs: Sequence[Job], threads: int, pythons: Dict[str, Optional[str]], left_out):
        self.threads = threads
        self.versions: Dict[str, Dict[str, str]] = {}
        self._built: List[_Built] = []
        with tqdm(total=len(jobs), desc=_bar("build", threads), leave=False, unit="net") as bar:
            for kind in dict.fromkeys(job.kind for job in jobs):
                try:
                    worker = Worker(kind, threads, pythons.get(kind))
                except WorkerError as error:
                    left_out[kind] = {"": str(error)}
                    continue
                stack.callback(worker.close)
                self.versions[kind] = worker.versions
                for key, job in enumerate(jobs):
                    if job.kind == kind:
                        self._build(key, job, worker, left_out)
                        bar.update()
                worker.pause()

    def _build(self, key: int, job: Job, worker: Worker, left_out) -> None:
        try:
            size = worker.ask("build", key=key, **job.request)["model_bytes"]
        except WorkerError as error:
            left_out.setdefault(job.runtime, {})[job.model] = str(error)
        else:
            self._built.append(_Built(key, job, worker, size, []))

    def times(self, repeats: int, clock: str) -> List[Dict[str, Any]]:
        """The rows: all networks in turn in every repetition; larger batches, which vary less, in some of them."""
        # Neighbours in time are those that are compared: a network's runtimes.
        turns = sorted(self._built, key=lambda built: (built.job.batch, built.job.model, built.key))
        visits = [built for number in range(repeats) for built in turns if number % _every(built.job.batch) == 0]
        with tqdm(total=len(visits), desc=_bar("time", self.threads), leave=False) as bar:
            for built in visits:
                with turn(built.worker) as worker:
                    built.ms.append(1e3 * worker.ask("time", key=built.key, clock=clock)["seconds"])
                bar.update()
        return [_row(built, self.threads) for built in sorted(self._built, key=lambda built: built.key)]


def _every(batch: int) -> int:
    """In which repetitions a batch is measured: batches of 32 in every fourth."""
    return max(batch // 8, 1)


def _bar(what: str, threads: int) -> str:
    return f"{what}, {threads} thread{'s' if threads > 1 else ''}"


def _row(built: _Built, threads: int) -> Dict[str, Any]:
    job, median = built.job, float(np.median(built.ms))
    return {
        "model": job.model,
        "runtime": job.runtime,
        "int8": job.int8,
        "threads": threads,
        "batch": job.batch,
        "minimum_ms": min(built.ms),
        "median_ms": median,
        "images_per_s": 1e3 * job.batch / median,
        "model_bytes": built.model_bytes,
    }


def _add_memory(rows: Sequence[Dict[str, Any]], jobs: Sequence[Job], pythons: Dict[str, Optional[str]]) -> None:
    """Peaks only rise, so that every row needs a process of its own."""
    found = {(job.model, job.runtime, job.batch): job for job in jobs}
    for row in tqdm(rows, desc="memory", leave=False):
        job = found[row["model"], row["runtime"], row["batch"]]
        with contextlib.closing(Worker(job.kind, row["threads"], pythons.get(job.kind))) as worker:
            worker.ask("build", key=0, **job.request)
            row.update(worker.ask("memory"), import_bytes=worker.peak_bytes)


def _lines(left_out: Dict[str, Dict[str, str]]) -> Iterable[str]:
    """Equal reasons in one line."""
    runtimes: Dict[Tuple[str, str], List[str]] = {}
    for runtime, reasons in left_out.items():
        for reason in dict.fromkeys(reasons.values()):
            models = ", ".join(model for model, text in reasons.items() if text == reason)
            runtimes.setdefault((models, reason), []).append(runtime)
    for (models, reason), names in runtimes.items():
        yield f"left out: {', '.join(names)}{' of ' if models else ''}{models}: {reason}"


def _conditions(settings: Settings) -> Dict[str, Any]:
    chosen = dataclasses.asdict(settings)
    del chosen["pythons"]  # where things lie is in the command, as far as it matters
    chosen["tvm_database"] = settings.tvm_database is not None
    return {
        **machine(),
        **chosen,
        "omp_wait_policy": {
            number: environment(number).get("OMP_WAIT_POLICY", os.environ.get("OMP_WAIT_POLICY", "not set"))
            for number in settings.threads
        },
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _resources.commit(),
    }
