"""Progress of what takes long: bars on a terminal; in a file lines, and no redraws."""

import ast
import io
import sys
from pathlib import Path

import pytest

import gluon_effnets
from gluon_effnets.commands.train import main
from gluon_effnets.progress import progress_bar
from gluon_effnets.train.hooks import logs

PACKAGE = Path(gluon_effnets.__file__).parent


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.fast
@pytest.mark.parametrize(("stream", "shown", "drawn"), [(Terminal, True, True), (Terminal, False, False),
                                                        (io.StringIO, True, False)])  # fmt: skip
def test_a_bar_is_drawn_on_a_terminal_alone(stream, shown, drawn, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    assert list(progress_bar(range(3), shown=shown, desc="work", file=sys.stderr, mininterval=0)) == [0, 1, 2]
    assert ("\r" in sys.stderr.getvalue()) is drawn


@pytest.mark.fast
def test_every_bar_comes_from_one_place():
    elsewhere = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if getattr(called, "id", getattr(called, "attr", "")) == "tqdm" and path.name != "progress.py":
                elsewhere.append(f"{path.relative_to(PACKAGE)}, line {node.lineno}")
    assert elsewhere == []


def run(out):
    settings = ("data.image_size=16", "data.batch_size=8", "duration=3ep", "checkpoint_every=3ep")
    changes = [part for setting in settings for part in ("--set", setting)]
    return main(["--model", "idle_tiny", "--data", "synthetic:16", "--out", str(out), *changes])


def test_a_run_into_a_file_tells_its_progress_in_lines(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(logs, "LINE_EVERY_S", 0.0)
    assert run(tmp_path) == 0
    out, err = capfd.readouterr()
    assert "\r" not in out + err
    lines = [line for line in err.splitlines() if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in lines] == [
        f"epoch {1 + update // 2}/3, update {update + 1}" for update in range(6)
    ]
    assert all("loss" in line and "img/s" in line for line in lines)
    assert [line.partition(":")[0] for line in out.splitlines() if line.startswith("epoch ")] == [
        "epoch 1", "epoch 2", "epoch 3",
    ]  # fmt: skip


def test_a_short_run_into_a_file_has_a_line_per_evaluation_alone(tmp_path, capfd):
    assert run(tmp_path) == 0
    out, err = capfd.readouterr()
    assert "\r" not in out + err and "epoch" not in err
