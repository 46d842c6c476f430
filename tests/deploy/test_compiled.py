"""Graphs run by the compiled operator of whole networks: the same logits, in every family, and never needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings

import mxnet as mx
import numpy as np
import pytest
from detectors import SMALL, inputs, trained_detector
from networks import EVERY_KIND, trained

from gluon_effnets import get_model, native
from gluon_effnets.deploy import Router, export, export_routed, load_exported, load_routed, open_exported
from gluon_effnets.deploy.compiled import run
from gluon_effnets.deploy.compiled.graph import CompiledGraph, compiled_graph
from gluon_effnets.deploy.compiled.run import compiled_where_right
from gluon_effnets.deploy.graph.inference import StaticGraph, network_graph, static_block
from gluon_effnets.models import families, small_model


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """The operators; compiled if a compiler is there, and what this file tests is then never left out."""
    if not native.library().is_file():
        if not any(shutil.which(name) for name in ("g++", "clang++")):
            pytest.skip("no C++ compiler")
        native.build()
    assert native.load()


def never(x):
    raise AssertionError("MXNet's operators run")


def images(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def close(found, expected, bound=1e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * np.abs(expected).max())


# Normalization of the map's values (GroupNorm in masks, LRN) and slices of rows (FactorizedReduce) are MXNet's alone.
LACKING = {"alexnet_caffe", "alexnet_owt", "darts_tiny", "ds_resnet50"}
SMALLEST = [small_model(family) for family in families()]
NETWORKS = [pytest.param(name, marks=[] if name in SMALLEST else pytest.mark.exhaustive) for name in EVERY_KIND]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_logits_of_every_family(name):
    net = trained(name)
    lacks = name in LACKING
    run = compiled_where_right(network_graph(net), net if lacks else never)
    for shape in ((3, 3, 64, 64), (1, 3, 96, 72)):
        x = mx.nd.array(images(*shape))
        close(run(x).asnumpy(), net(x).asnumpy())
    if lacks:
        run = compiled_where_right(network_graph(net), never)
        with pytest.raises(AssertionError, match="MXNet's operators run"):
            run(x)


@pytest.fixture(scope="module")
def net():
    return trained("idle_mbv3_small_maximum")


@pytest.fixture(scope="module")
def exported(net, tmp_path_factory):
    return export(net, tmp_path_factory.mktemp("exported") / "net", 64)


@pytest.fixture
def without_mxnets_operators(monkeypatch):
    """Lets what MXNet would run fail, but for the comparison of the first image."""
    original = run.compiled_where_right
    for module in ("to_mxnet.files", "routed.files", "routed.router"):
        monkeypatch.setattr(
            f"gluon_effnets.deploy.{module}.compiled_where_right", lambda graph, _: original(graph, never)
        )


def test_an_opened_export_runs_by_it(net, exported, without_mxnets_operators):
    run = open_exported(exported.description)
    for number, size in ((1, 64), (5, 64), (2, 80), (0, 64)):
        x = images(number, 3, size, size)
        if number:
            close(run(x), net(mx.nd.array(x)).asnumpy())


def test_the_files_know_nothing_of_it(net, exported):
    assert "effnets" not in exported.symbol.read_text()
    x = mx.nd.array(images(2, 3, 64, 64))
    close(load_exported(exported.symbol, exported.params)(x).asnumpy(), net(x).asnumpy())


def test_a_file_that_names_the_operator_is_refused(exported, tmp_path):
    """What is run in it are numbers, but they come from no file."""
    graph = compiled_graph(network_graph(load_exported(exported.symbol, exported.params)), (3, 64, 64)).graph
    content = re.sub(r'"program": "[^"]*"', '"program": "0 3 0;"', graph.symbol.tojson())
    (tmp_path / "net-symbol.json").write_text(content)
    with pytest.raises(ValueError, match="effnets_network.*no export of this package has"):
        load_exported(tmp_path / "net-symbol.json", exported.params)


def test_pixels_as_input(net, tmp_path, without_mxnets_operators):
    run = open_exported(export(net, tmp_path / "net", 64, raw_input=True).description)
    plain = net.card.preprocessing
    pixels = np.random.RandomState(0).randint(0, 256, (2, 3, 64, 64)).astype(np.float32)
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (plain.mean, plain.std))
    close(run(pixels), net(mx.nd.array((pixels - mean) / std)).asnumpy(), 1e-4)


@pytest.mark.parametrize("off", ["switched off", "not installed"])
def test_without_it_all_is_as_before(net, exported, monkeypatch, off):
    if off == "switched off":
        monkeypatch.setenv(native.SWITCH, "0")
        monkeypatch.setattr(native, "load", native.load.__wrapped__)
    else:
        monkeypatch.setattr(native, "load", lambda: False)
    monkeypatch.setattr(run, "compiled_graph", never)
    x = images(2, 3, 64, 64)
    close(open_exported(exported.description)(x), net(mx.nd.array(x)).asnumpy())


def test_a_process_that_is_told_so_does_not_load_it(exported):
    code = (
        "import sys, numpy as np; from gluon_effnets import native; from gluon_effnets.deploy import open_exported\n"
        "run = open_exported(sys.argv[1]); assert run(np.zeros((1, 3, 64, 64), np.float32)).shape == (1, 7)\n"
        "import mxnet as mx; assert not native.load() and not hasattr(mx.nd, 'effnets_network')"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(exported.description)]
    subprocess.run(command, check=True, env={**os.environ, native.SWITCH: "0"})


def changed(graph: StaticGraph) -> StaticGraph:
    arrays = {name: array.copy() for name, array in graph.arrays.items()}
    weights = arrays["effnets_network_weights"]
    weights[weights.size // 2 :] = 3
    return StaticGraph(graph.symbol, arrays)


def test_other_answers_are_not_used(net, exported, monkeypatch):
    wrong = lambda *of: CompiledGraph(*map(changed, compiled_graph(*of)[:2]), compiled_graph(*of)[2])  # noqa: E731
    monkeypatch.setattr(run, "compiled_graph", wrong)
    x = images(2, 3, 64, 64)
    opened = open_exported(exported.description)
    with pytest.warns(UserWarning, match="runs without compiled operators: the operator gives other answers, off by"):
        close(opened(x), net(mx.nd.array(x)).asnumpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        close(opened(x), net(mx.nd.array(x)).asnumpy())


def test_an_operator_that_fails_is_not_used(net, exported, monkeypatch):
    def cut(graph):
        weights = {name: array[:-16] for name, array in graph.arrays.items()}
        return StaticGraph(graph.symbol, weights)

    failing = lambda *of: CompiledGraph(*map(cut, compiled_graph(*of)[:2]), compiled_graph(*of)[2])  # noqa: E731
    monkeypatch.setattr(run, "compiled_graph", failing)
    x = images(2, 3, 64, 64)
    with pytest.warns(UserWarning, match="without compiled operators: the operator fails"):
        close(open_exported(exported.description)(x), net(mx.nd.array(x)).asnumpy())


def test_answers_that_are_no_numbers_are_mxnets():
    net = trained("mobilenet_v1_x0_25")
    graph = network_graph(net)
    x = images(1, 3, 32, 32)
    x[0, 0, 3, 3] = np.nan
    asked = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        compiled_where_right(graph, lambda x: asked.append(x) or net(x))(mx.nd.array(x))
    assert asked


def test_images_that_do_not_fit_are_one_sentence(exported):
    opened = open_exported(exported.description)
    for shape in ((1, 4, 64, 64), (1, 3, 64), (2, 3, 0, 0)):
        with pytest.raises(ValueError, match=r"cannot run on images of the shape"):
            opened(images(*shape))
    assert opened(images(2, 3, 64, 64)).shape == (2, 7)


def test_arrays_of_other_types_and_too_many_sizes_are_left_to_mxnet(net, monkeypatch):
    seen = []
    function = compiled_where_right(network_graph(net), lambda x: seen.append(x.shape) or net(x.astype("float32")))
    function(mx.nd.array(images(1, 3, 64, 64), dtype="float64"))
    assert seen == [(1, 3, 64, 64)]
    monkeypatch.setattr(run, "_MOST_SHAPES", 2)
    for size in (64, 72, 80, 64):
        function(mx.nd.array(images(1, 3, size, size)))
    assert seen[1:] == [(1, 3, 80, 80)]


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    net = trained("ds_mobilenet_tiny", classes=6)
    return net, export_routed(net, tmp_path_factory.mktemp("routed") / "net", 32)


def test_routed_exports(routed, without_mxnets_operators):
    net, path = routed
    x = images(6, 3, 32, 32)
    for router, given in ((load_routed(path), mx.nd.array(x)), (Router.of(net, "compiled"), mx.nd.array(x))):
        found = router(given)
        expected = load_routed(path, variant="plain")(given)
        assert (found.decisions == expected.decisions).all()
        close(found.logits.asnumpy(), expected.logits.asnumpy())
        for width in router.widths:
            close(router.at_width(width, given).asnumpy(), load_routed(path, "plain").at_width(width, given).asnumpy())


def test_detectors():
    net = trained_detector(SMALL)
    graph, x = network_graph(net), mx.nd.array(inputs(1))
    found, expected = compiled_where_right(graph, never)(x), static_block(graph)(x)
    for own, exact in zip(found, expected):
        close(own.asnumpy(), exact.asnumpy(), 1e-4)


def test_weights_after_loading_are_those_of_the_operator():
    net = get_model("mobilenet_v1_x0_25", classes=3)
    net.initialize(mx.init.Xavier())
    x = mx.nd.array(images(1, 3, 32, 32))
    function = compiled_where_right(network_graph(net), never)
    before = function(x).asnumpy()
    net.output.weight.set_data(net.output.weight.data() * 2)
    assert (function(x).asnumpy() == before).all(), "a graph that was rewritten does not follow the network"
    assert static_block(network_graph(net))(x).shape == (1, 3)
