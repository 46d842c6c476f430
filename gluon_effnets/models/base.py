"""ClassificationNet: the contract that every network of the package keeps."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import Block, HybridBlock

from . import params
from .card import HasCard, order_of
from .info import ModelInfo
from .taps import Tap, extract, map_shapes, set_output_stride
from .training_graph import CompiledTraining

__all__ = ["ClassificationNet", "StageInfo", "first_layer"]


# Of the weights of a classifier on trained features, as in torchvision's MobileNetV2.
_NEW_CLASSIFIER_STD = 0.01


class StageInfo(NamedTuple):
    """What a stage gives: a map (N, channels, H / stride, W / stride).

    Attributes:
        channels: Of the map.
        stride: Pixels of the image, per side, to one of the map.
    """

    channels: int
    stride: int


class ClassificationNet(HasCard, CompiledTraining):
    """Base of all networks: (N, in_channels, H, W) -> logits (N, num_classes), for any H and W the strides allow.

    All channel numbers are explicit: parameters have their shapes before the first forward. A subclass sets `features`,
    `num_features` and `stage_info`, then calls `_make_output`.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.

    Attributes:
        features: HybridSequential; the stages, then the head: (N, in_channels, H, W) -> (N, num_features).
        output: The classifier, (N, num_features) -> (N, num_classes).
        stages: List of HybridSequential; applied one after the other they give the maps of strides 2, 4, 8, 16, 32.
        stage_info: List of StageInfo, one per stage.
        num_features: Channels of what the classifier reads.
        num_classes: Number of classes, of `output` also where it has been replaced.
        in_channels: Channels of the images, of the first layer also where it has been replaced.
        classes: Names of the classes, as in GluonCV, or None; another `output` has none.
        info: ModelInfo of the registered model, None for a network built by hand.
        preprocessing: Preprocessing that the weights want.
        origin: Of weights that others trained, see `Card`.
        card: Card of these three; it comes and goes with the weights, through files too.
        output_stride: What `set_output_stride` made of the network, None without it.
        trains_compiled: See `CompiledTraining`.

    Raises:
        ValueError: For fewer than one class or channel.

    Example:
        >>> net = get_model("mobilenet_v3_small", classes=10)
        >>> net.initialize()
        >>> net(mx.nd.zeros((2, 3, 224, 224))).shape, [stage.stride for stage in net.stage_info]
        ((2, 10), [2, 4, 8, 16, 32])
    """

    info: Optional[ModelInfo] = None
    classifier_bias = True
    output_stride: Optional[int] = None
    options: Dict[str, Any] = {}  # of the constructor, as given; those of training alone left out

    def __init__(self, classes: int = 1000, in_channels: int = 3, **kwargs):
        super().__init__(**kwargs)
        if classes < 1 or in_channels < 1:
            raise ValueError(f"classes={classes} and in_channels={in_channels} must be at least 1")
        # What was asked for; what is there decides (`num_classes`, `in_channels`).
        self._num_classes, self._in_channels = classes, in_channels

    @property
    def num_classes(self) -> int:
        """The logits of an image."""
        layers = list(_layers(self.__dict__.get("output")))
        return layers[-1].weight.shape[0] if layers else self._num_classes

    @property
    def in_channels(self) -> int:
        """The channels of an image; what was asked for while the first layer does not know them."""
        first = first_layer(self)
        if first is None or len(first.weight.shape) < 3:  # no convolution
            return self._in_channels
        return first.weight.shape[1] * getattr(first, "_kwargs", {}).get("num_group", 1) or self._in_channels

    @property
    def classes(self) -> Optional[List[str]]:
        """The names of the classes, or None."""
        names: Optional[Tuple[str, ...]] = getattr(self.__dict__.get("output"), "class_names", None)
        return list(names) if names is not None and len(names) == self.num_classes else None

    @classes.setter
    def classes(self, names: Optional[List[str]]) -> None:
        if names is not None and len(names) != self.num_classes:
            raise ValueError(f"there are {len(names)} names, but {self.num_classes} classes")
        # Of the classifier, so that they go when it goes.
        self.output.class_names = None if names is None else tuple(names)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "output" and isinstance(value, Block):
            # Gluon takes no block of another type in place of one, which a condensed classifier would be.
            self.__dict__.pop(name, None)
            _fill_in_units(value, getattr(self, "num_features", 0))
        super().__setattr__(name, value)

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
        """Replace the classifier by a new one, initialized if the network is: with small weights, so that trained
        features learn from its answers without being torn by its first ones.

        Args:
            classes: Number of classes.

        Raises:
            ValueError: For fewer than one class.
        """
        if classes < 1:
            raise ValueError(f"classes={classes} must be at least 1")
        initialized = self.output.weight._data is not None
        ctx = self.output.weight.list_ctx() if initialized else None
        del self.__dict__["output"]
        self._num_classes = classes
        with self.name_scope():
            self._make_output()
        if initialized:
            self.output.initialize(mx.init.Normal(_NEW_CLASSIFIER_STD), ctx=ctx)

    def reorder_classes(self, names: Sequence[str]) -> bool:
        """Put the logits in the order of the given names of the classes.

        Returns whether they are the names of `classes`, each of them once; if not, nothing changes.
        """
        places = None if self.classes is None else order_of(self.classes, names)
        if places is None:
            return False
        order = mx.nd.array(places, dtype="int32")
        last = list(_layers(self.output))[-1]
        for name in last._reg_params.keys() & {"weight", "bias"}:
            param = last._reg_params[name]
            array = param.list_data()[0]
            param.set_data(array.take(order.as_in_context(array.context)))
        self.classes = list(names)
        return True

    def definition(self) -> Dict[str, Any]:
        """What decides the outputs but shows in no shape, as constructor options (BN epsilon, padding, ...)."""
        dilated = {} if self.output_stride is None else {"output_stride": self.output_stride}
        return {"in_channels": self.in_channels, **dilated}

    @property
    def identity(self) -> Dict[str, Any]:
        """Name, options and definition: what `save_parameters` stores, and `load_parameters` compares."""
        name = self.info.name if self.info else type(self).__name__
        return {"model": name, **self.options, **self.definition()}

    def save_parameters(self, filename: str, deduplicate: bool = False) -> None:
        """As Gluon's, with identity and card in the file, which is written whole or not at all."""
        params.save(self, filename)

    def load_parameters(
        self, filename, ctx=None, allow_missing=False, ignore_extra=False, cast_dtype=False, dtype_source="current"
    ) -> None:
        """Load weights as Gluon does, from files of `save_parameters` and of `export`.

        Nothing changes unless all of it fits. `preprocessing` becomes that of the file if it is one of
        `save_parameters`.

        Raises:
            FileNotFoundError: Without the file.
            ValueError: For the weights of another network, also if only an option such as the padding differs.
        """
        stored, cast = params.read(filename), {"cast_dtype": cast_dtype, "dtype_source": dtype_source}
        params.assign(self, stored, filename, ctx=ctx, allow_missing=allow_missing, ignore_extra=ignore_extra, **cast)

    def extract(self, x, taps: Optional[Sequence[Tap]] = None) -> list:
        """Return maps from within: by default that of every stage, a feature pyramid.

        Args:
            x: Images (N, in_channels, H, W), an array or a symbol.
            taps: Where the maps are taken, in any order; what lies behind the last one is not computed. A whole number
                is a stage, from 0 or from -1; "3.0" is block 0 of stage 3; "4.0.expansion" is the map that the last
                depthwise convolution of this block reads; "expansion" is the same of the last block with a stride;
                "head" is behind the last 1x1 convolution. None: all stages.

        Returns:
            Maps (N, channels, H / stride, W / stride), as `stage_info` and `tap_info` say.

        Raises:
            ValueError: For a tap that this network does not have.

        Example:
            >>> net = get_model("mobilenet_v3_large")
            >>> net.tap_info(["expansion", "head"])
            [StageInfo(channels=672, stride=16), StageInfo(channels=960, stride=32)]
        """
        return extract(self, x, range(len(self.stage_info)) if taps is None else taps)[0]

    def tap_info(self, taps: Sequence[Tap]) -> List[StageInfo]:
        """Channels and stride of the maps of `extract`, known before the first forward. Same errors."""
        side = 224
        shapes = map_shapes(lambda x: self.extract(x, taps), self.in_channels, side)
        # Not every stride divides the side.
        strides = [1, *(stage.stride for stage in self.stage_info)]
        return [StageInfo(width, min(strides, key=lambda s: abs(s - side / height))) for width, height in shapes]

    def set_output_stride(self, stride: int) -> None:
        """Drop the strides beyond `stride`, and dilate the kernels behind them, so that weights keep their meaning.

        The last stages then give maps of the same resolution, for detection and segmentation. Load weights first:
        `load_parameters` refuses those of another output stride. A hybridized network follows.

        Args:
            stride: 16 or 8, of the maps of the last stage; 32 is what networks have.

        Raises:
            ValueError: For another stride, or a network with layers that cannot be dilated.
        """
        set_output_stride(self, stride)


def first_layer(net: ClassificationNet) -> Optional[Any]:
    """The layer with weights that sees the images; None while the network has none."""
    return next(_layers(net.__dict__.get("features")), None)


def _layers(block: Optional[Block]) -> Iterator[Any]:
    """Yield the layers with weights within a block, in order."""
    if block is None:
        return
    weight = block._reg_params.get("weight")
    if weight is not None and weight.shape is not None:
        yield block
    for child in block._children.values():
        yield from _layers(child)


def _fill_in_units(output: Block, num_features: int) -> None:
    """Give the first layer of a classifier, made without its number of inputs, this number and so its parameters."""
    first = next(_layers(output), None)
    if isinstance(first, nn.Dense) and not first.weight.shape[1]:
        first.weight.shape = (first.weight.shape[0], num_features)
        for param in first._reg_params.values():
            if param._deferred_init:
                param._finish_deferred_init()
