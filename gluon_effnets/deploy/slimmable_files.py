"""Slimmable networks as files: one width as a plain network, or all that a gate chooses from with a manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np

from .. import __version__
from ..complexity import count
from ..models import ModelInfo
from ..models.slimmable import SlimmableNet
from .exported import Description
from .exporter import TOLERANCE, Exported, ExportError, export
from .routing import Router, prepare, routed_graphs, static_subnet
from .symbol_files import load_exported, write_symbol_files

__all__ = ["Manifest", "Route", "RoutedNet", "export_routed", "export_subnet", "load_routed"]

KIND = "gluon_effnets routed export"


@dataclasses.dataclass(frozen=True)
class Route:
    """One of the widths: its index, its files, and the multiply-adds of an image that takes it, gate included."""

    width: int
    symbol: str
    params: str
    madds: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of <prefix>.json: all that is needed to feed the files beside it.

    head : symbol and params of the graph before the decision. routes : those after it; the head's second output
        is a place in this list.
    image_size : at which `madds` were counted; the graphs take any that the network takes.
    mean, std, channel_order : preprocessing of pixels of 0..255.
    sha256 : of every file.
    difference : largest difference of a logit from the network's on random pixels, in standard deviations of logits.
    """

    model: str
    options: Dict[str, Any]
    head: Tuple[str, str]
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
            if content.pop("kind") != KIND:
                raise ValueError
            content["routes"] = [Route(**route) for route in content["routes"]]
            return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})
        # Not JSON, not an object, another JSON file, other keys.
        except (ValueError, AttributeError, KeyError, TypeError):
            raise ValueError(
                f"{path} is no manifest of a routed network, or is cut short; export_routed writes <prefix>.json"
            ) from None


class RoutedNet(Router):
    """A `Router` from files; `manifest` says what images it wants."""

    def __init__(self, head, tails, manifest: Manifest):
        super().__init__(head, tails)
        self.manifest = manifest


def load_routed(path, form: str = "fused") -> RoutedNet:
    """Load what `export_routed` wrote, by its manifest, for the CPU.

    Raises FileNotFoundError or ValueError if a file is missing, changed or cut short, ValueError for an unknown `form`.
    """
    path = Path(path).expanduser()
    manifest = Manifest.read(path)
    missing = [name for name in manifest.sha256 if not (path.parent / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{path} needs {' and '.join(missing)} beside it")
    changed = [name for name, digest in manifest.sha256.items() if _sha256(path.parent / name) != digest]
    if changed:
        raise ValueError(f"{' and '.join(changed)} beside {path} is cut short or from another export: export again")

    def load(symbol: str, params: str):
        return prepare(load_exported(path.parent / symbol, path.parent / params), form)

    tails = {route.width: load(route.symbol, route.params) for route in manifest.routes}
    return RoutedNet(load(*manifest.head), tails, manifest)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def export_routed(net: SlimmableNet, prefix, image_size: Optional[int] = None) -> Path:
    """Write a network with a gate as one graph before the decision and one per width, load them again and compare.

    Files: <prefix>-head-symbol.json, <prefix>-head-0000.params, the same for -width<i>, and the manifest
    <prefix>.json, whose path is returned. `image_size`: for the comparison and the multiply-adds; None: the model's.

    Raises ValueError for a network without exactly one gate, ExportError if logits differ by more than 1e-4 of their
    standard deviation or decisions at all. Then the folder is as it was.
    """
    prefix, size = Path(prefix), image_size or (net.info or ModelInfo).input_size
    graphs = routed_graphs(net)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=str(prefix.parent)) as folder:
        written: List[Path] = []

        def write(name: str, graph) -> Tuple[str, str]:
            files = write_symbol_files(*graph, Path(folder) / f"{prefix.name}-{name}")
            written.extend(files)
            return files[0].name, files[1].name

        head = write("head", graphs.head)
        tails = {width: write(f"width{width}", graph) for width, graph in graphs.tails.items()}
        routes = tuple(Route(width, *files, _madds(net, width, size)) for width, files in tails.items())
        manifest = _manifest(net, head, routes, size, {path.name: _sha256(path) for path in written})
        description = Path(folder) / f"{prefix.name}.json"
        manifest.save(description)
        difference = _largest_difference(net, load_routed(description), size)
        dataclasses.replace(manifest, difference=difference).save(description)
        for path in (*written, description):
            os.replace(path, prefix.with_name(path.name))
    return prefix.with_name(description.name)


def _madds(net: SlimmableNet, width: int, size: int) -> int:
    before = next(net._candidates(step.before)[-1] for step in net.steps() if step.gate is not None)
    return count(net.subnet(width), size).madds + net.gates[0].madds(before)


def _manifest(net: SlimmableNet, head, routes, size: int, sha256: Dict[str, str]) -> Manifest:
    info, (mean, std, order), options = net.info or ModelInfo, net.preprocessing, dict(net.identity)
    return Manifest(
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
        versions={"gluon_effnets": __version__, "mxnet": mx.__version__},
    )


def _largest_difference(net: SlimmableNet, routed: RoutedNet, size: int) -> float:
    """Of all routes, whatever the gate decides; in standard deviations of the logits. Raises ExportError."""
    x = _random_images(net, size)
    if not np.array_equal(routed(x).decisions, net.route(x).asnumpy()[:, 0]):
        raise ExportError("the exported gate decides otherwise than the network's")
    return max(_difference(routed.at_width(width, x), net.subnet(width)(x)) for width in routed.widths)


def _difference(found: mx.nd.NDArray, expected: mx.nd.NDArray) -> float:
    found, expected = found.asnumpy(), expected.asnumpy()
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
