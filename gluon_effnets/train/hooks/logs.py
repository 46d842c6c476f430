"""What a run tells while it works: a progress bar for people, JSON lines for programs."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Dict, List

from tqdm import tqdm

from ...files.locks import require_same
from ...files.text import shown
from ...files.write import append_line, write_text
from ...progress import progress_bar
from ..metrics import is_share
from ..not_finite import NotFinite
from ..scalars import Scalars, floats
from ..state import TrainState
from .base import Hook, read_scalars

__all__ = ["JsonLines", "NotFinite", "Progress", "read_log"]

LINE_EVERY_S = 60.0
_MOST_SCORES = 24  # in one line of a terminal


class JsonLines(Hook):
    """Appends to <run folder>/log.jsonl: mean loss, rate and images/s every `every` updates, every evaluation,
    and after an epoch how many unreadable training images were replaced by others.

    With mixed precision also the loss scale, and how many updates of the run were skipped. Lines of updates that a
    resumed run repeats are dropped first. Stops the run when a loss, of training or evaluation, is not finite.
    """

    def __init__(self, every: int = 10):
        self.every = every
        self._pending: List[Scalars] = []  # of the updates since the last line, not waited for yet

    def train_begin(self, state):
        self._path = state.out / "log.jsonl"
        if state.workers.is_writer and self._path.exists():
            # By epoch: the number of the update is another one when the number of workers changed.
            now = _round(state.update / state.updates_per_epoch)
            kept = [line for line in read_log(self._path) if line.get("epoch", 0) <= now]
            write_text(self._path, "".join(f"{json.dumps(line)}\n" for line in kept))
        self._restart_clock(state)

    def state_dict(self):
        return {"pending": floats(self._pending)}

    def load_state_dict(self, values):
        self._pending = [Scalars(numbers) for numbers in values["pending"]]

    def batch_end(self, state):
        self._pending.append(state.scalars)
        if state.update % self.every == 0 or state.update % state.updates_per_epoch == 0:
            self._write_losses(state)

    def eval_begin(self, state):
        if self._pending:
            self._write_losses(state)

    def eval_end(self, state):
        self._append(state, {"kind": "eval", **state.scores})
        self._restart_clock(state)  # the time of the evaluation is none of the training
        _refuse_not_finite({k: v for k, v in state.scores.items() if k.endswith("loss")}, "in the evaluation", state)

    def epoch_end(self, state):
        # Equal on all workers, which take the sum together.
        if state.data.settings.on_error == "skip":
            replaced = int(state.workers.sum({"replaced": state.data.num_replaced})["replaced"])
            if replaced:
                self._append(state, {"kind": "data", "replaced_images": replaced})

    def _restart_clock(self, state):
        self._since, self._timed_from = time.perf_counter(), state.update

    def _write_losses(self, state):
        count = len(self._pending)
        read_scalars(state)
        numbers = floats(self._pending)
        values = {key: sum(update[key] for update in numbers) / count for key in numbers[0]}
        images = (
            (state.update - self._timed_from) * state.accumulate * state.data.settings.batch_size * state.workers.size
        )
        speed = images / (time.perf_counter() - self._since)
        first = state.update - count + 1
        rates = {"lr": state.trainer.learning_rate, "images_per_s": speed}
        self._append(state, {"kind": "train", **values, **rates, **state.precision.report()})
        self._pending = []
        self._restart_clock(state)
        _refuse_not_finite(values, f"in updates {first} to {state.update}", state)

    def _append(self, state, values):
        if state.workers.is_writer:
            line = {"update": state.update, "epoch": state.update / state.updates_per_epoch, **values}
            require_same(state.out)
            append_line(self._path, json.dumps({k: _round(v) for k, v in line.items()}))


def _refuse_not_finite(values: Dict[str, float], when: str, state: TrainState) -> None:
    for key, value in values.items():
        if not math.isfinite(value):
            raise NotFinite(f"{key} is not finite {when}", state)


def read_log(path: Path) -> List[dict]:
    """Return the lines of a log.jsonl, but for one that was cut short when the run was killed."""
    lines = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict)]


def _round(value):
    return float(f"{value:.6g}") if isinstance(value, float) else value


class Progress(Hook):
    """A bar per epoch with loss, rate, images/s and the time the whole run still needs; a line per evaluation.

    Where standard error is no terminal, a line every minute takes the place of the bar.
    """

    def train_begin(self, state):
        self._shown, self._bar = time.perf_counter(), None

    def epoch_begin(self, state):
        self._bar = None
        if state.workers.is_writer:
            begun = state.epoch * state.updates_per_epoch
            end = min(state.total_updates, begun + state.updates_per_epoch)
            epochs = math.ceil(state.total_updates / state.updates_per_epoch)
            self._epoch = f"{_stage(state)}epoch {state.epoch + 1}/{epochs}"
            self._bar = progress_bar(
                total=end - begun,
                initial=state.update - begun,
                desc=self._epoch,
                unit="up",
                bar_format="{desc} {percentage:3.0f}%|{bar:20}| {n}/{total} {postfix}",
            )
            self._since, self._first = time.perf_counter(), state.update

    def batch_end(self, state):
        if self._bar is None:
            return
        self._bar.update(1)
        now = time.perf_counter()
        # Reading the loss waits for the device: not more than once in half a second.
        if now - self._shown > (LINE_EVERY_S if self._bar.disable else 0.5):
            self._shown = now
            loss = read_scalars(state)["loss"]
            rate = (state.update - self._first) / (time.perf_counter() - self._since)
            images = rate * state.accumulate * state.data.settings.batch_size * state.workers.size
            left = tqdm.format_interval((state.total_updates - state.update) / rate)
            lr = state.trainer.learning_rate
            told = [f"loss {loss:.3f}", f"lr {lr:.4g}", f"{images:.0f} img/s", *_skips(state), f"{left} left in all"]
            text = ", ".join(told)
            if self._bar.disable:
                print(f"{self._epoch}, update {state.update}: {text}", file=sys.stderr, flush=True)
            else:
                self._bar.set_postfix_str(text)

    def eval_begin(self, state):
        self._paused = time.perf_counter()

    def eval_end(self, state):
        if self._bar is not None:
            self._since += time.perf_counter() - self._paused
            # A run that goes on with a repeated evaluation has made no update.
            loss = read_scalars(state).get("loss", float("nan"))
            told = [f"{shown(key)} {_format(key, value)}" for key, value in state.scores.items()]
            rest = [f"{len(told) - _MOST_SCORES} more in log.jsonl"] if len(told) > _MOST_SCORES else []
            scores = ", ".join([*told[:_MOST_SCORES], *rest])
            epoch = f"{_stage(state)}epoch {state.update / state.updates_per_epoch:g}"
            tqdm.write(f"{epoch}: training loss {loss:.4f}; {scores}")

    def epoch_end(self, state):
        if self._bar is not None:
            self._bar.close()

    def train_end(self, state):
        skipped = state.precision.report().get("skipped_updates")
        if skipped and state.workers.is_writer:
            tqdm.write(f"{skipped} of {state.total_updates} updates were skipped: gradients that are not finite")


def _skips(state) -> List[str]:
    told = state.precision.report()
    return [f"scale {told['loss_scale']:g}, {told['skipped_updates']} skipped"] if told else []


def _stage(state) -> str:
    return f"{state.stage.name}, " if state.stage.name else ""


def _format(key: str, value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2%}" if is_share(key) else f"{value:.4f}"
