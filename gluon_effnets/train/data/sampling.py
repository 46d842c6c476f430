"""Which image stands where: private random generators, epoch order, and each worker's share."""

from __future__ import annotations

import numpy as np

# Separates the streams drawn from the same (seed, epoch, ...).
ORDER, AUGMENT, ENGINE, SUBSTITUTE, SCATTER, KEPT_BACK = 1, 2, 3, 4, 5, 6


def private_random(stream: int, *key: int) -> np.random.RandomState:
    """A generator that depends on its arguments alone; global generators are never touched."""
    return np.random.RandomState([stream] + [int(part) & 0xFFFFFFFF for part in key])


def epoch_order(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """The order of all images in one epoch, equal on every worker, shape (num_images,)."""
    return private_random(ORDER, seed, epoch).permutation(num_images)


def step_positions(step: int, batch_size: int, rank: int, world: int) -> np.ndarray:
    """Positions in the epoch order that worker `rank` sees in `step`: disjoint over workers and steps."""
    start = (step * world + rank) * batch_size
    return np.arange(start, start + batch_size)


def val_share(num_images: int, rank: int, world: int) -> np.ndarray:
    """The images worker `rank` evaluates; together the workers cover each image exactly once."""
    return np.arange(rank, num_images, world)
