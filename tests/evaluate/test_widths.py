"""Trained slimmable networks from the command line: accuracy per width, scores and pictures of routes."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.evaluate.inputs import as_pixels
from gluon_effnets.evaluate.routes import draw_routes
from gluon_effnets.evaluate.validate import open_pair, validate
from gluon_effnets.models import Preprocessing

DATA = ("synthetic:96", ["data.image_size=16", "data.batch_size=8"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of a network whose gate chooses several routes."""
    mx.random.seed(5)
    net = get_model("ds_mobilenet_tiny", classes=10, stem_stride=1)
    net.initialize()
    gate = net.gates[0].gate.weight
    gate.set_data(mx.nd.random.normal(0, 1000, gate.shape))
    path = tmp_path_factory.mktemp("weights") / "tiny.params"
    net.save_parameters(str(path))
    return str(path)


def hits(weights, which):
    net, data = open_pair("ds_mobilenet_tiny", weights, *DATA)
    found = [
        (net.subnet(which)(batch.data).argmax(axis=1).asnumpy() == batch.label.asnumpy())[: batch.num_valid]
        for batch in data.val_batches()
    ]
    return np.concatenate(found).mean()


def test_accuracy_of_every_width(weights):
    scores = validate("ds_mobilenet_tiny", weights, *DATA, widths="all")
    assert [key for key in scores if "top1_" in key] == [f"top1_{which}" for which in (*range(6), "largest")]
    for which in (0, 3, "largest"):
        assert scores[f"top1_{which}"] == pytest.approx(hits(weights, which))
    assert scores["top1"] == scores["top1_0"]
    chosen = validate("ds_mobilenet_tiny", weights, *DATA, widths=[3, "largest"])
    assert chosen["top1"] == chosen["top1_3"] == scores["top1_3"]


def test_without_widths_it_is_the_largest(weights):
    assert validate("ds_mobilenet_tiny", weights, *DATA)["top1"] == pytest.approx(hits(weights, "largest"))


def test_command_validate(weights, capsys):
    command = ["validate", "ds_mobilenet_tiny", weights, "--data", DATA[0], "--set", DATA[1][0], "--widths"]
    assert main([*command, "dynamic"]) == 0
    told = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert {"top1", "gate_accuracy", "easy", "mean_madds", "route_3", "easy_route_3", "loss"} <= told.keys()
    assert sum(float(told[f"route_{k}"].rstrip("%")) for k in range(4)) == pytest.approx(100, abs=0.01)
    assert main([*command, "0,5,largest"]) == 0
    told = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert {"top1_0", "top1_5", "top1_largest"} <= told.keys() and "top1_1" not in told
    assert main([*command, "9"]) == 1
    assert "there is no sub-network 9: choose 0 to 5" in capsys.readouterr().err
    assert main([*command, "some"]) == 1
    assert "give all, ends or a list" in capsys.readouterr().err


def test_a_page_for_every_route(weights, tmp_path, capsys):
    net, data = open_pair("ds_mobilenet_tiny", weights, *DATA)
    routes = np.concatenate([net.route(b.data).asnumpy()[: b.num_valid, 0] for b in data.val_batches()])
    found, counts = np.unique(routes, return_counts=True)
    assert len(found) > 1
    drawn = draw_routes("ds_mobilenet_tiny", weights, DATA[0], tmp_path / "a" / "p", images=5, overrides=DATA[1])
    assert [page.picture.name for page in drawn] == [f"p.route-{k}.png" for k in found], "cheapest first"
    for page, count in zip(drawn, counts):
        assert page.picture.read_bytes().startswith(b"\x89PNG")
        assert f"{count} of {len(routes)} images" in page.title
    command = ["plot", "routes", "ds_mobilenet_tiny", weights, str(tmp_path / "q"), "--data", DATA[0]]
    assert main([*command, "--set", DATA[1][0], "--images", "3"]) == 0
    assert capsys.readouterr().out.count("M MAdds") == len(found)
    assert main([*command, "--images", "0"]) == 1
    assert "must be at least 1" in capsys.readouterr().err


def test_networks_without_gates_have_no_routes(tmp_path, capsys):
    net = get_model("idle_tiny", classes=10, stem_stride=1)
    net.initialize()
    net.save_parameters(str(tmp_path / "w.params"))
    rest = [str(tmp_path / "w.params"), "--data", DATA[0], "--set", DATA[1][0]]
    assert main(["plot", "routes", "idle_tiny", rest[0], str(tmp_path / "p"), *rest[1:]]) == 1
    assert "plot routes needs a network with gates (ds_mobilenet_v1, ...), not idle_tiny" in capsys.readouterr().err
    assert main(["validate", "idle_tiny", *rest, "--widths", "all"]) == 1
    assert "widths=all needs a network with several widths" in capsys.readouterr().err


@pytest.mark.fast
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_pictures_show_the_pixels_that_were_read(order):
    pixels = np.random.RandomState(0).randint(0, 256, (4, 5, 3))
    preprocessing = Preprocessing((120.0, 110.0, 100.0), (50.0, 60.0, 70.0), order)
    normal = (pixels - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    given = normal[..., :: -1 if order == "bgr" else 1].transpose(2, 0, 1)
    assert (as_pixels(given, preprocessing) == pixels).all()
