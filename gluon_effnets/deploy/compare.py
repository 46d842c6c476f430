"""How far files are from the network: the images that both get, its exact answers, and what difference is allowed."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar

import mxnet as mx
import numpy as np

from .graph.inference import Arrays, Normalization, StaticGraph, inference_copy, network_graph

__all__ = [
    "DIFFERS",
    "ROUNDINGS",
    "TOLERANCE",
    "UNUSABLE",
    "Findings",
    "Judgement",
    "Question",
    "agreement",
    "cpu_function",
    "float_logits",
    "in_type",
    "largest_difference",
    "operator",
    "questions",
    "refusal",
    "relative_difference",
    "split_images",
]

# Of the logits' standard deviation. Float32 is within 3e-6 in most networks, and 1e-3 in one weight shows as 5e-5.
TOLERANCE = 2e-5
# Networks that amplify rounding are beyond that in float32 themselves: files may be off by so many times as much.
ROUNDINGS = 3
UNUSABLE = 0.5  # of files in 8 bits, in the same unit, root mean square
DIFFERS = "the exported graph differs from the network"
FEWEST_IMAGES = 8


class Question(NamedTuple):
    """Images that files get, and what the network makes of them.

    kind : what they show.
    images : (N, in_channels, H, W) as the files take them.
    logits : of the network's graph in float64 on the CPU, whatever device it was trained on.
    rounding : the largest difference of the graph in float32 from these, in their standard deviations.
    """

    kind: str
    images: np.ndarray
    logits: np.ndarray
    rounding: float = 0.0

    @classmethod
    def of(cls, net, kind: str, normalized: np.ndarray, given: Optional[np.ndarray] = None) -> Question:
        """Ask a network. `given` : the images as the files take them, if not normalized.

        Raises ValueError if its logits are not finite.
        """
        return cls.of_graph(network_graph(net), kind, normalized, given)

    @classmethod
    def of_graph(
        cls, graph: StaticGraph, kind: str, normalized: np.ndarray, given: Optional[np.ndarray] = None
    ) -> Question:
        """Ask a graph with its arrays, as `of` asks a network."""
        run, images = cpu_function(graph), normalized if given is None else given
        [own] = run(normalized, "float32")
        if not np.isfinite(own).all():
            raise ValueError(
                f"the network's own logits are not finite on {kind}: there is nothing to compare files with"
            )
        try:
            [exact] = run(normalized, "float64")
        except mx.base.MXNetError:  # an operator of float32 alone
            return cls(kind, images, own)
        return cls(kind, images, exact, largest_difference(own, exact))

    def judged(self, found: np.ndarray, what: str = DIFFERS) -> Judgement:
        """Judge logits that files give for these images."""
        if not np.isfinite(found).all():
            return Judgement(np.nan, f"{what} by nan: its logits are not finite on {self.kind}")
        difference = largest_difference(found, self.logits)
        return Judgement(difference, refusal(difference, what, ROUNDINGS * self.rounding))


class Judgement(NamedTuple):
    """The largest difference of logits, in standard deviations, and the sentence that refuses it or None."""

    difference: float
    refused: Optional[str]

    @classmethod
    def worst(cls, judgements: Iterable[Judgement]) -> Judgement:
        """Return the largest of several, but a refused one before all others."""
        return max(judgements, key=lambda one: (one.refused is not None, np.nan_to_num(one.difference, nan=np.inf)))


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
    found, exact = np.asarray(found, np.float64), np.asarray(exact, np.float64)  # squares of 1e20 are none in float32
    return float(np.abs(found - exact).max() / (exact.std() or 1))


def relative_difference(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the root mean square of the difference of logits, in standard deviations of the exact ones."""
    found, exact = np.asarray(found, np.float64), np.asarray(exact, np.float64)
    return float(np.sqrt(((found - exact) ** 2).mean()) / (exact.std() or 1))


def refusal(
    difference: float, what: str, rounding: float = 0.0, unit: str = "of the logits' standard deviation"
) -> Optional[str]:
    """Return the sentence that refuses a largest difference, None if it is allowed.

    `rounding` : what float32 alone may do to this network. `unit` : of the difference.
    """
    allowed = max(TOLERANCE, rounding)
    if difference <= allowed:
        return None
    return f"{what} by {difference:.1e} {unit}; {allowed:.0e} is allowed"


def float_logits(net, images: np.ndarray) -> np.ndarray:
    """Return what a network makes of normalized images in float32 on the CPU, whatever it was trained with."""
    return inference_copy(net)(mx.nd.array(images)).asnumpy()


def cpu_function(graph: StaticGraph) -> Callable[[np.ndarray, str], List[np.ndarray]]:
    """Return the function of a graph on the CPU: from images and a type of float to the outputs in this type."""
    call = operator(graph.symbol)

    def run(images: np.ndarray, dtype: str) -> List[np.ndarray]:
        arrays = {**in_type(graph.arrays, dtype), "data": mx.nd.array(images, dtype=dtype)}
        outputs = call(*(arrays[name] for name in graph.symbol.list_inputs()))
        return [array.asnumpy() for array in (outputs if isinstance(outputs, list) else [outputs])]

    return run


def in_type(arrays: Arrays, dtype: str) -> Arrays:
    """Return arrays in a type of float; indices stay whole numbers."""
    return {name: array if array.dtype == np.int32 else array.astype(dtype) for name, array in arrays.items()}


def operator(symbol: mx.sym.Symbol) -> mx.nd.CachedOp:
    """Return a graph as one operator, as it stands: to search equal parts takes seconds in a deep network."""
    name = "MXNET_ELIMINATE_COMMON_EXPR"
    mx.util.setenv(name, "0")
    try:
        return mx.nd.CachedOp(symbol)
    finally:
        mx.util.setenv(name, os.environ.get(name))


Asked = TypeVar("Asked")


def questions(net, size: int, raw_input: bool, ask: Callable[..., Asked]) -> List[Asked]:
    """Return what files of a network are compared on: random pixels and, for colour images, two photographs.

    Without scikit-learn, which has the photographs, random pixels are the only kind.

    Parameters
    ----------
    size : height and width of the images.
    raw_input : whether the files take pixels.
    ask : makes a question of a kind, normalized images and, for `raw_input`, pixels.

    Raises ValueError if the network's answers to them are not finite.
    """
    normalization = Normalization.of(net)
    kinds = _pixels(net, size).items()
    return [ask(kind, normalization.normalized(given), given if raw_input else None) for kind, given in kinds]


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
