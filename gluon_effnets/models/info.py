"""ModelInfo: all that is known about a registered network without building it."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from .preprocessing import Preprocessing

__all__ = ["Deployment", "ModelInfo", "TorchCounterpart"]


class Deployment(NamedTuple):
    """How a network is deployed, beside its conversion: one width of a slimmable one, channels aligned to blocks.

    Attributes:
        width: Index of the width of a slimmable network; None: the whole network.
        aligned: Whether its channels are aligned to blocks.
    """

    width: Optional[int] = None
    aligned: bool = False


class TorchCounterpart(NamedTuple):
    """The same architecture in PyTorch: `package.function(**arguments)`, package being torchvision or timm."""

    package: str
    function: str
    arguments: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """All that is known about a registered network without building it.

    Attributes:
        name: As in `list_models()`.
        family: The networks of one file, or of one paper.
        summary: First line of the doc-string.
        paper: Title and arXiv number.
        reconstruction: What the paper does not fix, and is ours; empty if nothing is.
        aliases: Other names that `get_model` takes.
        input_size: Side of the square images, in pixels.
        classes: Number of classes if none is asked for.
        mean, std: Usual preprocessing of 0..255 RGB in the evaluation; weights that want another bring it along
            (`ClassificationNet.preprocessing`).
        crop: Share of the resized image's shorter side that the evaluation crops.
        interpolation: Of the resizing; 'pillow_bicubic' is Pillow's, which filters as it shrinks.
        representative: How the network is deployed where it stands for its family (`benchmark profile
            --all-families`); empty if another network does.
        small: Whether tests that take seconds a network run this one for its family.
        torch: The same architecture in PyTorch, which latencies are compared with.
        params: Number of trained values, from results/computed.json; None if it is not there.
        madds: Multiply-adds of convolutions and fully connected layers for one image, from the same file.
        published: Rows of results/published.json.
        recipes: File names in configs/.
    """

    name: str
    family: str
    summary: str
    paper: str
    reconstruction: str = ""
    aliases: Tuple[str, ...] = ()
    input_size: int = 224
    classes: int = 1000
    mean: Tuple[float, ...] = Preprocessing().mean
    std: Tuple[float, ...] = Preprocessing().std
    crop: float = 0.875
    interpolation: str = "bilinear"
    representative: Tuple[Deployment, ...] = ()
    small: bool = False
    torch: Optional[TorchCounterpart] = None
    params: Optional[int] = None
    madds: Optional[int] = None
    published: Tuple[Dict[str, Any], ...] = ()
    recipes: Tuple[str, ...] = ()
