"""Workers: one process, or many under Horovod, behind the same few methods."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import sys
import time
from types import ModuleType
from typing import Dict, List, MutableMapping, Optional

import mxnet as mx
import numpy as np

from .._requirements import install_command
from .activity import Activity, list_threads
from .connection import Address
from .exit_codes import WORKER_LOST, record_verdict
from .meeting import meeting
from .watchdog import THREAD_NAME, TIMEOUT_S, Coordinator, Link

__all__ = ["HorovodWorkers", "ScaledFloat16", "Workers", "start_workers"]

# An exchange breaks when any worker leaves; that worker's own message, or the news of its death, comes first.
_LATER_S = 3.0
# Horovod's own default is 1. On a CPU its threads take 20 to 40 % of the rate of a large network with that, for a
# message per cycle and worker; an update there lasts hundreds of milliseconds, and 10 more are not noticed.
_CYCLE_MS = 10


class Workers:
    """A single process. `HorovodWorkers` does the same over all processes of a job."""

    rank, size, local_rank = 0, 1, 0
    _signal = 0

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def device(self) -> mx.Context:
        """The GPU of this worker, or the CPU of a host without any.

        Raises:
            ValueError: There are too few GPUs.
        """
        count = mx.context.num_gpus()
        if count and self.local_rank >= count:
            raise ValueError(
                f"worker {self.rank} is number {self.local_rank} of its host (from 0), which shows it {count} GPU(s).\n"
                "Start one worker per GPU (-H host:GPUS), and leave CUDA_VISIBLE_DEVICES the same for all of a host."
            )
        return mx.gpu(self.local_rank) if count else mx.cpu()

    def set_timeout(self, timeout_s: float) -> None:
        """End the job when a worker makes no progress for so long; 0 for no limit. A single process is not watched."""

    def make_trainer(self, net, optimizer, compression: str = "none", scaled_loss: bool = False) -> mx.gluon.Trainer:
        """Return a trainer that exchanges gradients over the workers; `update(1)` then takes their mean.

        With `compression` 'fp16' they travel as float16: as they are if they come from a scaled loss, else by
        `ScaledFloat16`.
        """
        return mx.gluon.Trainer(net.collect_params(), optimizer, kvstore=None)

    def sum(self, values: Dict[str, float]) -> Dict[str, float]:
        """Add every value over the workers; those of rank 0, where another worker has none of them."""
        return values

    def gather(self, rows: np.ndarray, name: str) -> np.ndarray:
        """Return the rows of all workers, in the order of these: (R, W) float64, W >= 1 equal for all, R not."""
        return rows

    def average_(self, arrays: List[mx.nd.NDArray], name: str) -> None:
        """Replace every array by its mean over the workers, in place. `name` tells concurrent calls apart."""

    def average_in_update_(self, array: mx.nd.NDArray, name: str) -> None:
        """As `average_`, of one array within an update, which need not wait for it."""

    def broadcast_(self, arrays: List[mx.nd.NDArray], name: str) -> None:
        """Replace every array by that of rank 0, in place."""

    def broadcast_object(self, value, name: str):
        """Return rank 0's value on all workers."""
        return value

    def progress(self, place: str, exchange: bool = False, is_short: bool = False) -> None:
        """Note where this process is ('in update 7'), for the watchdog; see `Link.progress`."""

    def ask_to_stop(self, signum: int) -> None:
        """Ask for the end of the run after the current update, or batch of an evaluation. From any thread."""
        self._signal = signum
        _say_stopping(signum)

    def must_stop(self, update: float) -> int:
        """Before every update, `update` ones being done: the signal that ends the run here on all workers, or 0.

        Between the numbers of updates are the boundaries within an evaluation, see `EvaluationBoundaries`.
        """
        return self._signal

    def pass_last_boundary(self) -> None:
        """No update is left; a wish to stop comes too late."""

    def fail(self, text: str, code: int, error: Optional[BaseException] = None) -> int:
        """End the job with one message, whichever worker failed first; returns the exit code if it comes to that."""
        print(f"\nerror: {text}", file=sys.stderr, flush=True)
        record_verdict(code)
        return code

    def finish(self) -> None:
        """Wait for what is still computed, and for the other workers. A run that succeeds ends with it."""
        mx.nd.waitall()


class ScaledFloat16:
    """Compression of Horovod for float32 gradients of an unscaled loss: float16 of 1024 times their values.

    Most gradients of a network are small: as they are, float16 would round those below 6e-5, and lose those below 6e-8.
    Here these bounds are 1024 times as low. Values beyond 64 count as 64, and what is not finite becomes NaN.
    """

    scale, largest = 1024, 65504

    @classmethod
    def compress(cls, tensor: mx.nd.NDArray):
        """Return what travels, and what `decompress` needs."""
        bounded = mx.nd.clip(tensor * cls.scale, -cls.largest, cls.largest)
        # x - x is 0, but NaN for an infinity, which must not become an ordinary gradient.
        return (bounded + (tensor - tensor)).astype("float16"), tensor.dtype

    @classmethod
    def decompress(cls, tensor: mx.nd.NDArray, dtype) -> mx.nd.NDArray:
        """Return the gradients of what has travelled."""
        return tensor.astype(dtype) / cls.scale


def _say_stopping(signum: int) -> None:
    where = "stopping after this update, or batch of an evaluation"
    print(f"\nsignal {signum}: {where}, with a checkpoint; once more: at once", file=sys.stderr)


def _set_cycle_time(environment: MutableMapping[str, str], gpus: int) -> None:
    """Choose how often Horovod looks for gradients on a host without GPUs, unless the user did; before its `init`."""
    if not gpus:
        environment.setdefault("HOROVOD_CYCLE_TIME", str(_CYCLE_MS))


def _horovod() -> ModuleType:
    """Import Horovod for MXNet; of its own error about a build without MXNet, three lines, only the first one helps."""
    try:
        return importlib.import_module("horovod.mxnet")
    except ImportError as error:
        reason = str(error).splitlines()[0]
        state = f"the installed one has none ({reason})" if importlib.util.find_spec("horovod") else "none is installed"
        advice = f"build it with:\n{install_command('hvd')}"
        raise ImportError(f"--hvd needs a Horovod that was built for MXNet, and {state}; {advice}") from error


class HorovodWorkers(Workers):
    """The processes of a `horovodrun` job, under the watch of watchdog.py.

    Raises:
        OSError: They cannot be watched.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S):
        self._hvd = _horovod()
        _set_cycle_time(os.environ, mx.context.num_gpus())
        before = list_threads()
        with meeting(os.environ, timeout_s):
            self._hvd.init()
            activity = Activity(list_threads() - before, THREAD_NAME)
            self.rank, self.size, self.local_rank = self._hvd.rank(), self._hvd.size(), self._hvd.local_rank()
            self._coordinator = Coordinator(self.size, timeout_s) if self.is_writer else None
            own = self._coordinator.address if self._coordinator else None
            address: Address = self._hvd.broadcast_object(own, root_rank=0, name="watchdog")
            self._link = Link(self.rank, address, timeout_s, activity=activity)
            # Nobody misses a worker that has not come yet.
            self._hvd.allreduce(mx.nd.zeros((1,)), name="watched").wait_to_read()
        # Called before Horovod's own function, which would break the exchanges of the others.
        atexit.register(self._link.leave_early)

    def set_timeout(self, timeout_s: float) -> None:
        self._link.timeout_s = timeout_s
        if self._coordinator:
            self._coordinator.timeout_s = timeout_s

    def make_trainer(self, net, optimizer, compression: str = "none", scaled_loss: bool = False) -> mx.gluon.Trainer:
        halved = self._hvd.Compression.fp16 if scaled_loss else ScaledFloat16
        kinds = {"none": self._hvd.Compression.none, "fp16": halved}
        # Divided before the sum, the buffers hold the mean with every version of NCCL, and float16 has room for many
        # workers.
        return self._hvd.DistributedTrainer(
            net.collect_params(), optimizer, compression=kinds[compression], gradient_predivide_factor=self.size
        )

    def sum(self, values: Dict[str, float]) -> Dict[str, float]:
        # With few images a worker other than the first may have none to evaluate, and so no keys.
        keys = self.broadcast_object(sorted(values), "sum.keys")
        self.progress("adding scores over the workers", exchange=True)
        total = mx.nd.array([values.get(key, 0) for key in keys], dtype="float64")
        total = self._hvd.allreduce(total, average=False, name="sum")
        return dict(zip(keys, total.asnumpy().tolist()))

    def gather(self, rows: np.ndarray, name: str) -> np.ndarray:
        self.progress(f"gathering {name} from the workers", exchange=True)
        # MXNet has no arrays without rows: before those of a worker comes one with their number.
        sent = np.concatenate([np.full((1, rows.shape[1]), len(rows), np.float64), rows])
        gathered = self._hvd.allgather(mx.nd.array(sent, dtype="float64"), name=f"gather.{name}").asnumpy()
        found = []
        while len(gathered):
            end = 1 + int(gathered[0, 0])
            found.append(gathered[1:end])
            gathered = gathered[end:]
        return np.concatenate(found)

    def average_in_update_(self, array: mx.nd.NDArray, name: str) -> None:
        self._link.enter_exchange()
        self._hvd.allreduce_(array, average=True, name=f"average.{name}")

    def average_(self, arrays: List[mx.nd.NDArray], name: str) -> None:
        self.progress(f"averaging {name} over the workers", exchange=True)
        for number, array in enumerate(arrays):
            self._hvd.allreduce_(array, average=True, name=f"average.{name}.{number}")

    def broadcast_(self, arrays: List[mx.nd.NDArray], name: str) -> None:
        self.progress(f"receiving {name}", exchange=True)
        for number, array in enumerate(arrays):
            self._hvd.broadcast_(array, root_rank=0, name=f"broadcast.{name}.{number}")

    def broadcast_object(self, value, name: str):
        self.progress(f"receiving {name}", exchange=True)
        return self._hvd.broadcast_object(value, root_rank=0, name=name)

    def progress(self, place: str, exchange: bool = False, is_short: bool = False) -> None:
        self._link.progress(place, exchange, is_short)

    def ask_to_stop(self, signum: int) -> None:
        if self.is_writer:
            _say_stopping(signum)
        self._link.ask_to_stop(signum)

    def must_stop(self, update: float) -> int:
        return self._link.must_stop(update)

    def pass_last_boundary(self) -> None:
        self._link.pass_last_boundary()

    def fail(self, text: str, code: int, error: Optional[BaseException] = None) -> int:
        if type(error).__module__.split(".")[0] in ("mxnet", "horovod"):
            time.sleep(_LATER_S)
        self._link.fail(text, code)
        # Only without an answer of the coordinator.
        print(f"\nerror on worker {self.rank}: {text}", file=sys.stderr, flush=True)
        return WORKER_LOST

    def finish(self) -> None:
        # A process that leaves while another still communicates would end that one with an error.
        super().finish()
        self.progress("waiting for all to finish", exchange=True)
        self._hvd.allreduce(mx.nd.zeros((1,)), name="finish").wait_to_read()
        if self._coordinator:
            self._coordinator.wait_for_others()
        self._link.close()


def start_workers(use_horovod: bool) -> Workers:
    """Return the workers of this job.

    Args:
        use_horovod: Whether this process is one of a `horovodrun` job.

    Raises:
        ImportError: Horovod is not there; the text has the command that installs it.
    """
    return HorovodWorkers() if use_horovod else Workers()
