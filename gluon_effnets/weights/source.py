"""Source: what an importer has to know about one official repository."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

from mxnet.gluon import Parameter
from mxnet.gluon.block import HybridBlock

from ..models import ClassificationNet
from ..models.preprocessing import Preprocessing
from ..models.staged import StagedNet

__all__ = ["PYTORCH", "Source", "explain_ends"]

# Our names of a layer's tensors -> PyTorch's; those that are not here are the same.
PYTORCH = {"gamma": "weight", "beta": "bias"}


def _nothing(net: ClassificationNet) -> Tuple[Parameter, ...]:
    return ()


def _usual(net: ClassificationNet, definition: Mapping[str, Any]) -> Preprocessing:
    return Preprocessing()


def explain_ends(net: StagedNet, wrong: Mapping[Parameter, Tuple[int, ...]]) -> Optional[Dict[str, Any]]:
    """`Source.explain` of networks whose official options change nothing but the stem's input and the classifier."""
    axes = {
        net.stages[0][0].conv.weight: {1: "in_channels"},
        net.output.weight: {0: "classes"},
        net.output.bias: {0: "classes"},
    }
    options: Dict[str, Any] = {}
    for param, shape in wrong.items():
        differing = [axis for axis, sizes in enumerate(zip(shape, param.shape)) if sizes[0] != sizes[1]]
        if any(axis not in axes.get(param, {}) for axis in differing):
            return None
        options.update({axes[param][axis]: shape[axis] for axis in differing})
    return options


class Source(NamedTuple):
    """An official repository, and how its checkpoints name the layers of one type of our networks.

    mark : a key by which its checkpoints are recognised; None: the user must name the source.
    network : the type of the networks.
    layers : net -> pairs (official layer name, our convolution, BN or dense layer).
    definitions : net -> what the official code fixes without a parameter, as constructor options of ours: `bn_epsilon`,
        `padding`, and what `net.definition()` has to say. More than one if the same keys serve several definitions, the
        usual one first.
    explain : (net, {parameter: official shape}) -> constructor options that give these shapes, or None.
    models : (name, options) of our models that the repository has weights of.
    tensor_names : our tensor name -> official tensor name.
    lacks : net -> parameters that the official network does not have and that work as 0.
    ignores : beginnings of keys that the official network has and never uses.
    preprocessing : (net, the one of `definitions` that it is) -> what the weights want done to images.
    """

    name: str
    mark: Optional[str]
    network: type
    layers: Callable[[Any], Iterator[Tuple[str, HybridBlock]]]
    definitions: Callable[[Any], Tuple[Dict[str, Any], ...]]
    explain: Callable[[Any, Mapping[Parameter, Tuple[int, ...]]], Optional[Dict[str, Any]]]
    models: Tuple[Tuple[str, Dict[str, Any]], ...]
    tensor_names: Mapping[str, str] = PYTORCH
    lacks: Callable[[Any], Tuple[Parameter, ...]] = _nothing
    ignores: Tuple[str, ...] = ()
    preprocessing: Callable[[Any, Mapping[str, Any]], Preprocessing] = _usual

    def keys(self, net: ClassificationNet) -> Dict[str, Parameter]:
        """Return {official key: our parameter} in the order of the network."""
        lacking = self.lacks(net)
        return {
            f"{name}.{self.tensor_names.get(tensor, tensor)}": param
            for name, layer in self.layers(net)
            for tensor, param in layer._reg_params.items()
            if param not in lacking
        }
