"""Detectors on evaluation images: scores in pixels of the originals, classes by name, pages and curves with boxes."""

from __future__ import annotations

import base64
import re

import cv2
import mxnet as mx
import numpy as np
import pytest
from boxed import NAMES, drawn, write_voc

from gluon_effnets import get_model
from gluon_effnets.deploy import export
from gluon_effnets.detection import DetectionScores, Truth, get_detector
from gluon_effnets.evaluate.detections import DetectionAnswers, ask_detector, best_score, box_class_rows
from gluon_effnets.evaluate.detector import (
    DetectorSubject,
    default_metric,
    describes_detector,
    open_detector,
    open_detector_export,
)
from gluon_effnets.evaluate.drawing import DETECTED, DIFFICULT, TRUE, DrawnBox, draw_boxes
from gluon_effnets.evaluate.precision_recall import draw_curves
from gluon_effnets.evaluate.subject import open_weights
from gluon_effnets.evaluate.worst import scene_with_boxes, scenes_page
from gluon_effnets.train.data import DataSettings, open_data

pytestmark = pytest.mark.fast

SMALL = "ssdlite320_mobilenext_x0_35"


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """Seven images of two shapes, of which the fifth has no object."""
    root = write_voc(tmp_path_factory.mktemp("voc") / "VOC2007", {"train": drawn(2, 20), "val": drawn(7)})
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A detector without training, with the classes in the other order than those of the data."""
    mx.random.seed(3)
    net = get_detector(SMALL, NAMES[::-1])
    net.initialize()
    path = tmp_path_factory.mktemp("weights") / "w.params"
    net.save_parameters(str(path))
    return path


def opened(voc, rank=0, world=1, **settings):
    settings = {"image_size": 64, "eval_batch_size": 3, "num_threads": 2, **settings}
    return open_data(DataSettings(source=f"voc:{voc}", **settings), seed=0, rank=rank, world=world)


def subject_of(data, detect):
    """A subject whose detections of an image are what `detect(truth)` gives: boxes, scores, classes."""

    def answers(batch):
        found = [np.full((batch.num_valid, 40, 4), -1.0), *np.full((2, batch.num_valid, 40), -1.0)]
        for row, truth in enumerate(batch.truths):
            for array, values in zip(found, detect(truth)):
                array[row, : len(values)] = values
        return tuple(found)

    return DetectorSubject("stub", "nowhere", data, answers, "recorded", None, classes=data.class_names)


def everything(truth):
    return truth.boxes, np.linspace(0.9, 0.5, len(truth.boxes)), truth.classes


def test_all_objects_found_are_all_points(voc):
    data = opened(voc)
    for metric in ("voc07", "voc12", "coco"):
        answers = ask_detector(subject_of(data, everything), metric)
        assert answers.scores["map"] == pytest.approx(1) and answers.bounds["map"] == pytest.approx((1, 1))
        assert len(answers.collected.images) == data.num_val == 7 and not answers.worst
    objects = [kind for image in drawn(7) for kind, _, difficult in image.objects if not difficult]
    rows = box_class_rows(answers)
    assert [(row.name, row.objects, row.found) for row in rows] == [
        (name, objects.count(label), objects.count(label)) for label, name in enumerate(data.class_names)
    ]
    assert [row.ap for row in rows] == pytest.approx([1, 1])


def test_false_detections_and_the_score_that_is_best():
    """The class Bee: three objects, found at 0.9, 0.8 and 0.3, with two false detections of 0.5 and 0.4."""
    answers = DetectionScores(["Bee", "ant"], "voc12")
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], float)
    false = np.array([[0, 50, 10, 60], [20, 50, 30, 60]], float)
    truth = Truth("1", (100, 100), boxes, np.zeros(3, int), np.zeros(3, bool))
    answers.add(truth, np.concatenate([boxes, false]), [0.9, 0.8, 0.3, 0.5, 0.4], np.zeros(5))
    found = DetectionAnswers(answers, answers.result())
    # F1 is 0.8 after two of two, and 0.75 after three of five.
    assert best_score(found, "Bee") == 0.8 and best_score(found, "ant") is None
    [bee, ant] = box_class_rows(found)
    assert bee == (0, "Bee", 3, 3, 5, pytest.approx((2 + 0.6) / 3), 0.8)
    assert ant == (1, "ant", 0, 0, 0, None, None)


def test_what_two_workers_see_is_what_one_sees(voc):
    def near(truth):
        return truth.boxes + [0, 0, 3, 0], np.linspace(0.9, 0.5, len(truth.boxes)), truth.classes

    whole = ask_detector(subject_of(opened(voc), near), "coco")
    rows = []
    for rank in range(2):
        data = opened(voc, rank, 2)
        scores, subject = DetectionScores(data.class_names, "coco"), subject_of(data, near)
        for batch in data.val_batches():
            for truth, *found in zip(batch.truths, *subject.detect(batch)):
                scores.add(truth, *found)
        rows.append(scores.rows())
    again = DetectionScores.of_rows(data.class_names, "coco", np.concatenate(rows)).result()
    np.testing.assert_equal(again.figures, whole.result.figures)
    assert 0 < again.mean < 1


def test_weights_and_exports_detect_in_pixels_of_the_originals(voc, weights, tmp_path, caplog):
    """The boxes are those of `Detector.detect`; classes, of which the data have another order, by name."""
    source, overrides = f"voc:{voc}", ["data.eval_batch_size=3", "data.num_threads=2"]
    subject = open_detector(SMALL, str(weights), source, overrides)
    assert "compared by name" in caplog.text
    assert subject.data.class_names == NAMES and subject.net.classes == NAMES[::-1]
    assert subject.num_params == sum(
        np.prod(p.shape) for p in subject.net.collect_params().values() if p.grad_req != "null"
    )
    assert subject.protocol == "recorded" and subject.data.preprocessing.mean == (123, 117, 104)
    export(subject.net, tmp_path / "net", format="onnx")
    assert describes_detector(tmp_path / "net.json")
    other = open_detector_export(str(tmp_path / "net.json"), source, overrides)
    assert other.num_params == subject.num_params and other.classes == NAMES
    sizes = []
    for batch, again in zip(subject.data.val_batches(), other.data.val_batches()):
        np.testing.assert_array_equal(batch.data.asnumpy(), again.data.asnumpy())
        boxes, scores, classes = subject.detect(batch)
        assert len(boxes) == batch.num_valid == len(batch.truths)
        for row, truth in enumerate(batch.truths):
            own = [each[0].asnumpy() for each in subject.net.detect(batch.data[row : row + 1], truth.size)]
            there = own[2] >= 0
            np.testing.assert_allclose(scores[row], own[1], atol=1e-6)
            np.testing.assert_array_equal(np.sort(classes[row]), np.sort(np.where(there, 1 - own[2], -1)))
            assert boxes[row][there].max() <= max(truth.size) and boxes[row][..., 2].max() > truth.size[1] * 0.9
            sizes.append(truth.size)
        np.testing.assert_allclose(other.detect(again)[1], scores, atol=1e-5)
    assert len(sizes) == 7 and len(set(sizes)) == 2
    assert ask_detector(subject).scores["map"] == pytest.approx(ask_detector(other).scores["map"], abs=1e-3)


def test_what_does_not_fit_is_one_sentence(voc, weights, tmp_path):
    source = f"voc:{voc}"
    with pytest.raises(ValueError, match="takes images of 320 x 320 alone, not 300"):
        open_detector(SMALL, str(weights), source, ["data.image_size=300"])
    with pytest.raises(ValueError, match="is a detector, but synthetic:10 has images without boxes"):
        open_detector(SMALL, str(weights), "synthetic:10")
    with pytest.raises(ValueError, match="are not cropped: leave out the crop"):
        open_detector(SMALL, str(weights), source, ["data.eval_crop=0.9"])
    with pytest.raises(FileNotFoundError):
        open_detector(SMALL, str(tmp_path / "nowhere.params"), source)
    net = get_detector(SMALL, ["cat", "dog"])
    net.initialize()
    net.save_parameters(str(tmp_path / "w.params"))
    with pytest.raises(ValueError, match="the classes of voc:.* are not those of"):
        open_detector(SMALL, str(tmp_path / "w.params"), source)
    with pytest.raises(ValueError, match="holds the weights of"):
        open_detector("ssdlite320_mobilenext_x1_0", str(weights), source)
    param = next(iter(net.predictor.box_heads.collect_params().values()))
    param.set_data(param.data() * np.nan)
    net.save_parameters(str(tmp_path / "w.params"))
    with pytest.raises(ValueError, match="not finite"):
        open_detector(SMALL, str(tmp_path / "w.params"), source)
    classifier = get_model("idle_tiny", classes=2)
    classifier.initialize()
    classifier.save_parameters(str(tmp_path / "c.params"))
    with pytest.raises(ValueError, match="classifies images, but voc:.* has images with boxes"):
        open_weights("idle_tiny", str(tmp_path / "c.params"), source)
    assert not describes_detector(tmp_path / "nowhere.json")


def test_the_metric_follows_the_data():
    assert [default_metric(kind) for kind in ("coco:x", "voc:x", "scattered_digits")] == ["coco", "voc07", "voc07"]


# Pictures


def test_a_box_is_drawn_where_it_is():
    for ground in (0, 255):
        image = np.full((80, 100, 3), ground, np.uint8)
        seen = draw_boxes(image, [DrawnBox((20, 30, 60, 70), TRUE)])
        changed = np.argwhere((seen != image).any(axis=2))
        low, high = changed.min(axis=0), changed.max(axis=0)
        # A rim of a pixel, black outside and white inside, is not seen on its own ground.
        assert low.tolist() == ([31, 21] if ground == 0 else [30, 20])
        assert high.tolist() == ([68, 58] if ground == 0 else [69, 59])
        for row, column in ((31, 40), (32, 40), (68, 40), (50, 21), (50, 22), (50, 58)):
            assert tuple(seen[row, column]) == TRUE
        assert (seen[40:60, 30:50] == ground).all()
    gray = draw_boxes(np.zeros((80, 100), np.uint8), [DrawnBox((20, 30, 60, 70), TRUE)])
    assert gray.shape == (80, 100, 3) and tuple(gray[31, 40]) == TRUE


def test_lines_grow_with_the_image_and_labels_stay_on_it():
    for side, width in ((300, 2), (1500, 5)):
        seen = draw_boxes(np.zeros((side, side, 3), np.uint8), [DrawnBox((0, 0, side, side), TRUE)])
        assert (seen[side // 2] == TRUE).all(axis=1)[: side // 2].sum() == width
    plain = np.zeros((60, 60, 3), np.uint8)
    for box in ((-50, -50, 20, 20), (40, 40, 500, 500), (50, 2, 59, 9), (10, 10, 10, 10), (30, 20, 10, 5)):
        for below in (False, True):
            seen = draw_boxes(plain, [DrawnBox(box, DETECTED, "cat $1 ä", below)])
            # The ground of the text.
            assert (seen == DETECTED).all(axis=2).sum() > 100


def test_the_page_shows_objects_and_detections_in_their_colors(voc):
    """The first class is found, the second never; one more detection lies in the corner, and has the lowest score."""

    def some(truth):
        mine = truth.classes == 0
        boxes = np.concatenate([truth.boxes[mine], [[0, 0, 6, 6]]])
        return boxes, np.append(np.full(mine.sum(), 0.9), 0.1), np.zeros(len(boxes))

    subject = subject_of(opened(voc, image_size=96), some)
    answers = ask_detector(subject, "voc12", worst=4, best=2)
    own = [scene.average_precision for scene in answers.worst]
    assert own == sorted(own) and len(own) == 4 and answers.best[0].average_precision >= own[-1]
    assert all((~scene.seen.truth.difficult).any() for scene in answers.worst)
    truths = [truth for batch in subject.data.val_batches() for truth in batch.truths]
    for scene in (*answers.worst, *answers.best):
        truth = scene.seen.truth
        for mine, read in zip(truth, truths[scene.place]):
            np.testing.assert_array_equal(mine, read)
        least = [best_score(answers, name) for name in subject.classes]
        assert least == [0.9, None]
        seen = scene_with_boxes(subject, scene, least).astype(int)
        assert max(seen.shape) == 480 and seen.shape[0] / seen.shape[1] == pytest.approx(
            truth.size[0] / truth.size[1], rel=0.01
        )
        plain = scene_with_boxes(subject, scene._replace(seen=nothing(scene.seen)), least)
        assert not is_color(plain, TRUE).any() and not is_color(plain, DETECTED).any()
        assert is_color(seen, TRUE).any() == bool((~truth.difficult).any())
        assert is_color(seen, DIFFICULT).any() == bool(truth.difficult.any())
        assert is_color(seen, DETECTED).any() == bool((truth.classes == 0).any())
        # Most of the left edge of every object has a color, but where other lines and labels cross it.
        for left, top, _, bottom in np.rint(truth.boxes * 480 / max(truth.size)).astype(int):
            edge = is_color(seen[top:bottom, left : left + 4], TRUE, DETECTED, DIFFICULT)
            assert edge.any(axis=1).mean() > 0.7
    page = scenes_page(subject, answers)
    assert page.count("<figure>") == 6 and page.count("<h2>") == 2
    for color, word in ((TRUE, "object"), (DETECTED, "detection")):
        assert f'background: rgb{color}">{word}' in page
    pictures = [base64.b64decode(found) for found in re.findall(r'base64,([^"]+)"', page)]
    decoded = [cv2.imdecode(np.frombuffer(found, np.uint8), cv2.IMREAD_COLOR) for found in pictures]
    assert len(decoded) == 6 and all(max(picture.shape) == 480 for picture in decoded)
    assert all(str(voc) in where for where in re.findall(r'class="where">([^<]+)<', page))


def nothing(seen):
    truth = seen.truth._replace(boxes=np.empty((0, 4)), classes=np.empty(0, int), difficult=np.empty(0, bool))
    return seen._replace(truth=truth, boxes=np.empty((0, 4)), scores=np.empty(0), classes=np.empty(0, int))


def is_color(pixels, *colors):
    return np.any([(np.asarray(pixels) == color).all(axis=-1) for color in colors], axis=0)


def test_names_on_the_page_are_text(voc):
    subject = subject_of(opened(voc), everything)._replace(model="<b>net</b>", where='"><script>')
    page = scenes_page(subject, ask_detector(subject, worst=1, best=1))
    assert "<script>" not in page and "&lt;b&gt;net" in page


def test_curves_are_a_picture(voc, tmp_path):
    subject = subject_of(opened(voc), everything)._replace(classes=["a $x", "b$ _{"])
    draw_curves(subject, ask_detector(subject), tmp_path / "a" / "curves.png")
    picture = cv2.imread(str(tmp_path / "a" / "curves.png"))
    # Both curves run along the upper edge: the second one is drawn first, and lies below.
    assert (picture == (180, 119, 31)).all(axis=2).sum() > 300
