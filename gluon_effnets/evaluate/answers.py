"""What a network answers to every evaluation image, and the scores that follow, with their statistical error."""

from __future__ import annotations

import heapq
import math
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np
from mxnet import autograd

from ..progress import progress_bar
from ..train.memory_format import restore_layout
from .subject import Subject

__all__ = ["Answers", "SeenImage", "ask", "interval"]

_Z = 1.959963984540054  # of the normal distribution, for 95 %


class SeenImage(NamedTuple):
    """An image of the evaluation: its place in it, and what the network was shown, (C, H, W) float32."""

    place: int
    input: np.ndarray


class Answers(NamedTuple):
    """One entry for every evaluation image, in the order of the data.

    Attributes:
        label: Its class, (n,).
        predicted: The likeliest class; another one than the label where both are equally likely, (n,).
        confidence: Probability of `predicted`, (n,).
        probability: Probability of `label`, (n,).
        loss: Cross-entropy, (n,).
        rank: How many other classes are at least as likely as the label, (n,).
        worst: Images of the highest loss, the highest first.
    """

    label: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    probability: np.ndarray
    loss: np.ndarray
    rank: np.ndarray
    worst: Tuple[SeenImage, ...] = ()

    @property
    def num_images(self) -> int:
        """The number of images."""
        return len(self.label)

    @property
    def scores(self) -> Dict[str, float]:
        """top1 and top5, 0 to 1, and the mean loss."""
        return {
            "loss": float(self.loss.mean()),
            "top1": float((self.rank < 1).mean()),
            "top5": float((self.rank < 5).mean()),
        }


def ask(subject: Subject, keep: int = 0) -> Answers:
    """Show a network all its evaluation images, each once.

    Args:
        subject: The network and the images.
        keep: How many images of the highest loss are kept.

    Raises:
        ValueError: The answer has another number of classes, or a logit is no number.
    """
    data, parts = subject.data, []
    worst: List[Tuple[float, int, np.ndarray]] = []
    place = 0
    bar: Dict[str, Any] = {"total": data.num_val, "desc": "evaluation", "unit": " images", "delay": 2}
    with autograd.predict_mode(), progress_bar(**bar) as done:
        for batch in data.val_batches():
            labels = batch.label[: batch.num_valid].asnumpy().astype(int)
            logits = np.asarray(subject.logits(batch), np.float32)
            if logits.shape != (len(labels), data.num_classes):
                raise ValueError(
                    f"{subject.where} answers {logits.shape}, not {data.num_classes} classes for each image"
                )
            part = _answers(logits, labels, subject.where)
            parts.append(part)
            if keep:
                for row in np.argsort(-part.loss, kind="stable")[:keep]:
                    if len(worst) == keep and part.loss[row] <= worst[0][0]:
                        break
                    add = heapq.heappush if len(worst) < keep else heapq.heappushpop
                    # Of two equal losses the first image stays.
                    add(worst, (float(part.loss[row]), -(place + int(row)), batch.data[int(row)].asnumpy()))
            place += batch.num_valid
            done.update(batch.num_valid)
    if subject.net is not None:
        restore_layout(subject.net)
    assert place == data.num_val, f"evaluated {place} of {data.num_val} images"
    seen = tuple(SeenImage(-found, image) for _, found, image in sorted(worst, key=lambda entry: entry[:2])[::-1])
    fields = Answers._fields[:-1]
    return Answers(**{field: np.concatenate([getattr(part, field) for part in parts]) for field in fields}, worst=seen)


def _answers(logits: np.ndarray, labels: np.ndarray, where: str) -> Answers:
    """The answers of one batch."""
    if not np.isfinite(logits).all():
        raise ValueError(
            f"the logits of {where} are not finite (nan or inf): its weights are damaged, or they do not go with "
            "these images"
        )
    rows = np.arange(len(labels))
    own = logits[rows, labels]
    # Ties count against the label, so that equal logits (a network that has learned nothing) are no hits.
    rank = (logits >= own[:, None]).sum(axis=1) - 1
    others = logits.copy()
    others[rows, labels] = np.where(rank == 0, own, -np.inf)
    predicted = others.argmax(axis=1)
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    log_own = shifted[rows, labels] - log_sum
    return Answers(
        labels, predicted, np.exp(shifted[rows, predicted] - log_sum), np.exp(log_own), np.maximum(-log_own, 0), rank
    )


def interval(share: float, count: int) -> Tuple[float, float]:
    """Return the 95 % confidence interval of a share that was found on some images, by Wilson.

    Args:
        share: Of the images, 0 to 1.
        count: Number of images.

    Source:
        Wilson, Journal of the American Statistical Association 22, 1927.

    Example:
        >>> interval(0.885, 1000)  # 0.864 to 0.903
    """
    center = share + _Z * _Z / (2 * count)
    reach = _Z * math.sqrt(share * (1 - share) / count + (_Z / (2 * count)) ** 2)
    scale = 1 + _Z * _Z / count
    return max(0.0, (center - reach) / scale), min(1.0, (center + reach) / scale)
