"""What `nn` chooses from, timed: variants of training and inference, compiled ones, and oneDNN's blocks throughout."""

from __future__ import annotations

import time
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import mxnet as mx

from .. import native
from ..deploy.to_mxnet.variants import graph_blocks
from ..models import get_model
from ..nn import ConvBN
from ..nn.init import initialize_like_trained
from ..nn.variants import inference_variants
from ..tables import Table
from ..timing import time_interleaved
from .steps import inference_step, train_step

__all__ = ["VARIANTS", "VariantRow", "compare_layouts", "variants_table"]

VARIANTS = ("blocked", "inference", "plain", "compiled")


class VariantRow(NamedTuple):
    """Milliseconds of processor time (minimum) of a network in one of `VARIANTS`."""

    name: str
    variant: str
    train: float
    hybridized: float
    fused: float


def compare_layouts(names: Sequence[str], repeats: int = 5) -> List[VariantRow]:
    """Time networks as they are without compiled operators ('plain') and with them, where they are compiled.

    Beside these: with the variants of inference ('inference'), and never leaving oneDNN's blocks ('blocked').
    Training: forward and backward of 16 images of 96 pixels. Inference: one image of 224 pixels, hybridized and with
    oneDNN's fusions. Processor time is counted, which other processes disturb less; set OMP_NUM_THREADS=1.
    """
    image, batch = mx.nd.random.normal(shape=(1, 3, 224, 224)), mx.nd.random.normal(shape=(16, 3, 96, 96))
    steps: Dict[Tuple[str, str], Callable[[], object]] = {}
    inference: Dict[Tuple[str, str, str], Callable[[], object]] = {}
    for name in names:
        for variant in VARIANTS if native.load() else VARIANTS[:-1]:
            net = get_model(name)
            net.trains_compiled = variant == "compiled"
            if variant == "blocked":
                net.apply(_stay_blocked)
            initialize_like_trained(net)
            for kind, block in graph_blocks(net, image).items():
                inference[name, variant, kind] = inference_step(block, image)
            steps[name, variant] = train_step(net, batch)
            with inference_variants(variant == "inference"):
                steps[name, variant]()
    times = time_interleaved(inference, repeats, time.process_time)
    training = time_interleaved(steps, repeats, time.process_time)
    return [
        VariantRow(*key, training[key].minimum, *(times[(*key, kind)].minimum for kind in ("plain", "fused")))
        for key in steps
    ]


def _stay_blocked(block) -> None:
    if isinstance(block, ConvBN):
        block._unblock = (False, False)


def variants_table(rows: List[VariantRow]) -> Table:
    """The rows as a table."""
    columns = ["model", "variant", ("training step, ms", ".0f"), ("inference, ms", ".1f"), ("fused, ms", ".1f")]
    return Table(columns, rows)
