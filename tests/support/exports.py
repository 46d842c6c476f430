"""Exports for ONNX, and photographs to show to them: by the main package and by its runtime."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from networks import trained
from PIL import Image

from gluon_effnets.deploy import export
from gluon_effnets.models import Preprocessing

NAMES = ["ant", "bee", "cicada", "dragonfly", "earwig", "fly", "grasshopper"]


def exported(folder, name="idle_tiny", size=32, interpolation="pillow_bicubic", crop=0.875, **form):
    """The JSON file of an export of a network that is as if trained."""
    net = trained(name, classes=len(NAMES))
    net.preprocessing = Preprocessing(interpolation=interpolation, crop=crop, image_size=size)
    net.classes = NAMES
    return export(net, Path(folder) / "net", format="onnx", **form).description


def jpeg(pixels, orientation=1, **options) -> bytes:
    """An encoded photograph that a camera was turned for."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "JPEG", exif=exif, **options)
    return file.getvalue()


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """An image of Pillow as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def real_photographs(number):
    """The first encoded photographs of the reference data, or none where it is not there."""
    from gluon_effnets.runtime.recordio import Reader

    path = Path(os.environ.get("GLUON_EFFNETS_DATA", "")) / "imagenet_sample" / "val.rec"
    if not path.is_file():
        return []
    with Reader(path) as records:
        return [record.content for _, record in zip(range(number), records)]


def same(seen, expected, bound=2e-6):
    return np.abs(seen - expected).max() <= bound
