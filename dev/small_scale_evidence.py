"""Trains the networks of the IdleBlock comparison for a few epochs on CIFAR-10, and collects the results.

    python dev/small_scale_evidence.py DIR [--out runs/evidence] [--epochs 3] [--seeds 0 1]   train what is not finished
    python dev/small_scale_evidence.py DIR --collect     write results/trained.json

A small-scale check of the training code and of the direction of the paper's claims, not a reproduction of them:
32 x 32 images, stem stride 2, a few epochs, two seeds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Name of the comparison: model and options that differ from its defaults.
NETWORKS = {
    "baseline": ("mobilenet_v3_large", {}),
    "equal cost": ("idle_mbv3", {}),
    "maximum": ("idle_mbv3_maximum", {}),
    "equal cost, right": ("idle_mbv3", {"order": "right"}),
    "equal cost, alternate": ("idle_mbv3", {"order": "alternate"}),
    "equal cost, shuffle": ("idle_mbv3", {"shuffle": True}),
}


def command(model: str, options: dict, seed: int, source: str, out: Path, epochs: int) -> list:
    """The training command of one run."""
    settings = [f"model_options.{key}={json.dumps(value)}" for key, value in {"stem_stride": 2, **options}.items()]
    settings += [f"duration={epochs}ep", f"seed={seed}"]
    overrides = [part for setting in settings for part in ("--set", setting)]
    return ["train_imagenet.py", "--model", model, "--data", source, "--out", str(out), *overrides]


def runs(out: Path, seeds):
    """Yield (comparison, model, options, seed, folder): all networks with the first seed, then with the next."""
    for seed in seeds:
        for comparison, (model, options) in NETWORKS.items():
            yield comparison, model, options, seed, out / f"{comparison.replace(', ', '_').replace(' ', '_')}.{seed}"


def collect(out: Path, epochs: int, seeds) -> None:
    """Write the finished runs into results/trained.json and their logs into results/logs/."""
    path = ROOT / "results" / "trained.json"
    kept = [row for row in json.loads(path.read_text())["rows"] if not row["data"].startswith("CIFAR-10")]
    (ROOT / "results" / "logs").mkdir(exist_ok=True)
    for comparison, model, options, seed, folder in runs(out, seeds):
        if not (folder / "result.json").exists():
            continue
        result = json.loads((folder / "result.json").read_text())
        log = f"cifar10.{folder.name}.jsonl"
        shutil.copy(folder / "log.jsonl", ROOT / "results" / "logs" / log)
        row = {"model": model, "options": options, "comparison": comparison, "seed": seed}
        row["data"] = "CIFAR-10, stem stride 2"
        row["recipe"] = f"cifar10.yaml, {epochs} epochs"
        row["madds"], row["top1"] = result["madds"], round(100 * result["top1"], 2)
        row["log"] = log
        row["commit"] = json.loads((folder / "run.json").read_text())["commit"]
        row["command"] = "python " + " ".join(command(model, options, seed, "cifar10:DIR", Path("OUT"), epochs))
        kept.append(row)
    path.write_text(json.dumps({"rows": kept}, indent=1) + "\n")


def main() -> None:
    """Train what is not finished, or collect what is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="CIFAR-10, see docs/data.md")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    if args.collect:
        collect(args.out, args.epochs, args.seeds)
        return
    for _, model, options, seed, folder in runs(args.out, args.seeds):
        if not (folder / "result.json").exists():
            source = f"cifar10:{args.folder}"
            command_line = command(model, options, seed, source, folder.resolve(), args.epochs)
            subprocess.run([sys.executable, *command_line], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
