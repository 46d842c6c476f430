"""What a finished run leaves: exported files, curves as a picture, and a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

from .._requirements import optional_import
from ..complexity import count
from ..deploy import export, measure_latency
from .config import Recipe
from .state import TrainState

__all__ = ["draw_curves", "write_report"]


def write_report(state: TrainState, recipe: Recipe) -> dict:
    """Export the trained network, draw the curves, measure the latency, print the table; return its values.

    Files in the run folder: <model>-symbol.json, <model>-0000.params, <model>.params, curves.png, result.json.
    """
    size = recipe.data.image_size
    exported = export(state.net, state.out / recipe.model, size)
    state.net.save_parameters(str(state.out / f"{recipe.model}.params"))
    cost, latency = count(state.net, size), measure_latency(state.net, size)
    result = {
        "model": recipe.model,
        "image_size": size,
        "params": cost.params,
        "madds": cost.madds,
        "updates": state.update,
        "images": state.data.num_val,
        **state.scores,
        "latency_ms": {name: value.minimum for name, value in latency.items()},
        "export_difference": exported.difference,
    }
    (state.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    draw_curves(state.out / "log.jsonl", state.out / "curves.png", title=f"{recipe.model} on {recipe.data.source}")
    print(_table(result, exported, state.out))
    return result


def _table(result: dict, exported, out: Path) -> str:
    rows = [
        ("model", result["model"]),
        ("input", f"{result['image_size']} x {result['image_size']}"),
        ("parameters", f"{result['params']:,}"),
        ("MAdds (conv + fc)", f"{result['madds']:,}"),
    ]
    for key, name in (("top1", "top-1"), ("top5", "top-5"), ("ema_top1", "top-1, EMA weights")):
        if key in result:
            rows.append((name, f"{result[key]:.2%} of {result['images']:,} held-out images"))
    latency = result["latency_ms"]
    rows += [
        (
            "latency, batch 1",
            f"{latency['plain']:.2f} ms; {latency['fused']:.2f} ms with oneDNN fusion (minimum of 20)",
        ),
        ("exported", f"{exported.symbol}"),
        ("", f"{exported.params}"),
        ("loaded again", f"same answers, largest difference {exported.difference:.0e} of the largest logit"),
        ("curves, log", f"{out / 'curves.png'}, {out / 'log.jsonl'}"),
    ]
    width = max(len(name) for name, _ in rows)
    rule = "-" * (width + 2 + max(len(text) for _, text in rows))
    return "\n".join([rule, *(f"{name:<{width}}  {text}" for name, text in rows), rule])


def draw_curves(log: Path, picture: Path, title: str = "") -> None:
    """Draw training loss, evaluation scores and learning rate of a log.jsonl over epochs, as a PNG."""
    matplotlib = optional_import("matplotlib", extra="train", why="the picture of the curves")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines: List[dict] = [json.loads(line) for line in log.read_text().splitlines()]
    training = [line for line in lines if line["kind"] == "train"]
    evaluations = [line for line in lines if line["kind"] == "eval"]
    figure, (losses, accuracy, rate) = pyplot.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    losses.plot([line["epoch"] for line in training], [line["loss"] for line in training], label="training")
    for key in sorted({key for line in evaluations for key in line if key.endswith("loss")}):
        label = "held-out" if key == "loss" else "held-out, EMA"
        losses.plot(
            [line["epoch"] for line in evaluations],
            [line[key] for line in evaluations],
            "o-",
            ms=3,
            label=label,
        )
    for key in sorted({key for line in evaluations for key in line if "top" in key}):
        values = [100 * line[key] for line in evaluations]
        accuracy.plot([line["epoch"] for line in evaluations], values, "o-", ms=3, label=key)
    rate.plot([line["epoch"] for line in training], [line["lr"] for line in training], color="gray")
    for axes, name in ((losses, "loss"), (accuracy, "accuracy, %"), (rate, "learning rate")):
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.3)
    losses.set_yscale("log")
    losses.legend()
    if evaluations:
        accuracy.legend()
    figure.suptitle(title)
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
