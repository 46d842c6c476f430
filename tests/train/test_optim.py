"""Optimizers by name: what decays, at which rate, and what is refused."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets.models import get_model
from gluon_effnets.train.config import OptimizerSettings
from gluon_effnets.train.optim import base_learning_rate, make_optimizer

pytestmark = pytest.mark.fast


@pytest.fixture
def net():
    net = get_model("idle_tiny", classes=10)
    net.initialize()
    return net


def factors(net, **settings):
    """parameter -> weight after one update with zero gradients, relative to before."""
    for param in net.collect_params().values():
        if param.grad_req != "null":
            param.set_data(mx.nd.ones(param.shape))
    optimizer = make_optimizer(OptimizerSettings(weight_decay=0.25, **settings), net, lr=1.0)
    trainer = mx.gluon.Trainer(net.collect_params(), optimizer, kvstore=None)
    _update(net, trainer)
    params = net.collect_params().items()
    return {name: param.data().asnumpy().min() for name, param in params if param.grad_req != "null"}


def _update(net, trainer):
    x = mx.nd.ones((1, 3, 32, 32))
    with mx.autograd.record():
        loss = net(x).sum() * 0
    loss.backward()
    trainer.update(1)


@pytest.mark.parametrize("name", ["sgd", "nag", "lbsgd"])
def test_only_weights_decay(net, name):
    seen = factors(net, name=name)
    kinds = {"weight": set(), "bias": set(), "gamma": set(), "beta": set()}
    for param, value in seen.items():
        kinds[param.rsplit("_", 1)[-1]].add(float(value))
    assert kinds == {"weight": {0.75}, "bias": {1.0}, "gamma": {1.0}, "beta": {1.0}}


def test_decay_all(net):
    assert set(factors(net, name="sgd", decay_all=True).values()) == {0.75}


def test_lars_leaves_biases_and_bn_alone(net):
    optimizer = make_optimizer(OptimizerSettings("lars", options={"momentum": 0.9}), net, lr=1.0)
    trainer = mx.gluon.Trainer(net.collect_params(), optimizer, kvstore=None)
    names = [param.name for param in trainer._params]
    assert [optimizer.idx2name[i] for i in range(len(names))] == names
    ones = mx.nd.ones((4,))
    for i, param in enumerate(trainer._params):
        if param.grad_req == "null":
            continue
        adapted = optimizer._get_lars(i, ones, ones * 2, 1.0, 0.0) != 1.0
        assert adapted == param.name.endswith("weight"), param.name


def test_lbsgd_averages_its_first_macro_batch():
    net = mx.gluon.nn.Dense(1, in_units=1, use_bias=False)
    net.initialize(mx.init.Zero())
    settings = OptimizerSettings("lbsgd", options={"batch_scale": 2, "warmup_epochs": 0})
    trainer = mx.gluon.Trainer(net.collect_params(), make_optimizer(settings, net, lr=1.0), kvstore=None)
    weights = []
    for gradient in (1, 10, 3, 5):
        with mx.autograd.record():
            loss = net(mx.nd.array([[gradient]])).sum()
        loss.backward()
        trainer.update(1)
        weights.append(net.weight.data().asscalar())
    # The rate is that of the small batch; its double meets the mean of two gradients.
    assert weights == [0, -11, -11, -19]


@pytest.mark.parametrize(("batch", "lr_for_batch", "rate"), [(1024, 256, 0.4), (64, 256, 0.025), (999, None, 0.1)])
def test_learning_rate_rule(batch, lr_for_batch, rate):
    assert base_learning_rate(OptimizerSettings(lr=0.1, lr_for_batch=lr_for_batch), batch) == pytest.approx(rate)


def test_build_scales_the_rate_with_the_global_batch(start):
    run = start("data.source=synthetic:64", "accumulate=2", "optimizer.lr=0.1", "optimizer.lr_for_batch=8")
    assert run.state.base_lr == pytest.approx(0.2)


def test_unknown_name(net):
    with pytest.raises(ValueError, match="unknown optimizer 'agd'; did you mean .*'nag'"):
        make_optimizer(OptimizerSettings("agd"), net, 0.1)


@pytest.mark.parametrize("name", ["nag", "adam", "lbsgd"])
def test_unknown_option(net, name):
    with pytest.raises(ValueError, match=f"optimizer.options of {name}: .*momentun"):
        make_optimizer(OptimizerSettings(name, options={"momentun": 0.9}), net, 0.1)


@pytest.mark.parametrize("option", ["learning_rate", "wd"])
def test_options_that_have_a_key_of_their_own(net, option):
    with pytest.raises(ValueError, match=option):
        make_optimizer(OptimizerSettings("sgd", options={option: 0.1}), net, 0.1)


def test_every_registered_optimizer_can_be_made(net):
    known = mx.optimizer.Optimizer.opt_registry
    made = {name: make_optimizer(OptimizerSettings(name), net, 0.1) for name in known if name != "ndabs"}
    assert all(isinstance(made[name], known[name]) for name in made)
    assert made["adam"].learning_rate == np.float64(0.1)
