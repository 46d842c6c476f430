"""The one way out: a network written as files, loaded again, compared, and described in JSON."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from ..detection.detector import Detector
from ..detection.routed_fssd import RoutedFSSD
from ..files.folders import not_left_empty
from ..files.text import shortened
from ..files.write import make_folder, move_together, scratch_beside
from ..models.slimmable import SlimmableNet
from .description import sha256, takes_any_files
from .formats import FORMATS, Options, find_format
from .routed.answers import routed_answers
from .routed.files import RoutedExport
from .routed.router import static_subnet
from .ways import ExportError, Net, Target, Way, require_weights, ways_of

__all__ = ["ExportError", "Exported", "export", "export_routed", "export_subnet"]


class Exported(NamedTuple):
    """What `export` wrote: the graph's files, the JSON file that `open_exported` takes, and the difference in it."""

    files: Tuple[Path, ...]
    description: Path
    difference: float

    @property
    def symbol(self) -> Path:
        """The graph of an export for MXNet."""
        return self.files[0]

    @property
    def params(self) -> Path:
        """The parameters of an export for MXNet."""
        return self.files[1]


def export(
    net: Net,
    prefix,
    image_size: Optional[int] = None,
    align: Optional[bool] = None,
    *,
    format: str = "mxnet",
    batch: Optional[int] = None,
    raw_input: bool = False,
    names: Optional[Sequence[str]] = None,
    fold: bool = True,
    blocks: bool = True,
    int8: Optional[Sequence[np.ndarray]] = None,
    license: Optional[str] = None,
    all_boxes: bool = False,
    runtime: Optional[str] = None,
) -> Exported:
    """Write a network for use without this package, load it in its runtime and compare.

    MXNet's files are run plain and with oneDNN's fused operators on this CPU; the JSON file names the faster variant,
    and `open_exported` uses it.

    Args:
        net: The trained network or detector.
        prefix: <prefix>-symbol.json and <prefix>-0000.params, or <prefix>.onnx; <prefix>.json says what they are. The
            graph takes `data` (N, in_channels, H, W), normalized as in training, and gives logits (N, num_classes), or
            of a detector boxes (N, K, 4) in pixels of the input, scores (N, K) and classes (N, K), as the detector
            does.
        image_size: H and W; None: that of the weights, or of the model. An ONNX file takes this size alone, MXNet's any
            that the network takes.
        align: The graph of `aligned`; None: where it was measured to be the faster one in the runtime (for MXNet, and
            in 8 bits, of condensed CondenseNets alone), unless its rounding is more than allowed.
        format: 'mxnet' or 'onnx' (opset 18; needs the packages onnx and onnxruntime).
        batch: A fixed N, for ONNX alone; None: any.
        raw_input: The graph takes pixels of 0..255 (float32, in the channel order of the weights), and normalizes
            itself.
        names: Of the classes, for the JSON file and the metadata of an ONNX file; None: `net.classes`.
        fold: BN becomes part of the convolution before it, and what does not depend on images is computed. False: the
            network's own graph, to train on or for `get_model(pretrained=...)`; for MXNet alone. A network that
            rounding changes by more than is allowed keeps its own graph.
        blocks: Of ONNX files: runs of IdleBlocks in whole blocks of channels, zeros in some, where `runtime` is faster
            so. False: as they are, for runtimes that multiply with those zeros, such as TVM.
        int8: Batches (N, in_channels, H, W) of normalized training images: files in 8 bits, calibrated with three
            quarters of the images. With the rest they are compared; <prefix>.json says how often the classes are the
            same.
        license: Of the weights, for the JSON file and the metadata of an ONNX file; that of the weights' origin if it
            is not given.
        all_boxes: Of detectors, for runtimes that cannot suppress: all boxes (N, P, 4) with scores (N, P, num_classes).
        runtime: What an ONNX file in float32 is to be fastest in: 'onnxruntime' or 'openvino'; 'portable', or None:
            fast in both. Every file runs in either, with equal answers; docs/latency.md says what is gained.

    Raises ValueError for what cannot be exported so, ExportError if a logit is not finite, or differs from that of
    the network in float64 by more than 2e-5 of the logits' standard deviation (where float32 alone does more to the
    network: three times as much) on random pixels or on photographs (those of scikit-learn, if it is installed). Then
    the folder is as it was. 8 bits are refused for a difference of more than 0.5 standard deviations, root mean square.
    Detections must be boxes of the detector with their scores, off by no more than that share of 1 or of the image's
    side, and those that its suppression leaves; in 8 bits half of them must be found again.

    Example: `export(get_model("idle_mbv3", pretrained="w.params"), "out/net", format="onnx", batch=1)`
    """
    options = Options(batch, raw_input, names, fold, blocks, license, all_boxes, runtime)
    ways = _ways(net, (net, image_size, align, find_format(format, int8 is not None), options), int8)
    with not_left_empty(Path(prefix).parent):
        return _write(ways, prefix)


def export_subnet(
    net: SlimmableNet,
    which,
    prefix,
    image_size: Optional[int] = None,
    align: Optional[bool] = None,
    *,
    format: str = "mxnet",
    int8: Optional[Sequence[np.ndarray]] = None,
    **options: Any,
) -> Exported:
    """Write `net.subnet(which)` as `export` does: a network that holds nothing but that width, BN folded in.

    Args:
        net: The trained slimmable network.
        which: An index, 'largest', or a path, as `net.subnet` takes it.
        prefix, image_size, align, format, int8, options: As of `export`.

    Raises ValueError for a width that the network does not have, ExportError and ValueError as `export` does.

    Example: `export_subnet(get_model("ds_mobilenet_v1", pretrained="w.params"), 0, "out/slimmest")`
    """
    require_weights(net)
    static, chosen = static_subnet(net, which), find_format(format, int8 is not None)
    ways = _ways(net.subnet(which), (static, image_size, align, chosen, Options(**options)), int8)
    with not_left_empty(Path(prefix).parent):
        return _write(ways, prefix)


def export_routed(
    net: Union[SlimmableNet, RoutedFSSD],
    prefix,
    image_size: Optional[int] = None,
    *,
    format: str = "mxnet",
    single_file: bool = False,
) -> Path:
    """Write what has a gate as one graph before the decision and one per width, load them again and compare.

    A network with a gate in every stage is routed from stage to stage, in a single ONNX file alone. Returns the path of
    the JSON file, which `load_routed` takes.

    Args:
        net: The trained network or detector, with a gate.
        prefix: Files are <prefix>-head-symbol.json, <prefix>-head-0000.params, the same for -width<i>, and
            <prefix>.json.
        image_size: For the comparison and the multiply-adds; None: that of the weights, or of the model. ONNX files
            take no other.
        format: 'mxnet', or 'onnx' for <prefix>-head.onnx and <prefix>-width<i>.onnx, which take any number of images.
        single_file: <prefix>.onnx holds all graphs, and takes one image at a time. For 'onnx' alone.

    Raises ValueError for a network without a gate, with several and without `single_file`, and for an unknown format,
    ExportError if logits differ as `export` does not allow, or decisions at all. Then the folder is as it was.

    Example: `load_routed(export_routed(net, "out/routed", 224))(images)`
    """
    require_weights(net)
    if single_file and isinstance(net, Detector):
        raise ValueError("single_file (--single-file) is for classifiers; a routed detector has a file for each width")
    if isinstance(net, Detector) and not isinstance(net, RoutedFSSD):
        raise ValueError(f"{net.identity['model']} has no gate that chooses a width: export writes it")
    if format not in FORMATS or (single_file and format != "onnx"):
        raise ValueError(f"format is {format!r}; choose one of {', '.join(FORMATS)}, for a single file 'onnx'")
    chosen, answers = FORMATS[format], routed_answers(net)
    size = answers.size(image_size)
    graphs = answers.graphs(chosen.chooses, single_file)
    way = RoutedExport(answers, graphs, chosen, size, chosen.versions(), single_file)
    with not_left_empty(Path(prefix).parent):
        return _write([way], prefix).description


def _ways(exact: Net, what: Tuple[Any, ...], int8: Optional[Sequence[np.ndarray]]) -> Iterable[Way]:
    """How `what`, the arguments of `Target.checked`, can be written to have the answers of the network `exact`."""
    target = Target.checked(*what)
    net, size, align, *rest = what

    def in_its_own_graph() -> Iterator[Way]:
        if target.aligned and align is None:  # which nobody asked for
            yield from ways_of(Target.checked(net, size, False, *rest), exact, int8)

    return itertools.chain(ways_of(target, exact, int8), in_its_own_graph())


def _write(ways: Iterable[Way], prefix) -> Exported:
    """Write -> load -> compare -> describe -> move into place, by the first way that gives the network's answers."""
    where, prefix = prefix, Path(prefix)
    if prefix.name in ("", ".."):
        raise ValueError(f"{shortened(str(where))} is no beginning of file names; name one, such as exported/net")
    make_folder(prefix.parent)
    with scratch_beside(prefix) as folder:
        draft = folder / prefix.name
        for way in ways:
            written = way.write(draft)
            found = way.compare(written, way.load(written))
            if found.refused is None:
                break
        else:
            raise ExportError(found.refused)
        description = draft.with_name(f"{prefix.name}.json")
        digests = {path.name: sha256(path) for path in written.files}
        dataclasses.replace(way.describe(written, found), sha256=digests).save(description)
        # The description last: among files of two exports its digests are wrong. One without digests goes first.
        old = prefix.with_name(description.name)
        final = move_together((*written.files, description), prefix.parent, remove_first=takes_any_files(old))
    return Exported(tuple(final[:-1]), final[-1], found.difference)
