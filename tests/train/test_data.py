"""What the training data promise the trainer: steps, shards, resume, evaluation, augmentation."""

from __future__ import annotations

import itertools
import os
import random as python_random
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from images import NUM_TRAIN, NUM_VAL, SIZE, open_small, photo, write_records

from gluon_effnets.train.data import Batch, DataSettings
from gluon_effnets.train.data import augment as aug
from gluon_effnets.train.data.arrays import ArrayData
from gluon_effnets.train.data.decode import ordered_map
from gluon_effnets.train.data.recordio import RecordData
from gluon_effnets.train.data.records import scan_records
from gluon_effnets.train.data.threaded import ThreadedData

pytestmark = pytest.mark.fast


@pytest.fixture(params=["arrays", "folder", "recordio", "recordio-threads"])
def source(request, records, folder):
    """Keyword arguments of `open_small` for each way of reading; all label their training images 0..25."""
    return {
        "arrays": {"source": f"synthetic:{NUM_TRAIN}", "classes": NUM_TRAIN},
        "folder": {"source": f"folder:{folder}"},
        "recordio": {"source": f"recordio:{records}"},
        "recordio-threads": {"source": f"recordio:{records}", "on_error": "skip"},
    }[request.param]


def content(batches):
    return [(batch.data.asnumpy(), batch.label.asnumpy(), batch.num_valid) for batch in batches]


def labels_of(batches):
    return [int(label) for batch in batches for label in batch.label.asnumpy()[: batch.num_valid]]


def assert_equal(batches, others):
    batches, others = content(batches), content(others)
    assert len(batches) == len(others) > 0
    for (data, label, valid), (other_data, other_label, other_valid) in zip(batches, others):
        np.testing.assert_array_equal(data, other_data)
        np.testing.assert_array_equal(label, other_label)
        assert valid == other_valid


def test_the_intended_reader_is_used(records, folder):
    assert type(open_small({"source": f"recordio:{records}"})) is RecordData
    assert type(open_small({"source": f"recordio:{records}", "on_error": "skip"})) is ThreadedData
    assert type(open_small({"source": f"recordio:{records}", "augment": "small"})) is ThreadedData
    assert type(open_small({"source": f"recordio:{records}"}, world=4, batch_size=2)) is ThreadedData
    assert type(open_small({"source": f"folder:{folder}"})) is ThreadedData
    assert type(open_small({"source": "synthetic"})) is ArrayData


def test_batch_shapes_and_types(source):
    data = open_small(source)
    assert (data.num_classes, data.num_train, data.in_channels, data.image_size) == (26, 26, 3, SIZE)
    batch = next(data.train_batches(0))
    assert isinstance(batch, Batch) and batch.num_valid == 4
    assert batch.data.shape == (4, 3, SIZE, SIZE) and batch.data.dtype == np.float32
    assert batch.label.shape == (4,) and batch.label.dtype == np.int32
    assert "26 training" in data.description and "\n" not in data.description


@pytest.mark.parametrize("world,batch_size", [(1, 4), (2, 4), (3, 4), (4, 2)])
def test_shards_are_disjoint_and_complete(source, world, batch_size):
    workers = [open_small(source, rank=rank, world=world, batch_size=batch_size) for rank in range(world)]
    steps = NUM_TRAIN // (batch_size * world)
    assert [worker.steps_per_epoch for worker in workers] == [steps] * world
    for epoch in (0, 1):
        seen = []
        for worker in workers:
            batches = list(worker.train_batches(epoch))
            assert len(batches) == steps and all(batch.num_valid == batch_size for batch in batches)
            seen += labels_of(batches)
        assert len(seen) == len(set(seen)) == steps * batch_size * world


def test_each_worker_of_mxnets_reader_reads_another_part_in_every_epoch(records):
    parts = [range(9), range(9, 18), range(18, NUM_TRAIN)]
    for rank in range(3):
        data = open_small({"source": f"recordio:{records}"}, rank=rank, world=3)
        assert type(data) is RecordData
        for epoch in range(4):
            seen = labels_of(data.train_batches(epoch))
            assert len(seen) == 8 and set(seen) <= set(parts[(rank + epoch) % 3]), (rank, epoch)


def test_the_damaged_record_is_sought_in_the_part_of_the_epoch(tmp_path):
    images = [cv2.imencode(".jpg", photo(seed))[1].tobytes() for seed in range(8)]
    # Begins and ends as an image of its size, so that only decoding finds the damage.
    images[6] = images[6][: images[6].index(b"\xff\xda")] + bytes(200) + images[6][-2:]
    for name in ("train", "val"):
        write_records(str(tmp_path / f"{name}.rec"), images, range(8))
    for epoch, unlucky in ((0, 1), (1, 0), (2, 1)):
        workers = [open_small({"source": f"recordio:{tmp_path}"}, rank=rank, world=2) for rank in (0, 1)]
        assert len(labels_of(workers[1 - unlucky].train_batches(epoch))) == 4
        with pytest.raises(ValueError, match="train.rec, record 6 "):
            list(workers[unlucky].train_batches(epoch))


def test_order_changes_with_epoch_and_seed_alone(source):
    order = labels_of(open_small(source).train_batches(3))
    assert labels_of(open_small(source).train_batches(3)) == order
    assert labels_of(open_small(source).train_batches(4)) != order
    assert labels_of(open_small(source, seed=8).train_batches(3)) != order


@pytest.mark.parametrize("augment", ["imagenet", "small", "shift", "none"])
def test_a_resumed_epoch_is_bit_identical(source, augment):
    whole = list(open_small(source, augment=augment).train_batches(1))
    fresh = open_small(source, augment=augment)
    list(itertools.islice(fresh.train_batches(0), 2))
    assert_equal(fresh.train_batches(1, first_step=4), whole[4:])
    assert list(fresh.train_batches(1, first_step=6)) == []


def test_resume_on_the_second_worker(source):
    whole = list(open_small(source, rank=1, world=2).train_batches(5))
    assert_equal(open_small(source, rank=1, world=2).train_batches(5, first_step=1), whole[1:])


def test_pixels_depend_on_epoch_but_not_on_threads(source):
    batches = list(open_small(source).train_batches(0))
    assert_equal(open_small(source, num_threads=1).train_batches(0), batches)
    by_label = dict(zip(labels_of(batches), np.concatenate([batch.data.asnumpy() for batch in batches])))
    again = list(open_small(source).train_batches(1))
    pixels = np.concatenate([batch.data.asnumpy() for batch in again])
    pairs = [(by_label[label], image) for label, image in zip(labels_of(again), pixels) if label in by_label]
    assert pairs and all(np.abs(first - second).max() > 0.01 for first, second in pairs)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("eval_batch_size", [3, 64])
def test_evaluation_sees_each_image_once(source, world, eval_batch_size):
    seen = []
    for rank in range(world):
        data = open_small(source, rank=rank, world=world, eval_batch_size=eval_batch_size)
        batches = list(data.val_batches())
        assert all(batch.data.shape[0] == eval_batch_size for batch in batches)
        assert_equal(data.val_batches(), batches)
        seen += labels_of(batches)
    assert len(seen) == data.num_val
    assert sorted(seen) == sorted(range(data.num_val))


def test_workers_without_an_image_to_evaluate(records):
    source = {"source": f"recordio:{records}/val.rec"}
    shares = [labels_of(open_small(source, rank=rank, world=14).val_batches()) for rank in range(14)]
    assert sorted(sum(shares, [])) == list(range(NUM_VAL))
    assert shares[11:] == [[], [], []]


def test_global_generators_stay_untouched(source):
    python_random.seed(1), np.random.seed(1), mx.random.seed(1)
    expected = python_random.random(), np.random.rand(), float(mx.nd.random.uniform().asscalar())
    python_random.seed(1), np.random.seed(1), mx.random.seed(1)
    data = open_small(source)
    list(data.train_batches(0)), list(data.val_batches())
    assert expected == (python_random.random(), np.random.rand(), float(mx.nd.random.uniform().asscalar()))
    np.random.seed(99)
    batches = list(open_small(source).train_batches(2))
    np.random.seed(100)
    assert_equal(open_small(source).train_batches(2), batches)


def test_batches_kept_aside_do_not_change(source):
    data = open_small(source)
    kept = list(data.train_batches(0))
    at_once = [content([batch])[0] for batch in data.train_batches(0)]
    for (pixels, label, _), batch in zip(at_once, kept):
        np.testing.assert_array_equal(pixels, batch.data.asnumpy())
        np.testing.assert_array_equal(label, batch.label.asnumpy())


def test_an_abandoned_epoch_leaves_no_threads(folder):
    import threading

    before = threading.active_count()
    batches = open_small({"source": f"folder:{folder}"}).train_batches(0)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_threads_read_two_batches_ahead(folder):
    data = open_small({"source": f"folder:{folder}"})
    read, photos = [], data._train

    class CountedPhotos:
        labels = photos.labels

        def read(self, position):
            read.append(position)
            return photos.read(position)

    data._train = CountedPhotos()
    batches = data.train_batches(0)
    next(batches)
    batches.close()
    assert len(read) <= 3 * 4 + 2, "it should not read the whole epoch ahead"
    items = iter(range(100))
    mapped = ordered_map(lambda item: item * item, items, num_threads=3, ahead=8)
    assert next(mapped) == 0 and next(items) == 9
    assert list(mapped) == [item * item for item in range(1, 100) if item != 9]


def test_evaluation_equals_mxnets_reader(records):
    """The same pixels as `ImageRecordIter`; two JPEG decoders may differ by a grey level."""
    reader = mx.io.ImageRecordIter(
        path_imgrec=f"{records}/val.rec",
        path_imgidx=f"{records}/val.idx",
        data_shape=(3, SIZE, SIZE),
        resize=28,
        batch_size=NUM_VAL,
        verbose=False,
        **{f"mean_{channel}": value for channel, value in zip("rgb", (123.68, 116.779, 103.939))},
        **{f"std_{channel}": value for channel, value in zip("rgb", (58.393, 57.12, 57.375))},
    )
    expected = next(reader)
    batch = next(open_small({"source": f"recordio:{records}"}, eval_batch_size=NUM_VAL).val_batches())
    np.testing.assert_array_equal(batch.label.asnumpy(), expected.label[0].asnumpy())
    assert np.abs(batch.data.asnumpy() - expected.data[0].asnumpy()).max() < 0.05


def test_evaluation_transform_against_plain_numpy(folder):
    """Shorter side 40 -> ceil(24 / 0.875) = 28, so 28 x 36; then rows 2..26 and columns 6..30."""
    batch = next(open_small({"source": f"folder:{folder}"}, eval_batch_size=2).val_batches())
    for row, seed in zip(batch.data.asnumpy(), range(2)):
        small = cv2.resize(photo(seed), (36, 28), interpolation=cv2.INTER_LINEAR)[2:26, 6:30].astype(np.float32)
        for channel, (mean, std) in enumerate(zip((123.68, 116.779, 103.939), (58.393, 57.12, 57.375))):
            np.testing.assert_allclose(row[channel], (small[..., channel] - mean) / std, atol=1e-5)


def test_evaluation_resize_is_256_for_224():
    assert aug.eval_resize(DataSettings()) == 256
    assert aug.eval_resize(DataSettings(eval_crop=0.7)) == 320
    assert aug.eval_resize(DataSettings(image_size=32, eval_crop=1.0)) == 32


def test_shift_and_mirror_against_plain_numpy():
    images = np.random.RandomState(0).randint(1, 256, (40, 9, 7, 3)).astype(np.uint8)
    result = aug.shift_and_mirror(images, 2, True, np.random.RandomState(5))
    found = set()
    for image, changed in zip(images, result):
        padded = np.zeros((13, 11, 3), np.uint8)
        padded[2:11, 2:9] = image
        matches = [
            (top, left, flip)
            for top, left, flip in itertools.product(range(5), range(5), (False, True))
            if np.array_equal(changed, padded[top : top + 9, left : left + 7][:, :: -1 if flip else 1])
        ]
        assert len(matches) == 1
        found.add(matches[0])
    assert {top for top, _, _ in found} == {left for _, left, _ in found} == set(range(5))
    assert {flip for _, _, flip in found} == {False, True}
    unflipped = aug.shift_and_mirror(images, 0, False, np.random.RandomState(5))
    np.testing.assert_array_equal(unflipped, images)


def test_crop_windows_keep_to_the_ranges():
    random = np.random.RandomState(0)
    windows = [aug.crop_window(300, 400, (0.08, 1.0), (3 / 4, 4 / 3), random) for _ in range(2000)]
    areas = []
    for top, left, height, width in windows:
        assert 0 <= top <= 300 - height and 0 <= left <= 400 - width
        assert 0.74 < width / height < 1.35
        areas.append(height * width / (300 * 400))
    assert 0.075 < min(areas) < 0.1 and max(areas) > 0.9


def test_crop_windows_have_uniform_area_and_log_uniform_aspect():
    """Windows of up to 0.3 of the area always fit, so none is drawn anew and the plain distributions hold."""
    random = np.random.RandomState(0)
    windows = np.array([aug.crop_window(300, 400, (0.1, 0.3), (3 / 4, 4 / 3), random) for _ in range(4000)])
    top, left, height, width = windows.T
    area, ratio = height * width / (300 * 400), np.log(width / height)
    np.testing.assert_allclose(np.percentile(area, [25, 50, 75]), [0.15, 0.20, 0.25], atol=0.006)
    np.testing.assert_allclose(np.percentile(ratio, [25, 50, 75]), np.log(4 / 3) * np.array([-0.5, 0, 0.5]), atol=0.02)
    assert np.mean(top / (300 - height)) == pytest.approx(0.5, abs=0.02)
    assert np.mean(left / (400 - width)) == pytest.approx(0.5, abs=0.02)


def test_crop_window_of_an_extreme_image_is_the_largest_allowed():
    top, left, height, width = aug.crop_window(10, 1000, (0.9, 1.0), (3 / 4, 4 / 3), np.random.RandomState(0))
    assert (top, height, width) == (0, 10, 13) and left == 493


def test_color_jitter_against_plain_numpy():
    image = np.random.RandomState(1).randint(0, 256, (4, 5, 3)).astype(np.uint8)
    replay = np.random.RandomState(2)
    factors, order = 1 + replay.uniform(-0.4, 0.4, 3), replay.permutation(3)
    expected = image.astype(np.float64)
    for change in order:
        grey = 0.299 * expected[..., 0] + 0.587 * expected[..., 1] + 0.114 * expected[..., 2]
        base = {0: 0.0, 1: grey.mean(), 2: grey[..., None]}[change]
        expected = np.clip(factors[change] * expected + (1 - factors[change]) * base, 0, 255)
    result = aug.jitter_color(image, 0.4, np.random.RandomState(2))
    np.testing.assert_allclose(result, expected, atol=1e-3)
    assert np.abs(result - image).max() > 5


def test_pca_noise_has_the_stated_covariance():
    random = np.random.RandomState(0)
    shifts = np.stack([aug.pca_shift(0.1, random) for _ in range(20000)])
    values, vectors = np.linalg.eigh(np.cov(shifts.T))
    np.testing.assert_allclose(np.sqrt(values[::-1]), [5.546, 0.4794, 0.1148], rtol=0.03)
    np.testing.assert_allclose(np.abs(vectors[:, 2]), [0.5675, 0.5808, 0.5836], atol=0.01)


def test_imagenet_augmentation_without_noise_is_crop_and_mirror():
    settings = DataSettings(image_size=16, color_jitter=0, pca_noise=0, crop_area=(1, 1), crop_aspect=(1, 1))
    image = photo(3, 30, 30)
    expected = cv2.resize(image, (16, 16))
    results = [aug.augment_imagenet(image, settings, np.random.RandomState(seed)) for seed in range(12)]
    mirrored = [np.array_equal(result, expected[:, ::-1]) for result in results]
    assert any(mirrored) and not all(mirrored)
    assert all(flip or np.array_equal(result, expected) for flip, result in zip(mirrored, results))


def test_digits_are_split_by_class_and_normalised():
    data = open_small({"source": "digits"}, image_size=32, batch_size=32)
    assert (data.num_train, data.num_val, data.num_classes, data.in_channels) == (1438, 359, 10, 1)
    assert data.class_names == list("0123456789")
    counts = np.bincount(labels_of(data.val_batches()))
    assert counts.min() >= 34 and counts.max() <= 37
    plain = open_small({"source": "digits"}, image_size=32, batch_size=32, augment="none")
    pixels = np.concatenate([batch.data.asnumpy() for batch in plain.train_batches(0)])
    assert pixels.shape[1:] == (1, 32, 32)
    assert abs(pixels.mean()) < 0.02 and abs(pixels.std() - 1) < 0.02


def test_digits_of_training_and_evaluation_are_all_different_images():
    datasets = pytest.importorskip("sklearn.datasets")
    data = open_small({"source": "digits"}, image_size=8, mean=(0,), std=(255 / 16,), augment="none", batch_size=1)
    pixels = [batch.data.asnumpy()[0, 0] for batch in itertools.chain(data.train_batches(0), data.val_batches())]
    ours = sorted(np.rint(image).astype(int).tobytes() for image in map(np.ascontiguousarray, pixels[:1438]))
    held = np.concatenate([batch.data.asnumpy()[: batch.num_valid, 0] for batch in data.val_batches()])
    ours += [np.rint(image).astype(int).tobytes() for image in held]
    everything = [image.astype(int).tobytes() for image in datasets.load_digits().images]
    assert sorted(ours) == sorted(everything)


def write_cifar10_binary(folder, images, labels):
    for part, name in enumerate([f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]):
        rows = [np.concatenate([[label], image.transpose(2, 0, 1).ravel()]) for image, label in zip(images, labels)]
        np.array(rows[2 * part : 2 * part + 2], np.uint8).tofile(str(folder / name))


def test_cifar10_from_binary_batches_equals_records(tmp_path):
    images = [photo(seed, 32, 32) for seed in range(12)]
    labels = [seed % 10 for seed in range(12)]
    (tmp_path / "binary").mkdir(), (tmp_path / "records").mkdir()
    write_cifar10_binary(tmp_path / "binary", images, labels)
    for name, part in (("train", slice(0, 10)), ("test", slice(10, 12))):
        write_records(str(tmp_path / "records" / f"{name}.rec"), images[part], labels[part], ".png")
    sources = [open_small({"source": f"cifar10:{tmp_path / kind}"}, augment="small", image_size=32)
               for kind in ("binary", "records")]  # fmt: skip
    for data in sources:
        assert (data.num_train, data.num_val, data.num_classes, data.steps_per_epoch) == (10, 2, 10, 2)
        assert data.class_names[9] == "truck"
    assert_equal(sources[0].train_batches(0), list(sources[1].train_batches(0)))
    assert_equal(sources[0].val_batches(), list(sources[1].val_batches()))
    larger = open_small({"source": f"cifar10:{tmp_path / 'binary'}"}, augment="small", image_size=48)
    assert next(larger.train_batches(0)).data.shape == (4, 3, 48, 48)


def test_synthetic_images_can_be_learned():
    data = open_small({"source": "synthetic:80"}, augment="none")
    pixels = np.concatenate([batch.data.asnumpy() for batch in data.train_batches(0)])
    labels = np.array(labels_of(data.train_batches(0)))
    centres = np.stack([pixels[labels == label].mean(axis=0) for label in range(10)])
    for batch in data.val_batches():
        images = batch.data.asnumpy()[: batch.num_valid, None]
        nearest = np.square(images - centres[None]).sum(axis=(2, 3, 4)).argmin(axis=1)
        assert (nearest == batch.label.asnumpy()[: batch.num_valid]).all()
    assert data.num_val == 20 and data.num_classes == 10


def test_grey_cmyk_and_transparent_images_become_rgb(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    image = pillow.fromarray(photo(0))
    for part in ("train", "val"):
        for label, (mode, suffix) in enumerate([("L", "jpg"), ("CMYK", "JPEG"), ("RGBA", "png"), ("RGB", "jpg")]):
            target = tmp_path / part / f"{label}"
            target.mkdir(parents=True)
            image.convert(mode).save(str(target / f"image.{suffix}"))
    rows = next(open_small({"source": f"folder:{tmp_path}"}, mean=(0,) * 3, std=(1,) * 3).val_batches()).data.asnumpy()
    assert np.ptp(rows[0], axis=0).max() == 0
    for row in rows[1:3]:
        assert np.abs(row - rows[3]).mean() < 6


def test_evaluation_only(records, folder, tmp_path):
    os.makedirs(tmp_path / "f")
    os.symlink(f"{folder}/val", tmp_path / "f" / "val")
    for kind in (f"recordio:{records}/val.rec", f"folder:{tmp_path}/f"):
        data = open_small({"source": kind})
        assert data.num_train == 0 and data.steps_per_epoch == 0 and data.num_val in (NUM_VAL, NUM_TRAIN)
        assert len(labels_of(data.val_batches())) == data.num_val
        with pytest.raises(ValueError, match="no training images"):
            data.train_batches(0)


def test_class_names_beside_the_records(tmp_path):
    write_records(str(tmp_path / "val.rec"), [photo(0), photo(1)], [0, 2])
    assert open_small({"source": f"recordio:{tmp_path}"}).num_classes == 3
    assert open_small({"source": f"recordio:{tmp_path}"}, classes=5).num_classes == 5
    (tmp_path / "classes.txt").write_text("owl\nheron\ncrane\nswift\n")
    data = open_small({"source": f"recordio:{tmp_path}"})
    assert data.num_classes == 4 and data.class_names[3] == "swift"


def test_label_packed_as_a_list_of_one(tmp_path):
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "val.idx"), str(tmp_path / "val.rec"), "w")
    for key in range(3):
        header = mx.recordio.IRHeader(0, [float(2 - key)], key, 0)
        writer.write_idx(key, mx.recordio.pack_img(header, photo(key)))
    writer.close()
    for policy in ("raise", "skip"):
        data = open_small({"source": f"recordio:{tmp_path}", "on_error": policy})
        assert labels_of(data.val_batches()) == [2, 1, 0]


def test_record_stored_in_parts(tmp_path):
    """RecordIO cuts a record where its bytes hold the magic number."""
    encoded = cv2.imencode(".png", photo(0))[1].tobytes()
    padding = b"\x0a\x23\xd7\xce" * 5  # after the end of the PNG, on a multiple of four
    encoded += b"\0" * (-len(encoded) % 4) + padding
    write_records(str(tmp_path / "val.rec"), [photo(1), encoded, photo(2)], [0, 1, 2])
    rows = []
    for policy in ("raise", "skip"):
        rows.append(next(open_small({"source": f"recordio:{tmp_path}", "on_error": policy}).val_batches()))
        assert labels_of(rows[-1:]) == [0, 1, 2]
    checked = scan_records(str(tmp_path / "val.rec"))
    assert checked.ends[1] == -1 and checked.encoded(1) == encoded
    assert np.abs(rows[0].data.asnumpy()[1] - rows[1].data.asnumpy()[1]).max() < 0.05


@pytest.mark.skipif("GLUON_EFFNETS_DATA" not in os.environ, reason="needs the folder GLUON_EFFNETS_DATA")
def test_real_images(tmp_path):
    # Through links, so that the result of the check lies beside these.
    root = tmp_path
    for name in ("cifar10", "imagenet_sample"):
        (root / name).mkdir()
        for path in Path(os.environ["GLUON_EFFNETS_DATA"], name).iterdir():
            (root / name / path.name).symlink_to(path)
    cifar = open_small({"source": f"cifar10:{root}/cifar10"}, augment="small", image_size=32, batch_size=100)
    assert (cifar.num_train, cifar.num_val, cifar.num_classes) == (50000, 10000, 10)
    assert np.bincount(cifar._train.labels).tolist() == [5000] * 10
    pixels = next(cifar.val_batches()).data.asnumpy()
    assert pixels.shape == (100, 3, 32, 32) and 0.5 < pixels.std() < 2
    sample = open_small({"source": f"recordio:{root}/imagenet_sample"}, image_size=224, eval_batch_size=64)
    assert (sample.num_train, sample.num_val, sample.num_classes) == (0, 1000, 1000)
    assert len(sample.class_names) == 1000
    batches = list(itertools.islice(sample.val_batches(), 2))
    assert len(set(labels_of(batches))) == 128
    assert all(0.5 < batch.data.asnumpy().std() < 2 for batch in batches)
