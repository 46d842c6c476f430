"""Experiments with the papers' ablations: networks that differ in what is asked, and the curve of score over cost."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from gluon_effnets import get_model
from gluon_effnets.complexity import condensed_options, count
from gluon_effnets.experiments import read_experiment
from gluon_effnets.experiments.curve import curve_points, draw_curve, half_width
from gluon_effnets.train.config import load_recipe

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
pytestmark = pytest.mark.fast
ABLATIONS = ("condensenet_modules", "condensenet_factors", "sfr_shufflenet", "idle_efficientnet")


def costs(name):
    experiment, found = read_experiment(name), {}
    for one in experiment.comparisons.values():
        options = {"classes": 10, **experiment.options, **one.options}
        net = get_model(one.model, **options)
        found[one.name] = count(get_model(one.model, **options, **(condensed_options(net) or {})), 32)
    return found


@pytest.mark.parametrize("name", ABLATIONS)
def test_all_networks_of_an_experiment_are_others(name):
    found = costs(name)
    experiment = read_experiment(name)
    told = {(one.model, str(one.options)) for one in experiment.comparisons.values()}
    assert len(told) == len(found) and all(cost.params > 0 for cost in found.values())
    # What has masks is pruned, and nothing else: all of it would be trained dense without the hook.
    for one in experiment.comparisons.values():
        pruned = any("sparsify" in setting for setting in (*experiment.settings, *one.settings))
        assert pruned == ("condense" in one.model or ("sfr" in one.model and one.options.get("factor") != 1))


def test_modules_and_factors_cost_what_they_are_compared_for():
    modules = costs("condensenet_modules")
    assert modules["without h-swish"] == modules["all modules"]
    assert modules["without SFR"].madds < modules["all modules"].madds
    assert modules["without SE"].params < modules["all modules"].params
    for name in ("condensenet_factors", "sfr_shufflenet"):
        params = [cost.params for cost in costs(name).values()]
        assert params == sorted(params) and len(set(params)) == 5


def test_a_curve_has_all_seeds_from_the_least_cost(tmp_path):
    rows = [
        {"comparison": name, "params": params, "seed": seed, "score": score}
        for name, params, seed, score in (
            *(("S = 1", 300, 1, 63.0), ("S = 4", 100, 0, 58.0)),
            *(("S = 1", 300, 0, 61.0), ("lost", None, 0, 1.0)),
        )
    ]
    points = curve_points(rows, "params")
    assert list(points.items()) == [("S = 4", (100, [58.0])), ("S = 1", (300, [61.0, 63.0]))]
    draw_curve(rows, "params", "top1", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_a_point_has_the_interval_of_its_mean():
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(2.484, abs=1e-3)  # 4.303 / sqrt(3)
    assert half_width([5.0]) is None


def test_all_warm_ups_end_at_the_same_rate():
    experiment, rates = read_experiment("large_batch"), {}
    for one in experiment.comparisons.values():
        overrides = experiment.overrides(one, 0, "")
        recipe = load_recipe(
            str(CONFIGS / experiment.recipe), [*overrides, f"model={one.model}", "data.source=cifar10:DIR"]
        )
        optimizer, batch = recipe.optimizer, recipe.data.batch_size * recipe.accumulate
        rate = optimizer.lr * (batch / optimizer.lr_for_batch if optimizer.lr_for_batch else 1)
        rates[one.name] = round(rate * optimizer.options.get("batch_scale", 1), 6)
        warm = optimizer.options.get("warmup_strategy", "lars") == "lars"
        assert recipe.schedule.warmup == ("3ep" if warm and "no warm-up" not in one.name else "0ep")
    assert rates.pop("NAG, small batch") == 0.1
    assert set(rates.values()) == {0.8} and len(rates) == 6


def test_a_curve_over_something_else_is_refused(tmp_path):
    text = Path(__file__).resolve().parents[2] / "configs" / "experiments" / "sfr_shufflenet.yaml"
    other = tmp_path / "other.yaml"
    other.write_text(text.read_text().replace("curve: params", "curve: time"))
    with pytest.raises(ValueError, match="curve"):
        read_experiment(str(other))


def test_gates_are_compared_where_widths_are_far_apart(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "dev"))
    evidence = importlib.import_module("small_scale_evidence")
    sys.modules.pop("small_scale_evidence")
    names = [name for group in evidence.GROUPS.values() for name in group]
    assert len(names) == len(set(names)), "runs of two groups would share a folder"
    for run in evidence.GROUPS["dsnet_spread"].values():
        net = get_model(run.model, classes=10, stem_stride=2, **run.options)
        madds = [count(net.subnet(i), 32).madds for i in range(net.num_widths)]
        params = [count(net.subnet(i), 32).params for i in range(net.num_widths)]
        assert net.num_widths == net.gating.num_candidates == 4
        assert madds[3] > 1.8 * madds[0] and params[3] > 10 * params[0]
    origin = evidence.GROUPS["dsnet_spread"][evidence.FAR]
    assert all(run.gate_of == evidence.FAR for run in evidence.GROUPS["dsnet_spread"].values() if run is not origin)
