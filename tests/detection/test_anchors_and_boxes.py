"""Anchors, decoding and the choice of detections, against formulas of their own, GluonCV and PyTorch."""

import math

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets._gluoncv import import_gluoncv
from gluon_effnets.detection import AnchorLevel, Detections, Selection, anchor_boxes, encode, get_detector

pytestmark = pytest.mark.fast


def corners(anchors):
    return np.concatenate([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1)


def test_anchors_of_torchvision():
    """First and last ones, in pixels, as torchvision 0.28 gives them."""
    found = corners(get_detector("ssdlite320_mobilenet_v3_large").anchors.asnumpy()) * 320
    first = [
        (-24, -24, 40, 40),
        (-34.332, -34.332, 50.332, 50.332),
        (-37.2548, -14.6274, 53.2548, 30.6274),
        (-14.6274, -37.2548, 30.6274, 53.2548),
        (-47.4256, -10.4752, 63.4256, 26.4752),
        (-10.4752, -47.4256, 26.4752, 63.4256),
    ]
    last = [(0, 72.2428, 320, 247.7572), (72.2428, 0, 247.7572, 320)]
    assert found.shape == (3234, 4)
    assert np.abs(found[:6] - first).max() < 1e-3 and np.abs(found[-2:] - last).max() < 1e-3
    assert np.allclose((found.min(), found.max()), (-106.67, 426.67), atol=0.01)


@pytest.mark.parametrize(
    ("classes", "second", "last_ratios"),
    [(20, (120, 180, 220, 260, 300, 320), (2, 3)), (80, (90, 135, 180, 225, 270, 315), (2,))],
)
def test_anchors_of_the_third_party_detectors(classes, second, last_ratios):
    """One box after the other, by the words of the paper."""
    wanted = []
    levels = zip((20, 10, 5, 3, 2, 1), (16, 32, 64, 120, 160, 320), (45, 90, 135, 180, 225, 270), second)
    for side, step, small, large in levels:
        for place in range(side * side):
            y, x = ((index + 0.5) * step for index in divmod(place, side))
            wanted += [(x, y, small, small), (x, y, math.sqrt(small * large), math.sqrt(small * large))]
            for ratio in last_ratios if side == 1 else (2, 3):
                wide = (x, y, small * math.sqrt(ratio), small / math.sqrt(ratio))
                wanted += [wide, (x, y, wide[3], wide[2])]
    found = get_detector("ssdlite320_mobilenet_v2_x1_0", classes).anchors.asnumpy() * 320
    assert np.abs(found - np.clip(wanted, 0, 320)).max() < 1e-3


def test_anchors_of_gluoncv():
    generator = import_gluoncv("model_zoo.ssd.anchor").SSDAnchorGenerator(
        0, (320, 320), (64, 112), (1, 2, 0.5, 3, 1 / 3), 32, (16, 16), clip=True
    )
    generator.initialize()
    theirs = generator(mx.nd.zeros((1, 1, 10, 10))).asnumpy()[0] / 320
    ours = anchor_boxes([AnchorLevel(10, 32 / 320, 64 / 320, 112 / 320)])
    assert np.abs(ours - theirs).max() < 1e-6


def made_up(classes, seed=0, number=200):
    """Anchors, logits and offsets of one image, with clearly different scores."""
    random = np.random.RandomState(seed)
    anchors = np.concatenate([random.uniform(0.1, 0.9, (number, 2)), random.uniform(0.1, 0.5, (number, 2))], 1)
    logits = random.permutation(number * (classes + 1)).reshape(1, number, classes + 1) / (number * (classes + 1)) * 8
    return anchors, logits, random.standard_normal((1, number, 4))


def decoded(anchors, offsets, largest=math.inf):
    centers = offsets[:, :2] * 0.1 * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(np.minimum(offsets[:, 2:] * 0.2, largest)) * anchors[:, 2:] / 2
    return np.concatenate([centers - half, centers + half], 1)


def overlap(a, b):
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return sides.prod() / (sum(areas) - sides.prod())


def chosen(boxes, scores, selection):
    """Detections of an image, by falling score: (score, class, box)."""
    found = []
    for label in range(scores.shape[1]):
        order = [one for one in np.argsort(-scores[:, label]) if scores[one, label] > selection.score_above]
        kept = []
        for one in order[: selection.per_class]:
            if all(overlap(boxes[one], boxes[other]) <= selection.overlap for other in kept):
                kept.append(one)
        found += [(scores[one, label], label, boxes[one]) for one in kept]
    return sorted(found, key=lambda row: -row[0])[: selection.per_image]


SELECTIONS = [
    Selection(),
    Selection(0.4, 0.3, per_class=20, per_image=50),
    Selection(0.9, scores="sigmoid", per_image=30),
    Selection(0.001, 0.55, 300, 300, largest_growth=1.2, inside=True),
]


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("hybridized", [False, True])
def test_detections_are_decoded_and_chosen_class_by_class(selection, hybridized):
    classes = 3
    anchors, logits, offsets = made_up(classes)
    block = Detections(anchors, classes, selection)
    block.initialize()
    if hybridized:
        block.hybridize(static_alloc=True, static_shape=True)
    # A second image with nothing on it.
    nothing = np.full_like(logits, -50)
    nothing[..., 0] = 50
    inputs = [mx.nd.array(np.concatenate(pair)) for pair in ((logits, nothing), (offsets, offsets))]
    boxes, scores, labels = (array.asnumpy() for array in block(*inputs))

    powers = np.exp(logits[0])
    shares = powers / powers.sum(1, keepdims=True) if selection.scores == "softmax" else 1 / (1 + 1 / powers)
    growth = math.log(selection.largest_growth) if selection.largest_growth else math.inf
    all_boxes = decoded(anchors, offsets[0], growth)
    wanted = chosen(np.clip(all_boxes, 0, 1) if selection.inside else all_boxes, shares[:, 1:], selection)
    number = len(wanted)
    assert 10 < number <= selection.per_image == boxes.shape[1] == scores.shape[1]
    assert np.abs(scores[0, :number] - [row[0] for row in wanted]).max() < 1e-6
    assert (labels[0, :number] == [row[1] for row in wanted]).all()
    assert np.abs(boxes[0, :number] - [row[2] for row in wanted]).max() < 1e-5
    assert (boxes[0, number:] == -1).all() and (scores[0, number:] == -1).all() and (labels[0, number:] == -1).all()
    assert (boxes[1] == -1).all() and (scores[1] == -1).all() and (labels[1] == -1).all()


def test_detections_of_torchvision():
    torch = pytest.importorskip("torch")
    import torch_ssdlite

    net = get_detector("ssdlite320_mobilenet_v3_large", classes=2)
    net.initialize()
    random = np.random.RandomState(0)
    logits, offsets = random.standard_normal((3234, 3)) * 3, random.standard_normal((3234, 4))
    net.cast("float64")
    found = net.detections(*(mx.nd.array(array[None], dtype="float64") for array in (logits, offsets)))
    boxes, scores, labels = (array.asnumpy()[0] for array in found)
    anchors = torch.tensor(net.anchors.asnumpy()).double()
    wanted = torch_ssdlite.detections(torch.tensor(logits), torch.tensor(offsets), anchors, 2)
    number = len(wanted)
    assert number > 50
    assert np.abs(scores[:number] - [row[0] for row in wanted]).max() < 1e-12
    assert (labels[:number] == [row[1] for row in wanted]).all() and (labels[number:] == -1).all()
    assert np.abs(boxes[:number] * 320 - [row[2] for row in wanted]).max() < 1e-3


def test_encoding_is_the_inverse_of_decoding():
    anchors, _, offsets = made_up(1)
    boxes = mx.nd.array(decoded(anchors, offsets[0]))
    assert np.abs(encode(boxes, mx.nd.array(anchors)).asnumpy() - offsets[0]).max() < 1e-4


def test_unknown_scores_are_refused():
    with pytest.raises(ValueError, match="softmax"):
        Detections(np.zeros((1, 4)), 1, Selection(scores="max"))
