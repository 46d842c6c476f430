"""train_imagenet.py from the command line to the run folder, and what it answers to mistakes."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import socket
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
import yaml
from waiting import PATIENCE_S

import gluon_effnets
from gluon_effnets import get_model
from gluon_effnets.commands.train import main
from gluon_effnets.train import loop
from gluon_effnets.train.checkpoint import list_checkpoints
from gluon_effnets.train.config import load_recipe

ROOT = Path(gluon_effnets.__file__).resolve().parents[1]
QUICK = ("data.image_size=16", "data.batch_size=8", "duration=2ep", "checkpoint_every=1it")


def command(out, *more, data="synthetic:16", overrides=QUICK):
    changes = [part for override in overrides for part in ("--set", override)]
    return ["--model", "idle_tiny", "--data", data, "--out", str(out), *changes, *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(command(out)) == 0
    return out


@pytest.fixture(autouse=True)
def no_data_by_environment(monkeypatch):
    monkeypatch.delenv("GLUON_EFFNETS_IMAGENET", raising=False)


def installed(package):
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)


def test_files_of_a_run(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "checkpoints",
        "curves.png",
        "idle_tiny-0000.params",
        "idle_tiny-symbol.json",
        "idle_tiny.json",
        "idle_tiny.params",
        "log.jsonl",
        "recipe.yaml",
        "result.json",
        "run.json",
    }
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_records_of_a_run(finished):
    recipe = yaml.safe_load((finished / "recipe.yaml").read_text())
    assert (recipe["model"], recipe["data"]["source"], recipe["data"]["image_size"]) == (
        "idle_tiny",
        "synthetic:16",
        16,
    )
    assert load_recipe(finished / "recipe.yaml").as_dict() == recipe, "a run can be repeated from its own recipe"
    circumstances = json.loads((finished / "run.json").read_text())
    versions = {"gluon_effnets": gluon_effnets.__version__, "python": platform.python_version()}
    versions.update(mxnet=mx.__version__, numpy=np.__version__, horovod=installed("horovod"))
    assert circumstances["versions"] == versions
    assert circumstances["host"] == socket.gethostname()
    assert circumstances["processors"] == os.cpu_count() and len(circumstances["processor"]) > 2
    date = datetime.datetime.fromisoformat(circumstances["date"])
    assert abs(date.timestamp() - (finished / "run.json").stat().st_mtime) < 60
    assert (circumstances["workers"], circumstances["global_batch"]) == (1, 8)
    assert circumstances["lr"] == recipe["optimizer"]["lr"]
    result = json.loads((finished / "result.json").read_text())
    last = json.loads((finished / "log.jsonl").read_text().splitlines()[-1])
    assert last["kind"] == "eval"
    assert result["top1"] == pytest.approx(last["top1"], rel=1e-5)
    assert result["updates"] == 4
    assert result["images"] == 4
    assert result["params"] > 1000


def test_exported_files_give_the_answers_of_the_net(finished):
    net = get_model("idle_tiny", pretrained=str(finished / "idle_tiny.params"), classes=10, stem_stride=1)
    files = [str(finished / name) for name in ("idle_tiny-symbol.json", "idle_tiny-0000.params")]
    loaded = mx.gluon.SymbolBlock.imports(files[0], ["data"], files[1])
    x = mx.nd.array(np.random.RandomState(1).standard_normal((3, 3, 16, 16)))
    expected, seen = net(x).asnumpy(), loaded(x).asnumpy()
    assert np.abs(expected).max() > 0
    assert seen == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


def test_the_saved_weights_are_those_of_the_last_checkpoint(finished):
    saved = mx.nd.load(str(finished / "idle_tiny.params"))
    checkpoint = mx.nd.load(str(list_checkpoints(finished)[-1] / "net.params"))
    assert checkpoint
    assert all((saved[key] == array).min().asscalar() for key, array in checkpoint.items())


def test_the_same_command_after_the_end_changes_nothing(tmp_path, capsys):
    assert main(command(tmp_path)) == 0
    # The names in exported files count the networks of the process.
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.params") if path.stem[-5:] != "-0000"}
    log = (tmp_path / "log.jsonl").read_text()
    capsys.readouterr()
    assert main(command(tmp_path)) == 0
    assert "resuming from update 4 of 4" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
    assert (tmp_path / "log.jsonl").read_text() == log


def test_interrupt_and_go_on(tmp_path, monkeypatch, capsys):
    one_update, done = loop._one_update, []

    def interrupted(*args):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(one_update(*args))

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_one_update", interrupted)
        assert main(command(tmp_path)) == 130
    assert "the same command goes on from the last checkpoint" in capsys.readouterr().err
    assert main(command(tmp_path, "--set", "optimizer.lr=0.001")) == 0
    told = capsys.readouterr().out
    assert "resuming from update 3 of 4" in told
    assert "changed since that checkpoint: optimizer.lr: 0.02 -> 0.001" in told


def test_fresh_starts_over(tmp_path, capsys):
    assert main(command(tmp_path)) == 0
    (tmp_path / "checkpoints" / "update-00000009").mkdir()
    capsys.readouterr()
    assert main(command(tmp_path, "--fresh")) == 0
    assert "resuming" not in capsys.readouterr().out
    updates = [json.loads(line)["update"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert updates == sorted(updates)
    assert not (tmp_path / "checkpoints" / "update-00000009").exists()


def test_training_learns_the_synthetic_classes(tmp_path):
    overrides = ["data.image_size=16", "data.batch_size=16", "duration=60it"]
    assert main(command(tmp_path, data="synthetic:160", overrides=[*overrides, "evaluate_every=60it"])) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["top1"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a model (--model idle_mbv3) or a recipe (--config FILE)"),
        (["--model", "idle_mbv33"], "unknown model 'idle_mbv33'. Nearest: idle_mbv3"),
        (["--model", "idle_mbv33", "--data", "synthetic"], "unknown model 'idle_mbv33'. Nearest: idle_mbv3"),
        (["--model", "idle_mbv3", "--set", "precision=float32"], "no data"),
        (["--model", "idle_tiny", "--data", "synthetik"], "did you mean 'synthetic'"),
        (["--model", "idle_mbv3", "--set", "precision=float32", "--data", "folder:/nowhere"], "/nowhere"),
        (["--model", "idle_mbv3", "--set", "precision=float32", "--data", "recordio:/nowhere"], "/nowhere"),
        (
            ["--model", "idle_tiny", "--data", "digits", "--set", "data.classes=7"],
            "data.classes is 7, but digits has 10",
        ),
        (["--config", "/nowhere.yaml"], "no recipe /nowhere.yaml"),
    ],
)
def test_mistakes_in_what_to_run(tmp_path, capsys, arguments, message):
    assert main([*arguments, "--out", str(tmp_path / "a" / "out")]) == 1
    assert_message(capsys, message, lines=6)
    assert not list(tmp_path.iterdir()), "no empty folder"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr=1", "unknown recipe key optimiser; did you mean optimizer"),
        ("optimizer.lr", "is not of the form section.key=value"),
        ("data.mean=[1,2", "data.mean=[1,2"),
        ("model_options.drop=1", "model_options: idle_tiny: "),
        ("optimizer.name=sgdd", "unknown optimizer 'sgdd'"),
        ("optimizer.options.momentun=1", "optimizer.options of nag"),
        ("schedule.name=cosin", "unknown schedule 'cosin'"),
        ("task=clasification", "unknown task"),
        ("hooks.emaa=", "emaa'; did you mean 'ema'"),
        ("duration=0ep", "duration"),
        ("duration=5", "duration '5' is not of the form"),
        ("checkpoint_every=often", "duration 'often' is not of the form"),
        ("accumulate=5", "accumulate=5 needs more batches than the 2 of an epoch"),
        ("data.batch_size=64", "Set data.batch_size to at most 16"),
        ("precision=float16", "precision float16 needs a GPU"),
        ("pretrained=/nowhere.params", "no weights at /nowhere.params"),
        ("hooks.sparsify.until=0.3", "hooks.sparsify: idle_tiny has no masked layers"),
    ],
)
def test_mistakes_in_the_recipe(tmp_path, capsys, override, message):
    assert main(command(tmp_path / "a" / "out", "--set", override)) == 1
    assert_message(capsys, message, lines=3)
    assert not list(tmp_path.iterdir()), "no empty folder"


def test_a_mistake_with_fresh_keeps_the_checkpoints(tmp_path, capsys):
    assert main(command(tmp_path)) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(command(tmp_path, "--fresh", "--set", "optimizer.name=sgdd")) == 1
    assert_message(capsys, "unknown optimizer 'sgdd'", lines=3)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_mistake_found_late_leaves_the_folders_of_others(tmp_path, capsys):
    (tmp_path / "runs" / "other").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    mistake = ("--set", "hooks.sparsify.until=0.3")
    assert main(command(tmp_path / "runs" / "out", *mistake)) == main(command(tmp_path / "mine", *mistake)) == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["other"]
    assert (tmp_path / "mine").is_dir(), "it was there before"


def assert_message(capsys, message, lines):
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert told.startswith("\nerror: ")
    assert len(told.strip().splitlines()) <= lines


def test_a_run_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert main(command(tmp_path / "out")) == 1
    assert_message(capsys, str(tmp_path / "out"), lines=3)


def test_a_checkpoint_of_another_network(finished, capsys):
    assert main(command(finished, "--set", "data.classes=5")) == 1
    assert_message(capsys, "another network", lines=3)


def test_a_diverging_run_ends_with_a_message(tmp_path, capsys):
    assert main(command(tmp_path, "--set", "optimizer.lr=1e30", "--set", "duration=20it")) == 1
    told = capsys.readouterr().err
    assert "is not finite" in told
    assert "Try a lower optimizer.lr" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_the_script_itself(tmp_path):
    script = [sys.executable, str(ROOT / "train_imagenet.py")]
    help_text = subprocess.run([*script, "--help"], capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path)
    assert help_text.returncode == 0
    assert "--hvd" in help_text.stdout
    failed = subprocess.run(
        [*script, "--model", "nix"], capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path
    )
    assert failed.returncode == 1
    assert "error: unknown model 'nix'" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_crash_below_python_names_its_place():
    code = """
        import ctypes
        from gluon_effnets.commands.train import main
        from gluon_effnets.train import run

        def build_that_crashes(*_):
            ctypes.string_at(0)

        run.run = build_that_crashes
        main([])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Segmentation fault" in done.stderr and "in build_that_crashes" in done.stderr


def test_data_without_a_training_part_are_refused(tmp_path, capsys):
    (tmp_path / "val" / "cat").mkdir(parents=True)
    image = np.random.RandomState(0).randint(0, 256, (20, 20, 3), dtype=np.uint8)
    mx.image.cv2.imwrite(str(tmp_path / "val" / "cat" / "one.png"), image)
    recipe = ("--config", str(ROOT / "configs" / "digits.yaml"))
    assert main(command(tmp_path / "run", *recipe, data=f"folder:{tmp_path}", overrides=())) == 1
    assert "has no training images" in capsys.readouterr().err
