"""The variants in which MXNet runs a graph, plain or with oneDNN's fused operators: their blocks and latency."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import mxnet as mx

from ...timing import Latency, time_interleaved
from ..compare import largest_difference, refusal
from ..graph.inference import inference_copy

__all__ = [
    "VARIANTS",
    "VariantTimes",
    "fusion_is_available",
    "graph_blocks",
    "measure_latency",
    "prepare",
    "time_variants",
    "try_fusion",
]

VARIANTS = ("fused", "plain")


class VariantTimes(NamedTuple):
    """The latency of each variant, and why 'fused' is not among them, or None."""

    latency: Dict[str, Latency]
    fusion_refused: Optional[str]


def fusion_is_available() -> bool:
    """Return whether this MXNet was built with oneDNN."""
    return mx.runtime.Features().is_enabled("MKLDNN")


def prepare(block: mx.gluon.SymbolBlock, variant: str = "fused") -> mx.gluon.SymbolBlock:
    """Let a block run in one of `VARIANTS`: its first batch decides when it is compiled.

    An MXNet without oneDNN runs both alike. Raises ValueError for another variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant is {variant!r}; choose one of {', '.join(VARIANTS)}")
    block.collect_params().setattr("grad_req", "null")  # a fused block has no gradients, and these have memory
    backend = "MKLDNN" if variant == "fused" and fusion_is_available() else None
    # Unlike `optimize_for`, this waits for the first batch, and needs no shape before it.
    block.hybridize(backend=backend, static_alloc=True, static_shape=True)
    return block


def try_fusion(compare: Callable[[], float]) -> Tuple[float, Optional[str]]:
    """Return the difference that a fused graph makes, and why it must not be used, or None.

    MXNet 1.9.1 fuses some graphs wrongly: they stop with an error (then the difference is NaN), or give other logits.

    Parameters
    ----------
    compare : runs the fused graph, and returns the largest difference of its logits from what they should be.
    """
    try:
        difference = compare()
    except mx.base.MXNetError as error:
        return math.nan, f"fused fails: {str(error).strip().splitlines()[0]}"
    return difference, refusal(difference, "fused gives other logits, off")


def graph_blocks(net, x: mx.nd.NDArray) -> Dict[str, mx.gluon.SymbolBlock]:
    """Return copies of a network's graph for inference: 'plain' hybridized, and 'fused' with oneDNN's fusions.

    The network itself is left alone: a fused block gives zero gradients.

    Parameters
    ----------
    x : images of the shape that the fused graph is made for.

    Raises MXNetError for a network whose fused graph MXNet cannot run.
    """
    return {"plain": _plain(net), "fused": _fused(net, x)}


def _plain(net) -> mx.gluon.SymbolBlock:
    block = inference_copy(net)
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def _fused(net, x: mx.nd.NDArray) -> mx.gluon.SymbolBlock:
    block = inference_copy(net)
    block.optimize_for(x, backend="MKLDNN", static_alloc=True, static_shape=True)
    return block


def time_variants(net, image_size: int = 224, batch: int = 1, repeats: int = 20) -> VariantTimes:
    """Measure a network on the CPU in every variant that gives its logits.

    Parameters
    ----------
    image_size : height and width of the random images.
    batch : how many of them go through the network together.
    repeats : of the measurement; all variants take turns.
    """
    x = mx.nd.random.uniform(shape=(batch, net.in_channels, image_size, image_size))
    blocks = {"plain": _plain(net)}
    expected = blocks["plain"](x).asnumpy()

    def difference() -> float:
        blocks["fused"] = _fused(net, x)
        return largest_difference(blocks["fused"](x).asnumpy(), expected)

    _, refused = try_fusion(difference) if fusion_is_available() else (0.0, "this MXNet has no oneDNN")
    if refused is not None:
        blocks.pop("fused", None)

    def call(block: mx.gluon.SymbolBlock) -> Callable[[], Any]:
        return lambda: block(x).wait_to_read()

    return VariantTimes(time_interleaved({name: call(block) for name, block in blocks.items()}, repeats), refused)


def measure_latency(net, image_size: int = 224, batch: int = 1, repeats: int = 20) -> Dict[str, Latency]:
    """Measure a network on the CPU: 'plain' (hybridized) and 'fused' (as an exported graph runs at its best).

    'fused' is missing where MXNet's fused graph fails or gives other logits; `time_variants` says why.

    Parameters
    ----------
    image_size : height and width of the random images.
    batch : how many of them go through the network together.
    repeats : of the measurement; both variants take turns.

    Example: `measure_latency(net, 224)["fused"].minimum` is in milliseconds.
    """
    return time_variants(net, image_size, batch, repeats).latency
