"""How soon a job of two workers ends when one of them dies or hangs, and whether its restart loses nothing.

    python dev/worker_faults.py --json results/worker_faults.json
    python dev/worker_faults.py --fault stopped --phase training

Each job trains a tiny network with the default limit (`distributed.timeout_s`) under horovodrun on this host. Worker 1
has the fault; in the report, which worker 0 writes while the others wait, it is worker 0. Then the same command goes on
from the last checkpoint, and its final checkpoint is compared, byte by byte, with one of a job without a fault.
Takes about 20 minutes. `dev/make_tables.py` makes the table of docs/distributed.md from the file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, Optional, Sequence

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support")]

from recipes import TINY  # noqa: E402
from waiting import PATIENCE_S  # noqa: E402
from workers import FAULTY_WORKER, HOROVODRUN, environment  # noqa: E402

from gluon_effnets import _resources  # noqa: E402
from gluon_effnets.timing import conditions  # noqa: E402
from gluon_effnets.train.exit_codes import VERDICT_VARIABLE  # noqa: E402
from gluon_effnets.train.watchdog import TIMEOUT_S  # noqa: E402

FAULTS = {"killed": "kill", "stopped": "freeze", "exited": "leave", "hung": "sleep"}
# A number of updates stands for the time before the next one.
PHASES = {
    "import": "1:import",
    "start": "1:start",
    "training": "1:5",
    "evaluation": "1:evaluation",
    "report": "0:report",
}
UPDATES = 8


def run_job(folder: Path, out: str, **variables: str) -> subprocess.CompletedProcess:
    """Train in a folder, under horovodrun with two workers."""
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY)
    changes = (f"duration={UPDATES}it", "data.source=synthetic:64", "data.batch_size=4")
    options = ["--config", str(recipe), "--out", str(folder / out), "--hvd"]
    command = [str(HOROVODRUN), "-np", "2", *FAULTY_WORKER, *options, *(p for c in changes for p in ("--set", c))]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment(**variables))


def last_checkpoint(folder: Path) -> Dict[str, bytes]:
    """The files of the final checkpoint."""
    return {path.name: path.read_bytes() for path in (folder / "checkpoints" / f"update-{UPDATES:08d}").iterdir()}


def measure(fault: str, phase: str, folder: Path) -> dict:
    """What became of a job with a fault, and of its restart."""
    out, verdict = f"{fault}-{phase}", folder / f"{fault}-{phase}.verdict"
    done = run_job(folder, out, **{"FAULT": f"{FAULTS[fault]}:{PHASES[phase]}", VERDICT_VARIABLE: str(verdict)})
    (begin,) = re.findall(r"fault at ([0-9.]+)", done.stdout)
    seconds = time.time() - float(begin)
    told = re.findall(r"^\[\d\]<stderr>:error: (.*?)\r?$", done.stderr, re.MULTILINE)
    code = int(verdict.read_text()) if verdict.exists() else None
    again = run_job(folder, out)
    equal = again.returncode == 0 and last_checkpoint(folder / out) == last_checkpoint(folder / "whole")
    outcome = {"s": round(seconds, 1), "told": told, "verdict": code, "restart_equal": equal}
    return {"fault": fault, "phase": phase, **outcome}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry of the command; returns 1 if a job did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--phase", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--json", type=Path, help="write the results into this file")
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = run_job(folder, "whole")
        assert whole.returncode == 0, whole.stderr
        for phase in args.phase:
            for fault in args.fault:
                rows.append(measure(fault, phase, folder))
                print(json.dumps(rows[-1]), flush=True)
    result = {
        "command": " ".join(["python", "dev/worker_faults.py", *(argv or sys.argv[1:])]),
        "date": datetime.date.today().isoformat(),
        "commit": _resources.commit(),
        "timeout_s": TIMEOUT_S,
        **conditions(),
        "rows": rows,
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    # Before the package is imported, horovodrun alone knows of a worker that was killed.
    silent = [r for r in rows if len(r["told"]) != 1 and (r["fault"], r["phase"]) != ("killed", "import")]
    as_promised = [r["s"] < 60 and r["restart_equal"] and r not in silent for r in rows]
    return 0 if all(as_promised) else 1


if __name__ == "__main__":
    sys.exit(main())
