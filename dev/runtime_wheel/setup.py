"""Packaging of gluon_effnets.runtime alone: the same folder as in gluon_effnets, without MXNet and its old NumPy."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

PACKAGE = Path(__file__).resolve().parents[2] / "gluon_effnets"
VERSION = re.search(r'^__version__ = "([^"]+)"$', (PACKAGE / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
if VERSION is None:
    raise ValueError('gluon_effnets/__init__.py has no line __version__ = "..."')

setup(
    name="gluon_effnets_runtime",
    version=VERSION.group(1),
    description="Exported networks of gluon_effnets in ONNX Runtime, and RecordIO files, without MXNet",
    author="The gluon_effnets authors",
    license="Apache-2.0",
    python_requires=">=3.8",
    install_requires=["numpy>=1.20", "Pillow>=9.1", "onnxruntime>=1.18"],
    # gluon_effnets itself is left a namespace: what its own __init__ offers is not here.
    packages=["gluon_effnets.runtime"],
    package_dir={"gluon_effnets.runtime": "../../gluon_effnets/runtime"},
    package_data={"gluon_effnets.runtime": ["py.typed"]},
    zip_safe=False,
)
