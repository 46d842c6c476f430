"""The runs of an experiment, trained one after the other or side by side, and gone on with after any stop."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional

from .. import _resources
from ..files.locks import InUse, alone_in
from ..files.write import make_folder
from ..train.run_folder import RESULT, read_json
from .definition import Comparison, Experiment

__all__ = ["Job", "jobs_of", "run_queue"]

_LOOK_S = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Job(NamedTuple):
    """One run: a network of the experiment with a seed, in a folder of its own.

    Attributes:
        comparison: The network.
        seed: Of the run.
        folder: Of the run.
    """

    comparison: Comparison
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.comparison.name}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether its last file is there."""
        return read_json(self.folder / RESULT) is not None


def jobs_of(experiment: Experiment, out: Path) -> List[Job]:
    """All runs of an experiment: every network with the first seed, then with the next.

    Args:
        experiment: What is compared.
        out: Folder of all runs.
    """
    return [
        Job(comparison, seed, out / experiment.name / f"{_word(comparison.name)}.{seed}")
        for seed in experiment.seeds
        for comparison in experiment.comparisons.values()
    ]


def _word(name: str) -> str:
    return "_".join(name.replace(",", " ").split())


def command(experiment: Experiment, job: Job, source: str, out: Path) -> List[str]:
    """The training command of a run, without the interpreter."""
    comparison = job.comparison
    recipe = _resources.folder("configs") / (comparison.recipe or experiment.recipe)
    after = str(_beside(job, comparison.after)) if comparison.after else ""
    overrides = [part for one in experiment.overrides(comparison, job.seed, after) for part in ("--set", one)]
    named = ["--model", comparison.model, "--config", str(recipe), "--data", source, "--out", str(out)]
    return ["-m", "gluon_effnets", "train", *named, *overrides]


def run_queue(
    experiment: Experiment, source: str, out: Path, side_by_side: int = 1, say: Callable[[str], None] = print
) -> int:
    """Train what is not finished; return the exit code.

    Runs that another process has are left to it. A signal stops all runs after a checkpoint, and the same call goes on
    with them.

    Args:
        experiment: What is trained.
        source: The data, as --data takes it.
        out: The folder that holds a folder per experiment.
        side_by_side: How many runs train at the same time, with a thread each if there are several.
        say: Takes a line about every start and end.

    Returns:
        0 if all runs are finished or left to others, 1 if one failed, 130 or 143 if a signal stopped them.
    """
    jobs = jobs_of(experiment, out)
    queue = _Queue(experiment, source, side_by_side, say, [job for job in jobs if not job.finished])
    say(f"{experiment.name}: {len(jobs)} runs, {len(jobs) - len(queue.waiting)} of them finished")
    with _heard() as signals:
        try:
            while not signals and queue.fill():
                time.sleep(_LOOK_S)
                queue.look()
        finally:
            queue.stop()
    if signals:
        return 128 + signals[0]
    if queue.waiting:
        say(f"{len(queue.waiting)} runs wait for others that are not finished: {queue.waiting[0].name}")
    return 1 if queue.failed or queue.waiting else 0


class _Running(NamedTuple):
    """A run in a process of its own. `lock` keeps other queues out of it."""

    job: Job
    process: subprocess.Popen
    log: Path
    lock: contextlib.ExitStack
    since: float


@dataclasses.dataclass
class _Queue:
    """The runs that wait and those that train."""

    experiment: Experiment
    source: str
    side_by_side: int
    say: Callable[[str], None]
    waiting: List[Job]
    running: List[_Running] = dataclasses.field(default_factory=list)
    took: List[float] = dataclasses.field(default_factory=list)  # seconds of those that finished here
    failed: int = 0

    def fill(self) -> bool:
        """Start as many runs as may train at a time; whether any trains now."""
        while len(self.running) < self.side_by_side:
            job = next((one for one in self.waiting if _is_ready(self.experiment, one)), None)
            if job is None:
                break
            self.waiting.remove(job)
            started = self._start(job)
            if started is None:
                self.say(f"{job.name}: another process has it")
            else:
                self.running.append(started)
                self.say(f"{job.name}: started, {len(self.waiting)} waiting{self._left()}")
        return bool(self.running)

    def look(self) -> None:
        """Take note of the runs that ended."""
        for one in [one for one in self.running if one.process.poll() is not None]:
            self.running.remove(one)
            one.lock.close()
            code, seconds = one.process.returncode, time.monotonic() - one.since
            if code:
                self.failed += 1
                self.say(f"{one.job.name}: failed with exit code {code}, see {one.log}")
            else:
                self.took.append(seconds)
                self.say(f"{one.job.name}: finished in {seconds / 60:.1f} min{self._score(one.job)}")

    def stop(self) -> None:
        """Let all that train write a checkpoint and end."""
        if self.running:
            self.say(f"stopping {len(self.running)} runs after a checkpoint; the same command goes on with them")
        for one in self.running:
            one.process.send_signal(signal.SIGTERM)
        for one in self.running:
            one.process.wait()
            one.lock.close()
        self.running.clear()

    def _start(self, job: Job) -> Optional[_Running]:
        """Start a run; None if another process has it."""
        lock, place = contextlib.ExitStack(), job.folder.with_name(f"{job.folder.name}.queue")
        make_folder(place)
        try:
            lock.enter_context(alone_in(place))
        except InUse:
            return None
        log = place / "log.txt"
        with open(log, "ab") as file:
            process = subprocess.Popen(
                [sys.executable, *command(self.experiment, job, self.source, job.folder)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **({"OMP_NUM_THREADS": "1"} if self.side_by_side > 1 else {})},
                start_new_session=True,  # the terminal's Ctrl-C is ours, and we hand it on
            )
        return _Running(job, process, log, lock, time.monotonic())

    def _left(self) -> str:
        """How long the rest takes if a run takes what the others took."""
        if not self.took:
            return ""
        minutes = sum(self.took) / len(self.took) * (len(self.waiting) / self.side_by_side + 1) / 60
        return f", about {minutes:.0f} min left" if minutes < 120 else f", about {minutes / 60:.1f} h left"

    def _score(self, job: Job) -> str:
        score = (read_json(job.folder / RESULT) or {}).get(self.experiment.score)
        return "" if score is None else f", {self.experiment.score} {score:.2%}"


def _is_ready(experiment: Experiment, job: Job) -> bool:
    """Whether the run that it begins from is finished."""
    after = job.comparison.after
    return after is None or Job(experiment.comparisons[after], job.seed, _beside(job, after)).finished


def _beside(job: Job, comparison: str) -> Path:
    """The folder of another comparison with the same seed."""
    return job.folder.with_name(f"{_word(comparison)}.{job.seed}")


@contextlib.contextmanager
def _heard() -> Iterator[List[int]]:
    """The signals that wish a stop, in a list that is empty until one comes."""
    heard: List[int] = []
    before = {one: signal.signal(one, lambda number, _: heard.append(number)) for one in _SIGNALS}
    try:
        yield heard
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
