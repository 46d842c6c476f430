"""Slimmable networks as files: one width as a plain network, or all that a gate chooses from with a manifest."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

import mxnet as mx
import numpy as np

from ... import __version__
from ..._requirements import optional_import
from ...complexity import count
from ...models import ModelInfo, Preprocessing
from ...models.slimmable import SlimmableNet
from ..description import FORMATS, Description, sha256
from ..export import TOLERANCE, Exported, ExportError, export
from ..to_mxnet.files import load_exported, write_symbol_files
from ..to_onnx.files import onnx_runner, route_runner, write_onnx_file, write_routed_onnx_file
from .router import Array, RoutedGraphs, RoutedOutput, Router, as_numpy, prepare, routed_graphs, static_subnet

__all__ = ["Manifest", "Route", "RoutedFile", "RoutedNet", "export_routed", "export_subnet", "load_routed"]

KIND = "gluon_effnets routed export"
_PACKAGES = ("onnx", "onnxruntime")


@dataclasses.dataclass(frozen=True)
class Route:
    """One of the widths: its index, the multiply-adds of an image that takes it, gate included, and its files.

    `files` : as `head` of the manifest; none if all routes are in the head's file.
    """

    width: int
    madds: int
    files: Tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of <prefix>.json: all that is needed to feed the files beside it.

    format : 'mxnet' or 'onnx'.
    head : files of the graph before the decision: symbol and params, or one ONNX file. routes : those after it; the
        head's second output is a place in this list.
    image_size : at which `madds` were counted; ONNX takes no other, MXNet any that the network takes.
    mean, std, channel_order : preprocessing of pixels of 0..255.
    sha256 : of every file.
    difference : largest difference of a logit from the network's on random pixels, in standard deviations of logits.
    """

    format: str
    model: str
    options: Dict[str, Any]
    head: Tuple[str, ...]
    routes: Tuple[Route, ...]
    in_channels: int
    num_classes: int
    image_size: int
    crop: float
    interpolation: str
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    channel_order: str
    sha256: Dict[str, str]
    difference: float
    versions: Dict[str, str]

    @property
    def preprocessing(self) -> Preprocessing:
        """What is to be done to the pixels."""
        return Preprocessing(self.mean, self.std, self.channel_order)

    @property
    def input_shape(self) -> Tuple[Optional[int], ...]:
        """Of the images, (N, channels, height, width); None where any number is taken."""
        side = self.image_size if self.format == "onnx" else None
        return (None, self.in_channels, side, side)

    @staticmethod
    def is_at(path) -> bool:
        """Whether a file is a manifest, as far as it says so."""
        try:
            return json.loads(Path(path).expanduser().read_text(encoding="utf-8"))["kind"] == KIND
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        path.write_text(json.dumps({"kind": KIND, **dataclasses.asdict(self)}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Raises FileNotFoundError, or ValueError if the file is not a manifest of `export_routed`."""
        if not path.is_file():
            raise FileNotFoundError(f"no manifest of a routed network at {path}")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("kind") != KIND or content["format"] not in FORMATS:
                raise ValueError
            content["routes"] = [Route(**_with_tuples(route)) for route in content["routes"]]
            return cls(**_with_tuples(content))
        # Not JSON, not an object, another JSON file, other keys.
        except (ValueError, AttributeError, KeyError, TypeError):
            raise ValueError(
                f"{path} is no manifest of a routed network, or is cut short; export_routed writes <prefix>.json"
            ) from None


def _with_tuples(content: Dict[str, Any]) -> Dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


class RoutedNet(Router):
    """A `Router` from files; `manifest` says what images it wants, in MXNet's arrays or, for ONNX, in NumPy's."""

    def __init__(self, head, tails, manifest: Manifest):
        super().__init__(head, tails)
        self.manifest = manifest

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Of NumPy's arrays in either runtime."""
        return as_numpy(self(images if self.manifest.format == "onnx" else mx.nd.array(images)).logits)


class RoutedFile:
    """A single ONNX file with all routes: images (N, channels, H, W) -> RoutedOutput, one image after the other.

    `manifest` says what images it wants, `widths` are the indices that its gate chooses from.
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.manifest = manifest
        self.widths = tuple(route.width for route in manifest.routes)
        self._path, self._run = path, onnx_runner(path)

    def __call__(self, images: np.ndarray) -> RoutedOutput:
        logits, places = zip(*(self._run(images[i : i + 1]) for i in range(len(images))))
        return RoutedOutput(np.concatenate(logits), np.array(self.widths)[np.concatenate(places)])

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Without the decisions."""
        return self(images).logits

    def at_width(self, width: int, images: np.ndarray) -> np.ndarray:
        """Return the logits at one of `widths`, whatever the gate decides: the file is loaded again for it."""
        run, place = route_runner(self._path), self.widths.index(width)
        return np.concatenate([run(images[i : i + 1], place) for i in range(len(images))])


def load_routed(path, form: str = "fused") -> Union[RoutedNet, RoutedFile]:
    """Load what `export_routed` wrote, by its manifest, for the CPU. `form`: of MXNet's files.

    Raises FileNotFoundError or ValueError if a file is missing, changed or cut short, ValueError for an unknown `form`,
    ImportError without the package onnxruntime if the files are for it.
    """
    path = Path(path).expanduser()
    manifest = Manifest.read(path)
    missing = [name for name in manifest.sha256 if not (path.parent / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{path} needs {' and '.join(missing)} beside it")
    changed = [name for name, digest in manifest.sha256.items() if sha256(path.parent / name) != digest]
    if changed:
        raise ValueError(f"{' and '.join(changed)} beside {path} is cut short or from another export: export again")

    def load(names: Tuple[str, ...]):
        files = [path.parent / name for name in names]
        return onnx_runner(*files) if manifest.format == "onnx" else prepare(load_exported(*files), form)

    if not manifest.routes[0].files:
        return RoutedFile(path.parent / manifest.head[0], manifest)
    return RoutedNet(load(manifest.head), {route.width: load(route.files) for route in manifest.routes}, manifest)


def export_routed(
    net: SlimmableNet, prefix, image_size: Optional[int] = None, *, format: str = "mxnet", single_file: bool = False
) -> Path:
    """Write a network with a gate as one graph before the decision and one per width, load them again and compare.

    Parameters
    ----------
    prefix : files are <prefix>-head-symbol.json, <prefix>-head-0000.params, the same for -width<i>, and the manifest
        <prefix>.json, whose path is returned.
    image_size : for the comparison and the multiply-adds; None: the model's. ONNX files take no other.
    format : 'mxnet', or 'onnx' for <prefix>-head.onnx and <prefix>-width<i>.onnx, which take any number of images.
    single_file : <prefix>.onnx holds all graphs, and takes one image at a time. For 'onnx' alone.

    Raises ValueError for a network without exactly one gate and for an unknown format, ExportError if logits differ by
    more than 1e-4 of their standard deviation or decisions at all. Then the folder is as it was.
    """
    if format not in FORMATS or (single_file and format != "onnx"):
        raise ValueError(f"format is {format!r}; choose one of {', '.join(FORMATS)}, for a single file 'onnx'")
    prefix, size = Path(prefix), image_size or (net.info or ModelInfo).input_size
    graphs, image = routed_graphs(net), (net.in_channels, size, size)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=str(prefix.parent)) as folder:
        write = _write_single_file if single_file else _WRITERS[format]
        head, tails = write(graphs, Path(folder) / prefix.name, image)
        routes = tuple(Route(width, _madds(net, width, size), _names(files)) for width, files in tails.items())
        written = [*head, *(path for files in tails.values() for path in files)]
        manifest = _manifest(net, format, _names(head), routes, size, {path.name: sha256(path) for path in written})
        description = Path(folder) / f"{prefix.name}.json"
        manifest.save(description)
        difference = _largest_difference(net, load_routed(description), size)
        dataclasses.replace(manifest, difference=difference).save(description)
        for path in (*written, description):
            os.replace(path, prefix.with_name(path.name))
    return prefix.with_name(description.name)


_Files = Tuple[Path, ...]


def _write_symbols(graphs: RoutedGraphs, prefix: Path, image) -> Tuple[_Files, Dict[int, _Files]]:
    """Write the head and the tail of every width; return their files."""

    def write(name: str, graph) -> _Files:
        return write_symbol_files(*graph, prefix.with_name(f"{prefix.name}-{name}"))

    return write("head", graphs.head), {width: write(f"width{width}", graph) for width, graph in graphs.tails.items()}


def _write_onnx(graphs: RoutedGraphs, prefix: Path, image) -> Tuple[_Files, Dict[int, _Files]]:
    map_shape = graphs.head.symbol.infer_shape(data=(1, *image))[1][0][1:]

    def write(name: str, graph, *form) -> _Files:
        return (write_onnx_file(*graph, prefix.with_name(f"{prefix.name}-{name}"), *form),)

    head = write("head", graphs.head, image, None, ("map", "place"))
    return head, {width: write(f"width{width}", graph, map_shape) for width, graph in graphs.tails.items()}


def _write_single_file(graphs: RoutedGraphs, prefix: Path, image) -> Tuple[_Files, Dict[int, _Files]]:
    path = write_routed_onnx_file(graphs.head, list(graphs.tails.values()), prefix, image)
    return (path,), dict.fromkeys(graphs.tails, ())


_WRITERS = {"mxnet": _write_symbols, "onnx": _write_onnx}


def _names(files: _Files) -> Tuple[str, ...]:
    return tuple(path.name for path in files)


def _madds(net: SlimmableNet, width: int, size: int) -> int:
    before = next(net.candidates(step.before)[-1] for step in net.steps() if step.gate is not None)
    return count(net.subnet(width), size).madds + net.gates[0].madds(before)


def _manifest(net: SlimmableNet, format: str, head, routes, size: int, sha256: Dict[str, str]) -> Manifest:
    info, (mean, std, order), options = net.info or ModelInfo, net.preprocessing, dict(net.identity)
    versions = {"gluon_effnets": __version__, "mxnet": mx.__version__}
    if format == "onnx":
        versions.update((name, optional_import(name, "onnx", "export to ONNX").__version__) for name in _PACKAGES)
    return Manifest(
        format=format,
        model=options.pop("model"),
        options=options,
        head=head,
        routes=routes,
        in_channels=net.in_channels,
        num_classes=net.num_classes,
        image_size=size,
        crop=info.crop,
        interpolation=info.interpolation,
        mean=mean,
        std=std,
        channel_order=order,
        sha256=sha256,
        difference=float("nan"),
        versions=versions,
    )


def _largest_difference(net: SlimmableNet, routed: Union[RoutedNet, RoutedFile], size: int) -> float:
    """Of all routes, whatever the gate decides; in standard deviations of the logits. Raises ExportError."""
    x = _random_images(net, size)
    given = x.asnumpy() if routed.manifest.format == "onnx" else x
    if not np.array_equal(routed(given).decisions, net.route(x).asnumpy()[:, 0]):
        raise ExportError("the exported gate decides otherwise than the network's")
    return max(_difference(routed.at_width(width, given), net.subnet(width)(x)) for width in routed.widths)


def _difference(found: Array, expected: mx.nd.NDArray) -> float:
    found, expected = as_numpy(found), expected.asnumpy()
    difference = float(np.abs(found - expected).max() / (expected.std() or 1))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"the static graph differs from the network by {difference:.1e} of the logits' standard deviation; "
            f"{TOLERANCE:.0e} is allowed"
        )
    return difference


def _random_images(net: SlimmableNet, size: int) -> mx.nd.NDArray:
    return mx.nd.array(np.random.RandomState(0).standard_normal((3, net.in_channels, size, size)))


def export_subnet(net: SlimmableNet, which, prefix, image_size: Optional[int] = None, **options) -> Exported:
    """Write `net.subnet(which)` with `export` as a plain network that holds nothing but that width, BN folded in.

    `options` are those of `export`. Raises ValueError for a width that the network does not have, ExportError and
    ValueError as `export` does.
    """
    static = static_subnet(net, which)
    x = _random_images(net, image_size or (net.info or ModelInfo).input_size)
    difference = _difference(static(x), net.subnet(which)(x))
    exported = export(static, prefix, image_size, **options)
    description = Description.read(exported.description)
    worst = max(difference, exported.difference)
    dataclasses.replace(description, difference=worst).save(exported.description)
    return exported._replace(difference=worst)
