"""Packaging of gluon_effnets: dependencies by purpose; recipes and result tables shipped as package data."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

REQUIRES = ["numpy>=1.20,<1.24", "gluoncv==0.10.5.post0", "tqdm", "PyYAML>=5.4"]
# The file runs without the package and its dependencies.
EXTRAS = runpy.run_path(str(ROOT / "gluon_effnets" / "_requirements.py"))["EXTRAS"]

# In the repository these folders lie beside the package; in an installed wheel, inside it.
DATA = {"configs": ["*.yaml", "experiments/*.yaml"], "results": ["*.json", "claims/*.yaml", "experiments/*.json"]}


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
    keywords="image classification, object detection, efficient networks, MXNet, Gluon, ONNX, Horovod",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(8, 12)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    python_requires=">=3.8,<3.12",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    packages=find_packages(include=["gluon_effnets", "gluon_effnets.*"])
    + [f"gluon_effnets.{folder}" for folder in data_folders],
    package_dir={f"gluon_effnets.{folder}": folder for folder in data_folders},
    package_data={
        "gluon_effnets": [
            "py.typed",
            "native/*.cc",
            "native/inference/*.cc",
            "native/inference/*.h",
            "runtime/py.typed",
        ],
        **{f"gluon_effnets.{folder}": DATA[folder] for folder in data_folders},
    },
    entry_points={"console_scripts": ["gluon-effnets = gluon_effnets.__main__:main"]},
    zip_safe=False,
)
