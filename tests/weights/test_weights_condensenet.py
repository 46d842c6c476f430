"""Checkpoints of CondenseNet and CondenseNetV2: recognition, refusals, and what they want done to images."""

from __future__ import annotations

import detrand
import mxnet as mx
import numpy as np
import pytest
from references import official

from gluon_effnets import get_model
from gluon_effnets.models.condensenet import condensenet
from gluon_effnets.models.preprocessing import Preprocessing
from gluon_effnets.nn import masked_layers
from gluon_effnets.weights import convert, files, load_official
from gluon_effnets.weights.load import SOURCES

pytestmark = pytest.mark.fast

FULL, HALF = {"condensed": True}, {"condensed": True, "condensed_classifier": True}
LGC, SFR = "features.denseblock_1.denselayer_2.conv_1", "features.denseblock_1.denselayer_2.sfr"
V1, V2 = "condensenet_tiny", "condensenet_v2_tiny"


@pytest.fixture(scope="module")
def states():
    return {
        V1: official("condensenet_cifar10_tiny_pruned"),
        V2: official("cdnv2_cifar10_tiny_pruned"),
        "converted": official("cdnv2_cifar10_tiny_converted"),
        "converted V1": official("condensenet_cifar10_tiny_converted"),
    }


def made_up(source, model, **options):
    """A state dict as `source` has it for a network; indices and matrices of zeros are no true ones."""
    chosen, net = next(one for one in SOURCES if one.name == source), get_model(model, **options)
    translations = chosen.translations(net)
    shapes = {key: param.shape for key, param in chosen.keys(net).items()}
    shapes.update({key: translation.shape for key, translation in translations.items()})
    return {key: np.full(shape, float(key.endswith("_mask")), np.float32) for key, shape in shapes.items()}


def refused(net, state):
    """The text of the ValueError, after checking that it is short and that the network was not touched."""
    net.initialize()
    before = {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}
    with pytest.raises(ValueError) as error:
        load_official(net, state)
    for key, param in net._collect_params_with_prefix().items():
        assert np.array_equal(param.data().asnumpy(), before[key]), key
    assert len(str(error.value).split("\n")) <= 3
    return str(error.value)


@pytest.mark.parametrize(
    "state, model, options, source",
    [
        (V1, V1, {}, "condensenet"),
        (V2, V2, {}, "condensenetv2"),
        ("converted", V2, FULL, "condensenetv2_converted"),
        ("converted V1", V1, HALF, "condensenet_converted"),
    ],
)
def test_keys_tell_version_and_form(states, state, model, options, source):
    net = get_model(model, **options)
    net.hybridize()
    assert load_official(net, {f"module.{key}": value for key, value in states[state].items()}) == source


def test_every_tensor_arrives_where_it_belongs(states):
    for model, options, state, pairs in (
        (V2, {}, V2, {
            "features.0.0.weight": "features.init_conv.weight",
            "features.0.2.reduce.weight": f"{LGC}.conv.weight",
            "features.0.2.update.bn.running_mean": f"{SFR}.norm.running_mean",
            "features.1.1.bn.gamma": "features.denseblock_2.denselayer_1.conv_2.norm.weight",
            "features.2.2.se.expand.weight": "features.denseblock_3.denselayer_2.se.fc.2.weight",
            "features.3.3.reduce.weight": "features.se_last.fc.0.weight",
            "features.3.5.bias": "fc.bias",
            "output.weight": "classifier.weight",
        }),
        (V2, FULL, "converted", {"features.0.2.reduce.index": f"{LGC}.index"}),
        (V1, HALF, "converted V1", {
            "output.index": "classifier.index",
            "output.linear.bias": "classifier.linear.bias",
        }),
    ):  # fmt: skip
        net = get_model(model, **options)
        load_official(net, states[state])
        for ours, key in pairs.items():
            seen = net._collect_params_with_prefix()[ours].data().asnumpy()
            assert np.array_equal(seen.ravel(), states[state][key].ravel()), ours


def test_indices_stay_integers(states):
    net = get_model(V2, **FULL)
    load_official(net, states["converted"])
    for key in ("features.0.2.reduce.index", "features.0.2.update.table"):
        assert net._collect_params_with_prefix()[key].data().dtype == np.int32


def test_masks_are_those_of_the_groups(states):
    net = get_model(V2)
    load_official(net, states[V2])
    layers = masked_layers(net)
    assert all(layer.finished for layer in layers.values())
    for path, key in (("features.0.2.reduce", LGC), ("features.0.2.update", SFR)):
        layer, mask = layers[path], states[V2][f"{key}._mask"][:, :, 0, 0]
        ours = layer.mask.data().asnumpy()
        for group in range(layer.groups):
            rows = mask[group :: layer.groups] if key == LGC else mask[:, group :: layer.groups].T
            assert (rows == ours[group]).all()


# What does not fit


@pytest.mark.parametrize(
    "model, options, source, of, their_options, advice",
    [
        ("condensenet_v2_a", {}, "condensenetv2_converted", "condensenet_v2_a", FULL,
         "They fit get_model('condensenet_v2_a', condensed=True)."),
        ("condensenet_v2_a", FULL, "condensenetv2", "condensenet_v2_a", {}, "They fit get_model('condensenet_v2_a')."),
        ("condensenet_74_c4", {}, "condensenet_converted", "condensenet_74_c4", HALF,
         "They fit get_model('condensenet_74_c4', condensed=True, condensed_classifier=True)."),
        ("condensenet_74_c4", FULL, "condensenet_converted", "condensenet_74_c4", HALF,
         "They fit get_model('condensenet_74_c4', condensed=True, condensed_classifier=True)."),
        ("condensenet_74_c4", HALF, "condensenet", "condensenet_74_c8", {}, "They fit get_model('condensenet_74_c8')."),
        ("condensenet_v2_c", {}, "condensenetv2", "condensenet_v2_b", {}, "They fit get_model('condensenet_v2_b')."),
        ("condensenet_v2_a", {}, "condensenet", "condensenet_74_c8", {}, "They fit get_model('condensenet_74_c8')."),
        ("condensenet_74_c4", {}, "condensenetv2", "condensenet_v2_a", {}, "They fit get_model('condensenet_v2_a')."),
        ("cifar_condensenet_50", {}, "condensenet", "cifar_condensenet_86", {"classes": 100},
         "They fit get_model('cifar_condensenet_86', classes=100)."),
        (V2, {"classes": 7}, "condensenetv2", V2, {"in_channels": 1},
         "Build the network with in_channels=1, classes=10; net.reset_class(7) after loading gives it your classes."),
    ],
)  # fmt: skip
def test_other_networks_forms_and_classes_are_named(model, options, source, of, their_options, advice):
    assert refused(get_model(model, **options), made_up(source, of, **their_options)).endswith(advice)


def test_a_pruned_checkpoint_of_other_groups_is_told_by_its_shapes():
    """Its masks are wrong, too, but what helps is the name of the network."""
    state = made_up("condensenet", "condensenet_74_c8")
    state["features.denseblock_1.denselayer_1.conv_1._mask"][3, 5] = 0
    assert refused(get_model("condensenet_74_c4"), state).endswith("They fit get_model('condensenet_74_c8').")


def test_another_epsilon_is_refused(states):
    text = refused(get_model(V2, bn_epsilon=1e-3), states[V2])
    assert "need bn_epsilon=1e-05, but condensenet_v2_tiny was built with bn_epsilon=0.001" in text


def test_other_families_do_not_recognise_them(states):
    assert "not recognized" in refused(get_model("mobilenet_v3_small"), states[V2])
    assert "not recognized" in refused(get_model(V2), made_up("megvii_v2", "shufflenet_v2_x0_5"))


# What no mask and no index is


def changed(state, key, change):
    """A copy with one tensor replaced by what `change` makes of its copy."""
    return {**state, key: change(state[key].copy())}


def with_values(where, values):
    def change(array):
        array[where] = values
        return array

    return change


@pytest.mark.parametrize(
    "key, change, text",
    [
        (f"{LGC}._mask", with_values((5, 3), 0.25), "_mask has values between 0 and 1: a moving average must copy"),
        (f"{LGC}._mask", lambda mask: np.roll(mask, 1, axis=1) * (np.arange(32) % 8 < 4)[:, None, None, None],
         "is not the same within each of its 4 interleaved groups"),
        (f"{SFR}._mask", with_values((slice(None), 0), 1), "is not the same within each of its 4 interleaved groups"),
        (f"{LGC}._mask", with_values(slice(0, None, 4), 0), "drops 18 to 24 of 24 channels in a group"),
        (f"{LGC}._mask", np.zeros_like, "drops 24 of 24 channels in a group; pruning to 1/4 drops 6 at a time, 18 in"),
        (f"{SFR}._mask", np.ones_like, f"{SFR}._count says 18 dropped channels, {SFR}._mask 0."),
        (f"{LGC}._count", lambda count: count - 6, f"{LGC}._count says 12 dropped channels, {LGC}._mask 18."),
        (f"{LGC}._count", lambda count: count * np.nan, "are damaged: not all numbers of"),
    ],
)  # fmt: skip
def test_what_no_mask_is(states, key, change, text):
    assert text in refused(get_model(V2), changed(states[V2], key, change))


def test_masks_of_another_factor(states):
    net = condensenet((2, 2, 2), (8, 16, 32), 4, factor=2, classes=10, stem_stride=1)
    text = refused(net, states[V1])
    assert "drops 12 of 16 channels in a group; pruning to 1/2 drops 8 at a time, 8 in the end" in text


@pytest.mark.parametrize(
    "state, key, change, text",
    [
        ("converted", f"{SFR}.index", with_values((2, slice(None)), 0), "rows that do not point to one channel"),
        ("converted", f"{SFR}.index", with_values((2, slice(0, 2)), 1), "rows that do not point to one channel"),
        ("converted", f"{SFR}.index", with_values((2, slice(None)), 1 / 24), "rows that do not point to one channel"),
        (
            "converted",
            f"{SFR}.index",
            lambda index: index[[0, 0, *range(2, 24)]],
            "updates a channel twice from one of",
        ),
        ("converted", f"{LGC}.index", with_values(3, 24), "names channels that do not exist: they are 0 to 23"),
        ("converted", f"{LGC}.index", with_values(3, -1), "names channels that do not exist: they are 0 to 23"),
        ("converted", f"{LGC}.index", lambda index: index[[0, 0, *range(2, 24)]], "selects a channel twice in one of"),
        ("converted V1", "classifier.index", with_values(0, 2**40), "names channels that do not exist: they are 0 to"),
    ],
)
def test_what_no_index_is(states, state, key, change, text):
    net = get_model(V1, **HALF) if state == "converted V1" else get_model(V2, **FULL)
    assert text in refused(net, changed(states[state], key, change))


def test_counters_may_be_missing(states):
    state = {key: value for key, value in states[V2].items() if not key.endswith(("_count", "_stage"))}
    assert load_official(get_model(V2), state) == "condensenetv2"


# Files, and images


def test_the_moving_average_comes_with_its_copied_masks(states, tmp_path, monkeypatch):
    weights = {key: value + 1 if key.endswith("conv.weight") else value for key, value in states[V2].items()}
    checkpoint = tmp_path / "checkpoint.pth.tar"
    checkpoint.touch()
    content = {"state_dict": weights, "state_dict_ema": states[V2], "epoch": 350}
    monkeypatch.setitem(files._READERS, ".pth.tar", lambda path: content)
    nets = []
    for name, ema in (("ema", True), ("last", False)):
        done = convert(V2, checkpoint, tmp_path / f"{name}.params", ema=ema, condense=True)
        assert (done.source, done.options, done.num_parameters) == ("condensenetv2", FULL, 50_010)
        nets.append(get_model(V2, pretrained=done.path))
    ema, last = (net.features[0][2].reduce.conv.weight.data() for net in nets)
    assert (ema + 1 == last).min() == 1


@pytest.mark.parametrize(
    "model, source, mean, std",
    [
        ("cifar_condensenet_50", "condensenet", (125.307, 123.012, 113.9085), (63.0105, 62.0925, 66.708)),
        ("condensenet_74_c8", "condensenet", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        (V2, "condensenetv2", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    ],
)
def test_images_are_prepared_as_by_the_authors(model, source, mean, std):
    net = get_model(model)
    load_official(net, made_up(source, model))
    assert net.preprocessing.normalization == Preprocessing(mean, std)


def test_classes_tell_the_two_data_sets_of_cifar():
    net = get_model("cifar_condensenet_50", classes=100)
    load_official(net, made_up("condensenet", "cifar_condensenet_50", classes=100))
    assert net.preprocessing.mean == (129.3105, 124.1085, 112.404)


def test_a_network_in_use_takes_the_weights(states):
    net, fresh = get_model(V2), get_model(V2)
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.array(detrand.images(2, 32, 0))
    net(x)
    for network in (net, fresh):
        load_official(network, states[V2])
    np.testing.assert_allclose(net(x).asnumpy(), fresh(x).asnumpy(), rtol=1e-5, atol=1e-5)
