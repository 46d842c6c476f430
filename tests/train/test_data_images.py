"""One opinion of what an image is, and how it is turned, in every way of reading."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import mxnet as mx
import numpy as np
import pytest
from images import open_small
from PIL import Image, ImageOps
from waiting import PATIENCE_S

from gluon_effnets.evaluate.predict import read_image
from gluon_effnets.evaluate.validate import calibration_images
from gluon_effnets.runtime.header import MAX_ASPECT, read_header
from gluon_effnets.train.data.check import open_checked
from gluon_effnets.train.data.decode import UnreadableImageError, decode_image
from gluon_effnets.train.data.records import scan_records

pytestmark = pytest.mark.fast

SIDE = 32
RAW = {"mean": (0, 0, 0), "std": (1, 1, 1)}
# What every reader then does to an image of SIDE pixels is nothing.
WHOLE = {
    **RAW,
    "image_size": SIDE,
    "batch_size": 2,
    "eval_crop": 1.0,
    "mirror": False,
    "color_jitter": 0,
    "pca_noise": 0,
    "crop_area": (1, 1),
    "crop_aspect": (1, 1),
}


def picture(seed=0, height=SIDE, width=SIDE):
    cells = np.random.RandomState(seed).randint(0, 256, (5, 6, 3)).astype(np.uint8)
    return Image.fromarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC))


def encoded(image, form="JPEG", orientation=None, **options):
    if orientation is not None:
        options["exif"] = exif = Image.Exif()
        exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def as_seen(content):
    """What Pillow shows, turned as cameras mean it."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


def write(folder, images, parts=("train", "val")):
    for part in parts:
        writer = mx.recordio.MXIndexedRecordIO(str(folder / f"{part}.idx"), str(folder / f"{part}.rec"), "w")
        for key, image in enumerate(images):
            writer.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, key % 2, key, 0), image))
        writer.close()
    return f"recordio:{folder}"


def write_folders(folder, images, suffix):
    for part in ("train", "val"):
        for key, image in enumerate(images):
            (folder / part / str(key % 2)).mkdir(parents=True, exist_ok=True)
            (folder / part / str(key % 2) / f"{key}{suffix}").write_bytes(image)
    return f"folder:{folder}"


def rows(batches):
    return [row.transpose(1, 2, 0) for batch in batches for row in batch.data.asnumpy()[: batch.num_valid]]


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_by_every_reader(orientation, tmp_path):
    content = encoded(picture(), orientation=orientation, quality=95)
    expected = as_seen(content).astype(np.float32)
    assert orientation == 1 or not np.array_equal(expected, as_seen(encoded(picture(), quality=95)))
    records = write(tmp_path, [content] * 2)
    folders = write_folders(tmp_path / "folders", [content] * 2, ".jpg")
    opened = {
        "MXNet's reader": open_small({"source": records}, **WHOLE),
        "records in threads": open_small({"source": records}, **WHOLE, on_error="skip"),
        "folders": open_small({"source": folders}, **WHOLE),
        "calibration": open_small({"source": records}, **WHOLE, augment="none"),
    }
    assert opened["MXNet's reader"].reader == "MXNet's reader" and opened["folders"].reader == "threads"
    for name, data in opened.items():
        for image in rows(data.train_batches(0)) + rows(data.val_batches()):
            np.testing.assert_array_equal(image, expected, err_msg=name)
    [batch] = calibration_images(opened["calibration"], 2)
    np.testing.assert_array_equal(batch.asnumpy()[0].transpose(1, 2, 0), expected)
    shown = read_image(tmp_path / "folders" / "val" / "0" / "0.jpg")  # as predict reads it
    np.testing.assert_array_equal(shown, as_seen(content))


@pytest.mark.parametrize("form,options", [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_orientation_of_other_formats(form, options, tmp_path):
    contents = [encoded(picture(n, 20, SIDE), form, n, **options) for n in range(1, 9)]
    for content in contents:
        np.testing.assert_array_equal(decode_image(content, "x"), as_seen(content))
    # MXNet's reader knows nothing of it.
    square = [encoded(picture(n), form, 6, **options) for n in range(2)]
    data = open_small({"source": write(tmp_path, square)}, **WHOLE)
    assert data.reader == "threads"
    seen = [as_seen(content).astype(np.float32) for content in square]
    for image in rows(data.train_batches(0)):
        assert any(np.array_equal(image, one) for one in seen)


def exif_segment(tiff, head=b"Exif\0\0"):
    return b"\xff\xe1" + struct.pack(">H", 2 + len(head) + len(tiff)) + head + tiff


def tiff(orientation, order="<", kind=3, first=8, before=b""):
    """A block of EXIF data with one entry, or with others before it."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + ("I" if kind == 4 else "HH"), *((orientation,) if kind == 4 else (orientation, 0)))
    entry = struct.pack(f"{order}HHI", 0x0112, kind, 1) + value
    count = struct.pack(f"{order}H", 1 + len(before) // 12)
    return mark + struct.pack(f"{order}I", first) + bytes(first - 8) + count + before + entry + bytes(4)


# A description whose text lies outside of the block; Pillow and we pass over it.
LOST_TEXT = struct.pack("<HHII", 0x010E, 2, 500, 9000)


@pytest.mark.parametrize(
    "segments",
    [
        exif_segment(tiff(6, ">")),
        exif_segment(tiff(6, kind=4)),
        exif_segment(tiff(6, ">", kind=4)),
        exif_segment(tiff(6, first=20)),
        exif_segment(tiff(6, before=LOST_TEXT)),
        exif_segment(b"x" * 40, b"http://ns.adobe.com/xap/1.0/\0") + exif_segment(tiff(6)),
        exif_segment(tiff(6)) + exif_segment(tiff(3)),
        b"\xff" + exif_segment(tiff(6)),
    ],
    ids=["motorola", "long", "motorola-long", "late-directory", "lost-text", "xmp-first", "two", "fill-byte"],
)
def test_mxnets_reader_is_asked_how_it_turns_unusual_exif(segments, tmp_path):
    """Whoever reads, the image is turned by 6; where MXNet's own look at EXIF fails, threads read."""
    plain = encoded(picture(), quality=95)
    content = plain[:2] + segments + plain[2:]
    expected = np.rot90(as_seen(plain), -1).astype(np.float32)
    np.testing.assert_array_equal(decode_image(content, "x"), expected)
    data = open_small({"source": write(tmp_path, [content] * 2)}, **WHOLE)
    for image in rows(data.train_batches(0)) + rows(data.val_batches()):
        np.testing.assert_array_equal(image, expected)


def test_damaged_exif_turns_nothing():
    plain = encoded(picture(), quality=95)
    whole = tiff(6)
    for cut in range(len(whole) - 8):
        assert read_header(plain[:2] + exif_segment(whole[:cut]) + plain[2:]).orientation == 1
    for value in (0, 9, 65535):
        assert read_header(plain[:2] + exif_segment(tiff(value)) + plain[2:]).orientation == 1


# Kinds of images


def kinds():
    """Images of every kind that people have, by name."""
    image, alpha = picture(), picture(1).convert("L")
    rgba = image.copy()
    rgba.putalpha(alpha)
    deep = np.random.RandomState(2).randint(0, 65536, (SIDE, SIDE, 4)).astype(np.uint16)
    found = {
        "gray": encoded(image.convert("L")),
        "cmyk": encoded(image.convert("CMYK")),
        "progressive": encoded(image, progressive=True),
        "rgba": encoded(rgba, "PNG"),
        "gray+alpha": encoded(rgba.convert("LA"), "PNG"),
        "bits": encoded(image.convert("1"), "PNG"),
        "palette": encoded(image.quantize(50), "PNG"),
        "palette+alpha": encoded(image.quantize(50), "PNG", transparency=bytes(range(50))),
        "bmp": encoded(image, "BMP"),
        "webp": encoded(image, "WEBP"),
        "jpeg2000": encoded(image, "JPEG2000"),
        "ppm": encoded(image, "PPM"),
        "tiff": encoded(image, "TIFF"),
    }
    for name, array in (("gray16", deep[..., 0]), ("color16", deep[..., :3]), ("alpha16", deep)):
        found[name] = cv2.imencode(".png", array)[1].tobytes()
    return found


@pytest.mark.parametrize("name", kinds())
def test_every_kind_has_the_same_pixels_in_all_readers(name, tmp_path):
    content = kinds()[name]
    expected = decode_image(content, "x").astype(np.float32)
    records = {"source": write(tmp_path, [content] * 2)}
    for data in (open_small(records, **WHOLE), open_small(records, **WHOLE, on_error="skip")):
        for image in rows(data.train_batches(0)) + rows(data.val_batches()):
            np.testing.assert_array_equal(image, expected)
    assert open_small(records, **WHOLE).reader == (
        "threads" if name in ("bmp", "webp", "jpeg2000", "ppm", "tiff") else "MXNet's reader"
    )


def png(height, width):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def resized_header(content, height, width):
    """A JPEG that says that it has another size."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


UNREADABLE = {
    "huge PNG": (png(60000, 60000), "60,000 x 60,000 pixels"),
    "huge JPEG": (resized_header(encoded(picture()), 60000, 60000), "60,000 x 60,000 pixels"),
    "huge BMP": (encoded(picture(), "BMP")[:18] + struct.pack("<ii", 60000, -60000) + bytes(60), "60,000 x 60,000"),
    "huge PPM": (b"P6 60000 60000 255\n" + bytes(60), "no readable image"),
    "ribbon": (png(1, MAX_ASPECT + 1), "101 x 1 pixels"),
    "no size": (png(0, 5), "no readable image"),
    "GIF": (encoded(picture(), "GIF"), "no readable image"),
    "empty": (b"", "no readable image"),
    "text": (b"a page that says 404", "no readable image"),
    "cut JPEG": (encoded(picture())[:-20], "no readable image"),
    "cut PNG": (encoded(picture(), "PNG")[:-20], "no readable image"),
    "cut in the header": (encoded(picture())[:30], "no readable image"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_image_is_named_or_skipped(name, tmp_path, caplog):
    content, reason = UNREADABLE[name]
    images = [encoded(picture(seed)) for seed in range(8)]
    images[5] = content
    records = write(tmp_path, images)
    folders = write_folders(tmp_path / "folders", images, ".jpg")
    settings = {"image_size": SIDE, "batch_size": 4}
    if name == "GIF":  # its header is well; only decoding finds that OpenCV has no reader for it
        with pytest.raises(UnreadableImageError, match=r"train.rec, record 5 \(byte \d+\) .*" + reason):
            list(open_small({"source": records}, **settings, on_error="raise").train_batches(0))
    else:
        with pytest.raises(UnreadableImageError, match=r"train.rec, record 5 \(byte \d+\) .*" + reason):
            open_small({"source": records}, **settings)
    with pytest.raises(UnreadableImageError, match=f"5.jpg .*{reason}"):
        list(open_small({"source": folders}, **settings).train_batches(0))
    for source in (records, folders):
        caplog.clear()
        data = open_small({"source": source}, **settings, on_error="skip")
        # As the loop does: it never asks for a batch behind the last one.
        batches = data.train_batches(0)
        assert len([next(batches) for _ in range(data.steps_per_epoch)]) == 2
        assert data.num_replaced == 1
        [line] = caplog.messages
        assert line.startswith("epoch 0: 1 unreadable training image") and ("record 5" in line or "5.jpg" in line)
        assert sum(batch.num_valid for batch in data.val_batches()) == 8


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 16), (3, 3), (1, MAX_ASPECT), (MAX_ASPECT, 1)])
def test_tiny_images_are_read(size, tmp_path):
    data = open_small({"source": write(tmp_path, [encoded(picture(0, *size), "PNG")] * 16)}, batch_size=4)
    assert data.reader == ("threads" if size[0] * size[1] * 0.08 * 0.75 < 1 else "MXNet's reader")
    for epoch in range(3):
        assert len(list(data.train_batches(epoch))) == 4
    assert sum(batch.num_valid for batch in data.val_batches()) == 16


def test_the_record_that_moves_training_into_threads_is_named(tmp_path, caplog):
    images = [encoded(picture(seed), "WEBP" if seed == 5 else "JPEG") for seed in range(8)]
    data = open_small({"source": write(tmp_path, images)}, batch_size=4)
    assert data.reader == "threads" and "train.rec, record 5" in caplog.text and len(caplog.records) == 1
    caplog.clear()
    assert open_small({"source": f"recordio:{tmp_path}"}, batch_size=4, rank=1, world=2).reader == "threads"
    assert not caplog.records


# The result of the check


def at_rest(folder):
    for name in os.listdir(folder):
        os.utime(folder / name, (1e9, 1e9))


def test_a_check_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    images = [encoded(picture(seed), orientation=6) for seed in range(4)]
    write(tmp_path, images, ["val"])
    path, kept = str(tmp_path / "val.rec"), tmp_path / "val.checked.npz"
    open_checked(path, 1)
    assert not kept.exists(), "a file that was written just now may change again within a tick of the clock"
    at_rest(tmp_path)
    first = open_checked(path, 1)
    assert kept.exists()
    looked_at = []
    monkeypatch.setattr("gluon_effnets.train.data.check.scan_records", lambda p: looked_at.append(p) or 1 / 0)
    second = open_checked(path, 1)
    assert not looked_at and second.unreadable == first.unreadable == {}
    for name in ("keys", "offsets", "starts", "ends", "labels"):
        np.testing.assert_array_equal(getattr(second.records, name), getattr(first.records, name))
    np.testing.assert_array_equal(second.records.read(3), decode_image(images[3], "x"))
    os.utime(path, (1e9 + 1, 1e9 + 1))
    with pytest.raises(ZeroDivisionError):
        open_checked(path, 1)
    assert looked_at == [path]


def test_one_of_several_workers_checks_for_all(tmp_path, monkeypatch):
    write(tmp_path, [encoded(picture(seed)) for seed in range(3)], ["val"])
    at_rest(tmp_path)
    checks, both_began = [], threading.Barrier(2, timeout=PATIENCE_S)

    def scan(path):
        checks.append(path)
        return scan_records(path)

    def start(_):
        both_began.wait()
        return open_checked(str(tmp_path / "val.rec"), 1)

    monkeypatch.setattr("gluon_effnets.train.data.check.scan_records", scan)
    # Locks of the system hold between two openings of a file, be they of one process or of two.
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(start, range(2)))
    assert len(checks) == 1 and [len(one.records.keys) for one in found] == [3, 3]


def test_a_kept_check_names_the_unreadable_record_again(tmp_path):
    write(tmp_path, [encoded(picture()), b"no image"])
    at_rest(tmp_path)
    texts = []
    for _ in range(2):
        with pytest.raises(UnreadableImageError, match="train.rec, record 1 .*is no readable image") as caught:
            open_small({"source": f"recordio:{tmp_path}"})
        texts.append(str(caught.value))
    assert texts[0] == texts[1] and (tmp_path / "train.checked.npz").exists()


@pytest.mark.parametrize("damage", ["cut", "text", "beyond", "lengths"])
def test_a_kept_check_is_not_trusted(damage, tmp_path):
    write(tmp_path, [encoded(picture(seed)) for seed in range(3)], ["val"])
    at_rest(tmp_path)
    path, kept = str(tmp_path / "val.rec"), tmp_path / "val.checked.npz"
    first = open_checked(path, 1)
    arrays = dict(np.load(kept))
    if damage == "cut":
        os.truncate(kept, 300)
    elif damage == "text":
        kept.write_text("nothing")
    else:
        if damage == "beyond":
            arrays["ends"] = arrays["ends"] + 10**12
        else:
            arrays["labels"] = arrays["labels"][:2]
        np.savez(kept, **arrays)
    again = open_checked(path, 1)
    np.testing.assert_array_equal(again.records.ends, first.records.ends)
    assert len(again.records.labels) == 3


def test_without_the_right_to_write_the_check_is_kept_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", [encoded(picture())], ["val"])
    at_rest(tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A folder in the place of the file refuses it to root, too.
    (tmp_path / "data" / "val.checked.npz").mkdir()
    open_checked(str(tmp_path / "data" / "val.rec"), 1)
    [kept] = (tmp_path / "cache" / "gluon_effnets").iterdir()
    assert kept.name.endswith(".checked.npz") and not list(tmp_path.glob("data/*.part*"))
