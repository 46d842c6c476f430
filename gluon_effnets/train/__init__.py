"""Training: configuration, data, loop, tasks, hooks."""

from .. import _mxnet  # noqa: F401  before all that needs it
