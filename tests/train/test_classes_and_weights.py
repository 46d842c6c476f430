"""Names of classes and preprocessing through a training run, and which of its weights a run leaves."""

from __future__ import annotations

import hashlib
import json
import shutil

import cv2
import mxnet as mx
import numpy as np
import pytest
from images import photo, write_records
from runs import loaded

from gluon_effnets import get_model
from gluon_effnets.__main__ import main as command
from gluon_effnets.files.regular import sha256
from gluon_effnets.models.preprocessing import Preprocessing
from gluon_effnets.train.checkpoint import list_checkpoints, load_network
from gluon_effnets.train.checkpoint_folder import SUMS
from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.data import DataSettings, open_data
from gluon_effnets.train.report import write_report

pytestmark = pytest.mark.fast

PHOTOS = ("data.image_size=16", "data.batch_size=4", "data.num_threads=1", "duration=2it", "evaluate_every=1it")
EMA = "hooks.ema={decay: 0.5, warmup: false}"


@pytest.fixture
def photos(tmp_path):
    """Function (*names of classes) -> settings that read a folder with four images of each."""

    def make(*names, folder="photos"):
        for part in ("train", "val"):
            for seed, name in enumerate(names):
                target = tmp_path / folder / part / name
                target.mkdir(parents=True, exist_ok=True)
                for number in range(4):
                    cv2.imwrite(str(target / f"{number}.png"), photo(10 * seed + number, 20, 24))
        return (f"data.source=folder:{tmp_path / folder}", *PHOTOS)

    return make


def rename(tmp_path, old, new):
    for part in ("train", "val"):
        (tmp_path / "photos" / part / old).rename(tmp_path / "photos" / part / new)


def report(run):
    return write_report(run.state, run.recipe, run.hooks)


def exported(run):
    return json.loads((run.state.out / "idle_tiny.json").read_text())


def same(path, arrays):
    found = {key: value.asnumpy() for key, value in loaded(path).items()}
    return all(np.array_equal(found[key], value) for key, value in arrays.items())


# The card


def test_names_and_preprocessing_stand_in_all_that_a_run_leaves(start, photos):
    overrides = ("data.eval_interpolation=pillow_bicubic", "data.eval_crop=0.8", "data.mean=[1, 2, 3]")
    run = start(*photos("bee", "ant", "Käfer"), *overrides).train()
    report(run)
    names = ["Käfer", "ant", "bee"]
    wanted = Preprocessing((1.0, 2.0, 3.0), Preprocessing().std, "rgb", "pillow_bicubic", 0.8, 16)
    net = get_model("idle_tiny", pretrained=str(run.state.out / "idle_tiny.params"))
    checkpoint = load_network(list_checkpoints(run.state.out)[-1])
    for found in (run.state.net, net, checkpoint):
        assert found.classes == names and found.preprocessing == wanted
    about = exported(run)
    assert about["names"] == names and (about["image_size"], about["crop"]) == (16, 0.8)
    assert (about["interpolation"], about["mean"]) == ("pillow_bicubic", [1, 2, 3])


def test_images_that_are_not_cropped_say_so(start):
    run = start("data.eval_crop=0.5")
    assert run.state.net.preprocessing.crop == 1.0 and run.state.net.classes is None
    digits = open_data(DataSettings(source="digits", image_size=16), seed=0)
    assert digits.preprocessing[3:] == ("bilinear", 1.0, 16, False) and len(digits.preprocessing.mean) == 1


def test_a_resumed_run_has_the_classes_that_it_began_with(start, photos, tmp_path):
    overrides = photos("ant", "bee")
    start(*overrides).train()
    start(*overrides, "duration=3it").resume()
    rename(tmp_path, "ant", "wasp")
    run = start(*overrides, "duration=3it")
    before = run.weights()
    with pytest.raises(ValueError, match="'ant' is gone, 'wasp' is new") as error:
        run.resume()
    assert "--fresh" in str(error.value) and len(str(error.value).splitlines()) == 2
    assert run.state.update == 0 and all((run.weights()[key] == value).all() for key, value in before.items())


def test_a_checkpoint_of_before_is_resumed(start, photos):
    """As versions wrote it that knew no names."""
    overrides = photos("ant", "bee")
    run = start(*overrides).train()
    folder = list_checkpoints(run.state.out)[-1]
    content = json.loads((folder / "run.json").read_text())
    assert content.pop("card")["classes"] == ["ant", "bee"]
    (folder / "run.json").write_text(json.dumps(content))
    sums = (folder / "SHA256SUMS").read_text().splitlines()
    (folder / "SHA256SUMS").write_text("\n".join(line for line in sums if "run.json" not in line) + "\n")

    digest = hashlib.sha256((folder / "run.json").read_bytes()).hexdigest()
    with open(folder / "SHA256SUMS", "a") as file:
        file.write(f"{digest}  run.json\n")
    assert start(*overrides, "duration=3it").resume().state.update == 2


@pytest.fixture
def pretrained(tmp_path):
    """Function (*names) -> the setting that begins with weights of an untrained network with these classes."""

    def make(*names):
        net = get_model("idle_tiny", classes=len(names) or 2, stem_stride=1)
        net.initialize()
        net.classes = list(names) or None
        net.save_parameters(str(tmp_path / "w.params"))
        return net.output.weight.data().asnumpy(), f"pretrained={tmp_path / 'w.params'}"

    return make


def test_fine_tuning_compares_the_classes_by_name(start, photos, pretrained, caplog):
    overrides = photos("ant", "bee")

    def begin(*names):
        caplog.clear()
        rows, setting = pretrained(*names)
        net = start(*overrides, setting).state.net
        assert net.classes == ["ant", "bee"]
        return rows, net.output.weight.data().asnumpy(), caplog.text

    rows, taken, said = begin("ant", "bee")
    assert (taken == rows).all() and not said
    rows, taken, said = begin("bee", "ant")
    assert (taken == rows[::-1]).all() and "in another order" in said and "put in the order of the data" in said
    rows, taken, said = begin("ant", "wasp")
    assert not (taken == rows).any() and "'wasp' is gone, 'bee' is new: the classifier is new" in said
    rows, taken, said = begin("ant", "bee", "wasp")
    assert taken.shape != rows.shape and "the classifier is new" in said
    rows, taken, said = begin()
    assert (taken == rows).all(), "without names there is nothing to compare"


def test_data_without_names_leave_those_of_the_weights_out(start, pretrained, caplog):
    _, setting = pretrained(*map(str, range(10)))
    assert start(setting).state.net.classes is None
    assert "the classes of synthetic:32 have no names" in caplog.text


@pytest.fixture
def staged(tmp_path):
    """Function (*names of the classes of the second stage's data) -> arguments of the command `train`."""

    def records(folder, names):
        (tmp_path / folder).mkdir()
        labels = [number % len(names) for number in range(8)]
        for part in ("train", "val"):
            write_records(str(tmp_path / folder / f"{part}.rec"), map(photo, range(8)), labels)
        (tmp_path / folder / "classes.txt").write_text("\n".join(names))
        return f"source: 'recordio:{tmp_path / folder}'"

    def make(*names):
        data = f"{records('photos', ['ant', 'bee'])}, image_size: 16, batch_size: 4, num_threads: 1"
        stages = f"[{{name: first}}, {{name: second, data: {{{records('others', names)}}}}}]"
        recipe = f"model: idle_tiny\nduration: 2it\ndata: {{{data}}}\nstages: {stages}\n"
        (tmp_path / "staged.yaml").write_text(recipe)
        return ["train", "--config", str(tmp_path / "staged.yaml"), "--out", str(tmp_path / "run")]

    return make


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("bee", "ant"), "they stand in another order (class 0 was 'ant', now it is 'bee')"),
        (("ant", "wasp"), "'bee' is gone, 'wasp' is new"),
        (("ant", "bee", "wasp"), "'wasp' is new"),
    ],
)
def test_stages_with_other_classes_are_refused_before_the_first(staged, tmp_path, capsys, names, text):
    assert command(staged(*names)) == 1
    said = capsys.readouterr().err.strip()
    assert f"error: stage second: the classes of its data are others than in stage first: {text}; " in said
    assert len(said.splitlines()) == 1 and not (tmp_path / "run" / "first").exists()


def test_a_stage_does_not_begin_with_weights_of_other_classes(staged, tmp_path, capsys):
    arguments = staged("ant", "bee")
    assert command(arguments) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["stages"].keys() == {"first", "second"}
    shutil.rmtree(tmp_path / "run" / "second")
    for folder in ("photos", "others"):
        (tmp_path / folder / "classes.txt").write_text("bee\nant")
    capsys.readouterr()
    assert command(arguments) == 1
    [said] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert f"{tmp_path}/run/first/idle_tiny.params was trained with other classes: they stand in another order" in said
    assert said.endswith("--fresh starts over")


# The weights


def test_a_run_with_an_average_exports_that(start, capsys):
    run = start(EMA).train()
    result, average = report(run), run.hooks.recipe[0].average
    out, last = run.state.out, run.weights()
    assert result["weights"] == "ema" and "averaged (EMA)" in capsys.readouterr().out
    assert same(out / "idle_tiny.params", last), "the network has its own weights again"
    assert same(out / "idle_tiny.ema.params", {key: value.asnumpy() for key, value in average.items()})
    assert not np.array_equal(last["output.weight"], average["output.weight"].asnumpy())
    stored = loaded(out / "idle_tiny-0000.params")
    [bias] = [value for key, value in stored.items() if key.endswith("output_bias")]
    assert np.array_equal(bias.asnumpy(), average["output.bias"].asnumpy())
    assert get_model("idle_tiny", pretrained=str(out / "idle_tiny.ema.params")).num_classes == 10


def test_a_run_exports_what_its_recipe_says(start):
    run = start(EMA, "export_weights=last").train()
    assert report(run)["weights"] == "last"
    [bias] = [v for k, v in loaded(run.state.out / "idle_tiny-0000.params").items() if k.endswith("output_bias")]
    assert np.array_equal(bias.asnumpy(), run.weights()["output.bias"])
    assert (run.state.out / "idle_tiny.ema.params").exists()


@pytest.mark.parametrize("which", ["top1", "ema_top1"])
def test_the_best_checkpoint_is_exported(which, start, capsys):
    run = start(EMA, "export_weights=best", "evaluate_every=1it", "checkpoint_every=1it").train()
    at = {path.name: path for path in list_checkpoints(run.state.out)}
    update = int(sorted(at)[0][-8:])
    assert update < run.state.update
    run.hooks.checkpoint.best = {"score": 0.5, "which": which, "update": update}
    result = report(run)
    assert result["weights"] == "best" and f"best by {which}, 50.00% at update {update}" in capsys.readouterr().out
    net = load_network(at[f"update-{update:08d}"], ema=which == "ema_top1")
    wanted = {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}
    assert same(run.state.out / "idle_tiny.best.params", wanted)
    assert not np.array_equal(wanted["output.weight"], run.weights()["output.weight"])


def test_the_last_weights_are_exported_where_the_best_are_gone(start, caplog):
    run = start("export_weights=best").train()
    run.hooks.checkpoint.best = {"score": 0.5, "which": "top1", "update": 1}
    assert report(run)["weights"] == "last" and "no checkpoint at" in caplog.text


def test_weights_that_there_will_not_be_are_refused(start):
    with pytest.raises(ValueError, match="export_weights is 'ema', but nothing averages the weights: add hooks.ema"):
        start("export_weights=ema")
    with pytest.raises(ValueError, match="export_weights is 'first'; choose last, best, ema"):
        load_recipe(None, ["model=idle_tiny", "export_weights=first"])


def test_convert_writes_the_weights_of_a_checkpoint(start, tmp_path, capsys):
    run = start(EMA).train()
    folder, out = list_checkpoints(run.state.out)[-1], tmp_path / "new" / "w.params"
    assert command(["convert", "--model", "idle_tiny", str(folder), str(out)]) == 0
    assert same(out, run.weights())
    assert command(["convert", "--model", "idle_tiny", str(folder), str(out), "--ema"]) == 0
    average = {key: value.asnumpy() for key, value in run.hooks.recipe[0].average.items()}
    assert same(out, average) and "the averaged weights of" in capsys.readouterr().out
    plain = start(out="plain").train()
    folder = list_checkpoints(plain.state.out)[-1]
    for wrong, text in (
        (["--model", "idle_tiny", str(folder), "--ema"], "has no averaged weights: the run had no hook ema"),
        (["--model", "idle_mbv3", str(folder)], "is of idle_tiny, not of idle_mbv3"),
        (["--model", "idle_tiny", str(tmp_path)], "no checkpoint at"),
        (["--model", "idle_tiny", str(folder), "--source", "timm"], "a checkpoint of a run knows its network"),
    ):
        assert command(["convert", *wrong[:3], str(tmp_path / "no.params"), *wrong[3:]]) == 1
        assert text in capsys.readouterr().err and not (tmp_path / "no.params").exists()


def test_weights_that_are_no_numbers_are_not_taken_from_a_checkpoint(start):
    folder = start().train().state.out / "checkpoints" / "update-00000004"
    arrays = mx.nd.load(str(folder / "net.params"))
    name = next(key for key in arrays if key.endswith("weight"))
    arrays[name][:] = float("nan")
    mx.nd.save(str(folder / "net.params"), arrays)
    (folder / SUMS).write_text(
        "".join(f"{sha256(path)}  {path.name}\n" for path in folder.iterdir() if path.name != SUMS)
    )
    with pytest.raises(ValueError, match="has numbers that are not finite"):
        load_network(folder)
