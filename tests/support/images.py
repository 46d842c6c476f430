"""Small photographs, files of them, and data opened with the settings that suit them."""

from __future__ import annotations

import os

import cv2
import mxnet as mx
import numpy as np

from gluon_effnets.train.data import DataSettings, open_data

NUM_TRAIN, NUM_VAL, SIZE = 26, 11, 24


def photo(seed, height=40, width=52):
    """A smooth RGB image."""
    cells = np.random.RandomState(seed).randint(0, 256, (5, 5, 3)).astype(np.uint8)
    return cv2.resize(cells, (width, height))


def write_records(path, images, labels, image_format=".jpg"):
    """A .rec file with its .idx; `images` are RGB arrays, or encoded bytes."""
    writer = mx.recordio.MXIndexedRecordIO(os.path.splitext(path)[0] + ".idx", str(path), "w")
    for key, (image, label) in enumerate(zip(images, labels)):
        header = mx.recordio.IRHeader(0, label, key, 0)
        if isinstance(image, bytes):
            writer.write_idx(key, mx.recordio.pack(header, image))
        else:
            bgr = np.ascontiguousarray(image[..., ::-1])
            writer.write_idx(key, mx.recordio.pack_img(header, bgr, img_fmt=image_format))
    writer.close()


def open_small(source, seed=7, rank=0, world=1, **changes):
    settings = {"image_size": SIZE, "batch_size": 4, "num_threads": 2, **source, **changes}
    return open_data(DataSettings(**settings), seed=seed, rank=rank, world=world)
