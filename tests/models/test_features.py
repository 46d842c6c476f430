"""Networks that give maps in place of logits: which maps, what they are called, and what is left out."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from gluon_effnets import get_model
from gluon_effnets.models import FeatureNet, families, small_model

pytestmark = pytest.mark.fast


def images(side=64, n=1):
    return mx.nd.array(np.random.RandomState(0).standard_normal((n, 3, side, side)))


def initialized(name="mobilenet_v2_x0_35", **options):
    mx.random.seed(0)
    net = get_model(name, **options)
    net.initialize()
    return net


@pytest.mark.parametrize("family", families())
def test_every_family_gives_the_maps_of_its_stages(family):
    net = get_model(small_model(family), features_only=True)
    infos = get_model(small_model(family)).stage_info
    assert isinstance(net, FeatureNet)
    assert net.feature_info == [(str(number), *info) for number, info in enumerate(infos)]


@pytest.mark.parametrize("hybridized", [False, True])
def test_maps_are_those_of_extract_with_names_channels_and_strides(hybridized):
    whole, x, taps = initialized("mobilenet_v3_small"), images(), [1, "3.0", "4.0.expansion", -1, "head"]
    net = FeatureNet(whole, taps)
    net.hybridize(hybridized)
    maps = net(x)
    for found, expected in zip(maps, whole.extract(x, taps)):
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-6)
    assert maps.names == ("1", "3.0", "4.0.expansion", "-1", "head") and maps["head"] is maps[-1]
    assert maps.channels == tuple(found.shape[1] for found in maps)
    assert maps.strides == tuple(64 // found.shape[2] for found in maps)
    assert list(maps.info) == net.feature_info
    with pytest.raises(KeyError, match="there is no map '2'; these are 1, "):
        maps["2"]


@pytest.mark.parametrize("out_indices", [(0, 2), ["3.0"], ["expansion", "head"]])
def test_every_parameter_of_it_is_trained(out_indices):
    net = initialized("mobilenet_v3_small", features_only=True, out_indices=out_indices)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with autograd.record():
        loss = sum((found**2).mean() for found in net(images()))
    loss.backward()
    trainer.step(1)  # warns of, and so refuses, parameters without a gradient


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_strides(stride):
    net = initialized(features_only=True, out_indices=[2, 3, 4], output_stride=stride)
    assert net(images()).strides == tuple(min(of_stage, stride) for of_stage in (8, 16, 32))
    assert [found.shape[2] for found in net(images())] == [64 // info.stride for info in net.feature_info]


def test_files_of_dilated_networks_are_opened_and_others_are_dilated(tmp_path):
    plain, dilated, x = str(tmp_path / "plain.params"), str(tmp_path / "dilated.params"), images()
    net = initialized()
    net.save_parameters(plain)
    net.set_output_stride(16)
    net.save_parameters(dilated)
    for path, options in ((dilated, {}), (dilated, {"output_stride": 16}), (plain, {"output_stride": 16})):
        again = get_model("mobilenet_v2_x0_35", pretrained=path, **options)
        assert again.output_stride == 16 and "output_stride" not in again.options
        np.testing.assert_array_equal(again(x).asnumpy(), net(x).asnumpy())
    with pytest.raises(ValueError, match="the output stride of mobilenet_v2_x0_35 is 16 already"):
        get_model("mobilenet_v2_x0_35", pretrained=dilated, output_stride=8)


def test_features_of_stored_weights(tmp_path):
    whole, path = initialized("mobilenet_v3_small", classes=3), str(tmp_path / "net.params")
    whole.save_parameters(path)
    net = get_model("mobilenet_v3_small", pretrained=path, features_only=True, out_indices=[-1])
    np.testing.assert_array_equal(net(images())[0].asnumpy(), whole.extract(images())[-1].asnumpy())
    assert net.preprocessing == whole.preprocessing


def test_exported_features(tmp_path):
    net = initialized(features_only=True, out_indices=[1, 3])
    net.hybridize()
    maps = net(images())
    net.export(str(tmp_path / "net"))
    again = gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params"))
    for found, expected in zip(again(images()), maps):
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"out_indices": [1]}, "out_indices goes with features_only=True"),
        ({"features_only": True, "out_indices": []}, "out_indices names no map"),
        ({"features_only": True, "out_indices": [7]}, "has no tap 7: take a stage from 0 to 4"),
        ({"features_only": True, "out_indices": 3}, r"must be a list, such as \[3\]"),
        ({"features_only": True, "output_stride": 4}, "choose one of 8, 16, 32"),
    ],
)
def test_what_cannot_be_is_one_sentence(options, told):
    with pytest.raises(ValueError, match=told):
        get_model("mobilenet_v2_x0_35", **options)
