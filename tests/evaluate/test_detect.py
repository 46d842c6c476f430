"""Detections on single images: files, arrays and open images, each in its own pixels."""

from __future__ import annotations

import cv2
import mxnet as mx
import numpy as np
import pytest
from images import photo
from PIL import Image

from gluon_effnets.deploy import export
from gluon_effnets.detection import get_detector
from gluon_effnets.evaluate import ImageDetections, ImageDetector, detect_images
from gluon_effnets.evaluate.detect import draw_detections
from gluon_effnets.evaluate.drawing import class_color
from gluon_effnets.models import Preprocessing

pytestmark = pytest.mark.fast

SMALL = "ssdlite320_mobilenext_x0_35"
SIZES = ((60, 90), (400, 300), (320, 320))


@pytest.fixture(scope="module")
def net():
    mx.random.seed(3)
    net = get_detector(SMALL, ["cat", "dog"])
    net.initialize()
    net.hybridize()
    return net


@pytest.fixture(scope="module")
def detector(net):
    return ImageDetector.of_net(net)


def images():
    return [photo(seed, *size) for seed, size in enumerate(SIZES)]


def test_boxes_are_in_pixels_of_the_image(net, detector):
    for image in images():
        height, width = image.shape[:2]
        shown = cv2.resize(image, (320, 320)).astype(np.float32) - np.float32([123, 117, 104])
        expected = net.detect(mx.nd.array(shown.transpose(2, 0, 1)[None]), (height, width))
        boxes, scores, classes = (array[0].asnumpy() for array in expected)
        found = detector(image)
        assert found.size == (height, width) and found.classes.dtype.kind == "i"
        np.testing.assert_allclose(found.boxes, boxes[classes >= 0], atol=1e-3)
        np.testing.assert_allclose(found.scores, scores[classes >= 0], atol=1e-6)
        assert (found.boxes.min(axis=0) >= 0).all() and (found.boxes <= [width, height, width, height]).all()
        assert found.boxes[:, 2].max() > 0.9 * width and found.boxes[:, 3].max() > 0.9 * height


def test_files_arrays_and_open_images_are_one(detector, tmp_path):
    for number, image in enumerate(images()):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        forms = [
            str(tmp_path / f"{number}.png"),
            tmp_path / f"{number}.png",
            Image.fromarray(image),
            mx.nd.array(image, dtype="uint8"),
        ]
        for form in forms:
            for mine, theirs in zip(detector(form), detector(image)):
                np.testing.assert_array_equal(mine, theirs)
    gray = images()[0][..., 0]
    np.testing.assert_array_equal(detector(gray).scores, detector(np.stack([gray] * 3, axis=2)).scores)
    # A file is turned as its camera was held.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(images()[0]).save(tmp_path / "turned.png", exif=exif)
    assert detector(tmp_path / "turned.png").size == (90, 60)


def test_several_images_are_each_as_alone(net, detector):
    many = images() * 4
    together = detect_images(net, iter(many), score_above=0.3)
    assert len(together) == 12
    for image, found in zip(many, together):
        alone = detector(image).chosen(0.3)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)
        assert found.size == image.shape[:2]
    assert detect_images(detector, []) == []


def test_what_is_chosen():
    found = ImageDetections(np.zeros((3, 4)), np.array([0.9, 0.5, 0.2]), np.array([1, 0, 1]), (10, 10))
    assert found.chosen(0.5).scores.tolist() == [0.9] and found.chosen(0.1, most=2).scores.tolist() == [0.9, 0.5]
    assert found.chosen(0.6).records(["cat", "dog"]) == [{"class": 1, "name": "dog", "score": 0.9, "box": [0.0] * 4}]
    assert found.records()[1]["name"] is None


def test_weights_and_exports_detect_alike(net, tmp_path):
    net.save_parameters(str(tmp_path / "w.params"))
    export(net, tmp_path / "net", format="onnx")
    by_weights = ImageDetector.of_weights(SMALL, tmp_path / "w.params")
    by_export = ImageDetector.of_export(tmp_path / "net.json")
    assert by_weights.names == by_export.names == ["cat", "dog"] and by_export.num_classes == 2
    for one, other in zip(detect_images(by_weights, images()), detect_images(by_export, images())):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_what_is_no_image_is_refused(net, detector, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(FileNotFoundError, match="no image at"):
        detector(tmp_path / "nowhere.png")
    with pytest.raises(OSError, match=r"text\.png is no"):
        detector(tmp_path / "text.png")
    for wrong in (
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(3, np.uint8),
    ):
        with pytest.raises(ValueError, match="an image is an array"):
            detector(wrong)
    with pytest.raises(TypeError, match="detector is 'net.json'.*it must be a detector"):
        detect_images("net.json", images())
    other = get_detector(SMALL, 2)
    other.initialize()
    other.preprocessing = Preprocessing((0.0,), (1.0,))
    with pytest.raises(ValueError, match="is for 3 channel"):
        ImageDetector.of_net(other)
    param = next(iter(other.predictor.collect_params().values()))
    param.set_data(param.data() * np.nan)
    with pytest.raises(ValueError, match="not finite"):
        ImageDetector.of_net(other)


def test_detections_are_drawn_in_the_colors_of_their_classes(tmp_path):
    image = np.full((200, 300, 3), 200, np.uint8)
    boxes = np.array([[50, 60, 120, 150], [180, 60, 260, 150]], np.float32)
    found = ImageDetections(boxes, np.array([0.93, 0.5]), np.array([0, 4]), (200, 300))
    seen = draw_detections(image, found, ["cat", "", "", "", "a very long name of a class that goes on and on"])
    for (left, _, _, _), label in zip(boxes.astype(int), (0, 4)):
        assert (seen[80:140, left + 1 : left + 3] == class_color(label)).all()
    # The ground of the labels stands above the boxes.
    assert (seen[50:60, 50:90] == class_color(0)).all(axis=2).mean() > 0.4
    assert (seen[50:60] == class_color(4)).all(axis=2).sum() > 500
    assert (seen[160:] == 200).all()
    np.testing.assert_array_equal(draw_detections(Image.fromarray(image), found.chosen(0.99)), image)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert (draw_detections(tmp_path / "a.png", found) != image).any()
