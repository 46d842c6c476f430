"""The command `validate` on weights and exports: equal scores, protocols, several networks, all formats."""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging

import cv2
import mxnet as mx
import numpy as np
import pytest
from images import photo, write_records
from networks import trained

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.class_names import imagenet_names
from gluon_effnets.commands import validate as command
from gluon_effnets.deploy import export, export_routed, open_exported
from gluon_effnets.evaluate.answers import ask, interval
from gluon_effnets.evaluate.published import published_beside
from gluon_effnets.evaluate.subject import EXPORTED, PROTOCOLS, open_export, open_weights
from gluon_effnets.evaluate.worst import worst_page
from gluon_effnets.models import Preprocessing
from gluon_effnets.train.data.settings import EVAL_INTERPOLATIONS
from gluon_effnets.weights import published_weights

pytestmark = pytest.mark.fast

SOURCE = "synthetic:100"
OWN = Preprocessing((100.0, 110.0, 120.0), (50.0, 55.0, 60.0), "bgr", "pillow_bicubic", 0.9, 24)
NAMES = [f"kind {i}" for i in range(10)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """w.params of a network, and its exports."""
    folder = tmp_path_factory.mktemp("networks")
    net = trained("idle_tiny", classes=10)
    net.preprocessing = OWN
    net.classes = NAMES
    net.save_parameters(str(folder / "w.params"))
    subject, bias = weights_subject(folder), net.output.bias
    mean = np.concatenate([subject.logits(batch) for batch in subject.data.val_batches()]).mean(axis=0)
    # Otherwise one class would be the answer to all images.
    bias.set_data(bias.data() - mx.nd.array(mean))
    net.save_parameters(str(folder / "w.params"))
    export(net, folder / "mxnet")
    export(net, folder / "onnx", format="onnx")
    export(net, folder / "batch", format="onnx", batch=4)
    export(net, folder / "raw", raw_input=True)
    images = np.random.RandomState(0).normal(0, 1, (2, 16, 3, 24, 24)).astype(np.float32)
    export(net, folder / "int8", format="onnx", int8=list(images))
    return folder


def weights_subject(folder, **options):
    return open_weights("idle_tiny", str(folder / "w.params"), SOURCE, **options)


def printed(capsys, *arguments):
    """The exit code, the output and the errors of `validate` on synthetic data."""
    code = main(["validate", *map(str, arguments), "--data", SOURCE])
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("form", ["mxnet", "onnx", "batch", "raw"])
def test_an_export_answers_as_its_weights(form, folder):
    expected, subject = ask(weights_subject(folder)), open_export(folder / f"{form}.json", SOURCE)
    seen = ask(subject)
    np.testing.assert_array_equal(seen.predicted, expected.predicted)
    np.testing.assert_array_equal(seen.label, expected.label)
    np.testing.assert_allclose(seen.loss, expected.loss, rtol=1e-4, atol=1e-5)
    assert len(np.unique(seen.predicted)) > 2
    shown = subject.data.preprocessing
    assert shown == (OWN._replace(crop=1.0) if form != "raw" else shown)
    assert subject.num_params == weights_subject(folder).num_params
    assert subject.classes == tuple(NAMES)


def test_files_in_8_bits_are_scored_as_they_answer(folder):
    subject, run = open_export(folder / "int8.json", SOURCE), open_exported(folder / "int8.json")
    expected = [run(batch.data.asnumpy()[: batch.num_valid]) for batch in subject.data.val_batches()]
    logits, answers = np.concatenate(expected), ask(subject)
    hits = (logits >= np.take_along_axis(logits, answers.label[:, None], 1)).sum(axis=1) == 1
    assert answers.scores["top1"] == hits.mean()
    assert (answers.predicted == ask(weights_subject(folder)).predicted).mean() > 0.7


@pytest.mark.parametrize("form", [{"format": "mxnet"}, {"format": "onnx"}, {"format": "onnx", "single_file": True}])
def test_routed_exports_answer_as_the_routed_network(form, tmp_path, capsys):
    net = get_model("ds_mobilenet_tiny", classes=10, stem_stride=1)
    net.initialize()
    gate = net.gates[0].gate.weight
    gate.set_data(mx.nd.random.normal(0, 1000, gate.shape))
    net.save_parameters(str(tmp_path / "w.params"))
    export_routed(net, tmp_path / "net", image_size=16, **form)
    settings = ["--format", "json", "--set", "data.image_size=16"]
    assert main(["validate", str(tmp_path / "net.json"), "--data", SOURCE, *settings]) == 0
    (seen,) = json.loads(capsys.readouterr().out)
    weights = ["ds_mobilenet_tiny", str(tmp_path / "w.params"), "--widths", "dynamic"]
    assert main(["validate", *weights, "--data", SOURCE, *settings]) == 0
    (expected,) = json.loads(capsys.readouterr().out)
    assert len([key for key, value in expected.items() if key.startswith("route_") and value]) > 1
    for key in ("top1", "top5", "loss"):
        assert seen[key] == pytest.approx(expected[key], rel=1e-4)


def test_the_classes_of_an_export_are_compared_by_name(folder, tmp_path, caplog):
    """A folder has its classes in the order of the alphabet."""
    order = [3, 1, 0, 2, *range(4, 10)]
    names = [f"{place}-{NAMES[place]}" for place in range(10)]
    for name in names:
        (tmp_path / "photos" / "val" / name).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.RandomState(number).randint(0, 255, (30, 30, 3)).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "photos" / "val" / name / f"{number}.png"), pixels // (len(name) % 3 + 1))
    net, source = get_model("idle_tiny", pretrained=str(folder / "w.params")), f"folder:{tmp_path / 'photos'}"
    found = []
    for number, classes in enumerate((names, [names[place] for place in order])):
        if number:
            net.classes = names
            assert net.reorder_classes(classes)
        net.classes = classes
        export(net, tmp_path / f"{number}", format="onnx")
        found.append(ask(open_export(tmp_path / f"{number}.json", source)))
        assert ("compared by name" in caplog.text) == bool(number)
    np.testing.assert_array_equal(found[0].predicted, found[1].predicted)
    np.testing.assert_allclose(found[0].loss, found[1].loss, rtol=1e-5)
    net.classes = [f"other {name}" for name in names]
    export(net, tmp_path / "other", format="onnx")
    with pytest.raises(ValueError, match="are not those of"):
        open_export(tmp_path / "other.json", source)


def test_what_does_not_fit_an_export_is_one_sentence(folder, capsys):
    size = "takes images of 24 x 24 alone, not 32"
    for arguments, text in (
        ([folder / "onnx.json", "--image-size", 32], size),
        ([folder / "onnx.json", "--set", "data.classes=7"], "has 10 classes, but synthetic:100 has 7"),
        ([folder / "onnx.json", "-o", "a=1"], "an exported network is as it was exported"),
        ([folder / "onnx.onnx"], "give the JSON file that export wrote beside it"),
        ([folder / "nowhere.json"], "no exported network at"),
        ([folder / "onnx.json", "--widths", "all"], "--widths is for the weights of one slimmable network"),
    ):
        code, out, err = printed(capsys, *arguments)
        assert code == 1 and text in err and len(err.splitlines()) == 1 and not out
    # MXNet's files take any size.
    assert printed(capsys, folder / "mxnet.json", "--image-size", 32)[0] == 0


# What images are shown


def test_the_recorded_protocol_is_a_line_of_output_and_no_warning(folder, capsys, caplog):
    caplog.set_level(logging.INFO)
    code, out, err = printed(capsys, "idle_tiny", folder / "w.params")
    assert code == 0 and not err and not caplog.messages
    [line] = [line for line in out.splitlines() if line.startswith("images:")]
    assert line.startswith("images: 25 of synthetic:100; BGR 0..255") and line.endswith("pillow_bicubic (recorded)")


def test_the_usual_protocol_keeps_the_normalization_alone(folder):
    usual = weights_subject(folder, protocol="usual")
    shown = usual.data.preprocessing
    assert shown.normalization == OWN.normalization
    # Synthetic images have no recipe: the model's.
    assert (shown.interpolation, shown.image_size, usual.protocol) == ("bilinear", 64, "usual")
    with pytest.raises(ValueError, match="choose one of recorded, usual"):
        weights_subject(folder, protocol="best")


def test_size_and_filter_on_request(folder, capsys, caplog):
    asked = ["--image-size", "32", "--interpolation", "bilinear", "--format", "json"]
    code, out, _ = printed(capsys, "idle_tiny", folder / "w.params", *asked)
    (record,) = json.loads(out)
    assert code == 0 and (record["image_size"], record["interpolation"]) == (32, "bilinear")
    assert record["protocol"] == "recorded, eval_interpolation and image_size as asked"
    assert "image_size 32 instead of 24" in caplog.text
    code, _, err = printed(capsys, "idle_tiny", folder / "w.params", "--crop", "0.9")
    assert code == 1 and "are not cropped: leave out the crop" in err


def test_the_choices_of_the_command_are_those_of_the_code():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    choices = {action.dest: action.choices for action in parser._actions}
    assert choices["protocol"] == PROTOCOLS and choices["interpolation"] == EVAL_INTERPOLATIONS
    assert command.EXPORTED == EXPORTED


# What is printed


def test_json_has_everything_and_the_numbers_are_exact(folder, capsys):
    code, out, _ = printed(capsys, "idle_tiny", folder / "w.params", "--per-class", "--format", "json")
    (record,), subject = json.loads(out), weights_subject(folder)
    answers = ask(subject)
    assert code == 0 and {key: record[key] for key in answers.scores} == answers.scores
    assert (record["top1_low"], record["top1_high"]) == interval(record["top1"], 25)
    assert record["mean"] == list(OWN.mean) and record["images"] == 25 and record["published"] == []
    assert sum(row["images"] for row in record["per_class"]) == 25
    hits = sum(row["images"] * row["top1"] for row in record["per_class"])
    assert hits == pytest.approx(25 * record["top1"])


def test_csv_is_one_table(folder, capsys):
    arguments = ["idle_tiny", folder / "w.params", "--format", "csv"]
    (row,) = csv.DictReader(io.StringIO(printed(capsys, *arguments)[1]))
    assert float(row["loss"]) == ask(weights_subject(folder)).scores["loss"] and row["channel_order"] == "bgr"
    rows = list(csv.DictReader(io.StringIO(printed(capsys, *arguments, "--per-class")[1])))
    assert [row["name"] for row in rows] == NAMES and [int(row["label"]) for row in rows] == list(range(10))


def test_classes_and_files_beside_the_scores(folder, tmp_path, capsys):
    files = [tmp_path / "a" / "c.png", tmp_path / "b" / "w.html"]
    details = ["--per-class", "--confusion", files[0], "--worst", files[1], "--worst-images", 3]
    code, out, _ = printed(capsys, folder / "onnx.json", *details)
    lines = out.splitlines()
    assert code == 0 and lines[-2:] == list(map(str, files))
    assert files[0].read_bytes().startswith(b"\x89PNG") and files[1].read_text().count("<figure>") == 3
    shares = [line.split()[4].rstrip("%") for line in lines if line.split()[1:2] == ["kind"]]
    assert len(shares) == 10 and list(map(float, shares)) == sorted(map(float, shares)), "the weakest class first"
    code, _, err = printed(capsys, folder / "onnx.json", "--worst", tmp_path)
    assert code == 1 and "is a folder; name a file" in err
    code, _, err = printed(capsys, folder / "onnx.json", "--worst", files[1], "--worst-images", 0)
    assert code == 1 and "must be at least 1" in err


@pytest.mark.parametrize("kind", ["folder", "recordio", "cifar10"])
def test_the_page_names_its_images_in_every_kind_of_data(kind, folder, tmp_path):
    pictures = [cv2.resize(photo(seed), (32, 32)) for seed in range(20)]
    labels = [number % 10 for number in range(20)]
    if kind == "folder":
        for number, (picture, label) in enumerate(zip(pictures, labels)):
            (tmp_path / "val" / NAMES[label]).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "val" / NAMES[label] / f"{number}.png"), picture)
    else:
        (tmp_path / "classes.txt").write_text("\n".join(NAMES))
        for part in ("train", "test"):
            write_records(tmp_path / f"{part}.rec", pictures, labels)
    subject = open_weights("idle_tiny", str(folder / "w.params"), f"{kind}:{tmp_path}")
    answers = ask(subject, keep=20)
    page = worst_page(subject, answers)
    expected = {
        "folder": [str(path) for path in tmp_path.rglob("*.png")],
        "recordio": [f"{tmp_path / 'test.rec'}, record {number} (" for number in range(20)],
        "cifar10": [f"image {number} of 20" for number in range(1, 21)],
    }
    assert all(text in page for text in expected[kind])
    if kind == "folder":
        assert all(NAMES[answers.label[seen.place]] in subject.data.val_where(seen.place) for seen in answers.worst)


# Several networks


def test_several_networks_are_a_table_as_timm_has_it(folder, capsys):
    networks = [f"idle_tiny={folder / 'w.params'}", folder / "onnx.json"]
    code, out, err = printed(capsys, *networks, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and not err and len(rows) == 2
    columns = "model top1 top1_err top5 top5_err param_count img_size crop_pct interpolation"
    assert list(rows[0])[:9] == columns.split()
    scores = ask(weights_subject(folder)).scores
    for row in rows:
        assert float(row["top1"]) == pytest.approx(100 * scores["top1"])
        assert float(row["top1"]) + float(row["top1_err"]) == pytest.approx(100)
        assert (row["img_size"], row["interpolation"], row["images"]) == ("24", "pillow_bicubic", "25")
    assert {row["model"] for row in rows} == {"idle_tiny", str(folder / "onnx.json")}
    code, out, _ = printed(capsys, *networks, "--format", "json")
    assert [record["top1"] for record in json.loads(out)] == [scores["top1"]] * 2
    assert "| model | top1 |" in printed(capsys, *networks, "--format", "markdown")[1]


def test_the_best_network_comes_first_and_a_failing_one_loses_no_other(folder, tmp_path, capsys):
    other = trained("idle_tiny", classes=10)
    # It takes every image for the class 3: a hit in ten or so.
    bias = other.output.bias.data()
    bias[3] = 1000
    other.output.bias.set_data(bias)
    other.preprocessing = OWN
    other.save_parameters(str(tmp_path / "three.params"))
    files = [tmp_path / "three.params", folder / "w.params", tmp_path / "none.params"]
    code, out, err = printed(capsys, *(f"idle_tiny={file}" for file in files), "--format", "json")
    records = json.loads(out)
    assert code == 1 and err == f"error: idle_tiny={files[2]}: no weights at {files[2]}\n"
    assert records[0]["top1"] >= records[1]["top1"]
    assert {record["name"] for record in records} == {f"idle_tiny={file}" for file in files[:2]}
    assert {record["weights"]: record["top1"] for record in records}[str(files[0])] == pytest.approx(3 / 25)


@pytest.mark.parametrize(
    "words, text",
    [
        (["idle_tiny"], "'idle_tiny' alone names no network: give NAME WEIGHTS"),
        (["idle_tiny", "a", "b"], "give NAME WEIGHTS, one EXPORTED.json, or several"),
        (["idle_tiny=a", "b"], "'b' names no network"),
        (["idle_tiny="], "'idle_tiny=' names no network"),
        (["a.json", "b.json", "--per-class"], "--per-class are of one network"),
        (["a=b", "c=d", "--widths", "all"], "--widths is for the weights of one slimmable network"),
    ],
)
def test_words_that_name_no_network(words, text, capsys):
    code, out, err = printed(capsys, *words)
    assert code == 1 and text in err and not out


# Published accuracies


def test_published_accuracies_of_exactly_these_weights(folder):
    subject = weights_subject(folder)
    row = next(row for row in published_weights() if row.name == "efficientnet_lite0")

    class ImageNet:
        num_classes, class_names, num_val, image_size = 1000, imagenet_names(), 50_000, 224

    lite = subject._replace(model="efficientnet_lite0", data=ImageNet, origin=row.origin)
    shown = [(found["what"], found["value"]) for found in published_beside(lite)]
    assert ("top-1", "75.1 %") in shown and ("top-5", "92.18 %") in shown
    assert published_beside(lite._replace(origin={**row.origin, "changed": "trained further"})) == []
    assert published_beside(lite._replace(data=subject.data)) == []
    large = published_beside(lite._replace(model="mobilenet_v3_large", origin={}))
    assert {"what": "top-1", "value": "75.2 %", "source": "arXiv 1905.02244"} in large
    assert published_beside(lite._replace(model="not_here", origin={})) == []
