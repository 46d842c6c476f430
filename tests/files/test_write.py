"""A file is there whole, or as it was before: on a full disk, after a kill, with two processes at once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from waiting import PATIENCE_S
from workers import environment

from gluon_effnets import get_model
from gluon_effnets.class_names import write_names
from gluon_effnets.deploy.graph.inference import network_graph
from gluon_effnets.deploy.to_mxnet.files import write_symbol_files
from gluon_effnets.deploy.to_onnx.files import write_onnx_file
from gluon_effnets.files import write
from gluon_effnets.files.folders import not_left_empty
from gluon_effnets.files.write import (
    SCRATCH,
    CannotWrite,
    append_line,
    move_together,
    replacing,
    replacing_folder,
    write_arrays,
    write_text,
)
from gluon_effnets.pictures import load_pyplot, save_picture

pytestmark = pytest.mark.fast


def net(seed=0):
    mx.random.seed(seed)
    made = get_model("idle_tiny", classes=3)
    made.initialize()
    return made


def picture(path):
    save_picture(load_pyplot("the test").figure(), path)


WRITERS = {
    "a.params": lambda path: net().save_parameters(str(path)),
    "arrays": lambda path: write_arrays(path, {"a": mx.nd.ones((3000,))}),
    "net-0000.params": lambda path: write_symbol_files(*network_graph(net()), path.with_name("net")),
    "net-symbol.json": lambda path: write_symbol_files(*network_graph(net()), path.with_name("net")),
    "net.onnx": lambda path: write_onnx_file(*network_graph(net()), path.with_name("net"), (3, 32, 32)),
    "picture.png": picture,
    "names.txt": lambda path: write_names(["a" * 5000], path),
    "text": lambda path: write_text(path, "content" * 500),
}


@contextlib.contextmanager
def largest_file(size):
    """No file of this process may become larger: what it writes beyond is lost, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_full_disk_cuts_off_costs_no_file(name, tmp_path):
    path = tmp_path / name
    WRITERS[name](path)
    size = path.stat().st_size
    path.write_bytes(b"what was there before")
    # MXNet, which loses what it has when it closes a file, says nothing.
    with largest_file(size - 40), pytest.raises(CannotWrite) as error:
        WRITERS[name](path)
    assert path.read_bytes() == b"what was there before"
    text = str(error.value)
    assert f"cannot write {tmp_path}/" in text and "(File too large): no larger file" in text and "\n" not in text
    assert not [left for left in os.listdir(tmp_path) if left.startswith(SCRATCH)]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "free space on this disk"),
        (errno.EDQUOT, "your quota is used up"),
        (errno.EROFS, "write elsewhere"),
        (errno.EACCES, "ask for the right"),
        (errno.EIO, "look after the disk"),
    ],
)
@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace"])
def test_refusals_of_the_system_are_one_sentence(call, code, remedy, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("before")

    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(CannotWrite, match=f"cannot write {path} .*{remedy}") as error:
            write_text(path, "after")
    assert error.value.errno == code and "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["file"] and path.read_text() == "before"


def test_what_cannot_be_a_file_is_told(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path, told in (
        (tmp_path / "folder", "a folder stands in its place"),
        (tmp_path / "file" / "below", "a file stands where its folder should be"),
        (tmp_path / "nowhere" / "below", "make its folder"),
        (tmp_path / ("x" * 300), "choose a shorter name"),
        (Path("/dev/full"), "free space"),
    ):
        with pytest.raises(CannotWrite, match=told):
            write_text(path, "text")


def test_what_is_read_back_must_be_what_was_written(tmp_path, monkeypatch):
    save, path = mx.nd.save, tmp_path / "a.params"
    write_arrays(path, {"a": mx.nd.ones(3)})

    def save_others(file, arrays):
        save(file, {key: array + 1 for key, array in arrays.items()})

    monkeypatch.setattr(mx.nd, "save", save_others)
    with pytest.raises(CannotWrite, match="cannot be read back"):
        write_arrays(path, {"a": mx.nd.ones(3)})
    assert mx.nd.load(str(path))["a"].asnumpy().tolist() == [1, 1, 1]


def test_links_modes_and_streams_stay_what_they_are(tmp_path):
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "file", tmp_path / "link"
    target.write_text("before")
    target.chmod(0o640)
    link.symlink_to(target)
    write_text(link, "after")
    assert link.is_symlink() and target.read_text() == "after" and target.stat().st_mode & 0o777 == 0o640
    code = "from gluon_effnets.files.write import write_text; write_text('/dev/stdout', 'a'); print('b')"
    command = [sys.executable, "-c", code]
    with open(tmp_path / "out", "w") as out:
        subprocess.run(command, stdout=out, env=environment(PYTHONUNBUFFERED="1"), timeout=PATIENCE_S, check=True)
    assert (tmp_path / "out").read_text() in ("ab\n", "b\n")
    assert subprocess.run(command, capture_output=True, text=True, env=environment()).stdout == "ab\n"


def test_values_that_equal_nothing_are_equal_when_read_back(tmp_path):
    arrays = {"nan": mx.nd.array([np.nan, 1]), "int8": mx.nd.array([1], dtype="int8")}
    arrays["half"] = mx.nd.array([1.5], dtype="float16")
    write_arrays(tmp_path / "a", arrays)
    write_arrays(tmp_path / "empty", {})
    assert mx.nd.load(str(tmp_path / "a")).keys() == arrays.keys()


def test_a_line_is_appended_whole_or_not(tmp_path):
    path = tmp_path / "log"
    append_line(path, "one")
    with largest_file(6), pytest.raises(CannotWrite, match=f"cannot write {path}"):
        append_line(path, "two")
    assert path.read_text() == "one\n"
    with open(path, "a") as file:
        file.write("cut sho")  # by a kill
    append_line(path, "two")
    assert path.read_text() == "one\ncut sho\ntwo\n"


# A process that ends itself by SIGKILL before the rename with this number.
KILLED = """
import os, signal, sys
from pathlib import Path
from gluon_effnets.files import write
left, replace = int(sys.argv[1]), os.replace
def kill(source, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = kill
folder = Path(sys.argv[2])
"""


def run_killed(number, folder, code):
    program = KILLED + textwrap.dedent(code)
    command = [sys.executable, "-c", program, str(number), str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def test_a_killed_writer_leaves_the_file_and_the_next_one_cleans_up(tmp_path):
    (tmp_path / "file").write_text("before")
    (tmp_path / f"{SCRATCH}of_another_kind").mkdir()
    assert run_killed(0, tmp_path, "write.write_text(folder / 'file', 'after')")
    left = [name for name in os.listdir(tmp_path) if name.startswith(SCRATCH)]
    assert (tmp_path / "file").read_text() == "before" and len(left) == 2
    with replacing(tmp_path / "other") as living:
        living.write_text("mine")
        write_text(tmp_path / "file", "after")  # takes the leftover away, not what is in the making
    assert (tmp_path / "file").read_text() == "after" and (tmp_path / "other").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == [f"{SCRATCH}of_another_kind", "file", "other"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_folder_is_replaced_whole(number, tmp_path):
    with replacing_folder(tmp_path / "saved") as folder:
        (folder / "a").write_text("1")
    code = """
    with write.replacing_folder(folder / "saved") as new:
        (new / "a").write_text("2")
    """
    assert (run_killed(number, tmp_path, code) == 0) == (number == 2)
    found = tmp_path / "saved" / "a"
    assert not found.exists() if number == 1 else found.read_text() == str(1 + number // 2)


def test_files_are_moved_together_or_not_at_all(tmp_path, monkeypatch):
    replace, calls = os.replace, []
    for name in "ac":
        (tmp_path / name).write_text("before")

    def refuse_third(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse_third)
    with write.scratch_beside(tmp_path / "a") as scratch:
        for name in "abc":
            (scratch / name).write_text("after")
        with pytest.raises(CannotWrite, match="free space"):
            move_together([scratch / name for name in "abc"], tmp_path, remove_first=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "before", "c": "before"}


def test_two_processes_do_not_mix_their_files(tmp_path):
    code = """
    for _ in range(40):
        with write.scratch_beside(folder / "a") as scratch:
            paths = [scratch / name for name in "abcdef"]
            for path in paths:
                path.write_text(str(os.getpid()))
            write.move_together(paths, folder)
    """
    command = [sys.executable, "-c", KILLED + textwrap.dedent(code), "100000", str(tmp_path)]
    processes = [subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        _, told = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, told
    assert len({(tmp_path / name).read_text() for name in "abcdef"}) == 1
    assert json.loads((tmp_path / "a").read_text()) in [process.pid for process in processes]


@pytest.mark.parametrize("error", [ValueError, TypeError, OSError, ImportError, Exception])
def test_a_folder_that_was_made_for_nothing_goes_again(error, tmp_path):
    with pytest.raises(error), not_left_empty(tmp_path / "new" / "deep"):
        write.make_folder(tmp_path / "new" / "deep")
        raise error
    assert not list(tmp_path.iterdir())
