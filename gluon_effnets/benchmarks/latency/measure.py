"""The measurement: every network in every runtime in turn, again and again, each timed while all others stand still."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ... import _resources
from ...models import ClassificationNet
from ...nn.init import initialize_like_trained
from ...progress import progress_bar
from ...timing import machine
from .comparisons import compare
from .networks import Job, Network, find_jobs
from .processes import Worker, WorkerError, environment, turn

__all__ = ["Settings", "measure"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure besides the networks.

    runtimes : names in LATENCY_RUNTIMES.
    image_size : height and width.
    batches, threads : all pairs of them are measured.
    repeats : of every row with a batch below 16; of larger ones half of it.
    files : folder that keeps the files of networks; those that lie there are taken as they are. None: a temporary one.
    baseline : a name among the networks, with which all others are compared.
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
    baseline: Optional[str] = None
    files: Optional[str] = None


def measure(nets: Dict[str, ClassificationNet], settings: Settings) -> Dict[str, Any]:
    """Give networks random weights and time them: {'conditions', 'models', 'rows', ...}, ready for JSON.

    A row is one network, runtime, number of threads and batch: minimum_ms and median_ms of a batch, ms of every
    repetition, images_per_s by the median, model_bytes, with `memory` also peak_bytes of the process and import_bytes,
    what it had before it built the network. `comparisons` has the fastest of ours against the fastest peer, see
    `compare`. `left_out` says in lines what was not measured, and why.

    Raises ValueError for an unknown runtime or baseline, and if nothing is left to measure.
    """
    if settings.baseline not in (None, *nets):
        raise ValueError(f"the baseline {settings.baseline!r} is not among the networks: {', '.join(nets)}")
    load, rows = os.getloadavg()[0], []
    with contextlib.ExitStack() as files:
        folder = settings.files or files.enter_context(tempfile.TemporaryDirectory())
        networks = []
        for name, net in nets.items():
            initialize_like_trained(getattr(net, "whole", net))
            place = Path(folder) / re.sub(r"[^\w=.-]+", "-", f"{name}-{net.num_classes}-{settings.image_size}")
            place.mkdir(exist_ok=True)
            networks.append(Network(name, net, settings.image_size, place, settings.tvm_database))
        jobs, left_out = find_jobs(networks, settings.runtimes, settings.batches, settings.forms)
        versions: Dict[str, Dict[str, str]] = {}
        jobs = _export_from_torch(jobs, settings.pythons, versions, left_out)
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
    compared = compare(rows, settings.baseline)
    return {"conditions": conditions, "models": models, "rows": rows, "comparisons": compared, "left_out": lines}


def _export_from_torch(
    jobs: Sequence[Job], pythons: Dict[str, Optional[str]], versions: Dict[str, Dict[str, str]], left_out
) -> List[Job]:
    """Let PyTorch write the files that jobs need of it; return the jobs that have all files."""
    exports = (job.export for job in jobs if job.export)
    wanted = {export["file"]: export for export in exports if not Path(export["file"]).is_file()}
    if not wanted:
        return list(jobs)
    failed: Dict[str, str] = {}
    try:
        with contextlib.closing(Worker("torch", 1, pythons.get("torch"))) as worker:
            versions["torch"] = worker.versions
            for file, request in progress_bar(wanted.items(), desc="torch.onnx", unit="net"):
                try:
                    worker.ask("export", **request)
                except WorkerError as error:
                    failed[file] = str(error)
    except WorkerError as error:
        failed = dict.fromkeys(wanted, str(error))
    for job in jobs:
        if job.export and job.export["file"] in failed:
            left_out.setdefault(job.runtime, {})[job.model] = failed[job.export["file"]]
    return [job for job in jobs if not (job.export and job.export["file"] in failed)]


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
        with progress_bar(total=len(jobs), desc=_bar("build", threads), unit="net") as bar:
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
        with progress_bar(total=len(visits), desc=_bar("time", self.threads)) as bar:
            for built in visits:
                with turn(built.worker) as worker:
                    built.ms.append(1e3 * worker.ask("time", key=built.key, clock=clock)["seconds"])
                bar.update()
        return [_row(built, self.threads) for built in sorted(self._built, key=lambda built: built.key)]


def _every(batch: int) -> int:
    """In which repetitions a batch is measured: large ones in every second."""
    return 2 if batch >= 16 else 1


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
        "ms": [round(ms, 4) for ms in built.ms],
        "images_per_s": 1e3 * job.batch / median,
        "model_bytes": built.model_bytes,
    }


def _add_memory(rows: Sequence[Dict[str, Any]], jobs: Sequence[Job], pythons: Dict[str, Optional[str]]) -> None:
    """Peaks only rise, so that every row needs a process of its own."""
    found = {(job.model, job.runtime, job.batch): job for job in jobs}
    for row in progress_bar(rows, desc="memory"):
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
    del chosen["files"]
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
