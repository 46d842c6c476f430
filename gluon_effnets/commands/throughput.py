"""The commands `benchmark train` and `benchmark data`: their arguments, tables and JSON files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Dict, List, Optional

from ..benchmarks.projection import project, projection_table
from ..benchmarks.throughput import PHASES, benchmark_data, benchmark_train
from ..train.config import Recipe, load_recipe
from ..train.dist import start_workers

__all__ = ["add_data_arguments", "add_train_arguments", "run_data", "run_train", "table"]


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `benchmark train` to its parser."""
    parser.add_argument("names", nargs="+", metavar="MODEL", help="see python -m gluon_effnets list")
    _add_common_arguments(parser, steps=10)
    parser.add_argument("--hvd", action="store_true", help="measure N workers; start with horovodrun -np N")
    parser.add_argument(
        "--no-torch", dest="with_torch", action="store_const", const=False, help="leave PyTorch out if it is installed"
    )
    parser.add_argument(
        "--project",
        type=float,
        nargs="+",
        default=[],
        metavar="MS",
        help="project the efficiency of --project-workers workers whose updates take MS without communication",
    )
    parser.add_argument("--project-workers", type=int, default=64, metavar="N")
    parser.add_argument("--latency-us", type=float, default=0.0, help="of one message, in the projection")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `benchmark data` to its parser."""
    _add_common_arguments(parser, steps=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[], help="values of data.num_threads to compare")


def _add_common_arguments(parser: argparse.ArgumentParser, steps: int) -> None:
    parser.add_argument("--data", metavar="KIND[:PATH]", help="as in train_imagenet.py (default: synthetic)")
    parser.add_argument("--config", help="recipe whose data, optimizer, hooks and precision to measure")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch", type=int, help="images per worker and step")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                        help="change a key of the recipe (may be repeated)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=steps, help="measured batches of every way and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="also write the measurements to a file")


# Nesterov's SGD as in most recipes; 1000 classes, because the classifier is a quarter of what a small network sends.
_DEFAULTS = ("optimizer.lr=0.01", "optimizer.options={momentum: 0.9}")
_SYNTHETIC = ("data.augment=none", "data.classes=1000")


def _recipe(args: argparse.Namespace, model: Optional[str], workers: int = 1) -> Recipe:
    overrides = [] if args.config else list(_DEFAULTS)
    # A recipe names a model; the data do not need it.
    overrides += [f"model={json.dumps(model or 'none')}"]
    for key, value in (("image_size", args.image_size), ("batch_size", args.batch), ("source", args.data)):
        overrides += [f"data.{key}={json.dumps(value)}"] if value is not None else []
    if not (args.data or args.config):
        overrides += [f"data.source=synthetic:{2 * workers * (args.batch or 32)}", *_SYNTHETIC]
    return load_recipe(args.config, [*overrides, *args.overrides])


def run_train(args: argparse.Namespace) -> None:
    """Measure, print the tables and write the JSON file, as the arguments of `add_train_arguments` say."""
    workers = start_workers(args.hvd)
    options = {"steps": args.steps, "rounds": args.rounds, "workers": workers, "with_torch": args.with_torch}
    results: List[dict] = []
    for name in args.names:
        result = benchmark_train(_recipe(args, name, workers.size), **options)
        volume = result["communication"]["bytes_per_update"]
        result["projection"] = [
            row
            for compute_ms in args.project
            for row in project(volume, compute_ms, args.project_workers, latency_us=args.latency_us)
        ]
        results.append(result)
        if workers.is_writer:
            print(table(result) + "\n", flush=True)
    workers.finish()
    if workers.is_writer:
        _write(args.json, results)


def run_data(args: argparse.Namespace) -> None:
    """Measure, print the table and write the JSON file, as the arguments of `add_data_arguments` say."""
    settings = _recipe(args, None).data
    result = benchmark_data(settings, threads=args.threads, steps=args.steps, rounds=args.rounds)
    print(table(result))
    _write(args.json, [result])


def _write(path: Optional[str], results: List[dict]) -> None:
    if path:
        Path(path).write_text(json.dumps(results, indent=1) + "\n")


def table(result: dict) -> str:
    """A result of `benchmark_train` or `benchmark_data` as Markdown tables."""
    parts = [_head(result), _rates_table(result["rates"])]
    if result["kind"] == "train":
        parts.append(_phases_table({result["model"]: result["phases"], **result["torch_phases"]}))
        parts.append(_communication_line(result["communication"], result["workers"]))
        if result.get("projection"):
            parts.append("Projection, not measured:\n\n" + projection_table(result["projection"]))
    return "\n\n".join(parts)


def _head(result: dict) -> str:
    machine = result["machine"]
    threads = machine["omp_num_threads"] or "not set"
    load = machine["load_average"]
    rows = [
        result["data"],
        f"{result['rounds']} rounds of {result['steps']} batches of {result['batch_size']}; "
        f"{machine['processors']} processors, OMP_NUM_THREADS {threads}"
        + (f", load average {load[0]:.1f} at the end" if load else ""),
    ]
    if result["kind"] == "train":
        rows.insert(
            0, f"{result['model']}, {result['precision']}, {result['workers']} worker(s) on {result['context']}"
        )
    return "\n".join(rows)


def _rates_table(rates: Dict[str, dict]) -> str:
    lines = ["| way | images/s (median) | best round | processor ms / image |", "|---|---|---|---|"]
    for name, rate in rates.items():
        numbers = (rate["images_per_s"], rate["best_images_per_s"], rate["cpu_ms_per_image"])
        lines.append(f"| {name} | " + " | ".join(f"{number:.4g}" for number in numbers) + " |")
    return "\n".join(lines)


def _phases_table(measured: Dict[str, Dict[str, dict]]) -> str:
    names = [name for name in PHASES if any(name in phases for phases in measured.values())]
    lines = ["| ms (share) | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for who, phases in measured.items():
        cells = [f"{phases[n]['ms']:.4g} ({phases[n]['share']:.1%})" if n in phases else "" for n in names]
        lines.append(f"| {who} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _communication_line(communication: dict, workers: int) -> str:
    text = f"gradients: {communication['bytes_per_update'] / 1e6:.2f} MB per update in {communication['arrays']} arrays"
    if workers > 1:
        text += f", exchanged in {communication['ms']:.1f} ms ({communication['gbit_per_s']:.2f} Gbit/s of a ring)"
    return text
