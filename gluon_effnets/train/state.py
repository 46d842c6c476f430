"""TrainState: what the loop, the task and the hooks share. Values only; the loop changes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Collection, Dict, List, NamedTuple, Optional

import mxnet as mx

from .data import Data
from .dist import Workers
from .precision import Precision
from .scalars import Scalars

__all__ = ["StagePlace", "TrainState"]


class StagePlace(NamedTuple):
    """Which part of a run of several stages this is; the default is a run of one."""

    name: str = ""
    updates_before: int = 0  # in all stages before
    is_last: bool = True


@dataclasses.dataclass
class TrainState:
    """The run at one moment. An *update* is one step of the optimizer, over `accumulate` batches per worker."""

    net: Any  # a ClassificationNet, or a Detector: as the task has it
    trainer: Any  # gluon.Trainer, or Horovod's
    data: Data
    workers: Workers
    out: Path  # the run folder
    total_updates: int
    updates_per_epoch: int
    base_lr: float
    schedule: Callable[[int], float]
    precision: Precision
    ctx: mx.Context
    accumulate: int = 1
    evaluate_every: int = 0  # in updates
    seed: int = 0
    stage: StagePlace = StagePlace()
    moves_statistics: bool = True  # whether training changes BN's running statistics
    trains: bool = True  # whether the task trains by gradients; else updates leave the optimizer alone
    frozen: Collection[str] = ()  # names within the network of what the recipe keeps as it is
    digests: Dict[str, str] = dataclasses.field(default_factory=dict)  # {what: SHA-256} of weights that a task asks
    num_params: int = 0  # of the network, also those that this run does not train
    update: int = 0  # updates done
    epoch: int = 0  # the epoch that the next update belongs to, from 0
    grad_scale: float = 1.0  # turns the gradient buffers into the gradient of the mean loss over the whole update
    scalars: Scalars = dataclasses.field(default_factory=Scalars)  # of the last update; values may be NDArrays
    unread: List[Scalars] = dataclasses.field(default_factory=list)  # those of the last updates that nobody has read
    scores: Dict[str, float] = dataclasses.field(default_factory=dict)  # of the last evaluation
    evaluations: int = 0  # since the last update
    evaluation_due: bool = False  # one was stopped after the last update, and is to be repeated
    evaluate: Optional[Callable[[], Dict[str, float]]] = None  # one pass over the evaluation images, all workers
