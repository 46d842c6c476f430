"""The commands of `python -m gluon_effnets`: a module for each, or for those that belong together.

Every module declares what it has as a `Command` or `Group` (command.py): a name, a sentence of help, a function that
adds the arguments and one that runs. What only running needs is imported there.
"""

from .. import _mxnet  # noqa: F401  before all that needs it
