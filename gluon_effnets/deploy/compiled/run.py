"""Graphs run by the compiled operator where it is installed and gives the right answers."""

from __future__ import annotations

import warnings
from typing import Any, Callable, Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ... import native
from ..compare import Judgement, Question
from ..graph.inference import StaticGraph, network_graph, static_block
from .graph import CompiledGraph, compiled_graph

__all__ = ["compiled_network", "compiled_where_right"]

_MOST_SHAPES = 8  # every one has weights of its own


def compiled_where_right(graph: StaticGraph, otherwise: Callable) -> Callable:
    """Return a function that runs a graph by the compiled operator, or `otherwise`.

    The first images of every size decide: it is `otherwise` where the compiled operators are not installed or switched
    off, where they lack what the graph needs, for images that are not in float32 on the CPU, and, with a warning, where
    they give other answers than MXNet's operators.

    Parameters
    ----------
    graph : with its arrays on the CPU.
    otherwise : runs the same graph, from MXNet's arrays to its outputs.
    """
    if not native.load():
        return otherwise
    chosen: Dict[Tuple[int, ...], Callable] = {}

    def run(x: mx.nd.NDArray) -> Any:
        image = x.shape[1:]
        if x.ndim != 4 or not x.size or x.dtype != np.float32 or x.context.device_type != "cpu":
            return otherwise(x)
        # Answers to what is no number compare to nothing.
        if image not in chosen and len(chosen) < _MOST_SHAPES and np.isfinite(x.asnumpy()).all():
            chosen[image] = _compiled(graph, x) or otherwise
        return chosen.get(image, otherwise)(x)

    return run


def compiled_network(net: HybridBlock, ctx: mx.Context) -> Callable:
    """Return a function that runs a network on a device as its weights are now, as `compiled_where_right` does."""
    if ctx.device_type != "cpu" or not native.load():
        return net
    return compiled_where_right(network_graph(net), net)


def _compiled(graph: StaticGraph, x: mx.nd.NDArray) -> Optional[Callable]:
    """The block of the rewritten graph, or None."""
    try:
        compiled = compiled_graph(graph, x.shape[1:])
    except (ValueError, mx.base.MXNetError):
        # Whatever is wrong with graph or images, `otherwise` says it.
        return None
    refused = _refused(compiled, x[:1])
    if refused is not None:
        if refused:
            warnings.warn(f"a graph runs without compiled operators: {refused}", stacklevel=4)
        return None
    block = static_block(compiled.graph)
    block.collect_params().setattr("grad_req", "null")
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def _refused(compiled: CompiledGraph, x: mx.nd.NDArray) -> Optional[str]:
    """Why the operator's answer to an image must not be used, None if it may. Empty: the right one is no number."""
    exact = _outputs(static_block(compiled.original)(x))
    if not all(np.isfinite(array).all() for array in exact):
        return ""
    try:
        found = _outputs(static_block(compiled.operator)(x))
    except mx.base.MXNetError as error:
        return f"the operator fails: {str(error).strip().splitlines()[-1]}"
    judged = Judgement.worst(
        Question("the first image", x, array, 1e-4).judged(own, "the operator gives other answers, off")
        for array, own in zip(exact, found)
    )
    return judged.refused


def _outputs(result: Any) -> List[np.ndarray]:
    return [array.asnumpy() for array in (result if isinstance(result, (list, tuple)) else [result])]
