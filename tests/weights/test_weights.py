"""Importing official checkpoints: recognition, refusals, adaptation of the network, files, and `convert`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import pkgutil

import detrand
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from references import official

from gluon_effnets import get_model, weights
from gluon_effnets.weights import convert, load_official, read_checkpoint
from gluon_effnets.weights.load import SOURCES
from gluon_effnets.weights.source import Source

pytestmark = pytest.mark.fast

NAMES = {
    "timm": "timm_mobilenetv3_large_100",
    "torchvision": "torchvision_mobilenet_v3_small",
    "lukemelas": "lukemelas_efficientnet-b0",
}


@pytest.fixture(scope="module")
def states():
    return {source: official(name) for source, name in NAMES.items()}


def made_up(source, net):
    """A state dict with the keys and shapes that `source` has for `net`."""
    chosen = next(candidate for candidate in SOURCES if candidate.name == source)
    return {key: np.full(param.shape, 0.1, np.float32) for key, param in chosen.keys(net).items()}


def forward(net, size=64):
    return net(mx.nd.array(detrand.images(1, size, 0))).asnumpy()


def epsilons(net):
    found = set()

    def look(block):
        if isinstance(block, nn.BatchNorm):
            found.add(block._kwargs["eps"])

    net.apply(look)
    return found


def refused(net, state, source=None):
    """The text of the ValueError, after checking that it is short and that the network was not touched."""
    if net.output.weight._data is None:
        net.initialize()
    before = {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}
    eps = epsilons(net)
    with pytest.raises(ValueError) as error:
        load_official(net, state, source)
    for key, param in net._collect_params_with_prefix().items():
        assert np.array_equal(param.data().asnumpy(), before[key]), key
    assert epsilons(net) == eps
    assert len(str(error.value).split("\n")) <= 3
    return str(error.value)


# Recognition


def test_every_source_of_the_modules_is_known():
    modules = [importlib.import_module(f"{weights.__name__}.{m.name}") for m in pkgutil.iter_modules(weights.__path__)]
    defined = {value.name for module in modules for value in vars(module).values() if isinstance(value, Source)}
    assert defined == {source.name for source in SOURCES}, "an importer is used once it is in SOURCES (weights/load.py)"


@pytest.mark.parametrize("source, model", [("torchvision", "mobilenet_v3_small"), ("lukemelas", "efficientnet_b0")])
def test_the_repository_is_recognised_by_its_keys(states, source, model):
    assert load_official(get_model(model), states[source]) == source


def test_every_tensor_arrives_where_it_belongs(states):
    net = get_model("mobilenet_v3_large")
    load_official(net, states["timm"], "timm")
    for ours, key in {
        "features.0.0.bn.running_var": "bn1.running_var",
        "features.0.1.project.conv.weight": "blocks.0.0.conv_pw.weight",
        "features.4.1.se.reduce.bias": "blocks.5.1.se.conv_reduce.bias",
        "features.5.2.bias": "conv_head.bias",
    }.items():
        param = net._collect_params_with_prefix()[ours]
        assert np.array_equal(param.data().asnumpy().ravel(), states["timm"][key].ravel())


def test_wrappers_prefixes_and_bookkeeping_are_dropped(states):
    wrapped = {f"module._orig_mod.{key}": value for key, value in states["torchvision"].items()}
    wrapped["n_averaged"] = np.array(7)
    net = get_model("mobilenet_v3_small")
    assert load_official(net, wrapped) == "torchvision"


def test_arrays_of_mxnet_and_float64_are_taken(states):
    net = get_model("mobilenet_v3_small")
    state = {key: value.astype(np.float64) for key, value in states["torchvision"].items()}
    state["classifier.3.bias"] = mx.nd.array(np.arange(1000))
    load_official(net, state)
    assert net.output.bias.data().dtype == np.float32
    assert np.array_equal(net.output.bias.data().asnumpy(), np.arange(1000))


def test_the_dtype_and_the_contexts_of_an_initialized_network_stay(states):
    net = get_model("mobilenet_v3_small")
    net.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    net.cast("float16")
    load_official(net, states["torchvision"])
    assert net.output.bias.list_ctx() == [mx.cpu(0), mx.cpu(1)]
    for bias in net.output.bias.list_data():
        assert np.array_equal(bias.asnumpy(), states["torchvision"]["classifier.3.bias"].astype(np.float16))


def test_an_unknown_layout_is_refused_with_its_keys_and_the_known_sources():
    text = refused(get_model("mobilenet_v3_small"), {"state_dict": {}, "epoch": 3})
    assert "state_dict, epoch" in text and "timm, timm_tf, torchvision, lukemelas, gluoncv" in text


def test_an_unknown_source_and_a_network_without_importer_are_refused(states):
    assert "choose one of timm" in refused(get_model("mobilenet_v3_large"), states["timm"], "keras")
    other = nn.Dense(3, in_units=2)
    with pytest.raises(ValueError, match="no importer of official weights for Dense"):
        load_official(other, states["timm"])


def test_our_own_file_is_sent_to_get_model():
    net = get_model("mobilenet_v3_small")
    net.initialize()
    own = {key: param.data() for key, param in net._collect_params_with_prefix().items()}
    assert "get_model(NAME, pretrained=PATH)" in refused(net, own)


def test_a_list_is_no_state():
    with pytest.raises(ValueError, match="not a mapping"):
        load_official(get_model("mobilenet_v3_small"), [np.zeros(3)])


# What does not fit


def test_missing_and_unexpected_keys_are_listed_with_their_number(states):
    state = dict(states["timm"])
    for key in ("conv_head.bias", "bn1.weight", "bn1.bias", "blocks.1.1.bn2.running_mean"):
        del state[key]
    state["blocks.9.0.conv.weight"] = np.zeros((1, 1, 1, 1))
    text = refused(get_model("mobilenet_v3_large"), state)
    assert "missing: bn1.weight, bn1.bias, blocks.1.1.bn2.running_mean and 1 more" in text
    assert "unexpected: blocks.9.0.conv.weight" in text


def test_a_shape_that_no_option_gives_is_listed(states):
    state = dict(states["timm"], **{"blocks.2.0.conv_dw.weight": np.zeros((72, 1, 3, 3))})
    text = refused(get_model("mobilenet_v3_large"), state)
    assert "other shape: blocks.2.0.conv_dw.weight (72, 1, 3, 3) instead of (72, 1, 5, 5)" in text
    assert "of another source, or of none of the models known of timm" in text


def test_a_value_that_is_no_array_is_refused(states):
    # The last parameter of all: those before it must not be written either.
    state = dict(states["timm"], **{"classifier.bias": np.array(["x"] * 1000)})
    assert "classifier.bias in the state holds no numbers" in refused(get_model("mobilenet_v3_large"), state)
    refused(get_model("mobilenet_v3_large"), dict(states["timm"], **{"bn1.weight": None}))


def test_weights_of_another_model_name_it(states):
    text = refused(get_model("mobilenet_v3_large"), states["torchvision"])
    assert "get_model('mobilenet_v3_small')" in text
    assert "get_model('efficientnet_b0')" in refused(get_model("mobilenet_v3_small"), states["lukemelas"])


@pytest.mark.parametrize("model", ["idle_mbv3", "idle_mbv3_maximum"])
def test_idleblock_networks_refuse_the_weights_of_their_baseline(states, model):
    assert "get_model('mobilenet_v3_large')" in refused(get_model(model), states["timm"])


def test_another_number_of_classes_says_how_to_keep_both(states):
    text = refused(get_model("mobilenet_v3_large", classes=10), states["timm"])
    assert "classes=1000; net.reset_class(10)" in text
    net = get_model("mobilenet_v3_large", classes=1000)
    load_official(net, states["timm"], "timm")
    net.reset_class(10)
    assert forward(net).shape == (1, 10)


def test_options_that_explain_the_shapes_are_named(states):
    text = refused(get_model("mobilenet_v3_small", head_hidden=1280), states["torchvision"])
    assert "Build the network with head_hidden=1024." in text
    text = refused(get_model("mobilenet_v3_large", in_channels=1), states["timm"])
    assert "Build the network with in_channels=3." in text
    text = refused(get_model("mobilenet_v3_large", se_rounding="exact"), states["timm"])
    assert "Build the network with se_rounding='nearest'." in text
    text = refused(get_model("efficientnet_b0", se_rounding="ceil"), states["lukemelas"])
    assert "Build the network with se_rounding='exact'." in text


def test_several_options_are_named_together():
    state = made_up("timm", get_model("mobilenet_v3_small", classes=7, in_channels=1))
    text = refused(get_model("mobilenet_v3_small", head_hidden=1280), state)
    for option in ("classes=7", "in_channels=1", "head_hidden=1024"):
        assert option in text
    assert "get_model('mobilenet_v3_small', " in refused(get_model("mobilenet_v3_large"), state)


# What a definition fixes without a parameter


@pytest.mark.parametrize(
    "source, model, epsilon, padding",
    [
        ("timm", "mobilenet_v3_small", 1e-5, "symmetric"),
        ("timm_tf", "mobilenet_v3_small", 1e-3, "same"),
        ("timm_tf", "efficientnet_b0", 1e-3, "same"),
        ("torchvision", "mobilenet_v3_small", 1e-3, "symmetric"),
        ("torchvision", "efficientnet_b0", 1e-5, "symmetric"),
        ("lukemelas", "efficientnet_b0", 1e-3, "same"),
        ("gluoncv", "mobilenet_v3_small", 1e-5, "symmetric"),
    ],
)
def test_open_options_take_the_values_of_the_source(source, model, epsilon, padding):
    net, explicit = get_model(model), get_model(model, bn_epsilon=epsilon, padding=padding)
    state = {
        key: detrand.tensor(key, value.shape) if source != "gluoncv" else value
        for key, value in made_up(source, net).items()
    }
    for network in (net, explicit):
        assert load_official(network, state, source) == source
    assert epsilons(net) == {epsilon}
    assert np.array_equal(forward(net), forward(explicit))
    # ... and the padding tells in the result.
    other = get_model(model, bn_epsilon=epsilon, padding="symmetric" if padding == "same" else "same")
    mapping = other._collect_params_with_prefix()
    other.initialize()
    for key, param in net._collect_params_with_prefix().items():
        mapping[key].set_data(param.data())
    assert source == "gluoncv" or not np.allclose(forward(other), forward(net), rtol=1e-3)


@pytest.mark.parametrize("flags", [{}, {"static_alloc": True, "static_shape": True}])
def test_a_hybridized_network_follows_and_keeps_its_flags(states, flags):
    net, fresh = get_model("efficientnet_b0"), get_model("efficientnet_b0")
    net.initialize()
    net.hybridize(**flags)
    before = forward(net)
    active, kept = net._active, list(net._flags)
    load_official(net, states["lukemelas"])
    load_official(fresh, states["lukemelas"])
    assert (net._active, net._flags) == (active, kept)
    after = forward(net)
    assert net._cached_op is not None
    np.testing.assert_allclose(after, forward(fresh), rtol=1e-4, atol=1e-4 * after.std())
    assert not np.allclose(after, before)


def test_a_hybridized_part_of_a_network_follows_too(states):
    net, fresh = get_model("efficientnet_b0"), get_model("efficientnet_b0")
    net.initialize()
    net.features.hybridize()
    forward(net)
    load_official(net, states["lukemelas"])
    load_official(fresh, states["lukemelas"])
    after = forward(net)
    np.testing.assert_allclose(after, forward(fresh), rtol=1e-4, atol=1e-4 * after.std())


def test_a_second_import_adapts_again():
    net = get_model("mobilenet_v3_small")
    state = made_up("timm", net)
    load_official(net, state, "timm_tf")
    load_official(net, state, "timm")
    plain = get_model("mobilenet_v3_small", bn_epsilon=1e-5, padding="symmetric")
    load_official(plain, state)
    assert epsilons(net) == {1e-5}
    assert np.array_equal(forward(net), forward(plain))


@pytest.mark.parametrize(
    "source, model, options, advice",
    [
        (
            "torchvision",
            "mobilenet_v3_small",
            {"bn_epsilon": 1e-5},
            "Build it with bn_epsilon=0.001, or leave",
        ),
        (
            "torchvision",
            "mobilenet_v3_small",
            {"padding": "same"},
            "Build it with padding='symmetric', or leave",
        ),
        ("lukemelas", "efficientnet_b0", {"padding": "symmetric"}, "Build it with padding='same', or leave"),
        ("timm_tf", "mobilenet_v3_large", {"bn_epsilon": 1e-5}, "Build it with bn_epsilon=0.001, or leave"),
    ],
)
def test_an_explicit_option_against_the_source_is_refused(states, source, model, options, advice):
    state = states["timm" if source == "timm_tf" else source]
    assert advice in refused(get_model(model, **options), state, source)


@pytest.mark.parametrize(
    "options, epsilon, source",
    [
        ({"bn_epsilon": 1e-3, "padding": "same"}, 1e-3, "timm_tf"),
        ({"padding": "same"}, 1e-3, "timm_tf"),  # no weights of timm have it with 1e-5
        ({"bn_epsilon": 1e-5}, 1e-5, "timm"),
        ({"bn_epsilon": 2e-5, "padding": "symmetric"}, 2e-5, "timm"),
    ],
)
def test_explicit_options_tell_which_of_timms_definitions_it_is(states, options, epsilon, source):
    net = get_model("mobilenet_v3_large", **options)
    assert load_official(net, states["timm"]) == source
    assert epsilons(net) == {epsilon}


@pytest.mark.parametrize("options", [{}, {"bn_epsilon": 2e-5}])
def test_keys_with_two_readings_are_a_question(states, options):
    text = refused(get_model("mobilenet_v3_large", **options), states["timm"])
    for reading in ("'timm' (bn_epsilon=1e-05, padding='symmetric')", "'timm_tf' (bn_epsilon=0.001, padding='same')"):
        assert f"source={reading}" in text
    assert "--source NAME" in text


def test_the_missing_bias_of_gluoncv_becomes_zero():
    net = get_model("mobilenet_v3_small", head_hidden=1280)
    net.initialize(mx.init.One())
    net.features[-1][2].bias.set_data(mx.nd.ones(1280))
    state = made_up("gluoncv", net)
    assert load_official(net, state) == "gluoncv"
    assert not net.features[-1][2].bias.data().asnumpy().any()
    assert "head_hidden=1280" in refused(get_model("mobilenet_v3_small"), state)


# Files


@pytest.fixture
def tensors():
    return {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7, "b": np.array([1.5], np.float32)}


def same(read, tensors):
    assert list(read) == list(tensors)
    for key, value in tensors.items():
        assert read[key].dtype == np.float32
        assert np.array_equal(read[key], value), key


def test_npz_and_params_are_read(tensors, tmp_path):
    np.savez(str(tmp_path / "x.npz"), **tensors)
    same(read_checkpoint(tmp_path / "x.npz"), tensors)
    mx.nd.save(str(tmp_path / "x.params"), {key: mx.nd.array(value) for key, value in tensors.items()})
    same(read_checkpoint(str(tmp_path / "x.params")), tensors)


def test_half_precision_becomes_float32(tmp_path):
    halves = {"a": np.array([0.5, 2.0], np.float16), "count": np.array([3])}
    np.savez(str(tmp_path / "x.npz"), **halves)
    read = read_checkpoint(tmp_path / "x.npz")
    assert read["a"].dtype == np.float32 and read["a"].tolist() == [0.5, 2.0]
    assert read["count"].dtype == halves["count"].dtype
    mx.nd.save(str(tmp_path / "x.params"), {"a": mx.nd.array([0.5, 2.0], dtype="float16")})
    assert read_checkpoint(tmp_path / "x.params")["a"].dtype == np.float32


def test_safetensors_are_read_in_all_floating_types(tmp_path):
    pytest.importorskip("safetensors")
    # By hand, as NumPy has no bfloat16: 1.5 and -2 are the upper halves of 0x3FC00000 and 0xC0000000.
    halves, floats = np.array([0x3FC0, 0xC000], "<u2"), np.array([1.5, -2])
    header = json.dumps(
        {
            "bf16": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
            "f16": {"dtype": "F16", "shape": [1, 2], "data_offsets": [4, 8]},
            "f32": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
        }
    ).encode()
    content = halves.tobytes() + floats.astype("<f2").tobytes() + floats.astype("<f4").tobytes()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content)
    read = read_checkpoint(tmp_path / "x.safetensors")
    assert sorted(read) == ["bf16", "f16", "f32"]
    for value in read.values():
        assert value.dtype == np.float32 and value.ravel().tolist() == [1.5, -2.0]
    assert read["f16"].shape == (1, 2)


@pytest.mark.parametrize("ending", ["npz", "params", "safetensors"])
def test_a_damaged_file_is_refused(ending, tmp_path):
    if ending == "safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"x.{ending}"
    for content in (b"", b"<html>not found</html>"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a complete"):
            read_checkpoint(path)


def test_a_truncated_npz_is_refused(tensors, tmp_path):
    np.savez(str(tmp_path / "x.npz"), **tensors)
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="not a complete"):
        read_checkpoint(tmp_path / "x.npz")


class Touch:
    """Pickled, it creates a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_in_an_npz_does_not_run(tmp_path):
    np.savez(str(tmp_path / "x.npz"), a=np.array([Touch(tmp_path / "ran")], object))
    with pytest.raises(ValueError, match="not a complete"):
        read_checkpoint(tmp_path / "x.npz")
    assert not (tmp_path / "ran").exists()


def test_wrong_names_and_contents_are_refused(tensors, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "none.npz")
    (tmp_path / "x.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="unknown kind of file"):
        read_checkpoint(tmp_path / "x.h5")
    mx.nd.save(str(tmp_path / "x.params"), [mx.nd.ones(1)])
    with pytest.raises(ValueError, match="arrays without names"):
        read_checkpoint(tmp_path / "x.params")
    np.savez(str(tmp_path / "x.npz"))
    with pytest.raises(ValueError, match="no tensors but nothing"):
        read_checkpoint(tmp_path / "x.npz")
    np.savez(str(tmp_path / "x.npz"), **tensors)
    with pytest.raises(ValueError, match="no EMA weights"):
        read_checkpoint(tmp_path / "x.npz", ema=True)


@pytest.mark.parametrize("ending", ["pth", "pt", "pth.tar", "bin"])
@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
def test_pytorch_files_are_unwrapped(tensors, tmp_path, ending, wrap):
    torch = pytest.importorskip("torch")
    state = {key: torch.from_numpy(value) for key, value in tensors.items()}
    content = state if wrap is None else {wrap: state, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, str(tmp_path / f"x.{ending}"))
    same(read_checkpoint(tmp_path / f"x.{ending}"), tensors)


@pytest.mark.parametrize("key, ema_key", [("state_dict", "state_dict_ema"), ("model", "model_ema")])
def test_the_moving_average_is_chosen_and_mentioned(tmp_path, caplog, key, ema_key):
    torch = pytest.importorskip("torch")
    path = str(tmp_path / "x.pth")
    torch.save({key: {"a": torch.zeros(1)}, ema_key: {"a": torch.ones(1)}}, path)
    assert read_checkpoint(path)["a"].tolist() == [0]
    assert ema_key in caplog.text
    caplog.clear()
    assert read_checkpoint(path, ema=True)["a"].tolist() == [1]
    assert not caplog.text
    torch.save({ema_key: {"a": torch.ones(1)}}, path)
    with pytest.raises(ValueError, match="ema=True"):
        read_checkpoint(path)


def test_torch_bfloat16_and_parameters_become_float32(tmp_path):
    torch = pytest.importorskip("torch")
    path = str(tmp_path / "x.pth")
    parameter = torch.nn.Parameter(torch.tensor([1.5, -2.0]))
    torch.save({"a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16), "b": parameter}, path)
    for value in read_checkpoint(path).values():
        assert value.dtype == np.float32 and value.tolist() == [1.5, -2.0]


def test_a_malicious_pytorch_file_is_refused_and_does_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pth"
    torch.save({"state_dict": Touch(tmp_path / "ran")}, str(path))
    with pytest.raises(ValueError, match="refused.*mkdir"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps({"a": Touch(tmp_path / "ran")}))
    with pytest.raises(ValueError):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_network_and_a_damaged_file_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pth"
    torch.save(torch.nn.Linear(2, 2), str(path))
    with pytest.raises(ValueError, match="refused.*Linear"):
        read_checkpoint(path)
    content = path.read_bytes()
    for damaged in (b"", b"<html>not found</html>", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a complete PyTorch file"):
            read_checkpoint(path)
    torch.save({"epoch": 3, "optimizer": {}}, str(path))
    with pytest.raises(ValueError, match="no tensors but epoch, optimizer"):
        read_checkpoint(path)


# convert


def test_convert_writes_what_load_official_gives(states, tmp_path):
    np.savez(str(tmp_path / "b0.npz"), **states["lukemelas"])
    out = tmp_path / "new" / "b0.params"
    report = convert("efficientnet_b0", tmp_path / "b0.npz", out)
    assert report.source == "lukemelas" and report.num_parameters == 5288548
    assert report.options == {"bn_epsilon": 1e-3, "padding": "same"}
    loading = str(report).split("\n")[1].strip()
    net = eval(loading, {"get_model": get_model})
    direct = get_model("efficientnet_b0")
    load_official(direct, states["lukemelas"])
    assert np.array_equal(forward(net), forward(direct))
    assert [path.name for path in out.parent.iterdir()] == ["b0.params"]


def test_convert_takes_the_classes_of_the_checkpoint(tmp_path):
    state = made_up("timm", get_model("mobilenet_v3_small", classes=7))
    np.savez(str(tmp_path / "x.npz"), **state)
    report = convert("mobilenet_v3_small", tmp_path / "x.npz", tmp_path / "x.params", source="timm")
    assert report.options == {"classes": 7}
    assert get_model("mobilenet_v3_small", str(tmp_path / "x.params"), classes=7).num_classes == 7
    with pytest.raises(ValueError, match="classes=7"):
        convert("mobilenet_v3_small", tmp_path / "x.npz", tmp_path / "x.params", classes=9)


def test_convert_reports_the_options_it_was_given(tmp_path):
    state = made_up("gluoncv", get_model("mobilenet_v3_small", head_hidden=1280))
    mx.nd.save(str(tmp_path / "x.params"), {key: mx.nd.array(value) for key, value in state.items()})
    report = convert("mobilenet_v3_small", tmp_path / "x.params", tmp_path / "y.params", head_hidden=1280)
    assert (report.source, report.options) == ("gluoncv", {"head_hidden": 1280})
    state = made_up("timm", get_model("mobilenet_v3_large"))
    np.savez(str(tmp_path / "x.npz"), **state)
    report = convert("mobilenet_v3_large", tmp_path / "x.npz", tmp_path / "z.params", source="timm_tf")
    assert (report.source, report.options) == ("timm_tf", {"bn_epsilon": 1e-3, "padding": "same"})
    plain = convert("mobilenet_v3_large", tmp_path / "x.npz", tmp_path / "z.params", source="timm")
    assert plain.options == {} and "these options" not in str(plain)


def test_a_refused_conversion_leaves_the_old_file(states, tmp_path):
    np.savez(str(tmp_path / "x.npz"), **states["lukemelas"])
    (tmp_path / "x.params").write_bytes(b"old")
    with pytest.raises(ValueError, match="get_model\\('efficientnet_b0'\\)"):
        convert("mobilenet_v3_large", tmp_path / "x.npz", tmp_path / "x.params")
    assert (tmp_path / "x.params").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npz", "x.params"]
