"""What every detector keeps: one meaning in all modes, files, classes, weights of its network."""

import json
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model
from gluon_effnets.complexity import count
from gluon_effnets.detection import SSDLite, detector_info, get_detector, list_detectors, load_detector

ROOT = Path(__file__).parents[2]
SMALL = "ssdlite320_mobilenext_x0_35"
# A detector of every kind, with the options that make it small.
KINDS = [(SMALL, {}), ("retinanet_mobilenext_x0_35", {"image_size": 256}), ("fssd300_mobilenet_v1_x0_25", {})]


def images(n=1, seed=0, side=320):
    return mx.nd.array(np.random.RandomState(seed).standard_normal((n, 3, side, side)))


def small(classes=2, name=SMALL, **options):
    mx.random.seed(0)
    net = get_detector(name, classes, **options)
    net.initialize()
    return net


def values(outputs):
    return [array.asnumpy() for array in outputs]


def test_names():
    assert list_detectors() == [
        "faster_rcnn_condensenet_v2_c",
        "faster_rcnn_mobilenet_v1",
        "faster_rcnn_mobilenet_v1_x0_25",
        "faster_rcnn_shufflenet_v1_g3_x2_0",
        "fssd300_ds_mobilenet_v1",
        "fssd300_ds_mobilenet_v1_m",
        "fssd300_ds_mobilenet_v1_s",
        "fssd300_mobilenet_v1",
        "fssd300_mobilenet_v1_x0_25",
        "retinanet_condensenet_v2_c",
        "retinanet_mobilenext_x0_35",
        "ssdlite320_idle_mbv3",
        "ssdlite320_mobilenet_v2_x1_0",
        "ssdlite320_mobilenet_v3_large",
        "ssdlite320_mobilenext_x0_35",
        "ssdlite320_mobilenext_x1_0",
    ]
    as_published = [name for name in list_detectors() if not detector_info(name).reconstruction]
    assert as_published == [
        "fssd300_mobilenet_v1",
        "ssdlite320_mobilenet_v2_x1_0",
        "ssdlite320_mobilenet_v3_large",
        "ssdlite320_mobilenext_x1_0",
    ]
    with pytest.raises(ValueError, match="nearest are ssdlite320_mobilenext"):
        get_detector("ssdlite_mobilenext")
    with pytest.raises(ValueError, match="form is 'lvis'; choose one of voc, coco"):
        get_detector(SMALL, form="lvis")
    with pytest.raises(ValueError, match="whole number of 1 to"):
        get_detector(SMALL, classes=0)


@pytest.mark.parametrize("name", [SMALL, "fssd300_mobilenet_v1_x0_25"])
def test_detect_chooses_as_a_call_where_all_boxes_are_candidates(name):
    """Untrained, nearly every box is one, and many have the same score. MXNet takes seconds for an image of FSSD."""
    net = small(2, name)
    x = images(2, side=net.image_size) / 100
    called = values(net(x))
    detected = values(net.detect(x, (net.image_size, net.image_size)))
    assert np.array_equal(detected[0], np.where(called[0] == -1, -1, called[0].clip(0, net.image_size)))
    assert np.array_equal(detected[1], called[1]) and np.array_equal(detected[2], called[2])
    assert (called[1] > 0).all() and len(np.unique(called[1])) < called[1].size


def test_suppression_among_many_candidates_is_not_left_to_mxnet(monkeypatch):
    net = small(2)
    net(images())  # BN statistics and shapes
    monkeypatch.setattr(mx.nd.contrib, "box_nms", None)
    assert (net.detect(images(), (320, 320))[1] > 0).asnumpy().any()


@pytest.mark.parametrize("name", list_detectors())
def test_every_detector_has_the_costs_in_the_results(name):
    rows = json.loads((ROOT / "results" / "computed_detectors.json").read_text())[name]
    assert detector_info(name).computed == tuple(rows)
    net = get_detector(name, rows[0]["classes"])
    cost = count(net.at_width(rows[0]["width"]) if "width" in rows[0] else net, net.image_size)
    assert (cost.params, cost.madds, len(net.anchors)) == tuple(rows[0][key] for key in ("params", "madds", "anchors"))
    assert net.image_size == rows[0]["image_size"] == detector_info(name).image_size


@pytest.mark.parametrize("name", ["ssdlite320_idle_mbv3", SMALL])
def test_outputs(name):
    net = get_detector(name, classes=3)
    assert all(0 not in param.shape for param in net.collect_params().values())
    net.initialize()
    net.hybridize()
    x = images(2)
    logits, offsets = net.predictions(x)
    assert logits.shape == (2, 3234, 4) and offsets.shape == (2, 3234, 4)
    boxes, scores, labels = net(x)
    number = scores.shape[1]
    assert boxes.shape == (2, number, 4) and labels.shape == (2, number)
    assert (np.diff(scores.asnumpy()) <= 0).all()


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_one_meaning_before_and_after_training_hybridized_or_not(name, options):
    # BN over a single position would leave no gradient to the last map.
    net = small(name=name, **options)
    x = images(2, side=net.image_size)
    plain = values(net(x)) + values(net.predictions(x))
    net.hybridize(static_alloc=True, static_shape=True)
    before = values(net(x)) + values(net.predictions(x))
    params = [param for param in net.collect_params().values() if param.grad_req != "null"]
    with autograd.record():
        loss = sum((output**2).mean() for output in net.predictions(x))
    loss.backward()
    # Every layer of heads and network learns.
    assert all(np.abs(param.grad().asnumpy()).max() > 0 for param in params if param.name.endswith("weight"))
    statistics = {key: p for key, p in net.collect_params().items() if "running" in key}
    assert any(np.abs(p.data().asnumpy() - ("var" in key)).max() > 0 for key, p in statistics.items())
    for key, param in statistics.items():  # the pass moved them
        param.set_data(mx.nd.ones(param.shape) if "var" in key else mx.nd.zeros(param.shape))
    after = values(net(x)) + values(net.predictions(x))
    assert all(np.array_equal(a, b) for a, b in zip(before, after))
    with autograd.train_mode():
        assert [output.shape for output in net(x)] == [output.shape for output in before[:3]]
    assert np.abs(plain[3] - before[3]).max() < 1e-4 and np.abs(plain[1] - before[1]).max() < 1e-4


def test_boxes_in_pixels_of_the_originals():
    net, x = small(), images(2)
    boxes, scores, labels = values(net(x))
    original, same_scores, same_labels = values(net.detect(x, [(240, 480), (640, 160)]))
    assert np.array_equal(scores, same_scores) and np.array_equal(labels, same_labels)
    factors = np.array([(480, 240, 480, 240), (160, 640, 160, 640)], np.float32)[:, None]
    wanted = np.clip(boxes / 320 * factors, 0, factors)
    wanted[scores < 0] = -1
    assert np.abs(original - wanted).max() < 1e-3


def test_weights_of_the_network_are_kept(tmp_path):
    base = get_model("mobilenext_x0_35")
    base.initialize()
    base(images())
    path = tmp_path / "base.params"
    base.save_parameters(str(path))
    net = get_detector(SMALL, classes=2, pretrained_base=str(path))
    net.initialize()
    x = images()
    maps = net.predictor.backbone(x)
    wanted = base.extract(x, ["expansion", "-1.-1.expansion", -1])
    assert all(np.array_equal(a.asnumpy(), b.asnumpy()) for a, b in zip(maps, wanted))
    # Its classifier is not part of the detector.
    assert not any("output" in key or key.endswith("dense0_weight") for key in net.predictor.backbone.collect_params())


def test_torchvision_keeps_the_whole_network_on_trained_weights(tmp_path):
    base = get_model("mobilenet_v3_large")
    base.initialize()
    base.save_parameters(str(tmp_path / "base.params"))
    net = get_detector("ssdlite320_mobilenet_v3_large", 2, str(tmp_path / "base.params"))
    assert net.predictor.backbone.map_shapes(320)[:2] == [(672, 20), (960, 10)]
    assert get_detector("ssdlite320_mobilenet_v3_large", 2).predictor.backbone.map_shapes(320)[1] == (480, 10)


def test_files_know_their_detector(tmp_path):
    net, path, x = small(["cat", "dog"]), str(tmp_path / "net.params"), images()
    net.save_parameters(path)
    other = get_detector(SMALL, classes=2)
    other.load_parameters(path)
    assert other.classes == ["cat", "dog"] and other.preprocessing == net.preprocessing
    assert all(np.array_equal(a, b) for a, b in zip(values(net(x)), values(other(x))))
    with pytest.raises(ValueError, match="holds the weights of ssdlite320_mobilenext_x0_35"):
        get_detector("ssdlite320_mobilenext_x1_0", classes=2).load_parameters(path)
    with pytest.raises(ValueError, match="form='voc'"):
        get_detector(SMALL, classes=2, form="coco").load_parameters(path)


def test_files_without_a_mark_are_of_the_named_detector(tmp_path):
    net, path, x = small(3), str(tmp_path / "net.params"), images()
    arrays = {key: param.data() for key, param in net._collect_params_with_prefix().items()}
    mx.nd.save(path, arrays)
    other = load_detector(path, name=SMALL)
    assert other.num_classes == 3 and other.classes is None
    assert all(np.array_equal(a, b) for a, b in zip(values(net(x)), values(other(x))))
    with pytest.raises(ValueError, match="holds the weights of 'an unknown network', not of a detector"):
        load_detector(path)
    mx.nd.save(path, {key: array for key, array in arrays.items() if "class_heads" not in key})
    with pytest.raises(ValueError, match="no heads for classes"):
        load_detector(path, name=SMALL)


def test_options_out_of_all_bounds_are_one_sentence():
    with pytest.raises(ValueError, match=f"{SMALL} cannot be built with") as caught:
        get_detector(SMALL, 2, bn_epsilon=10**400)
    assert len(str(caught.value)) < 1000
    with pytest.raises(TypeError, match="nothing"):
        get_detector(SMALL, 2, nothing=1)
    with pytest.raises(ValueError, match="there is no sub-network 'xxx") as caught:
        get_detector("fssd300_ds_mobilenet_v1", 2, width="x" * 100_000)
    assert len(str(caught.value)) < 1000


def test_new_classes_keep_the_kind_of_heads():
    net, x = small(), images()
    net.hybridize()
    offsets = net.predictions(x)[1].asnumpy()
    net(x)
    kinds = [type(head.depthwise).__name__ for head in net.predictor.class_heads]
    net.reset_class(["a", "b", "c", "d", "e"])
    assert [type(head.depthwise).__name__ for head in net.predictor.class_heads] == kinds
    assert net.num_classes == 5 and net.classes == ["a", "b", "c", "d", "e"]
    logits, same = values(net.predictions(x))
    assert logits.shape == (1, 3234, 6) and np.array_equal(same, offsets)
    assert net(x)[2].asnumpy().max() <= 4
    with pytest.raises(ValueError, match="number of classes is 0"):
        net.reset_class(0)


@pytest.mark.parametrize("classes", [0, -1, 2**31, [], [None], ["x" * 10_000], "cat", 2.0, True, b"cat"])
def test_classes_that_are_neither_a_number_nor_names(classes):
    kind = ValueError if isinstance(classes, list) or type(classes) is int else TypeError
    with pytest.raises(kind, match=f"classes of {SMALL}"):
        get_detector(SMALL, classes)
    with pytest.raises(kind, match="classes"):
        small().reset_class(classes)


@pytest.mark.parametrize("name", [SMALL, "fssd300_mobilenet_v1_x0_25", "faster_rcnn_mobilenet_v1_x0_25"])
def test_a_selection_is_a_selection(name):
    with pytest.raises(TypeError, match="selection is 'all'.*it must be a Selection"):
        get_detector(name, 2, selection="all")


def test_anchors_for_other_maps_are_refused():
    form = get_detector(SMALL, 2).form
    with pytest.raises(ValueError, match="anchors are for maps"):
        SSDLite(get_model("mobilenext_x0_35"), form._replace(taps=[2, "-1.-1.expansion"]), 2)


def test_pretrained_detectors_are_not_there():
    with pytest.raises(FileNotFoundError, match="no detector has published weights here: train one on"):
        load_detector("pretrained")
