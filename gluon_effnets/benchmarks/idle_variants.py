"""Variants of an IdleBlock network, timed side by side: where its halves are joined, and how."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import mxnet as mx
import numpy as np

from ..deploy.to_mxnet.variants import graph_blocks
from ..models import ClassificationNet, get_model
from ..nn.init import initialize_like_trained
from ..tables import Table
from ..timing import time_interleaved
from .steps import inference_step, train_step

__all__ = ["VARIANTS", "VariantRow", "compare_variants", "variants_table"]

VARIANTS: Dict[str, Dict[str, Any]] = {
    "per block, plain concat": {"carry_idle": False, "merged_concat": False},
    "per block, merged concat": {"carry_idle": False, "merged_concat": True},
    "carried, plain concat": {"carry_idle": True, "merged_concat": False},
    "carried, merged concat": {"carry_idle": True, "merged_concat": True},
}


class VariantRow(NamedTuple):
    """Milliseconds of processor time (minimum). `train` is None where MXNet cannot train the variant on a CPU.

    `difference`: of the logits from the first variant's, relative to the largest; None for the baseline.
    """

    variant: str
    train: Optional[float]
    plain: float
    fused: float
    difference: Optional[float]


def compare_variants(
    name: str = "idle_mbv3", baseline: str = "mobilenet_v3_large", repeats: int = 10
) -> List[VariantRow]:
    """Time the baseline, then all variants of an IdleBlock network with equal weights.

    Training: forward and backward of 8 images of 96 pixels. Inference: one image of 224 pixels, hybridized ('plain')
    and with oneDNN's fusions ('fused'). Processor time is counted, which other processes disturb less than the clock;
    set OMP_NUM_THREADS=1.
    """
    nets = {variant: get_model(name, **options) for variant, options in VARIANTS.items()}
    first = next(iter(nets.values()))
    nets = {baseline: get_model(baseline), **nets}
    for net in nets.values():
        initialize_like_trained(net)
    for variant in VARIANTS:
        for key, param in nets[variant]._collect_params_with_prefix().items():
            param.set_data(first._collect_params_with_prefix()[key].data())

    image, batch = mx.nd.random.normal(shape=(1, 3, 224, 224)), mx.nd.random.normal(shape=(8, 3, 96, 96))
    reference = first(image).asnumpy()
    differences = {
        variant: float(np.abs(net(image).asnumpy() - reference).max() / np.abs(reference).max())
        for variant, net in nets.items()
        if variant != baseline
    }
    inference: Dict[str, Callable[[], object]] = {}
    for variant, net in nets.items():
        for kind, block in graph_blocks(net, image).items():
            inference[f"{kind} {variant}"] = inference_step(block, image)
    times = time_interleaved(inference, repeats, time.process_time)
    steps = {variant: _train_step(net, batch) for variant, net in nets.items()}
    training = time_interleaved({k: v for k, v in steps.items() if v}, repeats, time.process_time)
    return [
        VariantRow(
            variant,
            training[variant].minimum if variant in training else None,
            times[f"plain {variant}"].minimum,
            times[f"fused {variant}"].minimum,
            differences.get(variant),
        )
        for variant in nets
    ]


def _train_step(net: ClassificationNet, batch) -> Optional[Callable[[], None]]:
    step = train_step(net, batch)
    try:
        step()
    except mx.base.MXNetError as error:
        if "sub-memory" not in str(error):
            raise
        return None
    return step


def variants_table(rows: List[VariantRow]) -> Table:
    """The rows as a table."""
    columns = ["variant", ("training step, ms", ".0f"), ("inference, ms", ".1f"), ("inference fused, ms", ".1f")]
    lines = [(row.variant, "fails" if row.train is None else row.train, *row[2:]) for row in rows]
    return Table([*columns, ("difference", ".0e")], lines)
