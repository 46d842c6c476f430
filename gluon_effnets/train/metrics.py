"""Sums over evaluation batches that can be added over workers."""

from __future__ import annotations

from typing import Dict

import mxnet as mx

__all__ = ["classification_sums", "is_share", "means"]


def classification_sums(logits, label, num_valid: int) -> Dict[str, float]:
    """Count, loss, top-1 and top-5 hits of the first `num_valid` rows of logits (N, K) and label (N,)."""
    logits, label = logits[:num_valid].astype("float32"), label[:num_valid]
    picked = mx.nd.pick(logits, label).expand_dims(1)
    # Rank of the true class: how many classes score higher. Ties count against it, so that equal logits (a network
    # that has learned nothing, or NaN) are no hits.
    better = logits.shape[1] - (logits < picked).sum(axis=1) - 1
    loss = -mx.nd.pick(mx.nd.log_softmax(logits), label).sum()
    return {
        "count": num_valid,
        "loss": float(loss.asscalar()),
        "top1": float((better < 1).sum().asscalar()),
        "top5": float((better < 5).sum().asscalar()),
    }


def means(sums: Dict[str, float]) -> Dict[str, float]:
    """Divide all sums by the count: mean loss, and accuracies between 0 and 1."""
    return {key: value / sums["count"] for key, value in sums.items() if key != "count"}


def is_share(score: str) -> bool:
    """Whether a score of this name is a share, between 0 and 1: an accuracy or a precision."""
    name = score[len("ema_") :] if score.startswith("ema_") else score
    return "top" in name or name == "map" or name.startswith(("ap_", "AP", "AR"))
