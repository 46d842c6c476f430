"""Trains networks for a few epochs on CIFAR-10 to compare them, and collects the results.

    python dev/small_scale_evidence.py DIR [--group idle] [--out runs/evidence] [--seeds 0 1]
    python dev/small_scale_evidence.py DIR [--group idle] [--out runs/evidence] [--seeds 0 1] --collect

The first trains what is not finished; the second writes what is into results/: trained.json, logs, a picture.

A small-scale check of the training code and of the direction of claims, not a reproduction of them: 32 x 32 images,
stem stride 2, a few epochs, two seeds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Dict, NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Run(NamedTuple):
    """A model, options that differ from its defaults, and settings that differ from cifar10.yaml."""

    model: str
    options: dict = {}
    settings: tuple = ("duration=2ep",)


PRUNED = ("duration=3ep", "hooks.sparsify={}")
SHORT = ("duration=200it", "evaluate_every=200it", "schedule.warmup=40it")
GROUPS: Dict[str, Dict[str, Run]] = {
    "idle": {
        "baseline": Run("mobilenet_v3_large"),
        "equal cost": Run("idle_mbv3"),
        "maximum": Run("idle_mbv3_maximum"),
        "equal cost, right": Run("idle_mbv3", {"order": "right"}),
        "equal cost, shuffle": Run("idle_mbv3", {"shuffle": True}),
        "equal cost, alternate": Run("idle_mbv3", {"order": "alternate"}),
    },
    "precision": {
        "float32": Run("mobilenet_v3_small", settings=SHORT),
        "bfloat16": Run("mobilenet_v3_small", settings=(*SHORT, "precision=bfloat16")),
    },
    "condensenet": {
        "CondenseNet": Run("condensenet_small", settings=PRUNED),
        "CondenseNetV2": Run("condensenet_v2_small", settings=PRUNED),
    },
}


def command(run: Run, seed: int, source: str, out: Path) -> list:
    """The training command of one run."""
    options = {"stem_stride": 2, **run.options}
    settings = [f"model_options.{key}={json.dumps(value)}" for key, value in options.items()]
    settings += [*run.settings, f"seed={seed}"]
    overrides = [part for setting in settings for part in ("--set", setting)]
    return ["train_imagenet.py", "--model", run.model, "--data", source, "--out", str(out), *overrides]


def runs(group: str, out: Path, seeds):
    """Yield (comparison, run, seed, folder): all networks with the first seed, then with the next."""
    for seed in seeds:
        for comparison, run in GROUPS[group].items():
            yield comparison, run, seed, out / f"{comparison.replace(', ', '_').replace(' ', '_')}.{seed}"


def collect(group: str, out: Path, seeds) -> None:
    """Write the finished runs into results/trained.json, their logs into results/logs/, and draw their curves."""
    path, logs = ROOT / "results" / "trained.json", ROOT / "results" / "logs"
    kept = [row for row in json.loads(path.read_text())["rows"] if row.get("group") != group]
    logs.mkdir(exist_ok=True)
    curves = {}
    for comparison, run, seed, folder in runs(group, out, seeds):
        if not (folder / "result.json").exists():
            continue
        result = json.loads((folder / "result.json").read_text())
        log = f"cifar10.{folder.name}.jsonl"
        shutil.copy(folder / "log.jsonl", logs / log)
        lines = [json.loads(line) for line in (logs / log).read_text().splitlines()]
        curves[comparison, seed] = lines
        row = {"group": group, "comparison": comparison, "model": run.model, "options": run.options, "seed": seed}
        row["data"] = "CIFAR-10, stem stride 2"
        row["recipe"] = f"cifar10.yaml, {', '.join(run.settings)}"
        row["madds"], row["top1"] = result["madds"], round(100 * result["top1"], 2)
        row["images_per_s"] = round(
            statistics.median(line["images_per_s"] for line in lines if line["kind"] == "train")
        )
        if group == "condensenet":
            row.update(reuse(run, folder, logs / f"cifar10.{folder.name}.reuse.png"))
        row["log"] = log
        row["commit"] = json.loads((folder / "run.json").read_text())["commit"]
        row["command"] = "python " + " ".join(command(run, seed, "cifar10:DIR", Path("OUT")))
        kept.append(row)
    path.write_text(json.dumps({"rows": kept}, indent=1) + "\n")
    draw(curves, logs / f"cifar10.{group}.png")


def reuse(run: Run, folder: Path, picture: Path) -> dict:
    """Draw the reuse map of a trained CondenseNet; return its early-feature share and that of uniform use, in %."""
    from gluon_effnets import get_model
    from gluon_effnets.deploy.reuse import draw_reuse, early_feature_share

    net = get_model(run.model, pretrained=str(folder / f"{run.model}.params"), **run.options)
    draw_reuse(net, picture, title=f"{run.model}, {folder.name}")
    early = early_feature_share(net)
    return {"early_share": round(100 * early.share, 2), "early_share_uniform": round(100 * early.uniform, 2)}


def draw(curves: dict, picture: Path) -> None:
    """Training loss (mean of five lines of the log) and held-out top-1 of every run; a colour per network."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (losses, scores) = pyplot.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    colors = {name: f"C{number}" for number, name in enumerate(dict.fromkeys(name for name, _ in curves))}
    for (name, seed), lines in curves.items():
        style = {"color": colors[name], "ls": ("-", "--", ":")[seed % 3], "label": f"{name}, seed {seed}"}
        training = [line for line in lines if line["kind"] == "train"]
        chunks = [training[i : i + 5] for i in range(0, len(training), 5)]
        means = [statistics.mean(line["loss"] for line in chunk) for chunk in chunks]
        losses.plot([chunk[-1]["epoch"] for chunk in chunks], means, lw=1, **style)
        held_out = [line for line in lines if line["kind"] == "eval"]
        scores.plot([line["epoch"] for line in held_out], [100 * line["top1"] for line in held_out], "o", **style)
        scores.lines[-1].set_linestyle(style["ls"])
    losses.set(xlabel="epoch", title="training loss (label smoothing 0.1)")
    scores.set(xlabel="epoch", title="held-out top-1, %")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
    scores.legend(fontsize=7)
    figure.savefig(picture, dpi=100)


def main() -> None:
    """Train what is not finished, or collect what is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="CIFAR-10, see docs/data.md")
    parser.add_argument("--group", choices=GROUPS, default="idle")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    if args.collect:
        collect(args.group, args.out, args.seeds)
        return
    for _, run, seed, folder in runs(args.group, args.out, args.seeds):
        if not (folder / "result.json").exists():
            command_line = command(run, seed, f"cifar10:{args.folder}", folder.resolve())
            subprocess.run([sys.executable, *command_line], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
