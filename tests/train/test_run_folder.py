"""A run whose folder is full, gone, protected or in use ends with one sentence, and what it had is kept."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import content
from waiting import PATIENCE_S, wait_until
from workers import environment

import gluon_effnets
from gluon_effnets.commands.train import main
from gluon_effnets.files import write
from gluon_effnets.files.locks import LOCK, alone_in
from gluon_effnets.train import checkpoint, loop, report
from gluon_effnets.train.checkpoint import list_checkpoints

ROOT = Path(gluon_effnets.__file__).resolve().parents[1]
QUICK = ("data.image_size=16", "data.batch_size=8", "duration=2ep", "checkpoint_every=1it")


def command(out, *more):
    changes = [part for override in QUICK for part in ("--set", override)]
    return ["--model", "idle_tiny", "--data", "synthetic:16", "--out", str(out), *changes, *more]


def after_update(monkeypatch, number, act):
    """Let something happen to the folder of a run between an update and what the hooks then write."""
    one_update = loop._one_update

    def update(state, *args):
        if state.update == number:
            act()
        one_update(state, *args)

    monkeypatch.setattr(loop, "_one_update", update)


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def the_sentence(capsys):
    told = capsys.readouterr().err
    assert "Traceback" not in told
    (sentence,) = [line for line in told.splitlines() if line.startswith("error: ")]
    return sentence


def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path, monkeypatch, capsys):
    def refuse(path, flags, *args, open=os.open, **kwargs):
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, "Read-only file system")
        return open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    assert main(command(tmp_path / "run")) == 1
    assert f"cannot write {tmp_path / 'run'} (Read-only file system): write elsewhere" in the_sentence(capsys)
    (tmp_path / "file").write_text("")
    assert main(command(tmp_path / "file")) == 1
    assert f"cannot write {tmp_path / 'file'}" in the_sentence(capsys)


@pytest.mark.parametrize("how", ["moved", "removed", "file"])
def test_a_folder_that_goes_away_meanwhile(how, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"

    def go():
        if how == "moved":
            out.rename(tmp_path / "moved")
        else:
            shutil.rmtree(out)
        if how == "file":
            out.write_text("")

    with monkeypatch.context() as patch:
        after_update(patch, 2, go)
        assert main(command(out)) == 1
    assert f"{out} is no longer the folder that this run began in" in the_sentence(capsys)
    assert out.exists() == (how == "file")
    if how == "moved":  # put back, it goes on
        (tmp_path / "moved").rename(out)
        assert main(command(out)) == 0
        assert "resuming from update 2 of 4" in capsys.readouterr().out


def test_a_log_that_cannot_be_written_leaves_whole_lines(tmp_path, monkeypatch, capsys):
    def fill(path, line):
        if '"update": 4' in line:
            with write.telling(path):
                no_space()
        write.append_line(path, line)

    with monkeypatch.context() as patch:
        patch.setattr("gluon_effnets.train.hooks.logs.append_line", fill)
        assert main(command(tmp_path)) == 1
    assert f"cannot write {tmp_path / 'log.jsonl'} (No space left on device): free space" in the_sentence(capsys)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"update": 3, "ep')  # as a kill leaves it
    assert main(command(tmp_path)) == 0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines if line["kind"] == "train"] == [2, 4]
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"update": 3, "ep')
    report.draw_curves(tmp_path / "log.jsonl", tmp_path / "again.png")


@pytest.mark.parametrize("name", ["result.json", "idle_tiny.params", "idle_tiny.json"])
def test_what_cannot_be_written_at_the_end(name, tmp_path, capsys):
    (tmp_path / name).mkdir()
    assert main(command(tmp_path)) == 1
    sentence = the_sentence(capsys)
    assert f"cannot write {tmp_path / name} (Is a directory): a folder stands in its place" in sentence
    assert list_checkpoints(tmp_path)[-1].name == "update-00000004"
    (tmp_path / name).rmdir()
    assert main(command(tmp_path)) == 0
    assert json.loads((tmp_path / "result.json").read_text())["updates"] == 4


def test_a_picture_is_no_reason_to_lose_the_result(tmp_path, caplog):
    (tmp_path / "curves.png").mkdir()
    assert main(command(tmp_path)) == 0
    assert [f"cannot write {tmp_path / 'curves.png'} (Is a directory)" in text for text in caplog.messages] == [True]
    assert json.loads((tmp_path / "result.json").read_text())["updates"] == 4


def refused(out):
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_imagenet.py"), *command(out)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    return done.stderr


def test_a_second_run_in_the_folder_is_refused(tmp_path, monkeypatch, capsys):
    told = []
    with monkeypatch.context() as patch:
        after_update(patch, 2, lambda: told.append(refused(tmp_path)))
        assert main(command(tmp_path)) == 0
    assert f"error: {tmp_path} is in use by process {os.getpid()} on host " in told[0] and "since 20" in told[0]
    assert not (tmp_path / LOCK).exists()


def test_a_run_that_was_killed_does_not_keep_its_folder(tmp_path, capsys, caplog):
    line = [sys.executable, str(ROOT / "train_imagenet.py"), *command(tmp_path), "--set", "duration=1000ep"]
    with subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        wait_until(lambda: list_checkpoints(tmp_path))
        run.kill()
    done = int(list_checkpoints(tmp_path)[-1].name.rpartition("-")[2])
    assert main([*command(tmp_path), "--set", f"duration={done + 2}it"]) == 0
    assert f"resuming from update {done}" in capsys.readouterr().out
    assert any(f"process {run.pid} on host" in text and "dead" in text for text in caplog.messages)


def test_a_stage_is_a_run_folder_too(tmp_path, capsys):
    with alone_in(make(tmp_path / "first")):
        stages = "[{name: first, duration: 1it}, {name: second, duration: 1it}]"
        assert main([*command(tmp_path), "--set", f"stages={stages}"]) == 1
    assert f"{tmp_path / 'first'} is in use by" in the_sentence(capsys)


def make(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["net.params", "trainer.params", "hooks.params", "run.json"])
def test_a_checkpoint_damaged_before_its_sums_were_written(name, start, tmp_path, caplog):
    start("hooks={ema: {}}").train()
    folder = list_checkpoints(tmp_path / "run")[-1]
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in folder.iterdir()]
    (folder / "SHA256SUMS").write_text("".join(line for line in sums if not line.endswith("  SHA256SUMS\n")))
    again = start("hooks={ema: {}}").resume()
    assert again.state.update == 2
    assert [folder.name in line for line in caplog.messages] == [True]
    assert content(again, 2)
    if name != "trainer.params":  # which is not among the weights
        with pytest.raises(ValueError):
            checkpoint.read_weights(folder, ema=name != "net.params")
