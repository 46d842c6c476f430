"""Soft cross-entropy, the one loss of classification, and the targets it takes."""

from __future__ import annotations

import mxnet as mx

__all__ = ["soft_cross_entropy", "soft_targets"]


def soft_targets(label, classes: int, smoothing: float = 0.0):
    """Probabilities (N, classes) from class indices (N,) or from probabilities (N, classes).

    Smoothing moves the share `smoothing` to the uniform distribution: 1 - s + s / K for the class, s / K for others.
    """
    target = label if label.ndim == 2 else mx.nd.one_hot(label, classes)
    return target * (1 - smoothing) + smoothing / classes if smoothing else target


def soft_cross_entropy(logits, target):
    """Mean over the batch of -sum_k target_k log softmax(logits)_k; logits and target (N, K) -> (1,)."""
    return -(mx.nd.log_softmax(logits, axis=-1) * target).sum(axis=-1).mean()
