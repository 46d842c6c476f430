"""What a run takes from pretrained weights: normalization, folded statistics, a classifier that starts small."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets.models import get_model
from gluon_effnets.models.preprocessing import RAW_BGR, Preprocessing
from gluon_effnets.nn import initialize_like_trained
from gluon_effnets.train.batch_statistics import restore_folded, statistics_layers
from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.pretrained import data_settings


def folded_net(**options):
    """A network as weights for inference have it: BN is in the convolutions, and only beta is left of it."""
    net = get_model("idle_tiny", bn_epsilon=1e-3, dropout=0, stem_stride=1, classes=10, **options)
    initialize_like_trained(net)
    for layer in statistics_layers(net):
        epsilon = layer._kwargs["eps"]
        layer.running_mean.set_data(mx.nd.zeros_like(layer.running_mean.data()))
        layer.running_var.set_data(mx.nd.ones_like(layer.running_var.data()) - epsilon)
        layer.gamma.set_data(mx.nd.ones_like(layer.gamma.data()))
    return net


def images(count=16):
    return mx.nd.random.uniform(-2, 2, shape=(count, 3, 24, 24))


def test_folded_layers_get_statistics_and_keep_the_answers():
    net, batches = folded_net(), [images() for _ in range(4)]
    before = net(batches[0]).asnumpy()
    with autograd.train_mode():
        torn = net(batches[0]).asnumpy()
    assert restore_folded(net, batches) == len(statistics_layers(net)) > 0
    after = net(batches[0]).asnumpy()
    with autograd.train_mode():
        trained = net(batches[0]).asnumpy()
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * abs(before).max())
    assert abs(trained - before).mean() < 0.3 * abs(torn - before).mean()
    assert restore_folded(net, batches) == 0, "they have statistics now"


def test_statistics_are_those_of_all_images_together():
    net, batches = folded_net(), [images(8) * scale for scale in (1, 3)]
    seen = []
    layer = net.features[0][0].bn
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].asnumpy()))
    restore_folded(net, batches)
    handle.detach()
    inputs = np.concatenate(seen)
    np.testing.assert_allclose(layer.running_mean.data().asnumpy(), inputs.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(layer.running_var.data().asnumpy(), inputs.var((0, 2, 3)), rtol=2e-3)


def test_trained_and_new_networks_stay_as_they_are():
    for prepare in (lambda net: net.initialize(), initialize_like_trained):
        net = get_model("idle_tiny")
        prepare(net)
        assert restore_folded(net, iter(())) == 0


def saved(tmp_path, net):
    path = tmp_path / "weights.params"
    net.save_parameters(str(path))
    return f"pretrained={path}"


def test_a_run_restores_them_before_its_first_update(start, tmp_path, caplog):
    run = start(saved(tmp_path, folded_net()), "model_options={bn_epsilon: 0.001, stem_stride: 1}")
    assert "the weights are for inference" in caplog.text
    means = [layer.running_mean.data().asnumpy() for layer in statistics_layers(run.state.net)]
    assert all(mean.any() for mean in means)


def test_frozen_layers_are_not_touched(start, tmp_path):
    net = folded_net()
    run = start(saved(tmp_path, net), "model_options={bn_epsilon: 0.001, stem_stride: 1}", "freeze=backbone")
    mine, theirs = run.weights(), net._collect_params_with_prefix()
    assert all((mine[key] == param.data().asnumpy()).all() for key, param in theirs.items())


WANTED = Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr")


@pytest.fixture
def marked(tmp_path):
    net = get_model("idle_tiny", classes=10)
    net.initialize()
    net.preprocessing = WANTED
    return saved(tmp_path, net)


def test_normalization_of_the_weights_is_taken(start, marked):
    run = start(marked, "data.normalization=pretrained")
    assert run.state.data.preprocessing.normalization == WANTED
    assert run.state.net.preprocessing.normalization == WANTED


def test_another_normalization_is_a_warning(recipe_file, marked, caplog):
    data_settings(load_recipe(recipe_file, [marked]))
    assert "data.normalization=pretrained gives it what it wants" in caplog.text
    caplog.clear()
    same = [f"data.{key}={json.dumps(getattr(WANTED, key))}" for key in ("mean", "std", "channel_order")]
    data_settings(load_recipe(recipe_file, [marked, *same]))
    assert not caplog.records


def test_digits_have_the_mean_of_the_three(start, tmp_path):
    net = get_model("idle_tiny", classes=10)
    net.initialize()
    net.preprocessing = RAW_BGR._replace(mean=(10.0, 20.0, 30.0))
    run = start(saved(tmp_path, net), "data.source=digits", "data.normalization=pretrained")
    assert run.state.data.preprocessing.mean == (20.0,)
    assert run.state.net.in_channels == 1


def test_without_weights_there_is_nothing_to_take(recipe_file):
    with pytest.raises(ValueError, match="data.normalization is pretrained, but the recipe starts from no weights"):
        data_settings(load_recipe(recipe_file, ["data.normalization=pretrained"]))


def test_a_new_classifier_starts_small():
    net = get_model("idle_tiny", classes=10)
    net.initialize()
    net.reset_class(6)
    weight = net.output.weight.data().asnumpy()
    assert 0.005 < weight.std() < 0.02
    assert not net.output.bias.data().asnumpy().any()


def test_small_images_take_the_stride_of_the_weights(start, tmp_path):
    net = get_model("idle_tiny", classes=10)
    net.initialize()
    path = saved(tmp_path, net)
    assert start(path).state.net.stem_stride == 2
    assert start(path, "model_options.stem_stride=1").state.net.stem_stride == 1
    assert start().state.net.stem_stride == 1
