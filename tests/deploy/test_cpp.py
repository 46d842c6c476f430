"""The example programs of docs/examples classify as the network does: C++, and Java where JNA is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from networks import trained
from waiting import PATIENCE_S

from gluon_effnets.deploy import export

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
MXNET = Path(mx.__file__).parent
# Debian's place, or the usual variable.
JNA = [path for path in (*os.environ.get("CLASSPATH", "").split(":"), "/usr/share/java/jna.jar") if "jna" in path]
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "MXNET_SUBGRAPH_BACKEND"}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A binary PPM file of 48 x 32 pixels beside the same image as PNG."""
    path = tmp_path_factory.mktemp("image") / "image.ppm"
    pixels = np.random.RandomState(0).randint(0, 256, (32, 48, 3)).astype(np.uint8)
    for name in (path, path.with_suffix(".png")):
        cv2.imwrite(str(name), pixels)
    return path


def network(order):
    net = trained("idle_tiny", classes=12)
    net.preprocessing = net.preprocessing._replace(channel_order=order)
    return net


def exported(net, folder):
    """The prefix of files that take pixels."""
    export(net, folder / "out", 32, raw_input=True)
    return folder / "out"


@pytest.fixture(scope="module")
def predict_mxnet(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    program = tmp_path_factory.mktemp("program") / "predict_mxnet"
    source, library = EXAMPLES / "predict_mxnet.cc", MXNET / "libmxnet.so"
    options = ["-O1", "-std=c++14", "-Wall", "-Wextra", "-Werror", "-isystem", str(MXNET / "include")]
    command = ["g++", *options, str(source), "-o", str(program), str(library), f"-Wl,-rpath,{MXNET}"]
    subprocess.run(command, check=True, timeout=PATIENCE_S)
    return program


@pytest.fixture(scope="module")
def predict_java(tmp_path_factory):
    """The command without its arguments."""
    jars = [path for path in JNA if Path(path).is_file()]
    if not jars or shutil.which("javac") is None:
        pytest.skip("needs a JDK and JNA (Debian: libjna-java)")
    folder = tmp_path_factory.mktemp("classes")
    source = str(EXAMPLES / "PredictMxnet.java")
    subprocess.run(["javac", "-Xlint:all", "-cp", jars[0], "-d", str(folder), source], check=True, timeout=PATIENCE_S)
    return ["java", "-cp", f"{jars[0]}:{folder}", f"-Djna.library.path={MXNET}", "PredictMxnet"]


def classified(net, image):
    """The five likeliest classes of an image in the network's own order of channels, with their probabilities."""
    mean, std, order = net.preprocessing[:3]
    x = (cv2.imread(str(image))[..., ::-1] - np.array(mean)) / std
    x = x[..., ::-1] if order == "bgr" else x
    [probabilities] = net(mx.nd.array(x.transpose(2, 0, 1)[None])).softmax().asnumpy()
    best = np.argsort(-probabilities)[:5]
    return best.tolist(), probabilities[best]


def assert_classifies(command, expected, fused):
    done = subprocess.run(
        list(map(str, command)), check=True, timeout=PATIENCE_S, capture_output=True, text=True, env=ENVIRONMENT
    )
    classes, probabilities = zip(*(line.split() for line in done.stdout.splitlines()))
    assert [int(number) for number in classes] == expected[0]
    np.testing.assert_allclose(np.array(probabilities, float), expected[1], atol=2e-6)
    assert ("MKLDNN is activated" in done.stderr) == fused


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_cpp(order, predict_mxnet, image, tmp_path):
    net = network(order)
    prefix, expected = exported(net, tmp_path), classified(net, image)
    options = ["bgr"] if order == "bgr" else []
    assert_classifies([predict_mxnet, prefix, image, *options], expected, fused=True)
    assert_classifies([predict_mxnet, prefix, image, "plain", *options], expected, fused=False)


def test_mistakes_in_cpp_are_messages(predict_mxnet, image, tmp_path):
    prefix = exported(network("rgb"), tmp_path)
    (tmp_path / "text.ppm").write_text("P6 4 4 255 short")
    shutil.copy(f"{prefix}-symbol.json", tmp_path / "other-symbol.json")
    (tmp_path / "other-0000.params").write_bytes(b"something else")
    for arguments, message in [
        ([], "usage: "),
        ([tmp_path / "none", image], "no file "),
        ([prefix, tmp_path / "text.ppm"], "no binary PPM file"),
        ([tmp_path / "other", image], "MXNetError"),
    ]:
        command = list(map(str, [predict_mxnet, *arguments]))
        done = subprocess.run(command, timeout=PATIENCE_S, capture_output=True, text=True, env=ENVIRONMENT)
        assert done.returncode == 1 and not done.stdout and message in done.stderr.splitlines()[0]


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_java(order, predict_java, image, tmp_path):
    net = network(order)
    prefix, expected = exported(net, tmp_path), classified(net, image)
    options = ["bgr"] if order == "bgr" else []
    assert_classifies([*predict_java, prefix, image.with_suffix(".png"), *options], expected, fused=True)
