"""Trains detectors on the blood cells of BCCD to compare them on equal terms, and collects the results.

    python dev/detection_evidence.py VOCDEVKIT [--group ssdlite fssd] [--weights FILE] [--out runs/bccd] [--seeds 0 1 2]
        [--only NAME ...]
    python dev/detection_evidence.py --collect [--out runs/bccd]

The first trains what is not finished, and goes on with what was stopped; the second writes what is finished into
results/: trained_detectors.json, logs, a picture. BCCD (Shenggan/BCCD_Dataset, MIT license) has 364 photographs of
640 x 480 with 4,886 boxes of three classes, 85 % of them red blood cells: 292 are trained on (trainval), 72 evaluated
(test). FILE are MobileNetV2's weights of mobilenet_v2_1.0_224_quant.tflite (docs/weights.md).

All runs of a group have the recipe own_boxes.yaml with the settings below, chosen before its first run and the same
for all.

- `ssdlite`: MobileNeXt beside MobileNetV2, as in MobileNeXt's paper, and the latter from published weights.
- `fssd`: DS-MBNet-S and -M beside MobileNetV1, as in DS-Net's paper, each from scratch. FSSD300 costs three times as
  much as these SSDLite; at 160 pixels, with five maps in place of six, nine runs fit into two hours of one core.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from gluon_effnets.files.write import make_folder, write_text

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = "WEIGHTS"  # what --weights names
DATA = (
    "data.train_parts=[2007_trainval]",
    "data.eval_parts=[2007_test]",
    "data.batch_size=8",
    "data.eval_batch_size=8",
)
SMALL = ("data.image_size=160", "model_options.image_size=160")
PRETRAINED = (f"model_options.pretrained_base={WEIGHTS}", "data.normalization=pretrained")


class Run(NamedTuple):
    """A detector, and settings beside those of all."""

    model: str
    settings: Tuple[str, ...] = ()


class Group(NamedTuple):
    """Detectors that are compared.

    Attributes:
        what: In a few words.
        settings: Of all.
        runs: By name.
        pairs: Of names whose difference is told, the one that a paper finds better first.
    """

    what: str
    settings: Tuple[str, ...]
    runs: Dict[str, Run]
    pairs: Tuple[Tuple[str, str], ...]


GROUPS: Dict[str, Group] = {
    "ssdlite": Group(
        "SSDLite at 320 pixels on BCCD, 24 epochs",
        (*DATA, "duration=24ep", "schedule.warmup=1ep", "evaluate_every=4ep", "checkpoint_every=2ep"),
        {
            "MobileNetV2": Run("ssdlite320_mobilenet_v2_x1_0"),
            "MobileNeXt": Run("ssdlite320_mobilenext_x1_0"),
            "MobileNetV2, pretrained": Run("ssdlite320_mobilenet_v2_x1_0", PRETRAINED),
        },
        (("MobileNeXt", "MobileNetV2"),),
    ),
    "fssd": Group(
        "FSSD at 160 pixels on BCCD, 18 epochs from scratch",
        (*DATA, *SMALL, "duration=18ep", "schedule.warmup=1ep", "evaluate_every=3ep", "checkpoint_every=2ep"),
        {
            "MobileNetV1": Run("fssd300_mobilenet_v1"),
            "DS-MBNet-S": Run("fssd300_ds_mobilenet_v1_s"),
            "DS-MBNet-M": Run("fssd300_ds_mobilenet_v1_m"),
        },
        (("DS-MBNet-S", "MobileNetV1"), ("DS-MBNet-M", "MobileNetV1")),
    ),
}
RUNS = [name for group in GROUPS.values() for name in group.runs]


def command(group: Group, run: Run, seed: int, folder: str, weights: str, out: str) -> List[str]:
    """The training command of one run."""
    settings = [*group.settings, *(setting.replace(WEIGHTS, weights) for setting in run.settings), f"seed={seed}"]
    overrides = [part for setting in settings for part in ("--set", setting)]
    config = ["--config", "configs/own_boxes.yaml", "--model", run.model]
    return ["train_imagenet.py", *config, "--data", f"voc:{folder}", "--out", out, *overrides]


def _folder(name: str, seed: int) -> str:
    return f"{name.replace(', ', '_')}.{seed}"


def _runs(groups: Sequence[str], seeds: Sequence[int]) -> Iterator[Tuple[str, str, Run, int]]:
    """All detectors of a group with the first seed, then with the next."""
    for group in groups:
        for seed in seeds:
            for name, run in GROUPS[group].runs.items():
                yield group, name, run, seed


def collect(out: Path, seeds: Sequence[int], results: Path = ROOT / "results") -> None:
    """Write the finished runs into trained_detectors.json of `results`, their logs beside it, and draw their curves."""
    logs, rows = results / "logs", []
    make_folder(logs)
    curves: Dict[str, Dict[Tuple[str, int], List[Dict[str, Any]]]] = {group: {} for group in GROUPS}
    for group, name, run, seed in _runs(list(GROUPS), seeds):
        folder = out / _folder(name, seed)
        if not (folder / "result.json").exists():
            continue
        result = json.loads((folder / "result.json").read_text())
        log = f"bccd.{folder.name}.jsonl"
        shutil.copy(folder / "log.jsonl", logs / log)
        curves[group][name, seed] = [json.loads(line) for line in (logs / log).read_text().splitlines()]
        row = {"group": group, "comparison": name, "model": run.model, "seed": seed, "madds": result["madds"]}
        row.update(
            {key: round(100 * value, 2) for key, value in result.items() if key == "map" or key.startswith("ap_")}
        )
        row["log"], row["commit"] = log, json.loads((folder / "run.json").read_text())["commit"]
        row["command"] = shlex.join(["python", *command(GROUPS[group], run, seed, "DIR", "FILE", "OUT")])
        rows.append(row)
    about = {name: {"what": of.what, "settings": of.settings, "pairs": of.pairs} for name, of in GROUPS.items()}
    write_text(results / "trained_detectors.json", json.dumps({"groups": about, "rows": rows}, indent=1) + "\n")
    for group, of_group in curves.items():
        if of_group:
            _draw(list(GROUPS[group].runs), of_group, logs / f"bccd.{group}.png")


def _draw(names: Sequence[str], curves: Dict[Tuple[str, int], List[Dict[str, Any]]], picture: Path) -> None:
    from gluon_effnets.pictures import load_pyplot, save_picture

    figure, (losses, scores) = load_pyplot("curves of detectors").subplots(
        1, 2, figsize=(11, 4), constrained_layout=True
    )
    colors = {name: f"C{number}" for number, name in enumerate(names)}
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
    parser.add_argument("--group", nargs="+", choices=GROUPS, default=list(GROUPS), help="What is compared.")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=RUNS, help="Of the comparison, in quotes.")
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    if args.collect:
        collect(args.out, args.seeds)
        return
    if not args.folder:
        parser.error("name the folder of the data, or --collect")
    for group, name, run, seed in _runs(args.group, args.seeds):
        folder = (args.out / _folder(name, seed)).resolve()
        left_out = args.only and name not in args.only or run.settings and not args.weights
        if left_out or (folder / "result.json").exists():
            continue
        make_folder(folder.parent)
        words = command(GROUPS[group], run, seed, str(Path(args.folder).resolve()), str(args.weights), str(folder))
        subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
