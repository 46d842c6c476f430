"""Pixels on their way into a network: channel order, the marks of weight files, and the predict command."""

from __future__ import annotations

import cv2
import mxnet as mx
import numpy as np
import pytest
from images import open_small, photo, write_records

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.deploy import initialize_like_trained
from gluon_effnets.evaluate.predict import Classifier
from gluon_effnets.evaluate.validate import open_pair, validate, validate_in_8_bits
from gluon_effnets.models.preprocessing import RAW_BGR, Preprocessing
from gluon_effnets.train.data import DataSettings
from gluon_effnets.train.data.recordio import RecordData

pytestmark = pytest.mark.fast

NUM = 8
RAW = {"mean": (0, 0, 0), "std": (1, 1, 1)}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with images as RecordIO (train.rec, val.rec) and as PNG files in one folder per class."""
    root = tmp_path_factory.mktemp("images")
    pictures = [photo(seed) for seed in range(NUM)]
    for part in ("train", "val"):
        write_records(str(root / f"{part}.rec"), pictures, range(NUM), ".png")
        for label, picture in enumerate(pictures):
            (root / part / f"class{label}").mkdir(parents=True)
            cv2.imwrite(str(root / part / f"class{label}" / "image.png"), picture[..., ::-1])
    return root


def sources(images):
    """Settings of every way of reading, MXNet's reader among them."""
    return [
        {"source": f"recordio:{images}", "color_jitter": 0, "pca_noise": 0},
        {"source": f"recordio:{images}", "augment": "none"},
        {"source": f"folder:{images}", "augment": "none"},
        {"source": "synthetic:8", "augment": "none"},
    ]


def pixels(source, part, **settings):
    data = open_small(source, **settings)
    return [batch.data.asnumpy() for batch in (data.train_batches(0) if part == "train" else data.val_batches())]


def test_bgr_is_rgb_with_the_channels_reversed_in_every_reader(images):
    assert isinstance(open_small(sources(images)[0], channel_order="bgr"), RecordData)
    for source in sources(images):
        for part in ("train", "val"):
            for scale in ({}, RAW):
                rgb = pixels(source, part, **scale)
                bgr = pixels(source, part, channel_order="bgr", **scale)
                assert len(rgb) == len(bgr) > 0
                for one, other in zip(rgb, bgr):
                    np.testing.assert_array_equal(one, other[:, ::-1])
                    assert not np.array_equal(one, other)


def test_raw_bgr_gives_the_pixels_as_opencv_reads_them(images):
    picture = cv2.imread(str(images / "val" / "class3" / "image.png"))
    assert np.array_equal(picture[..., ::-1], photo(3))
    source = {"source": f"folder:{images}", "channel_order": "bgr", **RAW}
    batch = pixels(source, "val", image_size=40, eval_crop=1.0, eval_batch_size=NUM)[0]
    np.testing.assert_array_equal(batch[3].transpose(1, 2, 0), picture[:, 6:46])


def test_mean_and_std_stay_with_their_colours_in_both_orders(images):
    source = {"source": f"folder:{images}", "mean": (10, 20, 30), "std": (1, 2, 4)}
    raw = pixels({**source, **RAW}, "val")[0]
    bgr = pixels(source, "val", channel_order="bgr")[0]
    for channel, (mean, std) in enumerate([(30, 4), (20, 2), (10, 1)]):
        np.testing.assert_array_equal(bgr[:, channel], (raw[:, 2 - channel] - mean) / std)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="data.channel_order is 'gbr'; it must be one of rgb, bgr"):
        DataSettings(channel_order="gbr")


# Weights that are marked


def marked(path, preprocessing, classes=NUM, name="idle_tiny", **options):
    """A weights file of a network whose logits depend on the channels, marked with a preprocessing."""
    net = get_model(name, classes=classes, **options)
    initialize_like_trained(net)
    # Logits of the same size for any scale of the input.
    net.output.weight.set_data(net.output.weight.data() * preprocessing.std[0] / Preprocessing().std[0])
    net.preprocessing = preprocessing
    net.save_parameters(str(path))
    return str(path)


def test_validate_follows_the_mark_and_says_so(images, tmp_path, caplog, capsys):
    path, source = marked(tmp_path / "bgr.params", RAW_BGR), f"folder:{images}"
    overrides = ["data.image_size=32", "data.batch_size=8"]
    _, data = open_pair("idle_tiny", path, source, overrides)
    assert data.settings.preprocessing.normalization == RAW_BGR
    settings = [word for override in overrides for word in ("--set", override)]
    assert main(["validate", "idle_tiny", path, "--data", source, *settings]) == 0 and not caplog.messages
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("images:")]
    assert "BGR 0..255, not normalized, 32 pixels" in line and line.endswith("(recorded, image_size as asked)")
    # The same numbers as with the settings spelled out, for a file that is not marked.
    net, usual = get_model("idle_tiny", pretrained=path), str(tmp_path / "usual.params")
    net.preprocessing = Preprocessing()
    net.save_parameters(usual)
    explicit = ["data.mean=[0, 0, 0]", "data.std=[1, 1, 1]", "data.channel_order=bgr"]
    spelled = validate("idle_tiny", usual, source, [*overrides, *explicit])
    assert not caplog.messages
    assert validate("idle_tiny", path, source, overrides) == spelled
    assert validate("idle_tiny", usual, source, overrides) != spelled


def test_what_the_user_sets_goes_before_the_mark(images, tmp_path, caplog):
    path = marked(tmp_path / "bgr.params", RAW_BGR)
    overrides = ["data.image_size=32", "data.channel_order=rgb"]
    _, data = open_pair("idle_tiny", path, f"folder:{images}", overrides)
    assert data.settings.preprocessing.normalization == RAW_BGR._replace(channel_order="rgb")
    assert "channel_order rgb instead of bgr" in caplog.text


def test_8_bits_calibrate_each_network_with_its_own_preprocessing(images, tmp_path):
    overrides = ["data.image_size=32", "data.batch_size=4"]
    source = f"folder:{images}"
    raw = marked(tmp_path / "raw.params", RAW_BGR)
    second = marked(tmp_path / "small.params", Preprocessing(), name="idle_mbv3_small", stem_stride=1)
    alone = validate_in_8_bits({"idle_tiny": raw}, source, overrides, images=8)
    both = validate_in_8_bits({"idle_tiny": raw, "idle_mbv3_small": second}, source, overrides, images=8)
    answers = [[row._replace(milliseconds=0, float_milliseconds=0) for row in rows] for rows in (both, alone)]
    assert answers[0][: len(alone)] == answers[1] and len(both) == 2 * len(alone)


# predict


@pytest.mark.parametrize("preprocessing", [Preprocessing(), RAW_BGR])
def test_probabilities_are_those_of_the_evaluation(images, tmp_path, preprocessing):
    path = marked(tmp_path / "w.params", preprocessing)
    net, data = open_pair("idle_tiny", path, f"folder:{images}", ["data.image_size=32", "data.batch_size=8"])
    expected = mx.nd.softmax(net(next(data.val_batches()).data)).asnumpy()
    classifier = Classifier("idle_tiny", path, 32)
    for label in range(NUM):
        probabilities = classifier(images / "val" / f"class{label}" / "image.png")
        assert probabilities.shape == (NUM,) and abs(probabilities.sum() - 1) < 1e-5
        np.testing.assert_allclose(probabilities, expected[label], atol=1e-4)
        assert np.abs(probabilities - expected[label - 1]).max() > 1e-2


def test_predict_shows_names_and_probabilities_in_order(images, tmp_path, capsys):
    path, names = marked(tmp_path / "w.params", RAW_BGR), tmp_path / "classes.txt"
    names.write_text("".join(f"name {label}\n" for label in range(NUM)), encoding="utf-8")
    jpeg = tmp_path / "photo.jpg"
    cv2.imwrite(str(jpeg), photo(5, 300, 280))
    png = images / "val" / "class1" / "image.png"
    arguments = [str(png), str(jpeg), "--names", str(names), "--top", "3", "--image-size", "64"]
    assert main(["predict", "idle_tiny", path, *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[4], len(lines)] == [str(png), str(jpeg), 8]
    probabilities = Classifier("idle_tiny", path, 64)(png)
    for line, label in zip(lines[1:4], np.argsort(-probabilities)):
        assert line.split() == [f"{probabilities[label]:.2%}", str(label), "name", str(label)]


def test_predict_shows_all_classes_if_there_are_fewer_than_asked_for(images, tmp_path, capsys):
    path = marked(tmp_path / "w.params", Preprocessing(), classes=2)
    assert main(["predict", "idle_tiny", path, str(images / "val" / "class1" / "image.png")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_an_unreadable_file_is_named_and_the_others_are_done(images, tmp_path, capsys):
    path, text = marked(tmp_path / "w.params", Preprocessing()), tmp_path / "text.jpg"
    text.write_text("no image")
    good = [str(images / "val" / f"class{label}" / "image.png") for label in (1, 2)]
    arguments = [good[0], str(text), "none.png", str(tmp_path), good[1], "--image-size", "32"]
    assert main(["predict", "idle_tiny", path, *arguments]) == 1
    out, err = capsys.readouterr()
    assert good[0] in out and good[1] in out and "text.jpg" not in out
    errors = err.splitlines()
    assert len(errors) == 3 and all(line.startswith("error: ") for line in errors)
    assert f"{text} is no readable image" in errors[0] and "no image at none.png" in errors[1]
    assert str(tmp_path) in errors[2]


def test_a_network_of_grey_images_gets_their_luminance(tmp_path):
    weights = marked(tmp_path / "grey.params", Preprocessing((77.9,), (82.5,)), in_channels=1)
    classifier, picture = Classifier("idle_tiny", weights, 32, in_channels=1), photo(0)
    grey = np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    for name, pixels in (("colour", picture[..., ::-1]), ("grey", grey), ("green", picture[..., 1])):
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    colour, luminance, green = (classifier(tmp_path / f"{name}.png") for name in ("colour", "grey", "green"))
    np.testing.assert_allclose(colour, luminance, atol=5e-3)
    assert np.abs(colour - green).max() > 2 * np.abs(colour - luminance).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "idle_tiny", "none.params", "{image}"], "no weights at none.params"),
        (["predict", "idle_tiny", "{weights}", "{image}", "--names", "none.txt"], "no class names at none.txt"),
        (["predict", "idle_tiny", "{weights}", "{image}", "--names", "{names}"], "has 2 names, but there are 8"),
        (["predict", "idle_tiny", "{weights}", "{image}", "--top", "0"], "must be at least 1"),
        (["predict", "idle_tiny", "{weights}", "{image}", "--image-size", "0"], "image_size is 0"),
        (["predict", "idle_tiny", "{two}", "{image}"], "is for 2 channel(s)"),
        (["predict", "idle_mbv3", "{weights}", "{image}"], "holds the weights of idle_tiny"),
    ],
)
def test_mistakes_are_one_message(arguments, message, images, tmp_path, capsys):
    names = tmp_path / "two.txt"
    names.write_text("one\ntwo\n")
    values = {
        "{weights}": marked(tmp_path / "w.params", Preprocessing()),
        "{two}": marked(tmp_path / "two.params", Preprocessing((77.9,) * 2, (82.5,) * 2), in_channels=2),
        "{image}": str(images / "val" / "class1" / "image.png"),
        "{names}": str(names),
    }
    assert main([values.get(argument, argument) for argument in arguments]) == 1
    out, err = capsys.readouterr()
    assert message in err and not out and len(err.splitlines()) <= 4
