"""The partial shortcut of MobileNeXt, timed: its variants by identity divisor, against a plain addition and none."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import mxnet as mx
import numpy as np

from ..deploy.to_mxnet.variants import graph_blocks
from ..models import ClassificationNet, get_model
from ..nn import ConvChain
from ..nn.sandglass import SHORTCUTS
from ..tables import Table
from ..timing import time_interleaved
from .steps import inference_step

__all__ = ["ShortcutRow", "compare_shortcuts", "shortcuts_table"]

NONE = (0, "none")
SHORTCUTS_ALONE = ("shortcuts alone", "+.2f")  # what they add to the network without them


class ShortcutRow(NamedTuple):
    """Milliseconds of processor time (minimum) for one image; `divisor` 0 is the network without its shortcuts.

    `difference`: of the logits from the first variant's with this divisor, relative to the largest; None for it.
    """

    divisor: int
    variant: str
    plain: float
    fused: float
    difference: Optional[float]


def compare_shortcuts(
    name: str = "mobilenext_x1_0", divisors: Sequence[int] = (1, 2, 3, 6), image_size: int = 224, repeats: int = 20
) -> List[ShortcutRow]:
    """Time one image through a network with equal weights and every divisor and variant of its shortcuts.

    Hybridized ('plain') and as the exported graph runs at its best, with oneDNN's fusions ('fused'). Divisor 1 is a
    plain addition. Processor time is counted, which other processes disturb less; set OMP_NUM_THREADS=1.
    """
    nets = _networks(name, divisors)
    image = mx.nd.random.normal(shape=(1, 3, image_size, image_size))
    calls: Dict[str, Callable[[], object]] = {}
    for key, net in nets.items():
        for kind, block in graph_blocks(net, image).items():
            calls[f"{kind} {key}"] = inference_step(block, image)
    times = time_interleaved(calls, repeats, time.process_time)
    logits = {key: net(image).asnumpy() for key, net in nets.items()}
    rows = []
    for divisor, variant in nets:
        first = next(key for key in nets if key[0] == divisor)
        difference = np.abs(logits[divisor, variant] - logits[first]).max() / np.abs(logits[first]).max()
        rows.append(
            ShortcutRow(
                divisor,
                variant,
                times[f"plain {(divisor, variant)}"].minimum,
                times[f"fused {(divisor, variant)}"].minimum,
                None if (divisor, variant) == first else float(difference),
            )
        )
    return rows


def _networks(name: str, divisors: Sequence[int]) -> Dict[tuple, ClassificationNet]:
    nets = {NONE: get_model(name)}
    nets[NONE].apply(_remove_shortcut)
    for divisor in divisors:
        for variant in SHORTCUTS if divisor > 1 else ("plain add",):
            options: Dict[str, Any] = {"shortcut": variant} if divisor > 1 else {}
            nets[divisor, variant] = get_model(name, identity_divisor=divisor, **options)
    mx.random.seed(0)
    for net in nets.values():
        net.initialize()
    weights = nets[NONE]._collect_params_with_prefix()
    for net in nets.values():
        for key, param in net._collect_params_with_prefix().items():
            param.set_data(weights[key].data())
    return nets


def _remove_shortcut(block) -> None:
    if isinstance(block, ConvChain):
        block.has_residual = False


def shortcuts_table(rows: List[ShortcutRow]) -> Table:
    """The rows as a table."""
    base = next(row for row in rows if (row.divisor, row.variant) == NONE)
    times = [column for kind in ("inference", "fused") for column in ((f"{kind}, ms", ".2f"), SHORTCUTS_ALONE)]
    lines = [
        (
            row.divisor or None,
            row.variant,
            row.plain,
            row.plain - base.plain,
            row.fused,
            row.fused - base.fused,
            row.difference,
        )
        for row in rows
    ]
    return Table(["identity divisor", "variant", *times, ("difference", ".0e")], lines)
