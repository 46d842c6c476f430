"""The variants in which MXNet runs a graph, plain or with oneDNN's fused operators: their blocks and latency."""

from __future__ import annotations

import math
import warnings
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import mxnet as mx

from ...timing import Latency, time_interleaved
from ..compare import Judgement, Question
from ..graph.inference import inference_copy

__all__ = [
    "VARIANTS",
    "VariantTimes",
    "fused_where_right",
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


def try_fusion(judge: Callable[[str], Judgement]) -> Judgement:
    """Return the difference that a fused graph makes, and why it must not be used, or None.

    MXNet 1.9.1 fuses some graphs wrongly: they stop with an error (then the difference is NaN), or give other logits.

    Args:
        judge: Runs the fused graph and judges its logits, with the beginning of the sentence that refuses them.
    """
    try:
        return judge("fused gives other logits, off")
    except mx.base.MXNetError as error:
        return Judgement(math.nan, f"fused fails: {str(error).strip().splitlines()[0]}")


def fused_where_right(load: Callable[[str], Callable]) -> Callable:
    """Return a function that runs a graph fused where that gives the answers of the plain variant.

    The first call decides, for its images. It warns where the graph runs plain.

    Args:
        load: Makes a block in one of `VARIANTS`.
    """
    if not fusion_is_available():
        return load("plain")
    chosen: List[Callable] = []

    def run(x: mx.nd.NDArray) -> Any:
        if not chosen:
            plain, fused = load("plain"), load("fused")
            # Both are in float32; what MXNet fuses wrongly is far beyond that.
            exact = [Question("the first images", x, array.asnumpy(), 1e-4) for array in _outputs(plain(x))]

            def judge(what: str) -> Judgement:
                found = (array.asnumpy() for array in _outputs(fused(x)))
                return Judgement.worst(asked.judged(array, what) for asked, array in zip(exact, found))

            refused = try_fusion(judge).refused
            if refused is not None:
                warnings.warn(f"a graph runs with MXNet's plain operators: {refused}", stacklevel=2)
            chosen.append(fused if refused is None else plain)
        return chosen[0](x)

    return run


def _outputs(result: Any) -> Sequence[mx.nd.NDArray]:
    return result if isinstance(result, (list, tuple)) else [result]


def graph_blocks(net, x: mx.nd.NDArray) -> Dict[str, mx.gluon.SymbolBlock]:
    """Return copies of a network's graph for inference: 'plain' hybridized, and 'fused' with oneDNN's fusions.

    The network itself is left alone: a fused block gives zero gradients.

    Args:
        x: Images of the shape that the fused graph is made for.

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

    Args:
        image_size: Height and width of the random images.
        batch: How many of them go through the network together.
        repeats: Of the measurement; all variants take turns.
    """
    x = mx.nd.random.uniform(shape=(batch, net.in_channels, image_size, image_size))
    blocks = {"plain": _plain(net)}
    asked = Question.of(net, "random images", x[:2].asnumpy())

    def judge(what: str) -> Judgement:
        blocks["fused"] = _fused(net, x)
        return asked.judged(blocks["fused"](x)[:2].asnumpy(), what)

    _, refused = try_fusion(judge) if fusion_is_available() else (0.0, "this MXNet has no oneDNN")
    if refused is not None:
        blocks.pop("fused", None)

    def call(block: mx.gluon.SymbolBlock) -> Callable[[], Any]:
        return lambda: block(x).wait_to_read()

    return VariantTimes(time_interleaved({name: call(block) for name, block in blocks.items()}, repeats), refused)


def measure_latency(net, image_size: int = 224, batch: int = 1, repeats: int = 20) -> Dict[str, Latency]:
    """Measure a network on the CPU: 'plain' (hybridized) and 'fused' (as an exported graph runs at its best).

    'fused' is missing where MXNet's fused graph fails or gives other logits; `time_variants` says why.

    Args:
        net: The network.
        image_size: Height and width of the random images.
        batch: How many of them go through the network together.
        repeats: Of the measurement; both variants take turns.

    Example: `measure_latency(net, 224)["fused"].minimum` is in milliseconds.
    """
    return time_variants(net, image_size, batch, repeats).latency
