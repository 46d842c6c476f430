"""One pass over the evaluation images, shared by all workers."""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict, Optional

import mxnet as mx
from mxnet import autograd
from mxnet.gluon.block import Block

from ..progress import progress_bar
from .data import Batch, Data
from .dist import Workers
from .memory_format import restore_layout
from .metrics import means
from .signals import EvaluationStopped

__all__ = ["EvaluationBoundaries", "Finish", "Score", "evaluate", "placed"]

Score = Callable[[Batch], Dict[str, float]]
Finish = Callable[[Dict[str, float]], Dict[str, float]]


def evaluate(
    net: Block,
    data: Data,
    workers: Workers,
    ctx: mx.Context,
    score: Score,
    finish: Finish = means,
    boundaries: Optional[EvaluationBoundaries] = None,
) -> Dict[str, float]:
    """Return the scores of all evaluation images, each counted once over all workers: by default means.

    Args:
        net: What `score` runs; its weights are afterwards in the memory layout of training again.
        data: With evaluation images.
        workers: Each gets its own share of the images.
        ctx: Where the batches go.
        score: Of one batch: sums over its first `num_valid` images, their `count` among them.
        finish: Makes scores of the sums over all images.
        boundaries: Of a run, where a signal ends the evaluation; None: it goes to its end.

    Raises:
        EvaluationStopped: A signal asked for the end of the run; on all workers.
    """
    sums: Dict[str, float] = {"count": 0}
    with autograd.predict_mode():
        bar = {"desc": "evaluation", "unit": " batches", "delay": 2}
        for batch in progress_bar(data.val_batches(), shown=workers.is_writer, **bar):
            workers.progress("in an evaluation")
            if boundaries is not None:
                boundaries.stop_if_asked(workers)
            for key, value in score(placed(batch, ctx)).items():
                sums[key] = sums.get(key, 0) + value
    restore_layout(net)
    if boundaries is not None:
        # Before the exchange, which all workers enter or none.
        boundaries.last().stop_if_asked(workers)
    sums = workers.sum(sums)
    assert sums["count"] == data.num_val, f"evaluated {sums['count']} of {data.num_val} images"
    return finish(sums)


class EvaluationBoundaries:
    """The numbers of the boundaries within one evaluation: those of all workers rise in the same order.

    Workers may have one batch more or less, but the last boundary is the same for all.

    Args:
        update: Updates done.
        evaluation: How many evaluations there were since, 0 for the first.
    """

    _EACH, _BATCH = 2.0**-8, 2.0**-24

    def __init__(self, update: int, evaluation: int):
        self._next = update + evaluation * self._EACH + self._BATCH
        self._end = update + (evaluation + 1) * self._EACH - self._BATCH

    def last(self) -> EvaluationBoundaries:
        """Go to the last boundary."""
        self._next = self._end
        return self

    def stop_if_asked(self, workers: Workers) -> None:
        """Come to the next boundary. Raises EvaluationStopped if the run ends here, on all workers."""
        signum = workers.must_stop(min(self._next, self._end))
        self._next += self._BATCH
        if signum:
            raise EvaluationStopped(signum)


def placed(batch: Batch, ctx: mx.Context) -> Batch:
    """The batch on a device."""
    arrays = {name: value for name, value in vars(batch).items() if isinstance(value, mx.nd.NDArray)}
    return dataclasses.replace(batch, **{name: array.as_in_context(ctx) for name, array in arrays.items()})
