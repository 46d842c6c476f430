"""Router: a slimmable network whose gate decides for every image, run as static graphs instead of masks."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ...models.slimmable import SlimmableNet
from ...nn.gate import DoubleHeadedGate
from ...nn.slimmable import SeparableUnit
from ...nn.variants import inference_variants
from ..graph.static import StaticGraph, static_block, static_graph

__all__ = [
    "FORMS",
    "Router",
    "RoutedGraphs",
    "RoutedOutput",
    "as_numpy",
    "before_decision",
    "prepare",
    "routed_graphs",
    "static_subnet",
]

FORMS = ("fused", "plain")

Array = Union[mx.nd.NDArray, np.ndarray]


class RoutedOutput(NamedTuple):
    """logits : (N, classes) in the order of the images. decisions : (N,) int, the index of each image's width."""

    logits: Array
    decisions: np.ndarray


class RoutedGraphs(NamedTuple):
    """`head`: image -> map behind the gate's attention, number of the candidate (N,). `tails[width]`: map -> logits."""

    head: StaticGraph
    tails: Dict[int, StaticGraph]


class Router:
    """images (N, channels, H, W) -> RoutedOutput: a gate decides, each group of images runs at its width alone.

    The logits are those of `net.dynamic`, which masks. One image needs neither grouping nor copies.

    head, tails : functions of the graphs of `RoutedGraphs`, in the form in which they shall run; from NumPy's arrays to
        NumPy's, or from MXNet's to MXNet's.
    widths : the indices that the gate chooses from, in the order of its candidates.
    """

    def __init__(self, head: Callable, tails: Dict[int, Callable]):
        self._head, self._tails = head, tails
        self.widths = tuple(tails)

    @classmethod
    def of(cls, net: SlimmableNet, form: str = "fused") -> Router:
        """Make the router of a network with one gate, from copies of its weights on the CPU.

        `form`: 'fused' by oneDNN, or 'plain'. Raises ValueError as `routed_graphs` does, and for another form.
        """
        graphs = routed_graphs(net)
        tails = {width: prepare(static_block(graph), form) for width, graph in graphs.tails.items()}
        return cls(prepare(static_block(graphs.head), form), tails)

    def __call__(self, images: Array) -> RoutedOutput:
        maps, candidates = self._head(images)
        decisions = np.array(self.widths)[as_numpy(candidates).astype(int)]
        if (decisions == decisions[0]).all():
            return RoutedOutput(self._tails[decisions[0]](maps), decisions)
        order = np.argsort(decisions, kind="stable")
        maps = _rows(maps, order)
        widths, begins = np.unique(decisions[order], return_index=True)
        ends = [*begins[1:], len(order)]
        parts = [self._tails[width](maps[begin:end]) for width, begin, end in zip(widths, begins, ends)]
        return RoutedOutput(_rows(_joined(parts), np.argsort(order)), decisions)

    def at_width(self, width: int, images: Array) -> Array:
        """Return the logits at one of `widths`, whatever the gate decides."""
        return self._tails[width](self._head(images)[0])


def as_numpy(array: Array) -> np.ndarray:
    """The array itself, or a copy of MXNet's."""
    return array if isinstance(array, np.ndarray) else array.asnumpy()


def _rows(array: Array, order: np.ndarray) -> Array:
    return array[order] if isinstance(array, np.ndarray) else array.take(mx.nd.array(order))


def _joined(parts: Sequence[Array]) -> Array:
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else mx.nd.concat(*parts, dim=0)


def prepare(block: mx.gluon.SymbolBlock, form: str = "fused") -> Callable[[mx.nd.NDArray], object]:
    """Let a block run in one of `FORMS`: its first batch decides when it is compiled. Raises ValueError for another."""
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; choose one of {', '.join(FORMS)}")
    block.collect_params().setattr("grad_req", "null")  # a fused block has no gradients, and these have memory
    backend = {"backend": "MKLDNN"} if form == "fused" else {}
    # Unlike `optimize_for`, this waits for the first batch, and needs no shape before it.
    block.hybridize(static_alloc=True, static_shape=True, **backend)
    return block


@inference_variants()
def routed_graphs(net: SlimmableNet) -> RoutedGraphs:
    """Cut a network behind its gate: one static graph before the decision, one for every candidate after it.

    Raises ValueError for a network without a gate, with several, or whose gate is not in a separable unit.
    """
    before, gate = before_decision(net)
    cut, gating, data = len(before) - 1, net.gating, mx.sym.var("data", dtype="float32")
    maps, logits = gate(_chain(before, data))
    head = mx.sym.Group([maps, mx.sym.argmax(logits, axis=1)])
    tails = {}
    for width in range(gating.first_candidate, gating.first_candidate + gating.num_candidates):
        subnet = net.subnet(width)
        units = _blocks(subnet)
        after = [units[cut].pointwise, *units[cut + 1 :], subnet.features[-1], subnet.output]
        tails[width] = _static(net, _chain(after, data))
    return RoutedGraphs(_static(net, head), tails)


def before_decision(net: SlimmableNet) -> Tuple[List[HybridBlock], DoubleHeadedGate]:
    """The blocks that every image goes through, the last of them the depthwise convolution before the gate; the gate.

    Raises ValueError as `routed_graphs` does.
    """
    _check_slimmable(net)
    steps = list(net.steps())
    gated = [number for number, step in enumerate(steps) if step.gate is not None]
    if len(gated) != 1 or net.num_choices != 1 or not isinstance(steps[gated[0]].block, SeparableUnit):
        raise ValueError(
            f"{net.identity['model']} has {len(gated)} gates; a router is for one gate in a separable unit: "
            "of other networks net.subnet(path) runs what net.route chose"
        )
    cut = gated[0]
    units = _blocks(net.subnet(net.gating.first_candidate))
    gate = DoubleHeadedGate(steps[cut].block.se, net.candidates(steps[cut].before)[-1], net.gates[0])
    return [*units[:cut], units[cut].depthwise], gate


@inference_variants()
def static_subnet(net: SlimmableNet, which) -> mx.gluon.SymbolBlock:
    """Return `net.subnet(which)` as a plain network for inference on the CPU: it holds what that width uses.

    BN is folded into the convolutions. It has the attributes that `export` reads. Raises ValueError as `subnet` does.
    """
    _check_slimmable(net)
    subnet = net.subnet(which)
    block = static_block(_static(net, _chain([subnet], mx.sym.var("data", dtype="float32"))))
    block.in_channels, block.num_classes = net.in_channels, net.num_classes
    block.info, block.preprocessing = net.info, net.preprocessing
    block.identity = {**net.identity, "subnet": which}
    return block


def _check_slimmable(net) -> None:
    """Raises ValueError for a network that has no widths."""
    if not isinstance(net, SlimmableNet):
        raise ValueError(f"{net.identity['model']} is not slimmable: it has one width, and export writes it")


def _static(net: SlimmableNet, symbol: mx.sym.Symbol) -> StaticGraph:
    arrays = {param.name: param.data() for param in net.collect_params().values()}
    return static_graph(symbol, arrays)


def _blocks(subnet) -> List[HybridBlock]:
    return [block for stage in subnet.stages for block in stage._children.values()]


def _chain(blocks: Sequence, x: mx.sym.Symbol):
    for block in blocks:
        x = block(x)
    return x
