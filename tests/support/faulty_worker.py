"""train_imagenet.py with a fault: FAULT=kill:1:5 python faulty_worker.py ... fells worker 1 in its update 6.

In place of the number of an update, `import`, `start`, `evaluation` or `report` is where it happens.
LONG=30 lets the start, the evaluation and the report of worker 0 compute for 30 s.
"""

from __future__ import annotations

import contextlib
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
from gluon_effnets.train.dist import Workers
from gluon_effnets.train.hooks import Hook


def unforeseen():
    raise RuntimeError("an unforeseen fault")


def pause():
    """Until somebody takes the marker away."""
    while os.path.exists(os.environ["MARKER"]):
        time.sleep(0.02)


def mistake():
    raise ValueError("a fault in the data of this worker")


def compute(rank: int) -> None:
    """On worker 0, for as long as the variable LONG says, while the others wait."""
    start = time.monotonic()
    while time.monotonic() - start < float(os.environ.get("LONG", 0)) * (rank == 0):
        pass


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
    """At a place in the run of worker RANK, but only once if the variable MARKER names a file to remember it.

    A number stands for the time before the update behind so many.
    """

    def __init__(self, name: str, rank: int, place: str, marker: str):
        self.fault, self.rank, self.place, self.marker = FAULTS[name], rank, place, marker

    def train_begin(self, state):
        compute(state.workers.rank)
        self.happen(state.workers.rank, "start")

    def batch_begin(self, state, batch):
        self.happen(state.workers.rank, str(state.update))

    def eval_begin(self, state):
        compute(state.workers.rank)
        self.happen(state.workers.rank, "evaluation")

    def happen(self, rank: int, place: str) -> None:
        if (rank, place) == (self.rank, self.place) and not os.path.exists(self.marker):
            if self.marker:
                open(self.marker, "w").close()
            print(f"\nfault at {time.time()}", flush=True)
            self.fault()


def main() -> int:
    name, rank, place = os.environ.get("FAULT", "none:0:none").split(":")
    marker, own = os.environ.get("MARKER", ""), os.environ.get("HOROVOD_RANK", "0")
    # {rank} lets a test give every worker a folder of its own.
    sys.argv[1:] = [argument.replace("{rank}", own) for argument in sys.argv[1:]]
    build, finish, fault = run.build, Workers.finish, Fault(name, int(rank), place, marker)
    fault.happen(int(own), "import")

    def build_faulty(*args):
        return build(*args, extra_hooks=[fault])

    def report(state, *others):
        # The report has its own tests, in test_run.py.
        fault.happen(0, "report")
        compute(0)
        print("reported", flush=True)

    def finish_faulty(workers):
        # Where the others are while worker 0 writes the report.
        if not workers.is_writer:
            fault.happen(workers.rank, "report")
        finish(workers)

    patches = {(run, "build"): build_faulty, (run, "write_report"): report, (Workers, "finish"): finish_faulty}
    with contextlib.ExitStack() as stack:
        for (owner, attribute), replacement in patches.items():
            stack.enter_context(mock.patch.object(owner, attribute, replacement))
        return train()


if __name__ == "__main__":
    sys.exit(main())
