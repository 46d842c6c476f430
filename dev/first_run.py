"""Time a stranger's first run: from a clone to the first picture and to the first prediction on a photograph.

    python dev/first_run.py /tmp/first_run                               # a table
    python dev/first_run.py /tmp/first_run --json results/first_run.json # and the numbers of docs/quick_start.md

It clones this repository as it is committed into a new folder, and does there what README.md and docs/quick_start.md
say, one command after the other, each as a stranger's shell would. It needs git, make, a registry of Python packages
and a machine with nothing else to do; pip's cache counts as empty only with --no-pip-cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
_LAST_LINES = 12  # of a command that failed


class Step(NamedTuple):
    """What a stranger types, and what is there afterwards."""

    name: str
    command: str
    leaves: str = ""  # a file, in the clone


STEPS = (
    Step("set up", "make setup", ".venv/bin/python"),
    Step("first picture", ".venv/bin/python examples/count_a_block.py", "runs/count_a_block/idle_blocks.png"),
    Step("published weights", "make weights"),
    Step("first prediction", ".venv/bin/python -m gluon_effnets predict efficientnet_lite0 pretrained PHOTO"),
    Step("first training", "make train", "runs/digits/report.html"),
)


def run_step(step: Step, clone: Path, photo: str, environment: Dict[str, str]) -> float:
    """Run a step in the clone; return its seconds. Ends with the last lines of a command that fails."""
    command = step.command.replace("PHOTO", photo)
    print(f"$ {command}", flush=True)
    begin = time.perf_counter()
    done = subprocess.run(["bash", "-c", command], cwd=clone, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    told = (done.stdout + done.stderr).rstrip().splitlines()[-_LAST_LINES:]
    if done.returncode or (step.leaves and not (clone / step.leaves).exists()):
        sys.exit("\n".join([*told, f"{command} ended with {done.returncode}, without {step.leaves or 'more'}"]))
    print(f"  {seconds:.1f} s", flush=True)
    return seconds


def sample_photo(clone: Path) -> str:
    """A photograph that comes with scikit-learn, for whoever has none at hand."""
    code = (
        "import sklearn.datasets, pathlib; print(pathlib.Path(sklearn.datasets.__file__).parent / 'images/flower.jpg')"
    )
    words = [str(clone / ".venv/bin/python"), "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def first_run(clone: Path, photo: Optional[str], environment: Dict[str, str], steps=STEPS) -> List[dict]:
    """Clone the repository and run the steps; return a row for each, with the seconds since the beginning."""
    begin = time.perf_counter()
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    rows = [{"step": "clone", "command": "git clone", "seconds": time.perf_counter() - begin}]
    for step in steps:
        if "PHOTO" in step.command and photo is None:
            photo = sample_photo(clone)
        seconds = run_step(step, clone, photo or "", environment)
        rows.append({"step": step.name, "command": step.command, "seconds": seconds})
    total = 0.0
    for row in rows:
        total += row["seconds"]
        row.update(seconds=round(row["seconds"], 1), since_clone=round(total, 1))
    return rows


def main() -> int:
    """Time the steps; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="A folder that is not there yet; the clone stays in it.")
    parser.add_argument("--photo", help="Your photograph (default: one that comes with scikit-learn).")
    parser.add_argument("--no-pip-cache", action="store_true", help="Download all packages, as on a new machine.")
    parser.add_argument("--json", type=Path, help="Also write the numbers with their conditions to a file.")
    args = parser.parse_args()
    if args.folder.exists():
        sys.exit(f"{args.folder} is there already; name a new folder")
    if not shutil.which("git") or not shutil.which("make"):
        sys.exit("this needs git and make: apt install git make")
    photo = str(Path(args.photo).resolve()) if args.photo else None
    environment = {**os.environ, **({"PIP_NO_CACHE_DIR": "1"} if args.no_pip_cache else {})}
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):  # which a stranger does not have
        environment.pop(name, None)
    rows = first_run(args.folder.resolve(), photo, environment)

    sys.path.insert(0, str(ROOT))
    from gluon_effnets.files.write import write_text
    from gluon_effnets.tables import Table
    from gluon_effnets.timing import conditions

    columns = ["step", "command", ("seconds", ".1f"), ("since the clone, s", ".1f")]
    print("\n" + Table(columns, [tuple(row.values()) for row in rows]).text())
    if args.json:
        about = {"conditions": conditions(), "pip_cache": not args.no_pip_cache, "command": sys.argv}
        write_text(args.json, json.dumps({**about, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
