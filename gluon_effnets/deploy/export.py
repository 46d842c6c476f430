"""The one way out: a network written as files, loaded again, compared, and described in JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Protocol, Sequence, Tuple, Union

import numpy as np
from mxnet.gluon.block import HybridBlock

from ..detection.detector import Detector
from ..files.folders import not_left_empty
from ..files.schema import check_type, whole
from ..files.text import shortened
from ..files.write import make_folder, move_together, scratch_beside
from ..models import ClassificationNet
from ..models.card import usual_size
from ..models.slimmable import SlimmableNet
from ..timing import time_interleaved
from .answers import Answers, Graphs, answers_of
from .compare import Findings, Judgement, Question, questions, split_images
from .compare_detections import DetectionQuestion
from .description import Description, as_metadata, facts_of, sha256, takes_any_files
from .formats import FORMATS, Content, Format, Options, Runner, Written, find_format
from .graph.inference import Normalization, StaticGraph
from .graph.static import static_graph
from .routed.files import RoutedExport
from .routed.router import routed_graphs, static_subnet
from .to_mxnet.variants import fusion_is_available, try_fusion

__all__ = ["ExportError", "Exported", "export", "export_routed", "export_subnet"]


Net = Union[ClassificationNet, Detector]
_LONG_MS = 1000  # one run of such a call is measurement enough


class ExportError(ValueError):
    """The exported files do not give the network's answers."""


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
) -> Exported:
    """Write a network for use without this package, load it in its runtime and compare.

    MXNet's files are run plain and with oneDNN's fused operators on this CPU; the JSON file names the faster variant,
    and `open_exported` uses it.

    Parameters
    ----------
    prefix : <prefix>-symbol.json and <prefix>-0000.params, or <prefix>.onnx; <prefix>.json says what they are. The
        graph takes `data` (N, in_channels, H, W), normalized as in training, and gives logits (N, num_classes), or of a
        detector boxes (N, K, 4) in pixels of the input, scores (N, K) and classes (N, K), as the detector does.
    image_size : H and W; None: that of the weights, or of the model. An ONNX file takes this size alone, MXNet's any
        that the network takes.
    align : the graph of `aligned(net, format=format)`; None: of condensed CondenseNets alone, which runs up to twice as
        fast with MXNet and ONNX Runtime.
    format : 'mxnet' or 'onnx' (opset 13; needs the packages onnx and onnxruntime).
    batch : a fixed N, for ONNX alone; None: any.
    raw_input : the graph takes pixels of 0..255 (float32, in the channel order of the weights), and normalizes itself.
    names : of the classes, for the JSON file and the metadata of an ONNX file; None: `net.classes`.
    fold : BN becomes part of the convolution before it, and what does not depend on images is computed. False: the
        network's own graph, to train on or for `get_model(pretrained=...)`; for MXNet alone. A network that rounding
        changes by more than is allowed keeps its own graph.
    blocks : of ONNX files: runs of IdleBlocks in whole blocks of 16 channels, zeros in some, as ONNX Runtime is fastest
        with. False: as they are, for runtimes that multiply with those zeros, such as TVM.
    int8 : batches (N, in_channels, H, W) of normalized training images: files in 8 bits, calibrated with three quarters
        of the images. With the rest they are compared; <prefix>.json says how often the classes are the same.
    license : of the weights, for the JSON file and the metadata of an ONNX file; that of the weights' origin if it
        is not given.
    all_boxes : of detectors, for runtimes that cannot suppress: all boxes (N, P, 4) with scores (N, P, num_classes).

    Raises ValueError for what cannot be exported so, ExportError if a logit is not finite, or differs from that of
    the network in float64 by more than 2e-5 of the logits' standard deviation (where float32 alone does more to the
    network: three times as much) on random pixels or on photographs (those of scikit-learn, if it is installed). Then
    the folder is as it was. 8 bits are refused for a difference of more than 0.5 standard deviations, root mean square.
    Detections must be boxes of the detector with their scores, off by no more than that share of 1 or of the image's
    side, and those that its suppression leaves; in 8 bits half of them must be found again.

    Example: `export(get_model("idle_mbv3", pretrained="w.params"), "out/net", format="onnx", batch=1)`
    """
    options = Options(batch, raw_input, names, fold, blocks, license, all_boxes)
    target = _Target.checked(net, image_size, align, find_format(format, int8 is not None), options)
    with not_left_empty(Path(prefix).parent):
        return _write(_ways(target, net, int8), prefix)


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

    Parameters
    ----------
    which : an index, 'largest', or a path, as `net.subnet` takes it.
    prefix, image_size, align, format, int8, options : as of `export`.

    Raises ValueError for a width that the network does not have, ExportError and ValueError as `export` does.

    Example: `export_subnet(get_model("ds_mobilenet_v1", pretrained="w.params"), 0, "out/slimmest")`
    """
    _require_weights(net)
    static, chosen = static_subnet(net, which), find_format(format, int8 is not None)
    target = _Target.checked(static, image_size, align, chosen, Options(**options))
    with not_left_empty(Path(prefix).parent):
        return _write(_ways(target, net.subnet(which), int8), prefix)


def export_routed(
    net: SlimmableNet, prefix, image_size: Optional[int] = None, *, format: str = "mxnet", single_file: bool = False
) -> Path:
    """Write a network with a gate as one graph before the decision and one per width, load them again and compare.

    Returns the path of the JSON file, which `load_routed` takes.

    Parameters
    ----------
    prefix : files are <prefix>-head-symbol.json, <prefix>-head-0000.params, the same for -width<i>, and <prefix>.json.
    image_size : for the comparison and the multiply-adds; None: that of the weights, or of the model. ONNX files take
        no other.
    format : 'mxnet', or 'onnx' for <prefix>-head.onnx and <prefix>-width<i>.onnx, which take any number of images.
    single_file : <prefix>.onnx holds all graphs, and takes one image at a time. For 'onnx' alone.

    Raises ValueError for a network without exactly one gate and for an unknown format, ExportError if logits differ as
    `export` does not allow, or decisions at all. Then the folder is as it was.

    Example: `load_routed(export_routed(net, "out/routed", 224))(images)`
    """
    _require_weights(net)
    if format not in FORMATS or (single_file and format != "onnx"):
        raise ValueError(f"format is {format!r}; choose one of {', '.join(FORMATS)}, for a single file 'onnx'")
    chosen, size = FORMATS[format], image_size or usual_size(net)
    way = RoutedExport(net, routed_graphs(net), chosen, size, chosen.versions(), single_file)
    with not_left_empty(Path(prefix).parent):
        return _write([way], prefix).description


class Way(Protocol):
    """One way to export a network, checked before; `_write` takes these steps one after the other."""

    def write(self, prefix: Path) -> Any:
        """Write <prefix>...; the `files` of the result are the paths."""

    def load(self, written: Any) -> Any:
        """Load what was written in its runtime."""

    def compare(self, written: Any, loaded: Any) -> Findings:
        """Compare it with the network."""

    def describe(self, written: Any, found: Findings) -> Description:
        """Say what was written and found."""


def _write(ways: Sequence[Way], prefix) -> Exported:
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


def _ways(target: _Target, exact: Net, int8: Optional[Sequence[np.ndarray]]) -> List[Way]:
    """How a target, whose answers are to be those of the network `exact`, can be written."""
    if int8 is not None:
        calibration, held_out = split_images(int8, (target.net.in_channels, target.size, target.size))
        expected = target.answers.expected(exact, held_out)
        if not all(np.isfinite(array).all() for array in expected):
            raise ExportError("the network's own logits are not finite (nan or inf); there is nothing to quantize")
        return [_Int8(target, target.given(calibration), target.given(held_out), expected)]
    try:
        asked = questions(exact, target.size, target.options.raw_input, target.answers.ask(exact))
    except ValueError as error:
        raise ExportError(str(error)) from None
    # Untrained networks can blow up the rounding of folded weights by orders of magnitude; trained ones do not.
    folds = (True, False) if target.options.fold and not target.format.folds else (target.options.fold,)
    return [_Float(target, asked, fold) for fold in folds]


@dataclasses.dataclass(frozen=True)
class _Target:
    """What is exported as what: checked, and described alike in float32 and in 8 bits."""

    net: Net
    answers: Answers
    graphs: Graphs
    size: int
    aligned: bool
    format: Format
    options: Options
    versions: Dict[str, str]

    @classmethod
    def checked(
        cls, net: Net, image_size: Optional[int], align: Optional[bool], format: Format, options: Options
    ) -> _Target:
        """Check that it can be done. Raises ValueError if it cannot, ImportError if a package is missing."""
        _require_weights(net)
        check_type("image_size", image_size, int, type(None), words="a whole number of pixels, or None")
        if image_size is not None:
            whole(1, 1 << 14)(image_size, "image_size")
        format.check(options)
        channels = len(net.card.preprocessing.mean)
        if options.raw_input and channels != net.in_channels:
            raise ValueError(f"the preprocessing is for {channels} channels, not {net.in_channels}")
        if options.names is not None and len(options.names) != net.num_classes:
            raise ValueError(f"there are {len(options.names)} names, but {net.num_classes} classes")
        versions, answers = format.versions(), answers_of(net, options.all_boxes)
        size, align = answers.size(image_size), answers.aligned(align)
        graphs = answers.graphs(format.name, align, format.chooses)
        graphs = graphs.behind(Normalization.of(net) if options.raw_input else None)
        return cls(net, answers, graphs, size, align, format, options, versions)

    def given(self, images: np.ndarray) -> np.ndarray:
        """Normalized images as the files take them."""
        return Normalization.of(self.net).pixels(images) if self.options.raw_input else images

    @property
    def facts(self) -> Dict[str, Any]:
        """What the files say of the network."""
        facts, names = {**facts_of(self.net, self.size), **self.answers.facts()}, self.options.names
        if names is not None:
            facts["names"] = tuple(names)
        license = self.options.license or self.net.origin.get("license")
        if license is not None:
            facts["license"] = license
        if self.options.raw_input:
            facts["normalized_inside"] = {key: facts[key] for key in ("mean", "std")}
            channels = len(facts["mean"])
            facts.update(mean=(0.0,) * channels, std=(1.0,) * channels)
        return facts

    def write(self, prefix: Path, graph: StaticGraph, calibration: Optional[np.ndarray] = None) -> Written:
        """Write a graph that equals that of the network."""
        image, options = (self.net.in_channels, self.size, self.size), self.options
        content = Content(
            graph,
            image,
            options.batch,
            self.graphs.outputs,
            choice=self.graphs.choice,
            heads=self.graphs.heads,
            tail=self.graphs.tail,
            blocks=options.blocks,
            calibration=calibration,
            metadata=as_metadata(self.facts),
        )
        return self.format.write(content, prefix)

    def load(self, written: Written, **how: Any) -> Runner:
        """Load what was written."""
        return self.format.open(written.files, self.options.batch, trust=True, **how)

    def describe(self, written: Written, found: Findings, folded: bool) -> Description:
        """Describe files that have been compared."""
        side = None if self.format.takes_any_size and not isinstance(self.net, Detector) else self.size
        return Description(
            format=self.format.name,
            files=tuple(path.name for path in written.files),
            aligned=self.aligned,
            input_shape=(self.options.batch, self.net.in_channels, side, side),
            difference=found.difference,
            compared_on=found.compared_on,
            versions=self.versions,
            folded=folded,
            **self.facts,
            **found.details,
        )


def _require_weights(net: Any) -> None:
    """Raises TypeError for what is no network of this package, ValueError for one without weights."""
    if not isinstance(net, HybridBlock) or not hasattr(net, "identity"):
        raise TypeError(f"net is {shortened(net)}, of type {type(net).__name__}; it must be a network of get_model")
    empty = [name for name, param in net.collect_params().items() if param._data is None]
    if empty:
        raise ValueError(f"net has no weights yet ({empty[0]} is empty): call net.initialize(), or load some")


@dataclasses.dataclass(frozen=True)
class _Float:
    """An export in float32: the answers of the network but for rounding."""

    target: _Target
    asked: Sequence[Union[Question, DetectionQuestion]]
    fold: bool

    def write(self, prefix: Path) -> Written:
        graph = self.target.graphs.graph
        return self.target.write(prefix, static_graph(*graph) if self.fold and not self.target.format.folds else graph)

    def load(self, written: Written) -> Runner:
        return self.target.load(written)

    def compare(self, written: Written, loaded: Runner) -> Findings:
        worst, kinds = self._judged(loaded), tuple(question.kind for question in self.asked)
        found = Findings(worst.difference, kinds, worst.refused)
        if found.refused is not None or not (self.target.format.has_variants and fusion_is_available()):
            return found
        return self._with_faster_variant(found, loaded, self.target.load(written, variant="fused"))

    def describe(self, written: Written, found: Findings) -> Description:
        return self.target.describe(written, found, folded=self.fold)

    def _judged(self, run: Runner, *what: str) -> Judgement:
        return Judgement.worst(asked.judged(run(asked.images), *what) for asked in self.asked)

    def _with_faster_variant(self, found: Findings, plain: Runner, fused: Runner) -> Findings:
        """What MXNet's files run faster with on this CPU; fusion, of which MXNet has wrong cases, is compared, too."""
        difference, refused = try_fusion(lambda what: self._judged(fused, what))
        image = self.asked[0].images[:1]
        calls = {"plain": lambda: plain(image)}
        if refused is None:
            calls["fused"] = lambda: fused(image)
        minima = _minima(calls, repeats=1)
        first = sum(minima.values())
        if first < _LONG_MS:
            # Other programs disturb short calls most.
            minima = _minima(calls, min(max(round(300 / first), 3), 50))
        chosen = minima.get("fused", np.inf) < minima["plain"]
        details = {"fused": bool(chosen), "milliseconds": minima, "fusion_refused": refused}
        return found._replace(difference=difference if chosen else found.difference, details=details)


def _minima(calls: Dict[str, Callable[[], Any]], repeats: int) -> Dict[str, float]:
    return {name: round(latency.minimum, 3) for name, latency in time_interleaved(calls, repeats).items()}


@dataclasses.dataclass(frozen=True)
class _Int8:
    """An export in 8 bits: nearly the answers of the network, on images that the ranges do not come from."""

    target: _Target
    calibration: np.ndarray
    held_out: np.ndarray
    expected: Any

    def write(self, prefix: Path) -> Written:
        return self.target.write(prefix, self.target.graphs.graph, self.calibration)

    def load(self, written: Written) -> Runner:
        return self.target.load(written)

    def compare(self, written: Written, loaded: Runner) -> Findings:
        judged = self.target.answers.in_8_bits(loaded(self.held_out), self.expected)
        counts = {"calibration_images": len(self.calibration), "held_out_images": len(self.held_out)}
        int8 = {**counts, **judged.figures, "float_layers": written.float_layers}
        return Findings(judged.difference, ("held-out calibration images",), judged.refused, {"int8": int8})

    def describe(self, written: Written, found: Findings) -> Description:
        return self.target.describe(written, found, folded=True)
