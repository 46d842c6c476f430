"""A network with a gate as files: all that the gate chooses from, in one file or in one for every width."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from ...detection.routed_fssd import RoutedFSSD
from ...files.mistakes import sentence
from ...models.slimmable import SlimmableNet
from ...runtime.detections import on_original
from ...runtime.files import named
from ..compare import Findings, Judgement, Question
from ..compiled.run import compiled_where_right
from ..description import Description, Route, as_metadata, facts_of
from ..formats import FORMATS, Content, Format, arrays_of
from ..graph.inference import Array, StaticGraph, as_numpy, cpu_arrays, inference_graph, network_graph
from ..to_mxnet.variants import fused_where_right
from ..to_onnx.files import onnx_runner, route_runner, write_routed_onnx_file
from ..to_onnx.staged import write_staged_onnx_file
from .answers import RoutedAnswers, RoutedDetections
from .router import RoutedGraphs, RoutedOutput, Router
from .stages import StagedGraphs

__all__ = ["RoutedDetector", "RoutedExport", "RoutedFile", "RoutedNet", "RoutedWritten", "load_routed"]

Files = Tuple[Path, ...]
Run = Callable[[Array], Array]


class _FromFiles(Router):
    """A `Router` from files with their description."""

    def __init__(self, head: Callable, tails: Dict[int, Callable], description: Description):
        super().__init__(head, tails)
        self.description = description

    def _answers(self, images: np.ndarray) -> RoutedOutput:
        try:
            return self(FORMATS[self.description.format].array(images))
        except (mx.base.MXNetError, IndexError) as error:
            what = f"the routed export of {self.description.model}"
            raise ValueError(f"{what} cannot run on images of the shape {images.shape}: {sentence(error)}") from None


class RoutedDetector(_FromFiles):
    """A routed detector from files: images (n, channels, side, side) -> RoutedOutput, in its runtime's arrays.

    `description` says what images it wants.

    Example: `boxes, scores, classes = load_routed("routed.json").detect(images, sizes=[(480, 640)])`
    """

    def detections(self, images: np.ndarray) -> List[np.ndarray]:
        """Return boxes (n, K, 4) in pixels of the input, scores and classes (n, K), of NumPy's arrays."""
        return [as_numpy(array) for array in self._answers(images).logits]

    def detect(self, images: np.ndarray, sizes) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return detections in pixels of the original images, as `ExportedDetector.detect` does."""
        boxes, scores, classes = self.detections(images)
        return on_original(boxes, scores, sizes, self.description.image_size), scores, classes


class RoutedNet(_FromFiles):
    """A `Router` from files; `description` says what images it wants, in MXNet's arrays or, for ONNX, in NumPy's."""

    @property
    def manifest(self) -> Description:
        """The description, as it was called first."""
        return self.description

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the logits of NumPy's arrays in either runtime."""
        return as_numpy(self._answers(images).logits)


class _SingleFile:
    """A single ONNX file with all routes, as a `Router` for one image after the other."""

    def __init__(self, path: Path, widths: Sequence[int]):
        self.widths = tuple(widths)
        self._path, self._run = path, onnx_runner(path)

    def __call__(self, images: np.ndarray) -> RoutedOutput:
        logits, places = zip(*(self._run(images[i : i + 1]) for i in range(len(images))))
        return RoutedOutput(np.concatenate(logits), np.array(self.widths)[np.concatenate(places)])

    def at_width(self, width: Union[int, Sequence[int]], images: np.ndarray) -> np.ndarray:
        """Return the logits at one of `widths`, or on a path of one for every gate, whatever the gates decide."""
        return self.on_paths([[width] if isinstance(width, int) else width] * len(images), images)

    def on_paths(self, paths: Sequence[Sequence[int]], images: np.ndarray) -> np.ndarray:
        """Return the logits of every image on a path of its own. The file is loaded again for it."""
        run = route_runner(self._path)
        places = [[self.widths.index(index) for index in path] for path in paths]
        return np.concatenate([run(images[i : i + 1], places[i]) for i in range(len(images))])


class RoutedFile(_SingleFile):
    """A single ONNX file with all routes: images (N, channels, H, W) -> RoutedOutput, one image after the other.

    Of several gates the decisions are paths (N, gates). `description` says what images it wants, `widths` are the
    indices that its gates choose from.

    Args:
        path: Of the ONNX file.
        description: What its JSON file says.
    """

    def __init__(self, path: Path, description: Description):
        super().__init__(path, [route.width for route in description.routes])
        self.description = description

    @property
    def manifest(self) -> Description:
        """The description, as it was called first."""
        return self.description

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the logits without the decisions."""
        return self(images).logits


def load_routed(path, variant: str = "compiled", trust: bool = False) -> Union[RoutedNet, RoutedFile, RoutedDetector]:
    """Load what `export_routed` wrote, by its JSON file, for the CPU.

    Args:
        path: <prefix>.json; the files that it names lie beside it.
        variant: Of MXNet's files: 'compiled' by this package's operators, where these are installed and give the same
            answers, else 'fused'; 'fused' by oneDNN, where that gives the same answers, else 'plain'.
        trust: As of `open_exported`.

    Returns a `RoutedDetector` if it describes a detector.

    Raises FileNotFoundError or ValueError if a file is missing, changed or cut short, ValueError for an unknown
    variant, ImportError without the package onnxruntime if the files are for it.

    Example: `logits, decisions = load_routed("routed.json")(images)`
    """
    path = Path(path).expanduser()
    try:
        description = Description.read(path)
        routes = description.routes
    except ValueError:
        routes = ()
    if not routes:
        raise ValueError(
            f"{named(path)} is no manifest of a routed network, or is cut short; export_routed writes <prefix>.json"
        )
    head, *behind = description.files_in(path.parent)
    if not routes[0].files:
        return RoutedFile(head[0], description)
    tails = {route.width: files for route, files in zip(routes, behind)}
    kind = RoutedDetector if description.task else RoutedNet
    if description.task and variant in ("compiled", "fused"):
        variant = RoutedDetections.variant
    return kind(*_loaded(FORMATS[description.format], head, tails, variant, trust), description)


def _loaded(
    format: Format,
    head: Sequence[Path],
    tails: Mapping[int, Sequence[Path]],
    variant: str = "fused",
    trust: bool = False,
) -> Tuple[Run, Dict[int, Run]]:
    """The functions of files, as a `Router` takes them."""

    def run(files: Sequence[Path]) -> Run:
        if not format.has_variants:
            return format.load_files(files, trust)
        # Refuses files that cannot be loaded before the first images.
        block = format.load_files(files, trust, variant="fused" if variant == "compiled" else variant)
        if variant == "plain":
            return block
        graph = network_graph(block)
        fused = fused_where_right(lambda name: format.load_files(files, trust, variant=name))
        return compiled_where_right(graph, fused) if variant == "compiled" else fused

    return run(head), {width: run(files) for width, files in tails.items()}


class RoutedWritten(NamedTuple):
    """The files of the graph before the decision, and of every width; none if the first ones hold all."""

    head: Files
    tails: Dict[int, Files]

    @property
    def files(self) -> Files:
        """All of them."""
        return (*self.head, *(path for files in self.tails.values() for path in files))


@dataclasses.dataclass(frozen=True)
class RoutedExport:
    """The export of a network with one gate: as one graph before the decision and one per width, or all in one file.

    With a gate in every stage all is in one file. Answers at all widths, of several gates on paths of several widths
    too, and the decisions, are compared on random pixels.
    """

    answers: RoutedAnswers
    graphs: Union[RoutedGraphs, StagedGraphs]
    format: Format
    size: int
    versions: Dict[str, str]
    single_file: bool = False

    @property
    def net(self) -> Union[SlimmableNet, RoutedFSSD]:
        """What is exported."""
        return self.answers.net

    def write(self, prefix: Path) -> RoutedWritten:
        """Write all graphs."""
        image = (self.net.in_channels, self.size, self.size)
        metadata = as_metadata({**facts_of(self.net, self.size), **self.answers.facts()})
        if isinstance(self.graphs, StagedGraphs):
            head, entries, rests, widths = self.graphs
            path = write_staged_onnx_file(head, entries, rests, prefix, image, metadata)
            return RoutedWritten((path,), dict.fromkeys(widths, ()))
        head, tails = self.graphs
        if self.single_file:
            path = write_routed_onnx_file(head, list(tails.values()), prefix, image, metadata)
            return RoutedWritten((path,), dict.fromkeys(tails, ()))

        def write(name: str, content: Content) -> Files:
            return self.format.write(content, prefix.with_name(f"{prefix.name}-{name}")).files

        map_shape = head.symbol.infer_shape(data=(1, *image))[1][0][1:]
        before = write("head", Content(head, image, outputs=("map", "place"), metadata=metadata))
        rest = self.answers.content(self.format.chooses)
        behind = {width: write(f"width{width}", Content(tail, map_shape, **rest)) for width, tail in tails.items()}
        return RoutedWritten(before, behind)

    def load(self, written: RoutedWritten) -> Union[Router, _SingleFile]:
        """Load the files."""
        if self.single_file:
            return _SingleFile(written.head[0], tuple(written.tails))
        return Router(*_loaded(self.format, *written, self.answers.variant, trust=True))

    def compare(self, written: RoutedWritten, loaded: Union[Router, _SingleFile]) -> Findings:
        """Compare decisions, and the answers of all routes whatever the gate decides."""
        shape = (3, self.net.in_channels, self.size, self.size)
        images = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
        given, compared_on = self.format.array(images), ("random pixels",)
        if not np.array_equal(loaded(given).decisions, self.answers.decisions(images)):
            return Findings(np.inf, compared_on, "the exported gate decides otherwise than the network's")
        if isinstance(self.graphs, StagedGraphs):
            judged = self._on_all_pairs(written)
            return Findings(judged.difference, compared_on, judged.refused)
        every = []
        for width in loaded.widths:
            found: Any = arrays_of(loaded.at_width(width, given))
            every.append(self.answers.ask(width, f"random pixels at width {width}", images).judged(found))
        worst = Judgement.worst(every)
        return Findings(worst.difference, compared_on, worst.refused)

    def _on_all_pairs(self, written: RoutedWritten) -> Judgement:
        """Compare paths that go over every graph, all pairs of widths of neighboring stages among them."""
        widths, stages = tuple(written.tails), np.arange(len(self.net.gates))
        number = range(len(widths))
        places = np.array([(start + step * stages) % len(widths) for start in number for step in number])
        masked = inference_graph(lambda x: self.net.dynamic(x, mx.sym.var("noise")).logits)
        single, draw = _SingleFile(written.head[0], widths), np.random.RandomState(0)
        judged = []
        for some in np.array_split(places, len(widths)):
            shape = (len(some), self.net.in_channels, self.size, self.size)
            images = draw.standard_normal(shape).astype(np.float32)
            # So large that it decides: the masked network computes all paths at once.
            noise = mx.nd.array(1e6 * np.eye(len(widths))[some])
            graph = StaticGraph(masked, {**cpu_arrays(self.net), "noise": noise})
            asked = Question.of_graph(graph, "random pixels on forced paths", images)
            judged.append(asked.judged(single.on_paths(np.array(widths)[some].tolist(), images)))
        return Judgement.worst(judged)

    def describe(self, written: RoutedWritten, found: Findings) -> Description:
        """Describe files that have been compared."""
        side = None if self.format.takes_any_size and not isinstance(self.net, RoutedFSSD) else self.size
        return Description.of(
            self.net,
            self.size,
            format=self.format.name,
            files=_names(written.head),
            routes=tuple(
                Route(width, self.answers.madds(width, self.size), _names(files))
                for width, files in written.tails.items()
            ),
            input_shape=(None, self.net.in_channels, side, side),
            difference=found.difference,
            compared_on=found.compared_on,
            versions=self.versions,
            **self.answers.facts(),
        )


def _names(files: Files) -> Tuple[str, ...]:
    return tuple(path.name for path in files)
