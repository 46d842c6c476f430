"""train_imagenet.py with a fault: FAULT=kill:1:5 python faulty_worker.py ... fells worker 1 in its update 6."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from unittest import mock

import runs  # noqa: F401  (registers plain_tiny)
from waiting import PATIENCE_S

from gluon_effnets.commands.train import main as train
from gluon_effnets.train import run
from gluon_effnets.train.hooks import Hook


def unforeseen():
    raise RuntimeError("an unforeseen fault")


def pause():
    """Until somebody takes the marker away."""
    while os.path.exists(os.environ["MARKER"]):
        time.sleep(0.02)


def mistake():
    raise ValueError("a fault in the data of this worker")


FAULTS = {
    "none": lambda: None,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "sleep": lambda: time.sleep(PATIENCE_S),
    "pause": pause,
    "leave": lambda: sys.exit(0),
    "term": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "unforeseen": unforeseen,
    "mistake": mistake,
    "unplug": lambda: subprocess.run([*os.environ["LINK_OF_B"].split(), "down"], check=True),
}


class Fault(Hook):
    """Before the update UPDATE + 1 of worker RANK, but only once if the variable MARKER names a file to remember it."""

    def __init__(self, name: str, rank: int, update: int, marker: str):
        self.fault, self.rank, self.update, self.marker = FAULTS[name], rank, update, marker

    def batch_begin(self, state, batch):
        # Slow enough for a signal from outside to find the run in its middle.
        time.sleep(float(os.environ.get("SLOW", 0)))
        if (state.workers.rank, state.update) == (self.rank, self.update) and not os.path.exists(self.marker):
            if self.marker:
                open(self.marker, "w").close()
            print(f"\nfault at {time.time()}", flush=True)
            self.fault()


def main() -> int:
    name, rank, update = os.environ.get("FAULT", "none:0:0").split(":")
    marker, own = os.environ.get("MARKER", ""), os.environ.get("HOROVOD_RANK", "0")
    # {rank} lets a test give every worker a folder of its own.
    sys.argv[1:] = [argument.replace("{rank}", own) for argument in sys.argv[1:]]
    build = run.build

    def build_faulty(*args):
        return build(*args, extra_hooks=[Fault(name, int(rank), int(update), marker)])

    # The report has its own tests, in test_run.py.
    report = mock.patch.object(run, "write_report", lambda *arguments: print("reported", flush=True))
    with report, mock.patch.object(run, "build", build_faulty):
        return train()


if __name__ == "__main__":
    sys.exit(main())
