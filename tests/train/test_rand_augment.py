"""RandAugment, random erasing and Pillow's filters: what each does to pixels, how often, and the same in every run."""

from __future__ import annotations

import numpy as np
import pytest
from images import open_small
from PIL import Image

from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.data import DataSettings
from gluon_effnets.train.data import augment as aug
from gluon_effnets.train.data.rand_augment import OPERATIONS, rand_augment
from gluon_effnets.train.data.recordio import RecordData
from gluon_effnets.train.data.settings import RandAugment
from gluon_effnets.train.data.threaded import ThreadedData

pytestmark = pytest.mark.fast
IMAGE = np.random.RandomState(0).randint(0, 256, (20, 30, 3)).astype(np.uint8)
FILL = (124, 117, 104)


def run_once(name, magnitude, image=IMAGE, seed=0):
    """One operation for certain: the first seed from `seed` on at which it is drawn and carried out."""
    options = RandAugment(1, magnitude, 0.0)
    for number in range(seed, seed + 1000):
        draws = np.random.RandomState(number)
        if list(OPERATIONS)[draws.randint(len(OPERATIONS), size=1)[0]] == name and draws.uniform() < 0.5:
            return rand_augment(image, options, FILL[: image.shape[2]], np.random.RandomState(number))
    raise AssertionError(f"{name} never came")


def grey(image):
    return np.rint(image @ [0.299, 0.587, 0.114])


def test_the_operations_are_those_of_timm():
    assert (
        list(OPERATIONS)
        == (
            "AutoContrast Equalize Invert Rotate Posterize Solarize SolarizeAdd Color Contrast Brightness Sharpness "
            "ShearX ShearY TranslateXRel TranslateYRel"
        ).split()
    )


@pytest.mark.parametrize(
    ("name", "magnitude", "expected"),
    [
        ("Invert", 3, lambda x: 255 - x),
        ("Posterize", 9, lambda x: x // 32 * 32),  # int(3.6) bits
        ("Posterize", 2, lambda x: 0 * x),  # none
        ("Solarize", 9, lambda x: np.where(x >= 230, 255 - x, x)),
        ("Solarize", 0, lambda x: 255 - x),
        ("SolarizeAdd", 9, lambda x: np.where(x < 128, np.minimum(x + 99, 255), x)),
        ("Brightness", 9, lambda x: np.clip(1.72 * x, 0, 255)),
        ("Brightness", 0, lambda x: 0.1 * x),
        ("Color", 2, lambda x: grey(x)[..., None] + 0.46 * (x - grey(x)[..., None])),
        ("Contrast", 2, lambda x: np.rint(grey(x).mean()) + 0.46 * (x - np.rint(grey(x).mean()))),
    ],
)
def test_colours_against_numpy(name, magnitude, expected):
    wanted = np.clip(expected(IMAGE.astype(np.float64)), 0, 255)
    assert np.abs(run_once(name, magnitude) - wanted).max() <= 1.5


def test_autocontrast_and_equalize():
    faint = (IMAGE // 4 + 60).astype(np.uint8)
    stretched = run_once("AutoContrast", 5, faint)
    low, high = faint.min(axis=(0, 1)).astype(float), faint.max(axis=(0, 1))
    assert np.abs(stretched - (faint - low) * 255 / (high - low)).max() <= 1.5
    skewed = (255 * (IMAGE / 255.0) ** 3).astype(np.uint8)
    levels = np.sort(run_once("Equalize", 5, skewed).reshape(-1, 3), axis=0)
    straight = np.linspace(0, 255, len(levels))
    assert (
        np.abs(levels - straight[:, None]).mean()
        < np.abs(np.sort(skewed.reshape(-1, 3), 0) - straight[:, None]).mean() / 2
    )


def test_sharpness():
    flat = np.full((20, 30, 3), 90, np.uint8)
    flat[10, 15] = 140
    assert run_once("Sharpness", 10, flat)[10, 15, 0] > 140
    assert run_once("Sharpness", 0, flat)[10, 15, 0] < 140
    assert (run_once("Sharpness", 5, flat) == flat).all(), "1.0 changes nothing"


@pytest.mark.parametrize(("name", "axis", "pixels"), [("TranslateXRel", 1, 13.5), ("TranslateYRel", 0, 9)])
def test_translation_moves_a_share_of_the_side(name, axis, pixels):
    image = np.zeros((20, 30, 3), np.uint8)
    image[10, 15] = 255
    centres = set()
    for seed in range(0, 3000, 150):
        moved = run_once(name, 10, image, seed).astype(float)
        moved[(moved == FILL).all(axis=2)] = 0
        weights = moved[..., 0].sum(axis=1 - axis)
        centres.add(round(float((weights * np.arange(len(weights))).sum() / weights.sum() - image.shape[axis] // 2), 1))
    assert {np.sign(c) for c in centres} == {-1, 1}
    assert all(abs(abs(centre) - pixels) <= 0.6 for centre in centres), centres


@pytest.mark.parametrize(("name", "axis"), [("ShearX", 1), ("ShearY", 0)])
def test_shear_moves_rows_in_proportion_to_their_number(name, axis):
    image = np.zeros((40, 40, 3), np.uint8)
    image[(slice(None), 20) if axis == 1 else 20] = 255
    sheared = run_once(name, 10, image).astype(float)
    sheared[(sheared == FILL).all(axis=2)] = 0
    lines = sheared[..., 0] if axis == 1 else sheared[..., 0].T
    at = np.array([(line * np.arange(40)).sum() / line.sum() for line in lines])
    assert abs(np.polyfit(np.arange(40), at, 1)[0]) == pytest.approx(0.3, abs=0.01)


def test_rotation_is_thirty_degrees_at_most_and_fills_corners_with_the_mean():
    image = np.full((41, 41, 3), 255, np.uint8)
    image[20, 20:] = 0
    turned = run_once("Rotate", 10, image)
    assert (turned[0, 0] == FILL).all()
    black = np.argwhere(turned[..., 0] < 100) - 20
    far = black[(black**2).sum(axis=1) > 100]
    assert np.degrees(np.arctan2(np.abs(far[:, 0]), far[:, 1])) == pytest.approx(30, abs=3)


def test_magnitudes_vary_and_are_cut():
    values = set()
    for seed in range(400):
        draws = np.random.RandomState(seed)
        if list(OPERATIONS)[draws.randint(len(OPERATIONS), size=1)[0]] == "Brightness" and draws.uniform() < 0.5:
            white = np.full((1, 1, 3), 100, np.uint8)
            values.add(int(rand_augment(white, RandAugment(1, 9.5, 2.0), FILL, np.random.RandomState(seed))[0, 0, 0]))
    assert len(values) > 5
    assert max(values) == 190, "magnitude 10, enhancement 1.9"


def test_each_operation_comes_with_the_same_chance_half_of_the_time(monkeypatch):
    counts = dict.fromkeys(OPERATIONS, 0)

    def counted(name):
        def operation(image, share, draw):
            counts[name] += 1
            return image

        return operation

    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, counted(name))
    random = np.random.RandomState(0)
    for _ in range(6000):
        rand_augment(IMAGE, RandAugment(2, 9, 0.5), FILL, random)
    assert sum(counts.values()) == pytest.approx(6000, rel=0.03)
    assert all(count == pytest.approx(400, abs=80) for count in counts.values())


@pytest.mark.parametrize("name", OPERATIONS)
def test_grey_images(name):
    seen = run_once(name, 9, IMAGE[..., :1])
    assert seen.shape == (20, 30, 1)
    assert seen.dtype == np.uint8


def test_erased_boxes():
    settings, random = DataSettings(random_erasing=0.2), np.random.RandomState(0)
    areas, aspects, noise, times = [], [], [], 0
    for _ in range(3000):
        pixels = np.full((3, 64, 64), 9.0, np.float32)
        aug.erase(pixels, settings, random)
        changed = (pixels != 9).all(axis=0)
        if not changed.any():
            continue
        times += 1
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert changed.sum() == height * width, "one box"
        areas.append(height * width / 64**2)
        aspects.append(np.log(width / height))
        noise.append(pixels[:, changed].ravel())
    assert times / 3000 == pytest.approx(0.2, abs=0.02)
    assert 0.018 < min(areas) < 0.04 < 0.28 < max(areas) < 0.345
    assert np.abs(aspects).max() < np.log(1 / 0.3) + 0.2
    assert np.mean(aspects) == pytest.approx(0, abs=0.1)
    noise = np.concatenate(noise)
    assert (noise.mean(), noise.std()) == pytest.approx((0, 1), abs=0.01)


ALL = {"rand_augment": RandAugment(), "random_erasing": 1.0, "interpolation": "pillow_random"}


@pytest.mark.parametrize("augment", ["imagenet", "small", "shift"])
@pytest.mark.parametrize("kind", ["synthetic:26", "folder", "recordio"])
def test_every_reader_repeats_itself_also_after_a_resume(kind, augment, folder, records):
    source = {"folder": f"folder:{folder}", "recordio": f"recordio:{records}"}.get(kind, kind)
    changes = {"augment": augment, "color_jitter": 0.0, "pca_noise": 0.0}
    data = open_small({"source": source}, **changes, **ALL)
    whole = [batch.data.asnumpy() for batch in data.train_batches(1)]
    again = open_small({"source": source}, **changes, **ALL, num_threads=3)
    rest = [batch.data.asnumpy() for batch in again.train_batches(1, first_step=2)]
    assert all((a == b).all() for a, b in zip(whole[2:], rest))
    assert len(rest) == len(whole) - 2 > 0
    plain = [batch.data.asnumpy() for batch in open_small({"source": source}, **changes).train_batches(1)]
    assert all((a != b).any() for a, b in zip(whole, plain))
    other = [batch.data.asnumpy() for batch in data.train_batches(2)]
    assert all((a != b).any() for a, b in zip(whole, other))
    seen = [batch.data.asnumpy() for batch in data.val_batches()]
    expected = [batch.data.asnumpy() for batch in open_small({"source": source}).val_batches()]
    assert all((a == b).all() for a, b in zip(seen, expected)), "evaluation is left alone"


@pytest.mark.parametrize("kind", ["synthetic:26", "folder"])
def test_none_is_none(kind, folder):
    source = {"source": f"folder:{folder}" if kind == "folder" else kind}
    batches = [next(iter(open_small(source, augment="none", **changes).train_batches(0))) for changes in ({}, ALL)]
    assert (batches[0].data.asnumpy() == batches[1].data.asnumpy()).all()


@pytest.mark.parametrize(
    "change", [{"rand_augment": RandAugment()}, {"random_erasing": 0.2}, {"interpolation": "pillow_bicubic"}]
)
def test_mxnets_reader_hands_over_to_threads(records, change):
    assert isinstance(open_small({"source": f"recordio:{records}"}), RecordData)
    data = open_small({"source": f"recordio:{records}"}, **change)
    assert type(data) is ThreadedData
    assert "from threads" in data.description


def test_the_colour_that_comes_into_view_is_that_of_the_channel():
    changes = {"augment": "small", "rand_augment": RandAugment(), "mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)}
    batches = []
    for order in ("rgb", "bgr"):
        data = open_small({"source": "synthetic:8"}, channel_order=order, **changes)
        batches.append(next(iter(data.train_batches(0))).data.asnumpy())
    assert (batches[0] == batches[1][:, ::-1]).all()


@pytest.mark.parametrize("name", ["pillow_bilinear", "pillow_bicubic"])
def test_pillows_filters(name):
    expected = Image.fromarray(IMAGE).resize((13, 9), getattr(Image, name[7:].upper()))
    assert (aug.resize(IMAGE, 9, 13, name) == np.asarray(expected)).all()
    one = aug.resize(IMAGE[..., 1:2], 9, 13, name)
    assert (one == np.asarray(expected)[..., 1:2]).all()
    checks = np.indices((40, 40)).sum(axis=0)[..., None].repeat(3, axis=2) % 2 * 255
    small = aug.resize(checks.astype(np.uint8), 7, 7, name)
    assert np.abs(small.astype(int) - 127).max() < 60, "a low-pass filter leaves grey"


def test_evaluation_with_pillows_filter(folder):
    plain, bicubic = (
        next(iter(open_small({"source": f"folder:{folder}"}, eval_interpolation=name).val_batches()))
        for name in ("bilinear", "pillow_bicubic")
    )
    assert (plain.data.asnumpy() != bicubic.data.asnumpy()).any()


def test_both_filters_are_drawn():
    image = np.random.RandomState(1).randint(0, 256, (20, 20, 3)).astype(np.uint8)
    changes = {"crop_area": (1.0, 1.0), "crop_aspect": (1.0, 1.0), "mirror": False, "color_jitter": 0, "pca_noise": 0}
    settings = DataSettings(image_size=9, interpolation="pillow_random", **changes)
    random = np.random.RandomState(0)
    seen = [aug.augment_imagenet(image, settings, random) for _ in range(300)]
    shares = []
    for kind in (Image.BILINEAR, Image.BICUBIC):
        expected = np.asarray(Image.fromarray(image).resize((9, 9), kind), np.float32)
        shares.append(sum((image == expected).all() for image in seen) / len(seen))
    assert sum(shares) == 1
    assert shares == pytest.approx([0.5, 0.5], abs=0.1)


def test_settings_in_a_recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("model: idle_tiny\ndata: {source: digits, rand_augment: {num: 3}, random_erasing: 0.25}\n")
    data = load_recipe(path, ["data.rand_augment.magnitude=5"]).data
    assert data.rand_augment == RandAugment(3, 5.0, 0.5)
    assert load_recipe(path).as_dict()["data"]["rand_augment"] == {"num": 3, "magnitude": 9.0, "std": 0.5}
    with pytest.raises(ValueError, match="data.rand_augment.number; did you mean data.rand_augment.num"):
        load_recipe(path, ["data.rand_augment.number=5"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandAugment(num=0), "data.rand_augment.num is 0; it must be at least 1"),
        (lambda: RandAugment(magnitude=11), "data.rand_augment.magnitude is 11; it must be 0 to 10"),
        (lambda: RandAugment(std=-1), "data.rand_augment.std is -1"),
        (lambda: DataSettings(random_erasing=1.5), "data.random_erasing is 1.5"),
        (lambda: DataSettings(interpolation="cubic"), "data.interpolation is 'cubic'; it must be one of bilinear"),
        (lambda: DataSettings(eval_interpolation="pillow_random"), "data.eval_interpolation is 'pillow_random'"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
