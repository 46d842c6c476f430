"""How often Horovod looks for gradients: chosen for hosts without GPUs, unless the user chose."""

from __future__ import annotations

import pytest

from gluon_effnets.train.dist import _set_cycle_time

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("environment", "gpus", "expected"),
    [({}, 0, "10"), ({"HOROVOD_CYCLE_TIME": "3"}, 0, "3"), ({}, 2, None), ({"HOROVOD_CYCLE_TIME": "3"}, 2, "3")],
)
def test_cycle_time(environment, gpus, expected):
    _set_cycle_time(environment, gpus)
    assert environment.get("HOROVOD_CYCLE_TIME") == expected
