"""Augmentation of images with boxes: as the sources do it, and every box where its object is."""

import json
from pathlib import Path

import numpy as np
import pytest
from images import photo

from gluon_effnets.runtime.detections import overlaps
from gluon_effnets.train.data import DataSettings
from gluon_effnets.train.data.detection.augment import Scene, augment_scene, ssd_crop, ssdlite_crop

pytestmark = pytest.mark.fast

FIXTURE = Path(__file__).parents[1] / "fixtures" / "detection" / "ssd_augmentation.json"
CASES = json.loads(FIXTURE.read_text())["cases"]
PLACES = ((3, 5), (24, 24), (40, 11), (17, 44))


def settings(augment, **changes):
    return DataSettings(source="synthetic", augment=augment, image_size=48, **changes)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["photo"][0]))
def test_ssd_is_the_official_one_draw_by_draw(case):
    """The fixture is what the official code makes of the same images with the same seeds."""
    random = np.random.RandomState(case["photo"][0])
    boxes = np.array(case["boxes"])
    pixels, shares, places = augment_scene(photo(*case["photo"]), boxes, settings("ssd", mean=[123, 117, 104]), random)
    assert places.tolist() == case["places"]
    np.testing.assert_allclose(shares, case["shares"], atol=1e-8)
    # Other versions of OpenCV round otherwise when colors are converted.
    np.testing.assert_allclose([pixels[place] for place in PLACES], case["pixels"], atol=0.05)
    assert abs(pixels.mean() - case["mean"]) < 0.01
    assert random.randint(1 << 30) == case["next"], "another number of draws"


def test_the_official_cases_hold_all_that_can_happen():
    shown = [np.array(case["shares"]) for case in CASES]
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1).sum() for boxes in shown]
    before = [np.prod(np.diff(np.reshape(case["boxes"], (-1, 2, 2)), axis=1), axis=2).sum() for case in CASES]
    scales = [after * case["photo"][1] * case["photo"][2] / area for case, after, area in zip(CASES, areas, before)]
    assert min(scales) < 0.5 and max(scales) > 1.5, "some were expanded, and of some a window was cut out"
    assert any(len(case["places"]) < len(case["boxes"]) for case in CASES), "and some boxes were dropped"


def coordinates(height, width):
    """An image whose pixels say where they are."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, rows * 0], axis=2).astype(np.float32)


@pytest.mark.parametrize(("crop", "least_inside"), [(ssd_crop, False), (ssdlite_crop, True)])
def test_windows_keep_what_has_its_center_inside(crop, least_inside):
    boxes = np.array([[10, 10, 40, 60], [50, 5, 90, 45], [0, 70, 20, 80], [60, 40, 119, 79]], float)
    image, cut = coordinates(80, 120), 0
    for seed in range(300):
        scene = crop(Scene(image, boxes, np.arange(4)), np.random.RandomState(seed))
        if scene.image is image:
            np.testing.assert_array_equal(scene.boxes, boxes)
            continue
        cut += 1
        height, width = scene.image.shape[:2]
        left, top = scene.image[0, 0, :2]
        window = left, top, left + width, top + height
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((window[:2] < centers) & (centers < window[2:])).all(axis=1)
        assert scene.places.tolist() == np.flatnonzero(inside).tolist() and len(scene.places)
        moved = scene.boxes + (left, top, left, top)
        np.testing.assert_array_equal(moved, np.clip(boxes[inside], (*window[:2],) * 2, (*window[2:],) * 2))
        assert 0.29 * 120 <= width + 1 and 0.29 * 80 <= height + 1 and 0.47 < width / height < 2.1
        if least_inside:
            assert overlaps(np.array(window), boxes[inside]).max() >= 0
    assert 200 < cut < 290, "one choice in six, or seven, is the whole image"


def test_overlaps():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [20, 20, 30, 30]], float)
    np.testing.assert_allclose(overlaps(np.array([0, 0, 10, 10]), boxes), [1, 25 / 175, 0])


@pytest.mark.parametrize("augment", ["ssd", "ssdlite", "frcnn", "none", "evaluation"])
def test_a_box_stays_around_its_object(augment):
    """A white square on black: wherever it goes, the box goes with it."""
    for seed in range(40):
        image = np.zeros((60, 90, 3), np.uint8)
        image[20:50, 30:70] = 255
        box = np.array([[30, 20, 70, 50]], float)
        pixels, [share], places = augment_scene(
            image, box, settings(augment, mean=[0, 0, 0]), np.random.RandomState(seed)
        )
        assert places.tolist() == [0] and pixels.shape == (48, 48, 3)
        white = pixels.max(axis=2) > pixels.max() / 2
        rows, columns = white.any(axis=1).nonzero()[0], white.any(axis=0).nonzero()[0]
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        np.testing.assert_allclose(share * 48, found, atol=1.01)


@pytest.mark.parametrize("augment", ["ssd", "ssdlite", "frcnn"])
def test_an_image_without_boxes_stays_one(augment):
    for seed in range(10):
        pixels, shares, places = augment_scene(
            photo(1), np.empty((0, 4)), settings(augment), np.random.RandomState(seed)
        )
        assert pixels.shape == (48, 48, 3) and shares.shape == (0, 4) and places.shape == (0,)


def test_a_mirror_is_left_out_where_it_may_not_be():
    box = np.array([[0, 0, 10, 40]], float)
    lefts = {
        mirror: {
            augment_scene(photo(1), box, settings("frcnn", mirror=mirror), np.random.RandomState(seed))[1][0, 0]
            for seed in range(20)
        }
        for mirror in (True, False)
    }
    assert lefts[False] == {0.0} and len(lefts[True]) == 2
