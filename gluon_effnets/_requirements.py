"""Import MXNet and the optional packages, with errors that hold the pip command to run."""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType

# What MXNet 1.9.1 warns of while it is imported; no newer release will cure it.
_MXNET_IMPORT_WARNINGS = (
    r"`np\.bool` is a deprecated alias",
    r"In accordance with NEP 32",  # mirr, npv, pmt, ppmt, pv, rate: looked up in NumPy, never called
    r"distutils Version classes are deprecated",
)


def require_mxnet() -> None:
    """Import MXNet quietly, after checking NumPy: with NumPy 1.24 or newer MXNet 1.9.1 fails in its middle.

    Raises:
        ImportError: NumPy or MXNet is missing, too new or broken; the text says what to install.
    """
    try:
        import numpy
    except ModuleNotFoundError as error:
        raise ImportError(_advice("NumPy, which is not installed", '"numpy<1.24"')) from error
    major, minor = (int(part) for part in numpy.__version__.split(".")[:2])
    if (major, minor) >= (1, 24):
        wish = f"NumPy before 1.24, because MXNet 1.9.1 uses np.bool; installed is {numpy.__version__}"
        raise ImportError(_advice(wish, '"numpy<1.24"'))

    mxnet_pip = '"gluon_effnets[cpu]"   (CUDA 11.2: pip install mxnet-cu112==1.9.1)'
    try:
        with warnings.catch_warnings():
            for message in _MXNET_IMPORT_WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
            mxnet = importlib.import_module("mxnet")
    except ModuleNotFoundError as error:
        if error.name != "mxnet":
            raise
        raise ImportError(_advice("MXNet 1.9.1, which is not installed", mxnet_pip)) from error
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
        extra: The extra of setup.py that installs it: "train".
        why: What needs it, for the error text: "the digits data set".

    Raises:
        ImportError: The module is missing or broken; the text holds the cause and the pip command.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} cannot be imported ({error}); needed for: {why}.\n"
            f'Install it for {sys.executable} with: pip install "gluon_effnets[{extra}]"'
        ) from error


def _advice(wish: str, packages: str) -> str:
    return f"gluon_effnets needs {wish}.\nInstall for {sys.executable} with: pip install {packages}"
