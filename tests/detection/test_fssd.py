"""FSSD300: structure, anchors and weights of PytorchSSD's FSSD_mobile, and DS-Net under it, at one width or routed."""

import math

import detrand
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model
from gluon_effnets.complexity import count
from gluon_effnets.detection import FSSD, get_detector, load_detector
from gluon_effnets.detection.fssd import map_sides
from gluon_effnets.detection.routed_fssd import RoutedFSSD
from gluon_effnets.models import params
from gluon_effnets.weights import load_official, official_weights

SMALL = "fssd300_mobilenet_v1_x0_25"


@pytest.mark.parametrize(
    ("classes", "sizes"), [(20, (30, 60, 111, 162, 213, 264, 315)), (80, (21, 45, 99, 153, 207, 261, 315))]
)
def test_anchors(classes, sizes):
    """One box after the other, in pixels."""
    wanted = []
    for level, (side, step) in enumerate(zip((38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300))):
        small, large = sizes[level : level + 2]
        for place in range(side * side):
            y, x = ((index + 0.5) * step for index in divmod(place, side))
            wanted += [(x, y, small, small), (x, y, math.sqrt(small * large), math.sqrt(small * large))]
            for ratio in (2, 3) if level < 4 else (2,):
                wide = (x, y, small * math.sqrt(ratio), small / math.sqrt(ratio))
                wanted += [wide, (x, y, wide[3], wide[2])]
    found = get_detector(SMALL, classes).anchors.asnumpy() * 300
    assert found.shape == (11620, 4)
    assert np.abs(found - np.clip(wanted, 0, 300)).max() < 1e-3


def test_the_structure_in_pytorch_gives_the_same_answers_and_its_weights_come_and_go():
    torch = pytest.importorskip("torch")
    import torch_fssd

    theirs = torch_fssd.FSSD(3).double().eval()
    state = {key: detrand.tensor(key, tuple(value.shape)) for key, value in theirs.state_dict().items()}
    theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    net = get_detector("fssd300_mobilenet_v1", classes=3)
    assert load_official(net, state) == "pytorch_fssd"
    back = official_weights(net, "pytorch_fssd")
    left_out = ("fc.weight", "fc.bias", "num_batches_tracked")
    assert back.keys() == {key for key in state if not key.endswith(left_out)} | {
        key for key in back if key.endswith("num_batches_tracked")
    }
    assert all(np.array_equal(back[key], state[key]) for key in back)
    net.cast("float64")
    net.hybridize()
    images = detrand.images(1, 300, 0)
    with torch.no_grad():
        wanted = theirs(torch.tensor(images).double())
    for a, b in zip(net.predictions(mx.nd.array(images, dtype="float64")), wanted):
        # Rounded to float32 are only the numbers of MXNet's operators, such as epsilon.
        assert np.abs(a.asnumpy() - b.numpy()).max() / b.std() < 1e-4


def test_weights_of_other_classes_say_how_to_build_the_detector():
    net = get_detector("fssd300_mobilenet_v1", classes=3)
    shapes = {key: param.shape for key, param in _source().keys(get_detector("fssd300_mobilenet_v1", 20)).items()}
    with pytest.raises(ValueError, match=r"Build the network with classes=20; net.reset_class\(3\)"):
        load_official(net, {key: np.zeros(shape, np.float32) for key, shape in shapes.items()})


def _source():
    from gluon_effnets.weights.fssd import PYTORCH_FSSD

    return PYTORCH_FSSD


def test_maps_of_other_strides_and_other_forms_are_refused():
    with pytest.raises(ValueError, match=r"FSSD takes maps of \[38, 19, 10\] positions at 300 pixels, but"):
        FSSD(get_model("mobilenet_v1_x0_25"), 2, [1, 2, 3])
    with pytest.raises(ValueError, match="form is 'lvis'; choose one of voc, coco"):
        get_detector(SMALL, form="lvis")


DECISIONS = [2, 0, 2, 3]


def patterns(which):
    """Images of four kinds: noise with a color of its own."""
    colors = np.array([(3, 0, 0), (0, 3, 0), (0, 0, 3), (-3, -3, 3)])
    return mx.nd.array(detrand.images(len(which), 300, 0) / 10 + 10 * colors[which][:, :, None, None])


def routed(classes=3):
    """A small routed detector whose gate tells the four kinds of images from one another."""
    mx.random.seed(0)
    net = RoutedFSSD(get_model("ds_mobilenet_tiny", classes=1), classes)
    net.initialize(mx.init.MSRAPrelu())
    random = np.random.RandomState(0)
    for key, param in net.collect_params().items():
        if "running" in key:  # of every width others
            low, high = (0.5, 1.5) if "var" in key else (-0.1, 0.1)
            param.set_data(mx.nd.array(random.uniform(low, high, param.shape)))
    decision = net.predictor.views.decision
    decision.reduce.bias.set_data(mx.nd.zeros(decision.reduce.bias.shape))
    maps = net.predictor.views.common(patterns([0, 1, 2, 3]))
    features = decision.act(decision.reduce(decision.pool(decision.depthwise(maps)))).asnumpy()
    # Of vectors of length 1 that of its own direction has the largest product with a feature.
    decision.head.gate.weight.set_data(mx.nd.array(features / np.linalg.norm(features, axis=1, keepdims=True)))
    return net


def values(outputs):
    return [array.asnumpy() for array in outputs]


def test_every_image_runs_at_the_width_of_its_own_decision():
    net, x = routed(), patterns(DECISIONS)
    decisions = net.route(x)
    assert decisions.tolist() == DECISIONS and list(net.widths) == [0, 1, 2, 3]
    assert np.array_equal(decisions, net.predictor.net.route(x).asnumpy()[:, 0])  # as the classifier's gate decides
    net.hybridize()
    together = values(net.predictions(x))
    for place, width in enumerate(decisions):
        alone = values(net.predictions(x[place : place + 1]))
        at_width = values(net.at_width(width).predictions(x[place : place + 1]))
        for a, b, c in zip(together, alone, at_width):
            scale = b.std()
            assert np.abs(a[place] - b[0]).max() / scale < 1e-4 and np.abs(b - c).max() / scale < 1e-4
    others = [net.at_width(width).predictions(x[:1])[0].asnumpy() for width in net.widths]
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(others, others[1:]))
    # Detections are those of the answers.
    boxes, scores, labels = values(net(x))
    wanted = values(net.detections(*net.predictions(x)))
    assert np.array_equal(scores, wanted[1]) and np.array_equal(labels, wanted[2])
    assert np.abs(boxes - np.where(wanted[1][..., None] > 0, wanted[0] * 300, -1)).max() < 1e-3


def test_a_step_teaches_what_all_widths_share_and_moves_the_statistics_of_those_that_ran():
    net, x = routed(), patterns(DECISIONS)
    net.hybridize()
    before = values(net.predictions(x))
    known = {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}
    with autograd.record():
        loss = sum((output**2).mean() for output in net.predictions(x))
    loss.backward()
    learned = [param for param in net.collect_params().values() if param.grad_req != "null"]
    still = [p.name for p in learned if p.name.endswith("weight") and np.abs(p.grad().asnumpy()).max() == 0]
    assert not still
    moved = set()
    for key, param in net._collect_params_with_prefix().items():
        if key.startswith("predictor.statistics.") and np.abs(param.data().asnumpy() - known[key]).max() > 0:
            moved.add(int(key.split(".")[3]))
        param.set_data(mx.nd.array(known[key]))
    assert moved == {2, 3}  # the first width has those of the neck itself, and the second did not run
    assert all(np.array_equal(a, b.asnumpy()) for a, b in zip(before, net.predictions(x)))


def test_files_and_classes_of_a_routed_detector(tmp_path):
    net, x, path = routed(), patterns(DECISIONS)[:1], str(tmp_path / "net.params")
    net.save_parameters(path)
    other = RoutedFSSD(get_model("ds_mobilenet_tiny", classes=1), 3)
    other.load_parameters(path)
    assert all(np.array_equal(a, b) for a, b in zip(values(net.predictions(x)), values(other.predictions(x))))
    net.hybridize()
    offsets = net.predictions(x)[1].asnumpy()
    net.reset_class(["a", "b"])
    for predictions in (net.predictions(x), net.at_width(net.route(x)[0]).predictions(x)):
        assert predictions[0].shape == (1, 11620, 3) and np.array_equal(predictions[1].asnumpy(), offsets)
    assert net.at_width(net.widths[0]).classes == ["a", "b"]


def test_classes_in_another_order():
    order = [0, 2, 3, 1]
    net = get_detector(SMALL, 3)
    net.initialize()
    for one in (net, routed()):
        x = patterns([1])
        before = values(one.predictions(x))
        assert one.predictor.reorder_class_heads(order)
        logits, offsets = values(one.predictions(x))
        assert np.array_equal(logits, before[0][:, :, order]) and np.array_equal(offsets, before[1])


def test_what_a_routed_detector_is_not():
    net = routed()
    with pytest.raises(ValueError, match=r"no single graph: take net.at_width\(w\)"):
        net(mx.sym.var("data"))
    assert count(net, 300) == count(net.at_width(3), 300)  # the most that an image costs
    with pytest.raises(ValueError, match="width is 9; choose one of 0, 1, 2, 3"):
        net.at_width(9)
    with pytest.raises(ValueError, match="reset_class of that"):
        net.at_width(0).reset_class(2)
    with pytest.raises(ValueError, match="slimmable network with one gate"):
        RoutedFSSD(get_model("mobilenet_v1_x0_25"), 2)
    with pytest.raises(ValueError, match="gate is behind the first"):
        RoutedFSSD(get_model("ds_mobilenet_tiny"), 2, [1, 2, 3])
    with pytest.raises(ValueError, match="choose 0 to 13"):
        get_detector("fssd300_ds_mobilenet_v1", width=14)


@pytest.mark.parametrize(("name", "width"), [("fssd300_ds_mobilenet_v1_s", 1), ("fssd300_ds_mobilenet_v1_m", 7)])
def test_a_static_width_costs_what_its_parts_cost(name, width):
    """Of the backbone what DS-Net's width has without classifier, and of the transforms what the width feeds."""
    net, plain = get_detector(name, 20), get_detector("fssd300_mobilenet_v1", 20)
    subnet = get_model("ds_mobilenet_v1", classes=1).subnet(width)
    base, plain_base = (count(one, 300, "conv").madds for one in (subnet, get_model("mobilenet_v1_x1_0", classes=1)))
    stages = subnet.widths.stages
    transforms = sum(
        256 * (channels - whole) * side**2 for channels, whole, side in zip(stages[2:], (256, 512, 1024), (38, 19, 10))
    )
    assert count(net, 300).madds == count(plain, 300).madds - plain_base + base + transforms
    assert net.definition()["width"] == width
    other = get_detector("fssd300_ds_mobilenet_v1", 20, width=0)
    identity = {**other.identity, "width": 1}
    with pytest.raises(ValueError, match="width"):  # in no shape of a parameter
        params.check_identity(other, identity, "a file")


@pytest.mark.parametrize("side, sides", [(300, (38, 19, 10, 5, 3, 1)), (160, (20, 10, 5, 3, 1)), (128, (16, 8, 4, 2))])
def test_other_sizes_have_fewer_maps_and_anchors_of_the_same_shares(side, sides, tmp_path):
    assert map_sides(side) == sides
    net = get_detector("fssd300_mobilenet_v1_x0_25", 2, image_size=side)
    net.initialize()
    logits, offsets = net.predictions(mx.nd.ones((1, 3, side, side)))
    per_position = (6, 6, 6, 6, 4, 4)
    number = sum(side**2 * boxes for side, boxes in zip(sides, per_position))
    assert logits.shape == (1, number, 3) and offsets.shape == (1, number, 4) and net.anchors.shape == (number, 4)
    first = net.anchors.asnumpy()[:2]
    assert np.abs(first[0] - (4 / side, 4 / side, 0.1, 0.1)).max() < 1e-6
    net.save_parameters(str(tmp_path / "w.params"))
    again = load_detector(tmp_path / "w.params")
    assert again.image_size == side and again.definition() == net.definition()


def test_sizes_without_room_are_refused():
    for size, text in ((90, "at least 96"), (160.5, "whole number")):
        with pytest.raises((ValueError, TypeError), match=text):
            get_detector("fssd300_mobilenet_v1_x0_25", 2, image_size=size)
