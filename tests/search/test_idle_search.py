"""The search for IdleBlocks: costs against whole networks, scores, strategies, a kill in the middle, what it leaves."""

import argparse
import csv
import itertools
import json

import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.complexity import count
from gluon_effnets.search import (
    Evolution,
    Journal,
    enumerate_all,
    evolve,
    partial_rank_correlation,
    rank_correlation,
)
from gluon_effnets.search import idle_search as searches
from gluon_effnets.search import latency as latencies
from gluon_effnets.search.idle import AppendedSpace, PlacementSpace
from gluon_effnets.search.oneshot import OneShot
from gluon_effnets.search.proxies import LogSynflow, Naswot
from gluon_effnets.search.report import Row, front
from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.dist import Workers
from gluon_effnets.train.run import run

NARROW = {"multiplier": 0.25}
TINY = PlacementSpace("mobilenet_v3_small", NARROW, 32)
NUM = len(TINY.blocks)  # one more than at full width, where 40 and 48 channels are not the same number


def network(space, choice, **options):
    recipe = space.recipe(choice)
    return get_model(recipe["model"], **recipe["model_options"], **options)


@pytest.mark.parametrize(
    "space",
    [
        PlacementSpace("mobilenet_v3_large", sides=("left", "right")),
        PlacementSpace("efficientnet_b0", image_size=96),
        PlacementSpace("mobilenet_v3_small", {**NARROW, "stem_stride": 1, "classes": 10, "in_channels": 1}, 30),
        AppendedSpace("mobilenet_v3_small", NARROW, num_idle=9),
    ],
    ids=["large", "b0", "small images", "appended"],
)
def test_costs_are_those_of_whole_networks(space):
    random = np.random.RandomState(0)
    for choice in (space.sample(random), space.sample(random)):
        found = count(network(space, choice), space.image_size)
        assert space.cost(choice) == (found.params, found.madds)


@pytest.mark.fast
def test_sizes_of_the_spaces():
    sizes = {
        base: PlacementSpace(base).size for base in ("mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0")
    }
    assert sizes == {"mobilenet_v3_large": 512, "mobilenet_v3_small": 64, "efficientnet_b0": 512}
    both = PlacementSpace("mobilenet_v3_large", sides=("left", "right"))
    assert both.size == 3**9 == len({both.cost(choice) and choice for choice in both.all()})


@pytest.mark.fast
def test_the_greedy_path_goes_from_none_to_maximum():
    greedy = TINY.greedy()
    madds = [TINY.cost(choice).madds for choice in greedy]
    assert TINY.label(greedy[0]) == "none" and madds == sorted(madds, reverse=True)
    assert count(network(TINY, greedy[-1]), 32) == count(get_model("idle_mbv3_small_maximum", **NARROW), 32)


@pytest.mark.fast
def test_appended_choices_keep_their_number():
    space, random = AppendedSpace("mobilenet_v3_large", num_idle=20), np.random.RandomState(0)
    one, other = space.sample(random), space.sample(random)
    for choice in (one, other, space.mutated(one, 0.3, random), space.crossed(one, other, random)):
        assert sum(choice) == 20 and max(choice) <= 4
    assert len(space.path(one)) == 15 * 5 and space.path(one).count("out") == 60 - 20


@pytest.mark.fast
def test_correlations_against_their_definitions():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)
    assert rank_correlation([1, 1, 2], [3, 3, 9]) == pytest.approx(1)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
    random = np.random.RandomState(0)
    given = random.permutation(40).astype(float)
    one, other = given + random.rand(40) * 30, given + random.rand(40) * 30
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (one, other, given)]
    residuals = [rank - np.polyval(np.polyfit(ranks[2], rank, 1), ranks[2]) for rank in ranks[:2]]
    assert partial_rank_correlation(one, other, given) == pytest.approx(np.corrcoef(*residuals)[0, 1])
    assert partial_rank_correlation(given, other, given) is None


@pytest.mark.fast
def test_the_front_is_what_no_cheaper_network_beats():
    rows = [Row(str(n), 1, madds, None, score) for n, (madds, score) in enumerate([(3, 1), (1, 2), (2, 1.5), (4, 3)])]
    assert [row.label for row in front(rows)] == ["1", "3"]


class Counting:
    def __init__(self, dies_after=None):
        self.calls, self.dies_after = 0, dies_after

    def __call__(self, choice):
        if self.calls == self.dies_after:
            raise KeyboardInterrupt
        self.calls += 1
        return {"score": float(sum(place * (form == "own") for place, form in enumerate(choice)))}


@pytest.mark.fast
def test_a_killed_search_goes_on(tmp_path):
    path, about = tmp_path / "journal.jsonl", {"base": "x"}
    numbers = Evolution(generations=4, population=8, parents=3, crossovers=4, mutations=4)
    space = PlacementSpace("mobilenet_v3_large", sides=("left", "right"))

    def search(journal):
        return evolve(space, journal, "score", lambda choice: choice[0] == "own", numbers)

    whole = Counting()
    expected = search(Journal(tmp_path / "whole.jsonl", about, whole))
    with pytest.raises(KeyboardInterrupt):
        search(Journal(path, about, Counting(dies_after=13)))
    with path.open("a") as file:
        file.write('{"choice": ["own", "le')  # a line that the kill cut short
    rest = Counting()
    assert search(Journal(path, about, rest)) == expected
    assert rest.calls == whole.calls - 13 and all(choice[0] == "own" for choice in expected)


@pytest.mark.fast
def test_evolution_finds_the_best_of_a_small_space():
    numbers = Evolution(generations=8, population=12, parents=4, crossovers=6, mutations=6)
    assert evolve(TINY, Counting(), "score", lambda choice: True, numbers)[0][1:] == ("own",) * (NUM - 1)


@pytest.mark.fast
def test_mistakes_are_sentences(tmp_path, capsys):
    with pytest.raises(ValueError, match="none of the 128 networks fits"):
        enumerate_all(TINY, lambda choice: False)
    with pytest.raises(ValueError, match="of another search: base was .x., now it is .y."):
        Journal(tmp_path / "j", {"base": "x"}, Counting())
        Journal(tmp_path / "j", {"base": "y"}, Counting())
    for words, sentence in (
        (["--budget", "1e6"], "budget 1.0 M is out of reach"),
        (["--budget", "nan"], "out of reach"),
        (["--base", "mobilenext_x1_0"], "there is no search for 'mobilenext_x1_0'"),
        (["--score", "luck"], "there is no score 'luck'"),
        (["--score", "one_shot"], "go together"),
        (["--supernet", str(tmp_path)], "is no run folder"),
        (["--appended", "99"], "have no place"),
        (["--appended", "5", "--budget", "1e6", "--score", "madds"], "fits: give a larger --budget"),
        (["--appended", "5", "--latency", "onnxruntime"], "leave it out with --appended"),
    ):
        assert main(["search", "idle", "--out", str(tmp_path / "out"), *words]) == 1
        assert sentence in capsys.readouterr().err


def test_log_synflow_is_that_of_the_network_by_itself():
    """Against a plain forward pass of the placement: for positive weights R is linear in each layer's weights."""
    scorer = LogSynflow(TINY, image_size=32)
    choice = ("own", "left", *("own",) * (NUM - 3), "left")
    found = scorer(choice)["log_synflow"]
    param = scorer._paths.net.output.weight
    net = scorer._paths.net_of(TINY.path(choice))
    before = float(net(scorer._image).sum().asscalar())
    # The last layer's share of the sum is R itself, so that the sum is above it.
    assert found > np.log(before) and not np.isinf(found)
    param.set_data(param.data() * 4)
    assert scorer(choice)["log_synflow"] == pytest.approx(found + np.log(4), abs=1e-6)


def test_naswot_grows_with_what_differs():
    scorer = Naswot(TINY, image_size=32, num_images=6)
    value = scorer(("own",) * NUM)["naswot"]
    scorer._images[1] = scorer._images[0]
    assert value > 0 and scorer(("own",) * NUM)["naswot"] < value - 1


def test_a_latency_table_is_a_sum_that_is_checked(tmp_path, monkeypatch):
    space = PlacementSpace("mobilenet_v3_small", NARROW, 32)

    def measured(nets, settings):
        rows = []
        for name in nets:
            idle = [place for place, form in enumerate(name.split()) if form != "own"]
            rows.append(
                {"model": name, "minimum_ms": 10 - sum(1 + place for place in idle) * 0.1 - 0.05 * (len(idle) == 3)}
            )
        return {"rows": rows, "conditions": {}, "left_out": []}

    monkeypatch.setattr(latencies, "measure", measured)
    table = latencies.kept_table(space, "onnxruntime", tmp_path / "table.json")
    assert table.of(("left", *("own",) * (NUM - 2), "left")) == pytest.approx(10 - 0.1 * (1 + NUM))
    assert table.base_ms == pytest.approx(10)
    # Only networks with three IdleBlocks are no sums here, and none of them made the table.
    errors = [predicted - measured for predicted, measured in table.checked]
    assert {round(error, 6) for error in errors} == {0.0, 0.05}
    assert len(table.checked) == 10 and "10 whole networks" in table.error()
    monkeypatch.setattr(latencies, "measure", None)  # it is kept
    again = latencies.kept_table(space, "onnxruntime", tmp_path / "table.json")
    assert again.saved_ms == table.saved_ms and again.error() == table.error()
    with pytest.raises(ValueError, match="of another search"):
        latencies.kept_table(TINY, "mxnet-fused", tmp_path / "table.json")


@pytest.fixture(scope="module")
def supernet(tmp_path_factory):
    """A run of two epochs on synthetic images."""
    out = tmp_path_factory.mktemp("one-shot") / "run"
    overrides = ["model_options={multiplier: 0.25, dropout: 0.0}", "data.source=synthetic:48", "data.image_size=32",
                 "data.batch_size=16", "data.eval_batch_size=24", "duration=6it", "evaluate_every=1run",
                 "schedule.warmup=0it", "hooks.recompute_statistics.duration=1it", "data.augment=none"]  # fmt: skip
    run(
        argparse.Namespace(
            config="configs/single_path.yaml", model="mobilenet_v3_small", data=None, overrides=overrides,
            out=str(out), fresh=False, hvd=False, restarts=0,
        ),
        Workers(),
    )  # fmt: skip
    return out


def test_a_one_shot_search_from_the_run_to_the_winner(supernet, tmp_path, capsys):
    result = json.loads((supernet / "result.json").read_text())
    assert {"top1_whole", "top1_smallest"} <= result.keys()
    options = ["-o", "multiplier=0.25", "--image-size", "32"]
    command = ["search", "idle", "--base", "mobilenet_v3_small", *options, "--supernet", str(supernet)]
    budget = sorted(TINY.cost(choice).madds for choice in TINY.all())[5]
    within = [choice for choice in TINY.all() if TINY.cost(choice).madds <= budget]
    assert main([*command, "--budget", str(budget), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "winner: " in said and "maximum" in said
    lines = (tmp_path / "one_shot.jsonl").read_text().splitlines()
    assert len(lines) == 1 + len({*within, *TINY.greedy()})  # the first says what they depend on
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert len(rows) == len(within)
    found = json.loads((tmp_path / "search.json").read_text())
    assert (tmp_path / "pareto.png").stat().st_size > 5000 and found["winner"]["madds"] <= budget
    recipe = load_recipe(tmp_path / "winner.yaml")
    assert (
        recipe.task == "classification"
        and count(get_model(recipe.model, **recipe.model_options), 32).madds == found["winner"]["madds"]
    )


def test_one_shot_scores_are_those_of_the_network_with_the_weights(supernet):
    scorer = OneShot(PlacementSpace("mobilenet_v3_small", NARROW, 32), supernet, statistics_batches=3)
    own = ("own",) * NUM
    first = scorer(own)
    scorer(("left",) * NUM)
    assert scorer(own) == first  # another path leaves no statistics behind
    with pytest.raises(ValueError, match="does not hold this space"):
        OneShot(PlacementSpace("mobilenet_v3_small", NARROW, 32, ("left", "right")), supernet)


def test_the_experiment_names_placements_of_its_space():
    from gluon_effnets.experiments import read_experiment
    from gluon_effnets.search.agreement import _choice

    experiment = read_experiment("idle_search")
    space = PlacementSpace("mobilenet_v3_small", experiment.options, 32)
    placements = [one for one in experiment.comparisons.values() if one.name != "supernet"]
    choices = {_choice(space, one.options) for one in placements}
    assert len(choices) == len(placements) == 8
    for one, choice in itertools.zip_longest(placements, [_choice(space, one.options) for one in placements]):
        net = get_model(one.model, **{**experiment.options, **one.options})
        assert count(net, 32).madds == space.cost(choice).madds


def test_scores_that_need_no_network():
    scorer, key, _ = searches.make_scorer(TINY, "params", None)
    assert scorer(("own",) * NUM)[key] == TINY.baseline_cost.params
