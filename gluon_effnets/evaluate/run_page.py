"""A page that tells a training run, or compares several: one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..files.regular import read_text
from ..files.yaml_text import parse_yaml
from ..pictures import load_pyplot
from ..train.hooks.logs import read_log
from ..train.run_folder import RESULT, read_json
from .answers import Answers, ask
from .confusion import class_rows, draw_confusion
from .subject import Subject, open_export
from .worst import PAGE_STYLE, image_figure

__all__ = ["REPORT", "Run", "answers_of", "compare_runs", "read_run", "run_page"]

REPORT = "report.html"
_MISTAKES = 12
_SCORES = ("top1", "top5", "map")
_STYLE = (
    PAGE_STYLE
    + """
table { border-collapse: collapse; margin: 1em 0; }
td, th { text-align: left; padding: 0.2em 1em 0.2em 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img.wide { width: 100%; max-width: 1100px; height: auto; background: none; }
pre { background: #f4f4f4; padding: 1em; overflow-x: auto; }
@media (prefers-color-scheme: dark) {
  body { background: #1c1c1e; color: #ddd; }
  pre { background: #2a2a2c; }
  td, th { border-color: #444; }
  img.wide { background: #fff; }
}
"""
)


class Run(NamedTuple):
    """What a finished run left in its folder."""

    folder: Path
    recipe: str
    result: Dict[str, Any]
    circumstances: Dict[str, Any]
    log: List[Dict[str, Any]]

    @property
    def model(self) -> str:
        """The name of its network."""
        return str(self.result.get("model", "a network"))

    @property
    def source(self) -> str:
        """Its data, KIND[:PATH]."""
        recipe = parse_yaml(self.recipe, self.folder)
        data = recipe.get("data") if isinstance(recipe, dict) else None
        return str(data.get("source", "")) if isinstance(data, dict) else ""

    @property
    def evaluations(self) -> List[Dict[str, Any]]:
        """The lines of the log with scores of held-out images."""
        return [line for line in self.log if line.get("kind") == "eval"]


def read_run(folder) -> Run:
    """Read a run folder.

    Raises:
        FileNotFoundError: It is none, or its run is not finished.
    """
    folder = Path(folder)
    result = read_json(folder / RESULT)
    if result is None:
        raise FileNotFoundError(f"{folder} is no folder of a finished run: it has no readable {RESULT}")
    # Of a run with stages the last one has the log.
    place = max((path.parent for path in folder.glob("*/log.jsonl")), key=_changed, default=folder)
    place = folder if (folder / "log.jsonl").is_file() else place
    recipe = folder / "recipe.yaml" if (folder / "recipe.yaml").is_file() else place / "recipe.yaml"
    log = read_log(place / "log.jsonl") if (place / "log.jsonl").is_file() else []
    text = read_text(recipe, "recipe") if recipe.is_file() else ""
    return Run(folder, text, result, read_json(place / "run.json") or {}, log)


def _changed(folder: Path) -> float:
    return (folder / "log.jsonl").stat().st_mtime


def answers_of(run: Run) -> Optional[Tuple[Subject, Answers]]:
    """Ask a run's exported network about its held-out images; None where it left no such export.

    Raises:
        ValueError: Its data are no longer what they were.
    """
    exported = next(iter(sorted(run.folder.glob("*-symbol.json"))), None)
    if exported is None or "top1" not in run.result:
        return None
    about = exported.with_name(exported.name.replace("-symbol.json", ".json"))
    subject = open_export(str(about), run.source)
    return subject, ask(subject, keep=10 * _MISTAKES)


def run_page(run: Run, answered: Optional[Tuple[Subject, Answers]] = None) -> str:
    """Return the page of a run: scores, curves, mistakes, costs, recipe and circumstances.

    Args:
        run: What is told.
        answered: What `answers_of` returned, for the classes and the images; None leaves them out.
    """
    parts = [_rows(_told(run)), _picture(_curves([run]), "curves over epochs")]
    if answered:
        parts += _answers(*answered)
    else:
        command = f"python -m gluon_effnets report {run.folder}"
        parts.append(f"<p>Classes and mistakes: <code>{html.escape(command)}</code> shows them.</p>")
    parts += ["<h2>Recipe</h2>", f"<pre>{html.escape(run.recipe)}</pre>", "<h2>Circumstances</h2>"]
    parts.append(_rows(_flat(run.circumstances)))
    return _page(f"{run.model} on {run.source}", parts)


def compare_runs(runs: Sequence[Run]) -> str:
    """Return a page with a table of runs, and their curves in one picture."""
    rows = [dict(_told(run)) for run in runs]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["run", *keys])
    body = "".join(
        f"<tr><td>{html.escape(str(run.folder))}</td>{''.join(_cell(row.get(key, '')) for key in keys)}</tr>"
        for run, row in zip(runs, rows)
    )
    return _page(
        f"{len(runs)} runs", [f"<table><tr>{head}</tr>{body}</table>", _picture(_curves(runs), "curves over epochs")]
    )


def _told(run: Run) -> List[Tuple[str, str]]:
    """The figures of a run, with their units."""
    result, rows = run.result, [("network", run.model), ("data", run.source)]
    for key in (key for key in _SCORES if key in result):
        scores = [(line[key], line["epoch"]) for line in run.evaluations if key in line]
        best = f"; best {max(scores)[0]:.2%} after epoch {max(scores)[1]:g}" if len(scores) > 1 else ""
        rows.append((key, f"{result[key]:.2%} of {result.get('images', 0):,} held-out images{best}"))
        averaged = [line[f"ema_{key}"] for line in run.evaluations if f"ema_{key}" in line]
        if averaged:
            rows.append((f"{key}, averaged weights", f"{averaged[-1]:.2%}"))
    if "weights" in result:
        rows.append(("weights exported", str(result["weights"])))
    if result.get("params") is not None:
        rows.append(("parameters", f"{result['params']:,}"))
    if result.get("madds") is not None:
        rows.append(("multiply-adds", f"{result['madds'] / 1e6:,.2f} M at {result.get('image_size')} pixels"))
    latency = result.get("latency_ms")
    if isinstance(latency, dict):
        rows.append(("latency, one image", ", ".join(f"{value:.2f} ms {name}" for name, value in latency.items())))
    rows.append(("updates", f"{result.get('updates', 0):,}"))
    return rows


def _flat(tree: Dict[str, Any], before: str = "") -> List[Tuple[str, str]]:
    rows: List[Tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{before}{key}.")
        else:
            rows.append((f"{before}{key}", " ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows


def _answers(subject: Subject, answers: Answers) -> List[str]:
    """The confusion matrix, the classes, and the mistakes that the network was surest of."""
    drawn = io.BytesIO()
    draw_confusion(subject, answers, drawn)
    classes = [
        [row.name, f"{row.images:,}", "" if row.top1 is None else f"{row.top1:.1%}",
         "" if row.mistaken_for is None else f"{row.mistaken_for} ({row.times})"]
        for row in sorted(class_rows(subject, answers), key=lambda row: (row.top1 is None, row.top1 or 0))
    ]  # fmt: skip
    head = "".join(f"<th>{name}</th>" for name in ("class", "images", "top-1", "taken for"))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in classes)
    wrong = [seen for seen in answers.worst if answers.predicted[seen.place] != answers.label[seen.place]]
    wrong.sort(key=lambda seen: -answers.confidence[seen.place])
    figures = "\n".join(image_figure(subject, answers, place, pixels) for place, pixels in wrong[:_MISTAKES])
    return [
        "<h2>Classes</h2>",
        _picture(drawn.getvalue(), "confusion matrix"),
        f"<details><summary>All classes, the worst first</summary><table><tr>{head}</tr>{body}</table></details>",
        "<h2>Mistakes that the network was surest of</h2>",
        f"<main>\n{figures}\n</main>" if figures else "<p>None.</p>",
    ]


def _curves(runs: Sequence[Run]) -> bytes:
    """Losses, scores and learning rates over epochs; a color for each run."""
    pyplot = load_pyplot("the pictures of a run")
    figure, (losses, scores, rates) = pyplot.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    alone = len(runs) == 1
    for number, run in enumerate(runs):
        color = f"C{number}"
        training = [line for line in run.log if line.get("kind") == "train" and "loss" in line]
        label = "training" if alone else run.folder.name
        losses.plot([line["epoch"] for line in training], [line["loss"] for line in training], color=color, label=label)
        held_out = [line for line in run.evaluations if "loss" in line]
        losses.plot([line["epoch"] for line in held_out], [line["loss"] for line in held_out], "o--", color=color, ms=3,
                    label="held-out" if alone else None)  # fmt: skip
        rates.plot([line["epoch"] for line in training], [line.get("lr") for line in training], color=color)
        for key, style in zip((key for key in _SCORES if any(key in line for line in run.evaluations)), ("o-", "o:")):
            having = [line for line in run.evaluations if key in line]
            scores.plot([line["epoch"] for line in having], [100 * line[key] for line in having], style, color=color,
                        ms=3, label=key if alone else f"{run.folder.name}, {key}")  # fmt: skip
    for axes, title in ((losses, "loss"), (scores, "held-out images, %"), (rates, "learning rate")):
        axes.set(xlabel="epoch", title=title)
        axes.grid(alpha=0.3)
    losses.set_yscale("log")
    for axes in (losses, scores):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, format="png")
    pyplot.close(figure)
    return drawn.getvalue()


def _picture(content: bytes, what: str) -> str:
    return f'<img class="wide" src="data:image/png;base64,{base64.b64encode(content).decode()}" alt="{what}">'


def _rows(rows: Sequence[Tuple[str, str]]) -> str:
    return f"<table>{''.join(f'<tr><th>{html.escape(name)}</th>{_cell(value)}</tr>' for name, value in rows)}</table>"


def _cell(value: Any) -> str:
    return f"<td>{html.escape(str(value))}</td>"


def _page(title: str, parts: Sequence[str]) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )
