"""ClassificationNet: the contract that every network of the package keeps."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from . import params
from .info import ModelInfo
from .preprocessing import Preprocessing
from .training_graph import CompiledTraining

__all__ = ["ClassificationNet", "StageInfo"]


class StageInfo(NamedTuple):
    """What a stage gives: a map (N, channels, H / stride, W / stride)."""

    channels: int
    stride: int


class ClassificationNet(CompiledTraining):
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
        where they are compiled.

    All channel numbers are explicit: parameters have their shapes before the first forward.
    A subclass sets `features`, `num_features` and `stage_info`, then calls `_make_output`.
    """

    info: Optional[ModelInfo] = None
    preprocessing = Preprocessing()
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

    def extract(self, x) -> list:
        """Return the map of every stage for a batch (N, in_channels, H, W): a feature pyramid."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
