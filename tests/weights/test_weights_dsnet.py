"""Checkpoints of DS-Net's authors: every tensor at its place, official logits at every width, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import detrand
import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.weights import convert, load_official
from gluon_effnets.weights.dsnet import DS_NET

COMMITTED = json.loads((Path(__file__).parents[1] / "fixtures" / "dsnet_supernet.json").read_text())
FOLDER = os.environ.get("GLUON_EFFNETS_PARITY")
needs_references = pytest.mark.skipif(not FOLDER, reason="GLUON_EFFNETS_PARITY is not set")


def official(data):
    """The state of a reference: the rule, `bn_scale` (a power of two for the statistics), and what is explicit."""
    state = {key: detrand.tensor(key, shape) for key, shape in data["state"]}
    for key, scale in data["bn_scale"].items():
        state[f"{key}.running_mean"] = state[f"{key}.running_mean"] * np.float32(scale)
        state[f"{key}.running_var"] = state[f"{key}.running_var"] * np.float32(scale**2)
    for key, value in data.get("explicit", {}).items():
        state[key] = np.array(value, np.float32).reshape(data["explicit_shape"][key])
    return state


@pytest.fixture(scope="module")
def state():
    return official(COMMITTED)


@pytest.fixture(scope="module")
def net(state):
    net = get_model("ds_mobilenet_v1")
    assert load_official(net, {f"module.{key}": value for key, value in state.items()}) == "ds_net"
    net.hybridize()
    return net


def first_logits(reference, net, logits=None):
    """Largest difference of the stored logits and of the mean of all, in standard deviations over the classes."""
    n = len(reference["first"])
    if logits is None:
        logits = net(mx.nd.array(detrand.images(**reference["input"])[:n]))
    ours, std = logits.asnumpy()[:n], np.array(reference["std"])
    differences = np.abs(ours[:, :20] - reference["first"]).max(axis=1)
    of_mean = np.abs(ours.mean(axis=1) - np.array(reference["sum"]) / 1000)
    return float((np.maximum(differences, of_mean) / std).max())


@pytest.mark.parametrize(("name", "index"), [("uniform00", 0), ("uniform13", 13)])
def test_official_logits_of_static_widths(net, name, index):
    assert first_logits(COMMITTED[name], net.subnet(index)) < 1e-4
    assert first_logits(COMMITTED[name], net.subnet(13 - index)) > 0.1


def test_official_logits_and_choices_of_routed_images(net):
    reference = COMMITTED["dynamic"]
    x = mx.nd.array(detrand.images(**reference["input"]))
    out = net.dynamic(x)
    assert first_logits(reference, None, out.logits) < 1e-4
    np.testing.assert_allclose(out.gate_logits.asnumpy()[:, 0], reference["gate_logits"], atol=1e-4)
    assert net.route(x).asnumpy().ravel().tolist() == reference["gate_choice"]
    # A sample sliced and alone.
    for i in (0, 1):
        alone = net.subnet(reference["gate_choice"][i])(x[i : i + 1])
        np.testing.assert_allclose(alone.asnumpy()[0], out.logits.asnumpy()[i], atol=1e-4 * reference["std"][i])


@needs_references
@pytest.mark.parametrize("name", ["uniform00", "uniform13", "dynamic"])
def test_all_official_logits(name):
    data = json.loads((Path(FOLDER) / f"dsmbnet_{name}.json").read_text())
    net, x = get_model("ds_mobilenet_v1"), mx.nd.array(detrand.images(**data["input"]))
    load_official(net, official(data))
    logits = (net.dynamic(x).logits if name == "dynamic" else net.subnet(data["choice"])(x)).asnumpy()
    reference = np.array(data["logits"])
    assert (np.abs(logits - reference).max(axis=1) / reference.std(axis=1)).max() < 1e-4


@pytest.mark.fast
def test_keys_and_shapes_are_all_of_the_838():
    net = get_model("ds_mobilenet_v1")
    ours = {key: tuple(param.shape) for key, param in DS_NET.keys(net).items()}
    theirs = {key: tuple(shape) for key, shape in COMMITTED["state"]}
    counters = {key for key in theirs if key.endswith("num_batches_tracked")}
    assert (len(theirs), len(counters)) == (838, 234)
    assert ours == {key: shape for key, shape in theirs.items() if key not in counters}
    assert set(DS_NET.keys(net).values()) == set(net.collect_params().values())


def test_every_tensor_arrives_where_it_belongs(net, state):
    params = net._collect_params_with_prefix()
    for ours, theirs in {
        "features.0.0.conv.weight": "conv_stem.weight",
        "features.0.0.bn.gamma": "bn1.aux_bn.1.weight",
        "features.0.0.bn.running_var": "bn1.aux_bn.1.running_var",
        "statistics.features.0.0.bn.16.running_mean": "bn1.aux_bn.0.running_mean",
        "features.3.0.depthwise.conv.weight": "blocks.3.first_block.conv_dw.weight",
        "features.3.0.se.expand.bias": "blocks.3.first_block.gate.conv_expand.bias",
        "gates.0.gate.weight": "blocks.3.first_block.gate.gate.0.weight",
        "statistics.features.3.0.pointwise.bn.224.running_var": "blocks.3.first_block.bn2.aux_bn.0.running_var",
        "statistics.features.3.5.pointwise.bn.608.running_var": "blocks.3.residual_blocks.4.bn2.aux_bn.12.running_var",
        "statistics.features.4.0.depthwise.bn.640.running_mean": None,
        "features.4.0.depthwise.bn.running_mean": "blocks.4.first_block.bn1.aux_bn.13.running_mean",
        "features.4.1.pointwise.bn.beta": "blocks.4.residual_blocks.0.bn2.aux_bn.13.bias",
        "output.weight": "classifier.weight",
    }.items():
        if theirs is None:
            assert ours not in params  # the largest width has the layer's own
        else:
            np.testing.assert_array_equal(params[ours].data().asnumpy(), state[theirs], err_msg=ours)


def refused(net, state):
    net.initialize()
    before = {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}
    with pytest.raises(ValueError) as error:
        load_official(net, state)
    assert all(np.array_equal(p.data().asnumpy(), before[k]) for k, p in net._collect_params_with_prefix().items())
    assert len(str(error.value).split("\n")) <= 3
    return str(error.value)


def test_what_does_not_fit_is_refused(state):
    text = refused(get_model("ds_mobilenet_v1", classes=10), state)
    assert "classes=1000; net.reset_class(10)" in text
    text = refused(get_model("ds_mobilenet_tiny"), state)
    assert "They fit get_model('ds_mobilenet_v1')." in text
    text = refused(get_model("ds_mobilenet_v1", num_candidates=3), state)
    assert "gate.gate.0.weight (4, 66) instead of (3, 66)" in text and "They fit get_model('ds_mobilenet_v1')." in text
    text = refused(get_model("ds_mobilenet_v1", gate_heads="separate"), state)
    assert "missing: gates.0.reduce.weight (ours)" in text
    text = refused(get_model("ds_mobilenet_v1", bn_epsilon=1e-3), state)
    assert text.endswith("Build it with bn_epsilon=1e-05, or leave bn_epsilon out.")
    cut = {key: value for key, value in state.items() if "aux_bn.5.running_var" not in key}
    assert "missing: blocks.3.first_block.bn2.aux_bn.5.running_var" in refused(get_model("ds_mobilenet_v1"), cut)
    damaged = {**state, "bn1.aux_bn.0.running_var": np.full(16, np.nan, np.float32)}
    assert "bn1.aux_bn.0.running_var are finite" in refused(get_model("ds_mobilenet_v1"), damaged)
    with pytest.raises(ValueError, match="do not fit mobilenet_v3_small"):
        load_official(get_model("mobilenet_v3_small"), state)


def test_candidates_elsewhere_take_the_same_weights(state):
    """The gate has as many outputs wherever its candidates begin."""
    net = get_model("ds_mobilenet_v1", first_candidate=10)
    load_official(net, state)
    reference = COMMITTED["dynamic"]
    x = mx.nd.array(detrand.images(**{**reference["input"], "n": 2}))
    assert net.route(x).asnumpy().ravel().tolist() == [10 + choice for choice in reference["gate_choice"][:2]]
    logits = net.dynamic(x).logits.asnumpy()
    for i, choice in enumerate(reference["gate_choice"][:2]):
        alone = net.subnet(10 + choice)(x[i : i + 1]).asnumpy()[0]
        np.testing.assert_allclose(logits[i], alone, atol=1e-4 * alone.std())


def test_convert_and_new_classes(state, net, tmp_path):
    np.savez(str(tmp_path / "ds.npz"), **state)
    done = convert("ds_mobilenet_v1", tmp_path / "ds.npz", tmp_path / "ds.params")
    assert (done.source, done.options) == ("ds_net", {})
    again = get_model("ds_mobilenet_v1", pretrained=done.path)
    x = mx.nd.array(detrand.images(1, 64, 0))
    np.testing.assert_allclose(again.subnet(5)(x).asnumpy(), net.subnet(5)(x).asnumpy(), rtol=1e-4, atol=1e-5)
    fewer = get_model("ds_mobilenet_v1", pretrained=done.path, classes=10)
    assert fewer.subnet(5)(x).shape == fewer.dynamic(x).logits.shape == (1, 10)
