"""Equal random numbers for every test, and runs of a recipe that trains in a second."""

from __future__ import annotations

import ctypes
import gc
import mmap
import random
from pathlib import Path
from typing import Iterator, Sequence

import mxnet as mx
import numpy as np
import pytest
from recipes import TINY
from runs import Run

from gluon_effnets.train.build import build
from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.dist import Workers
from gluon_effnets.train.hooks import Hook


@pytest.fixture(autouse=True, scope="module")
def _seeded_module() -> None:
    _seed()


@pytest.fixture(autouse=True)
def _seeded(_seeded_module) -> None:
    """Random numbers that depend neither on the tests before nor on how they are spread over processes."""
    _seed()


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Networks refer to themselves, and the C library keeps what they leave: a process grew to many gigabytes."""
    global _kept
    yield
    if _resident() < _kept + GROWTH:
        return
    gc.collect()
    mx.nd.waitall()  # MXNet's threads give arrays back after their owner is gone
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library
    if trim is not None:
        trim(0)
    _kept = _resident()


GROWTH = 400 << 20  # bytes, after which a process looks for what nothing needs any more
_kept = 0


def _resident() -> int:
    """Bytes of memory of this process, 0 where the system does not tell them in this way."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    mx.random.seed(0)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(config, items) -> None:
    """Spread tests over processes: what makes long chains first, and nothing shared made twice.

    Jobs of several workers run one after the other. Tests that share a fixture of their module, a whole run perhaps,
    stay in one process, where it is made once.
    """
    for item in items:
        if item.get_closest_marker("dist"):
            item.add_marker(pytest.mark.xdist_group("dist"))
        elif _shares_a_fixture(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (not item.get_closest_marker("dist"), not item.get_closest_marker("xdist_group")))


def pytest_collection_finish() -> None:
    """What is there before the first test stays: no later collection of garbage looks at its 400,000 objects again."""
    gc.collect()
    gc.freeze()


def _shares_a_fixture(item) -> bool:
    """Whether the item's own module makes something for several of its tests."""
    used = [fixture for fixtures in item._fixtureinfo.name2fixturedefs.values() for fixture in fixtures]
    module = item.nodeid.partition("::")[0]
    return any(fixture.scope == "module" and fixture.baseid == module for fixture in used)


@pytest.fixture
def recipe_file(tmp_path) -> Path:
    """A complete recipe of `idle_tiny`: 4 updates of 8 images, one epoch, evaluated at its end, saved after 2 and 4."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def start(tmp_path, recipe_file):
    """Function (*overrides, out='run', extra_hooks=()) -> Run: new objects as another process would make them."""

    def start(*overrides: str, out: str = "run", extra_hooks: Sequence[Hook] = ()) -> Run:
        folder = tmp_path / out
        folder.mkdir(exist_ok=True)
        recipe = load_recipe(recipe_file, overrides)
        return Run(recipe, *build(recipe, folder, Workers(), extra_hooks=extra_hooks))

    return start
