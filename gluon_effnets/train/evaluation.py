"""One pass over the evaluation images, shared by all workers."""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict

import mxnet as mx
from mxnet import autograd
from mxnet.gluon.block import Block

from ..progress import progress_bar
from .data import Batch, Data
from .dist import Workers
from .memory_format import restore_layout
from .metrics import means

__all__ = ["Finish", "Score", "evaluate", "placed"]

Score = Callable[[Batch], Dict[str, float]]
Finish = Callable[[Dict[str, float]], Dict[str, float]]


def evaluate(
    net: Block, data: Data, workers: Workers, ctx: mx.Context, score: Score, finish: Finish = means
) -> Dict[str, float]:
    """Return the scores of all evaluation images, each counted once over all workers: by default means.

    Args:
        net: What `score` runs; its weights are afterwards in the memory layout of training again.
        data: With evaluation images.
        workers: Each gets its own share of the images.
        ctx: Where the batches go.
        score: Of one batch: sums over its first `num_valid` images, their `count` among them.
        finish: Makes scores of the sums over all images.
    """
    sums: Dict[str, float] = {"count": 0}
    with autograd.predict_mode():
        bar = {"desc": "evaluation", "unit": " batches", "delay": 2}
        for batch in progress_bar(data.val_batches(), shown=workers.is_writer, **bar):
            workers.progress("in an evaluation")
            for key, value in score(placed(batch, ctx)).items():
                sums[key] = sums.get(key, 0) + value
    restore_layout(net)
    sums = workers.sum(sums)
    assert sums["count"] == data.num_val, f"evaluated {sums['count']} of {data.num_val} images"
    return finish(sums)


def placed(batch: Batch, ctx: mx.Context) -> Batch:
    """The batch on a device."""
    arrays = {name: value for name, value in vars(batch).items() if isinstance(value, mx.nd.NDArray)}
    return dataclasses.replace(batch, **{name: array.as_in_context(ctx) for name, array in arrays.items()})
