"""Trains detectors on the blood cells of BCCD to compare them on equal terms, and collects the results.

    python dev/detection_evidence.py VOCDEVKIT [--weights FILE] [--out runs/bccd] [--seeds 0 1 2] [--only NAME ...]
    python dev/detection_evidence.py --collect [--out runs/bccd]

The first trains what is not finished, and goes on with what was stopped; the second writes what is finished into
results/: trained_detectors.json, logs, a picture. BCCD (Shenggan/BCCD_Dataset, MIT license) has 364 photographs of
640 x 480 with 4,886 boxes of three classes, 85 % of them red blood cells: 292 are trained on (trainval), 72 evaluated
(test). FILE are MobileNetV2's weights of mobilenet_v2_1.0_224_quant.tflite (docs/weights.md).

All runs have the recipe own_boxes.yaml with the settings below, chosen before the first run and the same for all.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from gluon_effnets.files.write import make_folder, write_text

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = "WEIGHTS"  # what --weights names
SETTINGS = (
    "data.train_parts=[2007_trainval]",
    "data.eval_parts=[2007_test]",
    "data.batch_size=8",
    "data.eval_batch_size=8",
    "duration=24ep",
    "schedule.warmup=1ep",
    "evaluate_every=4ep",
    "checkpoint_every=2ep",
)
PRETRAINED = (f"model_options.pretrained_base={WEIGHTS}", "data.normalization=pretrained")


class Run(NamedTuple):
    """A detector, and settings beside those of all."""

    model: str
    settings: Tuple[str, ...] = ()


RUNS: Dict[str, Run] = {
    "MobileNetV2": Run("ssdlite320_mobilenet_v2_x1_0"),
    "MobileNeXt": Run("ssdlite320_mobilenext_x1_0"),
    "MobileNetV2, pretrained": Run("ssdlite320_mobilenet_v2_x1_0", PRETRAINED),
}


def command(run: Run, seed: int, folder: str, weights: str, out: str) -> List[str]:
    """The training command of one run."""
    settings = [*SETTINGS, *(setting.replace(WEIGHTS, weights) for setting in run.settings), f"seed={seed}"]
    overrides = [part for setting in settings for part in ("--set", setting)]
    config = ["--config", "configs/own_boxes.yaml", "--model", run.model]
    return ["train_imagenet.py", *config, "--data", f"voc:{folder}", "--out", out, *overrides]


def _folder(name: str, seed: int) -> str:
    return f"{name.replace(', ', '_')}.{seed}"


def _runs(seeds: List[int]) -> Iterator[Tuple[str, Run, int]]:
    """All detectors with the first seed, then with the next."""
    for seed in seeds:
        for name, run in RUNS.items():
            yield name, run, seed


def collect(out: Path, seeds: List[int]) -> None:
    """Write the finished runs into results/trained_detectors.json, their logs beside it, and draw their curves."""
    logs, rows = ROOT / "results" / "logs", []
    curves: Dict[Tuple[str, int], List[Dict[str, Any]]] = {}
    for name, run, seed in _runs(seeds):
        folder = out / _folder(name, seed)
        if not (folder / "result.json").exists():
            continue
        result = json.loads((folder / "result.json").read_text())
        log = f"bccd.{folder.name}.jsonl"
        shutil.copy(folder / "log.jsonl", logs / log)
        curves[name, seed] = [json.loads(line) for line in (logs / log).read_text().splitlines()]
        row = {"comparison": name, "model": run.model, "seed": seed, "madds": result["madds"]}
        row.update(
            {key: round(100 * value, 2) for key, value in result.items() if key == "map" or key.startswith("ap_")}
        )
        row["log"], row["commit"] = log, json.loads((folder / "run.json").read_text())["commit"]
        row["command"] = shlex.join(["python", *command(run, seed, "DIR", "FILE", "OUT")])
        rows.append(row)
    write_text(ROOT / "results" / "trained_detectors.json", json.dumps({"rows": rows}, indent=1) + "\n")
    _draw(curves, logs / "bccd.png")


def _draw(curves: Dict[Tuple[str, int], List[Dict[str, Any]]], picture: Path) -> None:
    from gluon_effnets.pictures import load_pyplot, save_picture

    figure, (losses, scores) = load_pyplot("curves of detectors").subplots(
        1, 2, figsize=(11, 4), constrained_layout=True
    )
    colors = {name: f"C{number}" for number, name in enumerate(RUNS)}
    for (name, seed), lines in curves.items():
        style = {"color": colors[name], "ls": ("-", "--", ":")[seed % 3], "label": f"{name}, seed {seed}"}
        parts = {kind: [line for line in lines if line["kind"] == kind] for kind in ("train", "eval")}
        losses.plot(
            [line["epoch"] for line in parts["train"]], [line["loss"] for line in parts["train"]], lw=1, **style
        )
        scores.plot([line["epoch"] for line in parts["eval"]], [100 * line["map"] for line in parts["eval"]], **style)
    losses.set(xlabel="epoch", title="training loss", yscale="log")
    scores.set(xlabel="epoch", title="mAP (VOC2012) of the test images, %")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
    scores.legend(fontsize=7, framealpha=0.5)
    save_picture(figure, picture, dpi=100)


def main() -> None:
    """Train what is not finished, or collect what is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", help="A VOCdevkit with BCCD as VOC2007.")
    parser.add_argument("--weights", metavar="FILE", help="A .params file of mobilenet_v2_x1_0.")
    parser.add_argument("--out", type=Path, default=Path("runs/bccd"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=RUNS, help="Of the comparison, in quotes.")
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    if args.collect:
        collect(args.out, args.seeds)
        return
    if not args.folder:
        parser.error("name the folder of the data, or --collect")
    for name, run, seed in _runs(args.seeds):
        folder = (args.out / _folder(name, seed)).resolve()
        left_out = args.only and name not in args.only or run.settings and not args.weights
        if left_out or (folder / "result.json").exists():
            continue
        make_folder(folder.parent)
        words = command(run, seed, str(Path(args.folder).resolve()), str(args.weights), str(folder))
        subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
