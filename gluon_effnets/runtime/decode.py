"""Images of all kinds to RGB pixels by Pillow: the same pixels as OpenCV's, which training and evaluation show."""

from __future__ import annotations

import contextlib
import io
import threading
from pathlib import Path
from typing import Any, Iterable, Iterator, Tuple, Union

import numpy as np
from PIL import Image, ImageFile

from .files import read_bytes
from .header import read_header, upright

__all__ = ["FORMATS", "Picture", "decode", "is_one", "numbered", "pixels_of"]

# What can be shown to a network: a path, an encoded image, Pillow's image, or pixels (H, W, 3) uint8 RGB.
Picture = Union[str, Path, bytes, bytearray, memoryview, Image.Image, np.ndarray]

# Those that OpenCV reads, too.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000")
_ORIENTATION = 0x0112  # EXIF's tag
_BYTES = (bytes, bytearray, memoryview)
_lock = threading.Lock()


def is_one(images) -> bool:
    """Whether `images` is one picture rather than several."""
    return isinstance(images, (str, Path, *_BYTES, Image.Image)) or (
        isinstance(images, np.ndarray) and images.ndim == 3
    )


def numbered(images: Union[Picture, Iterable[Picture]]) -> Iterator[Tuple[Any, str]]:
    """Yield one or several pictures, each with what a message calls it if it is no file."""
    several: Iterable[Any] = [images] if is_one(images) else images  # type: ignore[list-item, assignment]
    return ((image, f"image {number}") for number, image in enumerate(several, 1))


def pixels_of(picture: Picture, where: str = "the image") -> np.ndarray:
    """Return the pixels of a picture, (H, W, 3) uint8 RGB, turned as EXIF's orientation says.

    Args:
        picture: A path, an encoded image, Pillow's image, or pixels already.
        where: How a message names a picture that is no file.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read, or is no image.
        ValueError: An array has another shape or type.
        TypeError: It is none of all this.
    """
    if isinstance(picture, (str, Path)):
        path = Path(picture).expanduser()
        try:
            encoded = read_bytes(path, "image")
        except ValueError as error:
            raise OSError(str(error)) from None
        return decode(encoded, str(picture))
    if isinstance(picture, _BYTES):
        return decode(bytes(picture), where)
    if isinstance(picture, Image.Image):
        return _upright_rgb(picture, where)
    if not isinstance(picture, np.ndarray):
        kinds = "a path, bytes, an image of Pillow or an array"
        raise TypeError(f"{where} is of type {type(picture).__name__}; it must be {kinds}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(f"{where} is an array {picture.shape} of {picture.dtype}; it must be (H, W, 3) of uint8, RGB")
    return picture


def decode(encoded: bytes, where: str) -> np.ndarray:
    """Decode JPEG, PNG, WebP, BMP, TIFF, PPM or JPEG 2000 to (H, W, 3) uint8 RGB, turned as EXIF's orientation says.

    Gray and CMYK images are converted, 16 bits are cut to 8, and transparency is dropped.

    Args:
        encoded: The image.
        where: How a message names it.

    Raises:
        OSError: The bytes are no image, a damaged one, or one that is larger than is decoded.
    """
    try:
        header = read_header(encoded)
    except ValueError as error:
        raise OSError(f"{where} {error}") from None
    try:
        with _refusing_what_is_cut_short(), Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            pixels = _rgb(image)
    # Damaged bytes raise errors of many types in Pillow's readers.
    except Exception:
        raise OSError(f"{where} is no readable image ({len(encoded):,} bytes of {header.format})") from None
    return upright(pixels, header.orientation) if header.orientation > 1 else pixels


@contextlib.contextmanager
def _refusing_what_is_cut_short() -> Iterator[None]:
    """Within it Pillow refuses damaged images, although another package (GluonCV does) told it not to."""
    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        yield
        return
    with _lock:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = True


def _upright_rgb(image: Image.Image, where: str) -> np.ndarray:
    try:
        pixels = _rgb(image)
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception as error:
        raise OSError(f"{where} cannot be decoded: {error}") from None
    return upright(pixels, orientation) if orientation in range(2, 9) else pixels


def _rgb(image: Image.Image) -> np.ndarray:
    """The stored pixels of an image, (H, W, 3) uint8, as OpenCV converts them."""
    if image.mode == "CMYK":
        *ink, black = np.moveaxis(np.asarray(image).astype(np.int32), -1, 0)
        light = 255 - black
        return np.stack([light - ((color * light) >> 8) for color in ink], axis=-1).astype(np.uint8)
    if image.mode.startswith("I"):  # 16 bits of gray
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(gray[..., np.newaxis], 3, axis=-1)
    return np.array(image.convert("RGB"))
