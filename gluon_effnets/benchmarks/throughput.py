"""Throughput of training: images per second, where the time of an update goes, and what it means for many workers.

`benchmark_train` runs the trainer itself, on the batches and with the hooks of a recipe, in several ways, in turn:

    training        as a run does it: the figure that counts
    one batch       the same batch again and again: the network without its data
    MXNet's         one batch without the operators of gluon_effnets.native, where these are compiled
    data            batches read and dropped: the data without a network
    with waits      training that waits for every phase to end before the next, which tells the phases apart
    PyTorch         the same network on one batch in PyTorch, where that is installed (eager, NCHW and channels_last)

The data starve the network where `training` falls clearly below `one batch`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import mxnet as mx
import numpy as np

from ..timing import conditions
from ..train import loop
from ..train.build import build
from ..train.config import Recipe
from ..train.data import Batch, Data, DataSettings, open_data
from ..train.dist import Workers
from ..train.hooks import Hook
from ..train.state import TrainState
from .projection import ring_bits

__all__ = ["benchmark_data", "benchmark_train"]

PHASES = ("data", "forward", "backward", "waiting", "communication", "update")
_NEVER = 2**31


def _clocks() -> np.ndarray:
    """Seconds on the wall, and of processor time over all threads of this process."""
    return np.array([time.perf_counter(), time.process_time()])


class _Clock(Hook):
    """Takes the time between two updates; nothing waits but at these."""

    def __init__(self, first: int, last: int):
        self.first, self.last = first, last

    def batch_end(self, state):
        if state.update in (self.first, self.last):
            mx.nd.waitall()
            now = _clocks()
            if state.update == self.first:
                self._begin = now
            else:
                self.elapsed = now - self._begin


class _Phases(Hook):
    """Waits at the end of every phase; stands for the run's precision, to know where forward ends and backward begins.

    What a recipe's hooks do counts to the phase that follows: mixup to forward, clipping and averaging to the update.
    """

    def __init__(self, state: TrainState):
        self._precision, self._workers = state.precision, state.workers
        self.updates: List[Dict[str, np.ndarray]] = []  # phase -> clocks
        self._last = _clocks()

    def mark(self, phase: str) -> None:
        mx.nd.waitall()
        now = _clocks()
        current = self.updates[-1]
        current[phase] = current.get(phase, 0) + now - self._last
        self._last = now

    def train_begin(self, state):
        self.updates.append({})
        self._last = _clocks()

    def batch_begin(self, state, batch):
        self.mark("data")

    def backward(self, loss, trainer):
        self.mark("forward")
        self._precision.backward(loss, trainer)
        self.mark("backward")
        if self._workers.size > 1:
            # Else the worker that is done first would count its wait for the others as communication.
            self._workers.average_([mx.nd.zeros((1,))], "throughput.barrier")
            self.mark("waiting")

    def read(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; the loop asks for the next one between the exchange of gradients and the update."""
        while True:
            if self._workers.size > 1 and "backward" in self.updates[-1]:
                self.mark("communication")
            batch = next(batches)
            self.mark("data")
            yield batch

    def update(self, trainer, accumulate, scalars):
        return self._precision.update(trainer, accumulate, scalars)


class _EndOfUpdate(Hook):
    """Behind all other hooks, so that what they do after an update counts to it."""

    def __init__(self, phases: _Phases):
        self._phases = phases

    def batch_end(self, state):
        self._phases.mark("update")
        self._phases.updates.append({})


class _Endless:
    """The training batches of a `Data`, epoch after epoch; nothing to evaluate."""

    num_val = 0

    def __init__(self, data: Data, phases: Optional[_Phases] = None):
        self._data, self._phases = data, phases

    def train_batches(self, epoch: int = 0, first_step: int = 0) -> Iterator[Batch]:
        batches = itertools.chain.from_iterable(self._data.train_batches(number) for number in itertools.count())
        return self._phases.read(batches) if self._phases else batches


class _OneBatch(_Endless):
    def __init__(self, data: Data):
        self._batch = next(iter(data.train_batches(0)))

    def train_batches(self, epoch: int = 0, first_step: int = 0) -> Iterator[Batch]:
        return itertools.repeat(self._batch)


def _train(state: TrainState, task, hooks: Sequence[Hook], data, warmup: int, steps: int, **changes) -> np.ndarray:
    """Seconds and processor seconds of `steps` updates after `warmup` others, in the loop of every run."""
    clock = _Clock(warmup, warmup + steps)
    run = dataclasses.replace(
        state,
        data=data,
        # The last update of a run reads no batch ahead, and so is not measured.
        total_updates=warmup + steps + 1,
        # One epoch without evaluations: their costs depend on the size of the data set.
        updates_per_epoch=_NEVER,
        evaluate_every=_NEVER,
        **changes,
    )
    loop.train(run, task, [*hooks, clock])
    return clock.elapsed


def _read(batches: Iterator[Batch], warmup: int, steps: int) -> np.ndarray:
    for number in range(warmup + steps):
        if number == warmup:
            begin = _clocks()
        next(batches).data.wait_to_read()
    return _clocks() - begin


def _read_anew(data: Data, warmup: int, steps: int) -> np.ndarray:
    return _read(_Endless(data).train_batches(), warmup, steps)


def _torch_steps(training, phases: List[dict], warmup: int, steps: int) -> np.ndarray:
    """Elapsed clocks of steps in PyTorch; their phases are measured in as many further ones."""
    for number in range(warmup + steps):
        if number == warmup:
            training.wait()
            begin = _clocks()
        training.step()
    training.wait()
    elapsed = _clocks() - begin
    for _ in range(steps):
        clocks = [_clocks()]
        names: List[str] = []

        def mark(phase, clocks=clocks, names=names):
            training.wait()
            clocks.append(_clocks())
            names.append(phase)

        training.step(mark)
        phases.append(dict(zip(names, np.diff(clocks, axis=0))))
    return elapsed


def _interleaved(ways: Dict[str, Callable[[], np.ndarray]], rounds: int, images: int, workers: int = 1) -> dict:
    """Rates of all ways, measured in turn `rounds` times, so that other processes disturb all alike."""
    elapsed: Dict[str, list] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            elapsed[name].append(way())
    rates = {}
    for name, pairs in elapsed.items():
        wall, cpu = np.array(pairs).T
        rates[name] = {
            "images_per_s": images * workers / float(np.median(wall)),
            "best_images_per_s": images * workers / float(wall.min()),
            "cpu_ms_per_image": 1e3 * float(np.median(cpu)) / images,
        }
    return rates


def _summary(updates: Sequence[Dict[str, np.ndarray]]) -> Dict[str, dict]:
    """Median milliseconds of every phase of an update, and its share of their sum."""
    names = [name for name in PHASES if name in updates[0]]
    medians = {name: 1e3 * np.median([update[name] for update in updates], axis=0) for name in names}
    whole = sum(wall for wall, _ in medians.values())
    return {n: {"ms": float(w), "cpu_ms": float(c), "share": float(w / whole)} for n, (w, c) in medians.items()}


def _check(steps: int, warmup: int, rounds: int) -> None:
    if min(steps, warmup, rounds) < 1:
        raise ValueError(f"steps={steps}, warmup={warmup} and rounds={rounds} must all be at least 1")


def benchmark_train(
    recipe: Recipe,
    *,
    steps: int = 10,
    warmup: int = 2,
    rounds: int = 3,
    workers: Optional[Workers] = None,
    with_torch: Optional[bool] = None,
) -> dict:
    """Measure the training of a recipe: rates, phases of an update, and the volume of communication.

    Parameters
    ----------
    steps, warmup : measured updates of every way per round, and the ones before them.
    rounds : medians are taken over the rounds for rates, over all measured updates for phases.
    workers : of `start_workers`; rates are of all together, phases of the calling worker.
    with_torch : measure PyTorch too; None: if it is installed, one worker trains, and the network has a
        counterpart there (`torch_like`).

    Raises ValueError, FileNotFoundError or ImportError with what to change.
    """
    _check(steps, warmup, rounds)
    workers = workers or Workers()
    with tempfile.TemporaryDirectory() as folder:
        state, task, built = build(recipe, Path(folder), workers)
        hooks = list(built.recipe)  # without logs and checkpoints
        data, one_batch, phases = _Endless(state.data), _OneBatch(state.data), _Phases(state)
        waited: List[dict] = []

        def with_waits() -> np.ndarray:
            around, read = [phases, *hooks, _EndOfUpdate(phases)], _Endless(state.data, phases)
            elapsed = _train(state, task, around, read, warmup, steps, precision=phases)
            waited.extend(phases.updates[warmup : warmup + steps])
            phases.updates.clear()
            return elapsed

        ways = {
            "training": lambda: _train(state, task, hooks, data, warmup, steps),
            "one batch": lambda: _train(state, task, hooks, one_batch, warmup, steps),
            **_without_compiled(state, lambda: _train(state, task, hooks, one_batch, warmup, steps)),
            "data": lambda: _read(data.train_batches(), warmup * recipe.accumulate, steps * recipe.accumulate),
            "with waits": with_waits,
        }
        torch_ways, torch_phases = _torch_ways(recipe, state, with_torch, warmup, steps)
        images = steps * recipe.data.batch_size * recipe.accumulate
        rates = _interleaved({**ways, **torch_ways}, rounds, images, workers.size)
    update = _summary(waited)
    return {
        "kind": "train",
        "model": recipe.model,
        "data": state.data.description,
        "batch_size": recipe.data.batch_size,
        "accumulate": recipe.accumulate,
        "precision": recipe.precision,
        "workers": workers.size,
        "context": str(state.ctx),
        "steps": steps,
        "rounds": rounds,
        "machine": conditions(),
        "rates": rates,
        "phases": update,
        "torch_phases": {name: _summary(updates) for name, updates in torch_phases.items()},
        "communication": _communication(state, update),
    }


def _without_compiled(state: TrainState, way: Callable[[], np.ndarray]) -> Dict[str, Callable[[], np.ndarray]]:
    """A way to train with MXNet's own operators, where others would be taken."""
    if state.precision.operators != "compiled":
        return {}

    def run() -> np.ndarray:
        state.net.trains_compiled = False
        try:
            return way()
        finally:
            state.net.trains_compiled = True

    return {"MXNet's": run}


def _torch_ways(recipe: Recipe, state: TrainState, wanted: Optional[bool], warmup: int, steps: int):
    """Ways to train in PyTorch, and where each puts the phases of its steps."""
    if wanted and state.workers.size > 1:
        raise ValueError(f"PyTorch is measured with one worker, not with {state.workers.size}")
    if wanted is False or state.workers.size > 1:
        return {}, {}
    try:
        from .torch_reference import NoCounterpart, TorchTraining
    except ImportError:
        if wanted:
            raise
        return {}, {}
    shape = (recipe.data.batch_size, state.data.image_size)
    layouts = {"PyTorch": False, "PyTorch channels_last": True}
    try:
        trainings = {name: TorchTraining(state.net, *shape, last) for name, last in layouts.items()}
    except NoCounterpart:
        if wanted:
            raise
        return {}, {}
    # An update accumulates as many batches here as there.
    counts = (warmup * recipe.accumulate, steps * recipe.accumulate)
    ways: Dict[str, Callable[[], np.ndarray]] = {}
    phases: Dict[str, List[dict]] = {name: [] for name in trainings}
    for name, training in trainings.items():
        ways[name] = functools.partial(_torch_steps, training, phases[name], *counts)
    return ways, phases


def _communication(state: TrainState, phases: Dict[str, dict]) -> dict:
    """Volume of the gradients that workers exchange per update, and the bandwidth of a ring over the measured time."""
    grads = [param.list_grad()[0] for param in state.net.collect_params().values() if param.grad_req != "null"]
    num_bytes = sum(grad.size * grad.dtype().itemsize for grad in grads)
    result = {"arrays": len(grads), "bytes_per_update": num_bytes}
    size = state.workers.size
    if size > 1:
        result["ms"] = phases["communication"]["ms"]
        result["gbit_per_s"] = ring_bits(num_bytes, size) / (result["ms"] * 1e6)
    return result


def benchmark_data(
    settings: DataSettings, *, threads: Sequence[int] = (), steps: int = 20, warmup: int = 2, rounds: int = 3
) -> dict:
    """Images per second of the training data alone: read, decoded, augmented, normalized and batched.

    `threads` are the values of data.num_threads to compare; without any, the one of `settings`.
    Raises ValueError or FileNotFoundError with what to change.
    """
    _check(steps, warmup, rounds)
    ways: Dict[str, Callable[[], np.ndarray]] = {}
    description = ""
    for number in threads or (settings.num_threads,):
        data = open_data(dataclasses.replace(settings, num_threads=number), seed=0)
        description = data.description
        ways[f"{number} thread(s)"] = functools.partial(_read_anew, data, warmup, steps)
    return {
        "kind": "data",
        "data": description,
        "batch_size": settings.batch_size,
        "steps": steps,
        "rounds": rounds,
        "machine": conditions(),
        "rates": _interleaved(ways, rounds, steps * settings.batch_size),
    }
