"""Classifier: the classes of single image files, by trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import mxnet as mx
import numpy as np

from ..models import get_model
from .data import DataSettings
from .data.augment import center_crop, eval_resize
from .data.decode import UnreadableImageError, decode_image, to_input

__all__ = ["Classifier", "best", "read_names"]


class Classifier:
    """A network with trained weights, `classifier(path)` -> probabilities (num_classes,).

    Images get the preprocessing that the weights want and the evaluation crop of the model.

    Parameters
    ----------
    name : a name of `list_models()`.
    weights : `.params` file.
    image_size : side of the network's input; None: that of the model.
    options : of the network.

    Raises what `get_model` raises, and ValueError for a network that takes no colour images.
    """

    def __init__(self, name: str, weights: str, image_size: int | None = None, **options: Any):
        self.net = get_model(name, pretrained=weights, **options)
        if self.net.in_channels != 3 or len(self.net.preprocessing.mean) != 3:
            raise ValueError(f"{weights} is for {self.net.in_channels} channel(s); images are read with three")
        self.net.hybridize(static_alloc=True, static_shape=True)
        size = self.net.info.input_size if image_size is None else image_size
        self.settings = DataSettings(image_size=size, eval_crop=self.net.info.crop, **self.net.preprocessing._asdict())

    def __call__(self, path) -> np.ndarray:
        """Raises OSError if the file cannot be read (FileNotFoundError if it is not there) or is no image."""
        try:
            image = decode_image(Path(path).expanduser().read_bytes(), str(path))
        except FileNotFoundError:
            raise FileNotFoundError(f"no image at {path}") from None
        except UnreadableImageError as error:
            # The rest of the text is about training.
            raise OSError(str(error).splitlines()[0]) from None
        pixels = to_input(center_crop(image, self.settings.image_size, eval_resize(self.settings)), self.settings)
        return mx.nd.softmax(self.net(mx.nd.array(pixels[None])))[0].asnumpy()


def best(probabilities: np.ndarray, top: int = 5) -> List[Tuple[int, float]]:
    """The `top` likeliest classes as (index, probability), the likeliest first; all if there are fewer.

    Raises ValueError for a `top` below 1.
    """
    if top < 1:
        raise ValueError(f"the number of classes to show is {top}; it must be at least 1")
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(int(index), float(probabilities[index])) for index in order]


def read_names(path, num_classes: int) -> List[str]:
    """The lines of a text file, one name per class.

    Raises FileNotFoundError, or ValueError for another number of names.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no class names at {path}")
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(names) != num_classes:
        raise ValueError(f"{path} has {len(names)} names, but there are {num_classes} classes: one line for each")
    return names
