"""Exported files give the network's answers, in every way of loading them."""

import contextlib
import dataclasses
import hashlib
import importlib
import json
import shutil
import sys

import cv2
import mxnet as mx
import numpy as np
import pytest
from images import photo
from networks import EVERY_NETWORK, initialized, trained

from gluon_effnets import get_model, native
from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks.idle_variants import VARIANTS, compare_variants, variants_table
from gluon_effnets.deploy import (
    ExportError,
    Latency,
    export,
    initialize_like_trained,
    load_exported,
    measure_latency,
    open_exported,
)
from gluon_effnets.deploy.compare import Question, float_logits, largest_difference, relative_difference
from gluon_effnets.deploy.formats import FORMATS
from gluon_effnets.deploy.graph.inference import network_graph, static_block
from gluon_effnets.deploy.graph.static import static_graph
from gluon_effnets.models.preprocessing import RAW_BGR, Preprocessing

flow = importlib.import_module("gluon_effnets.deploy.ways")


def operators(symbol):
    return [node["op"] for node in json.loads(symbol.read_text())["nodes"]]


def normalized_convolutions(symbol):
    """Names of the convolutions that BN alone reads."""
    nodes = json.loads(symbol.read_text())["nodes"]
    readers = {
        number: [node["op"] for node in nodes if [number, 0, 0] in node["inputs"]] for number in range(len(nodes))
    }
    return [
        node["name"]
        for number, node in enumerate(nodes)
        if node["op"] == "Convolution" and readers[number] == ["BatchNorm"]
    ]


def answering(monkeypatch, format, change):
    """Let the files of a format give changed logits; `change` gets what they are loaded with, too."""
    chosen = FORMATS[format]

    def load(*files, **how):
        run = chosen.load(*files, **how)
        return lambda x: change(run(x), **{key: value for key, value in how.items() if key != "trust"})

    monkeypatch.setitem(FORMATS, format, dataclasses.replace(chosen, load=load))


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_round_trip(name, tmp_path):
    net = trained(name, classes=6)
    files = export(net, tmp_path / "sub" / name, image_size=64)
    assert files.symbol.name == f"{name}-symbol.json" and files.params.name == f"{name}-0000.params"
    about = open_exported(files.description).description
    assert about.folded and about.milliseconds.keys() == {"plain", "fused"} and files.difference < 1e-5
    assert not normalized_convolutions(files.symbol)
    x = mx.nd.array(np.random.RandomState(1).standard_normal((3, 3, 96, 96)))  # another size and batch
    expected = net(x).asnumpy()
    block = load_exported(files.symbol, files.params)
    np.testing.assert_allclose(block(x).asnumpy(), expected, atol=1e-5 * np.abs(expected).max())
    block.optimize_for(x, backend="MKLDNN", static_alloc=True, static_shape=True)
    # Fusion changes the order of additions.
    np.testing.assert_allclose(block(x).asnumpy(), expected, atol=1e-4 * np.abs(expected).max())
    written = sorted(path.name for path in (*files.files, files.description))
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == written


def test_bn_before_convolutions_stays(tmp_path):
    behind = export(trained("mobilenet_v2_x0_35"), tmp_path / "behind", 64)
    assert "BatchNorm" not in operators(behind.symbol)
    assert not any("aux:" in name for name in mx.nd.load(str(behind.params)))
    net = get_model("condensenet_v2_tiny")
    initialize_like_trained(net)
    before = operators(export(net, tmp_path / "before", 32).symbol).count("BatchNorm")
    whole = operators(export(net, tmp_path / "whole", 32, fold=False).symbol).count("BatchNorm")
    assert 0 < before < whole


def test_folded_parameters_keep_their_names(tmp_path):
    net = trained("idle_tiny", classes=3)
    stored = mx.nd.load(str(export(net, tmp_path / "m", 32).params))
    names = {f"arg:{name}" for name in net.collect_params()}
    added = stored.keys() - names
    assert all(name.endswith("_bias") and f"{name[:-5]}_weight" in stored for name in added)
    assert {f"arg:{name}" for name in net.collect_params(".*conv.*weight|.*dense.*")} <= stored.keys()


def test_one_parameter_of_two_layers_with_bn_behind_one(tmp_path):
    data, weight = mx.sym.var("data"), mx.sym.var("conv_weight", shape=(4, 4, 1, 1))
    names = ("gamma", "beta", "running_mean", "running_var")
    statistics = [mx.sym.var(f"bn_{name}", shape=(4,)) for name in names]
    first, second = (
        mx.sym.Convolution(data, weight, no_bias=True, kernel=(1, 1), num_filter=4, name=f"{name}_fwd")
        for name in ("conv", "again")
    )
    graph = mx.sym.BatchNorm(first, *statistics, fix_gamma=False, name="bn_fwd") + second
    arrays = {"conv_weight": mx.nd.random.normal(shape=(4, 4, 1, 1))}
    arrays.update((f"bn_{name}", mx.nd.random.uniform(0.5, 2, (4,))) for name in names)
    x = mx.nd.random.normal(shape=(2, 4, 3, 3))
    unfolded, folded = (static_block(static_graph(graph, arrays, fold))(x).asnumpy() for fold in (False, True))
    np.testing.assert_allclose(folded, unfolded, atol=1e-5)
    assert len(static_graph(graph, arrays).arrays) == 3


def test_a_network_that_rounding_changes_keeps_its_bn(tmp_path, monkeypatch):
    def off(*graph):
        symbol, arrays = static_graph(*graph)
        return symbol, {name: array * 1.001 for name, array in arrays.items()}

    monkeypatch.setattr(flow, "static_graph", off)
    written = export(trained("idle_tiny"), tmp_path / "m", 32)
    assert not open_exported(written.description).description.folded and written.difference < 1e-5
    assert "BatchNorm" in operators(written.symbol)


def test_unfolded_files_train_and_are_weights(tmp_path):
    net = trained("idle_tiny", classes=3)
    files = export(net, tmp_path / "m", 32, fold=False)
    x = mx.nd.random.normal(shape=(2, 3, 32, 32))
    block, again = load_exported(files.symbol, files.params), get_model("idle_tiny", pretrained=files.params, classes=3)
    np.testing.assert_array_equal(again(x).asnumpy(), net(x).asnumpy())
    before = {name: param.data().copy() for name, param in block.collect_params().items()}
    trainer = mx.gluon.Trainer(block.collect_params(), "sgd", {"learning_rate": 0.1})
    with mx.autograd.record():
        loss = block(x)[:, 0].sum()
    loss.backward()
    trainer.step(2)
    changed = [
        name for name, array in before.items() if (block.collect_params()[name].data() != array).max().asscalar()
    ]
    # Some BN stands behind another, which takes the first one's beta away.
    assert {name for name in before if not name.endswith("beta")} <= set(changed)


# The faster of the plain and the fused variant


@pytest.mark.parametrize("faster", ["plain", "fused"])
def test_the_faster_variant_is_recorded_and_used(faster, tmp_path, monkeypatch):
    def measured(calls, repeats):
        return {name: Latency(2.0 - (name == faster), 3.0) for name in calls}

    monkeypatch.setattr(flow, "time_interleaved", measured)
    monkeypatch.setattr(native, "load", lambda: False)  # compiled operators would run the network in place of either
    net = trained("idle_tiny", classes=3)
    written = export(net, tmp_path / "m", 32)
    content = json.loads(written.description.read_text())
    assert content["fused"] is (faster == "fused") and content["milliseconds"][faster] == 1.0
    loaded, run = [], mx.gluon.SymbolBlock.hybridize
    monkeypatch.setattr(
        mx.gluon.SymbolBlock, "hybridize", lambda self, **how: (loaded.append(how["backend"]), run(self, **how))
    )
    exported_net = open_exported(written.description)
    assert loaded == ["MKLDNN" if faster == "fused" else None]
    x = np.random.RandomState(0).standard_normal((2, 3, 48, 48)).astype(np.float32)
    expected = net(mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(exported_net(x), expected, atol=1e-5 * np.abs(expected).max())


def test_a_wrong_fused_graph_is_not_used(tmp_path, monkeypatch):
    answering(monkeypatch, "mxnet", lambda logits, variant="plain": logits * (1.01 if variant == "fused" else 1))
    written = export(trained("idle_tiny"), tmp_path / "m", 32)
    about = open_exported(written.description).description
    assert about.fused is False and about.milliseconds.keys() == {"plain"} and written.difference < 1e-5
    assert "fused gives other logits" in about.speed and "runs it plain" in about.speed


def test_without_onednn_files_run_plain(tmp_path, monkeypatch):
    written = export(trained("idle_tiny", classes=3), tmp_path / "fused", 32)
    content = json.loads(written.description.read_text())
    written.description.write_text(json.dumps({**content, "fused": True}))
    monkeypatch.setattr(mx.runtime.Features, "is_enabled", lambda self, name: False)
    assert open_exported(written.description)(np.ones((1, 3, 32, 32), np.float32)).shape == (1, 3)
    plain = json.loads(export(trained("idle_tiny"), tmp_path / "plain", 32).description.read_text())
    assert plain["fused"] is None and plain["milliseconds"] is None


def test_json_files_of_older_versions_load(tmp_path):
    net = trained("idle_tiny", classes=3)
    written = export(net, tmp_path / "m", 32)
    content = json.loads(written.description.read_text())
    for key in ("folded", "fused", "milliseconds"):
        del content[key]
    written.description.write_text(json.dumps(content))
    old = open_exported(written.description)
    assert old.description.fused is None and old.description.speed is None
    x = mx.nd.ones((1, 3, 32, 32))
    np.testing.assert_allclose(old(x.asnumpy()), net(x).asnumpy(), atol=1e-5)


def test_exporting_leaves_a_hybridized_network_trainable(tmp_path):
    net = initialized("idle_tiny", classes=3)
    net.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.ones((2, 3, 32, 32))
    net(x)
    export(net, tmp_path / "m", image_size=32)
    measure_latency(net, 32, repeats=1)
    with mx.autograd.record():
        net(x)[:, 0].sum().backward()
    assert net.stages[0][0].conv.weight.grad().abs().sum().asscalar() > 0


@pytest.mark.parametrize("format", FORMATS)
def test_a_wrong_graph_is_refused_and_leaves_the_folder_as_it_was(format, tmp_path, monkeypatch):
    net = initialized("idle_tiny", classes=3)
    export(net, tmp_path / "m", 32, format=format)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    answering(monkeypatch, format, lambda logits: logits * 1.01)
    with pytest.raises(ExportError, match="differs from the network by .*e-0.* of the logits' standard deviation"):
        export(net, tmp_path / "m", 32, format=format)
    answering(monkeypatch, format, lambda logits: logits * np.nan)
    with pytest.raises(ExportError, match="by nan: its logits are not finite on random pixels"):
        export(net, tmp_path / "m", 32, format=format)
    for wrong in (np.nan, np.inf):  # of the second set of images, two photographs, alone
        answering(monkeypatch, format, lambda logits, wrong=wrong: logits + wrong * (len(logits) == 2))
        with pytest.raises(ExportError, match="not finite on random pixels|not finite on photographs"):
            export(net, tmp_path / "new" / "folder" / "m", 32, format=format)
    assert not (tmp_path / "new").exists()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("format", FORMATS)
def test_a_network_without_finite_logits_is_refused(format, tmp_path):
    net = initialized("idle_tiny", classes=3)
    net.output.weight.data()[1, 2] = np.inf
    with pytest.raises(ExportError, match="network's own logits are not finite on random pixels"):
        export(net, tmp_path / "m", 32, format=format)
    assert not list(tmp_path.iterdir())


def tf32(array):
    """An array with the 10 bits of mantissa that convolutions in float32 keep on an A100."""
    bits = array.asnumpy().view(np.int32)
    return mx.nd.array(((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(np.float32))


def test_how_the_training_device_rounds_decides_nothing(tmp_path, monkeypatch):
    net = trained("idle_tiny", classes=3)
    x, conv = mx.nd.random.normal(shape=(2, 3, 32, 32)), mx.nd.Convolution
    before = net(x)
    monkeypatch.setattr(
        mx.nd, "Convolution", lambda data, weight, *rest, **keys: conv(tf32(data), tf32(weight), *rest, **keys)
    )
    assert abs(net(x) - before).max().asscalar() > 1e-4 * before.asnumpy().std(), "nothing is rounded here"
    assert export(net, tmp_path / "m", 32).difference < 1e-5


@pytest.mark.parametrize("name", ["mobilenext_x1_0", "idle_tiny"])
def test_right_files_pass_and_a_weight_that_is_off_does_not(name):
    net = get_model(name)
    initialize_like_trained(net)
    asked = Question.of(net, "images", np.random.RandomState(0).standard_normal((2, 3, 224, 224)).astype(np.float32))
    folded = static_block(static_graph(*network_graph(net)))(mx.nd.array(asked.images)).asnumpy()
    assert asked.judged(folded).refused is None
    weights = [param for key, param in net.features[1].collect_params().items() if key.endswith("weight")]
    for weight in (weights[0], weights[-1]):
        own = weight.data().copy()
        place = np.unravel_index(np.abs(own.asnumpy()).argmax(), own.shape)
        changed = own.copy()
        changed[place] = changed[place] + 1e-3
        weight.set_data(changed)
        assert asked.judged(float_logits(net, asked.images)).refused is not None, weight.name
        weight.set_data(own)


def test_what_float32_does_to_a_network_is_allowed_to_its_files():
    logits = np.random.RandomState(0).standard_normal((2, 10))
    off = logits + 2e-4 * logits.std()
    assert Question("images", logits, logits, rounding=1e-4).judged(off).refused is None
    assert "2e-04" in Question("images", logits, logits, rounding=5e-5).judged(off).refused
    assert "2e-05 is allowed" in Question("images", logits, logits, rounding=1e-6).judged(off).refused


@pytest.mark.parametrize("preprocessing", [Preprocessing(), RAW_BGR, Preprocessing((10, 20, 30), (1, 2, 4), "bgr")])
@pytest.mark.parametrize("format", FORMATS)
def test_pixels_as_input(format, preprocessing, tmp_path):
    net = initialized("idle_tiny", classes=3)
    net.preprocessing = preprocessing
    usual = open_exported(export(net, tmp_path / "usual", 32, format=format).description)
    raw = open_exported(export(net, tmp_path / "raw", 32, format=format, raw_input=True).description)
    pixels = np.random.RandomState(0).randint(0, 256, (2, 3, 32, 32)).astype(np.float32)
    step = -1 if preprocessing.channel_order == "bgr" else 1
    mean, std = (np.array(values[::step], np.float32).reshape(3, 1, 1) for values in preprocessing[:2])
    expected = usual((pixels - mean) / std)
    np.testing.assert_allclose(raw(pixels), expected, atol=1e-6 * np.abs(expected).max())
    assert usual.description.preprocessing[:3] == preprocessing[:3] and usual.description.normalized_inside is None
    left = raw.description.preprocessing
    assert left[:3] == Preprocessing((0, 0, 0), (1, 1, 1), preprocessing.channel_order)[:3]
    assert (left.image_size, left.interpolation) == (32, "bilinear")
    assert raw.description.normalized_inside == {"mean": list(preprocessing.mean), "std": list(preprocessing.std)}


def test_the_description_says_what_the_files_are(tmp_path):
    net = initialized("mobilenet_v3_small", classes=3, padding="same")
    written = export(net, tmp_path / "net", 64, format="onnx", batch=4, names=["a", "b", "c"])
    content = json.loads(written.description.read_text())
    assert content.pop("difference") == written.difference < 1e-4
    assert set(content.pop("versions")) == {"gluon_effnets", "mxnet", "onnx", "onnxruntime"}
    assert content.pop("options")["padding"] == "same"
    assert content.pop("compared_on") == ["random pixels", "photographs"]
    assert content.pop("sha256") == {"net.onnx": hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()}
    assert content == {
        "kind": "gluon_effnets export",
        "format": "onnx",
        "files": ["net.onnx"],
        "model": "mobilenet_v3_small",
        "aligned": False,
        "runtime": "portable",
        "input_shape": [4, 3, 64, 64],
        "num_classes": 3,
        "image_size": 64,
        "crop": 0.875,
        "interpolation": "bilinear",
        "mean": list(Preprocessing().mean),
        "std": list(Preprocessing().std),
        "channel_order": "rgb",
        "normalized_inside": None,
        "names": ["a", "b", "c"],
        "folded": True,
        "fused": None,
        "milliseconds": None,
        "int8": None,
    }


def test_without_scikit_learn_random_pixels_are_compared(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    written = export(initialized("idle_tiny"), tmp_path / "net", 32)
    assert open_exported(written.description).description.compared_on == ("random pixels",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "tvm"}, "format is 'tvm'; choose one of mxnet, onnx"),
        ({"batch": 2}, "for MXNet take any number of images; a fixed batch is for format 'onnx'"),
        ({"format": "onnx", "fold": False}, "ONNX files always have BN folded in"),
        ({"format": "onnx", "batch": 0}, "batch is 0; it must be at least 1"),
        ({"format": "onnx", "batch": 2**31 - 1}, "batch is 2147483647; it must be at least 1, and at most 4096"),
        ({"names": ["a"]}, "there are 1 names, but 3 classes"),
        ({"align": True}, "idle_tiny has no aligned form"),
    ],
)
def test_what_cannot_be_exported_so(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(initialized("idle_tiny", classes=3), tmp_path / "net", 32, **settings)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_remedy(tmp_path, monkeypatch):
    net = initialized("idle_tiny", classes=3)
    export(net, tmp_path / "net", 32, format="onnx")
    for name in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ImportError, match=rf"(?s){name} cannot be imported.*-m pip install 'onnx>=1.13'"):
                export(net, tmp_path / "other", 32, format="onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="onnxruntime cannot be imported"):
        open_exported(tmp_path / "net.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.json", "net.onnx"]


# Files that are damaged or something else, and the commands


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A weights file 'w.params', the same network exported in both formats, and a folder with three photographs."""
    root = tmp_path_factory.mktemp("written")
    net = initialized("idle_tiny", classes=5)
    net.preprocessing = Preprocessing((10.0, 20.0, 30.0), (20.0, 20.0, 40.0), "bgr")
    net.save_parameters(str(root / "w.params"))
    for format in FORMATS:
        export(net, root / format, 32, format=format, names=[f"name {i}" for i in range(5)])
    (root / "photos" / "deep").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.JPG", "deep/c.jpeg"]):
        cv2.imwrite(str(root / "photos" / name), photo(number))
    return root


def without_digests(folder):
    """Let the descriptions in a folder be those of a version that wrote none."""
    for path in folder.glob("*.json"):
        with contextlib.suppress(ValueError):
            content = json.loads(path.read_text())
            if isinstance(content, dict) and content.pop("sha256", None):
                path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("onnx.onnx", "no ONNX file that ONNX Runtime can load, or it is cut short"),
        ("mxnet-symbol.json", "is no graph for MXNet, or is cut short"),
        ("mxnet-0000.params", "is not a .params file"),
        ("onnx.json", "does not describe an exported network, or is cut short"),
    ],
)
def test_damaged_and_missing_files_are_one_message(damaged, message, written, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(written, folder)
    path, image = folder / damaged, str(written / "photos" / "a.png")
    arguments = ["predict", str(folder / f"{damaged.split('.')[0].split('-')[0]}.json"), image]
    whole = path.read_bytes()
    # With the digests of the files, and as older versions described them.
    for told in ("were not written together, or are cut short; export again", message):
        for content in (whole[: len(whole) // 2], b"", b"something else", b"[1, 2]"):
            path.write_bytes(content)
            assert main(arguments) == 1
            out, err = capsys.readouterr()
            assert (message if path.suffix == ".json" and "symbol" not in path.name else told) in err
            assert path.name in err and not out and err.count("\n") == 1
        without_digests(folder)
    path.unlink()
    assert main(arguments) == 1
    assert path.name in capsys.readouterr().err


def test_files_of_another_network_are_one_message(written, tmp_path, capsys):
    other = export(initialized("mobilenet_v3_small", classes=5), tmp_path / "mxnet", 32)
    shutil.copy(written / "mxnet-0000.params", other.params)
    image = str(written / "photos" / "a.png")
    for path, message in [
        (other.description, "were not written together"),
        (other.symbol, "does not describe an exported network"),
        (written / "onnx.onnx", "give the JSON file that export wrote beside it"),
        (tmp_path / "none.json", "no exported network at"),
    ]:
        assert main(["predict", str(path), image]) == 1
        out, err = capsys.readouterr()
        assert message in err and not out and err.count("\n") == 1


def predictions(capsys, *arguments):
    assert main(["predict", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_every_format_predicts_the_same(written, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"name {i}\n" for i in range(5)))
    photos = written / "photos"
    by_weights = predictions(capsys, "idle_tiny", written / "w.params", photos, "--image-size", 32, "--names", names)
    lines = by_weights.splitlines()
    assert [line for line in lines if line[0] != " "] == [str(photos / n) for n in ("a.png", "b.JPG", "deep/c.jpeg")]
    assert len(lines) == 18 and "name 3" in by_weights
    for format in FORMATS:
        for batch in (1, 2, 8):
            assert predictions(capsys, written / f"{format}.json", photos, "--batch", batch) == by_weights
    assert "name" not in predictions(capsys, "idle_tiny", written / "w.params", photos, "--image-size", 32)
    larger = predictions(capsys, written / "mxnet.json", photos, "--image-size", 64)
    assert larger == predictions(
        capsys, "idle_tiny", written / "w.params", photos, "--image-size", 64, "--names", names
    )


def test_unreadable_images_of_a_batch_are_named_and_the_others_done(written, tmp_path, capsys):
    good, bad = str(written / "photos" / "a.png"), tmp_path / "bad.png"
    bad.write_text("no image")
    arguments = ["predict", str(written / "onnx.json"), good, str(bad), "none.jpg", good, good, "--batch", "2"]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out.splitlines().count(good) == 3
    first, second = err.splitlines()
    assert f"{bad} is no readable image" in first and "no image at none.jpg" in second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{onnx}", "{photo}", "--image-size", "64"], "takes images of 32 x 32 alone, not 64"),
        (["{onnx}", "{photo}", "--option", "stem_stride=1"], "an exported network is as it was exported"),
        (["{onnx}", "{photo}", "--batch", "0"], "the number of images in a batch is 0"),
        (["{onnx}", "{empty}"], "no images in"),
        (["idle_tiny", "{weights}"], "no images: give NAME WEIGHTS IMAGE"),
    ],
)
def test_mistakes_are_one_message(arguments, message, written, tmp_path, capsys):
    values = {
        "{onnx}": written / "onnx.json",
        "{photo}": written / "photos" / "a.png",
        "{weights}": written / "w.params",
        "{empty}": tmp_path,
    }
    assert main(["predict", *(str(values.get(argument, argument)) for argument in arguments)]) == 1
    out, err = capsys.readouterr()
    assert message in err and not out and err.count("\n") == 1


def test_the_command_exports_in_both_formats(written, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\ne\n")
    common = ["export", "idle_tiny", str(written / "w.params")]
    options = ["--image-size", "32", "--raw-input", "--names", str(names)]
    assert main([*common, str(tmp_path / "one"), *options, "--format", "onnx", "--batch", "3"]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'one.onnx'}\n{tmp_path / 'one.json'}\n" in out
    assert "input: pixels of 0..255, then inside BGR 0..255, minus mean 10, 20, 30" in out
    assert "loaded again: largest difference" in out
    assert open_exported(tmp_path / "one.json").description.input_shape == (3, 3, 32, 32)
    assert main([*common, str(tmp_path / "two"), *options, "--format", "onnx", "--batch", "dynamic"]) == 0
    capsys.readouterr()
    assert main([*common, str(tmp_path / "three"), *options]) == 0
    assert "one image on this CPU: plain " in capsys.readouterr().out
    photos = written / "photos"
    first, *others = (predictions(capsys, tmp_path / f"{name}.json", photos) for name in ("one", "two", "three"))
    assert others == [first, first]
    usual = predictions(capsys, written / "onnx.json", photos, "--names", names)
    assert first == usual


def test_the_command_leaves_bn_alone(written, tmp_path, capsys):
    arguments = [
        "export",
        "idle_tiny",
        str(written / "w.params"),
        str(tmp_path / "net"),
        "--image-size",
        "32",
        "--no-fold",
    ]
    assert main(arguments) == 0
    assert "BatchNorm" in operators(tmp_path / "net-symbol.json")
    assert (
        main([*arguments, "--width", "0"])
        == main([*arguments, "--routed"])
        == main([*arguments, "--format", "onnx"])
        == 1
    )
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 3 and all("BN folded in" in line or "--routed goes with" in line for line in err)


def test_latency_is_measured_in_both_variants():
    latency = measure_latency(initialized("idle_tiny"), 32, repeats=3)
    assert set(latency) == {"plain", "fused"}
    assert all(0 < value.minimum <= value.median for value in latency.values())


@pytest.mark.slow
def test_forms_of_the_idle_block_are_compared():
    rows = compare_variants("idle_mbv3_small", "mobilenet_v3_small", repeats=1)
    assert [row.variant for row in rows] == ["mobilenet_v3_small", *VARIANTS]
    assert all(row.difference < 1e-5 for row in rows[1:])
    assert [row.train is None for row in rows] == [False, True, False, True, False]
    assert "fails" in variants_table(rows).text()


@pytest.mark.parametrize("prefix", ["", ".", "/", "..", "new/.."])
@pytest.mark.parametrize("format", ["mxnet", "onnx"])
def test_files_without_a_name_are_refused(prefix, format, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is no beginning of file names"):
        export(initialized("idle_tiny"), prefix, 32, format=format)
    assert not list(tmp_path.iterdir())


def test_logits_of_any_size_are_compared():
    exact = np.array([[1e30, -1e30, 3e30]], np.float32)
    with np.errstate(all="raise"):
        for measure in (largest_difference, relative_difference):
            assert measure(exact, exact) == 0
            assert measure(exact * np.float32(1.01), exact) == pytest.approx(
                measure(exact * np.float32(1e-30) * 1.01, exact * np.float32(1e-30)), rel=1e-3
            )
