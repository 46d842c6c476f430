"""The page that every run leaves, and the page that compares runs."""

import re

import pytest

from gluon_effnets.__main__ import main
from gluon_effnets.commands.train import main as train
from gluon_effnets.evaluate.run_page import compare_runs, read_run, run_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a few updates on the digits, with its page."""
    out = tmp_path_factory.mktemp("run") / "<b>digits"
    short = ["duration=4it", "evaluate_every=2it", "schedule.warmup=0it", "model_options.stem_stride=2"]
    overrides = [part for setting in short for part in ("--set", setting)]
    assert train(["--model", "mobilenet_v1_x0_25", "--data", "digits", "--out", str(out), *overrides]) == 0
    return out


def test_every_run_leaves_a_page_that_needs_no_other_file(folder):
    page = (folder / "report.html").read_text()
    assert "of 359 held-out images" in page and "best " in page
    assert page.count("data:image/png;base64,") >= 2 + 12  # curves, confusion matrix, mistakes
    assert "Mistakes that the network was surest of" in page
    assert "duration: 4it" in page and "versions.mxnet" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_what_a_user_named_is_text(folder):
    run = read_run(folder)
    assert "<b>digits" not in compare_runs([run, run])
    assert "<script" not in run_page(run._replace(recipe="<script>alert(1)</script>"))


def test_runs_are_compared(folder, tmp_path, capsys):
    assert main(["report", str(folder), str(folder), "--out", str(tmp_path / "both.html")]) == 0
    page = (tmp_path / "both.html").read_text()
    assert page.count("mobilenet_v1_x0_25") >= 2 and page.count("data:image/png;base64,") == 1
    assert str(tmp_path / "both.html") in capsys.readouterr().out


def test_a_page_without_images_says_how_to_get_them(folder, tmp_path):
    assert main(["report", str(folder), "--no-images", "--out", str(tmp_path / "short.html")]) == 0
    page = (tmp_path / "short.html").read_text()
    assert "python -m gluon_effnets report" in page and "Mistakes" not in page


def test_a_folder_without_a_run_is_one_sentence(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "is no folder of a finished run: it has no readable result.json" in capsys.readouterr().err


def test_a_page_that_fails_does_not_fail_the_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("gluon_effnets.evaluate.run_page.read_run", lambda folder: 1 / 0)
    words = ["--model", "mobilenet_v1_x0_25", "--data", "synthetic", "--out", str(tmp_path / "run")]
    assert train([*words, "--set", "duration=1it", "--set", "report_page=true"]) == 0
    assert "no page about the run was written" in caplog.text
