"""horovodrun that is told that Horovod has Gloo: it would load MXNet in two processes of its own to find that out."""

from __future__ import annotations

import sys

from horovod.runner import launch

if __name__ == "__main__":
    launch.mpi_built, launch.gloo_built = (lambda **_: False), (lambda **_: True)
    sys.exit(launch.run_commandline())
