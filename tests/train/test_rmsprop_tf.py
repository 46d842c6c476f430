"""rmsprop_tf against TensorFlow's formula, written as a loop in NumPy."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets.train.config import OptimizerSettings
from gluon_effnets.train.optim import RMSPropTF, make_optimizer

pytestmark = pytest.mark.fast

RECIPE = {"decay": 0.9, "momentum": 0.9, "epsilon": 1e-3}


def by_formula(weight, grads, rates, decay=0.9, momentum=0.0, epsilon=1e-10, wd=0.0, scale=1.0, clip=None):
    """The weights after every update; mean_square, mom and delta as in the doc-string of TensorFlow's rmsprop.py."""
    weight, seen = weight.astype(np.float64), []
    mean_square, mom = np.ones_like(weight), np.zeros_like(weight)
    for grad, rate in zip(grads, rates):
        grad = grad.astype(np.float64) * scale
        grad = np.clip(grad, -clip, clip) if clip else grad
        grad = grad + wd * weight
        mean_square = decay * mean_square + (1 - decay) * grad**2
        mom = momentum * mom + rate * grad / np.sqrt(mean_square + epsilon)
        weight = weight - mom
        seen.append(weight)
    return np.array(seen)


def by_optimizer(weight, grads, rates, dtype="float32", **options):
    optimizer = mx.optimizer.create("rmsprop_tf", **options)
    updater, weight, seen = mx.optimizer.get_updater(optimizer), mx.nd.array(weight, dtype=dtype), []
    for grad, rate in zip(grads, rates):
        optimizer.set_learning_rate(rate)
        updater(0, mx.nd.array(grad, dtype=dtype), weight)
        seen.append(weight.asnumpy())
    return np.array(seen), updater.states[0]


def problem(updates=12, size=40):
    random = np.random.RandomState(3)
    # Gradients from far below to far above the root of epsilon, a third of them 0.
    grads = random.randn(updates, size) * 10.0 ** random.uniform(-5, 2, size) * (random.rand(updates, size) > 0.3)
    return random.randn(size), grads, 0.1 * 0.7 ** np.arange(updates)


@pytest.mark.parametrize(
    "options",
    [
        {},
        RECIPE,
        {"decay": 0.5, "momentum": 0.3, "epsilon": 1.0},
        {**RECIPE, "wd": 0.1},
        {**RECIPE, "rescale_grad": 1 / 8},
        {**RECIPE, "clip_gradient": 0.5, "rescale_grad": 0.25, "wd": 0.01},
        {"decay": 0.0},
    ],
)
def test_against_the_formula(options):
    weight, grads, rates = problem()
    names = {"rescale_grad": "scale", "clip_gradient": "clip"}
    expected = by_formula(weight, grads, rates, **{names.get(key, key): value for key, value in options.items()})
    np.testing.assert_allclose(by_optimizer(weight, grads, rates, **options)[0], expected, rtol=2e-5, atol=2e-5)


def test_the_first_step_is_that_of_a_mean_square_of_one():
    moved = -by_optimizer(np.zeros(1), [np.ones(1)], [0.1], epsilon=1e-3)[0]
    assert moved[0] == pytest.approx(0.1 / np.sqrt(1 + 1e-3), rel=1e-6)
    mxnets = mx.optimizer.get_updater(mx.optimizer.RMSProp(learning_rate=0.1, gamma1=0.9, epsilon=1e-3))
    weight = mx.nd.zeros(1)
    mxnets(0, mx.nd.ones(1), weight)
    assert -weight.asscalar() > 3 * moved[0], "where MXNet's own begins with 0"


def test_the_rate_in_force_is_in_the_momentum():
    grads, rates = [np.ones(1), np.zeros(1)], [1.0, 0.0]
    first, second = by_optimizer(np.zeros(1), grads, rates, momentum=0.9)[0]
    assert second - first == pytest.approx(0.9 * first), "a rate of 0 stops new gradients only"


def test_float16_weights_have_float32_masters():
    weight, grads, rates = problem()
    weight, grads = weight.astype(np.float16), np.clip(grads, -100, 100).astype(np.float16)
    expected = by_formula(weight, grads, rates, **RECIPE)
    with_master, (master, (mean_square, step)) = by_optimizer(
        weight, grads, rates, "float16", multi_precision=True, **RECIPE
    )
    assert {array.dtype for array in (master, mean_square, step)} == {np.float32}
    np.testing.assert_allclose(master.asnumpy(), expected[-1], rtol=2e-5, atol=2e-5)
    assert (with_master[-1] == master.asnumpy().astype(np.float16)).all()


def test_nothing_waits_for_the_device(monkeypatch):
    weight, grad = mx.nd.ones((3, 4)), mx.nd.ones((3, 4))
    updater = mx.optimizer.get_updater(RMSPropTF(learning_rate=0.1, wd=1e-5, clip_gradient=1.0, **RECIPE))

    def refuse(*args, **kwargs):
        raise AssertionError("a value was waited for")

    with monkeypatch.context() as patch:
        for name in ("asnumpy", "asscalar", "wait_to_read"):
            patch.setattr(mx.nd.NDArray, name, refuse)
        for _ in range(3):
            updater(0, grad, weight)
    assert weight.asnumpy().max() < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1.0}, "decay of rmsprop_tf is 1.0; it must be at least 0 and below 1"),
        ({"momentum": -0.1}, "momentum of rmsprop_tf is -0.1"),
        ({"epsilon": 0}, "epsilon of rmsprop_tf is 0; it must be above 0"),
        ({"alpha": 0.9}, "optimizer.options of rmsprop_tf: .*alpha"),
        ({"epsilon": "small"}, "optimizer.options of rmsprop_tf: "),
    ],
)
def test_mistakes(options, message):
    net = mx.gluon.nn.Dense(1, in_units=1)
    with pytest.raises(ValueError, match=message):
        make_optimizer(OptimizerSettings("rmsprop_tf", options=options), net, 0.1)


def test_options_of_a_recipe_may_be_texts():
    net = mx.gluon.nn.Dense(1, in_units=1)
    made = make_optimizer(OptimizerSettings("rmsprop_tf", weight_decay=1e-5, options={"epsilon": "1e-3"}), net, 0.1)
    assert (made.epsilon, made.wd, made.learning_rate) == (1e-3, 1e-5, 0.1), "YAML 1.1 reads 1e-3 as a text"
