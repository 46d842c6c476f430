"""Finished runs of an experiment as rows in results/experiments/, with their logs, a table and a picture of curves."""

from __future__ import annotations

import json
import shlex
import shutil
import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ..files.write import make_folder, write_text
from ..intervals import Interval, mean_interval, paired_difference
from ..pictures import load_pyplot, save_picture
from ..tables import Table
from ..train.hooks.logs import read_log
from ..train.run_folder import RESULT, read_json
from .curve import draw_curve
from .definition import Experiment
from .queue import Job, command, jobs_of

__all__ = ["collect", "experiment_table"]

Log = List[Dict[str, Any]]


def collect(experiment: Experiment, out: Path, results: Path) -> Dict[str, Any]:
    """Write what is finished: <results>/NAME.json, NAME.png, and the logs of the runs in <results>/NAME/.

    With a curve, NAME.curve.png has the score over the cost.

    Args:
        experiment: Whose runs.
        out: The folder that the queue was given.
        results: The folder to write to; of a checkout results/experiments.

    Returns:
        The content of the JSON file: the experiment's question, and a row per run with its scores.

    Raises:
        ValueError: No run is finished.
    """
    finished = [job for job in jobs_of(experiment, out) if job.finished]
    if not finished:
        raise ValueError(f"no run of {experiment.name} is finished in {out}")
    logs = results / experiment.name
    make_folder(logs)
    rows, curves = [], []
    for job in finished:
        last = _last_stage(job.folder)
        copied = logs / f"{job.folder.name}.jsonl"
        shutil.copyfile(last / "log.jsonl", copied)
        curves.append((job.comparison.name, read_log(copied)))
        rows.append(_row(experiment, job, last, curves[-1][1]))
    about = {key: getattr(experiment, key) for key in ("question", "chosen", "data", "images", "score", "baseline")}
    content = {**about, "rows": rows}
    write_text(results / f"{experiment.name}.json", json.dumps(content, indent=1) + "\n")
    _draw(experiment, curves, results / f"{experiment.name}.png")
    if experiment.curve:
        draw_curve(rows, experiment.curve, experiment.score, results / f"{experiment.name}.curve.png")
    return content


def _last_stage(folder: Path) -> Path:
    """Where the last stage of a run left its log; the folder itself for a run without stages."""
    stages = [path.parent for path in folder.glob("*/log.jsonl")]
    return max(stages, key=lambda path: (path / "log.jsonl").stat().st_mtime) if stages else folder


def _row(experiment: Experiment, job: Job, last: Path, log: Log) -> Dict[str, Any]:
    result = {**(read_json(last / RESULT) or {}), **(read_json(job.folder / RESULT) or {})}
    about = read_json(last / "run.json") or {}
    words = command(experiment, job, f"{experiment.data}:DIR", Path("OUT"))
    rates = [line["images_per_s"] for line in log if line["kind"] == "train" and "images_per_s" in line]
    return {
        "comparison": job.comparison.name,
        "model": job.comparison.model,
        "seed": job.seed,
        "score": round(100 * result[experiment.score], 3),
        "scores": {key: value for key, value in result.items() if isinstance(value, float) and 0 <= value <= 1},
        "params": result.get("params"),
        "madds": result.get("madds"),
        "images_per_s": round(statistics.median(rates)) if rates else None,
        "commit": about.get("commit"),
        "date": about.get("date"),
        "operators": about.get("operators"),
        "command": shlex.join(["python", *words]),
    }


def experiment_table(content: Dict[str, Any]) -> Table:
    """A line per network: its cost, its score with the 95 % interval, and the difference from the baseline.

    Differences are paired by seed; one whose interval has zero in it is called none.

    Args:
        content: What `collect` returned.
    """
    rows, baseline = content["rows"], content["baseline"]
    by_name: Dict[str, Dict[int, float]] = {}
    for row in rows:
        by_name.setdefault(row["comparison"], {})[row["seed"]] = row["score"]
    lines = []
    for name, scores in by_name.items():
        first = next(row for row in rows if row["comparison"] == name)
        cost = None if first["madds"] is None else first["madds"] / 1e6
        common = sorted(scores.keys() & by_name.get(baseline, {}).keys())
        difference = None
        if name != baseline and common:
            difference = _told(
                paired_difference(*([of[seed] for seed in common] for of in (scores, by_name[baseline])))
            )
        interval = mean_interval(list(scores.values()))
        lines.append([name, f"`{first['model']}`", cost, len(scores), _written(interval), difference])
    columns = ["", "network", ("MAdds, M", ".2f"), "seeds", f"{content['score']}, %", f"against {baseline}, points"]
    return Table(columns, lines)


def _written(interval: Interval) -> str:
    half = interval.high - interval.mean
    return f"{interval.mean:.2f}" if half == float("inf") else f"{interval.mean:.2f} ± {half:.2f}"


def _told(difference: Interval) -> str:
    if difference.high == float("inf"):
        return f"{difference.mean:+.2f}, one seed"
    sign = "none: " if difference.has_zero else ""
    return f"{sign}{difference.mean:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})"


def _draw(experiment: Experiment, curves: List[Tuple[str, Log]], picture: Path) -> None:
    """Training loss and held-out score: the mean over the seeds, and a band from the least to the largest."""
    figure, axes = load_pyplot("curves of experiments").subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for number, name in enumerate(experiment.comparisons):
        logs = [log for of, log in curves if of == name]
        for axis, kind, key, factor in ((axes[0], "train", "loss", 1), (axes[1], "eval", experiment.score, 100)):
            band = _band(logs, kind, key)
            if band:
                epochs = sorted(band)
                values = [[factor * value for value in band[epoch]] for epoch in epochs]
                axis.plot(epochs, [statistics.mean(at) for at in values], color=f"C{number}", lw=1.2, label=name)
                axis.fill_between(epochs, *zip(*((min(at), max(at)) for at in values)), color=f"C{number}", alpha=0.2)
    axes[0].set(xlabel="epoch", title="training loss", yscale="log")
    axes[1].set(xlabel="epoch", title=f"{experiment.score} of held-out images, %")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=7, framealpha=0.5)
    save_picture(figure, picture, dpi=100)


def _band(logs: List[Log], kind: str, key: str) -> Dict[float, List[float]]:
    """The values of all logs by epoch; of training losses the mean of each half epoch."""
    found: Dict[float, List[float]] = {}
    for log in logs:
        parts: Dict[float, List[float]] = {}
        for line in log:
            value: Optional[float] = line.get(key) if line["kind"] == kind else None
            if value is not None:
                epoch = line["epoch"] if kind == "eval" else (line["epoch"] * 2 // 1 + 1) / 2
                parts.setdefault(epoch, []).append(value)
        for epoch, values in parts.items():
            found.setdefault(epoch, []).append(statistics.mean(values))
    return found
