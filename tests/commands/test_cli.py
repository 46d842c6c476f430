"""python -m gluon_effnets: what a user sees, also when something is wrong."""

import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.__main__ import main


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


def test_quantize(tmp_path, capsys):
    path = weights(tmp_path, classes=10, in_channels=1, stem_stride=1)
    assert main(["quantize", f"idle_mbv3_small={path}", "--data", "digits", "--images", "64"]) == 0
    out = capsys.readouterr().out
    assert "channel-wise" in out and "tensor-wise" in out


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
