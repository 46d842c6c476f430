"""Processes that train with the code of this checkout, alone or under horovodrun."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

from gluon_effnets.train.exit_codes import VERDICT_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
HOROVODRUN = Path(sys.executable).with_name("horovodrun")
# The same, started in less time; test_command_line starts the program itself.
QUICK_HOROVODRUN = [sys.executable, str(ROOT / "tests" / "support" / "horovod_job.py")]
FAULTY_WORKER = [sys.executable, str(ROOT / "tests" / "support" / "faulty_worker.py")]
needs_horovod = pytest.mark.skipif(importlib.util.find_spec("horovod") is None, reason="Horovod is not installed")


def environment(**more):
    """Variables for a process that imports from here; none that a process around the tests may have left."""
    clean = {key: value for key, value in os.environ.items() if key not in (VERDICT_VARIABLE, "HOROVOD_CYCLE_TIME")}
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "support")))
    # Threads that wait for each other on too few cores cost more than they bring.
    return {**clean, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def horovodrun(*command, processes=2, launcher=QUICK_HOROVODRUN):
    command = [*launcher, "-np", str(processes), sys.executable, *map(str, command)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment())
