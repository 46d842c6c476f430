"""Packaging of gluon_effnets: dependencies by purpose; recipes and result tables shipped as package data."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

# Ranges only; the exact versions of a working set stand in constraints.txt.
REQUIRES = ["numpy>=1.20,<1.24", "gluoncv==0.10.5.post0", "tqdm", "PyYAML>=5.4"]
EXTRAS = {
    "cpu": ["mxnet==1.9.1"],
    "cu112": ["mxnet-cu112==1.9.1"],
    "hvd": ["horovod==0.28.1", "cffi>=1.4", "cloudpickle", "packaging", "psutil"],
    "train": ["scikit-learn>=1.0", "matplotlib>=3.3"],
    "onnx": ["onnx>=1.13", "onnxruntime>=1.18", "ml-dtypes<0.6; python_version >= '3.10'"],
    # The pair that works: apache-tvm-ffi 0.1.15 crashes with this TVM.
    "tvm": [
        'apache-tvm==0.27.0.post1; python_version >= "3.10"',
        'apache-tvm-ffi==0.1.14.post1; python_version >= "3.10"',
        "onnx>=1.13",
        "onnxruntime>=1.18",
    ],
    "torch": ["torch>=1.10", "torchvision", "timm", "safetensors>=0.4"],
    "tensorboard": ["tensorboardX>=2.5"],
    "dev": ["pytest>=7", "pytest-xdist>=3.5", "ruff>=0.6", "mypy>=1.14", "types-PyYAML", "pre-commit"],
}

# In the repository these folders lie beside the package; in an installed wheel, inside it.
DATA = {"configs": ["*.yaml"], "results": ["*.json"]}


def read_version() -> str:
    """Return `__version__` as text: importing the package would need its dependencies."""
    text = (ROOT / "gluon_effnets" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise ValueError('gluon_effnets/__init__.py has no line __version__ = "..."')
    return match.group(1)


def read_long_description() -> str:
    """Return the text of README.md, or nothing in a source tree without it."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


data_folders = [folder for folder in DATA if (ROOT / folder).is_dir()]
setup(
    name="gluon_effnets",
    version=read_version(),
    description="Efficient convolutional networks and their training methods in MXNet Gluon",
    long_description=read_long_description(),
    long_description_content_type="text/markdown",
    author="The gluon_effnets authors",
    license="Apache-2.0",
    python_requires=">=3.8,<3.12",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    packages=find_packages(include=["gluon_effnets", "gluon_effnets.*"])
    + [f"gluon_effnets.{folder}" for folder in data_folders],
    package_dir={f"gluon_effnets.{folder}": folder for folder in data_folders},
    package_data={
        "gluon_effnets": ["py.typed", "native/kernels.cc"],
        **{f"gluon_effnets.{folder}": DATA[folder] for folder in data_folders},
    },
    entry_points={"console_scripts": ["gluon-effnets = gluon_effnets.__main__:main"]},
    zip_safe=False,
)
