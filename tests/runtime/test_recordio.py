"""RecordIO without MXNet, compared with MXNet's own reader and writer, byte by byte."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from exports import encoded
from images import photo
from PIL import Image

from gluon_effnets.runtime.recordio import MAGIC, Reader, Writer, encode, offsets_of, pack, unpack

pytestmark = pytest.mark.fast
MARK = struct.pack("<I", MAGIC)
DATA = Path(os.environ.get("GLUON_EFFNETS_DATA", ""))
REAL = ["imagenet_sample/val", "bccd/train", "bccd/val", "bccd/test"]
BOXES = [2.0, 5.0, 0.0, 0.1, 0.2, 0.5, 0.75, 1.0, 0.0, 0.25, 1.0, 1.0]

# The magic number at every place of four bytes is left out, elsewhere it stays.
PAYLOADS = {
    "empty": b"",
    "one byte": b"a",
    "three bytes": b"abc",
    "magic alone": MARK,
    "magic twice": MARK * 2,
    "magic at both ends": MARK + b"abcd" * 3 + MARK,
    "magic in the middle": b"abcd" + MARK + b"efgh" + MARK + MARK + b"i",
    "magic between the places": b"ab" + MARK + b"cd",
    "magic cut at the end": b"abcd" + MARK[:3],
    "magic and three bytes": MARK + b"abc",
}


def written_by_mxnet(path, payloads, keys=None):
    writer = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "w")
    for number, payload in enumerate(payloads):
        writer.write_idx(keys[number] if keys else number, payload)
    writer.close()


@pytest.mark.parametrize("kind", PAYLOADS)
def test_every_payload_is_written_as_by_mxnet(kind, tmp_path):
    payloads = [PAYLOADS[kind], b"another", PAYLOADS[kind]]
    written_by_mxnet(tmp_path / "a.rec", payloads)
    assert b"".join(map(encode, payloads)) == (tmp_path / "a.rec").read_bytes()


def test_random_payloads_full_of_magic_come_back(tmp_path):
    random = np.random.RandomState(0)
    pieces = [MARK, b"abcd", b"x", b"yz"]
    payloads = [b"".join(pieces[n] for n in random.randint(0, 4, random.randint(0, 12))) for _ in range(300)]
    with Writer(tmp_path / "ours.rec") as writer:
        for key, payload in enumerate(payloads):
            writer.append(payload, 1.0, key)
    written_by_mxnet(tmp_path / "theirs.rec", [pack(payload, 1.0, key) for key, payload in enumerate(payloads)])
    for ending in (".rec", ".idx"):
        assert (tmp_path / f"ours{ending}").read_bytes() == (tmp_path / f"theirs{ending}").read_bytes()
    with Reader(tmp_path / "theirs.rec") as reader:
        assert [record.content for record in reader] == payloads
        assert [reader[key].content for key in (299, 0, 7)] == [payloads[key] for key in (299, 0, 7)]
    theirs = mx.recordio.MXIndexedRecordIO(str(tmp_path / "ours.idx"), str(tmp_path / "ours.rec"), "r")
    assert [mx.recordio.unpack(theirs.read_idx(key))[1] for key in theirs.keys] == payloads


@pytest.mark.parametrize("label", [3, 2.5, [7.0], BOXES, np.array(BOXES, np.float32), np.float32(4)])
def test_labels_are_packed_as_by_mxnet(label):
    expected = mx.recordio.pack(mx.recordio.IRHeader(0, label, 12, 34), b"image")
    assert pack(b"image", label, 12, 34) == expected
    record = unpack(expected, 5, 64)
    header, content = mx.recordio.unpack(expected)
    np.testing.assert_array_equal(record.labels, np.ravel(header.label).astype(np.float32))
    assert (record.id, record.id2, record.content, record.key, record.offset) == (12, 34, content, 5, 64)
    assert record.listed == isinstance(label, (list, np.ndarray))


def test_one_label_or_an_error():
    assert unpack(pack(b"", 3)).label == 3
    with pytest.raises(ValueError, match="12 labels, not one"):
        _ = unpack(pack(b"", BOXES)).label


@pytest.mark.parametrize("payload", [b"", bytes(23), struct.pack("<IfQQ", 9, 0, 0, 0) + bytes(35)])
def test_too_few_bytes_for_a_record_with_an_image(payload):
    with pytest.raises(ValueError, match="fewer than the header|counts 9 labels"):
        unpack(payload)


@pytest.mark.skipif(not DATA.joinpath("bccd").is_dir(), reason="needs the reference data")
@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_and_written_with_equal_bytes(name, tmp_path):
    path = DATA / f"{name}.rec"
    theirs = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "r")
    with Reader(path) as reader, Writer(tmp_path / "copy.rec") as writer:
        assert list(reader.offsets) == theirs.keys and len(reader) == len(theirs.keys)
        for record in reader:
            header, content = mx.recordio.unpack(theirs.read_idx(record.key))
            assert content == record.content and header.id == record.id
            np.testing.assert_array_equal(np.ravel(header.label).astype(np.float32), record.labels)
            labels = record.labels if record.listed else record.label
            writer.append(record.content, labels, record.key, record.id, record.id2)
    for ending in (".rec", ".idx"):
        assert (tmp_path / f"copy{ending}").read_bytes() == path.with_suffix(ending).read_bytes()


def test_without_an_index_the_key_is_the_number(tmp_path):
    written_by_mxnet(tmp_path / "a.rec", [pack(b"x" * n, n) for n in range(4)], keys=[10, 20, 30, 40])
    with Reader(tmp_path / "a.rec") as reader:
        assert [record.key for record in reader] == [10, 20, 30, 40] and reader[30].label == 2
        expected = list(reader.offsets.values())
    (tmp_path / "a.idx").unlink()
    with Reader(tmp_path / "a.rec") as reader:
        assert [record.key for record in reader] == [0, 1, 2, 3] and reader[2].label == 2
        assert [record.offset for record in reader] == expected == offsets_of(tmp_path / "a.rec").tolist()
        with pytest.raises(KeyError):
            reader[4]


def test_reading_damaged_files_names_the_byte(tmp_path):
    written_by_mxnet(tmp_path / "a.rec", [pack(b"x" * 40, n) for n in range(3)])
    content = bytearray((tmp_path / "a.rec").read_bytes())
    content[72:76] = b"zzzz"
    (tmp_path / "a.rec").write_bytes(content)
    with Reader(tmp_path / "a.rec") as reader, pytest.raises(ValueError, match="damaged at byte 72: no record begins"):
        list(reader)


def test_files_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.rec"
    with pytest.raises(RuntimeError), Writer(path) as writer:
        writer.append(b"image", 1)
        raise RuntimeError("interrupted")
    assert list(tmp_path.iterdir()) == []
    with Writer(path) as writer:
        writer.append(b"image", 1)
        assert not path.exists()
        with pytest.raises(ValueError, match="key 0 is there already"):
            writer.append(b"image", 1, key=0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.idx", "a.rec"]
    with pytest.raises(FileExistsError, match="a.rec is there already"):
        Writer(path)
    path.unlink()
    with pytest.raises(FileExistsError, match="a.idx is there already"):
        Writer(path)
    with pytest.raises(ValueError, match="must end in .rec"):
        Writer(tmp_path / "a")


def test_reading_holds_one_record_at_a_time(tmp_path):
    import tracemalloc

    with Writer(tmp_path / "a.rec") as writer:
        for _ in range(40):
            writer.append(bytes(1 << 20), 0)
    tracemalloc.start()
    try:
        with Reader(tmp_path / "a.rec") as reader:
            assert sum(len(record.content) for record in reader) == 40 << 20
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_training_reads_what_was_written(tmp_path):
    from gluon_effnets.train.data.records import scan_records

    with Writer(tmp_path / "a.rec") as writer:
        for number in range(5):
            png = encoded(Image.fromarray(photo(number)), "PNG")
            writer.append(png + (b"\0" * (-len(png) % 4) + MARK if number == 2 else b""), number)
    records = scan_records(str(tmp_path / "a.rec"))
    assert records.labels.tolist() == [0, 1, 2, 3, 4] and records.ends[2] == -1
    for number in range(5):
        np.testing.assert_array_equal(records.read(number), photo(number))
