"""Router: a slimmable network whose gate decides for every image, run as static graphs instead of masks."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ...models.slimmable import SlimmableNet
from ...nn.gate import DoubleHeadedGate
from ...nn.slimmable import SeparableUnit
from ...nn.variants import inference_variants
from ..compiled.run import compiled_where_right
from ..graph.inference import Array, StaticGraph, as_numpy, cpu_arrays, static_block
from ..graph.static import static_graph
from ..to_mxnet.variants import fused_where_right, prepare

__all__ = [
    "RoutedGraphs",
    "RoutedOutput",
    "Router",
    "before_decision",
    "blocks_of",
    "chain",
    "check_slimmable",
    "gate_channels",
    "gate_widths",
    "joined",
    "routed_graphs",
    "rows_of",
    "static_of",
    "static_subnet",
]


class RoutedOutput(NamedTuple):
    """What a router gives.

    Attributes:
        logits: (N, classes) in the order of the images; of a detector its arrays, (N, ...) each.
        decisions: (N,) int, the index of each image's width, or (N, gates) of a `StagedRouter`.
    """

    logits: Any
    decisions: np.ndarray


class RoutedGraphs(NamedTuple):
    """`head`: image -> map at the gate, number of the candidate (N,). `tails[width]`: map -> answers."""

    head: StaticGraph
    tails: Dict[int, StaticGraph]


class Router:
    """images (N, channels, H, W) -> RoutedOutput: a gate decides, each group of images runs at its width alone.

    The logits are those of `net.dynamic`, which masks; a detector's arrays are those of its call. One image needs
    neither grouping nor copies. `widths` are the indices that the gate chooses from, in the order of its candidates.

    Args:
        head, tails: Functions of the graphs of `RoutedGraphs`, from NumPy's arrays to NumPy's, or from MXNet's to
            MXNet's.

    Example: `logits, decisions = Router.of(net)(images)`
    """

    def __init__(self, head: Callable, tails: Dict[int, Callable]):
        self._head, self._tails = head, tails
        self.widths = tuple(tails)

    @classmethod
    def of(cls, net: SlimmableNet, variant: str = "fused") -> Router:
        """Make the router of a network with one gate, from copies of its weights on the CPU.

        Args:
            variant: 'compiled' by this package's operators, where these are installed and give the same answers, else
                'fused'; 'fused' by oneDNN, where that gives the same answers, else 'plain'.

        Raises ValueError as `routed_graphs` does, and for another variant.
        """
        graphs = routed_graphs(net)

        def run(graph: StaticGraph) -> Callable:
            if variant not in ("compiled", "fused"):
                return prepare(static_block(graph), variant)
            fused = fused_where_right(lambda variant: prepare(static_block(graph), variant))
            return compiled_where_right(graph, fused) if variant == "compiled" else fused

        return cls(run(graphs.head), {width: run(graph) for width, graph in graphs.tails.items()})

    def __call__(self, images: Array) -> RoutedOutput:
        maps, candidates = self._head(images)
        decisions = np.array(self.widths)[as_numpy(candidates).astype(int)]
        if (decisions == decisions[0]).all():
            return RoutedOutput(self._tails[decisions[0]](maps), decisions)
        order = np.argsort(decisions, kind="stable")
        maps = rows_of(maps, order)
        widths, begins = np.unique(decisions[order], return_index=True)
        ends = [*begins[1:], len(order)]
        parts = [self._tails[width](maps[begin:end]) for width, begin, end in zip(widths, begins, ends)]
        back = np.argsort(order)
        if isinstance(parts[0], (list, tuple)):
            return RoutedOutput([rows_of(joined(kind), back) for kind in zip(*parts)], decisions)
        return RoutedOutput(rows_of(joined(parts), back), decisions)

    def at_width(self, width: int, images: Array) -> Any:
        """Return the answers at one of `widths`, whatever the gate decides."""
        return self._tails[width](self._head(images)[0])


def rows_of(array: Array, order: np.ndarray) -> Array:
    """The rows of an array in another order."""
    return array[order] if isinstance(array, np.ndarray) else array.take(mx.nd.array(order))


def joined(parts: Sequence[Array]) -> Array:
    """Arrays one behind the other."""
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else mx.nd.concat(*parts, dim=0)


@inference_variants()
def routed_graphs(net: SlimmableNet) -> RoutedGraphs:
    """Cut a network behind its gate: one static graph before the decision, one for every candidate after it.

    Raises ValueError for a network without a gate, with several, or whose gate is not in a separable unit.
    """
    before, gate = before_decision(net)
    cut, data = len(before) - 1, mx.sym.var("data", dtype="float32")
    maps, logits = gate(chain(before, data))
    head = mx.sym.Group([maps, mx.sym.argmax(logits, axis=1)])
    tails = {}
    for width in gate_widths(net):
        subnet = net.subnet(width)
        units = blocks_of(subnet)
        after = [units[cut].pointwise, *units[cut + 1 :], subnet.features[-1], subnet.output]
        tails[width] = static_of(net, chain(after, data))
    return RoutedGraphs(static_of(net, head), tails)


def gate_widths(net: SlimmableNet) -> range:
    """Return the indices of the widths that the gates of a network choose from."""
    assert net.gating is not None, "a network without gates has been refused"
    return range(net.gating.first_candidate, net.gating.first_candidate + net.gating.num_candidates)


def before_decision(net: SlimmableNet) -> Tuple[List[HybridBlock], DoubleHeadedGate]:
    """Return the blocks that every image goes through, the depthwise convolution before the gate last, and the gate.

    Raises ValueError as `routed_graphs` does.
    """
    check_slimmable(net)
    steps = list(net.steps())
    gated = [number for number, step in enumerate(steps) if step.gate is not None]
    if len(gated) != 1 or net.num_choices != 1 or not isinstance(steps[gated[0]].block, SeparableUnit):
        raise ValueError(
            f"{net.identity['model']} has {len(gated)} gates; this router is for one gate in a separable unit: "
            "StagedRouter.of(net) is for several at the beginnings of stages, and so is a single ONNX file "
            "(--format onnx --single-file)"
        )
    cut = gated[0]
    units = blocks_of(net.subnet(gate_widths(net)[0]))
    gate = DoubleHeadedGate(steps[cut].block.se, gate_channels(net), net.gates[0])
    return [*units[:cut], units[cut].depthwise], gate


def gate_channels(net: SlimmableNet) -> int:
    """Return the channels of the map that the first gate of a network reads."""
    before = next(step.before for step in net.steps() if step.gate is not None)
    assert before is not None, "a gate reads a map, not the image"
    return net.candidates(before)[-1]


@inference_variants()
def static_subnet(net: SlimmableNet, which) -> mx.gluon.SymbolBlock:
    """Return `net.subnet(which)` as a network of its own for inference on the CPU: it holds what that width uses.

    BN is folded into the convolutions. It has the attributes that `export` reads. Raises ValueError as `subnet` does.
    """
    check_slimmable(net)
    subnet = net.subnet(which)
    block = static_block(static_of(net, chain([subnet], mx.sym.var("data", dtype="float32"))))
    block.in_channels, block.num_classes = net.in_channels, net.num_classes
    block.info, block.card, block.classes, block.origin = net.info, net.card, net.classes, net.origin
    block.identity = {**net.identity, "subnet": which}
    return block


def check_slimmable(net) -> None:
    """Refuse a network that has no widths with a ValueError."""
    if not isinstance(net, SlimmableNet):
        raise ValueError(f"{net.identity['model']} is not slimmable: it has one width, and export writes it")


def static_of(net: SlimmableNet, symbol: mx.sym.Symbol) -> StaticGraph:
    """The static graph of a part of a network."""
    return static_graph(symbol, cpu_arrays(net))


def blocks_of(subnet) -> List[HybridBlock]:
    """The blocks of all stages in order."""
    return [block for stage in subnet.stages for block in stage._children.values()]


def chain(blocks: Sequence, x: mx.sym.Symbol):
    """What blocks make of a symbol, one after the other."""
    for block in blocks:
        x = block(x)
    return x
