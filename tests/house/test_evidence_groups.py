"""Groups of dev/small_scale_evidence.py: every run is a network and a recipe; curves are drawn of what is collected."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from gluon_effnets import _resources, get_model
from gluon_effnets.complexity import condensed_options, count
from gluon_effnets.train.config import load_recipe

pytestmark = pytest.mark.fast
DEV = str(Path(__file__).resolve().parents[2] / "dev")
NEW = ("condensenet_modules", "condensenet_factors", "sfr_shufflenet", "idle_efficientnet", "dsnet_spread")


@pytest.fixture(scope="module")
def evidence():
    sys.path.insert(0, DEV)
    try:
        yield importlib.import_module("small_scale_evidence")
    finally:
        sys.path.remove(DEV)


def costs(run):
    options = {"classes": 10, "stem_stride": 2, **run.options}
    net = get_model(run.model, **options)
    return count(get_model(run.model, **options, **(condensed_options(net) or {})), 32)


@pytest.mark.parametrize("group", NEW)
def test_runs_are_networks_and_their_commands_are_recipes(group, evidence):
    for run in evidence.GROUPS[group].values():
        assert costs(run).params > 0
        if run.gate_of:
            continue
        words = evidence.command(run, 0, "cifar10:DIR", Path("OUT"))
        overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        recipe = words[words.index("--config") + 1] if "--config" in words else "configs/cifar10.yaml"
        path = _resources.folder("configs") / Path(recipe).name
        load_recipe(path, [f"model={run.model}", "data.source=cifar10:DIR", *overrides])


def test_comparisons_have_names_of_their_own(evidence):
    names = [name for group in evidence.GROUPS.values() for name in group]
    assert len(names) == len(set(names)), "runs of two groups would share a folder"


def test_modules_and_factors_cost_what_they_are_compared_for(evidence):
    modules = {name: costs(run) for name, run in evidence.GROUPS["condensenet_modules"].items()}
    assert modules["without h-swish"] == modules["all modules"]
    assert modules["without SFR"].madds < modules["all modules"].madds
    assert modules["without SE"].params < modules["all modules"].params
    factors = [costs(run).params for run in evidence.GROUPS["condensenet_factors"].values()]
    assert factors == sorted(factors, reverse=True) and len(set(factors)) == 5


def test_a_curve_has_the_mean_of_all_seeds(evidence, tmp_path):
    from evidence_curves import CURVES, draw_curve, points

    rows = [
        {"comparison": name, "params": params, "seed": seed, "top1": top1}
        for name, params, seed, top1 in (("S = 1", 300, 0, 61.0), ("S = 4", 100, 0, 58.0), ("S = 1", 300, 1, 63.0))
    ]
    assert list(points(rows).items()) == [("S = 4", (100, [58.0])), ("S = 1", (300, [61.0, 63.0]))]
    draw_curve(rows, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert set(CURVES) <= set(evidence.GROUPS)
