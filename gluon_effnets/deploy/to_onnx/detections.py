"""ONNX files of detectors: decoding as the graph has it, and behind it the choice of detections by ONNX's own operator.

MXNet's operator for it keeps rows of boxes beside their scores, a copy for each class. ONNX's `NonMaxSuppression` takes
the boxes once, and names pairs of a box and a class; from there on, only these few are handled.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..._requirements import optional_import
from ...runtime.detections import Choice, Limit
from ..graph.inference import StaticGraph
from ..graph.nodes import read_graph, simplify
from .files import write_model
from .idle_blocks import LANES, block_idle_runs
from .operators import OnnxNodes

__all__ = ["OUTPUTS", "Candidates", "Choosing", "detection_results", "write_onnx_detector"]

OUTPUTS = ("boxes", "scores", "classes")
_ALL = ("all_boxes", "all_scores")
_FLOAT, _INT32 = 1, 6  # of onnx.TensorProto


def write_onnx_detector(
    graph: StaticGraph,
    prefix: Path,
    image: Tuple[int, ...],
    batch: Optional[int],
    choice: Choice,
    blocks: int = LANES,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write <prefix>.onnx, checked: `data` (N, *image) -> `boxes` (N, K, 4), `scores` (N, K), `classes` (N, K).

    Parameters
    ----------
    graph : from `data` to all boxes (N, P, 4) and scores (N, P, classes).
    choice : of detections.
    image, batch, blocks, metadata : as of `write_onnx_file`.

    Raises as `write_onnx_file` does.
    """
    ends = simplify(read_graph(*graph, image, batch))
    entries = dict(zip(_ALL, block_idle_runs(ends, blocks)))
    made = OnnxNodes(entries, taken=set(OUTPUTS))
    made.release(OUTPUTS)
    anchors, classes = (entries["all_scores"].size(axis) for axis in (1, 2))
    number = min(choice.per_image, anchors * classes)
    Choosing(made, choice, anchors, number).add()
    return write_model(prefix, made, [batch, *image], detection_results(batch, number), metadata)


def detection_results(batch: Optional[int], number: int) -> List[Any]:
    """Return the declarations of what files give of `number` detections of an image."""
    helper = optional_import("onnx", "onnx", "export to ONNX").helper
    shapes: Dict[str, List[Any]] = {"boxes": [number, 4], "scores": [number], "classes": [number]}
    return [helper.make_tensor_value_info(name, _FLOAT, [batch or "N", *shape]) for name, shape in shapes.items()]


class Candidates(NamedTuple):
    """Names of what suppression leaves of all images, (M,) each: score, number of the image, class, place of a box."""

    values: str
    image: str
    label: str
    box: str


class Choosing:
    """Adds the nodes that choose `number` detections of every image from all boxes, of any number of images.

    `boxes`, `scores`, `names` : of all boxes (N, P, 4) and scores (N, P, classes), and of what is chosen.
    """

    def __init__(
        self,
        graph: OnnxNodes,
        choice: Choice,
        anchors: int,
        number: int,
        every: Tuple[str, ...] = _ALL,
        names: Sequence[str] = OUTPUTS,
    ):
        self.graph, self.choice, self.anchors, self.number = graph, choice, anchors, number
        (self.boxes, self.scores), self.names = every, names

    def candidates(self) -> Candidates:
        """Add the nodes that suppress; return what they leave."""
        scores = self.graph.add("Transpose", [self.scores], "scores_by_class", perm=(0, 2, 1))
        parts = self.compared_parts(scores)
        compared = parts[0] if len(parts) == 1 else self.graph.add("Concat", parts, "compared", axis=2)
        return self.suppressed(self.boxes, compared, scores)

    def suppressed(self, boxes: str, compared: str, scores: str) -> Candidates:
        """Add suppression among boxes (N, P, 4) by scores (N, classes, P), of which some may be below the others'."""
        graph = self.graph
        most = graph.integers([self.number], "detections")
        limits = [self._limit(value) for value in (self.choice.overlap, self.choice.score_above)]
        # (M, 3): image, class and box of what is left in any image, as the next ones.
        chosen = graph.add("NonMaxSuppression", [boxes, compared, most, *limits], "chosen")
        values = graph.add("GatherND", [scores, chosen], "chosen_scores")
        columns = (
            graph.add("Gather", [chosen, graph.integers(column, "column")], f"chosen_{what}", axis=1)
            for column, what in enumerate(("image", "class", "box"))
        )
        return Candidates(values, *columns)

    def add(self) -> List[str]:
        """Add all nodes; return the names of boxes, scores and, if there is a name for them, classes."""
        graph, number = self.graph, self.number
        values, image, label, box = self.candidates()
        most = graph.integers([number], "detections")
        # Behind them as many of no image: an image may have fewer detections, or none.
        values, nothing = self._filled(values, -1, np.float32), graph.constant(np.float32(-1), "nothing")
        own = graph.add("Equal", [self._images(), self._filled(image, -1, np.int64)], "is_own")
        table = graph.add("Where", [own, values, nothing], "own_scores")
        names = list(self.names)
        best, places = graph.add_parts("TopK", [table, most], [names[1], "places"], axis=1)
        found = graph.add("Greater", [best, graph.constant(np.float32(0), "zero")], "is_found")
        if len(names) > 2:
            labels = graph.add("Gather", [self._filled(label, -1, np.int64), places], "labels", axis=0)
            labels = graph.add("Cast", [labels], "float_labels", to=_FLOAT)
            graph.add("Where", [found, labels, nothing], names[2])
        last = graph.integers([-1], "last")
        boxes = graph.add("Gather", [self._filled(box, 0, np.int64), places], "box_places", axis=0)
        boxes = graph.add("Unsqueeze", [boxes, last], "box_indices")
        boxes = graph.add("GatherND", [self.boxes, boxes], "chosen_boxes", batch_dims=1)
        graph.add("Where", [graph.add("Unsqueeze", [found, last], "is_found_box"), boxes, nothing], names[0])
        return names

    def _filled(self, array: str, value: int, kind: type) -> str:
        filling = self.graph.constant(np.full(self.number, value, kind), "filling")
        return self.graph.add("Concat", [array, filling], f"{array}_filled", axis=0)

    def _images(self) -> str:
        """The numbers of the images, (N, 1)."""
        graph = self.graph
        shape = graph.add("Shape", [self.boxes], "shape_of_boxes")
        number = graph.add("Gather", [shape, graph.integers(0, "zero")], "num_images", axis=0)
        images = graph.add("Range", [graph.integers(0, "zero"), number, graph.integers(1, "one")], "images")
        return graph.add("Unsqueeze", [images, graph.integers([-1], "last")], "images_by_row")

    def compared_parts(self, scores: str) -> List[str]:
        """Return scores (N, classes, P) with -1 for those that are not among the best, in the parts of the limits."""
        graph, parts = self.graph, []
        for limit in self.choice.limits:
            part = scores
            if (limit.begin, limit.end) != (0, self.anchors):
                ends = [graph.integers([value], "end") for value in (limit.begin, limit.end, 2)]
                part = graph.add("Slice", [scores, *ends], "scores_of_map")
            parts.append(self._best(part, limit))
        return parts or [scores]

    def _best(self, part: str, limit: Limit) -> str:
        """Scores with -1 in place of those that are not among the best, which is computed where there are more."""
        graph = self.graph
        above = graph.add("Greater", [part, self._limit(self.choice.score_above)], "is_above")
        above = graph.add("Cast", [above], "above", to=_INT32)
        axes = graph.integers([2] if limit.per_class else [1, 2], "axes")
        count = graph.add("ReduceSum", [above, axes], "num_above", keepdims=0)
        most = graph.add("ReduceMax", [count], "most_above", keepdims=0)
        are_more = graph.add("Greater", [most, graph.constant(np.int32(limit.best), "best")], "are_more")
        # To sort all scores takes as long as half of a network, and photographs seldom need it.
        some = graph.branch("some", lambda: self._without_others(part, limit))
        all_of_them = graph.branch("all", lambda: graph.add("Identity", [part], "same_scores"))
        return graph.add("If", [are_more], "compared_scores", then_branch=some, else_branch=all_of_them)

    def _without_others(self, part: str, limit: Limit) -> str:
        graph, rows = self.graph, part
        if not limit.per_class:
            rows = graph.add("Reshape", [part, graph.integers([0, 1, -1], "shape")], "as_pairs")
        best = graph.integers([limit.best], "best")
        highest, _ = graph.add_parts("TopK", [rows, best], ["highest", "places"], axis=2)
        # The least of them, of every class or of all pairs.
        ends = [graph.integers([value], "end") for value in (limit.best - 1, limit.best, 2)]
        least = graph.add("Slice", [highest, *ends], "least")
        below = graph.add("Less", [part, least], "is_below")
        return graph.add("Where", [below, graph.constant(np.float32(-1), "nothing"), part], "best_scores")

    def _limit(self, value: float) -> str:
        return self.graph.constant(np.float32(value), "limit")
