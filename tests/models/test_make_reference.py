"""dev/make_reference.py: what it writes is what the parity tests read."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import detrand
import pytest
import references

from gluon_effnets import get_model
from gluon_effnets.weights import load_official

DEV = Path(__file__).parents[2] / "dev"
# MobileNetV2 with torchvision's names, written as torchvision does not.
THEIRS = """
import torch
from torch import nn

def unit(inputs, outputs, kernel=1, stride=1, groups=1, act=True):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU6()] if act else []))

def rounded(value):
    new = max(8, int(value + 4) // 8 * 8)
    return new + 8 if new < 0.9 * value else new

class Block(nn.Module):
    def __init__(self, inputs, outputs, ratio, stride):
        super().__init__()
        hidden = inputs * ratio
        expand = [unit(inputs, hidden)] if ratio > 1 else []
        project = [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*expand, unit(hidden, hidden, 3, stride, hidden), *project)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        channels, blocks = rounded(32 * width), []
        first = unit(3, channels, 3, 2)
        for ratio, out, repeats, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                            (6, 160, 3, 2), (6, 320, 1, 1)):
            for number in range(repeats):
                blocks.append(Block(channels, rounded(out * width), ratio, stride if number == 0 else 1))
                channels = rounded(out * width)
        self.features = nn.Sequential(first, *blocks, unit(channels, 1280))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))

class Indexed(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("index", torch.tensor([2, 0]))
        self.fc = nn.Linear(2, 5)

    def forward(self, x):
        return self.fc(x.mean((2, 3))[:, self.index])

def build(width=1.0):
    return Net(width)
"""


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The tool as a module, in a folder with their network."""
    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    spec = importlib.util.spec_from_file_location("make_reference", DEV / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("precision", [[], ["--float32"]], ids=["float64", "float32"])
def test_the_parity_test_reads_what_the_tool_writes(tool, tmp_path, monkeypatch, precision, capsys):
    pytest.importorskip("torch")
    path = tmp_path / "theirs.json"
    words = ["python:theirs:build", "--option", "width=0.35", "--size", "64", "--out", str(path), *precision]
    assert tool.main(words) == 0
    assert "1,677,128 parameters" in capsys.readouterr().out
    references.compare(references.Reference("mobilenet_v2_x0_35", "torchvision"), json.loads(path.read_text()))


def test_the_format_is_that_of_the_committed_files(tool):
    pytest.importorskip("torch")
    import theirs

    reference = tool.make_reference(theirs.build(0.35), {"source": "", "model": "", "kwargs": {}}, 32, 1, 5)
    committed = json.loads((references.COMMITTED / "torchvision_efficientnet_b0.json").read_text())
    assert reference.keys() == committed.keys() - {"notes"}
    assert reference["input"] == {"n": 1, "size": 32, "seed": 5}
    net = get_model("mobilenet_v2_x0_35")
    state = {key: detrand.tensor(key, shape) for key, shape in reference["state"]}
    assert load_official(net, state) == "torchvision"


def test_what_does_not_follow_from_its_key_is_in_the_file(tool):
    pytest.importorskip("torch")
    import theirs

    reference = json.loads(json.dumps(tool.make_reference(theirs.Indexed(), {}, 8)))
    assert detrand.state(reference)["index"].tolist() == [2, 0]
    assert reference["params"] == 15 and reference["madds"] == 10


@pytest.mark.parametrize("package", ["torch", "torchvision", "timm"])
def test_a_missing_package_is_named_with_its_installation(tool, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, "torch", None if package == "torch" else tool)
    monkeypatch.setitem(sys.modules, package, None)
    assert tool.main([package if package != "torch" else "timm", "resnet18"]) == 1
    error = capsys.readouterr().err
    assert f"error: {package} cannot be imported" in error and f"pip install {package}" in error


@pytest.mark.parametrize("source", ["tensorflow", "python:theirs", "python:theirs:nothing", "python:nowhere:build"])
def test_an_unknown_source_is_refused(tool, source):
    with pytest.raises(ValueError, match="give torchvision NAME|cannot be imported from here"):
        tool.find(source, "")
