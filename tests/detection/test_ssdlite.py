"""SSDLite320 detectors: costs, keys and numbers of their official implementations."""

import detrand
import mxnet as mx
import numpy as np
import pytest
import references

from gluon_effnets.complexity import count
from gluon_effnets.detection import get_detector
from gluon_effnets.weights import load_official, official_weights

VOC = "ssdlite320_mobilenext_voc"
# Parameters, multiply-adds and anchors that the official code has, counted there.
OFFICIAL = [
    ("ssdlite320_mobilenext_x1_0", 20, 3_476_308, 708_726_528, 3234),
    ("ssdlite320_mobilenext_x1_0", 80, 4_539_418, 843.6e6, 3232),
    ("ssdlite320_mobilenet_v2_x1_0", 20, 3_425_988, 682.4e6, 3234),
    ("ssdlite320_mobilenet_v2_x1_0", 80, 4_304_138, 748.2e6, 3232),
    ("ssdlite320_mobilenet_v3_large", 90, 3_440_060, 0.583e9, 3234),
    ("ssdlite320_mobilenet_v3_large", 20, 2_469_860, None, 3234),
    ("ssdlite320_mobilenet_v3_large", 3, 2_234_240, None, 3234),
]


@pytest.mark.parametrize(("name", "classes", "params", "madds", "anchors"), OFFICIAL)
def test_costs_are_those_of_the_official_code(name, classes, params, madds, anchors):
    net = get_detector(name, classes)
    cost = count(net, 320)
    assert cost.params == params
    assert madds is None or cost.madds == madds or abs(cost.madds - madds) < 0.5e6  # printed in millions, but one
    assert net.anchors.shape == (anchors, 4)


def summary_deviation(ours, theirs):
    """Largest difference from a summary: first and last values, mean and deviation; in deviations of the tensor."""
    flat, size = ours.ravel().astype(np.float64), len(theirs["first"])
    assert list(ours.shape) == theirs["shape"]
    differences = [flat[:size] - theirs["first"], flat[-size:] - theirs["last"]]
    differences += [[flat.mean() - theirs["mean"]], [flat.std() - theirs["std"]]]
    return max(np.abs(np.concatenate(differences))) / theirs["std"]


@pytest.fixture(scope="module")
def official_voc():
    data = references.read(VOC)
    net = get_detector("ssdlite320_mobilenext_x1_0", classes=20)
    assert load_official(net, detrand.state(data)) == "ssdlite_pytorch_mobilenext"
    return net, data


def test_mobilenext_gives_the_official_maps_logits_and_offsets(official_voc):
    net, data = official_voc
    cost = count(net, 320)
    assert (cost.params, cost.madds) == (data["params"], data["madds"])
    images = mx.nd.array(detrand.images(**data["input"]))
    # The reference rounds to 3e-3 of the deviation in this network with random weights; see the test below.
    maps = net.predictor.backbone(images)[:2]
    found = [*zip(maps, data["features"]), *zip(net.predictions(images), (data["cls_logits"], data["bbox_pred"]))]
    assert max(summary_deviation(ours.asnumpy(), theirs) for ours, theirs in found) < 1e-2
    assert summary_deviation(net.anchors.asnumpy(), data["priors"]) < 1e-6


def test_mobilenext_in_the_arithmetic_of_pytorch_rounds_as_the_official_code(official_voc):
    torch = pytest.importorskip("torch")
    import torch_graph

    net, data = official_voc
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        outputs = torch_graph.run_all(
            lambda x: mx.sym.Group(list(net.predictor(x))),
            net.predictor.collect_params(),
            detrand.images(**data["input"]),
        )
    finally:
        torch.set_num_threads(threads)
    # The same sums in the same order, where the processor has AVX-512 or AVX2.
    exact = torch.backends.cpu.get_cpu_capability() in ("AVX512", "AVX2")
    for ours, theirs in zip(outputs, (data["cls_logits"], data["bbox_pred"])):
        assert summary_deviation(ours, theirs) < (1e-5 if exact else 1e-2)


CASES = [
    ("ssdlite320_mobilenet_v3_large", "SSDLite", "torchvision_ssdlite", 476),
    ("ssdlite320_mobilenet_v2_x1_0", "ThirdPartySSDLite", "ssdlite_pytorch_mobilenext", None),
]


@pytest.mark.parametrize(("name", "structure", "source", "keys"), CASES)
def test_structures_in_pytorch_give_the_same_numbers(name, structure, source, keys):
    torch = pytest.importorskip("torch")
    import torch_ssdlite

    theirs = getattr(torch_ssdlite, structure)(5).double().eval()
    state = {key: detrand.tensor(key, tuple(value.shape)) for key, value in theirs.state_dict().items()}
    assert keys in (None, len(state))  # of torchvision it is known
    theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    net = get_detector(name, classes=5)
    net.hybridize()
    assert load_official(net, state) == source
    images = detrand.images(1, 320, 0)
    net.cast("float64")
    ours = net.predictions(mx.nd.array(images, dtype="float64"))
    with torch.no_grad():
        wanted = theirs(torch.tensor(images).double())
    for a, b in zip(ours, wanted):
        # Rounded to float32 are only the numbers of MXNet's operators, such as epsilon.
        assert np.abs(a.asnumpy() - b.numpy()).max() / b.std() < 1e-4
    back = official_weights(net, source)
    assert back.keys() == state.keys() and all(np.array_equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_the_authors_focal_loss_has_the_logits_of_the_background_last(form):
    net, source = get_detector("ssdlite320_mobilenet_v2_x1_0", 2, form=form), "ssdlite_pytorch_mobilenext"
    net.initialize()
    state = official_weights(net, source)
    for level, head in enumerate(net.predictor.class_heads):
        key = f"box_head.predictor.cls_headers.{level}"
        key += ".conv.3.bias" if head.depthwise is not None else ".bias"
        boxes = len(state[key]) // 3
        # The authors' inference skips the first logits of the softmax alone; with the sigmoid class k is column k.
        state[key] = np.tile([7.0, 8.0, 9.0], boxes).astype(np.float32)
    load_official(net, state)
    wanted = [7, 8, 9] if form == "voc" else [9, 7, 8]
    for head in net.predictor.class_heads:
        assert (head.output.bias.data().asnumpy().reshape(-1, 3) == wanted).all()
    back = official_weights(net, source)
    assert all(np.array_equal(back[key], state[key]) for key in state)


def test_weights_of_other_classes_say_how_to_build_the_detector():
    state = {key: np.zeros(shape, np.float32) for key, shape in references.read(VOC)["state"]}
    net = get_detector("ssdlite320_mobilenext_x1_0", classes=3)
    with pytest.raises(ValueError, match=r"Build the network with classes=20; net.reset_class\(3\)"):
        load_official(net, state)
    with pytest.raises(ValueError, match=r"Build the network with classes=20, form='voc'"):
        load_official(get_detector("ssdlite320_mobilenext_x1_0", classes=80), state)
    with pytest.raises(ValueError, match=r"They fit get_detector\('ssdlite320_mobilenext_x1_0'\)"):
        load_official(get_detector("ssdlite320_mobilenet_v2_x1_0"), state)
    with pytest.raises(ValueError, match="not recognized"):
        load_official(get_detector("ssdlite320_mobilenet_v3_large"), state)
