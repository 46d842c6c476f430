"""Learning-rate schedules: pure functions of the number of the update."""

from __future__ import annotations

import bisect
import math
from typing import Callable, Dict

from .config import ScheduleSettings
from .durations import to_updates

__all__ = ["make_schedule"]

Schedule = Callable[[int], float]


def make_schedule(settings: ScheduleSettings, updates_per_epoch: int, total_updates: int) -> Schedule:
    """Return f(number) -> factor of the base learning rate, for the updates number 1 ... total_updates.

    As in GluonCV's scheduler (whose logged rates are a test), a phase of n updates moves its factor n - 1 times: a
    warm-up of W updates has factor warmup_from + (1 - warmup_from) * number / (W - 1) below number W, and the decay
    begins with factor 1 at number W. A decay ends `cooldown` before the run and stays where it ended.
    Raises ValueError for an unknown name, or a warm-up and cool-down longer than the run.
    """
    if settings.name not in _SHAPES:
        raise ValueError(f"unknown schedule.name {settings.name!r}; choose one of {', '.join(_SHAPES)}")
    warmup = to_updates(settings.warmup, updates_per_epoch, total_updates)
    if warmup > total_updates:
        raise ValueError(f"schedule.warmup is {warmup} updates, longer than the run of {total_updates}")
    cooldown = to_updates(settings.cooldown, updates_per_epoch, total_updates)
    if cooldown and settings.name not in ("cosine", "linear"):
        raise ValueError(f"schedule.cooldown comes after a cosine or linear decay, not with {settings.name}")
    if warmup + cooldown > total_updates:
        raise ValueError(
            f"schedule.warmup and cooldown are {warmup} + {cooldown} updates, longer than the run of {total_updates}"
        )
    shape = _SHAPES[settings.name](settings, updates_per_epoch, total_updates - cooldown, warmup)

    def schedule(number: int) -> float:
        if number < warmup:
            return settings.warmup_from + (1 - settings.warmup_from) * min(1.0, number / max(1, warmup - 1))
        return shape(number)

    return schedule


def _decay(blend: Callable[[float], float]):
    def make(settings: ScheduleSettings, per_epoch: int, total: int, warmup: int) -> Schedule:
        last = max(1, total - warmup - 1)
        return lambda number: settings.final + (1 - settings.final) * blend(min(1.0, (number - warmup) / last))

    return make


def _step(settings: ScheduleSettings, per_epoch: int, total: int, warmup: int) -> Schedule:
    milestones = sorted(to_updates(step, per_epoch, total) for step in settings.steps)
    # The update that follows a milestone is the first with the smaller rate.
    return lambda number: settings.factor ** bisect.bisect_left(milestones, number)


_SHAPES: Dict[str, Callable] = {
    "cosine": _decay(lambda progress: (1 + math.cos(math.pi * progress)) / 2),
    "linear": _decay(lambda progress: 1 - progress),
    "step": _step,
    "constant": lambda *_: lambda number: 1.0,
}
