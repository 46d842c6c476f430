"""The tasks that train DS-Net: the authors' steps, targets against NumPy, what is trained and what stays."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import detrand
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model
from gluon_effnets.train.data import Batch, DataSettings, open_data
from gluon_effnets.train.dist import Workers
from gluon_effnets.train.hooks import EMA, Hook
from gluon_effnets.train.precision import Precision
from gluon_effnets.train.state import TrainState
from gluon_effnets.train.tasks import Gate, Recalibrate, Slimmable, slimmable
from gluon_effnets.train.tasks.width_scores import route_sums, width_list, width_sums
from gluon_effnets.weights import load_official
from gluon_effnets.weights.dsnet import DS_NET

FIXTURES = Path(__file__).parents[1] / "fixtures"
STEPS = json.loads((FIXTURES / "dsnet_steps.json").read_text())
SUPERNET = json.loads((FIXTURES / "dsnet_supernet.json").read_text())
TINY = ("model=ds_mobilenet_tiny", "data.source=synthetic:48")
RESNET = ("model=ds_resnet_tiny", "model_options.stem_pool=false", "data.source=synthetic:48")
SLIMMABLE = (*TINY, "task=slimmable", "hooks.ema={decay: 0.9, warmup: false}")
GATE = (*TINY, "task=gate", "optimizer.weight_decay=0.1")


def official_net(prefix="", scaled=True, explicit=True, **options):
    """The authors' supernet with the values of the references."""
    state = {key: detrand.tensor(prefix + key, shape) for key, shape in SUPERNET["state"]}
    for key, scale in SUPERNET["bn_scale"].items() if scaled else ():
        state[f"{key}.running_mean"] *= np.float32(scale)
        state[f"{key}.running_var"] *= np.float32(scale**2)
    for key, value in SUPERNET["explicit"].items() if explicit else ():
        state[key] = np.array(value, np.float32).reshape(SUPERNET["explicit_shape"][key])
    net = get_model("ds_mobilenet_v1", **options)
    load_official(net, state)
    return net


def official_batch(step):
    images = mx.nd.array(detrand.images(**step["input"]))
    return Batch(images, mx.nd.array(step["target"], dtype="int32"), len(images))


def state_of(net):
    """The state of a run of this network on a CPU, before anything was trained."""
    return TrainState(
        net=net,
        trainer=Workers().make_trainer(net, "sgd"),
        data=open_data(DataSettings("synthetic:8", image_size=16, batch_size=8), seed=0),
        workers=Workers(),
        out=Path("."),
        total_updates=1000,
        updates_per_epoch=1000,
        base_lr=0.1,
        schedule=lambda number: 1.0,
        precision=Precision("float32", mx.cpu()),
        ctx=mx.cpu(),
    )


def add_gradients(net):
    for param in net.collect_params().values():
        if param.grad_req != "null":
            param.grad_req = "add"
            param.zero_grad()


def values(net):
    return {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}


# The authors' steps


def test_a_step_of_the_first_stage_is_the_authors(monkeypatch):
    step = STEPS["ieb"]
    net, ema = official_net(explicit=False, dropout=0.0), EMA(decay=0.997, warmup=False)
    average = official_net("ema.", explicit=False)
    for either in (net, average):
        either.cast("float64")
    ema.average = {key: param.data().copy() for key, param in average._collect_params_with_prefix().items()}
    state, task = state_of(net), Slimmable(targets="bootstrap", label_smoothing=0.1)
    drawn = [which for kind, mode, which in step["passes"] if (kind, mode) == ("student", "uniform")]
    monkeypatch.setattr(slimmable, "draw_widths", lambda *_: ([(index,) for index in drawn], []))
    task.prepare(state, [ema])
    ema.train_begin(state)
    add_gradients(net)
    losses = []

    def backward(loss):
        losses.append(float(loss.asscalar()))
        loss.backward()

    trainer = mx.gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.1, "momentum": 0.9, "wd": 1e-4})
    batch = official_batch(step)
    labels = mx.nd.one_hot(batch.label, 1000, dtype="float64")
    scalars = task.step(state, Batch(batch.data.astype("float64"), labels, 8), backward)
    assert len(losses) == task.backwards == 4
    assert losses == pytest.approx([official for _, official in step["losses_fp64"]], rel=1e-6)
    assert float(scalars["loss"].asscalar()) == pytest.approx(sum(losses), rel=1e-6)
    keys = DS_NET.keys(net)
    for key, official in step["grad_fp64"].items():
        gradient = keys[key].grad().asnumpy()
        assert np.linalg.norm(gradient) == pytest.approx(official["norm"], rel=1e-6), key
        np.testing.assert_allclose(gradient.ravel()[:8], official["first8"], rtol=1e-5, atol=1e-6)
    assert net.gates[0].gate.weight.grad_req == "null"

    trainer.update(1)
    ema.batch_end(state)
    bias = keys["classifier.bias"].data().asnumpy()[:8]
    np.testing.assert_allclose(bias, step["classifier.bias_after_first8"], atol=1e-6)
    means = {key: value for key, value in step["running_stats_after"].items() if key.endswith("running_mean")}
    for key, official in means.items():
        np.testing.assert_allclose(keys[key].data().asnumpy()[:8], official, atol=1e-6)
    names = {param: key for key, param in net._collect_params_with_prefix().items()}
    for key, official in step["ema_after_first8"].items():
        np.testing.assert_allclose(ema.average[names[keys[key]]].asnumpy()[:8], official, atol=1e-6)


def test_a_step_of_the_second_stage_is_the_authors():
    step = STEPS["sgs"]
    net = official_net()
    before = values(net)
    state, task = state_of(net), Gate(targets="sgs", label_smoothing=0.1, softmax_twice=True)
    task.prepare(state, [])
    batch = official_batch(step)
    wanted = task._gate_targets(net, batch).argmax(axis=1).asnumpy().astype(int).tolist()
    assert wanted == step["gate_target"]
    optimizer = mx.optimizer.create("nag", learning_rate=0.08, momentum=0.9, wd=0.01)
    trainer = mx.gluon.Trainer(net.collect_params(), optimizer)
    scalars = task.step(state, batch, lambda loss: loss.backward())
    assert float(scalars["loss_task"].asscalar()) == pytest.approx(step["ce_loss_fp64"], rel=1e-5)
    assert float(scalars["loss_gate"].asscalar()) == pytest.approx(step["gate_loss_fp64"], rel=1e-5)
    # Theirs count average pools, and depthwise layers of a routed network too high.
    assert float(scalars["madds"].asscalar()) == pytest.approx(np.mean(step["running_flops_fp64"]), rel=0.01)
    gate = net.gates[0].gate.weight
    official = np.array(step["gate_grad_fp64"])
    difference = gate.grad().asnumpy().reshape(4, 66) - official
    assert np.linalg.norm(difference) < 2e-4 * np.linalg.norm(official)
    trainer.update(1)
    np.testing.assert_allclose(gate.data().asnumpy().reshape(4, 66), step["gate_weight_after_fp64"], atol=1e-4)
    changed = [key for key, value in values(net).items() if not np.array_equal(value, before[key])]
    assert changed == ["gates.0.gate.weight"]


def test_recalibrated_statistics_are_the_authors():
    reference = STEPS["recalibration"]
    net = official_net(scaled=False, explicit=False)
    state, task = state_of(net), Recalibrate(momentum=0.1, largest=False)
    task.prepare(state, [])
    for state.update, seed in enumerate((10, 11)):
        images = mx.nd.array(detrand.images(4, 64, seed))
        task.step(state, Batch(images, mx.nd.zeros(4, dtype="int32"), 4), None)
    keys = DS_NET.keys(net)
    for key, official in reference["stats_fp64"].items():
        seen = keys[key].data().asnumpy()
        np.testing.assert_allclose(seen[:4], official["first4"], rtol=1e-4, atol=1e-5 * np.abs(seen).max(), err_msg=key)
        assert seen.sum() == pytest.approx(official["sum"], rel=1e-4, abs=1e-4 * np.abs(seen).sum()), key
    for prefix in reference["untouched_prefixes"]:
        assert not keys[f"{prefix}.running_mean"].data().asnumpy().any()
        assert (keys[f"{prefix}.running_var"].data().asnumpy() == 1).all()


# Soft targets and widths


class Steps(Hook):
    """Keeps what every update has: scalars, and the gradient of the classifier."""

    def __init__(self):
        self.scalars = []

    def batch_end(self, state):
        self.scalars.append({key: float(value.asscalar()) for key, value in state.scalars.items()})


def prepared(start, *overrides):
    """A run whose hooks have begun, and its first batch."""
    run = start(*overrides)
    for hook in run.hooks[:1]:
        hook.train_begin(run.state)
    add_gradients(run.state.net)
    return run, next(iter(run.state.data.train_batches(0)))


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def cross_entropy(logits, target):
    return float(-(target * np.log(softmax(logits))).sum(axis=1).mean())


@pytest.mark.parametrize("widths", ["student", "independent"])
@pytest.mark.parametrize("targets", ["bootstrap", "ensemble", "distill"])
def test_soft_targets_against_numpy(start, targets, widths):
    overrides = [*SLIMMABLE, f"task_options={{targets: {targets}, ensemble_widths: {widths}}}"]
    run, batch = prepared(start, *overrides, "model_options.dropout=0.0")
    net, average = run.state.net, run.hooks[0].average
    random = np.random.RandomState(1)
    for key, array in average.items():
        # An average that differs from the weights, with statistics of its own.
        noise = random.uniform(0.5, 1.5, array.shape) if key.endswith("var") else 1 + random.normal(0, 0.3, array.shape)
        array *= mx.nd.array(noise)
    teacher = get_model("ds_mobilenet_tiny", classes=10, stem_stride=1)
    teacher.initialize()
    for key, param in teacher._collect_params_with_prefix().items():
        param.set_data(average[key])
    drawn, others = slimmable.draw_widths(net, 2, [run.state.seed, run.state.update])
    assert drawn != others
    with autograd.train_mode():
        logits = {which: net.subnet(which)(batch.data).asnumpy() for which in ("largest", *drawn, "smallest")}
    expected = {which: softmax(teacher.subnet(which)(batch.data).asnumpy()) for which in ("largest", *drawn, *others)}
    if targets == "distill":
        of_random = of_slimmest = softmax(logits["largest"])
    else:
        of_random = of_slimmest = expected["largest"]
    if targets == "ensemble":
        ensemble = drawn if widths == "student" else others
        of_slimmest = np.mean([expected[which] for which in ("largest", *ensemble)], axis=0)
    losses = []
    run.task.step(run.state, batch, lambda loss: (losses.append(float(loss.asscalar())), loss.backward()))
    hard = cross_entropy(logits["largest"], np.eye(10)[batch.label.asnumpy()])
    soft = [cross_entropy(logits[which], of_random) for which in drawn]
    assert losses == pytest.approx([hard, *soft, cross_entropy(logits["smallest"], of_slimmest)], rel=1e-4)


def test_the_average_follows_the_weights_and_is_what_teaches(start):
    run = start(*SLIMMABLE, "task_options.targets=ensemble").train()
    average, teacher = run.hooks[0].average, run.task._teacher
    for key, param in teacher._collect_params_with_prefix().items():
        assert (param.data().asnumpy() == average[key].asnumpy()).all(), key
        assert param.grad_req == "null"
    assert any((run.weights()[key] != value.asnumpy()).any() for key, value in average.items())


def test_one_update_for_all_widths(start):
    run, steps = start(*SLIMMABLE), Steps()
    before = run.weights()
    run.train(steps)
    assert run.state.trainer._optimizer.num_update == 4
    assert run.task.backwards == 4
    for scalars in steps.scalars:
        assert scalars["loss"] > scalars["loss_largest"] + scalars["loss_smallest"]
    after = run.weights()
    assert (after["gates.0.gate.weight"] == before["gates.0.gate.weight"]).all()
    statistics = {key for key in before if key.startswith("statistics.") and (after[key] != before[key]).any()}
    widths = slimmable.draw_widths
    drawn = [widths(run.state.net, 2, [run.state.seed, update])[0] for update in range(4)]
    trained = {0, *(path[0] for paths in drawn for path in paths)}
    expected = {f"statistics.features.3.0.pointwise.bn.{24 + 8 * index}.running_mean" for index in trained if index < 5}
    assert {key for key in statistics if key.startswith("statistics.features.3.0.pointwise.bn.") and "mean" in key} == (
        expected
    )


def test_widths_follow_from_seed_and_update_alone():
    net = get_model("ds_mobilenet_v1")
    mx.random.seed(1)
    np.random.seed(1)
    first = [slimmable.draw_widths(net, 2, [0, update]) for update in range(100)]
    mx.random.seed(2)
    np.random.seed(2)
    assert [slimmable.draw_widths(net, 2, [0, update]) for update in range(100)] == first
    assert [slimmable.draw_widths(net, 2, [1, update]) for update in range(100)] != first
    drawn = [path[0] for paths, _ in first for path in paths]
    assert set(drawn) == set(range(1, 14)), "the slimmest is trained anyway"
    net = get_model("ds_resnet_tiny")
    several = [slimmable.draw_widths(net, 2, [0, update])[0] for update in range(30)]
    assert {len(path) for paths in several for path in paths} == {3}
    assert {index for paths in several for path in paths for index in path} == {0, 1, 2, 3}
    assert slimmable.draw_widths(net, 0, [0, 0]) == ([], [])


def test_accumulated_batches_have_the_same_widths(start, monkeypatch):
    seen, draw = [], slimmable.draw_widths
    monkeypatch.setattr(slimmable, "draw_widths", lambda *args: seen.append(draw(*args)[0]) or draw(*args))
    start(*SLIMMABLE, "accumulate=2", "duration=2it", "data.source=synthetic:64").train()
    assert seen[0] == seen[1] and seen[2] == seen[3] and seen[0] != seen[2]


def test_networks_of_several_gates_are_trained_and_routed(start):
    run = start(*RESNET, "task=slimmable", "task_options.targets=distill", "task_options.evaluate=all").train()
    assert {"top1", "top1_0", "top1_3", "top1_largest", "loss"} <= run.state.scores.keys()
    run = start(*RESNET, "task=gate", out="gate").train()
    assert sum(run.state.scores[f"route_{k}"] for k in range(4)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=slimmable"], "task slimmable needs a network with several widths .*, not idle_tiny"),
        (["task=recalibrate"], "task recalibrate needs a network with several widths"),
        (["task=gate"], "task gate needs a network with gates"),
        (["model=slimmable_mobilenet_v1", "task=gate"], "task gate needs a network with gates .* not slimmable_mobile"),
        ([*TINY, "task=slimmable"], "bootstrap needs a moving average .*: add\n.*hooks.ema=.*or choose targets: dis"),
        ([*SLIMMABLE, "task_options.targets=ieb"], "task_options.targets is 'ieb'; choose one of bootstrap, ensemble"),
        ([*SLIMMABLE, "task_options.evaluate=[0, 6]"], "there is no sub-network 6"),
        ([*SLIMMABLE, "task_options.evaluate=few"], "the widths to evaluate are 'few'; give all, ends or a list"),
        ([*SLIMMABLE, "task_options.num_random=-1"], "num_random is -1; it must be at least 0"),
        ([*SLIMMABLE, "task_options.ensemble_widths=x"], "ensemble_widths is 'x'; choose one of student, independent"),
        ([*GATE, "task_options.targets=easy"], "task_options.targets is 'easy'; choose one of sgs, gumbel, none"),
        ([*GATE, "task_options.madds_weight=-1"], "task_options.madds_weight is -1; it must be at least 0"),
        ([*TINY, "task=recalibrate", "task_options.momentum=2"], "task_options.momentum is 2; it must be above 0"),
        ([*TINY, "task=recalibrate", "accumulate=2"], "recalibrate takes one batch per update: set accumulate to 1"),
        ([*RESNET, "task=recalibrate"], "ds_resnet_tiny has no BN statistics to recalibrate: leave that stage out"),
    ],
)
def test_users_mistakes(start, overrides, message):
    with pytest.raises(ValueError, match=message):
        start(*overrides)


# Gates


@pytest.mark.parametrize("targets", ["sgs", "gumbel", "none"])
def test_nothing_but_the_gates_changes(start, targets):
    run = start(*GATE, f"task_options.targets={targets}", "hooks.ema={decay: 0.5}")
    before = run.weights()
    run.train()
    changed = [key for key, value in run.weights().items() if not np.array_equal(value, before[key])]
    assert changed == ["gates.0.gate.weight"]
    for key, array in run.hooks[0].average.items():
        assert np.array_equal(array.asnumpy(), before[key]) == (key not in changed), key


def test_gradients_of_gates_do_not_depend_on_what_was_computed_before(start):
    run = start(*GATE)
    batch = next(iter(run.state.data.train_batches(0)))
    seen = []
    for _ in range(4):
        run.task.step(run.state, batch, lambda loss: loss.backward())
        run.task.evaluate(run.state, batch)
        seen.append(run.state.net.gates[0].gate.weight.grad().asnumpy())
    assert np.abs(seen[0]).max() > 0
    assert all((gradient == seen[0]).all() for gradient in seen[1:])


def expected_gate_loss(run, batch, smoothing, twice):
    """Loss of the gates, in NumPy."""
    net = run.state.net
    out, slim = net.dynamic(batch.data), net.subnet(net.gating.first_candidate)(batch.data).asnumpy()
    easy = slim.argmax(axis=1) == batch.label.asnumpy()
    target = np.eye(4)[np.where(easy, 0, 3)] * (1 - smoothing) + smoothing / 4
    logits = out.gate_logits.asnumpy()[:, 0]
    return easy, cross_entropy(softmax(logits) if twice else logits, target), out


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_of_the_gates_against_numpy(start, smoothing, twice):
    options = f"{{label_smoothing: {smoothing}, softmax_twice: {str(twice).lower()}, gate_weight: 2, madds_weight: 3}}"
    run = start(*GATE, f"task_options={options}", "model_options.first_candidate=1")
    net = run.state.net
    batch = next(iter(run.state.data.train_batches(0)))
    # Some images are easy, whatever the untrained network says.
    slim = net.subnet(1)(batch.data).argmax(axis=1).asnumpy()
    label = np.where(np.arange(8) % 2, slim, batch.label.asnumpy())
    batch = Batch(batch.data, mx.nd.array(label, dtype="int32"), 8)
    easy, gate, out = expected_gate_loss(run, batch, smoothing, twice)
    assert 0 < easy.sum() < 8
    scalars = run.task.step(run.state, batch, lambda loss: loss.backward())
    task = cross_entropy(out.logits.asnumpy(), np.eye(10)[label.astype(int)] * (1 - smoothing) + smoothing / 10)
    madds = out.madds.asnumpy().mean()
    assert float(scalars["loss_gate"].asscalar()) == pytest.approx(gate, rel=1e-5)
    assert float(scalars["loss_task"].asscalar()) == pytest.approx(task, rel=1e-5)
    total = task + 2 * gate + 3 * (madds / 1e9) ** 2
    assert float(scalars["loss"].asscalar()) == pytest.approx(total, rel=1e-5)


def test_noise_is_for_gumbel_and_for_training_alone(start, monkeypatch):
    run, noises = start(*GATE), []
    dynamic = run.state.net.dynamic
    monkeypatch.setattr(run.state.net, "dynamic", lambda x, noise=None: noises.append(noise) or dynamic(x, noise))
    batch = next(iter(run.state.data.train_batches(0)))
    for options, noisy in (({}, False), ({"targets": "gumbel"}, True), ({"targets": "none"}, False),
                           ({"noise": True}, True), ({"targets": "gumbel", "noise": False}, False)):  # fmt: skip
        task = Gate(**options)
        task.prepare(run.state, run.hooks.recipe)
        scalars = task.step(run.state, batch, lambda loss: loss.backward())
        assert (noises[-1] is not None) == noisy, options
        assert ("loss_gate" in scalars) == (options.get("targets", "sgs") == "sgs")
        assert task.evaluate(run.state, batch) == task.evaluate(run.state, batch)
        assert noises[-1] is None


def test_mixed_labels_have_the_class_of_the_larger_share(start):
    run = start(*GATE)
    batch = next(iter(run.state.data.train_batches(0)))
    mixed = mx.nd.one_hot(batch.label, 10) * 0.6 + 0.04
    targets = [run.task._gate_targets(run.state.net, Batch(batch.data, y, 8)).asnumpy() for y in (batch.label, mixed)]
    assert (targets[0] == targets[1]).all()


def test_gates_learn_to_tell_easy_images(start):
    """Half of the images are made easy: their brightness tells which. The gate finds out."""
    run = start(*GATE, "task_options.madds_weight=0")
    net, random = run.state.net, np.random.RandomState(0)
    bright = np.arange(8) % 2 == 0
    images = mx.nd.array(random.normal(0, 0.1, (8, 3, 16, 16)) + np.where(bright, 1.0, -1.0)[:, None, None, None])
    for key, param in net._collect_params_with_prefix().items():
        if key.endswith("running_var"):  # as after training: activations that do not fade
            param.set_data(param.data() * 1e-2)
    slim = net.subnet(0)(images).argmax(axis=1).asnumpy()
    label = np.where(bright, slim, (slim + 1) % 10)
    batch = Batch(images, mx.nd.array(label, dtype="int32"), 8)
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.05})
    before = route_sums(net, batch)
    for _ in range(150):
        run.task.step(run.state, batch, lambda loss: loss.backward())
        trainer.update(1)
    after = route_sums(net, batch)
    assert before["easy"] == after["easy"] == 4
    assert after["gate_accuracy"] == 8, after
    assert (after["easy_route_0"], after["route_0"], after["route_3"]) == (4, 4, 4)


# Recalibration


@pytest.mark.parametrize("largest", [True, False])
def test_statistics_of_all_widths_are_averages_over_the_batches(start, largest):
    run = start(*TINY, "task=recalibrate", f"task_options={{largest: {str(largest).lower()}, evaluate: all}}").train()
    net, before = run.state.net, start(*TINY, out="before").weights()
    assert run.state.update == 4
    batches = [batch.data for batch in itertools.islice(run.state.data.train_batches(0), 4)]
    seen = run.weights()
    params = net._collect_params_with_prefix()
    for key, value in before.items():
        if "running" not in key:
            assert (seen[key] == value).all(), key
    # The batch norm behind the stem of sub-networks, that of the largest, and that of the widest last stage.
    for key, view in (
        ("statistics.features.0.0.bn.8.running_mean", net.subnet(3)),
        ("features.0.0.bn.running_mean", net),
        ("features.3.0.pointwise.bn.running_mean", net.subnet(5)),
    ):
        expected = np.mean([inputs_of_norm(view, params[key], batch).mean(axis=(0, 2, 3)) for batch in batches], axis=0)
        if key.startswith("features.0") and not largest:
            assert not seen[key].any()
        else:
            np.testing.assert_allclose(seen[key], expected, rtol=1e-4, atol=1e-6)
    assert run.state.scores.keys() >= {"top1_0", "top1_5", "top1_largest"}


def inputs_of_norm(view, param, images):
    """What the BN layer of a view sees that has these running means."""
    found = []

    def look(block):
        if getattr(block, "running_mean", None) is param:
            found.append(block)

    view.hybridize(False)
    view.apply(look)
    seen = []
    handle = found[0].register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0].asnumpy()))
    with autograd.train_mode():
        view(images)
    handle.detach()
    return seen[0]


def test_after_recalibration_evaluations_say_what_training_said(start):
    run = start(*SLIMMABLE, "data.batch_size=32", "data.image_size=32", "duration=10it").train()
    net, (batch, *_) = run.state.net, list(run.state.data.train_batches(0))

    def largest_difference(which):
        view = net.subnet(which)
        with autograd.train_mode():
            in_training = view(batch.data).asnumpy()
        return np.abs(view(batch.data).asnumpy() - in_training).max() / in_training.std()

    assert min(largest_difference(which) for which in range(6)) > 0.5
    task, state = Recalibrate(), state_of(net)
    task.prepare(state, [])
    task.step(state, batch, None)
    # Unbiased variances are larger, by 1/127 in the last stage.
    assert max(largest_difference(which) for which in range(6)) < 0.2
    assert largest_difference("largest") > 0.2, "it shares the statistics of the widest sub-network in the last stages"


# Scores


def test_scores_of_widths(start):
    run = start(*TINY)
    net, batch = run.state.net, next(iter(run.state.data.val_batches()))
    sums = width_sums(net, batch, width_list(net, "all"))
    assert [key for key in sums if key.startswith("top1_")] == [f"top1_{which}" for which in (*range(6), "largest")]
    for which in (0, 4, "largest"):
        right = (net.subnet(which)(batch.data).argmax(axis=1).asnumpy() == batch.label.asnumpy())[: batch.num_valid]
        assert sums[f"top1_{which}"] == right.sum()
    assert (sums["count"], sums["top1"]) == (batch.num_valid, sums["top1_0"])
    assert width_list(net, "ends") == [0, 5, "largest"]


def test_scores_of_routes(start):
    run = start(*TINY, "data.eval_batch_size=5")
    net = run.state.net
    net.gates[0].gate.weight.set_data(1000 * net.gates[0].gate.weight.data())
    batch = list(run.state.data.val_batches())[-1]
    assert 0 < batch.num_valid < 5
    n = batch.num_valid
    sums, routes = route_sums(net, batch), net.route(batch.data).asnumpy()[:n, 0]
    slim = net.subnet(0)(batch.data).argmax(axis=1).asnumpy()[:n]
    easy = slim == batch.label.asnumpy()[:n]
    assert [sums[f"route_{k}"] for k in range(4)] == [(routes == k).sum() for k in range(4)]
    assert [sums[f"easy_route_{k}"] for k in range(4)] == [(routes[easy] == k).sum() for k in range(4)]
    assert (sums["count"], sums["easy"]) == (n, easy.sum())
    assert sums["gate_accuracy"] == (routes == np.where(easy, 0, 3)).sum()
    assert sums["mean_madds"] == pytest.approx(net.dynamic(batch.data).madds.asnumpy()[:n].sum(), rel=1e-6)
