"""The search for cells: both orders of its gradient, its optimizer, the images kept back, what it writes, refusals."""

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from runs import TINY_SPACE

from gluon_effnets import get_model
from gluon_effnets.models.darts_search import shares_of
from gluon_effnets.models.genotype import read_genotype
from gluon_effnets.train.data import DataSettings, open_data
from gluon_effnets.train.hooks import HOOKS
from gluon_effnets.train.hooks.architecture import Architecture
from gluon_effnets.train.tasks import darts

DATA = "data={source: 'synthetic:64', image_size: 8, batch_size: 8, augment: none, kept_back: 0.5}"
SEARCH = (
    "task=darts",
    "model=darts_search",
    f"model_options={{space: {TINY_SPACE}, channels: 4, layers: 5, nodes: 1}}",
    DATA,
    "hooks={architecture: {}}",
    "optimizer={name: sgd, lr: 0.1, weight_decay: 1.0e-3, decay_all: true, options: {momentum: 0.9}}",
)


def array(*shape, seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal(shape))


@pytest.mark.fast
def test_the_finite_difference_is_exact_for_a_quadratic_loss():
    """|w - M a|^2 / 2 trains, |w|^2 / 2 is searched: behind a step of rate r the gradient by a is r M^T w'."""
    matrix, rate = array(5, 3, seed=1), 0.5
    w, a = array(5), array(3, seed=2)
    for x in (w, a):
        x.attach_grad()
    before = w.asnumpy()

    def train_loss():
        return (w - mx.nd.dot(matrix, a)).square().sum() / 2

    def stepped(weights, gradients):
        return [weight - rate * gradient for weight, gradient in zip(weights, gradients)]

    value, (found,) = darts.unrolled_gradients(
        [w], [a], train_loss, lambda: w.square().sum() / 2 + a.sum(), stepped, rate
    )
    moved = before - rate * (before - matrix.asnumpy() @ a.asnumpy())
    np.testing.assert_allclose(found.asnumpy(), 1 + rate * matrix.asnumpy().T @ moved, rtol=1e-3)
    assert value.asscalar() == pytest.approx((moved**2).sum() / 2 + a.asnumpy().sum(), rel=1e-5)
    np.testing.assert_array_equal(w.asnumpy(), before)


def loss_of(net, x, label):
    return -mx.nd.pick(mx.nd.log_softmax(net(x)), label).mean()


def test_the_second_order_is_the_derivative_of_a_step_that_was_made():
    mx.random.seed(0)
    net = get_model(
        "darts_search", space=TINY_SPACE, channels=4, layers=5, nodes=1, norm_kwargs={"use_global_stats": True}
    )
    net.initialize(mx.init.Xavier(magnitude=3))
    weights = [param.data() for param in net.collect_params().values() if param.grad_req != "null"]
    alphas = [param.data() for param in net.architecture]
    for x in alphas:
        x.attach_grad()
    rate, batches = 2.0, [(array(8, 3, 8, 8, seed=s), mx.nd.array(np.arange(8) + s)) for s in (0, 1)]

    def stepped(start, gradients):
        return [weight - rate * gradient for weight, gradient in zip(start, gradients)]

    losses = [lambda b=batch: loss_of(net, *b) for batch in batches]
    _, found = darts.unrolled_gradients(weights, alphas, *losses, stepped, rate)
    with autograd.record():
        first_order = autograd.grad(losses[1](), alphas)

    def behind_a_step() -> float:
        with autograd.record():
            gradients = autograd.grad(losses[0](), weights)
        start = [weight.copy() for weight in weights]
        for weight, value in zip(weights, stepped(start, gradients)):
            weight[:] = value
        with autograd.train_mode():
            value = float(losses[1]().asscalar())
        for weight, kept in zip(weights, start):
            weight[:] = kept
        return value

    # Along the direction in which the two orders differ most.
    for alpha, second, first in zip(alphas, found, first_order):
        toward = second - first
        toward = toward / toward.norm()
        values = []
        for sign in (1, -1):
            alpha += sign * 0.05 * toward
            values.append(behind_a_step())
            alpha -= sign * 0.05 * toward
        numeric = (values[0] - values[1]) / 0.1
        by_second, by_first = (float((g * toward).sum().asscalar()) for g in (second, first))
        assert abs(by_second - numeric) < 0.25 * abs(by_first - numeric), (by_first, by_second, numeric)


@pytest.mark.parametrize("order", [1, 2])
def test_a_step_changes_the_architecture_first_and_then_the_weights(start, monkeypatch, order):
    """What is tried leaves no trace: the gradient of the training batch is that of the weights before the step."""
    run = start(*SEARCH, f"task_options.order={order}", "duration=1it", "evaluate_every=9it")
    weights, seen = run.weights(), {}
    change = Architecture.change

    def spy(self, params, gradients):
        seen.update(run.weights())
        change(self, params, gradients)

    monkeypatch.setattr(Architecture, "change", spy)
    run.train()
    tried = [key for key in weights if "running" in key and order == 1]
    assert all((seen[key] == value).all() for key, value in weights.items() if key not in tried)
    after = run.weights()
    moved = {key for key, value in seen.items() if (after[key] != value).any()}
    assert {"normal", "reduce", "output.weight", "features.0.0.conv.weight"} <= moved


def test_the_unrolled_step_is_the_one_that_the_optimizer_makes(start, monkeypatch):
    """With momentum and weight decay, in the second update; an architecture that hardly moves changes no gradient."""
    run = start(*SEARCH, "task_options.order=2", "duration=2it", "hooks.architecture.lr=1.0e-12", "evaluate_every=9it")
    tried = []
    unrolled = darts.unrolled_gradients

    def spy(weights, architecture, train_loss, loss, stepped, rate):
        with autograd.record():
            gradients = autograd.grad(train_loss(), weights)
        tried.append([value.asnumpy() for value in stepped(weights, gradients)])
        return unrolled(weights, architecture, train_loss, loss, stepped, rate)

    monkeypatch.setattr(darts, "unrolled_gradients", spy)
    run.train()
    params = [param for param in run.state.trainer._params if param.grad_req != "null"]
    for param, expected in zip(params, tried[-1]):
        np.testing.assert_allclose(param.data().asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_a_hybridized_search_are_those_of_the_operators_one_by_one(monkeypatch):
    """In MXNet 1.9.1 a graph of static shapes has them wrong where more operations than this number read a map."""
    monkeypatch.setenv("MXNET_EXEC_INPLACE_GRAD_SUM_CAP", "1")

    def gradients(hybridized):
        mx.random.seed(0)
        net = get_model("darts_search", space=TINY_SPACE, channels=4, layers=5, nodes=3)
        net.initialize(mx.init.Xavier())
        if hybridized:
            net.hybridize(static_alloc=True, static_shape=True)
        for param in net.architecture:
            param.data().attach_grad()
        with autograd.record():
            loss = loss_of(net, array(4, 3, 8, 8), mx.nd.array([0, 1, 2, 3]))
        return [g.asnumpy() for g in autograd.grad(loss, [param.data() for param in net.architecture])]

    for one, other in zip(gradients(True), gradients(False)):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


@pytest.mark.fast
def test_adam_against_numpy():
    param = mx.gluon.Parameter("a", shape=(2, 3))
    param.initialize(mx.init.One())
    hook = Architecture(lr=0.1, weight_decay=0.01)
    value, mean, square = np.ones((2, 3)), 0, 0
    for step in (1, 2, 3):
        gradient = array(2, 3, seed=step)
        hook.change([param], [gradient])
        g = gradient.asnumpy() + 0.01 * value
        mean, square = 0.5 * mean + 0.5 * g, 0.999 * square + 0.001 * g**2
        value = value - 0.1 * (mean / (1 - 0.5**step)) / np.sqrt(square / (1 - 0.999**step))
    np.testing.assert_allclose(param.data().asnumpy(), value, rtol=1e-4)


@pytest.mark.fast
def test_images_kept_back_are_no_others_than_the_rest():
    settings = {"source": "synthetic:64", "image_size": 8, "batch_size": 8, "augment": "none"}

    def seen(batches):
        return {image.tobytes() for batch in batches for image in batch.data.asnumpy()}

    whole = seen(open_data(DataSettings(**settings), seed=0).train_batches(0))
    data = open_data(DataSettings(**settings, kept_back=0.5), seed=0)
    used, kept = seen(data.train_batches(0)), seen(data.kept_back_batch(n) for n in range(40))
    assert data.num_train == len(used) == len(kept) == 32
    assert used | kept == whole and seen(data.train_batches(1)) == used
    again = open_data(DataSettings(**settings, kept_back=0.5), seed=1)
    assert seen(again.train_batches(0)) == used, "another seed divides them alike"
    assert seen([again.kept_back_batch(3)]) != seen([data.kept_back_batch(3)])
    other = open_data(DataSettings(**settings, kept_back=0.5, kept_back_seed=1), seed=0)
    assert seen(other.train_batches(0)) != used
    batch = data.kept_back_batch(5)
    assert len(seen([batch])) == 8 and seen([batch]) == seen([data.kept_back_batch(5)])


def test_what_a_search_writes(start):
    run = start(*SEARCH, "duration=2ep", "hooks.architecture.lr=0.1").train()
    history = json.loads((run.state.out / "architecture.json").read_text())
    assert [row["update"] for row in history["epochs"]] == [4, 8]
    net = run.state.net
    assert history["operations"] == list(net.operations)
    assert read_genotype(run.state.out / "genotype.yaml") == net.genotype
    shares = shares_of(net.normal.data().asnumpy())
    np.testing.assert_allclose(history["epochs"][-1]["normal"], shares, atol=1e-6)
    assert "architecture_loss" in run.log()[-2] or any("architecture_loss" in line for line in run.log())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model=idle_tiny", "model_options={}"], "task darts searches in model darts_search, not in idle_tiny"),
        (["hooks={}"], "needs the optimizer of its architecture weights: set hooks.architecture"),
        (["accumulate=2"], "accumulate=1"),
        (["data.kept_back=0"], "keeps no images back: set data.kept_back, for instance to 0.5"),
        (["data.kept_back=0.1"], "keeps 6 images of synthetic:64 back, fewer than a batch, 8"),
        (["data.kept_back=1.5"], "data.kept_back is 1.5"),
        (["task_options.order=3"], "order is 3; it must be 1 or 2"),
        (["task_options.order=2", "optimizer.name=nag"], "unrolls a step of optimizer sgd"),
        (["task_options.label_smoothing=1"], "label_smoothing is 1"),
        (["model_options.space=nowhere"], "there is no space 'nowhere': choose one of darts, darts_sandglass"),
        (["hooks.architecture.lr=0"], "hooks.architecture.lr is 0.*above 0"),
    ],
)
def test_refusals_are_one_sentence(start, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        start(*SEARCH, *changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("hook", ["architecture", "drop_path"])
def test_hooks_of_cells_refuse_other_networks(start, hook):
    with pytest.raises(ValueError, match=f"hooks.{hook} is for .*idle_tiny"):
        start(f"hooks.{hook}={{}}").train()
    assert hook in HOOKS


@pytest.mark.fast
def test_images_of_files_cannot_be_kept_back(tmp_path):
    with pytest.raises(ValueError, match="data.kept_back is for digits, cifar10, synthetic; of folder"):
        open_data(DataSettings(source=f"folder:{tmp_path}", kept_back=0.5), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model=idle_tiny"], "needs an auxiliary classifier, which idle_tiny does not have.*auxiliary=true"),
        (["model=darts_tiny"], "which darts_tiny does not have"),
        (["model=darts_tiny", "model_options.auxiliary=true"], "image_size is 16.*at least 32 pixels"),
    ],
)
def test_the_task_auxiliary_says_what_it_needs(start, changes, message):
    with pytest.raises(ValueError, match=message):
        start("task=auxiliary", *changes)
