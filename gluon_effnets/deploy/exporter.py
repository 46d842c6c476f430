"""The one way out: a network written as files for MXNet or ONNX, loaded again, compared, and described in JSON."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .. import __version__
from .._requirements import optional_import
from ..models import ClassificationNet, ModelInfo
from ..models.condensenet import CondenseNet
from .aligned import aligned
from .exported import FORMATS, Description, ExportedNet
from .graphs import inference_copy, inference_graph
from .onnx_files import write_onnx_file
from .symbol_files import write_symbol_files

__all__ = ["ExportError", "Exported", "export"]

TOLERANCE = 1e-4  # of the logits' standard deviation


class ExportError(ValueError):
    """The exported files do not give the network's answers."""


class Exported(NamedTuple):
    """What `export` wrote: the graph's files, the JSON file that `open_exported` takes, and the difference in it."""

    files: Tuple[Path, ...]
    description: Path
    difference: float

    @property
    def symbol(self) -> Path:
        """The graph in MXNet's form."""
        return self.files[0]

    @property
    def params(self) -> Path:
        """The parameters in MXNet's form."""
        return self.files[1]


def export(
    net: ClassificationNet,
    prefix,
    image_size: Optional[int] = None,
    align: Optional[bool] = None,
    *,
    format: str = "mxnet",
    batch: Optional[int] = None,
    raw_input: bool = False,
    names: Optional[Sequence[str]] = None,
) -> Exported:
    """Write a network for use without this package, load it in its runtime and compare.

    Parameters
    ----------
    prefix : <prefix>-symbol.json and <prefix>-0000.params, or <prefix>.onnx; <prefix>.json says what they are. The
        graph takes `data` (N, in_channels, H, W), normalized as in training, and gives logits (N, num_classes).
    image_size : H and W; None: that of the model. An ONNX file takes this size alone, MXNet's any that the network
        takes.
    align : the graph of `aligned(net)`; None: of condensed CondenseNets alone, which runs up to twice as fast with
        MXNet and ONNX Runtime.
    format : 'mxnet' or 'onnx' (opset 13; needs the packages onnx and onnxruntime).
    batch : a fixed N, for ONNX alone; None: any.
    raw_input : the graph takes pixels of 0..255 (float32, in the channel order of the weights), and normalizes itself.
    names : of the classes, for the JSON file.

    Raises ValueError for what cannot be exported so, ExportError if a logit differs by more than 1e-4 of the logits'
    standard deviation on random pixels or on photographs (those of scikit-learn, if it is installed). Then the
    folder is as it was.
    """
    _check(net, format, batch, raw_input, names)
    if align is None:
        align = isinstance(net, CondenseNet) and net.condensed
    prefix, size = Path(prefix), image_size or (net.info.input_size if net.info else ModelInfo.input_size)
    graph, arrays = _graph_and_arrays(aligned(net) if align else net, raw_input)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=str(prefix.parent)) as folder:
        written = Path(folder) / prefix.name
        if format == "mxnet":
            files: Tuple[Path, ...] = write_symbol_files(graph, arrays, written)
        else:
            files = (write_onnx_file(graph, arrays, written, (net.in_channels, size, size), batch),)
        description = _describe(net, files, size, align, format=format, batch=batch, raw_input=raw_input, names=names)
        differences = _differences(net, ExportedNet(description, Path(folder)), size, raw_input)
        worst = max(differences.values())
        if not worst <= TOLERANCE:
            raise ExportError(
                f"the exported graph differs from the network by {worst:.1e} of the logits' standard deviation; "
                f"{TOLERANCE:.0e} is allowed"
            )
        description = dataclasses.replace(description, difference=worst, compared_on=tuple(differences))
        description.save(written.with_name(f"{prefix.name}.json"))
        final = [prefix.with_name(path.name) for path in (*files, written.with_name(f"{prefix.name}.json"))]
        for path in final:
            os.replace(Path(folder) / path.name, path)
    return Exported(tuple(final[:-1]), final[-1], worst)


def _check(net, format, batch, raw_input, names) -> None:
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; choose one of {', '.join(FORMATS)}")
    if batch is not None and format == "mxnet":
        raise ValueError("the files for MXNet take any number of images; a fixed batch is for format 'onnx'")
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    if raw_input and len(net.preprocessing.mean) != net.in_channels:
        raise ValueError(f"the preprocessing is for {len(net.preprocessing.mean)} channels, not {net.in_channels}")
    if names is not None and len(names) != net.num_classes:
        raise ValueError(f"there are {len(names)} names, but {net.num_classes} classes")


def _graph_and_arrays(net, raw_input: bool) -> Tuple[mx.sym.Symbol, Dict[str, mx.nd.NDArray]]:
    graph = inference_graph(net)
    arrays = {name: param.data().as_in_context(mx.cpu()) for name, param in net.collect_params().items()}
    if raw_input:
        mean, std = (mx.sym.var(f"input_{what}", shape=(1, net.in_channels, 1, 1)) for what in ("mean", "std"))
        normalized = mx.sym.broadcast_div(mx.sym.broadcast_sub(mx.sym.var("data", dtype="float32"), mean), std)
        graph = graph(data=normalized)
        arrays.update(zip(("input_mean", "input_std"), map(mx.nd.array, _mean_and_std(net))))
    return graph, arrays


def _mean_and_std(net) -> List[np.ndarray]:
    """(1, in_channels, 1, 1) each, in the order of the input's channels."""
    mean, std, order = net.preprocessing
    if len(mean) != net.in_channels:
        # The preprocessing of other channels than these; any scale serves the comparison.
        mean, std = ((float(np.mean(values)),) * net.in_channels for values in (mean, std))
    step = -1 if order == "bgr" else 1
    return [np.array(values[::step], np.float32).reshape(1, -1, 1, 1) for values in (mean, std)]


def _describe(net, files, size, align, *, format, batch, raw_input, names) -> Description:
    info, (mean, std, order) = net.info or ModelInfo, net.preprocessing
    options = dict(net.identity)
    versions = {"gluon_effnets": __version__, "mxnet": mx.__version__}
    if format == "onnx":
        needed = {"onnx": "export to ONNX", "onnxruntime": "compare what is exported to ONNX"}
        versions.update((name, optional_import(name, "onnx", why).__version__) for name, why in needed.items())
    side = size if format == "onnx" else None
    return Description(
        format=format,
        files=tuple(path.name for path in files),
        model=options.pop("model"),
        options=options,
        aligned=align,
        input_shape=(batch, net.in_channels, side, side),
        num_classes=net.num_classes,
        image_size=size,
        crop=info.crop,
        interpolation=info.interpolation,
        mean=(0.0,) * len(mean) if raw_input else mean,
        std=(1.0,) * len(std) if raw_input else std,
        channel_order=order,
        normalized_inside={"mean": mean, "std": std} if raw_input else None,
        names=None if names is None else tuple(names),
        difference=float("nan"),
        compared_on=(),
        versions=versions,
    )


def _differences(net: ClassificationNet, exported: ExportedNet, size: int, raw_input: bool) -> Dict[str, float]:
    mean, std = _mean_and_std(net)
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    found = {}
    for what, pixels in _images(net, size).items():
        x = (pixels - mean) / std
        expected = net(mx.nd.array(x, ctx=ctx))
        if expected.dtype != np.float32:  # with mixed precision, whose rounding is not the files' fault
            expected = inference_copy(net)(mx.nd.array(x))
        expected = expected.asnumpy()
        difference = np.abs(exported(pixels if raw_input else x) - expected).max()
        found[what] = float(difference / (expected.std() or 1))
    return found


def _images(net: ClassificationNet, size: int) -> Dict[str, np.ndarray]:
    """Pixels of 0..255 to compare on, (n, in_channels, size, size) float32, n different for each kind."""
    shape = (3, net.in_channels, size, size)
    images = {"random pixels": np.random.RandomState(0).randint(0, 256, shape).astype(np.float32)}
    photographs = _photographs(size)
    if net.in_channels == 3 and photographs is not None:
        step = -1 if net.preprocessing.channel_order == "bgr" else 1
        images["photographs"] = photographs[:, ::step]
    return images


def _photographs(size: int) -> Optional[np.ndarray]:
    try:
        import sklearn.datasets
    except ImportError:
        return None
    # Its own loader decodes with Pillow, which fails once Horovod is loaded ("broken data stream").
    paths = [Path(sklearn.datasets.__file__).parent / "images" / f"{name}.jpg" for name in ("china", "flower")]
    resized = [mx.image.imresize(mx.image.imread(str(path))[:, :427], size, size).asnumpy() for path in paths]
    return np.stack(resized).transpose(0, 3, 1, 2).astype(np.float32)
