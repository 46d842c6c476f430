"""What is found in folders, what is passed over and said so, and the names of classes."""

from __future__ import annotations

import os

import cv2
import mxnet as mx
import numpy as np
import pytest
from images import open_small, photo, write_records

from gluon_effnets.evaluate.predict import find_images
from gluon_effnets.runtime.image_files import SUFFIXES
from gluon_effnets.train.data.decode import UnreadableImageError, decode_image

pytestmark = pytest.mark.fast


def fill(root, parts=("train", "val"), names=("crane", "heron"), suffix=".jpg", number=4):
    for part in parts:
        for name in names:
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for seed in range(number):
                encoded = cv2.imencode(".jpg" if suffix in (".jfif", ".jpe") else suffix, photo(seed))[1]
                (root / part / name / f"{seed}{suffix}").write_bytes(encoded.tobytes())
    return {"source": f"folder:{root}"}


# What is read


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".JPG", ".WebP"])
def test_training_evaluation_and_predict_take_the_same_files(suffix, tmp_path):
    data = open_small(fill(tmp_path, suffix=suffix))
    assert (data.num_train, data.num_val, len(find_images([tmp_path / "train"]))) == (8, 8, 8)
    assert data.class_names == ["crane", "heron"]
    assert sum(batch.num_valid for batch in data.val_batches()) == 8


def test_what_is_passed_over_is_said_in_one_line(tmp_path, caplog):
    source = fill(tmp_path)
    crane = tmp_path / "train" / "crane"
    (crane / "day2").mkdir()
    cv2.imwrite(str(crane / "day2" / "n.jpg"), photo(0))
    for name in ("._0.jpg", "._1.jpg", ".DS_Store", "Thumbs.db", "scan.psd", "a.gif"):
        (crane / name).write_bytes(b"x")
    cv2.imwrite(str(tmp_path / "train" / "stray.jpg"), photo(0))
    assert open_small(source).num_train == 8
    [line] = caplog.messages
    assert f"1 image(s) in folders below a class folder ({crane}/day2/n.jpg)" in line
    assert f"2 hidden image file(s) ({crane}/._0.jpg)" in line
    assert f"1 image(s) outside of class folders ({tmp_path}/train/stray.jpg)" in line
    assert f"2 file(s) that are no {', '.join(SUFFIXES)}" in line and "Thumbs" not in line
    caplog.clear()
    open_small(source, rank=1, world=2)
    assert not caplog.records
    assert len(find_images([tmp_path / "train"])) == 10
    [line] = caplog.messages
    assert "2 hidden image file(s)" in line and "2 file(s) that are no" in line


def test_nothing_is_said_where_nothing_is_passed_over(tmp_path, caplog):
    open_small(fill(tmp_path))
    find_images([tmp_path])
    assert not caplog.records


@pytest.mark.parametrize("kind", ["broken link", "circle", "folder", "pipe", "empty"])
def test_what_is_no_file_follows_the_policy(kind, tmp_path, caplog):
    source = fill(tmp_path)
    for part in ("train", "val"):
        odd = tmp_path / part / "crane" / "x.jpg"
        if kind in ("broken link", "circle"):
            odd.symlink_to("nowhere.jpg" if kind == "broken link" else "x.jpg")
        elif kind == "folder":
            odd.mkdir()
        elif kind == "pipe":
            os.mkfifo(odd)
        else:
            odd.touch()
    where = f"{tmp_path}/train/crane/x.jpg "
    with pytest.raises(UnreadableImageError) as caught:
        data = open_small(source, batch_size=3)
        assert kind == "empty", "all others are found before the run"
        list(data.train_batches(0))
    assert where in str(caught.value)
    data = open_small(source, batch_size=3, on_error="skip")
    assert len(list(data.train_batches(0))) == 3
    assert where.strip() in caplog.text
    assert sum(batch.num_valid for batch in data.val_batches()) == 9


def test_links_to_folders_are_followed_once(tmp_path):
    fill(tmp_path / "far", ["birds"])
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "birds")
    (tmp_path / "far" / "birds" / "crane" / "up").symlink_to(tmp_path / "far")
    assert len(find_images([tmp_path / "near"])) == 8


@pytest.mark.parametrize("part", ["valid", "validation", "test"])
def test_other_names_of_the_evaluation_part(part, tmp_path, monkeypatch):
    assert open_small(fill(tmp_path, ("train", part))).num_val == 8
    (tmp_path / "records").mkdir()
    for name in ("train", part):
        write_records(str(tmp_path / "records" / f"{name}.rec"), [photo(0)] * 4, [0, 1, 0, 1])
    assert open_small({"source": f"recordio:{tmp_path}/records"}).num_val == 4
    monkeypatch.setenv("GLUON_EFFNETS_IMAGENET", str(tmp_path))
    assert open_small({"source": "???"}).settings.source == f"folder:{tmp_path}"
    fill(tmp_path, ["val"], number=2)
    assert open_small({"source": f"folder:{tmp_path}"}).num_val == 4


def test_training_images_alone_are_said_to_be_alone(tmp_path, caplog):
    data = open_small(fill(tmp_path, ["train"]))
    assert data.num_val == 0 and "no evaluation images" in caplog.text and "val, valid" in caplog.text


def test_of_plain_class_folders_a_share_is_held_out(tmp_path, caplog):
    fill(tmp_path, [""], number=10)
    source = {"source": f"folder:{tmp_path}", "batch_size": 2, "augment": "evaluation"}
    data = open_small(source)
    assert (data.num_train, data.num_val, data.class_names) == (16, 4, ["crane", "heron"])
    [line] = caplog.messages
    assert "20% of each class held out for the evaluation, 4 images" in line
    assert [path.split(os.sep)[0] for path in data.held_out] == ["crane", "crane", "heron", "heron"]
    # By their names alone: another seed of the training, and another worker, hold out the same; another draw does not.
    assert open_small(source, seed=5).held_out == open_small(source, rank=1, world=2).held_out == data.held_out
    assert open_small({**source, "held_out_seed": 1}).held_out != data.held_out
    assert open_small({**source, "held_out": 0.5}).num_val == 10
    whole = open_small({**source, "held_out": 1.0})
    assert (whole.num_train, whole.num_val) == (0, 20)


def test_new_images_leave_most_of_the_old_ones_where_they_were(tmp_path):
    fill(tmp_path, [""], number=10)
    before = set(open_small({"source": f"folder:{tmp_path}"}).held_out)
    for seed in range(10, 12):
        cv2.imwrite(str(tmp_path / "crane" / f"{seed}.jpg"), photo(seed))
    after = set(open_small({"source": f"folder:{tmp_path}"}).held_out)
    assert len(before & after) >= 3 and len(after) == 4


def test_every_class_has_images_on_both_sides(tmp_path):
    fill(tmp_path, [""], number=2)
    data = open_small({"source": f"folder:{tmp_path}", "batch_size": 2})
    assert (data.num_train, data.num_val) == (2, 2)
    (tmp_path / "heron" / "1.jpg").unlink()
    with pytest.raises(ValueError, match="heron has a single image; it takes two"):
        open_small({"source": f"folder:{tmp_path}"})


def test_folders_of_another_shape_are_described(tmp_path):
    fill(tmp_path, ["flat"])
    with pytest.raises(FileNotFoundError, match=r"flat/crane holds 0.jpg, 1.jpg, 2.jpg, 3.jpg.\nImages must lie in"):
        open_small({"source": f"folder:{tmp_path}/flat/crane"})
    write_records(str(tmp_path / "flat" / "train.rec"), [photo(0)], [0])
    with pytest.raises(FileNotFoundError, match=f"write recordio:{tmp_path}/flat"):
        open_small({"source": f"folder:{tmp_path}/flat"})
    fill(tmp_path / "other")
    with pytest.raises(FileNotFoundError, match=f"write folder:{tmp_path}/other"):
        open_small({"source": f"recordio:{tmp_path}/other"})
    (tmp_path / "train" / "crane" / "inner").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"train/crane holds no image \(.*\), but inner"):
        open_small({"source": f"folder:{tmp_path}"})


# Labels and names


def labelled(folder, train, val=None):
    for part, labels in (("train", train), ("val", train if val is None else val)):
        write_records(str(folder / f"{part}.rec"), [photo(seed) for seed in range(len(labels))], labels)
    return {"source": f"recordio:{folder}"}


@pytest.mark.parametrize(
    "train,val,said",
    [
        ([1, 2, 3, 1], None, ["labels begin at 1"]),
        ([0, 1, 4, 5], None, ["2 of 6 classes have no training image: 2, 3"]),
        ([0, 1, 0, 1], [0, 3], ["2 of 4 classes have no training image: 2, 3", "val.rec has images of 1 class"]),
        ([0, 1, 2, 3], [0, 1], []),
    ],
)
def test_labels_that_cannot_be_meant_so(train, val, said, tmp_path, caplog):
    open_small(labelled(tmp_path, train, val))
    assert len(caplog.messages) == len(said)
    for text, line in zip(said, caplog.messages):
        assert text in line and "train.rec" in line


def test_a_label_beyond_the_names_tells_that_labels_count_from_0(tmp_path):
    source = labelled(tmp_path, [1, 2])
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(ValueError, match="label 2, but classes.txt names 2 classes .* Labels count from 0"):
        open_small(source)


@pytest.mark.parametrize(
    "content,names",
    [
        (b"\xef\xbb\xbfant\r\nbee\r\n", ["ant", "bee"]),
        (b"ant\rbee", ["ant", "bee"]),
        ("an\u00e9 \u2028x\nbee\n\n \n".encode(), ["an\u00e9 \u2028x", "bee"]),
        ("ant\nb\u00e9e\n".encode("latin-1"), "classes.txt, line 2 has the byte 0xe9, which is no UTF-8"),
        ("ant\nbee\n".encode("utf-16"), "classes.txt is UTF-16 text; save it as UTF-8"),
        (b"ant\n\nbee\n", "classes.txt, line 2 is empty"),
        (b"\n \n", "classes.txt holds no names"),
        (b"", "classes.txt holds no names"),
        (b"ant\n", "classes.txt names 1 classes"),
    ],
)
def test_classes_txt_is_read_or_refused_by_name(content, names, tmp_path):
    source = labelled(tmp_path, [0, 1])
    (tmp_path / "classes.txt").write_bytes(content)
    if isinstance(names, list):
        assert open_small(source).class_names == names
    else:
        with pytest.raises(ValueError, match=names):
            open_small(source)


def test_names_that_stand_twice_or_have_no_images_are_said(tmp_path, caplog):
    source = labelled(tmp_path, [0, 1])
    (tmp_path / "classes.txt").write_text("crane\ncrane\nowl\n")
    assert open_small(source).num_classes == 3
    assert "to several classes, e.g. 'crane'" in caplog.text
    assert "1 of 3 classes have no training image: 2 (owl)" in caplog.text


def write_list(folder, labels, names):
    lines = [f"{key}\t{label:f}\t{names[label]}/{key}.jpg\n" for key, label in enumerate(labels)]
    (folder / "train.lst").write_text("".join(lines), encoding="utf-8")


def test_im2recs_list_gives_and_checks_the_names(tmp_path):
    names = ["Bee", "Zebra", "ant"]
    source = labelled(tmp_path, [0, 1, 2, 1])
    write_list(tmp_path, [0, 1, 2, 1], names)
    assert open_small(source).class_names == names
    # The order of `ls` in most languages.
    (tmp_path / "classes.txt").write_text("ant\nBee\nZebra\n")
    with pytest.raises(
        ValueError, match="names class 0 'ant', but in .*train.lst the images of ant have label 2.\nWrite"
    ):
        open_small(source)
    (tmp_path / "classes.txt").write_text("a bee\na zebra\nan ant\n")
    assert open_small(source).class_names == ["a bee", "a zebra", "an ant"]
    # A list by which these records were not made says nothing of them.
    (tmp_path / "classes.txt").write_text("ant\nBee\nZebra\n")
    write_list(tmp_path, [2, 1, 0, 1], names)
    assert open_small(source).class_names == ["ant", "Bee", "Zebra"]


def test_every_source_with_classes_names_them(tmp_path):
    for part in ("train", "test"):
        writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / f"{part}.idx"), str(tmp_path / f"{part}.rec"), "w")
        small = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
        for key in range(4):
            writer.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, key, key, 0), small))
        writer.close()
    assert decode_image(small, "x").shape == (32, 32, 3)
    assert open_small({"source": f"cifar10:{tmp_path}"}).class_names[:2] == ["airplane", "automobile"]
    assert open_small({"source": "digits"}).class_names == list("0123456789")
