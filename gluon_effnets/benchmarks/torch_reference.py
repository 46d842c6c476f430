"""Our networks in PyTorch, block by block as its users write them, to measure training and inference beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, List

import numpy as np
from mxnet.gluon import nn as gluon
from mxnet.gluon.block import HybridBlock

from .._requirements import optional_import
from ..models import ClassificationNet
from ..nn.slimmable import SlicedConv2D, SlicedDense
from .torch_outline import NoCounterpart, outline

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = optional_import("torch", extra="torch", why="the same network in PyTorch")
    nn = torch.nn

from .torch_modules import build

__all__ = ["NoCounterpart", "TorchTraining", "torch_like", "with_weights"]


def torch_like(net: ClassificationNet, authors: bool = False) -> nn.Module:
    """The counterpart of one of our networks, with weights drawn anew; see `outline`, also for what is raised."""
    return build(outline(net, authors))


def with_weights(net: ClassificationNet, authors: bool = False) -> nn.Module:
    """The counterpart with the weights of ours, in eval mode; see `outline`, also for what is raised."""
    twin, names = torch_like(net, authors), {"gamma": "weight", "beta": "bias"}
    ours, theirs = _leaves(net), [layer for layer in twin.modules() if isinstance(layer, _WITH_WEIGHTS)]
    assert len(ours) == len(theirs)
    for layer, counterpart in zip(ours, theirs):
        params = {key: param for key, param in layer._reg_params.items() if param is not None}
        state = {names.get(key, key): torch.from_numpy(_values(key, layer)) for key in params}
        missing, unknown = counterpart.load_state_dict(state, strict=False)
        assert not unknown and set(missing) <= {"num_batches_tracked"}
    return twin.eval()


_WITH_WEIGHTS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)


def _leaves(block: HybridBlock) -> List[HybridBlock]:
    """Layers with weights, in the order in which they were made."""
    if isinstance(block, (gluon.Conv2D, gluon.BatchNorm, gluon.Dense, SlicedConv2D, SlicedDense)):
        return [block]
    return [leaf for child in block._children.values() for leaf in _leaves(child)]


def _values(key: str, layer: HybridBlock) -> np.ndarray:
    values = layer._reg_params[key].data().asnumpy().copy()
    used = getattr(layer, "active", {}).get(key, values.shape)
    values = values[tuple(slice(size) for size in used)]
    # MXNet counts a fixed gamma as 1, whatever is stored.
    return np.ones_like(values) if key == "gamma" and layer._kwargs["fix_gamma"] else values


class TorchTraining:
    """Steps of Nesterov SGD on one random batch held in memory: what the training loop of PyTorch's examples does.

    Raises NoCounterpart (a ValueError) for a network that `torch_like` refuses.
    """

    def __init__(self, net: ClassificationNet, batch_size: int, image_size: int, channels_last: bool = False):
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = torch_like(net).to(self.device, memory_format=layout).train()
        shape = (batch_size, net.in_channels, image_size, image_size)
        self.x = torch.randn(shape, device=self.device).contiguous(memory_format=layout)
        self.label = torch.arange(batch_size, device=self.device) % net.num_classes
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    def wait(self) -> None:
        """Return when everything is computed."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def step(self, mark: Callable[[str], None] = lambda phase: None) -> None:
        """One update; `mark` is called with the name of every phase at its end."""
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.net(self.x), self.label)
        mark("forward")
        loss.backward()
        mark("backward")
        self.optimizer.step()
        mark("update")
