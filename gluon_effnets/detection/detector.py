"""Detector: the contract that every detector of the package keeps."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ..models import Preprocessing, params
from ..models.card import HasCard, order_of
from ..models.training_graph import CompiledTraining
from .boxes import Detections, Selection
from .classes import check_classes
from .losses import Criterion, Losses, MultiBox
from .targets import Matching

__all__ = ["Detector", "Predictor"]


class Predictor(CompiledTraining):
    """What every detector learns: images -> logits (N, P, classes + 1), the background first, and offsets (N, P, 4)."""

    def default_initializer(self) -> mx.init.Initializer:
        """The initializer of all layers that have none of their own."""
        return mx.init.Xavier()

    def make_class_heads(self, classes: int) -> None:
        """Replace the heads for the classes by new ones, for `classes` of them beside the background."""
        raise NotImplementedError

    def reorder_class_heads(self, order: Sequence[int]) -> bool:
        """Let the logits of an anchor be those at the places in `order` now; return whether this is possible."""
        return False


class Detector(HasCard, CompiledTraining):
    """Base of all detectors: images (N, in_channels, side, side) -> boxes, scores and classes of what is on them.

    A call means the same in training and in evaluation, hybridized or not, and before and after either. Training takes
    `losses`: of the `predictions`, by the targets of `matching` and by `criterion`. A detector that learns more than
    what its anchors answer has its own.

    Args:
        predictor: What is learned.
        anchors: (P, 4), see `anchor_boxes`.
        classes: Number of the classes without the background, or their names.
        image_size: Side of the images, in pixels.
        selection: How detections are chosen among the boxes.
        definition: What decides the outputs but shows in no shape, see `ClassificationNet.definition`.
        in_channels: Channels of the images.
        make_detections: Makes the layer that decodes and chooses, from anchors, number of classes and selection.

    Attributes:
        predictor: (N, in_channels, side, side) -> logits, offsets.
        num_classes: Without the background.
        classes: Their names, or None.
        anchors: (P, 4): center x, center y, width and height, in shares of the image.
        image_size: Side of the images, in pixels.
        in_channels: Channels of the images.
        info: DetectorInfo of a registered detector.
        preprocessing, origin, card: As of a `ClassificationNet`.
        matching: Which anchors learn which boxes.
        criterion: What their answers lack.
        not_exported: Why there is no way out for it, as the end of a sentence; empty where there is.

    Raises:
        ValueError: For fewer than one class.

    Example:
        >>> net = get_detector("ssdlite320_mobilenext_x1_0", classes=20)
        >>> net.initialize()
        >>> boxes, scores, classes = net(mx.nd.zeros((1, 3, 320, 320)))
    """

    info: Any = None
    matching: Matching = Matching()
    criterion: Criterion = MultiBox()
    not_exported: str = ""

    def __init__(
        self,
        predictor: Predictor,
        anchors: np.ndarray,
        classes: Union[int, Sequence[str]],
        image_size: int,
        selection: Selection = Selection(),
        definition: Optional[Mapping[str, Any]] = None,
        in_channels: int = 3,
        make_detections: Callable[[np.ndarray, int, Selection], Detections] = Detections,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._names = None if isinstance(classes, int) else tuple(classes)
        count = classes if isinstance(classes, int) else len(classes)
        if count < 1:
            raise ValueError(f"there are {count} classes; a detector needs at least 1, the background not counted")
        self.image_size, self.in_channels = image_size, in_channels
        self._anchors, self._definition = anchors.astype(np.float32), dict(definition or {})
        with self.name_scope():
            self.predictor = predictor
            self.detections = make_detections(anchors, count, selection)

    @property
    def num_classes(self) -> int:
        """Number of the classes, without the background."""
        return self.detections.num_classes

    @property
    def classes(self) -> Optional[List[str]]:
        """The names of the classes, or None."""
        return None if self._names is None else list(self._names)

    @classes.setter
    def classes(self, names: Optional[Sequence[str]]) -> None:
        if names is not None and len(names) != self.num_classes:
            raise ValueError(f"there are {len(names)} names, but {self.num_classes} classes")
        self._names = None if names is None else tuple(names)

    @property
    def usual_preprocessing(self) -> Preprocessing:
        """What is done to images where the card leaves it open: resized to the detector's side, in whatever ratio."""
        return Preprocessing(interpolation="bilinear", crop=1.0, image_size=self.image_size)

    @property
    def anchors(self) -> mx.nd.NDArray:
        """The anchors, (P, 4): center x, center y, width and height, in shares of the image."""
        return mx.nd.array(self._anchors)

    def hybrid_forward(self, F, x):
        return self.choose(*self.predictor(x))

    def choose(self, *predictions):
        """Return what a call makes of what the predictor gives: boxes in pixels of the images, scores and classes."""
        F = mx.sym if isinstance(predictions[0], mx.sym.Symbol) else mx.nd
        return self._in_pixels(F, *self.detections(*predictions))

    def _in_pixels(self, F, boxes, scores, classes):
        """Detections with boxes in pixels of the images, -1 where there is none."""
        found = F.broadcast_like(F.expand_dims(scores, axis=2) > 0, boxes)
        return F.where(found, boxes * self.image_size, boxes), scores, classes

    def decode(self, *predictions):
        """Return what `all_boxes` makes of what the predictor gives: all boxes in pixels of the images, and scores."""
        boxes, scores = self.detections.every(*predictions)
        return boxes * self.image_size, scores

    def predictions(self, x) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Return what the network says of every anchor, as a loss takes it.

        Args:
            x: Images (N, in_channels, side, side).

        Returns:
            Logits (N, P, classes + 1), the background first, and offsets (N, P, 4) of the boxes from the anchors.
        """
        return tuple(self.predictor(x))

    def losses(self, x, boxes, label) -> Losses:
        """Return the parts of the loss of a batch; within `autograd.record()` gradients follow from them.

        Args:
            x: Images (N, in_channels, side, side).
            boxes: (N, M, 4): x and y of two corners in shares of the image; any numbers where there is no box.
            label: (N, M): classes from 0; -1 where there is no box.

        Example:
            >>> with mx.autograd.record():
            ...     sums, counts = net.losses(x, boxes, label)
            ...     loss = sum(sums[part] / mx.nd.maximum(1, counts[part]) for part in sums)
        """
        logits, offsets = self.predictions(x)
        decoder = self.detections
        targets = self.matching(decoder.anchors.data(x.context)[0], boxes, label, decoder.variances)
        return self.criterion(logits, offsets, *targets)

    def _wait_for_statistics(self):
        # It is the predictor that trains, or parts of it, by graphs of their own.
        for block in (self.predictor, *self.predictor._children.values()):
            if isinstance(block, CompiledTraining):
                block._wait_for_statistics()
        super()._wait_for_statistics()

    def all_boxes(self, x) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Return every box with its scores, before any is chosen, as runtimes without suppression give them.

        Args:
            x: Images (N, in_channels, side, side).

        Returns:
            Boxes (N, P, 4), x and y of two corners in pixels of `x`, and scores (N, P, classes).
        """
        return self.decode(*self.predictor(x))

    def detect(self, x, sizes) -> Tuple[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray]:
        """Return detections in pixels of the original images, their boxes cut to these.

        Args:
            x: Images (N, in_channels, side, side), resized to the detector's side with whatever ratio.
            sizes: Height and width of the original images, (N, 2) or (2,) for all of them, in pixels.

        Returns:
            Boxes (N, K, 4) as x and y of two corners, scores (N, K), classes (N, K); -1 where there is no detection.
        """
        boxes, scores, classes = self._in_pixels(mx.nd, *self.detections.chosen(*self.predictor(x)))
        sizes = np.broadcast_to(np.asarray(sizes, np.float32), (x.shape[0], 2))
        ends = mx.nd.array(np.tile(sizes[:, None, ::-1], (1, 1, 2)), ctx=boxes.context)
        inside = mx.nd.maximum(mx.nd.broadcast_minimum(mx.nd.broadcast_mul(boxes, ends / self.image_size), ends), 0)
        found = mx.nd.broadcast_like(scores.expand_dims(2) > 0, boxes)
        return mx.nd.where(found, inside, boxes), scores, classes

    def initialize(self, init: Optional[mx.init.Initializer] = None, ctx=None, verbose=False, force_reinit=False):
        """Initialize the parameters that have no values yet, or all of them; without `init` as the authors do."""
        init = init or self.predictor.default_initializer()
        for param in self.collect_params().values():
            if param._data is None or force_reinit:
                param.initialize(None, ctx, init, force_reinit=force_reinit)
            elif ctx is not None:
                param.reset_ctx(ctx)

    def reset_class(self, classes: Union[int, Sequence[str]]) -> None:
        """Replace the heads for the classes by new ones, initialized if the detector is; all else stays.

        Args:
            classes: Their number without the background, or their names.

        Raises:
            ValueError: For fewer than one class, or too many.
            TypeError: For what is neither a number nor names.
        """
        check_classes(classes, "classes")
        names = None if isinstance(classes, int) else tuple(classes)
        count = classes if isinstance(classes, int) else len(classes)
        known = next(iter(self.collect_params().values()))
        self.predictor.make_class_heads(count)
        self.detections.num_classes, self._names = count, names
        self.apply(lambda block: block._clear_cached_op() if isinstance(block, HybridBlock) else None)
        if known._data is not None:
            self.initialize(ctx=known.list_ctx())

    def reorder_classes(self, names: Sequence[str]) -> bool:
        """Put the classes in the order of the given names.

        Returns whether they are the names of `classes`, each of them once, and the heads can be put in another order;
        if not, nothing changes.
        """
        places = None if self.classes is None else order_of(self.classes, names)
        if places is None or not self.predictor.reorder_class_heads([0, *(1 + place for place in places)]):
            return False
        self.classes = list(names)
        return True

    def definition(self) -> Dict[str, Any]:
        """What decides the outputs but shows in no shape."""
        return {"in_channels": self.in_channels, "image_size": self.image_size, **self._definition}

    @property
    def identity(self) -> Dict[str, Any]:
        """Name and definition: what `save_parameters` stores, and `load_parameters` compares."""
        name = self.info.name if self.info else type(self).__name__
        return {"model": name, **self.definition()}

    def save_parameters(self, filename: str, deduplicate: bool = False) -> None:
        """As Gluon's, with identity and card in the file, which is written whole or not at all."""
        params.save(self, filename)

    def load_parameters(
        self, filename, ctx=None, allow_missing=False, ignore_extra=False, cast_dtype=False, dtype_source="current"
    ) -> None:
        """Load weights of `save_parameters`; nothing changes unless all of it fits.

        Raises:
            FileNotFoundError: Without the file.
            ValueError: For the weights of another network.
        """
        stored, cast = params.read(filename), {"cast_dtype": cast_dtype, "dtype_source": dtype_source}
        params.assign(self, stored, filename, ctx=ctx, allow_missing=allow_missing, ignore_extra=ignore_extra, **cast)
