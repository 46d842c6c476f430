"""LB-SGD is what its page says: equal to NumPy in every strategy, and to MXNet's LBSGD where that one is right."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets.benchmarks.optimizers import OPTIMIZERS, compare_optimizers, optimizers_table
from gluon_effnets.train.config import OptimizerSettings
from gluon_effnets.train.optim import make_optimizer

fast = pytest.mark.fast

WARMUPS = {"linear": lambda part: part, "power2": np.square, "sqrt": np.sqrt}
WARMING = {"batch_scale": 8, "warmup_updates": 5}
STRATEGIES = {**{name: {"warmup_strategy": name, **WARMING} for name in WARMUPS}, "lars": {"warmup_strategy": "lars"}}
# Enough arrays for several groups, of sizes on both sides of all limits; the names decide what LARS adapts.
SHAPES = {
    **{f"conv{i}_weight": (3 + i % 5, 4, 3) for i in range(70)},
    "stem_weight": (300, 250),
    "output_weight": (700, 500),
    "bn_gamma": (16,),
    "bn_beta": (16,),
    "output_bias": (700,),
}
SAME = {"rtol": 1e-5, "atol": 1e-6}


def values(seed, scale=1.0):
    rng = np.random.RandomState(seed)
    return [scale * rng.standard_normal(shape).astype("float32") for shape in SHAPES.values()]


def create(name="lb_sgd", **options):
    names = dict(enumerate(SHAPES))
    optimizer = mx.optimizer.create(name, **{"learning_rate": 0.1, "param_idx2name": names, "wd": 0.01, **options})
    optimizer.wd_mult = {}  # MXNet's default would leave what is no weight or gamma without decay
    return optimizer


def run(optimizer, weights, steps, ctx=None, dtype="float32"):
    """Weights after updates with the given gradients, and the states."""
    arrays = [mx.nd.array(weight, ctx=ctx, dtype=dtype) for weight in weights]
    updater = mx.optimizer.get_updater(optimizer)
    for grads in steps:
        updater(list(range(len(arrays))), [mx.nd.array(grad, ctx=ctx, dtype=dtype) for grad in grads], arrays)
    return [array.asnumpy() for array in arrays], updater.states


def reference(weights, steps, strategy, lr=0.1, wd=0.01, momentum=0.0, rescale=1.0, clip=None, eta=1.0):
    """The formulas of the class's doc-string, in float64."""
    weights = [weight.astype("float64") for weight in weights]
    buffers = [np.zeros_like(weight) for weight in weights]
    for number, grads in enumerate(steps, 1):
        for i, name in enumerate(SHAPES):
            grad = grads[i].astype("float64") * rescale
            factor = 1.0
            if strategy != "lars":
                factor = 1 + 7 * WARMUPS[strategy](min(1, number / 5))
            elif name.endswith("weight"):
                norm = np.sqrt(np.square(grad).sum() + wd * np.square(weights[i]).sum())
                factor = eta * np.clip(np.linalg.norm(weights[i]) / norm, 0.01, 100)
            grad = np.clip(grad, -clip, clip) if clip else grad
            buffers[i] = momentum * buffers[i] + lr * factor * (grad + wd * weights[i])
            weights[i] = weights[i] - buffers[i]
    return weights


def assert_same(arrays, expected, **tolerance):
    for name, array, value in zip(SHAPES, arrays, expected):
        np.testing.assert_allclose(array, value, err_msg=name, **(tolerance or SAME))


@fast
@pytest.mark.parametrize("clip", [None, 0.02])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equals_numpy(strategy, momentum, clip):
    weights, steps = values(0), [values(seed, scale=4) for seed in range(1, 8)]
    options = {"momentum": momentum, "rescale_grad": 1 / 128, "clip_gradient": clip}
    if strategy == "lars":
        options.update(eta=0.02)
    made, _ = run(create(**options, **STRATEGIES[strategy]), weights, steps)
    eta = options.get("eta", 1.0)
    assert_same(made, reference(weights, steps, strategy, 0.1, 0.01, momentum, 1 / 128, clip, eta))


@fast
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_lars_factor_is_clipped(scale):
    weights, steps = values(0), [values(1, scale)]
    made, _ = run(create(warmup_strategy="lars", learning_rate=0.01, wd=0.0), weights, steps)
    factor = 100 if scale < 1 else 0.01
    for name, array, weight, grad in zip(SHAPES, made, weights, steps[0]):
        expected = weight - 0.01 * (factor if name.endswith("weight") else 1) * grad
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6, err_msg=name)


@fast
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_float16_weights_have_float32_masters(strategy, momentum):
    # Squares of 300 are beyond float16.
    weights, steps = values(0), [[grad.astype("float16") for grad in values(s, scale=300)] for s in range(1, 5)]
    options = {"multi_precision": True, "momentum": momentum, "rescale_grad": 1 / 4096, "learning_rate": 0.01}
    start = [weight.astype("float16") for weight in weights]
    made, states = run(create(**options, **STRATEGIES[strategy]), start, steps, dtype="float16")
    expected = reference(start, steps, strategy, lr=0.01, momentum=momentum, rescale=1 / 4096)
    masters = [states[i][1].asnumpy() for i in range(len(SHAPES))]
    assert {master.dtype for master in masters} == {np.dtype("float32")}
    assert_same(masters, expected)
    for array, master in zip(made, masters):
        np.testing.assert_array_equal(array, master.astype("float16"))


@fast
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("strategy", WARMUPS)
def test_equals_mxnet_without_a_larger_batch(strategy, momentum):
    weights, steps = values(0), [values(seed) for seed in range(1, 4)]
    options = {"momentum": momentum, "warmup_strategy": strategy, "rescale_grad": 0.25}
    theirs, _ = run(create("lbsgd", **options), weights, steps)
    assert_same(run(create(**options), weights, steps)[0], theirs)


@fast
@pytest.mark.parametrize("strategy", WARMUPS)
def test_equals_mxnet_with_macro_batches_in_buffers_of_their_own(strategy):
    """MXNet counts micro-batches: 2 epochs of 10 of them, in macro-batches of 4, are 5 of our updates."""
    weights, micro = values(0), [values(seed) for seed in range(1, 29)]
    options = {"momentum": 0.9, "warmup_strategy": strategy, "batch_scale": 4, "learning_rate": 0.01}
    theirs, _ = run(create("lbsgd", **options, warmup_epochs=2, updates_per_epoch=10), weights, micro)
    macro = [[np.mean(grads, axis=0) for grads in zip(*micro[i : i + 4])] for i in range(0, 28, 4)]
    assert_same(run(create(**options, warmup_updates=5), weights, macro)[0], theirs)


@fast
def test_lars_equals_mxnet_for_weights_and_rescaled_gradients():
    weights, steps = values(0), [values(seed) for seed in range(1, 4)]
    options = {"momentum": 0.9, "warmup_strategy": "lars", "learning_rate": 0.01}
    theirs, _ = run(create("lbsgd", **options), weights, steps)
    ours, _ = run(create(**options), weights, steps)
    adapted = [i for i, name in enumerate(SHAPES) if name.endswith("weight")]
    for i in adapted:
        np.testing.assert_allclose(ours[i], theirs[i], **SAME)


@fast
def test_lars_sees_the_gradient_that_is_applied():
    """A sum over 1024 samples with rescale_grad 1/1024, a loss scale: the mean gradient is what counts."""
    weights, grads = values(0), values(1, scale=0.1)
    options = {"momentum": 0.9, "warmup_strategy": "lars", "wd": 0.01}

    def after(name, n):
        steps = [[grad * n for grad in grads]] * 2
        return run(create(name, rescale_grad=1 / n, **options), weights, steps)[0]

    assert_same(after("lb_sgd", 1024), after("lb_sgd", 1))
    theirs, alone = after("lbsgd", 1024), after("lbsgd", 1)
    assert not np.allclose(theirs[0], alone[0], rtol=0.01), "MXNet's has this defect, which the page describes"


def dense_and_bn(ctx=None):
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(6, in_units=4), mx.gluon.nn.BatchNorm(in_channels=6), mx.gluon.nn.Dense(3, in_units=6))
    net.initialize(mx.init.Normal(0.5), ctx=ctx)
    return net


def step(net, trainer, seed, ctx=None):
    x = np.random.RandomState(seed).standard_normal((8, 4))
    for part, context in zip(np.split(x, len(ctx or [0])), ctx or [None]):
        with mx.autograd.record():
            loss = (net(mx.nd.array(part, ctx=context)) ** 2).sum()
        loss.backward()
    trainer.step(8)


@fast
@pytest.mark.parametrize("named_by", ["trainer", "names"])
def test_lars_leaves_biases_and_bn_to_sgd(named_by):
    net, results = dense_and_bn(), {}
    before = {name: param.data().copy() for name, param in net.collect_params().items()}
    for optimizer, options in (("sgd", {}), ("lb_sgd", {"warmup_strategy": "lars"})):
        for name, param in net.collect_params().items():
            param.set_data(before[name])
        made = make_optimizer(OptimizerSettings(optimizer, options={"momentum": 0.9, **options}), net, 0.01)
        trainer = mx.gluon.Trainer(net.collect_params(), made, kvstore=None)
        if named_by == "names":
            made.param_dict = {}
        else:
            made.idx2name = {}
        step(net, trainer, 0)
        results[optimizer] = {name: param.data().asnumpy() for name, param in net.collect_params().items()}
    for name, value in results["lb_sgd"].items():
        unchanged = np.allclose(value, results["sgd"][name], rtol=1e-6, atol=1e-7)
        assert unchanged != name.endswith("weight"), name


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_replicas_on_two_contexts_stay_equal(strategy):
    ctx = [mx.cpu(0), mx.cpu(1)]
    net = dense_and_bn(ctx)
    settings = OptimizerSettings("lb_sgd", options={"momentum": 0.9, **STRATEGIES[strategy]})
    trainer = mx.gluon.Trainer(net.collect_params(), make_optimizer(settings, net, 0.01), update_on_kvstore=False)
    first = {name: param.list_data()[0].asnumpy() for name, param in net.collect_params().items()}
    for seed in range(7):
        step(net, trainer, seed, ctx)
    for name, param in net.collect_params().items():
        if param.grad_req != "null":
            one, two = (data.asnumpy() for data in param.list_data())
            np.testing.assert_array_equal(one, two, err_msg=name)
            assert not (one == first[name]).all(), name
    assert trainer._optimizer.num_update == 7, "an update counts once, not once per context"


@fast
def test_calls_of_one_array_each_are_the_same():
    """As a key-value store updates."""
    weights, steps = values(0), [values(seed) for seed in range(1, 4)]
    optimizer = create(momentum=0.9, warmup_strategy="lars")
    arrays = [mx.nd.array(weight) for weight in weights]
    states = [optimizer.create_state_multi_precision(i, array) for i, array in enumerate(arrays)]
    for grads in steps:
        for i, grad in enumerate(grads):
            optimizer.update_multi_precision(i, arrays[i], mx.nd.array(grad), states[i])
    together, _ = run(create(momentum=0.9, warmup_strategy="lars"), weights, steps)
    assert_same([array.asnumpy() for array in arrays], together)


@fast
def test_an_array_that_was_frozen_joins_the_warm_up_where_it_is():
    optimizer = create(warmup_strategy="linear", wd=0.0, learning_rate=1.0, **WARMING)
    updater = mx.optimizer.get_updater(optimizer)
    one, late = mx.nd.zeros((1,)), mx.nd.zeros((1,))
    for _ in range(5):
        updater([0], [mx.nd.zeros((1,))], [one])
    updater([0, 1], [mx.nd.ones((1,)), mx.nd.ones((1,))], [one, late])
    assert one.asscalar() == late.asscalar() == -8


@fast
def test_updates_wait_for_nothing(monkeypatch):
    optimizer = create(momentum=0.9, warmup_strategy="lars")
    updater = mx.optimizer.get_updater(optimizer)
    arrays, grads = [[mx.nd.array(value) for value in values(seed)] for seed in (0, 1)]

    def refuse(*args):
        raise AssertionError("the host waits for the device")

    for name in ("asnumpy", "asscalar", "wait_to_read"):
        monkeypatch.setattr(mx.nd.NDArray, name, refuse)
    updater(list(range(len(arrays))), grads, arrays)


@fast
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_infinite_gradient_reaches_its_weight_alone(strategy, bad):
    """Nothing turns it into a NaN, and it is not lost either."""
    weights, grads = values(0), values(1)
    for grad in grads:
        grad.flat[3] = bad
    made, _ = run(create(momentum=0.9, **STRATEGIES[strategy]), weights, [grads])
    for name, array in zip(SHAPES, made):
        assert array.flat[3] == -bad, name
        assert np.isfinite(np.delete(array, 3)).all(), name


@fast
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_nan_gradient_is_seen_in_its_array_and_no_other(strategy):
    weights, grads = values(0), values(1)
    grads[0].flat[0] = np.nan
    made, _ = run(create(momentum=0.9, **STRATEGIES[strategy]), weights, [grads])
    assert np.isnan(made[0].flat[0])
    assert all(np.isfinite(array).all() for array in made[1:])


@fast
def test_zeros_are_no_nan():
    zeros = [np.zeros(shape, "float32") for shape in SHAPES.values()]
    made, _ = run(create(momentum=0.9, warmup_strategy="lars", wd=0.0), zeros, [zeros])
    assert all((array == 0).all() for array in made)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_resumes_in_the_middle_of_the_warm_up(start, strategy):
    """The run that goes on from update 2 ends as the whole one, bit for bit, momentum included."""
    optimizer = {"name": "lb_sgd", "lr": 0.005, "options": {"momentum": 0.9, **STRATEGIES[strategy]}}
    optimizer["options"].update({"warmup_updates": 4} if strategy != "lars" else {"eta": 0.5})
    overrides = [f"optimizer={json.dumps(optimizer)}", "schedule={name: cosine}"]
    whole = start(*overrides, out="whole").train()
    start(*overrides, out="parts").train_until_killed(3)
    again = start(*overrides, out="parts").resume()
    assert again.state.update == again.state.trainer._optimizer.num_update == 2
    again.train()
    last = [r.state.out / "checkpoints" / "update-00000004" for r in (whole, again)]
    for name in ("net.params", "trainer.params", "run.json"):
        assert (last[0] / name).read_bytes() == (last[1] / name).read_bytes(), name


def test_accumulated_batches_are_one_large_batch(start):
    overrides = ["model=plain_tiny", "data.source=synthetic:64", "schedule={name: cosine}"]
    optimizer = {"name": "lb_sgd", "lr": 0.01, "options": {"momentum": 0.9, "warmup_strategy": "lars"}}
    overrides.append(f"optimizer={json.dumps(optimizer)}")
    parts = start(*overrides, "accumulate=2", out="parts").train().weights()
    whole = start(*overrides, "data.batch_size=16", out="whole").train().weights()
    for key, value in whole.items():
        np.testing.assert_allclose(parts[key], value, rtol=1e-4, atol=1e-6, err_msg=key)


@fast
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_strategy": "cubic"}, "choose one of linear, power2, sqrt, lars"),
        ({"momentum": 1.0}, "momentum is 1.0; it must be at least 0 and below 1"),
        ({"batch_scale": 0.5}, "batch_scale is 0.5"),
        ({"batch_scale": 2, "warmup_updates": -1}, "warmup_updates is -1"),
        ({"warmup_strategy": "lars", "eta": 0}, "eta is 0"),
        (
            {"warmup_strategy": "lars", "batch_scale": 8},
            "lars has no batch_scale or warmup_updates; warm up with schedule.warmup",
        ),
        ({"warmup_updates": 5}, "set batch_scale or use schedule.warmup"),
        ({"eta": 0.001}, "lars only, not linear"),
        ({"warmup_epochs": 5}, "unexpected keyword argument 'warmup_epochs'"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(OptimizerSettings("lb_sgd", options=options), dense_and_bn(), 0.1)


@fast
def test_options_as_recipes_write_them():
    net = dense_and_bn()
    options = {"batch_scale": 64, "warmup_updates": "0.5ep"}
    optimizer = make_optimizer(OptimizerSettings("lb_sgd", options=options), net, 0.1, updates_per_epoch=40)
    assert [optimizer.warmup_factor(n) for n in (10, 20, 21)] == [32.5, 64, 64]
    # YAML 1.1 takes 1e-3 for a text.
    options = {"warmup_strategy": "lars", "eta": "1e-3"}
    assert make_optimizer(OptimizerSettings("LB_SGD", options=options), net, 0.1).eta == 0.001


@fast
def test_mxnets_own_stay_selectable():
    for name, kind in (("lbsgd", mx.optimizer.LBSGD), ("lars", mx.optimizer.LARS)):
        assert isinstance(make_optimizer(OptimizerSettings(name), dense_and_bn(), 0.1), kind)


def test_comparison_names_every_optimizer():
    rows = compare_optimizers("idle_tiny", repeats=1)
    assert [row.name for row in rows] == list(OPTIMIZERS)
    assert rows[0].over_nag.ratio == 1 and all(row.minimum > 0 for row in rows)
    assert len(optimizers_table(rows).rows) == len(OPTIMIZERS)
