"""Parts of a network: what is frozen stays bit for bit, what has a rate of its own learns at it."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from runs import assert_resumes

from gluon_effnets import native
from gluon_effnets.models import get_model
from gluon_effnets.train.config import OptimizerSettings, load_recipe
from gluon_effnets.train.optim import OPTIMIZERS, make_optimizer
from gluon_effnets.train.parts import freeze, parameters_of, set_rates

EVERYTHING = ("optimizer.weight_decay=0.1", "optimizer.decay_all=true", "hooks={ema: {decay: 0.5}}")
STEM = ("features.0", "features.1")


def moved(run):
    before = run.weights()
    run.train()
    after = run.weights()
    return {name for name in before if (before[name] != after[name]).any()}


@pytest.mark.parametrize("operators", ["compiled", "MXNet's"])
@pytest.mark.parametrize("optimizer", ["nag", "lb_sgd", "adam"])
def test_frozen_parts_stay_bit_for_bit(start, monkeypatch, operators, optimizer):
    if operators != "compiled":
        monkeypatch.setattr(native, "load", lambda: False)
    elif not native.load():
        pytest.skip("the operators are not compiled here")
    options = {} if optimizer == "adam" else {"momentum": 0.9}
    overrides = [f"optimizer={json.dumps({'name': optimizer, 'lr': 0.05, 'options': options})}", *EVERYTHING]
    run = start(f"freeze={json.dumps(STEM)}", *overrides)
    initial = run.weights()
    changed = moved(run)
    frozen = {name for name in initial if name.startswith(STEM)}
    assert not changed & frozen
    assert changed == initial.keys() - frozen, "all else learns, statistics included"
    (average,) = (hook.average for hook in run.hooks.recipe)
    assert all((average[name].asnumpy() == initial[name]).all() for name in frozen)
    # What is trained sees what it would see in evaluation.
    images = mx.nd.random.uniform(shape=(2, 3, 16, 16))
    evaluated = [stage(images).asnumpy() for stage in run.state.net.stages[:1]]
    with autograd.train_mode():
        trained = [stage(images).asnumpy() for stage in run.state.net.stages[:1]]
    np.testing.assert_array_equal(evaluated, trained)


@pytest.mark.parametrize("operators", ["compiled", "MXNet's"])
def test_gradients_of_the_rest_are_those_of_single_operators(start, monkeypatch, operators):
    if operators != "compiled":
        monkeypatch.setattr(native, "load", lambda: False)
    run = start("freeze=[features.0, 'features.*.bn']", "model_options={dropout: 0}")
    net, images = run.state.net, mx.nd.random.uniform(shape=(4, 3, 16, 16))
    label = mx.nd.one_hot(mx.nd.arange(4), net.num_classes)

    def gradients():
        for _ in range(2):  # static memory holds the numbers of the pass before
            with autograd.record():
                loss = -(mx.nd.log_softmax(net(images)) * label).sum()
            loss.backward()
        return {name: p.grad().asnumpy() for name, p in net.collect_params().items() if p.grad_req != "null"}

    static = gradients()
    net.hybridize(False)
    plain = gradients()
    assert 0 < len(plain) < len(net.collect_params().keys())
    for name, value in plain.items():
        np.testing.assert_allclose(static[name], value, rtol=1e-3, atol=1e-4 * abs(value).max(), err_msg=name)


def test_freeze_backbone_trains_the_classifier_alone(start):
    assert moved(start("freeze=backbone")) == {"output.weight", "output.bias"}


def test_a_part_that_is_named_by_a_wildcard(start):
    run = start("freeze=['features.*.gamma', 'features.*.beta']")
    changed = moved(run)
    kinds = {name.rpartition(".")[2] for name in changed}
    assert kinds == {"weight", "bias"}, "BN without anything to learn keeps its statistics, too"


def test_learned_numbers_of_bn_alone(start):
    assert {name.rpartition(".")[2] for name in moved(start("freeze=['features.*.gamma']"))} >= {"running_mean", "beta"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["freeze=[feature.0]"], r"^freeze: the network has no parameter 'feature.0'; did you mean features.0\?$"),
        (["freeze=['*']"], r"freeze: \* is the whole network, and leaves nothing to learn"),
        (["freeze=backbone", "model=ds_mobilenet_tiny"], "freeze does not go with ds_mobilenet_tiny.*leave it out"),
        (["optimizer.lr_factors={head: 2}"], r"^optimizer.lr_factors: the network has no parameter 'head'"),
        (["optimizer.lr_factors={output: 0}"], "lr_factors.output is 0; it must be a number above 0.*freeze"),
        (["optimizer.lr_factors={output: fast}"], "lr_factors.output is 'fast'; it must be a number above 0"),
    ],
)
def test_mistakes_are_one_sentence(start, overrides, message):
    with pytest.raises(ValueError, match=message) as error:
        start(*overrides)
    assert "\n" not in str(error.value)


def test_what_sparsify_prunes_cannot_be_frozen(start):
    run = start("model=condensenet_tiny", "hooks.sparsify={}", "freeze=backbone")
    with pytest.raises(ValueError, match="hooks.sparsify prunes features.*, which freeze keeps as it is: leave it out"):
        run.train()


def test_sparsify_prunes_beside_a_frozen_stem(start):
    names = [name for name in start("model=condensenet_tiny").weights() if name.startswith("features.0.")]
    run = start("model=condensenet_tiny", "hooks.sparsify={group_lasso: 1.0e-5}", f"freeze={json.dumps(names[:1])}")
    changed = moved(run)
    assert names[0] not in changed
    assert any(name.endswith("mask") for name in changed)


def test_stages_freeze_for_themselves(recipe_file):
    stages = "stages=[{name: head, freeze: backbone}, {name: all}]"
    parts = load_recipe(recipe_file, [stages]).split()
    assert [part.freeze for part in parts.values()] == [("backbone",), ()]


def test_a_frozen_run_resumes(start):
    assert_resumes(start, "freeze=[features.0]", "optimizer.lr_factors={output: 4}", *EVERYTHING)


NAMES = sorted({*OPTIMIZERS, "sgd", "nag", "adam", "lamb", "lars", "rmsprop", "nadam", "ftml", "adagrad"})


@pytest.mark.parametrize("name", NAMES)
def test_a_factor_of_the_rate_is_a_rate_of_its_own(name):
    def step(lr, factors):
        net = get_model("plain_tiny", classes=4)
        mx.random.seed(3)
        net.initialize()
        optimizer = make_optimizer(OptimizerSettings(name, weight_decay=0.01, lr_factors=factors), net, lr)
        trainer = mx.gluon.Trainer(net.collect_params(), optimizer, kvstore=None)
        for _ in range(2):
            with autograd.record():
                loss = (net(mx.nd.ones((2, 3, 8, 8))) ** 2).sum()
            loss.backward()
            # Those of the parts that learn at other rates change each other's gradients.
            for number, param in enumerate(net.collect_params().values()):
                param.grad()[:] = 0.1 * (number + 1)
            trainer.update(1)
        return {key: p.data().asnumpy() for key, p in net._collect_params_with_prefix().items()}

    with_factors = step(0.01, {"features": 0.5, "features.1": 2, "output": 4})
    for part, lr in (("features.0.", 0.005), ("features.1.", 0.02), ("output.", 0.04)):
        alone = step(lr, {})
        names = [key for key in alone if key.startswith(part)]
        assert names
        for key in names:
            np.testing.assert_allclose(with_factors[key], alone[key], rtol=2e-6, atol=1e-8, err_msg=key)


def test_of_several_patterns_the_last_counts_and_each_tells_its_parameters():
    net = get_model("plain_tiny", classes=4)
    assert set_rates(net, {"backbone": 0.1, "features.1": 1.5, "output.bias": 2}) == {
        "backbone": 2,
        "features.1": 2,
        "output.bias": 1,
    }
    freeze(net, ["features.0"])
    assert set_rates(net, {"backbone": 0.1})["backbone"] == 2
    assert parameters_of(net, "output", "x").keys() == {"output.weight", "output.bias"}
