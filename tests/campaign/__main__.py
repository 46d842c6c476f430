"""Damaged inputs and faults, each known by its number, and how the package met them.

    nice -n 15 python -m tests.campaign --cases 10000 --faults 500 --json results/campaign.json
    python -m tests.campaign symbols --from 17 --cases 1      # one case again, with what was said
    python -m tests.campaign --cases 200 --faults 0           # a share

The same seed and number give the same case. The exit code is 1 if a case failed. `--cases` are spread over the parts.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import List, Optional, Sequence

ROOT = Path(__file__).resolve().parents[2]
# What the cases need is imported once, before they fork.
NEEDED = (
    "mxnet cv2 yaml PIL.Image onnxruntime gluon_effnets.__main__ gluon_effnets.deploy gluon_effnets.deploy.export "
    "gluon_effnets.evaluate.predict gluon_effnets.evaluate.validate gluon_effnets.train.run gluon_effnets.weights "
    "gluon_effnets.runtime gluon_effnets.runtime.commands gluon_effnets.evaluate.int8_accuracy "
    "gluon_effnets.evaluate.detections gluon_effnets.evaluate.detect gluon_effnets.train.data.detection.voc "
    "gluon_effnets.train.data.detection.coco gluon_effnets.train.data.detection.detrec detection_runs"
).split()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the parts that are asked for; return 1 if a case failed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from . import faults, inputs, judge, sources

    args = _arguments(argv)
    for name in NEEDED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="campaign-", dir=args.folder) as temporary:
        folder = Path(temporary)
        sources.make_all(folder)
        everything = inputs.all_parts(folder)
        parts = [part for part in everything if not args.parts or part.name in args.parts]
        learned = next(part for part in everything if part.name == "sealed_params")
        judge.learn_answer(learned, args.seed, folder, lambda place, draw: _clean(folder, place))
        rows: List[dict] = []
        for part in parts if args.cases else ():
            rows.append(_row(part, args, len(parts), folder))
            _write(args, rows)
        kinds = [kind for kind in faults.KINDS if not args.parts or kind in args.parts]
        for kind in kinds if args.faults else ():
            rows.append(faults.row(kind, args, len(kinds), folder))
            _write(args, rows)
    failed = sum(row["failures"] for row in rows)
    total = sum(row["cases"] for row in rows)
    print(f"{total:,} cases, {failed} failures")
    return int(bool(failed))


def _arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="The parts to run (default: all).")
    parser.add_argument("--cases", type=int, default=500, metavar="N", help="Damaged inputs, over all parts.")
    parser.add_argument("--faults", type=int, default=0, metavar="N", help="Faults, over all kinds of work.")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="Of all cases (default: 0).")
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="K", help="The first number of each part.")
    parser.add_argument("--json", metavar="FILE", help="Write the figures with their conditions, part by part.")
    parser.add_argument("--folder", metavar="DIR", help="Where files are made and damaged (default: as for any other).")
    parser.add_argument("--show", action="store_true", help="Show what was said in every case.")
    return parser.parse_args(argv)


def _clean(folder: Path, place: Path):
    from . import judge, sources
    from .inputs.room import PHOTO, command

    sources.given(folder, place, "sealed.params", PHOTO)
    words = ["predict", "idle_tiny", place / "sealed.params", PHOTO]
    return judge.Call(command(*words))


def _row(part, args, parts: int, folder: Path) -> dict:
    """Run a part, print its line, and return its figures."""
    from . import judge

    start, ended, failures = time.monotonic(), collections.Counter(), []
    numbers = range(args.first, args.first + -(-args.cases // parts))
    for verdict in judge.run_part(part, numbers, args.seed, folder):
        ended[verdict.ended] += 1
        if verdict.failure:
            failures.append(verdict)
            print(f"  {part.name} {verdict.number}: {verdict.failure}", flush=True)
        elif args.show:
            print(f"  {part.name} {verdict.number}: {verdict.ended}: {verdict.said}", flush=True)
    seconds = time.monotonic() - start
    return show(part.name, len(numbers), ended, len(failures), seconds)


def show(name: str, cases: int, ended, failures: int, seconds: float) -> dict:
    """Print the line of a part, and return its figures."""
    told = ", ".join(f"{count:,} {what}" for what, count in sorted(ended.items()) if what != "failure")
    print(f"{name}: {cases:,} cases: {told or 'none'}; {failures} failures ({seconds:.0f} s)", flush=True)
    counts = {key: count for key, count in ended.items() if key != "failure"}
    return {"part": name, "cases": cases, **counts, "failures": failures, "seconds": round(seconds, 1)}


def _write(args, rows: List[dict]) -> None:
    """Write the figures so far; those of other parts, of the same commit, stay in the file."""
    if not args.json:
        return
    from gluon_effnets import _resources
    from gluon_effnets.files.write import write_text
    from gluon_effnets.timing import conditions

    command = f"python -m tests.campaign --cases {args.cases} --faults {args.faults} --seed {args.seed}"
    date = datetime.date.today().isoformat()
    content = {"command": command, "date": date, "commit": _resources.commit(), **conditions()}
    before = json.loads(Path(args.json).read_text()) if Path(args.json).exists() else {}
    kept = before.get("rows", []) if before.get("commit") == content["commit"] else []
    names = {row["part"] for row in rows}
    content["rows"] = [*(row for row in kept if row["part"] not in names), *rows]
    write_text(args.json, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
