"""Trains DS-Nets and their gates for a few epochs on CIFAR-10 to compare them, and collects the results.

    python dev/small_scale_evidence.py DIR [--group dsnet] [--out runs/evidence] [--seeds 0 1]
    python dev/small_scale_evidence.py DIR [--group dsnet] [--out runs/evidence] [--seeds 0 1] --collect

The first trains what is not finished; the second writes what is into results/: trained.json, logs, a picture.
All other comparisons are experiments (`python -m gluon_effnets experiment`). These are not: several gates begin from
the supernet of one run, some of them with other layers.

A small-scale check of the training code and of the direction of claims, not a reproduction of them: 32 x 32 images,
stem stride 2, a few epochs, two seeds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Dict, NamedTuple

from gluon_effnets.files.write import write_text

ROOT = Path(__file__).resolve().parent.parent


class Run(NamedTuple):
    """A model, options that differ from its defaults, and settings that differ from the recipe (cifar10.yaml).

    `recipe` is another one, of stages; `gate_of` names the comparison whose stage `gate` is repeated in another way.
    """

    model: str
    options: dict = {}
    settings: tuple = ()
    recipe: str = ""
    gate_of: str = ""


STAGES = (
    "stages.supernet.duration=3ep",
    "stages.supernet.evaluate_every=0.25ep",
    "stages.supernet.schedule.warmup=0.5ep",
    "stages.gate.duration=1ep",
    # As large a part of the loss at 0.16 M multiply-adds as 0.5 is at 160 M.
    "stages.gate.task_options.madds_weight=500000.0",
)
DS_NET = {"model": "ds_mobilenet_tiny", "recipe": "configs/ds_mobilenet_v1.cifar10.yaml"}
FAR = "far widths, SGS"
SPREAD = {**DS_NET, "model": "ds_mobilenet_spread"}
SPREAD_STAGES = (*STAGES[:3], "stages.gate.duration=2ep", STAGES[-1])
# In a thousand updates the authors' average is that of the random start: a teacher that knows nothing.
SLOW = ("stages.supernet.hooks={ema: {decay: 0.997, warmup: false}}",)
DISTILL = ("stages.supernet.task_options.targets=distill", "stages.supernet.hooks={}")
GROUPS: Dict[str, Dict[str, Run]] = {
    "dsnet": {
        "IEB, SGS": Run(**DS_NET, settings=STAGES),
        "IEB, slow average, SGS": Run(**DS_NET, settings=(*STAGES, *SLOW)),
        "distillation, SGS": Run(**DS_NET, settings=(*STAGES, *DISTILL)),
        "IEB, Gumbel": Run("ds_mobilenet_tiny", settings=("task_options.targets=gumbel",), gate_of="IEB, SGS"),
        "IEB, SGS, separate heads": Run("ds_mobilenet_tiny", {"gate_heads": "separate"}, (), gate_of="IEB, SGS"),
        "IEB, SGS, ratio head": Run("ds_mobilenet_tiny", {"gate_output": "ratio"}, (), gate_of="IEB, SGS"),
    },
    # Widths that are far apart, so that a choice between them is worth something: routed accuracy at its mean cost
    # beside that of every fixed width, the widest among them.
    "dsnet_spread": {
        "far widths, SGS": Run(**SPREAD, settings=SPREAD_STAGES),
        "far widths, Gumbel": Run("ds_mobilenet_spread", {}, ("task_options.targets=gumbel",), gate_of=FAR),
        "far widths, ratio head": Run("ds_mobilenet_spread", {"gate_output": "ratio"}, (), gate_of=FAR),
        "far widths, separate heads": Run("ds_mobilenet_spread", {"gate_heads": "separate"}, (), gate_of=FAR),
    },
}


def command(run: Run, seed: int, source: str, out: Path) -> list:
    """The training command of one run."""
    options = {"stem_stride": 2, **run.options}
    settings = [f"model_options.{key}={json.dumps(value)}" for key, value in options.items()]
    settings += [*run.settings, f"seed={seed}"]
    recipe = run.recipe
    if run.gate_of:
        other = out.parent / _folder(run.gate_of, seed)
        recipe = str(other / "gate" / "recipe.yaml")
        settings.append(f"pretrained={_supernet(run, seed, out)}")
    overrides = [part for setting in settings for part in ("--set", setting)]
    config = ["--config", recipe] if recipe else []
    return ["train_imagenet.py", "--model", run.model, *config, "--data", source, "--out", str(out), *overrides]


def recipe_of(run: Run, seed: int) -> str:
    """The name of the recipe that `command` reads; of a repeated gate the one that the stage `gate` left behind."""
    if run.gate_of:
        origin = next(other for group in GROUPS.values() for name, other in group.items() if name == run.gate_of)
        return (
            f"{_folder(run.gate_of, seed)}/gate/recipe.yaml (stage gate of {Path(origin.recipe).name}, {run.gate_of})"
        )
    return Path(run.recipe).name or "cifar10.yaml"


def _supernet(run: Run, seed: int, out: Path) -> Path:
    """The weights from which another gate starts: in a file of its own where its network has other layers."""
    trained = out.parent / _folder(run.gate_of, seed) / "recalibrate" / f"{run.model}.params"
    return out.with_name(out.name + ".start.params") if run.options else trained


def start_elsewhere(run: Run, seed: int, out: Path) -> None:
    """Write a trained supernet into the file of a network with other gates; these get new weights."""
    import mxnet as mx

    from gluon_effnets import get_model

    mx.random.seed(seed)
    path = _supernet(run, seed, out)
    trained, net = (get_model(run.model, classes=10, stem_stride=2, **options) for options in ({}, run.options))
    trained.load_parameters(str(_supernet(run._replace(options={}), seed, out)))
    net.initialize()
    mine, theirs = net._collect_params_with_prefix(), trained._collect_params_with_prefix()
    for name in mine.keys() & theirs.keys():
        if mine[name].shape == theirs[name].shape:
            mine[name].set_data(theirs[name].data())
    net.save_parameters(str(path))


def _folder(comparison: str, seed: int) -> str:
    return f"{comparison.replace(', ', '_').replace(' ', '_')}.{seed}"


def runs(group: str, out: Path, seeds):
    """Yield (comparison, run, seed, folder): all networks with the first seed, then with the next."""
    for seed in seeds:
        for comparison, run in GROUPS[group].items():
            yield comparison, run, seed, out / _folder(comparison, seed)


def collect(group: str, out: Path, seeds) -> None:
    """Write the finished runs into results/trained.json, their logs into results/logs/, and draw their curves."""
    path, logs = ROOT / "results" / "trained.json", ROOT / "results" / "logs"
    content = json.loads(path.read_text())
    kept = [row for row in content["rows"] if row.get("group") != group]
    logs.mkdir(exist_ok=True)
    curves = {}
    for comparison, run, seed, folder in runs(group, out, seeds):
        if not (folder / "result.json").exists():
            continue
        log = f"cifar10.{folder.name}.jsonl"
        last = folder / "gate" if (folder / "gate").is_dir() else folder
        result = json.loads((last / "result.json").read_text())
        shutil.copy(last / "log.jsonl", logs / log)
        lines = [json.loads(line) for line in (logs / log).read_text().splitlines()]
        curves[comparison, seed] = lines
        row = {"group": group, "comparison": comparison, "model": run.model, "options": run.options, "seed": seed}
        row["data"] = "CIFAR-10, stem stride 2"
        row["recipe"] = ", ".join([recipe_of(run, seed), *run.settings])
        row["madds"], row["top1"] = result["madds"], round(100 * result["top1"], 2)
        row["images_per_s"] = round(
            statistics.median(line["images_per_s"] for line in lines if line["kind"] == "train")
        )
        row.update(widths_and_routes(folder, result))
        if run.recipe:
            # What is compared are the supernets; the gates' log has few lines.
            supernet = logs / f"cifar10.{folder.name}.supernet.jsonl"
            shutil.copy(folder / "supernet" / "log.jsonl", supernet)
            curves[comparison, seed] = [json.loads(line) for line in supernet.read_text().splitlines()]
        else:
            del curves[comparison, seed]
        row["log"] = log
        row["commit"] = json.loads((last / "run.json").read_text())["commit"]
        row["command"] = shlex.join(["python", *command(run, seed, "cifar10:DIR", Path("OUT"))])
        kept.append(row)
    write_text(path, json.dumps({**content, "rows": kept}, indent=1) + "\n")
    draw(curves, logs / f"cifar10.{group}.png")


def widths_and_routes(folder: Path, result: dict) -> dict:
    """Accuracy per width of a recalibrated supernet, in %, and what the gate chose, in shares of the images."""
    gate = ("mean_madds", "easy", "gate_accuracy", *(key for key in result if "route_" in key))
    found = {key: round(result[key], 4) for key in gate}
    widths = folder / "recalibrate" / "result.json"
    if widths.exists():
        scores = json.loads(widths.read_text())
        found["widths_top1"] = {key[5:]: round(100 * scores[key], 2) for key in scores if key.startswith("top1_")}
    return found


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
        for key in sorted(held_out[0].keys() & {"top1_5"}):  # the widest sub-network; top1 is the slimmest
            values = [100 * line[key] for line in held_out]
            scores.plot([line["epoch"] for line in held_out], values, lw=1, **{**style, "label": "its widest"})
    losses.set(xlabel="epoch", title="training loss (label smoothing 0.1)")
    scores.set(xlabel="epoch", title="held-out top-1, %")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
    scores.legend(fontsize=7, framealpha=0.5)
    figure.savefig(picture, dpi=100)


def main() -> None:
    """Train what is not finished, or collect what is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="CIFAR-10, see docs/data.md")
    parser.add_argument("--group", choices=GROUPS, default="dsnet")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    if args.collect:
        collect(args.group, args.out, args.seeds)
        return
    source = Path(args.folder)
    for _, run, seed, folder in runs(args.group, args.out, args.seeds):
        if not (folder / "result.json").exists():
            if run.gate_of and run.options:
                start_elsewhere(run, seed, folder.resolve())
            command_line = command(run, seed, f"cifar10:{source}", folder.resolve())
            subprocess.run([sys.executable, *command_line], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
