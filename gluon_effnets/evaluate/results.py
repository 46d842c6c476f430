"""What an evaluation found: all numbers of one network as a record, and several networks as a table."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from ..tables import Table
from .answers import interval
from .published import published_beside
from .subject import Subject

__all__ = ["Result", "comparison", "intervals"]


class Result(NamedTuple):
    """A network, as the user calls it, and its scores."""

    name: str
    subject: Subject
    scores: Mapping[str, float]

    @property
    def record(self) -> Dict[str, Any]:
        """All that is known: scores, their intervals, the network, the images and what was done to them."""
        subject, data = self.subject, self.subject.data
        bounds = {}
        for key, (low, high) in intervals(self.scores, data.num_val).items():
            bounds.update({f"{key}_low": low, f"{key}_high": high})
        return {
            **self.scores,
            **bounds,
            "images": data.num_val,
            "name": self.name,
            "model": subject.model,
            "weights": subject.where,
            "param_count": subject.num_params,
            "data": data.settings.source,
            "protocol": subject.protocol,
            **{key: _plain(value) for key, value in data.preprocessing._asdict().items()},
        }

    @property
    def published(self) -> List[Dict[str, Any]]:
        """Accuracies that others give, where they can be compared."""
        return published_beside(self.subject)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def intervals(scores: Mapping[str, float], images: int) -> Dict[str, Any]:
    """Return the 95 % confidence interval of every accuracy among the scores."""
    return {key: interval(value, images) for key, value in scores.items() if key.startswith(("top1", "top5"))}


# As in the tables of results of timm; the others stand behind them where numbers are exact.
_COLUMNS = (
    "model",
    *((key, ".3f") for key in ("top1", "top1_err", "top5", "top5_err")),
    ("param_count", ".2f"),
    "img_size",
    ("crop_pct", ".3g"),
    "interpolation",
)


def comparison(results: Sequence[Result], exact: bool) -> Table:
    """Return the results as timm's tables have them, the best network first.

    Args:
        results: With `top1` and `top5`.
        exact: Whether bounds and loss have columns of their own, for CSV and JSON; else the bounds are a text.

    Accuracies and errors are in percent, parameters in millions.
    """
    rows = []
    for result in sorted(results, key=lambda result: -result.scores["top1"]):
        scores, data = result.scores, result.subject.data
        shares = [_percent(value) for key in ("top1", "top5") for value in (scores[key], 1 - scores[key])]
        params = result.subject.num_params
        shown = data.preprocessing
        size = (None if params is None else params / 1e6, shown.image_size, shown.crop, shown.interpolation)
        bounds = intervals(scores, data.num_val)
        top1, top5 = ([_percent(value) for value in bounds[key]] for key in ("top1", "top5"))
        rest: List[Any] = [*top1, *top5, scores["loss"], data.num_val] if exact else [f"{top1[0]:.2f} to {top1[1]:.2f}"]
        rows.append((result.name, *shares, *size, *rest))
    more = ("top1_low", "top1_high", "top5_low", "top5_high", "loss", "images") if exact else ("top1, 95 %",)
    return Table([*_COLUMNS, *more], rows)


def _percent(share: float) -> float:
    """Without the noise of binary fractions."""
    return round(100 * share, 10)
