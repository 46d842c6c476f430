"""What a finished run leaves: exported files, curves as a picture, and a table."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from ..complexity import count
from ..deploy import export
from ..deploy.export import Exported
from ..deploy.to_mxnet.variants import time_variants
from ..detection import Detector
from ..files.write import write_text
from ..models import params
from ..models.condense import condense
from ..nn import masked_layers
from ..pictures import load_pyplot, save_picture
from ..tables import Table
from .config import Recipe
from .detection_report import detection_figures, precision_rows
from .final_weights import LAST, FinalWeights, final_weights, find_average, in_network
from .hooks import Hook
from .hooks.logs import read_log
from .hooks.sparsify import SPARSITY
from .run_folder import RESULT
from .slimmable_report import Rows, evaluates_widths, slimmable_figures, width_figures
from .state import TrainState

__all__ = ["RESULT", "draw_curves", "draw_sparsity", "write_report", "write_stage_result"]

_log = logging.getLogger(__name__)


def write_report(state: TrainState, recipe: Recipe, hooks: Sequence[Hook] = ()) -> dict:
    """Export the trained network, draw the curves, measure the latency, print the table; return its values.

    Files in the run folder: <model>-symbol.json, <model>-0000.params, <model>.params, curves.png, result.json; with the
    hook `ema` also <model>.ema.params, and <model>.best.params where the best checkpoint is exported. `final_weights`
    says which of these weights are exported. A network that was pruned completely leaves sparsity.png and
    <model>.condensed.params, too: there the exported network, its parameters, cost and latency are those of the
    condensed form. Of a slimmable network what was evaluated is exported: see `slimmable_figures`.

    Raises ValueError if the files do not give the network's answers; the weights are there all the same.
    """
    prefix = str(state.out / recipe.file_name)
    state.net.save_parameters(f"{prefix}.params")
    average, chosen = find_average(hooks), final_weights(state, recipe, hooks)
    if evaluates_widths(state) and recipe.export_weights is None:
        # The average is the teacher of such a run; what was evaluated are the last weights.
        chosen = LAST
    if average is not None:
        params.save(state.net, f"{prefix}.ema.params", average.average)
    if chosen.name == "best":
        params.save(state.net, f"{prefix}.best.params", chosen.arrays)
    with in_network(state.net, chosen.arrays):
        try:
            return _write_report(state, recipe, chosen)
        except ValueError as error:
            raise ValueError(f"the network is trained, {prefix}.params has its weights, but {error}") from error


def _write_report(state: TrainState, recipe: Recipe, chosen: FinalWeights) -> dict:
    size = recipe.data.image_size
    _draw(state, recipe)
    if evaluates_widths(state):
        figures = slimmable_figures(state, recipe, chosen)
        result = {**_circumstances(state, recipe), **figures.values, **state.scores, "weights": chosen.name}
        _finish(state, result, [*_scores_of(result), ("weights exported", chosen.description), *figures.rows])
        return result
    if isinstance(state.net, Detector):
        found = detection_figures(state, recipe)
        result = {**_circumstances(state, recipe), **state.scores, "weights": chosen.name, **found.values}
        _finish(state, result, [*_scores_of(result), *found.rows, ("weights exported", chosen.description)])
        return result
    net, layers = state.net, masked_layers(state.net)
    if layers and all(layer.finished for layer in layers.values()):
        net = condense(state.net)
        net.save_parameters(str(state.out / f"{recipe.file_name}.condensed.params"))
    exported = export(net, state.out / recipe.file_name, size)
    cost, (latency, fusion_refused) = count(net, size), time_variants(net, size)
    result = {
        **_circumstances(state, recipe),
        **({"condensed": True, "params": cost.params} if net is not state.net else {}),
        "madds": cost.madds,
        **state.scores,
        "weights": chosen.name,
        "latency_ms": {name: value.minimum for name, value in latency.items()},
        **({"fusion_refused": fusion_refused} if fusion_refused else {}),
        "export_difference": exported.difference,
    }
    _finish(state, result, _scores_of(result) + _costs_of(result, exported, chosen.description))
    return result


def write_stage_result(state: TrainState, recipe: Recipe) -> dict:
    """Leave what the next stage of a run, and a reader of this one, need: weights, curves and result.json.

    Nothing is exported: it is the last stage that makes the network for use. Returns the values of result.json.
    """
    state.net.save_parameters(str(state.out / f"{recipe.file_name}.params"))
    _draw(state, recipe)
    result = {**_circumstances(state, recipe), **state.scores}
    if evaluates_widths(state):
        result["widths"] = width_figures(state, recipe.data.image_size)
    else:
        result["madds"] = count(state.net, recipe.data.image_size).madds
    _finish(state, result, _scores_of(result))
    return result


def _circumstances(state: TrainState, recipe: Recipe) -> Dict[str, Any]:
    return {
        "model": recipe.model,
        "image_size": recipe.data.image_size,
        "params": state.num_params,
        "updates": state.update,
        "images": state.data.num_val,
    }


def _draw(state: TrainState, recipe: Recipe) -> None:
    title = f"{recipe.model} on {recipe.data.source}"
    try:
        draw_curves(state.out / "log.jsonl", state.out / "curves.png", title)
        if (state.out / SPARSITY).exists():
            draw_sparsity(state.out / SPARSITY, state.out / "sparsity.png", title)
    # Whatever a picture lacks, matplotlib or room on the disk, the trained weights are worth more than it.
    except Exception as error:
        _log.warning("the pictures of %s are not drawn: %s", state.out, error)


def _finish(state: TrainState, result: dict, rows: Rows) -> None:
    """Write result.json, by which a run counts as finished, and print the table."""
    write_text(state.out / RESULT, json.dumps(result, indent=1) + "\n")
    files = [state.out / name for name in ("curves.png", "log.jsonl") if (state.out / name).exists()]
    rows = [*rows, ("curves, log", ", ".join(map(str, files)))]
    lines = Table(["", ""], rows).text(header=False)
    rule = "-" * max(map(len, lines.splitlines()))
    print(f"{rule}\n{lines}\n{rule}")


def _scores_of(result: dict) -> Rows:
    rows = [
        ("model", result["model"] + (", condensed" if "condensed" in result else "")),
        ("input", f"{result['image_size']} x {result['image_size']}"),
        ("parameters", f"{result['params']:,}"),
    ]
    scored = result.get("figures_of", {}).get("top1, top5, loss")
    for key, name in (("top1", "top-1"), ("top5", "top-5"), ("ema_top1", "top-1, EMA weights")):
        if key in result:
            of = f"{scored}, " if scored else ""
            rows.append((name, f"{of}{result[key]:.2%} of {result['images']:,} held-out images"))
    rows += precision_rows(result)
    others = [key for key in result if key.startswith("top1_") and "figures_of" not in result]
    return rows + [(f"top-1, {key[5:].replace('_', ' ')}", f"{result[key]:.2%}") for key in others]


def _costs_of(result: dict, exported: Exported, weights: str) -> Rows:
    milliseconds = result["latency_ms"]
    latency = f"{milliseconds['plain']:.2f} ms"
    if "fused" in milliseconds:
        latency += f"; {milliseconds['fused']:.2f} ms with oneDNN fusion"
    latency += " (minimum of 20)"
    if "fusion_refused" in result:
        latency += f"; {result['fusion_refused']}"
    return [
        ("MAdds (conv + fc)", f"{result['madds']:,}"),
        ("latency, batch 1", latency),
        ("weights exported", weights),
        ("exported", f"{exported.symbol}"),
        ("", f"{exported.params}"),
        ("loaded again", f"same answers, largest difference {exported.difference:.0e} of the logits' deviation"),
    ]


def draw_curves(log: Path, picture: Path, title: str = "") -> None:
    """Draw training loss, evaluation scores and learning rate of a log.jsonl over epochs, as a PNG."""
    pyplot = load_pyplot("the pictures of a run")
    lines: List[dict] = read_log(log)
    training = [line for line in lines if line["kind"] == "train"]
    evaluations = [line for line in lines if line["kind"] == "eval"]
    figure, (losses, accuracy, rate) = pyplot.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    losses.plot([line["epoch"] for line in training], [line["loss"] for line in training], label="training")
    keys = sorted({key for line in evaluations for key in line})
    for key in [key for key in keys if key.endswith("loss")]:
        losses.plot(*_over_epochs(evaluations, key), "o-", ms=3, label="held-out" if key == "loss" else "held-out, EMA")
    for key in [key for key in keys if "top" in key or key in ("map", "ema_map")]:
        epochs, shares = _over_epochs(evaluations, key)
        accuracy.plot(epochs, [100 * share for share in shares], "o-", ms=3, label=key)
    rate.plot([line["epoch"] for line in training], [line["lr"] for line in training], color="gray")
    for axes, name in (
        (losses, "loss"),
        (accuracy, "precision, %" if "map" in keys else "accuracy, %"),
        (rate, "learning rate"),
    ):
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.3)
    losses.set_yscale("log")
    losses.legend()
    if evaluations:
        accuracy.legend()
    figure.suptitle(title)
    save_picture(figure, picture)


def _over_epochs(evaluations: List[dict], key: str) -> Tuple[List[float], List[float]]:
    """Epochs and values of a score, which not every evaluation has."""
    having = [line for line in evaluations if key in line]
    return [line["epoch"] for line in having], [line[key] for line in having]


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
