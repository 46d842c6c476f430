"""What the weights of every source want done to images, and which of two sources with the same keys they are of."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.models.preprocessing import Preprocessing
from gluon_effnets.weights import convert, load_official, read_checkpoint
from gluon_effnets.weights.load import SOURCES

pytestmark = pytest.mark.fast

TORCH = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "rgb")
TENSORFLOW = ((127.5,) * 3, (127.5,) * 3, "rgb")
LITE = ((127.0,) * 3, (128.0,) * 3, "rgb")
RAW_BGR = ((0.0,) * 3, (1.0,) * 3, "bgr")
GLUONCV = ((123.68, 116.779, 103.939), (58.393, 57.12, 57.375), "rgb")
CIFAR = ((125.307, 123.012, 113.9085), (63.0105, 62.0925, 66.708), "rgb")
USUAL, BICUBIC = ("pillow_bilinear", 0.875, 224), ("pillow_bicubic", 0.875, 224)
OPEN = (None, None, None)
CONDENSED = {"condensed": True, "condensed_classifier": True}
# timm: its default_cfgs; torchvision: the transforms of IMAGENET1K_V1; all others: the evaluation of the repository.
WANTED = [
    ("timm", "mobilenet_v3_large", {}, (*TORCH, *BICUBIC)),
    ("timm", "efficientnet_b0", {}, (*TORCH, *BICUBIC)),
    ("timm", "mobilenet_v2_x0_5", {}, (*TORCH, *BICUBIC)),
    ("timm_tf", "mobilenet_v3_small", {}, (*TENSORFLOW, *USUAL)),
    ("timm_tf", "efficientnet_b0", {}, (*TORCH, *BICUBIC)),
    ("torchvision", "mobilenet_v3_large", {}, (*TORCH, *USUAL)),
    ("torchvision", "efficientnet_b0", {}, (*TORCH, *BICUBIC)),
    ("torchvision", "mobilenet_v2_x1_0", {}, (*TORCH, *USUAL)),
    ("torchvision", "shufflenet_v2_x0_5", {"definition": "torchvision"}, (*TORCH, *USUAL)),
    ("lukemelas", "efficientnet_b0", {}, (*TORCH, "pillow_bicubic", 1.0, 224)),
    ("lukemelas", "efficientnet_lite1", {}, (*LITE, "pillow_bicubic", 240 / 272, 240, True)),
    ("timm_tf", "efficientnet_lite1", {}, (*TENSORFLOW, "pillow_bicubic", 0.882, 240)),
    ("tflite", "mobilenet_v1_x0_25", {"act": "relu6"}, (*TENSORFLOW, *USUAL)),
    ("tflite", "efficientnet_lite0", {}, (*LITE, "pillow_bicubic", 0.875, 224, True)),
    ("gluoncv", "mobilenet_v3_large", {}, (*GLUONCV, *OPEN)),
    ("mobilenet_v2_extra", "mobilenet_v2_extra_dw", {}, (*TORCH, *USUAL)),
    ("mobilenet_v2_extra_linear", "mobilenet_v2_extra_dw", {"extra_act": None}, (*TORCH, *USUAL)),
    ("mobilenext_low_shortcut", "mobilenext_low_shortcut", {}, (*TORCH, *USUAL)),
    ("mobilenext", "mobilenext_x0_35", {}, (*TORCH, *USUAL)),
    ("mobilenext_fig4c", "mobilenext_fig4c", {}, (*TORCH, *USUAL)),
    ("mobilenext_se", "mobilenext_s", {}, (*TORCH, *OPEN)),
    ("megvii_v1", "shufflenet_v1_g3_x0_5", {}, (*RAW_BGR, *OPEN)),
    ("megvii_v2", "shufflenet_v2_x0_5", {}, (*RAW_BGR, *OPEN)),
    ("condensenet", "condensenet_74_c8", {}, (*TORCH, *USUAL)),
    ("condensenet", "cifar_condensenet_50", {}, (*CIFAR, None, 1.0, 32)),
    ("condensenet_converted", "cifar_condensenet_50", CONDENSED, (*CIFAR, None, 1.0, 32)),
    ("condensenetv2", "condensenet_v2_a", {}, (*TORCH, *BICUBIC)),
    ("condensenetv2", "condensenet_v2_c", {}, (*TORCH, *USUAL)),
    ("condensenetv2_converted", "condensenet_v2_b", {"condensed": True}, (*TORCH, *BICUBIC)),
    ("ds_net", "ds_mobilenet_v1", {}, (*TORCH, *OPEN)),
]


def found(name, net):
    return next(source for source in SOURCES if source.name == name and isinstance(net, source.network))


def made_up(name, net):
    """The keys and shapes that a source without translations has for a network."""
    return {key: np.full(param.shape, 0.1, np.float32) for key, param in found(name, net).keys(net).items()}


def test_no_source_is_forgotten():
    # Detectors are built for their images, and take theirs from no importer.
    of_networks = {source.name for source in SOURCES if source.make is get_model}
    assert of_networks == {name for name, *_ in WANTED}


@pytest.mark.parametrize("name, model, options, wanted", WANTED)
def test_every_source_has_the_preprocessing_of_its_evaluation(name, model, options, wanted, tmp_path):
    net = get_model(model, **options)
    source = found(name, net)
    assert source.preprocessing(net, source.definition(net)) == Preprocessing(*wanted)
    if source.translations(net):
        return  # whose tensors cannot be made up; tests of their own import them
    np.savez(str(tmp_path / "official.npz"), **made_up(name, net))
    done = convert(model, tmp_path / "official.npz", tmp_path / "w.params", source=name, **options)
    again = get_model(model, pretrained=done.path)
    assert again.preprocessing == done.preprocessing == Preprocessing(*wanted) and again.classes is None


def test_keys_that_two_sources_recognise_are_a_question():
    """Two definitions for the same keys are told apart by more than the order of the sources."""
    models = [(model, tuple(options.items())) for _, model, options, _ in WANTED]
    for model, options in dict.fromkeys(models):
        net = get_model(model, **dict(options))
        for keys in [source.keys(net).keys() for source in SOURCES if isinstance(net, source.network)]:
            reading = [source for source in SOURCES if isinstance(net, source.network) and source.mark in keys]
            same = [source for source in reading if source.keys(net).keys() == keys]
            definitions = {tuple(sorted(source.definition(net).items())) for source in same}
            assert len(definitions) <= 1 or len({source.mark for source in same}) == 1, [one.name for one in same]


@pytest.fixture(scope="module")
def timm():
    return made_up("timm", get_model("mobilenet_v3_small"))


def with_metadata(path, state, **texts):
    """A safetensors file, by hand."""
    header, content = {"__metadata__": {"format": "pt", **texts}} if texts else {}, b""
    for key, value in state.items():
        data = np.ascontiguousarray(value, "<f4").tobytes()
        header[key] = {
            "dtype": "F32",
            "shape": list(value.shape),
            "data_offsets": [len(content), len(content) + len(data)],
        }
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


@pytest.mark.parametrize("key", ["architecture", "arch", "model_name", "model"])
@pytest.mark.parametrize(
    "architecture, source, epsilon",
    [
        ("tf_mobilenetv3_small_100.in1k", "timm_tf", 1e-3),
        ("timm/tf_mobilenetv3_small_100", "timm_tf", 1e-3),
        ("mobilenetv3_small_100.lamb_in1k", "timm", 1e-5),
    ],
)
def test_metadata_tell_which_of_timms_networks_it_is(key, architecture, source, epsilon, timm, tmp_path):
    pytest.importorskip("safetensors")
    path = with_metadata(tmp_path / "x.safetensors", timm, **{key: architecture})
    net = get_model("mobilenet_v3_small")
    assert load_official(net, read_checkpoint(path)) == source
    assert net.definition()["bn_epsilon"] == epsilon


def test_a_name_of_a_file_is_quoted_and_proves_nothing(timm, tmp_path):
    pytest.importorskip("safetensors")
    path = with_metadata(tmp_path / "tf_mobilenetv3_small_100.safetensors", timm)
    assert read_checkpoint(path).architecture is None
    with pytest.raises(ValueError, match="tf_mobilenetv3_small_100.safetensors") as error:
        convert("mobilenet_v3_small", path, tmp_path / "w.params")
    assert "source='timm' " in str(error.value) and "source='timm_tf' " in str(error.value)
    assert not (tmp_path / "w.params").exists()
    assert convert("mobilenet_v3_small", path, tmp_path / "w.params", source="timm_tf").source == "timm_tf"


def test_training_scripts_tell_the_architecture(timm, tmp_path):
    torch = pytest.importorskip("torch")
    state = {key: torch.from_numpy(value) for key, value in timm.items()}
    arguments = argparse.Namespace(model="tf_mobilenetv3_small_100")
    for name, extra in (("timm", {"arch": "tf_mobilenetv3_small_100"}), ("torchvision", {"args": arguments})):
        torch.save({"state_dict": state, **extra}, tmp_path / f"{name}.pth")
        assert load_official(get_model("mobilenet_v3_small"), read_checkpoint(tmp_path / f"{name}.pth")) == "timm_tf"


def test_who_names_another_source_than_the_metadata_hears_of_it(timm, tmp_path, caplog):
    pytest.importorskip("safetensors")
    path = with_metadata(tmp_path / "x.safetensors", timm, architecture="tf_mobilenetv3_small_100")
    assert load_official(get_model("mobilenet_v3_small"), read_checkpoint(path), "timm") == "timm"
    assert "says that it is tf_mobilenetv3_small_100, of timm_tf; it is read as timm" in caplog.text
