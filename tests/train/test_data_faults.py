"""What users read when their data are missing, damaged or do not fit, and what on_error=skip makes of it."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import subprocess
import sys

import cv2
import mxnet as mx
import numpy as np
import pytest

from gluon_effnets.train.data import DataSettings, open_data

SIZE, NUM = 24, 8
pytestmark = pytest.mark.fast


def encoded_photo(seed):
    cells = np.random.RandomState(seed).randint(0, 256, (5, 5, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", cv2.resize(cells, (52, 40)))[1].tobytes()


def damaged_inside(encoded):
    """Begins and ends as an image of its size, so that only decoding finds the damage."""
    pixels = encoded.index(b"\xff\xda" if encoded[:2] == b"\xff\xd8" else b"IDAT") + 8
    return encoded[:pixels] + bytes(200) + encoded[-12:]


def write_records(path, encoded, labels=None):
    path = str(path)
    writer = mx.recordio.MXIndexedRecordIO(path[: -len(".rec")] + ".idx", path, "w")
    for key, image in enumerate(encoded):
        label = key if labels is None else labels[key]
        # Keys differ from positions, as in files made with a shuffled list.
        writer.write_idx(100 + key, mx.recordio.pack(mx.recordio.IRHeader(0, label, key, 0), image))
    writer.close()


@pytest.fixture
def records(tmp_path):
    for name in ("train", "val"):
        write_records(tmp_path / f"{name}.rec", [encoded_photo(seed) for seed in range(NUM)])
    return tmp_path


def offsets_of(path):
    with open(str(path).replace(".rec", ".idx")) as file:
        return [int(line.split("\t")[1]) for line in file]


def open_small(source, rank=0, world=1, **changes):
    settings = {"image_size": SIZE, "batch_size": 2, "num_threads": 2, **changes}
    return open_data(DataSettings(source=source, **settings), seed=1, rank=rank, world=world)


def message(error_type, function, *arguments, **keywords):
    """The text of the error that the call raises; users read at most three lines and no C++."""
    with pytest.raises(error_type) as caught:
        function(*arguments, **keywords)
    text = str(caught.value)
    assert len(text.splitlines()) <= 3
    assert "Traceback" not in text and ".cc:" not in text and ".cpp:" not in text
    return text


# Naming a source


def test_no_source_says_where_it_looked_and_what_to_do(monkeypatch):
    monkeypatch.delenv("GLUON_EFFNETS_IMAGENET", raising=False)
    text = message(ValueError, open_data, DataSettings(), seed=0)
    for part in ("data.source", "--data", "GLUON_EFFNETS_IMAGENET", "--data digits", "mxnet.tools.im2rec"):
        assert part in text


def test_source_from_the_environment(monkeypatch, records, tmp_path):
    monkeypatch.setenv("GLUON_EFFNETS_IMAGENET", str(records))
    data = open_small("???")
    assert data.num_train == NUM and data.settings.source == f"recordio:{records}"
    monkeypatch.setenv("GLUON_EFFNETS_IMAGENET", str(tmp_path / "nowhere"))
    assert "nowhere" in message(FileNotFoundError, open_small, "???")
    monkeypatch.setenv("GLUON_EFFNETS_IMAGENET", "synthetic:12")
    assert open_small("???").num_train == 12


def test_unknown_kind_names_the_nearest(tmp_path):
    text = message(ValueError, open_small, "recordoi:/data")
    assert "'recordoi'" in text and "'recordio'" in text and "synthetic[:N]" in text
    assert f"folder:{tmp_path}" in message(ValueError, open_small, str(tmp_path))
    assert "folder:DIR" in message(ValueError, open_small, "folder")
    assert "takes no path" in message(ValueError, open_small, "digits:x")
    assert "synthetic:N" in message(ValueError, open_small, "synthetic:many")


@pytest.mark.parametrize("kind", ["recordio", "folder", "cifar10"])
def test_missing_folder_says_where_it_looked(kind, tmp_path):
    text = message(FileNotFoundError, open_small, f"{kind}:{tmp_path}/absent")
    assert f"{tmp_path}/absent" in text and text.count("mxnet.tools.im2rec") == 2


def test_missing_parts(tmp_path):
    assert f"{tmp_path}/train.rec" in message(FileNotFoundError, open_small, f"recordio:{tmp_path}")
    assert f"{tmp_path}/train and" in message(FileNotFoundError, open_small, f"folder:{tmp_path}")
    assert "data_batch_1.bin" in message(FileNotFoundError, open_small, f"cifar10:{tmp_path}")
    assert "x.rec" in message(FileNotFoundError, open_small, f"recordio:{tmp_path}/x.rec")
    write_records(tmp_path / "train.rec", [encoded_photo(0)] * 4)
    data = open_small(f"recordio:{tmp_path}")
    assert len(list(data.train_batches(0))) == 2
    assert "no evaluation images" in message(ValueError, data.val_batches)
    assert "val.rec" in message(ValueError, data.val_batches)


def test_the_commands_of_the_message_work(tmp_path, monkeypatch):
    """Run as printed, they give files that open_data reads."""
    for part in ("train", "val"):
        for name in ("crane", "heron", "night owl"):
            (tmp_path / "IMAGES" / part / name).mkdir(parents=True)
            for seed in range(2):
                (tmp_path / "IMAGES" / part / name / f"{seed}.jpg").write_bytes(encoded_photo(seed))
    target = tmp_path / "my data"
    commands = message(FileNotFoundError, open_small, f"recordio:{target}").splitlines()[1:]
    assert len(commands) == 2
    target.mkdir()
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"])
    for command in commands:
        subprocess.run(command, shell=True, cwd=str(tmp_path), check=True, stdout=subprocess.DEVNULL)
    data = open_small(f"recordio:{target}")
    assert (data.num_train, data.num_val, data.num_classes) == (6, 6, 3)
    labels = [int(label) for batch in data.val_batches() for label in batch.label.asnumpy()]
    assert sorted(labels) == [0, 0, 1, 1, 2, 2]


# Settings that do not fit


@pytest.mark.parametrize(
    "changes,part",
    [
        ({"augment": "imagnet"}, "imagenet, small, shift, none"),
        ({"on_error": "ignore"}, "raise, skip"),
        ({"batch_size": 0}, "data.batch_size"),
        ({"eval_crop": 1.5}, "data.eval_crop"),
        ({"crop_area": (0.5, 0.1)}, "data.crop_area"),
        ({"crop_aspect": (1.0,)}, "data.crop_aspect"),
        ({"mean": (0, 0), "std": (1, 1, 1)}, "one entry per channel"),
        ({"std": (1, 0, 1)}, "std > 0"),
    ],
)
def test_settings_are_checked(changes, part):
    assert part in message(ValueError, DataSettings, **changes)


def test_class_count_is_checked():
    text = message(ValueError, open_small, "digits", classes=1000)
    assert "1000" in text and "10 classes" in text
    assert "channel" in message(ValueError, open_small, "synthetic", mean=(0,), std=(1,))


def test_set_smaller_than_a_global_batch():
    data = open_small("synthetic:6", batch_size=4, world=2)
    text = message(ValueError, lambda: data.steps_per_epoch)
    assert "6 training images" in text and "at most 3" in text
    message(ValueError, data.train_batches, 0)


def test_first_step_and_rank_are_checked():
    data = open_small("synthetic:6")
    assert "3 steps" in message(ValueError, data.train_batches, 0, first_step=4)
    assert "rank" in message(ValueError, open_small, "synthetic", rank=2, world=2)


# Folders


def fill_folder(root, parts):
    for part, names in parts.items():
        for name in names:
            (root / part / name).mkdir(parents=True)
            for seed in range(4):
                (root / part / name / f"{seed}.jpg").write_bytes(encoded_photo(seed))


def test_class_folders_that_differ(tmp_path):
    fill_folder(tmp_path, {"train": ["crane", "heron", "owl"], "val": ["crane", "heron"]})
    text = message(ValueError, open_small, f"folder:{tmp_path}")
    assert "owl" in text and "in train but not in val" in text and "crane" not in text


def test_folder_without_classes_or_images(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "1.jpg").write_bytes(encoded_photo(0))
    assert "no class folders" in message(ValueError, open_small, f"folder:{tmp_path}")
    (tmp_path / "train" / "empty").mkdir()
    assert "empty holds no image" in message(ValueError, open_small, f"folder:{tmp_path}")


def test_unreadable_image_in_a_folder(tmp_path, caplog):
    fill_folder(tmp_path, {"train": ["crane", "heron"], "val": ["crane", "heron"]})
    for part in ("train", "val"):
        (tmp_path / part / "heron" / "2.jpg").write_bytes(b"not an image")
    data = open_small(f"folder:{tmp_path}", batch_size=4)
    for batches, part in ((data.train_batches(0), "train"), (data.val_batches(), "val")):
        text = message(ValueError, list, batches)
        assert f"{tmp_path}/{part}/heron/2.jpg" in text and "on_error=skip" in text
    check_skipping(f"folder:{tmp_path}", caplog)


def check_skipping(source, caplog):
    """With one damaged image among eight, steps and counts stay, and each pass says so once."""
    with caplog.at_level(logging.WARNING, "gluon_effnets"):
        data = open_small(source, on_error="skip")
        batches = list(data.train_batches(0))
        assert len(batches) == data.steps_per_epoch == 4
        assert "epoch 0: 1 unreadable training image" in caplog.text and len(caplog.records) == 1
        again = list(open_small(source, on_error="skip", num_threads=1).train_batches(0, first_step=2))
        for batch, other in zip(batches[2:], again):
            np.testing.assert_array_equal(batch.data.asnumpy(), other.data.asnumpy())
        caplog.clear()
        evaluated = list(data.val_batches())
        assert sum(batch.num_valid for batch in evaluated) == NUM
        blank = [not row.any() for batch in evaluated for row in batch.data.asnumpy()]
        assert sum(blank) == 1
        assert "evaluation: 1 unreadable image" in caplog.text and len(caplog.records) == 1


def test_nothing_but_unreadable_images_ends_the_run(tmp_path):
    (tmp_path / "train" / "owl").mkdir(parents=True)
    for number in range(4):
        (tmp_path / "train" / "owl" / f"{number}.jpg").write_bytes(b"no")
    data = open_small(f"folder:{tmp_path}", on_error="skip")
    assert "one after another are unreadable" in message(ValueError, list, data.train_batches(0))


# Record files


def test_missing_index_is_rebuilt(records, caplog):
    complete = list(open_small(f"recordio:{records}").train_batches(0))
    os.remove(str(records / "train.idx"))
    data = open_small(f"recordio:{records}")
    assert "train.rec has no .idx" in caplog.text
    assert not os.path.exists(str(records / "train.idx"))
    rebuilt = list(data.train_batches(0))
    assert len(rebuilt) == len(complete) == 4
    for batch, other in zip(rebuilt, complete):
        np.testing.assert_array_equal(batch.data.asnumpy(), other.data.asnumpy())


def test_index_of_another_file(records, tmp_path):
    path, lines = str(records / "train.rec"), (records / "train.idx").read_text().splitlines()
    index = records / "train.idx"
    source = f"recordio:{records}"

    index.write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    text = message(ValueError, open_small, source)
    assert path in text and "record 102" in text and "lacks records" in text

    index.write_text("\n".join(lines[:-1] + ["107\t999999996"]) + "\n")
    text = message(ValueError, open_small, source)
    assert "record 107" in text and "999999996" in text and "do not belong together" in text

    index.write_text("\n".join(lines[:4] + [f"104\t{int(lines[4].split()[1]) + 8}"] + lines[5:]) + "\n")
    assert "record 104" in message(ValueError, open_small, source)

    index.write_text("one\ttwo\n")
    assert "train.idx, line 1" in message(ValueError, open_small, source)
    index.write_text("")
    assert "train.idx is empty" in message(ValueError, open_small, source)
    index.write_text("\n".join(lines + lines[:1]) + "\n")
    assert "does not belong" in message(ValueError, open_small, source)


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("cut", [1, 4, 400])
def test_file_that_was_cut_short(records, cut, with_index):
    path = str(records / "val.rec")
    os.truncate(path, os.path.getsize(path) - cut)
    if not with_index:
        os.remove(str(records / "val.idx"))
    text = message(ValueError, open_small, f"recordio:{records}")
    assert path in text and "cut short" in text and "copy" in text.lower()


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("rest", [4, 8, 12, 28])
def test_cut_inside_a_header(records, rest, with_index):
    path = str(records / "val.rec")
    os.truncate(path, offsets_of(path)[-1] + rest)
    if not with_index:
        os.remove(str(records / "val.idx"))
    assert "cut short" in message(ValueError, open_small, f"recordio:{records}")


def test_empty_file(records):
    os.truncate(str(records / "val.rec"), 0)
    assert "val.rec is empty" in message(ValueError, open_small, f"recordio:{records}")


def overwrite(path, at, content):
    with open(str(path), "r+b") as file:
        file.seek(at)
        file.write(content)


def test_broken_magic(records):
    path = records / "train.rec"
    offset = offsets_of(path)[5]
    overwrite(path, offset, b"\0\0\0\0")
    text = message(ValueError, open_small, f"recordio:{records}")
    assert str(path) in text and "record 105" in text and str(offset) in text
    os.remove(str(records / "train.idx"))
    text = message(ValueError, open_small, f"recordio:{records}")
    assert str(path) in text and str(offset) in text


@pytest.mark.parametrize("label", [-1.0, 2.5, float("nan"), 1e9])
def test_labels_that_are_no_class_index(records, label):
    path = records / "train.rec"
    overwrite(path, offsets_of(path)[3] + 12, struct.pack("<f", label))
    text = message(ValueError, open_small, f"recordio:{records}")
    assert str(path) in text and "record 103" in text and "label" in text


def test_labels_out_of_range(records):
    (records / "classes.txt").write_text("\n".join("abcdef"))
    text = message(ValueError, open_small, f"recordio:{records}")
    assert "train.rec, record 106" in text and "label 6" in text and "6 classes" in text
    os.remove(str(records / "classes.txt"))
    text = message(ValueError, open_small, f"recordio:{records}", classes=5)
    assert "record 105" in text and "data.classes" in text


def test_records_with_several_labels(tmp_path):
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "val.idx"), str(tmp_path / "val.rec"), "w")
    writer.write_idx(7, mx.recordio.pack(mx.recordio.IRHeader(0, [1.0, 2.0], 7, 0), encoded_photo(0)))
    writer.close()
    text = message(ValueError, open_small, f"recordio:{tmp_path}")
    assert "record 7 has 2 labels" in text


@pytest.mark.parametrize("content", [b"", bytes(300), b"GIF", encoded_photo(3)[:500]])
def test_image_that_is_none_is_found_before_the_run(tmp_path, content):
    images = [encoded_photo(seed) for seed in range(NUM)]
    images[3] = content
    write_records(tmp_path / "train.rec", images)
    text = message(ValueError, open_small, f"recordio:{tmp_path}")
    assert f"{tmp_path}/train.rec, record 103" in text and "no readable image" in text


@pytest.mark.parametrize("rank", [0, 1])
def test_damage_inside_an_image_names_the_record(tmp_path, caplog, rank):
    images = [encoded_photo(seed) for seed in range(NUM)]
    images[6 if rank else 2] = damaged_inside(images[3])
    for name in ("train", "val"):
        write_records(tmp_path / f"{name}.rec", images)
    data = open_small(f"recordio:{tmp_path}", rank=rank, world=2)
    key = 106 if rank else 102
    assert f"{tmp_path}/train.rec, record {key}" in message(ValueError, list, data.train_batches(0))
    alone = open_small(f"recordio:{tmp_path}")
    assert f"{tmp_path}/val.rec, record {key}" in message(ValueError, list, alone.val_batches())
    other = open_small(f"recordio:{tmp_path}", rank=1 - rank, world=2)
    assert len(list(other.train_batches(0))) == 2
    check_skipping(f"recordio:{tmp_path}", caplog)


def test_skipping_needs_no_index(records):
    os.remove(str(records / "train.idx"))
    assert len(list(open_small(f"recordio:{records}", on_error="skip").train_batches(0))) == 4


# CIFAR-10


def test_cifar10_faults(tmp_path, caplog):
    for name in ["test_batch.bin"] + [f"data_batch_{number}.bin" for number in range(1, 6)]:
        np.zeros((4, 3073), np.uint8).tofile(str(tmp_path / name))
    assert open_small(f"cifar10:{tmp_path}").num_train == 20
    os.truncate(str(tmp_path / "data_batch_2.bin"), 5000)
    assert "wrong size" in message(ValueError, open_small, f"cifar10:{tmp_path}")
    os.remove(str(tmp_path / "data_batch_2.bin"))
    assert "data_batch_2.bin is missing" in message(FileNotFoundError, open_small, f"cifar10:{tmp_path}")

    shutil.rmtree(str(tmp_path)), tmp_path.mkdir()
    small = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    write_records(tmp_path / "train.rec", [small, damaged_inside(small), small, small])
    assert "test.rec" in message(FileNotFoundError, open_small, f"cifar10:{tmp_path}")
    write_records(tmp_path / "test.rec", [small] * 2, labels=[0, 10])
    assert "train.rec, record 101" in message(ValueError, open_small, f"cifar10:{tmp_path}")
    assert "class index 10" in message(ValueError, open_small, f"cifar10:{tmp_path}", on_error="skip")
    write_records(tmp_path / "test.rec", [small] * 2)
    data = open_small(f"cifar10:{tmp_path}", on_error="skip")
    assert data.num_train == 3 and "1 unreadable image(s) left out" in caplog.text
    write_records(tmp_path / "train.rec", [encoded_photo(0)] * 4)
    assert "32x32" in message(ValueError, open_small, f"cifar10:{tmp_path}")
