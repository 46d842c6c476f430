"""Files of torch.save, read without PyTorch: equal to what PyTorch reads, whatever stands in them."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest

from gluon_effnets.weights.torch_file import ForeignObjectError, _Unpickler, read_torch_file

pytestmark = pytest.mark.fast
FORMATS = pytest.mark.parametrize("archive", [True, False], ids=["archive", "sequence"])


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@FORMATS
def test_every_kind_of_tensor_and_value_is_what_pytorch_reads(torch, tmp_path, archive):
    x = torch.arange(-6.0, 6.0).reshape(3, 4)
    types = [torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.bool]
    tensors = collections.OrderedDict(
        {str(kind): x.to(kind) for kind in types},
        whole=x,
        turned=x.t(),
        part=x[1:, ::2],
        scalar=torch.tensor(3),
        empty=torch.zeros(0, 3),
        bytes=torch.tensor([0, 255], dtype=torch.uint8),
        parameter=torch.nn.Parameter(x.clone()),
        half=x.to(torch.bfloat16),
    )
    content = {
        "state_dict": tensors,
        "args": argparse.Namespace(lr=0.1, model="vit"),
        "epoch": 3,
        "optimizer": {"state": {0: {"step": 7, "mean": x}}, "groups": [{"betas": (0.9, 0.99), "on": None}]},
        "size": x.shape,
        "name": b"\x00\xff",
    }
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=archive)
    read = read_torch_file(tmp_path / "x.pth")
    assert list(read["state_dict"]) == list(tensors)
    for key, tensor in tensors.items():
        wanted = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
        assert read["state_dict"][key].dtype == wanted.dtype and np.array_equal(read["state_dict"][key], wanted), key
    assert np.array_equal(read["optimizer"]["state"][0].pop("mean"), x.numpy())
    assert read["optimizer"] == {"state": {0: {"step": 7}}, "groups": [{"betas": (0.9, 0.99), "on": None}]}
    assert (read["args"], read["size"], read["name"]) == (content["args"], (3, 4), b"\x00\xff")


@FORMATS
def test_pytorch_is_not_imported(torch, tmp_path, archive):
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pth", _use_new_zipfile_serialization=archive)
    code = """import sys; sys.modules["torch"] = None
from gluon_effnets.weights import read_checkpoint
print(read_checkpoint(sys.argv[1])["a"].tolist())"""
    command = [sys.executable, "-c", code, str(tmp_path / "x.pth")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[1.0, 1.0]"


class Calls:
    """In a pickle: a call of what it is made with."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@FORMATS
@pytest.mark.parametrize("function", [os.mkdir, eval, getattr, __import__, print], ids=lambda found: found.__name__)
def test_nothing_is_called(torch, tmp_path, archive, function):
    content = {"state_dict": {"a": torch.ones(2)}, "more": Calls(function, str(tmp_path / "ran"))}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=archive)
    with pytest.raises(ForeignObjectError, match=function.__name__):
        read_torch_file(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


def sequence(content: bytes, storages: bytes = pickle.dumps([])) -> bytes:
    """A file of the old format around a pickle of its content."""
    return b"".join([*map(pickle.dumps, (0x1950A86A20F9469CFC6C, 1001, {})), content, storages])


HOSTILE = {
    "attributes of the reader's functions": b"ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__NsX\x86b.",
    "attributes of a class": b"cargparse\nNamespace\n}U\x08__init__Nsb.",
    "a key that is nested deeply": b"}" + b"(" * 200_000 + b"t" * 200_000 + b"Ns.",
    "a table of four thousand million places": b"}r\xff\xff\xff\xff.",
    "a set": b"\x80\x04\x8f(K\x01\x90.",
    "a registered extension": b"\x80\x02\x82\x01.",
    "items of a list": b"](K\x01K\x02u.",
    "a reference to nothing": b"Pabc\n.",
    "more than there is": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
}


READ_EACH = """
import os, sys
from pathlib import Path
from gluon_effnets.weights.torch_file import read_torch_file

for path in map(Path, sys.argv[1:]):
    # In a process of its own: what goes wrong here ends the interpreter.
    child = os.fork()
    if not child:
        try:
            told = str(read_torch_file(path))
        except ValueError as error:
            told = f"refused: {error}"
        path.with_suffix(".told").write_text(told)
        os._exit(0)
    path.with_suffix(".code").write_text(str(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Folder with the files, and what became of those who read them."""
    folder = tmp_path_factory.mktemp("hostile")
    for number, content in enumerate(HOSTILE.values()):
        (folder / f"{number}.pth").write_bytes(sequence(content))
    subprocess.run([sys.executable, "-c", READ_EACH, *map(str, sorted(folder.glob("*.pth")))], check=True)
    return folder


@pytest.mark.parametrize("number", range(len(HOSTILE)), ids=list(HOSTILE))
def test_hostile_pickles_are_refused_or_harmless(hostile, number):
    assert (hostile / f"{number}.code").read_text() == "0"
    told = (hostile / f"{number}.told").read_text()
    assert told.startswith("refused: ") or told == "{}"


def announced(kind: str, count: int, shape, strides, offset: int = 0) -> bytes:
    """A pickle of one tensor."""
    reference = ("storage", Calls, "0", "cpu", count, None)

    class Pickler(pickle._Pickler):
        def persistent_id(self, value):
            return reference if value is sequence else None

        def save_global(self, value, name=None):
            names = {Calls: ("torch", kind), os.mkdir: ("torch._utils", "_rebuild_tensor_v2")}
            module, name = names[value]
            self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")

        dispatch = {**pickle._Pickler.dispatch, type: save_global, type(os.mkdir): save_global}

    file = io.BytesIO()
    Pickler(file, 2).dump({"a": Calls(os.mkdir, sequence, offset, shape, strides, False, None)})
    return file.getvalue()


@pytest.mark.parametrize(
    "count, shape, strides, offset, what",
    [
        (4, (2, 2), (2, 1), 0, None),
        (4, (2, 3), (2, 1), 0, "beyond its storage"),
        (4, (2, 2), (2, 1), 1, "beyond its storage"),
        (4, (2, 2), (-2, 1), 2, "shape or strides"),
        (4, (2,), (2, 1), 0, "shape or strides"),
        (4, (10**6, 10**6), (0, 0), 0, "beyond its storage"),
        (10**13, (2, 2), (2, 1), 0, "cut short"),
    ],
)
def test_a_tensor_lies_within_its_storage(tmp_path, count, shape, strides, offset, what):
    numbers = count.to_bytes(8, "little") + np.arange(4, dtype="<f4").tobytes()
    content = announced("FloatStorage", count, shape, strides, offset)
    (tmp_path / "x.pth").write_bytes(sequence(content, pickle.dumps(["0"]) + numbers))
    if what is None:
        assert read_torch_file(tmp_path / "x.pth")["a"].tolist() == [[0, 1], [2, 3]]
        return
    with pytest.raises(ValueError, match=what):
        read_torch_file(tmp_path / "x.pth")


@FORMATS
def test_damaged_files_give_a_sentence_or_what_is_left(torch, tmp_path, archive):
    content = {"state_dict": {f"layer{number}": torch.randn(3, 4) for number in range(4)}, "epoch": 3}
    path, draw = tmp_path / "x.pth", random.Random(0)
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    whole, refused = path.read_bytes(), 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 1, 8])):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged[: draw.choice([len(damaged), draw.randrange(len(damaged))])])
        try:
            read_torch_file(path)
        except ValueError as error:  # any other exception fails the test
            refused += 1
            assert "\n" not in str(error) or isinstance(error, ForeignObjectError)
    assert refused > 200


@pytest.mark.parametrize("reference", [(np.zeros(3), 1, 2, 3, 4), ("storage", 1), ([], 1, 2, 3, 4), "storage", None])
@pytest.mark.filterwarnings("error")
def test_a_reference_of_another_form_is_refused_in_silence(reference):
    unpickler = _Unpickler(io.BytesIO(b""), storage=lambda *given: None)
    with pytest.raises(ValueError, match="a reference is not to the numbers of a tensor"):
        unpickler.persistent_load(reference)
