"""The formats of exported files: which options each takes, how it is written and opened."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from .. import __version__
from .._requirements import optional_import
from ..files.mistakes import sentence
from ..files.schema import check_type
from ..files.text import shortened
from ..runtime.detections import Choice, choose, on_original
from .description import Description
from .forms import IN_8_BITS, IN_MXNET, ONNX_FORMS, PORTABLE, Form
from .graph.inference import Array, StaticGraph, as_numpy
from .to_mxnet.files import symbol_block, write_symbol_files
from .to_mxnet.int8 import write_int8_symbol_files
from .to_onnx.detections import write_onnx_detector
from .to_onnx.files import onnx_runner, write_onnx_file
from .to_onnx.int8 import write_int8_onnx_detector, write_int8_onnx_file
from .to_onnx.regions import write_onnx_two_stages
from .to_tvm.compile import tvm_runner
from .two_stages import Stages

__all__ = [
    "FORMATS",
    "INT8_FORMATS",
    "Content",
    "ExportedDetector",
    "ExportedNet",
    "Format",
    "Options",
    "Runner",
    "Written",
    "arrays_of",
    "find_format",
    "open_exported",
]

# Images (N, C, H, W) -> logits (N, classes), or a detector's arrays.
Runner = Callable[[np.ndarray], Any]


_MOST_IMAGES = 4096  # of a fixed batch


@dataclasses.dataclass(frozen=True)
class Options:
    """What an export may be asked for; `export` explains each."""

    batch: Optional[int] = None
    raw_input: bool = False
    names: Optional[Sequence[str]] = None
    fold: bool = True
    blocks: bool = True
    license: Optional[str] = None
    all_boxes: bool = False
    runtime: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Content:
    """What is to be written.

    graph : from images, or maps, to `outputs`.
    image, batch : (C, H, W) of one, and how many go through together; None: any number.
    choice : of detections, which the writer adds to a graph of all boxes and scores.
    heads, tail : of a detector, whose heads alone are in 8 bits: from images to logits and offsets, and from these to
        `outputs`.
    stages : of a detector of two stages, whose graph is as `Stages` says; for ONNX alone.
    blocks : of ONNX files, as in `write_onnx_file`.
    calibration : of files in 8 bits, images as the graph takes them.
    metadata : texts by name, for files that hold such.
    """

    graph: StaticGraph
    image: Tuple[int, ...]
    batch: Optional[int] = None
    outputs: Sequence[str] = ("logits",)
    choice: Optional[Choice] = None
    heads: Optional[StaticGraph] = None
    tail: Optional[StaticGraph] = None
    stages: Optional[Stages] = None
    blocks: int = 0
    calibration: Optional[np.ndarray] = None
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def images(self) -> np.ndarray:
        """The images for calibration."""
        assert self.calibration is not None, "8 bits need images"
        return self.calibration


class Written(NamedTuple):
    """Files, and of those in 8 bits the names of the layers that are left in float32."""

    files: Tuple[Path, ...]
    float_layers: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Format:
    """Files for one runtime, in float32 or in 8 bits.

    load : makes a function of files, from and to the runtime's own arrays.
    write : writes <prefix>... of a content.
    array : turns NumPy's arrays into the runtime's own.
    refuses : {name of an option: why it must be left at its default}.
    packages : {what must be installed: what for}, beside those that the package needs anyhow.
    folds : whether writing folds BN by itself.
    has_variants : whether `load` takes one of MXNet's variants.
    takes_any_size : whether the files take images of any size.
    asks_for_trust : whether `load` takes `trust`, since what it loads may run code.
    num_files : of a graph.
    chooses : whether writing adds the choice of detections.
    forms : of the files, by the runtime that they are to be fast in; the first is the usual one.
    """

    name: str
    load: Callable[..., Callable[[Any], Any]]
    write: Callable[[Content, Path], Written]
    array: Callable[[np.ndarray], Array] = np.asarray
    refuses: Mapping[str, str] = dataclasses.field(default_factory=dict)
    packages: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folds: bool = True
    has_variants: bool = False
    takes_any_size: bool = False
    asks_for_trust: bool = False
    num_files: int = 1
    chooses: bool = False
    forms: Mapping[str, Form] = dataclasses.field(default_factory=dict)

    def check(self, options: Options) -> None:
        """Raise ValueError for options that these files cannot have."""
        for field in dataclasses.fields(options):
            if field.name in self.refuses and getattr(options, field.name) != field.default:
                raise ValueError(self.refuses[field.name])
        if options.runtime is not None and options.runtime not in list(self.forms):
            raise ValueError(f"runtime is {shortened(options.runtime)}; choose one of {', '.join(self.forms)}")
        check_type("batch", options.batch, int, type(None), words="a whole number, or None")
        # MXNet takes memory for a whole batch while it infers shapes.
        if options.batch is not None and not 1 <= options.batch <= _MOST_IMAGES:
            raise ValueError(f"batch is {shortened(options.batch)}; it must be at least 1, and at most {_MOST_IMAGES}")
        if options.names is not None and not all(isinstance(name, str) for name in options.names):
            raise TypeError(f"names is {shortened(options.names)}; it must be a list of texts")

    def form(self, runtime: Optional[str]) -> Form:
        """Return the form of files for a runtime; None: the usual one."""
        return self.forms[runtime or next(iter(self.forms))]

    def versions(self) -> Dict[str, str]:
        """Return the versions of the packages that write the files. Raises ImportError if one is missing."""
        own = {"gluon_effnets": __version__, "mxnet": mx.__version__}
        return {**own, **{name: optional_import(name, "onnx", why).__version__ for name, why in self.packages.items()}}

    def load_files(self, files: Sequence[Path], trust: bool = False, **how: Any) -> Callable[[Any], Any]:
        """Return the function of files, as `load` makes it. Raises what that raises, ValueError for too many files."""
        if len(files) != self.num_files:
            raise ValueError(f"{', '.join(map(str, files))}: a graph for {self.name} has {self.num_files} file(s)")
        return self.load(*files, **({"trust": trust} if self.asks_for_trust else {}), **how)

    def open(self, files: Sequence[Path], batch: Optional[int] = None, trust: bool = False, **how: Any) -> Runner:
        """Return the function of files for any number of images, also if the files take a fixed `batch` of them.

        `trust` : whether what runs code may be loaded. `how` : of `load`.
        Raises ValueError for files that cannot be loaded, ImportError without the runtime.
        """
        load = self.load_files(files, trust, **how)

        def run(images: np.ndarray) -> Any:
            if batch is None:
                return arrays_of(load(self.array(images)))
            whole = np.resize(images, (math.ceil(len(images) / batch) * batch, *images.shape[1:]))
            parts = [whole[begin : begin + batch] for begin in range(0, len(whole), batch)]
            found = [arrays_of(load(self.array(part))) for part in parts]
            if isinstance(found[0], list):
                return [np.concatenate(several)[: len(images)] for several in zip(*found)]
            return np.concatenate(found)[: len(images)]

        return run


def arrays_of(result: Any) -> Union[np.ndarray, List[np.ndarray]]:
    """Return what a runtime gives as NumPy's arrays."""
    return [as_numpy(array) for array in result] if isinstance(result, (list, tuple)) else as_numpy(result)


def _write_symbol(content: Content, prefix: Path) -> Written:
    return Written(write_symbol_files(*content.graph, prefix))


def _write_int8_symbol(content: Content, prefix: Path) -> Written:
    return Written(*write_int8_symbol_files(content.heads or content.graph, content.images, prefix, content.tail))


def _write_onnx(content: Content, prefix: Path) -> Written:
    shape, metadata = (content.image, content.batch), content.metadata
    if content.stages is not None:
        path = write_onnx_two_stages(content.graph, prefix, *shape, content.stages, content.choice, metadata)
        return Written((path,))
    if content.choice is not None:
        return Written((write_onnx_detector(content.graph, prefix, *shape, content.choice, content.blocks, metadata),))
    return Written((write_onnx_file(*content.graph, prefix, *shape, content.outputs, content.blocks, metadata),))


def _write_int8_onnx(content: Content, prefix: Path) -> Written:
    graph, images, batch = content.graph, content.images, content.batch
    if content.heads is not None:
        whole = partial(_write_onnx, dataclasses.replace(content, blocks=0))
        path, float_layers = write_int8_onnx_detector(
            content.heads, lambda prefix: whole(prefix).files[0], images, prefix, batch
        )
        return Written((path,), float_layers)
    path, float_layers = write_int8_onnx_file(graph, images, prefix, batch, content.metadata)
    return Written((path,), float_layers)


def _write_library(content: Content, prefix: Path) -> Written:
    raise ValueError("a library for TVM is made of an ONNX file, by the command tvm")


_BLOCKS = "only ONNX files in float32 have their channels in blocks, or not"
_RUNTIME = "only ONNX files in float32 have forms for several runtimes; leave out runtime (--for)"
_IN_FLOAT = {"fold": "8-bit files always have BN folded in; a graph with BN is in float32"}
_IN_FLOAT.update(blocks=_BLOCKS, runtime=_RUNTIME)

_MXNET = Format(
    "mxnet",
    symbol_block,
    _write_symbol,
    mx.nd.array,
    {
        "batch": "the files for MXNet take any number of images; a fixed batch is for format 'onnx'",
        "blocks": _BLOCKS,
        "runtime": _RUNTIME,
    },
    folds=False,
    has_variants=True,
    takes_any_size=True,
    asks_for_trust=True,
    num_files=2,
    forms={"mxnet": IN_MXNET},
)
_ONNX = Format(
    "onnx",
    onnx_runner,
    _write_onnx,
    refuses={"fold": "ONNX files always have BN folded in; a graph with BN is for format 'mxnet'"},
    packages={"onnx": "export to ONNX", "onnxruntime": "compare what is exported to ONNX"},
    chooses=True,
    forms=ONNX_FORMS,
)
_TVM = Format("tvm", tvm_runner, _write_library, asks_for_trust=True)

FORMATS: Dict[str, Format] = {"mxnet": _MXNET, "onnx": _ONNX}  # that `export` writes
INT8_FORMATS: Dict[str, Format] = {
    "mxnet": dataclasses.replace(
        _MXNET, write=_write_int8_symbol, refuses={**_MXNET.refuses, **_IN_FLOAT}, folds=True, has_variants=False
    ),
    "onnx": dataclasses.replace(
        _ONNX, write=_write_int8_onnx, refuses={**_IN_FLOAT, **_ONNX.refuses}, forms={PORTABLE: IN_8_BITS}
    ),
}


def find_format(name: str, int8: bool = False) -> Format:
    """Return a format that `export` writes. Raises ValueError for another name."""
    if not isinstance(name, str) or name not in FORMATS:
        raise ValueError(f"format is {shortened(name)}; choose one of {', '.join(FORMATS)}")
    return (INT8_FORMATS if int8 else FORMATS)[name]


class _Opened:
    """An exported network in its own runtime; `description` says what the images need.

    Args:
        description: Of files without routes.
        folder: Where the files are.
        trust: As of `open_exported`.

    Raises what `open_exported` raises.
    """

    def __init__(self, description: Description, folder: Path, trust: bool = False):
        formats = {**FORMATS, _TVM.name: _TVM}
        [files] = description.files_in(folder)
        self.description, self._files = description, files
        how: Dict[str, Any] = {"variant": "fused"} if description.fused else {}
        if description.tvm:
            how["processor"] = description.tvm["processor"]
        if description.format == _MXNET.name:
            how["compiled"] = description.int8 is None
            how["image"] = (description.in_channels, description.image_size, description.image_size)
        self._run = formats[description.format].open(files, description.input_shape[0], trust, **how)

    def _answer(self, images: np.ndarray) -> Any:
        try:
            return self._run(images)
        except mx.base.MXNetError as error:
            raise ValueError(
                f"{self._files[0]} cannot run on images of the shape {images.shape}: {sentence(error)}"
            ) from None


class ExportedNet(_Opened):
    """An exported network in its own runtime: (n, channels, height, width) -> logits (n, classes), n also at a fixed N.

    `description` says what the images need. Made by `open_exported`.
    """

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._answer(images)


class ExportedDetector(_Opened):
    """An exported detector in its own runtime: (n, channels, side, side) -> boxes, scores and classes, as arrays.

    They are those that the detector gives: boxes (n, K, 4) in pixels of the input, scores (n, K), which fall, and
    classes (n, K); -1 where there is no detection. Of files that give all boxes, they are chosen here.
    `description` says what the images need. Made by `open_exported`.
    """

    def __call__(self, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        about = self.description
        found = self._answer(images)
        dimensions = (3, 3) if len(about.outputs) == 2 else (3, 2, 2)
        shapes = [array.shape for array in found] if isinstance(found, list) else []
        fits = tuple(map(len, shapes)) == dimensions and shapes[0] == (*shapes[1][:2], 4)
        if not fits or any(shape[0] != len(images) for shape in shapes):
            raise ValueError(f"{self._files[0]} does not give {', '.join(about.outputs)}, as its description says")
        if "classes" in about.outputs:
            boxes, scores, classes = found
            return boxes, scores, classes
        return choose(found[0], found[1], Choice.of_table(about.selection or {}))

    def detect(self, images: np.ndarray, sizes) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return detections in pixels of the original images, their boxes cut to these, as `Detector.detect` does.

        Args:
            images: (n, channels, side, side).
            sizes: Height and width of the originals, (n, 2) or (2,) for all of them, in pixels.
        """
        boxes, scores, classes = self(images)
        return on_original(boxes, scores, sizes, self.description.image_size), scores, classes


def open_exported(path, trust: bool = False) -> Any:
    """Load what a JSON file of `export`, or of the command `tvm`, describes: an `ExportedNet`, or `ExportedDetector`.

    Args:
        path: <prefix>.json; the files that it names lie beside it.
        trust: Whether what runs code may be loaded, since you made it, or trust who did: a library of TVM, and a graph
            for MXNet with operators that no network of this package has.

    Raises FileNotFoundError or ValueError if a file is missing, cut short, something else or for another processor,
    or a library that is not trusted, ImportError if the runtime of its format is missing.

    Example: `logits = open_exported("net.json")(images)`
    """
    path = Path(path).expanduser()
    description = Description.read(path)
    if description.routes:
        raise ValueError(f"{path} describes a routed export, which load_routed loads")
    return (ExportedDetector if description.task else ExportedNet)(description, path.parent, trust)
