"""Pruning while training: what is dropped and when, in every length of run, after every stop, on every worker."""

from __future__ import annotations

import json
import logging
import textwrap
from fractions import Fraction

import mxnet as mx
import numpy as np
import pytest
from recipes import TINY
from runs import assert_resumes
from workers import horovodrun, needs_horovod

from gluon_effnets.commands.train import main
from gluon_effnets.models import get_model
from gluon_effnets.nn import LearnedGroupConv, SparseFeatureReactivation, masked_layers
from gluon_effnets.train import loop
from gluon_effnets.train.hooks import Hook, make_hooks
from gluon_effnets.train.hooks.average_statistics import average_statistics
from gluon_effnets.train.hooks.sparsify import due_stage

MODEL = "model=condensenet_v2_tiny"  # factor 4 everywhere
PRUNE = "hooks={sparsify: {}}"


def masks(net):
    return {path: layer.mask.data().asnumpy() for path, layer in masked_layers(net).items()}


def stages(net):
    return {layer.stage for layer in masked_layers(net).values()}


class Seen(Hook):
    """Notes masks and weights at the forward pass of every batch, after the hooks before it."""

    def __init__(self):
        self.batches = []

    def batch_begin(self, state, batch):
        layers = masked_layers(state.net).items()
        weights = {path: layer.weight.data().asnumpy()[:, :, 0, 0] for path, layer in layers}
        self.batches.append((state.update, stages(state.net), masks(state.net), weights))


@pytest.mark.fast
@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("until", ["1/2", "0.3", "0.99"])
def test_stages_are_counted_exactly(factor, until):
    share = Fraction(until)
    for total in [*range(1, 40), 999, 1_000_003]:
        for update in {*range(min(total, 40)), total // 2, total // 2 + 1, total}:
            progress = Fraction(update, total)
            expected = sum(progress >= share * Fraction(i, factor - 1) for i in range(1, factor))
            assert due_stage(update, total, factor, share) == expected
        assert due_stage(total, total, factor, share) == factor - 1


@pytest.mark.fast
@pytest.mark.parametrize(
    ("epochs", "factor", "expected"),
    [
        (350, 8, [25, 50, 75, 100, 125, 150, 175]),
        (350, 6, [35, 70, 105, 140, 175]),
        (120, 4, [20, 40, 60]),
        (300, 4, [50, 100, 150]),
    ],
)
def test_the_papers_runs_are_pruned_at_the_begin_of_these_epochs(epochs, factor, expected):
    per_epoch = 1251
    total = epochs * per_epoch
    # The first and the last update of every epoch: a drop between them would show at the last.
    updates = [update for epoch in range(epochs) for update in (epoch * per_epoch, (epoch + 1) * per_epoch - 1)]
    now = [due_stage(update, total, factor, Fraction(1, 2)) for update in updates]
    drops = [update for update, before, stage in zip(updates[1:], now, now[1:]) if stage > before]
    assert [update / per_epoch for update in drops] == expected


def test_drops_come_before_the_forward_pass_of_their_update(start):
    run, seen = start(MODEL, PRUNE, "duration=12it"), Seen()
    run.train(seen)
    assert [(update, *stage) for update, stage, _, _ in seen.batches] == [
        (0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3), (8, 3), (9, 3), (10, 3), (11, 3),
    ]  # fmt: skip


def test_the_least_important_of_the_moving_weights_go(start):
    run, seen = start(MODEL, PRUNE, "duration=12it", "optimizer.lr=0.5"), Seen()
    run.train(seen)
    layers, moved = masked_layers(run.state.net), 0
    for (_, _, before, _), (_, _, after, weights) in zip(seen.batches, seen.batches[1:]):
        for path, layer in layers.items():
            magnitude = np.abs(weights[path].astype(np.float64))
            for group in range(layer.groups):
                if isinstance(layer, LearnedGroupConv):
                    importance = magnitude[group :: layer.groups].sum(axis=0)
                else:
                    assert isinstance(layer, SparseFeatureReactivation)
                    importance = magnitude[:, group :: layer.groups].sum(axis=1)
                dropped = before[path][group] > after[path][group]
                if dropped.any():
                    moved += 1
                    assert dropped.sum() == len(dropped) // layer.factor
                    left = after[path][group] > 0
                    assert importance[dropped].max() <= importance[left].min()
                assert not (after[path][group] > before[path][group]).any(), "what is dropped stays dropped"
    assert moved == 3 * sum(layer.groups for layer in layers.values())


def test_accumulated_batches_see_the_same_masks(start):
    run, seen = start(MODEL, PRUNE, "data.source=synthetic:64", "accumulate=2"), Seen()
    run.train(seen)
    assert [update for update, *_ in seen.batches] == [0, 0, 1, 1, 2, 2, 3, 3]
    for (_, _, first, _), (_, _, second, _) in zip(seen.batches[::2], seen.batches[1::2]):
        assert all((first[path] == second[path]).all() for path in first)


@pytest.mark.parametrize("total", [1, 2, 3, 5])
def test_no_run_is_too_short(start, total, caplog):
    run, seen = start(MODEL, PRUNE, f"duration={total}it"), Seen()
    run.train(seen)
    assert stages(run.state.net) == {3}
    trained_last = seen.batches[-1][1]
    assert ("too few updates" in caplog.text) == (trained_last != {3})
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * (total == 1)
    assert len(run.hooks[0].history) == 4, "a stage at a time"


def test_until_moves_the_stages(start):
    run, seen = start(MODEL, "hooks={sparsify: {until: 0.25}}", "duration=12it"), Seen()
    run.train(seen)
    assert [(update, *stage) for update, stage, _, _ in seen.batches[:4]] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_every_stage_is_told_and_logged(start, capsys):
    run = start(MODEL, PRUNE, "duration=12it", "data.source=synthetic:96").train()
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sparsify")]
    assert [line.split(",")[0] for line in told] == [
        f"sparsify: stage {stage} of 3 at update {2 * stage} of 12" for stage in (1, 2, 3)
    ]
    assert "25.0% of the weights of 12 layers" in told[-1]
    kept = [line["kept"] for line in run.log() if line["kind"] == "train"]
    assert kept[-1] == 0.25
    record = json.loads((run.state.out / "sparsity.json").read_text())
    assert record["layers"] == list(masked_layers(run.state.net))
    assert [stage["update"] for stage in record["stages"]] == [0, 2, 4, 6]
    for number, stage in enumerate(record["stages"]):
        assert stage["kept"] == [1 - number / 4] * 12
    used = [mask.max(axis=0).mean() for mask in masks(run.state.net).values()]
    assert record["stages"][-1]["used"] == pytest.approx(used)


def test_the_share_kept_counts_weights_not_layers(start):
    run = start(MODEL, PRUNE)
    run.state.update, (hook, *_) = 0, run.hooks
    hook.train_begin(run.state)
    layer = masked_layers(run.state.net)["features.2.2.reduce"]
    layer.drop()
    hook.train_begin(run.state)
    run.hooks[0].batch_end(run.state)
    sizes = [layer.weight.data().size for layer in masked_layers(run.state.net).values()]
    assert run.state.scalars["kept"] == pytest.approx(1 - layer.weight.data().size / 4 / sum(sizes))


AVERAGED, PULLED = "ema: {}, sparsify: {}", "sparsify: {group_lasso: 1.0e-3}, ema: {warmup: false}"


# Before, at and behind a stage; the other order of the hooks and the pull at a stage, where they have most to restore.
@pytest.mark.parametrize(("hooks", "saved"), [(AVERAGED, 3), (AVERAGED, 4), (AVERAGED, 5), (PULLED, 4)])
def test_resume_between_and_at_stages(start, hooks, saved):
    overrides = [MODEL, f"hooks={{{hooks}}}", "duration=12it", f"checkpoint_every={saved}it", "evaluate_every=12it"]
    assert_resumes(start, *overrides, killed_after=saved + 1, saved=saved)


def test_stages_that_a_resume_jumps_over_are_caught_up(start):
    start(MODEL, PRUNE, "duration=40it").train_until_killed(3)
    run, seen = start(MODEL, PRUNE, "duration=4it").resume(), Seen()
    assert (run.state.update, stages(run.state.net)) == (2, {0})
    run.train(seen)
    assert seen.batches[0][1] == {3}
    assert [stage["update"] for stage in run.hooks[0].history] == [0, 2, 2, 2]


def test_a_longer_run_does_not_go_back(start):
    start(MODEL, PRUNE).train_until_killed(3)
    before = start(MODEL, PRUNE, "duration=400it").resume()
    kept = masks(before.state.net)
    before.train_until_killed(5)
    assert all((value == kept[path]).all() for path, value in masks(before.state.net).items())


@pytest.mark.parametrize("order", ["ema: {warmup: false}, sparsify: {}", "sparsify: {}, ema: {warmup: false}"])
@pytest.mark.parametrize("total", [1, 4])
def test_averaged_weights_have_the_masks_of_the_network(start, order, total):
    run = start(MODEL, f"hooks={{{order}}}", f"duration={total}it").train()
    (average,) = (hook.average for hook in run.hooks if hasattr(hook, "average"))
    for path, mask in masks(run.state.net).items():
        assert (average[f"{path}.mask"].asnumpy() == mask).all()
        assert mask.mean() == 0.25
        difference = average[f"{path}.weight"] - masked_layers(run.state.net)[path].weight.data()
        assert total == 1 or float(difference.abs().max().asscalar()) > 0, "weights are averaged"


@pytest.mark.parametrize("hooks", ["{}", "{ema: {}}"])
def test_workers_average_statistics_and_not_masks(start, hooks, monkeypatch):
    run = start(MODEL, f"hooks={hooks}")
    averaged = []
    monkeypatch.setattr(run.state.workers, "average_", lambda arrays, name: averaged.extend(arrays), raising=False)
    average_statistics(run.state)
    for hook in run.hooks:
        hook.train_begin(run.state)
        hook.eval_begin(run.state)
    params = run.state.net._collect_params_with_prefix()
    statistics = [name for name in params if "running" in name]
    assert len(averaged) == len(statistics) * (2 if hooks != "{}" else 1)
    assert {array.shape for array in averaged} == {params[name].shape for name in statistics}
    assert all(array.ndim == 1 for array in averaged), "masks have two dimensions"


@pytest.mark.parametrize("kind", [LearnedGroupConv, SparseFeatureReactivation])
def test_lasso_gradient_against_finite_differences(kind):
    layer = kind(8, 12, groups=2, factor=4)
    mx.random.seed(0)
    layer.initialize(mx.init.Normal(0.5))
    layer.drop()
    weight, step = layer.weight.data().asnumpy(), 1e-3
    gradient = layer.lasso_gradient().asnumpy()
    expected = np.zeros_like(weight)
    for place in np.ndindex(*weight.shape):
        values = []
        for sign in (1, -1):
            moved = weight.copy()
            moved[place] += sign * step
            layer.weight.set_data(mx.nd.array(moved))
            values.append(layer.lasso())
        expected[place] = (values[0] - values[1]) / (2 * step)
    assert gradient == pytest.approx(expected, abs=1e-3)
    assert np.abs(expected).max() > 0.1
    kept = layer.masked_weight() != 0
    assert (gradient[:, :, 0, 0][~kept] == 0).all(), "what is dropped is not pulled"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_group_lasso_is_added_to_the_mean_gradient_until_the_last_stage(start, accumulate):
    overrides = [MODEL, "data.source=synthetic:64", f"accumulate={accumulate}"]
    strength = 0.01

    class Gradients(Hook):
        def __init__(self):
            self.seen = []

        def before_update(self, state):
            layers = masked_layers(state.net).values()
            self.seen.append([layer.weight.grad().asnumpy() * state.grad_scale for layer in layers])
            self.lasso = [layer.lasso_gradient().asnumpy() for layer in layers]

    run = start(*overrides, f"hooks={{sparsify: {{group_lasso: {strength}}}}}")
    before, after = Gradients(), Gradients()
    pulls = []

    class Pull(Hook):
        def before_update(self, state):
            differences = [b - a for a, b in zip(before.seen[-1], after.seen[-1])]
            pulls.append(list(zip(differences, before.lasso)))

    loop.train(run.state, run.task, [before, *run.hooks[:-1], after, Pull(), run.hooks.checkpoint])
    for difference, lasso in [pair for update in pulls[:2] for pair in update]:
        assert difference == pytest.approx(strength * lasso, abs=1e-6)
        assert np.abs(difference).max() > 1e-4
    assert all((difference == 0).all() for update in pulls[2:] for difference, _ in update)


def test_a_network_that_trains_dense_is_told(start, caplog):
    start(MODEL).train()
    texts = [record.getMessage() for record in caplog.records]
    assert ["will train dense" in text for text in texts] == [True, False]
    assert "12 of 12 learned layers are not pruned" in texts[1]


def test_a_finished_network_may_train_on_without_the_hook(start, caplog):
    run = start(MODEL)
    for layer in masked_layers(run.state.net).values():
        for _ in range(3):
            layer.drop()
    run.train()
    assert not caplog.records


def test_the_hook_added_to_a_finished_dense_run_prunes_nothing_and_says_so(start, caplog):
    start(MODEL).train()
    caplog.clear()
    start(MODEL, PRUNE).resume().train()
    assert "12 of 12 learned layers are not pruned to the end" in caplog.text


@pytest.mark.parametrize("model", ["model=idle_tiny", f"{MODEL}\nmodel_options={{condensed: true}}"])
def test_networks_without_masked_layers_are_refused(start, model):
    with pytest.raises(ValueError, match="has no masked layers to prune.\nLeave the hook out"):
        start(*model.split("\n"), PRUNE).train()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until": 0}, "until is 0"),
        ({"until": 1}, "until is 1; it must be between"),
        ({"group_lasso": -1e-5}, "group_lasso is -1e-05"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=f"hooks.sparsify.{message}"):
        make_hooks({"sparsify": options})


def test_a_whole_run_leaves_the_condensed_network(recipe_file, tmp_path, capsys):
    out = tmp_path / "out"
    changes = [MODEL, PRUNE, "data.image_size=16"]
    assert main(["--config", str(recipe_file), "--out", str(out), *[f"--set={change}" for change in changes]]) == 0
    assert {"sparsity.json", "sparsity.png", "curves.png"} <= {path.name for path in out.iterdir()}
    result = json.loads((out / "result.json").read_text())
    trained = get_model("condensenet_v2_tiny", pretrained=str(out / "condensenet_v2_tiny.params"))
    condensed = get_model("condensenet_v2_tiny", pretrained=str(out / "condensenet_v2_tiny.condensed.params"))
    assert (stages(trained), condensed.condensed, result["condensed"]) == ({3}, True, True)
    x = mx.nd.random.uniform(-1, 1, (2, 3, 16, 16))
    assert condensed(x).asnumpy() == pytest.approx(trained(x).asnumpy(), abs=1e-5)
    params = [param for param in condensed.collect_params().values() if param.grad_req != "null"]
    assert result["params"] == sum(np.prod(param.shape) for param in params)
    assert "condensenet_v2_tiny, condensed" in capsys.readouterr().out
    assert main(["--config", str(recipe_file), "--out", str(out), "--fresh", "--set", "model=idle_tiny"]) == 0
    assert not (out / "sparsity.json").exists()


def test_a_whole_dense_run_leaves_the_masked_network(recipe_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["--config", str(recipe_file), "--out", str(out), "--set", MODEL]) == 0
    result = json.loads((out / "result.json").read_text())
    assert "condensed" not in result
    assert not list(out.glob("*.condensed.params"))
    assert not list(out.glob("sparsity*"))


WORKER = """
    import json, sys
    from pathlib import Path
    import numpy as np
    from runs import Killed, kill_after
    from gluon_effnets.nn import MaskedConv, masked_layers
    from gluon_effnets.train import loop
    from gluon_effnets.train.config import load_recipe
    from gluon_effnets.train.dist import start_workers
    from gluon_effnets.train.run import build, resume

    recipe_file, out, overrides = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    workers = start_workers(True)
    if workers.rank:
        def drop(self):
            raise AssertionError("the first worker decides")
        MaskedConv.drop = drop

    def train(name, killed_after=0):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        recipe = load_recipe(recipe_file, overrides)
        state, task, hooks = build(recipe, folder, workers)
        resume(state, hooks, recipe)
        begun = state.update
        try:
            kill_after(hooks, killed_after)
            loop.train(state, task, hooks)
        except Killed:
            return
        arrays = {key: p.data().asnumpy() for key, p in state.net._collect_params_with_prefix().items()}
        arrays.update({"ema " + key: array.asnumpy() for key, array in hooks[0].average.items()})
        np.savez(out / f"{name}.{workers.rank}.npz", begun=begun, **arrays)

    train("whole")
    train("parts", killed_after=6)
    workers.sum({"barrier": 0.0})
    train("parts")
    workers.finish()
"""


@pytest.mark.dist
@needs_horovod
def test_two_workers_have_the_masks_of_the_first_also_after_a_resume(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "worker.py").write_text(textwrap.dedent(WORKER))
    overrides = [MODEL, "hooks={ema: {}, sparsify: {group_lasso: 1.0e-3}}", "duration=12it", "checkpoint_every=5it"]
    # An evaluation before the save: between two of them each worker's EMA has statistics of its own shard.
    overrides += ["data.batch_size=4", "evaluate_every=5it"]
    done = horovodrun(tmp_path / "worker.py", tmp_path / "tiny.yaml", tmp_path, json.dumps(overrides))
    assert done.returncode == 0, done.stdout + done.stderr
    results = {
        (name, rank): dict(np.load(tmp_path / f"{name}.{rank}.npz")) for name in ("whole", "parts") for rank in (0, 1)
    }
    assert [int(result.pop("begun")) for result in results.values()] == [0, 0, 5, 5]
    first = results["whole", 0]
    for place, result in results.items():
        assert result.keys() == first.keys()
        assert all((value == first[key]).all() for key, value in result.items()), place
    kept = [value.mean() for key, value in first.items() if key.endswith(".mask")]
    assert kept == [0.25] * 24


def test_a_condensed_network_trains_on(start):
    # Its indices are whole numbers, neither averaged nor checked for NaN.
    overrides = [MODEL, "model_options={condensed: true}", "hooks={ema: {decay: 0.3}}"]
    assert_resumes(start, *overrides)
    run, name = start(*overrides), "features.0.1.reduce.index"
    index = run.state.net._collect_params_with_prefix()[name]
    index.set_data(mx.nd.arange(*index.shape, dtype="int32"))
    run.train()
    assert (run.hooks[0].average[name].asnumpy() == np.arange(*index.shape)).all()
