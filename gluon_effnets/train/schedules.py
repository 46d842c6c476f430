"""Learning-rate schedules: pure functions of the number of the update."""

from __future__ import annotations

import bisect
import dataclasses
import inspect
import math
from typing import Any, Callable, Dict, NamedTuple, Sequence

from .config import ScheduleSettings
from .durations import exact_updates, to_updates
from .registry import Registry

__all__ = ["SCHEDULES", "Schedule", "Span", "make_schedule"]

Schedule = Callable[[int], float]


class Span(NamedTuple):
    """Where in a run a decay moves: it begins at update number `first` and is complete at number `last`.

    Updates are numbered from 1 over the whole run of `total_updates`.

    Attributes:
        first, last: Updates at which a decay begins and is complete.
        updates_per_epoch: Number of updates.
        total_updates: Of the run.
    """

    first: int
    last: int
    updates_per_epoch: int
    total_updates: int

    def progress(self, number: int) -> float:
        """How far an update is: 0 at `first`, 1 from `last` on."""
        return min(1.0, (number - self.first) / max(1, self.last - self.first))

    def updates(self, duration: str) -> float:
        """The length of a duration such as '2.4ep', in updates; errors of `durations.exact_updates`."""
        return exact_updates(duration, self.updates_per_epoch, self.total_updates)


def cosine(span: Span, final: float) -> Schedule:
    """Half a wave from 1 to `final`."""
    return _falling(span, final, lambda progress: (1 + math.cos(math.pi * progress)) / 2)


def linear(span: Span, final: float) -> Schedule:
    """A straight line from 1 to `final`."""
    return _falling(span, final, lambda progress: 1 - progress)


def poly(span: Span, final: float, power: float) -> Schedule:
    """final + (1 - final) * (1 - progress)^power."""
    if power <= 0:
        raise ValueError(f"schedule.power is {power:g}; it must be above 0")
    return _falling(span, final, lambda progress: (1 - progress) ** power)


def step(span: Span, steps: Sequence[str], factor: float) -> Schedule:
    """Times `factor` at each of `steps`, counted from the beginning of the run."""
    milestones = sorted(round(span.updates(duration)) for duration in steps)
    # The update that follows a milestone is the first with the smaller rate.
    return lambda number: factor ** bisect.bisect_left(milestones, number)


def exponential(span: Span, every: str, factor: float, staircase: bool) -> Schedule:
    """factor^((number - 1) / every), the exponent rounded down if `staircase`.

    Counted from the beginning of the run, warm-up included, as `tf.train.exponential_decay` does with global steps.
    """
    length = span.updates(every)
    if length < 1:
        raise ValueError(f"schedule.every is {every}; it must be at least one update")
    # The last digit of a length such as 0.1ep must not put off a step that is due.
    return lambda number: factor ** (math.floor((number - 1) / length + 1e-9) if staircase else (number - 1) / length)


def constant(span: Span) -> Schedule:
    """1 throughout."""
    return lambda number: 1.0


SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    {
        "cosine": cosine,
        "linear": linear,
        "poly": poly,
        "step": step,
        "exponential": exponential,
        "constant": constant,
    },
)


# What of the section is not the shape's.
_OWN_KEYS = {"name", "warmup", "warmup_from", "cooldown", "options"}


def make_schedule(settings: ScheduleSettings, updates_per_epoch: int, total_updates: int) -> Schedule:
    """Return f(number) -> factor of the base learning rate, for the updates number 1 ... total_updates.

    As in GluonCV's scheduler (whose logged rates are a test), a phase of n updates moves its factor n - 1 times: a
    warm-up of W updates has factor warmup_from + (1 - warmup_from) * number / (W - 1) below number W, and the decay
    begins with factor 1 at number W. A decay ends `cooldown` before the run and stays where it ended.

    What makes a shape is one of `SCHEDULES`, or 'module:function'. It is called with a `Span`, then, by their names,
    with those keys of the section `schedule` that are among its parameters, and with the section's `options`.

    Args:
        settings: The section `schedule`.
        updates_per_epoch: Length of an epoch.
        total_updates: Length of the run.

    Raises:
        ValueError: An unknown name or option, or a warm-up and cool-down longer than the run.
    """
    warmup = to_updates(settings.warmup, updates_per_epoch, total_updates)
    if warmup > total_updates:
        raise ValueError(f"schedule.warmup is {warmup} updates, longer than the run of {total_updates}")
    cooldown = to_updates(settings.cooldown, updates_per_epoch, total_updates)
    accepted = inspect.signature(SCHEDULES.find(settings.name)).parameters
    if cooldown and "final" not in accepted:
        raise ValueError(f"schedule.cooldown comes after a decay to schedule.final, not with {settings.name}")
    if warmup + cooldown > total_updates:
        raise ValueError(
            f"schedule.warmup and cooldown are {warmup} + {cooldown} updates, longer than the run of {total_updates}"
        )
    span = Span(warmup, total_updates - cooldown - 1, updates_per_epoch, total_updates)
    keys = accepted.keys() & {field.name for field in dataclasses.fields(settings)} - _OWN_KEYS
    given: Dict[str, Any] = {key: getattr(settings, key) for key in keys}
    shape = SCHEDULES.make(settings.name, settings.options, "schedule.options", span=span, **given)

    def schedule(number: int) -> float:
        if number < warmup:
            return settings.warmup_from + (1 - settings.warmup_from) * min(1.0, number / max(1, warmup - 1))
        return shape(number)

    return schedule


def _falling(span: Span, final: float, blend: Callable[[float], float]) -> Schedule:
    return lambda number: final + (1 - final) * blend(span.progress(number))
