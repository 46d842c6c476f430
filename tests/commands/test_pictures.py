"""Pictures: a file in a new folder, nothing left open, and a message where matplotlib is missing."""

from __future__ import annotations

import sys

import pytest

from gluon_effnets.pictures import load_pyplot, save_picture


def test_a_picture_is_written_and_closed(tmp_path):
    pyplot = load_pyplot("the test")
    before = pyplot.get_fignums()
    figure, axes = pyplot.subplots(figsize=(2, 1))
    axes.plot([1, 2])
    save_picture(figure, tmp_path / "new" / "line.png", dpi=50)
    content = (tmp_path / "new" / "line.png").read_bytes()
    assert content.startswith(b"\x89PNG") and content[16:24] == (100).to_bytes(4, "big") + (50).to_bytes(4, "big")
    assert pyplot.get_fignums() == before


def test_a_picture_that_cannot_be_written_is_closed_too(tmp_path):
    pyplot = load_pyplot("the test")
    before = pyplot.get_fignums()
    with pytest.raises(ValueError, match="nonsense"):
        save_picture(pyplot.figure(), tmp_path / "line.nonsense")
    assert pyplot.get_fignums() == before


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"needed for: the test\.\nInstall it with: .*'matplotlib>=3.3'"):
        load_pyplot("the test")
