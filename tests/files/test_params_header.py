"""Files of arrays that lie: refused before MXNet reads them, and noticed when a byte of ours has changed."""

import random
import struct
import subprocess
import sys
import time

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.files.params_header import DIGEST, blank_digest, load_arrays, read_header, seal

TYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64")


@pytest.fixture
def weights(tmp_path):
    net = get_model("idle_tiny", classes=3)
    net.initialize()
    net.save_parameters(str(tmp_path / "w.params"))
    return tmp_path / "w.params"


@pytest.fixture
def unsealed(tmp_path):
    """As older versions and Gluon write it."""
    arrays = {f"layer{i}.weight": mx.nd.ones((4, i + 1)) for i in range(3)}
    mx.nd.save(str(tmp_path / "old.params"), arrays)
    return tmp_path / "old.params"


def test_arrays_of_all_types_are_read_as_mxnet_reads_them(tmp_path):
    path = tmp_path / "a.params"
    arrays = {kind: mx.nd.array(np.arange(6).reshape(2, 3), dtype=kind) for kind in TYPES}
    mx.nd.save(str(path), arrays)
    found = load_arrays(path)
    assert found.keys() == arrays.keys()
    for kind in TYPES:
        assert found[kind].dtype == np.dtype(kind) and (found[kind].asnumpy() == arrays[kind].asnumpy()).all()
    header = read_header(path.read_bytes())
    assert [(entry.name, entry.shape) for entry in header] == [(kind, (2, 3)) for kind in TYPES]
    mx.nd.save(str(path), {})
    assert load_arrays(path) == {}


LIES = {
    "ndim -1": (32, struct.pack("<i", -1)),
    "ndim of a billion": (32, struct.pack("<i", 10**9)),
    "no axes": (32, struct.pack("<i", 0)),
    "a negative length": (36, struct.pack("<q", -4)),
    "a length of 2**62": (36, struct.pack("<q", 1 << 62)),
    "a sparse array": (28, struct.pack("<i", 1)),
    "another mark": (24, b"\xff\xff\xff\xff"),
    "another file": (0, b"\x13"),
    "reserved": (8, b"\1"),
    "2**63 arrays": (16, struct.pack("<Q", 1 << 63)),
    "one array fewer": (16, struct.pack("<Q", 2)),
    "an unknown device": (52, struct.pack("<i", 77)),
    "the device 10**9": (56, struct.pack("<i", 10**9)),
    "an unknown type": (60, struct.pack("<i", 99)),
}


@pytest.mark.parametrize("what", LIES)
def test_a_header_that_lies_is_refused(what, unsealed):
    place, content = LIES[what]
    whole = bytearray(unsealed.read_bytes())
    whole[place : place + len(content)] = content
    unsealed.write_bytes(whole)
    with pytest.raises(ValueError, match="is not a .params file") as caught:
        load_arrays(unsealed)
    assert str(unsealed) in str(caught.value) and "\n" not in str(caught.value)


def test_names_are_texts_and_stand_once(tmp_path):
    path = tmp_path / "a.params"
    for names, said in [(("a", "a\0b"), "has the name"), (("ab", "a\n"), "has the name"), ((), "without names")]:
        arrays = [mx.nd.ones(1), mx.nd.ones(1)]
        mx.nd.save(str(path), dict(zip(("xx", "yyy"), arrays)) if names else arrays)
        if names:
            content = path.read_bytes().replace(b"xx", names[0].ljust(2, "b").encode())
            path.write_bytes(content.replace(b"yyy", names[1].ljust(3, "b").encode()))
        with pytest.raises(ValueError, match=said):
            load_arrays(path)
    mx.nd.save(str(path), {"xx": mx.nd.ones(1), "yy": mx.nd.ones(1)})
    path.write_bytes(path.read_bytes().replace(b"yy", b"xx"))
    with pytest.raises(ValueError, match="'xx' twice"):
        load_arrays(path)


def test_every_flipped_bit_of_our_own_file_is_noticed(weights):
    whole, draw = weights.read_bytes(), random.Random(0)
    for _ in range(150):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        weights.write_bytes(changed)
        with pytest.raises(ValueError, match=str(weights)):
            get_model("idle_tiny", pretrained=str(weights))


def test_the_digest_covers_its_own_name(weights):
    whole = weights.read_bytes()
    for name in (DIGEST[:-1] + "u", "h" + DIGEST[1:]):
        weights.write_bytes(whole.replace(DIGEST.encode(), name.encode()))
        with pytest.raises(ValueError, match="is damaged"):
            load_arrays(weights)


def test_a_cut_or_longer_file_is_refused(weights, unsealed):
    for path in (weights, unsealed):
        whole = path.read_bytes()
        for content in (b"", whole[:10], whole[: len(whole) // 2], whole[:-1], whole + b"\0", b"x" * 100):
            path.write_bytes(content)
            with pytest.raises(ValueError, match="is not a .params file"):
                load_arrays(path)


def test_files_without_a_digest_and_gluon_itself_read_on(weights, unsealed):
    assert sorted(load_arrays(unsealed)) == ["layer0.weight", "layer1.weight", "layer2.weight"]
    plain = mx.gluon.nn.HybridSequential()
    plain.add(mx.gluon.nn.Dense(3))
    saved = mx.nd.load(str(weights))
    assert saved[DIGEST].shape == (32,) and saved[DIGEST].dtype == np.uint8
    plain.load_parameters(str(weights), allow_missing=True, ignore_extra=True)


def test_the_header_of_a_large_file_takes_milliseconds(tmp_path):
    path = tmp_path / "large.params"
    mx.nd.save(str(path), {**{f"a{i}": mx.nd.zeros((256, 1000)) for i in range(100)}, **blank_digest()})
    seal(path)
    content = path.read_bytes()
    best = min(_seconds(lambda: read_header(content)) for _ in range(5))
    assert len(content) > 100e6 and best < 0.1  # 0.5 ms; reading all numbers would take more
    assert len(load_arrays(path)) == 100


def _seconds(call):
    began = time.process_time()
    call()
    return time.process_time() - began


def test_what_ended_the_process_is_a_message_of_the_command(weights, tmp_path):
    """ndim = -1 in the first array: MXNet ended the process; in one of its own, so that this one lives."""
    unsealed = dict(mx.nd.load(str(weights)))
    del unsealed[DIGEST]
    mx.nd.save(str(weights), unsealed)
    whole = bytearray(weights.read_bytes())
    whole[32:36] = struct.pack("<i", -1)
    weights.write_bytes(whole)
    command = [sys.executable, "-m", "gluon_effnets", "predict", "idle_tiny", str(weights), str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and str(weights) in done.stderr
