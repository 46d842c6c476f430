"""Networks with a gate run as static graphs: the logits of the masked network, in memory and from files."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import subprocess
import sys

import cv2
import mxnet as mx
import numpy as np
import onnx
import pytest

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks.routing import compare_routing, mix_decisions, routing_table
from gluon_effnets.benchmarks.slicing import compare_slicing, slicing_table
from gluon_effnets.complexity import count, count_params
from gluon_effnets.deploy import ExportError, Router, export_routed, export_subnet, load_exported, load_routed
from gluon_effnets.deploy.formats import FORMATS
from gluon_effnets.deploy.graph.inference import as_numpy, inference_graph, static_block
from gluon_effnets.deploy.graph.static import static_graph
from gluon_effnets.deploy.routed import answers
from gluon_effnets.deploy.routed.router import routed_graphs, static_subnet
from gluon_effnets.deploy.to_mxnet.variants import VARIANTS
from gluon_effnets.evaluate.predict import Classifier, ExportedClassifier, read_image

flow = importlib.import_module("gluon_effnets.deploy.export")  # an attribute of deploy, the function hides it

TINY = "ds_mobilenet_tiny"
KINDS = {"mxnet": {}, "onnx": {"format": "onnx"}, "single": {"format": "onnx", "single_file": True}}
OPTIONS = [{}, {"first_candidate": 2}, {"gate_heads": "separate", "num_candidates": 2, "first_candidate": 1}]


def images(number=16, size=32):
    draw = np.random.RandomState(1)
    return mx.nd.array(draw.standard_normal((number, 3, size, size)) * draw.uniform(0.2, 2, (number, 1, 1, 1)))


def lively(**options):
    """A small network with BN statistics and shifts of its own at every width, and decisions that vary."""
    mx.random.seed(0)
    net = get_model(TINY, classes=6, **options)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=3))
    draw = np.random.RandomState(0)
    for name, param in net.collect_params().items():
        if name.endswith(("running_mean", "beta")):
            param.set_data(mx.nd.array(draw.normal(0, 0.1, param.shape)))
        elif name.endswith(("running_var", "gamma")):
            param.set_data(mx.nd.array(draw.uniform(0.5, 1.5, param.shape)))
    mix_decisions(net, images())
    return net


def close(found, expected):
    found, expected = as_numpy(found), as_numpy(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def net():
    return lively()


@pytest.fixture
def exported(net, tmp_path):
    return export_routed(net, tmp_path / "net", image_size=32)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("options", OPTIONS)
def test_routed_equals_masked(options, variant):
    net, x = lively(**options), images()
    masked, routed = net.dynamic(x), Router.of(net, variant)(x)
    np.testing.assert_array_equal(routed.decisions, net.route(x).asnumpy()[:, 0])
    first = options.get("first_candidate", 0)
    candidates = set(range(first, first + options.get("num_candidates", 4)))
    assert set(routed.decisions) == candidates, "decisions that are all equal test no order"
    close(routed.logits, masked.logits)


def test_a_batch_gives_what_its_images_give_alone(net):
    x = images()
    router, masked = Router.of(net), net.dynamic(x).logits
    together = router(x)
    assert len({*map(tuple, np.round(masked.asnumpy(), 4))}) == len(x), "equal logits test no order"
    for place in range(len(x)):
        alone = router(x[place : place + 1])
        assert alone.decisions == together.decisions[place : place + 1]
        close(alone.logits, masked[place : place + 1])


def test_a_single_route_passes_the_batch_on(net):
    x = images()
    router = Router.of(net)
    decisions = router(x).decisions
    one_route = x.take(mx.nd.array(np.flatnonzero(decisions == 1)))
    routed = router(one_route)
    assert len(routed.decisions) > 1 and set(routed.decisions) == {1}
    close(routed.logits, net.subnet(1)(one_route))


def test_other_sizes_and_batches_after_the_first(net):
    router = Router.of(net)
    for number, size in ((5, 32), (1, 48), (16, 32), (3, 64)):
        close(router(images(number, size)).logits, net.dynamic(images(number, size)).logits)


def test_every_width_whatever_the_gate_says(net):
    router, x = Router.of(net), images(3)
    assert router.widths == (0, 1, 2, 3)
    for width in router.widths:
        close(router.at_width(width, x), net.subnet(width)(x))


def test_the_network_stays_as_it_was(net):
    before = {key: param.data().asnumpy() for key, param in net.collect_params().items()}
    Router.of(net)(images())
    for key, param in net.collect_params().items():
        np.testing.assert_array_equal(param.data().asnumpy(), before[key])


@pytest.mark.parametrize("which", [*range(6), "largest"])
def test_a_static_width_holds_what_it_uses(net, which):
    block, subnet, x = static_subnet(net, which), net.subnet(which), images(2)
    close(block(x), subnet(x))
    operators = [node["op"] for node in json.loads(inference_graph(block).tojson())["nodes"]]
    assert "slice_axis" not in operators and "BatchNorm" not in operators
    # Folding makes one bias of beta and gamma; the gate is no part of a width.
    active = subnet.active_shapes() if which != "largest" else {p.name: p.shape for p in net.collect_params().values()}
    gammas = sum(math.prod(shape) for name, shape in active.items() if name.endswith("gamma"))
    gate = count_params(net.gates)
    assert sum(p.data().size for p in block.collect_params().values()) == count_params(subnet) - gammas - gate
    assert count(block, 32).madds == count(subnet, 32).madds


def test_group_norm_and_frozen_batch_norm_keep_their_layers():
    net, x = get_model("ds_resnet_tiny", classes=3), images(2)
    net.initialize()
    close(static_subnet(net, (1, 0, 2))(x), net.subnet((1, 0, 2))(x))
    fixed = mx.sym.BatchNorm(mx.sym.Convolution(mx.sym.var("data"), kernel=(1, 1), num_filter=4, name="c"), name="b")
    shapes, _, statistics = fixed.infer_shape(data=(1, 3, 5, 5))
    named = [*zip(fixed.list_arguments(), shapes), *zip(fixed.list_auxiliary_states(), statistics)]
    arrays = {name: mx.nd.random.uniform(0.5, 2, shape=shape) for name, shape in named if name != "data"}
    x = mx.nd.random.normal(shape=(2, 3, 5, 5))
    unfolded = static_block(static_graph(fixed, arrays, fold=False))
    folded = static_block(static_graph(fixed, arrays))
    assert "BatchNorm" in unfolded(mx.sym.var("data")).tojson()
    assert "BatchNorm" not in folded(mx.sym.var("data")).tojson()
    close(folded(x), unfolded(x))  # fix_gamma, MXNet's default, makes 1 of every gamma


def test_a_map_that_others_read_too_keeps_its_batch_norm():
    conv = mx.sym.Convolution(mx.sym.var("data"), kernel=(1, 1), num_filter=3, name="c")
    symbol = mx.sym.BatchNorm(conv, name="b", fix_gamma=False) + conv
    shapes, _, statistics = symbol.infer_shape(data=(1, 3, 5, 5))
    named = [*zip(symbol.list_arguments(), shapes), *zip(symbol.list_auxiliary_states(), statistics)]
    arrays = {name: mx.nd.random.uniform(0.5, 2, shape=shape) for name, shape in named if name != "data"}
    x = mx.nd.random.normal(shape=(2, 3, 5, 5))
    close(static_block(static_graph(symbol, arrays))(x), static_block(static_graph(symbol, arrays, fold=False))(x))


@pytest.mark.parametrize("variant", VARIANTS)
def test_exported_files_route_alike(net, exported, variant):
    x, manifest = images(), json.loads(exported.read_text())
    routed = load_routed(exported, variant)
    close(routed(x).logits, net.dynamic(x).logits)
    np.testing.assert_array_equal(routed(x).decisions, net.route(x).asnumpy()[:, 0])
    assert sorted(path.name for path in exported.parent.iterdir()) == sorted([exported.name, *manifest["sha256"]])
    assert len(manifest["sha256"]) == 2 * (1 + 4) and 0 < manifest["difference"] < 1e-5
    assert manifest["mean"] == list(net.preprocessing.mean)


def test_multiply_adds_in_the_manifest_are_those_of_the_masked_network(net, exported):
    output = net.dynamic(images())
    madds = {route.width: route.madds for route in load_routed(exported).description.routes}
    chosen = output.choice.asnumpy()[:, 0].argmax(axis=1)
    assert [madds[width] for width in chosen] == output.madds.asnumpy().tolist()


# What docs/dsnet.md shows.
WITHOUT_THIS_PACKAGE = {
    "mxnet": """
import mxnet as mx
def load(symbol, params):
    block = mx.gluon.SymbolBlock.imports(folder + symbol, ["data"], folder + params)
    block.hybridize(static_alloc=True, static_shape=True, backend="MKLDNN")
    return block
head = load(*manifest["head"])
tails = [load(*route["files"]) for route in manifest["routes"]]
feature_map, place = head(mx.nd.array(image))
logits = tails[int(place.asscalar())](feature_map).asnumpy()
""",
    "onnx": """
import onnxruntime
def load(name):
    return onnxruntime.InferenceSession(folder + name, providers=["CPUExecutionProvider"])
head = load(*manifest["head"])
tails = [load(*route["files"]) for route in manifest["routes"]]
feature_map, [place] = head.run(["map", "place"], {"data": image})
[logits] = tails[place].run(["logits"], {"data": feature_map})
""",
    "single": """
import onnxruntime
[name] = manifest["head"]
session = onnxruntime.InferenceSession(folder + name, providers=["CPUExecutionProvider"])
logits, [place] = session.run(["logits", "place"], {"data": image})
assert manifest["routes"][place]["width"] == DECISION
""",
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_run_without_this_package(net, tmp_path, kind):
    path, x = export_routed(net, tmp_path / "net", 32, **KINDS[kind]), images(1)
    code = f"""
import json, sys
import numpy as np
manifest, folder = json.load(open({str(path)!r})), {str(path.parent)!r} + "/"
image = np.array(json.load(sys.stdin), np.float32)
{WITHOUT_THIS_PACKAGE[kind].replace("DECISION", str(net.route(x).asnumpy().item()))}
print(json.dumps(logits.tolist()))
assert not any(name.startswith("gluon_effnets") for name in sys.modules)
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    found = subprocess.run(command, input=json.dumps(x.asnumpy().tolist()), capture_output=True, text=True, check=True)
    close(np.array(json.loads(found.stdout.splitlines()[-1])), net.dynamic(x).logits)


@pytest.mark.parametrize("kind", ["onnx", "single"])
@pytest.mark.parametrize("options", OPTIONS)
def test_onnx_files_route_alike(options, kind, tmp_path):
    net, x = lively(**options), images()
    path = export_routed(net, tmp_path / "net", 32, **KINDS[kind])
    routed, masked = load_routed(path), net.dynamic(x)
    found = routed(x.asnumpy())
    np.testing.assert_array_equal(found.decisions, net.route(x).asnumpy()[:, 0])
    assert set(found.decisions) == set(routed.widths), "decisions that are all equal test no order"
    close(found.logits, masked.logits)
    close(routed.logits(x.asnumpy()[:1]), masked.logits[:1])
    for width in routed.widths:
        close(routed.at_width(width, x.asnumpy()), net.subnet(width)(x))
    names = {"onnx": ["net-head.onnx", *(f"net-width{width}.onnx" for width in routed.widths)], "single": ["net.onnx"]}
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["net.json", *names[kind]])
    assert sorted(routed.description.sha256) == sorted(names[kind]) and 0 < routed.description.difference < 1e-5
    assert {"onnx", "onnxruntime"} < routed.description.versions.keys()
    with pytest.raises(ValueError, match="takes an array of .* 32 x 32"):
        routed(images(1, 48).asnumpy())


def test_weights_of_a_route_stand_in_its_branch(net, tmp_path):
    """ONNX Runtime optimizes the others no more than halfway."""
    export_routed(net, tmp_path / "net", 32, format="onnx", single_file=True)
    export_routed(net, tmp_path / "two", 32, format="onnx")
    graph = onnx.load(str(tmp_path / "net.onnx")).graph

    def inner(graph):
        [choice] = [node for node in graph.node if node.op_type == "If"]
        branches = {attribute.name: attribute.g for attribute in choice.attribute}
        return branches["then_branch"], branches["else_branch"]

    [left, right] = inner(graph)
    assert not left.initializer and not right.initializer
    tails = [*inner(left), *inner(right)]
    for width, tail in enumerate(tails):
        alone = onnx.load(str(tmp_path / f"two-width{width}.onnx")).graph
        assert [tensor.raw_data for tensor in tail.initializer] == [tensor.raw_data for tensor in alone.initializer]
        assert [node.op_type for node in tail.node] == [node.op_type for node in alone.node]
    head = onnx.load(str(tmp_path / "two-head.onnx")).graph
    assert len(graph.initializer) == len(head.initializer) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_predict_runs_a_routed_export(net, tmp_path, kind, capsys):
    path = export_routed(net, tmp_path / "net", 32, **KINDS[kind])
    files = [str(tmp_path / f"{name}.png") for name in "abc"]
    for seed, file in enumerate(files):
        cv2.imwrite(file, np.random.RandomState(seed).randint(0, 256, (40, 36, 3)))
    weights = tmp_path / "net.params"
    net.save_parameters(str(weights))
    expected = Classifier(TINY, str(weights), 32)
    for file, found in ExportedClassifier(path).batches(files, 2):
        np.testing.assert_allclose(found, routed_probabilities(net, expected, file), atol=1e-5)
    assert main(["predict", str(path), *files]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3 * (1 + 5)
    if kind != "mxnet":
        with pytest.raises(ValueError, match="takes images of 32 x 32 alone, not 48"):
            ExportedClassifier(path, 48)


def routed_probabilities(net, classifier, file):
    return mx.nd.softmax(net.dynamic(mx.nd.array(classifier._input(read_image(file))[None])).logits).asnumpy()[0]


@pytest.mark.parametrize("name", ["net-head-symbol.json", "net-width2-0000.params"])
def test_missing_and_damaged_files_are_named(exported, name):
    path = exported.with_name(name)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name} .* cut short"):
        load_routed(exported)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"{name} .* cut short"):
        load_routed(exported)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_routed(exported)


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"kind": "gluon_effnets export"}', '{"kind": "gluon_effnets routed export"}']
)
def test_a_wrong_manifest_is_named(exported, text):
    cut = exported.read_text()[:400]
    for content in (text, cut):
        exported.write_text(content)
        with pytest.raises(ValueError, match="net.json is no manifest"):
            load_routed(exported)
    exported.unlink()
    with pytest.raises(FileNotFoundError, match="net.json"):
        load_routed(exported)


def test_a_wrong_graph_is_refused_and_leaves_nothing(net, tmp_path, monkeypatch):
    def distorted(*files, variant, trust):
        block = load_exported(*files)
        for name, param in block.collect_params().items():
            if name.endswith("weight") and param.data().ndim == 2:
                param.set_data(param.data() * 1.01)
        return block

    monkeypatch.setitem(FORMATS, "mxnet", dataclasses.replace(FORMATS["mxnet"], load=distorted))
    with pytest.raises(ExportError, match="differs from the network"):
        export_routed(net, tmp_path / "net", image_size=32)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["onnx", "single"])
def test_wrong_onnx_files_are_refused_and_leave_nothing(net, tmp_path, monkeypatch, kind):
    def swapped(net):
        graphs = routed_graphs(net)
        tails = {**graphs.tails, 1: graphs.tails[2], 2: graphs.tails[1]}
        return graphs._replace(tails=tails)

    monkeypatch.setattr(answers, "routed_graphs", swapped)
    with pytest.raises(ExportError, match="differs from the network"):
        export_routed(net, tmp_path / "net", 32, **KINDS[kind])
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="choose one of mxnet, onnx"):
        export_routed(net, tmp_path / "net", 32, format="tvm")
    with pytest.raises(ValueError, match="for a single file 'onnx'"):
        export_routed(net, tmp_path / "net", 32, single_file=True)


def test_networks_that_cannot_be_routed(tmp_path):
    for name, message in (
        ("ds_resnet_tiny", "3 gates"),
        ("slimmable_mobilenet_v1", "0 gates"),
        ("idle_tiny", "not slimmable"),
    ):
        net = get_model(name, classes=3)
        net.initialize()
        with pytest.raises(ValueError, match=message):
            Router.of(net)
        with pytest.raises(ValueError, match=message):
            export_routed(net, tmp_path / "net")
    with pytest.raises(ValueError, match="variant is 'fast'"):
        Router.of(lively(), "fast")


def test_one_width_as_a_plain_network(net, tmp_path):
    x = images(3, 48)
    files = export_subnet(net, 2, tmp_path / "w2", 32)
    close(load_exported(files.symbol, files.params)(x), net.subnet(2)(x))
    description = json.loads(files.description.read_text())
    assert description["options"]["subnet"] == 2 and 0 < description["difference"] == files.difference < 1e-5
    with pytest.raises(ValueError, match="there is no sub-network 6"):
        export_subnet(net, 6, tmp_path / "w6")


def test_export_commands(net, tmp_path, capsys):
    weights = tmp_path / "net.params"
    net.save_parameters(str(weights))
    command = ["export", TINY, str(weights)]
    size = ["--image-size", "32"]
    assert main([*command, str(tmp_path / "routed"), "--routed", *size]) == 0
    close(load_routed(tmp_path / "routed.json")(images()).logits, net.dynamic(images()).logits)
    assert main([*command, str(tmp_path / "w0"), "--width", "0", *size]) == 0
    found = load_exported(tmp_path / "w0-symbol.json", tmp_path / "w0-0000.params")(images())
    close(found, net.subnet(0)(images()))
    to_onnx = ["--routed", "--format", "onnx", *size]
    for name, options in {"several": to_onnx, "single": [*to_onnx, "--single-file"]}.items():
        assert main([*command, str(tmp_path / name), *options]) == 0
        close(load_routed(tmp_path / f"{name}.json").logits(images().asnumpy()), net.dynamic(images()).logits)
    assert main([*command, str(tmp_path / "both"), "--routed", "--width", "0"]) == 1
    assert "--routed goes with" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "both"), "--single-file"]) == 1
    assert "--single-file goes with --routed" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "w9"), "--width", "9", *size]) == 1
    assert "choose 0 to 5" in capsys.readouterr().err


def test_routing_is_timed():
    times = compare_routing(get_model(TINY, first_candidate=1), 32, repeats=1, batch=8, onnx=True)
    assert sum(times.histogram.values()) == 8 and len(times.histogram) > 1
    for runtime in ("MXNet", "ONNX Runtime"):
        rows = [row for row in times.rows if row.runtime == runtime]
        assert {row.images for row in rows} == {"1", "1 x 8", "8 x 1"}
        assert all(0 < row.minimum <= row.median for row in rows)
        madds = {row.network: row.madds for row in rows}
        assert madds["static, width 1"] < madds["routed"] < madds["static, width 4"] < madds["static, width 5"]
    assert ("routed in one file", "8 x 1") in {row[1:3] for row in rows}
    table, notes = routing_table(times)
    assert [row["network"] for row in table.records()] == [row.network for row in times.rows]
    assert "ONNX Runtime, routed, 8 x 1:" in notes and "MXNet, routed to width" in notes
    assert "unknown (1 repetition) times as fast as static, width 1, " in notes


def test_slicing_is_timed():
    rows = compare_slicing(image_size=32, repeats=1)
    assert [row.variant for row in rows] == ["full", "mask", "index", "slice", "ideal", "exported"]
    assert all(row.difference < 1e-5 for row in rows[1:])
    assert "| ideal |" in slicing_table(rows).markdown()
