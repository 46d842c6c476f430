"""Faster R-CNN: anchors, proposals, regions, detections and losses, each against an answer found otherwise."""

import math

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model
from gluon_effnets._gluoncv import import_gluoncv
from gluon_effnets.detection import FasterRCNN, get_detector
from gluon_effnets.detection.boxes import VARIANCES, Selection
from gluon_effnets.detection.rcnn_parts import C4, FPN, RegionDetections, proposal_selection
from gluon_effnets.detection.rcnn_targets import Drawn, Sampling, draw, draw_regions
from gluon_effnets.detection.targets import Matching
from gluon_effnets.runtime.detections import choose

SMALL, SIDE = "faster_rcnn_mobilenet_v1_x0_25", 128
PYRAMID = FPN._replace(pyramid=16, hidden=32, rpn_channels=16, proposals=(60, 40), training_proposals=(80, 60))
BOXES = np.array([[(0.1, 0.1, 0.6, 0.5), (-1, -1, -1, -1)], [(0.2, 0.3, 0.9, 0.9), (0.5, 0.5, 0.7, 0.7)]], np.float32)
LABEL = np.array([[1, -1], [0, 2]], np.float32)
KINDS = ["one map", "pyramid"]


def small(kind="one map", classes=3):
    mx.random.seed(0)
    if kind == "one map":
        net = get_detector(SMALL, classes, image_size=SIDE)
    else:
        net = FasterRCNN(get_model("mobilenet_v1_x0_25", classes=1), classes, PYRAMID, image_size=SIDE)
    net.initialize()
    # So that classes and boxes of regions differ clearly.
    for layer in (net.predictor.regions.classes, net.predictor.regions.offsets, net.predictor.proposing.offsets):
        layer.initialize(mx.init.Normal(0.3), force_reinit=True)
        layer.weight.set_data(mx.nd.random.normal(0, 0.3, layer.weight.shape))
    return net


def images(n=2, seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal((n, 3, SIDE, SIDE)))


def values(outputs):
    return [array.asnumpy() for array in outputs]


def corners_of(anchors):
    return np.concatenate([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1)


def test_anchors_of_one_map_are_those_of_the_caffe_code():
    generator = import_gluoncv("model_zoo.rcnn.rpn.anchor").RPNAnchorGenerator(
        16, 16, (0.5, 1, 2), (8, 16, 32), (38, 38)
    )
    generator.initialize()
    theirs = generator(mx.nd.zeros((1, 1, 38, 38))).asnumpy()[0]
    theirs[:, 2:] += 1  # the last pixel that belongs to a box, where ours is its end
    net = FasterRCNN(get_model("mobilenet_v1_x0_25", classes=1), 1, C4, image_size=600)
    assert np.abs(corners_of(net.anchors.asnumpy()) * 600 - theirs).max() < 1e-3


def test_anchors_of_a_pyramid_are_those_of_mmdetection():
    wanted = []
    for stride in (4, 8, 16, 32, 64):
        for place in range((SIDE // stride) ** 2):
            y, x = (index * stride for index in divmod(place, SIDE // stride))
            wanted += [(x, y, 8 * stride / math.sqrt(ratio), 8 * stride * math.sqrt(ratio)) for ratio in (0.5, 1, 2)]
    assert np.abs(small("pyramid").anchors.asnumpy() * SIDE - wanted).max() < 1e-3


def overlap(a, b):
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    areas = [(box[2:] - box[:2]).prod() for box in (a, b)]
    union = sum(areas) - sides.prod()
    return sides.prod() / union if union > 0 else 0


def suppressed(rows, limit):
    """Rows of score, kind and box by falling score, without those that overlap a better one of their kind."""
    kept = []
    for row in sorted(rows, key=lambda row: -row[0]):
        if all(row[1] != other[1] or overlap(row[2], other[2]) <= limit for other in kept):
            kept.append(row)
    return kept


@pytest.mark.parametrize("training", [False, True])
def test_proposals_are_chosen_map_by_map_for_every_image(training):
    net = small("pyramid")
    per_level, per_image = PYRAMID.training_proposals if training else PYRAMID.proposals
    random = np.random.RandomState(0)
    number = len(net.anchors)
    logits = random.permutation(2 * number).reshape(2, number) / number * 4 - 4
    offsets = random.standard_normal((2, number, 4)) / 2
    block, inputs = net.predictor.proposals, (mx.nd.array(np.stack([0 * logits, logits], 2)), mx.nd.array(offsets))
    if training:
        chosen = proposal_selection(per_level, per_image)
        boxes, scores, _ = values(block.choose(mx.nd, *inputs, block.anchors.data(), chosen))
    else:
        boxes, scores, _ = values(block(*inputs))
    anchors = net.anchors.asnumpy()
    sizes = [3 * (SIDE // stride) ** 2 for stride in (4, 8, 16, 32, 64)]
    for image in range(2):
        rows, begin = [], 0
        for level, size in enumerate(sizes):
            order = begin + np.argsort(-logits[image, begin : begin + size])[:per_level]
            begin += size
            for one in order:
                center = offsets[image, one, :2] * anchors[one, 2:] + anchors[one, :2]
                half = np.exp(offsets[image, one, 2:]) * anchors[one, 2:] / 2
                box = np.clip(np.concatenate([center - half, center + half]), 0, 1)
                rows.append((1 / (1 + math.exp(-logits[image, one])), level, box))
        wanted = suppressed(rows, 0.7)[:per_image]
        assert len(wanted) == per_image == len(scores[image])
        assert np.abs(scores[image] - [row[0] for row in wanted]).max() < 1e-6
        assert np.abs(boxes[image] - [row[2] for row in wanted]).max() < 1e-5


def test_regions_of_a_pyramid_are_read_from_the_map_of_their_size():
    """Maps that say which they are, and where one is in them: what comes out is the middle of every position."""
    net = FasterRCNN(get_model("mobilenet_v1_x0_25", classes=1), 1, PYRAMID._replace(pyramid=3), image_size=1024)
    regions, maps = net.predictor.regions, []
    for level, stride in enumerate((4, 8, 16, 32)):
        middles = (np.arange(1024 // stride) + 0.5) * stride
        y, x = np.meshgrid(middles, middles, indexing="ij")
        maps.append(mx.nd.array(np.tile(np.stack([np.full_like(x, level + 1), x, y]), (2, 1, 1, 1))))
    boxes = np.array(
        [
            [(300, 200, 410, 300), (100, 100, 213, 213), (50, 60, 274, 284), (60, 90, 900, 560), (0, 0, 0, 0)],
            [(500, 500, 519, 590), (200, 300, 400, 500), (40, 40, 480, 480), (30, 70, 1000, 990), (-1, -1, -1, -1)],
        ],
        np.float32,
    )
    corners = boxes.reshape(-1, 4)
    image, given = regions.rows(mx.nd, mx.nd.array(boxes / 1024))
    assert image.asnumpy().ravel().tolist() == [0] * 5 + [1] * 5
    for _ in range(2):
        mx.nd.full((10, 3, 7, 7), np.nan).wait_to_read()
        found = regions.pooled(mx.nd, image, given, maps).asnumpy()
        # MXNet wrote zeros into the first region, one for every region that does not read a map.
        assert (found[:, 0].round(3) == np.array([1, 2, 3, 4, 1] * 2)[:, None, None])[[0, 1, 2, 3, 5, 6, 7, 8]].all()
        for row, (left, top, right, bottom) in zip(found[:4], corners):
            columns = left + (np.arange(7) + 0.5) * (right - left) / 7
            lines = top + (np.arange(7) + 0.5) * (bottom - top) / 7
            assert np.abs(row[1] - columns).max() < 1e-2 and np.abs(row[2] - lines[:, None]).max() < 1e-2


def test_detections_are_chosen_class_by_class_among_the_boxes_of_regions():
    classes, number, selection = 3, 40, Selection(0.2, 0.3, per_image=30, inside=True, largest_growth=1.5)
    block = RegionDetections(classes, number, selection)
    random = np.random.RandomState(0)
    logits = random.permutation(2 * number * 4).reshape(2, number, 4) / (2 * number * 4) * 6
    offsets = random.standard_normal((2, number, 4 * classes))
    middle, half = random.uniform(0.2, 0.8, (2, number, 2)), random.uniform(0.05, 0.3, (2, number, 2))
    regions, found = np.concatenate([middle - half, middle + half], 2), np.ones((2, number))
    found[:, 30:] = -1  # no proposals
    block.hybridize()
    boxes, scores, labels = values(block(*map(mx.nd.array, (logits, offsets, regions, found))))
    shares = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    for image in range(2):
        rows = []
        for place in range(30):
            for label in range(classes):
                dx = offsets[image, place, 4 * label : 4 * label + 4] * VARIANCES
                center = dx[:2] * 2 * half[image, place] + middle[image, place]
                side = np.exp(np.minimum(dx[2:], math.log(1.5))) * half[image, place]
                score = shares[image, place, label + 1]
                if score > 0.2:
                    rows.append((score, label, np.clip(np.concatenate([center - side, center + side]), 0, 1)))
        wanted = suppressed(rows, 0.3)[:30]
        count = len(wanted)
        assert 10 < count
        assert np.abs(scores[image, :count] - [row[0] for row in wanted]).max() < 1e-6
        assert (labels[image, :count] == [row[1] for row in wanted]).all()
        assert np.abs(boxes[image, :count] - [row[2] for row in wanted]).max() < 1e-5
        assert (scores[image, count:] == -1).all() and (labels[image, count:] == -1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_chosen_of_all_boxes_is_what_a_call_gives(kind):
    net = small(kind)
    everything = values(net.all_boxes(images()))
    number = net.predictor.proposals.selection.per_image * 3
    assert [array.shape for array in everything] == [(2, number, 4), (2, number, 3)]
    boxes, scores, labels = choose(*everything, net.detections.choice)
    wanted = values(net(images()))
    assert np.abs(scores - wanted[1]).max() < 1e-5 and (scores > 0).sum() > 20
    for image in range(2):  # of equal scores any may come first
        rows = [np.column_stack([array[image], label[image]]) for array, label in ((boxes, labels), wanted[::2])]
        distances = np.abs(rows[0][:, None] - rows[1]).max(axis=2)
        assert distances.min(axis=1).max() < 1e-2 and distances.min(axis=0).max() < 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_has_one_meaning_for_every_image_before_and_after_training(kind):
    net, x = small(kind), images()
    plain = values(net(x))
    assert plain[0].max() > 1 and (plain[1][:, :5] > 0).all()  # in pixels
    for image in range(2):
        alone = values(net(x[image : image + 1]))
        assert all(np.abs(a[image] - b[0]).max() < 1e-3 for a, b in zip(plain, alone))
    net.hybridize(static_alloc=True, static_shape=True)
    before = values(net(x))
    assert all(np.abs(a - b).max() < 1e-3 for a, b in zip(plain, before))
    known = {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}
    with autograd.record():
        sums, counts = net.losses(x, mx.nd.array(BOXES), mx.nd.array(LABEL))
        loss = sum(sums[part] / mx.nd.maximum(1, counts[part]) for part in sums)
    loss.backward()
    params = [param for param in net.collect_params().values() if param.grad_req != "null"]
    assert all(np.abs(param.grad().asnumpy()).max() > 0 for param in params if param.name.endswith("weight"))
    moved = [key for key, param in net._collect_params_with_prefix().items() if not same(param, known[key])]
    assert moved and all("running" in key for key in moved)
    for key, param in net._collect_params_with_prefix().items():
        param.set_data(mx.nd.array(known[key]))
    after = values(net(x))
    assert all(np.array_equal(a, b) for a, b in zip(before, after))
    with autograd.train_mode():
        assert [output.shape for output in net(x)] == [output.shape for output in before]


def same(param, array):
    return np.array_equal(param.data().asnumpy(), array)


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_two_images(kind):
    net, x = small(kind), images()
    net.hybridize()
    for layer in (net.predictor.regions.classes, net.predictor.regions.offsets, net.predictor.proposing.offsets):
        layer.weight.set_data(layer.weight.data() / 30)
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.02, "momentum": 0.9})
    found = []
    for _ in range(16):
        with autograd.record():
            sums, counts = net.losses(x, mx.nd.array(BOXES), mx.nd.array(LABEL))
            loss = sum(sums[part] / mx.nd.maximum(1, counts[part]) for part in sums)
        loss.backward()
        trainer.step(1)
        found.append({part: float((sums[part] / counts[part]).asscalar()) for part in sums})
    # The losses of boxes grow while more regions are right.
    assert found[0].keys() == {"rpn_class", "rpn_box", "class", "box"}
    assert found[-1]["rpn_class"] < 0.6 * found[0]["rpn_class"] and found[-1]["class"] < 0.8 * found[0]["class"]


def test_what_is_drawn():
    classes = np.zeros((3, 400), np.float32)
    classes[0, :100], classes[1, 5], classes[2, :3], classes[2, 3:] = 1, 2, 1, -1
    classes[1, 200:] = -1
    mx.random.seed(0)
    drawn = draw(mx.nd.array(classes), Sampling(64, 0.25)).asnumpy()
    assert drawn.sum(1).tolist() == [64, 64, 3] and set(np.unique(drawn)) == {0, 1}
    assert [(drawn[image] * (classes[image] > 0)).sum() for image in range(3)] == [16, 1, 3]
    assert (drawn * (classes < 0)).sum() == 0
    again = draw(mx.nd.array(classes), Sampling(64, 0.25)).asnumpy()
    assert not np.array_equal(drawn[0], again[0])  # by chance
    mx.random.seed(0)
    assert np.array_equal(draw(mx.nd.array(classes), Sampling(64, 0.25)).asnumpy(), drawn)


def test_regions_that_are_drawn_and_their_targets():
    random = np.random.RandomState(0)
    middle, half = random.uniform(0.3, 0.7, (2, 200, 2)), random.uniform(0.05, 0.3, (2, 200, 2))
    regions = np.concatenate([middle - half, middle + half], 2)
    valid = np.ones((2, 200))
    valid[1, 100:] = 0
    regions[1, 100:] = -1
    arrays = [mx.nd.array(array) for array in (regions, valid, BOXES, LABEL)]
    drawn = [array.asnumpy() for array in draw_regions(*arrays, Sampling(120, 0.25))]
    assert [array.shape for array in drawn] == [(2, 120, 4), (2, 120), (2, 120, 4)]
    for image in range(2):
        number = int((LABEL[image] >= 0).sum())
        boxes = BOXES[image, :number].astype(np.float64)
        known = {tuple(np.float32(row)) for row in [*regions[image][valid[image] > 0], *boxes]}
        positive = 0
        for region, label, offsets in zip(*(array[image] for array in drawn)):
            if label == -1:
                assert (offsets == 0).all()
                continue
            assert tuple(region) in known
            overlaps = [overlap(region.astype(np.float64), box) for box in boxes]
            best = int(np.argmax(overlaps))
            if overlaps[best] < 0.5:
                assert label == 0 and (offsets == 0).all()
                continue
            positive += 1
            assert label == LABEL[image, best] + 1
            sides, center = region[2:] - region[:2], (region[2:] + region[:2]) / 2
            dx = offsets * VARIANCES
            new_center, half_side = dx[:2] * sides + center, np.exp(dx[2:]) * sides / 2
            assert np.abs(np.concatenate([new_center - half_side, new_center + half_side]) - boxes[best]).max() < 1e-5
        assert 0 < positive <= 30
        # Of the second image there are 102 regions, and no more positive ones than their share.
        assert (drawn[1][image] >= 0).sum() == (120 if image == 0 else (drawn[1][1] == 0).sum() + positive)


def test_losses_of_regions():
    net = small()
    random = np.random.RandomState(0)
    logits, offsets = random.standard_normal((2, 5, 4)), random.standard_normal((2, 5, 12)) * 2
    classes, wanted = np.array([[0, 1, 3, -1, 2], [0, 0, -1, 1, -1]]), random.standard_normal((2, 5, 4))
    drawn = Drawn(mx.nd.zeros((2, 5, 4)), mx.nd.array(classes), mx.nd.array(wanted))
    sums, counts = net._losses_of_regions(mx.nd.array(logits), mx.nd.array(offsets), drawn)
    entropy = box = number = 0
    for place in np.ndindex(2, 5):
        label = classes[place]
        if label < 0:
            continue
        number += 1
        entropy += np.log(np.exp(logits[place]).sum()) - logits[place][label]
        if label:
            distance = np.abs(offsets[place][4 * label - 4 : 4 * label] - wanted[place])
            box += np.where(distance < 1, distance**2 / 2, distance - 0.5).sum()
    assert (counts["class"].asscalar(), counts["box"].asscalar()) == (number, number)
    assert abs(sums["class"].asscalar() - entropy) < 1e-4 and abs(sums["box"].asscalar() - box) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_anchors(kind):
    """All anchors are drawn, of one map those alone that are within the image."""
    net = small(kind)
    everything = Sampling(100000, 1.0)
    net.form = net.form._replace(anchors_drawn=everything)
    number = len(net.anchors)
    random = np.random.RandomState(0)
    logits, offsets = random.standard_normal((2, number, 2)), random.standard_normal((2, number, 4)) / 5
    arrays = [mx.nd.array(array) for array in (logits, offsets, BOXES, LABEL)]
    sums, counts = net._losses_of_anchors(*arrays)
    anchors = net.anchors.asnumpy()
    corners = corners_of(anchors)
    learning = np.ones(number, bool)
    if kind == "one map":
        learning = ((corners >= -1e-6) & (corners <= 1 + 1e-6)).all(1)
        assert 0 < learning.sum() < number
    places = np.flatnonzero(learning)
    there = mx.nd.array(np.minimum(LABEL, 0))
    targets = Matching(0.7, 0.3, all_best=True)(mx.nd.array(anchors[places]), mx.nd.array(BOXES), there, (1, 1, 1, 1))
    classes, wanted = values(targets)
    beta = 1 / 9 if kind == "one map" else 0
    entropy = box = 0
    for image in range(2):
        for row, place in enumerate(places):
            label = classes[image, row]
            if label < 0:
                continue
            score = logits[image, place, 1]
            entropy += math.log1p(math.exp(-score)) if label else math.log1p(math.exp(score))
            if label:
                distance = np.abs(offsets[image, place] - wanted[image, row])
                box += np.where(distance < beta, distance**2 / (2 * beta or 1), distance - beta / 2).sum()
    assert counts["rpn_class"].asscalar() == counts["rpn_box"].asscalar() == (classes >= 0).sum()
    assert (classes > 0).any(axis=1).all()
    assert abs(sums["rpn_class"].asscalar() / entropy - 1) < 1e-4 and abs(sums["rpn_box"].asscalar() / box - 1) < 1e-4


def test_files_and_classes(tmp_path):
    net, x, path = small(), images(1), str(tmp_path / "net.params")
    net.save_parameters(path)
    other = get_detector(SMALL, 3, image_size=SIDE)
    other.load_parameters(path)
    assert all(np.array_equal(a, b) for a, b in zip(values(net(x)), values(other(x))))
    with pytest.raises(ValueError, match="image_size"):
        get_detector(SMALL, 3, image_size=160).load_parameters(path)
    net.hybridize()
    head = net.predictor.proposing.objectness.weight.data().asnumpy()
    net.reset_class(["a", "b"])
    assert same(net.predictor.proposing.objectness.weight, head) and net(x)[2].asnumpy().max() <= 1
    assert net.predictor.regions.offsets.weight.shape[0] == 8


def test_classes_in_another_order():
    net, order, x = small(), [0, 2, 3, 1], images(1)
    logits, offsets, *_ = values(net.predictor(x))
    assert net.predictor.reorder_class_heads(order)
    found = values(net.predictor(x))
    boxes = offsets.reshape((*offsets.shape[:2], 3, 4))[:, :, [1, 2, 0]]
    assert np.array_equal(found[0], logits[:, :, order])
    assert np.array_equal(found[1], boxes.reshape(offsets.shape))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_no_numbers_do_not_end_the_process(kind):
    """Regions of NaN made MXNet read outside of its memory."""
    net = small(kind)
    net.predictor.proposing.offsets.bias.set_data(mx.nd.full((net.predictor.proposing.offsets.bias.shape[0],), np.nan))
    boxes, *_ = values(net(images()))
    assert np.isnan(boxes).any()


def test_what_it_is_not():
    net, x = small(), images(1)
    with pytest.raises(ValueError, match=r"a call detects, losses\(x, boxes, label\) trains"):
        net.predictions(x)
    with pytest.raises(ValueError, match="with a pyramid image_size must be a multiple of the last stride"):
        FasterRCNN(get_model("mobilenet_v1_x0_25"), 2, PYRAMID, image_size=100)
    with pytest.raises(ValueError, match="have 8 positions|have \\[8\\] positions"):
        FasterRCNN(get_model("mobilenet_v1_x0_25"), 2, C4._replace(taps=(2,)), image_size=128)
