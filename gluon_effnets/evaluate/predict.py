"""The classes of image files, by trained weights or by an exported network in its own runtime."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Callable, Generic, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar, Union

import mxnet as mx
import numpy as np

from ..deploy import load_routed, open_exported
from ..deploy.compiled.run import compiled_network
from ..deploy.description import Description
from ..models import Card, Preprocessing, get_model
from ..models.card import complete_preprocessing
from ..models.params import require_finite
from ..runtime.files import named
from ..runtime.image_files import SUFFIXES, PassedOver, images_below
from ..runtime.pixels import to_input
from ..train.data import DataSettings
from ..train.data.augment import evaluation_crop
from ..train.data.decode import UnreadableImageError, decode_image, read_image_file
from ..train.data.settings import settings_for

__all__ = ["Classifier", "ExportedClassifier", "OfImages", "best", "find_images", "read_image"]

log = logging.getLogger(__name__)

Input = TypeVar("Input")
Answer = TypeVar("Answer")


class OfImages(Generic[Input, Answer]):
    """What a network says of image files; a subclass makes its input of an image, and its answers of inputs.

    Args:
        card: The network's, with a complete preprocessing.
        where: The file that the network comes from.
    """

    def __init__(self, card: Card, where: Union[str, Path]):
        self._where, self.names = where, card.classes
        self.settings = DataSettings(**settings_for(card.preprocessing))

    def _input(self, image: np.ndarray) -> Input:
        """What the network gets of decoded pixels (h, w, 3)."""
        raise NotImplementedError

    def _answers(self, inputs: Sequence[Input]) -> Any:
        """An `Answer` for each input."""
        raise NotImplementedError

    def __call__(self, path) -> Answer:
        """The answer to one image file.

        Raises:
            OSError: The file cannot be read (FileNotFoundError if it is not there) or is no image.
            ValueError: The network's answer is no number.
        """
        return self._answers([self._input(read_image(path))])[0]

    def batches(self, paths: Iterable, batch: int = 1) -> Iterator[Tuple[Any, Union[Answer, OSError]]]:
        """Yield every path with its answer, or with the error if it cannot be read, in order.

        Args:
            paths: Image files.
            batch: Images that go through the network together.

        Raises:
            ValueError: `batch` is below 1.
        """
        if batch < 1:
            raise ValueError(f"the number of images in a batch is {batch}; it must be at least 1")
        waiting: List[Tuple[Any, Union[Input, OSError]]] = []
        for path in paths:
            try:
                waiting.append((path, self._input(read_image(path))))
            except OSError as error:
                waiting.append((path, error))
            if sum(not isinstance(found, OSError) for _, found in waiting) == batch:
                yield from self._done(waiting)
                waiting = []
        yield from self._done(waiting)

    def _done(self, waiting):
        readable = [found for _, found in waiting if not isinstance(found, OSError)]
        answers = iter(self._answers(readable) if readable else ())
        return [(path, found if isinstance(found, OSError) else next(answers)) for path, found in waiting]


def read_image(path) -> np.ndarray:
    """Return the pixels of an image file, (h, w, 3) uint8 RGB.

    Raises:
        OSError: The file cannot be read (FileNotFoundError if it is not there) or is no image.
    """
    try:
        return decode_image(read_image_file(str(Path(path).expanduser())), str(path))
    except UnreadableImageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise FileNotFoundError(f"no image at {named(path)}: it {error.reason}") from None
        raise OSError(f"{named(path)} {error.reason}") from None


class _ImageClassifier(OfImages[np.ndarray, np.ndarray]):
    """`classifier(path)` -> probabilities (num_classes,), by a function (n, C, H, W) -> logits (n, num_classes).

    C is 3, or 1 for a network of grey images.

    Args:
        card: The network's, with a complete preprocessing.
        image_size: Side of the input in place of the card's; None: that.
        where: The file that the network comes from.
    """

    num_classes: int

    def __init__(
        self, logits: Callable[[np.ndarray], np.ndarray], card: Card, image_size: Optional[int], where: Union[str, Path]
    ):
        preprocessing = card.preprocessing
        if image_size not in (None, preprocessing.image_size):
            log.warning("images are %s x %s as asked; %s is for %d", *[image_size] * 2, where, preprocessing.image_size)
            card = card._replace(preprocessing=preprocessing._replace(image_size=image_size))
        super().__init__(card, where)
        self._logits = logits

    def _input(self, image: np.ndarray) -> np.ndarray:
        return to_input(evaluation_crop(image, self.settings), self.settings)

    def _answers(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        logits = self._logits(np.stack(inputs))
        if logits.shape != (len(inputs), self.num_classes):
            raise ValueError(f"{self._where} answers {logits.shape}, not {self.num_classes} classes for each image")
        if not np.isfinite(logits).all():
            raise ValueError(
                f"the logits of {self._where} are not finite (nan or inf): its weights are damaged, or they do not go "
                "with these images"
            )
        with np.errstate(over="ignore"):  # beyond all numbers is 0 as well
            exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


class Classifier(_ImageClassifier):
    """A network with trained weights, `classifier(path)` -> probabilities (num_classes,).

    Images get the preprocessing that the weights want; what they leave open is as usual for the model.

    Args:
        name: A name of `list_models()`.
        weights: `.params` file.
        image_size: Side of the network's input; None: that of the weights, or of the model.
        options: Of the network.

    Raises:
        ValueError: Weights are not finite, the network takes neither color nor gray images, or what `get_model` raises.
        FileNotFoundError: There is no such file.
    """

    def __init__(self, name: str, weights: str, image_size: int | None = None, **options: Any):
        self.net = net = get_model(name, pretrained=weights, **options)
        require_images(net.in_channels, net.preprocessing, weights)
        require_finite(net, weights)
        net.hybridize(static_alloc=True, static_shape=True)
        self.num_classes = net.num_classes
        card = net.card._replace(preprocessing=complete_preprocessing(net))
        run = compiled_network(net, mx.cpu())
        super().__init__(lambda x: run(mx.nd.array(x)).asnumpy(), card, image_size, weights)


class ExportedClassifier(_ImageClassifier):
    """An exported network, routed or not, `classifier(path)` -> probabilities (num_classes,).

    Args:
        path: The JSON file that `export`, `export_routed` or the command `tvm` wrote; it says what is done to images.
        image_size: Side of the network's input; None: as it was exported. Only MXNet's form takes another.
        trust: Whether what runs code may be loaded, as in `open_exported`.

    `names` are those of the classes, or None.

    Raises:
        ValueError: The network takes neither color nor gray images, or not of this size, or what `open_exported` and
            `load_routed` raise.
        FileNotFoundError: A file is missing.
    """

    def __init__(self, path, image_size: int | None = None, trust: bool = False):
        about = Description.read(path)
        if about.task:
            raise ValueError(f"{path} describes a detector, which has no logits; open_exported runs it")
        opened: Any = load_routed(path, trust=trust) if about.routes else open_exported(path, trust)
        logits = opened.logits if about.routes else opened
        require_images(about.in_channels, about.preprocessing, path)
        size = about.image_size if image_size is None else image_size
        if about.input_shape[2:] not in ((None, None), (size, size)):
            raise ValueError(f"{path} takes images of {about.image_size} x {about.image_size} alone, not {size}")
        self.num_classes = about.num_classes
        super().__init__(
            logits, Card(list(about.names) if about.names else None, about.preprocessing), image_size, path
        )


def require_images(in_channels: Optional[int], preprocessing: Preprocessing, where) -> None:
    """Raise ValueError for a network that takes neither color nor gray images."""
    given = len(preprocessing.mean)
    if in_channels not in (1, 3) or given != in_channels:
        raise ValueError(
            f"{where} is for {in_channels} channel(s), with a preprocessing for {given}; images have 3, or 1 if grey"
        )


def find_images(paths: Iterable) -> List[Path]:
    """The paths, with the image files in it (by suffix, sorted) for each that is a folder.

    Hidden files and files of other kinds are passed over in folders, which a line of the log says.

    Raises:
        FileNotFoundError: A folder has no images.
    """
    found: List[Path] = []
    for path in map(Path, paths):
        folder = path.expanduser()
        if not folder.is_dir():
            found.append(path)
            continue
        passed_over = PassedOver()
        inside = images_below([str(folder)], passed_over)
        passed_over.report(path)
        if not inside:
            raise FileNotFoundError(f"no images in {named(path)} (looked for {', '.join(SUFFIXES)})")
        found += inside
    return found


def best(probabilities: np.ndarray, top: int = 5) -> List[Tuple[int, float]]:
    """The `top` likeliest classes as (index, probability), the likeliest first; all if there are fewer.

    Raises:
        ValueError: `top` is below 1.
    """
    if top < 1:
        raise ValueError(f"the number of classes to show is {top}; it must be at least 1")
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(int(index), float(probabilities[index])) for index in order]
