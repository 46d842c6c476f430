"""Networks with a gate in every stage, routed from stage to stage: in MXNet, in one ONNX file, and without MXNet."""

from __future__ import annotations

import math

import cv2
import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks.routing_stages import mix_paths
from gluon_effnets.complexity import count
from gluon_effnets.deploy import ExportError, Router, StagedRouter, export_routed, load_routed
from gluon_effnets.deploy.routed import answers
from gluon_effnets.evaluate.predict import ExportedClassifier
from gluon_effnets.runtime.network import load

TINY = "ds_resnet_tiny"
AT_32 = {"stem_stride": 1, "stem_pool": False, "se_reduction": 4}  # features enough for a gate to tell images apart


def images(number=12, size=32):
    draw = np.random.RandomState(1)
    return mx.nd.array(draw.standard_normal((number, 3, size, size)) * draw.uniform(0.2, 2, (number, 1, 1, 1)))


def lively(**options):
    """A small network whose images take several widths at every gate."""
    mx.random.seed(0)
    net = get_model(TINY, classes=6, **AT_32, **options)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=3))
    mix_paths(net, images())
    assert all(len(set(gate)) > 1 for gate in net.route(images()).asnumpy().T)
    return net


def close(found, expected):
    found, expected = (array if isinstance(array, np.ndarray) else array.asnumpy() for array in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def net():
    return lively()


@pytest.fixture(scope="module")
def exported(net, tmp_path_factory):
    prefix = tmp_path_factory.mktemp("staged") / "net"
    return export_routed(net, prefix, 32, format="onnx", single_file=True)


@pytest.mark.parametrize(
    ("options", "variant"),
    [
        ({}, "plain"),
        ({}, "fused"),
        ({"num_candidates": 2, "first_candidate": 1}, "plain"),
        ({"gate_heads": "separate"}, "plain"),
    ],
)
def test_routed_equals_masked(options, variant):
    net, x = lively(**options), images()
    masked, routed = net.dynamic(x), StagedRouter.of(net, variant)(x)
    np.testing.assert_array_equal(routed.decisions, net.route(x).asnumpy())
    close(routed.logits, masked.logits)


def test_every_path_is_its_sub_network(net):
    router, x = StagedRouter.of(net, "plain"), images(2)
    for path in ((0, 0, 0), (3, 0, 2), (1, 3, 1), (2, 2, 3)):
        close(router.at_width(path, x), net.subnet(path)(x))
    close(router.at_width(2, x), net.subnet(2)(x))


def test_one_onnx_file_routes_from_stage_to_stage(net, exported):
    x, routed = images(), load_routed(exported)
    logits, paths = routed(x.asnumpy())
    np.testing.assert_array_equal(paths, net.route(x).asnumpy())
    close(logits, net.dynamic(x).logits)
    assert len({tuple(path) for path in paths.tolist()}) > 2
    for path in ((3, 0, 2), (1, 1, 0)):
        close(routed.at_width(path, x.asnumpy()[:2]), net.subnet(path)(x[:2]))
    about = routed.description
    gates = sum(math.prod(net.gates[number].gate.weight.shape) for number in range(3))
    assert [route.madds - gates for route in about.routes] == [count(net.subnet(i), 32).madds for i in range(4)]


def test_the_file_runs_without_mxnet_and_as_a_classifier(net, exported, tmp_path):
    x = images(3).asnumpy()
    close(load(exported).logits(x), net.dynamic(mx.nd.array(x)).logits)
    cv2.imwrite(str(tmp_path / "one.png"), np.random.RandomState(0).randint(0, 255, (40, 50, 3)))
    assert ExportedClassifier(exported)(tmp_path / "one.png").shape == (6,)


def test_a_network_with_several_gates_needs_one_file(net, tmp_path):
    with pytest.raises(ValueError, match=r"has 3 gates; .* StagedRouter.of\(net\) .*single-file"):
        export_routed(net, tmp_path / "net", 32, format="onnx")
    with pytest.raises(ValueError, match="StagedRouter"):
        Router.of(net)
    with pytest.raises(ValueError, match="ds_mobilenet_tiny has 1 gates; they are routed where each begins a stage"):
        StagedRouter.of(get_model("ds_mobilenet_tiny"))
    with pytest.raises(ValueError, match="is not slimmable"):
        StagedRouter.of(get_model("mobilenext_x0_35"))
    assert not list(tmp_path.iterdir())


def test_a_file_with_other_decisions_is_refused(net, tmp_path, monkeypatch):
    monkeypatch.setattr(answers.RoutedLogits, "decisions", lambda self, images: np.full((len(images), 3), 9))
    with pytest.raises(ExportError, match="decides otherwise"):
        export_routed(net, tmp_path / "net", 32, format="onnx", single_file=True)
    assert not list(tmp_path.iterdir())


def test_commands_export_and_time_it(net, tmp_path, capsys):
    net.save_parameters(str(tmp_path / "net.params"))
    command = ["export", TINY, str(tmp_path / "net.params"), str(tmp_path / "out"), "--routed", "--image-size", "32"]
    assert main([*command, "--format", "onnx", "--single-file"]) == 0
    assert "out.onnx" in capsys.readouterr().out
    assert main(command) == 1
    assert "--single-file" in capsys.readouterr().err
    assert main(["benchmark", "routing", TINY, "--image-size", "64", "--repeats", "1", "--batch", "4", "--onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith(("| MXNet |", "| ONNX Runtime |"))]
    for static, routed in zip(rows[::2], rows[1::2]):
        assert static[1].split()[-1] == routed[1].split()[-1] and static[-1] == routed[-1]
        assert static[1].startswith("static, path") and routed[1].startswith("routed to path")
    assert sum(" times as fast as static, path " in line for line in lines) == len(rows) // 2 > 0
