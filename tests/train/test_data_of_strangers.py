"""Data sets that strangers made: indices and records that lie, images that never end, pipes in place of files."""

import os
import struct
import time

import numpy as np
import pytest

from gluon_effnets.train.data import DataSettings, open_data
from gluon_effnets.train.data.decode import UnreadableImageError, decode_image, read_image_file
from gluon_effnets.train.data.records import scan_records
from tests.support.images import photo, write_records

MAGIC = 0xCED7230A


@pytest.fixture
def records(tmp_path):
    write_records(str(tmp_path / "val.rec"), [photo(seed) for seed in range(4)], range(4))
    return tmp_path / "val.rec"


def refusal(path):
    with pytest.raises(ValueError) as caught:
        scan_records(str(path))
    assert str(path.with_suffix("")) in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize(
    "offset",
    ["99999999999999999999", "-8", "9223372036854775807", "-9223372036854775808", "9" * 500, "9" * 100_000, "4"],
)
def test_offsets_of_an_index_that_lie(offset, records):
    index = records.with_suffix(".idx")
    lines = index.read_text().splitlines()
    index.write_text("\n".join([*lines[:-1], f"3\t{offset}"]) + "\n")
    refusal(records)


def test_an_index_that_is_no_file_or_too_large(records):
    index = records.with_suffix(".idx")
    index.write_text("0\t0\n" * 10**5)
    assert "at most" in refusal(records)
    index.unlink()
    os.mkfifo(index)
    assert "no regular file" in refusal(records)


@pytest.mark.parametrize("kind", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("with_index", [True, False])
def test_a_record_in_parts_that_are_not_there(kind, with_index, records):
    """MXNet's reader ends the process on such a file."""
    if not with_index:
        records.with_suffix(".idx").unlink()
    content = bytearray(records.read_bytes())
    [length] = struct.unpack_from("<I", content, 4)
    struct.pack_into("<I", content, 4, kind << 29 | length)
    records.write_bytes(content)
    refusal(records)


def test_a_record_in_all_of_its_parts_is_read(tmp_path):
    path = tmp_path / "val.rec"
    image = bytearray(b"\xff\xd8" + bytes(18) + struct.pack("<I", MAGIC) + bytes(8))
    write_raw(path, [bytes(image)])
    [found] = [scan_records(str(path)).encoded(0)]
    assert found == bytes(image)


def write_raw(path, images):
    import mxnet as mx

    writer = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "w")
    for key, image in enumerate(images):
        writer.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, key, key, 0), image))
    writer.close()


def test_pipes_in_place_of_files_are_refused_at_once(tmp_path):
    for name in ("val.rec", "a.jpg"):
        os.mkfifo(tmp_path / name)
    from gluon_effnets.train.data.check import open_checked

    with pytest.raises(ValueError, match="val.rec is no regular file"):
        open_checked(str(tmp_path / "val.rec"), 1)
    with pytest.raises(UnreadableImageError, match="a.jpg is no regular file"):
        read_image_file(str(tmp_path / "a.jpg"))


HEADERS = {
    "jpeg of fill bytes": b"\xff\xd8\xff\xe0\x00\x02" + b"\xff" * 60_000_000,
    "jpeg of empty segments": b"\xff\xd8" + b"\xff\xe0\x00\x02" * 15_000_000,
    "png of empty chunks": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 8, 8) + bytes(9)
    + struct.pack(">I4sI", 0, b"tEXt", 0) * 5_000_000,
    "webp of empty chunks": b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\7\0\0\7\0\0"
    + struct.pack("<4sI", b"ABCD", 0) * 7_000_000,
}  # fmt: skip


@pytest.mark.parametrize("what", HEADERS)
def test_an_image_whose_header_never_ends(what):
    began = time.process_time()
    with pytest.raises(UnreadableImageError):
        decode_image(HEADERS[what], "a.img")
    assert time.process_time() - began < 4  # each step takes a microsecond, and there are millions


@pytest.mark.parametrize("width", [65_500, 1 << 30])
def test_a_png_that_declares_more_pixels_than_a_memory(width):
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, width, 8, 2, 0, 0, 0) + bytes(100)
    with pytest.raises(UnreadableImageError, match="pixels"):
        decode_image(png, "a.png")


def test_a_result_of_a_check_that_came_with_the_file_is_not_taken(records, monkeypatch):
    """Size and time of an archive's files are the stranger's choice, the time of their last change of state is not."""
    from gluon_effnets.train.data.check import open_checked

    os.utime(records, (1e9, 1e9))
    os.utime(records.with_suffix(".idx"), (1e9, 1e9))
    open_checked(str(records), 1)
    kept = records.with_suffix(".checked.npz")
    assert kept.exists()
    arrays = dict(np.load(kept))
    arrays["labels"] = arrays["labels"] * 0 + 3
    np.savez(kept, **arrays)
    assert set(open_checked(str(records), 1).records.labels) == {3}, "here it was made"
    content = records.read_bytes()
    records.unlink()
    records.write_bytes(content)
    os.utime(records, (1e9, 1e9))
    assert list(open_checked(str(records), 1).records.labels) == [0, 1, 2, 3]


@pytest.mark.parametrize("source", [np.zeros(3), 7, b"synthetic:8", ["synthetic:8"]])
def test_a_source_that_is_no_text(source):
    with pytest.raises(TypeError, match="data.source is .*it must be a text KIND.:PATH"):
        open_data(DataSettings(source=source), seed=0)
