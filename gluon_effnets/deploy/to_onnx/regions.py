"""ONNX files of detectors of two stages: proposals and regions by ONNX's own operators in place of MXNet's.

MXNet's graph aligns every region on every map of a pyramid and keeps one of the results. Here the regions of a map are
gathered first, and put in their order again behind it.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import List, Mapping, Optional, Tuple

import numpy as np

from ...runtime.detections import Choice
from ..graph.inference import StaticGraph
from ..graph.nodes import Entry, Node, read_graph, simplify, sorted_nodes
from ..two_stages import PROPOSALS, Stages
from .detections import OUTPUTS, Candidates, Choosing, detection_results
from .files import value_info, write_model
from .operators import OnnxNodes

__all__ = ["write_onnx_two_stages"]

_FLOAT, _INT64 = 1, 7  # of onnx.TensorProto


def write_onnx_two_stages(
    graph: StaticGraph,
    prefix: Path,
    image: Tuple[int, ...],
    batch: Optional[int],
    stages: Stages,
    choice: Optional[Choice],
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write <prefix>.onnx, checked: `data` (N, *image) -> `boxes`, `scores` and, unless all are given, `classes`.

    Parameters
    ----------
    graph : gives what `Stages` says.
    stages : of the detector.
    choice : of detections; None: all boxes and scores.
    image, batch, metadata : as of `write_onnx_file`.

    Raises as `write_onnx_file` does.
    """
    ends = simplify(_with_operators(read_graph(*graph, image, batch)))
    own = {"proposals": _proposals(stages), "aligned": _aligned(stages)}
    if choice is None:
        entries = dict(zip(OUTPUTS, ends))
        results = [value_info(name, entry) for name, entry in entries.items()]
        return write_model(prefix, OnnxNodes(entries, own=own), [batch, *image], results, metadata)
    entries = dict(zip(("all_boxes", "all_scores"), ends))
    made = OnnxNodes(entries, taken=set(OUTPUTS), own=own)
    made.release(OUTPUTS)
    number = min(choice.per_image, entries["all_boxes"].size(1))
    _ChoosingByRegion(made, choice, stages, number).add()
    return write_model(prefix, made, [batch, *image], detection_results(batch, number), metadata)


def _with_operators(ends: List[Entry]) -> List[Entry]:
    """The first two outputs of a graph, in which one node makes the proposals and another one aligns the regions."""
    boxes, scores, *found, anchors, of_anchors, pooled, corners = ends[:9]
    maps = ends[9:]
    proposals = Node("proposals", "chosen", inputs=[anchors, of_anchors], shapes=[entry.shape for entry in found])
    aligned = Node("aligned", "aligned", inputs=[corners, *maps], shapes=[pooled.shape])
    others = {**{entry: Entry(proposals, place) for place, entry in enumerate(found)}, pooled: Entry(aligned)}
    for node in sorted_nodes(ends):
        node.inputs = [others.get(entry, entry) for entry in node.inputs]
    return [boxes, scores]


def _proposals(stages: Stages):
    def convert(graph: OnnxNodes, node: Node, inputs: List[str]) -> List[str]:
        number, anchors = node.shapes[0][1], node.inputs[0].size(1)
        assert number is not None, "the number of proposals is fixed"
        return _ChoosingByMap(graph, stages.proposals, anchors, number, tuple(inputs), PROPOSALS).add()

    return convert


def _aligned(stages: Stages):
    def convert(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
        return _Aligning(graph, stages, *inputs).add(node.name)

    return convert


class _ChoosingByMap(Choosing):
    """Chooses proposals among the boxes of all anchors: overlaps count within a map alone."""

    def candidates(self) -> Candidates:
        graph = self.graph
        scores = graph.add("Transpose", [self.scores], "anchor_scores", perm=(0, 2, 1))
        every: List[Candidates] = []
        for number, (limit, compared) in enumerate(zip(self.choice.limits, self.compared_parts(scores))):
            ends = [graph.integers([value], "end") for value in (limit.begin, limit.end, 1)]
            boxes = graph.add("Slice", [self.boxes, *ends], "boxes_of_map")
            part = self.suppressed(boxes, compared, compared)
            place = graph.add("Add", [part.box, graph.integers(limit.begin, "begin")], "place_of_anchor")
            label = graph.add("Add", [part.label, graph.integers(number, "map")], "map_of_anchor")
            every.append(part._replace(label=label, box=place))
        if len(every) == 1:
            return every[0]
        return Candidates(*(graph.add("Concat", list(kind), "of_all_maps", axis=0) for kind in zip(*every)))


class _ChoosingByRegion(Choosing):
    """Chooses detections where every region has a box for each class: all boxes of a class are one image of them."""

    def __init__(self, graph: OnnxNodes, choice: Choice, stages: Stages, number: int):
        super().__init__(graph, choice, 0, number)
        self._classes = stages.classes

    def candidates(self) -> Candidates:
        graph, classes = self.graph, self._classes
        boxes = graph.add("Reshape", [self.boxes, graph.integers([0, -1, classes, 4], "shape")], "boxes_of_regions")
        boxes = graph.add("Transpose", [boxes], "boxes_by_class", perm=(0, 2, 1, 3))
        # The number of the boxes of a class is known, unlike that of the images.
        scores = graph.add("Transpose", [self.scores], "scores_by_class", perm=(0, 2, 1))
        rows = graph.add("Shape", [scores], "shape_of_scores")
        rows = graph.add("Gather", [rows, graph.integers([2], "axis")], "num_regions", axis=0)
        minus, one = graph.integers([-1], "any"), graph.integers([1], "single")
        shape = graph.add("Concat", [minus, rows, graph.integers([4], "corners")], "shape_of_boxes_of_class", axis=0)
        boxes = graph.add("Reshape", [boxes, shape], "boxes_of_class")
        shape = graph.add("Concat", [minus, one, rows], "shape_of_scores_of_class", axis=0)
        scores = graph.add("Reshape", [scores, shape], "scores_of_class")
        found = self.suppressed(boxes, scores, scores)
        number = graph.integers(classes, "num_classes")
        image = graph.add("Div", [found.image, number], "image_of_class")
        label = graph.add("Sub", [found.image, graph.add("Mul", [image, number], "first_of_image")], "class_of_image")
        box = graph.add("Add", [graph.add("Mul", [found.box, number], "first_of_region"), label], "box_of_region")
        return Candidates(found.values, image, label, box)


class _Aligning:
    """Adds the nodes that pool regions from the maps that fit their sizes."""

    def __init__(self, graph: OnnxNodes, stages: Stages, corners: str, *maps: str):
        self._graph, self._stages, self._corners, self._maps = graph, stages, corners, maps

    def add(self, name: str) -> str:
        """Add them; return the name of what is pooled."""
        graph, corners = self._graph, self._corners
        images = self._images()
        if len(self._maps) == 1:
            return self._of_map(0, corners, images, name)
        level = self._level()
        parts, places = [], []
        for number in range(len(self._maps)):
            own = graph.add("Equal", [level, graph.integers(number, "map")], "is_of_map")
            own = graph.add("NonZero", [own], "regions_of_map")
            own = graph.add("Squeeze", [own, graph.integers([0], "first")], "places_of_map")
            rows, of = (graph.add("Gather", [array, own], "of_map", axis=0) for array in (corners, images))
            parts.append(self._of_map(number, rows, of, "pooled_of_map"))
            places.append(own)
        together = graph.add("Concat", parts, "pooled_by_map", axis=0)
        order = graph.add("Concat", places, "places_by_map", axis=0)
        count = graph.add("Shape", [order], "shape_of_places")
        count = graph.add("Squeeze", [count, graph.integers([0], "first")], "num_places")
        range_ = graph.add("Range", [graph.integers(0, "zero"), count, graph.integers(1, "one")], "numbers_of_places")
        back = graph.add("ScatterElements", [order, order, range_], "places_in_order", axis=0)
        return graph.add("Gather", [together, back], name, axis=0)

    def _images(self) -> str:
        """The number of the image of every region, (N R,)."""
        graph = self._graph
        shape = graph.add("Shape", [self._corners], "shape_of_corners")
        rows = graph.add("Gather", [shape, graph.integers(0, "zero")], "num_corners", axis=0)
        numbers = graph.add("Range", [graph.integers(0, "zero"), rows, graph.integers(1, "one")], "numbers_of_regions")
        of_image = graph.integers(self._stages.proposals.per_image, "regions_of_image")
        return graph.add("Div", [numbers, of_image], "images_of_regions")

    def _level(self) -> str:
        """The number of the map of every region, (N R,)."""
        graph, parts = self._graph, []
        for begin in (0, 2):
            ends = [graph.integers([value], "end") for value in (begin, begin + 2, 1)]
            parts.append(graph.add("Slice", [self._corners, *ends], "corner"))
        sides = graph.add("Sub", parts[::-1], "sides_of_regions")
        area = graph.add("ReduceProd", [sides, graph.integers([1], "axis")], "areas_of_regions", keepdims=1)
        limits = graph.constant(np.array([self._stages.areas], np.float32), "areas_of_maps")
        below = graph.add("Cast", [graph.add("Less", [area, limits], "is_below")], "below", to=_INT64)
        number = graph.add("ReduceSum", [below, graph.integers([1], "axis")], "maps_above", keepdims=0)
        return graph.add("Sub", [graph.integers(len(self._maps) - 1, "last_map"), number], "map_of_region")

    def _of_map(self, number: int, corners: str, images: str, name: str) -> str:
        stages = self._stages
        # Whether regions begin between pixels, or at whole ones as in operators before opset 16.
        begin = "half_pixel" if stages.aligned else "output_half_pixel"
        return self._graph.add(
            "RoiAlign",
            [self._maps[number], corners, images],
            name,
            mode="avg",
            output_height=stages.side,
            output_width=stages.side,
            sampling_ratio=max(stages.sample_ratio, 0),
            spatial_scale=1 / stages.strides[number],
            coordinate_transformation_mode=begin,
        )
