"""Files of small photographs, which no test changes."""

from __future__ import annotations

import itertools

import cv2
import pytest
from images import NUM_TRAIN, NUM_VAL, photo, write_records


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """train.rec and val.rec, every image with a label of its own, of two shapes."""
    folder = tmp_path_factory.mktemp("records")
    for name, num in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        shapes = itertools.cycle([(40, 52), (61, 37)])
        images = [photo(seed, *shape) for seed, shape in zip(range(num), shapes)]
        write_records(str(folder / f"{name}.rec"), images, range(num))
    return str(folder)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """train/ and val/ with one image in each of 26 and (the same) 26 classes."""
    root = tmp_path_factory.mktemp("folder")
    for part in ("train", "val"):
        for seed in range(NUM_TRAIN):
            target = root / part / f"class{seed:02d}"
            target.mkdir(parents=True)
            cv2.imwrite(str(target / "image.png"), photo(seed)[..., ::-1])
    return str(root)
