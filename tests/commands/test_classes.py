"""The command `classes`: names in the order in which im2rec numbers folders."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from gluon_effnets.__main__ import main

pytestmark = pytest.mark.fast


@pytest.fixture
def images(tmp_path):
    """Folders whose order by bytes is not the one of a dictionary, one of them with another inside."""
    for name in ("ant", "Bee", "Zebra", "ant/small", "night owl"):
        folder = tmp_path / "IMAGES" / "train" / name
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "0.jpg"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "IMAGES" / "train" / "no images").mkdir()
    return tmp_path / "IMAGES" / "train"


def test_folder_and_list_give_the_order_of_im2rec(images, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    command = [sys.executable, "-m", "mxnet.tools.im2rec", "--list", "--recursive", str(tmp_path / "data" / "train")]
    told = subprocess.run([*command, str(images)], check=True, capture_output=True, text=True).stdout
    expected = [line.rpartition(" ")[0] for line in told.splitlines() if line[-1:].isdigit()]
    assert expected == ["Bee", "Zebra", "ant", "ant/small", "night owl"]
    for source in (images, tmp_path / "data" / "train.lst"):
        assert main(["classes", str(source), str(tmp_path / "classes.txt")]) == 0
        assert (tmp_path / "classes.txt").read_text(encoding="utf-8").splitlines() == expected
        assert "5 classes, from Bee to night owl" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content,said",
    [
        (None, "no file at"),
        ("0\t0\t5\t1\ta/0.jpg\n", "line 1 is not 'index<TAB>label<TAB>path'"),
        ("0\t0\ta/0.jpg\n1\t0\tb/0.jpg\n", "line 2: label 0 does not stand for one folder"),
        ("0\t0\t0.jpg\n", "line 1: label 0 does not stand for one folder"),
        ("0\t1\ta/0.jpg\n", "has no image with label 0"),
        ("", "has no image with label 0"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(content, said, tmp_path, capsys):
    if content is not None:
        (tmp_path / "x.lst").write_text(content)
    assert main(["classes", str(tmp_path / "x.lst"), str(tmp_path / "out.txt")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.txt").exists()


def test_the_folder_above_is_pointed_down(images, tmp_path, capsys):
    assert main(["classes", str(images.parent), str(tmp_path / "out.txt")]) == 1
    assert f"give {images}" in capsys.readouterr().err
    assert main(["classes", str(images / "ant"), str(tmp_path / "out.txt")]) == 1
    assert "images outside of class folders" in capsys.readouterr().err
