"""Pretrained weights for images of another kind: other channels as timm adapts them, another stride on request."""

from __future__ import annotations

import logging

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets.models import families, get_model, model_info, small_model
from gluon_effnets.models.adapted import adapt_to_channels
from gluon_effnets.models.preprocessing import RAW_BGR, TORCH_IMAGENET, Preprocessing

MODEL = "mobilenet_v3_small"


@pytest.fixture
def stored(tmp_path):
    net = get_model(MODEL, classes=5)
    net.initialize()
    net.preprocessing, net.origin = TORCH_IMAGENET, {"source": "elsewhere", "license": "MIT"}
    net.save_parameters(str(tmp_path / "net.params"))
    return net, str(tmp_path / "net.params")


def first(net):
    return net.features[0][0].conv.weight.data().asnumpy()


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 7])
def test_the_first_convolution_is_that_of_timm(stored, channels):
    net, path = stored
    weight, adapted = first(net), first(get_model(MODEL, pretrained=path, in_channels=channels))
    # timm/models/_manipulate.py, adapt_input_conv.
    repeat = -(-channels // 3)
    several = np.tile(weight, (1, repeat, 1, 1))[:, :channels] * np.float32(3 / channels)
    expected = weight.sum(axis=1, keepdims=True) if channels == 1 else several
    np.testing.assert_allclose(adapted, expected, rtol=1e-6, atol=1e-7)


def test_a_gray_image_has_the_answers_of_its_three_equal_channels(stored):
    net, path = stored
    net.preprocessing = Preprocessing((128.0,) * 3, (64.0,) * 3)
    net.save_parameters(path)
    gray = get_model(MODEL, pretrained=path, in_channels=1)
    assert (gray.preprocessing.mean, gray.preprocessing.std) == ((128.0,), (64.0,))
    image = mx.nd.random.uniform(shape=(2, 1, 64, 64))
    three = net(mx.nd.concat(image, image, image, dim=1)).asnumpy()
    np.testing.assert_allclose(gray(image).asnumpy(), three, rtol=1e-4, atol=1e-5 * abs(three).max())


def test_preprocessing_is_adapted_and_the_origin_tells_it(stored, caplog):
    four = get_model(MODEL, pretrained=stored[1], in_channels=4)
    red, green, blue = TORCH_IMAGENET.mean
    assert four.preprocessing.mean == (red, green, blue, red)
    assert four.in_channels == four.identity["in_channels"] == 4
    assert four.origin == {
        "source": "elsewhere",
        "license": "MIT",
        "changed": "first convolution adapted to in_channels=4",
    }
    assert "has in_channels=3: its first convolution is adapted to in_channels=4; images for it: " in caplog.text


def test_channels_of_bgr_weights_are_named_in_their_order():
    assert adapt_to_channels(RAW_BGR, 3) == RAW_BGR
    swapped = TORCH_IMAGENET._replace(channel_order="bgr")
    assert adapt_to_channels(swapped, 4).mean == (*TORCH_IMAGENET.mean[::-1], TORCH_IMAGENET.mean[2])
    assert adapt_to_channels(swapped, 4).channel_order == "rgb"
    assert adapt_to_channels(swapped, 1).std == (sum(TORCH_IMAGENET.std) / 3,)


def test_an_adapted_network_is_saved_and_loaded_as_its_own(stored, tmp_path):
    adapted = get_model(MODEL, pretrained=stored[1], in_channels=2, stem_stride=1, classes=3)
    adapted.save_parameters(str(tmp_path / "two.params"))
    again = get_model(MODEL, pretrained=str(tmp_path / "two.params"))
    assert again.identity == adapted.identity and again.card == adapted.card
    assert (first(again) == first(adapted)).all()


def test_another_stem_stride_is_taken_on_request_alone(stored, caplog):
    assert get_model(MODEL, pretrained=stored[1]).stem_stride == 2
    assert not caplog.records
    net = get_model(MODEL, pretrained=stored[1], stem_stride=1)
    assert net.stem_stride == net.identity["stem_stride"] == 1
    assert "was trained with a stem stride of 2; here it is 1, as asked for" in caplog.text
    assert (first(net) == first(stored[0])).all()
    assert "stem stride 1" in net.origin["changed"]


def test_what_is_no_kind_of_images_is_refused_as_before(stored):
    with pytest.raises(ValueError, match="belongs to a network with bn_epsilon"):
        get_model(MODEL, pretrained=stored[1], in_channels=1, bn_epsilon=0.25)
    net = get_model(MODEL, in_channels=1)
    with pytest.raises(ValueError, match="in_channels=3 .here 1"):
        net.load_parameters(stored[1])


@pytest.mark.parametrize("family", families())
def test_every_family_adapts(tmp_path, family, caplog):
    caplog.set_level(logging.ERROR)
    name = small_model(family)
    net = get_model(name, classes=4)
    net.initialize()
    path = str(tmp_path / "net.params")
    net.save_parameters(path)
    gray = get_model(name, pretrained=path, in_channels=1)
    assert gray.in_channels == 1
    size = model_info(name).input_size
    assert gray(mx.nd.zeros((1, 1, size, size))).shape == (1, 4)
