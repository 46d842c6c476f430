"""Damaged RecordIO files: what is wrong is named by record, byte and reason, and all else is saved."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from exports import encoded, jpeg
from images import photo
from PIL import Image, ImageFile

from gluon_effnets.runtime.commands import main
from gluon_effnets.runtime.recordio import MAGIC, Reader, Writer, pack
from gluon_effnets.runtime.records_check import check, repair, survey

pytestmark = pytest.mark.fast
NUM = 8
MARK = struct.pack("<I", MAGIC)
DATA = Path(os.environ.get("GLUON_EFFNETS_DATA", ""))


@pytest.fixture
def path(tmp_path):
    """Eight JPEGs with labels 0 to 7 and keys 100 to 107; the fourth record is in parts."""
    with Writer(tmp_path / "a.rec") as writer:
        for number in range(NUM):
            content = jpeg(photo(number))
            if number == 3:
                content += b"\0" * (-len(content) % 4) + MARK + b"more"
            writer.append(content, number, 100 + number)
    return tmp_path / "a.rec"


def offsets(path):
    return [int(line.split("\t")[1]) for line in path.with_suffix(".idx").read_text().splitlines()]


def overwrite(path, at, content):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(content)


def saved(path, tmp_path, **how):
    """The labels and keys of the records that are saved; they are read by MXNet."""
    target = tmp_path / "new.rec"
    repair(path, target, **how)
    records = mx.recordio.MXIndexedRecordIO(str(target.with_suffix(".idx")), str(target), "r")
    assert check(target).damages == []
    found = [(key, mx.recordio.unpack(records.read_idx(key))[0].label) for key in records.keys]
    assert all(key == 100 + label for key, label in found)
    return [int(label) for _, label in found]


def without(*numbers):
    return [number for number in range(NUM) if number not in numbers]


def test_nothing_is_damaged(path, tmp_path):
    report = check(path, decode=True)
    assert report.damages == [] and report.records == NUM and report.formats == {"JPEG": NUM}
    assert report.classes == dict.fromkeys(range(NUM), 1) and not report.detection
    assert saved(path, tmp_path) == without()
    for ending in (".rec", ".idx"):
        assert (tmp_path / f"new{ending}").read_bytes() == path.with_suffix(ending).read_bytes()


# The change of the file, by the place of record 2; the reason; the records that are lost.
CASES = {
    "magic": (lambda at: (at, b"zzzz"), "no record begins there", [2]),
    "length beyond the end": (lambda at: (at + 4, struct.pack("<I", 1 << 28)), "beyond the end of the file", [2]),
    "length over the next": (lambda at: (at + 4, struct.pack("<I", 5000)), "beginning of another record", [2]),
    "length too short": (lambda at: (at + 4, struct.pack("<I", 400)), "where no record begins", [2]),
    "length of nothing": (lambda at: (at + 4, struct.pack("<I", 0)), "where no record begins", [2]),
    "part of another record": (lambda at: (at + 7, b"\x60"), "stands part 3 of another record", [2]),
    "header and half the image": (lambda at: (at, bytes(500)), "no record begins there", [2]),
    "count of labels": (lambda at: (at + 8, struct.pack("<I", 1 << 30)), "counts 1073741824 labels", [2]),
    "label": (lambda at: (at + 12, struct.pack("<f", float("nan"))), "are not finite", [2]),
    "beginning of the image": (lambda at: (at + 32, bytes(8)), "is no readable image", [2]),
}


@pytest.mark.parametrize("kind", CASES)
def test_damages_are_named_and_all_else_is_saved(kind, path, tmp_path):
    where, reason, lost = CASES[kind]
    at = offsets(path)[2]
    overwrite(path, *where(at))
    damages = check(path).damages
    assert [(damage.number, damage.offset) for damage in damages] == [(2, at)] and reason in damages[0].reason
    assert saved(path, tmp_path) == without(*lost)


def test_a_missing_middle_shifts_the_rest(path, tmp_path):
    content, places = path.read_bytes(), offsets(path)
    path.write_bytes(content[: places[2] + 100] + content[places[5] + 200 :])
    damages = check(path).damages
    assert damages[0].number == 2 and damages[0].offset == places[2]
    assert any("a.idx lacks 2 record(s)" in damage.reason for damage in damages)
    with pytest.raises(AssertionError):  # their keys are lost with their places
        saved(path, tmp_path)
    with Reader(tmp_path / "new.rec") as reader:
        assert [int(record.label) for record in reader] == [0, 1, 6, 7]
        assert [record.key for record in reader] == [100, 101, 108, 109]


@pytest.mark.parametrize("rest", [4, 8, 40, 41, 43, 700])
def test_a_file_that_was_cut_short(rest, path, tmp_path):
    last = offsets(path)[-1]
    path.write_bytes(path.read_bytes()[: last + rest])
    [damage] = check(path).damages
    assert (damage.number, damage.offset) == (NUM - 1, last)
    assert saved(path, tmp_path) == without(NUM - 1)


def test_cut_within_the_parts_of_a_record(path, tmp_path):
    third, fourth = offsets(path)[3:5]
    overwrite(path, fourth - 12, b"zzzz")
    [damage] = check(path).damages
    assert damage.number == 3 and damage.offset == third and f"part at byte {fourth - 12} is missing" in damage.reason
    assert saved(path, tmp_path) == without(3)


@pytest.mark.parametrize("told", [False, True])
def test_images_are_decoded_on_demand(tmp_path, monkeypatch, told):
    # Importing GluonCV tells Pillow to take images that are cut short for whole ones.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", told)
    png = encoded(Image.fromarray(photo(1)), "PNG")
    middle = png.index(b"IDAT") + 60
    with Writer(tmp_path / "a.rec") as writer:
        for number, content in enumerate([png, png[:middle] + bytes(40) + png[middle + 40 :], png]):
            writer.append(content, number, 100 + number)
    assert check(tmp_path / "a.rec").damages == []
    [damage] = check(tmp_path / "a.rec", decode=True).damages
    assert damage.number == 1 and damage.reason.startswith("its image is no readable image")
    assert saved(tmp_path / "a.rec", tmp_path, decode=True) == [0, 2]
    assert ImageFile.LOAD_TRUNCATED_IMAGES == told


INDEXES = {
    "another line": (lambda lines: [*lines[:3], "three"], "a.idx, line 4 is not 'key<TAB>offset'"),
    "empty": (lambda lines: [], "a.idx is empty"),
    "a place between": (lambda lines: [*lines[:3], "103\t8", *lines[4:]], "a.idx names record 103 at byte 8"),
    "lines missing": (lambda lines: lines[:3], "a.idx lacks 5 record(s), record 3 at byte"),
    "a key twice": (lambda lines: [*lines[:3], lines[3].replace("103", "100"), *lines[4:]], "1 key(s) more than once"),
    "a place twice": (lambda lines: [*lines, lines[0].replace("100", "108")], "1 byte(s) more than once"),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_damages_of_the_index(kind, path):
    change, reason = INDEXES[kind]
    index = path.with_suffix(".idx")
    index.write_text("".join(f"{line}\n" for line in change(index.read_text().splitlines())))
    report = check(path)
    assert report.records == NUM and any(reason in str(damage) for damage in report.damages)


def test_without_an_index_records_are_numbered(path, tmp_path):
    path.with_suffix(".idx").unlink()
    overwrite(path, 0, b"zzzz")
    repair(path, tmp_path / "new.rec")
    with Reader(tmp_path / "new.rec") as reader:
        assert [(record.key, int(record.label)) for record in reader] == list(zip(range(7), range(1, 8)))


def test_repair_never_writes_over_a_file(path, tmp_path):
    with pytest.raises(FileExistsError):
        repair(path, path)
    (tmp_path / "new.idx").write_text("mine")
    with pytest.raises(FileExistsError):
        repair(path, tmp_path / "new.rec")
    assert (tmp_path / "new.idx").read_text() == "mine" and not (tmp_path / "new.rec").exists()


def test_nothing_to_save(tmp_path):
    (tmp_path / "a.rec").write_bytes(os.urandom(4099).replace(MARK, b""))
    with pytest.raises(ValueError, match="no record that can be read"):
        repair(tmp_path / "a.rec", tmp_path / "b.rec")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.rec"]
    (tmp_path / "empty.rec").write_bytes(b"")
    assert check(tmp_path / "empty.rec").records == 0
    with pytest.raises(FileNotFoundError):
        check(tmp_path / "absent.rec")


def test_beginnings_are_found_across_the_pieces_that_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("gluon_effnets.runtime.records_check._CHUNK", 64)
    png = encoded(Image.new("RGB", (2, 2)), "PNG")
    payload = pack(png, 1.0)
    record = MARK + struct.pack("<I", len(payload)) + payload + bytes(-len(payload) % 4)
    for gap in range(4, 200, 4):
        (tmp_path / "a.rec").write_bytes(bytes(gap) + record)
        assert [found.offset for found in survey(tmp_path / "a.rec")] == [0, gap]


def test_random_damage_costs_the_records_that_it_hit(path):
    """Every other record is found where it was, and none where none was."""
    original = path.read_bytes()
    places = [*offsets(path), len(original)]
    random = np.random.RandomState(1)
    for _ in range(100):
        begin = int(random.randint(len(original)))
        overwrite(path, begin, random.bytes(min(int(random.randint(1, 1500)), len(original) - begin)))
        content = path.read_bytes()
        untouched = {begin for begin, end in zip(places, places[1:]) if content[begin:end] == original[begin:end]}
        readable = set()
        for found in survey(path):
            try:
                found.read(decode=True)
            except ValueError:
                continue
            readable.add(found.offset)
        assert untouched <= readable <= set(places)
        path.write_bytes(original)


def test_detection_labels(tmp_path):
    good = [2.0, 5.0, 0.0, 0.1, 0.2, 0.5, 0.75, 2.0, 0.0, 0.25, 1.0, 1.0]
    flat = [2.0, 5.0, 0.0, 0.5, 0.2, 0.5, 0.75]
    with Writer(tmp_path / "a.rec") as writer:
        for label in (good, good, flat):
            writer.append(jpeg(photo(1)), label)
    report = check(tmp_path / "a.rec")
    assert report.detection and report.classes == {0: 3, 2: 2} and "5 boxes of 2 classes (0 to 2)" in report.summary
    [damage] = report.damages
    assert damage.number == 2 and "no area" in damage.reason


@pytest.mark.skipif(not DATA.joinpath("bccd").is_dir(), reason="needs the reference data")
def test_real_files(tmp_path):
    report = check(DATA / "bccd" / "val.rec", decode=True)
    assert (report.records, report.damages, report.classes) == (87, [], {0: 967, 1: 87, 2: 83})
    report = check(DATA / "imagenet_sample" / "val.rec")
    assert (report.records, report.damages, report.classes) == (1000, [], dict.fromkeys(range(1000), 1))
    repair(DATA / "bccd" / "val.rec", tmp_path / "new.rec")
    assert (tmp_path / "new.rec").read_bytes() == (DATA / "bccd" / "val.rec").read_bytes()
    assert (tmp_path / "new.idx").read_bytes() == (DATA / "bccd" / "val.idx").read_bytes()


# The commands


def test_commands(path, tmp_path, capsys):
    assert main(["records", "check", str(path)]) == 0
    summary = "8 records; 8 JPEG; 1 label(s) each of 8 classes (0 to 7); nothing is damaged"
    assert capsys.readouterr().out == f"{path}: {summary}\n"
    at = offsets(path)[2]
    overwrite(path, at, b"zzzz")
    assert main(["records", "check", str(path)]) == 1
    assert f"  record 2 at byte {at}: no record begins there\n" in capsys.readouterr().out
    assert main(["records", "list", str(path), "--limit", "3"]) == 1
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["number", "key", "byte", "labels", "image"]
    assert [row[:4] for row in rows[1:]] == [["0", "100", "0", "0"], ["1", "101", str(offsets(path)[1]), "1"],
                                             ["2", "102", str(at), "damaged"]]  # fmt: skip
    assert rows[1][4].startswith("JPEG 52 x 40, ")
    assert main(["records", "repair", str(path), str(tmp_path / "new.rec")]) == 0
    assert "7 records written" in capsys.readouterr().out
    assert main(["records", "repair", str(path), str(tmp_path / "new.rec")]) == 1
    assert "is there already; it is not written over" in capsys.readouterr().err


def folder_of_classes(root):
    for number, name in enumerate(("crane", "heron", "night owl")):
        (root / name).mkdir(parents=True)
        for seed in range(3):
            (root / name / f"{seed}.jpg").write_bytes(jpeg(photo(10 * number + seed)))
    return root


def test_pack_is_what_im2rec_packs(tmp_path):
    import subprocess

    root = folder_of_classes(tmp_path / "images")
    assert main(["records", "pack", str(root), str(tmp_path / "ours.rec")]) == 0
    call = [sys.executable, "-m", "mxnet.tools.im2rec"]
    options = [["--list", "--recursive", "--no-shuffle"], ["--pass-through", "--num-thread", "1"]]
    for option in options:
        subprocess.run([*call, *option, str(tmp_path / "theirs"), str(root)], check=True, stdout=subprocess.DEVNULL)
    for ending in (".rec", ".idx"):
        assert (tmp_path / f"ours{ending}").read_bytes() == (tmp_path / f"theirs{ending}").read_bytes()
    assert (tmp_path / "classes.txt").read_text() == "crane\nheron\nnight owl\n"


def test_pack_in_another_order_and_what_it_refuses(tmp_path, capsys):
    root = folder_of_classes(tmp_path / "images")
    (root / "heron" / "broken.jpg").write_bytes(b"no image")
    assert main(["records", "pack", str(root), str(tmp_path / "train.rec"), "--shuffle", "1"]) == 1
    captured = capsys.readouterr()
    assert "9 images of 3 classes" in captured.out and "broken.jpg is no readable image" in captured.err
    with Reader(tmp_path / "train.rec") as reader:
        labels = [int(record.label) for record in reader]
    assert sorted(labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2] and labels != sorted(labels)

    other = folder_of_classes(tmp_path / "other")
    (other / "crane").rename(other / "crow")
    assert main(["records", "pack", str(other), str(tmp_path / "val.rec")]) == 1
    assert "classes.txt names other classes" in capsys.readouterr().err
    (other / "empty").mkdir()
    assert main(["records", "pack", str(other), str(tmp_path / "b" / "val.rec")]) == 1
    assert "holds no image; add images or remove the folder" in capsys.readouterr().err
    assert main(["records", "pack", str(tmp_path / "absent"), str(tmp_path / "val.rec")]) == 1
    assert not (tmp_path / "val.rec").exists()


def test_training_reads_packed_folders(tmp_path):
    from gluon_effnets.train.data import DataSettings, open_data

    root = folder_of_classes(tmp_path / "images")
    for part in ("train", "val"):
        assert main(["records", "pack", str(root), str(tmp_path / f"{part}.rec")]) == 0
    data = open_data(DataSettings(source=f"recordio:{tmp_path}", image_size=24, batch_size=3), seed=0)
    assert (data.num_train, data.num_val, data.class_names) == (9, 9, ["crane", "heron", "night owl"])
