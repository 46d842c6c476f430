"""Exported detectors give the detector's detections, with suppression in the file or without, in 8 bits, too."""

import dataclasses
import json
import shutil

import mxnet as mx
import numpy as np
import pytest
from detectors import NAMES, SMALL, inputs, trained_detector

from gluon_effnets import get_model
from gluon_effnets.deploy import ExportError, export, initialize_like_trained, open_exported
from gluon_effnets.deploy.compare_detections import DetectionQuestion
from gluon_effnets.deploy.description import Description
from gluon_effnets.deploy.formats import FORMATS
from gluon_effnets.deploy.to_onnx.files import onnx_runner
from gluon_effnets.detection import Detections, Selection, get_detector, load_detector
from gluon_effnets.detection.boxes import LevelDetections
from gluon_effnets.detection.registry import described_detector
from gluon_effnets.files.symbol_file import load_symbol
from gluon_effnets.runtime.detections import Choice, Limit, choose

FORMS = {
    "mxnet": {},
    "mxnet-all": {"all_boxes": True},
    "onnx": {"format": "onnx", "license": "CC BY 4.0"},
    "onnx-all": {"format": "onnx", "all_boxes": True},
    "onnx-2": {"format": "onnx", "batch": 2},
    "onnx-raw": {"format": "onnx", "raw_input": True},
}


@pytest.fixture(scope="module")
def net():
    return trained_detector()


@pytest.fixture(scope="module")
def written(net, tmp_path_factory):
    """{form: what was written}."""
    folder = tmp_path_factory.mktemp("detectors")
    return {form: export(net, folder / form, **options) for form, options in FORMS.items()}


@pytest.fixture(scope="module")
def question(net):
    """Images with all boxes of the detector, and how it chooses."""
    return DetectionQuestion.of(net, net.detections.choice, "random images", inputs(2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [1, 3])
def test_files_give_the_detections_of_the_detector(form, number, net, written):
    x = inputs(number, seed=number)
    given = x + np.array([123, 117, 104], np.float32).reshape(1, 3, 1, 1) if form == "onnx-raw" else x
    opened = open_exported(written[form].description)
    asked = DetectionQuestion.of(net, net.detections.choice, "images", x)
    found, own = opened(given), [array.asnumpy() for array in net(mx.nd.array(x))]
    assert [array.shape for array in found] == [(number, 100, 4), (number, 100), (number, 100)]
    for answer in (found, own):
        judgement = asked.judged(answer)
        assert judgement.refused is None and judgement.difference < 1e-5
    sizes = [(240, 480)] * number
    boxes, scores, classes = opened.detect(given, sizes)
    wanted, *_ = net.detect(mx.nd.array(x), sizes)
    first = np.abs(scores[:, 0] - own[1][:, 0]).max()
    assert first < 1e-5 and np.abs(boxes[:, 0] - wanted.asnumpy()[:, 0]).max() < 0.1
    assert boxes[..., 0::2].max() <= 480 and boxes[..., 1::2].max() <= 240 and set(np.unique(classes)) <= {0, 1, 2}


@pytest.mark.parametrize("form", FORMS)
def test_the_description_says_what_a_detector_needs(form, net, written):
    content = json.loads(written[form].description.read_text())
    everything = form.endswith("-all")
    assert content["task"] == "detection" and content["names"] == NAMES and content["image_size"] == 320
    assert content["outputs"] == ["boxes", "scores"] + ["classes"] * (not everything)
    assert content["selection"] == {"score_above": 0.01, "overlap": 0.45, "per_image": 100, "limits": []}
    assert content["input_shape"] == [2 if form == "onnx-2" else None, 3, 320, 320] and content["folded"]
    assert set(content["sha256"]) == set(content["files"])
    again = described_detector(content["model"], 3, content["options"])
    assert again.definition() == net.definition()
    assert Description.read(written[form].description).license == FORMS[form].get("license")


def test_nothing_of_memory_stands_in_files(net, written, tmp_path):
    """Constants of MXNet name the place where they were made: files of equal detectors were different."""
    whole = export(net, tmp_path / "whole", fold=False, all_boxes=True)
    for symbol in (whole.symbol, written["mxnet"].symbol):
        assert "__init__" not in symbol.read_text() and load_symbol(symbol).list_outputs()
    assert "BatchNorm" in whole.symbol.read_text() and "BatchNorm" not in written["mxnet"].symbol.read_text()


def test_classifiers_have_no_key_of_detectors(tmp_path):
    classifier = get_model("idle_tiny", classes=3)
    initialize_like_trained(classifier)
    content = json.loads(export(classifier, tmp_path / "net", 32).description.read_text())
    assert not {"task", "outputs", "selection"} & content.keys()
    with pytest.raises(ValueError, match="all_boxes"):
        export(classifier, tmp_path / "other", 32, all_boxes=True)


def test_what_detectors_do_not_take_is_refused(net, tmp_path):
    for options, text in (({"align": True}, "no aligned form"), ({"image_size": 300}, "320 x 320, not of 300")):
        with pytest.raises(ValueError, match=text):
            export(net, tmp_path / "net", **options)
    with pytest.raises(ValueError, match="3 classes"):
        export(net, tmp_path / "net", names=["one"])
    assert not list(tmp_path.iterdir())


def moved(boxes, scores, classes):
    boxes[0, 5] += 2


def other_score(boxes, scores, classes):
    scores[0, 5] = (scores[0, 4] + scores[0, 5]) / 2


def other_class(boxes, scores, classes):
    classes[1, 7] = (classes[1, 7] + 1) % 3


def unknown_class(boxes, scores, classes):
    classes[1, 7] = 3


def missing(boxes, scores, classes):
    for array in (boxes, scores, classes):
        array[0, 5:-1] = array[0, 6:].copy()
        array[0, -1] = -1


def twice(boxes, scores, classes):
    for array in (boxes, scores, classes):
        array[0, 6:] = array[0, 5:-1].copy()


def half_filled(boxes, scores, classes):
    scores[0, 50:], classes[0, 50:] = -1, -1


def nothing(boxes, scores, classes):
    for array in (boxes, scores, classes):
        array[:] = -1


def not_finite(boxes, scores, classes):
    boxes[0, 0, 0] = np.nan


DAMAGES = (moved, other_score, other_class, unknown_class, missing, twice, half_filled, nothing, not_finite)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_wrong_detections_are_refused(damage, question):
    found = choose(question.boxes, question.scores, question.choice)
    assert question.judged(found).refused is None
    damage(*found)
    assert "the exported graph differs from the network" in question.judged(found).refused


def test_another_number_of_arrays_is_refused(question):
    assert "in place of" in question.judged(choose(question.boxes, question.scores, question.choice)[:2]).refused
    everything = question._replace(choice=None)
    assert everything.judged([question.boxes, question.scores]).refused is None
    assert everything.judged([question.boxes + 0.1, question.scores]).refused.endswith("2e-05 is allowed")


def made_up(boxes, scores, **choice):
    choice = Choice(**{"score_above": 0.1, "overlap": 0.5, "per_image": 4, **choice})
    images = np.zeros((1, 3, 100, 100), np.float32)
    return DetectionQuestion("x", images, np.array([boxes], float), np.array([scores], float), 0.0, choice)


def test_near_equal_scores_may_change_places():
    boxes = [(0, 0, 10, 10), (50, 50, 60, 60), (52, 50, 62, 60), (0, 50, 10, 60)]
    scores = [(0.5,), (0.5 + 1e-7,), (0.5,), (0.3,)]
    asked = made_up(boxes, scores)
    for order in ((1, 0, 3), (0, 1, 3), (0, 2, 3), (2, 0, 3)):  # of two that overlap, either may be left
        found = np.full((1, 4, 4), -1.0), np.full((1, 4), -1.0), np.full((1, 4), -1.0)
        for place, box in enumerate(order):
            found[0][0, place], found[1][0, place], found[2][0, place] = boxes[box], 0.5 if place < 2 else 0.3, 0
        assert asked.judged(found).refused is None
        # But not both, and not none of them.
        found[0][0, 3], found[1][0, 3], found[2][0, 3] = boxes[2 if order[0] == 1 or order[1] == 1 else 1], 0.3, 0
        assert asked.judged(found).refused is not None


def test_a_full_image_has_no_room_for_lower_scores():
    boxes = [(20 * i, 0, 20 * i + 10, 10) for i in range(5)]
    asked = made_up(boxes, [(0.9,), (0.8,), (0.7,), (0.6,), (0.5,)])
    found = choose(asked.boxes, asked.scores, asked.choice)
    assert asked.judged(found).refused is None
    found[0][0, 3], found[1][0, 3] = boxes[4], 0.5
    assert "1 boxes of class 0 are missing, with scores up to 0.6" in asked.judged(found).refused


def test_only_the_best_of_a_class_are_compared():
    boxes = [(0, 0, 10, 10), (1, 0, 11, 10), (50, 0, 60, 10)]
    scores = [(0.9,), (0.8,), (0.7,)]
    limited = made_up(boxes, scores, limits=(Limit(0, 3, 2),))
    found = choose(limited.boxes, limited.scores, limited.choice)
    assert (found[1] > 0).sum() == 1 and limited.judged(found).refused is None
    # Where all are compared, the third one is missing.
    assert "missing" in made_up(boxes, scores).judged(found).refused
    pairs = Choice(0.1, 0.5, 10, (Limit(0, 2, 1, per_class=False), Limit(2, 3, 5, per_class=False)))
    _, best, labels = choose(np.array([boxes], float), np.array([[(0.9, 0.95), (0.8, 0.2), (0.3, 0.4)]]), pairs)
    assert np.allclose(best[0, :3], (0.95, 0.4, 0.3)) and (best[0, 3:] == -1).all()
    assert labels[0, :3].tolist() == [1, 1, 0]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("selection", [Selection(), Selection(0.3, 0.3, 40, 60, inside=True)])
def test_numpy_chooses_as_the_layer_of_the_detector(selection, ties):
    random = np.random.RandomState(0)
    anchors = np.concatenate([random.uniform(0.1, 0.9, (200, 2)), random.uniform(0.1, 0.5, (200, 2))], 1)
    logits = random.permutation(2 * 200 * 4).reshape(2, 200, 4) / 200
    if ties:
        logits = np.round(logits / 2)
    layer = Detections(anchors, 3, selection)
    layer.initialize()
    given = [mx.nd.array(array) for array in (logits, random.standard_normal((2, 200, 4)))]
    every = [array.asnumpy() for array in layer.every(*given)]
    ours, theirs = choose(*every, layer.choice), [array.asnumpy() for array in layer(*given)]
    assert (len(np.unique(ours[1])) < ours[1].size / 2) == ties
    for one, other in zip(ours, theirs):
        assert np.array_equal(one, other)


def changed_limit(model):
    [tensor] = [tensor for tensor in model.graph.initializer if tensor.raw_data == np.float32(0.45).tobytes()]
    tensor.raw_data = np.float32(0.9).tobytes()


def changed_anchors(model):
    tensors = [t for t in model.graph.initializer if list(t.dims) == [1, 3234, 2]]
    values = np.frombuffer(tensors[0].raw_data, np.float32) + np.float32(0.02)
    tensors[0].raw_data = values.tobytes()


def lost_class(model):
    [node] = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    most = next(t for t in model.graph.initializer if t.name == node.input[2])
    most.raw_data = np.array([3], np.int64).tobytes()


@pytest.mark.parametrize("damage", [changed_limit, changed_anchors, lost_class], ids=lambda damage: damage.__name__)
def test_damaged_graphs_are_refused(damage, net, written, tmp_path, monkeypatch):
    import onnx

    chosen, path = FORMATS["onnx"], tmp_path / "before"
    path.mkdir()

    def write(content, prefix):
        done = chosen.write(content, prefix)
        model = onnx.load(str(done.files[0]))
        damage(model)
        onnx.save(model, str(done.files[0]))
        return done

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(chosen, write=write))
    with pytest.raises(ExportError, match="the exported graph differs from the network"):
        export(net, path / "net", format="onnx")
    assert not list(path.iterdir())


def test_suppression_is_one_operator_for_any_number_of_images(written):
    import onnx

    model = onnx.load(str(written["onnx"].files[0]))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("NonMaxSuppression") == 1 and "BatchNormalization" not in kinds and "Loop" not in kinds
    assert {entry.key: entry.value for entry in model.metadata_props}["task"] == "detection"
    run = onnx_runner(written["onnx"].files[0])
    together, alone = run(inputs(4)), [run(inputs(4)[i : i + 1]) for i in range(4)]
    for place, array in enumerate(together):
        assert np.abs(array - np.concatenate([one[place] for one in alone])).max() < 1e-3


def retinanet():
    """Its scores begin near 0.01, of which it would choose none."""
    detector = trained_detector("retinanet_mobilenext_x0_35")
    biases = detector.predictor.collect_params(".*bias").values()
    [bias] = [param for param in biases if param.data().asnumpy().max() < -4]
    bias.set_data(mx.nd.zeros(bias.shape) - 1)
    return detector


@pytest.mark.parametrize("format", ["onnx", "mxnet"])
def test_maps_that_compete_by_themselves(format, tmp_path):
    """RetinaNet's towers are one for all maps: a graph for MXNet has one variable for each of their weights."""
    detector = retinanet()
    assert [limit.per_class for limit in detector.detections.choice.limits] == [False] * 5
    opened = open_exported(export(detector, tmp_path / "net", format=format).description)
    x = np.random.RandomState(0).standard_normal((2, 3, 384, 384)).astype(np.float32) * 2
    asked = DetectionQuestion.of(detector, detector.detections.choice, "images", x)
    judgement = asked.judged(opened(x))
    assert judgement.refused is None and judgement.difference < 1e-4 and (opened(x)[1] > 0).all()


@pytest.mark.parametrize(
    "name", ["ssdlite320_mobilenet_v3_large", "ssdlite320_idle_mbv3", "fssd300_mobilenet_v1_x0_25"]
)
def test_other_detectors_go_to_onnx(name, tmp_path):
    assert export(trained_detector(name), tmp_path / "net", format="onnx").difference < 1e-5


def test_sigmoid_scores_of_many_classes_go_to_onnx(tmp_path):
    detector = trained_detector(classes=12, form="coco")
    assert export(detector, tmp_path / "net", format="onnx").difference < 1e-5


@pytest.mark.parametrize("format", ["onnx", "mxnet"])
def test_8_bits(format, net, tmp_path):
    done = export(net, tmp_path / "net", format=format, int8=[inputs(12)])
    opened = open_exported(done.description)
    figures = opened.description.int8
    assert figures["agreement"] > 0.9 and (figures["calibration_images"], figures["held_out_images"]) == (9, 3)
    boxes, scores, _ = opened(inputs(2, seed=9))
    exact = net(mx.nd.array(inputs(2, seed=9)))
    assert boxes.shape == (2, 100, 4) and 0 < np.abs(scores - exact[1].asnumpy()).max() < 0.1
    if format == "onnx":
        import onnx

        nodes = onnx.load(str(done.files[0])).graph.node
        makers = {output: node.op_type for node in nodes for output in node.output}
        for kind in ("NonMaxSuppression", "Exp", "Softmax", "GatherND", "TopK"):
            [*readers] = [node for node in nodes if node.op_type == kind]
            assert readers and not any(makers.get(name) == "DequantizeLinear" for n in readers for name in n.input)


def test_8_bits_that_lose_the_detections_are_refused(net, tmp_path, monkeypatch):
    from gluon_effnets.deploy import answers

    monkeypatch.setattr(answers, "detections_agreement", lambda found, exact: {"agreement": 0.2})
    with pytest.raises(ExportError, match="20% of the detections are found again"):
        export(net, tmp_path / "net", int8=[inputs(8)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("classes", [NAMES, 3, 7])
def test_weights_know_their_detector(classes, tmp_path):
    net, path = get_detector(SMALL, classes), tmp_path / "net.params"
    net.initialize()
    net.save_parameters(str(path))
    again = load_detector(path, name=SMALL)
    assert again.classes == net.classes and again.num_classes == net.num_classes
    assert again.definition() == net.definition() and again.info == net.info
    x = mx.nd.array(inputs(1))
    assert all((a == b).asnumpy().all() for a, b in zip(net.predictions(x), again.predictions(x)))
    with pytest.raises(ValueError, match="not of ssdlite320_mobilenext_x1_0"):
        load_detector(path, name="ssdlite320_mobilenext_x1_0")
    classifier = get_model("idle_tiny", classes=3)
    classifier.initialize()
    classifier.save_parameters(str(path))
    with pytest.raises(ValueError, match="'idle_tiny', not of a detector"):
        load_detector(path)


@pytest.mark.parametrize(
    "change",
    [
        {"pretrained_base": "/etc/passwd"},
        {"base": {"pretrained": "/etc/passwd"}},
        {"base": {"root": "/"}},
        {"base": 5},
        {"base": {"stem_stride": -1}},
        {"in_channels": 10**9},
        {"form": "elsewhere.nets:make"},
        {"unknown": 1},
    ],
)
def test_a_description_opens_no_file_and_imports_nothing(change, net, monkeypatch):
    from gluon_effnets.models import params, registry

    def never(*args, **keywords):
        raise AssertionError("a description may name no file and no module")

    monkeypatch.setattr(params, "read", never)
    monkeypatch.setattr(registry._foreign, "load_foreign", never)
    definition = net.definition()
    base = {**definition["base"], **change["base"]} if isinstance(change.get("base"), dict) else change.get("base")
    changed = {**definition, **change, **({"base": base} if "base" in change else {})}
    assert described_detector(SMALL, 3, changed) is None
    assert described_detector("elsewhere.nets:make", 3, definition) is None
    assert described_detector(SMALL, 3, definition) is not None


CHANGES = {
    "box_nms": lambda nodes: nodes["_contrib_box_nms"]["attrs"].update(in_format="center"),
    "limit": lambda nodes: nodes["_contrib_box_nms"]["attrs"].update(overlap_thresh="nan"),
    "topk": lambda nodes: nodes["topk"]["attrs"].update(k="-3"),
    "indices": lambda nodes: nodes["gather_nd"]["inputs"].__setitem__(1, nodes["gather_nd"]["inputs"][0]),
    "values": lambda nodes: nodes["topk"]["attrs"].update(ret_typ="value"),
    "division": lambda nodes: nodes["_div_scalar"]["attrs"].update(scalar="0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_graphs_of_strangers(change, tmp_path):
    """Indices that are NaN would be read beyond the memory of an array."""
    layer = LevelDetections(np.full((6, 4), 0.5), 2, Selection(per_level=5), level_sizes=[4, 2])
    graph = json.loads(mx.sym.Group(list(layer(mx.sym.var("logits"), mx.sym.var("offsets")))).tojson())
    for node in graph["nodes"]:
        node.get("attrs", {}).pop("__init__", None)
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps(graph))
    assert len(load_symbol(path).list_outputs()) == 3
    CHANGES[change]({node["op"]: node for node in reversed(graph["nodes"])})  # the first of every kind
    path.write_text(json.dumps(graph))
    with pytest.raises(ValueError, match="net-symbol.json is (refused|no graph)"):
        load_symbol(path)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "segmentation"},
        {"task": None},
        {"outputs": ["boxes"]},
        {"outputs": ["scores", "boxes"]},
        {"selection": None},
        {"selection": {"score_above": 2, "overlap": 0.5, "per_image": 100, "limits": []}},
        {"selection": {"score_above": 0.1, "overlap": 0.5, "per_image": 10**9, "limits": []}},
        {"selection": {"score_above": 0.1, "overlap": 0.5, "per_image": 9, "limits": [{"begin": 0}]}},
    ],
)
def test_descriptions_of_strangers(change, written, tmp_path):
    done = written["onnx"]
    for path in (*done.files, done.description):
        shutil.copy(path, tmp_path)
    path = tmp_path / done.description.name
    content = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(ValueError, match="does not describe an exported network"):
        open_exported(path)


def test_arrays_that_are_not_those_described_are_one_sentence(written, tmp_path):
    content = json.loads(written["onnx"].description.read_text())
    content.update(files=[written["onnx-all"].files[0].name])
    content.pop("sha256")
    shutil.copy(written["onnx-all"].files[0], tmp_path)
    (tmp_path / "net.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="does not give boxes, scores, classes"):
        open_exported(tmp_path / "net.json")(inputs(1))
