"""Features: a network without its classifier, as far as its maps are wanted, and the maps with what they are."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .base import ClassificationNet
from .taps import Tap, map_shapes, places, run
from .training_graph import CompiledTraining

__all__ = ["Backbone", "FeatureInfo", "FeatureMaps", "FeatureNet"]


class Backbone(HybridBlock):
    """The maps of a network at some taps, and behind the last of its blocks that are kept.

    (N, in_channels, H, W) -> a list: the maps at the taps, in their order, then the last map. The blocks are those of
    the network, with their weights. The layers behind the last stage that has a tap are left out; of the head the
    last 1x1 convolution is kept, if there is a tap behind it.

    Args:
        net: The network.
        taps: As in `ClassificationNet.extract`.

    Attributes:
        stages: The stages that are kept, the head's convolution among them.
        in_channels: Channels of the images.

    Raises:
        ValueError: For a tap that the network does not have.

    Example:
        >>> backbone = Backbone(get_model("mobilenet_v3_large"), ["expansion", "head"])
        >>> backbone.map_shapes(320)
        [(672, 20), (960, 10), (960, 10)]
    """

    def __init__(self, net: ClassificationNet, taps: Sequence[Tap], **kwargs):
        super().__init__(**kwargs)
        self._places = places(net, taps)
        last = max(place.stage for place in self._places)
        self.in_channels = net.in_channels
        with self.name_scope():
            self.stages = nn.HybridSequential()
            self.stages.add(*net.stages[: last + 1])
            if last == len(net.stages):
                head = nn.HybridSequential()
                head.add(net.features[-1][0])
                self.stages.add(head)

    def hybrid_forward(self, F, x):
        maps, last = run(list(self.stages), x, self._places)
        return [*maps, last]

    def map_shapes(self, side: int) -> List[Tuple[int, int]]:
        """Channels and height of the maps of square images, known before the first forward."""
        return map_shapes(self, self.in_channels, side)


class FeatureInfo(NamedTuple):
    """What a map of a `FeatureNet` is.

    Attributes:
        name: The tap, as text: "3", "4.0.expansion", "head".
        channels: Of the map.
        stride: Pixels of the image, per side, to one of the map.
    """

    name: str
    channels: int
    stride: int


class FeatureMaps(tuple):
    """Maps (N, channels, H / stride, W / stride) in the order of their taps: a tuple that knows what it holds.

    A map is taken out by its place, as from every tuple, or by the name of its tap.

    Attributes:
        info: FeatureInfo of each map.
        names, channels, strides: The columns of `info`.

    Example:
        >>> maps = get_model("mobilenet_v3_small", features_only=True, out_indices=[2, "head"])(images)
        >>> maps["head"] is maps[1], maps.strides
        (True, (8, 32))
    """

    info: Tuple[FeatureInfo, ...]

    def __new__(cls, maps: Sequence[Any], info: Sequence[FeatureInfo]):
        made = super().__new__(cls, maps)
        made.info = tuple(info)
        return made

    def __getitem__(self, key):
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.names:
            raise KeyError(f"there is no map {key!r}; these are {', '.join(self.names)}")
        return super().__getitem__(self.names.index(key))

    @property
    def names(self) -> Tuple[str, ...]:
        """The names of the taps."""
        return tuple(info.name for info in self.info)

    @property
    def channels(self) -> Tuple[int, ...]:
        """The channels of the maps."""
        return tuple(info.channels for info in self.info)

    @property
    def strides(self) -> Tuple[int, ...]:
        """The strides of the maps."""
        return tuple(info.stride for info in self.info)


class FeatureNet(Backbone, CompiledTraining):
    """A network that gives maps in place of logits: (N, in_channels, H, W) -> FeatureMaps.

    It shares its blocks, and so its weights, with `net`, and has no parameters that the maps do not need: all of them
    can be trained. `get_model(..., features_only=True)` makes one.

    Args:
        net: The network; load its weights and set its output stride first.
        out_indices: Stages from 0 or -1, or any taps of `ClassificationNet.extract`. None: all stages.

    Attributes:
        feature_info: List of FeatureInfo, known before the first forward.
        preprocessing: Preprocessing that the weights want.

    Raises:
        ValueError: For a tap that the network does not have, or none at all.

    Example:
        >>> net = get_model("mobilenet_v3_large", features_only=True, out_indices=[1, 2, -1], output_stride=16)
        >>> net.initialize()
        >>> maps = net(mx.nd.zeros((1, 3, 224, 224)))
        >>> [(info.name, info.channels, info.stride) for info in maps.info]
        [('1', 24, 4), ('2', 40, 8), ('-1', 160, 16)]
    """

    def __init__(self, net: ClassificationNet, out_indices: Optional[Sequence[Tap]] = None, **kwargs):
        taps = list(range(len(net.stage_info))) if out_indices is None else out_indices
        if not isinstance(taps, (str, int)) and not len(taps):
            raise ValueError("out_indices names no map; leave it out for the maps of all stages")
        super().__init__(net, taps, **kwargs)
        self.feature_info = [FeatureInfo(str(tap), *info) for tap, info in zip(taps, net.tap_info(taps))]
        self.preprocessing = net.preprocessing
        self._initializer = net.default_initializer()
        last = len(self.stages) - 1
        blocks = [place.block for place in self._places if place.stage == last]
        inner = [block for block in blocks if block is not None]
        if inner == blocks:  # those behind them give no map
            self.stages._children[str(last)] = self.stages[last][: 1 + max(inner)]

    def __call__(self, x):
        """Return the FeatureMaps of images, or of their symbol."""
        return FeatureMaps(super().__call__(x), self.feature_info)

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, x)[:-1]

    def initialize(self, init: Optional[mx.init.Initializer] = None, ctx=None, verbose=False, force_reinit=False):
        """Initialize all parameters; without `init` as the network does."""
        super().initialize(init or self._initializer, ctx, verbose, force_reinit)
