"""MXNet, imported for the first time: quietly, or with the error that says what to install.

A room whose modules import MXNet imports this one in its `__init__`, before all else of the package.
"""

from ._requirements import end_command, require_mxnet

__all__ = ["mx"]

try:
    require_mxnet()
except ImportError as error:
    end_command(error)
    raise

import mxnet as mx  # noqa: E402
