"""Exported networks in ONNX Runtime: images in, probabilities out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from .decode import Picture, numbered, pixels_of
from .detector import Detector
from .facts import Facts, facts_of_metadata, read_description
from .files import named, read_bytes
from .of_export import OfExport
from .pixels import evaluation_crop, to_input

__all__ = ["Network", "load"]

_Run = Callable[[np.ndarray], List[np.ndarray]]


class Network(OfExport[np.ndarray]):
    """An exported network: `net(images)` gives probabilities (n, classes), `net.top(image)` the likeliest classes.

    It has no state, and several threads may use it at the same time.

    Attributes:
        facts: What the export says of the network.

    Args:
        facts: As above.
        run: Images (n, channels, H, W) -> logits (n, classes).
        where: The file that it comes from, for error texts.
    """

    def __call__(self, images: Union[Picture, Iterable[Picture]], batch: int = 32) -> np.ndarray:
        """Return the probabilities of the classes for one or several images, (n, classes).

        Args:
            images: Paths, encoded images, images of Pillow, or arrays (H, W, 3) uint8 RGB.
            batch: Images that go through the network together; no more are decoded at a time.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: It cannot be read, or is no image.
            ValueError: An array has another shape or type, or the network's answer is no number.

        Example:
            >>> net(["a.jpg", Image.open("b.png"), pixels]).argmax(axis=1)
        """
        found = [self.probabilities(np.stack(part)) for part in self._batches(images, batch)]
        return np.concatenate(found) if found else np.empty((0, self.num_classes), np.float32)

    def top(self, image: Picture, number: int = 5) -> List[Tuple[str, float]]:
        """Return the likeliest classes of an image as (name, probability), the likeliest first.

        Args:
            image: As of a call; one alone.
            number: Of classes; all if there are fewer.

        Raises:
            As a call does; ValueError also if `number` is below 1.

        Example:
            >>> net.top("cat.jpg", 2)  # [("tabby", 0.71), ("tiger cat", 0.18)]
        """
        [probabilities] = self([image])
        return self.best(probabilities, number)

    def best(self, probabilities: np.ndarray, number: int = 5) -> List[Tuple[str, float]]:
        """Return the likeliest of the probabilities (classes,) as (name, probability); a class without name as number.

        Raises:
            ValueError: `number` is below 1.
        """
        if number < 1:
            raise ValueError(f"the number of classes to show is {number}; it must be at least 1")
        order = np.argsort(-probabilities, kind="stable")[:number]
        return [(self.names[i] if self.names else str(i), float(probabilities[i])) for i in order]

    def input(self, images: Union[Picture, Iterable[Picture]]) -> np.ndarray:
        """Return what the network is shown of one or several images: (n, channels, H, W) float32."""
        shown = [self._shown(*one) for one in numbered(images)]
        if not shown:
            raise ValueError("no images are given")
        return np.stack(shown)

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Return the logits (n, classes) of inputs (n, channels, H, W), as `input` makes them.

        Raises:
            ValueError: The inputs have another shape, the network cannot be run, or its answer is no number.
        """
        logits = self._answers(inputs, "its files are damaged, or not of one export")
        if logits.shape != (len(inputs), self.num_classes):
            raise ValueError(f"{self._where} has {logits.shape[-1]} logits, but is said to have {self.num_classes}")
        if not np.isfinite(logits).all():
            raise ValueError(f"the logits of {self._where} are not finite (nan or inf): its weights are damaged")
        return logits

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """Return the probabilities (n, classes) of inputs, as `input` makes them. Raises as `logits` does."""
        logits = self.logits(inputs)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def _shown(self, image: Picture, where: str) -> np.ndarray:
        wanted = self.preprocessing
        assert wanted.interpolation and wanted.crop and wanted.image_size, "checked when it was read"
        shape = wanted.image_size, wanted.crop, wanted.interpolation, wanted.crop_first
        return to_input(evaluation_crop(pixels_of(image, where), *shape), wanted)


def load(path, threads: Optional[int] = None) -> Any:
    """Load an exported network, a `Network`, or detector, a `Detector`, for the CPU.

    Args:
        path: An ONNX file that holds its own description, as `export --format onnx` writes it; or the JSON file
            beside it, by which the file is checked, too. Routed exports in several files need the JSON file.
        threads: That ONNX Runtime uses; None: OMP_NUM_THREADS, or one for each core.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is damaged, or no export for ONNX.
        ImportError: The package onnxruntime is missing.

    Example:
        >>> net = load("net.onnx", threads=2)
        >>> net.top("cat.jpg", 3)
    """
    if threads is not None and threads < 1:
        raise ValueError(f"the number of threads is {threads}; it must be at least 1")
    path = Path(path).expanduser()
    if path.suffix == ".onnx":
        session = _session(read_bytes(path, "ONNX file"), path, threads)
        facts = facts_of_metadata(session.get_modelmeta().custom_metadata_map, path)
        if facts is not None:
            return _loaded(facts, session, [], path)
        path = _description_beside(path)
    described = read_description(path)
    first, *routes = (_session(content, path, threads) for content in (described.first, *described.routes))
    return _loaded(described.facts, first, list(routes), path)


def _loaded(facts: Facts, first: Any, routes: Sequence[Any], path: Path) -> Union[Network, Detector]:
    _check_input(facts, first, path)
    if facts.choice is None:
        return Network(facts, _logits(first, routes, path), path)
    outputs = tuple(item.name for item in first.get_outputs())
    if routes and outputs == ("map", "place"):
        return Detector(facts, _routed(first, routes), path)
    if routes or outputs != facts.outputs:
        raise ValueError(f"{named(path)}: the ONNX file gives {' and '.join(outputs)} in place of {facts.outputs}")
    return Detector(facts, _runner(first), path)


def _description_beside(path: Path) -> Path:
    """The JSON file of an ONNX file that was written before such files described themselves."""
    description = path.with_suffix(".json")
    if not description.is_file():
        raise ValueError(
            f"{named(path)} does not say what images it wants, and {description.name} is not beside "
            "it; export it anew with gluon_effnets"
        )
    return description


def _session(content: bytes, path: Path, threads: Optional[int]):
    """A session of ONNX Runtime; what it is made of was read before, so that it reads no other file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"onnxruntime cannot be imported ({error}); it runs exported networks.\n"
            "Install it with: python -m pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or int(os.environ.get("OMP_NUM_THREADS", 0))
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # its errors have no common class of their own
        raise ValueError(f"{named(path)}: ONNX Runtime cannot load the ONNX file, or it is cut short") from None


def _check_input(facts: Facts, first: Any, path: Path) -> None:
    size, channels = facts.preprocessing.image_size, len(facts.preprocessing.mean)
    given = {item.name: list(item.shape[1:]) for item in first.get_inputs()}
    if given != {"data": [channels, size, size]}:
        raise ValueError(
            f"{named(path)} is said to take data of {channels} x {size} x {size}, but its file takes {given}"
        )


def _logits(first: Any, routes: Sequence[Any], path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function of sessions of a classifier."""
    outputs = [item.name for item in first.get_outputs()]
    if routes and outputs == ["map", "place"]:
        by_route = _routed(first, routes)
        return lambda images: by_route(images)[0]
    if routes or "logits" not in outputs:
        hint = "; give the JSON file of the routed export" if outputs == ["map", "place"] else ""
        raise ValueError(f"{named(path)}: the ONNX file gives {' and '.join(outputs)} in place of logits{hint}")
    run, place = _runner(first), outputs.index("logits")
    return lambda images: run(images)[place]


def _runner(session) -> _Run:
    """The function of a session for any number of images, also if it takes a fixed number of them."""
    [given] = session.get_inputs()
    fixed = given.shape[0] if isinstance(given.shape[0], int) else None

    def run(images: np.ndarray) -> List[np.ndarray]:
        if fixed is None:
            return session.run(None, {given.name: images})
        whole = np.resize(images, (-(-len(images) // fixed) * fixed, *images.shape[1:]))
        parts = [session.run(None, {given.name: whole[at : at + fixed]}) for at in range(0, len(whole), fixed)]
        return [np.concatenate(outputs)[: len(images)] for outputs in zip(*parts)]

    return run


def _routed(first: Any, routes: Sequence[Any]) -> _Run:
    """The answers of a network whose gate sends every image through one of several files."""
    head, tails = _runner(first), [_runner(route) for route in routes]

    def run(images: np.ndarray) -> List[np.ndarray]:
        maps, places = head(images)
        found: Optional[List[np.ndarray]] = None
        for place in np.unique(places):
            if not 0 <= place < len(tails):
                raise ValueError(f"the gate chooses route {place} of {len(tails)}")
            answers = tails[place](maps[places == place])
            if found is None:
                found = [np.empty((len(images), *array.shape[1:]), np.float32) for array in answers]
            for whole, array in zip(found, answers):
                whole[places == place] = array
        assert found is not None, "every image takes a route"
        return found

    return run
