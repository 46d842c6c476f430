"""BN statistics recomputed over batches, against NumPy, and as the end of a run."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from gluon_effnets.train.batch_statistics import batch_statistics
from gluon_effnets.train.checkpoint import list_checkpoints
from gluon_effnets.train.hooks import Hook

EPSILON = 1e-5


class SmallNet(nn.HybridSequential):
    """BN of images, a 1x1 convolution with BN and ReLU, and a dense layer with BN: 2 -> 3 -> 4 channels."""

    def __init__(self, **bn):
        super().__init__()
        self.add(
            nn.BatchNorm(in_channels=2, epsilon=EPSILON, **bn),
            nn.Conv2D(3, 1, in_channels=2),
            nn.BatchNorm(in_channels=3, epsilon=EPSILON, **bn),
            nn.Activation("relu"),
            nn.GlobalAvgPool2D(),
            nn.Dense(4, in_units=3),
            nn.BatchNorm(in_channels=4, epsilon=EPSILON, **bn),
        )


def small_net(**options):
    net = SmallNet(**options)
    mx.random.seed(1)
    net.initialize(mx.init.Normal(1))
    for layer in (net[0], net[2], net[6]):
        layer.gamma.set_data(mx.nd.random.uniform(0.5, 2, layer.gamma.shape))
        layer.beta.set_data(mx.nd.random.normal(0, 1, layer.beta.shape))
    return net


def make_batches(sizes=(4, 7, 5)):
    random = np.random.RandomState(0)
    return [random.normal(3, 2, (size, 2, 3, 2)).astype("float32") for size in sizes]


def moments_in_numpy(net, x):
    """Mean and unbiased variance of what every BN layer of SmallNet sees, in float64; (2 n,) arrays of one batch."""
    seen, x = [], x.astype(np.float64)

    def norm(layer, x):
        axes = (0, 2, 3)[: x.ndim - 1]
        shape = (1, -1, 1, 1)[: x.ndim]
        seen.extend([x.mean(axes), x.var(axes, ddof=1)])
        scale, shift = (param.data().asnumpy().reshape(shape) for param in (layer.gamma, layer.beta))
        normal = (x - x.mean(axes).reshape(shape)) / np.sqrt(x.var(axes).reshape(shape) + EPSILON)
        return normal * scale + shift

    x = norm(net[0], x)
    x = np.einsum("oi,nihw->nohw", net[1].weight.data().asnumpy()[:, :, 0, 0], x)
    x = x + net[1].bias.data().asnumpy()[:, None, None]
    x = np.maximum(norm(net[2], x), 0).mean((2, 3))
    norm(net[6], x @ net[5].weight.data().asnumpy().T + net[5].bias.data().asnumpy())
    return seen


NAMES = [f"{layer}.running_{kind}" for layer in (0, 2, 6) for kind in ("mean", "var")]


@pytest.mark.fast
@pytest.mark.parametrize("hybrid", [False, True])
def test_against_numpy(hybrid):
    net, batches = small_net(), make_batches()
    net.hybridize(hybrid, static_alloc=hybrid, static_shape=hybrid)
    expected = np.mean([np.concatenate(moments_in_numpy(net, x)) for x in batches], axis=0)
    computed = batch_statistics(net, map(mx.nd.array, batches))
    assert list(computed) == NAMES
    values = np.concatenate([computed[name].asnumpy() for name in NAMES])
    assert values == pytest.approx(expected, rel=2e-5, abs=1e-5)


@pytest.mark.fast
def test_the_net_stays_as_it_is():
    net, x = small_net(), mx.nd.array(make_batches()[0])
    net.hybridize(static_alloc=True, static_shape=True)
    answer, graph = net(x).asnumpy(), net._cached_op
    before = {name: param.data().asnumpy() for name, param in net._collect_params_with_prefix().items()}
    batch_statistics(net, [x])
    assert all(
        (param.data().asnumpy() == before[name]).all() for name, param in net._collect_params_with_prefix().items()
    )
    assert net._cached_op is graph and net._active
    assert not any(layer._forward_pre_hooks for layer in net._children.values())
    assert (net(x).asnumpy() == answer).all()


@pytest.mark.fast
def test_the_net_stays_as_it_is_after_an_error():
    net = small_net()
    net.hybridize()

    def fail():
        yield mx.nd.array(make_batches()[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch_statistics(net, fail())
    assert net._active and net[1]._active
    assert not any(layer._forward_pre_hooks for layer in net._children.values())


@pytest.mark.fast
def test_channels_may_stand_last():
    net, x = nn.HybridSequential(), np.random.RandomState(0).normal(1, 2, (3, 4, 2, 5)).astype("float32")
    net.add(nn.BatchNorm(axis=-1, in_channels=5))
    net.initialize()
    computed = batch_statistics(net, [mx.nd.array(x)])
    assert computed["0.running_mean"].asnumpy() == pytest.approx(x.mean((0, 1, 2)), abs=1e-5)
    assert computed["0.running_var"].asnumpy() == pytest.approx(x.var((0, 1, 2), ddof=1), rel=1e-5)


@pytest.mark.fast
def test_what_mxnet_stores_itself_is_the_biased_variance():
    net, x = small_net(momentum=0), mx.nd.array(make_batches()[0])
    computed = batch_statistics(net, [x])
    with autograd.record():
        net(x).sum().backward()
    stored = {name: param.data().asnumpy() for name, param in net._collect_params_with_prefix().items()}
    for name, count in zip(NAMES, (24, 24, 24, 24, 4, 4)):
        factor = count / (count - 1) if name.endswith("var") else 1
        assert computed[name].asnumpy() == pytest.approx(stored[name] * factor, rel=1e-4, abs=1e-5)


@pytest.mark.fast
def test_layers_with_fixed_statistics_are_left_out():
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=2), nn.BatchNorm(in_channels=2, use_global_stats=True))
    net.initialize()
    computed = batch_statistics(net, [mx.nd.array(make_batches()[0])])
    assert list(computed) == ["0.running_mean", "0.running_var"]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("net", "sizes", "message"),
    [(small_net, (), "no batches"), (lambda: nn.Flatten(), (4,), "no BN layers"), (small_net, (1,), "larger batches")],
)
def test_nothing_to_compute_from(net, sizes, message):
    with pytest.raises(ValueError, match=message):
        batch_statistics(net(), map(mx.nd.array, make_batches(sizes)))


HOOK = "hooks={recompute_statistics: {duration: 3it}}"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_ends_with_the_statistics_of_the_next_batches(start, accumulate):
    overrides = [f"accumulate={accumulate}", "duration=3it", "evaluate_every=1it"]
    plain, run = start(*overrides, out="plain").train(), start(HOOK, *overrides)
    seen = []

    class Scores(Hook):
        def eval_end(self, state):
            seen.append(dict(state.scores))

    run.train(Scores())
    # 4 steps are an epoch: after 3 updates, or one epoch and a half, the next whole one begins.
    first = {1: 1, 2: 2}[accumulate]
    batches = [batch for epoch in (first, first + 1) for batch in run.state.data.train_batches(epoch)][: 3 * accumulate]
    expected = batch_statistics(plain.state.net, (batch.data for batch in batches))
    weights = run.weights()
    for name, value in plain.weights().items():
        if name in expected:
            assert weights[name] == pytest.approx(expected[name].asnumpy(), rel=1e-5, abs=1e-6), name
            assert not (weights[name] == value).all(), name
        else:
            assert (weights[name] == value).all(), name
    images = 3 * accumulate * 8
    assert [scores.get("statistics_images") for scores in seen] == [None, None, images]
    own = {key: value for key, value in run.state.scores.items() if key != "statistics_images"}
    assert own == run.evaluate(), "the final evaluation had the new statistics"
    assert own != plain.state.scores
    assert run.log()[-1]["statistics_images"] == images
    saved = mx.nd.load(str(list_checkpoints(run.state.out)[-1] / "net.params"))
    assert all((saved[name].asnumpy() == value).all() for name, value in weights.items())


def test_a_finished_run_that_is_started_again_recomputes_nothing(start, monkeypatch):
    done = start(HOOK).train()
    monkeypatch.setattr("gluon_effnets.train.hooks.recompute_statistics.batch_statistics", None)
    again = start(HOOK).resume().train()
    assert all((again.weights()[name] == value).all() for name, value in done.weights().items())
    assert again.state.scores == done.state.scores


def test_the_average_of_the_weights_keeps_its_own_statistics(start):
    hooks = {"ema": {"decay": 0.3}}
    plain = start(f"hooks={json.dumps(hooks)}", out="plain").train()
    run = start(f"hooks={json.dumps({**hooks, 'recompute_statistics': {}})}").train()
    for name, value in plain.hooks[0].average.items():
        assert (run.hooks[0].average[name].asnumpy() == value.asnumpy()).all(), name
    assert run.state.scores["ema_loss"] == plain.state.scores["ema_loss"]
    assert run.state.scores["loss"] != plain.state.scores["loss"]


def test_a_duration_of_nothing_is_refused(start):
    with pytest.raises(ValueError, match="recompute_statistics.duration is 0it"):
        start("hooks={recompute_statistics: {duration: 0it}}").train()
