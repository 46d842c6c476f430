"""Backbone: a network without its classifier, as far as a detector needs it."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..models import ClassificationNet, get_model
from ..models.taps import Tap, map_shapes, places, run

__all__ = ["Backbone", "base_definition", "base_network"]


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


def base_network(name: str, pretrained: Any, ctx: mx.Context, options: Dict[str, Any]) -> ClassificationNet:
    """Return the network that a detector stands on; its classes matter to the classifier alone, which is left out."""
    return get_model(name, pretrained, ctx=ctx, **options) if pretrained else get_model(name, classes=1, **options)


def base_definition(net: ClassificationNet) -> Dict[str, Any]:
    """Return what a detector's definition says of the network that it stands on.

    BN of that network is named at the top, where importers look for it; that of the other layers belongs to the form.
    """
    base = {**net.options, **net.definition()}
    known = {key: base.pop(key) for key in ("bn_epsilon", "padding") if key in base}
    return {"base": base, **known}
