"""Exported ONNX files in the runtime without MXNet: the same answers as the main package's own predict."""

from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from exports import NAMES, encoded, exported, jpeg, real_photographs, same
from images import photo
from PIL import Image

from gluon_effnets.deploy import export_routed
from gluon_effnets.evaluate.predict import ExportedClassifier
from gluon_effnets.runtime import load
from gluon_effnets.runtime.network import Network, _routed

pytestmark = pytest.mark.fast
INTERPOLATIONS = ["bilinear", "pillow_bilinear", "pillow_bicubic"]


@pytest.fixture(scope="module")
def description(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("export"), license="CC BY 4.0")


@pytest.fixture(scope="module")
def net(description):
    return load(description, threads=1)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_photographs_are_classified_as_by_predict(interpolation, tmp_path):
    description = exported(tmp_path, interpolation=interpolation, crop=0.7, size=64)
    photographs = [jpeg(photo(seed, 90, 131)) for seed in range(4)] + real_photographs(24)
    paths = [tmp_path / f"{number}.jpg" for number in range(len(photographs))]
    for path, content in zip(paths, photographs):
        path.write_bytes(content)
    classifier, net = ExportedClassifier(description), load(description, threads=1)
    expected = np.stack([classifier(path) for path in paths])
    assert same(net(paths, batch=5), expected)
    assert net.names == tuple(classifier.names)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_the_camera_was_held(orientation, net, description, tmp_path):
    content = jpeg(photo(3, 61, 90), orientation)
    (tmp_path / "a.jpg").write_bytes(content)
    expected = ExportedClassifier(description)(tmp_path / "a.jpg")
    assert same(net(tmp_path / "a.jpg")[0], expected)
    assert same(net(Image.open(tmp_path / "a.jpg"))[0], expected)


def kinds_of_images():
    color, deep = Image.fromarray(photo(5, 61, 47)), np.random.RandomState(0).randint(0, 1 << 16, (60, 50, 3))
    clear = color.copy()
    clear.putalpha(Image.fromarray(photo(6, 61, 47)[..., 0]))
    for kind, options in (("PNG", {}), ("WEBP", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("JPEG2000", {})):
        yield kind, encoded(color, kind, **options)
    yield "gray JPEG", encoded(color.convert("L"), "JPEG")
    yield "CMYK JPEG", encoded(color.convert("CMYK"), "JPEG")
    yield "progressive JPEG", encoded(color, "JPEG", progressive=True, subsampling=1)
    yield "PNG with palette", encoded(color.quantize(40), "PNG", transparency=3)
    yield "PNG of two tones", encoded(color.convert("1"), "PNG")
    yield "transparent PNG", encoded(clear, "PNG")
    yield "transparent WebP", encoded(clear, "WEBP", lossless=True, exact=True)
    yield "gray PNG of 16 bits", cv2.imencode(".png", deep[..., 0].astype(np.uint16))[1].tobytes()
    yield "PNG of 16 bits", cv2.imencode(".png", deep.astype(np.uint16))[1].tobytes()


KINDS = dict(kinds_of_images())
UNREADABLE = {
    "empty": b"",
    "text": b"no image",
    "cut": jpeg(photo(1))[:-40],
    "GIF": encoded(Image.new("RGB", (9, 9)), "GIF"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_images_have_opencvs_pixels(kind):
    from gluon_effnets.runtime.decode import decode
    from gluon_effnets.train.data.decode import decode_image

    np.testing.assert_array_equal(decode(KINDS[kind], kind), decode_image(KINDS[kind], kind))


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_predict_does_not_read_is_not_read_here(kind, net, description, tmp_path):
    (tmp_path / "a.jpg").write_bytes(UNREADABLE[kind])
    for classify in (ExportedClassifier(description), net):
        with pytest.raises(OSError, match="is no readable image"):
            classify(tmp_path / "a.jpg")


def test_bilinear_is_opencvs_to_the_last_bit():
    from gluon_effnets.runtime.pixels import evaluation_crop
    from gluon_effnets.train.data import DataSettings
    from gluon_effnets.train.data.augment import evaluation_crop as with_opencv

    random = np.random.RandomState(0)
    sizes = [(64, 64), (32, 32), (1, 1), (1, 90), (65, 131), *random.randint(1, 400, (60, 2))]
    for height, width in sizes:
        image = random.randint(0, 256, (height, width, 3)).astype(np.uint8)
        settings = DataSettings(image_size=32, eval_crop=float(random.uniform(0.3, 1)))
        expected = with_opencv(image, settings)
        np.testing.assert_array_equal(evaluation_crop(image, 32, settings.eval_crop, "bilinear"), expected)
    halved = random.randint(0, 256, (64, 64, 3)).astype(np.uint8)
    expected = with_opencv(halved, DataSettings(image_size=32, eval_crop=1.0))
    np.testing.assert_array_equal(evaluation_crop(halved, 32, 1.0, "bilinear"), expected)


def test_one_image_or_several_of_every_kind(net, tmp_path):
    pixels = photo(2)
    content = encoded(Image.fromarray(pixels), "PNG")
    (tmp_path / "a.png").write_bytes(content)
    every = [str(tmp_path / "a.png"), tmp_path / "a.png", content, memoryview(content), Image.fromarray(pixels), pixels]
    one = net(every[0])
    assert one.shape == (1, len(NAMES)) and same(one.sum(), 1)
    for images in (every, tuple(every), iter(every)):
        assert same(net(images, batch=4), np.repeat(one, len(every), axis=0))
    assert all(same(net(image), one) for image in every)
    assert same(net(np.stack([pixels, pixels])), np.repeat(one, 2, axis=0))
    assert net([]).shape == (0, len(NAMES))


def test_top_names_the_likeliest(net):
    probabilities = net(photo(4))[0]
    found = net.top(photo(4), 3)
    assert [NAMES.index(name) for name, _ in found] == np.argsort(-probabilities)[:3].tolist()
    assert [p for _, p in found] == sorted((float(p) for p in probabilities), reverse=True)[:3]
    assert len(net.top(photo(4), 100)) == len(NAMES)
    with pytest.raises(ValueError, match="at least 1"):
        net.top(photo(4), 0)


def test_logits_of_arrays(net):
    inputs = net.input([photo(1), photo(2)])
    assert inputs.dtype == np.float32 and inputs.shape == (2, 3, 32, 32)
    powers = np.exp(net.logits(inputs))
    assert same(powers / powers.sum(axis=1, keepdims=True), net([photo(1), photo(2)]))
    with pytest.raises(ValueError, match=r"takes an array \(n, 3, 32, 32\), not \(2, 3, 16, 16\)"):
        net.logits(inputs[..., :16, :16])


@pytest.mark.parametrize(
    "image, error",
    [
        (np.zeros((4, 4), np.uint8), ValueError),
        (np.zeros((4, 4, 4), np.uint8), ValueError),
        (np.zeros((4, 4, 3), np.float32), ValueError),
        (np.zeros((0, 4, 3), np.uint8), ValueError),
        (3, TypeError),
    ],
)
def test_what_is_no_image_is_named(image, error, net):
    with pytest.raises(error, match="^image 2 is"):
        net([photo(1), image])


def test_missing_file(net, tmp_path):
    with pytest.raises(FileNotFoundError, match="no image at .*b.jpg"):
        net(tmp_path / "b.jpg")


def test_an_onnx_file_describes_itself(description, net, tmp_path):
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(description.with_suffix(".onnx").read_bytes())
    assert load(alone).facts == net.facts
    assert net.facts.license == "CC BY 4.0" and net.facts.model == "idle_tiny"
    assert same(load(alone, threads=1)(photo(1)), net(photo(1)))


def test_the_license_stands_where_it_was_given_and_nowhere_else(tmp_path):
    from networks import trained

    from gluon_effnets.__main__ import main
    from gluon_effnets.deploy.description import Description

    trained("idle_tiny").save_parameters(str(tmp_path / "w.params"))
    for name, options in (("free", ["--license", "CC0-1.0"]), ("silent", [])):
        words = ["export", "idle_tiny", str(tmp_path / "w.params"), str(tmp_path / name), "--image-size", "32"]
        assert main([*words, "--format", "onnx", *options]) == 0
    assert Description.read(tmp_path / "free.json").license == "CC0-1.0" == load(tmp_path / "free.onnx").facts.license
    assert load(tmp_path / "free.json").facts == load(tmp_path / "free.onnx").facts
    assert "license" not in json.loads((tmp_path / "silent.json").read_text())
    assert load(tmp_path / "silent.onnx").facts.license is None


@pytest.mark.parametrize("form", [{"batch": 3}, {"raw_input": True}])
def test_fixed_batches_and_pixels_as_input(form, tmp_path):
    description = exported(tmp_path, **form)
    images = [photo(seed) for seed in range(4)]
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    classifier = ExportedClassifier(description)
    expected = np.stack([classifier(tmp_path / f"{number}.png") for number in range(4)])
    assert same(load(description)(images), expected)


def test_gray_and_bgr_networks(tmp_path):
    from networks import trained

    from gluon_effnets.deploy import export
    from gluon_effnets.models import Preprocessing

    Image.fromarray(photo(7)).save(tmp_path / "a.png")
    resizing = ("pillow_bilinear", 0.9, 32)
    cards = {1: Preprocessing((100.0,), (50.0,), "rgb", *resizing)}
    cards[3] = Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr", *resizing)
    for channels, card in cards.items():
        net = trained("idle_tiny", in_channels=channels)
        net.preprocessing = card
        description = export(net, tmp_path / f"net{channels}", format="onnx").description
        found = load(description)
        assert same(found(tmp_path / "a.png")[0], ExportedClassifier(description)(tmp_path / "a.png"))
        assert found.names is None and found.top(photo(7), 1)[0][0] == str(found(photo(7)).argmax())


@pytest.mark.parametrize("single_file", [False, True])
def test_routed_networks(single_file, tmp_path):
    from networks import initialized

    net = initialized("ds_mobilenet_tiny", classes=5)
    description = export_routed(net, tmp_path / "routed", 32, format="onnx", single_file=single_file)
    images = [photo(seed) for seed in range(6)]
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    classifier = ExportedClassifier(description)
    expected = np.stack([classifier(tmp_path / f"{number}.png") for number in range(6)])
    assert same(load(description)(images), expected)
    if not single_file:
        with pytest.raises(ValueError, match="give the JSON file"):
            load(tmp_path / "routed-head.onnx")


@pytest.mark.parametrize("place", [2, -1])
def test_a_route_that_is_not_there_is_one_sentence(net, place):
    """A description that lacks routes of its gate."""

    class Session:
        def __init__(self, *outputs):
            self.outputs = outputs

        def get_inputs(self):
            return [SimpleNamespace(name="data", shape=["N", 3, 32, 32])]

        def run(self, names, feed):
            return self.outputs

    head = Session(np.zeros((1, 4)), np.array([place]))
    damaged = Network(net.facts, _routed(head, [Session(np.zeros((1, 7)))] * 2), "net.json")
    with pytest.raises(ValueError, match="net.json: ONNX Runtime cannot run this network; its files are damaged"):
        damaged.logits(np.zeros((1, 3, 32, 32)))
