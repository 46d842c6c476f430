"""The data section of a recipe, the batch handed to the trainer, and the way a source is named."""

# The loader of recipes resolves these hints at run time, where Python 3.8 and 3.9 need the old spelling.
# ruff: noqa: UP006, UP045
from __future__ import annotations

import difflib
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Tuple

import mxnet as mx

from ...files.schema import check_type
from ...files.text import shortened
from ...models.preprocessing import CHANNEL_ORDERS, Preprocessing

if TYPE_CHECKING:
    from ...detection.truth import Truth

UNSET = "???"
_LONGEST_PATH = 4096
# Folders or record files with images for evaluation; the first of them that is there is read.
EVALUATION_PARTS = ("val", "valid", "validation", "test")
IMAGENET_VARIABLE = "GLUON_EFFNETS_IMAGENET"
# Of images with boxes, for detectors.
DETECTION_KINDS = ("voc", "coco", "detrec", "scattered_digits")
KINDS = ("digits", "cifar10", "folder", "recordio", "synthetic", *DETECTION_KINDS)
IN_MEMORY = ("digits", "cifar10", "synthetic")
KINDS_TEXT = (
    "digits, cifar10:DIR, folder:DIR, recordio:DIR, synthetic[:N]; "
    "for detectors voc:DIR, coco:DIR, detrec:DIR, scattered_digits[:N]"
)
PLAIN = ("none", "evaluation")  # without chance
# Their images show the object in full, and are not cropped in the evaluation.
UNCROPPED = ("digits", "cifar10", "synthetic", *DETECTION_KINDS)
DETECTION_AUGMENTATIONS = ("ssd", "ssdlite", "frcnn")
AUGMENTATIONS = ("imagenet", "small", "shift", *PLAIN, *DETECTION_AUGMENTATIONS)
EVAL_INTERPOLATIONS = ("bilinear", "pillow_bilinear", "pillow_bicubic")
INTERPOLATIONS = (*EVAL_INTERPOLATIONS, "pillow_random")


@dataclass(frozen=True)
class RandAugment:
    """The ``rand_augment:`` of the data section; the defaults are timm's ``rand-m9-mstd0.5``.

    Attributes:
        num: Operations per image.
        magnitude, std: Of 0 to 10: mean and standard deviation of their strength.
    """

    num: int = 2
    magnitude: float = 9.0
    std: float = 0.5

    def __post_init__(self):
        for name, valid, rule in (
            ("num", 1 <= self.num <= 100, "at least 1, and at most 100"),
            ("magnitude", 0 <= self.magnitude <= 10, "0 to 10"),
            ("std", self.std >= 0, "at least 0"),
        ):
            if not valid:
                raise ValueError(f"data.rand_augment.{name} is {getattr(self, name)}; it must be {rule}.")


@dataclass(frozen=True)
class DataSettings:
    """The ``data:`` section of a recipe; the defaults are those of GluonCV's ImageNet recipe.

    Attributes:
        source: ``KIND[:PATH]``: ``digits``, ``cifar10:DIR``, ``folder:DIR``, ``recordio:DIR`` (or one ``.rec``
            file, for evaluation), ``synthetic[:N]``; with boxes ``voc:DIR``, ``coco:DIR``, ``detrec:DIR`` (the latter
            two also one file, for evaluation), ``scattered_digits[:N]``.
        image_size: Side of the square network input, in pixels.
        batch_size, eval_batch_size: Images per worker and step; evaluation uses `batch_size` unless told.
        eval_crop: Evaluation resizes the shorter side to ``ceil(image_size / eval_crop)`` and takes the
            center.
        eval_crop_first: Evaluation cuts out the central ``eval_crop`` of the shorter side, then resizes that.
        classes: None counts the classes in the data; a number is checked against the data.
        num_threads: Decoding threads per worker.
        augment: ``imagenet`` (random resized crop, mirror, color jitter, PCA noise), ``small`` (pad, random
            crop, mirror), ``shift`` (pad, random crop), ``none``, or ``evaluation`` (as evaluation images); of images
            with boxes ``ssd``, which ``imagenet`` stands for there, ``ssdlite`` or ``frcnn``.
        crop_area, crop_aspect: Ranges of the random resized crop: part of the image's area, width /
            height.
        mirror: Whether ``imagenet`` and ``small`` mirror half of the images.
        color_jitter: Strength of brightness, contrast and saturation changes of ``imagenet``.
        pca_noise: Standard deviation of the lighting noise of ``imagenet``.
        pad: Black border of ``small`` and ``shift``, in pixels.
        rand_augment: Random operations after crop and mirror, unless `augment` is ``none`` or
            ``evaluation``.
        random_erasing: Probability that a box of the normalized image becomes noise, with the same exceptions.
        interpolation, eval_interpolation: Of the crops of ``imagenet``, and of the evaluation: ``bilinear``
            (OpenCV's, without a low-pass filter), ``pillow_bilinear``, ``pillow_bicubic``; of the crops also
            ``pillow_random``, one of the latter two by chance.
        mean, std: Normalization on the scale 0..255, of red, green and blue in this sequence.
        normalization: ``own``: by `mean`, `std` and `channel_order`; ``pretrained``: as the pretrained weights of
            the recipe want it.
        channel_order: ``rgb`` or ``bgr``: how the normalized channels are handed to the network.
        on_error: ``raise`` or ``skip``: what an unreadable image does.
        held_out: Of class folders without ``train`` and ``val``: the share of each class that is evaluated; 1: all.
        held_out_seed: Another number chooses other images.
        kept_back: Share of the training images that is kept from training, for the architecture of the task ``darts``;
            of ``digits``, ``cifar10`` and ``synthetic`` alone.
        kept_back_seed: Another number keeps other images back.
        train_parts, eval_parts: Of images with boxes: the parts of the source, as ``2007_trainval``; None: the usual.
        bad_boxes: ``drop`` or ``raise``: what a box does that cannot be meant so.
    """

    source: str = UNSET
    image_size: int = 224
    batch_size: int = 32
    eval_batch_size: Optional[int] = None
    eval_crop: float = 0.875
    eval_crop_first: bool = False
    classes: Optional[int] = None
    num_threads: int = 4
    augment: str = "imagenet"
    crop_area: Tuple[float, float] = (0.08, 1.0)
    crop_aspect: Tuple[float, float] = (3 / 4, 4 / 3)
    mirror: bool = True
    color_jitter: float = 0.4
    pca_noise: float = 0.1
    pad: int = 4
    rand_augment: Optional[RandAugment] = None
    random_erasing: float = 0.0
    interpolation: str = "bilinear"
    eval_interpolation: str = "bilinear"
    mean: Tuple[float, ...] = Preprocessing().mean
    std: Tuple[float, ...] = Preprocessing().std
    channel_order: str = "rgb"
    normalization: str = "own"
    on_error: str = "raise"
    held_out: float = 0.2
    held_out_seed: int = 0
    kept_back: float = 0.0
    kept_back_seed: int = 0
    train_parts: Optional[Tuple[str, ...]] = None
    eval_parts: Optional[Tuple[str, ...]] = None
    bad_boxes: str = "drop"

    def __post_init__(self):
        for name in ("crop_area", "crop_aspect", "mean", "std"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        for name in ("train_parts", "eval_parts"):
            parts = getattr(self, name)
            if parts is not None:
                object.__setattr__(self, name, (parts,) if isinstance(parts, str) else tuple(parts))
                if not parts:
                    raise ValueError(f"data.{name} is empty; name a part, or leave it out for the usual ones.")
        choices_of = {"augment": AUGMENTATIONS, "on_error": ("raise", "skip"), "channel_order": CHANNEL_ORDERS}
        choices_of.update(normalization=("own", "pretrained"), bad_boxes=("drop", "raise"))
        choices_of.update(interpolation=INTERPOLATIONS, eval_interpolation=EVAL_INTERPOLATIONS)
        for name, choices in choices_of.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"data.{name} is {shortened(getattr(self, name))}; it must be one of {', '.join(choices)}."
                )
        for name in ("image_size", "batch_size", "num_threads", "eval_batch_size", "classes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"data.{name} is {value}; it must be at least 1.")
        if self.pad < 0:
            raise ValueError(f"data.pad is {self.pad}; it must be at least 0.")
        for name, most in _LARGEST.items():
            value = getattr(self, name)
            if value is not None and value > most:
                raise ValueError(f"data.{name} is {shortened(value)}; at most {most:,} are possible.")
        if not 0 <= self.random_erasing <= 1:
            raise ValueError(f"data.random_erasing is {self.random_erasing}; it must be a probability, 0 to 1.")
        if not 0 < self.held_out <= 1:
            raise ValueError(f"data.held_out is {self.held_out}; it must be above 0 and at most 1.")
        if not 0 <= self.kept_back < 1:
            raise ValueError(f"data.kept_back is {self.kept_back}; it must be at least 0 and below 1.")
        if not 0 < self.eval_crop <= 1:
            raise ValueError(f"data.eval_crop is {self.eval_crop}; it must be above 0 and at most 1.")
        for name, limit in (("crop_area", 1.0), ("crop_aspect", float("inf"))):
            low, high = _pair(name, getattr(self, name))
            if not 0 < low <= high <= limit:
                raise ValueError(f"data.{name} is [{low}, {high}]; it must be [low, high], 0 < low <= high.")
        for name in ("mean", "std", "crop_area", "crop_aspect"):
            if not all(map(math.isfinite, getattr(self, name))):
                raise ValueError(f"data.{name} is {shortened(getattr(self, name))}; its numbers must be finite.")
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"data.mean {self.mean} and data.std {self.std} must have one entry per channel, std > 0.")

    @property
    def preprocessing(self) -> Preprocessing:
        """What these settings do to an image in the evaluation."""
        resizing = (self.eval_interpolation, self.eval_crop, self.image_size, self.eval_crop_first)
        return Preprocessing(self.mean, self.std, self.channel_order, *resizing)


_LARGEST = {
    "image_size": 1 << 14,
    "batch_size": 1 << 20,
    "eval_batch_size": 1 << 20,
    "classes": 10_000_000,
    "num_threads": 1024,
    "pad": 1 << 12,
}
# The settings that a preprocessing decides, by its fields.
SETTING_OF = {
    **{name: name for name in ("mean", "std", "channel_order", "image_size")},
    "interpolation": "eval_interpolation",
    "crop": "eval_crop",
    "crop_first": "eval_crop_first",
}


def settings_for(preprocessing: Preprocessing) -> Dict[str, Any]:
    """The settings that a preprocessing decides, without those that it leaves open."""
    return {SETTING_OF[key]: value for key, value in preprocessing._asdict().items() if value is not None}


@dataclass
class Batch:
    """One batch for one worker.

    Attributes:
        data: Normalised images, shape (n, c, h, w), float32.
        label: Class indices, shape (n,), int32.
        num_valid: The rows from `num_valid` on only fill the batch and are to be ignored; training batches are
            full.
    """

    data: mx.nd.NDArray
    label: mx.nd.NDArray
    num_valid: int


@dataclass(frozen=True)
class DetectionBatch:
    """One batch of images with boxes for one worker.

    Attributes:
        data: Normalized images, shape (n, c, side, side), float32.
        label: Classes from 0, without the background, shape (n, m), float32; -1 where there is no box.
        boxes: x and y of two corners in shares of the image as it is shown, shape (n, m, 4), float32; -1 where
            there is no box.
        num_valid: The rows from `num_valid` on only fill the batch and are to be ignored; training batches are
            full.
        truths: Of the evaluation alone: the annotations of the `num_valid` images, in pixels of the originals.
    """

    data: mx.nd.NDArray
    label: mx.nd.NDArray
    boxes: mx.nd.NDArray
    num_valid: int
    truths: Tuple[Truth, ...] = ()


class Source(NamedTuple):
    """A parsed ``KIND[:PATH]``."""

    kind: str
    argument: str


def _pair(name: str, values: Tuple[float, ...]) -> Tuple[float, float]:
    if len(values) != 2:
        raise ValueError(f"data.{name} has {len(values)} entries; it must be [low, high].")
    return values[0], values[1]


def make_records_help(folder: str = "DIR") -> str:
    """The two commands that make RecordIO files of ``IMAGES/train`` and ``IMAGES/val`` (a folder per class).

    IMAGES must be another folder than the target: im2rec takes a prefix that is a folder for something else.

    Args:
        folder: Where the files are to lie.
    """
    call = "python -m mxnet.tools.im2rec"
    return (
        f'for s in train val; do {call} --list --recursive "{folder}/$s" IMAGES/$s; done\n'
        f'for s in train val; do {call} --pass-through "{folder}/$s" IMAGES/$s; done'
    )


def no_source_message() -> str:
    """What a user reads who named no data: where was looked, how to make files, how to do without."""
    return (
        f"no data: neither --data, data.source of the recipe nor {IMAGENET_VARIABLE} names any. "
        "Without files: --data digits, for detectors --data scattered_digits. "
        "For --data recordio:DIR, from IMAGES/train/CLASS/*.jpg and IMAGES/val/CLASS/*.jpg:\n" + make_records_help()
    )


def missing_path_message(looked_at: str, folder: str) -> str:
    """What a user reads whose path does not exist: where was looked and how to make the files."""
    return (
        f"no data at {looked_at}. RecordIO files are made from IMAGES/train/CLASS/*.jpg, "
        "IMAGES/val/CLASS/*.jpg by\n" + make_records_help(folder)
    )


def check_purpose(settings: DataSettings, kind: str) -> None:
    """Refuse settings of images with boxes for a source without boxes, and the other way round.

    Args:
        settings: The data section of a recipe.
        kind: Of the source.

    Raises:
        ValueError: With the setting that does not go with the source.
    """
    with_boxes = kind in DETECTION_KINDS
    others = ("small", "shift") if with_boxes else DETECTION_AUGMENTATIONS
    if settings.augment in others:
        possible = [name for name in AUGMENTATIONS if name not in others]
        raise ValueError(
            f"data.augment is {settings.augment}, which is for images {'without' if with_boxes else 'with'} boxes; "
            f"for {kind} choose one of {', '.join(possible)}."
        )
    for name in ("rand_augment", "random_erasing") if with_boxes else ("train_parts", "eval_parts"):
        if getattr(settings, name):
            raise ValueError(f"data.{name} has no meaning for {kind}; leave it out.")
    if settings.kept_back and kind not in IN_MEMORY:
        raise ValueError(f"data.kept_back is for {', '.join(IN_MEMORY)}; of {kind} no images can be kept back.")


def parse_source(source: str) -> Source:
    """Splits ``KIND[:PATH]``; an unset source is taken from the variable GLUON_EFFNETS_IMAGENET.

    Raises:
        ValueError: Nothing is named, or the kind is unknown.
        TypeError: It is no text.
    """
    check_type("data.source", source, str, type(None), words="a text KIND[:PATH]")
    if source in (UNSET, "", None):
        source = os.environ.get(IMAGENET_VARIABLE, "")
        if not source:
            raise ValueError(no_source_message())
        if source.partition(":")[0] not in KINDS:
            parts = ("train", *EVALUATION_PARTS)
            kind = "folder" if any(os.path.isdir(os.path.join(source, part)) for part in parts) else "recordio"
            source = f"{kind}:{source}"
    kind, _, argument = source.partition(":")
    if kind not in KINDS:
        if len(source) < _LONGEST_PATH and "\0" not in source and os.path.exists(source):
            nearest = f"write folder:{source} or recordio:{source}, with boxes voc:{source} or coco:{source}"
        else:
            nearest = f"did you mean {difflib.get_close_matches(kind[:100], KINDS, n=1, cutoff=0.0)[0]!r}?"
        raise ValueError(f"unknown kind of data {shortened(kind)}: {nearest}\nKinds: {KINDS_TEXT}.")
    if kind in ("cifar10", "folder", "recordio", "voc", "coco", "detrec") and not argument:
        raise ValueError(f"data source {kind!r} needs a folder: {kind}:DIR.")
    if kind == "digits" and argument:
        raise ValueError(f"data source 'digits' takes no path, got {shortened(argument)}.")
    return Source(kind, os.path.expanduser(argument))
