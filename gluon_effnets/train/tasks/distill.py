"""Distill: a network learns what another one, already trained, says of the same images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import mxnet as mx
from mxnet import autograd

from ...deploy.formats import open_exported
from ...models import ClassificationNet, get_model
from ...models.adapted import adapt_to_channels
from ...models.card import Card, compare_names, order_of
from ...models.preprocessing import Preprocessing
from ...weights.conversion import weights_path
from ..losses import soft_cross_entropy, soft_targets
from .classification import Classification

__all__ = ["Distill", "change_normalization"]


class Distill(Classification):
    """The loss is (1 - alpha) x cross-entropy with the labels + alpha x T^2 x cross-entropy with the teacher.

    The teacher's targets are softmax(logits / T), and the answers compared with them softmax(own logits / T) (Hinton
    et al., arXiv 1503.02531). The teacher sees the images of the batch, mixed ones too, normalized as its weights want
    them, and answers as in evaluation. Its classes must be those of the data, by name where both have names.

    Args:
        teacher: Name of a model of `list_models()`, or 'module:name'.
        weights: Its .params file, or 'pretrained' for its published weights.
        exported: In place of these two: the JSON file of an exported network, which is run by its own runtime.
        teacher_options: Of the teacher's constructor, where its weights do not tell them.
        image_size: Side of the images that the teacher is shown, resized if need be; null: as the network's own, or
            the size that an export was made for.
        temperature: T, above 0.
        alpha: Share of the teacher, above 0 and at most 1.
        label_smoothing: Of the labels.
    """

    def __init__(
        self,
        teacher: Optional[str] = None,
        weights: Optional[str] = None,
        exported: Optional[str] = None,
        teacher_options: Optional[Dict[str, Any]] = None,
        image_size: Optional[int] = None,
        temperature: float = 1.0,
        alpha: float = 0.5,
        label_smoothing: float = 0.0,
    ):
        super().__init__(label_smoothing)
        if (teacher is None) == (exported is None) or (teacher is None) != (weights is None):
            raise ValueError(
                "task_options of distill name one teacher: {teacher: NAME, weights: FILE.params or pretrained}, or "
                "{exported: FILE.json}"
            )
        for name, value, valid, rule in (
            ("temperature", temperature, temperature > 0, "above 0"),
            ("alpha", alpha, 0 < alpha <= 1, "above 0 and at most 1"),
            ("image_size", image_size, image_size is None or image_size > 0, "above 0, or null"),
        ):
            if not valid:
                raise ValueError(f"task_options.{name} is {value}; it must be {rule}")
        self.temperature, self.alpha = temperature, alpha
        self._teacher, self._weights, self._exported = teacher, weights, exported
        self._teacher_options, self._image_size = teacher_options or {}, image_size

    def prepare(self, state, hooks):
        card, where, self._ask, state.digests["teacher"] = self._open(state)
        data = state.data
        difference = compare_names(card.classes, data.class_names)
        self._order = None
        if difference:
            places = order_of(card.classes or (), data.class_names or ())
            if places is None:
                raise ValueError(
                    f"the teacher {where} knows other classes than {data.settings.source}: {difference}; fine-tune it "
                    "to these classes first"
                )
            self._order = mx.nd.array(places, ctx=state.ctx, dtype="int32")
        if len(card.preprocessing.mean) != data.in_channels:
            raise ValueError(
                f"the teacher {where} takes images of {len(card.preprocessing.mean)} channels, and "
                f"{data.settings.source} has {data.in_channels}"
            )
        self._shown = change_normalization(data.preprocessing, card.preprocessing, state.ctx)

    def _open(self, state):
        """The teacher's card, what it is called, its function of images to logits, and the digest of its weights."""
        return self._open_exported(state) if self._exported else self._open_network(state)

    def _open_exported(self, state):
        path = Path(str(self._exported)).expanduser()
        net = open_exported(path)
        description = net.description
        _check_number(description.num_classes, state, path)
        self._image_size = description.image_size
        files = [path, *(path.parent / name for name in description.files)]

        def ask(images: mx.nd.NDArray) -> mx.nd.NDArray:
            return mx.nd.array(net(images.asnumpy()), ctx=images.context)

        card = Card(description.names and list(description.names), description.preprocessing)
        return card, path, ask, _digest(file.read_bytes() for file in files)

    def _open_network(self, state):
        path = weights_path(self._teacher, self._weights)
        options = {"in_channels": state.data.in_channels, **self._teacher_options}
        net: ClassificationNet = get_model(self._teacher, pretrained=path, ctx=state.ctx, **options)
        _check_number(net.num_classes, state, path)
        # What it says needs no gradients.
        net.collect_params().setattr("grad_req", "null")
        net.hybridize(static_alloc=True)
        params = sorted(net._collect_params_with_prefix().items())
        # A network built by hand may be marked with the usual preprocessing of three channels.
        card = net.card._replace(preprocessing=adapt_to_channels(net.preprocessing, net.in_channels))
        return card, path, net, _digest(param.data().asnumpy().tobytes() for _, param in params)

    def step(self, state, batch, backward):
        labels = soft_targets(batch.label, state.net.num_classes, self.label_smoothing)
        with autograd.pause(train_mode=False):
            answers = self._ask(self._images(batch.data)).astype("float32")
            answers = answers if self._order is None else answers.take(self._order, axis=1)
            targets = mx.nd.softmax(answers / self.temperature)
        with autograd.record():
            logits = state.net(batch.data)
            of_labels = soft_cross_entropy(logits, labels)
            of_teacher = soft_cross_entropy(logits / self.temperature, targets)
            loss = (1 - self.alpha) * of_labels + self.alpha * self.temperature**2 * of_teacher
        backward(loss)
        return {"loss": loss, "loss_labels": of_labels, "loss_teacher": of_teacher}

    def _images(self, images: mx.nd.NDArray) -> mx.nd.NDArray:
        size = self._image_size
        if size is not None and images.shape[2:] != (size, size):
            images = mx.nd.contrib.BilinearResize2D(images, height=size, width=size)
        return self._shown(images)


def _check_number(num_classes: int, state, where) -> None:
    if num_classes != state.data.num_classes:
        raise ValueError(
            f"the teacher {where} has {num_classes} classes, and {state.data.settings.source} has "
            f"{state.data.num_classes}: fine-tune it to these classes first"
        )


def _digest(parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def change_normalization(
    before: Preprocessing, after: Preprocessing, ctx: mx.Context
) -> Callable[[mx.nd.NDArray], mx.nd.NDArray]:
    """Return a function that turns images normalized in one way into the same images normalized in another.

    Args:
        before: What was done to the images (N, C, H, W).
        after: What shall have been done to them, with as many channels.
        ctx: Device of the images.
    """
    if before.normalization == after.normalization:
        return lambda images: images
    flips = before.channel_order != after.channel_order

    def channels(values):
        array = mx.nd.array(values[::-1] if after.channel_order == "bgr" else values, ctx=ctx)
        return array.reshape((1, -1, 1, 1))

    mean, std, new_mean, new_std = map(channels, (before.mean, before.std, after.mean, after.std))
    scale, shift = std / new_std, (mean - new_mean) / new_std

    def change(images: mx.nd.NDArray) -> mx.nd.NDArray:
        images = mx.nd.reverse(images, axis=1) if flips else images
        return mx.nd.broadcast_add(mx.nd.broadcast_mul(images, scale), shift)

    return change
