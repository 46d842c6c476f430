"""Conditions of a measurement, and calls timed in turn."""

from __future__ import annotations

import json
import os

import mxnet as mx
import pytest

from gluon_effnets.timing import conditions, conditions_line, machine, time_interleaved

pytestmark = pytest.mark.fast


def test_conditions_are_those_of_this_process(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.25, 2.0, 3.0))
    found = json.loads(json.dumps(conditions()))
    assert {key: found[key] for key in machine()} == machine()
    assert (found["omp_num_threads"], found["omp_wait_policy"], found["mxnet"]) == ("7", None, mx.__version__)
    assert found["load_average"] == [1.25, 2.0, 3.0] and found["processors"] == os.cpu_count()
    assert conditions_line(found) == (
        f"MXNet {mx.__version__}, {os.cpu_count()} processors, OMP_NUM_THREADS 7, OMP_WAIT_POLICY not set, "
        "load average 1.2 at the end"
    )


def test_a_system_without_load_averages(monkeypatch):
    monkeypatch.delattr(os, "getloadavg")
    assert conditions()["load_average"] is None
    assert "load average" not in conditions_line(conditions())


def test_calls_are_timed_in_turn_after_one_that_warms_up():
    now, order = [0.0], []

    def call(name, seconds):
        order.append(name)
        now[0] += seconds[len(order) // 2 - 1] if name == "b" else 1e-3

    seconds = [9.0, 2e-3, 4e-3, 9e-3]
    calls = {"a": lambda: call("a", seconds), "b": lambda: call("b", seconds)}
    times = time_interleaved(calls, repeats=3, clock=lambda: now[0])
    assert order == ["a", "b"] * 4
    assert times["a"] == pytest.approx((1, 1))
    assert times["b"] == pytest.approx((2, 4)), "the first call of 9 s does not count"
