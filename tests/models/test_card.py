"""What belongs to weights beside their numbers, the sizes that follow from layers, and files of all kinds."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from gluon_effnets import get_model
from gluon_effnets.models import Card, Preprocessing, families, params, small_model
from gluon_effnets.models.card import compare_names, complete_preprocessing

pytestmark = pytest.mark.fast

NET = "mobilenet_v2_x0_35"
CONDENSED = {"condensed": True, "condensed_classifier": True}
HEADS = [(small_model(family), {}) for family in families()] + [("cifar_condensenet_50", CONDENSED)]
OWN = Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr", "pillow_bicubic", 0.9, 48)


def built(name=NET, classes=3, **options):
    mx.random.seed(0)
    net = get_model(name, classes=classes, **options)
    net.initialize()
    return net


def values(net):
    return {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}


# The card


def test_the_card_comes_and_goes_with_the_weights(tmp_path):
    path, net = str(tmp_path / "w.params"), built()
    net.card = Card(["ant", "bee", "Käfer"], OWN)
    net.save_parameters(path)
    again = get_model(NET, pretrained=path)
    assert again.classes == ["ant", "bee", "Käfer"] and again.preprocessing == OWN
    assert again.identity == built().identity, "the card is no part of the identity"
    other = built()
    other.load_parameters(path)
    assert other.card == net.card
    built().save_parameters(path)
    other.load_parameters(path)
    assert other.card == Card()


def test_a_file_of_before_has_the_preprocessing_that_it_says(tmp_path):
    """As versions wrote it that knew neither names nor interpolation, crop and size."""
    net, path = built(), str(tmp_path / "w.params")
    arrays = {key: mx.nd.array(value) for key, value in values(net).items()}
    old = f'{{"bn_epsilon": 1e-05, "in_channels": 3, "model": "{NET}", "padding": "symmetric", "preprocessing": '
    old += '{"channel_order": "bgr", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}, "stem_stride": 2}'
    arrays[params.IDENTITY] = mx.nd.array(np.frombuffer(old.encode(), np.uint8), dtype="uint8")
    mx.nd.save(path, arrays)
    again = get_model(NET, pretrained=path)
    assert again.card == Card(None, Preprocessing((0.0,) * 3, (1.0,) * 3, "bgr"))
    assert complete_preprocessing(again)[3:] == ("bilinear", 0.875, 224, False)


def test_names_belong_to_the_classifier():
    net = built()
    with pytest.raises(ValueError, match="there are 2 names, but 3 classes"):
        net.classes = ["ant", "bee"]
    net.classes = ["ant", "bee", "cow"]
    net.output = nn.Dense(3)
    assert net.classes is None, "another classifier of the same size knows other classes"
    net.classes = ["ant", "bee", "cow"]
    net.reset_class(3)
    assert net.classes is None
    net.classes = ["ant", "bee", "cow"]
    net.classes = None
    assert net.classes is None


def test_another_number_of_classes_has_no_names(tmp_path):
    net = built()
    net.classes = ["ant", "bee", "cow"]
    net.save_parameters(str(tmp_path / "w.params"))
    assert get_model(NET, pretrained=str(tmp_path / "w.params"), classes=5).classes is None


@pytest.mark.parametrize("name, options", [(NET, {}), ("cifar_condensenet_50", CONDENSED), ("ds_mobilenet_tiny", {})])
def test_reordered_classes_are_the_same_answers_by_name(name, options):
    net, x = built(name, classes=3, **options), mx.nd.random.normal(shape=(2, 3, 32, 32))
    net.hybridize()
    net.classes, before = ["ant", "bee", "cow"], net(x).asnumpy()
    assert net.reorder_classes(["cow", "ant", "bee"]) and net.classes == ["cow", "ant", "bee"]
    np.testing.assert_array_equal(net(x).asnumpy(), before[:, [2, 0, 1]])
    for others in (["cow", "ant", "dog"], ["cow", "ant"], []):
        assert not net.reorder_classes(others) and net.classes == ["cow", "ant", "bee"]


@pytest.mark.parametrize(
    "before, now, text",
    [
        (["a", "b"], ["a", "b"], None),
        (None, ["a"], None),
        (["a"], None, None),
        (["a", "b"], ["b", "a"], "they stand in another order (class 0 was 'a', now it is 'b')"),
        (["ant", "bee"], ["bee", "wasp"], "'ant' is gone, 'wasp' is new"),
        (["a"], ["a", "b", "c", "d", "e"], "'b', 'c', 'd' and 1 more are new"),
        (["crane", "maillot"], ["crane", "maillot", "crane"], "there were 2, now there are 3"),
    ],
)
def test_lists_of_names_are_compared_by_name(before, now, text):
    assert compare_names(before, now) == text


# Layers that took the place of others


def test_every_family_has_a_head_here():
    assert len(HEADS) == len(families()) + 1


# AlexNet has 60 million parameters, and the same classifier as all others.
@pytest.mark.parametrize(
    ("name", "options", "in_units"),
    [(*head, known) for known in (True, False) for head in HEADS if known or not head[0].startswith("alexnet")],
)
def test_the_number_of_classes_is_that_of_a_replaced_output(name, options, in_units, tmp_path):
    net, size = built(name, classes=10, **options), 224 if name.startswith("alexnet") else 32
    x = mx.nd.random.normal(shape=(1, 3, size, size))
    assert net.num_classes == 10 and net(x).shape == (1, 10)
    net.hybridize()
    with net.name_scope():
        net.output = nn.Dense(7, in_units=net.num_features) if in_units else nn.Dense(7)
    net.output.initialize()
    assert net.num_classes == 7 and net(x).shape == (1, 7)
    net.classes = list("abcdefg")
    net.save_parameters(str(tmp_path / "w.params"))
    again = get_model(name, pretrained=str(tmp_path / "w.params"))
    assert again.num_classes == 7 and again.classes == list("abcdefg")
    np.testing.assert_allclose(again(x).asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-5)
    net.reset_class(4)
    assert net.num_classes == 4 and net(x).shape == (1, 4)


def test_the_widths_of_a_slimmable_network_have_the_replaced_output():
    net, x = built("ds_mobilenet_tiny", classes=10), mx.nd.zeros((1, 3, 32, 32))
    net.subnet(0)(x)
    net.output = nn.Dense(7)
    net.output.initialize()
    net.classes = list("abcdefg")
    assert net.subnet(0)(x).shape == (1, 7) and net.subnet(0).num_classes == 7
    assert net.subnet(0).classes == list("abcdefg") and net.dynamic(x).logits.shape == (1, 7)


def test_an_output_of_several_layers_counts_by_its_last():
    net = built()
    net.output = nn.HybridSequential()
    net.output.add(nn.Dropout(0.1), nn.Dense(20, activation="relu"), nn.Dense(5))
    net.output.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    assert net.num_classes == 5


@pytest.mark.parametrize("family", families())
def test_the_channels_of_an_image_are_those_of_the_first_layer(family):
    net = get_model(small_model(family), classes=10, in_channels=2)
    assert net.in_channels == 2 and net.definition()["in_channels"] == 2


def test_a_replaced_stem_decides_the_channels():
    net = built()
    stem = net.stages[0][0]
    stem.conv = nn.Conv2D(stem.conv._channels, 3, 2, 1, use_bias=False, in_channels=1)
    stem.conv.initialize()
    assert net.in_channels == 1 and net(mx.nd.zeros((1, 1, 32, 32))).shape == (1, 3)
    assert net.identity["in_channels"] == 1


# Files


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("kind", ["stripped", "whole", "exported"])
@pytest.mark.parametrize("name", [NET, "cifar_condensenet_50"])
def test_files_that_gluon_writes_by_the_names_of_parameters_load(name, kind, replaced, tmp_path):
    net, x = built(name, classes=3), mx.nd.random.normal(shape=(1, 3, 32, 32))
    if replaced:
        with net.name_scope():
            net.output = nn.Dense(5)
        net.output.initialize()
    path, expected = str(tmp_path / "net-0000.params"), net(x).asnumpy()
    if kind == "exported":
        net.hybridize()
        net(x)
        net.export(str(tmp_path / "net"))
    else:
        net.collect_params().save(path, **({"strip_prefix": net.prefix} if kind == "stripped" else {}))
    again = get_model(name, pretrained=path)
    np.testing.assert_allclose(again(x).asnumpy(), expected, rtol=1e-5, atol=1e-5)
    assert again.num_classes == (5 if replaced else 3)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_floating_numbers_of_another_type_are_rounded(dtype, tmp_path):
    net, path = built(), str(tmp_path / "w.params")
    net.cast(dtype)
    net.save_parameters(path)
    again = get_model(NET, pretrained=path)
    for key, value in values(again).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, values(net)[key].astype(np.float32))


def test_a_float16_network_takes_float32_weights_unless_they_are_too_large(tmp_path):
    path, net = str(tmp_path / "w.params"), built()
    net.save_parameters(path)
    half = built()
    half.cast("float16")
    half.load_parameters(path)
    assert half.output.weight.data().dtype == np.float16
    before = values(half)
    net.output.weight.set_data(net.output.weight.data() + 1e6)
    net.save_parameters(path)
    with pytest.raises(ValueError, match="output.weight .* float32 that float16 cannot hold"):
        half.load_parameters(path)
    assert all((value == before[key]).all() for key, value in values(half).items())


@pytest.mark.parametrize("dtype, good, bad", [("int64", 3, 2**40 + 1), ("int32", -2, 2**24 + 1), ("uint8", 200, None)])
def test_whole_numbers_become_floats_if_they_keep_their_values(dtype, good, bad, tmp_path):
    net, path = built(), str(tmp_path / "w.params")
    arrays = {key: mx.nd.array(value + 1) for key, value in values(net).items()}
    # The last one of all: those before it must not be assigned either.
    last = sorted(arrays)[-1]
    for number in filter(None, (good, bad)):
        whole = np.full(arrays[last].shape, number, dtype)
        mx.nd.save(path, {**arrays, last: mx.nd.array(whole, dtype=dtype)})
        before = values(net)
        if number == good:
            net.load_parameters(path)
            assert (values(net)[last] == good).all()
            continue
        with pytest.raises(ValueError, match=f"{last} in .* type {dtype} that float32 cannot hold"):
            net.load_parameters(path)
        assert all((value == before[key]).all() for key, value in values(net).items())


def test_an_index_takes_whole_numbers_alone(tmp_path):
    net, path = built("cifar_condensenet_50", **CONDENSED), str(tmp_path / "w.params")
    arrays = {key: mx.nd.array(value, dtype=value.dtype) for key, value in values(net).items()}
    arrays["output.index"] = arrays["output.index"].astype("float32")
    mx.nd.save(path, arrays)
    net.load_parameters(path)
    arrays["output.index"] += 0.5
    mx.nd.save(path, arrays)
    with pytest.raises(ValueError, match="output.index .* float32 that int32 cannot hold"):
        net.load_parameters(path)


def test_the_type_of_the_file_can_be_taken_as_in_gluon(tmp_path):
    net, other, path = built(), built(), str(tmp_path / "w.params")
    net.cast("float16")
    net.save_parameters(path)
    other.load_parameters(path, cast_dtype=True, dtype_source="saved")
    assert other.output.weight.dtype == np.float16


@pytest.mark.parametrize(
    "card",
    [
        {"preprocessing": {}},
        {"preprocessing": Preprocessing(mean="abc")},
        {"preprocessing": Preprocessing(crop=float("nan"))},
        {"classes": ["a", 2, "c"]},
        {"origin": {"source": object()}},
    ],
)
def test_a_card_that_no_file_could_be_read_with_is_not_written(card, tmp_path):
    net = built()
    for key, value in card.items():
        setattr(net, key, value)
    with pytest.raises(ValueError, match="card of the network|preprocessing of a network"):
        net.save_parameters(str(tmp_path / "w.params"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stride", [0, -1, 1.5])
def test_a_stem_has_a_stride(stride):
    with pytest.raises(ValueError, match=r"stem_stride.* is .*; it must be|cannot be built"):
        get_model(NET, stem_stride=stride)


def test_names_without_end_are_shortened_in_messages():
    told = compare_names(["bee" * 5000, "ant"], ["ant", "x" * 9000])
    assert len(told) < 1000 and "gone" in told and "new" in told
    assert len(compare_names(["a" * 9000, "b"], ["b", "a" * 9000])) < 1000
