"""Workers that die, hang, fail or are told to stop, on one host and on two: the job ends soon and goes on later."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faulty_worker import main as train_here
from recipes import TINY
from waiting import PATIENCE_S, wait_until
from workers import FAULTY_WORKER, QUICK_HOROVODRUN, ROOT, environment, needs_horovod

from gluon_effnets.train.checkpoint import list_checkpoints

pytestmark = [pytest.mark.dist, needs_horovod]

# A job ends within 12 s of a fault, horovodrun's own 5 s of grace included; on a busy machine within ten times that.
SOON = 120
# Of the tests that wait for it; no shorter than what a busy machine lets a worker wait that is well.
TIMEOUT_S = 8
SUPERVISE = [sys.executable, "-m", "gluon_effnets.train.supervise", "--restarts", "2", "--"]


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def arguments(recipe, out="run", timeout_s=PATIENCE_S):
    changes = ["duration=8it", "data.source=synthetic:64", "data.batch_size=4", f"distributed.timeout_s={timeout_s}"]
    options = ["--config", str(recipe), "--out", str(recipe.parent / out)]
    return [*options, *(part for change in changes for part in ("--set", change))]


def job(recipe, launcher=(), hosts=(), **changes):
    command = [*QUICK_HOROVODRUN, "-np", "2", *hosts, *FAULTY_WORKER, *arguments(recipe, **changes)]
    return [*map(str, launcher), *command, "--hvd"]


def run_job(recipe, fault, env=None, **options):
    """The finished job, and how long it took to end after the fault."""
    command, env = job(recipe, **options), environment(FAULT=fault, **(env or {}))
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=env)
    faults = re.findall(r"fault at ([0-9.]+)", done.stdout)
    return done, time.time() - float(faults[0])


def saved(folder):
    return [int(path.name[len("update-") :]) for path in list_checkpoints(folder)]


def errors(done):
    """Our messages; Horovod and horovodrun may log errors of their own."""
    return [line for line in re.split(r"[\r\n]+", done.stderr) if re.match(r"(\[\d\]<stderr>:)?error( on|:)", line)]


def assert_one_message(done, text):
    (line,) = errors(done)
    assert text in line
    assert done.returncode == 1, "horovodrun's code for every failure"


def test_killed_worker_and_restart_by_the_supervisor(recipe):
    env = {"MARKER": str(recipe.parent / "killed")}
    done, after = run_job(recipe, "kill:1:5", launcher=SUPERVISE, env=env, out="run{rank}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert after < 2 * SOON, "the whole of the second start included"
    (line,) = errors(done)
    assert re.search(r"error: worker 1 \(.*\) ended without a word \(last seen .*\)", line)
    assert "ended with exit code 75; start 2 of 3" in done.stderr
    begun = int(re.search(r"resuming from update (\d) of 8", done.stdout).group(1))
    assert begun in (2, 4), "at most the updates since the last checkpoint are lost"
    assert done.stdout.count("reported") == 1
    assert saved(recipe.parent / "run0")[-1] == 8
    assert not (recipe.parent / "run1").exists(), "the second worker resumed without seeing the run folder"


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("freeze:0:5", r"worker 0 \(.*\) has given no sign of life for \d+ s \(last seen .*\): process stopped"),
        ("sleep:0:report", r"worker 0 \(.*\) hangs in the report; no progress for 8 s while the others wait"),
    ],
)
def test_hanging_worker(recipe, fault, text):
    """More kinds of faults in more phases: dev/worker_faults.py."""
    done, after = run_job(recipe, fault, timeout_s=TIMEOUT_S)
    assert done.returncode == 1
    (line,) = errors(done)
    assert re.search(f"error: {text}", line), line
    assert TIMEOUT_S <= after < SOON
    assert "Exit code: 75" in done.stderr
    place = fault.rpartition(":")[2]
    assert saved(recipe.parent / "run")[-1] == {"5": 4, "report": 8}[place]


def test_worker_that_leaves_early(recipe):
    done, after = run_job(recipe, "leave:1:evaluation")
    assert_one_message(done, "error: worker 1 (")
    assert "left before the end of the run, in the evaluation after update 4" in done.stderr
    assert "Exit code: 75" in done.stderr
    assert after < SOON


def test_what_lasts_longer_than_the_limit_is_finished(recipe):
    """Start, evaluation and report, in which worker 0 computes and the other one waits."""
    command = [*job(recipe, timeout_s=TIMEOUT_S), "--set", "duration=4it"]
    env = environment(LONG=str(1.25 * TIMEOUT_S))
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("reported") == 1


def test_mistake_on_one_worker_is_one_message_and_no_restart(recipe):
    done, after = run_job(recipe, "mistake:1:5", launcher=SUPERVISE)
    assert_one_message(done, "error on worker 1 (")
    assert "a fault in the data of this worker" in done.stderr
    assert done.stderr.count("most recent call last") == 1, "horovodrun's own"
    assert "start 2" not in done.stderr
    assert after < SOON


@pytest.mark.parametrize(("fault", "code"), [("unforeseen", 70), ("mistake", 1)])
def test_exit_codes_of_a_single_process(recipe, capsys, monkeypatch, fault, code):
    monkeypatch.setenv("FAULT", f"{fault}:0:1")
    monkeypatch.setattr(sys, "argv", ["faulty_worker.py", *arguments(recipe)])
    assert train_here() == code
    told = capsys.readouterr().err
    assert told.count("RuntimeError: an unforeseen fault") == told.count("most recent call last") == (code == 70)


def test_sigterm_saves_and_one_worker_goes_on(recipe, capsys, monkeypatch):
    log, folder, marker = (recipe.parent / name for name in ("told", "run", "paused"))
    with open(log, "w") as output:
        # In the third update, which no checkpoint is due after.
        env = environment(FAULT="pause:1:2", MARKER=str(marker))
        process = subprocess.Popen(job(recipe), stdout=output, stderr=subprocess.STDOUT, env=env)
        wait_until(marker.exists)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping after this update" in log.read_text())
        marker.unlink()
        process.wait(timeout=PATIENCE_S)
    told = log.read_text()
    stopped = int(re.search(r"stopped by SIGTERM after update (\d); a checkpoint is saved", told).group(1))
    assert saved(folder)[-1] == stopped in range(2, 8)
    assert told.count("stopped by") == 1
    assert "Exit code: 143" in told
    assert "error: " not in told

    monkeypatch.setattr(sys, "argv", ["faulty_worker.py", *arguments(recipe)])
    assert train_here() == 0
    now = capsys.readouterr().out
    epochs = [json.loads(line)["epoch"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert epochs == sorted(epochs)
    assert epochs[-1] == 0.5
    # One worker needs two updates for the images of one update of two workers; the place in the run is the same.
    assert f"resuming from update {2 * stopped} of 8" in now
    assert "changed since that checkpoint: workers 2 -> 1" in now
    assert f"the place in the run is kept in epochs: update {stopped} -> {2 * stopped}" in now


def two_hosts():
    probe = subprocess.run([ROOT / "dev" / "two_hosts.sh", "true"], capture_output=True, text=True, timeout=PATIENCE_S)
    if probe.returncode == 77:
        pytest.skip(f"two hosts cannot be simulated: {probe.stderr.strip()}")
    assert probe.returncode == 0, probe.stderr
    return {"launcher": [ROOT / "dev" / "two_hosts.sh"], "hosts": ["--disable-cache", "-H", "a:1,b:1"]}


def test_two_hosts_and_a_broken_network(recipe):
    hosts = two_hosts()
    done = subprocess.run(
        job(recipe, out="whole{rank}", **hosts), capture_output=True, text=True, timeout=PATIENCE_S, env=environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert saved(recipe.parent / "whole0")[-1] == 8
    last = json.loads((recipe.parent / "whole0" / "log.jsonl").read_text().splitlines()[-1])
    assert (last["kind"], last["update"]) == ("eval", 8)
    assert not (recipe.parent / "whole1").exists(), "b never writes"

    done, after = run_job(recipe, "unplug:0:5", timeout_s=TIMEOUT_S, **hosts)
    assert done.returncode != 0
    # Its last report may have told already that it waits: then it counts as hanging.
    silent = r"no sign of life for \d+ s from worker 1 \(b\) \(last seen .*\): .*network down"
    hanging = r"worker 1 \(b\) hangs .*; no progress for \d+ s while the others wait"
    assert re.search(f"error: ({silent}|{hanging})", done.stderr), done.stderr
    assert TIMEOUT_S <= after < SOON
    assert saved(recipe.parent / "run")[-1] == 4
