"""What a network's card says is done to images and called their class, wherever images meet a network."""

from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import mxnet as mx
import numpy as np
import pytest
from images import photo

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.class_names import imagenet_names
from gluon_effnets.deploy import export, initialize_like_trained
from gluon_effnets.evaluate.predict import Classifier, ExportedClassifier, read_image
from gluon_effnets.evaluate.validate import calibration_images, is_imagenet, open_pair, validate
from gluon_effnets.models import Card, Preprocessing
from gluon_effnets.runtime.pixels import to_input
from gluon_effnets.train.data.augment import center_crop

pytestmark = pytest.mark.fast

NAMES = ["ant", "bee", "cow"]
OWN = Preprocessing((10.0, 20.0, 30.0), (40.0, 50.0, 60.0), "bgr", "pillow_bicubic", 0.8, 32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of large photographs, on which the filters of interpolations differ."""
    root = tmp_path_factory.mktemp("photos")
    for part in ("train", "val"):
        for seed, name in enumerate(NAMES):
            (root / part / name).mkdir(parents=True)
            for number in range(4):
                noise = np.random.RandomState(seed + number).randint(0, 60, (90, 110, 3)).astype(np.uint8)
                picture = photo(10 * seed + number, 90, 110) // 2 + noise
                cv2.imwrite(str(root / part / name / f"{number}.png"), picture)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.params"
    made(Card(NAMES, OWN)).save_parameters(str(path))
    return str(path)


def made(card):
    mx.random.seed(0)
    net = get_model("idle_tiny", classes=3)
    initialize_like_trained(net)
    net.card = card
    return net


def picture(photos):
    return cv2.cvtColor(cv2.imread(str(photos / "val" / "cow" / "2.png")), cv2.COLOR_BGR2RGB)


def wanted_pixels(photos, settings, side=32):
    """By hand: the shorter side to side / 0.8, by Pillow's bicubic filter."""
    return to_input(center_crop(picture(photos), side, round(side / 0.8), "pillow_bicubic"), settings)


def test_predict_shows_images_as_the_weights_and_their_export_want_them(photos, weights, tmp_path):
    net = get_model("idle_tiny", pretrained=weights)
    files = export(net, tmp_path / "net")
    for classifier in (Classifier("idle_tiny", weights), ExportedClassifier(files.description)):
        assert classifier.settings.preprocessing == OWN and classifier.names == NAMES
        pixels = classifier._input(read_image(photos / "val" / "cow" / "2.png"))
        np.testing.assert_array_equal(pixels, wanted_pixels(photos, classifier.settings))
        plain = to_input(center_crop(picture(photos), 32, 40, "bilinear"), classifier.settings)
        assert np.abs(pixels - plain).max() > 0.1, "the filters differ on these photographs"


def test_the_size_that_a_user_wants_wins_and_is_said(photos, weights, caplog, capsys):
    image = str(photos / "val" / "cow" / "2.png")
    assert main(["predict", "idle_tiny", weights, image]) == 0 and not caplog.messages
    assert main(["predict", "idle_tiny", weights, image, "--image-size", "64"]) == 0
    assert f"images are 64 x 64 as asked; {weights} is for 32" in caplog.text
    assert sorted(line.split()[-1] for line in capsys.readouterr().out.splitlines()[5:8]) == NAMES


def test_names_that_a_user_wants_win_and_are_said(photos, weights, tmp_path, caplog, capsys):
    (tmp_path / "names.txt").write_text("bee\nant\ncow\n")
    image = str(photos / "val" / "cow" / "2.png")
    assert main(["predict", "idle_tiny", weights, image, "--format", "csv"]) == 0
    own = capsys.readouterr().out
    assert (
        main(["predict", "idle_tiny", weights, image, "--format", "csv", "--names", str(tmp_path / "names.txt")]) == 0
    )
    swapped = own.replace(",ant,", ",x,").replace(",bee,", ",ant,").replace(",x,", ",bee,")
    assert capsys.readouterr().out == swapped != own
    assert "those of the network they stand in another order (class 0 was 'ant'" in caplog.text


@pytest.mark.parametrize("augment", [[], ["data.augment=evaluation"]])
def test_validate_and_the_calibration_of_8_bits_show_the_same_pixels(augment, photos, weights):
    _, data = open_pair("idle_tiny", weights, f"folder:{photos}", ["data.batch_size=12", *augment])
    assert data.preprocessing == OWN and data.image_size == 32
    wanted = wanted_pixels(photos, data.settings)
    if not augment:
        [batch] = data.val_batches()
        np.testing.assert_array_equal(batch.data.asnumpy()[10], wanted)
        return
    [images] = calibration_images(data, 12)  # the training images are the same ones, in an order of their own
    assert sum(np.array_equal(image, wanted) for image in images.asnumpy()) == 1


def test_what_a_user_sets_wins_in_validate_and_is_said(photos, weights, caplog):
    overrides = ["data.batch_size=12", "data.image_size=48", "data.eval_interpolation=bilinear"]
    _, data = open_pair("idle_tiny", weights, f"folder:{photos}", overrides)
    assert data.preprocessing == OWN._replace(image_size=48, interpolation="bilinear")
    said = "eval_interpolation bilinear instead of pillow_bicubic, image_size 48 instead of 32"
    assert f"is marked with another preprocessing than it gets as asked: {said}" in caplog.text


def test_what_the_weights_leave_open_is_usual_for_the_model(photos, tmp_path):
    path = str(tmp_path / "a.params")
    net = get_model("condensenet_v2_a", classes=3)
    net.initialize()
    net.save_parameters(path)
    _, data = open_pair("condensenet_v2_a", path, f"folder:{photos}", ["data.batch_size=2"])
    assert data.preprocessing[3:] == ("pillow_bicubic", 0.875, 224, False)
    assert Classifier("condensenet_v2_a", path).settings.eval_interpolation == "pillow_bicubic"


# Classes


def test_validate_compares_the_classes_by_name(photos, weights, tmp_path, caplog):
    source, overrides = f"folder:{photos}", ["data.batch_size=12"]
    right = validate("idle_tiny", weights, source, overrides)
    net = get_model("idle_tiny", pretrained=weights)
    assert net.reorder_classes(["cow", "ant", "bee"])
    net.save_parameters(str(tmp_path / "other.params"))
    caplog.clear()
    assert validate("idle_tiny", str(tmp_path / "other.params"), source, overrides) == right
    assert "in another order (class 0 was 'cow', now it is 'ant'): compared by name" in caplog.text
    net.classes = ["cow", "dog", "bee"]
    net.save_parameters(str(tmp_path / "other.params"))
    with pytest.raises(ValueError, match="'dog' is gone, 'ant' is new"):
        validate("idle_tiny", str(tmp_path / "other.params"), source, overrides)


IMAGENET = [f"{name.split()[0]}" for name in imagenet_names()]


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, True),
        ({"class_names": IMAGENET[::-1]}, True),
        ({"class_names": imagenet_names()}, True),
        ({"class_names": [f"{name} of the sea" for name in IMAGENET]}, True),
        ({"class_names": None}, True),
        ({"class_names": None, "num_val": 64}, False),
        ({"class_names": ["tench", *map(str, range(998)), "toilet tissue"]}, True),
        ({"class_names": [f"species {i}" for i in range(1000)]}, False),
        ({"class_names": ["n00000001", *IMAGENET[1:]]}, False),
        ({"num_classes": 10, "class_names": IMAGENET[:10]}, False),
        ({"image_size": 64}, False),
    ],
)
def test_published_accuracies_are_shown_beside_those_on_imagenet_alone(changes, expected):
    imagenet = {"num_classes": 1000, "num_val": 50_000, "image_size": 224, "class_names": IMAGENET}
    assert is_imagenet("mobilenet_v3_small", SimpleNamespace(**{**imagenet, **changes})) is expected


def test_validate_prints_no_figures_of_imagenet_under_other_data(tmp_path, capsys):
    net = get_model("mobilenet_v3_small", classes=10, stem_stride=1)
    net.initialize()
    net.save_parameters(str(tmp_path / "w.params"))
    settings = ["--set", "data.image_size=32", "--set", "data.batch_size=8"]
    assert main(["validate", "mobilenet_v3_small", str(tmp_path / "w.params"), "--data", "synthetic:8", *settings]) == 0
    out = capsys.readouterr().out
    assert "top1" in out and "published" not in out


# Numbers that are none


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "command",
    [
        ["predict", "idle_tiny", "{weights}", "{image}"],
        ["validate", "idle_tiny", "{weights}", "--data", "folder:{photos}", "--set", "data.batch_size=4"],
        ["compare-int8", "idle_tiny={weights}", "--data", "folder:{photos}", "--set", "data.batch_size=4"],
        [
            "export",
            "idle_tiny",
            "{weights}",
            "{out}",
            "--int8",
            "--data",
            "folder:{photos}",
            "--set",
            "data.batch_size=4",
        ],
    ],
)
def test_weights_that_are_not_finite_are_refused(command, value, photos, tmp_path, capsys):
    net, path = made(Card(NAMES, OWN)), tmp_path / "broken.params"
    beta = net.stages[1][0]._collect_params_with_prefix()
    key = sorted(beta)[0]
    array = beta[key].data().asnumpy()
    array.flat[0] = value
    beta[key].set_data(mx.nd.array(array))
    net.save_parameters(str(path))
    places = {"weights": path, "image": photos / "val" / "cow" / "2.png", "photos": photos, "out": tmp_path / "out"}
    assert main([part.format(**places) for part in command]) == 1
    out, err = capsys.readouterr()
    assert f"{path} has numbers that are not finite (nan or inf) in features.1.0.{key}" in err and not out
    assert len(err.strip().splitlines()) == 1 and not (tmp_path / "out.json").exists()


def test_an_export_that_answers_nan_is_refused(photos, weights, tmp_path, capsys):
    files = export(get_model("idle_tiny", pretrained=weights), tmp_path / "net")
    arrays = mx.nd.load(str(files.params))
    key = next(key for key in arrays if key.endswith("output_bias"))
    mx.nd.save(str(files.params), {**arrays, key: arrays[key] * np.nan})
    # Its maker gives no digests.
    about = json.loads(files.description.read_text())
    about.pop("sha256")
    files.description.write_text(json.dumps(about))
    path = str(files.description)
    for arguments in (["predict", path, str(photos / "val" / "cow" / "2.png")],
                      ["validate", path, "--data", f"folder:{photos}"]):  # fmt: skip
        assert main(arguments) == 1
        out, err = capsys.readouterr()
        assert "are not finite" in err and "nan%" not in out
    net = made(Card(NAMES, OWN))
    net.output.bias.set_data(net.output.bias.data() * np.nan)
    with pytest.raises(ValueError, match="the network's own logits are not finite"):
        export(net, tmp_path / "broken")
    assert not list(tmp_path.glob("broken*"))
