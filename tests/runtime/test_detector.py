"""Exported detectors in the runtime without MXNet: the main package's answers, in pixels of the images."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import onnx
import pytest
from detectors import NAMES, trained_detector
from exports import jpeg
from images import photo

from gluon_effnets.deploy import export, open_exported
from gluon_effnets.runtime import Detection, Detector, load
from gluon_effnets.runtime.commands import main
from gluon_effnets.runtime.pixels import resized

FORMS = {"chosen": {}, "all": {"all_boxes": True}, "two": {"batch": 2}}
SIZES = [(200, 333), (90, 50), (320, 320)]
SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "serve_http.py"


@pytest.fixture(scope="module")
def detector():
    return trained_detector()


@pytest.fixture(scope="module")
def written(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors")
    return {form: export(detector, folder / form, format="onnx", **options) for form, options in FORMS.items()}


def images():
    return [photo(seed, *size) for seed, size in enumerate(SIZES)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("by", ["onnx", "json"])
def test_detections_are_those_of_the_main_package(form, by, written, detector):
    done = written[form]
    net = load(done.files[0] if by == "onnx" else done.description, threads=1)
    assert isinstance(net, Detector) and net.names == tuple(NAMES) and net.num_classes == 3
    found = net(images(), batch=2)
    inputs = np.stack([net.input(image)[0] for image in images()])
    # The preprocessing of the weights, on images resized by OpenCV as a whole.
    mean = np.array([123, 117, 104], np.float32)
    expected = [(cv2.resize(image, (320, 320)) - mean).transpose(2, 0, 1) for image in images()]
    assert np.abs(inputs - np.stack(expected)).max() < 1e-4
    boxes, scores, classes = open_exported(done.description).detect(inputs, SIZES)
    for place, rows in enumerate(found):
        assert [row.score for row in rows] == pytest.approx(scores[place][: len(rows)].tolist(), abs=1e-6)
        assert np.abs(np.array([row.box for row in rows]) - boxes[place][: len(rows)]).max() < 0.01
        assert [row.label for row in rows] == classes[place][: len(rows)].tolist()
        assert all(row.name == NAMES[row.label] for row in rows) and len(rows) == (scores[place] > 0).sum()
    own = detector.detect(mx.nd.array(inputs), SIZES)[1].asnumpy()
    assert np.abs(own - scores).max() < 1e-4


def test_one_image_of_every_kind_and_a_limit_for_scores(written, tmp_path):
    net, [image, *_] = load(written["chosen"].files[0]), images()
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), image[..., ::-1])
    every = net(image)
    assert isinstance(every[0], Detection) and net(path) == every and net([path]) == [every]
    limit = every[4].score
    assert net(path, score_above=limit) == [row for row in every if row.score > limit]
    height, width = image.shape[:2]
    assert all(0 <= row.box[0] <= row.box[2] <= width and 0 <= row.box[1] <= row.box[3] <= height for row in every)
    turned = net(jpeg(image, 6))  # of a camera that was turned: in pixels of the upright image
    assert max(row.box[3] for row in turned) > height and max(row.box[2] for row in turned) <= height


def test_images_are_resized_as_a_whole_as_opencv_does():
    random = np.random.RandomState(0)
    for height, width in [(320, 320), (640, 640), (640, 100), (1, 1), *random.randint(1, 700, (20, 2))]:
        image = random.randint(0, 256, (height, width, 3)).astype(np.uint8)
        np.testing.assert_array_equal(resized(image, 320, "bilinear"), cv2.resize(image, (320, 320)))


def test_the_command(written, tmp_path, capsys):
    net, [image, *_] = load(written["chosen"].files[0]), images()
    path, absent = tmp_path / "a.png", tmp_path / "absent.png"
    cv2.imwrite(str(path), image[..., ::-1])
    limit = net(image)[3].score - 1e-6
    words = [str(written["chosen"].files[0]), str(path), str(absent), "--score", str(limit)]
    assert main(words) == 1
    out, err = capsys.readouterr()
    first, *lines = out.splitlines()
    assert first == str(path) and err.startswith("error: no image at")
    assert len(lines) == 4 and lines[0].split()[0] == f"{net(image)[0].score:.3f}" and lines[0].split()[-1] in NAMES
    assert main([*words[:2], "--json", "--score", str(limit)]) == 0
    rows = json.loads(capsys.readouterr().out)["objects"]
    assert [row["name"] for row in rows] == [found.name for found in net(image)[:4]]
    assert rows[0]["box"] == pytest.approx(net(image)[0].box, abs=0.01)


def test_the_server_of_the_documents_answers_with_objects(written):
    spec = importlib.util.spec_from_file_location("serve_http", SCRIPT)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    net, content = load(written["chosen"].files[0]), jpeg(photo(1))
    answer = example._answer_of(net, content, 5, 0.1)
    assert [row["name"] for row in answer["objects"]] == [found.name for found in net(content, 0.1)]
    assert set(answer["objects"][0]) == {"name", "score", "box"}


def changed(folder, done, **metadata):
    """A copy of a file with other metadata, and without the JSON file beside it."""
    model = onnx.load(str(done.files[0]))
    kept = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {key: v for key, v in {**kept, **metadata}.items() if v is not None})
    path = folder / "net.onnx"
    onnx.save(model, str(path))
    return path


SELECTION = {"score_above": 0.1, "overlap": 0.5, "per_image": 10, "limits": []}


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"task": "segmentation"}, "task is 'segmentation'"),
        ({"selection": None}, "belong together"),
        ({"task": None}, "belong together"),
        ({"outputs": '["boxes"]'}, "outputs is"),
        ({"outputs": '["boxes", "scores"]'}, "gives boxes and scores and classes"),
        ({"selection": "5"}, "selection is 5"),
        ({"selection": json.dumps({**SELECTION, "per_image": 0})}, "selection is"),
        ({"selection": json.dumps({**SELECTION, "limits": [{"begin": 1}]})}, "selection is"),
        ({"selection": json.dumps({**SELECTION, "more": 1})}, "selection is"),
        ({"image_size": "300"}, "is said to take data of 3 x 300 x 300"),
        ({"num_classes": "4", "names": None}, None),
    ],
)
def test_metadata_of_strangers(metadata, text, written, tmp_path):
    path = changed(tmp_path, written["chosen"], **metadata)
    if text is None:  # one class more than there are heads for is no harm: its name is never said
        assert load(path)(photo(0))[0].name in ("0", "1", "2")
        return
    with pytest.raises(ValueError, match=text) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1


def test_arrays_of_other_shapes_are_one_sentence(written, tmp_path):
    path = changed(tmp_path, written["all"], num_classes="7", names=None)
    with pytest.raises(ValueError, match="which are no detections"):
        load(path)(photo(0))
    net = load(written["all"].files[0])
    with pytest.raises(ValueError, match=r"takes an array \(n, 3, 320, 320\)"):
        net.arrays(np.zeros((1, 3, 300, 300), np.float32))
    with pytest.raises(ValueError, match="must be at least 1"):
        net(photo(0), batch=0)


def test_detectors_run_where_mxnet_is_not_installed(written, tmp_path):
    shutil.copy(written["all"].files[0], tmp_path / "net.onnx")
    (tmp_path / "mxnet.py").write_text("raise ModuleNotFoundError('No module named mxnet', name='mxnet')")
    (tmp_path / "a.jpg").write_bytes(jpeg(photo(0)))
    code = (
        "import sys; sys.path.insert(0, '.'); from gluon_effnets.runtime import load\n"
        "print(len(load('net.onnx')('a.jpg')), sorted(n for n in sys.modules if n.startswith('gluon_effnets')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number, _, modules = done.stdout.partition(" ")
    assert int(number) == 100
    assert all(name.startswith("gluon_effnets.runtime") or name == "gluon_effnets" for name in eval(modules))
