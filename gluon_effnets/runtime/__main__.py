"""python -m gluon_effnets.runtime NET.onnx IMAGE ... | records check|list|repair|pack ..."""

import sys

from .commands import main

if __name__ == "__main__":
    sys.exit(main())
