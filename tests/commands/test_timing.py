"""Conditions of a measurement, and calls timed in turn."""

from __future__ import annotations

import json
import os

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets.timing import conditions, conditions_line, machine, processor_kind, speedup, time_interleaved

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
    assert times["a"][:2] == pytest.approx((1, 1))
    assert times["b"].samples == pytest.approx((2, 4, 9))
    assert times["b"][:2] == pytest.approx((2, 4)), "the first call of 9 s does not count"


def test_a_speedup_is_of_pairs_and_its_interval_has_exact_coverage():
    noise = np.random.RandomState(0)
    ours, machine_is = noise.uniform(0.9, 1.1, 20), noise.uniform(1, 3, 20)
    shown = speedup(ours * machine_is, 1.2 * ours * machine_is)
    assert shown == pytest.approx((1.2, 1.2, 1.2, 20)) and shown.is_shown, "what slows both is no spread"
    # Of 20 the 6th and 15th, of 6 the ends, of 5 none has 95 %: those of tables of the sign test.
    ratios = list(range(1, 21))
    assert speedup([1] * 20, ratios)[1:] == (6, 15, 20)
    assert speedup([1] * 6, ratios[:6])[1:] == (1, 6, 6)
    assert speedup([1] * 5, ratios[:5])[1:] == (None, None, 5)
    assert speedup([1] * 4, [1, 4, 4, 16]).ratio == pytest.approx(4)
    missed = 0
    for _ in range(400):
        low, high = speedup(np.ones(15), np.exp(noise.standard_t(1.5, 15)))[1:3]
        missed += not low <= 1 <= high
    assert missed <= 0.05 * 400, "heavy tails take nothing from the coverage"


def test_a_lead_inside_of_its_interval_is_not_printed():
    assert str(speedup([1.0] * 8, [1.1] * 7 + [0.5])) == "no difference (0.50 to 1.10)"
    assert str(speedup([1.0] * 9, [0.5, 9.0] + [1.1] * 7)) == "1.10 (1.10 to 1.10)", "two of nine decide nothing"
    assert str(speedup([1.0] * 6, [1.004] + [1.3] * 5)) == "no difference (1.00 to 1.30)", "as it is printed"
    few = speedup([1.0], [9.0])
    assert str(few) == "unknown (1 repetition)" and not few.is_shown
    assert few.record() == {"ratio": pytest.approx(9), "ratio_low": None, "ratio_high": None, "repetitions": 1}
    with pytest.raises(ValueError, match="2 and 1 repetitions are no pairs"):
        speedup([1.0, 1.0], [1.0])


def test_processors_that_call_themselves_alike_are_told_apart():
    lines = {"vendor_id": "AuthenticAMD", "cpu family": "25", "model": "17", "model name": "AMD EPYC"}
    kinds = [
        processor_kind({**lines, "model": model, "flags": flags})
        for model, flags in (("17", "avx avx2 avx512f avx512_vnni avx512_bf16"), ("1", "avx avx2"), ("17", "sse2"))
    ]
    assert kinds == [
        "amd-family-25-model-17-avx512-vnni-bf16",
        "amd-family-25-model-1-avx2",
        "amd-family-25-model-17-sse2",
    ]
    assert processor_kind({"model name": "Cortex"}) is None
    assert machine()["processor"]
