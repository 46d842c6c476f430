"""Workers: one process, or many under Horovod, behind the same few methods."""

from __future__ import annotations

from typing import Dict, List

import mxnet as mx

from .._requirements import optional_import

__all__ = ["HorovodWorkers", "Workers", "start_workers"]


class Workers:
    """A single process. `HorovodWorkers` does the same over all processes of a job."""

    rank, size, local_rank = 0, 1, 0

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def make_trainer(self, net, optimizer) -> mx.gluon.Trainer:
        """Return a trainer that sums (or averages) gradients over the workers; `update(1)` then takes their mean."""
        return mx.gluon.Trainer(net.collect_params(), optimizer, kvstore=None)

    def sum(self, values: Dict[str, float]) -> Dict[str, float]:
        """Add every value over the workers; those of rank 0, where another worker has none of them."""
        return values

    def average_(self, arrays: List[mx.nd.NDArray], name: str) -> None:
        """Replace every array by its mean over the workers, in place. `name` tells concurrent calls apart."""

    def broadcast_(self, arrays: List[mx.nd.NDArray], name: str) -> None:
        """Replace every array by that of rank 0, in place."""

    def broadcast_object(self, value, name: str):
        """Return rank 0's value on all workers."""
        return value

    def finish(self) -> None:
        """Wait for what is still computed, and for the other workers. A run that succeeds ends with it."""
        mx.nd.waitall()


class HorovodWorkers(Workers):
    """The processes of a `horovodrun` job."""

    def __init__(self):
        self._hvd = optional_import("horovod.mxnet", extra="hvd", why="--hvd")
        self._hvd.init()
        self.rank, self.size, self.local_rank = self._hvd.rank(), self._hvd.size(), self._hvd.local_rank()

    def make_trainer(self, net, optimizer) -> mx.gluon.Trainer:
        return self._hvd.DistributedTrainer(net.collect_params(), optimizer)

    def sum(self, values: Dict[str, float]) -> Dict[str, float]:
        # With few images a worker other than the first may have none to evaluate, and so no keys.
        keys = self.broadcast_object(sorted(values), "sum.keys")
        total = mx.nd.array([values.get(key, 0) for key in keys], dtype="float64")
        total = self._hvd.allreduce(total, average=False, name="sum")
        return dict(zip(keys, total.asnumpy().tolist()))

    def average_(self, arrays: List[mx.nd.NDArray], name: str) -> None:
        for number, array in enumerate(arrays):
            self._hvd.allreduce_(array, average=True, name=f"average.{name}.{number}")

    def broadcast_(self, arrays: List[mx.nd.NDArray], name: str) -> None:
        for number, array in enumerate(arrays):
            self._hvd.broadcast_(array, root_rank=0, name=f"broadcast.{name}.{number}")

    def broadcast_object(self, value, name: str):
        return self._hvd.broadcast_object(value, root_rank=0, name=name)

    def finish(self) -> None:
        # A process that leaves while another still communicates would end that one with an error.
        super().finish()
        self._hvd.allreduce(mx.nd.zeros((1,)), name="finish").wait_to_read()


def start_workers(use_horovod: bool) -> Workers:
    """Return the workers of this job. Raises ImportError with the command to install Horovod if it is not there."""
    return HorovodWorkers() if use_horovod else Workers()
