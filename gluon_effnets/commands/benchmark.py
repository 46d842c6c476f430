"""The commands of `benchmark`: measurements on this machine."""

from __future__ import annotations

from . import comparisons, latency, profile, throughput
from .command import Group

__all__ = ["COMMANDS"]

COMMANDS = Group(
    "benchmark",
    "Measure speed on this machine.",
    (throughput.TRAIN, throughput.DATA, latency.COMMAND, profile.COMMAND, *comparisons.COMMANDS),
)
