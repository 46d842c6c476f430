"""Images with boxes: every layout says the same, batches keep the promises of all data, and no box goes astray."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from boxed import NAMES, drawn, write_coco, write_detrec, write_voc

from gluon_effnets._gluoncv import import_gluoncv
from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.data import DataSettings, open_data
from gluon_effnets.train.data.detection.voc import VOC_CLASSES

NUM_TRAIN, NUM_VAL, SIDE = 14, 9, 32


def opened(source, seed=3, rank=0, world=1, **changes):
    settings = {"image_size": SIDE, "batch_size": 4, "num_threads": 2, "augment": "none", **changes}
    return open_data(DataSettings(source=source, **settings), seed=seed, rank=rank, world=world)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same images in all layouts."""
    root = tmp_path_factory.mktemp("boxed")
    train, val = drawn(NUM_TRAIN), drawn(NUM_VAL, first=100)
    (root / "VOCdevkit").mkdir()
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    write_voc(root / "VOCdevkit" / "VOC2007", {"train": train, "val": val})
    write_coco(root / "coco", {"train2017": train, "val2017": val})
    write_detrec(root / "records", {"train": train, "val": val})
    kinds = {"voc": "VOCdevkit", "coco": "coco", "detrec": "records"}
    return {kind: f"{kind}:{root / place}" for kind, place in kinds.items()}


def truths_of(data):
    return [truth for batch in data.val_batches() for truth in batch.truths]


def arrays(batch):
    return [array.asnumpy() for array in (batch.data, batch.label, batch.boxes)]


def assert_equal(ones, others):
    ones, others = list(ones), list(others)
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others):
        for array, expected in zip(arrays(one), arrays(other)):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("kind", ["voc", "coco", "detrec"])
def test_truths_are_what_was_drawn(kind, sources):
    data = opened(sources[kind])
    assert data.is_detection and data.class_names == NAMES
    assert (data.num_train, data.num_val, data.num_classes) == (NUM_TRAIN, NUM_VAL, 2)
    truths = truths_of(data)
    assert len({truth.image for truth in truths}) == NUM_VAL
    for truth, image in zip(truths, drawn(NUM_VAL, first=100)):
        assert truth.size == (image.height, image.width)
        boxes = np.array([box for _, box, _ in image.objects], float).reshape(-1, 4)
        # The labels of records are float32.
        np.testing.assert_allclose(truth.boxes, boxes, atol=1e-5 if kind == "detrec" else 0)
        assert truth.classes.tolist() == [name for name, _, _ in image.objects]
        assert truth.difficult.tolist() == [difficult for _, _, difficult in image.objects]
        if kind == "coco":
            sides = boxes[:, 2:] - boxes[:, :2]
            np.testing.assert_allclose(truth.areas, 0.5 * sides.prod(axis=1))
        else:
            assert truth.areas is None


@pytest.mark.parametrize("kind", ["coco", "detrec"])
@pytest.mark.parametrize("augment", ["none", "ssd", "ssdlite", "frcnn"])
def test_batches_of_all_layouts_are_equal(kind, augment, sources):
    ours, others = (opened(sources[source], augment=augment) for source in (kind, "voc"))
    for one, other in zip(ours.train_batches(1), others.train_batches(1)):
        np.testing.assert_array_equal(one.data.asnumpy(), other.data.asnumpy())
        np.testing.assert_array_equal(one.label.asnumpy(), other.label.asnumpy())
        np.testing.assert_allclose(one.boxes.asnumpy(), other.boxes.asnumpy(), atol=1e-6)


def test_a_batch_holds_what_counts_in_shares_of_what_is_shown(sources):
    images = drawn(NUM_VAL, first=100)
    batches = list(opened(sources["voc"], mean=[0, 0, 0], std=[1, 1, 1]).val_batches())
    rows = [row for batch in batches for row in list(zip(*arrays(batch)))[: batch.num_valid]]
    for (pixels, label, boxes), image in zip(rows, images):
        assert pixels.shape == (3, SIDE, SIDE) and 0 <= pixels.min() and pixels.max() <= 255
        counted = [(kind, box) for kind, box, difficult in image.objects if not difficult]
        assert label[: len(counted)].tolist() == [kind for kind, _ in counted]
        scale = (image.width, image.height, image.width, image.height)
        expected = np.array([box for _, box in counted]).reshape(-1, 4) / scale
        np.testing.assert_allclose(boxes[: len(counted)], expected, atol=1e-6)
        assert (label[len(counted) :] == -1).all() and (boxes[len(counted) :] == -1).all()
    assert batches[-1].num_valid == 1 and batches[-1].data.shape[0] == 4
    assert (batches[-1].label[1:] == -1).asnumpy().all() and len(batches[-1].truths) == 1


def test_places_for_boxes_are_powers_of_two(tmp_path):
    images = drawn(8)
    crowded = images[0]._replace(objects=[(0, (1, 1, 9, 9), False)] * 17)
    write_detrec(tmp_path, {"train": [crowded, *images[1:]]})
    shapes = {batch.label.shape for batch in opened(f"detrec:{tmp_path}").train_batches(0)}
    assert shapes == {(4, 8), (4, 32)}


@pytest.mark.parametrize("augment", ["ssd", "ssdlite"])
def test_an_epoch_resumed_in_its_middle_and_any_number_of_threads(augment, sources):
    one = opened(sources["voc"], augment=augment, num_threads=1)
    whole = list(one.train_batches(2))
    assert len(whole) == 3
    assert_equal(whole, opened(sources["voc"], augment=augment, num_threads=5).train_batches(2))
    assert_equal(whole[1:], opened(sources["voc"], augment=augment).train_batches(2, first_step=1))
    other = next(opened(sources["voc"], augment=augment).train_batches(3))
    assert not np.array_equal(other.data.asnumpy(), whole[0].data.asnumpy())


def test_two_workers_see_each_image_once(sources):
    workers = [opened(sources["coco"], rank=rank, world=2, batch_size=3) for rank in range(2)]
    names = [truth.image for worker in workers for truth in truths_of(worker)]
    assert sorted(names) == sorted(str(image.id) for image in drawn(NUM_VAL, first=100))
    seen = [image.tobytes() for worker in workers for batch in worker.train_batches(0) for image in arrays(batch)[0]]
    assert len(seen) == 2 * 2 * 3 == len(set(seen))


# Parts and classes.


def test_parts_of_voc(tmp_path):
    kit, images = tmp_path / "kit", drawn(12)
    write_voc(kit / "VOC2007", {"train": images[:3], "val": images[3:5], "trainval": images[:5], "test": images[5:7]})
    write_voc(kit / "VOC2012", {"train": images[7:9], "val": images[9:12]})
    assert [opened(f"voc:{kit}").num_train, opened(f"voc:{kit}").num_val] == [7, 2]
    single = opened(f"voc:{kit / 'VOC2012'}")
    assert [single.num_train, single.num_val] == [2, 3]
    chosen = opened(f"voc:{kit}", train_parts=("2007_train", "2012_val"), eval_parts=("val",))
    assert [chosen.num_train, chosen.num_val] == [3, 5], "val of 2012 is in the evaluation of both years"
    with pytest.raises(ValueError, match="data.train_parts names '2013_train'.*there are 2007_trainval, 2007_train"):
        opened(f"voc:{kit}", train_parts=("2013_train",))


def test_a_secret_test_is_no_evaluation(tmp_path):
    """VOC2012's list of test images comes without annotations."""
    images = drawn(6)
    write_voc(tmp_path, {"train": images[:3], "val": images[3:], "test": drawn(2, first=50)})
    for path in (tmp_path / "Annotations").glob("05*.xml"):
        path.unlink()
    data = opened(f"voc:{tmp_path}")
    assert [data.num_train, data.num_val] == [3, 3]


def test_what_is_evaluated_is_never_trained_on(tmp_path, caplog):
    images = drawn(6)
    write_voc(tmp_path / "voc", {"trainval": images, "test": images[4:]})
    write_coco(tmp_path / "coco", {"train2017": images, "val2017": images[4:]})
    assert opened(f"coco:{tmp_path / 'coco'}").num_train == 6, "files of the same name may be different images"
    shutil.copytree(tmp_path / "coco" / "train2017", tmp_path / "coco" / "images")
    for part in ("train2017", "val2017"):
        shutil.rmtree(tmp_path / "coco" / part)
    for kind in ("voc", "coco"):
        caplog.clear()
        assert opened(f"{kind}:{tmp_path / kind}").num_train == 4
        assert "2 images are for the evaluation and not trained on" in caplog.text


def test_images_of_several_files_have_names_of_their_own(tmp_path):
    write_coco(tmp_path, {"val2014": drawn(3), "val2017": drawn(3)})
    truths = truths_of(opened(f"coco:{tmp_path}", eval_parts=("val2014", "val2017")))
    assert [truth.image for truth in truths] == ["0/0", "0/1", "0/2", "1/0", "1/1", "1/2"]


def test_classes_of_voc_by_what_is_there(tmp_path):
    images = drawn(6)
    official = write_voc(tmp_path / "official", {"train": images}, names=["sofa", "cat"])
    assert opened(f"voc:{official}").class_names == list(VOC_CLASSES)
    own = write_voc(tmp_path / "own", {"train": images}, names=["zebra", "Ant"])
    assert opened(f"voc:{own}").class_names == ["Ant", "zebra"]
    (own / "classes.txt").write_text("zebra\nyak\nAnt\n")
    assert opened(f"voc:{own}").class_names == ["zebra", "yak", "Ant"]


def test_classes_of_records_without_names(tmp_path):
    write_detrec(tmp_path, {"train": drawn(6)})
    (tmp_path / "classes.txt").unlink()
    assert opened(f"detrec:{tmp_path}").class_names == ["0", "1"]
    assert opened(f"detrec:{tmp_path}", classes=5).num_classes == 5


def test_single_files_are_for_evaluation(tmp_path):
    images = drawn(5)
    write_detrec(tmp_path / "records", {"test": images})
    write_coco(tmp_path / "coco", {"val2014": images})
    files = {"detrec": "records/test.rec", "coco": "coco/annotations/instances_val2014.json"}
    for kind, name in files.items():
        data = opened(f"{kind}:{tmp_path / name}")
        assert [data.num_train, data.num_val] == [0, 5]
        with pytest.raises(ValueError, match="no training images"):
            data.train_batches(0)


def test_images_of_a_coco_file_may_lie_beside_it(tmp_path):
    write_coco(tmp_path / "coco", {"val": drawn(3)})
    flat = tmp_path / "flat"
    shutil.copytree(tmp_path / "coco" / "val", flat)
    shutil.copy(tmp_path / "coco" / "annotations" / "instances_val.json", flat / "all.json")
    assert len(truths_of(opened(f"coco:{flat / 'all.json'}"))) == 3


def test_labels_as_readers_of_mxnet_pad_them(tmp_path):
    images = drawn(5)

    def padded(image, width):
        numbers = [2.0, 5.0, *(number for row in objects(image) for number in row)]
        return [3, image.height, image.width, len(numbers), *numbers, *[-1] * (60 - len(numbers))]

    def filled(image, width):
        return [4.0, 5.0, image.width, image.height, *np.ravel(objects(image)), *[-1] * 10]

    def objects(image):
        scale = (image.width, image.height, image.width, image.height)
        return [[kind, *np.divide(box, scale)] for kind, box, _ in image.objects]

    plain = write_detrec(tmp_path / "plain", {"val": images}, width=5)
    for name, labels in (("padded", padded), ("filled", filled)):
        write_detrec(tmp_path / name, {"val": images}, labels=labels)
        for one, other in zip(truths_of(opened(f"detrec:{tmp_path / name}")), truths_of(opened(f"detrec:{plain}"))):
            np.testing.assert_array_equal(one.boxes, other.boxes)
            np.testing.assert_array_equal(one.classes, other.classes)


def test_boxes_of_records_equal_those_of_gluoncv(tmp_path):
    images = [image for image in drawn(9) if image.objects]
    write_detrec(tmp_path, {"val": images})
    dataset = import_gluoncv("data").RecordFileDetection(str(tmp_path / "val.rec"))
    for truth, (pixels, label), image in zip(truths_of(opened(f"detrec:{tmp_path}")), dataset, images):
        np.testing.assert_allclose(truth.boxes, label[:, :4], atol=1e-3)
        np.testing.assert_array_equal(truth.classes, label[:, 4])
        np.testing.assert_array_equal(truth.difficult, label[:, 5])
        np.testing.assert_array_equal(pixels.asnumpy(), image.pixels)


# What does not go together.


@pytest.mark.parametrize(
    ("source", "changes", "text"),
    [
        (
            "scattered_digits",
            {"augment": "small"},
            "without boxes; for scattered_digits choose one of imagenet, none, evaluation, ssd",
        ),
        ("scattered_digits", {"random_erasing": 0.5}, "data.random_erasing has no meaning for scattered_digits"),
        ("synthetic", {"augment": "ssd"}, "with boxes; for synthetic choose one of imagenet, small"),
        ("synthetic", {"eval_parts": ("val",)}, "data.eval_parts has no meaning for synthetic"),
        ("scattered_digits:x", {}, "write scattered_digits:N"),
        ("voc", {}, "needs a folder: voc:DIR"),
        ("vocc:a", {}, "did you mean 'voc'"),
        ("voc:nowhere", {}, "no data at nowhere; voc:DIR is a VOCdevkit"),
        ("coco:nowhere", {}, "no annotations at nowhere"),
        ("detrec:nowhere", {}, "no data at nowhere; detrec:DIR has train.rec"),
    ],
)
def test_settings_that_do_not_go_with_a_source(source, changes, text):
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        opened(source, **changes)


def test_a_network_for_other_images_is_refused_in_one_sentence(sources):
    boxed, plain = opened(sources["voc"]), opened("synthetic")
    assert not plain.is_detection
    boxed.check_purpose(True, "ssdlite")
    plain.check_purpose(False, "idle_mbv3")
    with pytest.raises(ValueError, match="idle_mbv3 classifies images, but voc:.* has images with boxes: take folder"):
        boxed.check_purpose(False, "idle_mbv3")
    with pytest.raises(ValueError, match="ssdlite is a detector, but synthetic has images without boxes: take voc"):
        plain.check_purpose(True, "ssdlite")


def test_one_line_says_what_is_read(sources):
    text = opened(sources["voc"], augment="imagenet").description
    boxes = sum(len(image.objects) for image in drawn(NUM_TRAIN))
    assert f"14 training images with {boxes} boxes and 9 evaluation images with" in text
    assert "augment ssd, from threads" in text


# Scattered digits.


def test_scattered_digits():
    data = opened("scattered_digits:40", image_size=64, augment="ssd")
    assert (data.num_train, data.num_val, data.num_classes) == (40, 10, 10)
    again = opened("scattered_digits:40", image_size=64, seed=99)
    assert_equal(data.val_batches(), again.val_batches())
    train, val = data._train, data._val
    np.testing.assert_array_equal(train.read(3), train.read(3))
    assert 1 <= min(map(len, train.labels)) and max(map(len, train.labels)) <= 6
    ours, theirs = ({glyph.tobytes() for glyph in photos._glyphs} for photos in (train, val))
    assert not ours & theirs, "digits of the evaluation are never those of the training"
    assert not data.settings.mirror


def test_boxes_of_scattered_digits_hold_their_ink():
    photos = opened("scattered_digits:20", image_size=96)._train
    for position in range(20):
        truth = photos.annotations.truth(position)
        for digit, (left, top, right, bottom) in zip(photos._places(position), truth.boxes.astype(int)):
            inked = np.zeros((96, 96), bool)
            window = np.s_[digit.top : digit.top + digit.side, digit.left : digit.left + digit.side]
            inked[window] = photos._ink(digit) >= 0.35
            assert inked[top:bottom, left:right].sum() == inked.sum()
            assert inked[top, left:right].any() and inked[top:bottom, right - 1].any()


# Blood cells, where they are.


@pytest.mark.skipif("GLUON_EFFNETS_DATA" not in os.environ, reason="needs the folder GLUON_EFFNETS_DATA")
@pytest.mark.parametrize(("part", "images", "boxes"), [("train", 205, 2804), ("val", 87, 1137), ("test", 72, 945)])
def test_blood_cells_as_files_and_as_records(part, images, boxes):
    folder = Path(os.environ["GLUON_EFFNETS_DATA"], "bccd")
    files = opened(f"voc:{folder / 'VOCdevkit'}", eval_parts=(part,), batch_size=16)
    records = opened(f"detrec:{folder / part}.rec", batch_size=16)
    assert files.class_names == records.class_names == ["rbc", "wbc", "platelets"]
    assert files.num_val == records.num_val == images
    count = 0
    for one, other in zip(files.val_batches(), records.val_batches()):
        np.testing.assert_array_equal(one.data.asnumpy(), other.data.asnumpy())
        for ours, theirs in zip(one.truths, other.truths):
            # These records were written as GluonCV reads VOC: their second corner is one pixel less.
            np.testing.assert_allclose(ours.boxes - [0, 0, 1, 1], theirs.boxes, atol=1e-3)
            np.testing.assert_array_equal(ours.classes, theirs.classes)
            count += len(ours.boxes)
    assert count == boxes


def test_parts_in_a_recipe():
    data = load_recipe(None, ["model=x", "optimizer.lr=1", "data.train_parts=[2007_train, 2012_train]"]).data
    assert data.train_parts == ("2007_train", "2012_train")
    assert DataSettings(eval_parts="2007_val").eval_parts == ("2007_val",)
    with pytest.raises(ValueError, match="data.eval_parts is empty"):
        DataSettings(eval_parts=())
