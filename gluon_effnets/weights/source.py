"""Source: what an importer has to know about one official repository."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np
from mxnet.gluon import Parameter
from mxnet.gluon.block import HybridBlock

from ..models import ClassificationNet, get_model
from ..models.preprocessing import TORCH_IMAGENET, Preprocessing

__all__ = ["BICUBIC", "BILINEAR", "PYTORCH", "Source", "Translation", "explain_ends"]

# How repositories in PyTorch evaluate on ImageNet: 256 pixels on the shorter side by Pillow's filter, the central 224.
BILINEAR = TORCH_IMAGENET._replace(interpolation="pillow_bilinear", crop=0.875, image_size=224)
BICUBIC = BILINEAR._replace(interpolation="pillow_bicubic")

# Our names of a layer's tensors -> PyTorch's; those that are not here are the same.
PYTORCH = {"gamma": "weight", "beta": "bias"}


def _nothing(net: ClassificationNet) -> Tuple[Parameter, ...]:
    return ()


def _as_they_are(net: ClassificationNet) -> Dict[str, Translation]:
    return {}


def _usual(net: ClassificationNet, definition: Mapping[str, Any]) -> Preprocessing:
    return BILINEAR


def _tells_nothing(architecture: str) -> bool:
    return False


def _unchanged(preprocessing: Preprocessing) -> Preprocessing:
    return preprocessing


def _no_options(model: str) -> Dict[str, Any]:
    return {}


def explain_ends(net: ClassificationNet, wrong: Mapping[Parameter, Tuple[int, ...]]) -> Optional[Dict[str, Any]]:
    """`Source.explain` of networks whose official options change nothing but the stem's input and the classifier."""
    stem = net.stages[0][0]
    axes = {
        getattr(stem, "conv", stem).weight: {1: "in_channels"},
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


class Translation(NamedTuple):
    """A tensor that the official network holds in another layout than ours.

    shape : of the official tensor.
    ours : all numbers of the checkpoint by official key -> the value of our parameter. It raises ValueError for what no
        value of ours means.
    theirs : the value of our parameter -> the official tensor; None where there is no way back.
    """

    shape: Tuple[int, ...]
    ours: Callable[[Mapping[str, np.ndarray]], np.ndarray]
    theirs: Optional[Callable[[np.ndarray], np.ndarray]] = None


class Source(NamedTuple):
    """An official repository, and how its checkpoints name the layers of one type of our networks.

    mark : a key by which its checkpoints are recognized. Where two sources of a network have the same, options of the
        network, the checkpoint's architecture or the user must tell which it is.
    network : the type of the networks, or several.
    layers : net -> pairs (official layer name, our convolution, BN or dense layer, or some of its tensors by our name).
    definition : net -> what the official code fixes without a parameter, as constructor options of ours: `bn_epsilon`,
        `padding`, and what `net.definition()` has to say.
    explain : (net, {parameter: official shape}) -> constructor options that give these shapes, or None.
    models : (name, options) of our models that the repository has weights of.
    make : builds one of them by name and options.
    tensor_names : our tensor name -> official tensor name.
    lacks : net -> parameters that the official network does not have and that work as 0.
    matrices : official keys of 1x1 convolutions of ours that are matrices there.
    translations : net -> {official key: how its tensor becomes ours}, for those that are not equal.
    ignores : beginnings of keys that the official network has and never uses.
    implied : last parts of keys that no parameter of ours holds, as others tell the same.
    preprocessing : (net, its definition) -> what the weights want done to images, but for what their file states.
    completed : the same together with what the file states -> what follows from that.
    not_for : types among `network` that the repository has no weights of, but for those who name the source.
    builds : name of a model -> options that it must be built with for all weights of this repository.
    is_of : architecture that a checkpoint names -> whether it is of this source, where another one has the same keys.
    """

    name: str
    mark: str
    network: Union[type, Tuple[type, ...]]
    layers: Callable[[Any], Iterator[Tuple[str, Union[HybridBlock, Dict[str, Parameter]]]]]
    definition: Callable[[Any], Dict[str, Any]]
    explain: Callable[[Any, Mapping[Parameter, Tuple[int, ...]]], Optional[Dict[str, Any]]]
    models: Tuple[Tuple[str, Dict[str, Any]], ...]
    tensor_names: Mapping[str, str] = PYTORCH
    make: Callable[..., Any] = get_model
    lacks: Callable[[Any], Tuple[Parameter, ...]] = _nothing
    matrices: Tuple[str, ...] = ()
    translations: Callable[[Any], Dict[str, Translation]] = _as_they_are
    ignores: Tuple[str, ...] = ()
    implied: Tuple[str, ...] = ()
    preprocessing: Callable[[Any, Mapping[str, Any]], Preprocessing] = _usual
    completed: Callable[[Preprocessing], Preprocessing] = _unchanged
    not_for: Tuple[type, ...] = ()
    builds: Callable[[str], Dict[str, Any]] = _no_options
    is_of: Callable[[str], bool] = _tells_nothing

    def keys(self, net: ClassificationNet) -> Dict[str, Parameter]:
        """Return {official key: our parameter} in the order of the network."""
        lacking = self.lacks(net)
        return {
            f"{name}.{self.tensor_names.get(tensor, tensor)}": param
            for name, layer in self.layers(net)
            for tensor, param in (layer if isinstance(layer, dict) else layer._reg_params).items()
            if param not in lacking
        }
