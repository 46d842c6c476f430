"""A folder has one process at a time, and a dead one does not keep it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from workers import environment

from gluon_effnets.files.locks import LOCK, InUse, alone_in, require_same
from gluon_effnets.files.write import CannotWrite

pytestmark = pytest.mark.fast

HOLDER = """
import sys
from gluon_effnets.files.locks import alone_in
with alone_in(sys.argv[1]):
    print("has it", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(folder):
    command = [sys.executable, "-c", HOLDER, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment(), **pipes) as process:
        assert process.stdout.readline() == "has it\n"
        yield process
        process.kill()


def without_locks(*args):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.parametrize("has_locks", [True, False])
def test_another_process_is_named_and_a_dead_one_taken_over(has_locks, tmp_path, monkeypatch, caplog):
    if not has_locks:
        monkeypatch.setattr(fcntl, "lockf", without_locks)
    with another_process(tmp_path) as process:
        said = f"{tmp_path} is in use by process {process.pid} on host {socket.gethostname()}, since 20"
        with pytest.raises(InUse) as error, alone_in(tmp_path):
            pass
        assert said in str(error.value) and "\n" not in str(error.value)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with alone_in(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    (line,) = caplog.messages
    assert f"process {process.pid} on host" in line and "dead" in line
    assert os.listdir(tmp_path) == []


def test_a_process_that_is_about_to_end_is_waited_for(tmp_path):
    with another_process(tmp_path) as process:
        process.stdin.close()
        with alone_in(tmp_path, patience_s=600):
            pass


@pytest.mark.parametrize(("host", "boot", "taken"), [("elsewhere", "x", False), (socket.gethostname(), "x", True)])
def test_other_hosts_and_other_starts_of_this_one(host, boot, taken, tmp_path):
    record = {"pid": 1, "host": host, "since": "2020-01-01T00:00:00+00:00", "boot": boot, "started": 1}
    (tmp_path / LOCK).write_text(json.dumps(record))
    if taken:
        with alone_in(tmp_path):
            pass
        return
    with pytest.raises(InUse, match=f"process 1 on host elsewhere, since 2020.*If it has ended, delete .*{LOCK}"):
        with alone_in(tmp_path):
            pass
    assert json.loads((tmp_path / LOCK).read_text()) == record


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "\0" * 20])
def test_half_a_record_is_that_of_a_killed_process(content, tmp_path):
    (tmp_path / LOCK).write_text(content)
    with alone_in(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_the_same_process_twice(tmp_path):
    with alone_in(tmp_path):
        with pytest.raises(InUse, match="this very process"), alone_in(tmp_path):
            pass
        with pytest.raises(InUse), another_process_refused(tmp_path):
            pass


@contextlib.contextmanager
def another_process_refused(folder):
    command = [sys.executable, "-c", HOLDER, str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert f"InUse: {folder} is in use by process {os.getpid()}" in done.stderr
    raise InUse
    yield


@pytest.mark.parametrize("how", ["removed", "moved", "file", "another"])
def test_a_folder_that_is_not_the_same_any_more(how, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with alone_in(folder):
        require_same(folder)
        if how == "moved":
            folder.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(folder)
        if how == "file":
            folder.write_text("")
        if how == "another":
            folder.mkdir()
            (folder / LOCK).write_text("")
        with pytest.raises(CannotWrite, match=f"{folder} is no longer the folder"):
            require_same(folder)
        with pytest.raises(CannotWrite):
            require_same(folder / "stage")
    assert (folder / LOCK).exists() == (how == "another")
