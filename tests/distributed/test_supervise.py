"""What concerns a single process: the supervisor, signals, exit codes, the device."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import types

import mxnet as mx
import pytest
from recipes import TINY
from waiting import PATIENCE_S, wait_until
from workers import FAULTY_WORKER, environment

from gluon_effnets.commands.train import main
from gluon_effnets.train import signals
from gluon_effnets.train import supervise as module
from gluon_effnets.train.checkpoint import list_checkpoints
from gluon_effnets.train.dist import Workers
from gluon_effnets.train.exit_codes import record_verdict
from gluon_effnets.train.supervise import supervise

SCRIPT = """
import os, signal, sys
count, how = sys.argv[1], sys.argv[2]
with open(count, "a") as file:
    file.write(" ".join(sys.argv[3:]) + "\\n")
if how == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if how.startswith("verdict"):
    open(os.environ["GLUON_EFFNETS_VERDICT"], "w").write(how[7:])
    sys.exit(1)
sys.exit(int(how))
"""


@pytest.mark.fast
@pytest.mark.parametrize(
    ("how", "starts", "code"),
    [
        ("0", 1, 0),
        ("1", 3, 1),  # without a verdict it may be horovodrun's answer to a crash
        ("verdict1", 1, 1),
        ("verdict143", 1, 143),
        ("verdict75", 3, 75),
        ("kill", 3, 137),
    ],
)
def test_what_is_started_again(tmp_path, monkeypatch, how, starts, code):
    monkeypatch.setattr(module, "PAUSE_S", 0)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "starts"), how, "--fresh", "--out"]
    assert supervise(command, 2) == code
    lines = (tmp_path / "starts").read_text().splitlines()
    assert lines == ["--fresh --out", *["--out"] * (starts - 1)], "the checkpoints of the first start are kept"


@pytest.mark.fast
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_pause_ends_the_supervisor(tmp_path, monkeypatch, signum):
    """Delivered when the command has crashed, and nothing is there to pass it on to."""
    monkeypatch.setattr(module, "PAUSE_S", PATIENCE_S)
    sent = types.SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: os.kill(os.getpid(), signum))
    monkeypatch.setattr(module, "time", sent)
    assert supervise([sys.executable, "-c", SCRIPT, str(tmp_path / "starts"), "70"], 2) == 128 + signum
    assert len((tmp_path / "starts").read_text().splitlines()) == 1


@pytest.mark.fast
def test_a_signal_while_the_command_starts_reaches_it(monkeypatch):
    class Late(subprocess.Popen):
        def __init__(self, *args, **options):
            os.kill(os.getpid(), signal.SIGTERM)
            super().__init__(*args, **options)

    monkeypatch.setattr(module.subprocess, "Popen", Late)
    assert supervise([sys.executable, "-c", f"import time; time.sleep({PATIENCE_S})"], 2) == 143


def test_restarts_of_train_imagenet(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = [*FAULTY_WORKER, "--restarts", "2", "--fresh"]
    command += ["--config", tmp_path / "tiny.yaml", "--out", tmp_path / "run"]
    env = environment(FAULT="kill:0:3", MARKER=str(tmp_path / "killed"))
    done = subprocess.run(map(str, command), env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert "ended with exit code 137; start 2 of 3" in done.stderr
    assert "resuming from update 2 of 4" in done.stdout


def test_restarts_belong_around_horovodrun(capsys):
    assert main(["--model", "idle_tiny", "--hvd", "--restarts", "2"]) == 1
    assert "python -m gluon_effnets.train.supervise --restarts 2 -- horovodrun" in capsys.readouterr().err


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, signum):
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = [*FAULTY_WORKER, "--config", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run")]
    command += ["--set", "checkpoint_every=100it", "--set", "duration=8it"]
    log, marker = tmp_path / "told", tmp_path / "paused"
    with open(log, "w") as output:
        env = environment(FAULT="pause:0:2", MARKER=str(marker))
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
        wait_until(marker.exists)
        process.send_signal(signum)
        wait_until(lambda: "stopping after this update" in log.read_text())
        marker.unlink()
        process.wait(timeout=PATIENCE_S)
    told = log.read_text()
    assert process.returncode == 128 + signum
    (checkpoint,) = list_checkpoints(tmp_path / "run")
    stopped = int(checkpoint.name[-1])
    assert f"stopped by {signum.name} after update {stopped}; a checkpoint is saved" in told
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0
    assert f"resuming from update {stopped} of 8" in done.stdout


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    code = """if True:
        import os, signal, sys, threading, types
        from gluon_effnets.train import signals

        now, looked, heard = 0.0, threading.Semaphore(0), threading.Event()

        def monotonic():
            seen = now
            looked.release()
            return seen

        signals.time = types.SimpleNamespace(monotonic=monotonic)
        with signals.stop_signals(lambda signum: (print("asked", flush=True), heard.set())):
            for now in (0.0, 0.9, 1.1):  # 0.9 s later it is the same wish, delivered twice
                print(now, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                assert looked.acquire(timeout=PATIENCE) and heard.wait(PATIENCE)
            threading.Event().wait(PATIENCE)
        sys.exit(3)
    """
    code = code.replace("PATIENCE", str(PATIENCE_S))
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
    assert done.stdout.split() == ["0.0", "asked", "0.9", "1.1"]


@pytest.mark.fast
@pytest.mark.parametrize("edge", ["begin", "end"])
def test_no_signal_is_swallowed_where_the_block_begins_and_ends(monkeypatch, edge):
    """Just behind the first handler, or just before the old one is back: handlers without an ear would swallow it."""
    asked, heard, put = [], threading.Event(), signal.signal

    def old(signum, frame):
        pass

    def put_and_send(number, handler):
        begins = handler is not old
        if not begins and edge == "end":
            os.kill(os.getpid(), number)
        previous = put(number, handler)
        if begins and edge == "begin":
            os.kill(os.getpid(), number)
        return previous

    before = {number: put(number, old) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        monkeypatch.setattr(signals.signal, "signal", put_and_send)
        with signals.stop_signals(lambda signum: (asked.append(signum), heard.set())):
            pass
        assert heard.wait(PATIENCE_S)
    finally:
        for number, handler in before.items():
            put(number, handler)
    assert asked == [signal.SIGINT]


@pytest.mark.fast
def test_signals_are_left_as_they_were():
    from gluon_effnets.train.signals import stop_signals

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_signals(lambda signum: None):
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.fast
def test_verdicts_are_written_only_where_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("GLUON_EFFNETS_VERDICT", raising=False)
    record_verdict(1)
    monkeypatch.setenv("GLUON_EFFNETS_VERDICT", str(tmp_path / "no" / "folder"))
    record_verdict(1)
    assert os.listdir(tmp_path) == []


@pytest.mark.fast
def test_every_worker_of_a_host_has_a_gpu_of_its_own(monkeypatch):
    workers = Workers()
    assert workers.device() == mx.cpu()
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 2)
    workers.local_rank = 1
    assert workers.device() == mx.gpu(1)
    workers.local_rank = 2
    with pytest.raises(ValueError, match="number 2 of its host .* 2 GPU"):
        workers.device()
