"""ClassificationNet: the contract that every network of the package keeps."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, NamedTuple, Optional

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.contrib.amp import amp
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .. import native
from ..nn.forms import compiled_forms, inference_forms
from . import params
from .preprocessing import Preprocessing

__all__ = ["ClassificationNet", "StageInfo"]


class StageInfo(NamedTuple):
    """What a stage gives: a map (N, channels, H / stride, W / stride)."""

    channels: int
    stride: int


class ClassificationNet(HybridBlock):
    """Base of all networks: (N, in_channels, H, W) -> logits (N, num_classes), for any H and W the strides allow.

    Attributes
    ----------
    features : HybridSequential; the stages, then the head: (N, in_channels, H, W) -> (N, num_features).
    output : the classifier, (N, num_features) -> (N, num_classes).
    stages : list of HybridSequential; applied one after the other they give the maps of strides 2, 4, 8, 16, 32.
    stage_info : list of StageInfo, one per stage.
    num_features, num_classes, in_channels : int.
    info : ModelInfo of the registered model, None for a network built by hand.
    preprocessing : Preprocessing that the weights want; it comes and goes with them, through files too.
    trains_compiled : bool, True; whether a hybridized network trains with the operators of `gluon_effnets.native`
        where they are compiled. The running statistics then change in the forward pass, as in PyTorch.

    All channel numbers are explicit: parameters have their shapes before the first forward.
    A subclass sets `features`, `num_features` and `stage_info`, then calls `_make_output`.
    """

    info = None
    preprocessing = Preprocessing()
    trains_compiled = True
    classifier_bias = True
    options: Dict[str, Any] = {}  # of the constructor, as given; those of training alone left out

    def __init__(self, classes: int = 1000, in_channels: int = 3, **kwargs):
        super().__init__(**kwargs)
        if classes < 1 or in_channels < 1:
            raise ValueError(f"classes={classes} and in_channels={in_channels} must be at least 1")
        self.num_classes = classes
        self.in_channels = in_channels

    def _make_output(self) -> None:
        self.output = nn.Dense(
            self.num_classes, in_units=self.num_features, use_bias=self.classifier_bias, prefix="output_"
        )

    @property
    def stages(self) -> List[HybridBlock]:
        """The blocks of `features` without the head."""
        return list(self.features._children.values())[: len(self.stage_info)]

    def hybrid_forward(self, F, x):
        return self.output(self.features(x))

    def default_initializer(self) -> mx.init.Initializer:
        """The initializer that the source of this network uses."""
        return mx.init.MSRAPrelu()

    def initialize(self, init: Optional[mx.init.Initializer] = None, ctx=None, verbose=False, force_reinit=False):
        """Initialize all parameters; without `init` by `default_initializer`."""
        super().initialize(init or self.default_initializer(), ctx, verbose, force_reinit)

    def reset_class(self, classes: int) -> None:
        """Replace the classifier by a new one for `classes` classes, initialized if the network is.

        Raises ValueError for fewer than one class.
        """
        if classes < 1:
            raise ValueError(f"classes={classes} must be at least 1")
        initialized = self.output.weight._data is not None
        ctx = self.output.weight.list_ctx() if initialized else None
        self.num_classes = classes
        with self.name_scope():
            self._make_output()
        if initialized:
            self.output.initialize(self.default_initializer(), ctx=ctx)

    def definition(self) -> Dict[str, Any]:
        """What decides the outputs but shows in no shape, as constructor options (BN epsilon, padding, ...)."""
        return {"in_channels": self.in_channels}

    @property
    def identity(self) -> Dict[str, Any]:
        """Name, options and definition: what `save_parameters` stores, and `load_parameters` compares."""
        name = self.info.name if self.info else type(self).__name__
        return {"model": name, **self.options, **self.definition()}

    def save_parameters(self, filename: str, deduplicate: bool = False) -> None:
        """As Gluon's, with identity and preprocessing in the file, which is written whole or not at all."""
        params.save(self, filename)

    def load_parameters(
        self, filename, ctx=None, allow_missing=False, ignore_extra=False, cast_dtype=False, dtype_source="current"
    ) -> None:
        """As Gluon's, for files of `save_parameters` and of `export`; nothing changes unless all of it fits.

        `preprocessing` becomes that of the file if it is one of `save_parameters`.
        Raises ValueError for the weights of another network, also if only an option such as the padding differs.
        """
        stored, cast = params.read(filename), {"cast_dtype": cast_dtype, "dtype_source": dtype_source}
        params.assign(self, stored, filename, ctx=ctx, allow_missing=allow_missing, ignore_extra=ignore_extra, **cast)

    def hybridize(self, active=True, backend=None, clear=True, *args, **kwargs):
        """As Gluon's; a graph for a backend such as oneDNN's is made anew, of the forms of inference."""
        super().hybridize(active, backend, clear or backend != self._backend, *args, **kwargs)

    def _get_graph(self, *args):
        with inference_forms(self._backend is not None):
            return super()._get_graph(*args)

    def _clear_cached_op(self):
        super()._clear_cached_op()
        self._for_training = (), None, []

    def _call_cached_op(self, *args):
        if not self._trains_compiled(args[0]):
            return super()._call_cached_op(*args)
        # MXNet's engine does not know that a static graph changes running statistics. Whoever was to read them before
        # must be done, and whoever reads them next must find all of them changed.
        mx.nd.waitall()
        with self._training_graph(), compiled_forms():
            result = super()._call_cached_op(*args)
        for array in result if isinstance(result, (list, tuple)) else [result]:
            array.wait_to_read()
        return result

    def _trains_compiled(self, x) -> bool:
        """Whether a call belongs to the graph of compiled operators: they are for training in float32 on a CPU."""
        if not (self.trains_compiled and autograd.is_recording() and autograd.is_training()) or self._backend:
            return False
        return x.context.device_type == "cpu" and x.dtype == np.float32 and not amp._amp_initialized and native.load()

    @contextlib.contextmanager
    def _training_graph(self):
        """Within it, the cached graph is that of training; what Gluon exports and evaluates is the other one."""
        ordinary = self._cached_graph, self._cached_op, self._cached_op_args
        self._cached_graph, self._cached_op, self._cached_op_args = self._for_training
        try:
            yield
            self._for_training = self._cached_graph, self._cached_op, self._cached_op_args
        finally:
            self._cached_graph, self._cached_op, self._cached_op_args = ordinary

    def export(self, path: str, epoch: int = 0, remove_amp_cast: bool = True) -> None:
        """As Gluon's, of a network that ran once, be it in training only."""
        if self._for_training[1] is not None and self._cached_op is None:
            self._build_cache(mx.sym.var("data"))
        super().export(path, epoch, remove_amp_cast)

    def extract(self, x) -> list:
        """Return the map of every stage for a batch (N, in_channels, H, W): a feature pyramid."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
