"""The commands `validate` and `predict` with detectors, by weights and by exports."""

from __future__ import annotations

import csv
import io
import json

import mxnet as mx
import numpy as np
import pytest
from boxed import NAMES, drawn, write_voc
from images import photo
from PIL import Image

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.commands import validate as command
from gluon_effnets.deploy import export
from gluon_effnets.detection import get_detector
from gluon_effnets.evaluate import ImageDetector
from gluon_effnets.evaluate.detections import ask_detector
from gluon_effnets.evaluate.detector import METRICS, open_detector

pytestmark = pytest.mark.fast

SMALL = "ssdlite320_mobilenext_x0_35"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """w.params, net.json and c.params, which classifies; images with boxes in VOC2007, without in photos."""
    folder = tmp_path_factory.mktemp("detector")
    mx.random.seed(3)
    net = get_detector(SMALL, NAMES)
    net.initialize()
    net.save_parameters(str(folder / "w.params"))
    export(net, folder / "net", format="onnx")
    classifier = get_model("idle_tiny", classes=2)
    classifier.initialize()
    classifier.save_parameters(str(folder / "c.params"))
    root = write_voc(folder / "VOC2007", {"train": drawn(2, 20), "val": drawn(6)})
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n")
    (folder / "photos").mkdir()
    for seed, (height, width) in enumerate(((60, 90), (120, 80))):
        Image.fromarray(photo(seed, height, width)).save(folder / "photos" / f"{seed}.png")
    return folder


def printed(capsys, *words):
    code = main(list(map(str, words)))
    return (code, *capsys.readouterr())


def validated(folder, capsys, *words):
    return printed(capsys, "validate", *words, "--data", f"voc:{folder / 'VOC2007'}")


def predicted(folder, capsys, *words):
    return printed(capsys, "predict", SMALL, folder / "w.params", folder / "photos", *words)


# validate


@pytest.mark.parametrize("metric", METRICS)
def test_json_has_the_scores_of_the_evaluation(metric, folder, capsys):
    subject = open_detector(SMALL, str(folder / "w.params"), f"voc:{folder / 'VOC2007'}")
    answers = ask_detector(subject, metric)
    words = [SMALL, folder / "w.params", "--metric", metric, "--format", "json", "--per-class"]
    code, out, _ = validated(folder, capsys, *words)
    [record] = json.loads(out)
    assert code == 0 and record["metric"] == metric and record["images"] == 6 and record["model"] == SMALL
    for key, value in answers.scores.items():
        assert record[key] == (None if np.isnan(value) else pytest.approx(value)), key
    assert record["map_low"] <= record["map"] <= record["map_high"] or record["map"] == 0
    assert [row["name"] for row in record["per_class"]] == NAMES and record["published"] == []
    assert [row["ap"] for row in record["per_class"]] == [
        None if np.isnan(ap) else pytest.approx(ap) for ap in answers.result.by_class.values()
    ]
    assert ("AP50" in record) == (metric == "coco")


def test_text_csv_and_files(folder, tmp_path, capsys):
    files = ["--worst", tmp_path / "w.html", "--curves", tmp_path / "c" / "c.png"]
    code, out, _ = validated(folder, capsys, folder / "net.json", *files, "--worst-images", 2, "--per-class")
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("map ") and " to " in lines[0]
    assert "metric: VOC2007, mean over 11 recalls, at an overlap of 0.5; boxes in pixels of the originals" in lines
    assert lines[-2:] == [str(files[1]), str(files[3])]
    assert files[1].read_text().count("<figure>") == 3 and files[3].read_bytes().startswith(b"\x89PNG")
    code, out, _ = validated(folder, capsys, folder / "net.json", "--format", "csv", "--per-class")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["name"] for row in rows] == NAMES and all(int(row["objects"]) > 0 for row in rows)
    code, out, _ = validated(folder, capsys, folder / "net.json", "--format", "csv")
    [row] = csv.DictReader(io.StringIO(out))
    assert row["metric"] == "voc07" and row["images"] == "6"


def test_several_detectors_are_a_table(folder, capsys):
    networks = [f"{SMALL}={folder / 'w.params'}", folder / "net.json", f"{SMALL}=nowhere.params"]
    code, out, err = validated(folder, capsys, *networks, "--metric", "coco")
    lines = out.splitlines()
    assert code == 1 and "nowhere.params" in err and len(err.splitlines()) == 1
    assert len(lines) == 3 and lines[0].split()[:3] == ["model", "map", "AP50"] and lines[0].endswith("map, 95 %")
    code, out, _ = validated(folder, capsys, *networks[:2], "--format", "json")
    assert len(json.loads(out)) == 2


def test_options_that_have_no_meaning_are_refused(folder, capsys):
    detector, classifier = [SMALL, folder / "w.params"], ["idle_tiny", folder / "c.params"]
    for words, text in (
        ([*detector, "--confusion", "c.png"], "--confusion is for networks that classify"),
        ([*detector, "--crop", "0.9"], "--crop is for networks that classify"),
        ([*detector, "--image-size", "300"], "takes images of 320 x 320 alone, not 300"),
        ([*classifier, "--metric", "coco"], "--metric is for detectors"),
        ([*classifier, "--curves", "c.png"], "--curves is for detectors"),
        (classifier, "classifies images, but"),
        ([f"idle_tiny={folder / 'c.params'}", folder / "net.json"], "have no scores in common"),
        ([folder / "net.json", "-o", "form=voc"], "--option is for weights"),
    ):
        code, out, err = validated(folder, capsys, *words)
        assert code == 1 and text in err and len(err.splitlines()) == 1 and not out, words


def test_the_choices_of_the_command_are_those_of_the_code():
    assert tuple(command._METRICS) == METRICS


# predict


def test_a_line_for_each_detection(folder, capsys):
    code, out, err = predicted(folder, capsys, "--score-above", "0.2", "--top", "2")
    lines = out.splitlines()
    assert code == 0 and not err and len(lines) == 6
    assert lines[0] == str(folder / "photos" / "0.png")
    share, label, name, *box = lines[1].split()
    assert share.endswith("%") and NAMES[int(label)] == name and len(box) == 4
    code, out, _ = predicted(folder, capsys)
    assert code == 0 and out.splitlines()[1] == "  nothing found above 50%"


def test_boxes_as_json_and_as_pictures(folder, tmp_path, capsys):
    out_dir = tmp_path / "a" / "drawn"
    words = ["--score-above", "0.2", "--top", "3", "--json", tmp_path / "b" / "boxes.json", "--out", out_dir]
    assert predicted(folder, capsys, *words, "--batch", "2")[0] == 0
    records = json.loads((tmp_path / "b" / "boxes.json").read_text())
    assert [(record["height"], record["width"]) for record in records] == [(60, 90), (120, 80)]
    for record in records:
        original = np.asarray(Image.open(record["image"]).convert("RGB"))
        seen = np.asarray(Image.open(out_dir / record["image"].rpartition("/")[2]))
        assert seen.shape == original.shape and (seen != original).any()
        assert len(record["detections"]) == 3
        for found in record["detections"]:
            left, top, right, bottom = found["box"]
            assert NAMES[found["class"]] == found["name"] and 0.2 < found["score"] <= 1
            assert 0 <= left < right <= record["width"] and 0 <= top < bottom <= record["height"]
            # The line of the box, or what of another box or label lies on it.
            row, column = int(top + bottom) // 2, round(left)
            assert (seen[row, column : column + 4] != original[row, column : column + 4]).any()
    for form in ("json", "csv"):
        code, out, _ = predicted(folder, capsys, "--score-above", "0.2", "--top", "3", "--format", form)
        rows = json.loads(out) if form == "json" else list(csv.DictReader(io.StringIO(out)))
        assert code == 0 and list(rows[0]) == ["image", "class", "name", "score", "x1", "y1", "x2", "y2"]
        assert [float(row["score"]) for row in rows] == [
            found["score"] for record in records for found in record["detections"]
        ]


def test_names_and_files_of_one_name(folder, tmp_path, capsys, caplog):
    (tmp_path / "names.txt").write_text("wasp\nfly\n")
    (tmp_path / "more").mkdir()
    Image.fromarray(photo(5)).save(tmp_path / "more" / "0.png")
    Image.fromarray(photo(6)).save(tmp_path / "more" / "2.webp")
    words = [tmp_path / "more", "--names", tmp_path / "names.txt", "--score-above", "0.2", "--out", tmp_path / "out"]
    code, out, _ = predicted(folder, capsys, *words)
    assert code == 0 and ("wasp" in out or "fly" in out) and "the names are those of" in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0-2.png", "0.png", "1.png", "2.png"]


def test_bad_images_are_named_and_the_others_are_done(folder, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    words = [tmp_path / "bad.jpg", tmp_path / "nowhere.png", "--score-above", "0.2", "--json", tmp_path / "b.json"]
    code, out, err = predicted(folder, capsys, *words)
    assert code == 1 and len(err.splitlines()) == 2 and "bad.jpg" in err and "no image at" in err
    assert len(json.loads((tmp_path / "b.json").read_text())) == 2 and len(out.splitlines()) > 4


def test_exports_detect_as_their_weights(folder, capsys):
    rows = []
    for network in ([SMALL, folder / "w.params"], [folder / "net.json"]):
        words = [folder / "photos", "--score-above", "0.2", "--format", "json"]
        code, out, _ = printed(capsys, "predict", *network, *words)
        assert code == 0
        rows.append(sorted(row["score"] for row in json.loads(out)))
    assert rows[0] == pytest.approx(rows[1], abs=1e-5) and rows[0]


def test_what_predict_refuses(folder, tmp_path, capsys):
    photos = folder / "photos"
    before = (photos / "0.png").read_bytes()
    for words, text in (
        ([SMALL, folder / "w.params", photos, "--out", photos], "would write over the image"),
        ([SMALL, folder / "w.params", photos, "--score-above", "1"], "it must be at least 0, and below 1"),
        ([SMALL, folder / "w.params", photos, "--top", "0"], "it must be at least 1"),
        ([SMALL, folder / "w.params", photos, "--image-size", "300"], "takes images of 320 x 320 alone, not 300"),
        ([SMALL, folder / "w.params"], "no images: give NAME WEIGHTS IMAGE"),
        ([SMALL, folder / "c.params", photos], "holds the weights of"),
        (["idle_tiny", folder / "c.params", photos, "--out", tmp_path], "--out is for detectors"),
        (["idle_tiny", folder / "c.params", photos, "--score-above", "0"], "--score-above is for detectors"),
    ):
        code, out, err = printed(capsys, "predict", *words)
        assert code == 1 and text in err and len(err.splitlines()) == 1 and not out, words
    assert (photos / "0.png").read_bytes() == before


def test_what_is_refused_leaves_no_folder(folder, tmp_path, capsys):
    (tmp_path / "w.params").write_bytes(b"")
    files = ["--curves", tmp_path / "new" / "c.png", "--worst", tmp_path / "a" / "b" / "w.html"]
    assert validated(folder, capsys, SMALL, tmp_path / "w.params", *files)[0] == 1
    data = ["--data", "synthetic:8", "--confusion", tmp_path / "new" / "c.png"]
    assert printed(capsys, "validate", "idle_tiny", tmp_path / "w.params", *data)[0] == 1
    there = ["predict", SMALL, folder / "w.params", folder / "photos", "--names", tmp_path / "none.txt"]
    assert (
        printed(capsys, "predict", *there, "--out", tmp_path / "drawn", "--json", tmp_path / "new" / "b.json")[0] == 1
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["w.params"]


def test_detections_that_are_no_numbers_leave_no_folder(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ImageDetector, "_answers", lambda *_: (_ for _ in ()).throw(ValueError("not finite")))
    written = ["--out", tmp_path / "drawn", "--json", tmp_path / "new" / "b.json"]
    code, _, err = predicted(folder, capsys, *written)
    assert code == 1 and "not finite" in err and not list(tmp_path.iterdir())
