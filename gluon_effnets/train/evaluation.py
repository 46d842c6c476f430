"""One pass over the evaluation images, shared by all workers."""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict

import mxnet as mx
from mxnet import autograd
from mxnet.gluon.block import Block
from tqdm import tqdm

from .data import Batch, Data
from .dist import Workers
from .memory_format import restore_layout
from .metrics import means

__all__ = ["Score", "evaluate", "placed"]

Score = Callable[[Batch], Dict[str, float]]


def evaluate(net: Block, data: Data, workers: Workers, ctx: mx.Context, score: Score) -> Dict[str, float]:
    """Return the mean of every score over all evaluation images, each counted once over all workers.

    Args:
        net: What `score` runs; its weights are afterwards in the memory layout of training again.
        data: With evaluation images.
        workers: Each gets its own share of the images.
        ctx: Where the batches go.
        score: Of one batch: sums over its first `num_valid` images, their `count` among them.
    """
    sums: Dict[str, float] = {"count": 0}
    with autograd.predict_mode():
        bar = {"desc": "evaluation", "unit": " batches", "leave": False, "delay": 2}
        for batch in tqdm(data.val_batches(), disable=not workers.is_writer, **bar):
            workers.progress("in an evaluation")
            for key, value in score(placed(batch, ctx)).items():
                sums[key] = sums.get(key, 0) + value
    restore_layout(net)
    sums = workers.sum(sums)
    assert sums["count"] == data.num_val, f"evaluated {sums['count']} of {data.num_val} images"
    return means(sums)


def placed(batch: Batch, ctx: mx.Context) -> Batch:
    """The batch on a device."""
    return dataclasses.replace(batch, data=batch.data.as_in_context(ctx), label=batch.label.as_in_context(ctx))
