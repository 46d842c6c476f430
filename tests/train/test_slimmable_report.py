"""What a finished run of a network with gates says and exports is the routed network that was evaluated."""

from __future__ import annotations

import dataclasses
import json
import re

import mxnet as mx
import numpy as np
import pytest
from recipes import STAGED
from runs import Run

from gluon_effnets.complexity import count
from gluon_effnets.deploy import load_routed
from gluon_effnets.train.build import build
from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.dist import Workers
from gluon_effnets.train.final_weights import in_network
from gluon_effnets.train.report import RESULT, write_report


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The stage gate of a recipe: its gate sends images to several widths, and that of the average to others."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "staged.yaml").write_text(STAGED)
    changes = ["duration=1it", "optimizer.lr=1.0e-9", "hooks.ema.decay=0.9999", "hooks.ema.warmup=false"]
    overrides = ["data.source=synthetic:96", *(f"stages.gate.{change}" for change in changes)]
    recipe = load_recipe(folder / "staged.yaml", overrides).split()["gate"]
    gated = Run(recipe, *build(recipe, folder, Workers()))
    mx.random.seed(5)
    params = gated.state.net._collect_params_with_prefix()
    gate = params["gates.0.gate.weight"]
    gate.set_data(mx.nd.random.normal(0, 1000, gate.shape))
    average = {name: param.data().copy() for name, param in params.items()}
    average["gates.0.gate.weight"] *= -1
    gated.hooks.recipe[0].average = average
    return gated.train()


def routed(router, data):
    """Top-1 accuracy of the exported files, and each image's width."""
    hits, decisions = [], []
    for batch in data.val_batches():
        output = router(batch.data)
        hits.append((output.logits.argmax(axis=1).asnumpy() == batch.label.asnumpy())[: batch.num_valid])
        decisions.append(output.decisions[: batch.num_valid])
    return np.concatenate(hits).mean(), np.concatenate(decisions)


def accuracy(net, data):
    hits = [
        (net(batch.data).argmax(axis=1).asnumpy() == batch.label.asnumpy())[: batch.num_valid]
        for batch in data.val_batches()
    ]
    return np.concatenate(hits).mean()


@pytest.mark.parametrize("weights", ["last", "ema"])
def test_report_result_and_files_are_of_the_same_routes(run, weights, capsys):
    # Unless the recipe names the average it is the teacher, and the last weights are what a run of widths exports.
    recipe = run.recipe if weights == "last" else dataclasses.replace(run.recipe, export_weights=weights)
    write_report(run.state, recipe, run.hooks)
    out, told = run.state.out, capsys.readouterr().out
    result = json.loads((out / RESULT).read_text())
    net, data, own = run.state.net, run.state.data, "" if weights == "last" else "ema_"
    assert result["weights"] == weights and result["figures_of"]["top1, top5, loss"] == "the routed network"

    router = load_routed(out / "ds_mobilenet_tiny.json")
    madds = {route.width: route.madds for route in router.description.routes}
    top1, decisions = routed(router, data)
    assert len(decisions) == result["images"] == data.num_val and len(np.unique(decisions)) > 1
    shares = {width: (decisions == width).mean() for width in madds}
    assert result[f"{own}top1"] == pytest.approx(top1)
    assert {int(width): route["share"] for width, route in result["routes"].items()} == pytest.approx(shares)
    assert {int(width): route["madds"] for width, route in result["routes"].items()} == madds
    assert result["madds"] == pytest.approx(sum(share * madds[width] for width, share in shares.items()), abs=1)

    with in_network(net, run.hooks.recipe[0].average if weights == "ema" else None):
        views = {str(width): net.subnet(width) for width in range(net.num_widths)}
        assert result["widths"] == {
            width: {"top1": pytest.approx(accuracy(view, data)), "madds": count(view, 16).madds}
            for width, view in views.items()
        }

    assert f"the routed network, {top1:.2%} of {len(decisions)} held-out images" in told
    assert f"{result['madds']:,} in the mean of the images" in told
    for width, share in shares.items():
        assert re.search(rf"route to width {width} +{share:.1%} of the images, {madds[width]:,} MAdds", told)
    for width, figures in result["widths"].items():
        assert re.search(rf"width {width} +top-1 {figures['top1']:.2%}, {figures['madds']:,} MAdds", told)
    assert str(out / "ds_mobilenet_tiny.json") in told
    assert {path.name for path in out.glob("ds_mobilenet_tiny-*")} == set(result["files"][1:]), "and no other graph"


def test_scores_beside_the_best_weights_say_whose_they_are(run, capsys):
    """Those were evaluated when they were saved, and what is known of routes and widths is of the last ones."""
    best = {"score": 0.5, "which": "ema_top1", "update": run.state.update}
    run.hooks.checkpoint.best = best
    result = write_report(run.state, dataclasses.replace(run.recipe, export_weights="best"), run.hooks)
    of = "the routed network, with the weights of the last update"
    assert result["weights"] == "best" and result["figures_of"]["top1, top5, loss"] == of
    assert f"{of}, {result['top1']:.2%} of" in capsys.readouterr().out
