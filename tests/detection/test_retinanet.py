"""RetinaNet: the structure, anchors and postprocessing of the paper and of its implementations in PyTorch."""

import math

import detrand
import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.complexity import count_params
from gluon_effnets.detection import RetinaNet, get_detector
from gluon_effnets.detection.retinanet import SELECTION, Tower
from gluon_effnets.nn import FeaturePyramid

SMALL, SIDE, SIZES = "retinanet_mobilenext_x0_35", 128, (2304, 576, 144, 36, 9)


def small(classes=3, **options):
    mx.random.seed(0)
    net = get_detector(SMALL, classes, image_size=SIDE, **options)
    net.initialize()
    return net


def test_pyramid_and_towers_have_the_parameters_of_torchvision():
    """Of retinanet_resnet50_fpn_v2: 38,198,935 in all, of which ResNet-50 without classifier has 23,508,032.

    Its towers have group normalization, whose scale is all that they have more: 8 times 256.
    """
    parts = [FeaturePyramid([512, 1024, 2048], 256, 2), Tower(256, 4, 9, 91), Tower(256, 4, 9, 4)]
    assert sum(count_params(part) for part in parts) == 38_198_935 - 23_508_032 - 8 * 256


def anchors_of_mmdetection(side):
    """In pixels, one after the other: every stride, position, ratio and scale."""
    found = []
    for stride in (8, 16, 32, 64, 128):
        for place in range((side // stride) ** 2):
            y, x = (index * stride for index in divmod(place, side // stride))
            for ratio in (0.5, 1, 2):
                for scale in (4, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)):
                    found.append((x, y, stride * scale / math.sqrt(ratio), stride * scale * math.sqrt(ratio)))
    return np.array(found)


@pytest.mark.parametrize("side", [128, 384])
def test_anchors(side):
    net = get_detector(SMALL, 1, image_size=side)
    found = net.anchors.asnumpy() * side
    assert np.abs(found - anchors_of_mmdetection(side)).max() < 1e-3
    # torchvision's, which are rounded to pixels: corners of the first position.
    corners = [(-22, -11, 22, 11), (-28, -14, 28, 14), (-35, -18, 35, 18), (-16, -16, 16, 16), (-20, -20, 20, 20)]
    ours = np.concatenate([found[:5, :2] - found[:5, 2:] / 2, found[:5, :2] + found[:5, 2:] / 2], 1)
    assert np.abs(ours - corners).max() < 1


def our_names(net):
    """Our parameters by torchvision's names."""
    pyramid, names = net.predictor.pyramid, {}

    def add(path, layer):
        names[f"{path}.weight"], names[f"{path}.bias"] = layer.weight, layer.bias

    for number, (lateral, smooth) in enumerate(zip(pyramid.laterals, pyramid.smooth)):
        add(f"backbone.fpn.inner_blocks.{number}.0", lateral)
        add(f"backbone.fpn.layer_blocks.{number}.0", smooth)
    for name, layer in zip(("p6", "p7"), pyramid.extra):
        add(f"backbone.fpn.extra_blocks.{name}", layer)
    for path, last, tower in (
        ("classification_head", "cls_logits", net.predictor.class_head),
        ("regression_head", "bbox_reg", net.predictor.box_head),
    ):
        for number, layer in enumerate(tower.convs):
            add(f"head.{path}.conv.{number}.0", layer)
        add(f"head.{path}.{last}", tower.output)
    return names


def test_the_structure_in_pytorch_gives_the_same_answers_and_detections():
    torch = pytest.importorskip("torch")
    import torch_retinanet

    net = small()
    *shapes, _ = net.predictor.backbone.map_shapes(SIDE)
    theirs = torch_retinanet.RetinaNet([width for width, _ in shapes], 64, 3).double().eval()
    state = {key: detrand.tensor(key, tuple(value.shape)) for key, value in theirs.state_dict().items()}
    theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    names = our_names(net)
    assert names.keys() == state.keys()
    for key, param in names.items():
        param.set_data(mx.nd.array(state[key]))
    net.cast("float64")
    net.hybridize()
    images = mx.nd.array(detrand.images(1, SIDE, 0), dtype="float64")
    maps = [torch.tensor(x.asnumpy()) for x in net.predictor.backbone(images)[:3]]
    with torch.no_grad():
        logits, offsets = theirs(maps)
    ours = [array.asnumpy() for array in net.predictions(images)]
    assert (ours[0][..., 0] == 0).all()
    assert np.abs(ours[0][..., 1:] - logits.numpy()).max() / logits.std() < 1e-10
    assert np.abs(ours[1] - offsets.numpy()).max() / offsets.std() < 1e-10

    shares = net.anchors.asnumpy().astype(np.float64)
    corners = np.concatenate([shares[:, :2] - shares[:, 2:] / 2, shares[:, :2] + shares[:, 2:] / 2], 1) * SIDE
    boxes, scores, labels = (array.asnumpy()[0] for array in net(images))
    wanted = torch_retinanet.detections(logits[0], offsets[0], torch.tensor(corners), SIZES, SIDE)
    number = len(wanted)
    assert number > 50
    assert np.abs(scores[:number] - [row[0] for row in wanted]).max() < 1e-9
    assert (labels[:number] == [row[1] for row in wanted]).all() and (labels[number:] == -1).all()
    assert np.abs(boxes[:number] - [row[2] for row in wanted]).max() < 1e-3


@pytest.mark.parametrize("hybridized", [False, True])
def test_every_map_brings_its_best_pairs_alone(hybridized):
    torch = pytest.importorskip("torch")
    import torch_retinanet

    net = small(selection=SELECTION._replace(per_level=7))
    random = np.random.RandomState(0)
    logits, offsets = random.standard_normal((2, 3069, 4)) * 2, random.standard_normal((2, 3069, 4)) / 4
    logits[1] = -9  # nothing on the second image
    if hybridized:
        net.detections.hybridize()
    boxes, scores, labels = (array.asnumpy() for array in net.detections(mx.nd.array(logits), mx.nd.array(offsets)))
    shares = net.anchors.asnumpy()
    corners = np.concatenate([shares[:, :2] - shares[:, 2:] / 2, shares[:, :2] + shares[:, 2:] / 2], 1)
    inputs = (torch.tensor(logits[0, :, 1:]), torch.tensor(offsets[0]), torch.tensor(corners).double())
    wanted = torch_retinanet.detections(*inputs, SIZES, 1, per_level=7)
    assert scores.shape == (2, 5 * 7) and 20 < len(wanted) <= 35
    number = len(wanted)
    assert np.abs(scores[0, :number] - [row[0] for row in wanted]).max() < 1e-5
    assert (labels[0, :number] == [row[1] for row in wanted]).all()
    assert np.abs(boxes[0, :number] - [row[2] for row in wanted]).max() < 1e-5
    assert (scores[0, number:] == -1).all() and (labels[0, number:] == -1).all() and (boxes[1] == -1).all()


def test_pairs_beyond_the_whole_numbers_of_float32_are_told_apart(monkeypatch):
    """Numbers of pairs are counted in float64 where float32 would lose some."""
    from gluon_effnets.detection import boxes

    net = small()
    random = np.random.RandomState(1)
    inputs = [mx.nd.array(random.standard_normal((1, 3069, values))) for values in (4, 4)]
    wanted = [array.asnumpy() for array in net.detections(*inputs)]
    monkeypatch.setattr(boxes, "EXACT", 1)
    assert all(np.array_equal(a.asnumpy(), b) for a, b in zip(net.detections(*inputs), wanted))


def test_untrained_classes_are_rare_and_the_background_says_nothing():
    net = small()
    logits, _ = net.predictions(mx.nd.array(detrand.images(2, SIDE, 0)))
    scores = logits[:, :, 1:].sigmoid().asnumpy()
    assert abs(scores.mean() - 0.01) < 1e-3 and (logits[:, :, 0].asnumpy() == 0).all()


def test_new_classes_keep_the_towers():
    net = small()
    tower = net.predictor.class_head.convs[0].weight.data().asnumpy()
    net.reset_class(["a", "b"])
    assert np.array_equal(net.predictor.class_head.convs[0].weight.data().asnumpy(), tower)
    x = mx.nd.array(detrand.images(1, SIDE, 0))
    assert net.predictions(x)[0].shape == (1, 3069, 3)
    assert np.allclose(net.predictor.class_head.output.bias.data().asnumpy(), -math.log(99))


def test_classes_in_another_order():
    net, order, x = small(), [0, 2, 3, 1], mx.nd.array(detrand.images(1, SIDE, 0))
    logits, offsets = (array.asnumpy() for array in net.predictions(x))
    assert net.predictor.reorder_class_heads(order)
    found = [array.asnumpy() for array in net.predictions(x)]
    assert np.array_equal(found[0], logits[:, :, order]) and np.array_equal(found[1], offsets)


def test_sides_and_strides_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="image_size is 300; it must be a multiple of 128"):
        get_detector(SMALL, image_size=300)
    with pytest.raises(ValueError, match=r"pyramid is for maps of \[16, 8, 4\] pixels"):
        RetinaNet(get_model("mobilenext_x0_35"), 2, [1, 2, 3], image_size=128)


def test_normalization_of_images_is_that_of_the_network():
    base = get_model("mobilenext_x0_35")
    base.preprocessing = base.preprocessing._replace(mean=(1.0, 2.0, 3.0), crop=0.9)
    net = RetinaNet(base, 2, image_size=128, channels=16)
    assert net.preprocessing.mean == (1.0, 2.0, 3.0) and net.preprocessing.crop is None
