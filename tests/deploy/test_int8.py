"""8-bit files run in their own runtimes, say how far they are from float32, and are refused when they are useless."""

from __future__ import annotations

import collections
import dataclasses
import json
import subprocess
import sys

import cv2
import mxnet as mx
import numpy as np
import onnx
import pytest
from images import photo, write_records
from mxnet.gluon import nn
from networks import trained
from waiting import PATIENCE_S

from gluon_effnets.__main__ import main
from gluon_effnets.deploy import ExportError, export, open_exported
from gluon_effnets.deploy.compare import relative_difference
from gluon_effnets.deploy.formats import FORMATS, INT8_FORMATS
from gluon_effnets.deploy.to_onnx.files import onnx_runner
from gluon_effnets.deploy.to_onnx.int8 import quantize_onnx, quantize_onnx_to_target
from gluon_effnets.evaluate.int8_accuracy import INT8_RUNTIMES, compare_quantized, quantized_table
from gluon_effnets.evaluate.validate import _parted, validate_in_8_bits
from gluon_effnets.models import ClassificationNet
from gluon_effnets.train.data import DataSettings, open_data

pytestmark = pytest.mark.fast


def images(count=16, size=32, channels=3, seed=0):
    return np.random.RandomState(seed).standard_normal((count, channels, size, size)).astype(np.float32)


def operators(path):
    return collections.Counter(node.op_type for node in onnx.load(str(path)).graph.node)


class Chain(ClassificationNet):
    """Five convolutions with ReLU; `outlier` scales one channel between the second and the third, and back."""

    def __init__(self, outlier=1.0, **options):
        super().__init__(**options)
        with self.name_scope():
            self.features = nn.HybridSequential()
            for inputs in (3, 16, 16, 16, 16):
                self.features.add(nn.Conv2D(16, 3, padding=1, in_channels=inputs, activation="relu"))
            self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            self.num_features, self.stage_info = 16, []
            self._make_output()
        mx.random.seed(0)
        self.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
        before, after = (self.features[i].weight for i in (1, 2))
        scale = np.ones(16, np.float32)
        scale[3] = outlier
        before.set_data(before.data() * mx.nd.array(scale).reshape((-1, 1, 1, 1)))
        after.set_data(after.data() / mx.nd.array(scale).reshape((1, -1, 1, 1)))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["idle_tiny", "mobilenet_v2_x0_35"])
def test_files_in_8_bits(name, format, tmp_path):
    net, data = trained(name), images()
    expected = net(mx.nd.array(data)).asnumpy()
    written = export(net, tmp_path / "net", 32, format=format, int8=[data[:10], data[10:]])
    figures = json.loads(written.description.read_text())["int8"]
    assert (figures["calibration_images"], figures["held_out_images"], figures["float_layers"]) == (12, 4, [])
    seen = open_exported(written.description)(data)
    same = seen.argmax(axis=1) == expected.argmax(axis=1)
    held_out = slice(3, None, 4)
    assert figures["agreement"] == same[held_out].mean()
    assert figures["difference"] == pytest.approx(relative_difference(seen[held_out], expected[held_out]), rel=1e-4)
    assert 1e-4 < figures["difference"] < 0.3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in (*written.files, written.description)
    )
    np.testing.assert_array_equal(net(mx.nd.array(data)).asnumpy(), expected)
    exact = export(net, tmp_path / "float", 32, format=format)
    assert open_exported(exact.description).description.int8 is None
    if (format, name) == ("onnx", "mobilenet_v2_x0_35"):  # the names of idle_tiny's tensors take more than its weights
        assert written.files[0].stat().st_size < 0.5 * exact.files[0].stat().st_size


def test_mxnet_files_need_mxnet_alone(tmp_path):
    net, data = trained("idle_tiny"), images()
    written = export(net, tmp_path / "net", 32, int8=[data])
    np.save(tmp_path / "x.npy", data)
    np.save(tmp_path / "y.npy", open_exported(written.description)(data))
    code = """
import mxnet, numpy
block = mxnet.gluon.SymbolBlock.imports("net-symbol.json", ["data"], "net-0000.params")
numpy.testing.assert_array_equal(block(mxnet.nd.array(numpy.load("x.npy"))).asnumpy(), numpy.load("y.npy"))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    nodes = json.loads(written.symbol.read_text())["nodes"]
    convolutions = [node["attrs"].get("quantized") for node in nodes if node["op"] == "_sg_mkldnn_conv"]
    assert len(convolutions) > 5 and set(convolutions) == {"true"}


def test_onnx_files_have_no_way_back_to_float(tmp_path):
    """Between the input and the logits every value is in 8 bits, h-swish and squeeze-and-excitation, too."""
    net = trained("mobilenet_v3_small")
    exact = export(net, tmp_path / "float", 32, format="onnx").files[0]
    path = quantize_onnx(exact, tmp_path / "int8.onnx", [images()])
    assert operators(exact)["HardSwish"] > 10 and operators(exact)["HardSigmoid"] > 5
    assert operators(path)["HardSigmoid"] == operators(path)["HardSwish"] == 0
    model = onnx.load(str(path))
    written = {name: node.op_type for node in model.graph.node for name in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    computing = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "Add", "Mul")]
    for node in computing:
        assert {written.get(name) for name in node.input if name not in constants} == {"DequantizeLinear"}, node.name
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    weights = [written_by.input[0] for written_by in model.graph.node if written_by.input[0] in kinds]
    assert onnx.TensorProto.INT8 in {kinds[name] for name in weights}


@pytest.mark.parametrize(("alpha", "beta"), [(1 / 6, 0.5), (0.2, 0.5), (0.1, 0.8)])
def test_hard_sigmoid_as_an_8_bit_addition(alpha, beta, tmp_path):
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("Mul", ["data", "one"], ["x"], "x"),
        make("HardSigmoid", ["x"], ["gate"], "gate", alpha=alpha, beta=beta),
        make("Mul", ["x", "gate"], ["logits"], "logits"),
    ]
    shapes = [value(name, onnx.TensorProto.FLOAT, [1, 4096]) for name in ("data", "logits")]
    one = onnx.numpy_helper.from_array(np.ones(1, np.float32), "one")
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "gate", shapes[:1], shapes[1:], [one]),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=7,
    )
    onnx.save(model, str(tmp_path / "float.onnx"))
    x = np.linspace(-12, 12, 4096, dtype=np.float32).reshape(1, -1)
    path = quantize_onnx(tmp_path / "float.onnx", tmp_path / "int8.onnx", [x])
    assert operators(path)["HardSigmoid"] == 0
    expected = x * np.clip(alpha * x + beta, 0, 1)
    # A step of x, of the gate (times the largest x), and of the product.
    tolerance = 24 / 255 + 12 / 255 + (expected.max() - expected.min()) / 255
    assert np.abs(onnx_runner(path)(x) - expected).max() < tolerance


@pytest.mark.parametrize("format", FORMATS)
def test_pixels_as_input(format, tmp_path):
    net = trained("idle_tiny")
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in net.preprocessing[:2])
    pixels = np.random.RandomState(0).randint(0, 256, (16, 3, 32, 32)).astype(np.float32)
    data = (pixels - mean) / std
    usual, raw = (
        open_exported(export(net, tmp_path / name, 32, format=format, raw_input=raw, int8=[data]).description)
        for name, raw in (("usual", False), ("raw", True))
    )
    assert relative_difference(raw(pixels), usual(data)) < 0.02  # images between two 8-bit values go either way


def test_fixed_batch(tmp_path):
    written = export(trained("idle_tiny"), tmp_path / "net", 32, format="onnx", batch=5, int8=[images()])
    assert open_exported(written.description)(images(7)).shape == (7, 7)


def test_layers_that_8_bits_hurt_stay_in_float(tmp_path):
    net, data = Chain(outlier=3000.0, classes=5), images()
    exact = export(net, tmp_path / "float", 32, format="onnx").files[0]
    expected = onnx_runner(exact)(data)
    whole = quantize_onnx(exact, tmp_path / "whole.onnx", [data])
    assert relative_difference(onnx_runner(whole)(data), expected) > 0.2
    keep = quantize_onnx_to_target(exact, tmp_path / "part.onnx", [data], target=0.1)
    convolutions = [node.name for node in onnx.load(str(exact)).graph.node if node.op_type == "Conv"]
    assert set(convolutions[1:3]) <= set(keep) and len(keep) <= 3
    assert relative_difference(onnx_runner(tmp_path / "part.onnx")(data), expected) <= 0.1
    again = quantize_onnx(exact, tmp_path / "again.onnx", [data], keep)
    np.testing.assert_array_equal(onnx_runner(again)(data), onnx_runner(tmp_path / "part.onnx")(data))
    healthy = export(Chain(classes=5), tmp_path / "healthy", 32, format="onnx").files[0]
    assert quantize_onnx_to_target(healthy, tmp_path / "part.onnx", [data]) == []


def test_the_search_ends_in_time(tmp_path):
    exact = export(Chain(outlier=3000.0, classes=5), tmp_path / "float", 32, format="onnx").files[0]
    keep = quantize_onnx_to_target(exact, tmp_path / "part.onnx", [images()], target=0.0, seconds=0)
    assert keep == [] and (tmp_path / "part.onnx").exists()


def test_useless_files_are_refused_and_leave_the_folder_as_it_was(tmp_path, monkeypatch):
    # MXNet's kernels have one range for all channels, and no search: this network is lost there.
    net = Chain(outlier=3e5, classes=5)
    export(net, tmp_path / "net", 32)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ExportError, match=r"(?s)in 8 bits the logits differ by .*0.5 is allowed.*export it in float32"):
        export(net, tmp_path / "net", 32, int8=[images()])
    with monkeypatch.context() as patch:
        chosen = INT8_FORMATS["mxnet"]
        broken = dataclasses.replace(
            chosen, load=lambda *files, **options: lambda x: chosen.load(*files, **options)(x) * np.nan
        )
        patch.setitem(INT8_FORMATS, "mxnet", broken)
        with pytest.raises(ExportError, match="not finite on held-out calibration images"):
            export(Chain(classes=5), tmp_path / "net", 32, int8=[images()])
    net.output.weight.set_data(net.output.weight.data() * np.nan)
    with pytest.raises(ExportError, match="own logits are not finite"):
        export(net, tmp_path / "net", 32, int8=[images()])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"int8": []}, "8 bits need at least 8 images.*there are 0"),
        ({"int8": [images(4), images(3)]}, "8 bits need at least 8 images.*there are 7"),
        ({"int8": [images(8, 64)]}, r"images of shape \(3, 64, 64\) cannot calibrate an export for \(3, 32, 32\)"),
        ({"int8": [images()], "fold": False}, "BN folded in"),
    ],
)
def test_what_cannot_be_quantized(format, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(trained("idle_tiny"), tmp_path / "net", 32, format=format, **settings)
    assert not list(tmp_path.iterdir())


def test_quantize_onnx_needs_images(tmp_path):
    with pytest.raises(ValueError, match="at least one batch of images"):
        quantize_onnx(tmp_path / "float.onnx", tmp_path / "int8.onnx", [])


def test_both_runtimes_are_compared():
    net, data = trained("idle_tiny"), mx.nd.array(images())
    labels = mx.nd.array(net(data).asnumpy().argmax(axis=1))
    rows = compare_quantized({"tiny": net}, [data], [(data, labels)], runtimes=INT8_RUNTIMES[:2])
    assert [(row.runtime, row.granularity) for row in rows] == [
        ("mxnet", "tensor-wise"),
        ("mxnet", "channel-wise"),
        ("onnxruntime", "channel-wise"),
    ]
    for row in rows:
        assert row.float_top1 == 1 and row.top1 == row.agreement and 0 < row.difference < 0.3
    assert all(row.size > 0 and row.float_size > 0 for row in rows)
    assert "| tiny | onnxruntime | channel-wise | 100.00% |" in quantized_table(rows)


NNCF = """class Dataset(list):
    def __init__(self, images, transform):
        super().__init__(map(transform, images))

def set_log_level(level): pass

def quantize(model, dataset, subset_size):
    assert len(dataset) == subset_size == 16 and dataset[0]["data"].shape == (1, 3, 32, 32)
    return model
"""


def test_runtimes_of_another_interpreter_are_compared(tmp_path, monkeypatch):
    """NNCF stands for itself: what matters here is what it is given, and what becomes of its file."""
    (tmp_path / "nncf.py").write_text(NNCF)
    (tmp_path / "openvino.py").write_text("raise ModuleNotFoundError(\"No module named 'openvino'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    net, data = trained("idle_tiny"), mx.nd.array(images())
    labels = mx.nd.array(net(data).asnumpy().argmax(axis=1))
    [row] = compare_quantized({"tiny": net}, [data], [(data, labels)], runtimes=["onnxruntime-nncf"])
    assert (row.runtime, row.agreement) == ("onnxruntime-nncf", 1) and row.difference < 1e-5
    assert row.size > 0 and row.milliseconds > 0 and row.float_milliseconds > 0
    for runtime in ("openvino", "openvino-nncf"):
        with pytest.raises(ImportError, match="No module named 'openvino'; name an interpreter .*--onnx-python"):
            compare_quantized({"tiny": net}, [data], [(data, labels)], runtimes=[runtime])
    with pytest.raises(FileNotFoundError, match="nowhere cannot be started"):
        compare_quantized({"tiny": net}, [data], [(data, labels)], runtimes=["openvino"], python="nowhere")


def test_evaluation_images_calibrate_where_there_are_no_others(weights, tmp_path, caplog):
    write_records(tmp_path / "val.rec", [photo(seed) for seed in range(24)], [seed % 10 for seed in range(24)])
    source, overrides = (
        f"recordio:{tmp_path / 'val.rec'}",
        ["data.image_size=32", "data.batch_size=5", "data.classes=10"],
    )
    data = open_data(DataSettings(source, image_size=32, batch_size=5, classes=10), seed=0)
    calibration, rest = _parted(data, 10)
    assert (sum(map(len, calibration)), sum(len(labels) for _, labels in rest)) == (10, 14)
    pixels = np.concatenate([batch.asnumpy() for batch in [*calibration, *(images for images, _ in rest)]])
    everything = np.concatenate([batch.data.asnumpy()[: batch.num_valid] for batch in data.val_batches()])
    assert sorted(map(bytes, pixels)) == sorted(map(bytes, everything))
    [row, *_] = validate_in_8_bits({"idle_tiny": weights}, source, overrides, images=10, runtimes=["onnxruntime"])
    assert round(row.top1 * 14) == pytest.approx(row.top1 * 14) and row.milliseconds > 0 and row.float_milliseconds > 0
    assert "10 of its 24 evaluation images calibrate" in caplog.text
    with pytest.raises(ValueError, match="24 of 24 images cannot calibrate and leave some"):
        validate_in_8_bits({"idle_tiny": weights}, source, overrides, images=24)


@pytest.fixture
def weights(tmp_path):
    """A file of a network for synthetic images."""
    net = trained("idle_tiny", classes=10)
    net.save_parameters(str(tmp_path / "w.params"))
    return str(tmp_path / "w.params")


@pytest.mark.parametrize("format", FORMATS)
def test_the_command_exports_and_predicts(format, weights, tmp_path, capfd):
    out, picture = str(tmp_path / "net"), str(tmp_path / "picture.png")
    arguments = ["export", "idle_tiny", weights, out, "--format", format, "--image-size", "32"]
    arguments += ["--int8", "--data", "synthetic:64", "--images", "48"]
    assert main(arguments) == 0
    printed, noise = capfd.readouterr()
    assert not noise, "MXNet writes lines for every layer"
    assert "on 12 other images" in printed and "layers left in float32: none" in printed
    assert open_exported(f"{out}.json").description.image_size == 32
    cv2.imwrite(picture, photo(0))
    assert main(["predict", f"{out}.json", picture, "--top", "2"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 3


def test_few_training_images_calibrate(weights, tmp_path, capfd):
    for part, number in (("train", 9), ("val", 4)):
        pictures, labels = [photo(seed) for seed in range(number)], [seed % 10 for seed in range(number)]
        write_records(tmp_path / f"{part}.rec", pictures, labels)
    (tmp_path / "classes.txt").write_text("".join(f"{number}\n" for number in range(10)))
    arguments = ["--int8", "--data", f"recordio:{tmp_path}", "--images", "8", "--image-size", "32"]
    assert main(["export", "idle_tiny", weights, str(tmp_path / "net"), *arguments]) == 0, capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--int8"], "--int8 takes its ranges from training images: add --data"),
        (["--data", "synthetic:64"], "--data and --set are for the ranges of --int8"),
        (["--int8", "--data", "synthetic:64", "--images", "0"], "the number of calibration images is 0"),
        (["--int8", "--data", "synthetic:64", "--images", "7"], "8 bits need at least 8 images"),
        (["--int8", "--data", "synthetic:64", "--routed"], "--int8 does not go with --routed"),
    ],
)
def test_mistakes_are_one_message(arguments, message, weights, tmp_path, capsys):
    assert main(["export", "idle_tiny", weights, str(tmp_path / "net"), *arguments, "--image-size", "32"]) == 1
    out, err = capsys.readouterr()
    assert message in err and not out and err.count("\n") == 1
    assert not list(tmp_path.glob("net*"))


def test_without_the_quantizer_of_onnx_runtime(weights, tmp_path, capsys, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    data = ["--data", "synthetic:64", "--images", "16"]
    arguments = ["--format", "onnx", "--int8", "--image-size", "32", *data]
    assert main(["export", "idle_tiny", weights, str(tmp_path / "net"), *arguments]) == 1
    err = capsys.readouterr().err
    assert (
        "onnxruntime.quantization cannot be imported" in err
        and "-m pip install 'onnx>=1.13' 'onnxruntime>=1.18'" in err
    )
    assert not list(tmp_path.glob("net*"))
    assert main(["compare-int8", f"idle_tiny={weights}", *data, "--set", "data.image_size=32"]) == 0
    out = capsys.readouterr().out
    assert "| mxnet |" in out and "| onnxruntime |" not in out
    assert "onnxruntime.quantization cannot be imported" in caplog.text
    assert main(["compare-int8", f"idle_tiny={weights}", *data, "--runtimes", "onnxruntime"]) == 1
