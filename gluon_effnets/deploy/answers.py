"""What networks answer, logits or detections: their graphs, what files of them are asked, and what is said of them."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Union

import mxnet as mx
import numpy as np

from ..detection.detector import Detector
from ..detection.faster_rcnn import FasterRCNN
from ..models import ClassificationNet
from ..models.card import usual_size
from ..runtime.detections import Choice, choose
from .aligned.select import aligned
from .compare import UNUSABLE, Question, agreement, float_logits, largest_difference
from .compare_detections import DetectionQuestion, detections_agreement, every_graph, of_float
from .graph.inference import Normalization, StaticGraph, inference_graph, network_graph
from .two_stages import PROPOSED, Stages, TwoStageQuestion, two_stage_graph

__all__ = ["Answers", "Asked", "Detections", "Graphs", "Int8Answers", "Logits", "TwoStages", "answers_of"]

Asked = Union[Question, DetectionQuestion, TwoStageQuestion]
DETECTION = "detection"
FEWEST_FOUND = 0.5  # share of a detector's detections that files in 8 bits find again, by score


class Graphs(NamedTuple):
    """What is written.

    graph : from images to `outputs`.
    outputs : their names.
    choice : how the files choose detections among the graph's boxes, where they do that by operators of their own.
    stages : of a detector of two stages in ONNX.
    heads, tail : of detectors, from images to `logits` and `offsets`, and from these to `outputs`.
    """

    graph: StaticGraph
    outputs: Sequence[str] = ("logits",)
    choice: Optional[Choice] = None
    heads: Optional[StaticGraph] = None
    tail: Optional[StaticGraph] = None
    stages: Optional[Stages] = None

    def behind(self, normalization: Optional[Normalization]) -> Graphs:
        """Return the graphs behind a normalization of their input."""
        if normalization is None:
            return self
        heads = None if self.heads is None else normalization.before(self.heads)
        return self._replace(graph=normalization.before(self.graph), heads=heads)


class Int8Answers(NamedTuple):
    """How answers in 8 bits compare: figures, the largest difference, and the sentence that refuses them or None."""

    figures: Dict[str, Any]
    difference: float
    refused: Optional[str]


_REMEDY = "\nTrain the network, calibrate with its own training images, or export it in float32"


class Logits:
    """A classifier gives logits (N, classes).

    Attributes:
        inner: Names of what files are asked for behind their answers, to be compared.
    """

    inner: Sequence[str] = ()

    def __init__(self, net: ClassificationNet):
        self.net = net

    def size(self, image_size: Optional[int]) -> int:
        """The side of the images: what is asked for, or usual."""
        return image_size or usual_size(self.net)

    def aligned(self, align: Optional[bool], pays: Callable[[ClassificationNet], bool]) -> bool:
        """Whether the aligned graph is written: what is asked for, or what pays."""
        return pays(self.net) if align is None else align

    def graphs(self, align: Optional[str], chooses: bool) -> Graphs:
        """The graphs of files; `align`: None, or the `format` of `aligned` for the graph that is written.

        `chooses`: whether the files have an operator of their own that chooses detections.
        """
        return Graphs(network_graph(aligned(self.net, format=align) if align else self.net))

    def facts(self) -> Dict[str, Any]:
        """What a description says of the answers."""
        return {}

    def check_8_bits(self) -> None:
        """Raises ValueError for what has no form in 8 bits."""

    def ask(self, exact) -> Callable[..., Asked]:
        """What makes questions of a network whose answers are to be those of `exact`."""
        return partial(Question.of, exact)

    def expected(self, exact, images: np.ndarray) -> np.ndarray:
        """What the network answers in float32."""
        return float_logits(exact, images)

    def in_8_bits(self, found: np.ndarray, expected: np.ndarray) -> Int8Answers:
        """Judge answers in 8 bits."""
        figures, refused = agreement(found, expected), None
        if not np.isfinite(found).all():
            refused = "in 8 bits the logits are not finite on held-out calibration images"
        elif not figures["difference"] <= UNUSABLE:
            refused = (
                f"in 8 bits the logits differ by {figures['difference']:.2f} of their standard deviation (root mean "
                f"square); {UNUSABLE} is allowed.{_REMEDY}"
            )
        return Int8Answers(figures, largest_difference(found, expected), refused)


class Detections(Logits):
    """A detector gives boxes (N, K, 4), scores and classes (N, K); or all boxes (N, P, 4) with scores (N, P, classes).

    Args:
        net: The detector.
        all_boxes: Whether the files leave the choice of detections to others.
    """

    def __init__(self, net: Detector, all_boxes: bool):
        if net.not_exported:
            raise ValueError(f"{net.identity['model']} {net.not_exported}")
        self.detector, self.all_boxes = net, all_boxes
        self.choice = net.detections.choice

    def size(self, image_size: Optional[int]) -> int:
        own = self.detector.image_size
        if image_size not in (None, own):
            raise ValueError(f"the anchors of this detector are for images of {own} x {own}, not of {image_size}")
        return own

    def aligned(self, align: Optional[bool], pays: Callable[[ClassificationNet], bool]) -> bool:
        if align:
            raise ValueError("detectors have no aligned form; leave out align (--aligned)")
        return False

    def graphs(self, align: Optional[str], chooses: bool) -> Graphs:
        net = self.detector
        whole = every_graph(net) if self.all_boxes or chooses else network_graph(net)
        heads = whole._replace(symbol=inference_graph(net.predictor))
        outputs = (net.decode if self.all_boxes else net.choose)(mx.sym.var("logits"), mx.sym.var("offsets"))
        tail = whole._replace(symbol=mx.sym.Group(list(outputs)))
        choice = self.choice if chooses and not self.all_boxes else None
        return Graphs(_plain(whole), self.outputs, choice, _plain(heads), _plain(tail))

    @property
    def outputs(self) -> Sequence[str]:
        """Names of what the files give."""
        return ("boxes", "scores") if self.all_boxes else ("boxes", "scores", "classes")

    def facts(self) -> Dict[str, Any]:
        return {"task": DETECTION, "outputs": tuple(self.outputs), "selection": self.choice.as_table()}

    def ask(self, exact) -> Callable[..., Asked]:
        return partial(DetectionQuestion.of, exact, None if self.all_boxes else self.choice)

    def expected(self, exact, images: np.ndarray) -> Any:
        return of_float(exact, images, self.choice)

    def in_8_bits(self, found: Any, expected: Any) -> Int8Answers:
        if not all(np.isfinite(array).all() for array in found):
            return Int8Answers({}, np.nan, "in 8 bits boxes or scores are not finite on held-out calibration images")
        figures, refused = detections_agreement(chosen(found, self.choice), expected), None
        if figures["agreement"] < FEWEST_FOUND:
            refused = (
                f"in 8 bits {figures['agreement']:.0%} of the detections are found again, by their scores; at least "
                f"{FEWEST_FOUND:.0%} are needed.{_REMEDY}"
            )
        return Int8Answers(figures, 1 - figures["agreement"], refused)


class TwoStages(Detections):
    """A detector of two stages gives what others give; the boxes of `all_boxes` are those of what it proposes."""

    inner = (PROPOSED,)

    def graphs(self, align: Optional[str], chooses: bool) -> Graphs:
        net = self.detector
        graph = _plain(two_stage_graph(net, self.all_boxes, in_parts=chooses))
        choice = self.choice if chooses and not self.all_boxes else None
        return Graphs(graph, self.outputs, choice, stages=Stages.of(net) if chooses else None)

    def check_8_bits(self) -> None:
        raise ValueError(
            f"{self.detector.identity['model']} looks at regions that it proposes itself, and in 8 bits it would "
            "propose others; export it in float32"
        )

    def ask(self, exact) -> Callable[..., Asked]:
        return partial(TwoStageQuestion.of, exact, None if self.all_boxes else self.choice)


def _plain(graph: StaticGraph) -> StaticGraph:
    """A graph that does not say how its parameters began, which of constants is a place in memory."""
    content = json.loads(graph.symbol.tojson())
    for node in content["nodes"]:
        node.get("attrs", {}).pop("__init__", None)
    return graph._replace(symbol=mx.sym.load_json(json.dumps(content)))


def chosen(found: List[np.ndarray], choice: Choice) -> Any:
    """Return detections: what files give, or what is chosen of all boxes that they give."""
    return choose(found[0], found[1], choice) if len(found) == 2 else found


Answers = Union[Logits, Detections, TwoStages]


def answers_of(net, all_boxes: bool) -> Answers:
    """Return what a network answers. Raises ValueError if all boxes are asked of a network that has none."""
    if isinstance(net, FasterRCNN):
        return TwoStages(net, all_boxes)
    if isinstance(net, Detector):
        return Detections(net, all_boxes)
    if all_boxes:
        raise ValueError("all_boxes (--all-boxes) is for detectors; a classifier has no boxes")
    return Logits(net)
