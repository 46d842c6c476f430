"""How far files are from the network: the images that both get, its own answers, and what difference is allowed."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .graph.inference import Normalization, inference_copy

__all__ = [
    "TOLERANCE",
    "UNUSABLE",
    "Findings",
    "Question",
    "agreement",
    "exact_logits",
    "largest_difference",
    "questions",
    "refusal",
    "relative_difference",
    "split_images",
]

TOLERANCE = 1e-4  # of the logits' standard deviation
UNUSABLE = 0.5  # of files in 8 bits, in the same unit, root mean square
FEWEST_IMAGES = 8


class Question(NamedTuple):
    """Images (N, in_channels, H, W) of a kind as the files take them, and the network's own logits for them."""

    kind: str
    images: np.ndarray
    logits: np.ndarray


class Findings(NamedTuple):
    """What a comparison gave.

    difference, compared_on : as in `Description`.
    refused : why the files must not be used, or None.
    details : further fields of the description.
    """

    difference: float
    compared_on: Tuple[str, ...]
    refused: Optional[str] = None
    details: Mapping[str, Any] = MappingProxyType({})


def largest_difference(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the largest difference of logits, in standard deviations of the exact ones."""
    return float(np.abs(found - exact).max() / (exact.std() or 1))


def relative_difference(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the root mean square of the difference of logits, in standard deviations of the exact ones."""
    return float(np.sqrt(((found - exact) ** 2).mean()) / (exact.std() or 1))


def refusal(difference: float, what: str = "the exported graph differs from the network") -> Optional[str]:
    """Return the sentence that refuses a largest difference, None if it is allowed."""
    if difference <= TOLERANCE:
        return None
    return f"{what} by {difference:.1e} of the logits' standard deviation; {TOLERANCE:.0e} is allowed"


def exact_logits(net, images: np.ndarray) -> np.ndarray:
    """Return what the network itself makes of normalized images, in float32."""
    logits = net(mx.nd.array(images, ctx=next(iter(net.collect_params().values())).list_ctx()[0]))
    if logits.dtype != np.float32:  # with mixed precision, whose rounding is not the files' fault
        logits = inference_copy(net)(mx.nd.array(images))
    return logits.asnumpy()


def questions(net, size: int, raw_input: bool) -> List[Question]:
    """Return what files of a network are compared on: random pixels and, for colour images, two photographs.

    Raises no error without scikit-learn, which has the photographs: then random pixels are the only kind.
    """
    normalization = Normalization.of(net)
    asked = []
    for kind, pixels in _pixels(net, size).items():
        images = normalization.normalized(pixels)
        asked.append(Question(kind, pixels if raw_input else images, exact_logits(net, images)))
    return asked


def _pixels(net, size: int) -> Dict[str, np.ndarray]:
    """Pixels of 0..255, (n, in_channels, size, size) float32, n different for each kind."""
    shape = (3, net.in_channels, size, size)
    pixels = {"random pixels": np.random.RandomState(0).randint(0, 256, shape).astype(np.float32)}
    photographs = _photographs(size) if net.in_channels == 3 else None
    if photographs is not None:
        step = -1 if net.card.preprocessing.channel_order == "bgr" else 1
        pixels["photographs"] = photographs[:, ::step]
    return pixels


def _photographs(size: int) -> Optional[np.ndarray]:
    try:
        import sklearn.datasets
    except ImportError:
        return None
    # Its own loader decodes with Pillow, which fails once Horovod is loaded ("broken data stream").
    paths = [Path(sklearn.datasets.__file__).parent / "images" / f"{name}.jpg" for name in ("china", "flower")]
    resized = [mx.image.imresize(mx.image.imread(str(path))[:, :427], size, size).asnumpy() for path in paths]
    return np.stack(resized).transpose(0, 3, 1, 2).astype(np.float32)


def split_images(batches: Sequence[np.ndarray], shape: Tuple[int, int, int]) -> Tuple[np.ndarray, np.ndarray]:
    """Split images (N, *shape) for 8 bits: three quarters to calibrate with, every fourth to compare on.

    Raises ValueError for fewer than 8 images, or images of another shape.
    """
    images = [np.asarray(batch, np.float32) for batch in batches]
    other = [batch.shape[1:] for batch in images if batch.shape[1:] != shape]
    if other:
        raise ValueError(f"images of shape {other[0]} cannot calibrate an export for {shape}; give image_size")
    if sum(map(len, images)) < FEWEST_IMAGES:
        raise ValueError(
            f"8 bits need at least {FEWEST_IMAGES} images, to calibrate with and to compare on; "
            f"there are {sum(map(len, images))}"
        )
    together = np.concatenate(images)
    held_out = np.arange(len(together)) % 4 == 3
    return together[~held_out], together[held_out]


def agreement(found: np.ndarray, exact: np.ndarray) -> Dict[str, Any]:
    """Return the share of images whose largest logit is the same, and the relative difference of the logits."""
    same = (found.argmax(axis=1) == exact.argmax(axis=1)).mean()
    return {"agreement": float(same), "difference": relative_difference(found, exact)}
