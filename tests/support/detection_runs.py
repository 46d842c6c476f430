"""A detector of a second, and images with rectangles for it, which recipes can name."""

from __future__ import annotations

import dataclasses

import mxnet as mx
import numpy as np

from gluon_effnets import get_model
from gluon_effnets.detection import AnchorLevel, SSDLite, Truth, register_detector
from gluon_effnets.detection.ssdlite import Form
from gluon_effnets.nn import ConvChain, Unit
from gluon_effnets.train.data import Data, Shard
from gluon_effnets.train.data.settings import DetectionBatch

SIDE = 64
CLASSES = ("dark", "bright")
# A recipe of seconds; `open_detection` gives its data.
TINY_DETECTION = """
model: detector_tiny
task: detection
data: {source: "scattered_digits:32", image_size: 64, batch_size: 8, augment: none}
duration: 4it
optimizer: {name: nag, lr: 0.02, weight_decay: 1.0e-4, options: {momentum: 0.9}}
schedule: {name: cosine, final: 0.2}
evaluate_every: 4it
checkpoint_every: 2it
"""


@register_detector(base="idle_tiny", image_size=SIDE, hidden=True)
def detector_tiny(classes, pretrained_base=False, ctx=mx.cpu(), **options):
    """SSDLite of two maps on the smallest network."""
    net = get_model("idle_tiny", pretrained_base, ctx=ctx, classes=1, **options)
    levels = [AnchorLevel(16, 1 / 16, 0.2, 0.35), AnchorLevel(8, 1 / 8, 0.4, 0.6)]
    form = Form([1], lambda channels, norm: [ConvChain(channels, (Unit(16, 3, 2, "relu6"),))], levels)
    return SSDLite(net, form, classes, image_size=SIDE)


class Rectangles(Data):
    """Dark and bright rectangles, up to three on an image, some images without any; half of them for evaluation."""

    is_detection, reader = True, "memory"
    most = 3

    def __init__(self, shard: Shard, number: int = 32):
        super().__init__(shard, 2, number, number // 2 + 1, list(CLASSES))

    def image(self, seed: int):
        """Pixels (3, side, side), boxes (M, 4) in shares, and classes (M,)."""
        random = np.random.RandomState(seed)
        side = self.image_size
        pixels = random.normal(0, 0.3, (3, side, side)).astype(np.float32)
        boxes, classes = np.full((self.most, 4), -1.0, np.float32), np.full(self.most, -1.0, np.float32)
        for number in range(seed % (self.most + 1)):
            sides = random.randint(side // 5, side // 2, 2)
            x, y = (random.randint(0, side - length) for length in sides)
            classes[number] = random.randint(2)
            pixels[:, y : y + sides[1], x : x + sides[0]] += 3 * (2 * classes[number] - 1)
            boxes[number] = np.array([x, y, x + sides[0], y + sides[1]]) / side
        return pixels, boxes, classes

    def _batch(self, seeds, size, is_evaluation=False):
        padded = [*seeds, *[seeds[-1]] * (size - len(seeds))]
        pixels, boxes, classes = (np.stack(part) for part in zip(*map(self.image, padded)))
        truths = [self._truth(seed) for seed in seeds] if is_evaluation else ()
        return DetectionBatch(*(mx.nd.array(part) for part in (pixels, classes, boxes)), len(seeds), tuple(truths))

    def _truth(self, seed):
        _, boxes, classes = self.image(seed)
        there = classes >= 0
        size = (self.image_size, 2 * self.image_size)  # the original is twice as wide
        pixels = boxes[there] * [size[1], size[0], size[1], size[0]]
        return Truth(str(seed), size, pixels, classes[there].astype(int), np.zeros(there.sum(), bool))

    def _train_batches(self, epoch, first_step):
        size = self.settings.batch_size
        order = np.random.RandomState([self.seed, epoch]).permutation(self.num_train)
        for step in range(first_step, self.steps_per_epoch):
            first = (step * self.world + self.rank) * size
            yield self._batch(order[first : first + size].tolist(), size)

    def _val_batches(self):
        own = list(range(1000 + self.rank, 1000 + self.num_val, self.world))
        for first in range(0, len(own), self.eval_batch_size):
            yield self._batch(own[first : first + self.eval_batch_size], self.eval_batch_size, is_evaluation=True)


def open_detection(settings, *, seed, rank=0, world=1):
    """As `open_data`, of the sources scattered_digits:N, which rectangles stand for."""
    number = int(settings.source.partition(":")[2])
    return Rectangles(Shard(dataclasses.replace(settings), seed, rank, world), number)
