"""python -m gluon_effnets: what a user sees, also when something is wrong."""

import argparse
import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model, list_models, model_info
from gluon_effnets.__main__ import COMMANDS, main
from gluon_effnets.commands.command import Group
from gluon_effnets.commands.train import COMMAND as TRAIN
from gluon_effnets.commands.train import main as train_imagenet
from gluon_effnets.train import run as training

ROOT = Path(__file__).parents[2]
CALLS = [
    ([command.name, inner.name], inner) if inner else ([command.name], command)
    for command in COMMANDS
    for inner in (command.commands if isinstance(command, Group) else [None])
]


def weights(tmp_path, name="idle_mbv3_small", **options):
    net = get_model(name, **options)
    net.initialize()
    path = tmp_path / "w.params"
    net.save_parameters(str(path))
    return str(path)


def test_list(capsys):
    assert main(["list", "idle_mbv3*"]) == 0
    out = capsys.readouterr().out
    assert "idle_mbv3_m15_i20" in out and "379.1 M" in out and "efficientnet" not in out


def test_info(capsys):
    assert main(["info", "mobilenetv3_large", "--image-size", "192"]) == 0
    out = capsys.readouterr().out
    assert "5,483,032" in out and "192 x 192" in out and "published" in out and "mobilenet_v3_large.yaml" in out
    assert main(["info", "idle_mbv3", "-o", "idle_fraction=0.25"]) == 0
    assert "reconstruction" in capsys.readouterr().out


def test_validate_and_export(tmp_path, capsys):
    path = weights(tmp_path, classes=10, in_channels=1, stem_stride=1)
    assert main(["validate", "idle_mbv3_small", path, "--data", "digits"]) == 0
    assert "top1" in capsys.readouterr().out
    assert main(["export", "idle_mbv3_small", path, str(tmp_path / "out" / "m"), "--image-size", "32"]) == 0
    assert (tmp_path / "out" / "m-symbol.json").exists() and (tmp_path / "out" / "m-0000.params").exists()


def test_convert(tmp_path, capsys):
    from gluon_effnets.weights.lukemelas import LUKEMELAS

    net = get_model("efficientnet_b0", classes=4)
    net.initialize()
    state = {key: param.data().asnumpy() for key, param in LUKEMELAS.keys(net).items()}
    np.savez(str(tmp_path / "x.npz"), **state)
    out = tmp_path / "b0.params"
    assert main(["convert", "--model", "efficientnet_b0", str(tmp_path / "x.npz"), str(out)]) == 0
    assert "padding='same'" in capsys.readouterr().out and out.exists()


def test_compare_int8_and_its_old_name(tmp_path, capsys):
    net = [f"idle_tiny={weights(tmp_path, 'idle_tiny', classes=10, in_channels=1)}", "--runtimes", "mxnet"]
    arguments = [*net, "--data", "digits", "--images", "64"]
    assert main(["quantize", *arguments]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("| model | runtime | weights |")
    assert [row.split(" | ")[2] for row in rows] == ["tensor-wise", "channel-wise"]
    assert main(["compare-int8", *arguments, "--format", "json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [row["granularity"] for row in records] == ["tensor-wise", "channel-wise"]
    assert f"{records[0]['float_top1']:.2%}" == rows[0].split(" | ")[3]


def helps(words, capsys):
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("words", "command"), CALLS, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_help_says_first_what_a_command_does(words, command, capsys):
    usage, description, *_ = helps(words, capsys).split("\n\n")
    assert usage.startswith(f"usage: python -m gluon_effnets {' '.join(words)} ")
    assert description.replace("\n", " ") == command.help
    assert command.help[0].isupper() and command.help.endswith(".")


@pytest.mark.parametrize("command", [command for _, command in CALLS if not isinstance(command, Group)])
def test_every_argument_is_explained_in_sentences(command):
    parser = argparse.ArgumentParser(prog=command.name, add_help=False)
    command.add_arguments(parser)
    for action in parser._actions:
        assert action.help and action.help[0].isupper() and action.help.endswith("."), action.dest
        assert "that of" not in action.help and "those of" not in action.help, action.dest
    assert parser.format_help()  # a lone % in a text is an error only here


def test_commands_are_listed_with_their_help(capsys):
    told = " ".join(helps([], capsys).split())
    for command in COMMANDS:
        assert f" {command.name} " in told and command.help in told


def test_train_imagenet_has_the_arguments_of_train(capsys):
    with pytest.raises(SystemExit):
        train_imagenet(["--help"])
    usage, description, arguments = capsys.readouterr().out.split("\n\n")
    assert usage.startswith("usage: train_imagenet.py ") and description.replace("\n", " ") == TRAIN.help
    assert helps(["train"], capsys).split("\n\n")[2] == arguments


@pytest.mark.parametrize("words", [["--help"], ["list"], ["train", "--help"], ["benchmark", "latency", "--help"]])
def test_short_commands_import_little(words):
    heavy = ["train", "deploy", "evaluate", "benchmarks", "weights", "timing", "pictures"]
    code = f"""if True:
        import sys
        from gluon_effnets.__main__ import main
        try:
            main({words})
        except SystemExit:
            pass
        names = [f"gluon_effnets.{{room}}" for room in {heavy}] + ["gluoncv", "onnxruntime", "matplotlib", "tqdm"]
        print("imported:", *(name for name in names if name in sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported:", done.stderr


@pytest.mark.parametrize(
    ("argv", "program"),
    [
        (["/package/gluon_effnets/__main__.py", "train", "--restarts", "3"], ["-m", "gluon_effnets", "train"]),
        (["/bin/gluon-effnets", "train", "--restarts", "3"], ["/bin/gluon-effnets", "train"]),
        (["train_imagenet.py", "--restarts", "3"], ["train_imagenet.py"]),
    ],
)
def test_a_restart_repeats_the_command(argv, program, monkeypatch):
    started = []
    monkeypatch.setattr(training, "supervise", lambda *given: started.append(given) or 0)
    monkeypatch.setattr(sys, "argv", argv)
    assert (train_imagenet if argv[0] == "train_imagenet.py" else main)() == 0
    assert started == [([sys.executable, *program, "--restarts", "3", "--restarts", "0"], 3)]


def test_list_in_every_format(capsys):
    names = list_models("condensenet_v2_*")
    found = {}
    for format in ("text", "markdown", "csv", "json"):
        assert main(["list", "condensenet_v2_*", "--format", format]) == 0
        found[format] = capsys.readouterr().out
    assert [line.split()[0] for line in found["text"].splitlines()[1:-1]] == names
    assert found["markdown"].startswith("| model | params | MAdds | family | recipes |\n| --- |")
    records = json.loads(found["json"])
    assert [row["model"] for row in records] == names
    assert [row["params"] for row in records] == [model_info(name).params for name in names]
    assert records[0]["condensed_params"] == 2_038_444 and records[0]["recipes"] == ["condensenet_v2_a.yaml"]
    for row, record in zip(csv.DictReader(io.StringIO(found["csv"])), records):
        assert row == {**{key: str(value) for key, value in record.items()}, "recipes": " ".join(record["recipes"])}


def test_info_as_json(capsys):
    assert main(["info", "condensenet_v2_a", "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["params"], facts["madds"]["conv_fc"]) == (3_350_244, 150_269_536)
    assert (facts["deployed"]["params"], facts["deployed"]["madds"]["conv_fc"]) == (2_038_444, 43_143_776)
    assert facts["stages"][0] == {"channels": 24, "stride": 2} and facts["recipes"] == ["condensenet_v2_a.yaml"]


def test_paper_tables_in_formats(capsys):
    assert main(["table", "shufflenet", "--number", "7", "--format", "json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert table["number"] == 7 and table["rows"][0]["model"] == "shufflenet_v1_g3_x2_0"
    assert main(["table", "shufflenet", "--number", "7", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows == table["rows"]
    assert main(["table", "shufflenet", "--format", "csv"]) == 1
    assert "--format csv takes one of the 8 tables" in capsys.readouterr().err


def test_scores_and_classes_as_json(tmp_path, capsys):
    path = weights(tmp_path, "idle_tiny", classes=10, in_channels=1)
    assert main(["validate", "idle_tiny", path, "--data", "digits", "--format", "json"]) == 0
    (scores,) = json.loads(capsys.readouterr().out)
    assert 0 <= scores["top1_low"] <= scores["top1"] <= scores["top1_high"] <= 1
    assert scores["top1"] <= scores["top5"] <= 1 and scores["loss"] > 0 and scores["images"] == 359
    image = str(tmp_path / "image.png")
    mx.image.cv2.imwrite(image, np.full((40, 40, 3), 90, np.uint8))
    arguments = ["predict", "idle_tiny", weights(tmp_path, "idle_tiny", classes=3), image, "missing.png"]
    assert main([*arguments, "--image-size", "32", "--format", "json"]) == 1
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert {row["class"] for row in rows} == {0, 1, 2} and {row["image"] for row in rows} == {image}
    assert sum(row["probability"] for row in rows) == pytest.approx(1, abs=1e-6)
    assert err == "error: no image at missing.png: it is not there\n"


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m gluon_effnets table shufflenet | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("arXiv 1707.01083, table 1") and done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["optimizers", "idle_tiny", "--repeats", "1"], "lb_sgd lars"),
        (["data", "--data", "digits", "--steps", "1", "--rounds", "1", "--image-size", "32"], "processor ms / image"),
        (["train", "idle_tiny", "--steps", "1", "--rounds", "1", "--image-size", "32", "--batch", "4"], "backward"),
    ],
)
def test_benchmarks_of_training(arguments, word, capsys):
    assert main(["benchmark", *arguments]) == 0
    assert word in capsys.readouterr().out


def test_train_takes_its_own_arguments(capsys):
    assert main(["train", "--model", "idle_mbv", "--data", "digits"]) == 1
    assert "unknown model 'idle_mbv'" in capsys.readouterr().err


def test_benchmark(capsys):
    arguments = ["mobilenet_v3_small", "--image-size", "64", "--repeats", "1", "--runtimes", "mxnet-fused"]
    assert main(["benchmark", "latency", *arguments]) == 0
    assert "| mobilenet_v3_small | 6.5 | mxnet-fused |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "idle_mbv"], "unknown model 'idle_mbv'. Nearest: idle_mbv3"),
        (["info", "idle_mbv3", "-o", "colour=blue"], "colour"),
        (["info", "idle_mbv3", "-o", "colour"], "not of the form name=value"),
        (["list", "nothing*"], "no model matches 'nothing*'"),
        (["validate", "idle_mbv3_small", "none.params", "--data", "digits"], "no weights at none.params"),
        (["validate", "idle_mbv3_small", "{weights}", "--data", "digits"], "has 5 classes, but digits has 10"),
        (["validate", "mobilenet_v3_small", "{weights}", "--data", "digits"], "holds the weights of idle_mbv3_small"),
        (["validate", "idle_mbv3_small", "{weights}", "--data", "recordio:nowhere"], "nowhere"),
        (["convert", "--model", "idle_mbv3", "none.pth", "out.params"], "none.pth"),
        (["export", "mobilenet_v3_large", "{weights}", "out/m"], "holds the weights of idle_mbv3_small"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_1(arguments, message, tmp_path, capsys):
    path = weights(tmp_path, classes=5, in_channels=1, stem_stride=1)
    assert main([path if a == "{weights}" else a for a in arguments]) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err and len(err.splitlines()) <= 4
