"""What the report says of a network of several widths: each figure with the network that it belongs to."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import mxnet as mx

from ..complexity import count
from ..deploy import export, export_routed, export_subnet, load_routed
from ..deploy.to_mxnet.variants import fusion_is_available, time_variants
from ..models.slimmable import SlimmableNet
from ..timing import time_interleaved
from .config import Recipe
from .final_weights import LAST, FinalWeights
from .state import TrainState

__all__ = ["Rows", "SlimmableFigures", "evaluates_widths", "slimmable_figures", "width_figures"]

_TOP1 = "top1_"
Rows = List[Tuple[str, str]]


class SlimmableFigures(NamedTuple):
    """What stands in result.json, and the rows of the table that tell of costs and files."""

    values: Dict[str, Any]
    rows: Rows


def evaluates_widths(state: TrainState) -> bool:
    """Whether the scores are those of widths, or of routes through them, and not of the network as one."""
    return isinstance(state.net, SlimmableNet) and bool(_widths(state) or _is_routed(state))


def _is_routed(state: TrainState) -> bool:
    return "mean_madds" in state.scores


def _widths(state: TrainState) -> List[str]:
    """The widths that were evaluated, the one of the score `top1` first."""
    return [key[len(_TOP1) :] for key in state.scores if key.startswith(_TOP1)]


def _which(width: str):
    """A width as `subnet` takes it: a number, a path or a name, which is how it was written into the score's name."""
    return width if width.isalpha() else ast.literal_eval(width)


def width_figures(state: TrainState, size: int, weights: FinalWeights = LAST) -> Dict[str, Dict[str, Any]]:
    """Accuracy and multiply-adds of every width that was evaluated."""
    figures: Dict[str, Dict[str, Any]] = {}
    for width in _widths(state):
        madds = count(state.net.subnet(_which(width)), size).madds
        figures[width] = {"top1": _score(state, weights, _TOP1 + width), "madds": madds}
    return figures


def _score(state: TrainState, weights: FinalWeights, key: str) -> float:
    """A score of the weights that are exported; of those of the best checkpoint that of the last ones."""
    own = state.scores[key]
    return state.scores.get(f"ema_{key}", own) if weights.name == "ema" else own


def _scored_with(weights: FinalWeights) -> str:
    """What the table adds where the scores are not those of the exported weights."""
    return ", with the weights of the last update" if weights.name == "best" else ""


def slimmable_figures(state: TrainState, recipe: Recipe, weights: FinalWeights) -> SlimmableFigures:
    """Export and time what was evaluated: the routed network, or every width as a network of its own.

    `weights` says which ones the network has: the figures are theirs.

    Files in the run folder: of a routed network those of `export_routed`, with <model>.json as its manifest; of widths
    <model>.width<i>-symbol.json and so on, and <model>-symbol.json of the largest network.

    Raises ExportError if the files do not give the network's answers.
    """
    prefix, size = state.out / recipe.file_name, recipe.data.image_size
    if _is_routed(state) and state.net.num_choices == 1:
        return _routed(state, prefix, size, weights)
    return _separate(state, prefix, size, weights)


def _separate(state: TrainState, prefix: Path, size: int, weights: FinalWeights) -> SlimmableFigures:
    widths, rows = width_figures(state, size, weights), []
    for width, figures in widths.items():
        which = _which(width)
        if which == "largest":
            exported = export(state.net, prefix, size)
        else:
            name = re.sub("[^0-9a-z]+", "-", width).strip("-")
            exported = export_subnet(state.net, which, f"{prefix}.width{name}", size)
        latency, refused = time_variants(state.net.subnet(which), size)
        figures["latency_ms"] = {name: value.minimum for name, value in latency.items()}
        figures.update({"fusion_refused": refused} if refused else {})
        figures["files"], figures["export_difference"] = [path.name for path in exported.files], exported.difference
        rows.append((f"width {width}", f"{_width_line(figures)}, {exported.symbol.name}"))
    if _is_routed(state):
        scored, madds = "the routed network", round(_score(state, weights, "mean_madds"))
        rows.insert(0, ("MAdds (conv + fc)", f"{madds:,} in the mean of the routed network's images"))
        costs: Dict[str, Any] = {"madds": madds}
        belongs = {"madds": "the routed network, in the mean of the held-out images"}
    else:
        first = next(iter(widths))
        scored, costs = f"width {first}", {key: widths[first][key] for key in ("madds", "latency_ms")}
        costs["export_difference"] = max(figures["export_difference"] for figures in widths.values())
        belongs = {"madds": scored, "latency_ms": scored, "export_difference": "the width with the largest"}
    belongs = {"top1, top5, loss": scored + _scored_with(weights), "params": "all widths together", **belongs}
    return SlimmableFigures({**costs, "widths": widths, "figures_of": belongs}, rows)


def _routed(state: TrainState, prefix: Path, size: int, weights: FinalWeights) -> SlimmableFigures:
    manifest = export_routed(state.net, prefix, size)
    description, widths = load_routed(manifest).description, width_figures(state, size, weights)
    latency = _route_latency(manifest, [route.width for route in description.routes], state.net.in_channels, size)
    routes: Dict[str, Dict[str, Any]] = {}
    for number, route in enumerate(description.routes):
        share = _score(state, weights, f"route_{number}")
        routes[str(route.width)] = {"share": share, "madds": route.madds, "latency_ms": latency[route.width]}
    mean = {
        variant: sum(route["share"] * route["latency_ms"][variant] for route in routes.values())
        for variant in next(iter(latency.values()))
    }
    madds, scored = round(_score(state, weights, "mean_madds")), "the routed network"
    values = {
        "madds": madds,
        "latency_ms": mean,
        "export_difference": description.difference,
        "files": [manifest.name, *(description.sha256 or {})],
        "routes": routes,
        "widths": widths,
        "figures_of": {
            "top1, top5, loss": scored + _scored_with(weights),
            "params": "all widths together",
            "madds, latency_ms": "the routed network, in the mean of the held-out images",
            "export_difference": "the route with the largest",
        },
    }
    rows = [("MAdds (conv + fc)", f"{madds:,} in the mean of the images"), ("latency, batch 1", _latency_line(mean))]
    for width, figures in routes.items():
        line = f"{figures['share']:.1%} of the images, {figures['madds']:,} MAdds"
        rows.append((f"route to width {width}", f"{line}, {_latency_line(figures['latency_ms'])}"))
    rows += [(f"width {width}", _width_line(figures)) for width, figures in widths.items()]
    rows += [("exported", str(manifest)), ("loaded again", _same_answers(description.difference))]
    return SlimmableFigures(values, rows)


def _route_latency(manifest: Path, widths: Sequence[int], channels: int, size: int) -> Dict[int, Dict[str, float]]:
    """Milliseconds of an image that takes each route, in every variant."""
    image = mx.nd.random.uniform(shape=(1, channels, size, size))
    routers = {variant: load_routed(manifest, variant) for variant in ("plain", "fused")[: 1 + fusion_is_available()]}

    def call(router, width):
        return lambda: router.at_width(width, image).wait_to_read()

    calls = {(width, name): call(router, width) for width in widths for name, router in routers.items()}
    times = time_interleaved(calls)
    return {width: {name: times[width, name].minimum for name in routers} for width in widths}


def _width_line(figures: Dict[str, Any]) -> str:
    line = f"top-1 {figures['top1']:.2%}, {figures['madds']:,} MAdds"
    return f"{line}, {_latency_line(figures['latency_ms'])}" if "latency_ms" in figures else line


def _latency_line(milliseconds: Dict[str, float]) -> str:
    line = f"{milliseconds['plain']:.2f} ms"
    return line + (f" ({milliseconds['fused']:.2f} ms fused)" if "fused" in milliseconds else "")


def _same_answers(difference: float) -> str:
    return f"same answers, largest difference {difference:.0e} of the logits' deviation"
