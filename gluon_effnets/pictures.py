"""Pictures with matplotlib, which is optional and draws without a screen here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ._requirements import optional_import
from .files.write import make_folder, write_bytes

__all__ = ["load_pyplot", "save_picture"]


def load_pyplot(why: str) -> Any:
    """The module matplotlib.pyplot; `why` names the picture in the error.

    Raises:
        ImportError: matplotlib is not installed; the text has the command to install it.
    """
    matplotlib = optional_import("matplotlib", extra="train", why=why)
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save_picture(figure: Any, path: Any, dpi: int = 120) -> None:
    """Write a figure to a file, in folders made as needed, or as a PNG to an open one, and close it."""
    from matplotlib import pyplot

    if isinstance(path, io.BytesIO):
        figure.savefig(path, dpi=dpi, format="png")
        pyplot.close(figure)
        return
    path, drawn = Path(path if Path(path).suffix else f"{path}.png"), io.BytesIO()
    make_folder(path.parent)
    try:
        figure.savefig(drawn, dpi=dpi, format=path.suffix[1:])
    finally:
        pyplot.close(figure)
    write_bytes(path, drawn.getvalue())
