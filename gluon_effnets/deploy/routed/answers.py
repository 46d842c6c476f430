"""What networks with a gate answer, logits or detections: their graphs, and what files of them are asked."""

from __future__ import annotations

from typing import Any, Dict, Optional, Union

import mxnet as mx
import numpy as np

from ...complexity import count
from ...detection.routed_fssd import RoutedFSSD
from ...models.card import usual_size
from ...models.slimmable import SlimmableNet
from ...nn.variants import inference_variants
from ..answers import Detections
from ..compare import Question
from ..compare_detections import DetectionQuestion
from ..graph.inference import StaticGraph, cpu_arrays, inference_graph, static_block
from ..graph.static import static_graph
from .router import RoutedGraphs, gate_channels, gate_widths, routed_graphs
from .stages import StagedGraphs, gates_madds, staged_graphs

__all__ = ["RoutedAnswers", "RoutedDetections", "RoutedLogits", "routed_answers"]


class RoutedLogits:
    """A slimmable classifier with one gate gives logits (N, classes)."""

    variant = "fused"  # of MXNet's, that files run in

    def __init__(self, net: SlimmableNet):
        self.net = net

    def size(self, image_size: Optional[int]) -> int:
        """The side of the images: what is asked for, or usual."""
        return image_size or usual_size(self.net)

    def graphs(self, chooses: bool, single_file: bool) -> Union[RoutedGraphs, StagedGraphs]:
        """The graphs; `chooses`: whether the format has an operator of its own that chooses detections."""
        several = single_file and isinstance(self.net, SlimmableNet) and self.net.num_choices > 1
        return staged_graphs(self.net) if several else routed_graphs(self.net)

    def content(self, chooses: bool) -> Dict[str, Any]:
        """What a tail's `Content` says beside its graph."""
        return {}

    def facts(self) -> Dict[str, Any]:
        """What a description says of the answers."""
        return {}

    def decisions(self, images: np.ndarray) -> np.ndarray:
        """Return the widths that the gate itself chooses, in float32 also where the network was trained otherwise."""
        net = self.net
        noise = mx.nd.zeros((len(images), len(net.gates), len(gate_widths(net))))
        paths = inference_graph(lambda x: net.route(x, mx.sym.var("noise")))
        found = static_block(StaticGraph(paths, {**cpu_arrays(net), "noise": noise}))(mx.nd.array(images)).asnumpy()
        return found[:, 0] if net.num_choices == 1 else found

    def ask(self, width: int, kind: str, images: np.ndarray) -> Union[Question, DetectionQuestion]:
        """Ask the network at one width."""
        return Question.of(self.net.subnet(width), kind, images)

    def madds(self, width: int, size: int) -> int:
        """The multiply-adds of an image that takes a width, in all stages alike, gates included."""
        whole = count(self.net.subnet(width), size).madds
        if self.net.num_choices > 1:
            return whole + gates_madds(self.net, width)
        return whole + self.net.gates[0].madds(gate_channels(self.net))


class RoutedDetections:
    """A routed detector gives boxes (N, K, 4), scores and classes (N, K)."""

    variant = "plain"  # near-equal detections change places, as `fused_where_right` does not know

    def __init__(self, net: RoutedFSSD):
        self.net = net
        # What is said of detections is the same at every width.
        self._each = Detections(net.at_width(net.widths[0]), all_boxes=False)

    def size(self, image_size: Optional[int]) -> int:
        return self._each.size(image_size)

    @inference_variants()
    def graphs(self, chooses: bool, single_file: bool) -> RoutedGraphs:
        net, views, data = self.net, self.net.predictor.views, mx.sym.var("data", dtype="float32")
        maps = views.common(data)
        head = mx.sym.Group([maps, mx.sym.argmax(views.decision(maps), axis=1)])
        answers, arrays = net.decode if chooses else net.choose, cpu_arrays(net)
        tails = {
            width: static_graph(mx.sym.Group(list(answers(*tail(data)))), arrays) for width, tail in views.tails.items()
        }
        return RoutedGraphs(static_graph(head, arrays), tails)

    def content(self, chooses: bool) -> Dict[str, Any]:
        return {"outputs": self._each.outputs, "choice": self._each.choice if chooses else None}

    def facts(self) -> Dict[str, Any]:
        return self._each.facts()

    def decisions(self, images: np.ndarray) -> np.ndarray:
        views, arrays = self.net.predictor.views, cpu_arrays(self.net)
        logits = static_block(StaticGraph(inference_graph(lambda x: views.decision(views.common(x))), arrays))
        return self.net.widths[0] + logits(mx.nd.array(images)).asnumpy().argmax(axis=1)

    def ask(self, width: int, kind: str, images: np.ndarray) -> Union[Question, DetectionQuestion]:
        return DetectionQuestion.of(self.net.at_width(width), self._each.choice, kind, images)

    def madds(self, width: int, size: int) -> int:
        base = self.net.predictor.net
        return count(self.net.at_width(width), size).madds + base.gates[0].madds(gate_channels(base))


RoutedAnswers = Union[RoutedLogits, RoutedDetections]


def routed_answers(net: Union[SlimmableNet, RoutedFSSD]) -> RoutedAnswers:
    """Return what a network with a gate answers."""
    return RoutedDetections(net) if isinstance(net, RoutedFSSD) else RoutedLogits(net)
