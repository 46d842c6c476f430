"""Faults of one of two Horovod workers."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Dict

from .. import judge


def fell_worker(case: int, home: Path):
    """One of two Horovod workers is killed, or stops, in its n-th update; the same command then ends as without it."""
    import workers
    from recipes import TINY

    fault = ("kill", "freeze", "leave")[case % 3]

    def job(out: str, **variables: str):
        (home / "tiny.yaml").write_text(TINY)
        changes = ("duration=8it", "data.source=synthetic:64", "data.batch_size=4", "distributed.timeout_s=40")
        command = [
            str(workers.HOROVODRUN),
            "-np",
            "2",
            *workers.FAULTY_WORKER,
            "--config",
            str(home / "tiny.yaml"),
            "--hvd",
        ]
        command += ["--out", str(home / out), *(word for change in changes for word in ("--set", change))]
        environment = workers.environment(**variables)
        return subprocess.run(command, capture_output=True, text=True, timeout=judge.WALL_S, env=environment)

    def last(out: str) -> Dict[str, bytes]:
        folder = sorted((home / out / "checkpoints").glob("update-*"))[-1]
        return {path.name: path.read_bytes() for path in folder.glob("*.params")}

    if not (home / "whole").exists() and job("whole").returncode:
        return fault, "without a fault it failed"
    out = f"case{case}"
    felled = job(out, FAULT=f"{fault}:{case % 2}:{1 + case % 7}", MARKER=str(home / f"{out}.marker"))
    if felled.returncode == 0:
        return fault, "it ended with 0"
    again = job(out)
    if again.returncode:
        return fault, f"the next start ended with {again.returncode}: {again.stderr[-800:]}"
    return fault, None if last(out) == last("whole") else "the next start ended with other weights"
