"""Annotations that strangers made: boxes that cannot be, files that lie, and what harms a parser."""

import json
import os

import numpy as np
import pytest
from boxed import coco_of, drawn, write_coco, write_detrec, write_voc
from PIL import Image

from gluon_effnets.files.side_json import parse_json
from gluon_effnets.files.xml_text import parse_xml
from gluon_effnets.runtime.recordio import Reader, Writer
from gluon_effnets.train.data import DataSettings, open_data
from gluon_effnets.train.data.decode import UnreadableImageError

IMAGE = drawn(1)[0]._replace(height=40, width=52)


def opened(source, **changes):
    return open_data(DataSettings(source=str(source), image_size=32, batch_size=2, augment="none", **changes), seed=0)


def truths_of(source, **changes):
    return [truth for batch in opened(source, **changes).val_batches() for truth in batch.truths]


def voc_with(tmp_path, change):
    """A set with the annotation of its first image changed."""
    images = [image for image in drawn(6) if image.objects]
    root = write_voc(tmp_path, {"test": images})
    path = root / "Annotations" / f"{images[0].id:03d}.xml"
    path.write_text(change(images[0], path.read_text()))
    return root, path, images


def boxed(kind="ant", corners=(1, 1, 9, 9)):
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners))
    return f"<object><name>{kind}</name><bndbox>{sides}</bndbox></object></annotation>"


BAD = {
    "outside": ((100, 1, 120, 9), "outside of the 52 x 40 pixels"),
    "without area": ((9.5, 1, 8.5, 9), "without area"),
    "turned": ((9, 1, 4, 9), "second corner is before the first"),
    "nan": (("nan", 1, 4, 9), "no four finite numbers"),
    "endless": ((1, 1, "1e400", 9), "no four finite numbers"),
    "a word": ((1, 1, "four", 9), "no four finite numbers"),
    "empty": (("", 1, 4, 9), "no four finite numbers"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_box_is_left_out_and_named_or_refused(fault, tmp_path, caplog):
    corners, reason = BAD[fault]
    root, path, images = voc_with(tmp_path, lambda _, text: text.replace("</annotation>", boxed(corners=corners)))
    number = len(images[0].objects) + 1
    truths = truths_of(f"voc:{root}")
    assert [len(truth.boxes) for truth in truths] == [len(image.objects) for image in images]
    [line] = [record.message for record in caplog.records if "left out" in record.message]
    assert f"1 boxes of 1 images were left out: {path}, object {number} " in line and reason in line
    with pytest.raises(ValueError, match=f"object {number} .*{reason}.*\n.*data.bad_boxes=drop"):
        opened(f"voc:{root}", bad_boxes="raise")


def test_a_box_that_stands_out_is_cut(tmp_path, caplog):
    caplog.set_level("INFO")
    root, _, _ = voc_with(tmp_path, lambda _, text: text.replace("</annotation>", boxed(corners=(0, -5, 60, 30))))
    assert truths_of(f"voc:{root}", bad_boxes="raise")[0].boxes[-1].tolist() == [0, 0, 52, 30]
    assert "1 boxes stood out of their images and were cut to them" in caplog.text


def test_a_class_that_is_not_known(tmp_path, caplog):
    root, _, images = voc_with(tmp_path, lambda _, text: text.replace("</annotation>", boxed(kind="Wasp\x85")))
    (root / "classes.txt").write_text("Bee\nant\n")
    assert len(truths_of(f"voc:{root}")[0].boxes) == len(images[0].objects)
    assert "is of the class 'Wasp" in caplog.text and "\x85" not in caplog.text


def test_many_bad_boxes_are_one_short_line(tmp_path, caplog):
    images = [image._replace(objects=[(0, (9, 9, 9, 9), False)] * 50) for image in drawn(12)]
    write_detrec(tmp_path, {"val": images})
    assert all(not len(truth.boxes) for truth in truths_of(f"detrec:{tmp_path}"))
    [line] = [record.message for record in caplog.records if "left out" in record.message]
    assert "600 boxes of 12 images" in line and line.endswith("; ...") and len(line) < 1000


def test_a_size_that_is_not_the_images(tmp_path, caplog):
    root, path, images = voc_with(tmp_path, lambda _, text: text.replace("<width>52", "<width>520"))
    assert len(truths_of(f"voc:{root}")) == len(images) - 1
    assert (
        f"1 whole images were left out: {path} says 520 x 40 pixels, but the image is shown with 52 x 40" in caplog.text
    )
    with pytest.raises(ValueError, match="says 520 x 40 pixels"):
        opened(f"voc:{root}", bad_boxes="raise")


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_missing_image(kind, tmp_path):
    images = drawn(4)
    {"voc": write_voc, "coco": write_coco}[kind](tmp_path, {"val": images})
    [path] = tmp_path.rglob("001.png")
    path.unlink()
    with pytest.raises(UnreadableImageError, match="001.* is not there"):
        opened(f"{kind}:{tmp_path}")
    truths = truths_of(f"{kind}:{tmp_path}", on_error="skip")
    assert [len(truth.boxes) for truth in truths] == [len(image.objects) for image in images], "it counts as missed"


def test_an_unreadable_training_image_is_replaced_equally_in_every_run(tmp_path):
    write_voc(tmp_path, {"train": drawn(6), "val": drawn(1, first=50)})
    (tmp_path / "JPEGImages" / "002.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match="002.png"):
        opened(f"voc:{tmp_path}")
    runs = [list(opened(f"voc:{tmp_path}", on_error="skip").train_batches(0)) for _ in range(2)]
    for one, other in zip(*runs):
        np.testing.assert_array_equal(one.data.asnumpy(), other.data.asnumpy())
        np.testing.assert_array_equal(one.boxes.asnumpy(), other.boxes.asnumpy())


# Files that lie.

LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
XML = {
    "entities": (LAUGHS + "<annotation>&b;</annotation>", "declares a document type"),
    "a file as entity": (
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
        "document",
    ),
    "an unknown entity": ("<annotation>&x;</annotation>", "no XML.*undefined entity"),
    "cut short": ("<annotation><object>", "no XML, or is cut short"),
    "deep": ("<annotation>" + "<a>" * 100_000, "deeper than 32"),
    "another root": ("<html></html>", "no annotation of Pascal VOC: it begins with <html>"),
    "no XML": ("xmin = 5", "no XML"),
    "nothing": ("", "no XML"),
    "crowded": ("<annotation>" + "<object/>" * 10_001 + "</annotation>", "10,001 objects; at most 10,000"),
    "too large": ("<annotation>" + " " * (1 << 22) + "</annotation>", "at most 4,194,304 are read"),
    "an unknown encoding": ('<?xml version="1.0" encoding="klingon"?><annotation/>', "no XML"),
}


@pytest.mark.parametrize("fault", XML)
def test_annotations_of_voc_that_harm(fault, tmp_path):
    text, reason = XML[fault]
    root, path, _ = voc_with(tmp_path, lambda *_: text)
    with pytest.raises(ValueError, match=reason) as caught:
        opened(f"voc:{root}")
    assert str(path) in str(caught.value) and len(str(caught.value)) < 500


def test_many_elements_are_refused_before_they_fill_the_memory():
    with pytest.raises(ValueError, match="a.xml has more than 1,000,000 elements"):
        parse_xml(b"<a>" + b"<b/>" * 1_000_001, "a.xml")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a\x1b[2J"])
def test_lists_that_name_files_elsewhere(name, tmp_path):
    root = write_voc(tmp_path, {"test": drawn(2)})
    (root / "ImageSets/Main/test.txt").write_text(f"{name}\n")
    with pytest.raises(ValueError, match="beside itself alone") as caught:
        opened(f"voc:{root}")
    assert "\x1b" not in str(caught.value)


def test_pipes_in_place_of_annotations(tmp_path):
    write_voc(tmp_path / "voc", {"test": drawn(2)})
    path = tmp_path / "voc/Annotations/000.xml"
    path.unlink()
    os.mkfifo(path)
    os.mkfifo(tmp_path / "coco.json")
    os.mkfifo(tmp_path / "val.rec")
    for source in ("voc:voc", "coco:coco.json", "detrec:val.rec"):
        kind, _, name = source.partition(":")
        with pytest.raises(ValueError, match="no regular file"):
            opened(f"{kind}:{tmp_path / name}")


def changed(path, **values):
    def change(content):
        *places, last = path
        inner = content
        for place in places:
            inner = inner[place]
        inner[last] = values["to"]

    return change


JSON = {
    "no list": (changed(["images"], to={}), "images is {}; it must be a list"),
    "no name": (changed(["images", 0], to={"id": 1}), r"images\[0\] lacks 'file_name'"),
    "a path": (changed(["images", 0, "file_name"], to="../../../etc/passwd"), "within their folder alone"),
    "an absolute path": (changed(["images", 0, "file_name"], to="/etc/passwd"), "within their folder alone"),
    "a text for a number": (changed(["annotations", 0, "bbox", 1], to="5"), r"annotations\[0\].bbox.*four numbers"),
    "three numbers": (changed(["annotations", 0, "bbox"], to=[1, 2, 3]), "a list of four numbers"),
    "a large number": (changed(["annotations", 0, "image_id"], to=10**30), "must be a whole number"),
    "another image": (changed(["annotations", 0, "image_id"], to=12345), "of the image 12345, which is not there"),
    "no categories": (changed(["categories"], to=[]), "categories has 0 entries"),
    "categories with one id": (changed(["categories", 0, "id"], to=7), "two categories with the same id"),
    "images with one id": (changed(["images", 0, "id"], to=1), "two images with the same id"),
    "a negative side": (changed(["images", 0, "width"], to=-5), "width is -5; it must be a number"),
}


@pytest.mark.parametrize("fault", JSON)
def test_annotations_of_coco_that_lie(fault, tmp_path):
    change, reason = JSON[fault]
    write_coco(tmp_path, {"val2017": drawn(4)})
    content = coco_of(drawn(4))
    change(content)
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=reason) as caught:
        opened(f"coco:{tmp_path}")
    assert str(path) in str(caught.value) and len(str(caught.value)) < 600


def test_bad_boxes_of_coco_are_left_out(tmp_path, caplog):
    images = [image for image in drawn(4) if image.objects]
    write_coco(tmp_path, {"val2017": images})
    content = coco_of(images)
    first = content["annotations"][0]
    for box in ([1, 1, -5, 5], [1, 1, float("nan"), 5], [500, 500, 9, 9], [1, 1, 0, 4]):
        content["annotations"].append({**first, "bbox": box})
    content["annotations"].append({**first, "category_id": 9})
    content["annotations"].append({**first, "area": float("inf")})
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    truth = truths_of(f"coco:{tmp_path}")[0]
    assert len(truth.boxes) == len(images[0].objects) + 1 and np.isfinite(truth.areas).all()
    assert "5 boxes of 1 images were left out" in caplog.text


def test_what_is_forgotten_of_a_file_is_never_kept():
    content = parse_json('{"a": 1, "b": [{"a": [1, 2], "c": 3}]}', "a.json", without=("a",))
    assert content == {"b": [{"c": 3}]}


def test_categories_that_differ(tmp_path):
    write_coco(tmp_path / "a", {"train2017": drawn(3)}, names=["cat", "dog"])
    write_coco(tmp_path / "b", {"val2017": drawn(3, first=9)}, names=["dog", "cat"])
    for name in ("annotations/instances_val2017.json", "val2017"):
        os.rename(tmp_path / "b" / name, tmp_path / "a" / name)
    with pytest.raises(ValueError, match="has other categories than"):
        opened(f"coco:{tmp_path / 'a'}")


LABELS = {
    "one class": [3.0],
    "two numbers": [5.0, 6.0],
    "an object cut short": [2, 5, 0, 0.1, 0.1, 0.5],
    "not finite": [float("nan"), 5, 0, 0.1, 0.1, 0.5, 0.5],
    "a header beyond": [1e9, 5, 0, 0.1, 0.1, 0.5, 0.5],
    "a negative header": [-2, 5, 0, 0.1, 0.1, 0.5, 0.5],
    "endless objects": [2, float("inf"), 0, 0.1, 0.1, 0.5, 0.5],
}


@pytest.mark.parametrize("fault", LABELS)
def test_labels_of_records_that_lie(fault, tmp_path):
    write_detrec(tmp_path, {"val": drawn(3)}, labels=lambda image, width: LABELS[fault])
    with pytest.raises(ValueError, match="that is no list of boxes") as caught:
        opened(f"detrec:{tmp_path}")
    assert "val.rec, record 0" in str(caught.value)


def test_bad_boxes_of_records_are_left_out(tmp_path, caplog):
    label = [2, 5, 0, 0.1, 0.1, 0.5, 0.5, 1.5, 0.1, 0.1, 0.5, 0.5, 7, 0.1, 0.1, 0.5, 0.5, -3, 0.1, 0.1, 0.5, 0.5]
    label += [1, float("nan"), 0.1, 0.5, 0.5, 0, 30, 20, 50, 40]
    write_detrec(tmp_path, {"val": drawn(1)}, labels=lambda image, width: label)
    [truth] = truths_of(f"detrec:{tmp_path}")
    assert len(truth.boxes) == 1 and "5 boxes of 1 images were left out" in caplog.text


def test_records_for_classification_are_named_as_such(tmp_path):
    with Writer(tmp_path / "val.rec") as writer:
        writer.append(IMAGE.png, 4.0)
    with pytest.raises(ValueError, match="For one class per image use recordio:DIR"):
        opened(f"detrec:{tmp_path}")


def test_records_of_boxes_are_still_no_records_of_classes(tmp_path):
    write_detrec(tmp_path, {"val": drawn(3)})
    with pytest.raises(ValueError, match="one class index is needed .detrec:DIR reads lists of boxes"):
        open_data(DataSettings(source=f"recordio:{tmp_path}", image_size=32, batch_size=2), seed=0)


def test_damaged_records(tmp_path):
    write_detrec(tmp_path, {"val": drawn(3)})
    path = tmp_path / "val.rec"
    offsets = [record.offset for record in Reader(path)]
    content = bytearray(path.read_bytes())
    content[offsets[1] + 8 : offsets[1] + 12] = (90_000).to_bytes(4, "little")  # labels
    path.write_bytes(content)
    with pytest.raises(ValueError, match="record 1 .* is damaged: its header counts 90000 labels"):
        opened(f"detrec:{tmp_path}")


@pytest.mark.parametrize("stored", [True, False])
def test_an_image_that_exif_turns(stored, tmp_path):
    """An annotation must be of the pixels that are shown, not of those that are stored."""
    turn = Image.Exif()
    turn[0x0112] = 6
    image = IMAGE if stored else IMAGE._replace(height=52, width=40)
    root = write_voc(tmp_path, {"test": [image._replace(objects=[(0, (2, 3, 30, 20), False)])]})
    [path] = root.glob("JPEGImages/*.png")
    Image.fromarray(IMAGE.pixels).save(path.with_suffix(".jpg"), exif=turn)
    path.unlink()
    data = opened(f"voc:{root}")
    assert data.num_val == (0 if stored else 1)
    if not stored:
        [truth] = [truth for batch in data.val_batches() for truth in batch.truths]
        assert truth.size == data._val.read(0).shape[:2] == (52, 40)


def test_folders_with_annotations_are_named_as_such(tmp_path):
    write_voc(tmp_path / "VOC2007", {"test": drawn(2)})
    for folder in (tmp_path, tmp_path / "VOC2007"):
        with pytest.raises(FileNotFoundError, match=f"annotations of boxes are there: write voc:{folder}"):
            open_data(DataSettings(source=f"folder:{folder}"), seed=0)
