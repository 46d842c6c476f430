"""Checkpoints of the ShuffleNets: recognition, refusals, and what they want done to images."""

from __future__ import annotations

import re

import detrand
import mxnet as mx
import numpy as np
import pytest
from references import official

from gluon_effnets import get_model
from gluon_effnets.models import params
from gluon_effnets.models.preprocessing import RAW_BGR, Preprocessing
from gluon_effnets.weights import convert, load_official
from gluon_effnets.weights.load import SOURCES
from gluon_effnets.weights.source import BILINEAR

pytestmark = pytest.mark.fast

G3, V2, V2_TORCHVISION = "shufflenetv1_g3_1.0x", "megvii_shufflenetv2_1.0x", "torchvision_shufflenet_v2_x1_0"


def made_up(source, net):
    """A state dict as `source` has it for `net`."""
    chosen = next(one for one in SOURCES if one.name == source and isinstance(net, one.network))
    return {key: np.full(param.shape, 0.1, np.float32) for key, param in chosen.keys(net).items()}


def refused(net, state, source=None):
    """The text of the ValueError, after checking that it is short and that the network was not touched."""
    net.initialize()
    before = {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}
    marked = net.preprocessing
    with pytest.raises(ValueError) as error:
        load_official(net, state, source)
    for key, param in net._collect_params_with_prefix().items():
        assert np.array_equal(param.data().asnumpy(), before[key]), key
    assert net.preprocessing == marked and len(str(error.value).split("\n")) <= 3
    return str(error.value)


@pytest.fixture(scope="module")
def states():
    return {name: official(name) for name in (G3, V2, V2_TORCHVISION)}


@pytest.mark.parametrize(
    "name, model, options, source, preprocessing",
    [
        (G3, "shufflenet_v1_g3_x1_0", {}, "megvii_v1", RAW_BGR),
        (G3, "shufflenet_v1_g3_x1_0", {"shuffle": "none"}, "megvii_v1", RAW_BGR),
        (V2, "shufflenet_v2_x1_0", {}, "megvii_v2", RAW_BGR),
        (V2_TORCHVISION, "shufflenet_v2_x1_0", {"definition": "torchvision"}, "torchvision", BILINEAR),
    ],
)
def test_keys_tell_the_source_and_weights_their_preprocessing(states, name, model, options, source, preprocessing):
    net = get_model(model, **options)
    assert any(key.endswith("num_batches_tracked") for key in states[name])
    assert load_official(net, {f"module.{key}": value for key, value in states[name].items()}) == source
    assert net.preprocessing == preprocessing


def test_every_tensor_arrives_where_it_belongs(states):
    for name, model, options, pairs in (
        (G3, "shufflenet_v1_g3_x1_0", {}, {
            "features.0.0.conv.weight": "first_conv.0.weight",
            "features.2.0.reduce.bn.running_mean": "features.0.branch_main_1.1.running_mean",
            "features.3.7.depthwise.conv.weight": "features.11.branch_main_1.3.weight",
            "features.4.3.expand.bn.gamma": "features.15.branch_main_2.1.weight",
        }),
        (V2, "shufflenet_v2_x1_0", {}, {
            "features.3.0.proj.1.bn.beta": "features.4.branch_proj.3.bias",
            "features.3.0.branch.1.conv.weight": "features.4.branch_main.3.weight",
            "features.5.0.bn.running_var": "conv_last.1.running_var",
        }),
        (V2_TORCHVISION, "shufflenet_v2_x1_0", {"definition": "torchvision"}, {
            "features.3.0.proj.1.bn.beta": "stage3.0.branch1.3.bias",
            "features.4.3.branch.2.conv.weight": "stage4.3.branch2.5.weight",
            "output.bias": "fc.bias",
        }),
    ):  # fmt: skip
        net = get_model(model, **options)
        load_official(net, states[name])
        for ours, key in pairs.items():
            assert np.array_equal(net._collect_params_with_prefix()[ours].data().asnumpy(), states[name][key]), ours


@pytest.mark.parametrize(
    "model", ["shufflenet_v1_g8_x0_5", "shufflenet_v1_arch2_g3_x0_25", "shufflenet_v1_shallow_g3_x0_5"]
)
def test_keys_follow_the_units_of_every_network(model):
    net = get_model(model)
    state = made_up("megvii_v1", net)
    units = {int(key.split(".")[1]) for key in state if key.startswith("features.")}
    assert units == set(range(sum(net.table.rows[i].out != net.table.stem for i in range(len(net.table.rows)))))
    assert load_official(net, state) == "megvii_v1"


def test_a_bias_that_the_official_network_lacks_becomes_zero(states):
    net, plain = get_model("shufflenet_v1_g3_x1_0", classifier_bias=True), get_model("shufflenet_v1_g3_x1_0")
    x = mx.nd.array(detrand.images(1, 64, 0))
    for network in (net, plain):
        load_official(network, states[G3])
    np.testing.assert_array_equal(net(x).asnumpy(), plain(x).asnumpy())


# What does not fit


def test_weights_of_another_width_group_or_family_name_the_network(states):
    g8 = made_up("megvii_v1", get_model("shufflenet_v1_g8_x1_0"))
    assert "They fit get_model('shufflenet_v1_g8_x1_0')" in refused(get_model("shufflenet_v1_g3_x1_0"), g8)
    for model in ("shufflenet_v1_g3_x0_5", "shufflenet_v1_g8_x1_0", "shufflenet_v2_x1_0", "shufflenet_v1_se_g3_x2_0"):
        assert "They fit get_model('shufflenet_v1_g3_x1_0')" in refused(get_model(model), states[G3])
    assert "They fit get_model('shufflenet_v2_x1_0')" in refused(get_model("shufflenet_v1_g3_x1_0"), states[V2])
    assert "not recognized" in refused(get_model("mobilenet_v2"), states[V2])


def test_the_two_definitions_of_v2_refuse_each_others_weights(states):
    text = refused(get_model("shufflenet_v2_x1_0"), states[V2_TORCHVISION])
    assert "They fit get_model('shufflenet_v2_x1_0', definition='torchvision')." in text
    text = refused(get_model("shufflenet_v2_x1_0", definition="torchvision"), states[V2])
    assert "They fit get_model('shufflenet_v2_x1_0')." in text


def test_definitions_of_equal_shapes_are_told_apart():
    """At width 0.5 nothing but the classifier's bias differs, and that is an option."""
    megvii = get_model("shufflenet_v2_x0_5", classifier_bias=True)
    torchvision = get_model("shufflenet_v2_x0_5", definition="torchvision")
    states = [made_up("megvii_v2", megvii), made_up("torchvision", torchvision)]
    assert refused(megvii, states[1]).endswith("Build it with definition='torchvision'.")
    assert refused(torchvision, states[0]).endswith("Build it with definition='megvii'.")


def test_the_shuffle_of_the_paper_refuses_official_weights(states):
    text = refused(get_model("shufflenet_v1_g3_x1_0", shuffle="paper"), states[G3])
    assert "need shuffle='official', but shufflenet_v1_g3_x1_0 was built with shuffle='paper'" in text
    assert text.endswith("Build it with shuffle='official'.")


def test_options_against_the_definition_are_refused(states):
    text = refused(get_model("shufflenet_v1_g3_x1_0", bn_epsilon=1e-3, shuffle="paper"), states[G3])
    assert "bn_epsilon=1e-05" in text and "shuffle='official'" in text and "leave" not in text
    text = refused(get_model("shufflenet_v1_g3_x1_0", padding="same"), states[G3])
    assert text.endswith("Build it with padding='symmetric', or leave padding out.")


def test_other_classes_and_input_channels_are_explained(states):
    assert "classes=1000; net.reset_class(10)" in refused(get_model("shufflenet_v1_g3_x1_0", classes=10), states[G3])
    text = refused(get_model("shufflenet_v2_x1_0", definition="torchvision", classes=10), states[V2_TORCHVISION])
    assert "classes=1000; net.reset_class(10)" in text
    text = refused(get_model("shufflenet_v1_g3_x1_0", in_channels=1), states[G3])
    assert "Build the network with in_channels=3." in text


def test_missing_and_unexpected_keys_are_listed(states):
    state = dict(states[G3], **{"features.16.branch_main_2.0.weight": np.zeros((1, 1, 1, 1))})
    del state["classifier.0.weight"]
    text = refused(get_model("shufflenet_v1_g3_x1_0"), state)
    assert "missing: classifier.0.weight; unexpected: features.16.branch_main_2.0.weight" in text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(states, value):
    state = {key: array.copy() for key, array in states[G3].items()}
    for key in ("classifier.0.weight", "features.3.branch_main_1.4.running_var"):
        state[key].flat[-1] = value
    text = refused(get_model("shufflenet_v1_g3_x1_0"), state)
    assert re.search(r"damaged: .*features.3.branch_main_1.4.running_var, classifier.0.weight are finite", text)


def test_other_sources_refuse_them_too():
    state = official("torchvision_mobilenet_v3_small")
    state["classifier.3.bias"][7] = np.nan
    assert "classifier.3.bias" in refused(get_model("mobilenet_v3_small"), state)


# Preprocessing in files


def test_the_file_of_convert_keeps_the_preprocessing(states, tmp_path):
    np.savez(str(tmp_path / "g3.npz"), **states[G3])
    done = convert("shufflenet_v1_g3_x1_0", tmp_path / "g3.npz", tmp_path / "g3.params")
    assert done.preprocessing == RAW_BGR and done.options == {} and "BGR 0..255, not normalized" in str(done)
    net = get_model("shufflenet_v1_g3_x1_0", pretrained=done.path)
    assert net.preprocessing == RAW_BGR
    net = get_model("shufflenet_v1_g3_x1_0", pretrained=done.path, classes=10)
    assert (net.num_classes, net.preprocessing) == (10, RAW_BGR)
    # The mark is no option: without a network that wants it the file is loaded just the same.
    other = get_model("shufflenet_v1_g3_x1_0")
    other.load_parameters(done.path)
    assert other.preprocessing == RAW_BGR
    other.save_parameters(str(tmp_path / "again.params"))
    assert params.read(tmp_path / "again.params").preprocessing == RAW_BGR


def test_weights_of_another_preprocessing_replace_the_mark(states, tmp_path):
    np.savez(str(tmp_path / "v2.npz"), **states[V2_TORCHVISION])
    done = convert("shufflenet_v2_x1_0", tmp_path / "v2.npz", tmp_path / "v2.params", definition="torchvision")
    assert done.options == {"definition": "torchvision"} and "minus mean 123.675, 116.28, 103.53" in str(done)
    assert params.read(done.path).preprocessing == BILINEAR
    net = get_model("shufflenet_v2_x1_0", definition="torchvision")
    net.preprocessing = RAW_BGR
    net.load_parameters(done.path)
    assert net.preprocessing == BILINEAR
    net.preprocessing = RAW_BGR
    load_official(net, states[V2_TORCHVISION])
    assert net.preprocessing == BILINEAR


def test_the_usual_preprocessing_leaves_no_mark_in_files(tmp_path):
    net = get_model("idle_tiny")
    net.initialize()
    net.save_parameters(str(tmp_path / "w.params"))
    identity = mx.nd.load(str(tmp_path / "w.params"))[params.IDENTITY]
    assert b"preprocessing" not in identity.asnumpy().tobytes()
    grey = Preprocessing((77.9,), (82.5,))
    net.preprocessing = grey
    net.save_parameters(str(tmp_path / "w.params"))
    assert get_model("idle_tiny", pretrained=str(tmp_path / "w.params")).preprocessing == grey


def test_a_file_as_the_authors_save_it(states, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed (pip install '.[torch]')")
    state = {f"module.{key}": torch.tensor(value) for key, value in states[G3].items()}
    torch.save({"state_dict": state}, tmp_path / "1.0x-g3.pth.tar")
    done = convert("shufflenet_v1_g3_x1_0", tmp_path / "1.0x-g3.pth.tar", tmp_path / "g3.params", shuffle="none")
    assert (done.source, done.options, done.num_parameters) == ("megvii_v1", {"shuffle": "none"}, 1864728)
    assert get_model("shufflenet_v1_g3_x1_0", pretrained=done.path).definition()["shuffle"] == "none"
