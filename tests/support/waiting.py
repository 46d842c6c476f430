"""Bounds for what would otherwise hang: far above any need, so that a test never measures how busy the machine is."""

from __future__ import annotations

import time
from typing import Callable

PATIENCE_S = 900.0


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
