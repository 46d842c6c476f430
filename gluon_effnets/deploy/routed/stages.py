"""StagedRouter: a network with a gate in every stage, run as static graphs that each decide on the next one."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ...models.slimmable import SlimmableNet
from ...models.slimmable_plan import Step
from ...nn.gate import DoubleHeadedGate
from ...nn.slimmable import BottleneckUnit
from ...nn.variants import inference_variants
from ..graph.inference import Array, StaticGraph, as_numpy, static_block
from ..to_mxnet.variants import fused_where_right, prepare
from .router import (
    RoutedOutput,
    blocks_of,
    chain,
    check_slimmable,
    gate_widths,
    joined,
    rows_of,
    static_of,
)

__all__ = ["StagedGraphs", "StagedRouter", "before_gate", "gates_madds", "staged_graphs"]

Path = Tuple[int, ...]
# Of the first stage, before which nothing was decided.
START = 0


class StagedGraphs(NamedTuple):
    """The graphs of a network with a gate at the beginning of every stage; places number the candidates.

    `head`: image -> map, place (N,) that the first gate chooses. `entries[stage][before, now]`: the first unit of a
    stage, map -> map, from the place of the stage before to its own. `rests[stage][now]`: its other units, map -> map,
    place of the next stage; of the last stage map -> logits. `widths`: the index of every place.
    """

    head: StaticGraph
    entries: Tuple[Dict[Tuple[int, int], StaticGraph], ...]
    rests: Tuple[Dict[int, StaticGraph], ...]
    widths: Path


class StagedRouter:
    """images (N, channels, H, W) -> RoutedOutput, whose `decisions` (N, gates) are the paths: stage after stage.

    Each group of images that has decided alike so far runs alone. The logits are those of `net.dynamic`, which masks.

    Args:

        head, entries, rests, widths: The functions of `StagedGraphs`, from NumPy's arrays to NumPy's, or from MXNet's
            to MXNet's, of their fields.

    Example: `logits, paths = StagedRouter.of(get_model("ds_resnet50", pretrained="w.params"))(images)`
    """

    def __init__(self, head: Callable, entries: Sequence[Dict], rests: Sequence[Dict], widths: Path):
        self._head, self._entries, self._rests, self.widths = head, entries, rests, widths

    @classmethod
    def of(cls, net: SlimmableNet, variant: str = "fused") -> StagedRouter:
        """Make the router of a network with several gates, from copies of its weights on the CPU.

        Args:
            variant: 'fused' by oneDNN, where that gives the same answers, or 'plain'.

        Raises ValueError as `staged_graphs` does, and for another variant.
        """
        graphs = staged_graphs(net)

        def run(graph: StaticGraph) -> Callable:
            if variant == "fused":
                return fused_where_right(lambda variant: prepare(static_block(graph), variant))
            return prepare(static_block(graph), variant)

        entries = [{key: run(graph) for key, graph in stage.items()} for stage in graphs.entries]
        rests = [{key: run(graph) for key, graph in stage.items()} for stage in graphs.rests]
        return cls(run(graphs.head), entries, rests, graphs.widths)

    def __call__(self, images: Array) -> RoutedOutput:
        maps, places = self._head(images)
        paths = np.zeros((len(images), len(self._rests)), int)
        return RoutedOutput(self._behind(0, START, maps, _numbers(places), paths), np.array(self.widths)[paths])

    def at_width(self, width: Union[int, Sequence[int]], images: Array) -> Array:
        """Return the logits at an index of `widths`, or on a path of such, whatever the gates decide."""
        path = [width] * len(self._rests) if isinstance(width, int) else width
        (maps, _), before = self._head(images), START
        for stage, index in enumerate(path):
            now = self.widths.index(index)
            found = self._rests[stage][now](self._entries[stage][before, now](maps))
            maps, before = found if stage + 1 == len(path) else found[0], now
        return maps

    def _behind(self, stage: int, before: int, maps: Array, places: np.ndarray, paths: np.ndarray) -> Array:
        """The logits of images that have decided alike, whose maps are those before a stage; `paths` is filled in."""
        if not (places == places[0]).all():
            order = np.argsort(places, kind="stable")
            maps, sorted_paths = rows_of(maps, order), paths[order]
            begins = [*np.unique(places[order], return_index=True)[1], len(order)]
            parts = [
                self._behind(stage, before, maps[begin:end], places[order][begin:end], sorted_paths[begin:end])
                for begin, end in zip(begins, begins[1:])
            ]
            paths[order] = sorted_paths
            return rows_of(joined(parts), np.argsort(order))
        now = int(places[0])
        paths[:, stage] = now
        found = self._rests[stage][now](self._entries[stage][before, now](maps))
        if stage + 1 == len(self._rests):
            return found
        return self._behind(stage + 1, now, found[0], _numbers(found[1]), paths)


def _numbers(places: Array) -> np.ndarray:
    return as_numpy(places).astype(int)


@inference_variants()
def staged_graphs(net: SlimmableNet) -> StagedGraphs:
    """Cut a network behind every gate: static graphs between the decisions, for all that can have been decided.

    Raises ValueError for a network whose gates do not stand at the beginnings of its stages.
    """
    check_slimmable(net)
    steps = list(net.steps())
    cuts = [number for number, step in enumerate(steps) if step.gate is not None]
    if net.num_choices != len(cuts) or not all(type(steps[cut].block) is BottleneckUnit for cut in cuts):
        raise ValueError(
            f"{net.identity['model']} has {len(cuts)} gates; they are routed where each begins a stage of bottlenecks: "
            "of other networks net.subnet(path) runs what net.route chose"
        )
    widths, data = tuple(gate_widths(net)), mx.sym.var("data", dtype="float32")
    candidates = range(len(widths))

    def units(stage: int, before: int, now: int) -> List[HybridBlock]:
        """The blocks of the network with one width before a stage and another one from there on."""
        path = (widths[before],) * stage + (widths[now],) * (len(cuts) - stage)
        return [*blocks_of(net.subnet(path)), net.subnet(path).features[-1], net.subnet(path).output]

    def deciding(blocks: Sequence[HybridBlock], gate: int, place: int) -> StaticGraph:
        maps = chain(blocks, data)
        logits = _gate(net, steps[cuts[gate]], place)(maps)[1]
        return static_of(net, mx.sym.Group([maps, mx.sym.argmax(logits, axis=1)]))

    entries, rests = [], []
    for stage, cut in enumerate(cuts):
        befores = candidates if stage else (START,)
        pairs = [(before, now) for before in befores for now in candidates]
        entries.append({pair: static_of(net, units(stage, *pair)[cut](data)) for pair in pairs})
        if stage + 1 < len(cuts):
            end = cuts[stage + 1]
            rests.append({k: deciding(units(stage, k, k)[cut + 1 : end], stage + 1, k) for k in candidates})
        else:
            rests.append({k: static_of(net, chain(units(stage, k, k)[cut + 1 :], data)) for k in candidates})
    head = deciding(units(0, START, START)[: cuts[0]], 0, START)
    return StagedGraphs(head, tuple(entries), tuple(rests), widths)


def before_gate(net: SlimmableNet, gate: int, path: Sequence[int]) -> Tuple[List[HybridBlock], DoubleHeadedGate]:
    """The blocks before a gate for images that take a path, and the gate as it reads their map."""
    for number, step in enumerate(net.steps()):
        if step.gate == gate:
            place = gate_widths(net).index(path[gate - 1]) if gate else START
            return blocks_of(net.subnet(path))[:number], _gate(net, step, place)
    raise ValueError(f"there is no gate {gate}")


def _gate(net: SlimmableNet, step: Step, place: int) -> DoubleHeadedGate:
    """The gate of a unit whose input has the width at a place, as far as it decides."""
    channels = _channels(net, step, place)
    return DoubleHeadedGate(step.block.se, channels, net.gates[step.gate].at(channels))


def _channels(net: SlimmableNet, step: Step, place: int) -> int:
    assert step.before is not None, "a gate reads a map, not the image"
    return net.candidates(step.before)[0 if step.before.choice is None else place]


def gates_madds(net: SlimmableNet, width: int) -> int:
    """The multiply-adds of all slimming heads of a network at one index of its widths."""
    place = gate_widths(net).index(width)
    gated = [step for step in net.steps() if step.gate is not None]
    return sum(net.gates[step.gate].madds(_channels(net, step, place)) for step in gated)
