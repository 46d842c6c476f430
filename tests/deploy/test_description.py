"""One description reads and writes the JSON files of every kind of export, older ones too."""

import importlib
import json

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.deploy import ExportError, export, export_routed, export_subnet, load_routed, open_exported
from gluon_effnets.deploy.description import Description, Route
from gluon_effnets.deploy.formats import FORMATS, INT8_FORMATS, Options
from gluon_effnets.deploy.routed.router import static_subnet

pytestmark = pytest.mark.fast

# What `export --routed` wrote before both kinds of files had one description.
ROUTED = {
    "kind": "gluon_effnets routed export",
    "format": "onnx",
    "model": "ds_mobilenet_tiny",
    "options": {"classes": 6, "first_candidate": 0},
    "head": ["net-head.onnx"],
    "routes": [
        {"width": 0, "madds": 100, "files": ["net-width0.onnx"]},
        {"width": 1, "madds": 200, "files": ["net-width1.onnx"]},
    ],
    "in_channels": 3,
    "num_classes": 6,
    "image_size": 32,
    "crop": 0.875,
    "interpolation": "bilinear",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "channel_order": "rgb",
    "sha256": {"net-head.onnx": "0", "net-width0.onnx": "1", "net-width1.onnx": "2"},
    "difference": 1e-06,
    "versions": {"gluon_effnets": "0.1.0"},
}
# And `export`, before it measured what MXNet's files run faster with.
PLAIN = {
    "kind": "gluon_effnets export",
    "format": "mxnet",
    "files": ["net-symbol.json", "net-0000.params"],
    "model": "idle_tiny",
    "options": {},
    "aligned": False,
    "input_shape": [None, 3, None, None],
    "num_classes": 3,
    "image_size": 32,
    "crop": 0.875,
    "interpolation": "bilinear",
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
    "channel_order": "rgb",
    "normalized_inside": None,
    "names": None,
    "difference": 1e-06,
    "compared_on": ["random pixels"],
    "versions": {"gluon_effnets": "0.1.0"},
}


@pytest.fixture
def gated():
    mx.random.seed(0)
    net = get_model("ds_mobilenet_tiny", classes=6)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    return net


def written(tmp_path, content):
    path = tmp_path / "net.json"
    path.write_text(json.dumps(content))
    return path


def test_routed_files_of_older_versions_are_read(tmp_path):
    path = written(tmp_path, ROUTED)
    about = Description.read(path)
    assert about.files == ("net-head.onnx",) and about.routes[1] == Route(1, 200, ("net-width1.onnx",))
    assert about.input_shape == (None, 3, 32, 32) and about.preprocessing.mean == tuple(ROUTED["mean"])
    assert Description.read(written(tmp_path, {**ROUTED, "format": "mxnet"})).input_shape == (None, 3, None, None)


def test_files_keep_their_keys_in_their_order(tmp_path, gated):
    path = written(tmp_path, ROUTED)
    Description.read(path).save(path)
    assert list(json.loads(path.read_text()).items()) == list(ROUTED.items())
    assert list(json.loads(export_routed(gated, tmp_path / "routed", 32).read_text())) == list(ROUTED)
    path = written(tmp_path, PLAIN)
    about = Description.read(path)
    about.save(path)
    later = dict.fromkeys(("folded", "fused", "milliseconds", "int8"))
    assert list(json.loads(path.read_text()).items()) == [*PLAIN.items(), *later.items()]
    assert Description.read(path) == about


@pytest.mark.parametrize("content", [ROUTED, PLAIN])
def test_other_keys_are_refused(content, tmp_path):
    for changed in ({**content, "more": 1}, {k: v for k, v in content.items() if k != "crop"}):
        with pytest.raises(ValueError, match="does not describe an exported network"):
            Description.read(written(tmp_path, changed))


def test_each_kind_names_what_loads_it(tmp_path):
    with pytest.raises(ValueError, match="load_routed loads"):
        open_exported(written(tmp_path, ROUTED))
    with pytest.raises(ValueError, match="no manifest of a routed network"):
        load_routed(written(tmp_path, PLAIN))


def test_a_routed_net_has_its_description_under_the_first_name_too(gated, tmp_path):
    routed = load_routed(export_routed(gated, tmp_path / "net", 32))
    assert routed.manifest is routed.description and routed.description.model == "ds_mobilenet_tiny"


def test_one_width_is_compared_with_the_masked_network(gated, tmp_path, monkeypatch):
    def off(net, which):
        static = static_subnet(net, which)
        weight = next(param for name, param in static.collect_params().items() if name.endswith("weight"))
        weight.set_data(weight.data() * 1.01)
        return static

    flow = importlib.import_module("gluon_effnets.deploy.export")  # an attribute of deploy, the function hides it
    monkeypatch.setattr(flow, "static_subnet", off)
    with pytest.raises(ExportError, match="differs from the network"):
        export_subnet(gated, 0, tmp_path / "net", 32)
    assert not list(tmp_path.iterdir())


def test_a_nan_on_one_kind_of_images_is_refused(tmp_path, monkeypatch):
    """Python's own maximum of (0.0, NaN) is 0.0."""
    pytest.importorskip("sklearn")
    chosen = FORMATS["mxnet"]

    def load(*files, **how):
        run = chosen.load(*files, **how)
        return lambda x: run(x) * (1 if len(x) == 3 else np.nan)  # three images of random pixels, two photographs

    monkeypatch.setitem(FORMATS, "mxnet", chosen.__class__(**{**vars(chosen), "load": load}))
    net = get_model("idle_tiny", classes=3)
    net.initialize()
    with pytest.raises(ExportError, match="by nan: its logits are not finite on photographs"):
        export(net, tmp_path / "net", 32)


@pytest.mark.parametrize("formats", [FORMATS, INT8_FORMATS])
def test_formats_name_options_that_there_are(formats):
    for name, format in formats.items():
        assert format.name == name and set(format.refuses) <= set(vars(Options()))
