"""With equal weights the networks give the logits of the official implementations."""

from __future__ import annotations

import detrand
import mxnet as mx
import numpy as np
import pytest
import references
from mxnet.gluon import nn
from references import OF_LIBRARIES, deviation

from gluon_effnets import get_model
from gluon_effnets._gluoncv import import_gluoncv
from gluon_effnets.nn import ShuffleUnit, shuffle
from gluon_effnets.weights import load_official


@pytest.mark.parametrize("name", references.present(OF_LIBRARIES))
def test_logits_parameters_and_multiply_adds_equal_the_official_ones(name):
    references.compare(OF_LIBRARIES[name], references.read(name))


def _shuffles_as_in_the_paper(net, monkeypatch):
    other = get_model("shufflenet_v1_g3_x1_0", shuffle="paper")
    other.initialize()
    values = net._collect_params_with_prefix()
    for key, param in other._collect_params_with_prefix().items():
        param.set_data(values[key].data())
    return other


def _pools_without_counting_the_padding(net, monkeypatch):
    for unit in _units(net):
        if unit.pool is not None:
            unit.pool._kwargs["count_include_pad"] = False
    return net


def _epsilon_of_tensorflow(net, monkeypatch):
    net.apply(lambda block: block._kwargs.update(eps=1e-3) if isinstance(block, nn.BatchNorm) else None)
    return net


def _branch_before_the_pooled_input(net, monkeypatch):
    monkeypatch.setattr(shuffle, "concat_channels", lambda F, left, right: F.concat(right, left, dim=1))
    return net


def _units(net):
    return [block for stage in net.stages for block in stage._children.values() if isinstance(block, ShuffleUnit)]


@pytest.mark.parametrize(
    "mistake, least",
    [
        (_shuffles_as_in_the_paper, 1),
        (_branch_before_the_pooled_input, 1),
        (_pools_without_counting_the_padding, 0.05),
        (_epsilon_of_tensorflow, 0.05),
    ],
)
def test_every_known_mistake_is_far_above_the_tolerance(mistake, least, monkeypatch):
    """What differs between the paper, its implementations and the authors' code of ShuffleNetV1."""
    data = references.read("shufflenetv1_g3_1.0x")
    net, images = get_model("shufflenet_v1_g3_x1_0"), mx.nd.array(detrand.images(**data["input"])[:1])
    load_official(net, references.official("shufflenetv1_g3_1.0x"))
    official = np.array(data["logits"])[:1]
    assert deviation(net(images).asnumpy(), official) < 1e-4
    assert deviation(mistake(net, monkeypatch)(images).asnumpy(), official) > least


@pytest.mark.parametrize(
    "theirs, model, options",
    [
        ("mobilenetv3_large", "mobilenet_v3_large", {}),
        ("mobilenetv3_small", "mobilenet_v3_small", {"head_hidden": 1280}),
    ],
)
def test_logits_equal_those_of_gluoncv(theirs, model, options, tmp_path):
    gluoncv_model = import_gluoncv("model_zoo").get_model
    from gluon_effnets.weights import read_checkpoint

    official = gluoncv_model(theirs, pretrained=False)
    official.initialize()
    official(mx.nd.zeros((1, 3, 64, 64)))  # only now it knows the shapes
    for key, param in official._collect_params_with_prefix().items():
        leaf = {"gamma": "weight", "beta": "bias"}.get(key.split(".")[-1], key.split(".")[-1])
        param.set_data(mx.nd.array(detrand.tensor(f"{key}.{leaf}", param.shape)))
    official.save_parameters(str(tmp_path / "official.params"))

    net = get_model(model, **options)
    assert load_official(net, read_checkpoint(tmp_path / "official.params")) == "gluoncv"
    for network in (net, official):
        network.cast("float64")
    x = mx.nd.array(detrand.images(2, 224, 0), dtype="float64")
    assert deviation(net(x).asnumpy(), official(x).asnumpy()) < 1e-4
