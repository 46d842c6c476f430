"""The forms an IdleBlock network can take, timed side by side: where its halves are joined, and how."""

from __future__ import annotations

import time
from typing import Callable, Dict, List, NamedTuple, Optional

import mxnet as mx
import numpy as np

from ..deploy.to_mxnet.variants import graph_blocks
from ..models import ClassificationNet, get_model
from ..nn.init import initialize_like_trained
from ..timing import time_interleaved
from .train_step import train_step

__all__ = ["FORMS", "FormRow", "compare_forms", "forms_table"]

FORMS = {
    "per block, plain concat": {"carry_idle": False, "merged_concat": False},
    "per block, merged concat": {"carry_idle": False, "merged_concat": True},
    "carried, plain concat": {"carry_idle": True, "merged_concat": False},
    "carried, merged concat": {"carry_idle": True, "merged_concat": True},
}


class FormRow(NamedTuple):
    """Milliseconds of processor time (minimum). `train` is None where MXNet cannot train the form on a CPU.

    `difference`: of the logits from those of the first form, relative to the largest; None for the baseline.
    """

    form: str
    train: Optional[float]
    plain: float
    fused: float
    difference: Optional[float]


def compare_forms(name: str = "idle_mbv3", baseline: str = "mobilenet_v3_large", repeats: int = 10) -> List[FormRow]:
    """Time the baseline, then all forms of an IdleBlock network with equal weights.

    Training: forward and backward of 8 images of 96 pixels. Inference: one image of 224 pixels, hybridized ('plain')
    and with oneDNN's fusions ('fused'). Processor time is counted, which other processes disturb less than the clock;
    set OMP_NUM_THREADS=1.
    """
    nets = {form: get_model(name, **options) for form, options in FORMS.items()}
    first = next(iter(nets.values()))
    nets = {baseline: get_model(baseline), **nets}
    for net in nets.values():
        initialize_like_trained(net)
    for form in FORMS:
        for key, param in nets[form]._collect_params_with_prefix().items():
            param.set_data(first._collect_params_with_prefix()[key].data())

    image, batch = mx.nd.random.normal(shape=(1, 3, 224, 224)), mx.nd.random.normal(shape=(8, 3, 96, 96))
    reference = first(image).asnumpy()
    differences = {
        form: float(np.abs(net(image).asnumpy() - reference).max() / np.abs(reference).max())
        for form, net in nets.items()
        if form != baseline
    }
    inference: Dict[str, Callable] = {}
    for form, net in nets.items():
        for kind, block in graph_blocks(net, image).items():
            inference[f"{kind} {form}"] = lambda block=block: block(image).wait_to_read()
    times = time_interleaved(inference, repeats, time.process_time)
    steps = {form: _train_step(net, batch) for form, net in nets.items()}
    training = time_interleaved({k: v for k, v in steps.items() if v}, repeats, time.process_time)
    return [
        FormRow(
            form,
            training[form].minimum if form in training else None,
            times[f"plain {form}"].minimum,
            times[f"fused {form}"].minimum,
            differences.get(form),
        )
        for form in nets
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


def forms_table(rows: List[FormRow]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| form | training step, ms | inference, ms | inference fused, ms | difference |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        train = "fails" if row.train is None else f"{row.train:.0f}"
        difference = "" if row.difference is None else f"{row.difference:.0e}"
        lines.append(f"| {row.form} | {train} | {row.plain:.1f} | {row.fused:.1f} | {difference} |")
    return "\n".join(lines)
