"""Archives of NumPy's arrays that lie about sizes, methods and types."""

import io
import struct
import zipfile

import numpy as np
import pytest

from gluon_effnets.files.npz import read_npz
from gluon_effnets.weights.files import read_checkpoint

pytestmark = pytest.mark.fast


def npy(header, content=b""):
    header = header.encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def archive(path, **entries):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return path


def test_arrays_are_read_as_numpy_reads_them(tmp_path):
    path, arrays = tmp_path / "a.npz", {}
    for kind in ("f4", "f8", "i8", "u1", "?", "U5"):
        arrays[kind] = np.arange(6).reshape(2, 3).astype(kind)
    arrays["columns"], arrays["scalar"], arrays["none"] = (
        np.asfortranarray(arrays["f4"]),
        np.array(2.5),
        np.zeros((0, 3)),
    )
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays)
        found = read_npz(path)
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name


@pytest.mark.parametrize(
    ("header", "content"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (35184372088832,), }", b""),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", b"\0" * 8),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n(S'true'\ntR."),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", b"\0" * 4),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", b""),
        ("(" * 5000, b""),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os'),), }", b""),
        ("", b""),
    ],
    ids=["128 TiB", "short", "pickle", "fields", "negative", "parentheses", "code", "empty"],
)
def test_arrays_that_lie_are_refused(header, content, tmp_path):
    path = archive(tmp_path / "a.npz", ok=npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", b"\0" * 4))
    assert read_npz(path)["ok"] == 0
    archive(path, bad=npy(header, content))
    for read in (read_npz, read_checkpoint):
        with pytest.raises(ValueError, match=str(path)) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_encrypted_and_unknown_archives_are_refused(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    whole, path = buffer.getvalue(), tmp_path / "a.npz"
    for offset, local, value, said in [(8, 6, 1, "encrypted"), (10, 8, 99, "method")]:
        changed = bytearray(whole)
        central = whole.index(b"PK\x01\x02")
        struct.pack_into("<H", changed, central + offset, value)
        struct.pack_into("<H", changed, local, value)
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=f"a.npz .*{said}"):
            read_npz(path)
    for content in (b"", b"PK\x03\x04", whole[: len(whole) // 2], whole.replace(b"PK\x01\x02", b"PK\x01\x03")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a.npz is no archive of arrays"):
            read_npz(path)
    changed = bytearray(whole)
    changed[whole.index(b"PK\x01\x02") - 4] ^= 1  # a number: the archive's sum tells
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="CRC"):
        read_npz(path)
    archive(path, a="text")
    with pytest.raises(ValueError, match="no array"):
        read_npz(path)


def test_an_archive_that_unpacks_to_more_than_a_memory_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(1 << 20))
    with pytest.raises(ValueError, match="holds more than"):
        read_npz(path, most=1 << 20)
