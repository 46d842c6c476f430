"""Scores of a slimmable network: accuracy per width, and what the gates of its routed form choose."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence, Union

import mxnet as mx

from ...models import ClassificationNet
from ...models.slimmable import Gating, SlimmableNet
from ..data import Batch
from ..metrics import classification_sums

__all__ = [
    "Routes",
    "Which",
    "find_routes",
    "is_easy",
    "require_slimmable",
    "route_sums",
    "width_list",
    "width_sums",
]

Which = Union[int, str]


def require_slimmable(net: ClassificationNet, what: str, gates: bool = False) -> SlimmableNet:
    """Return the network, which has several widths.

    Args:
        net: Any network.
        what: What needs it, for the error text: "task gate".
        gates: Whether it must have gates too.

    Raises:
        ValueError: It is not slimmable, or has no gates where it must.
    """
    if isinstance(net, SlimmableNet) and (net.gating is not None or not gates):
        return net
    kind = "gates" if gates else "several widths"
    raise ValueError(f"{what} needs a network with {kind} (ds_mobilenet_v1, ...), not {net.identity['model']}")


def _gating(net: SlimmableNet) -> Gating:
    assert net.gating is not None, "require_slimmable(..., gates=True) comes first"
    return net.gating


def width_list(net: SlimmableNet, which: Union[str, Sequence[Which]]) -> List[Which]:
    """Return the widths to evaluate, slimmest first.

    Args:
        net: The network that has them.
        which: 'all', 'ends' (slimmest, widest, largest), or a list.

    Raises:
        ValueError: A width does not exist.
    """
    if which in ("all", "ends"):
        last = net.num_widths - 1
        return [*(range(last + 1) if which == "all" else (0, last)), "largest"]
    if isinstance(which, str) or not which:
        raise ValueError(f"the widths to evaluate are {which!r}; give all, ends or a list such as [0, 3, largest]")
    for width in which:
        net.subnet(width)  # raises the error
    return list(which)


def width_sums(net: SlimmableNet, batch: Batch, widths: Sequence[Which]) -> Dict[str, float]:
    """`classification_sums` of the first of these widths, and the top-1 hits of each as 'top1_<width>'."""
    sums: Dict[str, float] = {}
    for width in widths:
        found = classification_sums(net.subnet(width)(batch.data), batch.label, batch.num_valid)
        sums = sums or found
        sums[f"top1_{width}"] = found["top1"]
    return sums


class Routes(NamedTuple):
    """What the gates do with N images: logits, candidate per gate (N, G), easy (N,), multiply-adds (N,)."""

    logits: mx.nd.NDArray
    candidates: mx.nd.NDArray
    easy: mx.nd.NDArray
    madds: mx.nd.NDArray


def _slimmest_candidate(net: SlimmableNet) -> ClassificationNet:
    """The narrowest network that the gates can choose."""
    return net.subnet((_gating(net).first_candidate,) * net.num_choices)


def is_easy(net: SlimmableNet, images: mx.nd.NDArray, classes: mx.nd.NDArray) -> mx.nd.NDArray:
    """(N,), 1 for images that the slimmest candidate gets right (DS-Net, section 3.3), else 0."""
    predicted = _slimmest_candidate(net)(images).argmax(axis=1)
    return predicted == classes.astype(predicted.dtype)


def find_routes(net: SlimmableNet, batch: Batch) -> Routes:
    """Pass the valid images of a batch through the routed network, without noise."""
    out = net.dynamic(batch.data)
    found = Routes(out.logits, out.choice.argmax(axis=2), is_easy(net, batch.data, batch.label), out.madds)
    return Routes(*(array[: batch.num_valid] for array in found))


def route_sums(net: SlimmableNet, batch: Batch) -> Dict[str, float]:
    """Sums over the valid images of a batch, whose means are:

    loss, top1, top5 and `mean_madds` of the routed network; `easy`, the share of easy images; `gate_accuracy`, how
    often a gate chose the slimmest candidate for an easy and the widest for another image; `route_k`, how often
    candidate k was chosen, and `easy_route_k`, how often for an easy image.
    """
    routes, num_candidates = find_routes(net, batch), _gating(net).num_candidates
    sums = classification_sums(routes.logits, batch.label, batch.num_valid)
    chosen = mx.nd.one_hot(routes.candidates, num_candidates).mean(axis=1).asnumpy()
    easy = routes.easy.asnumpy().astype(bool)
    sums["mean_madds"] = float(routes.madds.asnumpy().astype("float64").sum())
    sums["easy"] = float(easy.sum())
    sums["gate_accuracy"] = float(chosen[easy, 0].sum() + chosen[~easy, -1].sum())
    for k in range(num_candidates):
        sums[f"route_{k}"] = float(chosen[:, k].sum())
        sums[f"easy_route_{k}"] = float(chosen[easy, k].sum())
    return sums
