"""Which anchor learns which box, against loops written from the papers and the authors' codes."""

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets.detection import Matching, anchor_boxes, encode, get_detector
from gluon_effnets.detection.anchors import AnchorLevel

ANCHORS = anchor_boxes([AnchorLevel(6, 1 / 6, 0.25, 0.4), AnchorLevel(2, 1 / 2, 0.6, 0.9, (2,))]).astype(np.float32)
# Of equal overlaps rounding decides: these are all different.
UNEQUAL = np.random.RandomState(7).uniform([0, 0, 0.1, 0.1], [1, 1, 0.6, 0.6], (150, 4)).astype(np.float32)
RETINA = Matching(0.5, 0.4, all_best=True)


def corners(anchors):
    return np.concatenate([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], axis=1)


def overlap(a, b):
    """Intersection over union of two boxes."""
    sides = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    common = sides[0] * sides[1]
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - common
    return common / union if union > 0 else 0.0


def by_loops(matching, anchors, boxes, label):
    """Classes (P,) and places of the boxes (P,) of one image, of which -1 has none."""
    own = corners(anchors.astype(np.float64))
    known = [m for m in range(len(label)) if label[m] >= 0]
    overlaps = {m: np.array([overlap(boxes[m].astype(np.float64), anchor) for anchor in own]) for m in known}
    classes, places = np.zeros(len(anchors)), np.full(len(anchors), -1)
    for p in range(len(anchors)):
        best = max(known, key=lambda m: (overlaps[m][p], -m), default=None)
        if best is None:
            continue
        if overlaps[best][p] >= matching.at_least:
            classes[p], places[p] = label[best] + 1, best
        elif overlaps[best][p] >= matching.below:
            classes[p] = -1
    for m in known:
        most = overlaps[m].max()
        if most > 0:
            best = (
                np.flatnonzero(np.isclose(overlaps[m], most, rtol=1e-4))
                if matching.all_best
                else [int(overlaps[m].argmax())]
            )
            classes[best], places[best] = label[m] + 1, m
    return classes, places


def targets(matching, boxes, label, anchors=ANCHORS):
    arrays = (mx.nd.array(np.asarray(array, np.float32)) for array in (anchors, boxes, label))
    return [array.asnumpy() for array in matching(*arrays)]


def random_boxes(random, images, most, sides):
    """Boxes (images, most, 4) and labels, of which some places are empty, in any order."""
    ends = random.uniform(*sides, (images, most, 2))
    first = random.uniform(0, 1 - ends)
    boxes, label = np.concatenate([first, first + ends], axis=2), random.randint(0, 5, (images, most))
    empty = random.uniform(size=label.shape) < 0.3
    return np.where(empty[..., None], -1, boxes).astype(np.float32), np.where(empty, -1, label)


@pytest.mark.parametrize("matching", [Matching(), Matching(0.35, 0.35), RETINA, Matching(0.6, 0.2)])
@pytest.mark.parametrize("sides", [(0.1, 0.9), (0.01, 0.05)])
def test_random_boxes(matching, sides):
    boxes, label = random_boxes(np.random.RandomState(0), 12, 6, sides)
    classes, offsets = targets(matching, boxes, label, UNEQUAL)
    anchors = mx.nd.array(UNEQUAL)
    for n in range(len(boxes)):
        wanted, places = by_loops(matching, UNEQUAL, boxes[n], label[n])
        assert (classes[n] == wanted).all()
        have = places >= 0
        expected = encode(mx.nd.array(boxes[n][places]), anchors).asnumpy()
        assert np.abs(offsets[n] - expected)[have].max(initial=0) < 1e-5
        assert (offsets[n][~have] == 0).all()
        assert set(label[n][label[n] >= 0] + 1) >= set(classes[n][classes[n] > 0])


def test_detector_with_thousands_of_anchors():
    net = get_detector("ssdlite320_mobilenext_x0_35", 5)
    anchors = net.anchors.asnumpy()
    boxes, label = random_boxes(np.random.RandomState(1), 2, 4, (0.02, 0.8))
    classes, _ = targets(net.matching, boxes, label, anchors)
    for n in range(2):
        assert (classes[n] == by_loops(net.matching, anchors, boxes[n], label[n])[0]).all()


def test_images_without_a_box_are_background_alone():
    classes, offsets = targets(Matching(), np.full((2, 3, 4), -1), np.full((2, 3), -1))
    assert classes.shape == (2, len(ANCHORS)) and not classes.any() and not offsets.any()
    # Whatever stands where there is no box.
    assert not targets(RETINA, np.tile([0.0, 0.0, 1.0, 1.0], (1, 2, 1)), np.full((1, 2), -1))[0].any()


def test_every_box_gets_its_best_anchor_and_an_equal_later_box_takes_it():
    box = corners(ANCHORS)[7]
    classes, _ = targets(Matching(), [[box, box, [-1] * 4]], [[0, 3, -1]])
    assert classes[0][7] == 4
    assert set(classes[0]) <= {0, 1, 4}


def test_a_tiny_box_gets_one_anchor_and_all_equal_ones_of_retinanet():
    # In the middle of four equal anchors.
    center = (ANCHORS[0, :2] + ANCHORS[6 * 7, :2]) / 2
    box = [*(center - 0.02), *(center + 0.02)]
    assert (targets(Matching(), [[box]], [[2]])[0] == 3).sum() == 1
    assert (targets(RETINA, [[box]], [[2]])[0] == 3).sum() == 4


def test_boxes_that_nothing_overlaps_get_none():
    without_area, outside = [0.5, 0.5, 0.5, 0.7], [2.0, 2.0, 3.0, 3.0]
    for matching in (Matching(), RETINA):
        classes, offsets = targets(matching, [[without_area, outside]], [[0, 1]])
        assert not classes.any() and np.isfinite(offsets).all()


def test_thresholds_belong_to_the_upper_side():
    anchors = np.array([[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]], np.float32)
    half = [0.25, 0.25, 0.75, 0.5]  # half of the first anchor, so an overlap of exactly 0.5
    whole = [0.0, 0.0, 0.5, 0.5]
    classes, _ = targets(Matching(), [[whole, half]], [[0, 1]], anchors)
    assert classes.tolist() == [[2, 1]]
    third = anchors + np.array([0, 0, 0.25, 0], np.float32) * [[1], [0]]
    other, _ = targets(Matching(0.9, 0.5), [[whole, half, half]], [[0, 1, 1]], np.concatenate([anchors, third[:1]]))
    assert other[0][0] == 2


def test_as_torch_has_it():
    torch = pytest.importorskip("torch")
    boxes, label = random_boxes(np.random.RandomState(3), 6, 5, (0.05, 0.7))
    own = torch.tensor(corners(UNEQUAL))
    for n in range(len(boxes)):
        known = label[n] >= 0
        if not known.any():
            continue
        given = torch.tensor(boxes[n][known])
        low, high = (
            torch.maximum(given[:, None, :2], own[None, :, :2]),
            torch.minimum(given[:, None, 2:], own[None, :, 2:]),
        )
        common = (high - low).clamp(min=0).prod(dim=2)
        areas = [(array[:, 2:] - array[:, :2]).prod(dim=1) for array in (given, own)]
        quality = common / (areas[0][:, None] + areas[1] - common)
        # torchvision's Matcher(0.5, 0.5) and what SSDMatcher adds.
        values, matches = quality.max(dim=0)
        matches[values < 0.5] = -1
        for place, anchor in enumerate(quality.max(dim=1)[1]):
            matches[anchor] = place
        wanted = np.where(matches.numpy() < 0, 0, label[n][known][matches.numpy()] + 1)
        assert (targets(Matching(), boxes[n : n + 1], label[n : n + 1], UNEQUAL)[0][0] == wanted).all()
