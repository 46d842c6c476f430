"""The way back: what is written with official names has their keys, shapes and numbers, and comes back as it was."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
import references
from references import OF_LIBRARIES, OF_MOBILENEXT, official

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.models import Card, Preprocessing
from gluon_effnets.weights import convert, load_official, official_weights, read_checkpoint, write_official
from gluon_effnets.weights.load import SOURCES
from gluon_effnets.weights.official import targets

pytestmark = pytest.mark.fast
ALL = {**OF_LIBRARIES, **OF_MOBILENEXT}
# Networks that no published weights are of.
NO_WAY_BACK = {"shufflenetv1_arch2_g8_0.5x_tensorpack", "shufflenetv1_g1_1.0x"}
NAMES = [name for name in references.present(ALL) if name not in NO_WAY_BACK]


@pytest.mark.parametrize("name", NAMES)
def test_the_official_state_comes_back_key_by_key(name):
    reference, state = ALL[name], official(name)
    net = get_model(reference.model, **reference.options)
    assert reference.source in targets(net)
    load_official(net, state, reference.source)
    written = official_weights(net, reference.source)
    ignored = next(source.ignores for source in SOURCES if source.name == reference.source)
    state = {key: value for key, value in state.items() if not key.startswith(ignored)}  # which no network uses
    assert set(written) == set(state)
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            assert written[key].shape == value.shape and np.array_equal(written[key], value), key


def filled(name, **options):
    net = get_model(name, **options)
    net.initialize()
    return net


@pytest.mark.parametrize("ending", ["safetensors", "npz", "pth"])
def test_files_are_read_back(tmp_path, ending):
    if ending == "pth":
        pytest.importorskip("torch")
    net = filled("mobilenet_v3_small", classes=5)
    load_official(net, official_weights(net, "timm"), "timm")
    done = write_official(net, tmp_path / f"x.{ending}", "timm")
    again = get_model("mobilenet_v3_small", classes=5)
    assert load_official(again, read_checkpoint(tmp_path / f"x.{ending}"), "timm") == "timm"
    for key, param in net._collect_params_with_prefix().items():
        assert np.array_equal(param.data().asnumpy(), again._collect_params_with_prefix()[key].data().asnumpy()), key
    assert "not compared: " in str(done) or "its logits are ours" in str(done)
    assert [path.name for path in tmp_path.iterdir()] == [f"x.{ending}"]


def test_our_own_names_need_nobody_elses_network(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    net = filled("idle_mbv3", classes=3)
    net.classes = ["ant", "bee", "wasp"]
    write_official(net, tmp_path / "x.safetensors", "safetensors")
    with safetensors.safe_open(tmp_path / "x.safetensors", "np") as file:
        assert set(file.keys()) == set(net._collect_params_with_prefix())
        assert json.loads(file.metadata()["classes"]) == net.classes
        assert json.loads(file.metadata()["identity"]) == net.identity


@pytest.mark.parametrize("ending", ["safetensors", "npz", "pth"])
def test_files_with_our_own_names_become_params_again(tmp_path, ending):
    if ending != "npz":
        pytest.importorskip("torch" if ending == "pth" else "safetensors")
    told = ending == "safetensors"  # the others hold nothing but arrays
    options = {"classes": 3, **({"bn_epsilon": 0.01} if told else {})}
    net = filled("idle_mbv3_small", **options)
    net.card = Card(["ant", "bee", "wasp"], Preprocessing((127.0,) * 3, (128.0,) * 3), {"license": "MIT"})
    write_official(net, tmp_path / f"x.{ending}", "safetensors")
    convert("idle_mbv3_small", tmp_path / f"x.{ending}", tmp_path / "again.params")
    again = get_model("idle_mbv3_small", weights=tmp_path / "again.params")
    assert again.identity == net.identity
    assert again.card == (net.card if told else Card())
    x = mx.nd.random.normal(shape=(1, 3, 64, 64))
    assert np.array_equal(net(x).asnumpy(), again(x).asnumpy())


def test_own_names_of_another_network_are_refused(tmp_path):
    pytest.importorskip("safetensors")
    write_official(filled("idle_mbv3_small", classes=3), tmp_path / "x.safetensors", "safetensors")
    with pytest.raises(ValueError, match="x.safetensors holds the weights of idle_mbv3_small, not of idle_mbv3$"):
        convert("idle_mbv3", tmp_path / "x.safetensors", tmp_path / "x.params")
    assert not (tmp_path / "x.params").exists()


@pytest.mark.parametrize(
    "name, options, target, text",
    [
        ("idle_mbv3", {}, "timm", "cannot be written with the names of 'timm'; choose safetensors"),
        ("mobilenet_v3_small", {}, "keras", "choose timm, timm_tf, torchvision"),
        ("mobilenet_v3_small", {"padding": "same"}, "timm", "padding='same' in place of 'symmetric'"),
        ("mobilenet_v3_small", {}, "torchvision", "bn_epsilon=1e-05 in place of 0.001"),
        ("shufflenet_v1_g3_x0_5", {"classifier_bias": True}, "megvii_v1", "has no .*bias, which is not 0 here"),
    ],
)
def test_what_the_other_network_does_not_do_is_refused(tmp_path, name, options, target, text):
    net = filled(name, **options)
    if "shufflenet" in name:
        net.output.bias.set_data(net.output.bias.data() + 1)
    with pytest.raises(ValueError, match=text):
        write_official(net, tmp_path / "x.npz", target)
    assert not list(tmp_path.iterdir())


class Theirs:
    """Stands for an official network: it gives our logits, and adds something to them."""

    def __init__(self, net, error):
        self.net, self.error = net, error

    def load_state_dict(self, state):
        assert state["conv_stem.weight"].shape == (16, 3, 3, 3)

    def eval(self):
        return self

    def __call__(self, images):
        import torch

        return torch.from_numpy(self.net(mx.nd.array(images.numpy())).asnumpy() + self.error)


def test_the_official_network_is_asked_where_it_is_installed(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    net = filled("mobilenet_v3_small")
    monkeypatch.setattr("gluon_effnets.weights.official._official_network", lambda *rest: (Theirs(net, 0), ""))
    assert "its logits are ours to 0.0e+00" in str(write_official(net, tmp_path / "x.npz", "timm"))
    monkeypatch.setattr("gluon_effnets.weights.official._official_network", lambda *rest: (Theirs(net, 1), ""))
    with pytest.raises(ValueError, match="the network of timm gives other logits"):
        write_official(net, tmp_path / "y.npz", "timm")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_the_command_writes_back(tmp_path, capsys):
    filled("mobilenet_v2_x0_35", classes=4).save_parameters(str(tmp_path / "a.params"))
    arguments = [
        "convert",
        "--model",
        "mobilenet_v2_x0_35",
        str(tmp_path / "a.params"),
        str(tmp_path / "a.safetensors"),
    ]
    assert main([*arguments, "--to", "torchvision"]) == 0
    assert "314 tensors with the names of torchvision" in capsys.readouterr().out
    assert main([*arguments[:-1], str(tmp_path / "a.txt"), "--to", "torchvision"]) == 1
    assert ".safetensors, .npz, .pth" in capsys.readouterr().err
