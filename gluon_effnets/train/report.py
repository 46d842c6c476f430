"""What a finished run leaves: exported files, curves as a picture, and a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, Sequence

from ..complexity import count
from ..deploy import export
from ..deploy.to_mxnet.variants import time_variants
from ..models import params
from ..models.condense import condense
from ..nn import masked_layers
from ..pictures import load_pyplot, save_picture
from ..tables import Table
from .config import Recipe
from .final_weights import FinalWeights, final_weights, find_average, in_network
from .hooks import Hook
from .hooks.sparsify import SPARSITY
from .state import TrainState

__all__ = ["RESULT", "draw_curves", "draw_sparsity", "write_report"]


RESULT = "result.json"  # in the run folder; the last file that a run writes there


def write_report(state: TrainState, recipe: Recipe, hooks: Sequence[Hook] = ()) -> dict:
    """Export the trained network, draw the curves, measure the latency, print the table; return its values.

    Files in the run folder: <model>-symbol.json, <model>-0000.params, <model>.params, curves.png, result.json; with the
    hook `ema` also <model>.ema.params, of the best checkpoint, if it is exported, <model>.best.params. `final_weights`
    says which of these weights are exported. A network that was pruned completely leaves sparsity.png and
    <model>.condensed.params, too: there the exported network, its parameters, cost and latency are those of the
    condensed form.
    """
    prefix = str(state.out / recipe.file_name)
    state.net.save_parameters(f"{prefix}.params")
    average, chosen = find_average(hooks), final_weights(state, recipe, hooks)
    if average is not None:
        params.save(state.net, f"{prefix}.ema.params", average.average)
    if chosen.name == "best":
        params.save(state.net, f"{prefix}.best.params", chosen.arrays)
    with in_network(state.net, chosen.arrays):
        return _write_report(state, recipe, chosen)


def _write_report(state: TrainState, recipe: Recipe, chosen: FinalWeights) -> dict:
    size = recipe.data.image_size
    net, layers = state.net, masked_layers(state.net)
    if layers and all(layer.finished for layer in layers.values()):
        net = condense(state.net)
        net.save_parameters(str(state.out / f"{recipe.file_name}.condensed.params"))
    exported = export(net, state.out / recipe.file_name, size)
    cost, (latency, fusion_refused) = count(net, size), time_variants(net, size)
    result = {
        "model": recipe.model,
        **({"condensed": True} if net is not state.net else {}),
        "image_size": size,
        "params": state.num_params if net is state.net else cost.params,
        "madds": cost.madds,
        "updates": state.update,
        "images": state.data.num_val,
        **state.scores,
        "weights": chosen.name,
        "latency_ms": {name: value.minimum for name, value in latency.items()},
        **({"fusion_refused": fusion_refused} if fusion_refused else {}),
        "export_difference": exported.difference,
    }
    title = f"{recipe.model} on {recipe.data.source}"
    draw_curves(state.out / "log.jsonl", state.out / "curves.png", title)
    if (state.out / SPARSITY).exists():
        draw_sparsity(state.out / SPARSITY, state.out / "sparsity.png", title)
    (state.out / RESULT).write_text(json.dumps(result, indent=1) + "\n")
    print(_table(result, exported, state.out, chosen.description))
    return result


def _table(result: dict, exported, out: Path, weights: str) -> str:
    rows = [
        ("model", result["model"] + (", condensed" if "condensed" in result else "")),
        ("input", f"{result['image_size']} x {result['image_size']}"),
        ("parameters", f"{result['params']:,}"),
        ("MAdds (conv + fc)", f"{result['madds']:,}"),
    ]
    for key, name in (("top1", "top-1"), ("top5", "top-5"), ("ema_top1", "top-1, EMA weights")):
        if key in result:
            rows.append((name, f"{result[key]:.2%} of {result['images']:,} held-out images"))
    rows += [(f"top-1, {key[5:].replace('_', ' ')}", f"{result[key]:.2%}") for key in result if key.startswith("top1_")]
    milliseconds = result["latency_ms"]
    latency = f"{milliseconds['plain']:.2f} ms"
    if "fused" in milliseconds:
        latency += f"; {milliseconds['fused']:.2f} ms with oneDNN fusion"
    latency += " (minimum of 20)"
    if "fusion_refused" in result:
        latency += f"; {result['fusion_refused']}"
    rows += [
        ("latency, batch 1", latency),
        ("weights exported", weights),
        ("exported", f"{exported.symbol}"),
        ("", f"{exported.params}"),
        ("loaded again", f"same answers, largest difference {exported.difference:.0e} of the logits' deviation"),
        ("curves, log", f"{out / 'curves.png'}, {out / 'log.jsonl'}"),
    ]
    lines = Table(["", ""], rows).text(header=False)
    rule = "-" * max(map(len, lines.splitlines()))
    return f"{rule}\n{lines}\n{rule}"


def draw_curves(log: Path, picture: Path, title: str = "") -> None:
    """Draw training loss, evaluation scores and learning rate of a log.jsonl over epochs, as a PNG."""
    pyplot = load_pyplot("the pictures of a run")
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
    save_picture(figure, picture)


def draw_sparsity(record: Path, picture: Path, title: str = "") -> None:
    """Draw what the stages of the pruning left of every layer, of a sparsity.json, as a PNG."""
    pyplot = load_pyplot("the pictures of a run")
    content = json.loads(record.read_text())
    layers, stages = content["layers"], content["stages"]
    size = (8, 2 + 0.14 * len(layers))
    figure, panels = pyplot.subplots(1, 2, figsize=size, sharey=True, constrained_layout=True)
    names = (("kept", "weights kept"), ("used", "channels that any group uses"))
    for axes, (key, name) in zip(panels, names):
        shares = [[stage[key][layer] for stage in stages] for layer in range(len(layers))]
        image = axes.imshow(shares, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set(xlabel="stage, update")
        axes.set_title(f"share of the {name}", fontsize=9)
        axes.set_xticks(range(len(stages)))
        axes.set_xticklabels([f"{number}\n{stage['update']}" for number, stage in enumerate(stages)], fontsize=6)
    panels[0].set_yticks(range(len(layers)))
    panels[0].set_yticklabels(layers, fontsize=5)
    figure.colorbar(image, ax=panels, shrink=0.6)
    figure.suptitle(title)
    save_picture(figure, picture)
